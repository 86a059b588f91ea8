// SPDX-License-Identifier: Apache-2.0
// Calls that wait for something far away, several at once.
#pragma once

#include <algorithm>
#include <atomic>
#include <cstddef>
#include <thread>
#include <vector>

namespace holdfast {

// work(i) for every i below `count`, on up to `threads` threads, of which this one is one. Returns
// when all are done. With one thread: in order.
template <class Work>
void parallel_for(unsigned threads, std::size_t count, const Work& work) {
  std::atomic<std::size_t> next{0};
  const auto run = [&] {
    for (std::size_t i = next.fetch_add(1); i < count; i = next.fetch_add(1)) work(i);
  };
  std::vector<std::jthread> others;
  const std::size_t wanted = std::min<std::size_t>(threads, count);
  for (std::size_t n = 1; n < wanted; ++n) others.emplace_back(run);
  run();
}

}  // namespace holdfast
