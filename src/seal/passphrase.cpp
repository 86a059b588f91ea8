// SPDX-License-Identifier: Apache-2.0
#include "seal/passphrase.h"

#include <fmt/format.h>
#include <sodium.h>

#include "seal/aead.h"

namespace holdfast {

static_assert(kPassesMin >= crypto_pwhash_argon2id_OPSLIMIT_MIN);
static_assert(kMemoryMin >= crypto_pwhash_argon2id_MEMLIMIT_MIN);
static_assert(crypto_pwhash_argon2id_SALTBYTES == 16);

PassphraseParameters new_passphrase_parameters(Random& random) {
  PassphraseParameters out{kPassesDefault, kMemoryDefault, {}};
  random.fill(out.salt);
  return out;
}

Result<> check_passphrase_parameters(const PassphraseParameters& parameters) {
  const auto refuse = [](std::string_view name, std::uint64_t value, std::uint64_t min,
                         std::uint64_t max) {
    return fail(Code::invalid,
                fmt::format("Argon2id parameter '{}' is {}: expected {} to {}; the file was "
                            "tampered with or written by another program: do not enter the "
                            "passphrase, restore the file from a copy that you trust",
                            name, value, min, max));
  };
  if (parameters.passes < kPassesMin || parameters.passes > kPassesMax)
    return refuse("passes", parameters.passes, kPassesMin, kPassesMax);
  if (parameters.memory_bytes < kMemoryMin || parameters.memory_bytes > kMemoryMax)
    return refuse("memory", parameters.memory_bytes, kMemoryMin, kMemoryMax);
  return {};
}

Result<Secret> passphrase_key(std::string_view passphrase, const PassphraseParameters& parameters) {
  HF_TRY(check_passphrase_parameters(parameters));
  if (passphrase.empty() || passphrase.size() > kPassphraseMax)
    return fail(Code::invalid, fmt::format("passphrase: {} bytes, expected 1 to {}",
                                           passphrase.size(), kPassphraseMax));
  Secret out(kKeySize);
  const int failed = crypto_pwhash_argon2id(
      uchars(out.bytes()), out.size(), passphrase.data(), passphrase.size(),
      uchars(ByteSpan(parameters.salt)), parameters.passes,
      static_cast<std::size_t>(parameters.memory_bytes), crypto_pwhash_argon2id_ALG_ARGON2ID13);
  if (failed != 0)
    return fail(Code::full, fmt::format("Argon2id needs {} MiB of memory, which this machine does "
                                        "not give: close other programs and try again",
                                        parameters.memory_bytes >> 20));
  return out;
}

}  // namespace holdfast
