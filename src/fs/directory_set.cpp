// SPDX-License-Identifier: Apache-2.0
#include "fs/directory_set.h"

#include <algorithm>
#include <functional>

namespace holdfast {
namespace {

std::uint64_t mixed(std::uint64_t x) {  // finaliser of SplitMix64 (Steele, Lea, Flood 2014)
  x = (x ^ (x >> 30)) * 0xBF58476D1CE4E5B9U;
  x = (x ^ (x >> 27)) * 0x94D049BB133111EBU;
  return x ^ (x >> 31);
}

std::uint64_t key_of(std::string_view path) {
  return std::max<std::uint64_t>(mixed(std::hash<std::string_view>{}(path)), 1);
}

}  // namespace

std::uint32_t DirectorySet::digest(FileIdentity identity) {
  return static_cast<std::uint32_t>(mixed(mixed(identity.device) ^ identity.inode) >> 33);
}

std::size_t DirectorySet::slot(std::uint64_t key) const {
  std::size_t at = key & (keys_.size() - 1);
  while (keys_[at] != 0 && keys_[at] != key) at = (at + 1) & (keys_.size() - 1);
  return at;
}

void DirectorySet::grow(std::size_t slots) {
  std::vector<std::uint64_t> keys(slots);
  std::vector<std::uint32_t> values(slots);
  keys.swap(keys_);
  values.swap(values_);
  for (std::size_t i = 0; i < keys.size(); ++i) {
    if (keys[i] == 0) continue;
    const std::size_t at = slot(keys[i]);
    keys_[at] = keys[i];
    values_[at] = values[i];
  }
}

bool DirectorySet::insert(std::string_view path, FileIdentity identity, bool made) {
  const std::uint64_t key = key_of(path);
  std::size_t at = slot(key);
  if (keys_[at] == 0) {
    if ((used_ + 1) * 4 > keys_.size() * 3) {
      if (keys_.size() * 2 > slots_max_) {
        full_ = true;
        return false;
      }
      grow(keys_.size() * 2);
      at = slot(key);
    }
    keys_[at] = key;
    ++used_;
  }
  values_[at] = digest(identity) << 1 | (made ? 1U : 0U);
  return true;
}

std::optional<DirectorySet::Known> DirectorySet::find(std::string_view path) const {
  const std::size_t at = slot(key_of(path));
  if (keys_[at] == 0) return std::nullopt;
  return Known{.identity = values_[at] >> 1, .made = (values_[at] & 1) != 0};
}

}  // namespace holdfast
