// SPDX-License-Identifier: Apache-2.0
// Listings as a service, or who plays one, may give them; and the names of places.
#include <cstdlib>

#include "store/s3_store.h"

using namespace holdfast;

extern "C" int LLVMFuzzerTestOneInput(const std::uint8_t* data, std::size_t size) {
  const ByteSpan bytes(reinterpret_cast<const std::byte*>(data), size);
  (void)parse_s3_page(bytes);
  (void)parse_s3_version_page(bytes);
  const auto place = S3Place::parse(as_text(bytes));
  // What goes into an address was looked at.
  if (place && !place->prefix.empty() && !check_list_prefix(place->prefix)) std::abort();
  return 0;
}
