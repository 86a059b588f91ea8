// SPDX-License-Identifier: Apache-2.0
// Where each chunk lies: immutable sorted segments in local files (mmap), a filter in front, a
// small table of what is new. A cache: it can be deleted at any time and is rebuilt from pack
// tables. docs/formats/repository.md, "Local index".
#pragma once

#include <functional>
#include <memory>
#include <optional>
#include <span>
#include <vector>

#include "base/local_folder.h"
#include "repo/pack.h"

namespace holdfast {

struct ChunkPlace {
  ObjectHash pack;
  std::uint16_t frame;
  std::uint16_t slot;  // the chunk's number in its frame
};

// Of one id in different packs (two devices uploaded it at once); more are left out, so that
// nobody can make a lookup long.
inline constexpr unsigned kCopiesMax = 8;

struct IndexedPack {
  ObjectHash pack;
  ObjectType type;
  std::uint64_t size;
  DeviceId device;
};

struct IndexLimits {
  std::size_t table_chunks_max = std::size_t{48} * 1024;  // in memory before a segment is written
  std::size_t tier_ratio = 8;  // that many segments of a tier are merged into one of the next
};

using VisitRecord =
    std::function<Result<>(std::uint64_t number, const ChunkId& id, std::size_t pack,
                           std::uint16_t frame, std::uint16_t slot)>;

// Thread-safe. Memory: at most 2 bytes a chunk for filters, plus the small table, plus 48 bytes a
// pack; mapped pages are cache.
class Index {
 public:
  // `folder` holds only this index. A damaged or foreign segment is deleted, and its packs count as
  // not indexed.
  static Result<std::unique_ptr<Index>> open(LocalFolder& folder, const RepositoryId& repository,
                                             const IndexLimits& limits);
  virtual ~Index() = default;
  // It is in a pack that is not condemned.
  virtual bool contains(const ChunkId& id) = 0;
  // In any pack; one that is not condemned, if there is one.
  virtual std::optional<ChunkPlace> find(const ChunkId& id) = 0;
  // In a pack that is none of `packs`: where a copy of it may lie that can be read.
  virtual std::optional<ChunkPlace> find_beside(const ChunkId& id,
                                                std::span<const ObjectHash> packs) = 0;
  // A small number that no other chunk has, for as long as the index does not change: a set of
  // chunks is then one bit each. Null: not there, or not in a segment yet.
  virtual std::optional<std::uint64_t> number_of(const ChunkId& id) = 0;
  // The pack's chunks can be found from now on. A pack that is known already changes nothing.
  virtual Result<> add(const PackTable& table) = 0;
  virtual bool has_pack(const ObjectHash& pack) = 0;
  virtual std::vector<IndexedPack> packs() = 0;
  // Forgets packs (they are gone from the store): their chunks are not found any more.
  virtual Result<> remove_packs(const std::vector<ObjectHash>& packs) = 0;
  // From now on in this process: packs that may be read, and that nothing may rely on
  // (docs/formats/collection.md). Ascending.
  virtual void set_condemned(std::span<const ObjectHash> packs) = 0;
  // Every chunk of every pack in the segments, by its number; those of removed packs are left out.
  // `pack` is a place in packs().
  virtual Result<> each_record(const VisitRecord& visit) = 0;
  // Writes what is in memory to a segment. Without it, what was added since the last segment is
  // indexed again next time.
  virtual Result<> flush() = 0;
  virtual std::uint64_t chunk_count() = 0;
};

}  // namespace holdfast
