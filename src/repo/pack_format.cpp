// SPDX-License-Identifier: Apache-2.0
#include "repo/pack_format.h"

#include "crypto/purposes.h"

namespace holdfast::pack_format {
namespace {

std::array<std::byte, kHeaderSize> make_header(const PackKind& kind, const Hash256& commitment) {
  Bytes bytes;
  bytes.reserve(kHeaderSize);
  Writer w(bytes);
  w.raw(as_bytes(kHeaderMagic));
  w.u8(static_cast<std::uint8_t>(kind.suite));
  w.u8(static_cast<std::uint8_t>(kind.type));
  w.u16(0);
  w.u32(kind.epoch);
  w.raw(kind.salt);
  w.raw(commitment.span());
  assert(bytes.size() == kHeaderSize);
  std::array<std::byte, kHeaderSize> out;
  std::memcpy(out.data(), bytes.data(), kHeaderSize);
  return out;
}

}  // namespace

struct PackCipher::Derived {
  ObjectKeys keys;
};

PackCipher::PackCipher(const RepositoryKeys& keys, const PackKind& kind)
    : PackCipher(keys, kind,
                 Derived{derive_object_keys(keys.epoch_keys.at(kind.epoch).span(), keys.place,
                                            {.version = kVersion,
                                             .suite = kind.suite,
                                             .type = kind.type,
                                             .epoch = kind.epoch,
                                             .salt = kind.salt})}) {}

PackCipher::PackCipher(const RepositoryKeys& keys, const PackKind& kind, const Derived& derived)
    : kind_(kind),
      place_(keys.place),
      header_(make_header(kind, derived.keys.commitment)),
      aead_(kind.suite, derived.keys.key.span()),
      nonces_(derived.keys.nonce_key.span()) {}

Transcript PackCipher::frame_aad(const FrameBinding& frame) const {
  Transcript aad(purpose::frame);
  aad.field(header_).field(place_.account.span()).field(place_.repository.span());
  aad.number(frame.number).number(static_cast<std::uint8_t>(frame.last ? 1 : 0));
  aad.number(frame.plain).number(frame.stored).number(static_cast<std::uint8_t>(frame.method));
  return aad;
}

Transcript PackCipher::table_aad(std::uint32_t frames, std::uint32_t sealed_length) const {
  Transcript aad(purpose::table);
  aad.field(header_).field(place_.account.span()).field(place_.repository.span());
  aad.number(frames).number(sealed_length);
  return aad;
}

Transcript PackCipher::signed_table(ByteSpan table) const {
  Transcript message(purpose::pack_table);
  message.field(header_).field(place_.account.span()).field(place_.repository.span());
  message.field(table);
  return message;
}

Nonce PackCipher::seal(std::uint32_t number, const Transcript& aad, ByteSpan digest, ByteSpan plain,
                       MutableByteSpan out) {
  const Nonce nonce = derive_nonce(nonces_, number, aad.span(), digest);
  aead_.seal(nonce, aad.span(), plain, out);
  return nonce;
}

Result<> PackCipher::open(ByteSpan nonce, const Transcript& aad, ByteSpan sealed,
                          MutableByteSpan out) {
  return aead_.open(nonce, aad.span(), sealed, out);
}

}  // namespace holdfast::pack_format
