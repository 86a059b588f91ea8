// SPDX-License-Identifier: Apache-2.0
// Speed of each way to compute cuts: of all bytes of random data (those that are skipped count),
// and of a scan alone, where nothing is skipped.
#include <benchmark/benchmark.h>

#include <random>

#include "crypto/sign.h"
#include "repo/chunker.h"

namespace holdfast {
namespace {

Bytes random_bytes(std::size_t size) {
  std::mt19937_64 rng(1);
  Bytes out(size);
  for (std::size_t i = 0; i < size; i += 8) store_le(&out[i], rng());
  return out;
}

void cut_all(benchmark::State& state, ChunkerPath path, const ChunkerLimits& limits) {
  const Bytes key(32, std::byte{7});
  const Bytes data = random_bytes(16U << 20);
  const Chunker chunker(key, path, limits);
  for (auto _ : state)
    for (ByteSpan rest = data; !rest.empty();) rest = rest.subspan(chunker.cut(rest));
  state.SetBytesProcessed(state.iterations() * static_cast<std::int64_t>(data.size()));
}

void register_all() {
  constexpr ChunkerLimits scan{.min = 64, .max = kChunkMax, .average = 1U << 31};
  for (const auto path : {ChunkerPath::portable, ChunkerPath::aesni, ChunkerPath::vaes256,
                          ChunkerPath::vaes512, ChunkerPath::arm_aes}) {
    if (!chunker_path_available(path)) continue;
    const std::string name(chunker_path_name(path));
    benchmark::RegisterBenchmark(("cut/" + name).c_str(), cut_all, path, kChunkerLimits);
    benchmark::RegisterBenchmark(("scan/" + name).c_str(), cut_all, path, scan);
  }
}

}  // namespace
}  // namespace holdfast

int main(int argc, char** argv) {
  holdfast::start_crypto();
  holdfast::register_all();
  benchmark::Initialize(&argc, argv);
  benchmark::RunSpecifiedBenchmarks();
}
