// SPDX-License-Identifier: Apache-2.0
// The encodings of tree and list nodes, piece by piece: what TreeBuilder, TreeCursor and the whole
// -node functions of tree.h share. Private to repo/. docs/formats/repository.md, "Trees".
#pragma once

#include <array>

#include "repo/tree.h"

namespace holdfast::node {

inline constexpr std::size_t kNodeSizeAim = 1U << 16;  // more only for one entry that fills a node
inline constexpr std::uint64_t kLeafFanout = 12, kInnerFanout = 64, kListFanout = 128;
inline constexpr std::uint64_t kListNodeMax = 1024;
inline constexpr std::uint8_t kListLevelMax = 6;
inline constexpr std::size_t kTreeKeySize = 16;

// Reads fields by name: the first failure sticks, and says which field it was (DOS-03). Reads
// behind a failure give zeros and empty spans, so a record is read whole and asked once.
class FieldReader {
 public:
  FieldReader() = default;
  explicit FieldReader(ByteSpan in) : at_(in.data()), end_(in.data() + in.size()) {}
  [[nodiscard]] bool ok() const { return field_ == nullptr; }
  [[nodiscard]] std::size_t left() const { return static_cast<std::size_t>(end_ - at_); }
  std::uint8_t u8(const char* field) {
    if (at_ != end_) return static_cast<std::uint8_t>(*at_++);
    refuse(field, "the node ends in it");
    return 0;
  }
  std::uint64_t varint(const char* field, std::uint64_t min, std::uint64_t max) {
    std::uint64_t v = 0;
    if (at_ != end_ && static_cast<std::uint8_t>(*at_) < 0x80) {
      v = static_cast<std::uint8_t>(*at_++);
    } else if (!long_varint(field, v)) {
      return 0;
    }
    if (v >= min && v <= max) return v;
    refuse_value(field, v, min, max);
    return 0;
  }
  std::uint64_t varint(const char* field) { return varint(field, 0, UINT64_MAX); }
  // Zigzag, as a difference modulo 2^64.
  std::uint64_t difference(const char* field) {
    const std::uint64_t v = varint(field);
    return (v >> 1) ^ (~(v & 1) + 1);
  }
  std::string_view take(const char* field, std::size_t n) {
    if (n > left()) {
      refuse(field, "it is longer than what is left of the node");
      return {};
    }
    const auto* begin = reinterpret_cast<const char*>(at_);
    at_ += n;
    return {begin, n};
  }
  std::string_view block(const char* field, std::size_t max) {
    return take(field, static_cast<std::size_t>(varint(field, 0, max)));
  }
  ChunkId id(const char* field) { return ChunkId::from(as_bytes(take(field, ChunkId::size))); }
  void refuse(const char* field, const char* why);
  [[nodiscard]] std::string what() const;

 private:
  bool long_varint(const char* field, std::uint64_t& v);
  void refuse_value(const char* field, std::uint64_t v, std::uint64_t min, std::uint64_t max);

  const std::byte* at_ = nullptr;
  const std::byte* end_ = nullptr;
  const char* field_ = nullptr;
  const char* why_ = nullptr;
  std::uint64_t value_ = 0, min_ = 0, max_ = 0;
};

// How a key stands to the one before it.
struct KeyStep {
  std::size_t directory_shared = 0, name_shared = 0;
  bool ascending = false;
};
KeyStep key_step(std::string_view directory_before, std::string_view name_before,
                 std::string_view directory, std::string_view name);

// A key as it stands in a node: what it shares with the key before it, and the rest.
struct CodedKey {
  std::size_t directory_shared = 0, name_shared = 0;
  std::string_view directory_rest, name_rest;

  // Refuses (in `in`) what is not the shortest form, over a limit, or, with `ordered`, not behind
  // the key before.
  static CodedKey read(FieldReader& in, std::string_view directory_before,
                       std::string_view name_before, bool ordered);
  [[nodiscard]] bool same_directory(std::string_view directory_before) const {
    return directory_rest.empty() && directory_shared == directory_before.size();
  }
  void apply(std::string& directory, std::string& name) const {
    directory.resize(directory_shared);
    directory.append(directory_rest);
    name.resize(name_shared);
    name.append(name_rest);
  }
};

// Cuts by the PRF. Keys only decide, so an edit moves no cut but its own.
class Boundary {
 public:
  explicit Boundary(ByteSpan tree_key);
  bool tree(std::uint8_t level, std::string_view directory, std::string_view name);
  bool list(std::uint8_t level, const ChunkId& id);

 private:
  [[nodiscard]] bool below(std::size_t message, std::uint64_t fanout) const;

  std::array<std::byte, kTreeKeySize> key_{};
  std::array<std::byte, 64 + kPathMax + kNameMax> message_{};
};

// Bytes of a node under way: the body grows, the header (which holds the count) is put before it
// at the end.
class NodeBuffer {
 public:
  NodeBuffer() { clear(); }
  void clear() {
    bytes_.resize(kRoom);
    count_ = 0;
  }
  [[nodiscard]] std::uint64_t count() const { return count_; }
  [[nodiscard]] std::size_t mark() const { return bytes_.size(); }
  // Room for `bound` bytes behind mark(); accept() says how many were used.
  std::byte* grow(std::size_t bound) {
    const std::size_t at = bytes_.size();
    bytes_.resize(at + bound);
    return bytes_.data() + at;
  }
  void accept(const std::byte* end) {
    bytes_.resize(static_cast<std::size_t>(end - bytes_.data()));
    ++count_;
  }
  void undo(std::size_t mark) {
    bytes_.resize(mark);
    --count_;
  }
  // With a header of `head` bytes before the count.
  [[nodiscard]] std::size_t size(std::size_t head) const;
  [[nodiscard]] ByteSpan finish(std::initializer_list<std::uint8_t> head);

 private:
  static constexpr std::size_t kRoom = 16;
  Bytes bytes_;
  std::uint64_t count_ = 0;
};

class LeafEncoder {
 public:
  void clear() { buffer_.clear(); }
  [[nodiscard]] std::uint64_t count() const { return buffer_.count(); }
  [[nodiscard]] bool ascending(const Entry& entry);  // behind the entry before; kept for add()
  // False: it would take the node above kNodeSizeAim; nothing was added. The first of a node always
  // goes in. `entry` must be the one given to ascending().
  bool add(const Entry& entry);
  [[nodiscard]] std::size_t size() const { return buffer_.size(1); }
  ByteSpan finish() { return buffer_.finish({0x01}); }
  // Key of the entry added last (over all nodes).
  [[nodiscard]] const std::string& directory() const { return directory_; }
  [[nodiscard]] const std::string& name() const { return name_; }
  [[nodiscard]] bool begun() const { return begun_; }

 private:
  NodeBuffer buffer_;
  std::string directory_, name_;
  std::uint64_t mtime_ = 0, inode_ = 0;
  KeyStep step_;
  bool begun_ = false;
};
// Null, or the rule that the entry breaks, names apart (check_entry_name, check_entry_directory).
const char* entry_fault(const Entry& entry);

// Decodes a leaf entry by entry into one Entry, which is also the state for what follows: hand the
// same one in, unchanged. Only what differs is written, so strings keep their memory.
class LeafDecoder {
 public:
  enum class Step { entry, end, bad_entry, bad_node };  // after bad_entry the next one can be read
  bool start(ByteSpan node, Entry& entry);              // false: bad_node
  [[nodiscard]] std::uint64_t count() const { return count_; }
  Step next(Entry& entry);
  [[nodiscard]] std::string what() const { return what_; }

 private:
  bool key(Entry& entry);
  void fixed_fields(Entry& entry, std::uint8_t type);
  void fields_by_type(Entry& entry);
  void xattrs(Entry& entry, bool present);
  void content(Entry& entry);
  void inline_items(Entry& entry);
  Step bad(std::string what);
  Step check_names(const Entry& entry);

  FieldReader in_;
  std::uint64_t count_ = 0, left_ = 0;
  bool first_ = true, directory_ok_ = true, directory_changed_ = true;
  std::string what_;
};

struct Child {
  std::string directory, name;  // last key below
  ChunkId id;
  std::uint64_t entries = 0;
};
class InnerEncoder {
 public:
  void clear() {
    buffer_.clear();
    entries_ = 0;
  }
  [[nodiscard]] std::uint64_t count() const { return buffer_.count(); }
  [[nodiscard]] std::uint64_t entries() const { return entries_; }
  bool add(std::string_view directory, std::string_view name, const ChunkId& id,
           std::uint64_t entries);  // false: as LeafEncoder::add
  ByteSpan finish(std::uint8_t level) { return buffer_.finish({0x02, level}); }
  [[nodiscard]] const std::string& directory() const { return directory_; }
  [[nodiscard]] const std::string& name() const { return name_; }

 private:
  NodeBuffer buffer_;
  std::string directory_, name_;
  std::uint64_t entries_ = 0;
};
class InnerDecoder {
 public:
  bool start(ByteSpan node);  // false: what() says why
  [[nodiscard]] std::uint8_t level() const { return level_; }
  [[nodiscard]] const Child& child() const { return child_; }
  // False: no more, or what() is not empty.
  bool next();
  [[nodiscard]] const std::string& what() const { return what_; }

 private:
  bool bad(std::string what);

  FieldReader in_;
  Child child_;
  std::uint64_t left_ = 0;
  std::uint8_t level_ = 0;
  bool first_ = true;
  std::string what_;
};

// List nodes: items or children, then the same two functions for whole nodes.
class ListEncoder {
 public:
  void clear() {
    buffer_.clear();
    items_ = bytes_ = 0;
  }
  [[nodiscard]] std::uint64_t count() const { return buffer_.count(); }
  [[nodiscard]] std::uint64_t items() const { return items_; }
  [[nodiscard]] std::uint64_t bytes() const { return bytes_; }
  void add(const ContentItem& item);
  void add(const ListNode::Child& child);
  ByteSpan finish(std::uint8_t level) { return buffer_.finish({0x03, level}); }

 private:
  NodeBuffer buffer_;
  std::uint64_t items_ = 0, bytes_ = 0;
};
class ListDecoder {
 public:
  bool start(ByteSpan node);
  [[nodiscard]] std::uint8_t level() const { return level_; }
  bool next();  // false: no more, or what() is not empty
  [[nodiscard]] const ContentItem& item() const { return item_; }
  [[nodiscard]] const ListNode::Child& child() const { return child_; }
  [[nodiscard]] const std::string& what() const { return what_; }
  // Of all that next() gave.
  [[nodiscard]] std::uint64_t items() const { return items_; }
  [[nodiscard]] std::uint64_t bytes() const { return bytes_; }

 private:
  bool bad(std::string what);
  void sum(std::uint64_t items, std::uint64_t bytes);

  FieldReader in_;
  ContentItem item_;
  ListNode::Child child_{};
  std::uint64_t left_ = 0, items_ = 0, bytes_ = 0;
  std::uint8_t level_ = 0;
  std::string what_;
};

// The fault of an item, or null.
const char* item_fault(const ContentItem& item);

// A node that cannot be had is damage; a store that does not answer is not.
[[nodiscard]] inline bool is_damage(const Error& error) {
  return error.code == Code::corrupt || error.code == Code::not_found;
}

// Every list node and chunk of one file's list, a node before what is below it. `enter` says
// whether to go on below; `damage` takes what is wrong with one node.
struct ContentUse {
  std::function<Result<bool>(const ChunkId& id, ChunkType type)> enter;
  std::function<Result<>(const ChunkId& id, Error error)> damage;
};
Result<> walk_list(NodeSource& source, const ListRoot& root, std::uint64_t size,
                   const ContentUse& use);

}  // namespace holdfast::node
