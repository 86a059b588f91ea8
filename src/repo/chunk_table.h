// SPDX-License-Identifier: Apache-2.0
// What the local index has in memory before it is a segment: a flat hash table with linear probing,
// at most half full. It belongs to index.cpp.
#pragma once

#include <map>
#include <optional>
#include <vector>

#include "repo/segment.h"

namespace holdfast {

class ChunkTable {
 public:
  ChunkTable() { clear(); }
  // A second place in the same pack, and more than kCopiesMax places, are left out.
  void insert(const SegmentRecord& record);
  [[nodiscard]] std::optional<SegmentRecord> find(const ChunkId& id) const;
  [[nodiscard]] std::size_t size() const { return size_; }
  void clear();
  // Encoded, ascending.
  [[nodiscard]] Bytes sorted() const;
  // Every record, in no particular order.
  template <class Visit>
  void for_each(Visit&& visit) const {
    for (const SegmentRecord& slot : slots_)
      if (slot.pack != kEmpty) visit(slot);
    for (const auto& [id, record] : overflow_) visit(record);
  }

 private:
  static constexpr std::uint32_t kEmpty = UINT32_MAX;
  // Whoever chooses ids (a hostile device's table may list any) could make all of them meet in one
  // place. Beyond this distance they go where that does not help him.
  static constexpr std::size_t kProbesMax = 128;
  static constexpr std::size_t kSlotsMin = 1024;  // a power of two, as every size

  void grow();
  bool insert_flat(const SegmentRecord& record, unsigned& copies);
  void insert_overflow(const SegmentRecord& record, unsigned copies);
  [[nodiscard]] std::size_t home(const ChunkId& id) const {
    return static_cast<std::size_t>(load_le<std::uint64_t>(id.bytes.data() + 16)) &
           (slots_.size() - 1);
  }

  std::vector<SegmentRecord> slots_;
  std::multimap<ChunkId, SegmentRecord> overflow_;
  std::size_t size_ = 0;
};

}  // namespace holdfast
