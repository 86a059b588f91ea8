// SPDX-License-Identifier: Apache-2.0
// Chunks out of packs into new ones: for a collection, and for a repair.
#pragma once

#include "repo/chunk_writer.h"
#include "repo/repository.h"

namespace holdfast {

class Repacker {
 public:
  // Nothing is taken to be there because of the packs `avoid`. `repository` must outlive it.
  Repacker(Repository& repository, std::unordered_set<ObjectHash, IdHash> avoid);
  class Hand;  // one for each thread that moves
  // The packs that were written. They count when a record that lists them stands, and not before.
  Result<std::vector<IndexedPack>> finish() { return writer_.finish(); }
  [[nodiscard]] std::uint64_t bytes_written() const { return writer_.counts().bytes_stored; }
  [[nodiscard]] std::uint64_t chunks_written() const { return writer_.counts().chunks_new; }

 private:
  Repository& repository_;
  ChunkWriter writer_;
};

class Repacker::Hand {
 public:
  explicit Hand(Repacker& repacker);
  // Reads a frame and puts those of its chunks whose numbers in it are in `slots` (ascending), as
  // far as no other pack has them. Code::corrupt, Code::not_found: the frame cannot be read;
  // nothing of it was put.
  Result<> move_frame(const PackTable& table, std::size_t frame,
                      std::span<const std::uint16_t> slots);

 private:
  ObjectStore& store_;
  FrameReader frames_;
  ChunkWriter::Lane data_, tree_;
  std::uint64_t group_ = 0;
  Bytes plain_;
};

}  // namespace holdfast
