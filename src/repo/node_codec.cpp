// SPDX-License-Identifier: Apache-2.0
#include "repo/node_codec.h"

#include <fmt/format.h>

#include <algorithm>
#include <cassert>

#include "crypto/transcript.h"

namespace holdfast::node {

void FieldReader::refuse(const char* field, const char* why) {
  if (field_ != nullptr) return;
  field_ = field;
  why_ = why;
  at_ = end_;  // whatever is read from here on is empty
}

void FieldReader::refuse_value(const char* field, std::uint64_t v, std::uint64_t min,
                               std::uint64_t max) {
  if (field_ != nullptr) return;
  refuse(field, nullptr);
  value_ = v;
  min_ = min;
  max_ = max;
}

std::string FieldReader::what() const {
  if (field_ == nullptr) return {};
  if (why_ != nullptr) return fmt::format("{}: {}", field_, why_);
  return fmt::format("{}: is {}, must be {} to {}", field_, value_, min_, max_);
}

bool FieldReader::long_varint(const char* field, std::uint64_t& v) {
  for (unsigned shift = 0; shift < 64 && at_ != end_; shift += 7) {
    const auto b = static_cast<std::uint8_t>(*at_++);
    const std::uint64_t part = b & 0x7FU;
    if ((shift == 63 && part > 1) || (shift > 0 && b == 0)) {
      refuse(field, "not a varint in its shortest form");
      return false;
    }
    v |= part << shift;
    if ((b & 0x80) == 0) return true;
  }
  refuse(field, at_ == end_ ? "the node ends in it" : "a varint of more than ten bytes");
  return false;
}

namespace {

std::size_t shared_prefix(std::string_view a, std::string_view b) {
  const std::size_t n = std::min(a.size(), b.size());
  std::size_t i = 0;
  while (i < n && a[i] == b[i]) ++i;
  return i;
}
// Directories compare by component, which is: by bytes, '/' lowest (it cannot be NUL).
unsigned directory_rank(char c) { return c == '/' ? 0U : static_cast<unsigned char>(c); }

}  // namespace

KeyStep key_step(std::string_view directory_before, std::string_view name_before,
                 std::string_view directory, std::string_view name) {
  KeyStep step;
  const bool same = directory_before == directory;
  step.directory_shared = same ? directory.size() : shared_prefix(directory_before, directory);
  step.name_shared = shared_prefix(name_before, name);
  const std::size_t n = step.directory_shared, m = step.name_shared;
  if (same) {
    step.ascending = m < name.size() &&
                     (m == name_before.size() || static_cast<unsigned char>(name[m]) >
                                                     static_cast<unsigned char>(name_before[m]));
  } else {
    step.ascending = n < directory.size() &&
                     (n == directory_before.size() ||
                      directory_rank(directory[n]) > directory_rank(directory_before[n]));
  }
  return step;
}

namespace {

// Is `rest` above what stands at `shared` in `before`? The first byte after the longest shared
// prefix decides; where `before` ends there, whatever follows is above.
template <class Rank>
bool rises(std::string_view before, std::size_t shared, std::string_view rest, Rank rank) {
  return !rest.empty() && (shared == before.size() || rank(rest[0]) > rank(before[shared]));
}
bool could_share_more(std::string_view before, std::size_t shared, std::string_view rest) {
  return shared < before.size() && !rest.empty() && rest[0] == before[shared];
}

}  // namespace

CodedKey CodedKey::read(FieldReader& in, std::string_view directory_before,
                        std::string_view name_before, bool ordered) {
  CodedKey key;
  key.directory_shared = in.varint("shared bytes of the directory", 0, directory_before.size());
  key.directory_rest = in.block("directory", kPathMax - key.directory_shared);
  key.name_shared = in.varint("shared bytes of the name", 0, name_before.size());
  key.name_rest = in.block("name", kNameMax - key.name_shared);
  if (could_share_more(directory_before, key.directory_shared, key.directory_rest) ||
      could_share_more(name_before, key.name_shared, key.name_rest))
    in.refuse("shared bytes of a key", "fewer than are shared");
  const bool up =
      key.same_directory(directory_before)
          ? rises(name_before, key.name_shared, key.name_rest,
                  [](char c) { return static_cast<unsigned char>(c); })
          : rises(directory_before, key.directory_shared, key.directory_rest, directory_rank);
  if (ordered && !up) in.refuse("key", "not behind the key before it (a double, or out of order)");
  return key;
}

namespace {

constexpr std::string_view kTreeLabel = "holdfast/v1/tree-boundary";
constexpr std::string_view kListLabel = "holdfast/v1/list-boundary";

std::byte* put_bytes(std::byte* p, std::string_view bytes) {
  if (!bytes.empty()) std::memcpy(p, bytes.data(), bytes.size());
  return p + bytes.size();
}
std::byte* put_field(std::byte* p, std::string_view bytes) {
  store_le(p, static_cast<std::uint32_t>(bytes.size()));
  return put_bytes(p + 4, bytes);
}
// T(label; u8 level, ...) as Transcript builds it, without its memory.
std::byte* put_head(std::byte* p, std::string_view label, std::uint8_t level) {
  *p++ = static_cast<std::byte>(label.size());
  p = put_bytes(p, label);
  store_le(p, std::uint32_t{1});
  p[4] = static_cast<std::byte>(level);
  return p + 5;
}

}  // namespace

Boundary::Boundary(ByteSpan tree_key) {
  assert(tree_key.size() == kTreeKeySize);
  std::memcpy(key_.data(), tree_key.data(), std::min(tree_key.size(), key_.size()));
}

bool Boundary::below(std::size_t message, std::uint64_t fanout) const {
  // hash < 2^64 / fanout, exactly: hash * fanout <= 2^64 - 1
  return siphash(key_, ByteSpan(message_).first(message)) <= UINT64_MAX / fanout;
}

bool Boundary::tree(std::uint8_t level, std::string_view directory, std::string_view name) {
  assert(directory.size() <= kPathMax && name.size() <= kNameMax);
  std::byte* p = put_head(message_.data(), kTreeLabel, level);
  p = put_field(put_field(p, directory), name);
  return below(static_cast<std::size_t>(p - message_.data()),
               level == 0 ? kLeafFanout : kInnerFanout);
}

bool Boundary::list(std::uint8_t level, const ChunkId& id) {
  std::byte* p = put_head(message_.data(), kListLabel, level);
  p = put_field(p, as_text(id.bytes));
  return below(static_cast<std::size_t>(p - message_.data()), kListFanout);
}

namespace {

std::size_t varint_size(std::uint64_t v) {
  return v == 0 ? 1 : (static_cast<std::size_t>(std::bit_width(v)) + 6) / 7;
}

}  // namespace

std::size_t NodeBuffer::size(std::size_t head) const {
  return head + varint_size(count_) + bytes_.size() - kRoom;
}

ByteSpan NodeBuffer::finish(std::initializer_list<std::uint8_t> head) {
  const std::size_t n = head.size() + varint_size(count_);
  assert(n <= kRoom);
  std::byte* p = bytes_.data() + kRoom - n;
  for (const std::uint8_t b : head) *p++ = static_cast<std::byte>(b);
  std::uint64_t v = count_;
  for (; v >= 0x80; v >>= 7) *p++ = static_cast<std::byte>(v | 0x80);
  *p = static_cast<std::byte>(v);
  return ByteSpan(bytes_).subspan(kRoom - n);
}

}  // namespace holdfast::node
