// SPDX-License-Identifier: Apache-2.0
// AES-256-GCM (SP 800-38D) and ChaCha20-Poly1305 (RFC 8439) over OpenSSL; the context is keyed once
// and reused.
#pragma once

#include <memory>

#include "seal/secret.h"

namespace holdfast {

enum class Suite : std::uint8_t { aes_256_gcm = 1, chacha20_poly1305 = 2 };
inline constexpr std::size_t kKeySize = 32, kNonceSize = 12, kTagSize = 16;
// AES-256-GCM where the CPU has AES instructions, else ChaCha20-Poly1305.
Suite preferred_suite();

class Aead {
 public:
  Aead(Suite suite, ByteSpan key);  // key: 32 bytes
  ~Aead();
  Aead(Aead&&) noexcept;
  Aead& operator=(Aead&&) noexcept;
  // out.size() == plain.size() + kTagSize; may start where `plain` does.
  void seal(ByteSpan nonce, ByteSpan aad, ByteSpan plain, MutableByteSpan out);
  // out.size() == sealed.size() - kTagSize. Code::corrupt, and `out` is zeroed, when the tag does
  // not hold.
  [[nodiscard]] Result<> open(ByteSpan nonce, ByteSpan aad, ByteSpan sealed, MutableByteSpan out);

 private:
  struct Impl;
  std::unique_ptr<Impl> impl_;
};

}  // namespace holdfast
