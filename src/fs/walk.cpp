// SPDX-License-Identifier: Apache-2.0
// Tests: walk_test.cpp (random trees against a slow oracle, races by renameat2 in a loop).
#include "fs/walk.h"

#include <dirent.h>
#include <fcntl.h>
#include <unistd.h>

#include <algorithm>
#include <array>
#include <cerrno>
#include <climits>

#include "fs/starts.h"

namespace holdfast {
namespace {

constexpr std::size_t kUnreadableMax = 1000;
// Descriptors held on a path: its first, and its last ones. Others are opened again on the way up.
constexpr std::size_t kHeldFirst = 8, kHeldLast = 40;
constexpr std::string_view kCacheTagName = "CACHEDIR.TAG";
constexpr std::string_view kCacheTagHeader = "Signature: 8a477f597d28d172789f06886806bc55";
constexpr std::size_t kTagHeaderMax = 4096;
constexpr int kLook = AT_SYMLINK_NOFOLLOW | AT_NO_AUTOMOUNT;
constexpr int kOpen = O_RDONLY | O_NOFOLLOW | O_NONBLOCK | O_CLOEXEC | O_NOCTTY;
constexpr int kOpenPath = O_PATH | O_NOFOLLOW | O_CLOEXEC;
constexpr const char* kReplaced = "changed: another object took its place while it was looked at";

// The machine's want, not this object's: going on would call everything unreadable.
bool out_of_resources(int error) { return error == EMFILE || error == ENFILE || error == ENOMEM; }

std::unexpected<Error> exhausted(int error) {
  return fail(Code::full, "walk: " + errno_text(error) +
                              "; raise the limit of open files (ulimit -n) or free memory");
}

FileTime time_of(const timespec& t) {
  return {static_cast<std::int64_t>(t.tv_sec), static_cast<std::uint32_t>(t.tv_nsec)};
}

std::optional<EntryType> type_of(mode_t mode) {
  switch (mode & S_IFMT) {
    case S_IFDIR:
      return EntryType::directory;
    case S_IFREG:
      return EntryType::file;
    case S_IFLNK:
      return EntryType::symlink;
    case S_IFIFO:
      return EntryType::fifo;
    case S_IFCHR:
      return EntryType::char_device;
    case S_IFBLK:
      return EntryType::block_device;
    default:
      return std::nullopt;
  }
}

bool is_device(EntryType type) {
  return type == EntryType::char_device || type == EntryType::block_device;
}

void fill_from(Entry& entry, const struct stat& st) {
  entry.mode = st.st_mode & 07777;
  entry.uid = st.st_uid;
  entry.gid = st.st_gid;
  entry.mtime = time_of(st.st_mtim);
  entry.ctime = time_of(st.st_ctim);
  entry.size = entry.type == EntryType::file ? static_cast<std::uint64_t>(st.st_size) : 0;
  entry.device = st.st_dev;
  entry.inode = st.st_ino;
  entry.links = entry.type == EntryType::directory ? 1 : static_cast<std::uint32_t>(st.st_nlink);
  entry.rdev = is_device(entry.type) ? st.st_rdev : 0;
}

std::string_view parent_of(std::string_view path) {
  const std::size_t slash = path.rfind('/');
  return slash == std::string_view::npos ? std::string_view() : path.substr(0, slash);
}

std::string_view last_of(std::string_view path) {
  const std::size_t slash = path.rfind('/');
  return slash == std::string_view::npos ? path : path.substr(slash + 1);
}

}  // namespace

// ---- construction -------------------------------------------------------------------------------

Walk::Identity Walk::Identity::of(const struct stat& st) {
  return {st.st_dev, st.st_ino, st.st_mode & S_IFMT};
}

Walk::Walk(WalkOptions options, std::vector<std::string> starts, std::vector<std::string> nested,
           const Stop& stop)
    : options_(std::move(options)),
      stop_(stop),
      starts_(std::move(starts)),
      nested_(std::move(nested)) {
  if (options_.exclude_caches)
    tags_.push_back({std::string(kCacheTagName), std::string(kCacheTagHeader)});
  for (const std::string& given : options_.exclude_if_present) {
    const std::size_t colon = std::min(given.find(':'), given.size());
    tags_.push_back({given.substr(0, colon), given.substr(std::min(colon + 1, given.size()))});
  }
}

Result<std::unique_ptr<Walk>> Walk::begin(WalkOptions options, const Stop& stop) {
  HF_ASSIGN(Starts starts, merge_starts(options.starts));
  std::erase_if(starts.tops,
                [&](const std::string& start) { return options.excludes.excludes("/" + start); });
  if (starts.tops.empty())
    return fail(Code::invalid, "every path that was named is left out by the exclude patterns");
  if (options.beneath == Beneath::automatic) options.beneath = choose_beneath();
  std::unique_ptr<Walk> walk(
      new Walk(std::move(options), std::move(starts.tops), std::move(starts.nested), stop));
  for (const Tag& tag : walk->tags_) {
    HF_TRY(check_entry_name(tag.name));
    if (tag.header.size() > kTagHeaderMax)
      return fail(Code::invalid, "exclude-if-present: the header is longer than 4096 bytes");
  }
  HF_TRY(walk->check_starts());
  walk->report_hidden_starts();
  HF_TRY(walk->begin_root());
  return walk;
}

// One that is there is enough; the others are reported when the walk comes to them.
Result<> Walk::check_starts() {
  std::string first;
  for (const std::string& start : starts_) {
    const Opened parent = open_ancestor(parent_of(start));
    struct stat st{};
    const std::string name(start.empty() ? std::string_view(".") : last_of(start));
    if (parent && ::fstatat(parent->get(), name.c_str(), &st, kLook) == 0) return {};
    if (first.empty())
      first = "/" + escaped(start) + ": " + errno_text(parent ? errno : parent.error());
  }
  return fail(Code::not_found, "nothing to back up could be read: " + first);
}

// A start below another one that leads through a symlink: the walk stores that symlink as such.
void Walk::report_hidden_starts() {
  for (const std::string& nested : nested_) {
    const auto top = std::ranges::find_if(starts_, [&](const std::string& start) {
      return start.empty() || nested.starts_with(start + "/");
    });
    if (top == starts_.end()) continue;  // left out by patterns
    const Opened base = open_ancestor(*top);
    if (!base) continue;  // reported later
    const std::size_t skip = top->empty() ? 0 : top->size() + 1;
    const std::string_view way = parent_of(std::string_view(nested).substr(skip));
    const Opened reached =
        open_beneath(base->get(), way, O_PATH | O_DIRECTORY, 0, options_.beneath);
    if (reached || (reached.error() != ELOOP && reached.error() != ENOTDIR)) continue;
    report(nested, "it lies behind a symlink that is itself stored, below /" + escaped(*top) +
                       "; name its real path");
  }
}

Result<> Walk::begin_root() {
  Frame root;
  root.start = starts_.front().empty();
  if (!root.start) root.range = {0, starts_.size()};
  const int fd = ::open("/", O_RDONLY | O_DIRECTORY | O_CLOEXEC);
  if (fd < 0) return std::unexpected(errno_error(errno, "open /"));
  root.fd = Fd(fd);
  struct stat st{};
  if (::fstat(fd, &st) != 0) return std::unexpected(errno_error(errno, "stat /"));
  root.id = Identity::of(st);
  push(std::move(root));
  return list_top();
}

// ---- reports ------------------------------------------------------------------------------------

std::string Walk::path_of(std::string_view name) const {
  std::string out = path_;
  if (!out.empty() && !name.empty()) out += '/';
  return out.append(name);
}

void Walk::report(std::string_view path, std::string what) {
  ++unreadable_count_;
  if (unreadable_.size() < kUnreadableMax)
    unreadable_.push_back({std::string(path), std::move(what)});
}

// ---- entries of the directory on top ------------------------------------------------------------

Result<const Entry*> Walk::next() {
  file_ = FileReader();
  early_.reset();
  way_.reset();
  while (true) {
    HF_TRY(stop_.check());
    while (cursor_ < names_.size())
      if (look_at(cursor_++)) return &entry_;
    if (frames_.empty()) return nullptr;
    HF_TRY(advance());
  }
}

bool Walk::look_at(std::size_t index) {
  const NameList::Name& listed = names_[index];
  const std::string_view name = names_.text(listed);
  const Range range = ranges_.empty() ? Range() : ranges_[index];
  if (!range.empty()) return look_at_way(name, range);
  if (listed.type == DT_SOCK) {
    ++sockets_;
    return false;
  }
  if (path_.size() + 1 + name.size() > kPathMax) {
    report(path_of(name), "its path is longer than 4096 bytes; back it up from a start below");
    return false;
  }
  if (excluded(name)) return false;
  struct stat st{};
  if (options_.all_new && listed.type == DT_REG && open_early(name, st))
    return take(name, st, Range());
  if (::fstatat(frames_.back().fd.get(), name.data(), &st, kLook) == 0)
    return take(name, st, Range());
  const bool named = !ranges_.empty();  // a start that is missing is an error
  if (errno == ENOENT && !named) {
    ++vanished_;
  } else {
    report(path_of(name), "stat: " + errno_text(errno));
  }
  return false;
}

// A file that will be read anyway is looked at through the descriptor that reads it. False: the
// usual way will say what is wrong with it.
bool Walk::open_early(std::string_view name, struct stat& st) {
  Opened opened = open_with_noatime(frames_.back().fd.get(), name.data(), kOpen);
  if (!opened || ::fstat(opened->get(), &st) != 0 || !S_ISREG(st.st_mode)) return false;
  early_ = FileReader(std::move(*opened), st);
  return true;
}

bool Walk::look_at_way(std::string_view name, Range range) {
  const std::string path = path_of(name);
  Opened opened = open_ancestor(path);
  struct stat st{};
  if (opened && ::fstat(opened->get(), &st) != 0) opened = std::unexpected(errno);
  if (!opened) {
    if (opened.error() == EPERM)
      report(path, "it is a symlink of another user, not followed; name its real path");
    else  // what was named is what is missing
      for (std::size_t i = range.low; i < range.high; ++i)
        report(starts_[i], "open: " + errno_text(opened.error()));
    return false;
  }
  way_ = std::move(*opened);
  return take(name, st, range);
}

bool Walk::take(std::string_view name, const struct stat& st, Range range) {
  const auto type = type_of(st.st_mode);
  if (!type) {
    ++sockets_;
    return false;
  }
  entry_.type = *type;
  fill(name, st);
  if (*type == EntryType::directory && !crosses_file_system(name, st))
    go_down_later(name, st, range);
  return true;
}

void Walk::fill(std::string_view name, const struct stat& st) {
  entry_.name.assign(name);
  fill_from(entry_, st);
  seen_ = Identity::of(st);
}

void Walk::go_down_later(std::string_view name, const struct stat& st, Range range) {
  Frame& top = frames_.back();
  top.below.push_back({static_cast<std::uint32_t>(top.names.size()),
                       static_cast<std::uint16_t>(name.size()), Identity::of(st), range});
  top.names.append(name).push_back('\0');
}

bool Walk::excluded(std::string_view name) {
  if (options_.excludes.empty() || !frames_.back().range.empty()) return false;
  scratch_ = "/";
  scratch_ += path_;
  if (!path_.empty()) scratch_ += '/';
  scratch_ += name;
  return options_.excludes.excludes(scratch_);
}

bool Walk::crosses_file_system(std::string_view name, const struct stat& st) {
  const Frame& top = frames_.back();
  if (!options_.one_file_system || !top.range.empty() || st.st_dev == top.id.device) return false;
  return std::ranges::find(nested_, path_of(name)) == nested_.end();
}

// ---- from directory to directory ----------------------------------------------------------------

Result<> Walk::advance() {
  Frame& top = frames_.back();
  if (top.next == top.below.size()) {
    pop();
    return {};
  }
  const Below below = top.below[top.next++];
  return enter(below, std::string_view(top.names).substr(below.offset, below.length));
}

Result<> Walk::enter(const Below& below, std::string_view name) {
  Frame frame;
  auto opened = open_directory(below, name.data());
  if (!opened && opened.error().code == Code::full) return std::unexpected(opened.error());
  if (!opened) return {};  // reported
  frame.fd = std::move(*opened);
  frame.id = below.id;
  frame.range = below.range;
  frame.start = !frames_.back().range.empty() && below.range.empty();
  if (!path_.empty()) path_ += '/';
  path_ += name;
  frame.path_length = path_.size();
  push(std::move(frame));
  return list_top();
}

// The very directory that was looked at, or an error that was reported.
Result<Fd> Walk::open_directory(const Below& below, const char* name) {
  Opened opened = below.range.empty()
                      ? open_with_noatime(frames_.back().fd.get(), name, kOpen | O_DIRECTORY)
                      : open_ancestor(path_of(name));
  struct stat st{};
  if (opened && ::fstat(opened->get(), &st) != 0) opened = std::unexpected(errno);
  if (opened && Identity::of(st) == below.id) return std::move(*opened);
  const int error = opened ? 0 : opened.error();
  if (out_of_resources(error)) return exhausted(error);
  const std::string what =
      error == 0 || error == ENOTDIR || error == ELOOP ? kReplaced : "open: " + errno_text(error);
  if (error == ENOENT) {
    ++vanished_;
  } else {
    report(path_of(name), what);
  }
  return fail(Code::unavailable, what);
}

void Walk::push(Frame frame) {
  frames_.push_back(std::move(frame));
  if (frames_.size() <= kHeldFirst + kHeldLast) return;
  Frame& middle = frames_[frames_.size() - 1 - kHeldLast];
  if (!middle.start) middle.fd.reset();
}

Result<> Walk::list_top() {
  cursor_ = 0;
  names_.clear();
  ranges_.clear();
  entry_.directory = path_;
  if (!frames_.back().range.empty()) {
    list_way();
    return {};
  }
  if (const int error = names_.read(frames_.back().fd.get()); error != 0) {
    names_.clear();
    if (out_of_resources(error)) return exhausted(error);
    report(path_, "read directory: " + errno_text(error));
    return {};
  }
  for (const Tag& tag : tags_) {
    if (!names_.contains(tag.name) || !has_tag(tag)) continue;
    names_.keep_only(tag.name);
    break;
  }
  return {};
}

// The next components of the starts below; starts_ is sorted, so each name has one range.
void Walk::list_way() {
  const Range all = frames_.back().range;
  const std::size_t skip = path_.empty() ? 0 : path_.size() + 1;
  for (std::size_t low = all.low; low < all.high;) {
    const std::string_view rest = std::string_view(starts_[low]).substr(skip);
    const std::string_view name = rest.substr(0, rest.find('/'));
    std::size_t high = low + 1;
    const auto has_it = [&](std::string_view other) {
      return other.substr(skip, other.find('/', skip) - skip) == name;
    };
    while (high < all.high && has_it(starts_[high])) ++high;
    names_.add(name, DT_UNKNOWN);
    ranges_.push_back(rest == name ? Range() : Range{low, high});
    low = high;
  }
}

bool Walk::has_tag(const Tag& tag) {
  const int fd = ::openat(frames_.back().fd.get(), tag.name.c_str(), kOpen);
  if (fd < 0) return false;
  const Fd held(fd);
  struct stat st{};
  if (::fstat(fd, &st) != 0) return false;
  if (S_ISDIR(st.st_mode)) return tag.header.empty();  // as ".git", and as restic takes it
  if (!S_ISREG(st.st_mode)) return false;
  std::string header(tag.header.size(), '\0');
  const ssize_t got = ::pread(fd, header.data(), header.size(), 0);
  return got == static_cast<ssize_t>(header.size()) && header == tag.header;
}

void Walk::pop() {
  const Fd child = std::move(frames_.back().fd);
  frames_.pop_back();
  if (frames_.empty()) return;
  Frame& top = frames_.back();
  path_.resize(top.path_length);
  if (top.fd.valid() || reopen_top(child)) return;
  if (top.next < top.below.size()) report(path_, kReplaced);
  top.next = top.below.size();
}

// By the child's ".." first, then by path from a directory that is still held; either way it must
// be the very directory that was left.
bool Walk::reopen_top(const Fd& child) {
  Frame& top = frames_.back();
  const auto same = [&](const Fd& fd) {
    struct stat st{};
    return fd.valid() && ::fstat(fd.get(), &st) == 0 && Identity::of(st) == top.id;
  };
  if (child.valid()) {
    Fd above(::openat(child.get(), "..", kOpenPath | O_DIRECTORY));
    if (same(above)) {
      top.fd = std::move(above);
      return true;
    }
  }
  Opened by_path = reopen_by_path();
  if (!by_path || !same(*by_path)) return false;
  top.fd = std::move(*by_path);
  return true;
}

Opened Walk::reopen_by_path() const {
  if (!frames_.back().range.empty()) return open_ancestor(path_);
  for (std::size_t i = frames_.size() - 1; i-- > 0;) {
    const Frame& held = frames_[i];
    if (!held.range.empty()) break;
    if (!held.fd.valid()) continue;
    const std::size_t skip = held.path_length == 0 ? 0 : held.path_length + 1;
    return open_beneath(held.fd.get(), std::string_view(path_).substr(skip), O_PATH | O_DIRECTORY,
                        0, options_.beneath);
  }
  return std::unexpected(ENOENT);
}

// ---- objects ------------------------------------------------------------------------------------

Opened Walk::open_with_noatime(int directory, const char* name, int flags) {
  if (try_noatime_) {
    const int fd = ::openat(directory, name, flags | O_NOATIME);
    if (fd >= 0) return Fd(fd);
    if (errno != EPERM) return std::unexpected(errno);
    // Not ours: for most users that will go on, so ask no more.
    if (::geteuid() != 0) try_noatime_ = false;
  }
  const int fd = ::openat(directory, name, flags);
  if (fd < 0) return std::unexpected(errno);
  return Fd(fd);
}

// The object that next() gave last, or errno; ESTALE: another one took its place.
std::expected<Fd, int> Walk::open_seen(int flags, struct stat& st) {
  Opened opened = way_.valid()
                      ? open_with_noatime(way_.get(), ".", flags)
                      : open_with_noatime(frames_.back().fd.get(), entry_.name.c_str(), flags);
  if (!opened) return opened;
  if (::fstat(opened->get(), &st) != 0) return std::unexpected(errno);
  if (Identity::of(st) != seen_) return std::unexpected(ESTALE);
  return opened;
}

Result<> Walk::give_up(std::string_view doing, int error) {
  if (out_of_resources(error)) return exhausted(error);
  // ELOOP, ENOTDIR, ENXIO: a symlink, a file or a socket stands there now.
  const bool replaced = error == ESTALE || error == ELOOP || error == ENOTDIR || error == ENXIO;
  const std::string what = replaced ? kReplaced : std::string(doing) + ": " + errno_text(error);
  report(path_of(entry_.name), what);
  return fail(Code::unavailable, escaped(path_of(entry_.name)) + ": " + what);
}

void Walk::read_attributes(int fd, OpenedAs as, Entry& entry) {
  std::string problem = attributes_.read_xattrs(fd, as, entry.xattrs);
  if (!problem.empty()) report(path_of(entry_.name), std::move(problem));
  const bool has_flags = as == OpenedAs::readable;
  entry.flags = has_flags ? attributes_.read_flags(fd, seen_.device) : 0;
}

// A directory is opened for reading, as flags need it; others, and one that cannot be read, by
// O_PATH: that has no effect on a device and cannot block.
std::expected<Fd, int> Walk::open_for_attributes(const Entry& entry, OpenedAs& as) {
  struct stat st{};
  if (entry.type == EntryType::directory) {
    as = OpenedAs::readable;
    auto opened = open_seen(kOpen | O_DIRECTORY, st);
    if (opened || (opened.error() != EACCES && opened.error() != EPERM)) return opened;
  }
  as = OpenedAs::path_only;
  const int fd = way_.valid() ? ::openat(way_.get(), ".", kOpenPath)
                              : ::openat(frames_.back().fd.get(), entry_.name.c_str(), kOpenPath);
  if (fd < 0) return std::unexpected(errno);
  Fd held(fd);
  if (::fstat(fd, &st) != 0) return std::unexpected(errno);
  if (Identity::of(st) != seen_) return std::unexpected(ESTALE);
  return held;
}

Result<> Walk::complete(Entry& entry) {
  OpenedAs as = OpenedAs::readable;
  const auto opened = open_for_attributes(entry, as);
  if (!opened) return give_up("open", opened.error());
  read_attributes(opened->get(), as, entry);
  if (entry.type != EntryType::symlink) return {};
  std::array<char, PATH_MAX> target{};
  const ssize_t length = ::readlinkat(opened->get(), "", target.data(), target.size());
  if (length < 0) return give_up("read link", errno);
  if (static_cast<std::size_t>(length) > kLinkTargetMax) return give_up("read link", ENAMETOOLONG);
  entry.link_target.assign(target.data(), static_cast<std::size_t>(length));
  return {};
}

Result<> Walk::open() {
  if (early_) {
    file_ = std::move(*early_);
    early_.reset();
    return {};
  }
  file_ = FileReader();
  struct stat st{};
  auto opened = open_seen(kOpen, st);
  if (!opened) return give_up("open", opened.error());
  file_ = FileReader(std::move(*opened), st);
  return {};
}

Result<ReadPiece> Walk::read(MutableByteSpan buffer) {
  const auto piece = file_.read(buffer);
  if (piece) return *piece;
  file_ = FileReader();
  HF_TRY(give_up("read", piece.error()));
  return ReadPiece{};
}

Result<bool> Walk::finish(Entry& entry) {
  read_attributes(file_.fd(), OpenedAs::readable, entry);
  struct stat st{};
  const FileReader file = std::move(file_);
  file_ = FileReader();
  if (::fstat(file.fd(), &st) != 0) {
    HF_TRY(give_up("stat", errno));
  }
  fill_from(entry, st);
  entry.size = file.position();
  return file.changed(st);
}

}  // namespace holdfast
