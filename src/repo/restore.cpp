// SPDX-License-Identifier: Apache-2.0
// Three walks of the tree, all in key order: directories and files; symlinks and other things, when
// no file can be written through them any more; metadata of directories, when nothing in them
// changes any more. Nothing is remembered between them, so memory does not grow with the tree.
#include "repo/restore.h"

#include "repo/restore_files.h"

namespace holdfast {
namespace {

constexpr std::uint32_t kLockingFlags = 0x30;  // FS_IMMUTABLE_FL | FS_APPEND_FL
constexpr std::uint64_t kProgressEvery = 256;  // entries

bool is_below(std::string_view directory, std::string_view top) {
  if (top.empty() || directory == top) return true;
  return directory.size() > top.size() && directory.starts_with(top) &&
         directory[top.size()] == '/';
}

class Restorer {
 public:
  Restorer(ChunkSource& chunks, NodeSource& nodes, const TreeRoot& root, Target& target,
           const RestoreOptions& options, const Stop& stop)
      : nodes_(nodes),
        root_(root),
        target_(target),
        options_(options),
        stop_(stop),
        top_(options.subtree),
        files_(chunks, nodes, target, log_, options, stop) {}

  Result<RestoreReport> run() {
    HF_TRY(find_top());
    const Result<> all = run_passes();
    files_.drain();
    // Rights that we gave ourselves end with us.
    if (!all || log_.aborted()) {
      [[maybe_unused]] const auto given_back = target_.finish_modes();
    }
    HF_TRY(log_.status());
    HF_TRY(all);
    RestoreReport report = log_.take();
    if (!options_.dry_run)
      for (LeftOut& left : target_.left_out()) report.left_out.push_back(std::move(left));
    return report;
  }

 private:
  using Visit = Result<> (Restorer::*)(const Entry& entry);

  Result<> find_top() {
    if (top_.empty()) return {};
    auto found = find_entry(nodes_, root_, top_);
    if (!found) return wrap(std::move(found).error(), escaped(top_));
    top_entry_ = std::move(*found);
    return {};
  }

  Result<> run_passes() {
    HF_TRY(pass(&Restorer::first));
    files_.drain();
    HF_TRY(log_.status());
    if (options_.dry_run) return {};
    first_pass_ = false;
    if (later_) HF_TRY(pass(&Restorer::second));
    HF_TRY(verify());
    HF_TRY(finish_directories());
    if (locking_) HF_TRY(pass(&Restorer::lock, true));
    return {};
  }

  Result<> verify() {
    if (!options_.verify) return {};
    HF_TRY(target_.sync());  // what is read back then comes from the disk
    HF_TRY(pass(&Restorer::read_back));
    files_.drain();
    return log_.status();
  }

  Result<> finish_directories() {
    HF_TRY(pass(&Restorer::finish, true));
    if (top_entry_ && top_entry_->type == EntryType::directory)
      note(*top_entry_, top_, target_.finish_directory("", *top_entry_));
    if (const Result<> result = target_.finish_modes(); !result) {
      Entry none;
      none.type = EntryType::directory;
      note(none, "", result);
    }
    return {};
  }

  // Calls visit for every entry that is to be restored; with `on_the_way`, also for directories
  // that were only made for what is below them.
  Result<> pass(Visit visit, bool on_the_way = false) {
    files_seen_ = 0;
    last_path_.clear();
    last_.reset();
    failed_directory_.reset();
    if (top_entry_ && top_entry_->type != EntryType::directory) return visit_top(visit);
    TreeCursor cursor(nodes_, root_);
    if (!top_.empty())
      if (const Result<> found = cursor.seek(top_, ""); !found) HF_TRY(tree_error(found.error()));
    for (std::uint64_t count = 0;; ++count) {
      HF_TRY(stop_.check());
      HF_TRY(log_.status());
      if (options_.progress && count % kProgressEvery == 0) options_.progress(log_.progress());
      const Result<const Entry*> next = cursor.next();
      if (!next) {
        HF_TRY(tree_error(next.error()));
        continue;
      }
      const Entry* entry = *next;
      if (entry == nullptr || !is_below(entry->directory, top_)) return {};
      if (wanted(*entry) || (on_the_way && made_on_the_way(*entry))) HF_TRY((this->*visit)(*entry));
    }
  }

  bool wanted(const Entry& entry) const { return !options_.wanted || options_.wanted(entry); }
  bool made_on_the_way(const Entry& entry) {
    return entry.type == EntryType::directory && target_.made_directory(placed_path(entry));
  }

  Result<> visit_top(Visit visit) { return (this->*visit)(*top_entry_); }

  // Damage is named once; what is behind it goes on.
  Result<> tree_error(const Error& error) {
    if (error.code != Code::corrupt && error.code != Code::not_found) return std::unexpected(error);
    tree_damaged_ = true;
    if (first_pass_) log_.tree_damage(error);
    return {};
  }

  std::string_view relative(std::string_view directory) const {
    if (top_.empty()) return directory;
    if (top_entry_->type != EntryType::directory || directory == top_) return {};
    return directory.substr(top_.size() + 1);
  }

  // A copy whose directory is that in the target; without the content where nobody reads it.
  Entry placed(const Entry& entry, bool with_content) const {
    Entry copy;
    copy.directory = relative(entry.directory);
    copy.name = entry.name;
    copy.type = entry.type;
    copy.mode = entry.mode;
    copy.uid = entry.uid;
    copy.gid = entry.gid;
    copy.mtime = entry.mtime;
    copy.size = entry.size;
    copy.device = entry.device;
    copy.inode = entry.inode;
    copy.links = entry.links;
    copy.rdev = entry.rdev;
    copy.link_target = entry.link_target;
    copy.xattrs = entry.xattrs;
    copy.flags = entry.flags;
    if (with_content) copy.content = entry.content;
    return copy;
  }

  void note(const Entry& entry, const std::string& path, const Result<>& result) {
    if (!result) log_.incomplete(entry, path, result.error());
  }

  // The open directory of an entry; the last one is kept, and so is the answer that there is none.
  Result<DirectoryRef> parent(const Entry& entry) {
    const std::string_view path = relative(entry.directory);
    if (last_ && last_path_ == path) return last_;
    if (failed_directory_ && last_path_ == path) return std::unexpected(*failed_directory_);
    last_path_ = path;
    last_.reset();
    failed_directory_.reset();
    auto opened = target_.directory(path);
    if (!opened && opened.error().code == Code::not_found && first_pass_)
      opened = make_parents(path);
    if (!opened) {
      failed_directory_ = opened.error();
      return std::unexpected(std::move(opened).error());
    }
    last_ = *opened;
    return last_;
  }

  // For a directory that was not made for an entry of its own: not wanted, or its entry is lost in
  // a damaged node. Anything else than a directory above an entry is hostile (RST-02).
  Result<DirectoryRef> make_parents(std::string_view path) {
    for (std::size_t end = path.find('/');; end = path.find('/', end + 1)) {
      const std::string_view part = path.substr(0, end);
      const auto known = target_.directory(part);
      if (!known && known.error().code != Code::not_found) return known;
      if (!known) {
        HF_TRY(check_is_directory(part));
        HF_TRY(target_.make_directory(part));
      }
      if (end == std::string_view::npos) return target_.directory(path);
    }
  }

  Result<> check_is_directory(std::string_view path) {
    const std::string full = top_.empty() ? std::string(path) : top_ + "/" + std::string(path);
    const auto entry = find_entry(nodes_, root_, full);
    if (entry && entry->type == EntryType::directory) return {};
    if (!entry && (entry.error().code == Code::corrupt || tree_damaged_)) return {};
    return fail(Code::invalid, escaped(full) + " is not a directory in this snapshot");
  }

  Result<> first(const Entry& entry) {
    const std::uint64_t number = number_of(entry);
    if ((entry.flags & kLockingFlags) != 0) locking_ = true;
    if (entry.type == EntryType::directory) return first_directory(entry);
    if (entry.type != EntryType::file) {
      later_ = true;
      if (options_.dry_run) count_other(entry);
      return {};
    }
    if (options_.dry_run) {
      log_.count([&](RestoreReport& r) { ++r.files, r.bytes += entry.size; });
      return {};
    }
    auto directory = parent(entry);
    if (!directory) {
      log_.incomplete(entry, entry.path(), directory.error());
      return {};
    }
    FileJob job{.entry = placed(entry, true),
                .path = entry.path(),
                .directory = *directory,
                .number = number};
    LinkGroups::Place place = place_link(links_, job.entry);
    job.group = std::move(place.group);
    job.settles = place.first;
    files_.restore(std::move(job));
    return {};
  }

  // The same in every pass.
  std::uint64_t number_of(const Entry& entry) {
    return entry.type == EntryType::file ? files_seen_++ : 0;
  }

  LinkGroups::Place place_link(LinkGroups& groups, const Entry& entry) {
    LinkGroups::Place place = groups.place(entry);
    if (place.left_out)
      log_.hard_link_left_out(entry.path(),
                              Error{Code::invalid, "too many groups, or its content differs"});
    return place;
  }

  Result<> first_directory(const Entry& entry) {
    const auto make = [&]() -> Result<> {
      if (options_.dry_run) return {};
      if (const auto above = parent(entry); !above) return std::unexpected(above.error());
      const auto placed = target_.make_directory(placed_path(entry));
      if (!placed) return std::unexpected(placed.error());
      return {};
    };
    const Result<> made = make();
    if (made) log_.count([](RestoreReport& r) { ++r.directories; });
    note(entry, entry.path(), made);
    return {};
  }

  std::string placed_path(const Entry& entry) const {
    const std::string_view directory = relative(entry.directory);
    return directory.empty() ? entry.name : std::string(directory) + "/" + entry.name;
  }

  void count_other(const Entry& entry) {
    log_.count(
        [&](RestoreReport& r) { ++(entry.type == EntryType::symlink ? r.symlinks : r.others); });
  }

  Result<> second(const Entry& entry) {
    if (entry.type == EntryType::directory || entry.type == EntryType::file) return {};
    const auto directory = second_parent(entry);
    if (!directory) {
      log_.incomplete(entry, entry.path(), directory.error());
      return {};
    }
    const Entry copy = placed(entry, false);
    LinkGroups::Place place = place_link(other_links_, copy);
    if (place.group && !place.first)
      if (const auto source = place.group->wait()) {
        if (link_other(copy, *directory, *source)) return {};
        place.group.reset();
      }
    make_other(entry, copy, *directory, place.group.get());
    return {};
  }

  // False, and said: it could not be linked.
  bool link_other(const Entry& copy, const DirectoryRef& directory,
                  const LinkGroup::Source& source) {
    const auto linked =
        target_.link({source.directory, source.name, source.identity}, directory, copy);
    if (!linked) {
      log_.hard_link_left_out(copy.path(), linked.error());
      return false;
    }
    log_.count([&](RestoreReport& r) { ++(*linked == Placed::made ? r.links : r.kept); });
    return true;
  }

  // `group`: waits for it.
  void make_other(const Entry& entry, const Entry& copy, const DirectoryRef& directory,
                  LinkGroup* group) {
    const auto made = entry.type == EntryType::symlink ? target_.make_symlink(directory, copy)
                                                       : target_.make_special(directory, copy);
    std::optional<LinkGroup::Source> source;
    if (made && made->identity) source = {copy.directory, copy.name, *made->identity};
    if (group != nullptr) group->settle(std::move(source));
    if (!made) {
      log_.incomplete(entry, entry.path(), made.error());
    } else if (made->placed == Placed::made) {
      count_other(entry);
    } else {
      log_.count([](RestoreReport& r) { ++r.kept; });
    }
  }

  // A directory that is not wanted itself may have nothing but symlinks in it.
  Result<DirectoryRef> second_parent(const Entry& entry) {
    first_pass_ = true;
    auto directory = parent(entry);
    first_pass_ = false;
    return directory;
  }

  Result<> read_back(const Entry& entry) {
    if (entry.type != EntryType::file) return {};
    const std::uint64_t number = number_of(entry);
    const auto directory = parent(entry);
    if (!directory) return {};  // named in the first pass
    files_.verify({.entry = placed(entry, true),
                   .path = entry.path(),
                   .directory = *directory,
                   .number = number});
    return {};
  }

  Result<> finish(const Entry& entry) {
    if (entry.type != EntryType::directory) return {};
    if ((entry.flags & kLockingFlags) != 0) locking_ = true;
    const Result<> result = target_.finish_directory(placed_path(entry), placed(entry, false));
    // Not made: named in the first pass.
    if (!result && result.error().code != Code::not_found) note(entry, entry.path(), result);
    return {};
  }

  Result<> lock(const Entry& entry) {
    const bool can = entry.type == EntryType::directory || entry.type == EntryType::file;
    if (!can || (entry.flags & kLockingFlags) == 0) return {};
    const auto directory = parent(entry);
    if (directory)
      note(entry, entry.path(), target_.finish_flags(*directory, placed(entry, false)));
    return {};
  }

  NodeSource& nodes_;
  const TreeRoot root_;
  Target& target_;
  const RestoreOptions& options_;
  const Stop& stop_;
  const std::string top_;
  std::optional<Entry> top_entry_;  // of top_, unless that is everything
  RestoreLog log_;
  LinkGroups links_, other_links_;
  std::uint64_t files_seen_ = 0;  // in this pass
  bool first_pass_ = true;
  bool tree_damaged_ = false;
  bool later_ = false;    // something is left for the second pass
  bool locking_ = false;  // something is immutable or append-only
  std::string last_path_;
  DirectoryRef last_;
  std::optional<Error> failed_directory_;
  FileWriter files_;  // last: its threads use the others
};

}  // namespace

Result<RestoreReport> restore(ChunkSource& chunks, NodeSource& nodes, const TreeRoot& root,
                              Target& target, const RestoreOptions& options, const Stop& stop) {
  if (!options.subtree.empty()) HF_TRY(check_entry_directory(options.subtree));
  Restorer restorer(chunks, nodes, root, target, options, stop);
  return restorer.run();
}

}  // namespace holdfast
