// SPDX-License-Identifier: Apache-2.0
#include "store/retry_store.h"

#include <fmt/format.h>

#include <algorithm>
#include <array>
#include <unordered_set>

namespace holdfast {

// Nobody waits longer than this for a user's wish to stop.
constexpr std::int64_t kNapNs = 100'000'000;

void RetryStore::pause(int attempt) {
  const int doublings = std::min(attempt - 1, 20);
  const std::int64_t most = std::min(limits_.longest_ns, limits_.first_ns << doublings);
  std::array<std::byte, 8> drawn{};
  random_.fill(drawn);
  const std::uint64_t draw = load_le<std::uint64_t>(drawn.data());
  auto left = static_cast<std::int64_t>(draw % static_cast<std::uint64_t>(most + 1));
  for (; left > 0 && !stop_.requested(); left -= kNapNs) clock_.sleep_ns(std::min(left, kNapNs));
}

template <class Call, class Final>
auto RetryStore::tried(const Call& call, const Final& final) -> decltype(call()) {
  for (int attempt = 1;; ++attempt) {
    auto result = call();
    if (result || result.error().code != Code::unavailable || final()) return result;
    if (attempt >= limits_.attempts || stop_.requested()) {
      if (attempt > 1) result.error().what += fmt::format("; tried {} times", attempt);
      return result;
    }
    pause(attempt);
  }
}

Result<> RetryStore::put(std::string_view name, ByteSpan bytes) {
  return tried([&] { return inner_.put(name, bytes); });
}

Result<Bytes> RetryStore::get(std::string_view name, std::uint64_t size_max) {
  return tried([&] { return inner_.get(name, size_max); });
}

Result<> RetryStore::get_range(std::string_view name, std::uint64_t offset, MutableByteSpan out) {
  return tried([&] { return inner_.get_range(name, offset, out); });
}

Result<std::uint64_t> RetryStore::size(std::string_view name) {
  return tried([&] { return inner_.size(name); });
}

Result<ObjectStore::Tail> RetryStore::get_tail(std::string_view name, std::size_t most) {
  return tried([&] { return inner_.get_tail(name, most); });
}

Result<> RetryStore::list(std::string_view prefix,
                          const std::function<Result<>(const ObjectInfo&)>& visit) {
  std::unordered_set<std::string> seen;
  Result<> visitor;
  const auto once = [&](const ObjectInfo& info) -> Result<> {
    if (!seen.insert(info.name).second) return {};
    visitor = visit(info);
    return visitor;
  };
  return tried([&] { return inner_.list(prefix, once); }, [&] { return !visitor; });
}

Result<> RetryStore::remove(std::string_view name) {
  return tried([&] { return inner_.remove(name); });
}

Result<StoreLock> RetryStore::lock() {
  return tried([&] { return inner_.lock(); });
}

Result<> RetryStore::keep_until(std::string_view name, Time until) {
  return tried([&] { return inner_.keep_until(name, until); });
}

}  // namespace holdfast
