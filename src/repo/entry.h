// SPDX-License-Identifier: Apache-2.0
// One entry of a snapshot: what a file system object is, without its bytes. A value.
#pragma once

#include <cstdint>
#include <optional>
#include <string>
#include <vector>

#include "base/id.h"

namespace holdfast {

enum class EntryType : std::uint8_t {
  directory = 1,
  file = 2,
  symlink = 3,
  fifo = 4,
  char_device = 5,
  block_device = 6,
};

struct FileTime {
  std::int64_t seconds = 0;
  std::uint32_t nanoseconds = 0;  // below 10^9
  auto operator<=>(const FileTime&) const = default;
};

struct Xattr {
  std::string name;   // full name, e.g. "user.comment", "system.posix_acl_access"
  std::string value;  // bytes
  auto operator<=>(const Xattr&) const = default;
};

// A piece of a file: bytes that lie in a chunk, or a hole (no id). In file order; lengths sum to
// the file's size.
struct ContentItem {
  std::uint64_t length = 0;  // > 0
  std::optional<ChunkId> chunk;
  auto operator<=>(const ContentItem&) const = default;
};

// Files of more pieces than kInlineItemsMax keep them in list nodes (docs/formats/repository.md,
// "Content lists").
inline constexpr std::size_t kInlineItemsMax = 64;
struct ListRoot {
  ChunkId id;
  std::uint8_t level = 0;   // 0: a list of items, above: a list of lists
  std::uint64_t items = 0;  // of all its leaves together
  auto operator<=>(const ListRoot&) const = default;
};

struct Content {
  std::vector<ContentItem> items;  // used when there is no root
  std::optional<ListRoot> root;
  auto operator<=>(const Content&) const = default;
};

struct Entry {
  // Key: directory and name, bytes. The directory is a path without leading or trailing '/' ("" is
  // the root); a name is 1 to 255 bytes, not "." or "..", without '/' and NUL.
  std::string directory;
  std::string name;

  EntryType type = EntryType::file;
  std::uint32_t mode = 0;          // permission bits, setuid, setgid, sticky: 07777
  std::uint32_t uid = 0, gid = 0;  // names: once for a snapshot, in the head
  FileTime mtime, ctime;
  std::uint64_t size = 0;    // files only
  std::uint64_t device = 0;  // st_dev where it was read: with inode the group of its hard links
  std::uint64_t inode = 0;
  std::uint32_t links = 1;    // st_nlink; not kept for directories (1)
  std::uint64_t rdev = 0;     // devices only (makedev as on Linux)
  std::string link_target;    // symlinks only, bytes, at most 4095
  std::vector<Xattr> xattrs;  // sorted by name, no doubles; ACLs are among them
  std::uint32_t flags = 0;    // FS_IOC_GETFLAGS, of what restore can set (FS_FL_USER_MODIFIABLE)
  bool torn = false;          // it changed each time it was read: the bytes may mix two states
  Content content;            // files only

  bool operator==(const Entry&) const = default;
  [[nodiscard]] std::string path() const {
    return directory.empty() ? name : directory + "/" + name;
  }
};

// Order of keys: directories by component, then names by bytes; so "a" < "a/x" < "a!" as
// directories.
std::strong_ordering compare_directories(std::string_view a, std::string_view b);
std::strong_ordering compare_keys(std::string_view dir_a, std::string_view name_a,
                                  std::string_view dir_b, std::string_view name_b);
// Code::invalid naming the rule: a hostile name is refused wherever entries are read or written
// (RST-01).
Result<> check_entry_name(std::string_view name);
Result<> check_entry_directory(std::string_view directory);

// Hard limits; each is a rule of the format.
inline constexpr std::size_t kNameMax = 255, kPathMax = 4096, kLinkTargetMax = 4095;
inline constexpr std::size_t kXattrNameMax = 255, kXattrValueMax = 65536, kXattrsMax = 1024,
                             kXattrsBytesMax = std::size_t{256} * 1024;

}  // namespace holdfast
