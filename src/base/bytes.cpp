// SPDX-License-Identifier: Apache-2.0
#include "base/bytes.h"

#include <fmt/format.h>

namespace holdfast {
namespace {

constexpr std::string_view kDigits = "0123456789abcdef";

struct CodePoint {
  char32_t value = 0;
  std::size_t size = 0;  // bytes; 0: not valid UTF-8 here
};

// Unicode 15, table 3-7: the first byte gives the length and the range of the second; that excludes
// overlong forms, surrogates and what lies above U+10FFFF.
CodePoint decode_utf8(std::string_view text) {
  const auto at = [&](std::size_t i) { return static_cast<unsigned char>(text[i]); };
  const unsigned char first = at(0);
  if (first < 0x80) return {first, 1};
  if (first < 0xC2 || first > 0xF4) return {};
  const std::size_t size = first < 0xE0 ? 2 : first < 0xF0 ? 3 : 4;
  if (text.size() < size) return {};
  unsigned char low = 0x80;
  unsigned char high = 0xBF;
  if (first == 0xE0) low = 0xA0;
  if (first == 0xED) high = 0x9F;
  if (first == 0xF0) low = 0x90;
  if (first == 0xF4) high = 0x8F;
  char32_t value = first & (0xFFU >> (size + 1));
  for (std::size_t i = 1; i < size; ++i) {
    if (at(i) < low || at(i) > high) return {};
    low = 0x80;
    high = 0xBF;
    value = value << 6 | (at(i) & 0x3FU);
  }
  return {value, size};
}

// What a terminal or a reader's eye could be led by: controls, and what reorders, breaks or hides
// text.
bool is_harmless(char32_t c) {
  if (c < 0x20 || (c >= 0x7F && c <= 0x9F)) return false;
  if (c == 0x061C || c == 0x200E || c == 0x200F || c == 0xFEFF) return false;
  const bool breaks_or_reorders = c >= 0x2028 && c <= 0x202E;
  const bool isolates = c >= 0x2066 && c <= 0x2069;
  return !breaks_or_reorders && !isolates;
}

void append_escaped_bytes(std::string& out, std::string_view bytes) {
  for (const char c : bytes) {
    const auto b = static_cast<unsigned char>(c);
    out += "\\x";
    out += kDigits[b >> 4];
    out += kDigits[b & 15];
  }
}

}  // namespace

std::string to_hex(ByteSpan bytes) {
  std::string out;
  out.reserve(2 * bytes.size());
  for (const std::byte b : bytes) {
    out += kDigits[static_cast<unsigned>(b) >> 4];
    out += kDigits[static_cast<unsigned>(b) & 15];
  }
  return out;
}

Result<> from_hex(std::string_view text, MutableByteSpan out) {
  const auto refuse = [&] {
    constexpr std::size_t shown_max = 80;
    return fail(Code::invalid, fmt::format("'{}': expected {} lower-case hex digits",
                                           escaped(text.substr(0, shown_max)), 2 * out.size()));
  };
  if (text.size() != 2 * out.size()) return refuse();
  for (std::size_t i = 0; i < out.size(); ++i) {
    const std::size_t high = kDigits.find(text[2 * i]);
    const std::size_t low = kDigits.find(text[2 * i + 1]);
    if (high == std::string_view::npos || low == std::string_view::npos) return refuse();
    out[i] = static_cast<std::byte>(high << 4 | low);
  }
  return {};
}

std::string escaped(std::string_view text) {
  std::string out;
  out.reserve(text.size());
  while (!text.empty()) {
    const CodePoint c = decode_utf8(text);
    const std::string_view bytes = text.substr(0, c.size == 0 ? 1 : c.size);
    if (bytes == "\\")
      out += "\\\\";
    else if (c.size != 0 && is_harmless(c.value))
      out += bytes;
    else
      append_escaped_bytes(out, bytes);
    text.remove_prefix(bytes.size());
  }
  return out;
}

}  // namespace holdfast
