// SPDX-License-Identifier: Apache-2.0
// Parsers of the records of retention and collection. The first byte chooses which.
#include "repo/collection.h"

using namespace holdfast;

extern "C" int LLVMFuzzerTestOneInput(const std::uint8_t* data, std::size_t size) {
  if (size == 0) return 0;
  const ByteSpan rest(reinterpret_cast<const std::byte*>(data) + 1, size - 1);
  const Place place{};  // of the seeds: zeros
  switch (data[0] % 5) {
    case 0:
      (void)parse_collection(rest, place);
      break;
    case 1:
      (void)parse_collection_done(rest, place);
      break;
    case 2:
      (void)parse_abandoned(rest, place);
      break;
    case 3:
      (void)parse_tags(rest, place);
      break;
    default:
      (void)parse_dropped(rest, place);
  }
  return 0;
}
