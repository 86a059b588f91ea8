// SPDX-License-Identifier: Apache-2.0
#include "fs/place.h"

#include <fcntl.h>
#include <linux/fs.h>
#include <sys/syscall.h>
#include <unistd.h>

#include <cerrno>
#include <cstdio>

namespace holdfast {
namespace {

int rename_no_replace(int directory, const char* from, const char* to) {
  return ::syscall(SYS_renameat2, directory, from, directory, to, RENAME_NOREPLACE) == 0 ? 0
                                                                                         : errno;
}

// For file systems without RENAME_NOREPLACE: a link refuses an existing name too.
int link_no_replace(int directory, const char* from, const char* to) {
  if (::linkat(directory, from, directory, to, 0) != 0) return errno;
  ::unlinkat(directory, from, 0);
  return 0;
}

int replace(int directory, const char* from, const char* to) {
  return ::renameat(directory, from, directory, to) == 0 ? 0 : errno;
}

}  // namespace

std::string TempNames::next() {
  const std::lock_guard lock(mutex_);
  // A new prefix now and then: one who sees names in a directory of his must not block all to come.
  if (count_ % 64 == 0) random_.fill(prefix_);
  Bytes suffix;
  Writer(suffix).u16(static_cast<std::uint16_t>(count_++));
  return ".holdfast-" + to_hex(prefix_) + to_hex(suffix);
}

int make_temporary(TempNames& names, std::string& name,
                   const std::function<int(const char*)>& make) {
  int error = EEXIST;
  for (int i = 0; i < kTempAttemptsMax && error == EEXIST; ++i) {
    name = names.next();
    error = make(name.c_str());
  }
  return error;
}

FileIdentity identity_of(const struct stat& status) {
  return {.device = status.st_dev, .inode = status.st_ino};
}

std::expected<struct stat, int> look(int directory, const char* name) {
  struct stat status{};
  if (::fstatat(directory, name, &status, AT_SYMLINK_NOFOLLOW) != 0) return std::unexpected(errno);
  return status;
}

Result<Placed> place(int directory, const char* temporary, const std::string& name,
                     Overwrite policy) {
  int error = rename_no_replace(directory, temporary, name.c_str());
  if (error == EINVAL || error == ENOSYS)
    error = link_no_replace(directory, temporary, name.c_str());
  if (error == 0) return Placed::made;
  if (error == EEXIST && policy == Overwrite::never) {
    ::unlinkat(directory, temporary, 0);
    return Placed::kept;
  }
  if (error == EEXIST || error == EPERM) error = replace(directory, temporary, name.c_str());
  if (error == 0) return Placed::made;
  ::unlinkat(directory, temporary, 0);
  if (error == EISDIR || error == ENOTEMPTY || error == EEXIST)
    return fail(Code::conflict,
                "a directory stands there: move it away, or restore into another place");
  return std::unexpected(errno_error(error, "rename"));
}

std::unexpected<Error> entry_error(const Entry& entry, int error, std::string_view doing) {
  return std::unexpected(errno_error(error, escaped(entry.path()) + ": " + std::string(doing)));
}

}  // namespace holdfast
