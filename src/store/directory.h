// SPDX-License-Identifier: Apache-2.0
// A directory on disk and the regular files below it, for FolderStore and PosixFolder: by
// descriptor, so that it may be renamed meanwhile, and never through a symlink below it.
#pragma once

#include <sys/types.h>

#include <functional>
#include <map>
#include <memory>
#include <mutex>

#include "base/bytes.h"
#include "fs/beneath.h"

namespace holdfast {

class Directory {
 public:
  // Follows symlinks to `path` itself: that is the user's own choice. The folder of a name that
  // does not exist gives Code::not_found.
  static Result<std::unique_ptr<Directory>> open(const std::string& path);
  // Makes it (mode 0700, not its parents) when it is not there, durably.
  static Result<std::unique_ptr<Directory>> make(const std::string& path);

  Directory(Fd root, std::string path, Beneath how)
      : root_(std::move(root)), path_(std::move(path)), how_(how) {}
  Directory(const Directory&) = delete;
  Directory& operator=(const Directory&) = delete;
  ~Directory() = default;

  // A regular file. Anything else there is Code::corrupt; an absent one Code::not_found.
  struct File {
    Fd fd;
    std::uint64_t size;
  };
  Result<File> file(std::string_view name, int flags, std::string_view doing) const;
  // All of it, at most `size_max` bytes (larger: Code::corrupt).
  Result<Bytes> read(std::string_view name, std::uint64_t size_max) const;

  // A folder below ("" is this one), to create and rename in. With `make`, it and those on the way
  // are made, and their entries are durable before this returns. Kept open for the next call.
  using Folder = std::shared_ptr<const Fd>;
  Result<Folder> folder(std::string_view name, bool make);
  void forget_folders();

  // Removes a file, durably; absent is Ok.
  Result<> remove(std::string_view name);

  struct Item {
    std::string_view name;  // in its folder
    bool folder;
    std::uint64_t size;  // of a file
    std::int64_t changed_ns;
  };
  // The regular files and folders in `folder`; symlinks and other things are left out. Complete or
  // an error; an absent folder has nothing.
  Result<> scan(std::string_view folder, const std::function<Result<>(const Item&)>& visit) const;

  // "put packs/ab: /mnt/repo: No space left on device; free some space, ..."
  [[nodiscard]] Error error(int error, std::string_view doing, std::string_view name) const;
  [[nodiscard]] const std::string& path() const { return path_; }

 private:
  Result<Folder> open_folder(std::string_view name, bool make);
  [[nodiscard]] Opened open(std::string_view name, int flags) const;

  const Fd root_;
  const std::string path_;
  const Beneath how_;
  std::mutex mutex_;
  std::map<std::string, Folder, std::less<>> folders_;
};

// "a/b/c" is folder "a/b" and leaf "c".
struct SplitName {
  std::string_view folder;
  std::string_view leaf;
};
SplitName split_name(std::string_view name);

// 0 or an errno. EINTR and short counts are dealt with.
int write_all(int fd, ByteSpan bytes);
int sync_fd(int fd);
// The bytes read: fewer than out.size() only at the end of the file. Or an errno.
std::expected<std::size_t, int> read_at(int fd, MutableByteSpan out, std::uint64_t offset);

}  // namespace holdfast
