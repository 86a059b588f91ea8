// SPDX-License-Identifier: Apache-2.0
#include "repo/chunk_writer.h"

#include <algorithm>
#include <numeric>
#include <utility>

namespace holdfast {

namespace {

// Frames open at once in a lane: one for each of the groups (owners) that it saw last.
constexpr std::size_t kOpenFramesMax = 2;

// Very small chunks: what is kept in memory for each of a pack's chunks must not outweigh the pack.
constexpr std::size_t kFrameChunksAim = 8192, kPackChunksAim = 32768;

// Of a lane whose pieces will be read one by one: bytes in a frame, and in all, before frames get
// as large as others. Measured with 200 snapshots of 30,000 files, 1 % changed each time.
constexpr std::size_t kScatteredFrame = 128U << 10, kScatteredMax = 4U << 20;

struct Part {
  Bytes plain;
  std::vector<PackChunk> chunks;
};

// Parts a raw frame in two: chunks that fill `room` as well as a greedy choice can, largest first,
// and the rest. Raw chunks cannot be made smaller, so without this each full pack would end with
// half a frame of padding.
std::pair<Part, Part> split_to_fit(ByteSpan plain, std::span<const PackChunk> chunks,
                                   std::size_t room) {
  std::vector<std::size_t> offsets(chunks.size()), order(chunks.size());
  for (std::size_t i = 1; i < chunks.size(); ++i)
    offsets[i] = offsets[i - 1] + chunks[i - 1].length;
  std::iota(order.begin(), order.end(), std::size_t{0});
  std::ranges::sort(order, [&](std::size_t a, std::size_t b) {
    return std::pair(chunks[b].length, a) < std::pair(chunks[a].length, b);
  });
  std::vector<bool> first(chunks.size());
  for (const std::size_t i : order) {
    if (chunks[i].length > room) continue;
    room -= chunks[i].length;
    first[i] = true;
  }
  std::pair<Part, Part> parts;
  for (std::size_t i = 0; i < chunks.size(); ++i) {
    Part& part = first[i] ? parts.first : parts.second;
    const ByteSpan bytes = plain.subspan(offsets[i], chunks[i].length);
    part.plain.insert(part.plain.end(), bytes.begin(), bytes.end());
    part.chunks.push_back(chunks[i]);
  }
  return parts;
}

}  // namespace

struct ChunkWriter::Slot {
  Slot(const WriterContext& c, ObjectType t)
      : type(t), builder(c.keys, t, c.device, c.signer, c.random) {}
  ObjectType type;
  bool busy = false;
  std::size_t chunks = 0;  // of the pack that is open
  [[nodiscard]] bool crowded(std::size_t more) const {
    return chunks > 0 && chunks + more > kPackChunksAim;
  }
  PackBuilder builder;
};

ChunkWriter::ChunkWriter(WriterContext context, Compression compression)
    : context_(std::move(context)), compression_(compression) {}
ChunkWriter::~ChunkWriter() = default;

bool ChunkWriter::present(const ChunkId& id) {
  if (!context_.index.contains(id)) return false;  // find() gives condemned places too
  if (context_.distrusted.empty()) return true;
  const auto place = context_.index.find(id);
  return place && !context_.distrusted.contains(place->pack);
}

bool ChunkWriter::claim(const ChunkId& id) {
  Shard& shard = shards_[static_cast<std::size_t>(id.bytes[31]) % kShards];
  const std::lock_guard lock(shard.mutex);
  // In this order: put_pack() has the index told before it drops the id here, so one of the two
  // knows it.
  if (shard.pending.contains(id) || present(id)) return false;
  shard.pending.insert(id);
  return true;
}

// One builder for each type, as their buffers are the largest thing in memory: who has to wait for
// it waits while a frame is sealed or a pack is handed to the store, not while it is synced.
ChunkWriter::Slot& ChunkWriter::acquire(ObjectType type) {
  std::unique_lock lock(mutex_);
  auto found = std::ranges::find_if(slots_, [&](const auto& s) { return s->type == type; });
  if (found == slots_.end())
    found = slots_.insert(slots_.end(), std::make_unique<Slot>(context_, type));
  Slot& slot = **found;
  free_.wait(lock, [&] { return !slot.busy; });
  slot.busy = true;
  return slot;
}

void ChunkWriter::release(Slot& slot) {
  const std::lock_guard lock(mutex_);
  slot.busy = false;
  free_.notify_all();
}

Result<> ChunkWriter::put_pack(Slot& slot, bool last_of_run) {
  const PackBuilder::Finished pack = slot.builder.finish(last_of_run);
  slot.chunks = 0;
  const std::uint64_t size = pack.bytes.size();
  bool released = false;
  const auto release_once = [&] {
    if (!std::exchange(released, true)) release(slot);
  };
  auto put = context_.store.put_from(pack_name(pack.name), pack.bytes, release_once);
  release_once();
  HF_TRY(std::move(put));
  HF_TRY(context_.stored(pack.table));
  for (const PackChunk& chunk : pack.table.chunks) {
    Shard& shard = shards_[static_cast<std::size_t>(chunk.id.bytes[31]) % kShards];
    const std::lock_guard lock(shard.mutex);
    shard.pending.erase(chunk.id);
  }
  const std::lock_guard lock(mutex_);
  counts_.bytes_stored += size;
  ++counts_.packs;
  put_.push_back({pack.name, pack.table.type, size, context_.device});
  return {};
}

Result<> ChunkWriter::store_frame(ObjectType type, const FrameCompressor::Out& out,
                                  std::uint32_t plain, std::span<const PackChunk> chunks) {
  if (out.method == Method::raw) return store_raw(type, out.stored, chunks);
  for (;;) {
    Slot& slot = acquire(type);
    const bool crowded = slot.crowded(chunks.size());
    if (!crowded && out.stored.size() <= slot.builder.room(chunks.size())) {
      slot.builder.add_frame(out.stored, plain, out.method, chunks);
      slot.chunks += chunks.size();
      release(slot);
      return {};
    }
    HF_TRY(put_pack(slot, crowded));  // one that is not full is padded as the last of a run is
  }
}

Result<> ChunkWriter::store_raw(ObjectType type, ByteSpan plain,
                                std::span<const PackChunk> chunks) {
  const auto add = [](Slot& slot, ByteSpan bytes, std::span<const PackChunk> of) {
    if (of.empty()) return;
    slot.builder.add_frame(bytes, static_cast<std::uint32_t>(bytes.size()), Method::raw, of);
    slot.chunks += of.size();
  };
  Slot& slot = acquire(type);
  if (slot.crowded(chunks.size())) {
    HF_TRY(put_pack(slot, true));
    return store_raw(type, plain, chunks);
  }
  const std::size_t room = slot.builder.room(chunks.size());
  if (plain.size() <= room) {
    add(slot, plain, chunks);
    release(slot);
    return {};
  }
  const auto [now, later] = split_to_fit(plain, chunks, room);
  add(slot, now.plain, now.chunks);
  HF_TRY(put_pack(slot, false));
  return later.chunks.empty() ? Result<>() : store_raw(type, later.plain, later.chunks);
}

Result<std::vector<IndexedPack>> ChunkWriter::finish() {
  for (const auto& slot : slots_) {
    assert(!slot->busy);
    if (!slot->builder.empty()) HF_TRY(put_pack(*slot, true));
  }
  return std::move(put_);
}

ChunkWriter::Lane::Lane(ChunkWriter& writer, ObjectType type, bool scattered)
    : writer_(writer),
      type_(type),
      scattered_(scattered),
      hasher_(writer.context_.keys.secrets.id_key.span()),
      compressor_(writer.compression_) {}
ChunkWriter::Lane::~Lane() = default;

Result<ChunkWriter::Lane::Frame*> ChunkWriter::Lane::frame_for(std::uint64_t group, bool compress,
                                                               std::size_t size) {
  auto found = std::ranges::find_if(
      frames_, [&](const Frame& f) { return f.group == group && f.compress == compress; });
  if (found == frames_.end()) {
    if (frames_.size() < kOpenFramesMax) {
      found = frames_.insert(frames_.end(), Frame{});
      found->plain.reserve(kFramePlainMax);
    } else {
      found = std::ranges::min_element(frames_, {}, &Frame::used);
      HF_TRY(seal(*found));
    }
    found->group = group;
    found->compress = compress;
  }
  const std::size_t plain_max =
      scattered_ && put_ < kScatteredMax ? kScatteredFrame : kFramePlainMax;
  if (found->plain.size() + size > plain_max || found->chunks.size() >= kFrameChunksAim)
    HF_TRY(seal(*found));
  found->used = ++clock_;
  return &*found;
}

Result<ChunkId> ChunkWriter::Lane::put(ChunkType type, ByteSpan plain, std::uint64_t group,
                                       bool compress) {
  assert(!plain.empty() && plain.size() <= kFramePlainMax);
  const ChunkId id = hasher_.id(type, plain);
  if (!writer_.claim(id)) return id;
  HF_ASSIGN(Frame * frame, frame_for(group, compress, plain.size()));
  put_ += plain.size();
  frame->plain.insert(frame->plain.end(), plain.begin(), plain.end());
  frame->chunks.push_back({id, static_cast<std::uint32_t>(plain.size()), type});
  ++writer_.counts_.chunks_new;
  writer_.counts_.bytes_new += plain.size();
  return id;
}

Result<> ChunkWriter::Lane::seal(Frame& frame) {
  if (frame.chunks.empty()) return {};
  const FrameCompressor::Out out = frame.compress ? compressor_.compress(frame.plain)
                                                  : FrameCompressor::Out{Method::raw, frame.plain};
  Result<> result =
      writer_.store_frame(type_, out, static_cast<std::uint32_t>(frame.plain.size()), frame.chunks);
  frame.plain.clear();
  frame.chunks.clear();
  return result;
}

Result<> ChunkWriter::Lane::flush() {
  for (Frame& frame : frames_) HF_TRY(seal(frame));
  return {};
}

}  // namespace holdfast
