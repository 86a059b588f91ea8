// SPDX-License-Identifier: Apache-2.0
#include "repo/entry.h"

#include <algorithm>

#include "base/bytes.h"

namespace holdfast {
namespace {

// '/' below every other byte: then comparing bytes is comparing lists of components.
unsigned rank(char c) { return c == '/' ? 0U : static_cast<unsigned char>(c) + 1U; }

std::unexpected<Error> refuse(std::string_view what, std::string_view value,
                              std::string_view rule) {
  constexpr std::size_t kShownMax = 512;
  return fail(Code::invalid, std::string(what) + " \"" + escaped(value.substr(0, kShownMax)) +
                                 "\": refused, " + std::string(rule));
}

}  // namespace

std::strong_ordering compare_directories(std::string_view a, std::string_view b) {
  const auto [at_a, at_b] = std::mismatch(a.begin(), a.end(), b.begin(), b.end());
  if (at_a == a.end() || at_b == b.end()) return a.size() <=> b.size();
  return rank(*at_a) <=> rank(*at_b);
}

std::strong_ordering compare_keys(std::string_view dir_a, std::string_view name_a,
                                  std::string_view dir_b, std::string_view name_b) {
  const std::strong_ordering by_directory = compare_directories(dir_a, dir_b);
  return by_directory != 0 ? by_directory : name_a <=> name_b;
}

Result<> check_entry_name(std::string_view name) {
  if (name.empty()) return refuse("entry name", name, "it is empty");
  if (name.size() > kNameMax) return refuse("entry name", name, "it is longer than 255 bytes");
  if (name == "." || name == "..") return refuse("entry name", name, "it names a directory above");
  if (name.find('/') != std::string_view::npos) return refuse("entry name", name, "it has a slash");
  if (name.find('\0') != std::string_view::npos)
    return refuse("entry name", name, "it has a zero byte");
  return {};
}

Result<> check_entry_directory(std::string_view directory) {
  if (directory.empty()) return {};
  if (directory.size() > kPathMax)
    return refuse("entry directory", directory, "it is longer than 4096 bytes");
  for (std::string_view left = directory;;) {
    const std::size_t slash = left.find('/');
    if (auto ok = check_entry_name(left.substr(0, slash)); !ok)
      return wrap(std::move(ok).error(), "entry directory \"" + escaped(directory) + "\"");
    if (slash == std::string_view::npos) return {};
    left.remove_prefix(slash + 1);
  }
}

}  // namespace holdfast
