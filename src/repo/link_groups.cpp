// SPDX-License-Identifier: Apache-2.0
#include "repo/link_groups.h"

#include "crypto/hash.h"

namespace holdfast {
namespace {

Hash256 digest_of(const Entry& entry) {
  Bytes bytes;
  Writer writer(bytes);
  writer.u8(static_cast<std::uint8_t>(entry.type));
  writer.u64(entry.rdev);
  writer.raw(as_bytes(entry.link_target));
  writer.u64(entry.size);
  if (entry.content.root) writer.raw(entry.content.root->id.span());
  for (const ContentItem& item : entry.content.items) {
    writer.u64(item.length);
    if (item.chunk) writer.raw(item.chunk->span());
  }
  return sha256(bytes);
}

}  // namespace

void LinkGroup::settle(std::optional<Source> source) {
  const std::lock_guard lock(mutex_);
  busy_ = false;
  source_ = std::move(source);
  settled_.notify_all();
}

std::optional<LinkGroup::Source> LinkGroup::wait() {
  std::unique_lock lock(mutex_);
  settled_.wait(lock, [&] { return !busy_; });
  busy_ = !source_;
  return source_;
}

void LinkGroup::keep(const Source& kept) {
  const std::lock_guard lock(mutex_);
  if (!kept_) kept_ = kept;
}

std::optional<LinkGroup::Source> LinkGroup::kept() {
  const std::lock_guard lock(mutex_);
  return kept_;
}

LinkGroups::Place LinkGroups::place(const Entry& entry) {
  if (entry.links < 2) return {};
  const Key key{entry.device, entry.inode};
  const auto found = groups_.find(key);
  const Hash256 content = digest_of(entry);
  if (found == groups_.end()) {
    if (groups_.size() == kLinkGroupsMax) return {nullptr, false, true};
    auto group = std::make_shared<LinkGroup>(entry, content);
    groups_.emplace(key, Open{group, entry.links - 1});
    return {group, true, false};
  }
  Open& open = found->second;
  if (open.group->content != content) return {nullptr, false, true};
  const auto group = open.group;
  if (--open.missing == 0) groups_.erase(found);
  return {group, false, false};
}

}  // namespace holdfast
