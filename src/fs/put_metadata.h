// SPDX-License-Identifier: Apache-2.0
// Metadata of an entry onto a descriptor. What cannot or may not be set is noted and left out;
// nothing here takes a path.
#pragma once

#include <sys/types.h>

#include <mutex>

#include "repo/target.h"

namespace holdfast {

// What was left out, by kind. Thread-safe.
class LeftOutNotes {
 public:
  void note(LeftOutKind kind, const Entry& entry, std::string_view why);
  [[nodiscard]] std::vector<LeftOut> list();

 private:
  std::mutex mutex_;
  std::vector<LeftOut> notes_;
};

class MetadataWriter {
 public:
  MetadataWriter(bool privileged, LeftOutNotes& notes);

  // Permission bits that will stand, without setuid and setgid unless privileged (of files and
  // directories alike; notes it).
  mode_t allowed_mode(const Entry& entry);
  // Owner and group as far as we may; `user`, `group`: what it has now.
  void owner(int fd, const Entry& entry, uid_t user, gid_t group);
  [[nodiscard]] bool wants_owner(const Entry& entry) const;
  // These, for what an O_PATH descriptor holds: it may be a symlink (its mode and attributes cannot
  // be set), a device, or what we may not open.
  void owner_of_link(int fd, const Entry& entry);
  void xattrs_of_link(int fd, const Entry& entry);  // and no ACL but the entry's
  void mode_of_link(int fd, const Entry& entry, mode_t mode);
  void times_of_link(int fd, const Entry& entry);
  void xattrs(int fd, const Entry& entry);
  void mode(int fd, const Entry& entry, mode_t mode);
  void times(int fd, const Entry& entry);          // mtime; atime stays
  void flags(int fd, const Entry& entry);          // without immutable and append-only
  void locking_flags(int fd, const Entry& entry);  // those

  [[nodiscard]] uid_t user() const { return user_; }
  [[nodiscard]] gid_t group() const { return group_; }
  [[nodiscard]] mode_t mask() const { return mask_; }
  LeftOutNotes& notes() { return notes_; }
  [[nodiscard]] bool privileged() const { return privileged_; }

 private:
  [[nodiscard]] std::pair<uid_t, gid_t> wanted_owner(const Entry& entry) const;
  // Calls set(name, value) for those that may be set; it gives 0 or errno.
  template <class Set>
  void each_xattr(const Entry& entry, Set set);

  const bool privileged_;
  LeftOutNotes& notes_;
  const uid_t user_;
  const gid_t group_;
  const mode_t mask_;
};

// What leads to what a descriptor holds, for calls that do not take one of O_PATH: never to what
// stands under its name by now.
std::string path_of(int fd);

inline constexpr std::uint32_t kLockingFlags = 0x30;  // FS_IMMUTABLE_FL | FS_APPEND_FL

}  // namespace holdfast
