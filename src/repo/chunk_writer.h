// SPDX-License-Identifier: Apache-2.0
// The way of chunks into packs: id, dedup, frame, compress, seal, put. Shared by the worker threads
// of one backup.
#pragma once

#include <atomic>
#include <condition_variable>
#include <mutex>
#include <unordered_set>

#include "repo/index.h"
#include "repo/pack.h"

namespace holdfast {

struct WriterCounts {
  std::atomic<std::uint64_t> chunks_new{0},
      bytes_new{0};                            // plain bytes that were not in the repository
  std::atomic<std::uint64_t> bytes_stored{0};  // sealed bytes put
  std::atomic<std::uint64_t> packs{0};
};

// Called after a pack is durable in the store and before its chunks count as present. A session
// makes its name durable in the home, so that an interrupted run's packs are used by the next one,
// and tells the index. A pack that nobody lists yet, and that no journal names, must not get into
// the index: others of this home would rely on it.
using PackStored = std::function<Result<>(const PackTable&)>;

struct WriterContext {
  ObjectStore& store;
  const RepositoryKeys& keys;
  DeviceId device;
  const Signer& signer;
  Random& random;
  Index& index;
  PackStored stored;
  // Packs that nothing is deduplicated against: of a device whose sample did not hold
  // (docs/threat-model.md).
  std::unordered_set<ObjectHash, IdHash> distrusted;
};

// A resource, thread-safe. Everything that lanes put is durable when finish() gave Ok; until then
// nothing may be reported.
class ChunkWriter {
 public:
  ChunkWriter(WriterContext context, Compression compression);
  ~ChunkWriter();
  ChunkWriter(const ChunkWriter&) = delete;
  ChunkWriter& operator=(const ChunkWriter&) = delete;

  // One thread's way in. Files of different owners never share a frame; nor do those put with a
  // group of their own (MET-01).
  class Lane {
   public:
    // `scattered`: what is put will be read a piece here and a piece there, among what other runs
    // put, as the nodes are that a change touched. Its frames are small, as a reader has to decode
    // the whole of one for each piece; but not when it is so much that it stands for itself.
    Lane(ChunkWriter& writer, ObjectType type, bool scattered = false);
    ~Lane();
    Lane(const Lane&) = delete;
    Lane& operator=(const Lane&) = delete;
    // Puts the chunk unless the repository has it. `group`: what may be compressed together (owner,
    // or a number of its own); a group put with `compress` false is stored raw.
    Result<ChunkId> put(ChunkType type, ByteSpan plain, std::uint64_t group, bool compress);
    // Seals the open frames.
    Result<> flush();

   private:
    struct Frame {
      std::uint64_t group = 0;
      bool compress = true;
      Bytes plain;
      std::vector<PackChunk> chunks;
      std::uint64_t used = 0;
    };
    Result<Frame*> frame_for(std::uint64_t group, bool compress, std::size_t size);
    Result<> seal(Frame& frame);

    ChunkWriter& writer_;
    ObjectType type_;
    bool scattered_;
    std::size_t put_ = 0;  // plain bytes
    ChunkHasher hasher_;
    FrameCompressor compressor_;
    std::vector<Frame> frames_;
    std::uint64_t clock_ = 0;
  };

  // After every lane was flushed: puts the packs that are still open. Gives what was put in this
  // run.
  Result<std::vector<IndexedPack>> finish();
  [[nodiscard]] const WriterCounts& counts() const { return counts_; }
  // It is in a pack that can be relied on. Thread-safe.
  bool present(const ChunkId& id);

 private:
  friend class Lane;
  struct Slot;  // a builder and whether a thread has it
  // True: this caller stores the chunk. False: it is in the repository, or on its way there.
  bool claim(const ChunkId& id);
  Slot& acquire(ObjectType type);
  void release(Slot& slot);
  // Lets go of the slot as soon as its buffer may be filled again.
  Result<> put_pack(Slot& slot, bool last_of_run);
  Result<> store_frame(ObjectType type, const FrameCompressor::Out& out, std::uint32_t plain,
                       std::span<const PackChunk> chunks);
  Result<> store_raw(ObjectType type, ByteSpan plain, std::span<const PackChunk> chunks);

  WriterContext context_;
  Compression compression_;
  WriterCounts counts_;
  std::mutex mutex_;
  std::condition_variable free_;
  std::vector<std::unique_ptr<Slot>> slots_;
  std::vector<IndexedPack> put_;
  static constexpr std::size_t kShards = 16;
  struct Shard {
    std::mutex mutex;
    std::unordered_set<ChunkId, IdHash> pending;
  };
  std::array<Shard, kShards> shards_;
};

}  // namespace holdfast
