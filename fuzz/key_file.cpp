// SPDX-License-Identifier: Apache-2.0
// A key file from anybody. Its checks are made right, so that what lies behind them is reached too.
#include <algorithm>
#include <cstdlib>

#include "account/device_keys.h"
#include "crypto/hash.h"
#include "crypto/purposes.h"
#include "crypto/transcript.h"

namespace holdfast {
namespace {

constexpr std::size_t kHeader = 60, kChecked = 52;

void open(ByteSpan file) {
  (void)key_file_needs_passphrase(file);
  const auto keys = open_key_file(file, {});
  if (keys && !std::ranges::equal(plain_key_file(*keys).span(), file)) std::abort();
}

void make_right(Bytes& file) {
  if (file.size() < kHeader + 32) return;
  const Hash256 head =
      sha256(Transcript(purpose::home_header).field(ByteSpan(file).first(kChecked)).span());
  std::copy_n(head.bytes.begin(), kHeader - kChecked, file.begin() + kChecked);
  const ByteSpan payload = ByteSpan(file).subspan(kHeader, file.size() - kHeader - 32);
  const Hash256 check = sha256(
      Transcript(purpose::home_plain).field(ByteSpan(file).first(kHeader)).field(payload).span());
  std::ranges::copy(check.bytes, file.end() - 32);
}

}  // namespace
}  // namespace holdfast

extern "C" int LLVMFuzzerInitialize(int*, char***) {
  holdfast::start_crypto();
  return 0;
}
extern "C" int LLVMFuzzerTestOneInput(const std::uint8_t* data, std::size_t size) {
  const holdfast::ByteSpan input{reinterpret_cast<const std::byte*>(data), size};
  holdfast::open(input);
  holdfast::Bytes file(input.begin(), input.end());
  holdfast::make_right(file);
  holdfast::open(file);
  return 0;
}
