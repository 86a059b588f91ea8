// SPDX-License-Identifier: Apache-2.0
// Reading trees: cursor, lookup, difference, reachability. Tests: repo/tree_test.cpp (against a
// std::map), fuzz/tree.cpp.
#include "repo/tree.h"

#include <fmt/format.h>

#include "repo/ancestors.h"
#include "repo/tree_walk.h"

namespace holdfast {

namespace {

using node::TreeWalk;
using At = TreeWalk::At;

bool in_subtree(std::string_view path, std::string_view directory) {
  return path.empty() || (directory.starts_with(path) &&
                          (directory.size() == path.size() || directory[path.size()] == '/'));
}

// Goes to the first entry that is not before (directory, name); false at the end.
Result<bool> go_to(TreeWalk& walk, std::string_view directory, std::string_view name) {
  const auto before = [&](std::string_view d, std::string_view n) {
    return compare_keys(d, n, directory, name) < 0;
  };
  for (;;) {
    walk.skip_while(before);
    if (walk.at() == At::end) return false;
    if (walk.at() == At::node) {
      HF_TRY(walk.expand());
      continue;
    }
    HF_ASSIGN(const bool got, walk.next_in_leaf());
    if (got && !before(walk.entry().directory, walk.entry().name)) return true;
  }
}

// Finds single entries by a walk of its own.
class WalkLookup final : public node::Ancestors::Lookup {
 public:
  WalkLookup(NodeSource& source, const TreeRoot& root) : walk_(source, root) {}
  Result<node::Ancestors::Known> look_up(std::string_view directory,
                                         std::string_view name) override {
    using Known = node::Ancestors::Known;
    walk_.restart();
    bool damage = false;
    auto found = go_to(walk_, directory, name);
    // Damage on the way is no answer while the entry itself can still be read: else one bad name
    // would hide that the next is a symlink.
    for (; !found && node::is_damage(found.error()); found = go_to(walk_, directory, name))
      damage = true;
    if (!found) return std::unexpected(std::move(found).error());
    const Entry& e = walk_.entry();
    if (!*found || e.directory != directory || e.name != name)
      return damage ? Known::damaged : Known::not_a_directory;
    return e.type == EntryType::directory ? Known::directory : Known::not_a_directory;
  }

 private:
  TreeWalk walk_;
};

}  // namespace

struct TreeCursor::Impl {
  TreeWalk walk;
  WalkLookup lookup;
  node::Ancestors ancestors;
  std::uint64_t errors = 0;
  bool ready = false;  // walk.entry() is the next one, and was not given yet
  // What next() leaves out first: keys before a key, or a subtree. Kept, so that an error on the
  // way does not end it.
  enum class Until { nothing, key, subtree } until = Until::nothing;
  std::string directory, name;
  std::string given_directory;  // of the last entry given
  bool given = false;

  Impl(NodeSource& source, const TreeRoot& root) : walk(source, root), lookup(source, root) {}

  [[nodiscard]] bool before_target(std::string_view d, std::string_view n) const {
    if (until == Until::nothing) return false;
    return until == Until::key ? compare_keys(d, n, directory, name) < 0 : in_subtree(directory, d);
  }
  Result<> note(Error error) {
    if (error.code == Code::corrupt) {
      ++errors;
      ancestors.damaged();
    }
    return std::unexpected(std::move(error));
  }
  Result<> step();
  Result<bool> settle();
  Result<bool> accept();
};

// One step towards an entry that is ready.
Result<> TreeCursor::Impl::step() {
  if (until != Until::nothing)
    walk.skip_while([this](std::string_view d, std::string_view n) { return before_target(d, n); });
  if (walk.at() == At::node) return walk.expand();
  if (walk.at() == At::end) return {};
  HF_ASSIGN(ready, walk.next_in_leaf());
  ready = ready && !before_target(walk.entry().directory, walk.entry().name);
  return {};
}

// True: an entry is ready. False: the end.
Result<bool> TreeCursor::Impl::settle() {
  while (!ready && walk.at() != At::end)
    if (auto ok = step(); !ok) return std::unexpected(note(std::move(ok).error()).error());
  if (ready) until = Until::nothing;
  return ready;
}

// False: the ready entry lies below something that is not a directory.
Result<bool> TreeCursor::Impl::accept() {
  const Entry& e = walk.entry();
  HF_ASSIGN(const bool ok, ancestors.enter(e.directory, lookup));
  if (ok && e.type == EntryType::directory) ancestors.add(e.name);
  return ok;
}

TreeCursor::TreeCursor(NodeSource& source, const TreeRoot& root)
    : impl_(std::make_unique<Impl>(source, root)) {}
TreeCursor::~TreeCursor() = default;
TreeCursor::TreeCursor(TreeCursor&&) noexcept = default;

Result<const Entry*> TreeCursor::next() {
  HF_ASSIGN(const bool ready, impl_->settle());
  if (!ready) return nullptr;
  const Entry& entry = impl_->walk.entry();
  HF_ASSIGN(const bool accepted, impl_->accept());
  impl_->ready = false;
  if (!accepted) {
    ++impl_->errors;
    return fail(Code::corrupt,
                fmt::format("entry \"{}\" is refused: what stands at \"{}\" or above it is not a "
                            "directory",
                            escaped(entry.path()), escaped(entry.directory)));
  }
  impl_->given = true;
  if (impl_->given_directory != entry.directory) impl_->given_directory = entry.directory;
  return &entry;
}

Result<> TreeCursor::seek(std::string_view directory, std::string_view name) {
  Impl& c = *impl_;
  c.walk.restart();
  c.ancestors.jumped();
  c.ready = c.given = false;
  c.until = Impl::Until::key;
  c.directory = directory;
  c.name = name;
  if (auto ok = c.settle(); !ok) return std::unexpected(std::move(ok).error());
  return {};
}

Result<> TreeCursor::skip_directory(std::string_view path) {
  Impl& c = *impl_;
  if (!c.given || !in_subtree(path, c.given_directory)) {
    HF_ASSIGN(const bool ready, c.settle());
    if (!ready || !in_subtree(path, c.walk.entry().directory)) return {};
  }
  c.until = Impl::Until::subtree;
  c.directory = path;
  if (c.ready) c.ready = !in_subtree(path, c.walk.entry().directory);
  if (auto ok = c.settle(); !ok) return std::unexpected(std::move(ok).error());
  return {};
}

std::uint64_t TreeCursor::errors() const { return impl_->errors; }

Result<Entry> find_entry(NodeSource& source, const TreeRoot& root, std::string_view path) {
  const std::size_t slash = path.rfind('/');
  const bool top = slash == std::string_view::npos;
  const std::string_view directory = top ? std::string_view() : path.substr(0, slash);
  const std::string_view name = top ? path : path.substr(slash + 1);
  TreeCursor cursor(source, root);
  HF_TRY(cursor.seek(directory, name));
  HF_ASSIGN(const Entry* found, cursor.next());
  if (found == nullptr || found->directory != directory || found->name != name)
    return fail(Code::not_found, fmt::format("no entry \"{}\" in the snapshot", escaped(path)));
  return *found;
}

namespace {

// One side of a comparison: before a node, or with an entry at hand, or at its end.
struct DiffSide {
  TreeWalk walk;
  bool has_entry = false;

  [[nodiscard]] bool at_node() const { return !has_entry && walk.at() == At::node; }
  [[nodiscard]] bool at_end() const { return !has_entry && walk.at() == At::end; }
  [[nodiscard]] const Entry& entry() const { return walk.entry(); }
  Result<> settle() {
    while (!has_entry && walk.at() == At::leaf) {
      HF_ASSIGN(has_entry, walk.next_in_leaf());
    }
    return {};
  }
};

Result<> diff_entries(DiffSide& a, DiffSide& b, const DiffVisitor& visit) {
  auto order = std::strong_ordering::equal;
  if (a.at_end()) {
    order = std::strong_ordering::greater;
  } else if (b.at_end()) {
    order = std::strong_ordering::less;
  } else {
    order = compare_keys(a.entry().directory, a.entry().name, b.entry().directory, b.entry().name);
  }
  const Entry* before = order <= 0 ? &a.entry() : nullptr;
  const Entry* after = order >= 0 ? &b.entry() : nullptr;
  if (before == nullptr || after == nullptr || *before != *after) HF_TRY(visit(before, after));
  if (before != nullptr) a.has_entry = false;
  if (after != nullptr) b.has_entry = false;
  return {};
}

// Where both stand before a node, what was read is the same on both sides up to differences that
// were told: the same node can be left out on both. Else the higher node is opened, so both come
// down to nodes of one level, which are the same where nothing changed.
Result<> diff_nodes(DiffSide& a, DiffSide& b) {
  if (!a.at_node()) return b.walk.expand();
  if (!b.at_node()) return a.walk.expand();
  if (a.walk.level() == b.walk.level() && a.walk.id() == b.walk.id()) {
    a.walk.skip_node();
    b.walk.skip_node();
    return {};
  }
  return a.walk.level() >= b.walk.level() ? a.walk.expand() : b.walk.expand();
}

}  // namespace

Result<> diff_trees(NodeSource& source, const TreeRoot& before, const TreeRoot& after,
                    const DiffVisitor& visit) {
  DiffSide a{TreeWalk(source, before)}, b{TreeWalk(source, after)};
  while (!a.at_end() || !b.at_end()) {
    HF_TRY(a.settle());
    HF_TRY(b.settle());
    if (a.at_node() || b.at_node()) {
      HF_TRY(diff_nodes(a, b));
    } else if (!a.at_end() || !b.at_end()) {
      HF_TRY(diff_entries(a, b, visit));
    }
  }
  return {};
}

namespace {

bool is_seen(const TreeUse& use, const ChunkId& id) { return use.seen && use.seen(id); }

Result<> tell_damage(const TreeUse& use, const ChunkId& id, Error error, std::string_view after,
                     std::string_view last) {
  if (!node::is_damage(error) || !use.damaged) return std::unexpected(std::move(error));
  use.damaged(id, error, after, last);
  return {};
}

Result<bool> enter(const TreeUse& use, const ChunkId& id, ChunkType type) {
  if (is_seen(use, id)) return false;
  if (use.node) HF_TRY(use.node(id, type));
  return true;
}

Result<> walk_entry(NodeSource& source, const Entry& entry, const TreeUse& use) {
  if (use.entry) HF_TRY(use.entry(entry));
  for (const ContentItem& item : entry.content.items)
    if (item.chunk) HF_TRY(enter(use, *item.chunk, ChunkType::data));
  if (!entry.content.root) return {};
  const std::string path = entry.path();
  return node::walk_list(source, *entry.content.root, entry.size,
                         {[&](const ChunkId& id, ChunkType type) { return enter(use, id, type); },
                          [&](const ChunkId& id, Error error) {
                            error.what.insert(0, fmt::format("content of \"{}\": ", escaped(path)));
                            return tell_damage(use, id, std::move(error), path, path);
                          }});
}

}  // namespace

Result<> walk_tree(NodeSource& source, const TreeRoot& root, const TreeUse& use) {
  TreeWalk walk(source, root);
  const auto go_on = [&](Error error) -> Result<> {
    if (error.code != Code::corrupt) return std::unexpected(std::move(error));
    const TreeWalk::Damage& d = walk.damage();
    return tell_damage(use, d.id, std::move(error), d.after, d.last);
  };
  while (walk.at() != At::end) {
    if (walk.at() == At::node) {
      const auto type = walk.level() == 0 ? ChunkType::leaf : ChunkType::inner;
      HF_ASSIGN(const bool below, enter(use, walk.id(), type));
      if (!below) walk.skip_node();
      if (auto ok = below ? walk.expand() : Result<>(); !ok) HF_TRY(go_on(std::move(ok).error()));
      continue;
    }
    auto got = walk.next_in_leaf();
    if (!got) {
      HF_TRY(go_on(std::move(got).error()));
    } else if (*got) {
      HF_TRY(walk_entry(source, walk.entry(), use));
    }
  }
  return {};
}

}  // namespace holdfast
