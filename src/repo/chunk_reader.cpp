// SPDX-License-Identifier: Apache-2.0
#include "repo/chunk_reader.h"

#include <fmt/format.h>

#include <algorithm>
#include <atomic>
#include <bit>
#include <map>
#include <set>

#include "repo/pack_format.h"
#include "repo/single_flight_cache.h"

namespace holdfast {
namespace {

constexpr std::size_t kBufferMin = 4096;
constexpr std::size_t kIdleBytesMax = 4U << 20;
// Bytes that are read ahead, as they are stored: by one call, and by all together.
constexpr std::size_t kAheadMax = 4U << 20, kAheadTogetherMax = 12U << 20;

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

// A frame's bytes as they lie in the pack, in memory with those beside it.
struct SealedFrame {
  std::shared_ptr<const Bytes> run;
  ByteSpan bytes;
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

// Behind the frame's tag.
std::size_t sealed_end(const PackFrame& f) {
  return std::size_t{f.offset} + f.stored + pack_format::kFrameOverhead;
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
  class AheadFrames;
  Impl(ObjectStore& s, const RepositoryKeys& k, DeviceKeyLookup d, Index& i, const ReaderLimits& l)
      : store(s),
        keys(k),
        devices(std::move(d)),
        index(i),
        tables(l.table_cache_bytes),
        frames(l.frame_cache_bytes),
        sealed(kAheadTogetherMax) {}

  ObjectStore& store;
  const RepositoryKeys& keys;
  const DeviceKeyLookup devices;
  Index& index;
  SingleFlightCache<TableKey, PackTable, KeyHash> tables;
  SingleFlightCache<FrameKey, DecodedFrame, KeyHash> frames;
  SingleFlightCache<FrameKey, SealedFrame, KeyHash> sealed;  // what was read ahead
  std::shared_ptr<FramePool> pool = std::make_shared<FramePool>();
  std::atomic<std::size_t> ahead{0};
  std::mutex readers_mutex;
  std::vector<FrameReader> readers;  // those that no thread has

  Result<ChunkPlace> place_of(const ChunkId& id);
  template <class Read>
  auto any_copy(const ChunkId& id, const Read& read) -> decltype(read(ChunkPlace{}));
  Result<std::shared_ptr<const PackTable>> table(const ObjectHash& pack, ObjectType type);
  Result<std::shared_ptr<const PackTable>> table(const ObjectHash& pack);
  Result<std::shared_ptr<const DecodedFrame>> frame(const ChunkPlace& place, ObjectType type);
  using LoadedFrame = SingleFlightCache<FrameKey, DecodedFrame, KeyHash>::Loaded;
  using LoadedSealed = SingleFlightCache<FrameKey, SealedFrame, KeyHash>::Loaded;
  Result<LoadedFrame> decode(const PackTable& table, std::size_t number);
  // Frames that lie side by side: one request.
  void read_run(const PackTable& table, std::span<const FrameKey> run,
                std::vector<Result<LoadedSealed>>& out);
  Ahead read_ahead(std::span<const ChunkId> ids);
  FrameReader take_reader();
  void give_reader(FrameReader reader);
};

// What one call read ahead. When it goes, what nobody asked for goes too.
class ChunkReader::Impl::AheadFrames {
 public:
  explicit AheadFrames(Impl& reader) : reader_(reader) {}
  AheadFrames(const AheadFrames&) = delete;
  AheadFrames& operator=(const AheadFrames&) = delete;
  ~AheadFrames() {
    for (const FrameKey& frame : frames_) reader_.sealed.take(frame);
    reader_.ahead -= bytes_;
  }
  // False: too much is read ahead already.
  bool reserve(std::size_t bytes) {
    if (bytes_ + bytes > kAheadMax) return false;
    if (reader_.ahead.fetch_add(bytes) + bytes > kAheadTogetherMax) {
      reader_.ahead -= bytes;
      return false;
    }
    bytes_ += bytes;
    return true;
  }
  void add(const std::vector<FrameKey>& loaded) {
    frames_.insert(frames_.end(), loaded.begin(), loaded.end());
  }

 private:
  Impl& reader_;
  std::vector<FrameKey> frames_;
  std::size_t bytes_ = 0;
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

Result<ChunkReader::Impl::LoadedFrame> ChunkReader::Impl::decode(const PackTable& table,
                                                                 std::size_t number) {
  const PackFrame& f = table.frames[number];
  const std::shared_ptr<DecodedFrame> out = pool->take(f.plain);
  const auto ahead_of = sealed.take({table.pack, static_cast<std::uint16_t>(number)});
  FrameReader reader = take_reader();
  auto read = ahead_of ? reader.open(table, number, ahead_of->bytes, out->bytes)
                       : reader.read(store, table, number, out->bytes);
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
  return LoadedFrame{out, cost};
}

void ChunkReader::Impl::read_run(const PackTable& table, std::span<const FrameKey> run,
                                 std::vector<Result<LoadedSealed>>& out) {
  const PackFrame& first = table.frames[run.front().frame];
  const PackFrame& last = table.frames[run.back().frame];
  const auto bytes = std::make_shared<Bytes>(sealed_end(last) - first.offset);
  const auto read = store.get_range(pack_name(table.pack), first.offset, *bytes);
  for (const FrameKey& key : run) {
    const PackFrame& f = table.frames[key.frame];
    if (!read) {
      out.emplace_back(std::unexpected(read.error()));
      continue;
    }
    const std::size_t size = sealed_end(f) - f.offset;
    const ByteSpan frame = ByteSpan(*bytes).subspan(f.offset - first.offset, size);
    out.push_back(LoadedSealed{std::make_shared<const SealedFrame>(bytes, frame), size});
  }
}

ChunkReader::Ahead ChunkReader::Impl::read_ahead(std::span<const ChunkId> ids) {
  std::map<ObjectHash, std::set<std::uint16_t>> wanted;
  for (const ChunkId& id : ids)
    if (const auto place = index.find(id)) wanted[place->pack].insert(place->frame);
  auto added = std::make_shared<AheadFrames>(*this);
  for (const auto& [pack, numbers] : wanted) {
    if (numbers.size() < 2) continue;
    const auto found = table(pack, ObjectType::data_pack);
    if (!found) continue;
    const auto& all = (*found)->frames;
    std::vector<FrameKey> places;
    for (const std::uint16_t number : numbers)
      if (number < all.size() && !frames.knows({pack, number}) &&
          added->reserve(sealed_end(all[number]) - all[number].offset))
        places.push_back({pack, number});
    const auto load = [&](std::span<const FrameKey> missing) {
      std::vector<Result<LoadedSealed>> loaded;
      for (std::size_t from = 0, to = 1; from < missing.size(); from = to++) {
        while (to < missing.size() &&
               all[missing[to].frame].offset == sealed_end(all[missing[to - 1].frame]))
          ++to;
        read_run(**found, missing.subspan(from, to - from), loaded);
      }
      return loaded;
    };
    added->add(sealed.load_together(std::span<const FrameKey>(places), load));
  }
  return added;
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

ChunkReader::Ahead ChunkReader::read_ahead(std::span<const ChunkId> ids) {
  return impl_->store.parallel() > 1 ? impl_->read_ahead(ids) : nullptr;
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
