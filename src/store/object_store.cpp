// SPDX-License-Identifier: Apache-2.0
#include "store/object_store.h"

#include <fmt/format.h>

#include <algorithm>

namespace holdfast {
namespace {

constexpr std::size_t kNameMax = 200;

bool allowed(char c) {
  return (c >= 'a' && c <= 'z') || (c >= '0' && c <= '9') || c == '.' || c == '_' || c == '-';
}

// What is wrong with one part between slashes, or nothing.
std::string_view part_rule(std::string_view part) {
  if (part.empty()) return "a part between '/' is empty";
  if (part == "." || part == "..") return "a part is \".\" or \"..\"";
  if (!std::ranges::all_of(part, allowed)) return "a byte is not one of a-z 0-9 . _ -";
  return {};
}

std::string_view broken_rule(std::string_view name) {
  if (name.empty()) return "it is empty";
  if (name.size() > kNameMax) return "it is longer than 200 bytes";
  for (std::size_t begin = 0; begin <= name.size();) {
    const std::size_t end = std::min(name.find('/', begin), name.size());
    if (const auto rule = part_rule(name.substr(begin, end - begin)); !rule.empty()) return rule;
    begin = end + 1;
  }
  return {};
}

}  // namespace

Result<> list_at_most(ObjectStore& store, std::string_view prefix, std::uint64_t count_max,
                      const std::function<Result<>(const ObjectInfo&)>& visit) {
  std::uint64_t count = 0;
  return store.list(prefix, [&](const ObjectInfo& info) -> Result<> {
    if (++count > count_max)
      return fail(Code::corrupt,
                  fmt::format("list {}: more than {} objects, the most that are taken; the store "
                              "makes them up, or holds another thing than a repository",
                              escaped(prefix), count_max));
    return visit(info);
  });
}

Result<> check_object_name(std::string_view name) {
  const std::string_view rule = broken_rule(name);
  if (rule.empty()) return {};
  return fail(Code::invalid, "object name \"" + escaped(name.substr(0, kNameMax)) +
                                 "\" is refused: " + std::string(rule));
}

Result<> check_list_prefix(std::string_view prefix) {
  if (prefix.empty()) return {};
  if (!prefix.ends_with('/'))
    return fail(Code::invalid, "list \"" + escaped(prefix.substr(0, kNameMax)) +
                                   "\" is refused: a prefix ends with '/'");
  return check_object_name(prefix.substr(0, prefix.size() - 1));
}

}  // namespace holdfast
