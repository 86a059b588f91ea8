// SPDX-License-Identifier: Apache-2.0
// What comes from outside: time and randomness. Built in apps/ only; below that, they are passed
// in.
#pragma once

#include <atomic>
#include <cstdint>

#include "base/bytes.h"

namespace holdfast {

// Nanoseconds since 1970-01-01T00:00:00Z. No order and no collection depends on it; retention does,
// and believes not every one (docs/retention.md).
struct Time {
  std::int64_t ns = 0;
  auto operator<=>(const Time&) const = default;
};

class Clock {
 public:
  Clock() = default;
  Clock(const Clock&) = delete;
  Clock& operator=(const Clock&) = delete;
  virtual ~Clock() = default;
  virtual Time now() = 0;                // wall clock, UTC
  virtual std::int64_t steady_ns() = 0;  // for progress and rates
  virtual void sleep_ns(std::int64_t ns) = 0;
};

class Random {
 public:
  Random() = default;
  Random(const Random&) = delete;
  Random& operator=(const Random&) = delete;
  virtual ~Random() = default;
  virtual void fill(
      MutableByteSpan out) = 0;  // cryptographic quality; thread-safe; aborts if the OS gives none
};

// Set by a signal handler, asked by every long loop. One for a process, made in main and passed
// down.
class Stop {
 public:
  void request() { flag_.store(true, std::memory_order_relaxed); }
  [[nodiscard]] bool requested() const { return flag_.load(std::memory_order_relaxed); }
  [[nodiscard]] Result<> check() const {
    if (requested()) return fail(Code::interrupted, "interrupted");
    return {};
  }

 private:
  std::atomic<bool> flag_{false};
};

}  // namespace holdfast
