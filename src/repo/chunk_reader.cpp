// SPDX-License-Identifier: Apache-2.0
#include "repo/chunk_reader.h"

#include <fmt/format.h>

#include <algorithm>
#include <bit>

#include "repo/single_flight_cache.h"

namespace holdfast {
namespace {

constexpr std::size_t kBufferMin = 4096;
constexpr std::size_t kIdleBytesMax = 4U << 20;

struct TableKey {
  ObjectHash pack;
  ObjectType type;
  bool operator==(const TableKey&) const = default;
};
struct FrameKey {
  ObjectHash pack;
  std::uint16_t frame;
  bool operator==(const FrameKey&) const = default;
};
struct KeyHash {
  std::size_t operator()(const TableKey& k) const {
    return IdHash{}(k.pack) + static_cast<std::size_t>(k.type);
  }
  std::size_t operator()(const FrameKey& k) const {
    return IdHash{}(k.pack) ^ (k.frame * std::size_t{0x9E3779B9});
  }
};

// A decoded frame with all that the table says about it, so that it needs no table any more.
struct DecodedFrame {
  Bytes bytes;
  std::vector<PackChunk> chunks;
  std::vector<std::uint32_t> offsets;  // of each chunk in `bytes`
  [[nodiscard]] std::size_t cost() const {
    return sizeof(DecodedFrame) + bytes.capacity() + chunks.capacity() * sizeof(PackChunk) +
           offsets.capacity() * sizeof(std::uint32_t);
  }
};

// Frames that nobody holds any more, by size class, to be filled again: fresh memory costs more
// than decoding into it.
class FramePool : public std::enable_shared_from_this<FramePool> {
 public:
  // Its `bytes` have room for `size`.
  std::shared_ptr<DecodedFrame> take(std::size_t size) {
    const std::size_t wanted = std::bit_ceil(std::max(size, kBufferMin));
    std::unique_ptr<DecodedFrame> frame = take_idle(wanted);
    if (!frame) {
      frame = std::make_unique<DecodedFrame>();
      frame->bytes.reserve(wanted);
    }
    return {frame.release(), [pool = shared_from_this()](DecodedFrame* f) { pool->give(f); }};
  }

 private:
  static std::size_t class_of(std::size_t capacity) {
    return static_cast<std::size_t>(std::bit_width(capacity));
  }
  std::unique_ptr<DecodedFrame> take_idle(std::size_t wanted) {
    const std::lock_guard lock(mutex_);
    auto& idle = idle_[class_of(wanted)];
    if (idle.empty()) return nullptr;
    std::unique_ptr<DecodedFrame> frame = std::move(idle.back());
    idle.pop_back();
    idle_bytes_ -= frame->cost();
    return frame;
  }
  void give(DecodedFrame* raw) {
    std::unique_ptr<DecodedFrame> frame(raw);
    const std::lock_guard lock(mutex_);
    if (idle_bytes_ + frame->cost() > kIdleBytesMax) return;
    idle_bytes_ += frame->cost();
    idle_[class_of(frame->bytes.capacity())].push_back(std::move(frame));
  }

  std::mutex mutex_;
  std::array<std::vector<std::unique_ptr<DecodedFrame>>, 65> idle_;
  std::size_t idle_bytes_ = 0;
};

std::string_view type_name(ChunkType type) {
  switch (type) {
    case ChunkType::data:
      return "data";
    case ChunkType::leaf:
      return "leaf node";
    case ChunkType::inner:
      return "inner node";
    case ChunkType::list:
      return "list node";
  }
  return "unknown";
}

ObjectType pack_type(ChunkType type) {
  return type == ChunkType::data ? ObjectType::data_pack : ObjectType::tree_pack;
}

std::size_t table_cost(const PackTable& table) {
  return sizeof table + table.frames.capacity() * sizeof(PackFrame) +
         table.chunks.capacity() * sizeof(PackChunk);
}

// A pack that the index names must be there, so that its absence is damage.
Error as_damage(Error error) {
  if (error.code != Code::not_found) return error;
  return {Code::corrupt, "the store does not have its pack any more: " + error.what};
}

std::unexpected<Error> for_chunk(const ChunkId& id, Error error) {
  return wrap(as_damage(std::move(error)), "chunk " + id.hex());
}

}  // namespace

struct ChunkReader::Impl {
  Impl(ObjectStore& s, const RepositoryKeys& k, DeviceKeyLookup d, Index& i, const ReaderLimits& l)
      : store(s),
        keys(k),
        devices(std::move(d)),
        index(i),
        tables(l.table_cache_bytes),
        frames(l.frame_cache_bytes) {}

  ObjectStore& store;
  const RepositoryKeys& keys;
  const DeviceKeyLookup devices;
  Index& index;
  SingleFlightCache<TableKey, PackTable, KeyHash> tables;
  SingleFlightCache<FrameKey, DecodedFrame, KeyHash> frames;
  std::shared_ptr<FramePool> pool = std::make_shared<FramePool>();
  std::mutex readers_mutex;
  std::vector<FrameReader> readers;  // those that no thread has

  Result<ChunkPlace> place_of(const ChunkId& id);
  template <class Read>
  auto any_copy(const ChunkId& id, const Read& read) -> decltype(read(ChunkPlace{}));
  Result<std::shared_ptr<const PackTable>> table(const ObjectHash& pack, ObjectType type);
  Result<std::shared_ptr<const PackTable>> table(const ObjectHash& pack);
  Result<std::shared_ptr<const DecodedFrame>> frame(const ChunkPlace& place, ObjectType type);
  Result<SingleFlightCache<FrameKey, DecodedFrame, KeyHash>::Loaded> decode(const PackTable& table,
                                                                            std::size_t number);
  FrameReader take_reader();
  void give_reader(FrameReader reader);
};

Result<ChunkPlace> ChunkReader::Impl::place_of(const ChunkId& id) {
  if (const std::optional<ChunkPlace> place = index.find(id)) return *place;
  return fail(Code::corrupt,
              "in none of the packs that the index knows: the pack that held it is missing");
}

Result<std::shared_ptr<const PackTable>> ChunkReader::Impl::table(const ObjectHash& pack,
                                                                  ObjectType type) {
  using Loaded = decltype(tables)::Loaded;
  return tables.get({pack, type}, [&]() -> Result<Loaded> {
    HF_ASSIGN(PackTable read, read_pack_table(store, keys, devices, pack, type));
    auto shared = std::make_shared<const PackTable>(std::move(read));
    const std::size_t cost = table_cost(*shared);
    return Loaded{std::move(shared), cost};
  });
}

// Of either type. Data packs are the many, so they are tried first.
Result<std::shared_ptr<const PackTable>> ChunkReader::Impl::table(const ObjectHash& pack) {
  if (auto known = tables.find({pack, ObjectType::tree_pack})) return known;
  auto data = table(pack, ObjectType::data_pack);
  if (data || data.error().code != Code::corrupt) return data;
  auto tree = table(pack, ObjectType::tree_pack);
  return tree ? std::move(tree) : std::move(data);
}

FrameReader ChunkReader::Impl::take_reader() {
  const std::lock_guard lock(readers_mutex);
  if (readers.empty()) return FrameReader(keys);
  FrameReader out = std::move(readers.back());
  readers.pop_back();
  return out;
}

void ChunkReader::Impl::give_reader(FrameReader reader) {
  const std::lock_guard lock(readers_mutex);
  readers.push_back(std::move(reader));
}

Result<SingleFlightCache<FrameKey, DecodedFrame, KeyHash>::Loaded> ChunkReader::Impl::decode(
    const PackTable& table, std::size_t number) {
  const PackFrame& f = table.frames[number];
  const std::shared_ptr<DecodedFrame> out = pool->take(f.plain);
  FrameReader reader = take_reader();
  auto read = reader.read(store, table, number, out->bytes);
  give_reader(std::move(reader));
  HF_TRY(std::move(read));
  const auto chunks = std::span(table.chunks).subspan(f.first_chunk, f.chunk_count);
  out->chunks.assign(chunks.begin(), chunks.end());
  out->offsets.clear();
  std::uint32_t at = 0;
  for (const PackChunk& chunk : chunks) {
    out->offsets.push_back(at);
    at += chunk.length;
  }
  const std::size_t cost = out->cost();
  return decltype(frames)::Loaded{out, cost};
}

Result<std::shared_ptr<const DecodedFrame>> ChunkReader::Impl::frame(const ChunkPlace& place,
                                                                     ObjectType type) {
  return frames.get({place.pack, place.frame}, [&]() -> Result<decltype(frames)::Loaded> {
    HF_ASSIGN(const auto found, table(place.pack, type));
    if (place.frame >= found->frames.size())
      return fail(Code::corrupt,
                  fmt::format("pack {}: it has {} frames, the index says frame {}",
                              place.pack.brief(), found->frames.size(), place.frame));
    return decode(*found, place.frame);
  });
}

namespace {

// The index is a cache that anything may have happened to: the table's word counts.
Result<> check_place(const ChunkId& id, const ChunkPlace& place,
                     std::span<const PackChunk> chunks_of_frame) {
  if (place.slot < chunks_of_frame.size() && chunks_of_frame[place.slot].id == id) return {};
  return fail(Code::corrupt,
              fmt::format("pack {}: frame {}: the chunk is not at place {} where the index says; "
                          "delete the cache folder to have the index made again",
                          place.pack.brief(), place.frame, place.slot));
}

}  // namespace

ChunkReader::ChunkReader(ObjectStore& store, const RepositoryKeys& keys, DeviceKeyLookup devices,
                         Index& index, const ReaderLimits& limits)
    : impl_(std::make_unique<Impl>(store, keys, std::move(devices), index, limits)) {}
ChunkReader::~ChunkReader() = default;

// What `read` makes of the chunk at one of its places. Two devices may have stored it, and a
// session that did not trust a pack stored it again: where one copy is damaged another one may not
// be. The error is that of the first.
template <class Read>
auto ChunkReader::Impl::any_copy(const ChunkId& id, const Read& read)
    -> decltype(read(ChunkPlace{})) {
  const auto first = place_of(id);
  if (!first) return for_chunk(id, first.error());
  auto got = read(*first);
  if (got || got.error().code == Code::interrupted) return got;
  std::vector<ObjectHash> tried{first->pack};
  for (unsigned n = 1; n < kCopiesMax; ++n) {
    const std::optional<ChunkPlace> other = index.find_beside(id, tried);
    if (!other) break;
    if (auto again = read(*other)) return again;
    tried.push_back(other->pack);
  }
  return for_chunk(id, std::move(got).error());
}

Result<ChunkReader::Chunk> ChunkReader::get(const ChunkId& id, ChunkType type) {
  return impl_->any_copy(id, [&](const ChunkPlace& place) -> Result<Chunk> {
    HF_ASSIGN(auto got, impl_->frame(place, pack_type(type)));
    HF_TRY(check_place(id, place, got->chunks));
    const PackChunk& chunk = got->chunks[place.slot];
    if (chunk.type != type)
      return fail(
          Code::corrupt,
          fmt::format("pack {}: frame {}: wrong object type: expected {}, found {}",
                      place.pack.brief(), place.frame, type_name(type), type_name(chunk.type)));
    const ByteSpan bytes = ByteSpan(got->bytes).subspan(got->offsets[place.slot], chunk.length);
    return Chunk{.frame = std::shared_ptr<const Bytes>(got, &got->bytes), .bytes = bytes};
  });
}

Result<ChunkReader::Stat> ChunkReader::stat(const ChunkId& id) {
  return impl_->any_copy(id, [&](const ChunkPlace& place) -> Result<Stat> {
    HF_ASSIGN(const auto found, impl_->table(place.pack));
    std::span<const PackChunk> chunks;
    if (place.frame < found->frames.size()) {
      const PackFrame& f = found->frames[place.frame];
      chunks = std::span(found->chunks).subspan(f.first_chunk, f.chunk_count);
    }
    HF_TRY(check_place(id, place, chunks));
    const PackChunk& chunk = chunks[place.slot];
    return Stat{.place = place, .length = chunk.length, .type = chunk.type};
  });
}

}  // namespace holdfast
