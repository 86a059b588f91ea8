// SPDX-License-Identifier: Apache-2.0
// Content lists: the pieces of one large file as nodes cut by their ids.
// Tests: repo/content_list_test.cpp.
#include <fmt/format.h>

#include <cassert>
#include <unordered_set>

#include "repo/node_codec.h"

namespace holdfast {
namespace node {

namespace {

std::byte* put_varint(std::byte* p, std::uint64_t v) {
  for (; v >= 0x80; v >>= 7) *p++ = static_cast<std::byte>(v | 0x80);
  *p = static_cast<std::byte>(v);
  return p + 1;
}
std::byte* put_id(std::byte* p, const ChunkId& id) {
  std::memcpy(p, id.bytes.data(), ChunkId::size);
  return p + ChunkId::size;
}
constexpr std::size_t kListEntryMax = ChunkId::size + 20;

}  // namespace

void ListEncoder::add(const ContentItem& item) {
  std::byte* p = buffer_.grow(kListEntryMax);
  p = put_varint(p, item.length << 1 | (item.chunk ? 0U : 1U));
  if (item.chunk) p = put_id(p, *item.chunk);
  buffer_.accept(p);
  ++items_;
  bytes_ += item.length;
}

void ListEncoder::add(const ListNode::Child& child) {
  std::byte* p = put_id(buffer_.grow(kListEntryMax), child.id);
  p = put_varint(p, child.items);
  buffer_.accept(put_varint(p, child.bytes));
  items_ += child.items;
  bytes_ += child.bytes;
}

bool ListDecoder::start(ByteSpan node) {
  what_.clear();
  items_ = bytes_ = 0;
  in_ = FieldReader(node);
  if (in_.u8("kind of node") != 0x03) in_.refuse("kind of node", "not a list");
  level_ = in_.u8("level");
  if (level_ > kListLevelMax) in_.refuse("level", "above 6");
  left_ = in_.varint("pieces", 1, kListNodeMax);
  return in_.ok() || bad(in_.what());
}

bool ListDecoder::bad(std::string what) {
  left_ = 0;
  what_ = std::move(what);
  return false;
}

void ListDecoder::sum(std::uint64_t items, std::uint64_t bytes) {
  if (items > UINT64_MAX - items_) in_.refuse("pieces", "their number overflows");
  if (bytes > UINT64_MAX - bytes_) in_.refuse("bytes", "their sum overflows");
  items_ += items;
  bytes_ += bytes;
}

bool ListDecoder::next() {
  if (left_ == 0) return what_.empty() && in_.left() != 0 && bad("bytes behind its last piece");
  --left_;
  if (level_ == 0) {
    const std::uint64_t v = in_.varint("length of a piece");
    item_.length = v >> 1;
    item_.chunk.reset();
    if ((v & 1) == 0) item_.chunk = in_.id("chunk of a piece");
    if (const char* fault = in_.ok() ? item_fault(item_) : nullptr)
      in_.refuse("length of a piece", fault);
    sum(1, item_.length);
  } else {
    child_.id = in_.id("id of a child");
    child_.items = in_.varint("pieces below a child", 1, UINT64_MAX);
    child_.bytes = in_.varint("bytes below a child", 1, UINT64_MAX);
    sum(child_.items, child_.bytes);
  }
  return in_.ok() || bad(in_.what());
}

namespace {

// The nodes of one list from the root down, checked: levels, numbers and sums as the node above
// said. What is below a damaged node is skipped. One node a level is held.
class ListWalk {
 public:
  enum class At { node, item, end };

  ListWalk(NodeSource& source, const ListRoot& root)
      : source_(&source), current_{root.id, root.items, 0}, level_(root.level) {}
  [[nodiscard]] At at() const { return at_; }
  [[nodiscard]] const ChunkId& id() const { return current_.id; }
  [[nodiscard]] const ContentItem& item() const { return stack_.back().decoder.item(); }
  Result<> expand();
  void step();  // to what is behind the item or node, without what is below it

 private:
  struct Level {
    Bytes bytes;
    ListDecoder decoder;
  };
  Result<> check(ByteSpan bytes) const;

  NodeSource* source_;
  std::vector<Level> stack_;
  ListNode::Child current_;
  std::uint8_t level_;
  At at_ = At::node;
};

// The whole node, before anything below it is read.
Result<> ListWalk::check(ByteSpan bytes) const {
  ListDecoder decoder;
  const auto bad = [this](std::string_view what) {
    return fail(Code::corrupt, fmt::format("list node {}: {}", current_.id.brief(), what));
  };
  if (decoder.start(bytes)) {
    while (decoder.next()) {
    }
  }
  if (!decoder.what().empty()) return bad(decoder.what());
  if (decoder.level() != level_)
    return bad(fmt::format("its level is {}, the node above says {}", decoder.level(), level_));
  if (decoder.items() != current_.items)
    return bad(
        fmt::format("it has {} pieces, the node above says {}", decoder.items(), current_.items));
  if (!stack_.empty() && decoder.bytes() != current_.bytes)
    return bad(fmt::format("its pieces have {} bytes, the node above says {}", decoder.bytes(),
                           current_.bytes));
  return {};
}

Result<> ListWalk::expand() {
  auto bytes = source_->get(current_.id, ChunkType::list);
  Result<> checked = bytes ? check(*bytes) : std::unexpected(bytes.error());
  if (!checked) {
    if (!is_damage(checked.error())) return checked;
    Error error = std::move(checked).error();
    error.code = Code::corrupt;
    step();
    return std::unexpected(std::move(error));
  }
  stack_.push_back({std::move(*bytes), {}});
  stack_.back().decoder.start(stack_.back().bytes);
  step();
  return {};
}

void ListWalk::step() {
  while (!stack_.empty()) {
    ListDecoder& top = stack_.back().decoder;
    if (top.next()) {
      at_ = top.level() == 0 ? At::item : At::node;
      if (top.level() == 0) return;
      current_ = top.child();
      level_ = static_cast<std::uint8_t>(top.level() - 1);
      return;
    }
    stack_.pop_back();
  }
  at_ = At::end;
}

}  // namespace

namespace {

// What is known of the file's size at the end.
struct ListSum {
  std::uint64_t bytes = 0;
  bool whole = true;  // every piece was met, once for each time that it is named
};

Result<> walk_item(ListWalk& walk, const ContentUse& use, ListSum& sum) {
  const ContentItem item = walk.item();
  walk.step();
  if (item.length > UINT64_MAX - sum.bytes) sum.whole = false;
  sum.bytes += item.length;
  if (item.chunk) HF_TRY(use.enter(*item.chunk, ChunkType::data));
  return {};
}

Result<> walk_list_node(ListWalk& walk, const ContentUse& use, ListSum& sum, bool known) {
  const ChunkId id = walk.id();
  bool below = false;
  if (!known) {
    HF_ASSIGN(below, use.enter(id, ChunkType::list));
  }
  if (!below) {
    sum.whole = false;
    walk.step();
    return {};
  }
  auto opened = walk.expand();
  if (opened || !is_damage(opened.error())) return opened;
  sum.whole = false;
  return use.damage(id, std::move(opened).error());
}

}  // namespace

Result<> walk_list(NodeSource& source, const ListRoot& root, std::uint64_t size,
                   const ContentUse& use) {
  ListWalk walk(source, root);
  std::unordered_set<ChunkId, IdHash> met;  // one node may stand often in a list: open it once
  ListSum sum;
  while (walk.at() != ListWalk::At::end) {
    if (walk.at() == ListWalk::At::item) {
      HF_TRY(walk_item(walk, use, sum));
    } else {
      HF_TRY(walk_list_node(walk, use, sum, !met.insert(walk.id()).second));
    }
  }
  if (!sum.whole || sum.bytes == size) return {};
  return use.damage(
      root.id, Error{Code::corrupt, fmt::format("size: content list {} has {} bytes, the entry "
                                                "says {}",
                                                root.id.brief(), sum.bytes, size)});
}

}  // namespace node

struct ListBuilder::Impl {
  struct Level {
    node::ListEncoder encoder;
    bool ends = false;  // its node is closed when the next item or child comes
    std::uint64_t closed = 0;
  };
  NodeSink* sink;
  node::Boundary boundary;
  std::vector<ContentItem> items;  // while they are few enough to lie inline
  std::vector<Level> levels;
  bool listed = false;

  Result<ChunkId> put(std::size_t level) {
    Level& l = levels[level];
    return sink->put(ChunkType::list, l.encoder.finish(static_cast<std::uint8_t>(level)));
  }
  // Gives the node of `level` to the one above; at most kListLevelMax calls deep.
  Result<> close(std::size_t level) {
    if (level == node::kListLevelMax)
      return fail(Code::invalid, "content list of more than 6 levels: file of too many pieces");
    HF_ASSIGN(const ChunkId id, put(level));
    Level& l = levels[level];
    const ListNode::Child child{id, l.encoder.items(), l.encoder.bytes()};
    l.encoder.clear();
    l.ends = false;
    ++l.closed;
    if (levels.size() == level + 1) levels.emplace_back();
    if (levels[level + 1].ends) HF_TRY(close(level + 1));
    Level& above = levels[level + 1];
    above.encoder.add(child);
    above.ends = above.encoder.count() == node::kListNodeMax ||
                 boundary.list(static_cast<std::uint8_t>(level + 1), id);
    return {};
  }
  Result<> add_listed(const ContentItem& item) {
    if (levels.empty()) levels.emplace_back();
    if (levels[0].ends) HF_TRY(close(0));
    Level& leaf = levels[0];
    leaf.encoder.add(item);
    leaf.ends =
        leaf.encoder.count() == node::kListNodeMax || (item.chunk && boundary.list(0, *item.chunk));
    return {};
  }
  Result<Content> finish_listed() {
    std::size_t level = 0;
    for (; levels[level].closed != 0; ++level) HF_TRY(close(level));
    Content out;
    HF_ASSIGN(const ChunkId id, put(level));
    out.root = ListRoot{id, static_cast<std::uint8_t>(level), levels[level].encoder.items()};
    return out;
  }
  void clear() {
    items.clear();
    listed = false;
    for (Level& l : levels) {
      l.encoder.clear();
      l.ends = false;
      l.closed = 0;
    }
  }
};

ListBuilder::ListBuilder(NodeSink& sink, ByteSpan tree_key)
    : impl_(new Impl{&sink, node::Boundary(tree_key), {}, {}, false}) {}
ListBuilder::~ListBuilder() = default;

Result<> ListBuilder::add(const ContentItem& item) {
  if (const char* fault = node::item_fault(item)) return fail(Code::invalid, fault);
  if (!impl_->listed && impl_->items.size() < kInlineItemsMax) {
    impl_->items.push_back(item);
    return {};
  }
  if (!impl_->listed) {
    impl_->listed = true;
    for (const ContentItem& before : impl_->items) HF_TRY(impl_->add_listed(before));
    impl_->items.clear();
  }
  return impl_->add_listed(item);
}

Result<Content> ListBuilder::finish() {
  Result<Content> out;
  if (impl_->listed) {
    out = impl_->finish_listed();
  } else {
    out->items = impl_->items;
  }
  impl_->clear();
  return out;
}

struct ContentCursor::Impl {
  std::vector<ContentItem> items;  // inline ones; a copy: entries are reused by who gives them
  std::optional<node::ListWalk> walk;
  std::size_t next_inline = 0;
  std::uint64_t sum = 0;
  bool overflow = false, failed = false;

  Result<std::optional<ContentItem>> take(const ContentItem& item) {
    overflow = overflow || item.length > UINT64_MAX - sum;
    sum += item.length;
    return item;
  }
};

ContentCursor::ContentCursor(NodeSource& source, const Content& content)
    : impl_(std::make_unique<Impl>()) {
  if (content.root) {
    impl_->walk.emplace(source, *content.root);
  } else {
    impl_->items = content.items;
  }
}
ContentCursor::~ContentCursor() = default;
ContentCursor::ContentCursor(ContentCursor&&) noexcept = default;

Result<std::optional<ContentItem>> ContentCursor::next() {
  using At = node::ListWalk::At;
  if (!impl_->walk) {
    if (impl_->next_inline == impl_->items.size()) return std::nullopt;
    return impl_->take(impl_->items[impl_->next_inline++]);
  }
  node::ListWalk& walk = *impl_->walk;
  while (walk.at() == At::node) {
    if (auto done = walk.expand(); !done) {
      impl_->failed = impl_->failed || node::is_damage(done.error());
      return std::unexpected(std::move(done).error());
    }
  }
  if (walk.at() == At::end) return std::nullopt;
  const ContentItem item = walk.item();
  walk.step();
  return impl_->take(item);
}

Result<> ContentCursor::check_size(std::uint64_t size) const {
  if (!impl_->overflow && !impl_->failed && impl_->sum == size) return {};
  return fail(Code::corrupt,
              fmt::format("size: the pieces of the content have {}{} bytes, the entry says {}",
                          impl_->failed ? "(some are missing) " : "",
                          impl_->overflow ? "more than 2^64" : std::to_string(impl_->sum), size));
}

Bytes encode_list(const ListNode& node) {
  node::ListEncoder encoder;
  for (const ContentItem& item : node.items) encoder.add(item);
  for (const ListNode::Child& child : node.children) encoder.add(child);
  const ByteSpan bytes = encoder.finish(node.level);
  return {bytes.begin(), bytes.end()};
}

Result<ListNode> decode_list(ByteSpan bytes) {
  node::ListDecoder decoder;
  ListNode out;
  if (decoder.start(bytes)) {
    while (decoder.next()) {
      if (decoder.level() == 0) out.items.push_back(decoder.item());
      if (decoder.level() != 0) out.children.push_back(decoder.child());
    }
  }
  if (!decoder.what().empty()) return fail(Code::corrupt, "list node: " + decoder.what());
  out.level = decoder.level();
  return out;
}

}  // namespace holdfast
