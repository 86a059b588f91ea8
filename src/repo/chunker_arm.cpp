// SPDX-License-Identifier: Apache-2.0
// Cuts with the AES instructions of ARMv8, eight blocks at a time.
#if defined(__aarch64__)
#include <arm_neon.h>
#include <sys/auxv.h>

#include <cstring>

#include "repo/chunker_paths.h"

#if defined(__clang__)
#define HF_ARM_AES __attribute__((target("aes")))
#else
#define HF_ARM_AES __attribute__((target("+crypto")))
#endif

namespace holdfast::chunking {
namespace {

constexpr unsigned long kHwcapAes = 1UL << 3;  // <asm/hwcap.h>

// SubWord of FIPS-197: with four equal columns ShiftRows does nothing.
HF_ARM_AES std::uint32_t sub_word(std::uint32_t word) {
  const uint8x16_t s = vaeseq_u8(vreinterpretq_u8_u32(vdupq_n_u32(word)), vdupq_n_u8(0));
  return vgetq_lane_u32(vreinterpretq_u32_u8(s), 0);
}

HF_ARM_AES void expand(const std::uint8_t key[16], std::uint8_t round_keys[kRounds + 1][16]) {
  static constexpr std::uint8_t constants[kRounds] = {0x01, 0x02, 0x04, 0x08, 0x10,
                                                      0x20, 0x40, 0x80, 0x1B, 0x36};
  std::uint32_t w[4];
  std::memcpy(w, key, 16);
  std::memcpy(round_keys[0], w, 16);
  for (std::size_t r = 0; r < kRounds; ++r) {
    w[0] ^= sub_word((w[3] >> 8) | (w[3] << 24)) ^ constants[r];
    HF_UNROLL
    for (std::size_t i = 1; i < 4; ++i) w[i] ^= w[i - 1];
    std::memcpy(round_keys[r + 1], w, 16);
  }
}

HF_ARM_AES void rounds8(const State& state, uint8x16_t b[8]) {
  for (std::size_t r = 0; r < kRounds - 1; ++r) {
    const uint8x16_t key = vld1q_u8(state.round_keys[r]);
    HF_UNROLL
    for (std::size_t i = 0; i < 8; ++i) b[i] = vaesmcq_u8(vaeseq_u8(b[i], key));
  }
  const uint8x16_t before = vld1q_u8(state.round_keys[kRounds - 1]);
  const uint8x16_t last = vld1q_u8(state.round_keys[kRounds]);
  HF_UNROLL
  for (std::size_t i = 0; i < 8; ++i) b[i] = veorq_u8(vaeseq_u8(b[i], before), last);
}

HF_ARM_AES std::size_t first_hit(const State& state, const std::uint64_t* digests,
                                 std::size_t count) {
  for (std::size_t from = 0; from < count; from += 8) {
    uint8x16_t b[8];
    HF_UNROLL
    for (std::size_t i = 0; i < 8; ++i)
      b[i] = vreinterpretq_u8_u64(vcombine_u64(vcreate_u64(digests[from + i]), vcreate_u64(0)));
    rounds8(state, b);
    HF_UNROLL
    for (std::size_t i = 0; i < 8; ++i) {
      const std::uint64_t low = vgetq_lane_u64(vreinterpretq_u64_u8(b[i]), 0);
      if ((low & state.mask) == 0) return from + i;
    }
  }
  return count;
}

std::size_t scan(const State& state, const std::uint8_t* at, std::size_t count) {
  std::uint64_t digests[kBatch];
  for (std::size_t from = 0; from < count; from += kBatch) {
    const std::size_t n = count - from < kBatch ? count - from : kBatch;
    roll(state, at + from, n, digests);
    for (std::size_t i = n; i % 8 != 0; ++i) digests[i] = 0;
    const std::size_t hit = first_hit(state, digests, n);
    if (hit < n) return from + hit;
  }
  return count;
}

HF_ARM_AES void encrypt(const State& state, const std::uint8_t in[16], std::uint8_t out[16]) {
  uint8x16_t b[8];
  for (uint8x16_t& block : b) block = vld1q_u8(in);
  rounds8(state, b);
  vst1q_u8(out, b[7]);
}

bool has_aes() { return (getauxval(AT_HWCAP) & kHwcapAes) != 0; }

}  // namespace

const Path arm_aes_path{has_aes, expand, scan, encrypt};

}  // namespace holdfast::chunking
#endif
