// SPDX-License-Identifier: Apache-2.0
// Which chunks were met, within the bound on memory.
#pragma once

#include <unordered_set>
#include <vector>

#include "repo/index.h"

namespace holdfast {

// A set of chunks: a bit for each that a segment of the index has, so that it stays in the bound on
// memory; the others (damage) by their ids.
class ChunkSet {
 public:
  explicit ChunkSet(Index& index) : index_(index) {}
  bool insert(const ChunkId& id) {
    const auto number = index_.number_of(id);
    if (!number) return others_.insert(id).second;
    if (*number >= bits_.size()) bits_.resize(*number + *number / 2 + 1024);
    const bool fresh = !bits_[*number];
    bits_[*number] = true;
    return fresh;
  }
  [[nodiscard]] bool contains_number(std::uint64_t number) const {
    return number < bits_.size() && bits_[number];
  }
  [[nodiscard]] bool contains(const ChunkId& id) const {
    if (const auto number = index_.number_of(id); number && *number < bits_.size())
      return bits_[*number];
    return others_.contains(id);
  }

 private:
  Index& index_;
  std::vector<bool> bits_;
  std::unordered_set<ChunkId, IdHash> others_;
};

}  // namespace holdfast
