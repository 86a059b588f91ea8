// SPDX-License-Identifier: Apache-2.0
// A bounded cache, least recently used first out, in which each value is loaded by one thread while
// the others that want it wait.
#pragma once

#include <condition_variable>
#include <list>
#include <memory>
#include <mutex>
#include <optional>
#include <span>
#include <unordered_map>
#include <vector>

#include "base/result.h"

namespace holdfast {

// Thread-safe. Values are shared: one that was dropped lives as long as somebody holds it.
template <class Key, class T, class Hash>
class SingleFlightCache {
 public:
  using Value = std::shared_ptr<const T>;
  struct Loaded {
    Value value;
    std::size_t cost;
  };
  explicit SingleFlightCache(std::size_t cost_max) : cost_max_(cost_max) {}

  // The value if it is there.
  Value find(const Key& key) {
    const std::lock_guard lock(mutex_);
    return find_locked(key);
  }
  // `load`: () -> Result<Loaded>, called without a lock, by one thread for a key at a time. Its
  // error goes to all who waited for it; the next call tries again.
  template <class Load>
  Result<Value> get(const Key& key, const Load& load) {
    std::unique_lock lock(mutex_);
    if (Value found = find_locked(key)) return found;
    if (const auto at = flights_.find(key); at != flights_.end()) {
      const std::shared_ptr<Flight> flight = at->second;
      landed_.wait(lock, [&flight] { return flight->result.has_value(); });
      return *flight->result;
    }
    const auto flight = std::make_shared<Flight>();
    flights_.emplace(key, flight);
    lock.unlock();
    Result<Loaded> loaded = load();
    lock.lock();
    land(key, *flight, std::move(loaded));
    landed_.notify_all();
    return *flight->result;
  }
  // Whether it is there or being loaded.
  bool knows(const Key& key) {
    const std::lock_guard lock(mutex_);
    return entries_.contains(key) || flights_.contains(key);
  }
  // The value if it is there or being loaded; it is not there any more then.
  Value take(const Key& key) {
    std::unique_lock lock(mutex_);
    if (const auto at = flights_.find(key); at != flights_.end()) {
      const std::shared_ptr<Flight> flight = at->second;
      landed_.wait(lock, [&flight] { return flight->result.has_value(); });
    }
    Value value = find_locked(key);
    if (value) erase(order_.begin());  // where find_locked() put it
    return value;
  }
  // What of `keys` is neither there nor being loaded is loaded by one call of `load`: (keys) -> a
  // Result<Loaded> for each, in their order. Gives those that it was called for.
  template <class LoadAll>
  std::vector<Key> load_together(std::span<const Key> keys, const LoadAll& load) {
    std::vector<Key> missing;
    std::vector<std::shared_ptr<Flight>> flights;
    std::unique_lock lock(mutex_);
    for (const Key& key : keys) {
      if (find_locked(key) || flights_.contains(key)) continue;
      missing.push_back(key);
      flights_.emplace(key, flights.emplace_back(std::make_shared<Flight>()));
    }
    if (missing.empty()) return {};
    lock.unlock();
    std::vector<Result<Loaded>> loaded = load(missing);
    lock.lock();
    for (std::size_t i = 0; i < missing.size(); ++i)
      land(missing[i], *flights[i], std::move(loaded[i]));
    landed_.notify_all();
    return missing;
  }

 private:
  struct Flight {
    std::optional<Result<Value>> result;
  };
  struct Entry {
    Key key;
    Loaded loaded;
  };
  void land(const Key& key, Flight& flight, Result<Loaded> loaded) {
    flights_.erase(key);
    if (!loaded) {
      flight.result = std::unexpected(std::move(loaded).error());
      return;
    }
    flight.result = loaded->value;
    insert(key, std::move(*loaded));
  }
  Value find_locked(const Key& key) {
    const auto at = entries_.find(key);
    if (at == entries_.end()) return nullptr;
    order_.splice(order_.begin(), order_, at->second);
    return at->second->loaded.value;
  }
  void insert(const Key& key, Loaded loaded) {
    cost_ += loaded.cost;
    order_.push_front({key, std::move(loaded)});
    entries_.emplace(key, order_.begin());
    while (cost_ > cost_max_ && !order_.empty()) erase(std::prev(order_.end()));
  }
  void erase(typename std::list<Entry>::iterator at) {
    cost_ -= at->loaded.cost;
    entries_.erase(at->key);
    order_.erase(at);
  }

  const std::size_t cost_max_;
  std::mutex mutex_;
  std::condition_variable landed_;
  std::list<Entry> order_;  // newest first
  std::unordered_map<Key, typename std::list<Entry>::iterator, Hash> entries_;
  std::unordered_map<Key, std::shared_ptr<Flight>, Hash> flights_;
  std::size_t cost_ = 0;
};

}  // namespace holdfast
