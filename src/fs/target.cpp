// SPDX-License-Identifier: Apache-2.0
#include "fs/target.h"

#include <fcntl.h>
#include <sys/stat.h>
#include <sys/xattr.h>
#include <unistd.h>

#include <algorithm>
#include <atomic>
#include <cerrno>
#include <list>
#include <map>

#include "fs/directory_set.h"
#include "fs/place.h"
#include "fs/put_metadata.h"

namespace holdfast {
namespace {

constexpr int kDirectoryFlags = O_RDONLY | O_DIRECTORY;
constexpr std::size_t kOpenDirectoriesMax = 32;
constexpr std::size_t kHeldModesMax = 65536;
constexpr std::size_t kDirectorySlotsMax = 1U << 21;  // 24 MiB: 1.5 million directories
constexpr std::size_t kPathPieceMax = 2048;           // of one openat2; PATH_MAX counts all of it

struct Context {
  TargetOptions options;
  TempNames names;
  LeftOutNotes notes;
  MetadataWriter metadata;
  Beneath how;
  Context(const TargetOptions& o, Random& random)
      : options(o), names(random), metadata(o.privileged, notes), how(choose_beneath()) {}
};

Result<> write_all(int fd, std::uint64_t offset, ByteSpan bytes) {
  while (!bytes.empty()) {
    const ssize_t n = ::pwrite(fd, bytes.data(), bytes.size(), static_cast<off_t>(offset));
    if (n < 0 && errno == EINTR) continue;
    if (n < 0) return std::unexpected(errno_error(errno, "write"));
    offset += static_cast<std::uint64_t>(n);
    bytes = bytes.subspan(static_cast<std::size_t>(n));
  }
  return {};
}

TargetFile::Committed committed(Placed placed, const Entry& entry, FileIdentity identity) {
  const bool source = placed == Placed::made && entry.links > 1;
  return {.placed = placed, .identity = source ? std::optional(identity) : std::nullopt};
}

class PosixFile : public TargetFile {
 public:
  PosixFile(Context& context, DirectoryRef directory, const Entry& entry)
      : context_(context), directory_(std::move(directory)) {
    // All but the content, which may be large.
    entry_.directory = entry.directory;
    entry_.name = entry.name;
    entry_.mode = entry.mode;
    entry_.uid = entry.uid;
    entry_.gid = entry.gid;
    entry_.mtime = entry.mtime;
    entry_.size = entry.size;
    entry_.links = entry.links;
    entry_.xattrs = entry.xattrs;
    entry_.flags = entry.flags;
  }
  ~PosixFile() override {
    if (!temporary_.empty()) ::unlinkat(dir().fd.get(), temporary_.c_str(), 0);
  }

  Result<> start() {
    mode_ = context_.metadata.allowed_mode(entry_);
    created_mode_ = first_mode();
    Fd fd;
    const int error = make_temporary(context_.names, temporary_, [&](const char* name) {
      fd = Fd(::openat(dir().fd.get(), name, O_RDWR | O_CREAT | O_EXCL | O_NOFOLLOW | O_CLOEXEC,
                       created_mode_));
      return fd.valid() ? 0 : errno;
    });
    if (error != 0) {
      temporary_.clear();
      return entry_error(entry_, error, "create");
    }
    fd_ = std::move(fd);
    return {};
  }

  Result<> write(std::uint64_t offset, ByteSpan bytes) override {
    HF_TRY(write_all(fd_.get(), offset, bytes));
    const std::uint64_t end = offset + bytes.size();
    std::uint64_t seen = end_.load();
    while (seen < end && !end_.compare_exchange_weak(seen, end)) {
    }
    return {};
  }

  Result<Committed> commit() override {
    if (end_.load() < entry_.size && ::ftruncate(fd_.get(), static_cast<off_t>(entry_.size)) != 0)
      return entry_error(entry_, errno, "set size");
    put_metadata();
    struct stat status{};
    if (entry_.links > 1 && ::fstat(fd_.get(), &status) != 0)
      return entry_error(entry_, errno, "fstat");
    auto placed =
        place(dir().fd.get(), temporary_.c_str(), entry_.name, context_.options.overwrite);
    temporary_.clear();
    if (!placed) return wrap(std::move(placed).error(), escaped(entry_.path()));
    return committed(*placed, entry_, identity_of(status));
  }

 private:
  [[nodiscard]] const PosixDirectory& dir() const { return posix(directory_); }
  [[nodiscard]] bool sets_owner() const {
    return dir().inherits || context_.metadata.wants_owner(entry_);
  }
  // The final one at once where that shows the content to nobody else, and saves a call.
  [[nodiscard]] mode_t first_mode() const {
    if (!entry_.xattrs.empty() || dir().inherits) return 0600;
    if (sets_owner() && !dir().fresh) return 0600;
    return mode_ & 0777 & ~context_.metadata.mask();
  }

  // Owner before attributes and mode (a change of owner clears capabilities and setuid); ACL before
  // mode; times behind all that changes the content.
  void put_metadata() {
    MetadataWriter& metadata = context_.metadata;
    if (dir().inherits) {
      struct stat status{};
      if (::fstat(fd_.get(), &status) == 0)
        metadata.owner(fd_.get(), entry_, status.st_uid, status.st_gid);
      ::fremovexattr(fd_.get(), "system.posix_acl_access");
    } else {
      metadata.owner(fd_.get(), entry_, metadata.user(), metadata.group());
    }
    metadata.xattrs(fd_.get(), entry_);
    if (mode_ != created_mode_) metadata.mode(fd_.get(), entry_, mode_);
    metadata.times(fd_.get(), entry_);
    metadata.flags(fd_.get(), entry_);
  }

  Context& context_;
  const DirectoryRef directory_;
  Entry entry_;
  mode_t mode_ = 0, created_mode_ = 0;
  std::string temporary_;  // "": none
  Fd fd_;
  std::atomic<std::uint64_t> end_{0};  // of what was written
};

class PosixRestored : public RestoredFile {
 public:
  PosixRestored(Fd fd, const struct stat& status)
      : fd_(std::move(fd)),
        size_(static_cast<std::uint64_t>(status.st_size)),
        identity_(identity_of(status)) {}
  [[nodiscard]] std::uint64_t size() const override { return size_; }
  [[nodiscard]] FileIdentity identity() const override { return identity_; }
  [[nodiscard]] std::uint64_t next_data(std::uint64_t offset) const override {
    const off_t at = ::lseek(fd_.get(), static_cast<off_t>(offset), SEEK_DATA);
    if (at >= 0) return static_cast<std::uint64_t>(at);
    return errno == ENXIO ? std::max(size_, offset) : offset;  // offset: holes are not told here
  }
  Result<> read(std::uint64_t offset, MutableByteSpan out) override {
    while (!out.empty()) {
      const ssize_t n = ::pread(fd_.get(), out.data(), out.size(), static_cast<off_t>(offset));
      if (n < 0 && errno == EINTR) continue;
      if (n < 0) return std::unexpected(errno_error(errno, "read"));
      if (n == 0) return fail(Code::corrupt, "it is shorter than it was made");
      offset += static_cast<std::uint64_t>(n);
      out = out.subspan(static_cast<std::size_t>(n));
    }
    return {};
  }

 private:
  Fd fd_;
  std::uint64_t size_;
  FileIdentity identity_;
};

// A few directories that are open, newest first; ancestors of what is being restored are among
// them.
class OpenDirectories {
 public:
  void put(std::string_view path, DirectoryRef directory) {
    erase(path);
    list_.push_front({std::string(path), std::move(directory)});
    if (list_.size() > kOpenDirectoriesMax) list_.pop_back();
  }
  DirectoryRef find(std::string_view path) {
    const auto at = std::ranges::find(list_, path, &Item::path);
    if (at == list_.end()) return nullptr;
    list_.splice(list_.begin(), list_, at);
    return at->directory;
  }
  void erase(std::string_view path) {
    const auto at = std::ranges::find(list_, path, &Item::path);
    if (at != list_.end()) list_.erase(at);
  }

 private:
  struct Item {
    std::string path;
    DirectoryRef directory;
  };
  std::list<Item> list_;
};

std::string_view parent_of(std::string_view path) {
  const std::size_t slash = path.rfind('/');
  return slash == std::string_view::npos ? std::string_view() : path.substr(0, slash);
}
std::string name_of(std::string_view path) {
  const std::size_t slash = path.rfind('/');
  return std::string(slash == std::string_view::npos ? path : path.substr(slash + 1));
}

// As far as can be told without reading it.
bool looks_the_same(const struct stat& there, const Entry& entry) {
  return S_ISREG(there.st_mode) && static_cast<std::uint64_t>(there.st_size) == entry.size &&
         there.st_mtim.tv_sec == entry.mtime.seconds &&
         there.st_mtim.tv_nsec == static_cast<long>(entry.mtime.nanoseconds);
}

bool has_xattr(int fd, const char* name) { return ::fgetxattr(fd, name, nullptr, 0) > 0; }

class PosixTarget : public Target {
 public:
  PosixTarget(const TargetOptions& options, Random& random) : context_(options, random) {}

  Result<> start(std::string_view path) {
    const std::string text(path);
    made_ = ::mkdir(text.c_str(), 0700) == 0;
    if (!made_ && errno != EEXIST)
      return std::unexpected(errno_error(errno, "make the target directory " + escaped(path)));
    // The target itself is the caller's word: a symlink there is his.
    root_ = Fd(::open(text.c_str(), kDirectoryFlags | O_CLOEXEC));
    if (!root_.valid())
      return std::unexpected(errno_error(errno, "open the target directory " + escaped(path)));
    auto root = adopt(Fd(::fcntl(root_.get(), F_DUPFD_CLOEXEC, 0)), made_, false);
    if (!root) return std::unexpected(std::move(root).error());
    root_ref_ = std::move(*root);
    known_.insert("", posix(root_ref_).identity, made_);
    return {};
  }

  Result<Placed> make_directory(std::string_view path) override {
    HF_TRY(check_entry_directory(path));
    const std::lock_guard lock(mutex_);
    HF_ASSIGN(const DirectoryRef parent, open_known(parent_of(path)));
    const std::string name = name_of(path);
    const bool made = ::mkdirat(posix(parent).fd.get(), name.c_str(), 0700) == 0;
    if (!made && errno != EEXIST) return std::unexpected(errno_error(errno, "make directory"));
    if (!made) let_us_in(posix(parent).fd.get(), name, path);
    Opened opened = open_beneath(posix(parent).fd.get(), name, kDirectoryFlags, 0, context_.how);
    if (!opened && (opened.error() == ELOOP || opened.error() == ENOTDIR))
      return fail(Code::conflict,
                  "something that is not a directory stands there: move it away, or restore into "
                  "another place");
    if (!opened) return std::unexpected(errno_error(opened.error(), "open directory"));
    HF_ASSIGN(DirectoryRef directory, adopt(std::move(*opened), made, posix(parent).inherits));
    const auto known = known_.find(path);
    const FileIdentity identity = posix(directory).identity;
    const bool before = known && known->made && known->identity == DirectorySet::digest(identity);
    known_.insert(path, identity, made || before);
    open_.put(path, std::move(directory));
    return made ? Placed::made : Placed::kept;
  }

  bool made_directory(std::string_view path) override {
    const std::lock_guard lock(mutex_);
    const auto known = known_.find(path);
    return known && known->made;
  }

  Result<DirectoryRef> directory(std::string_view path) override {
    HF_TRY(check_entry_directory(path));
    const std::lock_guard lock(mutex_);
    return open_known(path);
  }

  Result<Created> create(const DirectoryRef& directory, const Entry& entry) override {
    HF_TRY(check_entry_name(entry.name));
    Created created;
    if (!posix(directory).fresh) {
      const auto there = look(posix(directory).fd.get(), entry.name.c_str());
      if (there) {
        HF_ASSIGN(const bool stays, keeps(*there, entry));
        if (stays && context_.options.overwrite == Overwrite::changed) {
          created.existing = identity_of(*there);
          finish_kept(posix(directory), *there, entry);
        }
        if (stays) return created;
      }
    }
    auto file = std::make_unique<PosixFile>(context_, directory, entry);
    HF_TRY(file->start());
    created.file = std::move(file);
    return created;
  }

  Result<Placed> link(const LinkSource& source, const DirectoryRef& directory,
                      const Entry& entry) override;
  Result<TargetFile::Committed> make_symlink(const DirectoryRef& directory,
                                             const Entry& entry) override;
  Result<TargetFile::Committed> make_special(const DirectoryRef& directory,
                                             const Entry& entry) override;
  Result<> finish_directory(std::string_view path, const Entry& entry) override;
  Result<> finish_modes() override;
  Result<> finish_flags(const DirectoryRef& directory, const Entry& entry) override;
  Result<> sync() override {
    if (::syncfs(root_.get()) != 0) return std::unexpected(errno_error(errno, "sync the target"));
    return {};
  }
  Result<std::unique_ptr<RestoredFile>> open(const DirectoryRef& directory,
                                             const Entry& entry) override;
  std::vector<LeftOut> left_out() override { return context_.notes.list(); }

 private:
  struct HeldMode {
    FileIdentity identity;
    mode_t mode;
  };

  // Takes a directory that was just made or opened.
  Result<DirectoryRef> adopt(Fd fd, bool made, bool parent_inherits);
  // These need the lock.
  void let_us_in(int parent, std::string_view name, std::string_view path);
  Result<DirectoryRef> open_known(std::string_view path);
  Result<DirectoryRef> open_again(std::string_view path);
  Result<> finish_open_directory(const PosixDirectory& directory, std::string_view path,
                                 const Entry& entry);
  // What stands under an entry's name is a directory: an error; else whether it stays.
  Result<bool> keeps(const struct stat& there, const Entry& entry) const;
  Result<Placed> put_link(const LinkSource& source, int from, const DirectoryRef& directory,
                          const Entry& entry);
  void finish_kept(const PosixDirectory& directory, const struct stat& there, const Entry& entry);
  std::optional<FileIdentity> finish_symlink(int directory, const char* name, const Entry& entry);
  Result<FileIdentity> finish_special(const PosixDirectory& directory, const char* name,
                                      mode_t type, const Entry& entry);

  Context context_;
  bool made_ = false;
  Fd root_;
  DirectoryRef root_ref_;
  std::mutex mutex_;
  DirectorySet known_{kDirectorySlotsMax};
  OpenDirectories open_;
  std::map<std::string, HeldMode> held_;  // by path
};

Result<DirectoryRef> PosixTarget::adopt(Fd fd, bool made, bool parent_inherits) {
  struct stat status{};
  if (!fd.valid() || ::fstat(fd.get(), &status) != 0)
    return std::unexpected(errno_error(errno, "fstat"));
  const MetadataWriter& metadata = context_.metadata;
  // Between mkdir and open another may have put his own there, and some file systems have neither
  // owners nor modes: then it is used like one that stood there.
  if (status.st_uid != metadata.user() || (status.st_mode & 0077) != 0) made = false;
  auto directory = std::make_shared<PosixDirectory>();
  if (made && parent_inherits) {
    // Inherited ACLs are not of the snapshot.
    ::fremovexattr(fd.get(), "system.posix_acl_default");
    ::fremovexattr(fd.get(), "system.posix_acl_access");
    if (::fchmod(fd.get(), 0700) != 0) return std::unexpected(errno_error(errno, "chmod"));
  }
  directory->fresh = made;
  directory->inherits =
      made ? status.st_gid != metadata.group() || (status.st_mode & S_ISGID) != 0
           : (status.st_mode & S_ISGID) != 0 || has_xattr(fd.get(), "system.posix_acl_default");
  directory->identity = identity_of(status);
  directory->fd = std::move(fd);
  return directory;
}

// A directory of ours that we have no rights in: a restore that is repeated finds those that the
// one before it locked. What is said of it is said by those who open it.
void PosixTarget::let_us_in(int parent, std::string_view name, std::string_view path) {
  const uid_t user = context_.metadata.user();
  if (user == 0 || held_.size() >= kHeldModesMax) return;
  const Opened fd = open_beneath(parent, name, O_PATH | O_DIRECTORY, 0, context_.how);
  struct stat status{};
  if (!fd || ::fstat(fd->get(), &status) != 0 || !S_ISDIR(status.st_mode)) return;
  const mode_t mode = status.st_mode & 07777;
  if (status.st_uid != user || (mode & 0700) == 0700) return;
  if (::chmod(path_of(fd->get()).c_str(), mode | 0700) != 0) return;
  held_.try_emplace(std::string(path), identity_of(status), mode);
}

Result<DirectoryRef> PosixTarget::open_known(std::string_view path) {
  if (path.empty()) return root_ref_;
  if (DirectoryRef open = open_.find(path)) return open;
  if (!known_.find(path) && !known_.full())
    return fail(Code::not_found, "its directory was not restored");
  HF_ASSIGN(DirectoryRef directory, open_again(path));
  open_.put(path, directory);
  return directory;
}

// From the nearest ancestor that is open, in pieces that the system takes; then proves that it is
// the one that was made.
Result<DirectoryRef> PosixTarget::open_again(std::string_view path) {
  std::string_view above = parent_of(path);
  DirectoryRef from = open_.find(above);
  while (!from && !above.empty()) {
    above = parent_of(above);
    from = open_.find(above);
  }
  if (!from) from = root_ref_;
  std::string_view rest = path.substr(above.empty() ? 0 : above.size() + 1);
  Fd held;
  while (rest.size() > kPathPieceMax) {
    const std::size_t cut = rest.rfind('/', kPathPieceMax);
    Opened piece = open_beneath(held.valid() ? held.get() : posix(from).fd.get(),
                                rest.substr(0, cut), O_PATH | O_DIRECTORY, 0, context_.how);
    if (!piece) return std::unexpected(errno_error(piece.error(), "open directory"));
    held = std::move(*piece);
    rest.remove_prefix(cut + 1);
  }
  Opened opened = open_beneath(held.valid() ? held.get() : posix(from).fd.get(), rest,
                               kDirectoryFlags, 0, context_.how);
  if (!opened) {
    if (opened.error() == ELOOP || opened.error() == ENOTDIR || opened.error() == ENOENT)
      return fail(Code::conflict, "its directory was replaced while restoring");
    return std::unexpected(errno_error(opened.error(), "open directory"));
  }
  struct stat status{};
  if (::fstat(opened->get(), &status) != 0) return std::unexpected(errno_error(errno, "fstat"));
  const auto known = known_.find(path);
  if (known && known->identity != DirectorySet::digest(identity_of(status)))
    return fail(Code::conflict, "its directory was replaced while restoring");
  auto directory = std::make_shared<PosixDirectory>();
  directory->identity = identity_of(status);
  directory->fresh = known && known->made && status.st_uid == context_.metadata.user() &&
                     (status.st_mode & 07777) == 0700;
  directory->inherits = (status.st_mode & S_ISGID) != 0 ||
                        status.st_gid != context_.metadata.group() ||
                        (!directory->fresh && has_xattr(opened->get(), "system.posix_acl_default"));
  directory->fd = std::move(*opened);
  return directory;
}

Result<bool> PosixTarget::keeps(const struct stat& there, const Entry& entry) const {
  if (S_ISDIR(there.st_mode))
    return fail(Code::conflict, escaped(entry.path()) +
                                    ": a directory stands there: move it away, or restore into "
                                    "another place");
  if (context_.options.overwrite == Overwrite::never) return true;
  return context_.options.overwrite == Overwrite::changed && entry.type == EntryType::file &&
         looks_the_same(there, entry);
}

Result<Placed> PosixTarget::link(const LinkSource& source, const DirectoryRef& directory,
                                 const Entry& entry) {
  HF_TRY(check_entry_name(entry.name));
  HF_TRY(check_entry_name(source.name));
  if (source.directory == entry.directory)
    return put_link(source, posix(directory).fd.get(), directory, entry);
  HF_ASSIGN(const DirectoryRef from, this->directory(source.directory));
  return put_link(source, posix(from).fd.get(), directory, entry);
}

// Under a temporary name first: what the source's name stands for is proved on the new link, and
// only that is renamed to the entry's name.
Result<Placed> PosixTarget::put_link(const LinkSource& source, int from,
                                     const DirectoryRef& directory, const Entry& entry) {
  const int to = posix(directory).fd.get();
  if (const auto there = look(to, entry.name.c_str())) {
    if (identity_of(*there) == source.identity) return Placed::kept;
    HF_ASSIGN(const bool stays, keeps(*there, entry));
    if (stays && context_.options.overwrite == Overwrite::never) return Placed::kept;
  }
  const std::string first(source.name);
  const auto before = look(from, first.c_str());
  if (!before || identity_of(*before) != source.identity)
    return fail(Code::conflict,
                escaped(entry.path()) + ": the file that it is a link of was replaced");
  std::string temporary;
  const int error = make_temporary(context_.names, temporary, [&](const char* name) {
    return ::linkat(from, first.c_str(), to, name, 0) == 0 ? 0 : errno;
  });
  if (error != 0) return entry_error(entry, error, "link");
  const auto after = look(to, temporary.c_str());
  if (!after || identity_of(*after) != source.identity) {
    ::unlinkat(to, temporary.c_str(), 0);
    return fail(Code::conflict,
                escaped(entry.path()) + ": the file that it is a link of was replaced");
  }
  auto placed = place(to, temporary.c_str(), entry.name, context_.options.overwrite);
  if (!placed) return wrap(std::move(placed).error(), escaped(entry.path()));
  return placed;
}

// Metadata of what was kept, through a descriptor that provably holds what was looked at. A file
// with other names may be anybody's, linked here by whoever may write here (RST-04): it is left
// alone.
void PosixTarget::finish_kept(const PosixDirectory& directory, const struct stat& there,
                              const Entry& entry) {
  const Opened fd = open_beneath(directory.fd.get(), entry.name, O_PATH, 0, context_.how);
  struct stat status{};
  if (!fd || ::fstat(fd->get(), &status) != 0 || !S_ISREG(status.st_mode) ||
      identity_of(status) != identity_of(there))
    return context_.notes.note(LeftOutKind::mode, entry, "it was replaced meanwhile");
  MetadataWriter& metadata = context_.metadata;
  const mode_t mode = metadata.allowed_mode(entry);
  if (status.st_nlink > 1) {
    if ((status.st_mode & 07777) != mode)
      context_.notes.note(LeftOutKind::mode, entry, "it was kept, and has other names too");
    return;
  }
  if (status.st_uid != entry.uid || status.st_gid != entry.gid)
    metadata.owner_of_link(fd->get(), entry);
  metadata.xattrs_of_link(fd->get(), entry);
  // Both of these may have changed it.
  if (::fstat(fd->get(), &status) != 0 || (status.st_mode & 07777) != mode)
    metadata.mode_of_link(fd->get(), entry, mode);
}

// Owner and time through a descriptor that provably holds a symlink. Its identity when it provably
// is the one that was made.
std::optional<FileIdentity> PosixTarget::finish_symlink(int directory, const char* name,
                                                        const Entry& entry) {
  const Fd fd(::openat(directory, name, O_PATH | O_NOFOLLOW | O_CLOEXEC));
  struct stat status{};
  if (!fd.valid() || ::fstat(fd.get(), &status) != 0 || !S_ISLNK(status.st_mode)) {
    context_.notes.note(LeftOutKind::times, entry, "the symlink was replaced");
    return std::nullopt;
  }
  if (status.st_uid != entry.uid || status.st_gid != entry.gid)
    context_.metadata.owner_of_link(fd.get(), entry);
  for (std::size_t i = 0; i < entry.xattrs.size(); ++i)
    context_.notes.note(LeftOutKind::privileged_xattr, entry, "attributes of symlinks are not set");
  context_.metadata.times_of_link(fd.get(), entry);
  std::array<char, kLinkTargetMax + 1> text{};
  const ssize_t n = ::readlinkat(fd.get(), "", text.data(), text.size());
  if (n < 0 || std::string_view(text.data(), static_cast<std::size_t>(n)) != entry.link_target)
    return std::nullopt;
  return identity_of(status);
}

Result<TargetFile::Committed> PosixTarget::make_symlink(const DirectoryRef& directory,
                                                        const Entry& entry) {
  HF_TRY(check_entry_name(entry.name));
  const int to = posix(directory).fd.get();
  const bool clean = !entry.link_target.empty() && entry.link_target.size() <= kLinkTargetMax &&
                     entry.link_target.find('\0') == std::string::npos;
  if (!clean) return fail(Code::invalid, escaped(entry.path()) + ": bad symlink target");
  if (const auto there = look(to, entry.name.c_str())) {
    HF_ASSIGN(const bool stays, keeps(*there, entry));
    if (stays) return TargetFile::Committed{.placed = Placed::kept, .identity = {}};
  }
  std::string temporary;
  const int error = make_temporary(context_.names, temporary, [&](const char* name) {
    return ::symlinkat(entry.link_target.c_str(), to, name) == 0 ? 0 : errno;
  });
  if (error != 0) return entry_error(entry, error, "make symlink");
  const auto identity = finish_symlink(to, temporary.c_str(), entry);
  auto placed = place(to, temporary.c_str(), entry.name, context_.options.overwrite);
  if (!placed) return wrap(std::move(placed).error(), escaped(entry.path()));
  if (!identity) return TargetFile::Committed{.placed = *placed, .identity = {}};
  return committed(*placed, entry, *identity);
}

Result<TargetFile::Committed> PosixTarget::make_special(const DirectoryRef& directory,
                                                        const Entry& entry) {
  HF_TRY(check_entry_name(entry.name));
  const int to = posix(directory).fd.get();
  const bool device = entry.type != EntryType::fifo;
  if (device && !context_.options.privileged) {
    context_.notes.note(LeftOutKind::device, entry, "devices are made only when asked for");
    return TargetFile::Committed{.placed = Placed::kept, .identity = {}};
  }
  if (const auto there = look(to, entry.name.c_str())) {
    HF_ASSIGN(const bool stays, keeps(*there, entry));
    if (stays) return TargetFile::Committed{.placed = Placed::kept, .identity = {}};
  }
  const mode_t type = !device ? S_IFIFO : entry.type == EntryType::char_device ? S_IFCHR : S_IFBLK;
  std::string temporary;
  const int error = make_temporary(context_.names, temporary, [&](const char* name) {
    return ::mknodat(to, name, type | 0600, entry.rdev) == 0 ? 0 : errno;
  });
  if (error != 0) return entry_error(entry, error, "make it");
  HF_ASSIGN(const FileIdentity identity,
            finish_special(posix(directory), temporary.c_str(), type, entry));
  auto placed = place(to, temporary.c_str(), entry.name, context_.options.overwrite);
  if (!placed) return wrap(std::move(placed).error(), escaped(entry.path()));
  return committed(*placed, entry, identity);
}

// O_PATH: a device must not be opened. What the descriptor holds is proved to be what was made, as
// its directory may be another's.
Result<FileIdentity> PosixTarget::finish_special(const PosixDirectory& directory, const char* name,
                                                 mode_t type, const Entry& entry) {
  const Fd fd(::openat(directory.fd.get(), name, O_PATH | O_NOFOLLOW | O_CLOEXEC));
  struct stat status{};
  if (!fd.valid() || ::fstat(fd.get(), &status) != 0 || (status.st_mode & S_IFMT) != type ||
      (type != S_IFIFO && status.st_rdev != entry.rdev)) {
    ::unlinkat(directory.fd.get(), name, 0);
    return fail(Code::conflict, escaped(entry.path()) + ": it was replaced as soon as it was made");
  }
  MetadataWriter& metadata = context_.metadata;
  if (status.st_uid != entry.uid || status.st_gid != entry.gid)
    metadata.owner_of_link(fd.get(), entry);
  metadata.xattrs_of_link(fd.get(), entry);
  metadata.mode_of_link(fd.get(), entry, metadata.allowed_mode(entry));
  metadata.times_of_link(fd.get(), entry);
  return identity_of(status);
}

Result<> PosixTarget::finish_directory(std::string_view path, const Entry& entry) {
  HF_TRY(check_entry_directory(path));
  if (path.empty() && !made_) return {};
  const std::lock_guard lock(mutex_);
  HF_ASSIGN(const DirectoryRef directory, open_known(path));
  if (context_.options.overwrite == Overwrite::never) {
    const auto known = known_.find(path);
    if (!known)
      context_.notes.note(LeftOutKind::mode, entry, "too many to know which of them stood there");
    if (!known || !known->made) return {};
  }
  // The handle is not used again as one of a directory that only we can enter.
  open_.erase(path);
  return finish_open_directory(posix(directory), path, entry);
}

Result<> PosixTarget::finish_open_directory(const PosixDirectory& directory, std::string_view path,
                                            const Entry& entry) {
  MetadataWriter& metadata = context_.metadata;
  const int fd = directory.fd.get();
  struct stat status{};
  if (::fstat(fd, &status) != 0) return std::unexpected(errno_error(errno, "fstat"));
  metadata.owner(fd, entry, status.st_uid, status.st_gid);
  metadata.xattrs(fd, entry);
  const mode_t mode = metadata.allowed_mode(entry);
  const bool locks_out = metadata.user() != 0 && (mode & 0700) != 0700;
  held_.erase(std::string(path));
  if (locks_out && held_.size() < kHeldModesMax) {
    held_.try_emplace(std::string(path), directory.identity, mode);
    metadata.mode(fd, entry, mode | 0700);
  } else {
    metadata.mode(fd, entry, mode);
  }
  metadata.times(fd, entry);
  metadata.flags(fd, entry);
  return {};
}

Result<> PosixTarget::finish_modes() {
  const std::lock_guard lock(mutex_);
  Result<> result;
  // A path sorts behind those above it.
  for (; !held_.empty(); held_.erase(std::prev(held_.end()))) {
    const auto& [path, held] = *held_.rbegin();
    const auto directory = open_known(path);
    if (!directory || posix(*directory).identity != held.identity ||
        ::fchmod(posix(*directory).fd.get(), held.mode) != 0)
      result = fail(Code::conflict, escaped(path) + ": its mode could not be set");
    open_.erase(path);
  }
  return result;
}

Result<std::unique_ptr<RestoredFile>> PosixTarget::open(const DirectoryRef& directory,
                                                        const Entry& entry) {
  HF_TRY(check_entry_name(entry.name));
  Opened opened =
      open_beneath(posix(directory).fd.get(), entry.name, O_RDONLY | O_NONBLOCK, 0, context_.how);
  if (!opened && opened.error() != ELOOP) return entry_error(entry, opened.error(), "open");
  struct stat status{};
  if (opened && ::fstat(opened->get(), &status) != 0) return entry_error(entry, errno, "fstat");
  if (!opened || !S_ISREG(status.st_mode))
    return fail(Code::conflict, escaped(entry.path()) + ": something that is not a file is there");
  // So that the disk answers and not memory, as far as what was written is synced.
  ::posix_fadvise(opened->get(), 0, 0, POSIX_FADV_DONTNEED);
  return std::make_unique<PosixRestored>(std::move(*opened), status);
}

Result<> PosixTarget::finish_flags(const DirectoryRef& directory, const Entry& entry) {
  HF_TRY(check_entry_name(entry.name));
  const bool folder = entry.type == EntryType::directory;
  const bool never = context_.options.overwrite == Overwrite::never;
  if (never && folder && !made_directory(entry.path())) return {};
  Opened opened = open_beneath(posix(directory).fd.get(), entry.name,
                               O_RDONLY | O_NONBLOCK | (folder ? O_DIRECTORY : 0), 0, context_.how);
  if (!opened) return entry_error(entry, opened.error(), "open");
  struct stat status{};
  if (::fstat(opened->get(), &status) != 0) return entry_error(entry, errno, "fstat");
  // Another's file that was kept is not to be locked.
  if (never && !folder && !looks_the_same(status, entry)) return {};
  const auto known = folder ? known_.find(entry.path()) : std::nullopt;
  const bool same =
      folder ? !known || known->identity == DirectorySet::digest(identity_of(status))
             : S_ISREG(status.st_mode) && static_cast<std::uint64_t>(status.st_size) == entry.size;
  if (!same) return fail(Code::conflict, escaped(entry.path()) + ": it was replaced meanwhile");
  context_.metadata.locking_flags(opened->get(), entry);
  return {};
}

}  // namespace

Result<std::unique_ptr<Target>> open_target(std::string_view path, const TargetOptions& options,
                                            Random& random) {
  auto target = std::make_unique<PosixTarget>(options, random);
  HF_TRY(target->start(path));
  return target;
}

}  // namespace holdfast
