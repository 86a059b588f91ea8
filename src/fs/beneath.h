// SPDX-License-Identifier: Apache-2.0
// Opening below a directory that others may change meanwhile: nothing here ever follows a symlink,
// climbs out by "..", or passes through /proc magic. The only way that the walk and the restore
// target may open what lies in a tree.
#pragma once

#include <sys/types.h>

#include <cstdint>
#include <expected>
#include <string_view>
#include <utility>

#include "base/result.h"

namespace holdfast {

// Owns a descriptor. A resource that can be moved; closed when it goes.
class Fd {
 public:
  Fd() = default;
  explicit Fd(int fd) : fd_(fd) {}
  Fd(Fd&& other) noexcept : fd_(std::exchange(other.fd_, -1)) {}
  Fd& operator=(Fd&& other) noexcept {
    if (this != &other) reset(std::exchange(other.fd_, -1));
    return *this;
  }
  Fd(const Fd&) = delete;
  Fd& operator=(const Fd&) = delete;
  ~Fd() { reset(); }

  [[nodiscard]] int get() const { return fd_; }
  [[nodiscard]] bool valid() const { return fd_ >= 0; }
  void reset() { reset(-1); }

 private:
  void reset(int fd);  // keeps errno

  int fd_ = -1;
};

// openat2: one call for a whole path. by_component: one openat(O_NOFOLLOW) for each component, for
// kernels and sandboxes without openat2. `automatic` tries the first and falls back (once for each
// call: callers with many calls ask choose_beneath() first).
enum class Beneath : std::uint8_t { automatic, openat2, by_component };
[[nodiscard]] Beneath choose_beneath();

using Opened = std::expected<Fd, int>;  // or errno

// Opens `path` below `directory` (a descriptor; O_PATH will do). `path` is relative with single
// slashes; "" is the directory itself. An absolute path and the components "", "." and ".." give
// EINVAL. A symlink in any component, the last one too, gives ELOOP (ENOTDIR is possible with
// O_DIRECTORY), except that O_PATH | O_NOFOLLOW opens a symlink itself. O_CLOEXEC and O_NOFOLLOW
// are added. `mode` is used with O_CREAT or O_TMPFILE only.
[[nodiscard]] Opened open_beneath(int directory, std::string_view path, int flags, mode_t mode,
                                  Beneath how);

// An Error for an errno: not_found, denied, conflict, full or unavailable;
// "<doing>: Permission denied".
[[nodiscard]] Error errno_error(int error, std::string_view doing);
// "Permission denied"; thread-safe.
[[nodiscard]] std::string errno_text(int error);

}  // namespace holdfast
