// SPDX-License-Identifier: Apache-2.0
// What writing and reading of packs share: offsets, header, what is bound to each part, the keys
// of one pack. Internal to repo/pack. docs/formats/repository.md, "Packs".
#pragma once

#include <memory>

#include "repo/pack.h"

namespace holdfast::pack_format {

inline constexpr std::string_view kHeaderMagic = "HFPACK01", kFooterMagic = "HFPKEND1";
inline constexpr std::uint8_t kVersion = 1;
inline constexpr std::size_t kSaltSize = 32;
inline constexpr std::size_t kHeaderSize = 80, kCommitmentAt = 48;
inline constexpr std::size_t kFooterSize = 32;
inline constexpr std::size_t kFrameOverhead = kNonceSize + kTagSize;
inline constexpr std::size_t kTableStart = 16 + 4 + 4;  // device, frames, chunks
inline constexpr std::size_t kFrameRecord = 4 + 4 + 1 + 4, kChunkRecord = 32 + 4 + 1;
// A pack with the padding frame (of no bytes) and nothing else.
inline constexpr std::size_t kEmptyPack = kHeaderSize + kFrameOverhead + kTableStart +
                                          kFrameRecord + Signature::size + kTagSize + kFooterSize;
// What one more frame takes beside its stored bytes and the records of its chunks.
inline constexpr std::size_t kFrameCost = kFrameOverhead + kFrameRecord;

using Salt = std::array<std::byte, kSaltSize>;
using Nonce = std::array<std::byte, kNonceSize>;

struct PackKind {
  Suite suite;
  ObjectType type;
  Epoch epoch;
  Salt salt;
  bool operator==(const PackKind&) const = default;
};

// What the AAD of a frame binds beside the pack.
struct FrameBinding {
  std::uint32_t number;
  bool last;
  std::uint32_t plain;
  std::uint32_t stored;
  Method method;
};

// The keys of one pack, derived once. One thread at a time.
class PackCipher {
 public:
  // keys.epoch_keys has kind.epoch.
  PackCipher(const RepositoryKeys& keys, const PackKind& kind);
  [[nodiscard]] const PackKind& kind() const { return kind_; }
  [[nodiscard]] ByteSpan header() const { return header_; }
  [[nodiscard]] ByteSpan commitment() const { return header().subspan(kCommitmentAt, 32); }
  [[nodiscard]] Transcript frame_aad(const FrameBinding& frame) const;
  [[nodiscard]] Transcript table_aad(std::uint32_t frames, std::uint32_t sealed_length) const;
  // What the device signs: the table up to the signature.
  [[nodiscard]] Transcript signed_table(ByteSpan table) const;
  // Derives the nonce from `number`, `aad` and `digest` (of `plain`). out as in Aead::seal.
  Nonce seal(std::uint32_t number, const Transcript& aad, ByteSpan digest, ByteSpan plain,
             MutableByteSpan out);
  Result<> open(ByteSpan nonce, const Transcript& aad, ByteSpan sealed, MutableByteSpan out);

 private:
  struct Derived;
  PackCipher(const RepositoryKeys& keys, const PackKind& kind, const Derived& derived);
  PackKind kind_;
  Place place_;
  std::array<std::byte, kHeaderSize> header_;
  Aead aead_;
  HmacSha256 nonces_;
};

// A table that was verified, and where the parts lie that it does not say.
struct ParsedPack {
  PackTable table;
  std::uint32_t padding_at = 0;      // offset of the padding frame's nonce
  std::uint32_t padding_stored = 0;  // its bytes without nonce and tag
  std::uint32_t table_at = 0;        // where the sealed table begins
};

Result<ParsedPack> load_pack(ObjectStore& store, const RepositoryKeys& keys,
                             const DeviceKeyLookup& devices, const ObjectHash& pack,
                             ObjectType type);

// A buffer that is allocated once and only grows: the first touch of fresh pages costs more than
// what is done with them.
class ReusedBuffer {
 public:
  MutableByteSpan of(std::size_t size) {
    if (size > capacity_) {
      bytes_ = std::make_unique_for_overwrite<std::byte[]>(size);
      capacity_ = size;
    }
    return {bytes_.get(), size};
  }

 private:
  std::unique_ptr<std::byte[]> bytes_;
  std::size_t capacity_ = 0;
};

}  // namespace holdfast::pack_format
