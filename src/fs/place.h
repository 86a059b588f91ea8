// SPDX-License-Identifier: Apache-2.0
// Putting a finished thing under its name: made under a temporary name in the same directory, then
// renamed. A name that stands there already, of whatever kind, is replaced or kept as a name; what
// it refers to is never opened.
#pragma once

#include <sys/stat.h>

#include <functional>
#include <mutex>

#include "base/world.h"
#include "fs/beneath.h"
#include "repo/target.h"

namespace holdfast {

struct PosixDirectory : TargetDirectory {
  Fd fd;
  FileIdentity identity;
  // Made by us in this run, mode 0700: nobody else can have put anything into it.
  bool fresh = false;
  // What is made in it may get another group, or an ACL, than we ask for.
  bool inherits = false;
};
inline const PosixDirectory& posix(const DirectoryRef& directory) {
  return static_cast<const PosixDirectory&>(*directory);
}

class TempNames {
 public:
  explicit TempNames(Random& random) : random_(random) {}
  std::string next();

 private:
  Random& random_;
  std::mutex mutex_;
  std::array<std::byte, 8> prefix_{};
  std::uint64_t count_ = 0;
};
inline constexpr int kTempAttemptsMax = 64;
// Calls make(name) with new names until it gives something else than EEXIST; 0, or errno.
int make_temporary(TempNames& names, std::string& name,
                   const std::function<int(const char*)>& make);

FileIdentity identity_of(const struct stat& status);
// What stands under a name, itself and not what it points to.
std::expected<struct stat, int> look(int directory, const char* name);
// Renames; Placed::kept (and the temporary name is gone) when something stands there and policy is
// never. A directory there is Code::conflict.
Result<Placed> place(int directory, const char* temporary, const std::string& name,
                     Overwrite policy);
// "x: what"; the name of an entry first, so that messages read alike.
std::unexpected<Error> entry_error(const Entry& entry, int error, std::string_view doing);

}  // namespace holdfast
