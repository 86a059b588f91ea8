// SPDX-License-Identifier: Apache-2.0
#include "store/folder_store.h"

#include <fcntl.h>
#include <fmt/format.h>
#include <sys/stat.h>
#include <sys/syscall.h>
#include <unistd.h>

#include <algorithm>
#include <array>
#include <cerrno>
#include <limits>

namespace holdfast {
namespace {

constexpr std::string_view kTemporaryFolder = "tmp";
constexpr unsigned kRenameNoReplace = 1;  // <linux/fs.h>; older C libraries do not name it
constexpr std::size_t kCompareStep = 256U << 10;

Result<> check_name(std::string_view name) {
  HF_TRY(check_object_name(name));
  if (name != kTemporaryFolder && !name.starts_with("tmp/")) return {};
  return fail(Code::invalid, fmt::format("object name \"{}\" is refused: tmp/ is for files that "
                                         "are being written",
                                         name));
}

struct Spot {
  int folder;
  const char* name;
};

// 0 or an errno; EEXIST when something stands there. Atomic either way.
int place_without_replacing(Spot from, Spot to) {
  if (::syscall(SYS_renameat2, from.folder, from.name, to.folder, to.name, kRenameNoReplace) == 0)
    return 0;
  // EINVAL: the file system (NFS, some FUSE) does not know the flag; ENOSYS, EPERM: kernel,
  // sandbox.
  if (errno != EINVAL && errno != ENOSYS && errno != EPERM) return errno;
  return ::linkat(from.folder, from.name, to.folder, to.name, 0) == 0 ? 0 : errno;
}

}  // namespace

// A file in tmp/, written and synced; removed when it goes, unless it was renamed.
class FolderStore::Temporary {
 public:
  static Result<std::unique_ptr<Temporary>> write(Directory& directory, Random& random,
                                                  ByteSpan bytes,
                                                  const std::function<void()>& taken) {
    HF_ASSIGN(Directory::Folder folder, directory.folder(kTemporaryFolder, true));
    std::array<std::byte, 16> drawn{};
    random.fill(drawn);
    auto made = std::make_unique<Temporary>(std::move(folder), to_hex(drawn));
    if (const int error = made->fill(bytes, taken); error != 0)
      return std::unexpected(directory.error(error, "write", fmt::format("tmp/{}", made->name_)));
    return made;
  }
  Temporary(Directory::Folder folder, std::string name)
      : folder_(std::move(folder)), name_(std::move(name)) {}
  Temporary(const Temporary&) = delete;
  Temporary& operator=(const Temporary&) = delete;
  ~Temporary() {
    if (made_) ::unlinkat(folder_->get(), name_.c_str(), 0);  // gone already after a rename
  }
  [[nodiscard]] Spot spot() const { return {folder_->get(), name_.c_str()}; }

 private:
  int fill(ByteSpan bytes, const std::function<void()>& taken) {
    const Fd fd(::openat(folder_->get(), name_.c_str(),
                         O_WRONLY | O_CREAT | O_EXCL | O_NOFOLLOW | O_CLOEXEC, 0600));
    if (!fd.valid()) return errno;
    made_ = true;
    if (const int error = write_all(fd.get(), bytes); error != 0) return error;
    taken();
    return sync_fd(fd.get());
  }

  const Directory::Folder folder_;
  const std::string name_;
  bool made_ = false;
};

Result<std::unique_ptr<FolderStore>> FolderStore::create(const std::string& path, Random& random) {
  HF_ASSIGN(auto directory, Directory::make(path));
  HF_TRY(directory->scan("", [&](const Directory::Item& item) -> Result<> {
    // A new disk has lost+found; tmp may be left of an init that broke off.
    if (item.folder && (item.name == kTemporaryFolder || item.name == "lost+found")) return {};
    return fail(Code::conflict,
                fmt::format("create a repository in {}: the folder is not empty (it has {}); "
                            "choose an empty or new folder",
                            escaped(path), escaped(item.name)));
  }));
  return std::make_unique<FolderStore>(std::move(directory), random);
}

Result<std::unique_ptr<FolderStore>> FolderStore::open(const std::string& path, Random& random) {
  HF_ASSIGN(auto directory, Directory::open(path));
  return std::make_unique<FolderStore>(std::move(directory), random);
}

Result<> FolderStore::put(std::string_view name, ByteSpan bytes) {
  return put_from(name, bytes, nullptr);
}

Result<> FolderStore::put_from(std::string_view name, ByteSpan bytes,
                               const std::function<void()>& taken) {
  HF_TRY(check_name(name));
  bool gone = false;
  const auto take = [&] {
    if (!taken) return;
    gone = true;
    taken();
  };
  auto done = put_once(name, bytes, take);
  if (done || done.error().code != Code::not_found) return done;
  // A folder that was kept open is gone from the disk (somebody tidied up): make it again.
  directory_->forget_folders();
  if (!gone) done = put_once(name, bytes, take);
  if (!done && done.error().code == Code::not_found) done.error().code = Code::unavailable;
  return done;
}

Result<> FolderStore::put_once(std::string_view name, ByteSpan bytes,
                               const std::function<void()>& taken) {
  const auto [folder_name, leaf_view] = split_name(name);
  const std::string leaf(leaf_view);
  HF_ASSIGN(const Directory::Folder folder, directory_->folder(folder_name, true));
  struct stat there{};
  if (::fstatat(folder->get(), leaf.c_str(), &there, AT_SYMLINK_NOFOLLOW) == 0)
    return expect_same(name, *folder, bytes);
  HF_ASSIGN(const auto temporary, Temporary::write(*directory_, random_, bytes, taken));
  const int error = place_without_replacing(temporary->spot(), {folder->get(), leaf.c_str()});
  if (error == EEXIST) return expect_same(name, *folder, bytes);
  if (error != 0) return std::unexpected(directory_->error(error, "put", name));
  if (const int failed = sync_fd(folder->get()); failed != 0)
    return std::unexpected(directory_->error(failed, "sync folder of", name));
  return {};
}

// Somebody else put it, perhaps a moment ago: Ok means durable here too.
Result<> FolderStore::expect_same(std::string_view name, const Fd& folder, ByteSpan bytes) const {
  HF_ASSIGN(const Directory::File file, directory_->file(name, O_RDONLY, "compare"));
  bool same = file.size == bytes.size();
  Bytes piece(std::min(bytes.size(), kCompareStep));
  for (std::size_t at = 0; same && at < bytes.size(); at += kCompareStep) {
    const ByteSpan want = bytes.subspan(at, std::min(kCompareStep, bytes.size() - at));
    const MutableByteSpan got = MutableByteSpan(piece).first(want.size());
    const auto count = read_at(file.fd.get(), got, at);
    if (!count) return std::unexpected(directory_->error(count.error(), "compare", name));
    same = *count == want.size() && std::ranges::equal(got, want);
  }
  if (!same)
    return fail(Code::conflict, fmt::format("put {}/{}: other bytes stand there already",
                                            escaped(directory_->path()), escaped(name)));
  for (const int fd : {file.fd.get(), folder.get()})
    if (const int failed = sync_fd(fd); failed != 0)
      return std::unexpected(directory_->error(failed, "sync", name));
  return {};
}

Result<Bytes> FolderStore::get(std::string_view name, std::uint64_t size_max) {
  HF_TRY(check_name(name));
  return directory_->read(name, size_max);
}

Result<> FolderStore::get_range(std::string_view name, std::uint64_t offset, MutableByteSpan out) {
  HF_TRY(check_name(name));
  HF_ASSIGN(const Directory::File file, directory_->file(name, O_RDONLY, "read"));
  const bool inside = offset <= file.size && out.size() <= file.size - offset;
  const auto got = inside ? read_at(file.fd.get(), out, offset) : 0;
  if (!got) return std::unexpected(directory_->error(got.error(), "read", name));
  if (inside && *got == out.size()) return {};
  return fail(Code::corrupt, fmt::format("read {}/{}: it has {} bytes, {} from {} were expected",
                                         escaped(directory_->path()), escaped(name), file.size,
                                         out.size(), offset));
}

Result<std::uint64_t> FolderStore::size(std::string_view name) {
  HF_TRY(check_name(name));
  HF_ASSIGN(const Directory::File file, directory_->file(name, O_PATH, "look at"));
  return file.size;
}

Result<> FolderStore::list(std::string_view prefix,
                           const std::function<Result<>(const ObjectInfo&)>& visit) {
  HF_TRY(check_list_prefix(prefix));
  if (!prefix.empty()) prefix.remove_suffix(1);
  if (prefix == kTemporaryFolder || prefix.starts_with("tmp/")) return {};
  return list_folder(std::string(prefix), visit);
}

Result<> FolderStore::list_folder(const std::string& folder,
                                  const std::function<Result<>(const ObjectInfo&)>& visit) const {
  std::vector<std::string> below;
  HF_TRY(directory_->scan(folder, [&](const Directory::Item& item) -> Result<> {
    std::string name = folder.empty() ? std::string(item.name) : folder + "/";
    if (!folder.empty()) name += item.name;
    // What no put can have made (lost+found, .DS_Store) is not an object.
    if (!check_name(name)) return {};
    if (!item.folder) return visit({std::move(name), item.size});
    below.push_back(std::move(name));
    return {};
  }));
  for (const std::string& name : below) HF_TRY(list_folder(name, visit));
  return {};
}

Result<> FolderStore::remove(std::string_view name) {
  HF_TRY(check_name(name));
  return directory_->remove(name);
}

Result<> FolderStore::remove_stale_temporaries(Time before) {
  std::vector<std::string> stale;
  HF_TRY(directory_->scan(kTemporaryFolder, [&](const Directory::Item& item) -> Result<> {
    if (!item.folder && item.changed_ns < before.ns)
      stale.push_back(fmt::format("{}/{}", kTemporaryFolder, item.name));
    return {};
  }));
  for (const std::string& name : stale) HF_TRY(directory_->remove(name));
  return {};
}

}  // namespace holdfast
