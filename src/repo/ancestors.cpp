// SPDX-License-Identifier: Apache-2.0
#include "repo/ancestors.h"

namespace holdfast::node {

void Ancestors::damaged() {
  gap_ = true;
  for (std::size_t i = 0; i < depth_; ++i) levels_[i].complete = false;
}

void Ancestors::jumped() {
  gap_ = true;
  for (std::size_t i = 0; i < depth_; ++i) queued_ -= levels_[i].names.size();
  depth_ = 0;
  path_.clear();
}

void Ancestors::push(std::size_t path_size) {
  if (levels_.size() == depth_) levels_.emplace_back();
  Level& l = levels_[depth_++];
  l.path_size = path_size;
  l.names.clear();
  l.next = 0;
  l.complete = !gap_;
}

// Leaves every level that is neither `directory` nor above it.
void Ancestors::pop_to(std::string_view directory) {
  const auto above = [&](const Level& l) {
    const std::size_t n = l.path_size;
    return n == 0 || (directory.size() >= n && (directory.size() == n || directory[n] == '/') &&
                      directory.substr(0, n) == std::string_view(path_).substr(0, n));
  };
  while (depth_ > 1 && !above(levels_[depth_ - 1])) {
    --depth_;
    queued_ -= levels_[depth_].names.size();
  }
  path_.resize(levels_[depth_ - 1].path_size);
}

// Names come in ascending order: those before `name` will not be asked for again.
bool Ancestors::take(std::string_view name) {
  Level& l = levels_[depth_ - 1];
  while (l.next < l.names.size()) {
    const auto size = static_cast<unsigned char>(l.names[l.next]);
    const std::string_view queued = std::string_view(l.names).substr(l.next + 1, size);
    if (queued > name) return false;
    l.next += 1U + size;
    if (queued == name) return true;
  }
  return false;
}

Result<bool> Ancestors::enter(std::string_view directory, Lookup& lookup) {
  if (depth_ != 0 && path_ == directory) return true;
  if (depth_ == 0) push(0);
  pop_to(directory);
  while (path_.size() < directory.size()) {
    const std::size_t begin = path_.empty() ? 0 : path_.size() + 1;
    const std::size_t end = std::min(directory.find('/', begin), directory.size());
    const std::string_view name = directory.substr(begin, end - begin);
    if (!take(name)) {
      if (levels_[depth_ - 1].complete) return false;
      HF_ASSIGN(const Known known, lookup.look_up(path_, name));
      if (known == Known::not_a_directory) return false;
    }
    path_.assign(directory.substr(0, end));
    push(end);
  }
  gap_ = false;
  return true;
}

void Ancestors::add(std::string_view name) {
  Level& l = levels_[depth_ - 1];
  if (queued_ + name.size() + 1 > kQueuedBytesMax) {
    l.complete = false;
    return;
  }
  l.names += static_cast<char>(name.size());
  l.names += name;
  queued_ += name.size() + 1;
}

}  // namespace holdfast::node
