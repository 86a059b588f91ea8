// SPDX-License-Identifier: Apache-2.0
// The rolling hash: Rabin's fingerprint over GF(2), modulo a secret irreducible polynomial
// f = x^64 + low. A polynomial is a word, bit i for x^i; a byte is its bits likewise, and a window
// b1 .. b64 is b1 x^504 + .. + b63 x^8 + b64.
//
// Two different windows collide when f divides their difference, which has degree at most 511 and
// so at most 7 irreducible factors of degree 64, out of (2^64 - 2^32) / 64: with probability below
// 2^-55 over the key (Rabin 1981; Truong et al., ePrint 2025/558, for its use below a PRF).
//
// Timing: table entries are chosen by secret-dependent values, so a process that shares this CPU's
// caches might learn of f. Who sees a repository only does not.
#include <bit>

#include "repo/chunker_paths.h"

namespace holdfast::chunking {
namespace {

std::uint64_t times_x(std::uint64_t a, std::uint64_t low) {
  return (a << 1) ^ ((a >> 63) != 0 ? low : 0);
}

std::uint64_t multiply(std::uint64_t a, std::uint64_t b, std::uint64_t low) {
  std::uint64_t sum = 0;
  for (int bit = 63; bit >= 0; --bit) {
    sum = times_x(sum, low);
    if (((b >> bit) & 1) != 0) sum ^= a;
  }
  return sum;
}

int width(std::uint64_t a) { return static_cast<int>(std::bit_width(a)); }

// `a` modulo `b`, b not 0.
std::uint64_t remainder(std::uint64_t a, std::uint64_t b) {
  while (width(a) >= width(b)) a ^= b << (width(a) - width(b));
  return a;
}

// x^64 + low, modulo `b`, b not 0: b has degree at most 63, so nothing is lost at the top.
std::uint64_t remainder_of_f(std::uint64_t low, std::uint64_t b) {
  std::uint64_t power = 1;
  for (int i = 0; i < 64; ++i) power = remainder(power << 1, b);
  return power ^ remainder(low, b);
}

bool coprime_to_f(std::uint64_t a, std::uint64_t low) {
  if (a == 0) return false;
  std::uint64_t b = remainder_of_f(low, a);
  while (b != 0) {
    const std::uint64_t next = remainder(a, b);
    a = b;
    b = next;
  }
  return a == 1;
}

std::uint64_t matrix_for_byte(const std::uint64_t* table, int byte) {
  std::uint64_t matrix = 0;
  for (int in = 0; in < 8; ++in) {
    const std::uint64_t column = (table[1U << in] >> (8 * byte)) & 0xFF;
    for (int out = 0; out < 8; ++out) matrix |= ((column >> out) & 1) << (8 * (7 - out) + in);
  }
  return matrix;
}

}  // namespace

bool irreducible(std::uint64_t low) {
  if ((low & 1) == 0) return false;
  std::uint64_t power = 2;  // x^(2^i)
  for (int i = 1; i <= 32; ++i) {
    power = multiply(power, power, low);
    if (!coprime_to_f(power ^ 2, low)) return false;  // f has a factor of degree dividing i
  }
  return true;
}

void set_hash(State& state, std::uint64_t low) {
  std::uint64_t leaving = low;  // x^64
  for (int i = 64; i < 512; ++i) leaving = times_x(leaving, low);
  for (unsigned byte = 0; byte < 256; ++byte) {
    state.carry[byte] = multiply(low, byte, low);
    state.leave[byte] = multiply(leaving, byte, low);
  }
  for (int i = 0; i < 8; ++i) {
    state.carry_matrix[i] = matrix_for_byte(state.carry, i);
    state.leave_matrix[i] = matrix_for_byte(state.leave, i);
  }
}

void roll(const State& state, const std::uint8_t* at, std::size_t count, std::uint64_t* digests) {
  constexpr std::size_t lanes = 4;
  const std::size_t each = count / lanes;
  std::uint64_t h[lanes] = {};
  const auto push = [&](std::uint64_t digest, std::uint8_t in) {
    return ((digest << 8) | in) ^ state.carry[digest >> 56];
  };
  for (std::size_t back = kWindow; back > 0; --back) {
    HF_UNROLL
    for (std::size_t l = 0; l < lanes; ++l) h[l] = push(h[l], *(at + l * each - back));
  }
  const auto step = [&](std::size_t lane, std::size_t i) {
    h[lane] = push(h[lane], at[i]) ^ state.leave[*(at + i - kWindow)];
    digests[i] = h[lane];
  };
  for (std::size_t i = 0; i < each; ++i) {
    HF_UNROLL
    for (std::size_t l = 0; l < lanes; ++l) step(l, l * each + i);
  }
  for (std::size_t i = lanes * each; i < count; ++i) step(lanes - 1, i);
}

}  // namespace holdfast::chunking
