// SPDX-License-Identifier: Apache-2.0
#include "repo/tree_walk.h"

#include <fmt/format.h>

namespace holdfast::node {

namespace {

std::string path_of(std::string_view directory, std::string_view name) {
  std::string path(directory);
  if (!path.empty()) path += '/';
  return path.append(name);
}

}  // namespace

void TreeWalk::restart() {
  stack_.clear();
  at_ = At::node;
  has_floor_ = false;
}

std::uint8_t TreeWalk::level() const {
  return stack_.empty() ? root_.level
                        : static_cast<std::uint8_t>(stack_.back().children.level() - 1);
}

bool TreeWalk::behind_floor(std::string_view directory, std::string_view name) const {
  return !has_floor_ || compare_keys(floor_directory_, floor_name_, directory, name) < 0;
}

// To the next child of the lowest inner node that has one.
void TreeWalk::move_on() {
  while (!stack_.empty()) {
    if (stack_.back().children.next()) {
      at_ = At::node;
      return;
    }
    stack_.pop_back();
  }
  at_ = At::end;
}

void TreeWalk::skip_node() {
  if (has_last()) {
    has_floor_ = true;
    floor_directory_ = child().directory;
    floor_name_ = child().name;
  }
  move_on();
}

void TreeWalk::note_damage() {
  damage_.id = id();
  damage_.after = has_floor_ ? path_of(floor_directory_, floor_name_) : std::string();
  damage_.last = has_last() ? path_of(child().directory, child().name) : std::string();
}

std::unexpected<Error> TreeWalk::damaged(std::string_view what) {
  note_damage();
  const std::string range =
      damage_.last.empty() ? "" : fmt::format(" (up to \"{}\")", escaped(damage_.last));
  auto error =
      fail(Code::corrupt, fmt::format("tree node {}{}: {}", damage_.id.brief(), range, what));
  skip_node();
  return error;
}

Result<> TreeWalk::expand() {
  auto bytes = source_->get(id(), level() == 0 ? ChunkType::leaf : ChunkType::inner);
  if (!bytes) {
    if (!is_damage(bytes.error())) return std::unexpected(std::move(bytes).error());
    return damaged(bytes.error().what);
  }
  return level() == 0 ? open_leaf(std::move(*bytes)) : open_inner(std::move(*bytes));
}

Result<> TreeWalk::open_leaf(Bytes bytes) {
  leaf_ = std::move(bytes);
  if (!decoder_.start(leaf_, entry_)) return damaged(decoder_.what());
  if (decoder_.count() != entries())
    return damaged(
        fmt::format("it has {} entries, what names it says {}", decoder_.count(), entries()));
  if (decoder_.count() == 0 && has_last()) return damaged("an empty leaf that is not the root");
  first_in_leaf_ = true;
  at_last_ = !has_last();
  at_ = At::leaf;
  return {};
}

// The whole node is checked before anything below it is read.
std::string TreeWalk::inner_fault(ByteSpan bytes) const {
  InnerDecoder children;
  std::uint64_t sum = 0;
  bool first = true;
  if (children.start(bytes)) {
    if (children.level() != level())
      return fmt::format("its level is {}, what names it says {}", children.level(), level());
    while (children.next()) {
      const Child& c = children.child();
      if (first && !behind_floor(c.directory, c.name))
        return "its first key is not behind the keys before it";
      first = false;
      if (c.entries > UINT64_MAX - sum) return "entries below its children overflow";
      sum += c.entries;
    }
  }
  if (!children.what().empty()) return children.what();
  if (sum != entries())
    return fmt::format("{} entries below it, what names it says {}", sum, entries());
  if (has_last() && compare_keys(children.child().directory, children.child().name,
                                 child().directory, child().name) != 0)
    return "its last key is not the one that the node above gives";
  return {};
}

Result<> TreeWalk::open_inner(Bytes bytes) {
  if (const std::string fault = inner_fault(bytes); !fault.empty()) return damaged(fault);
  stack_.push_back({std::move(bytes), {}});
  stack_.back().children.start(stack_.back().bytes);
  move_on();
  return {};
}

// Null, or what is wrong with the place of the entry just decoded.
const char* TreeWalk::bounds_fault() {
  if (first_in_leaf_ && !behind_floor(entry_.directory, entry_.name))
    return "its first key is not behind the keys before it";
  first_in_leaf_ = false;
  if (!has_last()) return nullptr;
  if (at_last_) return "an entry behind the last key that the node above gives";
  // Within a leaf most directories are those of its last key.
  const Child& c = child();
  const auto order = entry_.directory == c.directory
                         ? std::string_view(entry_.name) <=> c.name
                         : compare_directories(entry_.directory, c.directory);
  at_last_ = order == 0;
  return order > 0 ? "an entry behind the last key that the node above gives" : nullptr;
}

Result<bool> TreeWalk::next_in_leaf() {
  using Step = LeafDecoder::Step;
  const Step step = decoder_.next(entry_);
  if (step == Step::bad_node) return damaged(decoder_.what());
  if (step == Step::end) {
    if (!at_last_) return damaged("it ends before the last key that the node above gives");
    skip_node();
    return false;
  }
  if (const char* fault = bounds_fault())
    return damaged(fmt::format("entry \"{}\": {}", escaped(entry_.path()), fault));
  if (step == Step::entry) return true;
  note_damage();
  return fail(Code::corrupt, fmt::format("tree node {}: {}", id().brief(), decoder_.what()));
}

}  // namespace holdfast::node
