// SPDX-License-Identifier: Apache-2.0
// A store that fails by a seeded plan, in the ways that real ones do: before the effect, after it
// with the reply lost, with no space, with short or changed bytes, or for ever from one call on.
// The same seed and the same calls give the same faults (with several threads, the order of the
// calls counts).
#pragma once

#include <limits>
#include <mutex>

#include "store/object_store.h"

namespace holdfast {

inline constexpr std::uint64_t kNever = std::numeric_limits<std::uint64_t>::max();

// Calls, puts and gets (get and get_range together) are counted from 0, each for itself.
struct FaultPlan {
  std::uint64_t seed = 0;
  // In 1024 calls, on average: Code::unavailable without the effect; with it; reads that give less.
  std::uint32_t fail_before = 0;
  std::uint32_t fail_after = 0;
  std::uint32_t short_reads = 0;
  std::uint64_t full_from_put = kNever;  // Code::full from that put on
  std::uint64_t corrupt_get = kNever;    // one bit of what that get gives is changed
  std::uint64_t crash_at_call = kNever;  // that call and every later one: unavailable, "crashed"
  bool crash_after_effect = false;       // whether the call that crashes still takes effect
};

class FaultStore final : public ObjectStore {
 public:
  // `inner` must outlive it.
  FaultStore(ObjectStore& inner, const FaultPlan& plan) : inner_(inner), plan_(plan) {}

  Result<> put(std::string_view name, ByteSpan bytes) override;
  Result<Bytes> get(std::string_view name, std::uint64_t size_max) override;
  Result<> get_range(std::string_view name, std::uint64_t offset, MutableByteSpan out) override;
  Result<std::uint64_t> size(std::string_view name) override;
  Result<> list(std::string_view prefix,
                const std::function<Result<>(const ObjectInfo&)>& visit) override;
  Result<> remove(std::string_view name) override;
  Result<StoreLock> lock() override { return inner_.lock(); }
  Result<> keep_until(std::string_view name, Time until) override;
  [[nodiscard]] unsigned parallel() const override { return inner_.parallel(); }

  [[nodiscard]] std::uint64_t calls() const;
  [[nodiscard]] std::uint64_t puts() const;
  [[nodiscard]] std::uint64_t gets() const;
  [[nodiscard]] bool crashed() const;

 private:
  enum class Kind : std::uint8_t { put, get, other };
  // What happens to one call; drawn before it starts.
  struct Fate {
    bool before = false;  // fails without effect
    bool after = false;   // takes effect, then fails
    bool full = false;
    bool short_read = false;
    bool flip = false;
    bool crash = false;
    std::uint64_t draw = 0;  // where to cut or flip
  };
  Fate decide(Kind kind);
  void decide_crash(Fate& fate, std::uint64_t call);
  std::uint64_t next();  // under mutex_
  bool one_of_1024(std::uint32_t rate) { return next() % 1024 < rate; }

  ObjectStore& inner_;
  const FaultPlan plan_;
  mutable std::mutex mutex_;
  std::uint64_t calls_ = 0, puts_ = 0, gets_ = 0, draws_ = 0;
  bool crashed_ = false;
};

}  // namespace holdfast
