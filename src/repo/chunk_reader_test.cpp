// SPDX-License-Identifier: Apache-2.0
#include "repo/chunk_reader.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <atomic>
#include <map>
#include <thread>

#include "repo/pack_forge.h"
#include "store/memory_store.h"

namespace holdfast {
namespace {

using forge::TestRepository;
using ::testing::HasSubstr;

// Says what a test tells it to.
class FakeIndex final : public Index {
 public:
  bool contains(const ChunkId& id) override { return places.contains(id); }
  std::optional<std::uint64_t> number_of(const ChunkId&) override { return std::nullopt; }
  std::optional<ChunkPlace> find(const ChunkId& id) override {
    const auto at = places.find(id);
    return at == places.end() ? std::nullopt : std::optional(at->second);
  }
  std::optional<ChunkPlace> find_beside(const ChunkId& id,
                                        std::span<const ObjectHash> packs) override {
    const auto [from, to] = copies.equal_range(id);
    for (auto at = from; at != to; ++at)
      if (std::ranges::find(packs, at->second.pack) == packs.end()) return at->second;
    return std::nullopt;
  }
  Result<> add(const PackTable& table) override {
    for (std::size_t f = 0; f < table.frames.size(); ++f)
      for (std::uint32_t i = 0; i < table.frames[f].chunk_count; ++i)
        places[table.chunks[table.frames[f].first_chunk + i].id] = {
            table.pack, static_cast<std::uint16_t>(f), static_cast<std::uint16_t>(i)};
    return {};
  }
  bool has_pack(const ObjectHash&) override { return false; }
  std::vector<IndexedPack> packs() override { return {}; }
  Result<> remove_packs(const std::vector<ObjectHash>&) override { return {}; }
  void set_condemned(std::span<const ObjectHash>) override {}
  Result<> each_record(const VisitRecord&) override { return {}; }
  Result<> flush() override { return {}; }
  std::uint64_t chunk_count() override { return places.size(); }

  std::map<ChunkId, ChunkPlace> places;
  std::multimap<ChunkId, ChunkPlace> copies;
};

class CountingStore final : public ObjectStore {
 public:
  Result<> put(std::string_view name, ByteSpan bytes) override { return inner.put(name, bytes); }
  Result<Bytes> get(std::string_view name, std::uint64_t max) override {
    return inner.get(name, max);
  }
  Result<> get_range(std::string_view name, std::uint64_t offset, MutableByteSpan out) override {
    ++reads;
    if (slow) std::this_thread::sleep_for(std::chrono::milliseconds(20));
    return inner.get_range(name, offset, out);
  }
  Result<std::uint64_t> size(std::string_view name) override { return inner.size(name); }
  Result<> list(std::string_view prefix,
                const std::function<Result<>(const ObjectInfo&)>& visit) override {
    return inner.list(prefix, visit);
  }
  Result<> remove(std::string_view name) override { return inner.remove(name); }
  [[nodiscard]] unsigned parallel() const override { return far ? 4 : 1; }

  MemoryStore inner;
  bool far = false;
  std::atomic<int> reads{0};
  bool slow = false;
};

class ChunkReaderTest : public ::testing::Test {
 protected:
  // A pack of `frames` frames with `chunks` chunks of `size` bytes each.
  PackTable put(ObjectType type, std::size_t frames, std::size_t chunks, std::size_t size) {
    PackBuilder builder(r.keys, type, r.device, r.signer, random);
    for (std::size_t f = 0; f < frames; ++f) {
      Bytes plain(chunks * size);
      random.fill(plain);
      std::vector<PackChunk> list;
      for (std::size_t i = 0; i < chunks; ++i) {
        const ByteSpan bytes = ByteSpan(plain).subspan(i * size, size);
        list.push_back(
            r.chunk(type == ObjectType::data_pack ? ChunkType::data : ChunkType::leaf, bytes));
        content[list.back().id] = Bytes(bytes.begin(), bytes.end());
      }
      builder.add_frame(plain, static_cast<std::uint32_t>(plain.size()), Method::raw, list);
    }
    const auto pack = builder.finish(true);
    EXPECT_TRUE(store.put(pack_name(pack.name), pack.bytes));
    EXPECT_TRUE(index.add(pack.table));
    return pack.table;
  }
  // The chunks of a pack of one frame, in another pack.
  PackTable again(const PackTable& table) {
    Bytes plain;
    for (const PackChunk& chunk : table.chunks)
      plain.insert(plain.end(), content[chunk.id].begin(), content[chunk.id].end());
    PackBuilder builder(r.keys, table.type, r.device, r.signer, random);
    builder.add_frame(plain, static_cast<std::uint32_t>(plain.size()), Method::raw, table.chunks);
    const auto pack = builder.finish(true);
    EXPECT_TRUE(store.put(pack_name(pack.name), pack.bytes));
    EXPECT_TRUE(index.add(pack.table));
    return pack.table;
  }
  Bytes stored(const ObjectHash& pack) { return store.get(pack_name(pack), kPackSize).value(); }
  std::string error(ChunkReader& reader, const ChunkId& id, ChunkType type) {
    const auto got = reader.get(id, type);
    EXPECT_FALSE(got);
    if (got) return "";
    EXPECT_EQ(got.error().code, Code::corrupt);
    EXPECT_THAT(got.error().what, HasSubstr(id.hex()));
    return got.error().what;
  }
  ChunkReader make(const ReaderLimits& limits) {
    return {store, r.keys, r.devices(), index, limits};
  }

  TestRepository r{1};
  SeededRandom random{2};
  CountingStore store;
  FakeIndex index;
  std::map<ChunkId, Bytes> content;
};

TEST_F(ChunkReaderTest, gives_every_chunk_with_one_read_a_frame) {
  put(ObjectType::data_pack, 5, 20, 1000);
  put(ObjectType::data_pack, 1, 1, 1);
  ChunkReader reader = make({});
  for (int round = 0; round < 2; ++round)
    for (const auto& [id, bytes] : content) {
      const auto got = reader.get(id, ChunkType::data);
      ASSERT_TRUE(got) << got.error().what;
      EXPECT_EQ(to_hex(got->bytes), to_hex(bytes));
      const auto stat = reader.stat(id);
      ASSERT_TRUE(stat) << stat.error().what;
      EXPECT_EQ(stat->length, bytes.size());
      EXPECT_EQ(stat->type, ChunkType::data);
    }
  EXPECT_LE(store.reads, 6 + 2 * 3);
}

TEST_F(ChunkReaderTest, frames_side_by_side_are_read_ahead_by_one_request_from_far_away) {
  const PackTable table = put(ObjectType::data_pack, 8, 2, 1000);
  const auto frames = [&](std::initializer_list<std::size_t> numbers) {
    std::vector<ChunkId> ids;
    for (const std::size_t f : numbers)
      for (const PackChunk& chunk : std::span(table.chunks).subspan(table.frames[f].first_chunk, 2))
        ids.push_back(chunk.id);
    return ids;
  };
  const auto all = frames({0, 1, 2, 3, 4, 5, 6, 7});
  ChunkReader near = make({});
  EXPECT_EQ(near.read_ahead(all), nullptr);
  EXPECT_EQ(store.reads, 0);
  store.far = true;
  ChunkReader reader = make({});
  ASSERT_TRUE(reader.get(all[2 * 3], ChunkType::data));  // the table, and frame 3
  std::vector<ChunkReader::Ahead> held;
  const auto requests = [&](const std::vector<ChunkId>& ids) {
    const int before = store.reads;
    held.push_back(reader.read_ahead(ids));
    return store.reads - before;
  };
  EXPECT_EQ(requests(frames({5})), 0) << "alone it is left to get()";
  EXPECT_EQ(requests(frames({1, 2, 3, 4, 5, 7})), 3) << "1 and 2; 4 and 5; 7";
  EXPECT_EQ(requests(frames({1, 2, 3, 4, 5, 7})), 0);
  EXPECT_EQ(requests({ChunkId{}, ChunkId{}}), 0) << "unknown ones";
  const int before = store.reads;
  for (const ChunkId& id : frames({1, 2, 3, 4, 5, 7})) {
    const auto got = reader.get(id, ChunkType::data);
    ASSERT_TRUE(got) << got.error().what;
    EXPECT_EQ(to_hex(got->bytes), to_hex(content[id]));
  }
  EXPECT_EQ(store.reads, before);
}

TEST_F(ChunkReaderTest, what_is_read_ahead_is_bounded) {
  const PackTable table = put(ObjectType::data_pack, 14, 1, 1000 << 10);
  store.far = true;
  ChunkReader reader = make({});
  std::vector<ChunkId> ids;
  for (const PackChunk& chunk : table.chunks) ids.push_back(chunk.id);
  const auto missing = [&](std::size_t from, std::size_t to) {
    const int before = store.reads;
    for (std::size_t i = from; i < to; ++i) EXPECT_TRUE(reader.get(ids[i], ChunkType::data));
    return store.reads - before;
  };
  std::vector<ChunkReader::Ahead> held{reader.read_ahead(ids)};
  EXPECT_EQ(missing(0, 4), 0);
  EXPECT_EQ(missing(4, 6), 2) << "4 MiB by one call";
  held.clear();
  for (std::size_t from = 6; from < 14; from += 4)
    held.push_back(reader.read_ahead(std::span(ids).subspan(from, 4)));
  EXPECT_EQ(missing(6, 14), 0);
  held.clear();
  const PackTable other = put(ObjectType::data_pack, 14, 1, 1000 << 10);
  ids.clear();
  for (const PackChunk& chunk : other.chunks) ids.push_back(chunk.id);
  ASSERT_TRUE(reader.stat(ids[0]));  // the table is known
  for (std::size_t from = 0; from < 14; from += 4)
    held.push_back(reader.read_ahead(std::span(ids).subspan(from, std::min(4UL, 14 - from))));
  EXPECT_EQ(missing(0, 12), 0);
  EXPECT_EQ(missing(12, 14), 2) << "12 MiB by all that still hold them";
  held.clear();
  const PackTable third = put(ObjectType::data_pack, 2, 1, 1000 << 10);
  ids = {third.chunks[0].id, third.chunks[1].id};
  (void)reader.read_ahead(ids);
  EXPECT_EQ(missing(0, 2), 2) << "what was not asked for goes";
}

TEST_F(ChunkReaderTest, what_cannot_be_read_ahead_hides_nothing_that_can_be_read) {
  const PackTable table = put(ObjectType::data_pack, 4, 1, 5000);
  store.far = true;
  ChunkReader reader = make({});
  std::vector<ChunkId> ids;
  for (const PackChunk& chunk : table.chunks) ids.push_back(chunk.id);
  ASSERT_TRUE(reader.stat(ids[0]));  // the table is known
  Bytes bytes = stored(table.pack);
  const Bytes whole = bytes;
  bytes[table.frames[1].offset + 20] ^= std::byte{1};
  bytes.resize(table.frames[3].offset + 100);
  store.inner.overwrite(pack_name(table.pack), bytes);
  const auto ahead = reader.read_ahead(ids);
  EXPECT_TRUE(reader.get(ids[0], ChunkType::data));
  EXPECT_THAT(error(reader, ids[1], ChunkType::data), HasSubstr("frame 1"));
  EXPECT_TRUE(reader.get(ids[2], ChunkType::data));
  EXPECT_THAT(error(reader, ids[3], ChunkType::data), HasSubstr("frame 3"));
  store.inner.overwrite(pack_name(table.pack), whole);
  EXPECT_TRUE(reader.get(ids[1], ChunkType::data)) << "an error is not kept";
  EXPECT_TRUE(reader.get(ids[3], ChunkType::data));
}

TEST_F(ChunkReaderTest, where_one_copy_is_damaged_another_one_is_read) {
  const PackTable bad = put(ObjectType::data_pack, 1, 3, 1000);
  const auto places = index.places;
  const PackTable good = again(bad);
  for (const auto& [id, place] : index.places) index.copies.emplace(id, place);
  index.places = places;
  Bytes bytes = stored(bad.pack);
  bytes[bad.frames[0].offset + 20] ^= std::byte{1};
  store.inner.overwrite(pack_name(bad.pack), bytes);
  ChunkReader reader = make({});
  for (const auto& [id, expected] : content) {
    const auto got = reader.get(id, ChunkType::data);
    ASSERT_TRUE(got) << got.error().what;
    EXPECT_EQ(to_hex(got->bytes), to_hex(expected));
  }
  ASSERT_TRUE(store.remove(pack_name(bad.pack)));
  ChunkReader fresh = make({});
  for (const auto& [id, expected] : content) EXPECT_TRUE(fresh.stat(id));
  ASSERT_TRUE(store.remove(pack_name(good.pack)));
  ChunkReader none = make({});
  EXPECT_THAT(error(none, content.begin()->first, ChunkType::data), HasSubstr(bad.pack.brief()))
      << "the error is that of the first";
}

TEST_F(ChunkReaderTest, chunks_outlive_their_place_in_the_cache_and_the_reader) {
  put(ObjectType::data_pack, 8, 1, 5000);
  std::vector<std::pair<ChunkId, ChunkReader::Chunk>> held;
  {
    ChunkReader reader = make({.frame_cache_bytes = 1, .table_cache_bytes = 1});
    for (int round = 0; round < 2; ++round)
      for (const auto& [id, bytes] : content)
        held.emplace_back(id, *reader.get(id, ChunkType::data));
  }
  for (const auto& [id, chunk] : held) EXPECT_EQ(to_hex(chunk.bytes), to_hex(content[id]));
}

TEST_F(ChunkReaderTest, the_cache_is_bounded_and_the_least_used_goes_first) {
  put(ObjectType::data_pack, 10, 1, 60000);  // each takes 64 KiB
  ChunkReader reader = make({.frame_cache_bytes = 5 * 66000, .table_cache_bytes = 1U << 20});
  std::vector<ChunkId> ids;
  for (const auto& [id, bytes] : content) ids.push_back(id);
  const auto read_count = [&](std::size_t i) {
    const int before = store.reads;
    EXPECT_TRUE(reader.get(ids[i], ChunkType::data));
    return store.reads - before;
  };
  (void)read_count(0);
  for (std::size_t i = 1; i < 10; ++i) {
    EXPECT_EQ(read_count(i), 1);
    EXPECT_EQ(read_count(0), 0);  // used all the time, so it stays
  }
  EXPECT_EQ(read_count(9), 0);
  EXPECT_EQ(read_count(1), 1);
}

TEST_F(ChunkReaderTest, threads_that_want_one_frame_wait_for_one_read) {
  put(ObjectType::data_pack, 1, 50, 100);
  store.slow = true;
  ChunkReader reader = make({});
  std::vector<std::thread> threads;
  std::atomic<int> right{0};
  for (int t = 0; t < 8; ++t)
    threads.emplace_back([&] {
      for (const auto& [id, bytes] : content) {
        const auto got = reader.get(id, ChunkType::data);
        if (got && std::ranges::equal(got->bytes, bytes)) ++right;
      }
    });
  for (std::thread& thread : threads) thread.join();
  EXPECT_EQ(right, 8 * 50);
  EXPECT_LE(store.reads, 3);  // table and frame
}

TEST_F(ChunkReaderTest, many_threads_and_a_small_cache) {
  put(ObjectType::data_pack, 20, 5, 3000);
  put(ObjectType::tree_pack, 5, 5, 700);
  ChunkReader reader = make({.frame_cache_bytes = 60000, .table_cache_bytes = 3000});
  std::vector<std::thread> threads;
  std::atomic<std::size_t> right{0};
  for (std::uint64_t t = 0; t < 4; ++t)
    threads.emplace_back([&, t] {
      SeededRandom order(t);
      for (int i = 0; i < 200; ++i) {
        auto at = content.begin();
        std::advance(at, static_cast<long>(order.below(content.size())));
        const auto type = at->second.size() == 700 ? ChunkType::leaf : ChunkType::data;
        const auto got = reader.get(at->first, type);
        if (got && std::ranges::equal(got->bytes, at->second)) ++right;
      }
    });
  for (std::thread& thread : threads) thread.join();
  EXPECT_EQ(right, 4U * 200U);
}

TEST_F(ChunkReaderTest, threads_that_read_ahead_what_others_read_too_read_it_once) {
  const PackTable table = put(ObjectType::data_pack, 40, 1, 3000);
  store.far = store.slow = true;
  ChunkReader reader = make({});
  std::vector<ChunkId> ids;
  for (const PackChunk& chunk : table.chunks) ids.push_back(chunk.id);
  std::vector<std::thread> threads;
  std::atomic<std::size_t> right{0};
  for (std::size_t t = 0; t < 4; ++t)
    threads.emplace_back([&, t] {
      for (std::size_t from = t * 2; from + 8 <= 40;
           from += 8) {  // each window overlaps the others'
        const auto window = std::span(ids).subspan(from, 8);
        const auto ahead = reader.read_ahead(window);
        for (const ChunkId& id : window) {
          const auto got = reader.get(id, ChunkType::data);
          if (got && std::ranges::equal(got->bytes, content.at(id))) ++right;
        }
      }
    });
  for (std::thread& thread : threads) thread.join();
  EXPECT_EQ(right, 8U * (5 + 4 + 4 + 4));
  EXPECT_LE(store.reads, 34) << "one by one it would be 42";
}

TEST_F(ChunkReaderTest, ENG_01_chunk_of_another_type_is_the_wrong_object_type) {
  put(ObjectType::data_pack, 1, 1, 100);
  const ChunkId data = content.begin()->first;
  content.clear();
  put(ObjectType::tree_pack, 1, 1, 100);
  const ChunkId leaf = content.begin()->first;
  ChunkReader reader = make({});
  for (int round = 0; round < 2; ++round) {  // before and after it is in the cache
    EXPECT_THAT(error(reader, data, ChunkType::leaf), HasSubstr("wrong object type"));
    EXPECT_THAT(error(reader, leaf, ChunkType::data), HasSubstr("wrong object type"));
    EXPECT_THAT(error(reader, leaf, ChunkType::inner), HasSubstr("wrong object type"));
    EXPECT_TRUE(reader.get(data, ChunkType::data));
    EXPECT_TRUE(reader.get(leaf, ChunkType::leaf));
    EXPECT_EQ(reader.stat(leaf)->type, ChunkType::leaf);
  }
}

TEST_F(ChunkReaderTest, ENG_13_places_that_the_index_lies_about) {
  const PackTable a = put(ObjectType::data_pack, 2, 2, 100);
  const PackTable b = put(ObjectType::data_pack, 2, 2, 100);
  const ChunkId id = a.chunks[0].id;
  ChunkReader reader = make({});
  const ChunkPlace lies[] = {{a.pack, 0, 1},      {a.pack, 1, 0},      {b.pack, 0, 0},
                             {a.pack, 2, 0},      {a.pack, 0xFFFF, 0}, {a.pack, 0, 0xFFFF},
                             {ObjectHash{}, 0, 0}};
  for (const ChunkPlace& lie : lies) {
    index.places[id] = lie;
    EXPECT_THAT(error(reader, id, ChunkType::data), HasSubstr(lie.pack.brief()));
    const auto stat = reader.stat(id);
    ASSERT_FALSE(stat);
    EXPECT_EQ(stat.error().code, Code::corrupt);
    EXPECT_THAT(stat.error().what, HasSubstr(id.hex()));
  }
  index.places.erase(id);
  EXPECT_THAT(error(reader, id, ChunkType::data), HasSubstr("in none of the packs"));
}

TEST_F(ChunkReaderTest, ENG_05_damage_is_named_and_is_not_remembered) {
  const PackTable table = put(ObjectType::data_pack, 2, 3, 100);
  const std::string name = pack_name(table.pack);
  const Bytes good = stored(table.pack);
  Bytes bad = good;
  bad[table.frames[1].offset + 50] ^= std::byte{1};
  store.inner.overwrite(name, bad);
  ChunkReader reader = make({});
  EXPECT_TRUE(reader.get(table.chunks[2].id, ChunkType::data));
  for (std::size_t i = 3; i < 6; ++i)
    EXPECT_THAT(error(reader, table.chunks[i].id, ChunkType::data),
                AllOf(HasSubstr(table.pack.brief()), HasSubstr("frame 1")));
  store.inner.overwrite(name, good);
  EXPECT_TRUE(reader.get(table.chunks[3].id, ChunkType::data));
}

TEST_F(ChunkReaderTest, a_pack_that_is_gone_is_damage) {
  const PackTable table = put(ObjectType::data_pack, 1, 1, 100);
  ASSERT_TRUE(store.remove(pack_name(table.pack)));
  ChunkReader reader = make({});
  EXPECT_THAT(error(reader, table.chunks[0].id, ChunkType::data), HasSubstr(table.pack.brief()));
}

}  // namespace
}  // namespace holdfast
