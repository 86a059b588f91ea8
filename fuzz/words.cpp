// SPDX-License-Identifier: Apache-2.0
// A paper key as typed by anybody; and a page on which one byte is another: it is refused, or still
// gives the same key.
#include <cstdlib>

#include "account/paper_key.h"
#include "crypto/hash.h"
#include "crypto/sign.h"

namespace holdfast {
namespace {

void read_text(ByteSpan input) {
  const auto parsed = parse_paper_key(as_text(input));
  if (!parsed) return;
  const auto again = parse_paper_key(as_text(parsed->key.words().span()));
  if (!again || !equal_secret(again->key.bits(), parsed->key.bits())) std::abort();
}

void change_page(ByteSpan input) {
  Reader in(input);
  const ByteSpan bits = in.take(32);
  const std::uint16_t at = in.u16();
  const std::byte to{in.u8()};
  if (!in.ok()) return;
  const PaperKey key = PaperKey::from_bits(Secret::copy_of(bits));
  Secret page = render_paper_key(key, AccountId::from(bits));
  page.bytes()[at % page.size()] = to;
  const auto parsed = parse_paper_key(as_text(page.span()));
  if (parsed && !equal_secret(parsed->key.bits(), key.bits())) std::abort();
}

}  // namespace
}  // namespace holdfast

extern "C" int LLVMFuzzerInitialize(int*, char***) {
  holdfast::start_crypto();
  return 0;
}
extern "C" int LLVMFuzzerTestOneInput(const std::uint8_t* data, std::size_t size) {
  const holdfast::ByteSpan input{reinterpret_cast<const std::byte*>(data), size};
  holdfast::read_text(input);
  holdfast::change_page(input);
  return 0;
}
