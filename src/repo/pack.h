// SPDX-License-Identifier: Apache-2.0
// Packs: small chunks in large frames. docs/formats/repository.md, "Packs".
#pragma once

#include <functional>
#include <memory>
#include <optional>
#include <vector>

#include "seal/object_keys.h"
#include "store/object_store.h"

namespace holdfast {

enum class ChunkType : std::uint8_t { data = 1, leaf = 2, inner = 3, list = 4 };
enum class Method : std::uint8_t { raw = 0, zstd = 1, padding = 2 };

inline constexpr std::size_t kPackSize = 16U << 20;  // a full pack of data has exactly this size
// Packs of tree nodes: smaller, as a run seldom fills one and its buffer counts against the memory
// bound.
inline constexpr std::size_t kTreePackSize = 4U << 20;
constexpr std::size_t full_pack_size(ObjectType type) {
  return type == ObjectType::tree_pack ? kTreePackSize : kPackSize;
}
inline constexpr std::size_t kFramePlainMax =
    1U << 20;  // plain bytes in a frame; also the largest chunk
inline constexpr std::size_t kFrameChunksMax = 65535;
inline constexpr std::size_t kPackFramesMax = 65535;

// ChunkId = HMAC-SHA-256(K_id, T("chunk-id"; u8 type) || plain). One for each thread.
class ChunkHasher {
 public:
  explicit ChunkHasher(ByteSpan id_key) : hmac_(id_key) {}
  ChunkId id(ChunkType type, ByteSpan plain);

 private:
  HmacSha256 hmac_;
};

struct PackChunk {
  ChunkId id;
  std::uint32_t length;
  ChunkType type;
};
struct PackFrame {
  std::uint32_t offset;  // of its nonce, from the start of the pack
  std::uint32_t stored;  // bytes between nonce and tag
  std::uint32_t plain;
  Method method;
  std::uint32_t first_chunk;  // in PackTable::chunks
  std::uint32_t chunk_count;
};
// A verified table. Frames do not include the padding frame.
struct PackTable {
  ObjectHash pack;
  std::uint64_t pack_size = 0;
  ObjectType type = ObjectType::data_pack;
  Epoch epoch = 0;
  Suite suite = Suite::aes_256_gcm;
  DeviceId device;
  std::array<std::byte, 32> salt{};
  std::vector<PackFrame> frames;
  std::vector<PackChunk> chunks;
};

enum class Compression : std::uint8_t { none, fast, balanced, max };

// zstd with contexts reused. One for each thread.
class FrameCompressor {
 public:
  explicit FrameCompressor(Compression level);
  ~FrameCompressor();
  FrameCompressor(FrameCompressor&&) noexcept;
  struct Out {
    Method method;
    ByteSpan stored;  // valid until the next call; for Method::raw it is `plain`
  };
  // Raw when a sample says that it will not shrink, or it did not; what comes out was decompressed
  // again and compared (a compressor that returns garbage must not cost data). plain.size() <=
  // kFramePlainMax.
  Out compress(ByteSpan plain);

 private:
  struct Impl;
  std::unique_ptr<Impl> impl_;
};

// Builds one pack after the other in one reused buffer. One thread at a time.
class PackBuilder {
 public:
  // `keys` and `signer` must outlive it. type: data_pack or tree_pack.
  PackBuilder(const RepositoryKeys& keys, ObjectType type, DeviceId device, const Signer& signer,
              Random& random);
  ~PackBuilder();
  PackBuilder(const PackBuilder&) = delete;
  PackBuilder& operator=(const PackBuilder&) = delete;
  [[nodiscard]] bool empty() const;
  // Stored bytes that a frame of `chunks` chunks may still have, so that the pack can be closed at
  // full_pack_size(). 0: none.
  [[nodiscard]] std::size_t room(std::size_t chunks) const;
  // stored.size() <= room(chunks.size()); lengths of the chunks sum to `plain`.
  void add_frame(ByteSpan stored, std::uint32_t plain, Method method,
                 std::span<const PackChunk> chunks);
  struct Finished {
    ObjectHash name;
    ByteSpan bytes;   // valid until the next add_frame
    PackTable table;  // as a reader would get it
  };
  // Closes the pack: with `last_of_run` padded to padme(size), else to full_pack_size(). Not empty.
  Finished finish(bool last_of_run);

 private:
  struct Impl;
  std::unique_ptr<Impl> impl_;
};

// The key that a device's tables are signed with, from the verified chain; nothing for a device
// that it does not know.
using DeviceKeyLookup = std::function<std::optional<SignPublicKey>(const DeviceId&)>;

std::string pack_name(const ObjectHash& pack);  // "packs/ab/abcd..."
Result<ObjectHash> parse_pack_name(std::string_view name);

// Verifies header, commitment, tag, signature, sums and limits. Code::corrupt names the pack and
// what is wrong.
Result<PackTable> read_pack_table(ObjectStore& store, const RepositoryKeys& keys,
                                  const DeviceKeyLookup& devices, const ObjectHash& pack,
                                  ObjectType type);
// The same from the whole pack in memory; also for the fuzzer.
Result<PackTable> parse_pack(const RepositoryKeys& keys, const DeviceKeyLookup& devices,
                             const ObjectHash& pack, ObjectType type, ByteSpan bytes);

// Opens frames. One for each thread (contexts reused).
class FrameReader {
 public:
  explicit FrameReader(const RepositoryKeys& keys);
  ~FrameReader();
  FrameReader(FrameReader&&) noexcept;
  // One range read, tag, decompression to exactly the length of the table, then the id of every
  // chunk in it. Code::corrupt names pack and frame, and the chunk where one is known. out is
  // resized to the plain length.
  Result<> read(ObjectStore& store, const PackTable& table, std::size_t frame, Bytes& out);
  // The same for a frame whose sealed bytes (nonce, stored, tag) are at hand.
  Result<> open(const PackTable& table, std::size_t frame, ByteSpan sealed, Bytes& out);

 private:
  friend class PackVerifier;  // verify_pack, which uses the buffers of this reader
  struct Impl;
  std::unique_ptr<Impl> impl_;
};

// Everything of a pack: name, table, every frame, every chunk id, padding. Every damaged frame is
// reported.
struct PackDamage {
  std::string what;             // names pack, frame
  std::vector<ChunkId> chunks;  // that cannot be had from it
};
// A pack whose table cannot be trusted is an error (Code::corrupt): what it holds is unknown.
Result<std::vector<PackDamage>> verify_pack(ObjectStore& store, const RepositoryKeys& keys,
                                            const DeviceKeyLookup& devices, const ObjectHash& pack,
                                            ObjectType type, FrameReader& frames);

}  // namespace holdfast
