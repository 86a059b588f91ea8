// SPDX-License-Identifier: Apache-2.0
#include "seal/x25519.h"

#include <fmt/format.h>
#include <sodium.h>

#include <cassert>

#include "crypto/must.h"

namespace holdfast {

X25519Key::X25519Key(Secret secret) : secret_(std::move(secret)) {
  assert(secret_.size() == crypto_scalarmult_curve25519_SCALARBYTES);
  crypto_must(crypto_scalarmult_curve25519_base(uchars(MutableByteSpan(public_.bytes)),
                                                uchars(secret_.span())) == 0,
              "X25519");
}

Result<Secret> X25519Key::shared(const X25519PublicKey& other) const {
  Secret out(crypto_scalarmult_curve25519_BYTES);
  const int refused = crypto_scalarmult_curve25519(uchars(out.bytes()), uchars(secret_.span()),
                                                   uchars(other.span()));
  if (refused != 0 || sodium_is_zero(uchars(out.span()), out.size()) == 1)
    return fail(Code::corrupt,
                fmt::format("X25519 public key {}: of small order, no key that a device can have",
                            other.hex()));
  return out;
}

}  // namespace holdfast
