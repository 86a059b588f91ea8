// SPDX-License-Identifier: Apache-2.0
// Which directories a restore made or found, and which inode each was: 12 bytes a slot, bounded.
#pragma once

#include <cstdint>
#include <optional>
#include <string_view>
#include <vector>

#include "repo/target.h"

namespace holdfast {

class DirectorySet {
 public:
  struct Known {
    std::uint32_t identity;  // 31 bits of a hash of device and inode
    bool made;               // by us
  };
  explicit DirectorySet(std::size_t slots_max) : slots_max_(slots_max) { grow(1024); }
  // Replaces what was known. False when the set is full: the directory then stays unknown.
  bool insert(std::string_view path, FileIdentity identity, bool made);
  [[nodiscard]] std::optional<Known> find(std::string_view path) const;
  [[nodiscard]] bool full() const { return full_; }
  static std::uint32_t digest(FileIdentity identity);

 private:
  [[nodiscard]] std::size_t slot(std::uint64_t key) const;
  void grow(std::size_t slots);

  const std::size_t slots_max_;
  std::vector<std::uint64_t> keys_;  // 0: empty
  std::vector<std::uint32_t> values_;
  std::size_t used_ = 0;
  bool full_ = false;
};

}  // namespace holdfast
