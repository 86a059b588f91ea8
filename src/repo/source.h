// SPDX-License-Identifier: Apache-2.0
// What a backup reads: a stream of entries in key order, and the bytes of the files among them.
// fs/walk.h is the real one.
#pragma once

#include <functional>

#include "repo/entry.h"

namespace holdfast {

struct ReadPiece {
  enum class Kind : std::uint8_t { data, hole, end } kind = Kind::end;
  std::uint64_t length = 0;  // data: bytes now in the buffer; hole: bytes that are not there
};

// Something that could not be read; the backup goes on without it and ends with exit code 3.
struct Unreadable {
  std::string path;  // "usr/share/doc"
  std::string what;  // "open: Permission denied"
};

class Source {
 public:
  Source() = default;
  Source(const Source&) = delete;
  Source& operator=(const Source&) = delete;
  virtual ~Source() = default;

  // The next entry in key order (valid until the next call), null at the end. It has what lstat
  // tells; xattrs, flags, link target and content are empty until complete() or finish().
  virtual Result<const Entry*> next() = 0;
  // For the entry that next() gave last, when it is new or changed and not a file: adds xattrs,
  // flags, link target.
  virtual Result<> complete(Entry& entry) = 0;
  // For a file: opens it without following anything and proves that it is the object that next()
  // saw (TOC-01). Code::unavailable: gone or unreadable (it was reported); skip it.
  virtual Result<> open() = 0;
  virtual Result<ReadPiece> read(MutableByteSpan buffer) = 0;
  // Closes; adds xattrs and flags; takes size and times as they are now. True: it changed while it
  // was read (open it again, or mark it torn).
  virtual Result<bool> finish(Entry& entry) = 0;
  // Everything that could not be read so far (bounded: `unreadable_count` goes on where the list
  // ends).
  [[nodiscard]] virtual const std::vector<Unreadable>& unreadable() const = 0;
  [[nodiscard]] virtual std::uint64_t unreadable_count() const = 0;
};

// Owner names as they are on this machine, asked once for each id.
class OwnerNames {
 public:
  OwnerNames() = default;
  OwnerNames(const OwnerNames&) = delete;
  OwnerNames& operator=(const OwnerNames&) = delete;
  virtual ~OwnerNames() = default;
  virtual std::string user(std::uint32_t uid) = 0;  // "" where there is none
  virtual std::string group(std::uint32_t gid) = 0;
};

}  // namespace holdfast
