// SPDX-License-Identifier: Apache-2.0
#include "fs/names.h"

#include <dirent.h>

#include <algorithm>
#include <cerrno>
#include <cstring>
#include <limits>

namespace holdfast {
namespace {

constexpr std::size_t kBufferBytes = 64UL * 1024;
constexpr std::size_t kKeptBytesMax = 1024UL * 1024;  // what stays allocated between directories
constexpr std::size_t kNameBytesMax = 255;

std::uint64_t prefix_of(std::string_view name) {
  std::uint64_t out = 0;
  for (std::size_t i = 0; i < sizeof out; ++i)
    out = (out << 8) | (i < name.size() ? static_cast<unsigned char>(name[i]) : 0U);
  return out;
}

bool usable(std::string_view name) {
  return !name.empty() && name != "." && name != ".." && name.size() <= kNameBytesMax &&
         name.find('/') == std::string_view::npos;
}

}  // namespace

void NameList::clear() {
  text_.clear();
  names_.clear();
  if (text_.capacity() <= kKeptBytesMax) return;
  text_ = {};
  names_ = {};
}

void NameList::add(std::string_view name, unsigned char type) {
  const Name added{prefix_of(name), static_cast<std::uint32_t>(text_.size()),
                   static_cast<std::uint16_t>(name.size()), type};
  text_.insert(text_.end(), name.begin(), name.end());
  text_.push_back('\0');
  names_.push_back(added);
}

void NameList::sort() {
  // A zero byte cannot be in a name, so equal prefixes of short names mean equal names.
  std::ranges::sort(names_, [this](const Name& a, const Name& b) {
    return a.prefix != b.prefix ? a.prefix < b.prefix : text(a) < text(b);
  });
  const auto doubles = std::ranges::unique(names_, [this](const Name& a, const Name& b) {
    return a.prefix == b.prefix && text(a) == text(b);
  });
  names_.erase(doubles.begin(), doubles.end());
}

int NameList::read(int directory) {
  clear();
  buffer_.resize(kBufferBytes);
  while (true) {
    const ssize_t got = ::getdents64(directory, buffer_.data(), buffer_.size());
    if (got == 0) break;
    if (got < 0) return errno;
    for (std::size_t at = 0; at < static_cast<std::size_t>(got);) {
      const auto* record = reinterpret_cast<const dirent64*>(buffer_.data() + at);
      at += record->d_reclen;
      const std::string_view name(record->d_name);
      if (usable(name)) add(name, record->d_type);
    }
    if (text_.size() > std::numeric_limits<std::uint32_t>::max() / 2) return EOVERFLOW;
  }
  sort();
  return 0;
}

bool NameList::contains(std::string_view name) const {
  const auto at =
      std::ranges::lower_bound(names_, name, {}, [this](const Name& n) { return text(n); });
  return at != names_.end() && text(*at) == name;
}

void NameList::keep_only(std::string_view name) {
  std::erase_if(names_, [&](const Name& n) { return text(n) != name; });
}

}  // namespace holdfast
