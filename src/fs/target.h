// SPDX-License-Identifier: Apache-2.0
// A directory of this machine as target of a restore. Everything below it goes through descriptors
// (fs/beneath.h): whatever others do in it meanwhile, nothing outside is touched.
#pragma once

#include "base/world.h"
#include "repo/target.h"

namespace holdfast {

// Makes the directory when it is missing (its parent must be there), mode 0700 until
// finish_directory("").
Result<std::unique_ptr<Target>> open_target(std::string_view path, const TargetOptions& options,
                                            Random& random);

}  // namespace holdfast
