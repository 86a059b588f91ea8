// SPDX-License-Identifier: Apache-2.0
// Node decoders on any bytes. What they accept is canonical: encoded again it is the input.
#include <algorithm>
#include <cstdlib>

#include "repo/tree.h"

namespace {

using holdfast::Bytes;
using holdfast::ByteSpan;

template <class Decode, class Encode>
void round_trip(ByteSpan in, Decode decode, Encode encode) {
  const auto node = decode(in);
  if (!node) return;
  if (!std::ranges::equal(encode(*node), in)) std::abort();
}

}  // namespace

extern "C" int LLVMFuzzerTestOneInput(const std::uint8_t* data, std::size_t size) {
  const ByteSpan in(reinterpret_cast<const std::byte*>(data), size);
  round_trip(in, holdfast::decode_leaf, holdfast::encode_leaf);
  round_trip(in, holdfast::decode_inner, holdfast::encode_inner);
  round_trip(in, holdfast::decode_list, holdfast::encode_list);
  return 0;
}
