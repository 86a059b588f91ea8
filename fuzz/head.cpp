// SPDX-License-Identifier: Apache-2.0
// Parsers of heads, pack lists, session records and repository secrets. The first byte chooses
// which.
#include "repo/head.h"

#include <cstdlib>

#include "crypto/sign.h"

using namespace holdfast;

extern "C" int LLVMFuzzerTestOneInput(const std::uint8_t* data, std::size_t size) {
  static const bool started = (start_crypto(), true);
  if (!started || size == 0) return 0;
  const ByteSpan rest(reinterpret_cast<const std::byte*>(data) + 1, size - 1);
  const Place place{};  // of the seeds: zeros
  switch (data[0] % 6) {
    case 0:
      // A record is accepted in one encoding only.
      if (const auto head = parse_head(rest, place);
          head && encode_head(*head, place) != Bytes(rest.begin(), rest.end()))
        std::abort();
      break;
    case 1:
      if (const auto list = parse_pack_list(rest);
          list && encode_pack_list(*list) != Bytes(rest.begin(), rest.end()))
        std::abort();
      break;
    case 2:
      (void)parse_session_open(rest);
      break;
    case 3:
      (void)parse_session_generation(rest);
      break;
    case 4:
      (void)parse_secrets(rest);
      break;
    default:
      (void)parse_head_name(as_text(rest));
  }
  return 0;
}
