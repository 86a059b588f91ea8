// SPDX-License-Identifier: Apache-2.0
#include "seal/secret.h"

#include <sodium.h>

#include "crypto/must.h"

namespace holdfast {

// sodium_malloc puts guard pages around and locks the pages where the limit allows; where it does
// not, the secret may reach swap, which is no reason to refuse a backup.
Secret::Secret(std::size_t size) {
  if (size == 0) return;
  data_ = static_cast<std::byte*>(sodium_malloc(size));
  crypto_must(data_ != nullptr, "allocating guarded memory");
  size_ = size;
  wipe(bytes());
}

Secret Secret::copy_of(ByteSpan bytes) {
  Secret out(bytes.size());
  if (!bytes.empty()) std::memcpy(out.data_, bytes.data(), bytes.size());
  return out;
}

Secret Secret::random(std::size_t size, Random& random) {
  Secret out(size);
  random.fill(out.bytes());
  return out;
}

Secret& Secret::operator=(Secret&& o) noexcept {
  if (this == &o) return *this;
  sodium_free(data_);
  data_ = std::exchange(o.data_, nullptr);
  size_ = std::exchange(o.size_, 0);
  return *this;
}

Secret::~Secret() { sodium_free(data_); }  // zeroes first

void wipe(MutableByteSpan bytes) {
  if (!bytes.empty()) sodium_memzero(bytes.data(), bytes.size());
}

}  // namespace holdfast
