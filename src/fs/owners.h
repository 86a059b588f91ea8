// SPDX-License-Identifier: Apache-2.0
// Owner names from the machine's own user data base.
#pragma once

#include <unordered_map>

#include "repo/source.h"

namespace holdfast {

// Not thread-safe. Remembers up to a bound of ids; more are asked again each time.
class SystemOwners final : public OwnerNames {
 public:
  std::string user(std::uint32_t uid) override;
  std::string group(std::uint32_t gid) override;

 private:
  std::unordered_map<std::uint32_t, std::string> users_, groups_;
};

}  // namespace holdfast
