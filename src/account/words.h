// SPDX-License-Identifier: Apache-2.0
// 256 bits as the numbers of 25 words, and back. docs/formats/account.md, "Paper key".
#pragma once

#include <array>
#include <optional>

#include "seal/secret.h"

namespace holdfast {

inline constexpr std::size_t kPaperWords = 25;

using WordNumber = std::uint16_t;  // below 2048: an element of GF(2^11)
using WordNumbers = std::array<WordNumber, kPaperWords>;

// `bits`: 32 bytes.
WordNumbers encode_words(ByteSpan bits);
// Nothing, when a word is not what encode_words gave: any one of them, or any two swapped.
std::optional<Secret> decode_words(const WordNumbers& words);
void wipe_words(WordNumbers& words);

}  // namespace holdfast
