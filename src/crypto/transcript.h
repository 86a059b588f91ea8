// SPDX-License-Identifier: Apache-2.0
// The one way to build what a KDF, MAC, signature or AEAD binds: a label, then length-prefixed
// fields. docs/formats/repository.md, "Labelled input".
#pragma once

#include <cassert>

#include "base/bytes.h"

namespace holdfast {

// T(purpose; f1 .. fn) = u8 len(label), label = "holdfast/v1/" + purpose, then for each field u32le
// length, bytes.
class Transcript {
 public:
  explicit Transcript(std::string_view purpose) {
    static constexpr std::string_view prefix = "holdfast/v1/";
    assert(!purpose.empty() && prefix.size() + purpose.size() <= 255);
    Writer w(bytes_);
    w.u8(static_cast<std::uint8_t>(prefix.size() + purpose.size()));
    w.raw(as_bytes(prefix));
    w.raw(as_bytes(purpose));
  }
  Transcript& field(ByteSpan bytes) & {
    assert(bytes.size() <= UINT32_MAX);
    Writer w(bytes_);
    w.u32(static_cast<std::uint32_t>(bytes.size()));
    w.raw(bytes);
    return *this;
  }
  Transcript&& field(ByteSpan bytes) && { return std::move(field(bytes)); }
  Transcript& text(std::string_view t) & { return field(as_bytes(t)); }
  Transcript&& text(std::string_view t) && { return std::move(field(as_bytes(t))); }
  // An integer is a field of its own size, little-endian.
  template <class T>
  Transcript& number(T value) & {
    std::byte raw[sizeof(T)];
    store_le(raw, value);
    return field(raw);
  }
  template <class T>
  Transcript&& number(T value) && {
    return std::move(number(value));
  }
  [[nodiscard]] ByteSpan span() const { return bytes_; }

 private:
  Bytes bytes_;
};

}  // namespace holdfast
