// SPDX-License-Identifier: Apache-2.0
#include "fs/file_reader.h"

#include <fcntl.h>
#include <unistd.h>

#include <algorithm>
#include <cerrno>

namespace holdfast {
namespace {

constexpr std::uint64_t kAdviseFrom =
    4UL * 1024 * 1024;  // below, the call costs more than it gives
constexpr std::uint64_t kBlock = 512;
constexpr std::uint64_t kUnsizedMax = 64UL << 20;  // what a file without a size may give

bool same_time(const timespec& a, const timespec& b) {
  return a.tv_sec == b.tv_sec && a.tv_nsec == b.tv_nsec;
}

}  // namespace

FileReader::FileReader(Fd fd, const struct stat& at_open)
    : fd_(std::move(fd)),
      at_open_(at_open),
      size_(static_cast<std::uint64_t>(at_open.st_size)),
      may_have_holes_(static_cast<std::uint64_t>(at_open.st_blocks) * kBlock < size_) {
  if (size_ >= kAdviseFrom) ::posix_fadvise(fd_.get(), 0, 0, POSIX_FADV_SEQUENTIAL);
}

ReadPiece FileReader::end() { return {ReadPiece::Kind::end, 0}; }

// 0: there is data at the position, up to data_end_.
std::uint64_t FileReader::hole_length() {
  const auto from = static_cast<off_t>(position_);
  const off_t data = ::lseek(fd_.get(), from, SEEK_DATA);
  if (data < 0 && errno == ENXIO) return size_ - position_;
  if (data < from) {  // it cannot tell: read plainly
    may_have_holes_ = false;
    return 0;
  }
  if (data > from) return std::min(static_cast<std::uint64_t>(data), size_) - position_;
  const off_t hole = ::lseek(fd_.get(), from, SEEK_HOLE);
  if (hole <= from) {
    may_have_holes_ = false;
    return 0;
  }
  data_end_ = std::min(static_cast<std::uint64_t>(hole), size_);
  return 0;
}

std::expected<ReadPiece, int> FileReader::read_data(MutableByteSpan buffer) {
  const std::uint64_t limit = size_ == 0 ? kUnsizedMax : may_have_holes_ ? data_end_ : size_;
  const std::size_t wanted = std::min<std::uint64_t>(buffer.size(), limit - position_);
  while (true) {
    const ssize_t got = ::pread(fd_.get(), buffer.data(), wanted, static_cast<off_t>(position_));
    if (got < 0 && errno == EINTR) continue;
    if (got < 0) return std::unexpected(errno);
    if (got == 0) return end();  // its end, the limit, or it shrank
    position_ += static_cast<std::uint64_t>(got);
    return ReadPiece{ReadPiece::Kind::data, static_cast<std::uint64_t>(got)};
  }
}

std::expected<ReadPiece, int> FileReader::read(MutableByteSpan buffer) {
  // Files of /proc and the like have no size and yet a content; one that is empty costs one call.
  if (size_ == 0) return read_data(buffer);
  if (position_ >= size_) return end();
  if (may_have_holes_ && position_ >= data_end_) {
    if (const std::uint64_t hole = hole_length(); hole > 0) {
      position_ += hole;
      return ReadPiece{ReadPiece::Kind::hole, hole};
    }
  }
  return read_data(buffer);
}

bool FileReader::changed(const struct stat& now) const {
  return now.st_size != at_open_.st_size || !same_time(now.st_mtim, at_open_.st_mtim) ||
         !same_time(now.st_ctim, at_open_.st_ctim) ||
         (size_ == 0 ? position_ == kUnsizedMax : position_ != size_);
}

}  // namespace holdfast
