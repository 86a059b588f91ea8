// SPDX-License-Identifier: Apache-2.0
// Every way to compute cuts that this machine has against the portable one, on data of the fuzzer,
// repeated so that it reaches past a block.
#include "repo/chunker.h"

#include <cstdlib>

using namespace holdfast;

namespace {

struct Ways {
  Ways() {
    for (const auto path : {ChunkerPath::portable, ChunkerPath::aesni, ChunkerPath::vaes256,
                            ChunkerPath::vaes512, ChunkerPath::arm_aes})
      for (const ChunkerLimits& limits : {ChunkerLimits{64, 5000, 512}, {256, 20000, 2048}})
        if (chunker_path_available(path))
          all.push_back(std::make_unique<Chunker>(Bytes(32, std::byte{1}), path, limits));
  }
  std::vector<std::unique_ptr<Chunker>> all;  // pairs, portable first
};

}  // namespace

extern "C" int LLVMFuzzerTestOneInput(const std::uint8_t* data, std::size_t size) {
  static const Ways ways;
  if (size == 0) return 0;
  const std::size_t repeats = 1 + data[0] % 4;
  Bytes bytes;
  for (std::size_t i = 0; i < repeats; ++i)
    bytes.insert(bytes.end(), reinterpret_cast<const std::byte*>(data) + 1,
                 reinterpret_cast<const std::byte*>(data) + size);
  for (ByteSpan rest = bytes; !rest.empty();) {
    for (std::size_t i = 2; i < ways.all.size(); ++i)
      if (ways.all[i]->cut(rest) != ways.all[i % 2]->cut(rest)) std::abort();
    rest = rest.subspan(ways.all[0]->cut(rest));
  }
  return 0;
}
