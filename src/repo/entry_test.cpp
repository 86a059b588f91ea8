// SPDX-License-Identifier: Apache-2.0
#include "repo/entry.h"

#include <gtest/gtest.h>
#include <rapidcheck.h>

#include <ranges>

namespace holdfast {
namespace {

std::vector<std::string> components(const std::string& path) {
  std::vector<std::string> out;
  if (path.empty()) return out;
  for (const auto part : std::views::split(path, '/')) out.emplace_back(part.begin(), part.end());
  return out;
}

// Bytes as unsigned, as a slow oracle: std::string compares so by char_traits.
std::strong_ordering slow_compare(const std::string& a, const std::string& b) {
  return components(a) <=> components(b);
}

std::string random_path() {
  // Few letters, among them the neighbours of '/', so that prefixes are common.
  const auto name = rc::gen::nonEmpty(rc::gen::container<std::string>(
      rc::gen::element('a', 'b', '.', '0', '!', '\x01', '\xFF', '\x80')));
  const auto parts = *rc::gen::resize(4, rc::gen::container<std::vector<std::string>>(name));
  std::string out;
  for (const std::string& part : parts) out += (out.empty() ? "" : "/") + part;
  return out;
}

TEST(Entry, directories_are_ordered_by_component) {
  EXPECT_TRUE(compare_directories("", "a") < 0);
  EXPECT_TRUE(compare_directories("a", "a/x") < 0);
  EXPECT_TRUE(compare_directories("a/x", "a!") < 0);
  EXPECT_TRUE(compare_directories("a/\xFF", "a\x01") < 0);
  EXPECT_TRUE(compare_directories("a", "\xC3") < 0);  // bytes are unsigned
  EXPECT_TRUE(compare_directories("a/b", "a/b") == 0);
}

TEST(Entry, order_agrees_with_a_slow_oracle) {
  EXPECT_TRUE(rc::check([] {
    const std::string a = random_path();
    const std::string b = random_path();
    RC_ASSERT((compare_directories(a, b) == slow_compare(a, b)));
    RC_ASSERT((compare_directories(b, a) == slow_compare(b, a)));
    RC_ASSERT((compare_directories(a, a) == 0));
  }));
}

TEST(Entry, keys_are_ordered_by_directory_then_name) {
  EXPECT_TRUE(compare_keys("a", "z", "a/b", "a") < 0);
  EXPECT_TRUE(compare_keys("a", "a", "a", "b") < 0);
  EXPECT_TRUE(compare_keys("a", "b", "a", "\xFF") < 0);
  EXPECT_TRUE(compare_keys("a", "b", "a", "b") == 0);
  EXPECT_TRUE(compare_keys("", "zz", "a", "a") < 0);
}

TEST(Entry, a_subtree_is_one_range) {
  EXPECT_TRUE(rc::check([] {
    const std::string top = random_path();
    const std::string x = random_path();
    const std::string y = random_path();
    RC_PRE(!top.empty());
    const bool below = x == top || x.starts_with(top + "/");
    // Whatever lies between the directory and something below it lies below it too.
    const std::string inner = y.empty() ? top : top + "/" + y;
    if (compare_directories(top, x) <= 0 && compare_directories(x, inner) <= 0) RC_ASSERT(below);
  }));
}

TEST(Entry, RST_01_hostile_names_are_refused) {
  using std::string_literals::operator""s;
  for (const std::string& name : {""s, "."s, ".."s, "/"s, "a/b"s, "/abs"s, "../x"s, "a/../../x"s,
                                  "a\0b"s, "\0"s, std::string(256, 'a')}) {
    const auto result = check_entry_name(name);
    ASSERT_FALSE(result) << name;
    EXPECT_EQ(result.error().code, Code::invalid);
    EXPECT_NE(result.error().what.find("entry name"), std::string::npos);
  }
}

TEST(Entry, RST_01_hostile_directories_are_refused) {
  using std::string_literals::operator""s;
  for (const std::string& directory :
       {"/"s, "/abs"s, "a/"s, "a//b"s, "."s, ".."s, "a/.."s, "../a"s, "a/../../x"s, "./a"s,
        "a/./b"s, "a\0/b"s, "a/"s + std::string(256, 'a'), std::string(4097, 'a')}) {
    const auto result = check_entry_directory(directory);
    ASSERT_FALSE(result) << directory;
    EXPECT_EQ(result.error().code, Code::invalid);
  }
}

TEST(Entry, RST_11_a_refused_name_is_escaped) {
  const auto result = check_entry_name("\x1B]0;x\x07/");
  ASSERT_FALSE(result);
  EXPECT_EQ(result.error().what.find('\x1B'), std::string::npos);
}

TEST(Entry, ordinary_and_odd_names_are_kept) {
  for (const std::string& name : {std::string("a"), std::string("..."), std::string("..a"),
                                  std::string(" "), std::string("\n"), std::string("\xFF\xFE"),
                                  std::string("-rf"), std::string("\\"), std::string(255, 'a')})
    EXPECT_TRUE(check_entry_name(name)) << name;
  for (const std::string_view directory : {"", "a", "a/b", "a/...", "\xFF/b"})
    EXPECT_TRUE(check_entry_directory(directory)) << directory;
  std::string longest(255, 'a');
  while (longest.size() + 256 <= kPathMax) longest += "/" + std::string(255, 'a');
  EXPECT_TRUE(check_entry_directory(longest));
}

}  // namespace
}  // namespace holdfast
