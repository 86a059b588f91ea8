// SPDX-License-Identifier: Apache-2.0
// Which entries of a snapshot are one file.
#pragma once

#include <condition_variable>
#include <memory>
#include <mutex>
#include <optional>
#include <unordered_map>

#include "repo/target.h"

namespace holdfast {

// Files that are one file (hard links). The first in the order of the tree is restored, the others
// wait for it: it always stands before them in the queue.
class LinkGroup {
 public:
  LinkGroup(const Entry& first, const Hash256& digest)
      : directory(first.directory), name(first.name), content(digest) {}
  const std::string directory, name;
  const Hash256 content;  // two entries that say they are one file must agree on what is in it
  void settle(std::optional<FileIdentity> identity);
  std::optional<FileIdentity> wait();  // nothing: the first one was not restored

 private:
  std::mutex mutex_;
  std::condition_variable settled_;
  bool done_ = false;
  std::optional<FileIdentity> identity_;
};

// Groups of which not all members were seen yet; members of more are files of their own.
inline constexpr std::size_t kLinkGroupsMax = 100'000;

class LinkGroups {
 public:
  struct Place {
    std::shared_ptr<LinkGroup> group;  // null: a file of its own
    bool first = false;
    bool left_out = false;  // it should have been a link
  };
  // Of a file, in the order of the tree.
  Place place(const Entry& entry);

 private:
  struct Key {
    std::uint64_t device, inode;
    bool operator==(const Key&) const = default;
  };
  struct KeyHash {
    std::size_t operator()(const Key& key) const {
      return std::hash<std::uint64_t>{}(key.device * 0x9E3779B97F4A7C15U + key.inode);
    }
  };
  struct Open {
    std::shared_ptr<LinkGroup> group;
    std::uint32_t missing;
  };
  std::unordered_map<Key, Open, KeyHash> groups_;
};

}  // namespace holdfast
