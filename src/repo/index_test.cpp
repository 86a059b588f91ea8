// SPDX-License-Identifier: Apache-2.0
#include "repo/index.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <algorithm>
#include <map>
#include <thread>

#include "base/memory_folder.h"
#include "base/seeded_random.h"
#include "fs/posix_folder.h"
#include "repo/chunk_table.h"
#include "repo/segment.h"
#include "store/scratch_folder.h"

namespace holdfast {
namespace {

const RepositoryId kRepository = RepositoryId::from(Bytes(16, std::byte{7}));
constexpr IndexLimits kSmall{.table_chunks_max = 16, .tier_ratio = 2};

template <class T>
T numbered(std::uint64_t seed, std::uint64_t n) {
  T id;
  SeededRandom(seed * 0x1'0000'0001 + n).fill(id.bytes);
  return id;
}
ChunkId chunk(std::uint64_t n) { return numbered<ChunkId>(1, n); }
ObjectHash pack_hash(std::uint64_t n) { return numbered<ObjectHash>(2, n); }

PackTable table_of(const ObjectHash& pack, const std::vector<ChunkId>& ids,
                   std::size_t per_frame = 3) {
  PackTable table;
  table.pack = pack;
  table.pack_size = 1000 + ids.size();
  table.type = ObjectType::tree_pack;
  table.device = DeviceId::from(ByteSpan(pack.bytes).first(16));
  for (const ChunkId& id : ids)
    table.chunks.push_back({.id = id, .length = 1, .type = ChunkType::data});
  for (std::size_t at = 0; at < ids.size(); at += per_frame)
    table.frames.push_back(
        {.offset = 0,
         .stored = 1,
         .plain = 1,
         .method = Method::raw,
         .first_chunk = static_cast<std::uint32_t>(at),
         .chunk_count = static_cast<std::uint32_t>(std::min(per_frame, ids.size() - at))});
  return table;
}

std::vector<ChunkId> chunks(std::uint64_t from, std::uint64_t to) {
  std::vector<ChunkId> out;
  for (std::uint64_t i = from; i < to; ++i) out.push_back(chunk(i));
  return out;
}

std::unique_ptr<Index> open(LocalFolder& folder, const IndexLimits& limits = kSmall) {
  auto index = Index::open(folder, kRepository, limits);
  EXPECT_TRUE(index) << (index ? "" : index.error().what);
  return index ? std::move(*index) : nullptr;
}

std::vector<std::string> segment_files(LocalFolder& folder) {
  auto names = folder.list("").value();
  std::erase_if(names, [](const std::string& n) { return !n.ends_with(".seg"); });
  return names;
}

// What the index must say: the slow oracle.
class Oracle {
 public:
  void add(const PackTable& table) {
    if (live_.emplace(table.pack, table).second)
      for (const PackChunk& c : table.chunks) chunks_.insert(c.id);
  }
  void remove(const ObjectHash& pack) {
    const auto at = live_.find(pack);
    if (at == live_.end()) return;
    for (const PackChunk& c : at->second.chunks) chunks_.erase(chunks_.find(c.id));
    live_.erase(at);
  }
  [[nodiscard]] bool has(const ObjectHash& pack) const { return live_.contains(pack); }
  [[nodiscard]] const std::map<ObjectHash, PackTable>& live() const { return live_; }
  [[nodiscard]] bool has_chunk(const ChunkId& id) const { return chunks_.contains(id); }
  [[nodiscard]] bool is_right(const ChunkId& id, const ChunkPlace& place) const {
    const auto at = live_.find(place.pack);
    if (at == live_.end() || place.frame >= at->second.frames.size()) return false;
    const PackFrame& frame = at->second.frames[place.frame];
    return place.slot < frame.chunk_count &&
           at->second.chunks[frame.first_chunk + place.slot].id == id;
  }

 private:
  std::map<ObjectHash, PackTable> live_;
  std::multiset<ChunkId> chunks_;
};

void expect_agreement(Index& index, const Oracle& oracle, std::uint64_t universe) {
  for (std::uint64_t i = 0; i < universe; ++i) {
    const ChunkId id = chunk(i);
    const auto place = index.find(id);
    ASSERT_EQ(place.has_value(), oracle.has_chunk(id)) << "chunk " << i;
    ASSERT_EQ(index.contains(id), place.has_value());
    if (place) {
      ASSERT_TRUE(oracle.is_right(id, *place)) << "chunk " << i;
    }
  }
  std::map<ObjectHash, IndexedPack> listed;
  for (const IndexedPack& pack : index.packs())
    ASSERT_TRUE(listed.emplace(pack.pack, pack).second) << "listed twice";
  ASSERT_EQ(listed.size(), oracle.live().size());
  for (const auto& [hash, table] : oracle.live()) {
    ASSERT_TRUE(index.has_pack(hash));
    ASSERT_TRUE(listed.contains(hash));
    EXPECT_EQ(listed[hash].size, table.pack_size);
    EXPECT_EQ(listed[hash].type, table.type);
    EXPECT_EQ(listed[hash].device, table.device);
  }
}

TEST(Index, finds_what_was_added_before_and_after_a_flush_and_after_reopening) {
  MemoryFolder folder;
  auto index = open(folder);
  Oracle oracle;
  expect_agreement(*index, oracle, 5);
  for (std::uint64_t p = 0; p < 3; ++p) {
    oracle.add(table_of(pack_hash(p), chunks(p * 4, p * 4 + 4)));
    ASSERT_TRUE(index->add(oracle.live().at(pack_hash(p))));
  }
  expect_agreement(*index, oracle, 20);
  EXPECT_EQ(index->chunk_count(), 12U);
  ASSERT_TRUE(index->flush());
  expect_agreement(*index, oracle, 20);
  index.reset();
  index = open(folder);
  expect_agreement(*index, oracle, 20);
  EXPECT_EQ(index->chunk_count(), 12U);
  EXPECT_FALSE(index->has_pack(pack_hash(9)));
}

TEST(Index, what_was_not_flushed_is_not_there_next_time) {
  MemoryFolder folder;
  auto index = open(folder);
  ASSERT_TRUE(index->add(table_of(pack_hash(1), chunks(0, 3))));
  index.reset();
  index = open(folder);
  EXPECT_FALSE(index->has_pack(pack_hash(1)));
  EXPECT_FALSE(index->contains(chunk(0)));
}

TEST(Index, a_pack_without_chunks_is_known) {
  MemoryFolder folder;
  auto index = open(folder);
  ASSERT_TRUE(index->add(table_of(pack_hash(1), {})));
  ASSERT_TRUE(index->flush());
  index.reset();
  EXPECT_TRUE(open(folder)->has_pack(pack_hash(1)));
}

TEST(Index, of_another_repository_counts_as_empty) {
  MemoryFolder folder;
  auto index = open(folder);
  ASSERT_TRUE(index->add(table_of(pack_hash(1), chunks(0, 3))));
  ASSERT_TRUE(index->flush());
  index.reset();
  const auto other = Index::open(folder, RepositoryId{}, kSmall).value();
  EXPECT_FALSE(other->contains(chunk(0)));
  EXPECT_TRUE(segment_files(folder).empty());
}

TEST(Index, a_removed_pack_is_gone_in_memory_in_segments_and_after_merges) {
  MemoryFolder folder;
  auto index = open(folder);
  Oracle oracle;
  for (std::uint64_t p = 0; p < 4; ++p) {
    oracle.add(table_of(pack_hash(p), chunks(p * 4, p * 4 + 4)));
    ASSERT_TRUE(index->add(oracle.live().at(pack_hash(p))));
    if (p == 2) {
      ASSERT_TRUE(index->flush());
    }
  }
  for (const std::uint64_t p : {1U, 3U}) oracle.remove(pack_hash(p));
  ASSERT_TRUE(index->remove_packs({pack_hash(1), pack_hash(3), pack_hash(77)}));
  expect_agreement(*index, oracle, 20);
  EXPECT_EQ(index->chunk_count(), 8U);
  index.reset();
  index = open(folder);
  expect_agreement(*index, oracle, 20);
  ASSERT_TRUE(index->add(table_of(pack_hash(5), chunks(40, 44))));
  oracle.add(table_of(pack_hash(5), chunks(40, 44)));
  ASSERT_TRUE(index->flush());  // and merges: tier_ratio is 2
  EXPECT_EQ(segment_files(folder).size(), 1U);
  EXPECT_EQ(folder.read("removed", 1000).value().size(), 8U + 16 + 32) << "it is forgotten then";
  expect_agreement(*index, oracle, 50);
}

TEST(Index, every_copy_can_be_found_beside_those_that_are_bad) {
  for (const bool flushed : {false, true}) {
    MemoryFolder folder;
    const auto index = open(folder);
    for (std::uint64_t p = 0; p < 4; ++p) {
      ASSERT_TRUE(index->add(table_of(pack_hash(p), {chunk(100 + p), chunk(7)})));
      if (flushed) {
        ASSERT_TRUE(index->flush());
      }
    }
    ASSERT_TRUE(index->remove_packs({pack_hash(2)}));
    std::vector<ObjectHash> bad;
    while (const auto place = index->find_beside(chunk(7), bad)) {
      EXPECT_EQ(place->slot, 1U);
      bad.push_back(place->pack);
    }
    std::ranges::sort(bad);
    std::vector<ObjectHash> there = {pack_hash(0), pack_hash(1), pack_hash(3)};
    std::ranges::sort(there);
    EXPECT_EQ(bad, there);
    EXPECT_FALSE(index->find_beside(chunk(8), {}));
  }
}

TEST(Index, a_copy_in_another_pack_outlives_removal) {
  for (const bool flushed : {false, true}) {
    MemoryFolder folder;
    auto index = open(folder, {.table_chunks_max = 100, .tier_ratio = 2});
    for (std::uint64_t p = 0; p < 4; ++p) {
      ASSERT_TRUE(index->add(table_of(pack_hash(p), {chunk(1)})));
      if (flushed) {
        ASSERT_TRUE(index->flush());
      }
    }
    for (const std::uint64_t p : {3U, 0U, 2U}) {
      ASSERT_TRUE(index->remove_packs({pack_hash(p)}));
      ASSERT_TRUE(index->contains(chunk(1)));
    }
    EXPECT_EQ(index->find(chunk(1))->pack, pack_hash(1));
    ASSERT_TRUE(index->remove_packs({pack_hash(1)}));
    EXPECT_FALSE(index->contains(chunk(1)));
  }
}

TEST(Index, numbers_are_small_and_each_is_of_one_chunk) {
  MemoryFolder folder;
  auto index = open(folder, {.table_chunks_max = 1000, .tier_ratio = 4});
  for (std::uint64_t p = 0; p < 10; ++p) {
    ASSERT_TRUE(index->add(table_of(pack_hash(p), chunks(p * 7, p * 7 + 20))));  // they overlap
    ASSERT_TRUE(index->flush());
  }
  ASSERT_TRUE(index->remove_packs({pack_hash(4)}));
  std::set<std::uint64_t> numbers;
  std::uint64_t present = 0;
  for (std::uint64_t i = 0; i < 200; ++i) {
    const auto number = index->number_of(chunk(i));
    ASSERT_EQ(number.has_value(), index->contains(chunk(i))) << i;
    if (!number) continue;
    ++present;
    EXPECT_LT(*number, 200U);
    numbers.insert(*number);
    EXPECT_EQ(index->number_of(chunk(i)), number);
  }
  EXPECT_EQ(numbers.size(), present);
  ASSERT_TRUE(index->add(table_of(pack_hash(99), {chunk(5000)})));
  EXPECT_FALSE(index->number_of(chunk(5000))) << "not in a segment yet";
}

TEST(Index, a_removed_pack_can_come_back) {
  MemoryFolder folder;
  auto index = open(folder);
  const PackTable table = table_of(pack_hash(1), chunks(0, 3));
  ASSERT_TRUE(index->add(table));
  ASSERT_TRUE(index->flush());
  ASSERT_TRUE(index->remove_packs({table.pack}));
  ASSERT_TRUE(index->add(table));
  EXPECT_TRUE(index->contains(chunk(2)));
  index.reset();
  EXPECT_TRUE(open(folder)->contains(chunk(2)));
}

// Random work with small limits, against the oracle. One seed, one run.
void random_run(std::uint64_t seed) {
  constexpr std::uint64_t kUniverse = 400;
  SeededRandom random(seed);
  MemoryFolder folder;
  const IndexLimits limits{.table_chunks_max = 8 + random.below(40),
                           .tier_ratio = 2 + random.below(3)};
  auto index = open(folder, limits);
  Oracle oracle;
  std::map<std::uint64_t, unsigned> copies;
  std::vector<ObjectHash> flushed;
  std::uint64_t next_pack = 0;
  for (int step = 0; step < 120; ++step) {
    const std::uint64_t what = random.below(20);
    if (what < 12) {
      std::vector<ChunkId> ids;
      for (std::uint64_t n = random.below(30); n > 0; --n)
        if (const auto c = random.below(kUniverse); ++copies[c] <= kCopiesMax)
          ids.push_back(chunk(c));
      const PackTable table = table_of(pack_hash(seed * 1000 + next_pack++), ids);
      oracle.add(table);
      ASSERT_TRUE(index->add(table));
    } else if (what < 14) {
      ASSERT_TRUE(index->flush());
    } else if (what < 17 && !oracle.live().empty()) {
      std::vector<ObjectHash> gone;
      for (const auto& [hash, table] : oracle.live())
        if (random.below(8) == 0) gone.push_back(hash);
      for (const ObjectHash& hash : gone) oracle.remove(hash);
      ASSERT_TRUE(index->remove_packs(gone));
    } else if (what == 17) {
      ASSERT_TRUE(index->flush());
      index.reset();
      index = open(folder, limits);
      expect_agreement(*index, oracle, kUniverse);
    } else {
      const ChunkId id = chunk(random.below(kUniverse));
      const auto place = index->find(id);
      ASSERT_EQ(place.has_value(), oracle.has_chunk(id));
      if (place) {
        ASSERT_TRUE(oracle.is_right(id, *place));
      }
    }
  }
  expect_agreement(*index, oracle, kUniverse);
}

TEST(Index, agrees_with_the_oracle_in_random_runs) {
  for (std::uint64_t seed = 1; seed <= 25; ++seed) {
    SCOPED_TRACE("seed " + std::to_string(seed));
    random_run(seed);
    if (::testing::Test::HasFatalFailure()) return;
  }
}

// What must be true after a crash: flushed packs are there, packs that were removed are not, and of
// the others each is there as a whole or not at all.
struct Promised {
  Oracle all;  // every pack that was ever added and not removed
  std::set<ObjectHash> durable;
  std::set<ObjectHash> removed;
};

// Stops at the first error, as a process that dies there would.
Result<> scripted_work(LocalFolder& folder, Promised& promised) {
  HF_ASSIGN(const auto index, Index::open(folder, kRepository, kSmall));
  std::vector<ObjectHash> added;
  for (std::uint64_t p = 0; p < 14; ++p) {
    const PackTable table = table_of(pack_hash(p), chunks(p * 5, p * 5 + 7));  // two overlap
    promised.all.add(table);
    HF_TRY(index->add(table));
    added.push_back(table.pack);
    if (p % 3 == 2) {
      HF_TRY(index->flush());
      promised.durable.insert(added.begin(), added.end());
    }
    if (p % 4 != 3) continue;
    const ObjectHash gone = pack_hash(p - 3);
    promised.durable.erase(gone);  // from here on it may be either way
    HF_TRY(index->remove_packs({gone}));
    promised.removed.insert(gone);
    promised.all.remove(gone);
    std::erase(added, gone);
  }
  return {};
}

void expect_promises(LocalFolder& folder, const Promised& promised) {
  const auto index = open(folder);
  for (const ObjectHash& pack : promised.durable) ASSERT_TRUE(index->has_pack(pack));
  for (const ObjectHash& pack : promised.removed) ASSERT_FALSE(index->has_pack(pack));
  for (const auto& [hash, table] : promised.all.live()) {
    if (!index->has_pack(hash)) continue;
    for (const PackChunk& c : table.chunks) ASSERT_TRUE(index->contains(c.id));
  }
  for (std::uint64_t i = 0; i < 100; ++i)
    if (const auto place = index->find(chunk(i))) {
      ASSERT_TRUE(promised.all.is_right(chunk(i), *place)) << i;
      ASSERT_TRUE(index->has_pack(place->pack));
    }
}

TEST(Index, survives_a_crash_at_every_call) {
  for (int crash_at = 0;; ++crash_at) {
    SCOPED_TRACE("crash at call " + std::to_string(crash_at));
    MemoryFolder folder;
    int calls = 0;
    folder.set_fault([&](std::string_view, std::string_view) -> Result<> {
      return calls++ >= crash_at ? Result<>(fail(Code::unavailable, "crashed")) : Result<>();
    });
    Promised promised;
    const bool finished = scripted_work(folder, promised).has_value();
    folder.crash();
    folder.set_fault(nullptr);
    expect_promises(folder, promised);
    // And goes on from there.
    Promised again = promised;
    ASSERT_NO_FATAL_FAILURE(expect_promises(folder, again));
    if (finished) {
      EXPECT_GT(calls, 60);
      return;
    }
    if (::testing::Test::HasFatalFailure()) return;
  }
}

TEST(Index, a_failing_disk_is_an_error_once_memory_is_full_and_the_index_goes_on) {
  MemoryFolder folder;
  const auto index = open(folder);
  ASSERT_TRUE(index->add(table_of(pack_hash(1), chunks(0, 10))));
  folder.set_fault([](std::string_view, std::string_view) -> Result<> {
    return fail(Code::full, "no space left");
  });
  std::uint64_t pack = 2;
  Result<> added;
  for (; added && pack < 100; ++pack)
    added = index->add(table_of(pack_hash(pack), chunks(pack * 10, pack * 10 + 10)));
  ASSERT_FALSE(added);
  EXPECT_EQ(added.error().code, Code::full);
  EXPECT_FALSE(index->has_pack(pack_hash(pack - 1)));
  EXPECT_TRUE(index->has_pack(pack_hash(pack - 2)));
  EXPECT_TRUE(index->contains(chunk(3)));
  folder.set_fault(nullptr);
  ASSERT_TRUE(index->add(table_of(pack_hash(pack - 1), chunks(5000, 5010))));
  EXPECT_TRUE(index->contains(chunk(5003)));
}

TEST(Index, while_another_process_writes_what_is_added_stays_in_memory) {
  MemoryFolder folder;
  const auto one = open(folder);
  ASSERT_TRUE(one->add(table_of(pack_hash(1), chunks(0, 3))));
  ASSERT_TRUE(one->flush());
  const auto before = folder.list("").value();
  const auto two = open(folder, {.table_chunks_max = 20, .tier_ratio = 3});
  {
    const auto held = *folder.lock("lock");
    EXPECT_TRUE(two->contains(chunk(1)));
    for (std::uint64_t p = 2; p < 9; ++p)
      ASSERT_TRUE(two->add(table_of(pack_hash(p), chunks(p * 9, p * 9 + 9))));
    ASSERT_TRUE(two->remove_packs({pack_hash(1)}));
    ASSERT_TRUE(two->flush());
    EXPECT_TRUE(two->contains(chunk(20)));
    EXPECT_FALSE(two->contains(chunk(1)));
    EXPECT_EQ(folder.list("").value(), before);
    // Memory has a limit for that too.
    Result<> added;
    for (std::uint64_t p = 20; added && p < 40; ++p)
      added = two->add(table_of(pack_hash(p), chunks(p * 9, p * 9 + 9)));
    ASSERT_FALSE(added);
    EXPECT_EQ(added.error().code, Code::conflict);
  }
  ASSERT_TRUE(two->flush());
  EXPECT_FALSE(two->contains(chunk(1))) << "what was removed meanwhile stays so";
  const auto three = open(folder);
  EXPECT_TRUE(three->contains(chunk(20)));
  EXPECT_FALSE(three->contains(chunk(1)));
}

TEST(Index, processes_that_write_in_turns_lose_nothing_of_each_other) {
  MemoryFolder folder;
  std::vector<std::unique_ptr<Index>> all;
  for (int i = 0; i < 3; ++i)
    all.push_back(open(folder, {.table_chunks_max = 30, .tier_ratio = 2}));
  for (std::uint64_t p = 0; p < 60; ++p) {
    ASSERT_TRUE(all[p % 3]->add(table_of(pack_hash(p), chunks(p * 10, p * 10 + 10))));
    if (p % 7 == 6) {
      ASSERT_TRUE(all[(p + 1) % 3]->remove_packs({pack_hash(p - 5)}));
    }
  }
  // What one wrote another one may have added too, as it read the same lists of packs.
  ASSERT_TRUE(all[0]->add(table_of(pack_hash(1000), chunks(5000, 5003))));
  ASSERT_TRUE(all[1]->add(table_of(pack_hash(1000), chunks(5000, 5003))));
  for (const auto& index : all) ASSERT_TRUE(index->flush());
  for (const auto& index : all) {
    PackSet listed;
    for (const IndexedPack& pack : index->packs()) EXPECT_TRUE(listed.insert(pack.pack).second);
    EXPECT_TRUE(index->contains(chunk(5001)) || index == all[2]);
  }
  const auto fresh = open(folder);
  for (std::uint64_t p = 0; p < 60; ++p) {
    const bool removed = p % 7 == 1 && p + 5 < 60;
    // Where its own process had not written it yet, nobody else could remove it.
    if (fresh->has_pack(pack_hash(p))) continue;
    EXPECT_TRUE(removed) << p;
  }
}

// ---- ENG-13

Bytes one_segment(std::uint64_t count) {
  MemoryFolder folder;
  const auto index = open(folder, {.table_chunks_max = 100'000, .tier_ratio = 8});
  EXPECT_TRUE(index->add(table_of(pack_hash(1), chunks(0, count / 2))));
  EXPECT_TRUE(index->add(table_of(pack_hash(2), chunks(count / 2, count))));
  EXPECT_TRUE(index->flush());
  return folder.read("0-1.seg", 1U << 30).value();
}

void seal_footer(Bytes& segment) {
  const std::size_t footer = segment.size() - kSegmentFooterSize;
  const auto packs = load_le<std::uint32_t>(segment.data() + footer + 40);
  const std::size_t size = std::size_t{packs} * kSegmentPackSize;
  if (size > footer) return;
  Sha256 hash;
  hash.update(ByteSpan(segment).subspan(footer, 96));
  hash.update(ByteSpan(segment).subspan(footer - size, size));
  std::ranges::copy(hash.finish().bytes,
                    segment.begin() + static_cast<std::ptrdiff_t>(footer) + 96);
}

TEST(Index, ENG_13_a_truncated_or_extended_segment_is_deleted_and_its_packs_count_as_not_indexed) {
  const Bytes good = one_segment(20);
  for (std::size_t size = 0; size <= good.size() + 40; size += size < 60 ? 1 : 7) {
    if (size == good.size()) continue;
    Bytes bad = good;
    bad.resize(size);
    MemoryFolder folder;
    ASSERT_TRUE(folder.replace("0-1.seg", bad));
    const auto index = open(folder);
    ASSERT_FALSE(index->contains(chunk(0)));
    ASSERT_FALSE(index->has_pack(pack_hash(1)));
    ASSERT_TRUE(segment_files(folder).empty()) << size;
  }
}

TEST(Index, ENG_13_any_changed_byte_hides_chunks_at_worst_and_never_invents_one) {
  const Bytes good = one_segment(20);
  for (std::size_t at = 0; at < good.size(); ++at) {
    Bytes bad = good;
    bad[at] ^= std::byte{0x41};
    MemoryFolder folder;
    ASSERT_TRUE(folder.replace("0-1.seg", bad));
    const auto index = open(folder);
    for (std::uint64_t i = 0; i < 20; ++i) {
      const auto place = index->find(chunk(i));
      if (place) {
        ASSERT_TRUE(index->has_pack(place->pack));
      }
    }
    for (std::uint64_t i = 20; i < 40; ++i) ASSERT_FALSE(index->contains(chunk(i)));
    if (at % 5 != 0) continue;
    ASSERT_TRUE(index->add(table_of(pack_hash(3), chunks(60, 90))));
    ASSERT_TRUE(index->flush());
    ASSERT_TRUE(index->contains(chunk(89)));
  }
}

TEST(Index, ENG_13_counts_that_lie_under_a_right_checksum_are_refused) {
  const Bytes good = one_segment(20);
  const std::size_t footer = good.size() - kSegmentFooterSize;
  for (const std::size_t field : {8U, 12U, 32U, 36U, 40U, 44U, 48U, 56U})
    for (const std::uint32_t lie : {0U, 1U, 3U, 0x7FFFFFFFU, 0x80000000U, 0xFFFFFFFFU}) {
      Bytes bad = good;
      if (load_le<std::uint32_t>(bad.data() + footer + field) == lie) continue;
      store_le(bad.data() + footer + field, lie);
      seal_footer(bad);
      MemoryFolder folder;
      ASSERT_TRUE(folder.replace("0-1.seg", bad));
      const auto index = open(folder);
      for (std::uint64_t i = 0; i < 40; ++i) (void)index->find(chunk(i));
      const bool harmless = field == 48 && lie == 0;  // it replaces what is not there
      ASSERT_EQ(segment_files(folder).empty(), !harmless) << field << " " << lie;
    }
}

Bytes with_lying_pack_number(std::uint32_t lie) {
  Bytes bad = one_segment(20);
  const std::size_t records = kSegmentHeaderSize + 2 * kFilterBlockSize;  // 20 chunks: two blocks
  store_le(bad.data() + records + 4 * kRecordSize + 32, lie);
  return bad;
}

TEST(Index, ENG_13_a_segment_lying_about_a_pack_number_is_deleted_when_the_lie_is_met) {
  for (const std::uint32_t lie : {2U, 3U, 0x7FFFFFFFU, 0xFFFFFFFFU}) {
    MemoryFolder folder;
    ASSERT_TRUE(folder.replace("0-1.seg", with_lying_pack_number(lie)));
    const auto index = open(folder);
    EXPECT_TRUE(index->has_pack(pack_hash(1)));
    for (std::uint64_t i = 0; i < 20; ++i) (void)index->find(chunk(i));
    EXPECT_FALSE(index->has_pack(pack_hash(1)));
    EXPECT_TRUE(index->packs().empty());
    EXPECT_EQ(index->chunk_count(), 0U);
    EXPECT_TRUE(segment_files(folder).empty());
    ASSERT_TRUE(index->add(table_of(pack_hash(1), chunks(0, 10))));
    EXPECT_TRUE(index->contains(chunk(4)));
  }
}

TEST(Index, ENG_13_a_merge_drops_the_segment_that_lies_and_keeps_the_others) {
  Bytes unsorted = one_segment(20);
  const std::size_t records = kSegmentHeaderSize + 2 * kFilterBlockSize;
  std::swap_ranges(unsorted.begin() + records, unsorted.begin() + records + 40,
                   unsorted.begin() + records + 400);
  for (const Bytes& bad : {with_lying_pack_number(9), unsorted}) {
    MemoryFolder folder;
    ASSERT_TRUE(folder.replace("0-1.seg", bad));
    const auto index = open(folder);
    for (std::uint64_t p = 3; p < 6; ++p) {
      ASSERT_TRUE(index->add(table_of(pack_hash(p), chunks(p * 10, p * 10 + 10))));
      ASSERT_TRUE(index->flush());
    }
    EXPECT_FALSE(index->has_pack(pack_hash(1)));
    for (std::uint64_t i = 30; i < 60; ++i) EXPECT_TRUE(index->contains(chunk(i)));
    EXPECT_THAT(segment_files(folder), ::testing::Not(::testing::Contains("0-1.seg")));
  }
}

TEST(Index, ENG_13_a_damaged_list_of_removed_packs_empties_the_index) {
  MemoryFolder folder;
  auto index = open(folder);
  ASSERT_TRUE(index->add(table_of(pack_hash(1), chunks(0, 3))));
  ASSERT_TRUE(index->add(table_of(pack_hash(2), chunks(3, 6))));
  ASSERT_TRUE(index->flush());
  ASSERT_TRUE(index->remove_packs({pack_hash(1)}));
  index.reset();
  const Bytes good = folder.read("removed", 1000).value();
  const Bytes segment = folder.read("0-1.seg", 100'000).value();
  for (std::size_t at = 0; at < 2 * good.size(); ++at) {
    Bytes bad = good;
    if (at < good.size())
      bad[at] ^= std::byte{1};
    else
      bad.resize(at - good.size());
    ASSERT_TRUE(folder.replace("removed", bad));
    ASSERT_TRUE(folder.replace("0-1.seg", segment));
    index = open(folder);
    ASSERT_FALSE(index->contains(chunk(0))) << "a removed pack is back";
    ASSERT_FALSE(index->has_pack(pack_hash(2)));
    ASSERT_TRUE(index->add(table_of(pack_hash(2), chunks(3, 6))));
    ASSERT_TRUE(index->flush());
    index.reset();
    index = open(folder);
    ASSERT_TRUE(index->contains(chunk(3)));
    index.reset();
  }
}

TEST(Index, ENG_13_a_table_whose_frames_lie_is_refused) {
  MemoryFolder folder;
  const auto index = open(folder);
  for (const auto& [first, count] : std::initializer_list<std::pair<std::uint32_t, std::uint32_t>>{
           {0, 4}, {3, 1}, {4, 0}, {1, 0xFFFFFFFF}, {0xFFFFFFFF, 2}, {0, 65536}}) {
    PackTable table = table_of(pack_hash(1), chunks(0, 3));
    table.frames[0].first_chunk = first;
    table.frames[0].chunk_count = count;
    EXPECT_EQ(index->add(table).error().code, Code::corrupt) << first << " " << count;
    EXPECT_FALSE(index->has_pack(table.pack));
  }
}

TEST(Index, ENG_13_ids_repeated_or_chosen_to_collide_cost_little) {
  MemoryFolder folder;
  const auto index = open(folder, {.table_chunks_max = 100'000, .tier_ratio = 8});
  std::vector<ChunkId> ids(8'000, chunk(0));  // one id
  ASSERT_TRUE(index->add(table_of(pack_hash(0), ids, 1000)));
  EXPECT_EQ(index->chunk_count(), 1U);
  for (std::uint64_t p = 1; p < 200; ++p)
    ASSERT_TRUE(index->add(table_of(pack_hash(p), {chunk(0)})));
  EXPECT_EQ(index->chunk_count(), kCopiesMax);
  for (std::uint32_t i = 0; i < ids.size(); ++i) {  // one hash, one place in the order
    ids[i] = ChunkId{};
    store_le(ids[i].bytes.data() + 28, i);
  }
  ASSERT_TRUE(index->add(table_of(pack_hash(300), ids, 1000)));
  ASSERT_TRUE(index->contains(ids[7'999]));
  ASSERT_TRUE(index->flush());
  for (const std::size_t i : {0U, 1U, 4711U, 7'999U}) {
    const auto place = index->find(ids[i]);
    ASSERT_TRUE(place);
    EXPECT_EQ(place->pack, pack_hash(300));
    EXPECT_EQ(place->frame * 1000U + place->slot, i);
  }
  EXPECT_EQ(index->find(chunk(0)).has_value(), true);
}

TEST(Index, lookups_from_several_threads_while_it_grows_and_merges) {
  const ScratchFolder scratch;
  const auto folder = PosixFolder::open(scratch.path()).value();
  const auto index = open(*folder, {.table_chunks_max = 200, .tier_ratio = 3});
  std::atomic<std::uint64_t> added{0};
  std::atomic<bool> done{false};
  std::vector<std::thread> readers;
  for (int t = 0; t < 3; ++t)
    readers.emplace_back([&, t] {
      SeededRandom random(static_cast<std::uint64_t>(t));
      while (!done) {
        const std::uint64_t count = added;
        if (count == 0) continue;
        const std::uint64_t n = random.below(count);
        const auto place = index->find(chunk(n));
        ASSERT_TRUE(place);
        ASSERT_EQ(place->pack, pack_hash(n / 50));
        ASSERT_FALSE(index->contains(chunk(1'000'000 + n)));
      }
    });
  for (std::uint64_t p = 0; p < 40; ++p) {
    EXPECT_TRUE(index->add(table_of(pack_hash(p), chunks(p * 50, p * 50 + 50))));
    added = (p + 1) * 50;
  }
  done = true;
  for (std::thread& reader : readers) reader.join();
}

TEST(Index, in_a_real_folder) {
  const ScratchFolder scratch;
  Oracle oracle;
  for (int round = 0; round < 3; ++round) {
    const auto folder = PosixFolder::open(scratch.path()).value();
    const auto index = open(*folder);
    expect_agreement(*index, oracle, 120);
    for (std::uint64_t p = 0; p < 5; ++p) {
      const auto n = static_cast<std::uint64_t>(round) * 5 + p;
      oracle.add(table_of(pack_hash(n), chunks(n * 8, n * 8 + 8)));
      ASSERT_TRUE(index->add(oracle.live().at(pack_hash(n))));
    }
    ASSERT_TRUE(index->flush());
  }
}

// ---- parts

TEST(Segment, names_have_one_spelling) {
  EXPECT_EQ(SegmentName::parse("3-17.seg"), (SegmentName{.tier = 3, .number = 17}));
  EXPECT_EQ((SegmentName{.tier = 3, .number = 17}).text(), "3-17.seg");
  for (const char* bad : {"", ".seg", "-.seg", "1-.seg", "-1.seg", "1-2", "1-2.se", "01-2.seg",
                          "1-02.seg", "1-+2.seg", "1--2.seg", "64-1.seg", "1-2.seg.seg", "1-.se",
                          "1-99999999999999999999.seg", "1-seg"})
    EXPECT_FALSE(SegmentName::parse(bad)) << bad;
}

TEST(Segment, the_filter_never_hides_and_seldom_errs) {
  constexpr std::uint64_t kCount = 20'000;
  constexpr std::uint32_t kBlocks = kCount / 16;
  Bytes blocks(std::size_t{kBlocks} * kFilterBlockSize);
  for (std::uint64_t i = 0; i < kCount; ++i)
    filter_add(
        MutableByteSpan(blocks).subspan(
            std::size_t{filter_block_of(chunk(i), kBlocks)} * kFilterBlockSize, kFilterBlockSize),
        chunk(i));
  const FilterView filter(blocks);
  for (std::uint64_t i = 0; i < kCount; ++i) ASSERT_TRUE(filter.may_contain(chunk(i)));
  int wrong = 0;
  for (std::uint64_t i = 0; i < 100'000; ++i)
    wrong += filter.may_contain(chunk(kCount + i)) ? 1 : 0;
  EXPECT_LT(wrong, 250) << "of 100,000: 0.1 % is what 16 bits give";
}

TEST(Segment, search_finds_every_record_however_ids_are_spread) {
  for (const int shape : {0, 1, 2, 3}) {
    std::vector<ChunkId> ids;
    for (std::uint32_t i = 0; i < 700; ++i) {
      ChunkId id = chunk(i);
      if (shape == 1) std::ranges::fill_n(id.bytes.begin(), 12, std::byte{0});
      if (shape == 2) std::ranges::fill_n(id.bytes.begin(), 12, std::byte{0xFF});
      if (shape == 3) id.bytes[0] = i % 100 == 0 ? std::byte{0xFE} : std::byte{1};
      ids.push_back(id);
    }
    MemoryFolder folder;
    const auto index = open(folder, {.table_chunks_max = 1000, .tier_ratio = 8});
    ASSERT_TRUE(index->add(table_of(pack_hash(1), ids, 100)));
    ASSERT_TRUE(index->flush());
    for (std::size_t i = 0; i < ids.size(); ++i) {
      const auto place = index->find(ids[i]);
      ASSERT_TRUE(place) << shape << " " << i;
      ASSERT_EQ(place->frame * 100U + place->slot, i);
    }
    for (std::uint64_t i = 1000; i < 2000; ++i) ASSERT_FALSE(index->contains(chunk(i)));
  }
}

}  // namespace
}  // namespace holdfast
