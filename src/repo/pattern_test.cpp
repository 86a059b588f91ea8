// SPDX-License-Identifier: Apache-2.0
#include "repo/pattern.h"

#include <gtest/gtest.h>

#include <fstream>
#include <set>
#include <sstream>

namespace holdfast {
namespace {

Result<PatternList> compile(const std::vector<std::string>& texts, bool ignore_case = false) {
  std::vector<PatternLine> lines;
  for (const std::string& text : texts) lines.push_back({text, ignore_case});
  return PatternList::compile(lines);
}

bool matches(const std::string& pattern, const std::string& path, bool ignore_case = false) {
  const auto list = compile({pattern}, ignore_case);
  EXPECT_TRUE(list) << pattern;
  return list && list->matches(path);
}

std::vector<std::string> words(const std::string& text) {
  std::istringstream in(text);
  std::vector<std::string> out;
  for (std::string word; in >> word;) out.push_back(word);
  return out;
}

// The topmost paths that a walk would leave out, as restic's answers are written.
std::string left_out(const PatternList& list, const std::vector<std::string>& tree) {
  const bool start_is_out = list.excludes("/hfp");
  std::set<std::string> out;
  std::string text;
  for (const std::string& path : tree) {  // sorted: a directory stands before what is below it
    const std::string above = path.substr(0, path.find_last_of('/'));
    const bool below = path.find('/') != std::string::npos && out.contains(above);
    if (!below && !start_is_out && !list.excludes("/hfp/" + path)) continue;
    out.insert(path);
    if (!below) text += (text.empty() ? "" : " ") + path;
  }
  return text;
}

TEST(Pattern, agrees_with_restic) {
  std::ifstream in(HOLDFAST_TESTDATA "/patterns.tsv");
  std::vector<std::string> tree;
  int rows = 0;
  for (std::string line; std::getline(in, line);) {
    const std::size_t tab = line.find('\t');
    if (tab == std::string::npos) continue;
    std::vector<std::string> patterns = words(line.substr(0, tab));
    const std::string expected = line.substr(tab + 1);
    if (patterns.front() == "#all") {
      tree = words(expected);
      continue;
    }
    const bool ignore_case = patterns.front() == "i";
    if (ignore_case) patterns.erase(patterns.begin());
    const auto list = compile(patterns, ignore_case);
    ++rows;
    if (expected == "INVALID") {
      EXPECT_FALSE(list) << line;
      continue;
    }
    ASSERT_TRUE(list) << line;
    // Known difference (pattern.h): restic asks for a component below "foo" here.
    if (patterns.front() == "/hfp/**/foo/**") continue;
    EXPECT_EQ(left_out(*list, tree), expected) << line;
  }
  EXPECT_GT(rows, 150);
}

TEST(Pattern, double_star_stands_for_none_too) {
  EXPECT_TRUE(matches("/a/**/**/b", "/a/b"));
  EXPECT_TRUE(matches("a/**/b/**/c/**/d", "/a/b/c/d"));
  EXPECT_TRUE(matches("a/**/b/**/c/**/d", "/x/a/1/b/2/3/c/d/e"));
  EXPECT_FALSE(matches("a/**/b/**/c/**/d", "/a/c/b/d"));
  EXPECT_TRUE(matches("**", "/a"));
}

TEST(Pattern, bytes_that_are_not_text_match_as_characters) {
  EXPECT_TRUE(matches("a?b",
                      "/a\xFF"
                      "b"));
  EXPECT_TRUE(matches("\xFF*", "/\xFF\xFE"));
  EXPECT_TRUE(matches("[\xFF]", "/\xFF"));
  EXPECT_FALSE(matches("?", "/\xFF\xFE"));
  EXPECT_FALSE(matches("*??", "/\xC3\xA4"));
}

TEST(Pattern, case_is_ignored_without_a_locale) {
  EXPECT_TRUE(matches("ÄÖÜ*.Txt", "/äöü1.TXT", true));
  EXPECT_TRUE(matches("ЖУРНАЛ", "/Журнал", true));
  EXPECT_TRUE(matches("ΛΟΓΟΣ", "/λογοσ", true));
  EXPECT_TRUE(matches("ŠŽŁ", "/šžł", true));
  EXPECT_FALSE(matches("ÄÖ", "/äö"));
  EXPECT_FALSE(matches("×", "/÷", true));
}

TEST(Pattern, many_stars_take_no_exponential_time) {
  std::string stars;
  for (int i = 0; i < 1000; ++i) stars += "*a";
  EXPECT_FALSE(matches(stars + "b", "/" + std::string(255, 'a')));
  std::string components;
  for (int i = 0; i < 800; ++i) components += "**/a/";
  std::string path;
  for (int i = 0; i < 799; ++i) path += "/a";
  EXPECT_FALSE(matches(components, path));
  EXPECT_TRUE(matches(components, path + "/a"));
  std::string hard;
  for (int i = 0; i < 100; ++i) hard += "**/*a*b*/";
  EXPECT_FALSE(matches(hard, path));
}

TEST(Pattern, a_hundred_thousand_literal_patterns_are_looked_up) {
  std::vector<PatternLine> lines;
  for (std::size_t i = 0; i < kPatternsMax / 2; ++i) {
    lines.push_back({"name" + std::to_string(i)});
    lines.push_back({"/var/lib/x" + std::to_string(i)});
  }
  const auto list = PatternList::compile(lines);
  ASSERT_TRUE(list);
  for (int i = 0; i < 2000; ++i) {
    EXPECT_FALSE(list->excludes("/usr/share/doc/y" + std::to_string(i)));
    EXPECT_TRUE(list->excludes("/usr/name" + std::to_string(i) + "/z"));
    EXPECT_TRUE(list->excludes("/var/lib/x" + std::to_string(i) + "/z"));
  }
  lines.push_back({"one too many"});
  EXPECT_FALSE(PatternList::compile(lines));
}

TEST(Pattern, limits_of_length) {
  EXPECT_TRUE(compile({std::string(kPatternLengthMax, 'a')}));
  const auto result = compile({std::string(kPatternLengthMax + 1, 'a')});
  ASSERT_FALSE(result);
  EXPECT_EQ(result.error().code, Code::invalid);
  EXPECT_FALSE(compile({std::string("a\0b", 3)}));
}

TEST(Pattern, a_malformed_pattern_is_named_and_escaped) {
  const auto result = compile({"ok", "x\x1B["});
  ASSERT_FALSE(result);
  EXPECT_NE(result.error().what.find("x\\x1b["), std::string::npos) << result.error().what;
}

TEST(Pattern, may_match_below) {
  struct Row {
    std::vector<std::string> patterns;
    std::string directory;
    bool may;
  };
  const std::vector<Row> rows = {
      {{"/a/b/c"}, "/", true},
      {{"/a/b/c"}, "/a", true},
      {{"/a/b/c"}, "/a/b", true},
      {{"/a/b/c"}, "/a/b/c", true},
      {{"/a/b/c"}, "/a/b/c/d", true},
      {{"/a/b/c"}, "/a/x", false},
      {{"/a/b/c"}, "/b", false},
      {{"/a/b"}, "/ab", false},
      {{"/a/*/c"}, "/a/x", true},
      {{"/a/*/c"}, "/b/x", false},
      {{"/a/**/c"}, "/a/x/y", true},
      {{"/a/**/c"}, "/b", false},
      {{"c"}, "/x/y", true},
      {{"*.c"}, "/x", true},
      {{"/a", "!/a/b"}, "/a/b", false},
      {{"/a", "!/a/b"}, "/a/c", true},
      {{"/a", "!/a/b", "/a/b/c"}, "/a/b", true},
      {{}, "/a", false},
  };
  for (const Row& row : rows) {
    const auto list = compile(row.patterns);
    ASSERT_TRUE(list);
    EXPECT_EQ(list->may_match_below(row.directory), row.may)
        << (row.patterns.empty() ? "" : row.patterns.front()) << " " << row.directory;
  }
  const auto folded = compile({"/A/B"}, true);
  ASSERT_TRUE(folded);
  EXPECT_TRUE(folded->may_match_below("/a"));
  EXPECT_FALSE(folded->may_match_below("/c"));
}

TEST(Pattern, file_of_patterns) {
  const auto lines = parse_pattern_file(
      "\xEF\xBB\xBF# comment\n\n  *.o \r\n\t#x\n\\#y\n!keep\nwith space\n$HOME/x\nlast", true);
  ASSERT_TRUE(lines);
  std::vector<std::string> texts;
  for (const PatternLine& line : *lines) {
    texts.push_back(line.text);
    EXPECT_TRUE(line.ignore_case);
  }
  EXPECT_EQ(texts,
            (std::vector<std::string>{"*.o", "\\#y", "!keep", "with space", "$HOME/x", "last"}));
  EXPECT_FALSE(parse_pattern_file("a\n" + std::string(4097, 'a'), false));
  std::string many;
  for (std::size_t i = 0; i <= kPatternsMax; ++i) many += "a\n";
  EXPECT_FALSE(parse_pattern_file(many, false));
}

TEST(Pattern, random_patterns_and_paths_end_without_a_crash) {
  const std::string letters = "ab*?[]^-\\/!.\xC3\xA4\xFF";
  std::uint32_t state = 1;
  const auto random_text = [&](std::size_t length) {
    std::string out;
    for (std::size_t i = 0; i < length; ++i) {
      state = state * 1664525 + 1013904223;
      out += letters[(state >> 16) % letters.size()];
    }
    return out;
  };
  int compiled = 0;
  for (std::size_t i = 0; i < 6000; ++i) {
    const auto list = compile({random_text(i % 17), random_text(i % 5)}, i % 3 == 0);
    if (!list) continue;
    ++compiled;
    const std::string path = "/" + random_text(i % 23);
    const bool matched = list->matches(path);
    EXPECT_EQ(list->matches(path), matched);
    (void)list->may_match_below(path);
  }
  EXPECT_GT(compiled, 600);
}

}  // namespace
}  // namespace holdfast
