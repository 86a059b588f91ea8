// SPDX-License-Identifier: Apache-2.0
#include "repo/chunk_table.h"

#include <algorithm>

namespace holdfast {

void ChunkTable::clear() {
  slots_ = std::vector<SegmentRecord>(
      kSlotsMin, SegmentRecord{.id = {}, .pack = kEmpty, .frame = 0, .slot = 0});
  overflow_.clear();
  size_ = 0;
}

void ChunkTable::insert(const SegmentRecord& record) {
  if (2 * (size_ + 1) > slots_.size()) grow();
  unsigned copies = 0;
  if (!insert_flat(record, copies)) insert_overflow(record, copies);
}

// True: it is in, or is left out. False: no room near its home; `copies` of it were met.
bool ChunkTable::insert_flat(const SegmentRecord& record, unsigned& copies) {
  std::size_t at = home(record.id);
  for (std::size_t probe = 0; probe < kProbesMax; ++probe, at = (at + 1) & (slots_.size() - 1)) {
    SegmentRecord& slot = slots_[at];
    if (slot.pack == kEmpty) {
      slot = record;
      ++size_;
      return true;
    }
    if (slot.id != record.id) continue;
    if (slot.pack == record.pack || ++copies >= kCopiesMax) return true;
  }
  return false;
}

void ChunkTable::insert_overflow(const SegmentRecord& record, unsigned copies) {
  const auto [begin, end] = overflow_.equal_range(record.id);
  for (auto at = begin; at != end; ++at)
    if (at->second.pack == record.pack || ++copies >= kCopiesMax) return;
  overflow_.emplace(record.id, record);
  ++size_;
}

void ChunkTable::grow() {
  ChunkTable larger;
  larger.slots_.resize(2 * slots_.size(), larger.slots_.front());
  for_each([&](const SegmentRecord& record) {
    unsigned copies = 0;
    if (!larger.insert_flat(record, copies)) larger.insert_overflow(record, copies);
  });
  *this = std::move(larger);
}

std::optional<SegmentRecord> ChunkTable::find(const ChunkId& id) const {
  std::size_t at = home(id);
  for (std::size_t probe = 0; probe < kProbesMax; ++probe, at = (at + 1) & (slots_.size() - 1)) {
    if (slots_[at].pack == kEmpty) return std::nullopt;
    if (slots_[at].id == id) return slots_[at];
  }
  const auto found = overflow_.find(id);
  if (found == overflow_.end()) return std::nullopt;
  return found->second;
}

Bytes ChunkTable::sorted() const {
  std::vector<const SegmentRecord*> order;
  order.reserve(size_);
  for_each([&](const SegmentRecord& record) { order.push_back(&record); });
  std::ranges::sort(order, [](const SegmentRecord* a, const SegmentRecord* b) {
    return a->id != b->id ? a->id < b->id : a->pack > b->pack;  // newest first
  });
  Bytes out(order.size() * kRecordSize);
  std::byte* at = out.data();
  for (const SegmentRecord* record : order) {
    store_record(at, *record);
    at += kRecordSize;
  }
  return out;
}

}  // namespace holdfast
