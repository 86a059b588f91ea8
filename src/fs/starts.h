// SPDX-License-Identifier: Apache-2.0
// The paths that a user named for a backup: brought into one form, merged, and reached.
#pragma once

#include <string>
#include <vector>

#include "fs/beneath.h"

namespace holdfast {

// Without leading '/' ("" is the root), "." and "..", cleaned by spelling: "/a//l/../b/" is "a/b"
// whatever "l" is. Code::invalid when it is not absolute, too long or has a bad component.
Result<std::string> normal_start(std::string_view path);

struct Starts {
  std::vector<std::string> tops;    // in order of compare_directories, none below another
  std::vector<std::string> nested;  // those below a top
};
Result<Starts> merge_starts(const std::vector<std::string>& paths);

// Opens (O_PATH) the directory at `path` (in normal form). The user named it, so symlinks on the
// way are followed, but only those that root or the running user made: with anybody else's, that
// other user would choose what root backs up. EPERM for such a one.
Opened open_ancestor(std::string_view path);

}  // namespace holdfast
