// SPDX-License-Identifier: Apache-2.0
// TEST ONLY: packs as someone with the keys could write them, true or lying. Written from
// docs/formats/repository.md alone, not with the code of PackBuilder: that both give the same bytes
// for an honest pack is a test of both.
#pragma once

#include <functional>

#include "base/seeded_random.h"
#include "repo/pack.h"
#include "seal/signer.h"

namespace holdfast::forge {

// Keys, device and account of a made-up repository; the same seed gives the same.
struct TestRepository {
  explicit TestRepository(std::uint64_t seed) : TestRepository(SeededRandom(seed)) {}
  explicit TestRepository(SeededRandom&& random)
      : signer(Secret::random(32, random).span()), stranger(Secret::random(32, random).span()) {
    random.fill(keys.place.account.bytes);
    random.fill(keys.place.repository.bytes);
    random.fill(device.bytes);
    keys.newest = 1;
    keys.epoch_keys.emplace(1, Secret::random(32, random));
    keys.secrets = {Secret::random(32, random), Secret::random(32, random),
                    Secret::random(16, random)};
  }
  [[nodiscard]] DeviceKeyLookup devices() const {
    return [this](const DeviceId& id) -> std::optional<SignPublicKey> {
      if (id == device) return signer.public_key();
      return std::nullopt;
    };
  }
  [[nodiscard]] PackChunk chunk(ChunkType type, ByteSpan plain) const {
    return {ChunkHasher(keys.secrets.id_key.span()).id(type, plain),
            static_cast<std::uint32_t>(plain.size()), type};
  }
  RepositoryKeys keys;
  DeviceSigner signer, stranger;
  DeviceId device;
};

struct Frame {
  Bytes stored;
  std::uint32_t plain = 0;
  Method method = Method::raw;
  std::vector<PackChunk> chunks;
};

struct FrameRecord {
  std::uint32_t stored, plain;
  std::uint8_t method;
  std::uint32_t chunks;
};

// What the table says; free of any rule.
struct Table {
  DeviceId device;
  std::uint32_t frame_count = 0, chunk_count = 0;
  std::vector<FrameRecord> frames;  // the last is the padding frame
  std::vector<PackChunk> chunks;
  Bytes encode() const {
    Bytes out;
    Writer w(out);
    w.raw(device.span());
    w.u32(frame_count);
    w.u32(chunk_count);
    for (const FrameRecord& f : frames) {
      w.u32(f.stored);
      w.u32(f.plain);
      w.u8(f.method);
      w.u32(f.chunks);
    }
    for (const PackChunk& c : chunks) {
      w.raw(c.id.span());
      w.u32(c.length);
      w.u8(static_cast<std::uint8_t>(c.type));
    }
    return out;
  }
};

// Where a forger leaves the truth. Nothing set: an honest pack.
struct Lies {
  std::function<void(Table&)> early;   // before the padding is computed
  std::function<void(Table&)> late;    // after it
  std::function<void(Bytes&)> table;   // the table's bytes before they are signed
  std::function<void(Bytes&)> header;  // before anything is sealed (AADs bind what it makes of it)
  std::function<void(Bytes&)> footer;
  const Signer* signer = nullptr;  // another than the device's
  std::uint8_t padding_byte = 0;
  std::optional<std::size_t> pad_to;  // size of the pack instead of padme
};

class Forger {
 public:
  Forger(const TestRepository& repository, ObjectType type, ByteSpan salt)
      : r_(repository), type_(type), salt_(salt.begin(), salt.end()) {}

  Bytes pack(const std::vector<Frame>& frames, const Lies& lies) {
    const RepositoryKeys& k = r_.keys;
    const ObjectKeys keys = derive_object_keys(k.epoch_keys.at(k.newest).span(), k.place,
                                               {1, k.suite, type_, k.newest, salt_});
    HmacSha256 nonce_key(keys.nonce_key.span());
    Aead aead(k.suite, keys.key.span());
    Bytes out = header(keys.commitment);
    if (lies.header) lies.header(out);
    const Bytes head = out;
    const Table table = make_table(frames, lies);
    const auto seal = [&](std::uint32_t number, ByteSpan aad, ByteSpan digest, ByteSpan plain) {
      const auto nonce = derive_nonce(nonce_key, number, aad, digest);
      Bytes sealed(plain.size() + kTagSize);
      aead.seal(nonce, aad, plain, sealed);
      return std::pair(nonce, sealed);
    };
    Writer w(out);
    for (std::size_t i = 0; i <= frames.size(); ++i) {
      const bool last = i == frames.size();
      const FrameRecord& says = last ? table.frames.back() : table.frames.at(i);
      const Bytes stored = last ? Bytes(padding_, std::byte{lies.padding_byte}) : frames[i].stored;
      const Transcript aad = frame_aad(head, static_cast<std::uint32_t>(i), last, says);
      const auto [nonce, sealed] =
          seal(static_cast<std::uint32_t>(i), aad.span(),
               last ? sha256(stored).span() : digest(frames[i]).span(), stored);
      w.raw(nonce);
      w.raw(sealed);
    }
    append_table(w, head, table, lies, seal);
    return out;
  }

  static ObjectHash name(ByteSpan pack) { return ObjectHash::from(sha256(pack).span()); }

 private:
  Bytes header(const Hash256& commitment) const {
    Bytes out;
    Writer w(out);
    w.raw(as_bytes("HFPACK01"));
    w.u8(static_cast<std::uint8_t>(r_.keys.suite));
    w.u8(static_cast<std::uint8_t>(type_));
    w.u16(0);
    w.u32(r_.keys.newest);
    w.raw(salt_);
    w.raw(commitment.span());
    return out;
  }
  Table make_table(const std::vector<Frame>& frames, const Lies& lies) {
    Table table;
    table.device = r_.device;
    std::size_t used = 80;
    for (const Frame& f : frames) {
      table.frames.push_back({static_cast<std::uint32_t>(f.stored.size()), f.plain,
                              static_cast<std::uint8_t>(f.method),
                              static_cast<std::uint32_t>(f.chunks.size())});
      table.chunks.insert(table.chunks.end(), f.chunks.begin(), f.chunks.end());
      used += 12 + f.stored.size() + 16;
    }
    table.frames.push_back({0, 0, 2, 0});
    table.frame_count = static_cast<std::uint32_t>(table.frames.size());
    table.chunk_count = static_cast<std::uint32_t>(table.chunks.size());
    if (lies.early) lies.early(table);
    Bytes encoded = table.encode();
    if (lies.table) lies.table(encoded);
    const std::size_t least = used + 28 + encoded.size() + 64 + 16 + 32;
    padding_ = lies.pad_to.value_or(static_cast<std::size_t>(padme(least))) - least;
    table.frames.back().stored = table.frames.back().plain = static_cast<std::uint32_t>(padding_);
    if (lies.late) lies.late(table);
    return table;
  }
  Transcript frame_aad(ByteSpan head, std::uint32_t number, bool last,
                       const FrameRecord& says) const {
    Transcript aad("frame");
    aad.field(head).field(r_.keys.place.account.span()).field(r_.keys.place.repository.span());
    aad.number(number).number(std::uint8_t{last});
    aad.number(says.plain).number(says.stored).number(says.method);
    return aad;
  }
  static Hash256 digest(const Frame& f) {
    if (f.method != Method::raw) return sha256(f.stored);
    Bytes ids;
    for (const PackChunk& c : f.chunks) Writer(ids).raw(c.id.span());
    return sha256(ids);
  }
  void append_table(Writer& w, ByteSpan head, const Table& table, const Lies& lies,
                    const auto& seal) const {
    Bytes plain = table.encode();
    if (lies.table) lies.table(plain);
    Transcript message("pack-table");
    message.field(head).field(r_.keys.place.account.span()).field(r_.keys.place.repository.span());
    const Signer& signer = lies.signer != nullptr ? *lies.signer : r_.signer;
    Writer(plain).raw(signer.sign(message.field(plain)).span());
    const auto length = static_cast<std::uint32_t>(plain.size() + kTagSize);
    const auto frames = static_cast<std::uint32_t>(table.frames.size());
    Transcript aad("table");
    aad.field(head).field(r_.keys.place.account.span()).field(r_.keys.place.repository.span());
    aad.number(frames).number(length);
    const auto [nonce, sealed] = seal(frames, aad.span(), sha256(plain).span(), plain);
    w.raw(sealed);
    Bytes footer;
    Writer f(footer);
    f.raw(nonce);
    f.u32(length);
    f.u32(frames);
    f.u32(0);
    f.raw(as_bytes("HFPKEND1"));
    if (lies.footer) lies.footer(footer);
    w.raw(footer);
  }

  const TestRepository& r_;
  ObjectType type_;
  Bytes salt_;
  std::size_t padding_ = 0;
};

}  // namespace holdfast::forge
