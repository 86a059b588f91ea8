// SPDX-License-Identifier: Apache-2.0
#include <cassert>
#include <numeric>

#include "repo/pack_format.h"

namespace holdfast {

using namespace pack_format;

namespace {

// What the nonce of a frame commits to: the bytes that are sealed, or the ids of a raw frame's
// chunks, which commit to the same and are at hand.
Hash256 frame_digest(ByteSpan stored, Method method, std::span<const PackChunk> chunks) {
  if (method != Method::raw) return sha256(stored);
  Sha256 hash;
  for (const PackChunk& chunk : chunks) hash.update(chunk.id.span());
  return hash.finish();
}

[[maybe_unused]] bool type_fits(ObjectType pack, ChunkType chunk) {
  return (pack == ObjectType::data_pack) == (chunk == ChunkType::data);
}

}  // namespace

struct PackBuilder::Impl {
  const RepositoryKeys& keys;
  ObjectType type;
  DeviceId device;
  const Signer& signer;
  Random& random;
  // Pages of it are touched, and so become memory, only as far as a pack of this builder grew.
  std::unique_ptr<std::byte[]> buffer =
      std::make_unique_for_overwrite<std::byte[]>(full_pack_size(type));
  std::size_t used = 0;  // 0: no pack is begun
  std::optional<PackCipher> cipher;
  Sha256 hash;  // of the bytes so far, taken while they are in the CPU's cache
  std::vector<PackFrame> frames;
  std::vector<PackChunk> chunks;
  Bytes table;

  MutableByteSpan at(std::size_t offset, std::size_t size) {
    assert(offset + size <= full_pack_size(type));
    return {buffer.get() + offset, size};
  }
  // The pack if it were closed now without padding.
  [[nodiscard]] std::size_t closed_size() const {
    if (used == 0) return kEmptyPack;
    return used + (kEmptyPack - kHeaderSize) + frames.size() * kFrameRecord +
           chunks.size() * kChunkRecord;
  }
  void begin();
  void append_frame(const FrameBinding& frame, ByteSpan digest, ByteSpan stored);
  void append_padding(std::size_t size);
  void encode_table(std::uint32_t padding);
  void append_table();
  PackTable take_table(const ObjectHash& name);
};

void PackBuilder::Impl::begin() {
  PackKind kind{.suite = keys.suite, .type = type, .epoch = keys.newest, .salt = {}};
  random.fill(kind.salt);
  cipher.emplace(keys, kind);
  frames.clear();
  chunks.clear();
  std::memcpy(buffer.get(), cipher->header().data(), kHeaderSize);
  hash.update(cipher->header());
  used = kHeaderSize;
}

// `stored` may lie where it will stand when it is sealed.
void PackBuilder::Impl::append_frame(const FrameBinding& frame, ByteSpan digest, ByteSpan stored) {
  const MutableByteSpan place = at(used, stored.size() + kFrameOverhead);
  const Transcript aad = cipher->frame_aad(frame);
  const Nonce nonce = cipher->seal(frame.number, aad, digest, stored, place.subspan(kNonceSize));
  std::memcpy(place.data(), nonce.data(), kNonceSize);
  hash.update(place);
  used += place.size();
}

void PackBuilder::Impl::append_padding(std::size_t size) {
  const MutableByteSpan zeros = at(used + kNonceSize, size);
  if (size > 0) std::memset(zeros.data(), 0, size);
  const auto length = static_cast<std::uint32_t>(size);
  append_frame({.number = static_cast<std::uint32_t>(frames.size()),
                .last = true,
                .plain = length,
                .stored = length,
                .method = Method::padding},
               sha256(zeros).span(), zeros);
}

void PackBuilder::Impl::encode_table(std::uint32_t padding) {
  table.clear();
  Writer w(table);
  w.raw(device.span());
  w.u32(static_cast<std::uint32_t>(frames.size() + 1));
  w.u32(static_cast<std::uint32_t>(chunks.size()));
  const auto frame_record = [&w](std::uint32_t stored, std::uint32_t plain, Method method,
                                 std::uint32_t count) {
    w.u32(stored);
    w.u32(plain);
    w.u8(static_cast<std::uint8_t>(method));
    w.u32(count);
  };
  for (const PackFrame& f : frames) frame_record(f.stored, f.plain, f.method, f.chunk_count);
  frame_record(padding, padding, Method::padding, 0);
  for (const PackChunk& c : chunks) {
    w.raw(c.id.span());
    w.u32(c.length);
    w.u8(static_cast<std::uint8_t>(c.type));
  }
  const Signature signature = signer.sign(cipher->signed_table(table));
  w.raw(signature.span());
}

void PackBuilder::Impl::append_table() {
  const auto count = static_cast<std::uint32_t>(frames.size() + 1);
  const auto length = static_cast<std::uint32_t>(table.size() + kTagSize);
  const MutableByteSpan sealed = at(used, length);
  const Nonce nonce =
      cipher->seal(count, cipher->table_aad(count, length), sha256(table).span(), table, sealed);
  const MutableByteSpan footer = at(used + length, kFooterSize);
  std::memcpy(footer.data(), nonce.data(), kNonceSize);
  store_le(footer.data() + 12, length);
  store_le(footer.data() + 16, count);
  store_le(footer.data() + 20, std::uint32_t{0});
  std::memcpy(footer.data() + 24, kFooterMagic.data(), kFooterMagic.size());
  hash.update(at(used, length + kFooterSize));
  used += length + kFooterSize;
}

PackTable PackBuilder::Impl::take_table(const ObjectHash& name) {
  const PackKind& kind = cipher->kind();
  return {.pack = name,
          .pack_size = used,
          .type = kind.type,
          .epoch = kind.epoch,
          .suite = kind.suite,
          .device = device,
          .salt = kind.salt,
          .frames = std::move(frames),
          .chunks = std::move(chunks)};
}

PackBuilder::PackBuilder(const RepositoryKeys& keys, ObjectType type, DeviceId device,
                         const Signer& signer, Random& random)
    : impl_(new Impl{.keys = keys,
                     .type = type,
                     .device = device,
                     .signer = signer,
                     .random = random,
                     .cipher = {},
                     .hash = {},
                     .frames = {},
                     .chunks = {},
                     .table = {}}) {
  assert(type == ObjectType::data_pack || type == ObjectType::tree_pack);
}
PackBuilder::~PackBuilder() = default;

bool PackBuilder::empty() const { return impl_->used == 0; }

std::size_t PackBuilder::room(std::size_t chunks) const {
  const Impl& s = *impl_;
  if (chunks > kFrameChunksMax || s.frames.size() + 2 > kPackFramesMax) return 0;
  const std::size_t taken = s.closed_size() + kFrameCost + chunks * kChunkRecord;
  const std::size_t full = full_pack_size(s.type);
  return taken < full ? full - taken : 0;
}

void PackBuilder::add_frame(ByteSpan stored, std::uint32_t plain, Method method,
                            std::span<const PackChunk> chunks) {
  Impl& s = *impl_;
  assert(stored.size() <= room(chunks.size()) && !stored.empty() && !chunks.empty());
  assert(plain <= kFramePlainMax && stored.size() <= plain && method != Method::padding);
  assert(method != Method::raw || stored.size() == plain);
  assert(std::accumulate(chunks.begin(), chunks.end(), std::uint64_t{0},
                         [](std::uint64_t sum, const PackChunk& c) { return sum + c.length; }) ==
         plain);
  if (s.used == 0) s.begin();
  const PackFrame frame{.offset = static_cast<std::uint32_t>(s.used),
                        .stored = static_cast<std::uint32_t>(stored.size()),
                        .plain = plain,
                        .method = method,
                        .first_chunk = static_cast<std::uint32_t>(s.chunks.size()),
                        .chunk_count = static_cast<std::uint32_t>(chunks.size())};
  s.append_frame({.number = static_cast<std::uint32_t>(s.frames.size()),
                  .last = false,
                  .plain = plain,
                  .stored = frame.stored,
                  .method = method},
                 frame_digest(stored, method, chunks).span(), stored);
  s.frames.push_back(frame);
  for (const PackChunk& chunk : chunks) {
    assert(type_fits(s.type, chunk.type) && chunk.length > 0);
    s.chunks.push_back(chunk);
  }
}

PackBuilder::Finished PackBuilder::finish(bool last_of_run) {
  Impl& s = *impl_;
  assert(s.used != 0);
  const std::size_t least = s.closed_size();
  const std::size_t size =
      last_of_run ? static_cast<std::size_t>(padme(least)) : full_pack_size(s.type);
  s.append_padding(size - least);
  s.encode_table(static_cast<std::uint32_t>(size - least));
  s.append_table();
  assert(s.used == size);
  const ObjectHash name = ObjectHash::from(s.hash.finish().span());
  Finished out{.name = name, .bytes = {s.buffer.get(), size}, .table = s.take_table(name)};
  s.used = 0;
  s.cipher.reset();
  return out;
}

}  // namespace holdfast
