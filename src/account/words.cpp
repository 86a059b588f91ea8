// SPDX-License-Identifier: Apache-2.0
#include "account/words.h"

#include <algorithm>
#include <span>

#include "crypto/hash.h"
#include "crypto/purposes.h"
#include "crypto/transcript.h"

namespace holdfast {
namespace {

constexpr std::size_t kWordBits = 11, kDataWords = 24, kBitsSize = 32;

// times x modulo x^11 + x^2 + 1, which is primitive: the powers x^1 .. x^24 differ, and none is 1.
constexpr WordNumber times_x(WordNumber a) {
  const unsigned shifted = static_cast<unsigned>(a) << 1;
  return static_cast<WordNumber>(shifted < 2048 ? shifted : (shifted ^ 0b100000000101U));
}

// Sum of x^(i+1) * w_i, by Horner's rule. A single changed word changes it (weights are not zero),
// and so do two swapped ones (weights differ, and differ from the 1 of the check word itself).
WordNumber check_symbol(std::span<const WordNumber, kPaperWords> words) {
  WordNumber sum = 0;
  for (std::size_t i = kDataWords; i-- > 0;) sum = times_x(sum ^ words[i]);
  return sum;
}

std::byte check_byte(ByteSpan bits) {
  return sha256(Transcript(purpose::paper_check).field(bits).span()).bytes[0];
}

Secret join_bits(const WordNumbers& words) {
  Secret data(kBitsSize + 1);
  for (std::size_t bit = 0; bit < kDataWords * kWordBits; ++bit) {
    const unsigned value = words[bit / kWordBits] >> (kWordBits - 1 - bit % kWordBits) & 1U;
    data.bytes()[bit / 8] |= static_cast<std::byte>(value << (7 - bit % 8));
  }
  return data;
}

}  // namespace

// 256 bits and the check byte, cut into 24 numbers, most significant bit first; then the symbol.
WordNumbers encode_words(ByteSpan bits) {
  WordNumbers words{};
  Secret data(kBitsSize + 1);
  std::ranges::copy(bits, data.bytes().begin());
  data.bytes()[kBitsSize] = check_byte(bits);
  for (std::size_t bit = 0; bit < kDataWords * kWordBits; ++bit) {
    const unsigned value = std::to_integer<unsigned>(data.span()[bit / 8]) >> (7 - bit % 8) & 1;
    WordNumber& word = words[bit / kWordBits];
    word = static_cast<WordNumber>(static_cast<unsigned>(word) << 1 | value);
  }
  words[kDataWords] = check_symbol(words);
  return words;
}

// The key's 32 bytes, when both checks hold.
std::optional<Secret> decode_words(const WordNumbers& words) {
  if (check_symbol(words) != words[kDataWords]) return std::nullopt;
  const Secret data = join_bits(words);
  const ByteSpan bits = data.span().first(kBitsSize);
  if (check_byte(bits) != data.span()[kBitsSize]) return std::nullopt;
  return Secret::copy_of(bits);
}

void wipe_words(WordNumbers& words) { wipe(std::as_writable_bytes(std::span(words))); }

}  // namespace holdfast
