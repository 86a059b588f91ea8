// SPDX-License-Identifier: Apache-2.0
// A snapshot's entries as a content-defined B-tree (prolly tree). docs/formats/repository.md,
// "Trees" and "Content lists".
#pragma once

#include <functional>
#include <memory>

#include "repo/entry.h"
#include "repo/pack.h"

namespace holdfast {

struct TreeRoot {
  ChunkId id;
  std::uint8_t level = 0;  // 0: the root is a leaf
  std::uint64_t entries = 0;
  bool operator==(const TreeRoot&) const = default;
};

// Where nodes come from and go to. ChunkReader and the backup's writer stand behind these; tests
// use a map.
class NodeSource {
 public:
  NodeSource() = default;
  NodeSource(const NodeSource&) = delete;
  NodeSource& operator=(const NodeSource&) = delete;
  virtual ~NodeSource() = default;
  virtual Result<Bytes> get(
      const ChunkId& id, ChunkType type) = 0;  // verified: the id is of these bytes and this type
};
class NodeSink {
 public:
  NodeSink() = default;
  NodeSink(const NodeSink&) = delete;
  NodeSink& operator=(const NodeSink&) = delete;
  virtual ~NodeSink() = default;
  virtual Result<ChunkId> put(ChunkType type, ByteSpan node) = 0;
};

inline constexpr std::size_t kNodeSizeMax =
    std::size_t{512} * 1024;  // encoded node; an entry larger than that is refused
inline constexpr std::uint8_t kTreeLevelMax = 12;

// Entries in strictly ascending key order. Code::invalid: out of order, bad name, over a limit
// (names the entry).
class TreeBuilder {
 public:
  TreeBuilder(NodeSink& sink, ByteSpan tree_key);
  ~TreeBuilder();
  Result<> add(const Entry& entry);
  Result<TreeRoot> finish();  // an empty tree is one empty leaf

 private:
  struct Impl;
  std::unique_ptr<Impl> impl_;
};

// Reads entries in key order. Every node is checked: order against its neighbours, key range,
// counts, names, limits; so a shared or repeated node is an error and a small tree cannot unfold
// into a large one (DOS-02). An entry with a hostile name, or one whose directory did not come
// before it as a directory, is Code::corrupt too and only it is skipped (RST-01, RST-02).
class TreeCursor {
 public:
  TreeCursor(NodeSource& source, const TreeRoot& root);
  ~TreeCursor();
  TreeCursor(TreeCursor&&) noexcept;
  // The next entry, valid until the next call; null at the end. After Code::corrupt the cursor has
  // skipped the damaged node and goes on behind it with the next call (errors() tells how many
  // there were).
  Result<const Entry*> next();
  // Goes to the first entry whose key is not below (directory, name). Reads one node a level.
  Result<> seek(std::string_view directory, std::string_view name);
  // Skips what is left of the subtree of directory `path` (its entries and all below), where the
  // cursor stands in it or directly before it; elsewhere it does nothing.
  Result<> skip_directory(std::string_view path);
  [[nodiscard]] std::uint64_t errors() const;

 private:
  struct Impl;
  std::unique_ptr<Impl> impl_;
};

// The entry at `path` ("usr/share/doc"); Code::not_found.
Result<Entry> find_entry(NodeSource& source, const TreeRoot& root, std::string_view path);

// Calls visit(before, after) for each key whose entries differ (one of them null where it is
// missing on a side), in key order, without reading subtrees that are the same node on both sides.
using DiffVisitor = std::function<Result<>(const Entry* before, const Entry* after)>;
Result<> diff_trees(NodeSource& source, const TreeRoot& before, const TreeRoot& after,
                    const DiffVisitor& visit);

// Every node and every content chunk that a tree reaches, each inner node before what is below it;
// `seen(id)` returning true skips a node together with what is below it; it is asked once for each
// time that something names the id, data chunks too. For check and collection. Callbacks may be
// empty.
struct TreeUse {
  std::function<bool(const ChunkId&)> seen;
  std::function<Result<>(const ChunkId& id, ChunkType type)> node;
  std::function<Result<>(const Entry& entry)> entry;
  // A node that is missing or is not what it must be, and what it touches: keys behind path `after`
  // (empty: from the start) up to path `last` (empty: to the end). The walk goes on behind it.
  // Without this callback the walk ends with the error.
  std::function<void(const ChunkId& id, const Error& error, std::string_view after,
                     std::string_view last)>
      damaged;
};
Result<> walk_tree(NodeSource& source, const TreeRoot& root, const TreeUse& use);

// Content lists: pieces of one file, streamed.
class ListBuilder {
 public:
  ListBuilder(NodeSink& sink, ByteSpan tree_key);
  ~ListBuilder();
  Result<> add(const ContentItem& item);
  Result<Content>
  finish();  // inline when there are at most kInlineItemsMax items; ready for the next file then

 private:
  struct Impl;
  std::unique_ptr<Impl> impl_;
};
class ContentCursor {
 public:
  ContentCursor(NodeSource& source, const Content& content);
  ~ContentCursor();
  ContentCursor(ContentCursor&&) noexcept;
  Result<std::optional<ContentItem>> next();
  // Code::corrupt unless the items' lengths sum to `size` (call at the end) (DOS-03).
  Result<> check_size(std::uint64_t size) const;

 private:
  struct Impl;
  std::unique_ptr<Impl> impl_;
};

// The encodings themselves, for tests, vectors and fuzzers.
struct LeafNode {
  std::vector<Entry> entries;
};
struct InnerNode {
  struct Child {
    std::string last_directory, last_name;  // key of the last entry below it
    ChunkId id;
    std::uint64_t entries;
  };
  std::uint8_t level = 1;
  std::vector<Child> children;
};
struct ListNode {
  std::uint8_t level = 0;
  std::vector<ContentItem> items;  // level 0
  struct Child {
    ChunkId id;
    std::uint64_t items, bytes;
  };
  std::vector<Child> children;  // above
};
Bytes encode_leaf(const LeafNode& node);
Bytes encode_inner(const InnerNode& node);
Bytes encode_list(const ListNode& node);
Result<LeafNode> decode_leaf(ByteSpan bytes);
Result<InnerNode> decode_inner(ByteSpan bytes);
Result<ListNode> decode_list(ByteSpan bytes);

}  // namespace holdfast
