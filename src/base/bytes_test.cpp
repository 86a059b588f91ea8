// SPDX-License-Identifier: Apache-2.0
#include "base/bytes.h"

#include <gtest/gtest.h>
#include <rapidcheck.h>

#include "base/id.h"
#include "base/queue.h"
#include "base/seeded_random.h"

namespace holdfast {
namespace {

using namespace std::string_literals;

std::string encoded(std::uint64_t v) {
  Bytes out;
  Writer(out).varint(v);
  return to_hex(out);
}

Bytes from(std::string_view hex) {
  Bytes out(hex.size() / 2);
  EXPECT_TRUE(from_hex(hex, out));
  return out;
}

TEST(Hex, rows) {
  EXPECT_EQ(to_hex(as_bytes("\x00\x7f\xff"s)), "007fff");
  EXPECT_EQ(to_hex({}), "");
  Bytes out(2);
  EXPECT_TRUE(from_hex("a0ff", out));
  EXPECT_EQ(to_hex(out), "a0ff");
  for (const std::string_view bad :
       {"", "a0f", "a0ff0", "a0ff00", "a0fg", "A0FF", "0xff", " a0f", "a0f\xC3", "+1-1"}) {
    const auto got = from_hex(bad, out);
    ASSERT_FALSE(got) << bad;
    EXPECT_EQ(got.error().code, Code::invalid);
    EXPECT_NE(got.error().what.find("expected 4 lower-case hex digits"), std::string::npos);
  }
}

TEST(Hex, error_text_shows_bad_input_escaped_and_short) {
  Bytes out(2);
  const auto got = from_hex("\x1b]0;" + std::string(100000, 'a'), out);
  ASSERT_FALSE(got);
  EXPECT_EQ(got.error().what.find('\x1b'), std::string::npos);
  EXPECT_LT(got.error().what.size(), 200U);
}

TEST(Id, parses_only_its_own_size) {
  EXPECT_TRUE(DeviceId::parse(std::string(32, 'a')));
  EXPECT_FALSE(DeviceId::parse(std::string(64, 'a')));
  EXPECT_EQ(DeviceId::parse(std::string(32, 'a'))->brief(), std::string(12, 'a'));
  EXPECT_LT(*DeviceId::parse(std::string(32, '0')), *DeviceId::parse(std::string(32, 'f')));
}

TEST(Varint, rows) {
  struct Row {
    std::uint64_t value;
    std::string_view hex;
  };
  constexpr Row rows[] = {
      {0, "00"},
      {1, "01"},
      {127, "7f"},
      {128, "8001"},
      {300, "ac02"},
      {16383, "ff7f"},
      {16384, "808001"},
      {UINT32_MAX, "ffffffff0f"},
      {1ULL << 63, "80808080808080808001"},
      {UINT64_MAX, "ffffffffffffffffff01"},
  };
  for (const auto& [value, hex] : rows) {
    EXPECT_EQ(encoded(value), hex);
    const Bytes bytes = from(hex);
    Reader in(bytes);
    EXPECT_EQ(in.varint(), value);
    EXPECT_TRUE(in.at_end());
  }
}

TEST(Varint, refuses_what_is_longer_than_needed_or_too_great) {
  for (const std::string_view hex :
       {"", "80", "8000", "ff00", "818000", "ffffffffffffffffff02", "ffffffffffffffffff81",
        "8080808080808080808001", "ffffffffffffffffffff"}) {
    const Bytes bytes = from(hex);
    Reader in(bytes);
    EXPECT_EQ(in.varint(), 0U) << hex;
    EXPECT_FALSE(in.ok()) << hex;
  }
}

TEST(Varint, round_trip) {
  rc::check([](std::uint64_t u, std::int64_t s, std::uint8_t shift) {
    Bytes out;
    Writer w(out);
    w.varint(u >> (shift % 64));
    w.svarint(s >> (shift % 64));
    Reader in(out);
    RC_ASSERT(in.varint() == u >> (shift % 64));
    RC_ASSERT(in.svarint() == s >> (shift % 64));
    RC_ASSERT(in.at_end());
  });
  for (const std::int64_t v : {INT64_MIN, INT64_MIN + 1, std::int64_t{-1}, INT64_MAX}) {
    Bytes out;
    Writer(out).svarint(v);
    Reader in(out);
    EXPECT_EQ(in.svarint(), v);
  }
}

TEST(Writer, is_little_endian) {
  Bytes out;
  Writer w(out);
  w.u8(1);
  w.u16(0x0203);
  w.u32(0x04050607);
  w.u64(0x08090A0B0C0D0E0F);
  w.zeros(2);
  w.block(as_bytes("ab"));
  EXPECT_EQ(to_hex(out),
            "01"
            "0302"
            "07060504"
            "0f0e0d0c0b0a0908"
            "0000"
            "026162");
  Reader in(out);
  EXPECT_EQ(in.u8(), 1);
  EXPECT_EQ(in.u16(), 0x0203);
  EXPECT_EQ(in.u32(), 0x04050607U);
  EXPECT_EQ(in.u64(), 0x08090A0B0C0D0E0FU);
  EXPECT_EQ(in.u16(), 0);
  EXPECT_EQ(in.left(), 3U);
  EXPECT_EQ(as_text(in.block(2)), "ab");
  EXPECT_TRUE(in.at_end());
}

TEST(Reader, first_failure_sticks_and_nothing_is_read_past_the_end) {
  const Bytes bytes = from("010203");
  Reader in(bytes);
  EXPECT_EQ(in.u32(), 0U);
  EXPECT_FALSE(in.ok());
  EXPECT_EQ(in.u8(), 0);
  EXPECT_EQ(in.left(), 0U);
  EXPECT_FALSE(in.at_end());
  EXPECT_TRUE(in.take(0).empty());
}

TEST(Reader, block_is_held_against_limit_and_rest) {
  for (const auto& [hex, max, good] : {std::tuple("026162", 2U, true),
                                       {"026162", 1U, false},
                                       {"036162", 9U, false},
                                       {"ffffffffffffffffff01", 9U, false},
                                       {"00", 0U, true}}) {
    const Bytes bytes = from(hex);
    Reader in(bytes);
    in.block(max);
    EXPECT_EQ(in.ok(), good) << hex;
  }
}

// The inverse that the header promises.
std::string unescaped(std::string_view text) {
  std::string out;
  for (std::size_t i = 0; i < text.size(); ++i) {
    if (text[i] != '\\') {
      out += text[i];
    } else if (text[++i] == '\\') {
      out += '\\';
    } else {
      std::byte b[1];
      EXPECT_TRUE(from_hex(text.substr(i + 1, 2), b));
      out += static_cast<char>(b[0]);
      i += 2;
    }
  }
  return out;
}

TEST(Escaped, rows) {
  const std::pair<std::string, std::string> rows[] = {
      {"", ""},
      {"plain name.txt ~!", "plain name.txt ~!"},
      {"a\\b", "a\\\\b"},
      {"\\x1b", "\\\\x1b"},
      {"a\nb\tc", "a\\x0ab\\x09c"},
      {"a\0b"s, "a\\x00b"},
      {"\x7f", "\\x7f"},
      {"Grüße, 日本, 🙂", "Grüße, 日本, 🙂"},
      {"\xC2\x80", "\\xc2\\x80"},
      {"\xC2\x9B"
       "31m",
       "\\xc2\\x9b31m"},
      {"\xC2\xA0", "\xC2\xA0"},                      // first after C1
      {"\xFF\xFE", "\\xff\\xfe"},                    // never in UTF-8
      {"\x80", "\\x80"},                             // continuation alone
      {"\xC0\xAF", "\\xc0\\xaf"},                    // overlong '/'
      {"\xC1\xBF", "\\xc1\\xbf"},                    // overlong
      {"\xE0\x80\xAF", "\\xe0\\x80\\xaf"},           // overlong
      {"\xE0\x9F\xBF", "\\xe0\\x9f\\xbf"},           // overlong
      {"\xE0\xA0\x80", "\xE0\xA0\x80"},              // first of three bytes
      {"\xED\x9F\xBF", "\xED\x9F\xBF"},              // last before the surrogates
      {"\xED\xA0\x80", "\\xed\\xa0\\x80"},           // surrogate
      {"\xED\xBF\xBF", "\\xed\\xbf\\xbf"},           // surrogate
      {"\xEE\x80\x80", "\xEE\x80\x80"},              // first after
      {"\xF0\x8F\xBF\xBF", "\\xf0\\x8f\\xbf\\xbf"},  // overlong
      {"\xF0\x90\x80\x80", "\xF0\x90\x80\x80"},      // U+10000
      {"\xF4\x8F\xBF\xBF", "\xF4\x8F\xBF\xBF"},      // U+10FFFF
      {"\xF4\x90\x80\x80", "\\xf4\\x90\\x80\\x80"},  // above
      {"\xF5\x80\x80\x80", "\\xf5\\x80\\x80\\x80"},
      {"\xE6\x97", "\\xe6\\x97"},  // cut off
      {"\xE6\x97X", "\\xe6\\x97X"},
      {"\xEF\xBB\xBF", "\\xef\\xbb\\xbf"},  // U+FEFF
      {"\xE2\x80\xA8\xE2\x80\xA9", "\\xe2\\x80\\xa8\\xe2\\x80\\xa9"},
      {"\xE2\x80\xA7\xE2\x80\xAF", "\xE2\x80\xA7\xE2\x80\xAF"},  // either side of them
  };
  for (const auto& [in, want] : rows) {
    EXPECT_EQ(escaped(in), want);
    EXPECT_EQ(unescaped(want), in);
  }
}

TEST(Escaped, RST_11_no_terminal_or_bidi_control_comes_through) {
  const std::string attacks[] = {
      "\x1b]0;title\x07",
      "\x1b]52;c;cm0gLXJmIC8=\x07",
      "a\rb",
      "\x9b"
      "2J",
      "\x08\x08\x08",
      "\xD8\x9C",
      "\xE2\x80\x8E",
      "\xE2\x80\x8F",  // 061C 200E 200F
      "\xE2\x80\xAA",
      "\xE2\x80\xAB",
      "\xE2\x80\xAC",
      "\xE2\x80\xAD",
      "\xE2\x80\xAE",  // 202A-202E
      "\xE2\x81\xA6",
      "\xE2\x81\xA7",
      "\xE2\x81\xA8",
      "\xE2\x81\xA9",  // 2066-2069
  };
  for (const std::string& attack : attacks) {
    const std::string shown = escaped("x" + attack + "y");
    for (const char c : shown) EXPECT_TRUE(c >= 0x20 && c < 0x7F) << shown;
    EXPECT_EQ(unescaped(shown), "x" + attack + "y");
  }
}

TEST(Escaped, is_reversible_and_free_of_controls) {
  rc::check([](const std::string& text) {
    const std::string shown = escaped(text);
    RC_ASSERT(unescaped(shown) == text);
    for (const char c : shown) {
      const auto b = static_cast<unsigned char>(c);
      RC_ASSERT(b >= 0x20 && b != 0x7F);
    }
    RC_ASSERT(escaped(unescaped(shown)) == shown);
  });
  SeededRandom random(11);  // any bytes, not only those that rapidcheck likes
  for (int i = 0; i < 5000; ++i) {
    Bytes bytes(random.below(12));
    random.fill(bytes);
    const std::string text(as_text(bytes));
    ASSERT_EQ(unescaped(escaped(text)), text);
  }
}

TEST(SeededRandom, is_the_same_everywhere) {
  SeededRandom random(0);
  EXPECT_EQ(random.next(), 0xE220A8397B1DCDAFU);  // splitmix64's first for seed 0
  Bytes five(5);
  random.fill(five);
  // of its second, 6e789e6aa1b965f4
  EXPECT_EQ(to_hex(five), "f465b9a16a");
}

TEST(BoundedQueue, gives_nothing_once_closed_and_empty) {
  BoundedQueue<int> queue(2);
  EXPECT_TRUE(queue.push(1));
  EXPECT_TRUE(queue.push(2));
  queue.close();
  EXPECT_FALSE(queue.push(3));
  EXPECT_EQ(queue.pop(), 1);
  EXPECT_EQ(queue.pop(), 2);
  EXPECT_EQ(queue.pop(), std::nullopt);
}

}  // namespace
}  // namespace holdfast
