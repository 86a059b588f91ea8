// SPDX-License-Identifier: Apache-2.0
// Patterns that leave paths out of a backup, or choose them for a restore. They mean what they mean
// to restic, so that its exclude files can be taken over:
//
//   *  ?  [a-z]  [^a-z]  \x    within a component: any bytes, one character, one of, none of, x
//   itself
//   **                         as a whole component: any number of components, none too
//   a/b                        matches these components anywhere in a path
//   /a/b                       matches from the root only
//   !a                         what earlier patterns left out and this one matches is taken again;
//                              later patterns override earlier ones. What lies below a directory
//                              that is left out is never looked at, so it cannot be taken again.
//
// A pattern that matches a directory matches everything below it. Trailing and doubled slashes, "."
// and ".." are cleaned away. `\!` and `\#` begin a pattern with these letters. Environment
// variables are not expanded. Where restic differs: it does not match several "**" that all stand
// for no component in a path with fewer components than the pattern; here they match. A byte that
// is not UTF-8 is a character of its own.
#pragma once

#include <functional>
#include <string>
#include <string_view>
#include <unordered_set>
#include <vector>

#include "base/result.h"

namespace holdfast {

inline constexpr std::size_t kPatternLengthMax = 4096, kPatternsMax = 100'000;

struct PatternLine {
  std::string text;
  bool ignore_case = false;
};

// Lines of a pattern file: white space around a line is cut, empty lines and lines that begin with
// '#' are left out. Code::invalid names the line.
Result<std::vector<PatternLine>> parse_pattern_file(std::string_view text, bool ignore_case);

// Immutable once compiled. Time to match is about the length of the path times the number of
// patterns with wildcards; literal ones are looked up.
class PatternList {
 public:
  PatternList() = default;  // matches nothing
  static Result<PatternList> compile(const std::vector<PatternLine>& lines);

  [[nodiscard]] bool empty() const { return patterns_.empty() && literal_count_ == 0; }
  // `absolute_path`: "/home/u/x", clean. The same answer serves excludes and includes.
  [[nodiscard]] bool matches(std::string_view absolute_path) const;
  [[nodiscard]] bool excludes(std::string_view absolute_path) const {
    return matches(absolute_path);
  }
  // For includes: whether something below this directory may match. False is certain, true is not.
  [[nodiscard]] bool may_match_below(std::string_view absolute_path) const;

 private:
  struct Component {
    std::string text;  // validated
    bool literal = false;
  };
  // Components between two "**".
  using Segment = std::vector<Component>;
  struct Pattern {
    std::vector<Segment> segments;  // never empty; a segment may be
    bool anchored = false;          // the first segment starts at the root
    bool negated = false;
    bool ignore_case = false;
  };
  struct TextHash {
    using is_transparent = void;
    std::size_t operator()(std::string_view text) const {
      return std::hash<std::string_view>{}(text);
    }
  };
  using TextSet = std::unordered_set<std::string, TextHash, std::equal_to<>>;
  using Path = std::vector<std::string_view>;

  static Result<Pattern> parse(const PatternLine& line);
  static bool matches_component(const Component& component, std::string_view name);
  static bool matches_at(const Segment& segment, const Path& path, std::size_t at);
  static bool matches_path(const Pattern& pattern, const Path& path);
  static bool may_match_below(const Pattern& pattern, const Path& path);
  void add(Pattern pattern);
  void index_literals();
  [[nodiscard]] bool literal_matches(std::string_view absolute_path, const Path& path) const;
  template <class Visit>
  void for_each(std::string_view absolute_path, Visit visit) const;

  std::vector<Pattern> patterns_;  // in order
  // Without negated patterns order does not matter: patterns of literal components that respect
  // case stand here instead.
  TextSet names_;           // "node_modules"
  TextSet anchored_;        // "/var/cache"
  TextSet above_anchored_;  // "/var", for may_match_below
  std::size_t literal_count_ = 0;
  bool any_negated_ = false;
  bool any_ignore_case_ = false;
};

}  // namespace holdfast
