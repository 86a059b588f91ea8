// SPDX-License-Identifier: Apache-2.0
#include "fs/attributes.h"

#include <fcntl.h>
#include <linux/fs.h>
#include <sys/ioctl.h>
#include <sys/xattr.h>

#include <algorithm>
#include <cerrno>
#include <cstring>

#include "base/bytes.h"
#include "fs/beneath.h"

namespace holdfast {
namespace {

constexpr std::size_t kListBytesMax = 65536;  // the kernel's own limit

bool unsupported(int error) { return error == ENOTSUP || error == EOPNOTSUPP || error == ENOSYS; }

std::string left_out(std::string_view name, std::string_view why) {
  return "extended attribute " + escaped(name) + ": " + std::string(why);
}

}  // namespace

std::string AttributeReader::read_xattrs(int fd, OpenedAs as, std::vector<Xattr>& out) {
  out.clear();
  list_.resize(kListBytesMax);
  const std::string proc =
      as == OpenedAs::path_only ? "/proc/self/fd/" + std::to_string(fd) : std::string();
  const char* path = proc.empty() ? nullptr : proc.c_str();
  const ssize_t length = path != nullptr ? ::listxattr(path, list_.data(), list_.size())
                                         : ::flistxattr(fd, list_.data(), list_.size());
  if (length < 0) return unsupported(errno) ? "" : "extended attributes: " + errno_text(errno);
  std::string problem;
  std::size_t bytes = 0;
  for (const char* at = list_.data(); at < list_.data() + length; at += std::strlen(at) + 1) {
    std::string failed = read_one(fd, path, at, out, bytes);
    if (problem.empty()) problem = std::move(failed);
  }
  std::ranges::sort(out);
  return problem;
}

std::string AttributeReader::read_one(int fd, const char* path, const char* name,
                                      std::vector<Xattr>& out, std::size_t& bytes) {
  value_.resize(kXattrValueMax);
  const ssize_t length = path != nullptr ? ::getxattr(path, name, value_.data(), value_.size())
                                         : ::fgetxattr(fd, name, value_.data(), value_.size());
  if (length < 0) {
    const bool gone = errno == ENODATA || unsupported(errno);
    return gone ? "" : left_out(name, errno_text(errno));
  }
  const std::string_view key(name);
  const auto size = static_cast<std::size_t>(length);
  if (key.empty() || key.size() > kXattrNameMax) return left_out(key, "its name is too long");
  if (out.size() == kXattrsMax || bytes + key.size() + size > kXattrsBytesMax)
    return left_out(key, "the object has too many");
  bytes += key.size() + size;
  out.push_back({std::string(key), std::string(value_.data(), size)});
  return {};
}

std::uint32_t AttributeReader::read_flags(int fd, dev_t device) {
  if (no_flags_ == device) return 0;
  int flags = 0;  // the kernel writes an int, whatever the request's name says
  if (::ioctl(fd, FS_IOC_GETFLAGS, &flags) == 0)
    return static_cast<std::uint32_t>(flags) & FS_FL_USER_MODIFIABLE;
  if (errno == ENOTTY || unsupported(errno)) no_flags_ = device;
  return 0;
}

}  // namespace holdfast
