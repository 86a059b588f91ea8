// SPDX-License-Identifier: Apache-2.0
// Reads one open file: its data and, where it has holes, where they are.
#pragma once

#include <sys/stat.h>

#include <expected>

#include "base/bytes.h"
#include "fs/beneath.h"
#include "repo/source.h"

namespace holdfast {

class FileReader {
 public:
  FileReader() = default;
  FileReader(Fd fd, const struct stat& at_open);

  [[nodiscard]] bool is_open() const { return fd_.valid(); }
  [[nodiscard]] int fd() const { return fd_.get(); }
  // What was given so far, holes counted.
  [[nodiscard]] std::uint64_t position() const { return position_; }
  // Never beyond the size that the file had when it was opened, or 64 MiB where that was 0: a file
  // that grows as fast as it is read still ends. Or errno.
  std::expected<ReadPiece, int> read(MutableByteSpan buffer);
  // Whether the file is no longer what was opened, or gave fewer bytes than it has.
  [[nodiscard]] bool changed(const struct stat& now) const;

 private:
  ReadPiece end();
  std::expected<ReadPiece, int> read_data(MutableByteSpan buffer);
  std::uint64_t hole_length();

  Fd fd_;
  struct stat at_open_{};
  std::uint64_t size_ = 0;
  std::uint64_t position_ = 0;
  std::uint64_t data_end_ = 0;  // up to here there is data; used when it may have holes
  bool may_have_holes_ = false;
};

}  // namespace holdfast
