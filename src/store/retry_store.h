// SPDX-License-Identifier: Apache-2.0
// A store that asks again what did not answer. Every call of ObjectStore may be repeated, so that a
// lost answer is no harm.
#pragma once

#include "base/world.h"
#include "store/object_store.h"

namespace holdfast {

struct RetryLimits {
  int attempts = 8;  // in all, for one call
  // Before attempt n + 1: a random time up to first * 2^(n - 1), at most `longest` ("full jitter",
  // M. Brooker, Exponential Backoff And Jitter, AWS 2015).
  std::int64_t first_ns = 500'000'000, longest_ns = 30'000'000'000;
};

class RetryStore final : public ObjectStore {
 public:
  // All of them must outlive it.
  RetryStore(ObjectStore& inner, Clock& clock, Random& random, const Stop& stop,
             RetryLimits limits = {})
      : inner_(inner), clock_(clock), random_(random), stop_(stop), limits_(limits) {}

  Result<> put(std::string_view name, ByteSpan bytes) override;
  Result<Bytes> get(std::string_view name, std::uint64_t size_max) override;
  Result<> get_range(std::string_view name, std::uint64_t offset, MutableByteSpan out) override;
  Result<std::uint64_t> size(std::string_view name) override;
  Result<Tail> get_tail(std::string_view name, std::size_t most) override;
  // One that broke off is begun again; no object is visited twice. Keeps the names that were
  // visited (about 150 bytes each; the visitor's budget bounds them).
  Result<> list(std::string_view prefix,
                const std::function<Result<>(const ObjectInfo&)>& visit) override;
  Result<> remove(std::string_view name) override;
  Result<StoreLock> lock() override;
  Result<> keep_until(std::string_view name, Time until) override;
  [[nodiscard]] unsigned parallel() const override { return inner_.parallel(); }

 private:
  // Until `final` says that what went wrong is not the store's.
  template <class Call, class Final>
  auto tried(const Call& call, const Final& final) -> decltype(call());
  template <class Call>
  auto tried(const Call& call) {
    return tried(call, [] { return false; });
  }
  void pause(int attempt);

  ObjectStore& inner_;
  Clock& clock_;
  Random& random_;
  const Stop& stop_;
  const RetryLimits limits_;
};

}  // namespace holdfast
