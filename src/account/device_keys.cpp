// SPDX-License-Identifier: Apache-2.0
#include "account/device_keys.h"

#include <algorithm>

#include "chain/chain.h"
#include "crypto/hash.h"
#include "crypto/purposes.h"
#include "crypto/transcript.h"
#include "seal/aead.h"

namespace holdfast {
namespace {

constexpr std::string_view kMagic = "HFKEYS01";
constexpr std::size_t kHeaderSize = 60, kCheckedSize = 52, kCheckSize = 8;
constexpr std::size_t kFixedPayload = 32 + 16 + 3 * 32;
enum class Form : std::uint8_t { plain = 0, passphrase = 1 };
// The file's key comes from a salt of its own and seals once.
constexpr std::array<std::byte, kNonceSize> kNonce{};
constexpr std::size_t kPlainTail = 32;

// One text for every byte that was changed, and for a wrong passphrase: it tells nothing more.
std::unexpected<Error> not_open() {
  return fail(Code::denied,
              "key file (keys/device): the passphrase is wrong, or the file was changed. Try the "
              "passphrase again; else put the file back from a copy, or make a new home with "
              "`holdfast recover`");
}

struct Header {
  Form form = Form::plain;
  PassphraseParameters parameters;
  std::uint32_t length = 0;  // of what follows
};

std::array<std::byte, kCheckSize> check_of(ByteSpan checked) {
  std::array<std::byte, kCheckSize> out;
  const Hash256 hash = sha256(Transcript(purpose::home_header).field(checked).span());
  std::ranges::copy(hash.span().first(kCheckSize), out.begin());
  return out;
}

Bytes encode_header(const Header& header) {
  Bytes out;
  Writer w(out);
  w.raw(as_bytes(kMagic));
  w.u8(static_cast<std::uint8_t>(header.form));
  w.u8(static_cast<std::uint8_t>(Suite::chacha20_poly1305));
  w.zeros(6);
  w.u64(header.parameters.passes);
  w.u64(header.parameters.memory_bytes);
  w.raw(header.parameters.salt);
  w.u32(header.length);
  assert(out.size() == kCheckedSize);
  const auto check = check_of(out);
  w.raw(check);
  return out;
}

bool is_zero(ByteSpan bytes) {
  return std::ranges::all_of(bytes, [](std::byte b) { return b == std::byte{0}; });
}

// The check is no secret: it tells a damaged header from one that somebody made.
Result<Header> read_header(ByteSpan file) {
  if (file.size() < kHeaderSize || file.size() > kKeyFileMax) return not_open();
  const auto check = check_of(file.first(kCheckedSize));
  if (!std::ranges::equal(check, file.subspan(kCheckedSize, kCheckSize))) return not_open();
  if (as_text(file.first(kMagic.size())) != kMagic)
    return fail(Code::denied,
                "key file (keys/device): its version is unknown to this version; update holdfast");
  Header header;
  Reader in(file.first(kCheckedSize));
  in.take(kMagic.size());
  const std::uint8_t form = in.u8();
  const std::uint8_t suite = in.u8();
  const ByteSpan zero = in.take(6);
  header.parameters.passes = in.u64();
  header.parameters.memory_bytes = in.u64();
  std::ranges::copy(in.take(16), header.parameters.salt.begin());
  header.length = in.u32();
  if (form > 1 || suite != static_cast<std::uint8_t>(Suite::chacha20_poly1305) || !is_zero(zero) ||
      header.length != file.size() - kHeaderSize)
    return not_open();
  header.form = static_cast<Form>(form);
  const bool parameters = !is_zero(file.subspan(16, 32));
  if (header.form == Form::plain && parameters) return not_open();
  return header;
}

class SecretWriter {
 public:
  explicit SecretWriter(MutableByteSpan out) : out_(out) {}
  void raw(ByteSpan bytes) {
    assert(bytes.size() <= out_.size());
    std::ranges::copy(bytes, out_.begin());
    out_ = out_.subspan(bytes.size());
  }

 private:
  MutableByteSpan out_;
};

std::size_t payload_size(const DeviceKeys& keys) { return kFixedPayload + 1 + keys.name.size(); }

void write_payload(const DeviceKeys& keys, MutableByteSpan out) {
  assert(!keys.name.empty() && keys.name.size() <= kDeviceNameMax);
  SecretWriter w(out);
  w.raw(keys.account.span());
  w.raw(keys.id.span());
  w.raw(keys.sign_seed.span());
  w.raw(keys.open_secret.span());
  w.raw(keys.start_secret.span());
  const std::byte length{static_cast<std::uint8_t>(keys.name.size())};
  w.raw({&length, 1});
  w.raw(as_bytes(keys.name));
}

Result<DeviceKeys> read_payload(ByteSpan payload) {
  Reader in(payload);
  DeviceKeys keys;
  keys.account = AccountId::from(in.take(32));
  keys.id = DeviceId::from(in.take(16));
  keys.sign_seed = Secret::copy_of(in.take(32));
  keys.open_secret = Secret::copy_of(in.take(32));
  keys.start_secret = Secret::copy_of(in.take(32));
  const std::uint8_t length = in.u8();
  keys.name = as_text(in.take(length));
  if (!in.at_end() || length == 0) return not_open();
  if (device_id(keys.signer().public_key(), keys.opener().public_key()) != keys.id)
    return not_open();
  return keys;
}

Hash256 plain_check(ByteSpan header, ByteSpan payload) {
  return sha256(Transcript(purpose::home_plain).field(header).field(payload).span());
}

Result<DeviceKeys> open_plain(ByteSpan file) {
  const ByteSpan body = file.subspan(kHeaderSize);
  if (body.size() < kPlainTail) return not_open();
  const ByteSpan payload = body.first(body.size() - kPlainTail);
  const Hash256 check = plain_check(file.first(kHeaderSize), payload);
  if (!equal_secret(check.span(), body.last(kPlainTail))) return not_open();
  return read_payload(payload);
}

Bytes header_aad(ByteSpan header) {
  const Transcript t = Transcript(purpose::home_seal).field(header);
  return {t.span().begin(), t.span().end()};
}

Result<DeviceKeys> open_sealed(ByteSpan file, const Header& header, std::string_view passphrase) {
  const ByteSpan body = file.subspan(kHeaderSize);
  if (body.size() < kTagSize) return not_open();
  HF_ASSIGN(const Secret key, passphrase_key(passphrase, header.parameters));
  Secret payload(body.size() - kTagSize);
  Aead aead(Suite::chacha20_poly1305, key.span());
  if (!aead.open(kNonce, header_aad(file.first(kHeaderSize)), body, payload.bytes()))
    return not_open();
  return read_payload(payload.span());
}

}  // namespace

Secret plain_key_file(const DeviceKeys& keys) {
  const std::size_t size = payload_size(keys);
  const Bytes header =
      encode_header({Form::plain, {}, static_cast<std::uint32_t>(size + kPlainTail)});
  Secret out(header.size() + size + kPlainTail);
  std::ranges::copy(header, out.bytes().begin());
  const MutableByteSpan payload = out.bytes().subspan(header.size(), size);
  write_payload(keys, payload);
  std::ranges::copy(plain_check(header, payload).span(), out.bytes().last(kPlainTail).begin());
  return out;
}

Result<Bytes> sealed_key_file(const DeviceKeys& keys, std::string_view passphrase,
                              const PassphraseParameters& parameters) {
  HF_ASSIGN(const Secret key, passphrase_key(passphrase, parameters));
  Secret payload(payload_size(keys));
  write_payload(keys, payload.bytes());
  const auto length = static_cast<std::uint32_t>(payload.size() + kTagSize);
  Bytes out = encode_header({Form::passphrase, parameters, length});
  const Bytes aad = header_aad(out);
  out.resize(kHeaderSize + length);
  Aead(Suite::chacha20_poly1305, key.span())
      .seal(kNonce, aad, payload.span(), MutableByteSpan(out).subspan(kHeaderSize));
  return out;
}

bool key_file_needs_passphrase(ByteSpan file) {
  const auto header = read_header(file);
  return header && header->form == Form::passphrase;
}

Result<DeviceKeys> open_key_file(ByteSpan file, std::optional<std::string_view> passphrase) {
  HF_ASSIGN(const Header header, read_header(file));
  if (header.form == Form::plain) return open_plain(file);
  if (!passphrase)
    return fail(Code::denied,
                "key file (keys/device): it is sealed under a passphrase; give it with "
                "--passphrase-file, HOLDFAST_PASSPHRASE_FILE or HOLDFAST_PASSPHRASE_COMMAND");
  return open_sealed(file, header, *passphrase);
}

}  // namespace holdfast
