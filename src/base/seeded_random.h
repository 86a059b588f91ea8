// SPDX-License-Identifier: Apache-2.0
// Randomness from a seed, for tests and simulations ONLY: whoever knows 64 bits knows all of it.
#pragma once

#include <algorithm>
#include <mutex>

#include "base/world.h"

namespace holdfast {

// splitmix64 (Steele, Lea, Flood, OOPSLA 2014). The same seed and the same calls give the same
// bytes on every machine.
class SeededRandom : public Random {
 public:
  explicit SeededRandom(std::uint64_t seed) : state_(seed) {}
  std::uint64_t next() {
    const std::lock_guard guard(mutex_);
    return step();
  }
  // Uniform enough for tests; bound > 0.
  std::uint64_t below(std::uint64_t bound) { return next() % bound; }
  void fill(MutableByteSpan out) override {
    const std::lock_guard guard(mutex_);
    for (std::size_t i = 0; i < out.size(); i += 8) {
      std::byte word[8];
      store_le(word, step());
      std::memcpy(out.data() + i, word, std::min<std::size_t>(8, out.size() - i));
    }
  }

 private:
  std::uint64_t step() {
    std::uint64_t z = state_ += 0x9E3779B97F4A7C15U;
    z = (z ^ (z >> 30)) * 0xBF58476D1CE4E5B9U;
    z = (z ^ (z >> 27)) * 0x94D049BB133111EBU;
    return z ^ (z >> 31);
  }
  std::mutex mutex_;
  std::uint64_t state_;
};

}  // namespace holdfast
