// SPDX-License-Identifier: Apache-2.0
#pragma once

#include "crypto/sign.h"
#include "seal/secret.h"

namespace holdfast {

// Ed25519 from a seed of 32 bytes, which is the device's (or the paper key's) secret.
class DeviceSigner : public Signer {
 public:
  explicit DeviceSigner(ByteSpan seed);
  [[nodiscard]] SignPublicKey public_key() const override { return public_; }
  [[nodiscard]] Signature sign(const Transcript& message) const override;

 private:
  Secret key_;  // seed and public key, as libsodium wants them
  SignPublicKey public_;
};

}  // namespace holdfast
