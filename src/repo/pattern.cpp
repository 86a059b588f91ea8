// SPDX-License-Identifier: Apache-2.0
// Tests: pattern_test.cpp, with answers of restic itself in testdata/patterns.tsv.
#include "repo/pattern.h"

#include <algorithm>
#include <array>
#include <cstdint>
#include <optional>

#include "base/bytes.h"

namespace holdfast {
namespace {

// ---- characters ---------------------------------------------------------------------------------

struct Character {
  char32_t value = 0;
  std::size_t length = 1;
};

// A byte that does not begin valid UTF-8 is a character above all others, one byte long.
Character decode(std::string_view text) {
  const auto byte = [&](std::size_t i) { return static_cast<unsigned char>(text[i]); };
  const unsigned char first = byte(0);
  const Character odd{0x110000U + first, 1};
  if (first < 0x80) return {first, 1};
  const std::size_t length = first >= 0xF0 ? 4 : first >= 0xE0 ? 3 : 2;
  if (first < 0xC2 || first > 0xF4 || text.size() < length) return odd;
  char32_t value = first & (0x7FU >> length);
  for (std::size_t i = 1; i < length; ++i) {
    if ((byte(i) & 0xC0) != 0x80) return odd;
    value = (value << 6) | (byte(i) & 0x3FU);
  }
  constexpr std::array<char32_t, 5> kLeast = {0, 0, 0x80, 0x800, 0x10000};
  const bool surrogate = value >= 0xD800 && value <= 0xDFFF;
  if (value < kLeast[length] || value > 0x10FFFF || surrogate) return odd;
  return {value, length};
}

void append_utf8(std::string& out, char32_t value) {
  if (value < 0x80) {
    out += static_cast<char>(value);
  } else {  // lower_case below gives nothing above two bytes
    out += static_cast<char>(0xC0 | (value >> 6));
    out += static_cast<char>(0x80 | (value & 0x3F));
  }
}

// Latin, Greek and Cyrillic: no tables and no locale (a pattern must mean the same everywhere).
std::optional<char32_t> lower_case(char32_t c) {
  const auto within = [c](char32_t low, char32_t high) { return c >= low && c <= high; };
  if (within('A', 'Z')) return c + 32;
  if (within(0xC0, 0xDE) && c != 0xD7) return c + 32;
  if (within(0x391, 0x3AB) && c != 0x3A2) return c + 32;
  if (within(0x410, 0x42F)) return c + 32;
  if (within(0x400, 0x40F)) return c + 80;
  const bool even_pairs = within(0x100, 0x12F) || within(0x132, 0x137) || within(0x14A, 0x177) ||
                          within(0x460, 0x481) || within(0x48A, 0x4BF) || within(0x4D0, 0x52F);
  const bool odd_pairs = within(0x139, 0x148) || within(0x179, 0x17E);
  if (even_pairs && c % 2 == 0) return c + 1;
  if (odd_pairs && c % 2 == 1) return c + 1;
  return std::nullopt;
}

std::string lowered(std::string_view text) {
  std::string out;
  out.reserve(text.size());
  while (!text.empty()) {
    const Character c = decode(text);
    if (const auto lower = lower_case(c.value)) {
      append_utf8(out, *lower);
    } else {
      out += text.substr(0, c.length);
    }
    text.remove_prefix(c.length);
  }
  return out;
}

// ---- one component ------------------------------------------------------------------------------

// One character of a class, with its escape. Nullopt: the class is malformed.
std::optional<char32_t> class_character(std::string_view& pattern) {
  if (pattern.empty() || pattern[0] == '-' || pattern[0] == ']') return std::nullopt;
  if (pattern[0] == '\\') pattern.remove_prefix(1);
  if (pattern.empty()) return std::nullopt;
  const Character c = decode(pattern);
  pattern.remove_prefix(c.length);
  return c.value;
}

// "[a-z]" at the front of the pattern is consumed; whether it has `value`. Nullopt: malformed.
std::optional<bool> take_class(std::string_view& pattern, char32_t value) {
  pattern.remove_prefix(1);
  const bool inverted = pattern.starts_with('^');
  if (inverted) pattern.remove_prefix(1);
  bool found = false;
  for (bool first = true; first || !pattern.starts_with(']'); first = false) {
    const auto low = class_character(pattern);
    if (!low) return std::nullopt;
    auto high = low;
    if (pattern.starts_with('-')) {
      pattern.remove_prefix(1);
      high = class_character(pattern);
      if (!high) return std::nullopt;
    }
    found = found || (*low <= value && value <= *high);
  }
  pattern.remove_prefix(1);
  return found != inverted;
}

// Consumes one item of the pattern that is not a star, and the character that it stands for.
bool take_one(std::string_view& pattern, std::string_view& name) {
  const Character c = decode(name);
  switch (pattern[0]) {
    case '?':
      pattern.remove_prefix(1);
      break;
    case '[':
      if (!take_class(pattern, c.value).value_or(false)) return false;
      break;
    case '\\':
      pattern.remove_prefix(1);
      [[fallthrough]];
    default:
      if (pattern[0] != name[0]) return false;
      pattern.remove_prefix(1);
      name.remove_prefix(1);
      return true;
  }
  name.remove_prefix(c.length);
  return true;
}

// Going back to the last star only is enough, so time is at most length times length.
bool glob(std::string_view pattern, std::string_view name) {
  std::optional<std::string_view> after_star;
  std::string_view star_name;
  while (true) {
    if (pattern.starts_with('*')) {
      pattern.remove_prefix(1);
      after_star = pattern;
      star_name = name;
      continue;
    }
    if (pattern.empty() && name.empty()) return true;
    if (!pattern.empty() && !name.empty() && take_one(pattern, name)) continue;
    if (!after_star || star_name.empty()) return false;
    star_name.remove_prefix(decode(star_name).length);
    pattern = *after_star;
    name = star_name;
  }
}

bool well_formed(std::string_view pattern) {
  while (!pattern.empty()) {
    if (pattern[0] == '[') {
      if (!take_class(pattern, 0)) return false;
    } else if (pattern[0] == '\\') {
      if (pattern.size() < 2) return false;
      pattern.remove_prefix(2);
    } else {
      pattern.remove_prefix(1);
    }
  }
  return true;
}

// ---- paths --------------------------------------------------------------------------------------

void split(std::string_view path, std::vector<std::string_view>& out) {
  out.clear();
  while (!path.empty()) {
    const std::size_t slash = std::min(path.find('/'), path.size());
    if (slash > 0) out.push_back(path.substr(0, slash));
    path.remove_prefix(std::min(slash + 1, path.size()));
  }
}

// Without "." and with ".." taken back, as a shell user would read it.
std::vector<std::string_view> cleaned(std::string_view path) {
  const bool anchored = path.starts_with('/');
  std::vector<std::string_view> all;
  split(path, all);
  std::vector<std::string_view> out;
  for (const std::string_view part : all) {
    if (part == ".") continue;
    const bool up = part == "..";
    if (up && !out.empty() && out.back() != "..")
      out.pop_back();
    else if (!up || !anchored)
      out.push_back(part);
  }
  if (out.empty() && !anchored) out.emplace_back(".");  // matches nothing
  return out;
}

std::unexpected<Error> refuse(std::string_view pattern, std::string_view rule) {
  constexpr std::size_t kShownMax = 200;
  return fail(Code::invalid,
              "pattern \"" + escaped(pattern.substr(0, kShownMax)) + "\": " + std::string(rule));
}

std::string_view trimmed(std::string_view line) {
  constexpr std::string_view kSpace = " \t\r\v\f";
  const std::size_t first = line.find_first_not_of(kSpace);
  if (first == std::string_view::npos) return {};
  return line.substr(first, line.find_last_not_of(kSpace) - first + 1);
}

}  // namespace

Result<std::vector<PatternLine>> parse_pattern_file(std::string_view text, bool ignore_case) {
  if (text.starts_with("\xEF\xBB\xBF")) text.remove_prefix(3);
  std::vector<PatternLine> out;
  for (std::size_t number = 1; !text.empty(); ++number) {
    const std::size_t end = std::min(text.find('\n'), text.size());
    const std::string_view line = trimmed(text.substr(0, end));
    text.remove_prefix(std::min(end + 1, text.size()));
    if (line.empty() || line.starts_with('#')) continue;
    const std::string where = "line " + std::to_string(number);
    if (line.size() > kPatternLengthMax)
      return fail(Code::invalid, where + ": the pattern is longer than 4096 bytes");
    if (out.size() == kPatternsMax)
      return fail(Code::invalid, where + ": more than 100000 patterns");
    out.push_back({std::string(line), ignore_case});
  }
  return out;
}

Result<PatternList::Pattern> PatternList::parse(const PatternLine& line) {
  std::string_view text = line.text;
  if (text.size() > kPatternLengthMax) return refuse(text, "it is longer than 4096 bytes");
  if (text.find('\0') != std::string_view::npos) return refuse(text, "it has a zero byte");
  Pattern out;
  out.ignore_case = line.ignore_case;
  out.negated = text.starts_with('!');
  if (out.negated) text.remove_prefix(1);
  out.anchored = text.starts_with('/');
  const std::string folded = line.ignore_case ? lowered(text) : std::string(text);
  out.segments.emplace_back();
  for (const std::string_view part : cleaned(folded)) {
    if (part == "**") {
      out.segments.emplace_back();
      continue;
    }
    if (!well_formed(part))
      return refuse(line.text, "it has an unfinished [..] or a \\ at the end of a component");
    const bool literal = part.find_first_of("\\[]*?") == std::string_view::npos;
    out.segments.back().push_back({std::string(part), literal});
  }
  return out;
}

Result<PatternList> PatternList::compile(const std::vector<PatternLine>& lines) {
  if (lines.size() > kPatternsMax)
    return fail(Code::invalid, "more than 100000 patterns; name directories instead of files");
  PatternList out;
  for (const PatternLine& line : lines) {
    if (line.text.empty()) continue;
    HF_ASSIGN(Pattern pattern, parse(line));
    out.any_ignore_case_ = out.any_ignore_case_ || pattern.ignore_case;
    out.patterns_.push_back(std::move(pattern));
  }
  out.index_literals();
  return out;
}

void PatternList::index_literals() {
  any_negated_ = std::ranges::any_of(patterns_, &Pattern::negated);
  if (any_negated_) return;
  std::erase_if(patterns_, [this](const Pattern& pattern) {
    const Segment& only = pattern.segments.front();
    const bool literal = pattern.segments.size() == 1 && !only.empty() && !pattern.ignore_case &&
                         std::ranges::all_of(only, &Component::literal);
    if (!literal || (!pattern.anchored && only.size() != 1)) return false;
    std::string text;
    for (const Component& part : only) {
      if (!text.empty()) above_anchored_.insert(text);
      text += (pattern.anchored ? "/" : "") + part.text;
    }
    (pattern.anchored ? anchored_ : names_).insert(std::move(text));
    ++literal_count_;
    return true;
  });
}

bool PatternList::literal_matches(std::string_view absolute_path, const Path& path) const {
  if (!names_.empty() &&
      std::ranges::any_of(path, [this](std::string_view name) { return names_.contains(name); }))
    return true;
  if (anchored_.empty()) return false;
  for (std::size_t end = absolute_path.find('/', 1);; end = absolute_path.find('/', end + 1)) {
    if (anchored_.contains(absolute_path.substr(0, end))) return true;
    if (end == std::string_view::npos) return false;
  }
}

bool PatternList::matches_component(const Component& component, std::string_view name) {
  return component.literal ? component.text == name : glob(component.text, name);
}

bool PatternList::matches_at(const Segment& segment, const Path& path, std::size_t at) {
  if (segment.size() > path.size() - at) return false;
  for (std::size_t i = 0; i < segment.size(); ++i)
    if (!matches_component(segment[i], path[at + i])) return false;
  return true;
}

// Each segment at its first possible place: a later place can never help those after it.
bool PatternList::matches_path(const Pattern& pattern, const Path& path) {
  std::size_t at = 0;
  bool fixed = pattern.anchored;
  for (const Segment& segment : pattern.segments) {
    while (!matches_at(segment, path, at)) {
      if (fixed || at == path.size()) return false;
      ++at;
    }
    at += segment.size();
    fixed = false;
  }
  return true;
}

bool PatternList::may_match_below(const Pattern& pattern, const Path& path) {
  if (!pattern.anchored) return true;
  const Segment& first = pattern.segments.front();
  for (std::size_t i = 0; i < std::min(first.size(), path.size()); ++i)
    if (!matches_component(first[i], path[i])) return false;
  return true;
}

// Visits each pattern with the path as it sees it: as it is, or in lower case.
template <class Visit>
void PatternList::for_each(std::string_view absolute_path, Visit visit) const {
  Path path;
  split(absolute_path, path);
  const std::string folded = any_ignore_case_ ? lowered(absolute_path) : std::string();
  Path folded_path;
  if (any_ignore_case_) split(folded, folded_path);
  for (const Pattern& pattern : patterns_)
    if (visit(pattern, pattern.ignore_case ? folded_path : path)) return;
}

bool PatternList::matches(std::string_view absolute_path) const {
  if (literal_count_ > 0) {
    Path path;
    split(absolute_path, path);
    if (literal_matches(absolute_path, path)) return true;
  }
  if (patterns_.empty()) return false;
  bool matched = false;
  for_each(absolute_path, [&](const Pattern& pattern, const Path& path) {
    if (matched == pattern.negated && matches_path(pattern, path)) matched = !pattern.negated;
    return matched && !any_negated_;
  });
  return matched;
}

bool PatternList::may_match_below(std::string_view absolute_path) const {
  if (!names_.empty()) return true;
  Path given;
  split(absolute_path, given);
  if (given.empty() && !anchored_.empty()) return true;
  if (above_anchored_.contains(absolute_path) || literal_matches(absolute_path, given)) return true;
  bool may = false;
  for_each(absolute_path, [&](const Pattern& pattern, const Path& path) {
    if (!pattern.negated) {
      may = may || may_match_below(pattern, path);
    } else if (may && matches_path(pattern, path)) {
      may = false;  // everything below is taken out again
    }
    return false;
  });
  return may;
}

}  // namespace holdfast
