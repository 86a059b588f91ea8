// SPDX-License-Identifier: Apache-2.0
// From a snapshot into a target. What is damaged is named and left out; everything else is
// restored.
#pragma once

#include <functional>
#include <memory>
#include <string>
#include <vector>

#include "base/world.h"
#include "repo/chunk_reader.h"
#include "repo/target.h"
#include "repo/tree.h"

namespace holdfast {

// Chunks of files, verified; errors name the chunk. Thread-safe. ReaderChunks is the real one.
class ChunkSource {
 public:
  ChunkSource() = default;
  ChunkSource(const ChunkSource&) = delete;
  ChunkSource& operator=(const ChunkSource&) = delete;
  virtual ~ChunkSource() = default;
  virtual Result<ChunkReader::Chunk> get(const ChunkId& id) = 0;
  // ChunkReader::read_ahead.
  virtual ChunkReader::Ahead read_ahead(std::span<const ChunkId>) { return nullptr; }
};

class ReaderChunks : public ChunkSource {
 public:
  explicit ReaderChunks(ChunkReader& reader) : reader_(reader) {}
  Result<ChunkReader::Chunk> get(const ChunkId& id) override {
    return reader_.get(id, ChunkType::data);
  }
  ChunkReader::Ahead read_ahead(std::span<const ChunkId> ids) override {
    return reader_.read_ahead(ids);
  }

 private:
  ChunkReader& reader_;
};

struct RestoreProgress {
  std::uint64_t files = 0, bytes = 0;
};

struct RestoreOptions {
  // Path inside the snapshot; "" is all of it. A directory's contents go straight into the target,
  // anything else goes there itself.
  std::string subtree{};
  // Empty: everything. Asked for directories too; one that is not wanted is made all the same when
  // something below it is.
  std::function<bool(const Entry&)> wanted{};
  bool dry_run = false;  // nothing is written, only counted
  // Makes the hasher of a thread that reads restored files back; empty: they are not verified.
  std::function<ChunkHasher()> verify{};
  unsigned workers = 2;
  std::function<void(const RestoreProgress&)> progress{};  // on the calling thread
};

struct Incomplete {
  std::string path;  // in the snapshot, raw; "" when a node of the tree is damaged
  std::string what;
  bool damage = false;  // of the repository; else the target would not take it
};
inline constexpr std::size_t kIncompleteMax = 1000;

struct RestoreReport {
  std::uint64_t files = 0, directories = 0, symlinks = 0, links = 0, others = 0;
  std::uint64_t kept = 0;  // stood there and stays (Overwrite)
  std::uint64_t bytes = 0;
  std::uint64_t verified = 0;          // files
  std::vector<Incomplete> incomplete;  // the first ones, by path
  std::uint64_t incomplete_count = 0;  // all; not 0: exit code 4
  std::uint64_t damaged_count = 0;     // those among them that are damage
  std::uint64_t bytes_missing = 0;     // of files that were not restored
  std::vector<LeftOut> left_out;
};

// `nodes` is used by several threads. An error is what ended all: Code::not_found (no such
// subtree), full, interrupted, unavailable (the store).
Result<RestoreReport> restore(ChunkSource& chunks, NodeSource& nodes, const TreeRoot& root,
                              Target& target, const RestoreOptions& options, const Stop& stop);

}  // namespace holdfast
