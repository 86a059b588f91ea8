// SPDX-License-Identifier: Apache-2.0
#include "seal/aead.h"

#include <openssl/evp.h>

#include <cassert>
#include <climits>

#if defined(__aarch64__)
#include <asm/hwcap.h>
#include <sys/auxv.h>
#endif

#include "crypto/must.h"

namespace holdfast {
namespace {

// Fetched once: a fetch takes locks and walks the providers.
const EVP_CIPHER* algorithm(Suite suite) {
  static const EVP_CIPHER* const gcm = EVP_CIPHER_fetch(nullptr, "AES-256-GCM", nullptr);
  static const EVP_CIPHER* const chacha = EVP_CIPHER_fetch(nullptr, "ChaCha20-Poly1305", nullptr);
  const EVP_CIPHER* const found = suite == Suite::aes_256_gcm ? gcm : chacha;
  crypto_must(found != nullptr, "fetching the cipher");
  return found;
}

struct ContextFree {
  void operator()(EVP_CIPHER_CTX* context) const { EVP_CIPHER_CTX_free(context); }
};

}  // namespace

struct Aead::Impl {
  std::unique_ptr<EVP_CIPHER_CTX, ContextFree> context{EVP_CIPHER_CTX_new()};

  // The key stays from the constructor; only nonce and direction are new.
  void begin(ByteSpan nonce, ByteSpan aad, bool sealing) {
    assert(nonce.size() == kNonceSize && aad.size() <= INT_MAX);
    crypto_must(EVP_CipherInit_ex2(context.get(), nullptr, nullptr, uchars(nonce), sealing ? 1 : 0,
                                   nullptr) == 1,
                "setting the nonce");
    int done = 0;
    if (aad.empty()) return;
    crypto_must(EVP_CipherUpdate(context.get(), nullptr, &done, uchars(aad),
                                 static_cast<int>(aad.size())) == 1,
                "EVP_CipherUpdate");
  }
  void transform(ByteSpan in, std::byte* out) {
    assert(in.size() <= INT_MAX);
    int done = 0;
    if (in.empty()) return;
    const int ok = EVP_CipherUpdate(context.get(), reinterpret_cast<unsigned char*>(out), &done,
                                    uchars(in), static_cast<int>(in.size()));
    crypto_must(ok == 1 && static_cast<std::size_t>(done) == in.size(), "EVP_CipherUpdate");
  }
  bool end() {
    unsigned char rest[kTagSize];  // neither cipher gives any
    int done = 0;
    return EVP_CipherFinal_ex(context.get(), rest, &done) == 1;
  }
};

Aead::Aead(Suite suite, ByteSpan key) : impl_(std::make_unique<Impl>()) {
  assert(key.size() == kKeySize);
  crypto_must(impl_->context != nullptr, "EVP_CIPHER_CTX_new");
  crypto_must(EVP_CipherInit_ex2(impl_->context.get(), algorithm(suite), uchars(key), nullptr, 1,
                                 nullptr) == 1,
              "setting the key");
}
Aead::~Aead() = default;
Aead::Aead(Aead&&) noexcept = default;
Aead& Aead::operator=(Aead&&) noexcept = default;

void Aead::seal(ByteSpan nonce, ByteSpan aad, ByteSpan plain, MutableByteSpan out) {
  assert(out.size() == plain.size() + kTagSize);
  impl_->begin(nonce, aad, true);
  impl_->transform(plain, out.data());
  crypto_must(impl_->end(), "sealing");
  crypto_must(EVP_CIPHER_CTX_ctrl(impl_->context.get(), EVP_CTRL_AEAD_GET_TAG, kTagSize,
                                  out.data() + plain.size()) == 1,
              "taking the tag");
}

Result<> Aead::open(ByteSpan nonce, ByteSpan aad, ByteSpan sealed, MutableByteSpan out) {
  if (sealed.size() < kTagSize)
    return fail(Code::corrupt, "shorter than its authentication tag: it was cut off");
  assert(out.size() == sealed.size() - kTagSize);
  std::array<std::byte, kTagSize> tag;  // before `out`, which may lie over it, is written
  std::memcpy(tag.data(), sealed.data() + out.size(), kTagSize);
  impl_->begin(nonce, aad, false);
  crypto_must(
      EVP_CIPHER_CTX_ctrl(impl_->context.get(), EVP_CTRL_AEAD_SET_TAG, kTagSize, tag.data()) == 1,
      "setting the tag");
  impl_->transform(sealed.first(out.size()), out.data());
  if (impl_->end()) return {};
  wipe(out);
  return fail(Code::corrupt, "authentication tag does not hold: damaged or not what it claims");
}

Suite preferred_suite() {
#if defined(__x86_64__) || defined(__i386__)
  const bool aes = __builtin_cpu_supports("aes") && __builtin_cpu_supports("pclmul");
#elif defined(__aarch64__)
  const unsigned long have = getauxval(AT_HWCAP);
  const bool aes = (have & HWCAP_AES) != 0 && (have & HWCAP_PMULL) != 0;
#elif defined(__s390x__)
  const bool aes = true;  // CPACF, in every machine that runs a present Linux
#else
  const bool aes = false;
#endif
  return aes ? Suite::aes_256_gcm : Suite::chacha20_poly1305;
}

}  // namespace holdfast
