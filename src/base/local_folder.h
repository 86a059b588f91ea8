// SPDX-License-Identifier: Apache-2.0
// The machine's own files that holdfast keeps: home (keys, state) and cache (index segments). An
// interface, so that a simulation can keep them in memory and lose what was not made durable.
// base/memory_folder.h is the twin of fs/posix_folder.h.
#pragma once

#include <memory>
#include <string>
#include <vector>

#include "base/bytes.h"

namespace holdfast {

// A file mapped for reading; unmapped when it goes.
class Mapping {
 public:
  Mapping() = default;
  Mapping(const Mapping&) = delete;
  Mapping& operator=(const Mapping&) = delete;
  virtual ~Mapping() = default;
  [[nodiscard]] virtual ByteSpan bytes() const = 0;
};

// A file being written; nothing stands under its name before commit() gave Ok, and then all of it
// does, durably.
class LocalWriter {
 public:
  LocalWriter() = default;
  LocalWriter(const LocalWriter&) = delete;
  LocalWriter& operator=(const LocalWriter&) = delete;
  virtual ~LocalWriter() = default;
  virtual Result<> append(ByteSpan bytes) = 0;
  virtual Result<> commit() = 0;  // replaces what stood there
};

class LocalLock {
 public:
  LocalLock() = default;
  LocalLock(const LocalLock&) = delete;
  LocalLock& operator=(const LocalLock&) = delete;
  virtual ~LocalLock() = default;  // released
};

// Names: like object names (store/object_store.h). Folders on the way are made, mode 0700; files
// have mode 0600.
class LocalFolder {
 public:
  LocalFolder() = default;
  LocalFolder(const LocalFolder&) = delete;
  LocalFolder& operator=(const LocalFolder&) = delete;
  virtual ~LocalFolder() = default;
  virtual Result<Bytes> read(std::string_view name, std::uint64_t size_max) = 0;  // Code::not_found
  virtual Result<> replace(std::string_view name, ByteSpan bytes) = 0;  // atomic and durable
  virtual Result<> append(std::string_view name, ByteSpan bytes) = 0;   // durable; made when absent
  virtual Result<std::unique_ptr<LocalWriter>> create(std::string_view name) = 0;
  virtual Result<std::unique_ptr<Mapping>> map(std::string_view name) = 0;  // Code::not_found
  virtual Result<std::vector<std::string>> list(
      std::string_view folder) = 0;                    // names of the files in it, sorted
  virtual Result<> remove(std::string_view name) = 0;  // Ok also when absent
  // Exclusive among processes, dropped when the holder dies. Code::conflict at once when held; the
  // text names the process.
  virtual Result<std::unique_ptr<LocalLock>> lock(std::string_view name) = 0;
  // For messages: where this is, as a person would type it.
  [[nodiscard]] virtual std::string where() const = 0;
};

}  // namespace holdfast
