// SPDX-License-Identifier: Apache-2.0
// Leaf and inner nodes. Tests: repo/tree_test.cpp, testdata/vectors/tree.txt, fuzz/node.cpp.
#include <fmt/format.h>

#include <cassert>

#include "repo/node_codec.h"

namespace holdfast::node {

namespace {

constexpr std::uint8_t kTypeMask = 0x0F, kTorn = 0x10, kHasXattrs = 0x20, kHasFlags = 0x40,
                       kHasLinks = 0x80;
constexpr std::uint32_t kModeMax = 07777, kNanosecondsMax = 999'999'999;
constexpr std::size_t kFixedMax = 200;  // all fields of fixed number, at their longest

// Writes into memory that is known to be long enough.
struct Put {
  std::byte* p;
  void u8(std::uint8_t v) { *p++ = static_cast<std::byte>(v); }
  void varint(std::uint64_t v) {
    for (; v >= 0x80; v >>= 7) u8(static_cast<std::uint8_t>(v | 0x80));
    u8(static_cast<std::uint8_t>(v));
  }
  // Differences are taken modulo 2^64, so every pair of values has one.
  void difference(std::uint64_t v, std::uint64_t before) {
    const std::uint64_t d = v - before;
    varint((d << 1) ^ (~(d >> 63) + 1));
  }
  void raw(std::string_view bytes) {
    if (!bytes.empty()) std::memcpy(p, bytes.data(), bytes.size());
    p += bytes.size();
  }
  void block(std::string_view bytes) {
    varint(bytes.size());
    raw(bytes);
  }
  void id(const ChunkId& id) { raw(as_text(id.bytes)); }
  void shared(std::size_t n, std::string_view text) {
    varint(n);
    block(text.substr(n));
  }
  void item(const ContentItem& item) {
    varint(item.length << 1 | (item.chunk ? 0U : 1U));
    if (item.chunk) id(*item.chunk);
  }
};

bool is_device(EntryType type) {
  return type == EntryType::char_device || type == EntryType::block_device;
}
bool has_links(const Entry& e) { return e.type != EntryType::directory && e.links > 1; }

std::size_t encoded_bound(const Entry& e) {
  std::size_t n = kFixedMax + e.directory.size() + e.name.size();
  for (const Xattr& x : e.xattrs) n += x.name.size() + x.value.size() + 8;
  if (e.type == EntryType::file && !e.content.root) n += e.content.items.size() * 42;
  if (e.type == EntryType::symlink) n += e.link_target.size();
  return n;
}

void put_content(Put& out, const Entry& e) {
  out.varint(e.size);
  out.u8(e.content.root ? 1 : 0);
  if (const auto& root = e.content.root) {
    out.id(root->id);
    out.u8(root->level);
    out.varint(root->items);
    return;
  }
  out.varint(e.content.items.size());
  for (const ContentItem& item : e.content.items) out.item(item);
}

std::uint8_t type_byte(const Entry& e) {
  return static_cast<std::uint8_t>(
      static_cast<unsigned>(e.type) | (e.torn ? kTorn : 0U) | (e.xattrs.empty() ? 0U : kHasXattrs) |
      (e.flags != 0 ? kHasFlags : 0U) | (has_links(e) ? kHasLinks : 0U));
}

void put_entry(Put& out, const Entry& e, std::uint64_t mtime_before, std::uint64_t inode_before) {
  const auto mtime = static_cast<std::uint64_t>(e.mtime.seconds);
  out.u8(type_byte(e));
  out.varint(e.mode);
  out.varint(e.uid);
  out.varint(e.gid);
  out.difference(mtime, mtime_before);
  out.varint(e.mtime.nanoseconds);
  out.difference(static_cast<std::uint64_t>(e.ctime.seconds), mtime);
  out.varint(e.ctime.nanoseconds);
  out.varint(e.device);
  out.difference(e.inode, inode_before);
  if (has_links(e)) out.varint(e.links);
  if (e.flags != 0) out.varint(e.flags);
  if (!e.xattrs.empty()) out.varint(e.xattrs.size());
  for (const Xattr& x : e.xattrs) {
    out.block(x.name);
    out.block(x.value);
  }
  if (e.type == EntryType::file) put_content(out, e);
  if (e.type == EntryType::symlink) out.block(e.link_target);
  if (is_device(e.type)) out.varint(e.rdev);
}

const char* xattrs_fault(const std::vector<Xattr>& xattrs) {
  if (xattrs.size() > kXattrsMax) return "more than 1024 extended attributes";
  std::size_t bytes = 0;
  const std::string* before = nullptr;
  for (const Xattr& x : xattrs) {
    if (x.name.empty() || x.name.size() > kXattrNameMax || x.name.find('\0') != std::string::npos)
      return "name of an extended attribute: not 1 to 255 bytes without NUL";
    if (x.value.size() > kXattrValueMax) return "extended attribute of more than 64 KiB";
    if (before != nullptr && *before >= x.name)
      return "extended attributes not in ascending order of their names";
    bytes += x.name.size() + x.value.size();
    before = &x.name;
  }
  return bytes > kXattrsBytesMax ? "extended attributes of more than 256 KiB together" : nullptr;
}

const char* content_fault(const Entry& e) {
  if (const auto& root = e.content.root) {
    if (root->level > kListLevelMax) return "content list of more than 6 levels";
    return root->items <= kInlineItemsMax ? "content list of pieces that would fit inline"
                                          : nullptr;
  }
  if (e.content.items.size() > kInlineItemsMax) return "more than 64 pieces without a content list";
  std::uint64_t sum = 0;
  for (const ContentItem& item : e.content.items) {
    if (const char* fault = item_fault(item)) return fault;
    if (item.length > UINT64_MAX - sum) return "lengths of the pieces overflow";
    sum += item.length;
  }
  return sum != e.size ? "lengths of the pieces do not sum to the size" : nullptr;
}

}  // namespace

const char* item_fault(const ContentItem& item) {
  if (item.length == 0) return "piece of length 0";
  if (item.length > UINT64_MAX >> 1) return "piece of more than 2^63 - 1 bytes";
  return item.chunk && item.length > kFramePlainMax ? "piece longer than a chunk can be" : nullptr;
}

const char* entry_fault(const Entry& e) {
  if (e.type < EntryType::directory || e.type > EntryType::block_device) return "unknown type";
  if (e.mode > kModeMax) return "mode above 07777";
  if (e.mtime.nanoseconds > kNanosecondsMax || e.ctime.nanoseconds > kNanosecondsMax)
    return "time with nanoseconds above 999999999";
  if (const char* fault = xattrs_fault(e.xattrs)) return fault;
  if (e.type == EntryType::symlink &&
      (e.link_target.size() > kLinkTargetMax || e.link_target.find('\0') != std::string::npos))
    return "link target: more than 4095 bytes, or NUL in it";
  return e.type == EntryType::file ? content_fault(e) : nullptr;
}

bool LeafEncoder::ascending(const Entry& entry) {
  step_ = key_step(directory_, name_, entry.directory, entry.name);
  return !begun_ || step_.ascending;
}

bool LeafEncoder::add(const Entry& e) {
  const bool first = buffer_.count() == 0;
  const std::size_t mark = buffer_.mark();
  Put out{buffer_.grow(encoded_bound(e))};
  out.shared(first ? 0 : step_.directory_shared, e.directory);
  out.shared(first ? 0 : step_.name_shared, e.name);
  put_entry(out, e, first ? 0 : mtime_, first ? 0 : inode_);
  buffer_.accept(out.p);
  if (!first && size() > kNodeSizeAim) {
    buffer_.undo(mark);
    return false;
  }
  directory_.resize(step_.directory_shared);
  directory_.append(e.directory, step_.directory_shared);
  name_.assign(e.name);
  mtime_ = static_cast<std::uint64_t>(e.mtime.seconds);
  inode_ = e.inode;
  begun_ = true;
  return true;
}

bool LeafDecoder::start(ByteSpan node, Entry& entry) {
  what_.clear();
  first_ = directory_ok_ = directory_changed_ = true;
  entry.directory.clear();
  entry.name.clear();
  entry.mtime.seconds = 0;
  entry.inode = 0;
  in_ = FieldReader(node);
  if (node.size() > kNodeSizeMax) in_.refuse("leaf node", "longer than 512 KiB");
  if (in_.u8("kind of node") != 0x01) in_.refuse("kind of node", "not a leaf");
  count_ = left_ = in_.varint("entries", 0, in_.left());
  if (node.size() > kNodeSizeAim && count_ > 1)
    in_.refuse("leaf node", "longer than 64 KiB with more than one entry");
  return in_.ok() || bad(in_.what()) != Step::bad_node;
}

LeafDecoder::Step LeafDecoder::bad(std::string what) {
  left_ = 0;
  what_ = std::move(what);
  return Step::bad_node;
}

bool LeafDecoder::key(Entry& e) {
  const CodedKey key = CodedKey::read(in_, e.directory, e.name, !first_);
  if (!in_.ok()) return false;
  directory_changed_ = first_ || !key.same_directory(e.directory);
  key.apply(e.directory, e.name);
  first_ = false;
  return true;
}

void LeafDecoder::xattrs(Entry& e, bool present) {
  const std::uint64_t count = present ? in_.varint("extended attributes", 1, kXattrsMax) : 0;
  e.xattrs.resize(std::min<std::uint64_t>(count, in_.left() / 2));
  for (Xattr& x : e.xattrs) {
    x.name.assign(in_.block("name of an extended attribute", kXattrNameMax));
    x.value.assign(in_.block("value of an extended attribute", kXattrValueMax));
  }
  if (e.xattrs.size() != count) in_.refuse("extended attributes", "more than the node has");
  if (const char* fault = count == 0 ? nullptr : xattrs_fault(e.xattrs))
    in_.refuse("extended attributes", fault);
}

void LeafDecoder::inline_items(Entry& e) {
  const std::uint64_t count = in_.varint("pieces", 0, kInlineItemsMax);
  e.content.items.resize(count);
  for (ContentItem& item : e.content.items) {
    const std::uint64_t v = in_.varint("length of a piece");
    item.length = v >> 1;
    item.chunk.reset();
    if ((v & 1) == 0) item.chunk = in_.id("chunk of a piece");
  }
}

void LeafDecoder::content(Entry& e) {
  e.size = in_.varint("size");
  const std::uint8_t listed = in_.u8("kind of content");
  if (listed > 1) in_.refuse("kind of content", "neither inline nor a list");
  e.content.items.clear();
  e.content.root.reset();
  if (listed == 1) {
    ListRoot root;
    root.id = in_.id("root of the content list");
    root.level = in_.u8("level of the content list");
    root.items = in_.varint("pieces of the content list");
    e.content.root = root;
  } else {
    inline_items(e);
  }
  if (!in_.ok()) return;
  if (const char* fault = content_fault(e)) in_.refuse("size", fault);
}

LeafDecoder::Step LeafDecoder::check_names(const Entry& e) {
  if (directory_changed_) directory_ok_ = check_entry_directory(e.directory).has_value();
  const auto name = check_entry_name(e.name);
  if (directory_ok_ && name && e.directory.size() + 1 + e.name.size() <= kPathMax)
    return Step::entry;
  const auto directory = check_entry_directory(e.directory);
  const std::string rule = !directory ? directory.error().what
                           : !name    ? name.error().what
                                      : "path of more than 4096 bytes";
  what_ = fmt::format("entry \"{}\" is refused: {}", escaped(e.path()), rule);
  return Step::bad_entry;
}

void LeafDecoder::fixed_fields(Entry& e, std::uint8_t type) {
  const unsigned kind = type & kTypeMask;
  if (kind < 1 || kind > 6) in_.refuse("type", "unknown");
  e.type = static_cast<EntryType>(kind);
  e.torn = (type & kTorn) != 0;
  e.mode = static_cast<std::uint32_t>(in_.varint("mode", 0, kModeMax));
  e.uid = static_cast<std::uint32_t>(in_.varint("uid", 0, UINT32_MAX));
  e.gid = static_cast<std::uint32_t>(in_.varint("gid", 0, UINT32_MAX));
  const auto mtime = static_cast<std::uint64_t>(e.mtime.seconds) + in_.difference("mtime");
  e.mtime.seconds = static_cast<std::int64_t>(mtime);
  e.mtime.nanoseconds = static_cast<std::uint32_t>(in_.varint("mtime ns", 0, kNanosecondsMax));
  e.ctime.seconds = static_cast<std::int64_t>(mtime + in_.difference("ctime"));
  e.ctime.nanoseconds = static_cast<std::uint32_t>(in_.varint("ctime ns", 0, kNanosecondsMax));
  e.device = in_.varint("device");
  e.inode += in_.difference("inode");
  const bool linked = (type & kHasLinks) != 0;
  if (linked && e.type == EntryType::directory) in_.refuse("links", "kept for a directory");
  e.links = linked ? static_cast<std::uint32_t>(in_.varint("links", 2, UINT32_MAX)) : 1;
  const bool flagged = (type & kHasFlags) != 0;
  e.flags = flagged ? static_cast<std::uint32_t>(in_.varint("flags", 1, UINT32_MAX)) : 0;
}

void LeafDecoder::fields_by_type(Entry& e) {
  e.size = 0;
  e.link_target.clear();
  e.content.items.clear();
  e.content.root.reset();
  if (e.type == EntryType::file) content(e);
  if (e.type == EntryType::symlink) {
    e.link_target.assign(in_.block("link target", kLinkTargetMax));
    if (e.link_target.find('\0') != std::string::npos) in_.refuse("link target", "NUL in it");
  }
  e.rdev = is_device(e.type) ? in_.varint("rdev") : 0;
}

LeafDecoder::Step LeafDecoder::next(Entry& e) {
  if (left_ == 0) {
    if (!in_.ok()) return Step::bad_node;
    return in_.left() == 0 ? Step::end : bad("bytes behind its last entry");
  }
  --left_;
  if (!key(e)) return bad(fmt::format("behind \"{}\": {}", escaped(e.path()), in_.what()));
  const std::uint8_t type = in_.u8("type");
  fixed_fields(e, type);
  xattrs(e, (type & kHasXattrs) != 0);
  fields_by_type(e);
  if (!in_.ok()) return bad(fmt::format("entry \"{}\": {}", escaped(e.path()), in_.what()));
  return check_names(e);
}

bool InnerEncoder::add(std::string_view directory, std::string_view name, const ChunkId& id,
                       std::uint64_t entries) {
  const bool first = buffer_.count() == 0;
  const KeyStep step = first ? KeyStep{} : key_step(directory_, name_, directory, name);
  const std::size_t mark = buffer_.mark();
  Put out{buffer_.grow(kFixedMax + directory.size() + name.size())};
  out.shared(step.directory_shared, directory);
  out.shared(step.name_shared, name);
  out.id(id);
  out.varint(entries);
  buffer_.accept(out.p);
  if (!first && buffer_.size(2) > kNodeSizeAim) {
    buffer_.undo(mark);
    return false;
  }
  directory_.assign(directory);
  name_.assign(name);
  entries_ += entries;
  return true;
}

bool InnerDecoder::start(ByteSpan node) {
  what_.clear();
  first_ = true;
  child_.directory.clear();
  child_.name.clear();
  in_ = FieldReader(node);
  if (node.size() > kNodeSizeAim) in_.refuse("inner node", "longer than 64 KiB");
  if (in_.u8("kind of node") != 0x02) in_.refuse("kind of node", "not an inner node");
  level_ = in_.u8("level");
  if (level_ < 1 || level_ > kTreeLevelMax) in_.refuse("level", "not 1 to 12");
  left_ = in_.varint("children", 1, std::max<std::uint64_t>(in_.left(), 1));
  return in_.ok() || bad(in_.what());
}

bool InnerDecoder::bad(std::string what) {
  left_ = 0;
  what_ = std::move(what);
  return false;
}

bool InnerDecoder::next() {
  if (left_ == 0) return what_.empty() && in_.left() != 0 && bad("bytes behind its last child");
  --left_;
  Child& c = child_;
  const CodedKey key = CodedKey::read(in_, c.directory, c.name, !first_);
  c.id = in_.id("id of a child");
  c.entries = in_.varint("entries below a child", 1, UINT64_MAX);
  if (!in_.ok())
    return bad(
        fmt::format("behind \"{}/{}\": {}", escaped(c.directory), escaped(c.name), in_.what()));
  key.apply(c.directory, c.name);
  first_ = false;
  return true;
}

}  // namespace holdfast::node

namespace holdfast {

Bytes encode_leaf(const LeafNode& node) {
  node::LeafEncoder encoder;
  for (const Entry& entry : node.entries) {
    (void)encoder.ascending(entry);  // any order: tests make nodes that must be refused
    [[maybe_unused]] const bool fits = encoder.add(entry);
    assert(fits);
  }
  const ByteSpan bytes = encoder.finish();
  return {bytes.begin(), bytes.end()};
}

Bytes encode_inner(const InnerNode& node) {
  node::InnerEncoder encoder;
  for (const InnerNode::Child& c : node.children) {
    [[maybe_unused]] const bool fits = encoder.add(c.last_directory, c.last_name, c.id, c.entries);
    assert(fits);
  }
  const ByteSpan bytes = encoder.finish(node.level);
  return {bytes.begin(), bytes.end()};
}

Result<LeafNode> decode_leaf(ByteSpan bytes) {
  node::LeafDecoder decoder;
  LeafNode out;
  Entry entry;
  auto step = node::LeafDecoder::Step::bad_node;
  if (decoder.start(bytes, entry)) {
    while ((step = decoder.next(entry)) == node::LeafDecoder::Step::entry)
      out.entries.push_back(entry);
  }
  if (step != node::LeafDecoder::Step::end)
    return fail(Code::corrupt, "leaf node: " + decoder.what());
  return out;
}

Result<InnerNode> decode_inner(ByteSpan bytes) {
  node::InnerDecoder decoder;
  InnerNode out;
  std::uint64_t sum = 0;
  if (decoder.start(bytes)) {
    while (decoder.next()) {
      const node::Child& c = decoder.child();
      if (c.entries > UINT64_MAX - sum)
        return fail(Code::corrupt, "inner node: entries below its children overflow");
      sum += c.entries;
      out.children.push_back({c.directory, c.name, c.id, c.entries});
    }
  }
  if (!decoder.what().empty()) return fail(Code::corrupt, "inner node: " + decoder.what());
  out.level = decoder.level();
  return out;
}

}  // namespace holdfast
