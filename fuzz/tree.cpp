// SPDX-License-Identifier: Apache-2.0
// A source of any nodes, read in every way. It ends in time linear in the input, keys ascend, no
// hostile name comes out, and cursor and walk agree.
//
// Input: u8 level of the root, u8 entries below it, then nodes: u8 type, u16 length, bytes. Ids are
// the node's number in the first byte, so nodes can name each other; the root is node 0.
#include "repo/tree.h"

#include <cstdlib>
#include <map>

namespace {

using namespace holdfast;

class FuzzNodes final : public NodeSource {
 public:
  explicit FuzzNodes(Reader& in) {
    while (in.left() > 3 && nodes_.size() < 256) {
      in.u8();
      const std::size_t size = std::min<std::size_t>(in.u16(), in.left());
      const ByteSpan node = in.take(size);
      nodes_.emplace_back(node.begin(), node.end());
    }
  }
  Result<Bytes> get(const ChunkId& id, ChunkType) override {
    if (++reads_ > kReadsMax) std::abort();
    const auto number = static_cast<std::size_t>(id.bytes[0]);
    if (number >= nodes_.size()) return fail(Code::not_found, "no such node");
    return nodes_[number];
  }

 private:
  // Every reader below opens a node at most once for each time that a node names it.
  static constexpr std::uint64_t kReadsMax = 10'000'000;
  std::vector<Bytes> nodes_;
  std::uint64_t reads_ = 0;
};

void must(bool ok) {
  if (!ok) std::abort();
}

std::uint64_t read_content(NodeSource& source, const Entry& entry) {
  ContentCursor cursor(source, entry.content);
  std::uint64_t sum = 0, steps = 0;
  for (; steps < 100'000; ++steps) {  // a list may name one node often: it is as long as it says
    const auto item = cursor.next();
    if (!item) continue;
    if (!*item) break;
    sum += (*item)->length;
  }
  if (steps < 100'000 && cursor.check_size(entry.size)) must(sum == entry.size);
  return steps;
}

std::uint64_t read_cursor(NodeSource& source, TreeCursor& cursor) {
  Entry before;
  bool first = true;
  std::uint64_t given = 0;
  for (int content = 0;;) {
    const auto e = cursor.next();
    if (!e) {
      must(e.error().code == Code::corrupt);
      continue;
    }
    if (*e == nullptr) return given;
    must(check_entry_name((*e)->name).has_value() &&
         check_entry_directory((*e)->directory).has_value());
    must(first || compare_keys(before.directory, before.name, (*e)->directory, (*e)->name) < 0);
    before = **e;
    first = false;
    ++given;
    if (content < 8 && before.content.root) ++content, read_content(source, before);
  }
}

}  // namespace

extern "C" int LLVMFuzzerTestOneInput(const std::uint8_t* data, std::size_t size) {
  Reader in(ByteSpan(reinterpret_cast<const std::byte*>(data), size));
  TreeRoot root;
  root.level = in.u8();
  root.entries = in.u8();
  FuzzNodes nodes(in);

  TreeCursor cursor(nodes, root);
  const std::uint64_t given = read_cursor(nodes, cursor);
  TreeCursor middle(nodes, root);
  if (middle.seek("d", "f").has_value()) {
    (void)middle.skip_directory("d");
    must(read_cursor(nodes, middle) <= given);
  }
  std::uint64_t entries = 0, damaged = 0;
  TreeUse use;
  use.entry = [&](const Entry&) -> Result<> {
    ++entries;
    return {};
  };
  use.damaged = [&](const ChunkId&, const Error&, std::string_view, std::string_view) {
    ++damaged;
  };
  must(walk_tree(nodes, root, use).has_value());
  must(entries >= given && (entries == given || cursor.errors() != 0));

  TreeRoot other = root;  // the same tree, said to begin at another node
  other.id.bytes[0] = std::byte{1};
  (void)diff_trees(nodes, root, other, [](const Entry* a, const Entry* b) -> Result<> {
    must(a != nullptr || b != nullptr);
    return {};
  });
  return 0;
}
