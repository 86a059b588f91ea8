// SPDX-License-Identifier: Apache-2.0
// What the ways to compute cuts share: the keyed state, and one table of functions a way. Internal
// to the chunker and its tests.
//
// Plain types only: the vector code is compiled with instructions that not every CPU has, and an
// inline function of a common header, instantiated there, could be the copy that the linker keeps.
#pragma once

#include <cstddef>
#include <cstdint>

// For loops over a few registers: at -O2, g++ would keep them as arrays in memory.
#define HF_UNROLL _Pragma("GCC unroll 16")

namespace holdfast::chunking {

inline constexpr std::size_t kWindow = 64;
inline constexpr std::size_t kRounds = 10;  // AES-128

// Everything here is secret.
struct State {
  // h * x^8 = (h << 8) + carry[top byte of h]; a byte that leaves the window has weight x^512.
  alignas(64) std::uint64_t carry[256];
  alignas(64) std::uint64_t leave[256];
  // The same two maps as 8x8 bit matrices for GF2P8AFFINEQB, one for each byte of the result.
  std::uint64_t carry_matrix[8];
  std::uint64_t leave_matrix[8];
  alignas(16) std::uint8_t prf_key[16];
  alignas(16) std::uint8_t round_keys[kRounds + 1][16];
  std::uint64_t mask;     // a cut when the first 64 bits of the block have none of these
  const void* evp_proto;  // portable only: a keyed EVP_CIPHER_CTX, copied for each scan
};

// Looks at `count` windows, of which the first ends with at[0]; at[-64] to at[count - 1] are
// readable. Gives the place of the first cut, or `count`.
using Scan = std::size_t (*)(const State& state, const std::uint8_t* at, std::size_t count);

struct Path {
  bool (*available)();
  void (*expand)(const std::uint8_t key[16], std::uint8_t round_keys[kRounds + 1][16]);
  Scan scan;
  // The block function that `scan` uses, for its known-answer test.
  void (*encrypt)(const State& state, const std::uint8_t in[16], std::uint8_t out[16]);
};

extern const Path portable_path;
#if defined(__x86_64__)
extern const Path aesni_path, vaes256_path, vaes512_path;
#elif defined(__aarch64__)
extern const Path arm_aes_path;
#endif

// Digests of `count` windows by tables, four at a time to hide latency. Same contract as Scan.
void roll(const State& state, const std::uint8_t* at, std::size_t count, std::uint64_t* digests);

// Positions that are hashed at once where digests are kept in a buffer: little is done in vain
// behind a cut, and the buffer stays in the first cache.
inline constexpr std::size_t kBatch = 2048;

// The polynomial f = x^64 + low, the tables and the key of the PRF.
void set_hash(State& state, std::uint64_t low);
// Ben-Or's test of x^64 + low over GF(2).
bool irreducible(std::uint64_t low);

}  // namespace holdfast::chunking
