// SPDX-License-Identifier: Apache-2.0
// Ed25519 (RFC 8032) over libsodium. Every signature is over a Transcript, so one made for a
// purpose never serves another.
#pragma once

#include "base/id.h"
#include "crypto/transcript.h"

namespace holdfast {

using SignPublicKey = Id<struct SignPublicTag>;
using Signature = Id<struct SignatureTag, 64>;

// What signs: a device's key in memory, later a token. Implemented in seal/ where the secret lives.
class Signer {
 public:
  Signer() = default;
  Signer(const Signer&) = delete;
  Signer& operator=(const Signer&) = delete;
  virtual ~Signer() = default;
  [[nodiscard]] virtual SignPublicKey public_key() const = 0;
  [[nodiscard]] virtual Signature sign(const Transcript& message) const = 0;
};

// Refuses small-order and non-canonical keys and signatures (as libsodium does).
[[nodiscard]] bool verify(const SignPublicKey& key, const Transcript& message,
                          const Signature& signature);

// Starts libsodium; aborts if it cannot. Called once, first thing in main and in each test's main.
void start_crypto();

}  // namespace holdfast
