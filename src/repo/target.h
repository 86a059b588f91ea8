// SPDX-License-Identifier: Apache-2.0
// What a restore writes to. fs/target.h is the real one. Paths are relative to the target, in the
// form of Entry::path(); an Entry that is passed here has its directory in that form too.
#pragma once

#include <memory>
#include <optional>
#include <string>
#include <vector>

#include "repo/entry.h"

namespace holdfast {

// What becomes of what stands in the target already.
enum class Overwrite : std::uint8_t {
  never,    // it stays
  changed,  // a file of the same size and mtime stays; so a restore can be repeated
  always,
};

struct TargetOptions {
  Overwrite overwrite = Overwrite::changed;
  // Set what can give rights to others: owners (when not root, at most those that the system
  // allows), setuid and setgid, devices, security.* and trusted.* (RST-07).
  bool privileged = false;
};

// What was not set although the snapshot has it. The entry itself was restored, except a device.
enum class LeftOutKind : std::uint8_t {
  owner,
  setid,
  acl,
  xattr,
  privileged_xattr,
  flags,
  times,
  mode,
  device,
  hard_link,  // restored as a file of its own
};
struct LeftOut {
  LeftOutKind kind = LeftOutKind::owner;
  std::uint64_t count = 0;
  std::string first;  // path of the first one in the target, raw
  std::string why;
};

struct FileIdentity {
  std::uint64_t device = 0, inode = 0;
  bool operator==(const FileIdentity&) const = default;
};

enum class Placed : std::uint8_t { made, kept };  // kept: what stood there stays

// A directory of the target that is held open.
class TargetDirectory {
 public:
  TargetDirectory() = default;
  TargetDirectory(const TargetDirectory&) = delete;
  TargetDirectory& operator=(const TargetDirectory&) = delete;
  virtual ~TargetDirectory() = default;
};
using DirectoryRef = std::shared_ptr<const TargetDirectory>;

// A file being written; nothing stands under its name before commit(), and nothing is left of it
// when it goes without one (RST-13).
class TargetFile {
 public:
  TargetFile() = default;
  TargetFile(const TargetFile&) = delete;
  TargetFile& operator=(const TargetFile&) = delete;
  virtual ~TargetFile() = default;
  // Thread-safe. What is never written is a hole.
  virtual Result<> write(std::uint64_t offset, ByteSpan bytes) = 0;
  struct Committed {
    Placed placed = Placed::made;
    std::optional<FileIdentity> identity;  // of what was made; of entries with links > 1 only
  };
  virtual Result<Committed> commit() = 0;
};

// For verification: the file as it stands in the target.
class RestoredFile {
 public:
  RestoredFile() = default;
  RestoredFile(const RestoredFile&) = delete;
  RestoredFile& operator=(const RestoredFile&) = delete;
  virtual ~RestoredFile() = default;
  [[nodiscard]] virtual std::uint64_t size() const = 0;
  [[nodiscard]] virtual FileIdentity identity() const = 0;
  // The next offset from this one on that is in no hole; size() when there is none.
  [[nodiscard]] virtual std::uint64_t next_data(std::uint64_t offset) const = 0;
  virtual Result<> read(std::uint64_t offset, MutableByteSpan out) = 0;  // exactly that many bytes
};

// Order of calls: directories, files, links; then symlinks and other things; then
// finish_directory() in key order; finish_modes(); finish_flags(); sync(). Thread-safe.
// Code::conflict: something of another kind stands there; Code::full ends everything.
class Target {
 public:
  Target() = default;
  Target(const Target&) = delete;
  Target& operator=(const Target&) = delete;
  virtual ~Target() = default;

  // Makes it, or uses the directory that stands there; its parent was made so before. "" is the
  // target itself and always there.
  virtual Result<Placed> make_directory(std::string_view path) = 0;
  // Whether make_directory() made it, in this run.
  virtual bool made_directory(std::string_view path) = 0;
  // Code::not_found: make_directory() was not called for it; Code::conflict: it was replaced since.
  virtual Result<DirectoryRef> directory(std::string_view path) = 0;

  struct Created {
    std::unique_ptr<TargetFile> file;  // null: what stands there stays
    // Then, if that is a file that looks like the entry's; whether it holds the content is unknown.
    std::optional<FileIdentity> existing;
  };
  // A file that stays because it looks like the entry's (Overwrite::changed) gets its metadata.
  virtual Result<Created> create(const DirectoryRef& directory, const Entry& entry) = 0;

  struct LinkSource {
    std::string_view directory, name;
    FileIdentity identity;
  };
  // Code::conflict: another file stands under the source's name now; nothing was linked (RST-03).
  virtual Result<Placed> link(const LinkSource& source, const DirectoryRef& directory,
                              const Entry& entry) = 0;
  virtual Result<TargetFile::Committed> make_symlink(const DirectoryRef& directory,
                                                     const Entry& entry) = 0;
  // A fifo or a device.
  virtual Result<TargetFile::Committed> make_special(const DirectoryRef& directory,
                                                     const Entry& entry) = 0;

  // Metadata onto the directory that was made, and onto nothing else that may stand there now
  // (RST-06). The target itself (path "") only when we made it; with Overwrite::never that holds
  // for all.
  virtual Result<> finish_directory(std::string_view path, const Entry& entry) = 0;
  // Modes that lock ourselves out, deepest first.
  virtual Result<> finish_modes() = 0;
  // Immutable and append-only, onto a directory or file that has them.
  virtual Result<> finish_flags(const DirectoryRef& directory, const Entry& entry) = 0;
  virtual Result<> sync() = 0;

  virtual Result<std::unique_ptr<RestoredFile>> open(const DirectoryRef& directory,
                                                     const Entry& entry) = 0;
  virtual std::vector<LeftOut> left_out() = 0;
};

}  // namespace holdfast
