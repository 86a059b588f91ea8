// SPDX-License-Identifier: Apache-2.0
#include "fs/beneath.h"

#include <fcntl.h>
#include <linux/openat2.h>
#include <sys/syscall.h>
#include <unistd.h>

#include <array>
#include <cerrno>
#include <cstring>
#include <string>

namespace holdfast {
namespace {

constexpr int kAlways = O_CLOEXEC | O_NOFOLLOW;

bool clean_component(std::string_view name) {
  return !name.empty() && name != "." && name != ".." && name.find('\0') == std::string_view::npos;
}

bool clean_path(std::string_view path) {
  if (path.empty()) return true;
  while (true) {
    const std::size_t slash = path.find('/');
    if (!clean_component(path.substr(0, slash))) return false;
    if (slash == std::string_view::npos) return true;
    path.remove_prefix(slash + 1);
  }
}

bool creates(int flags) { return (flags & O_CREAT) != 0 || (flags & O_TMPFILE) == O_TMPFILE; }

Opened retry_openat(int directory, const char* name, int flags, mode_t mode) {
  while (true) {
    const int fd = ::openat(directory, name, flags, mode);
    if (fd >= 0) return Fd(fd);
    if (errno != EINTR) return std::unexpected(errno);
  }
}

Opened open_by_openat2(int directory, const char* path, int flags, mode_t mode) {
  open_how how{};
  how.flags = static_cast<std::uint64_t>(flags);
  how.mode = creates(flags) ? mode : 0;
  how.resolve = RESOLVE_BENEATH | RESOLVE_NO_SYMLINKS | RESOLVE_NO_MAGICLINKS;
  while (true) {
    const long fd = ::syscall(SYS_openat2, directory, path, &how, sizeof how);
    if (fd >= 0) return Fd(static_cast<int>(fd));
    if (errno != EINTR && errno != EAGAIN) return std::unexpected(errno);
  }
}

Opened open_by_component(int directory, std::string_view path, int flags, mode_t mode) {
  Fd held;
  int at = directory;
  std::string name;
  for (std::size_t slash = path.find('/'); slash != std::string_view::npos;
       slash = path.find('/')) {
    name.assign(path.substr(0, slash));
    path.remove_prefix(slash + 1);
    Opened next = retry_openat(at, name.c_str(), O_PATH | O_DIRECTORY | kAlways, 0);
    // A symlink in the middle: O_DIRECTORY says ENOTDIR; callers get the same answer as by openat2
    // as far as they may care, namely not the directory.
    if (!next) return next;
    held = std::move(*next);
    at = held.get();
  }
  name.assign(path.empty() ? std::string_view(".") : path);
  return retry_openat(at, name.c_str(), flags, mode);
}

// What an old kernel or a sandbox answers; ENAMETOOLONG: the path as a whole may be too long while
// each component is not. EPERM may also be meant: then the other way gives it again.
bool worth_another_way(int error) {
  return error == ENOSYS || error == EPERM || error == E2BIG || error == ENAMETOOLONG;
}

}  // namespace

void Fd::reset(int fd) {
  if (fd_ >= 0) {
    const int saved = errno;
    ::close(fd_);
    errno = saved;
  }
  fd_ = fd;
}

Beneath choose_beneath() {
  const Opened probe = open_by_openat2(AT_FDCWD, ".", O_PATH | kAlways, 0);
  return probe ? Beneath::openat2 : Beneath::by_component;
}

Opened open_beneath(int directory, std::string_view path, int flags, mode_t mode, Beneath how) {
  if (!clean_path(path)) return std::unexpected(EINVAL);
  flags |= kAlways;
  if (how != Beneath::by_component) {
    const std::string text(path.empty() ? std::string_view(".") : path);
    Opened opened = open_by_openat2(directory, text.c_str(), flags, mode);
    if (opened || !worth_another_way(opened.error())) return opened;
  }
  return open_by_component(directory, path, flags, mode);
}

std::string errno_text(int error) {
  std::array<char, 128> buffer{};
  return ::strerror_r(error, buffer.data(), buffer.size());  // GNU: gives the text
}

Error errno_error(int error, std::string_view doing) {
  const auto code = [error] {
    switch (error) {
      case ENOENT:
      case ENOTDIR:
        return Code::not_found;
      case EACCES:
      case EPERM:
      case EROFS:
        return Code::denied;
      case EEXIST:
      case ENOTEMPTY:
        return Code::conflict;
      case ENOSPC:
      case EDQUOT:
      case EFBIG:
        return Code::full;
      default:
        return Code::unavailable;
    }
  };
  return Error{code(), std::string(doing) + ": " + errno_text(error)};
}

}  // namespace holdfast
