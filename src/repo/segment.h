// SPDX-License-Identifier: Apache-2.0
// One file of the local index: never changed once written. It belongs to index.cpp; nothing else
// includes it but tests, the fuzzer and the benchmark.
//
//   header   64 bytes: magic, zeros
//   filter   blocks of 32 bytes (split-block Bloom filter; 16 bits a record)
//   records  40 bytes each, ascending: id 32, u32 pack, u16 frame, u16 slot
//   packs    64 bytes each, ascending by hash: hash 32, device 16, u64 size, u32 records, u8 type,
//   3
//            zero
//   footer   128 bytes: magic, u32 version, u32 tier, repository 16, u64 records, u32 packs, u32
//   filter
//            blocks, u64 first, u64 last, 32 zero, SHA-256 of footer[0, 96) and packs
//
// Integers are little-endian. A segment takes the place of every other one of its tier or a lower
// one whose number lies in [first, last]: what a crash between writing a merged segment and
// removing what it was made of leaves behind is known by that. The hash covers what is used without
// a further check; records are checked as they are used (ENG-13), and the filter can only hide a
// chunk.
#pragma once

#include <atomic>
#include <functional>
#include <memory>
#include <optional>
#include <set>
#include <span>

#include "base/local_folder.h"
#include "repo/index.h"

namespace holdfast {

inline constexpr std::size_t kRecordSize = 40;
inline constexpr std::size_t kSegmentPackSize = 64;
inline constexpr std::size_t kFilterBlockSize = 32;
inline constexpr std::size_t kSegmentHeaderSize = 64;
inline constexpr std::size_t kSegmentFooterSize = 128;

struct SegmentName {
  std::uint32_t tier = 0;
  std::uint64_t number = 0;
  auto operator<=>(const SegmentName&) const = default;
  [[nodiscard]] std::string text() const;  // "<tier>-<number>.seg"
  static std::optional<SegmentName> parse(std::string_view text);
};

struct SegmentRecord {
  ChunkId id;
  std::uint32_t pack;
  std::uint16_t frame;
  std::uint16_t slot;
};
struct FoundRecord {
  SegmentRecord record;
  std::uint64_t position;  // among the records of its segment
};
SegmentRecord load_record(const std::byte* at);
void store_record(std::byte* at, const SegmentRecord& record);

struct SegmentPack {
  IndexedPack pack;
  std::uint32_t records;
};

using PackSet = std::set<ObjectHash>;

// A value made of views; what it looks at is checked.
class FilterView {
 public:
  FilterView() = default;
  explicit FilterView(ByteSpan blocks) : blocks_(blocks) {}
  [[nodiscard]] const std::byte* block(const ChunkId& id) const;
  [[nodiscard]] bool may_contain(const ChunkId& id) const;

 private:
  ByteSpan blocks_;
};
// The block follows the order of the ids, so that a filter is written in one pass with the records
// and needs no memory; the bits within the block come from other bytes of the id.
std::uint32_t filter_block_of(const ChunkId& id, std::uint32_t blocks);
void filter_add(MutableByteSpan block, const ChunkId& id);

// Thread-safe: nothing in it changes but `lies`.
class Segment {
 public:
  // Code::corrupt: damaged, foreign, or not what its name says. Code::not_found.
  static Result<std::shared_ptr<Segment>> open(LocalFolder& folder, const SegmentName& name,
                                               const RepositoryId& repository);
  // For prefetching, then asking.
  [[nodiscard]] const FilterView& filter() const { return filter_; }
  // The newest copy that is not in a removed pack.
  [[nodiscard]] std::optional<FoundRecord> find(const ChunkId& id, const PackSet& removed);
  [[nodiscard]] std::optional<std::uint32_t> find_pack(const ObjectHash& pack) const;
  [[nodiscard]] SegmentPack pack(std::uint32_t number) const;
  [[nodiscard]] std::uint32_t pack_count() const { return pack_count_; }
  [[nodiscard]] std::uint64_t record_count() const { return record_count_; }
  [[nodiscard]] ByteSpan records() const { return records_; }
  [[nodiscard]] const SegmentName& name() const { return name_; }
  [[nodiscard]] bool replaces(const SegmentName& other) const {
    return other != name_ && other.tier <= name_.tier && other.number >= first_ &&
           other.number <= name_.number;
  }
  [[nodiscard]] std::uint64_t first() const { return first_; }
  // A record named a pack that is not there, or the order was broken: its packs count as not
  // indexed.
  [[nodiscard]] bool lies() const { return lies_.load(std::memory_order_relaxed); }
  void mark_lying() { lies_.store(true, std::memory_order_relaxed); }

 private:
  Segment(SegmentName name, std::unique_ptr<Mapping> mapping)
      : name_(name), mapping_(std::move(mapping)) {}
  Result<> parse(const RepositoryId& repository);
  [[nodiscard]] Result<> check_pack_order() const;
  [[nodiscard]] std::uint64_t lower_bound(const ChunkId& id) const;
  [[nodiscard]] std::uint64_t interpolate(const ChunkId& id) const;
  [[nodiscard]] const std::byte* record(std::uint64_t i) const {
    return records_.data() + i * kRecordSize;
  }

  const SegmentName name_;
  const std::unique_ptr<Mapping> mapping_;
  std::uint64_t first_ = 0;
  std::uint64_t record_count_ = 0;
  std::uint32_t pack_count_ = 0;
  FilterView filter_;
  ByteSpan records_, packs_;
  std::atomic<bool> lies_{false};
};

// Sorted records and the packs that they name; newest first among several.
struct SegmentInput {
  ByteSpan records;
  std::uint32_t pack_count;
  std::function<SegmentPack(std::uint32_t)> pack;
};
struct SegmentTarget {
  SegmentName name;
  std::uint64_t first;
  RepositoryId repository;
};
// Merges `inputs` into one new segment without the packs in `removed`. Memory: 16 bytes a pack and
// some buffers. `liar` is set to the number of the input whose records are not as they must be,
// with Code::corrupt; nothing is written then.
Result<> write_segment(LocalFolder& folder, const SegmentTarget& target,
                       std::span<const SegmentInput> inputs, const PackSet& removed,
                       std::optional<std::size_t>& liar);

}  // namespace holdfast
