// SPDX-License-Identifier: Apache-2.0
// Which directories a walk in key order has met: so that an entry below something that is not a
// directory is seen (RST-02). Private to repo/.
#pragma once

#include <string>
#include <string_view>
#include <vector>

#include "base/result.h"

namespace holdfast::node {

// Subdirectories come in the order of their entries, so for each directory on the way down a queue
// of names is enough. The queues are bounded; what does not fit, and what lies before a jump, is
// looked up in the tree instead.
class Ancestors {
 public:
  enum class Known { directory, not_a_directory, damaged };
  class Lookup {
   public:
    Lookup() = default;
    Lookup(const Lookup&) = delete;
    Lookup& operator=(const Lookup&) = delete;
    virtual ~Lookup() = default;
    virtual Result<Known> look_up(std::string_view directory, std::string_view name) = 0;
  };
  static constexpr std::size_t kQueuedBytesMax = std::size_t{2} << 20;

  // Something was not seen: a jump (whatever was queued is not valid for where it goes), or damage.
  void jumped();
  void damaged();

  // Directory of the next entry. False: it, or one above it, is not a directory before this.
  Result<bool> enter(std::string_view directory, Lookup& lookup);
  // A directory's entry, in the directory entered last.
  void add(std::string_view name);

 private:
  struct Level {
    std::size_t path_size = 0;  // of this directory, in path_
    std::string names;          // u8 length, name: directories in it whose turn has not come
    std::size_t next = 0;
    bool complete = true;  // everything in it was seen and queued
  };
  bool take(std::string_view name);
  void push(std::size_t path_size);
  void pop_to(std::string_view directory);

  std::string path_;
  std::vector<Level> levels_;  // of the root, and each component of path_; memory is kept
  std::size_t depth_ = 0;      // levels in use
  std::size_t queued_ = 0;
  bool gap_ = false;  // since the last enter()
};

}  // namespace holdfast::node
