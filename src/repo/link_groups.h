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

// Entries that are one object (hard links). One of them at a time is restored, at first the first
// in the order of the tree, and the others wait for it: it always stands before them in the queue.
class LinkGroup {
 public:
  struct Source {
    std::string directory, name;
    FileIdentity identity;
  };
  LinkGroup(const Entry& first, const Hash256& digest)
      : directory(first.directory), name(first.name), content(digest) {}
  const std::string directory, name;  // of the first
  const Hash256 content;  // two entries that say they are one object must agree on what is in it

  // By the one whose turn it is: what the others are linked to, or nothing. What was kept in the
  // target is nothing: nobody knows what is in it.
  void settle(std::optional<Source> source);
  // Nothing: now it is the caller's turn.
  std::optional<Source> wait();
  // A file that was kept and may hold the content: a source for one who makes sure.
  void keep(const Source& kept);
  std::optional<Source> kept();

 private:
  std::mutex mutex_;
  std::condition_variable settled_;
  bool busy_ = true;
  std::optional<Source> source_, kept_;
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
  // Of anything but a directory, in the order of the tree.
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
