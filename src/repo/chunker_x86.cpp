// SPDX-License-Identifier: Apache-2.0
// Cuts with the AES instructions of x86-64: eight blocks at a time (AES-NI), sixteen (VAES, 256
// bits), or 32 with the rolling hash in vectors too (AVX-512, VAES, GFNI). Each function names the
// instructions it is compiled for, so that no flag reaches any other code.
#if defined(__x86_64__)
#if !defined(__clang__)
// g++ 12 sees the operand that its own intrinsics leave undefined on purpose (GCC bug 105593).
#pragma GCC diagnostic ignored "-Wuninitialized"
#endif
#include <immintrin.h>

#include <cstring>

#include "repo/chunker_paths.h"

#define HF_AESNI __attribute__((target("aes,sse4.1")))
#define HF_VAES256 __attribute__((target("avx2,vaes,aes")))
#define HF_INLINE __attribute__((always_inline)) inline
#define HF_VAES512 __attribute__((target("avx512f,avx512bw,avx512vl,avx512vbmi,vaes,gfni,aes")))

namespace holdfast::chunking {
namespace {

// FIPS-197, 5.2. `constant` is a template parameter because the instruction takes an immediate.
template <int constant>
HF_AESNI __m128i next_key(__m128i key) {
  const __m128i word = _mm_shuffle_epi32(_mm_aeskeygenassist_si128(key, constant), 0xFF);
  key = _mm_xor_si128(key, _mm_slli_si128(key, 4));
  key = _mm_xor_si128(key, _mm_slli_si128(key, 8));
  return _mm_xor_si128(key, word);
}

HF_AESNI void expand(const std::uint8_t key[16], std::uint8_t round_keys[kRounds + 1][16]) {
  __m128i k[kRounds + 1];
  k[0] = _mm_loadu_si128(reinterpret_cast<const __m128i*>(key));
  k[1] = next_key<0x01>(k[0]);
  k[2] = next_key<0x02>(k[1]);
  k[3] = next_key<0x04>(k[2]);
  k[4] = next_key<0x08>(k[3]);
  k[5] = next_key<0x10>(k[4]);
  k[6] = next_key<0x20>(k[5]);
  k[7] = next_key<0x40>(k[6]);
  k[8] = next_key<0x80>(k[7]);
  k[9] = next_key<0x1B>(k[8]);
  k[10] = next_key<0x36>(k[9]);
  std::memcpy(round_keys, k, sizeof k);
}

HF_AESNI __m128i round_key(const State& state, std::size_t i) {
  return _mm_load_si128(reinterpret_cast<const __m128i*>(state.round_keys[i]));
}

// Digests in a buffer, `first_hit` over it. The buffer is filled up to a multiple of 16 blocks.
template <std::size_t (*first_hit)(const State&, const std::uint64_t*, std::size_t)>
std::size_t scan_batches(const State& state, const std::uint8_t* at, std::size_t count) {
  std::uint64_t digests[kBatch];
  for (std::size_t from = 0; from < count; from += kBatch) {
    const std::size_t n = count - from < kBatch ? count - from : kBatch;
    roll(state, at + from, n, digests);
    for (std::size_t i = n; i % 16 != 0; ++i) digests[i] = 0;
    const std::size_t hit = first_hit(state, digests, n);
    if (hit < n) return from + hit;
  }
  return count;
}

// ---- AES-NI

HF_AESNI HF_INLINE void rounds8(const State& state, __m128i b[8]) {
  HF_UNROLL
  for (std::size_t i = 0; i < 8; ++i) b[i] = _mm_xor_si128(b[i], round_key(state, 0));
  HF_UNROLL
  for (std::size_t r = 1; r < kRounds; ++r) {
    HF_UNROLL
    for (std::size_t i = 0; i < 8; ++i) b[i] = _mm_aesenc_si128(b[i], round_key(state, r));
  }
  HF_UNROLL
  for (std::size_t i = 0; i < 8; ++i) b[i] = _mm_aesenclast_si128(b[i], round_key(state, kRounds));
}

// Bit i: block i cuts.
HF_AESNI HF_INLINE unsigned cuts_of_8(const State& state, const std::uint64_t* digests) {
  __m128i b[8];
  HF_UNROLL
  for (std::size_t i = 0; i < 4; ++i) {
    const __m128i two = _mm_loadu_si128(reinterpret_cast<const __m128i*>(digests + 2 * i));
    b[2 * i] = _mm_unpacklo_epi64(two, _mm_setzero_si128());
    b[2 * i + 1] = _mm_unpackhi_epi64(two, _mm_setzero_si128());
  }
  rounds8(state, b);
  const __m128i mask = _mm_set1_epi64x(static_cast<long long>(state.mask));
  unsigned cuts = 0;
  HF_UNROLL
  for (std::size_t i = 0; i < 4; ++i) {
    const __m128i two = _mm_and_si128(_mm_unpacklo_epi64(b[2 * i], b[2 * i + 1]), mask);
    const __m128i none = _mm_cmpeq_epi64(two, _mm_setzero_si128());
    cuts |= static_cast<unsigned>(_mm_movemask_pd(_mm_castsi128_pd(none))) << (2 * i);
  }
  return cuts;
}

HF_AESNI std::size_t first_hit_aesni(const State& state, const std::uint64_t* digests,
                                     std::size_t count) {
  for (std::size_t i = 0; i < count; i += 8) {
    const unsigned cuts = cuts_of_8(state, digests + i);
    if (cuts != 0) return i + static_cast<unsigned>(__builtin_ctz(cuts));
  }
  return count;
}

HF_AESNI void encrypt_aesni(const State& state, const std::uint8_t in[16], std::uint8_t out[16]) {
  __m128i b[8];
  HF_UNROLL
  for (__m128i& block : b) block = _mm_loadu_si128(reinterpret_cast<const __m128i*>(in));
  rounds8(state, b);
  std::memcpy(out, &b[7], 16);
}

// ---- VAES, 256 bits

HF_VAES256 HF_INLINE void rounds16(const State& state, __m256i b[8]) {
  const auto key = [&](std::size_t r) HF_VAES256 {
    return _mm256_broadcastsi128_si256(
        _mm_load_si128(reinterpret_cast<const __m128i*>(state.round_keys[r])));
  };
  HF_UNROLL
  for (std::size_t i = 0; i < 8; ++i) b[i] = _mm256_xor_si256(b[i], key(0));
  HF_UNROLL
  for (std::size_t r = 1; r < kRounds; ++r) {
    const __m256i k = key(r);
    HF_UNROLL
    for (std::size_t i = 0; i < 8; ++i) b[i] = _mm256_aesenc_epi128(b[i], k);
  }
  HF_UNROLL
  for (std::size_t i = 0; i < 8; ++i) b[i] = _mm256_aesenclast_epi128(b[i], key(kRounds));
}

// Bit i: block i cuts. The unpacking works within halves, and the second undoes the first.
HF_VAES256 HF_INLINE unsigned cuts_of_16(const State& state, const std::uint64_t* digests) {
  __m256i b[8];
  HF_UNROLL
  for (std::size_t i = 0; i < 4; ++i) {
    const __m256i four = _mm256_loadu_si256(reinterpret_cast<const __m256i*>(digests + 4 * i));
    b[2 * i] = _mm256_unpacklo_epi64(four, _mm256_setzero_si256());
    b[2 * i + 1] = _mm256_unpackhi_epi64(four, _mm256_setzero_si256());
  }
  rounds16(state, b);
  const __m256i mask = _mm256_set1_epi64x(static_cast<long long>(state.mask));
  unsigned cuts = 0;
  HF_UNROLL
  for (std::size_t i = 0; i < 4; ++i) {
    const __m256i four = _mm256_and_si256(_mm256_unpacklo_epi64(b[2 * i], b[2 * i + 1]), mask);
    const __m256i none = _mm256_cmpeq_epi64(four, _mm256_setzero_si256());
    cuts |= static_cast<unsigned>(_mm256_movemask_pd(_mm256_castsi256_pd(none))) << (4 * i);
  }
  return cuts;
}

HF_VAES256 std::size_t first_hit_vaes256(const State& state, const std::uint64_t* digests,
                                         std::size_t count) {
  for (std::size_t i = 0; i < count; i += 16) {
    const unsigned cuts = cuts_of_16(state, digests + i);
    if (cuts != 0) return i + static_cast<unsigned>(__builtin_ctz(cuts));
  }
  return count;
}

HF_VAES256 void encrypt_vaes256(const State& state, const std::uint8_t in[16],
                                std::uint8_t out[16]) {
  __m256i b[8];
  HF_UNROLL
  for (__m256i& blocks : b)
    blocks = _mm256_broadcastsi128_si256(_mm_loadu_si128(reinterpret_cast<const __m128i*>(in)));
  rounds16(state, b);
  std::memcpy(out, reinterpret_cast<const std::uint8_t*>(&b[7]) + 16, 16);
}

// ---- AVX-512: 64 lanes, each a segment of the block, one byte of each at a step
//
// A digest is kept in planes: plane k holds byte k of all 64 digests. Then a step of the hash is a
// renaming of planes (times x^8) and 16 affine maps, and AES takes nearly all of the time.

constexpr std::size_t kLanes = 64;
constexpr std::size_t kSegment = 64;  // at most
constexpr std::size_t kBlock = kLanes * kSegment;

struct Keys512 {
  __m512i round[kRounds + 1];
  __m512i first_low;  // the two halves of round key 0, in all places
  __m512i first_high;
  __m512i mask;
};

HF_VAES512 Keys512 keys512(const State& state) {
  Keys512 keys;
  for (std::size_t i = 0; i <= kRounds; ++i)
    keys.round[i] = _mm512_broadcast_i32x4(
        _mm_load_si128(reinterpret_cast<const __m128i*>(state.round_keys[i])));
  keys.first_low = _mm512_unpacklo_epi64(keys.round[0], keys.round[0]);
  keys.first_high = _mm512_unpackhi_epi64(keys.round[0], keys.round[0]);
  keys.mask = _mm512_set1_epi64(static_cast<long long>(state.mask));
  return keys;
}

// All rounds but the addition of the first key.
HF_VAES512 HF_INLINE void rounds32(const Keys512& keys, __m512i b[8]) {
  HF_UNROLL
  for (std::size_t r = 1; r < kRounds; ++r) {
    HF_UNROLL
    for (std::size_t i = 0; i < 8; ++i) b[i] = _mm512_aesenc_epi128(b[i], keys.round[r]);
  }
  HF_UNROLL
  for (std::size_t i = 0; i < 8; ++i) b[i] = _mm512_aesenclast_epi128(b[i], keys.round[kRounds]);
}

// Byte 8 * v + i of the result: digest i of q[v] cuts. Four vectors of eight digests.
HF_VAES512 HF_INLINE std::uint32_t cuts_of_32(const Keys512& keys, const __m512i q[4]) {
  __m512i b[8];
  HF_UNROLL
  for (std::size_t i = 0; i < 4; ++i) {
    const __m512i whitened = _mm512_xor_si512(q[i], keys.first_low);
    b[2 * i] = _mm512_unpacklo_epi64(whitened, keys.first_high);
    b[2 * i + 1] = _mm512_unpackhi_epi64(whitened, keys.first_high);
  }
  rounds32(keys, b);
  std::uint32_t cuts = 0;
  HF_UNROLL
  for (std::size_t i = 0; i < 4; ++i) {
    const __m512i eight = _mm512_unpacklo_epi64(b[2 * i], b[2 * i + 1]);
    cuts |= std::uint32_t{_mm512_testn_epi64_mask(eight, keys.mask)} << (8 * i);
  }
  return cuts;
}

// Eight vectors of eight words, seen as a square, turned.
HF_VAES512 HF_INLINE void turn_words(__m512i v[8]) {
  __m512i a[8];
  HF_UNROLL
  for (std::size_t i = 0; i < 8; i += 2) {
    a[i] = _mm512_unpacklo_epi64(v[i], v[i + 1]);
    a[i + 1] = _mm512_unpackhi_epi64(v[i], v[i + 1]);
  }
  // a[i], a[i + 2]: pairs of words in 128-bit places; gather place p of four vectors into one.
  HF_UNROLL
  for (std::size_t odd = 0; odd < 2; ++odd) {
    const __m512i low01 = _mm512_shuffle_i64x2(a[odd], a[2 + odd], 0x88);
    const __m512i high01 = _mm512_shuffle_i64x2(a[odd], a[2 + odd], 0xDD);
    const __m512i low23 = _mm512_shuffle_i64x2(a[4 + odd], a[6 + odd], 0x88);
    const __m512i high23 = _mm512_shuffle_i64x2(a[4 + odd], a[6 + odd], 0xDD);
    v[odd] = _mm512_shuffle_i64x2(low01, low23, 0x88);
    v[2 + odd] = _mm512_shuffle_i64x2(high01, high23, 0x88);
    v[4 + odd] = _mm512_shuffle_i64x2(low01, low23, 0xDD);
    v[6 + odd] = _mm512_shuffle_i64x2(high01, high23, 0xDD);
  }
}

// columns[t] = byte t of each of 64 segments, which begin at `from` and are `segment` apart; for
// eight t at a time, by words.
HF_VAES512 void turn_bytes(const std::uint8_t* from, std::size_t segment, std::size_t steps,
                           __m512i* columns) {
  alignas(64) std::uint8_t order[64];  // byte t of word l comes to byte l of word t
  for (std::size_t i = 0; i < 64; ++i) order[i] = static_cast<std::uint8_t>((i % 8) * 8 + i / 8);
  const __m512i by_byte = _mm512_load_si512(order);
  alignas(64) std::uint64_t words[kLanes];
  for (std::size_t t = 0; t < steps; t += 8) {
    for (std::size_t l = 0; l < kLanes; ++l) std::memcpy(&words[l], from + l * segment + t, 8);
    __m512i v[8];
    HF_UNROLL
    for (std::size_t i = 0; i < 8; ++i)
      v[i] = _mm512_permutexvar_epi8(by_byte, _mm512_load_si512(words + 8 * i));
    turn_words(v);
    HF_UNROLL
    for (std::size_t i = 0; i < 8; ++i) columns[t + i] = v[i];
  }
}

HF_VAES512 HF_INLINE __m512i map(__m512i bytes, std::uint64_t matrix) {
  return _mm512_gf2p8affine_epi64_epi8(bytes, _mm512_set1_epi64(static_cast<long long>(matrix)), 0);
}

// planes = planes * x^8 + in
HF_VAES512 HF_INLINE void push(const State& state, __m512i p[8], __m512i in) {
  const __m512i top = p[7];
  HF_UNROLL
  for (std::size_t k = 7; k > 0; --k)
    p[k] = _mm512_xor_si512(p[k - 1], map(top, state.carry_matrix[k]));
  p[0] = _mm512_xor_si512(in, map(top, state.carry_matrix[0]));
}

HF_VAES512 HF_INLINE void drop(const State& state, __m512i p[8], __m512i out) {
  HF_UNROLL
  for (std::size_t k = 0; k < 8; ++k)
    p[k] = _mm512_xor_si512(p[k], map(out, state.leave_matrix[k]));
}

// Planes to digests: place i of q[j] is lane 16 * (i / 2) + 2 * j + i % 2.
HF_VAES512 HF_INLINE void digests_of(const __m512i p[8], __m512i q[8]) {
  __m512i pairs[8];  // lanes 0 to 7 of each 16 in the first four, the others behind
  HF_UNROLL
  for (std::size_t k = 0; k < 4; ++k) {
    pairs[k] = _mm512_unpacklo_epi8(p[2 * k], p[2 * k + 1]);
    pairs[4 + k] = _mm512_unpackhi_epi8(p[2 * k], p[2 * k + 1]);
  }
  HF_UNROLL
  for (std::size_t half = 0; half < 2; ++half) {
    const __m512i* const w = pairs + 4 * half;
    const __m512i low0 = _mm512_unpacklo_epi16(w[0], w[1]);
    const __m512i low1 = _mm512_unpackhi_epi16(w[0], w[1]);
    const __m512i high0 = _mm512_unpacklo_epi16(w[2], w[3]);
    const __m512i high1 = _mm512_unpackhi_epi16(w[2], w[3]);
    q[4 * half] = _mm512_unpacklo_epi32(low0, high0);
    q[4 * half + 1] = _mm512_unpackhi_epi32(low0, high0);
    q[4 * half + 2] = _mm512_unpacklo_epi32(low1, high1);
    q[4 * half + 3] = _mm512_unpackhi_epi32(low1, high1);
  }
}

// The first lane that a set of cuts names.
std::size_t first_lane(std::uint64_t cuts) {
  std::size_t best = kLanes;
  for (; cuts != 0; cuts &= cuts - 1) {
    const auto bit = static_cast<std::size_t>(__builtin_ctzll(cuts));
    const std::size_t i = bit % 8;
    const std::size_t lane = 16 * (i / 2) + 2 * (bit / 8) + i % 2;
    if (lane < best) best = lane;
  }
  return best;
}

// Looks at 64 * segment windows; segment is a multiple of 8.
HF_VAES512 std::size_t scan_block(const State& state, const Keys512& keys, const std::uint8_t* at,
                                  std::size_t segment) {
  __m512i columns[kWindow + kSegment];
  turn_bytes(at - kWindow, segment, kWindow + segment, columns);
  __m512i p[8];
  HF_UNROLL
  for (__m512i& plane : p) plane = _mm512_setzero_si512();
  for (std::size_t t = 0; t < kWindow; ++t) push(state, p, columns[t]);
  std::size_t best = kLanes * segment;
  for (std::size_t t = 0; t < segment; ++t) {
    push(state, p, columns[kWindow + t]);
    drop(state, p, columns[t]);
    __m512i q[8];
    digests_of(p, q);
    const std::uint64_t low = cuts_of_32(keys, q);
    const std::uint64_t cuts = low | std::uint64_t{cuts_of_32(keys, q + 4)} << 32;
    if (__builtin_expect(cuts != 0, 0)) {
      const std::size_t place = first_lane(cuts) * segment + t;
      if (place < best) best = place;
    }
  }
  return best;
}

// What is left is copied, because the last lanes read past its end.
HF_VAES512 std::size_t scan_rest(const State& state, const Keys512& keys, const std::uint8_t* at,
                                 std::size_t count) {
  std::uint8_t copy[kWindow + kBlock];
  const std::size_t segment = (count + 8 * kLanes - 1) / (8 * kLanes) * 8;
  std::memcpy(copy, at - kWindow, kWindow + count);
  std::memset(copy + kWindow + count, 0, kLanes * segment - count);
  const std::size_t hit = scan_block(state, keys, copy + kWindow, segment);
  return hit < count ? hit : count;
}

HF_VAES512 std::size_t scan_vaes512(const State& state, const std::uint8_t* at, std::size_t count) {
  const Keys512 keys = keys512(state);
  std::size_t from = 0;
  for (; count - from >= kBlock; from += kBlock) {
    const std::size_t hit = scan_block(state, keys, at + from, kSegment);
    if (hit < kBlock) return from + hit;
  }
  return from == count ? count : from + scan_rest(state, keys, at + from, count - from);
}

HF_VAES512 void encrypt_vaes512(const State& state, const std::uint8_t in[16],
                                std::uint8_t out[16]) {
  const Keys512 keys = keys512(state);
  __m512i b[8];
  HF_UNROLL
  for (__m512i& blocks : b)
    blocks = _mm512_xor_si512(
        keys.round[0],
        _mm512_broadcast_i32x4(_mm_loadu_si128(reinterpret_cast<const __m128i*>(in))));
  rounds32(keys, b);
  std::memcpy(out, reinterpret_cast<const std::uint8_t*>(&b[7]) + 48, 16);
}

// ---- which of them this CPU (and its kernel, which saves the registers) has

bool has_aesni() { return __builtin_cpu_supports("aes") && __builtin_cpu_supports("sse4.1"); }
bool has_vaes256() {
  return has_aesni() && __builtin_cpu_supports("avx2") && __builtin_cpu_supports("vaes");
}
bool has_vaes512() {
  return has_vaes256() && __builtin_cpu_supports("avx512f") && __builtin_cpu_supports("avx512bw") &&
         __builtin_cpu_supports("avx512vl") && __builtin_cpu_supports("avx512vbmi") &&
         __builtin_cpu_supports("gfni");
}

}  // namespace

const Path aesni_path{has_aesni, expand, scan_batches<first_hit_aesni>, encrypt_aesni};
const Path vaes256_path{has_vaes256, expand, scan_batches<first_hit_vaes256>, encrypt_vaes256};
const Path vaes512_path{has_vaes512, expand, scan_vaes512, encrypt_vaes512};

}  // namespace holdfast::chunking
#endif
