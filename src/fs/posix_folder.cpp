// SPDX-License-Identifier: Apache-2.0
#include "fs/posix_folder.h"

#include <fcntl.h>
#include <fmt/format.h>
#include <sys/file.h>
#include <sys/mman.h>
#include <sys/stat.h>
#include <unistd.h>

#include <algorithm>
#include <cerrno>
#include <charconv>
#include <filesystem>

#include "store/object_store.h"

namespace holdfast {
namespace {

constexpr mode_t kFileMode = 0600;
constexpr std::size_t kWriteBuffer = 256U << 10;
constexpr char kTemporaryMark = '~';  // no valid name has it

class Mapped final : public Mapping {
 public:
  Mapped(void* at, std::size_t size) : at_(at), size_(size) {}
  ~Mapped() override {
    if (size_ > 0) ::munmap(at_, size_);
  }
  [[nodiscard]] ByteSpan bytes() const override {
    return {static_cast<const std::byte*>(at_), size_};
  }

 private:
  void* const at_;
  const std::size_t size_;
};

// The kernel drops the lock with the last descriptor, so also when the process dies.
class Locked final : public LocalLock {
 public:
  explicit Locked(Fd fd) : fd_(std::move(fd)) {}
  ~Locked() override { (void)::ftruncate(fd_.get(), 0); }

 private:
  const Fd fd_;
};

int lock_now(int fd) {
  while (::flock(fd, LOCK_EX | LOCK_NB) != 0)
    if (errno != EINTR) return errno;
  return 0;
}

// Whether the descriptor's file still has a name; if not, whoever removed it held the lock before
// us.
bool is_linked(int fd) {
  struct stat info{};
  return ::fstat(fd, &info) == 0 && info.st_nlink > 0;
}

// "process 1234", from what the holder wrote into its lock file.
std::string holder_of(int fd) {
  Bytes content(32);
  const auto size = read_at(fd, content, 0);
  std::uint32_t pid = 0;
  const std::string_view text = as_text(ByteSpan(content).first(size.value_or(0)));
  const auto [end, error] = std::from_chars(text.data(), text.data() + text.size(), pid);
  if (error != std::errc{} || pid == 0) return "another process";
  return fmt::format("process {}", pid);
}

Result<> make_parents(const std::string& path) {
  const std::filesystem::path above = std::filesystem::absolute(path).parent_path();
  std::error_code error;
  if (above.empty() || std::filesystem::exists(above, error)) return {};
  HF_TRY(make_parents(above));
  HF_ASSIGN(const auto made, Directory::make(above));
  return {};
}

}  // namespace

// Holds a lock on its temporary file while it lives: so an abandoned one can be told.
class PosixFolder::Writing final : public LocalWriter {
 public:
  static Result<std::unique_ptr<Writing>> start(std::shared_ptr<Directory> directory,
                                                Directory::Folder folder, std::string_view name,
                                                std::atomic<unsigned>& number) {
    std::string leaf(split_name(name).leaf);
    for (int tries = 0; tries < 1000; ++tries) {
      std::string temporary = fmt::format("{}{}.{}", kTemporaryMark, ::getpid(), number++);
      Fd fd(::openat(folder->get(), temporary.c_str(),
                     O_WRONLY | O_CREAT | O_EXCL | O_NOFOLLOW | O_CLOEXEC, kFileMode));
      if (!fd.valid() && errno == EEXIST) continue;
      if (!fd.valid()) return std::unexpected(directory->error(errno, "create", name));
      // Not locked or not there any more: somebody who cleans up was faster. Take another name.
      if (lock_now(fd.get()) != 0 || !is_linked(fd.get())) continue;
      return std::make_unique<Writing>(std::move(directory), std::move(folder), std::string(name),
                                       std::move(leaf), std::move(temporary), std::move(fd));
    }
    return fail(Code::unavailable, fmt::format("create {}: no free temporary name", name));
  }
  Writing(std::shared_ptr<Directory> directory, Directory::Folder folder, std::string name,
          std::string leaf, std::string temporary, Fd fd)
      : directory_(std::move(directory)),
        folder_(std::move(folder)),
        name_(std::move(name)),
        leaf_(std::move(leaf)),
        temporary_(std::move(temporary)),
        fd_(std::move(fd)) {
    buffer_.reserve(kWriteBuffer);
  }
  ~Writing() override {
    if (!done_) ::unlinkat(folder_->get(), temporary_.c_str(), 0);
  }

  Result<> append(ByteSpan bytes) override {
    if (bytes.size() >= kWriteBuffer) {
      HF_TRY(drain());
      return check(write_all(fd_.get(), bytes));
    }
    if (buffer_.size() + bytes.size() > kWriteBuffer) HF_TRY(drain());
    buffer_.insert(buffer_.end(), bytes.begin(), bytes.end());
    return {};
  }
  Result<> commit() override {
    if (done_) return fail(Code::invalid, fmt::format("write {}: committed already", name_));
    HF_TRY(drain());
    HF_TRY(check(sync_fd(fd_.get())));
    if (::renameat(folder_->get(), temporary_.c_str(), folder_->get(), leaf_.c_str()) != 0)
      return check(errno);
    done_ = true;
    return check(sync_fd(folder_->get()));
  }

 private:
  Result<> drain() {
    HF_TRY(check(write_all(fd_.get(), buffer_)));
    buffer_.clear();
    return {};
  }
  [[nodiscard]] Result<> check(int error) const {
    if (error == 0) return {};
    return std::unexpected(directory_->error(error, "write", name_));
  }

  const std::shared_ptr<Directory> directory_;
  const Directory::Folder folder_;
  const std::string name_, leaf_, temporary_;
  const Fd fd_;
  Bytes buffer_;
  bool done_ = false;
};

Result<std::unique_ptr<PosixFolder>> PosixFolder::open(const std::string& path) {
  HF_ASSIGN(auto directory, Directory::open(path));
  return std::make_unique<PosixFolder>(std::move(directory));
}

Result<std::unique_ptr<PosixFolder>> PosixFolder::make(const std::string& path) {
  HF_TRY(make_parents(path));
  HF_ASSIGN(auto directory, Directory::make(path));
  return std::make_unique<PosixFolder>(std::move(directory));
}

Result<Bytes> PosixFolder::read(std::string_view name, std::uint64_t size_max) {
  HF_TRY(check_object_name(name));
  return directory_->read(name, size_max);
}

Result<> PosixFolder::replace(std::string_view name, ByteSpan bytes) {
  HF_ASSIGN(const auto writer, create(name));
  HF_TRY(writer->append(bytes));
  return writer->commit();
}

Result<> PosixFolder::append(std::string_view name, ByteSpan bytes) {
  HF_TRY(check_object_name(name));
  HF_ASSIGN(const Directory::Folder folder, directory_->folder(split_name(name).folder, true));
  const std::string leaf(split_name(name).leaf);
  const Fd fd(::openat(folder->get(), leaf.c_str(),
                       O_WRONLY | O_APPEND | O_CREAT | O_NOFOLLOW | O_NONBLOCK | O_CLOEXEC,
                       kFileMode));
  if (!fd.valid()) return std::unexpected(directory_->error(errno, "append to", name));
  int error = write_all(fd.get(), bytes);
  if (error == 0) error = sync_fd(fd.get());
  if (error == 0) error = sync_fd(folder->get());
  if (error != 0) return std::unexpected(directory_->error(error, "append to", name));
  return {};
}

Result<std::unique_ptr<LocalWriter>> PosixFolder::create(std::string_view name) {
  HF_TRY(check_object_name(name));
  const std::string_view folder_name = split_name(name).folder;
  HF_ASSIGN(Directory::Folder folder, directory_->folder(folder_name, true));
  HF_TRY(remove_abandoned(folder_name, *folder));
  return Writing::start(directory_, std::move(folder), name, next_temporary_);
}

// A temporary file whose lock can be had belongs to nobody.
Result<> PosixFolder::remove_abandoned(std::string_view folder_name, const Fd& folder) {
  {
    const std::lock_guard lock(mutex_);
    if (!cleaned_.emplace(std::string(folder_name)).second) return {};
  }
  return directory_->scan(folder_name, [&](const Directory::Item& item) -> Result<> {
    if (item.folder || item.name.front() != kTemporaryMark) return {};
    const std::string name(item.name);
    const Fd fd(
        ::openat(folder.get(), name.c_str(), O_RDONLY | O_NOFOLLOW | O_NONBLOCK | O_CLOEXEC));
    if (fd.valid() && lock_now(fd.get()) == 0) ::unlinkat(folder.get(), name.c_str(), 0);
    return {};
  });
}

Result<std::unique_ptr<Mapping>> PosixFolder::map(std::string_view name) {
  HF_TRY(check_object_name(name));
  HF_ASSIGN(const Directory::File file, directory_->file(name, O_RDONLY, "map"));
  if (file.size == 0) return std::make_unique<Mapped>(nullptr, 0);
  const auto size = static_cast<std::size_t>(file.size);
  void* const at = ::mmap(nullptr, size, PROT_READ, MAP_SHARED, file.fd.get(), 0);
  if (at == MAP_FAILED) return std::unexpected(directory_->error(errno, "map", name));
  ::madvise(at, size, MADV_RANDOM);
  return std::make_unique<Mapped>(at, size);
}

Result<std::vector<std::string>> PosixFolder::list(std::string_view folder) {
  if (!folder.empty()) HF_TRY(check_object_name(folder));
  std::vector<std::string> names;
  HF_TRY(directory_->scan(folder, [&](const Directory::Item& item) -> Result<> {
    if (!item.folder && check_object_name(item.name)) names.emplace_back(item.name);
    return {};
  }));
  std::ranges::sort(names);
  return names;
}

Result<> PosixFolder::remove(std::string_view name) {
  HF_TRY(check_object_name(name));
  return directory_->remove(name);
}

Result<std::unique_ptr<LocalLock>> PosixFolder::lock(std::string_view name) {
  HF_TRY(check_object_name(name));
  HF_ASSIGN(const Directory::Folder folder, directory_->folder(split_name(name).folder, true));
  const std::string leaf(split_name(name).leaf);
  Fd fd(::openat(folder->get(), leaf.c_str(),
                 O_RDWR | O_CREAT | O_NOFOLLOW | O_NONBLOCK | O_CLOEXEC, kFileMode));
  if (!fd.valid()) return std::unexpected(directory_->error(errno, "lock", name));
  const int error = lock_now(fd.get());
  if (error == EWOULDBLOCK)
    return fail(Code::conflict, fmt::format("{}: in use by {}; wait until it is done",
                                            escaped(where()), holder_of(fd.get())));
  if (error != 0) return std::unexpected(directory_->error(error, "lock", name));
  const std::string pid = fmt::format("{}\n", ::getpid());
  // Only for the message of who comes second: a full disk does not matter here.
  if (::ftruncate(fd.get(), 0) == 0) (void)write_all(fd.get(), as_bytes(pid));
  return std::make_unique<Locked>(std::move(fd));
}

}  // namespace holdfast
