// SPDX-License-Identifier: Apache-2.0
#include "crypto/sign.h"

#include <sodium.h>

#include "crypto/must.h"

namespace holdfast {

static_assert(SignPublicKey::size == crypto_sign_ed25519_PUBLICKEYBYTES);
static_assert(Signature::size == crypto_sign_ed25519_BYTES);

bool verify(const SignPublicKey& key, const Transcript& message, const Signature& signature) {
  const ByteSpan bytes = message.span();
  return crypto_sign_ed25519_verify_detached(uchars(signature.span()), uchars(bytes), bytes.size(),
                                             uchars(key.span())) == 0;
}

void start_crypto() { crypto_must(sodium_init() >= 0, "sodium_init"); }

}  // namespace holdfast
