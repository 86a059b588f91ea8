// SPDX-License-Identifier: Apache-2.0
#include "crypto/hash.h"

#include <openssl/core_names.h>
#include <openssl/crypto.h>
#include <openssl/evp.h>
#include <openssl/kdf.h>
#include <openssl/params.h>
#include <sodium.h>

#include <array>
#include <cassert>

#include "crypto/must.h"

namespace holdfast {
namespace {

constexpr std::size_t kBlockSize = 64;  // of SHA-256

// Fetched once and kept for the life of the process: a fetch takes locks and walks the providers.
const EVP_MD* sha256_algorithm() {
  static const EVP_MD* const algorithm = EVP_MD_fetch(nullptr, "SHA256", nullptr);
  crypto_must(algorithm != nullptr, "fetching SHA-256");
  return algorithm;
}

EVP_KDF* hkdf_algorithm() {
  static EVP_KDF* const algorithm = EVP_KDF_fetch(nullptr, "HKDF", nullptr);
  crypto_must(algorithm != nullptr, "fetching HKDF");
  return algorithm;
}

struct ContextFree {
  void operator()(EVP_MD_CTX* context) const { EVP_MD_CTX_free(context); }
};
using Context = std::unique_ptr<EVP_MD_CTX, ContextFree>;

Context new_context() {
  Context context(EVP_MD_CTX_new());
  crypto_must(context != nullptr, "EVP_MD_CTX_new");
  return context;
}

void start(EVP_MD_CTX* context) {
  crypto_must(EVP_DigestInit_ex2(context, sha256_algorithm(), nullptr) == 1, "EVP_DigestInit");
}

void absorb(EVP_MD_CTX* context, ByteSpan bytes) {
  if (bytes.empty()) return;
  crypto_must(EVP_DigestUpdate(context, bytes.data(), bytes.size()) == 1, "EVP_DigestUpdate");
}

Hash256 finish(EVP_MD_CTX* context) {
  Hash256 out;
  crypto_must(EVP_DigestFinal_ex(context, uchars(MutableByteSpan(out.bytes)), nullptr) == 1,
              "EVP_DigestFinal");
  return out;
}

void copy(EVP_MD_CTX* to, const EVP_MD_CTX* from) {
  crypto_must(EVP_MD_CTX_copy_ex(to, from) == 1, "EVP_MD_CTX_copy");
}

}  // namespace

struct Sha256::Impl {
  Context context = new_context();
};

Sha256::Sha256() : impl_(std::make_unique<Impl>()) { start(impl_->context.get()); }
Sha256::~Sha256() = default;
Sha256::Sha256(Sha256&&) noexcept = default;
Sha256& Sha256::operator=(Sha256&&) noexcept = default;

void Sha256::update(ByteSpan bytes) { absorb(impl_->context.get(), bytes); }

Hash256 Sha256::finish() {
  const Hash256 out = holdfast::finish(impl_->context.get());
  start(impl_->context.get());
  return out;
}

Hash256 sha256(ByteSpan bytes) {
  Sha256 hash;
  hash.update(bytes);
  return hash.finish();
}

std::string content_md5(ByteSpan bytes) {
  std::array<unsigned char, EVP_MAX_MD_SIZE> digest{};
  unsigned size = 0;
  crypto_must(EVP_Digest(bytes.data(), bytes.size(), digest.data(), &size, EVP_md5(), nullptr) == 1,
              "MD5");
  std::array<unsigned char, 32> text{};  // 16 bytes are 24 characters, and a zero
  const int length = EVP_EncodeBlock(text.data(), digest.data(), static_cast<int>(size));
  return {text.begin(), text.begin() + length};
}

// RFC 2104 over two states that have absorbed the padded key, so that a call for a short message
// costs its own blocks and no more.
struct HmacSha256::Impl {
  Context inner = new_context();
  Context outer = new_context();
  Context work = new_context();

  void key_state(EVP_MD_CTX* state, std::span<const std::byte, kBlockSize> key, std::byte pad) {
    std::array<std::byte, kBlockSize> block;
    for (std::size_t i = 0; i < kBlockSize; ++i) block[i] = key[i] ^ pad;
    start(state);
    absorb(state, block);
    OPENSSL_cleanse(block.data(), block.size());
  }
};

HmacSha256::HmacSha256(ByteSpan key) : impl_(std::make_unique<Impl>()) {
  std::array<std::byte, kBlockSize> padded{};
  if (key.size() > kBlockSize) {
    Hash256 hashed = sha256(key);
    std::memcpy(padded.data(), hashed.bytes.data(), hashed.bytes.size());
    OPENSSL_cleanse(hashed.bytes.data(), hashed.bytes.size());
  } else if (!key.empty()) {
    std::memcpy(padded.data(), key.data(), key.size());
  }
  impl_->key_state(impl_->inner.get(), padded, std::byte{0x36});
  impl_->key_state(impl_->outer.get(), padded, std::byte{0x5C});
  OPENSSL_cleanse(padded.data(), padded.size());
}
HmacSha256::~HmacSha256() = default;
HmacSha256::HmacSha256(HmacSha256&&) noexcept = default;
HmacSha256& HmacSha256::operator=(HmacSha256&&) noexcept = default;
HmacSha256::HmacSha256(const HmacSha256& other) : impl_(std::make_unique<Impl>()) {
  copy(impl_->inner.get(), other.impl_->inner.get());
  copy(impl_->outer.get(), other.impl_->outer.get());
}

Hash256 HmacSha256::tag(ByteSpan prefix, ByteSpan message) {
  EVP_MD_CTX* const work = impl_->work.get();
  copy(work, impl_->inner.get());
  absorb(work, prefix);
  absorb(work, message);
  const Hash256 digest = finish(work);
  copy(work, impl_->outer.get());
  absorb(work, digest.bytes);
  return finish(work);
}

void hkdf_sha256(ByteSpan key, ByteSpan info, MutableByteSpan out) {
  // OpenSSL takes at most 1024 bytes of info, RFC 5869 gives at most 255 blocks.
  assert(!key.empty() && info.size() <= 1024 && !out.empty() &&
         out.size() <= std::size_t{255} * 32);
  EVP_KDF_CTX* const context = EVP_KDF_CTX_new(hkdf_algorithm());
  crypto_must(context != nullptr, "EVP_KDF_CTX_new");
  char digest[] = "SHA256";
  // OpenSSL's parameters are not const, though these are only read.
  auto* const key_bytes = const_cast<std::byte*>(key.data());
  auto* const info_bytes = const_cast<std::byte*>(info.data());
  const OSSL_PARAM parameters[] = {
      OSSL_PARAM_construct_utf8_string(OSSL_KDF_PARAM_DIGEST, digest, 0),
      OSSL_PARAM_construct_octet_string(OSSL_KDF_PARAM_KEY, key_bytes, key.size()),
      OSSL_PARAM_construct_octet_string(OSSL_KDF_PARAM_INFO, info_bytes, info.size()),
      OSSL_PARAM_construct_end()};
  const int ok = EVP_KDF_derive(context, uchars(out), out.size(), parameters);
  EVP_KDF_CTX_free(context);
  crypto_must(ok == 1, "HKDF");
}

std::uint64_t siphash(ByteSpan key, ByteSpan message) {
  static_assert(crypto_shorthash_siphash24_KEYBYTES == 16 && crypto_shorthash_siphash24_BYTES == 8);
  assert(key.size() == crypto_shorthash_siphash24_KEYBYTES);
  std::array<std::byte, 8> out;
  crypto_shorthash_siphash24(uchars(MutableByteSpan(out)), uchars(message), message.size(),
                             uchars(key));
  return load_le<std::uint64_t>(out.data());
}

bool equal_secret(ByteSpan a, ByteSpan b) {
  return a.size() == b.size() && (a.empty() || CRYPTO_memcmp(a.data(), b.data(), a.size()) == 0);
}

}  // namespace holdfast
