// SPDX-License-Identifier: Apache-2.0
// Builds a tree from the left: one open node a level, each entry encoded once and not kept.
#include <fmt/format.h>

#include <array>

#include "repo/node_codec.h"

namespace holdfast {

struct TreeBuilder::Impl {
  struct Level {
    node::InnerEncoder encoder;
    bool ends = false;
    std::uint64_t closed = 0;
  };

  NodeSink* sink;
  node::Boundary boundary;
  node::LeafEncoder leaf;
  // A node whose last key is a boundary is closed only when something comes behind it: so the
  // level above begins with the second node, and one node alone is the root.
  bool leaf_ends = false;
  std::uint64_t leaves_closed = 0, entries = 0;
  std::array<Level, kTreeLevelMax> inner;  // inner[0] is level 1

  Result<> check(const Entry& entry);
  Result<> close_leaf();
  Result<> close_inner(std::size_t level);
  Result<> add_child(std::size_t level, std::string_view directory, std::string_view name,
                     const ChunkId& id, std::uint64_t below);
};

namespace {

std::unexpected<Error> refuse(const Entry& entry, std::string_view rule) {
  return fail(Code::invalid,
              fmt::format("entry \"{}\" cannot be stored: {}", escaped(entry.path()), rule));
}

}  // namespace

Result<> TreeBuilder::Impl::check(const Entry& entry) {
  if (entry.directory != leaf.directory())
    if (auto ok = check_entry_directory(entry.directory); !ok)
      return refuse(entry, ok.error().what);
  if (auto ok = check_entry_name(entry.name); !ok) return refuse(entry, ok.error().what);
  if (entry.directory.size() + 1 + entry.name.size() > kPathMax)
    return refuse(entry, "path of more than 4096 bytes");
  if (const char* fault = node::entry_fault(entry)) return refuse(entry, fault);
  if (!leaf.ascending(entry)) return refuse(entry, "not behind the entry before it");
  return {};
}

Result<> TreeBuilder::Impl::close_leaf() {
  const std::uint64_t count = leaf.count();
  HF_ASSIGN(const ChunkId id, sink->put(ChunkType::leaf, leaf.finish()));
  HF_TRY(add_child(0, leaf.directory(), leaf.name(), id, count));
  leaf.clear();
  leaf_ends = false;
  ++leaves_closed;
  return {};
}

Result<> TreeBuilder::Impl::close_inner(std::size_t level) {
  if (level + 1 == inner.size()) return fail(Code::invalid, "tree of more than 12 levels");
  Level& l = inner[level];
  HF_ASSIGN(const ChunkId id,
            sink->put(ChunkType::inner, l.encoder.finish(static_cast<std::uint8_t>(level + 1))));
  HF_TRY(add_child(level + 1, l.encoder.directory(), l.encoder.name(), id, l.encoder.entries()));
  l.encoder.clear();
  l.ends = false;
  ++l.closed;
  return {};
}

// At most kTreeLevelMax calls deep.
Result<> TreeBuilder::Impl::add_child(std::size_t level, std::string_view directory,
                                      std::string_view name, const ChunkId& id,
                                      std::uint64_t below) {
  Level& l = inner[level];
  if (l.ends) HF_TRY(close_inner(level));
  if (!l.encoder.add(directory, name, id, below)) {
    HF_TRY(close_inner(level));
    l.encoder.add(directory, name, id, below);
  }
  l.ends = boundary.tree(static_cast<std::uint8_t>(level + 1), directory, name);
  return {};
}

TreeBuilder::TreeBuilder(NodeSink& sink, ByteSpan tree_key)
    : impl_(new Impl{&sink, node::Boundary(tree_key), {}, false, 0, 0, {}}) {}
TreeBuilder::~TreeBuilder() = default;

Result<> TreeBuilder::add(const Entry& entry) {
  Impl& b = *impl_;
  HF_TRY(b.check(entry));
  if (b.leaf_ends) HF_TRY(b.close_leaf());
  if (!b.leaf.add(entry)) {
    HF_TRY(b.close_leaf());
    b.leaf.add(entry);
  }
  if (b.leaf.size() > kNodeSizeMax) return refuse(entry, "more than 512 KiB of metadata");
  ++b.entries;
  b.leaf_ends = b.boundary.tree(0, entry.directory, entry.name);
  return {};
}

Result<TreeRoot> TreeBuilder::finish() {
  Impl& b = *impl_;
  if (b.leaves_closed == 0) {
    HF_ASSIGN(const ChunkId id, b.sink->put(ChunkType::leaf, b.leaf.finish()));
    return TreeRoot{id, 0, b.entries};
  }
  HF_TRY(b.close_leaf());
  std::size_t level = 0;
  for (; b.inner[level].closed != 0; ++level) HF_TRY(b.close_inner(level));
  const auto number = static_cast<std::uint8_t>(level + 1);
  HF_ASSIGN(const ChunkId id, b.sink->put(ChunkType::inner, b.inner[level].encoder.finish(number)));
  return TreeRoot{id, number, b.entries};
}

}  // namespace holdfast
