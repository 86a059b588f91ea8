// SPDX-License-Identifier: Apache-2.0
// Bytes, and little-endian cursors over them. Every binary format of the project is read and
// written with these.
#pragma once

#include <array>
#include <bit>
#include <cstddef>
#include <cstdint>
#include <cstring>
#include <span>
#include <string>
#include <string_view>
#include <vector>

#include "base/result.h"

namespace holdfast {

using Bytes = std::vector<std::byte>;
using ByteSpan = std::span<const std::byte>;
using MutableByteSpan = std::span<std::byte>;

inline ByteSpan as_bytes(std::string_view text) {
  return {reinterpret_cast<const std::byte*>(text.data()), text.size()};
}
inline std::string_view as_text(ByteSpan bytes) {
  return {reinterpret_cast<const char*>(bytes.data()), bytes.size()};
}
inline const unsigned char* uchars(ByteSpan bytes) {
  return reinterpret_cast<const unsigned char*>(bytes.data());
}
inline unsigned char* uchars(MutableByteSpan bytes) {
  return reinterpret_cast<unsigned char*>(bytes.data());
}

// Lower-case hex. from_hex: Code::invalid unless `text` is exactly 2 * out.size() hex digits.
std::string to_hex(ByteSpan bytes);
Result<> from_hex(std::string_view text, MutableByteSpan out);

// For anything printed that did not come from us: names, hosts, tags, link targets, server texts
// (RST-11). Reversible: control bytes, DEL, invalid UTF-8, C1 and bidirectional controls become
// \xNN (each byte of them); a backslash becomes \\. Everything else stays as it is.
std::string escaped(std::string_view text);

template <class T>
T load_le(const std::byte* p) {
  T value;
  std::memcpy(&value, p, sizeof value);
  if constexpr (std::endian::native == std::endian::big && sizeof(T) > 1)
    value = std::byteswap(value);
  return value;
}
template <class T>
void store_le(std::byte* p, T value) {
  if constexpr (std::endian::native == std::endian::big && sizeof(T) > 1)
    value = std::byteswap(value);
  std::memcpy(p, &value, sizeof value);
}

// Appends to a buffer it does not own.
class Writer {
 public:
  explicit Writer(Bytes& out) : out_(out) {}
  template <class T>
  void le(T value) {
    const std::size_t at = out_.size();
    out_.resize(at + sizeof(T));
    store_le(out_.data() + at, value);
  }
  void u8(std::uint8_t v) { out_.push_back(static_cast<std::byte>(v)); }
  void u16(std::uint16_t v) { le(v); }
  void u32(std::uint32_t v) { le(v); }
  void u64(std::uint64_t v) { le(v); }
  // LEB128, at most 10 bytes, shortest form only.
  void varint(std::uint64_t v) {
    while (v >= 0x80) {
      u8(static_cast<std::uint8_t>(v | 0x80));
      v >>= 7;
    }
    u8(static_cast<std::uint8_t>(v));
  }
  // Zigzag then varint.
  void svarint(std::int64_t v) {
    varint((static_cast<std::uint64_t>(v) << 1) ^ static_cast<std::uint64_t>(v >> 63));
  }
  void raw(ByteSpan bytes) { out_.insert(out_.end(), bytes.begin(), bytes.end()); }
  void zeros(std::size_t n) { out_.resize(out_.size() + n); }
  // varint length, then the bytes.
  void block(ByteSpan bytes) {
    varint(bytes.size());
    raw(bytes);
  }

 private:
  Bytes& out_;
};

// Reads; the first failure sticks and later reads give zeros and empty spans, so a parser reads a
// whole record and asks ok() once before it uses any of it. Never reads past the end; lengths are
// checked against what is left before anything is allocated.
class Reader {
 public:
  explicit Reader(ByteSpan in) : in_(in) {}
  [[nodiscard]] bool ok() const { return ok_; }
  [[nodiscard]] bool at_end() const { return ok_ && pos_ == in_.size(); }
  [[nodiscard]] std::size_t left() const { return ok_ ? in_.size() - pos_ : 0; }
  [[nodiscard]] std::size_t position() const { return pos_; }
  template <class T>
  T le() {
    const ByteSpan b = take(sizeof(T));
    return ok_ ? load_le<T>(b.data()) : T{};
  }
  std::uint8_t u8() { return le<std::uint8_t>(); }
  std::uint16_t u16() { return le<std::uint16_t>(); }
  std::uint32_t u32() { return le<std::uint32_t>(); }
  std::uint64_t u64() { return le<std::uint64_t>(); }
  std::uint64_t varint() {
    std::uint64_t v = 0;
    for (int shift = 0; shift < 64; shift += 7) {
      const std::uint8_t b = u8();
      if (!ok_) return 0;
      const std::uint64_t part = b & 0x7F;
      if ((shift == 63 && part > 1) || (shift > 0 && b == 0))
        break;  // overflow, or not the shortest form
      v |= part << shift;
      if ((b & 0x80) == 0) return v;
    }
    fail();
    return 0;
  }
  std::int64_t svarint() {
    const std::uint64_t v = varint();
    return static_cast<std::int64_t>(v >> 1) ^ -static_cast<std::int64_t>(v & 1);
  }
  ByteSpan take(std::size_t n) {
    if (!ok_ || n > in_.size() - pos_) {
      fail();
      return {};
    }
    const ByteSpan out = in_.subspan(pos_, n);
    pos_ += n;
    return out;
  }
  // varint length (at most `max`), then the bytes.
  ByteSpan block(std::size_t max) {
    const std::uint64_t n = varint();
    if (n > max || n > left()) {
      fail();
      return {};
    }
    return take(static_cast<std::size_t>(n));
  }
  void fail() { ok_ = false; }

 private:
  ByteSpan in_;
  std::size_t pos_ = 0;
  bool ok_ = true;
};

}  // namespace holdfast
