// SPDX-License-Identifier: Apache-2.0
// Secret bytes: in libsodium's guarded memory, locked where the limit allows, zeroed when they go.
// Move only.
#pragma once

#include <utility>

#include "base/bytes.h"
#include "base/world.h"

namespace holdfast {

class Secret {
 public:
  Secret() = default;
  explicit Secret(std::size_t size);  // zeros
  static Secret copy_of(ByteSpan bytes);
  static Secret random(std::size_t size, Random& random);
  Secret(Secret&& o) noexcept
      : data_(std::exchange(o.data_, nullptr)), size_(std::exchange(o.size_, 0)) {}
  Secret& operator=(Secret&& o) noexcept;
  Secret(const Secret&) = delete;
  Secret& operator=(const Secret&) = delete;
  ~Secret();
  [[nodiscard]] Secret clone() const { return copy_of(span()); }
  [[nodiscard]] ByteSpan span() const { return {data_, size_}; }
  [[nodiscard]] MutableByteSpan bytes() { return {data_, size_}; }
  [[nodiscard]] std::size_t size() const { return size_; }
  [[nodiscard]] bool empty() const { return size_ == 0; }

 private:
  std::byte* data_ = nullptr;
  std::size_t size_ = 0;
};

// Zeroes memory in a way the compiler keeps.
void wipe(MutableByteSpan bytes);

}  // namespace holdfast
