// SPDX-License-Identifier: Apache-2.0
// A key from a passphrase: Argon2id 1.3 (RFC 9106) over libsodium, one lane.
#pragma once

#include "seal/secret.h"

namespace holdfast {

// Kept beside what the passphrase opens. They are input: held against the compiled limits before
// anything is computed, so that nobody who writes the file makes guessing cheap (ACC-07) or the
// device run out of memory.
struct PassphraseParameters {
  std::uint64_t passes = 0;
  std::uint64_t memory_bytes = 0;
  std::array<std::byte, 16> salt{};
};

// RFC 9106's second recommendation is 3 passes over 64 MiB: the floor.
inline constexpr std::uint64_t kPassesMin = 3, kPassesMax = 64;
inline constexpr std::uint64_t kMemoryMin = 64U << 20, kMemoryMax = 4ULL << 30;
inline constexpr std::uint64_t kPassesDefault = 3, kMemoryDefault = 256U << 20;
inline constexpr std::size_t kPassphraseMax = 1024;

PassphraseParameters new_passphrase_parameters(Random& random);

// Code::invalid names the parameter, its value and the limits.
Result<> check_passphrase_parameters(const PassphraseParameters& parameters);

// 32 bytes. Code::invalid: a parameter outside the limits, or a passphrase that is empty or longer
// than 1024 bytes. Code::full: the machine has not the memory.
Result<Secret> passphrase_key(std::string_view passphrase, const PassphraseParameters& parameters);

}  // namespace holdfast
