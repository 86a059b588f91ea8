// SPDX-License-Identifier: Apache-2.0
#include "repo/chunker.h"

#include <gtest/gtest.h>
#include <openssl/evp.h>

#include <algorithm>
#include <fstream>
#include <iterator>
#include <random>
#include <sstream>
#include <thread>

#include "crypto/hash.h"
#include "crypto/transcript.h"
#include "repo/chunker_paths.h"

namespace holdfast {
namespace {

Bytes random_bytes(std::size_t size, std::uint64_t seed) {
  std::mt19937_64 rng(seed);
  Bytes out(size + 8);
  for (std::size_t i = 0; i < size; i += 8) store_le(&out[i], rng());
  out.resize(size);
  return out;
}

Bytes text_bytes(std::size_t size, std::uint64_t seed) {
  static constexpr std::string_view words[] = {"the ",    "chunk ",    "of\n",
                                               "backup ", "restores ", "a "};
  std::mt19937_64 rng(seed);
  Bytes out;
  while (out.size() < size) std::ranges::copy(as_bytes(words[rng() % 6]), std::back_inserter(out));
  out.resize(size);
  return out;
}

std::vector<ChunkerPath> available_paths() {
  std::vector<ChunkerPath> out;
  for (const auto path : {ChunkerPath::portable, ChunkerPath::aesni, ChunkerPath::vaes256,
                          ChunkerPath::vaes512, ChunkerPath::arm_aes})
    if (chunker_path_available(path)) out.push_back(path);
  return out;
}

std::vector<std::size_t> cut_all(const Chunker& chunker, ByteSpan data) {
  std::vector<std::size_t> out;
  while (!data.empty()) {
    out.push_back(chunker.cut(data));
    data = data.subspan(out.back());
  }
  return out;
}

Bytes key_of(std::uint8_t first) {
  Bytes key(32);
  for (std::size_t i = 0; i < 32; ++i) key[i] = static_cast<std::byte>(first + i);
  return key;
}

// ---- the definition, word for word and slow, from docs/formats/repository.md

std::uint64_t slow_step(std::uint64_t h, std::uint64_t low, unsigned bit) {
  return ((h << 1) | bit) ^ ((h >> 63) != 0 ? low : 0);
}

std::uint64_t slow_digest(std::uint64_t low, ByteSpan window) {
  std::uint64_t h = 0;
  for (const std::byte b : window)
    for (int bit = 7; bit >= 0; --bit)
      h = slow_step(h, low, (std::to_integer<unsigned>(b) >> bit) & 1);
  return h;
}

std::uint64_t slow_polynomial(ByteSpan key) {
  for (std::uint32_t n = 0;; ++n) {
    std::array<std::byte, 8> c;
    hkdf_sha256(key, Transcript("chunker-hash").number(n).span(), c);
    const std::uint64_t low = load_le<std::uint64_t>(c.data()) | 1;
    if (chunking::irreducible(low)) return low;
  }
}

std::uint64_t slow_prf(ByteSpan prf_key, std::uint64_t digest) {
  std::array<std::byte, 16> block{};
  store_le(block.data(), digest);
  std::array<std::byte, 16> out{};
  int written = 0;
  EVP_CIPHER_CTX* const context = EVP_CIPHER_CTX_new();
  EVP_EncryptInit_ex2(context, EVP_aes_128_ecb(), uchars(prf_key), nullptr, nullptr);
  EVP_EncryptUpdate(context, uchars(MutableByteSpan(out)), &written, uchars(ByteSpan(block)), 16);
  EVP_CIPHER_CTX_free(context);
  return load_le<std::uint64_t>(out.data());
}

std::size_t slow_cut(ByteSpan key, const ChunkerLimits& limits, ByteSpan data) {
  if (data.size() <= limits.min) return data.size();
  const std::uint64_t low = slow_polynomial(key);
  std::array<std::byte, 16> prf_key;
  hkdf_sha256(key, Transcript("chunker-prf").span(), prf_key);
  const std::size_t end = std::min<std::size_t>(limits.max, data.size());
  const std::uint64_t below = (std::uint64_t{1} << 63) / (limits.average / 2);
  for (std::size_t i = limits.min + 1; i < end; ++i)
    if (slow_prf(prf_key, slow_digest(low, data.subspan(i - 64, 64))) < below) return i;
  return end;
}

// ---- the parts

TEST(Chunker, irreducible_polynomials_are_told_from_others) {
  EXPECT_TRUE(chunking::irreducible(0x1B));  // x^64 + x^4 + x^3 + x + 1
  EXPECT_FALSE(chunking::irreducible(0x1A));
  EXPECT_FALSE(chunking::irreducible(1));  // (x + 1)^64
  EXPECT_FALSE(chunking::irreducible(0x19));
  // About one in 32 with a constant term: 2^58 irreducible polynomials among 2^63.
  std::mt19937_64 rng(7);
  int found = 0;
  for (int i = 0; i < 3200; ++i) found += chunking::irreducible(rng() | 1) ? 1 : 0;
  EXPECT_GT(found, 60);
  EXPECT_LT(found, 140);
}

TEST(Chunker, rolling_digest_is_that_of_the_window_alone) {
  auto state = std::make_unique<chunking::State>();
  chunking::set_hash(*state, 0x1B);
  const Bytes data = random_bytes(1000, 1);
  for (const std::size_t count : {1U, 2U, 3U, 4U, 5U, 63U, 64U, 65U, 511U, 900U}) {
    std::vector<std::uint64_t> digests(count);
    chunking::roll(*state, uchars(data) + 64, count, digests.data());
    for (std::size_t i = 0; i < count; ++i)
      ASSERT_EQ(digests[i], slow_digest(0x1B, ByteSpan(data).subspan(i + 1, 64))) << count;
  }
}

#if defined(__x86_64__) || defined(__aarch64__)
TEST(Chunker, block_functions_are_AES_128) {
  struct Row {
    std::string_view key, in, out;
  };
  constexpr Row rows[] = {
      {"000102030405060708090a0b0c0d0e0f", "00112233445566778899aabbccddeeff",
       "69c4e0d86a7b0430d8cdb78070b4c55a"},  // FIPS-197, C.1
      {"2b7e151628aed2a6abf7158809cf4f3c", "3243f6a8885a308d313198a2e0370734",
       "3925841d02dc09fbdc118597196a0b32"},  // FIPS-197, B
  };
#if defined(__x86_64__)
  const chunking::Path* const paths[] = {&chunking::aesni_path, &chunking::vaes256_path,
                                         &chunking::vaes512_path};
#else
  const chunking::Path* const paths[] = {&chunking::arm_aes_path};
#endif
  for (const chunking::Path* path : paths) {
    if (!path->available()) continue;
    for (const Row& row : rows) {
      auto state = std::make_unique<chunking::State>();
      std::array<std::byte, 16> in;
      std::array<std::byte, 16> out;
      ASSERT_TRUE(from_hex(row.key, std::as_writable_bytes(std::span(state->prf_key))));
      ASSERT_TRUE(from_hex(row.in, in));
      path->expand(state->prf_key, state->round_keys);
      path->encrypt(*state, uchars(ByteSpan(in)), uchars(MutableByteSpan(out)));
      EXPECT_EQ(to_hex(out), row.out);
    }
  }
}
#endif

// ---- cuts

constexpr ChunkerLimits kSmall{.min = 256, .max = 20000, .average = 2048};

TEST(Chunker, portable_cuts_are_those_of_the_definition) {
  const Bytes key = key_of(3);
  const Chunker chunker(key, ChunkerPath::portable, kSmall);
  const Bytes data = random_bytes(30000, 5);
  for (std::size_t from = 0; from < data.size();) {
    const ByteSpan rest = ByteSpan(data).subspan(from);
    ASSERT_EQ(chunker.cut(rest), slow_cut(key, kSmall, rest));
    from += chunker.cut(rest);
  }
}

// testdata/vectors/cuts.txt, written by a second implementation.
Bytes vector_input(const std::string& name, std::size_t size) {
  Bytes out;
  for (std::uint64_t i = 0; name == "counter" && out.size() < size; ++i) {
    std::array<std::byte, 8> number;
    store_le(number.data(), i);
    const Hash256 hash = sha256(number);
    out.insert(out.end(), hash.bytes.begin(), hash.bytes.end());
  }
  out.resize(size);
  return out;
}

void expect_vector_cuts(ByteSpan key, std::istream& words) {
  std::string name;
  std::size_t size = 0;
  words >> name >> size;
  const std::vector<std::size_t> want{std::istream_iterator<std::size_t>(words), {}};
  const Bytes data = vector_input(name, size);
  for (const ChunkerPath path : available_paths())
    EXPECT_EQ(cut_all(Chunker(key, path, kChunkerLimits), data), want) << chunker_path_name(path);
}

TEST(Chunker, vectors) {
  std::ifstream file(HOLDFAST_TESTDATA "/vectors/cuts.txt");
  std::array<std::byte, 32> key;
  std::uint64_t low = 0, digest = 0;
  std::array<std::byte, 16> prf;
  int seen = 0;
  for (std::string line; std::getline(file, line);) {
    std::istringstream words(line);
    std::string what, value;
    words >> what;
    if (what == "key") {
      ASSERT_TRUE(words >> value && from_hex(value, key));
      hkdf_sha256(key, Transcript("chunker-prf").span(), prf);
    } else if (what == "polynomial") {
      words >> std::hex >> low;
      EXPECT_EQ(slow_polynomial(key), low);
    } else if (what == "prf") {
      words >> value;
      EXPECT_EQ(to_hex(prf), value);
    } else if (what == "digest") {
      words >> value >> std::hex >> digest;
      EXPECT_EQ(slow_digest(low, vector_input(value, 64)), digest);
    } else if (what == "block") {
      std::array<std::byte, 16> block;
      ASSERT_TRUE(words >> value && from_hex(value, block));
      EXPECT_EQ(slow_prf(prf, digest), load_le<std::uint64_t>(block.data()));
    } else if (what == "cuts") {
      expect_vector_cuts(key, words);
      ++seen;
    }
  }
  EXPECT_EQ(seen, 4);
}

void expect_same_cuts(const ChunkerLimits& limits, ByteSpan data) {
  const Bytes key = key_of(9);
  const Chunker portable(key, ChunkerPath::portable, limits);
  const std::vector<std::size_t> want = cut_all(portable, data);
  for (const ChunkerPath path : available_paths()) {
    const Chunker chunker(key, path, limits);
    EXPECT_EQ(chunker.path(), path);
    EXPECT_EQ(cut_all(chunker, data), want) << chunker_path_name(path);
  }
}

TEST(Chunker, all_paths_cut_alike) {
  for (const ChunkerLimits& limits : {kSmall, kChunkerLimits}) {
    expect_same_cuts(limits, random_bytes(700'001, 2));
    expect_same_cuts(limits, text_bytes(300'007, 3));
    expect_same_cuts(limits, Bytes(1'100'000));
    expect_same_cuts(limits, Bytes(100'000, std::byte{0xFF}));
  }
  // Many cuts in each batch: it is the first that counts.
  expect_same_cuts({.min = 64, .max = kChunkMax, .average = 64}, random_bytes(20'000, 2));
}

TEST(Chunker, all_paths_cut_alike_at_every_length_near_the_limits) {
  const Bytes key = key_of(1);
  const Bytes data = random_bytes(9000, 4);
  const ChunkerLimits limits{.min = 256, .max = 6000, .average = 1U << 13};
  const Chunker portable(key, ChunkerPath::portable, limits);
  std::vector<std::size_t> lengths{0, 1, 63, 64, 65};
  for (std::size_t n = 250; n < 900; ++n) lengths.push_back(n);
  for (std::size_t n = 2300; n < 2400; ++n) lengths.push_back(n);  // a batch past the minimum
  for (std::size_t n = 4340; n < 4370; ++n) lengths.push_back(n);  // a block of vectors past it
  for (std::size_t n = 5990; n < 6010; ++n) lengths.push_back(n);
  for (const ChunkerPath path : available_paths()) {
    const Chunker chunker(key, path, limits);
    for (const std::size_t n : lengths) {
      // A copy of exactly this size: the address sanitizer sees a read past its end.
      const Bytes exact(data.begin(), data.begin() + static_cast<std::ptrdiff_t>(n));
      const std::size_t cut = chunker.cut(exact);
      ASSERT_EQ(cut, portable.cut(ByteSpan(data).first(n))) << chunker_path_name(path) << n;
      ASSERT_TRUE(cut <= std::min<std::size_t>(n, limits.max) &&
                  cut >= std::min(n, std::size_t{256}));
    }
  }
}

TEST(Chunker, a_cut_is_the_same_with_no_more_than_max_bytes_in_view) {
  const Bytes data = random_bytes(200'000, 6);
  for (const ChunkerPath path : available_paths()) {
    const Chunker chunker(key_of(2), path, kSmall);
    for (std::size_t from = 0; from < data.size();) {
      const ByteSpan rest = ByteSpan(data).subspan(from);
      const std::size_t cut = chunker.cut(rest);
      ASSERT_EQ(chunker.cut(rest.first(std::min<std::size_t>(rest.size(), kSmall.max))), cut);
      from += cut;
    }
  }
}

TEST(Chunker, cuts_come_back_after_an_insertion) {
  const Chunker chunker(key_of(2), ChunkerPath::automatic, kSmall);
  const Bytes data = random_bytes(200'000, 8);
  Bytes changed = random_bytes(777, 9);
  changed.insert(changed.end(), data.begin(), data.end());
  const auto ends = [&](ByteSpan bytes) {
    std::vector<std::size_t> out;
    std::size_t left = bytes.size();
    for (const std::size_t n : cut_all(chunker, bytes)) out.push_back(left -= n);
    std::ranges::reverse(out);
    return out;
  };
  const auto a = ends(data);
  const auto b = ends(changed);
  std::vector<std::size_t> both;
  std::ranges::set_intersection(a, b, std::back_inserter(both));
  EXPECT_GT(both.size(), a.size() * 9 / 10);
}

TEST(Chunker, mean_length_is_minimum_plus_average) {
  const Chunker chunker(key_of(4), ChunkerPath::automatic, kSmall);
  const std::size_t size = 4'000'000;
  const auto cuts = cut_all(chunker, random_bytes(size, 10));
  const double mean = static_cast<double>(size) / static_cast<double>(cuts.size());
  EXPECT_NEAR(mean, kSmall.min + kSmall.average, 150);
}

TEST(Chunker, keys_cut_differently) {
  const Bytes data = random_bytes(100'000, 11);
  const auto a = cut_all(Chunker(key_of(5), ChunkerPath::automatic, kSmall), data);
  const auto b = cut_all(Chunker(key_of(6), ChunkerPath::automatic, kSmall), data);
  EXPECT_NE(a, b);
}

TEST(Chunker, one_chunker_serves_many_threads) {
  const Bytes data = random_bytes(300'000, 12);
  for (const ChunkerPath path : {ChunkerPath::portable, ChunkerPath::automatic}) {
    const Chunker chunker(key_of(5), path, kSmall);
    const auto want = cut_all(chunker, data);
    std::vector<std::vector<std::size_t>> got(3);
    {
      std::vector<std::jthread> threads;
      for (auto& out : got) threads.emplace_back([&] { out = cut_all(chunker, data); });
    }
    for (const auto& out : got) EXPECT_EQ(out, want);
  }
}

}  // namespace
}  // namespace holdfast
