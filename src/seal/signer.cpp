// SPDX-License-Identifier: Apache-2.0
#include "seal/signer.h"

#include <sodium.h>

#include "crypto/must.h"

namespace holdfast {

DeviceSigner::DeviceSigner(ByteSpan seed) : key_(crypto_sign_ed25519_SECRETKEYBYTES) {
  assert(seed.size() == crypto_sign_ed25519_SEEDBYTES);
  crypto_must(crypto_sign_ed25519_seed_keypair(uchars(MutableByteSpan(public_.bytes)),
                                               uchars(key_.bytes()), uchars(seed)) == 0,
              "Ed25519 key");
}

Signature DeviceSigner::sign(const Transcript& message) const {
  Signature out;
  const ByteSpan bytes = message.span();
  crypto_must(crypto_sign_ed25519_detached(uchars(MutableByteSpan(out.bytes)), nullptr,
                                           uchars(bytes), bytes.size(), uchars(key_.span())) == 0,
              "Ed25519 signature");
  return out;
}

}  // namespace holdfast
