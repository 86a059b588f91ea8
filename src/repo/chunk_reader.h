// SPDX-License-Identifier: Apache-2.0
// Chunks by id: index, table, frame, with bounded caches. What it gives was verified (tag,
// commitment, place, id).
#pragma once

#include <memory>
#include <span>
#include <vector>

#include "repo/index.h"

namespace holdfast {

struct ReaderLimits {
  std::size_t frame_cache_bytes = 24U << 20;  // decoded frames
  std::size_t table_cache_bytes = 8U << 20;   // pack tables
};

// Thread-safe; several threads that want one frame wait for one read of it.
class ChunkReader {
 public:
  ChunkReader(ObjectStore& store, const RepositoryKeys& keys, DeviceKeyLookup devices, Index& index,
              const ReaderLimits& limits);
  ~ChunkReader();
  ChunkReader(const ChunkReader&) = delete;
  ChunkReader& operator=(const ChunkReader&) = delete;
  // Shares the decoded frame that holds the chunk; of several copies one that can be read.
  // Code::corrupt names the chunk, pack and frame:
  // unknown to the index, damaged, or of another type than asked for (ENG-01).
  struct Chunk {
    std::shared_ptr<const Bytes> frame;
    ByteSpan bytes;
  };
  Result<Chunk> get(const ChunkId& id, ChunkType type);
  // Of data that is asked for next: frames that lie side by side in one pack are read by one
  // request, from a store where that saves journeys, and wait in memory as they are stored. What is
  // returned is to go when they were asked for: what all calls together read ahead is bounded, and
  // what is above that, or cannot be read, is left to get().
  using Ahead = std::shared_ptr<const void>;
  [[nodiscard]] Ahead read_ahead(std::span<const ChunkId> ids);
  // Length and place without reading the frame.
  struct Stat {
    ChunkPlace place;
    std::uint32_t length;
    ChunkType type;
  };
  Result<Stat> stat(const ChunkId& id);

 private:
  struct Impl;
  std::unique_ptr<Impl> impl_;
};

}  // namespace holdfast
