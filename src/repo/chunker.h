// SPDX-License-Identifier: Apache-2.0
// Content-defined cuts decided by a PRF: a rolling universal hash of the last 64 bytes, then AES
// over its value, for every position past the minimum. docs/formats/repository.md, "Cuts"; Truong
// et al., ePrint 2025/558 (UHF-then-PRF).
#pragma once

#include <cstdint>
#include <memory>
#include <vector>

#include "seal/secret.h"

namespace holdfast {

inline constexpr std::size_t kChunkWindow = 64;

// Chosen by measurement (docs/adr/0003-cuts.md). A rule of the format: other values cut elsewhere.
struct ChunkerLimits {
  std::uint32_t min;      // no chunk but a file's last is shorter
  std::uint32_t max;      // none is longer; at most kChunkMax
  std::uint32_t average;  // power of two: beyond min a cut is 1 in `average`
};
inline constexpr ChunkerLimits kChunkerLimits{
    .min = 1U << 14, .max = 1U << 18, .average = 1U << 15};
inline constexpr std::size_t kChunkMax = 1U << 20;

// Ways to compute the same cuts. `automatic` takes the fastest that this CPU has.
enum class ChunkerPath : std::uint8_t { automatic, portable, aesni, vaes256, vaes512, arm_aes };
[[nodiscard]] bool chunker_path_available(ChunkerPath path);
[[nodiscard]] std::string_view chunker_path_name(ChunkerPath path);

class Chunker {
 public:
  Chunker(ByteSpan key, ChunkerPath path, const ChunkerLimits& limits);  // key: 32 bytes
  ~Chunker();
  Chunker(const Chunker&) = delete;
  Chunker& operator=(const Chunker&) = delete;
  // The length of the chunk that begins at data[0]. `data` is all that is left of the file, or at
  // least limits.max bytes of it. 0 for no data. Const and thread-safe.
  [[nodiscard]] std::size_t cut(ByteSpan data) const;
  [[nodiscard]] ChunkerPath path() const;

 private:
  struct Impl;
  std::unique_ptr<Impl> impl_;
};

}  // namespace holdfast
