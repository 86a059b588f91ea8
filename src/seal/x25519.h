// SPDX-License-Identifier: Apache-2.0
// X25519 (RFC 7748) over libsodium.
#pragma once

#include "base/id.h"
#include "seal/secret.h"

namespace holdfast {

using X25519PublicKey = Id<struct X25519PublicTag>;

// A key pair from its 32 secret bytes (clamped by the function itself, so any 32 bytes will do).
class X25519Key {
 public:
  explicit X25519Key(Secret secret);
  [[nodiscard]] const X25519PublicKey& public_key() const { return public_; }
  [[nodiscard]] ByteSpan secret() const { return secret_.span(); }
  // Code::corrupt: `other` is a key of small order, which would make the secret known to everyone.
  // The raw output is not uniform: give it to a KDF together with both public keys.
  [[nodiscard]] Result<Secret> shared(const X25519PublicKey& other) const;

 private:
  Secret secret_;
  X25519PublicKey public_;
};

}  // namespace holdfast
