// SPDX-License-Identifier: Apache-2.0
#include "fs/put_metadata.h"

#include <fcntl.h>
#include <linux/fs.h>
#include <sys/ioctl.h>
#include <sys/stat.h>
#include <sys/xattr.h>
#include <unistd.h>

#include <algorithm>
#include <array>
#include <cerrno>
#include <charconv>

#include "fs/beneath.h"

namespace holdfast {
namespace {

// umask() can only be read by changing it, for all threads; so ask /proc. 0077 is safe where it
// does not tell: modes are then set by fchmod.
mode_t read_umask() {
  std::array<char, 4096> text{};
  const Fd fd(::open("/proc/self/status", O_RDONLY | O_CLOEXEC));
  const ssize_t n = fd.valid() ? ::read(fd.get(), text.data(), text.size()) : -1;
  if (n <= 0) return 0077;
  const std::string_view all(text.data(), static_cast<std::size_t>(n));
  const std::size_t at = all.find("Umask:\t");
  if (at == std::string_view::npos) return 0077;
  unsigned mask = 0077;
  std::from_chars(all.data() + at + 7, all.data() + all.size(), mask, 8);
  return mask & 0777;
}

constexpr const char* kAccessAcl = "system.posix_acl_access";

enum class XattrClass : std::uint8_t { plain, acl, privileged };

XattrClass class_of(std::string_view name) {
  if (name.starts_with("user.")) return XattrClass::plain;
  if (name == kAccessAcl || name == "system.posix_acl_default") return XattrClass::acl;
  return XattrClass::privileged;  // security., trusted., and whatever else may come
}

timespec as_timespec(FileTime time) {
  return {.tv_sec = static_cast<time_t>(time.seconds),
          .tv_nsec = static_cast<long>(time.nanoseconds)};
}

std::array<timespec, 2> only_mtime(const Entry& entry) {
  return {timespec{.tv_sec = 0, .tv_nsec = UTIME_OMIT}, as_timespec(entry.mtime)};
}

void change_flags(int fd, const Entry& entry, std::uint32_t wanted, LeftOutNotes& notes) {
  int now = 0;
  if (::ioctl(fd, FS_IOC_GETFLAGS, &now) != 0) {
    notes.note(LeftOutKind::flags, entry, errno_text(errno));
    return;
  }
  const auto next = static_cast<int>(static_cast<std::uint32_t>(now) | wanted);
  if (next != now && ::ioctl(fd, FS_IOC_SETFLAGS, &next) != 0)
    notes.note(LeftOutKind::flags, entry, errno_text(errno));
}

}  // namespace

void LeftOutNotes::note(LeftOutKind kind, const Entry& entry, std::string_view why) {
  const std::lock_guard lock(mutex_);
  const auto found = std::ranges::find(notes_, kind, &LeftOut::kind);
  if (found != notes_.end()) {
    ++found->count;
    return;
  }
  notes_.push_back({.kind = kind, .count = 1, .first = entry.path(), .why = std::string(why)});
}

std::vector<LeftOut> LeftOutNotes::list() {
  const std::lock_guard lock(mutex_);
  return notes_;
}

MetadataWriter::MetadataWriter(bool privileged, LeftOutNotes& notes)
    : privileged_(privileged),
      notes_(notes),
      user_(::geteuid()),
      group_(::getegid()),
      mask_(read_umask()) {}

mode_t MetadataWriter::allowed_mode(const Entry& entry) {
  const mode_t all = entry.mode & 07777;
  if (privileged_ || (all & (S_ISUID | S_ISGID)) == 0) return all;
  notes_.note(LeftOutKind::setid, entry, "setuid and setgid are set only when asked for");
  return all & ~static_cast<mode_t>(S_ISUID | S_ISGID);
}

// Root gives things their owners. Others keep what they restore, unless asked to try.
std::pair<uid_t, gid_t> MetadataWriter::wanted_owner(const Entry& entry) const {
  if (user_ == 0 || privileged_) return {entry.uid, entry.gid};
  return {user_, group_};
}

bool MetadataWriter::wants_owner(const Entry& entry) const {
  const auto [user, group] = wanted_owner(entry);
  return user != user_ || group != group_;
}

void MetadataWriter::owner(int fd, const Entry& entry, uid_t user, gid_t group) {
  const auto [want_user, want_group] = wanted_owner(entry);
  if (want_user != entry.uid || want_group != entry.gid)
    notes_.note(LeftOutKind::owner, entry, "only root sets owners");
  if (want_user == user && want_group == group) return;
  if (::fchown(fd, want_user, want_group) != 0)
    notes_.note(LeftOutKind::owner, entry, errno_text(errno));
}

void MetadataWriter::owner_of_link(int fd, const Entry& entry) {
  const auto [user, group] = wanted_owner(entry);
  if (user != entry.uid || group != entry.gid)
    notes_.note(LeftOutKind::owner, entry, "only root sets owners");
  if (::fchownat(fd, "", user, group, AT_EMPTY_PATH) != 0)
    notes_.note(LeftOutKind::owner, entry, errno_text(errno));
}

std::string path_of(int fd) { return "/proc/self/fd/" + std::to_string(fd); }

template <class Set>
void MetadataWriter::each_xattr(const Entry& entry, Set set) {
  for (const Xattr& xattr : entry.xattrs) {
    const XattrClass kind = class_of(xattr.name);
    if (kind == XattrClass::privileged && !privileged_) {
      notes_.note(LeftOutKind::privileged_xattr, entry,
                  "attributes outside user.* are set only when asked for");
      continue;
    }
    const bool clean = xattr.name.find('\0') == std::string::npos;
    const int error = clean ? set(xattr.name.c_str(), xattr.value) : 0;
    if (clean && error == 0) continue;
    const auto note = kind == XattrClass::acl     ? LeftOutKind::acl
                      : kind == XattrClass::plain ? LeftOutKind::xattr
                                                  : LeftOutKind::privileged_xattr;
    notes_.note(note, entry, clean ? errno_text(error) : "name with a NUL");
  }
}

void MetadataWriter::xattrs(int fd, const Entry& entry) {
  each_xattr(entry, [&](const char* name, const std::string& value) {
    return ::fsetxattr(fd, name, value.data(), value.size(), 0) == 0 ? 0 : errno;
  });
}

// What is there already is not set again: on a file that was kept it may be that we may not.
void MetadataWriter::xattrs_of_link(int fd, const Entry& entry) {
  const std::string path = path_of(fd);
  if (std::ranges::find(entry.xattrs, kAccessAcl, &Xattr::name) == entry.xattrs.end() &&
      ::removexattr(path.c_str(), kAccessAcl) != 0 && errno != ENODATA && errno != ENOTSUP)
    notes_.note(LeftOutKind::acl, entry, errno_text(errno));
  std::string now;
  each_xattr(entry, [&](const char* name, const std::string& value) {
    now.resize(value.size() + 1);
    const ssize_t n = ::getxattr(path.c_str(), name, now.data(), now.size());
    if (n >= 0 && std::string_view(now.data(), static_cast<std::size_t>(n)) == value) return 0;
    return ::setxattr(path.c_str(), name, value.data(), value.size(), 0) == 0 ? 0 : errno;
  });
}

void MetadataWriter::mode_of_link(int fd, const Entry& entry, mode_t mode) {
  if (::chmod(path_of(fd).c_str(), mode) != 0)
    notes_.note(LeftOutKind::mode, entry, errno_text(errno));
}

void MetadataWriter::mode(int fd, const Entry& entry, mode_t mode) {
  if (::fchmod(fd, mode) != 0) notes_.note(LeftOutKind::mode, entry, errno_text(errno));
}

void MetadataWriter::times(int fd, const Entry& entry) {
  if (::futimens(fd, only_mtime(entry).data()) != 0)
    notes_.note(LeftOutKind::times, entry, errno_text(errno));
}

void MetadataWriter::times_of_link(int fd, const Entry& entry) {
  if (::utimensat(fd, "", only_mtime(entry).data(), AT_EMPTY_PATH) != 0)
    notes_.note(LeftOutKind::times, entry, errno_text(errno));
}

void MetadataWriter::flags(int fd, const Entry& entry) {
  const std::uint32_t wanted = entry.flags & FS_FL_USER_MODIFIABLE & ~kLockingFlags;
  if (wanted != 0) change_flags(fd, entry, wanted, notes_);
}

void MetadataWriter::locking_flags(int fd, const Entry& entry) {
  const std::uint32_t wanted = entry.flags & kLockingFlags;
  if (wanted != 0) change_flags(fd, entry, wanted, notes_);
}

}  // namespace holdfast
