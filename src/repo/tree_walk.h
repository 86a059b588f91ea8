// SPDX-License-Identifier: Apache-2.0
// Position in a tree: before a node, in a leaf, or at the end. Checks every node against its
// neighbours and the node above. Private to repo/; TreeCursor, diff_trees and walk_tree stand on
// it.
#pragma once

#include "repo/node_codec.h"

namespace holdfast::node {

// A key that is not there at an end of the tree.
struct KeyView {
  std::string_view directory, name;
};

// Holds one node a level. Never recurses; never goes back, so no tree unfolds (DOS-02).
class TreeWalk {
 public:
  enum class At { node, leaf, end };  // leaf: in one, before its next entry

  TreeWalk(NodeSource& source, const TreeRoot& root) : source_(&source), root_(root) { restart(); }
  void restart();
  [[nodiscard]] At at() const { return at_; }

  // At::node.
  [[nodiscard]] const ChunkId& id() const { return stack_.empty() ? root_.id : child().id; }
  [[nodiscard]] std::uint8_t level() const;
  // Reads and checks the node and goes into it. After damage (Code::corrupt) the walk stands behind
  // the node; after any other error where it was.
  Result<> expand();
  void skip_node();

  // At::leaf. True: entry() is the next one, until the next call. False: the leaf has ended and the
  // walk has moved on. After damage the walk stands behind the entry, where the rest of the leaf
  // can be read, or behind the leaf.
  Result<bool> next_in_leaf();
  [[nodiscard]] const Entry& entry() const { return entry_; }

  // Leaves, unread, every node whose last key is `before(directory, name)`. Those that the walk
  // stands in too. The keys of `before` are a prefix of what is still to come.
  template <class Before>
  void skip_while(Before before) {
    std::size_t keep = stack_.size();
    for (std::size_t i = 0; i < stack_.size() && keep == stack_.size(); ++i)
      if (const Child& c = stack_[i].children.child(); before(c.directory, c.name)) keep = i;
    if (keep < stack_.size()) {
      stack_.resize(keep + 1);
      skip_node();
    }
    while (at_ == At::node && has_last() && before(child().directory, child().name)) skip_node();
  }

  // The node that the last damage was in, and the keys around it.
  struct Damage {
    ChunkId id;
    std::string after, last;  // paths; empty at the ends
  };
  [[nodiscard]] const Damage& damage() const { return damage_; }

 private:
  struct Level {
    Bytes bytes;
    InnerDecoder children;
  };
  [[nodiscard]] const Child& child() const { return stack_.back().children.child(); }
  [[nodiscard]] bool has_last() const { return !stack_.empty(); }
  [[nodiscard]] std::uint64_t entries() const {
    return stack_.empty() ? root_.entries : child().entries;
  }
  Result<> open_leaf(Bytes bytes);
  Result<> open_inner(Bytes bytes);
  [[nodiscard]] std::string inner_fault(ByteSpan bytes) const;
  [[nodiscard]] const char* bounds_fault();
  [[nodiscard]] bool behind_floor(std::string_view directory, std::string_view name) const;
  void move_on();
  void note_damage();
  std::unexpected<Error> damaged(std::string_view what);

  NodeSource* source_;
  TreeRoot root_;
  At at_ = At::node;
  std::vector<Level> stack_;  // inner nodes above the position, root first
  Bytes leaf_;
  LeafDecoder decoder_;
  Entry entry_;
  bool first_in_leaf_ = true, at_last_ = false;
  // Last key behind which everything still to come must lie.
  bool has_floor_ = false;
  std::string floor_directory_, floor_name_;
  Damage damage_;
};

}  // namespace holdfast::node
