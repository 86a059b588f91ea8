// SPDX-License-Identifier: Apache-2.0
#include "seal/object_keys.h"

#include <fmt/format.h>

#include <algorithm>
#include <bit>
#include <cassert>

#include "crypto/purposes.h"

namespace holdfast {
namespace {

constexpr std::string_view kBoxMagic = "HFBOX001";
constexpr std::uint8_t kBoxVersion = 1;
constexpr std::size_t kSaltSize = 32;
// Offsets: magic 0, suite 8, type 9, zero 10, epoch 12, salt 16, commitment 48, then:
constexpr std::size_t kEpochAt = 12, kNonceAt = 80, kLengthAt = 92;
static_assert(kLengthAt + 4 == kBoxHeaderSize);

constexpr std::uint64_t box_size(std::uint64_t content) {
  return kBoxHeaderSize + kTagSize + 4 + content;
}

std::string type_name(std::uint8_t type) {
  constexpr std::string_view names[] = {
      "data pack",           "tree pack",         "head",
      "pack list",           "session open",      "session generation",
      "repository secrets",  "dropped snapshot",  "collection",
      "end of a collection", "abandoned session", "tags"};
  if (type == 0 || type > std::size(names)) return fmt::format("unknown type {}", type);
  return std::string(names[type - 1]);
}

// The fields of a header, checked for form only: nothing in it is trusted before the tag holds.
struct BoxHeader {
  Suite suite{};
  Epoch epoch = 0;
  ByteSpan salt, commitment, nonce;
  std::uint32_t length = 0;
};

Result<BoxHeader> parse_header(ObjectType expected, ByteSpan sealed) {
  if (sealed.size() < kBoxHeaderSize)
    return fail(Code::corrupt,
                fmt::format("{} bytes: too short, it was cut off or never was a sealed object",
                            sealed.size()));
  Reader in(sealed);
  if (as_text(in.take(kBoxMagic.size())) != kBoxMagic)
    return fail(Code::corrupt, fmt::format("wrong object type: expected {}, found no sealed object "
                                           "of this version (first bytes {})",
                                           type_name(static_cast<std::uint8_t>(expected)),
                                           to_hex(sealed.first(kBoxMagic.size()))));
  BoxHeader out;
  const std::uint8_t suite = in.u8();
  const std::uint8_t type = in.u8();
  const std::uint16_t reserved = in.u16();
  out.epoch = in.u32();
  out.salt = in.take(kSaltSize);
  out.commitment = in.take(Hash256::size);
  out.nonce = in.take(kNonceSize);
  out.length = in.u32();
  if (type != static_cast<std::uint8_t>(expected))
    return fail(Code::corrupt,
                fmt::format("wrong object type: expected {}, found {}",
                            type_name(static_cast<std::uint8_t>(expected)), type_name(type)));
  if (suite != 1 && suite != 2)
    return fail(Code::corrupt, fmt::format("cipher suite {} is not known: expected 1 or 2; it is "
                                           "damaged or needs a newer holdfast",
                                           suite));
  if (reserved != 0) return fail(Code::corrupt, "damaged: reserved bytes of the header are set");
  out.suite = static_cast<Suite>(suite);
  return out;
}

Result<> check_length(const BoxHeader& header, std::uint64_t size) {
  if (size != kBoxHeaderSize + std::uint64_t{header.length})
    return fail(Code::corrupt,
                fmt::format("{} bytes, its header says {}: it was cut off or damaged", size,
                            kBoxHeaderSize + std::uint64_t{header.length}));
  if (header.length < kTagSize + 4 || size > padme(box_size(kBoxPlainMax)))
    return fail(Code::corrupt,
                fmt::format("damaged: {} bytes are no size that a sealed object has", size));
  return {};
}

Transcript box_aad(const Place& place, std::string_view name, ByteSpan header) {
  Transcript aad(purpose::box);
  aad.field(header.first(kNonceAt)).field(place.account.span()).field(place.repository.span());
  aad.number(load_le<Epoch>(header.data() + kEpochAt)).text(name);
  aad.field(header.subspan(kLengthAt, 4));
  return aad;
}

Result<ByteSpan> box_content(ByteSpan plain) {
  const std::uint32_t length = load_le<std::uint32_t>(plain.data());
  const std::uint64_t padded = kBoxHeaderSize + kTagSize + plain.size();
  if (length > kBoxPlainMax || length > plain.size() - 4 || padme(box_size(length)) != padded)
    return fail(Code::corrupt,
                fmt::format("its content of {} bytes does not fit its size", length));
  const ByteSpan padding = plain.subspan(4 + std::size_t{length});
  if (std::ranges::any_of(padding, [](std::byte b) { return b != std::byte{0}; }))
    return fail(Code::corrupt, "its padding is not zeros");
  return plain.subspan(4, length);
}

Result<Bytes> open_parsed(const RepositoryKeys& keys, const BoxHeader& header, ObjectType type,
                          std::string_view name, ByteSpan sealed) {
  const auto epoch_key = keys.epoch_keys.find(header.epoch);
  if (epoch_key == keys.epoch_keys.end())
    return std::unexpected(unknown_epoch(
        keys, {kBoxVersion, header.suite, type, header.epoch, header.salt}, header.commitment));
  const ObjectKeys object =
      derive_object_keys(epoch_key->second.span(), keys.place,
                         {kBoxVersion, header.suite, type, header.epoch, header.salt});
  if (!equal_secret(object.commitment.span(), header.commitment))
    return fail(Code::corrupt,
                "key commitment does not match: sealed for another account or repository, or "
                "damaged");
  const Transcript aad = box_aad(keys.place, name, sealed.first(kBoxHeaderSize));
  Bytes plain(header.length - kTagSize);
  Aead aead(header.suite, object.key.span());
  if (!aead.open(header.nonce, aad.span(), sealed.subspan(kBoxHeaderSize), plain))
    return fail(Code::corrupt,
                "authentication tag does not hold: damaged, or an object that was stored under "
                "another name");
  const Result<ByteSpan> content = box_content(plain);
  Result<Bytes> out = content ? Result<Bytes>(Bytes(content->begin(), content->end()))
                              : Result<Bytes>(std::unexpected(content.error()));
  wipe(plain);
  return out;
}

}  // namespace

Secret repository_key(ByteSpan epoch_key, const Place& place, Epoch epoch,
                      const EntryHash& opened_by) {
  Transcript info(purpose::repository);
  info.field(place.account.span()).field(place.repository.span());
  info.number(epoch).field(opened_by.span());
  Secret out(kKeySize);
  hkdf_sha256(epoch_key, info.span(), out.bytes());
  return out;
}

ObjectKeys derive_object_keys(ByteSpan repository_key, const Place& place,
                              const ObjectKeyInput& input) {
  assert(input.salt.size() == kSaltSize);
  Transcript info(purpose::object);
  info.number(input.version).number(static_cast<std::uint8_t>(input.suite));
  info.number(static_cast<std::uint8_t>(input.type)).field(place.account.span());
  info.field(place.repository.span()).number(input.epoch).field(input.salt);
  // On the stack and wiped: guarded memory costs system calls, and this is done for every object.
  std::array<std::byte, 96> all;
  hkdf_sha256(repository_key, info.span(), all);
  const ByteSpan bytes = all;
  ObjectKeys out{Secret::copy_of(bytes.first(32)), Hash256::from(bytes.subspan(32, 32)),
                 Secret::copy_of(bytes.last(32))};
  wipe(all);
  return out;
}

Error unknown_epoch(const RepositoryKeys& keys, ObjectKeyInput input, ByteSpan commitment) {
  const Epoch named = input.epoch;
  for (const auto& [epoch, key] : keys.epoch_keys) {
    input.epoch = epoch;
    if (equal_secret(derive_object_keys(key.span(), keys.place, input).commitment.span(),
                     commitment))
      return {Code::corrupt,
              fmt::format("its header says epoch {}, and it was sealed under {}: damaged", named,
                          epoch)};
  }
  return {
      Code::denied,
      fmt::format("sealed under epoch {}, for which this device has no key (newest that it has: "
                  "{}). Another device may have opened it just now: run the command again. Or "
                  "its header is damaged",
                  named, keys.newest)};
}

std::array<std::byte, kNonceSize> derive_nonce(HmacSha256& nonce_key, std::uint32_t number,
                                               ByteSpan aad, ByteSpan digest) {
  const Transcript input = Transcript(purpose::nonce).number(number).field(aad).field(digest);
  const Hash256 tag = nonce_key.tag({}, input.span());
  std::array<std::byte, kNonceSize> nonce;
  std::memcpy(nonce.data(), tag.bytes.data(), kNonceSize);
  return nonce;
}

Bytes seal_box(const RepositoryKeys& keys, ObjectType type, std::string_view name, ByteSpan plain,
               Random& random) {
  assert(plain.size() <= kBoxPlainMax && keys.epoch_keys.contains(keys.newest));
  std::array<std::byte, kSaltSize> salt;
  random.fill(salt);
  const ObjectKeys object = derive_object_keys(keys.epoch_keys.at(keys.newest).span(), keys.place,
                                               {kBoxVersion, keys.suite, type, keys.newest, salt});
  Bytes out;
  const std::uint64_t size = padme(box_size(plain.size()));
  out.reserve(size);
  Writer w(out);
  w.raw(as_bytes(kBoxMagic));
  w.u8(static_cast<std::uint8_t>(keys.suite));
  w.u8(static_cast<std::uint8_t>(type));
  w.u16(0);
  w.u32(keys.newest);
  w.raw(salt);
  w.raw(object.commitment.span());
  w.zeros(kNonceSize);
  w.u32(static_cast<std::uint32_t>(size - kBoxHeaderSize));
  w.u32(static_cast<std::uint32_t>(plain.size()));
  w.raw(plain);
  w.zeros(size - out.size());

  const MutableByteSpan body = MutableByteSpan(out).subspan(kBoxHeaderSize);
  const ByteSpan padded = body.first(body.size() - kTagSize);
  const Transcript aad = box_aad(keys.place, name, ByteSpan(out).first(kBoxHeaderSize));
  HmacSha256 nonce_key(object.nonce_key.span());
  const auto nonce = derive_nonce(nonce_key, 0, aad.span(), sha256(padded).span());
  std::memcpy(out.data() + kNonceAt, nonce.data(), nonce.size());
  Aead(keys.suite, object.key.span()).seal(nonce, aad.span(), padded, body);
  return out;
}

Result<Bytes> open_box(const RepositoryKeys& keys, ObjectType type, std::string_view name,
                       ByteSpan sealed) {
  const std::string shown = name.empty() ? "object" : escaped(name);
  const Result<BoxHeader> header = parse_header(type, sealed);
  if (!header) return wrap(header.error(), shown);
  if (const Result<> fits = check_length(*header, sealed.size()); !fits)
    return wrap(fits.error(), shown);
  Result<Bytes> out = open_parsed(keys, *header, type, name, sealed);
  if (!out) return wrap(std::move(out).error(), shown);
  return out;
}

std::uint64_t padme(std::uint64_t length) {
  if (length < 2) return length;
  const auto exponent = static_cast<unsigned>(std::bit_width(length)) - 1;
  const auto exponent_bits = static_cast<unsigned>(std::bit_width(exponent));
  const unsigned low_bits = exponent - exponent_bits;
  const std::uint64_t mask = (std::uint64_t{1} << low_bits) - 1;
  return (length + mask) & ~mask;
}

}  // namespace holdfast
