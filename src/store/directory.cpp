// SPDX-License-Identifier: Apache-2.0
#include "store/directory.h"

#include <dirent.h>
#include <fcntl.h>
#include <fmt/format.h>
#include <sys/stat.h>
#include <unistd.h>

#include <algorithm>
#include <cerrno>
#include <filesystem>

namespace holdfast {
namespace {

// packs/00 to packs/ff and some more; far below the usual limit of 1024 descriptors.
constexpr std::size_t kFoldersMax = 320;
constexpr mode_t kFolderMode = 0700;
constexpr int kFolderFlags = O_RDONLY | O_DIRECTORY | O_CLOEXEC;

Code code_of(int error) {
  switch (error) {
    case ENOENT:
      return Code::not_found;
    case ENOSPC:
    case EDQUOT:
    case EFBIG:
      return Code::full;
    case EACCES:
    case EPERM:
    case EROFS:
      return Code::denied;
    case ELOOP:
    case EXDEV:
    case EISDIR:
    case ENOTDIR:
      return Code::corrupt;
    default:
      return Code::unavailable;
  }
}

std::string_view advice(int error) {
  switch (error) {
    case ENOSPC:
      return "; free some space there and run it again";
    case EDQUOT:
      return "; your quota there is used up: free some space and run it again";
    case EFBIG:
      return "; the file system or the limit of this process (ulimit -f) allows no larger file";
    case EACCES:
    case EPERM:
      return "; run as the user who owns the folder, or give this one the right to read and write "
             "it";
    case EROFS:
      return "; the file system is read-only: mount it writable or use another folder";
    case ELOOP:
    case EXDEV:
      return "; a symbolic link stands there and is not followed: put the real file or folder in "
             "its place";
    case ENOTDIR:
    case EISDIR:
      return "; a file stands where a folder belongs, or the other way round";
    case EIO:
      return "; the disk reports errors: look at the system log";
    case EMFILE:
    case ENFILE:
      return "; raise the limit of open files (ulimit -n)";
    default:
      return {};
  }
}

Error outer_error(int error, std::string_view doing, const std::string& path) {
  return {code_of(error),
          fmt::format("{} {}: {}{}", doing, escaped(path), errno_text(error), advice(error))};
}

std::expected<Fd, int> open_root(const std::string& path) {
  const int fd = ::open(path.c_str(), kFolderFlags);
  if (fd < 0) return std::unexpected(errno);
  return Fd(fd);
}

std::int64_t changed_ns(const struct stat& info) {
  return std::int64_t{info.st_mtim.tv_sec} * 1'000'000'000 + info.st_mtim.tv_nsec;
}

struct CloseDir {
  void operator()(DIR* dir) const { ::closedir(dir); }
};
using Dir = std::unique_ptr<DIR, CloseDir>;

}  // namespace

Result<std::unique_ptr<Directory>> Directory::open(const std::string& path) {
  auto root = open_root(path);
  if (!root) return std::unexpected(outer_error(root.error(), "open folder", path));
  return std::make_unique<Directory>(std::move(*root), path, choose_beneath());
}

Result<std::unique_ptr<Directory>> Directory::make(const std::string& path) {
  if (::mkdir(path.c_str(), kFolderMode) != 0 && errno != EEXIST) {
    Error error = outer_error(errno, "make folder", path);
    if (error.code == Code::not_found) error.what += "; make the folder above it first";
    return std::unexpected(std::move(error));
  }
  HF_ASSIGN(auto made, open(path));
  // Through "..", which is right whatever `path` looked like.
  const int above = ::openat(made->root_.get(), "..", kFolderFlags);
  if (above < 0)
    return made;  // not ours to read: then it is not new either, or nothing can be done
  const Fd held(above);
  if (const int error = sync_fd(above); error != 0)
    return std::unexpected(outer_error(error, "sync the folder above", path));
  return made;
}

Error Directory::error(int error, std::string_view doing, std::string_view name) const {
  return {code_of(error), fmt::format("{} {}/{}: {}{}", doing, escaped(path_), escaped(name),
                                      errno_text(error), advice(error))};
}

Opened Directory::open(std::string_view name, int flags) const {
  return open_beneath(root_.get(), name, flags, 0, how_);
}

Result<Directory::File> Directory::file(std::string_view name, int flags,
                                        std::string_view doing) const {
  // O_NONBLOCK: a fifo that somebody planted must not make us wait. (openat2 refuses it with
  // O_PATH.)
  Opened fd = open(name, (flags & O_PATH) != 0 ? flags : flags | O_NONBLOCK | O_NOCTTY);
  if (!fd) return std::unexpected(error(fd.error(), doing, name));
  struct stat info{};
  if (::fstat(fd->get(), &info) != 0) return std::unexpected(error(errno, doing, name));
  if (!S_ISREG(info.st_mode))
    return fail(Code::corrupt, fmt::format("{} {}/{}: it is not a regular file", doing,
                                           escaped(path_), escaped(name)));
  return File{std::move(*fd), static_cast<std::uint64_t>(info.st_size)};
}

Result<Bytes> Directory::read(std::string_view name, std::uint64_t size_max) const {
  HF_ASSIGN(const File file, this->file(name, O_RDONLY, "read"));
  if (file.size > size_max)
    return fail(Code::corrupt, fmt::format("read {}/{}: it has {} bytes, at most {} were expected",
                                           escaped(path_), escaped(name), file.size, size_max));
  Bytes bytes(static_cast<std::size_t>(file.size));
  const auto got = read_at(file.fd.get(), bytes, 0);
  if (!got) return std::unexpected(error(got.error(), "read", name));
  bytes.resize(*got);  // it shrank meanwhile
  return bytes;
}

Result<Directory::Folder> Directory::folder(std::string_view name, bool make) {
  {
    const std::lock_guard lock(mutex_);
    if (const auto at = folders_.find(name); at != folders_.end()) return at->second;
  }
  HF_ASSIGN(Folder opened, open_folder(name, make));
  const std::lock_guard lock(mutex_);
  if (folders_.size() >= kFoldersMax) folders_.clear();  // who uses one still holds it
  folders_.insert_or_assign(std::string(name), opened);
  return opened;
}

Result<Directory::Folder> Directory::open_folder(std::string_view name, bool make) {
  Opened fd = open(name, kFolderFlags);
  if (!make || name.empty()) {
    if (!fd) return std::unexpected(error(fd.error(), "open folder", name));
    return std::make_shared<const Fd>(std::move(*fd));
  }
  const auto [above_name, leaf] = split_name(name);
  HF_ASSIGN(const Folder above, folder(above_name, true));
  if (!fd && fd.error() == ENOENT) {
    if (::mkdirat(above->get(), std::string(leaf).c_str(), kFolderMode) != 0 && errno != EEXIST)
      return std::unexpected(error(errno, "make folder", name));
    fd = open(name, kFolderFlags);
  }
  if (!fd) return std::unexpected(error(fd.error(), "open folder", name));
  // Also when it was there: whoever made it may not have come to this yet.
  if (const int failed = sync_fd(above->get()); failed != 0)
    return std::unexpected(error(failed, "sync folder", above_name));
  return std::make_shared<const Fd>(std::move(*fd));
}

void Directory::forget_folders() {
  const std::lock_guard lock(mutex_);
  folders_.clear();
}

Result<> Directory::remove(std::string_view name) {
  const auto [folder_name, leaf] = split_name(name);
  auto above = folder(folder_name, false);
  if (!above && above.error().code == Code::not_found) return {};
  if (!above) return std::unexpected(std::move(above).error());
  if (::unlinkat((*above)->get(), std::string(leaf).c_str(), 0) != 0) {
    if (errno == ENOENT) return {};
    return std::unexpected(error(errno, "remove", name));
  }
  if (const int failed = sync_fd((*above)->get()); failed != 0)
    return std::unexpected(error(failed, "sync folder", folder_name));
  return {};
}

Result<> Directory::scan(std::string_view folder,
                         const std::function<Result<>(const Item&)>& visit) const {
  Opened fd = open(folder, kFolderFlags);
  if (!fd && fd.error() == ENOENT) return {};
  if (!fd) return std::unexpected(error(fd.error(), "list", folder));
  const int number = ::fcntl(fd->get(), F_DUPFD_CLOEXEC, 3);
  const Dir dir(number < 0 ? nullptr : ::fdopendir(number));
  if (!dir) {
    const int failed = errno;
    if (number >= 0) ::close(number);
    return std::unexpected(error(failed, "list", folder));
  }
  while (true) {
    errno = 0;
    const dirent* entry = ::readdir(dir.get());
    if (entry == nullptr && errno != 0) return std::unexpected(error(errno, "list", folder));
    if (entry == nullptr) return {};
    const std::string_view name = entry->d_name;
    if (name == "." || name == "..") continue;
    struct stat info{};
    if (::fstatat(fd->get(), entry->d_name, &info, AT_SYMLINK_NOFOLLOW) != 0) {
      if (errno == ENOENT) continue;  // removed meanwhile
      return std::unexpected(error(errno, "list", folder));
    }
    if (!S_ISREG(info.st_mode) && !S_ISDIR(info.st_mode)) continue;
    HF_TRY(visit({.name = name,
                  .folder = S_ISDIR(info.st_mode),
                  .size = static_cast<std::uint64_t>(info.st_size),
                  .changed_ns = changed_ns(info)}));
  }
}

SplitName split_name(std::string_view name) {
  const std::size_t slash = name.rfind('/');
  if (slash == std::string_view::npos) return {"", name};
  return {name.substr(0, slash), name.substr(slash + 1)};
}

int write_all(int fd, ByteSpan bytes) {
  while (!bytes.empty()) {
    const ssize_t n = ::write(fd, bytes.data(), bytes.size());
    if (n < 0 && errno == EINTR) continue;
    if (n < 0) return errno;
    if (n == 0) return EIO;
    bytes = bytes.subspan(static_cast<std::size_t>(n));
  }
  return 0;
}

int sync_fd(int fd) {
  while (::fsync(fd) != 0) {
    if (errno == EINTR) continue;
    // Some network and FUSE file systems cannot sync a directory, and say so by EINVAL.
    if (errno == EINVAL) return 0;
    return errno;
  }
  return 0;
}

std::expected<std::size_t, int> read_at(int fd, MutableByteSpan out, std::uint64_t offset) {
  std::size_t done = 0;
  while (done < out.size()) {
    const ssize_t n =
        ::pread(fd, out.data() + done, out.size() - done, static_cast<off_t>(offset + done));
    if (n < 0 && errno == EINTR) continue;
    if (n < 0) return std::unexpected(errno);
    if (n == 0) break;
    done += static_cast<std::size_t>(n);
  }
  return done;
}

}  // namespace holdfast
