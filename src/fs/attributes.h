// SPDX-License-Identifier: Apache-2.0
// Extended attributes (ACLs are among them) and file flags of an open object.
#pragma once

#include <sys/types.h>

#include <cstdint>
#include <optional>
#include <string>
#include <vector>

#include "repo/entry.h"

namespace holdfast {

// How an object was opened: O_PATH descriptors give attributes only by their name in /proc.
enum class OpenedAs : std::uint8_t { readable, path_only };

// Keeps its buffers between calls; not thread-safe.
class AttributeReader {
 public:
  // Sorted by name. What could not be read, or does not fit the format's limits, is left out; then
  // the text says so.
  std::string read_xattrs(int fd, OpenedAs as, std::vector<Xattr>& out);
  // 0 where the file system has none.
  std::uint32_t read_flags(int fd, dev_t device);

 private:
  std::string read_one(int fd, const char* path, const char* name, std::vector<Xattr>& out,
                       std::size_t& bytes);

  std::vector<char> list_, value_;
  std::optional<dev_t> no_flags_;  // the last device that had none
};

}  // namespace holdfast
