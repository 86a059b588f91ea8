// SPDX-License-Identifier: Apache-2.0
// snapshots, ls, find, diff, stats.
#include <fmt/format.h>
#include <fnmatch.h>

#include <algorithm>
#include <filesystem>
#include <map>
#include <nlohmann/json.hpp>
#include <set>

#include "commands.h"
#include "usage.h"

namespace holdfast {

namespace {

using nlohmann::json;

// As a backup stored it.
Result<std::string> stored_path(const std::string& path) {
  if (path.empty()) return path;
  return named_path(path);
}

json snapshot_object(const Snapshot& s) {
  return {{"message_type", "snapshot"},
          {"snapshot", s.id.hex()},
          {"device", s.device.hex()},
          {"number", s.number},
          {"started", utc_time(s.started)},
          {"ended", utc_time(s.ended)},
          {"host", escaped(s.host)},
          {"user", escaped(s.user)},
          {"paths", escaped_all(s.paths)},
          {"tags", escaped_all(s.tags)},
          {"files",
           s.statistics.files_new + s.statistics.files_changed + s.statistics.files_unmodified},
          {"unreadable", s.statistics.unreadable},
          {"bytes_total", s.statistics.bytes_total},
          {"bytes_added", s.statistics.bytes_added},
          {"program", escaped(s.program)}};
}

char type_letter(EntryType type) {
  switch (type) {
    case EntryType::directory:
      return 'd';
    case EntryType::file:
      return '-';
    case EntryType::symlink:
      return 'l';
    case EntryType::fifo:
      return 'p';
    case EntryType::char_device:
      return 'c';
    case EntryType::block_device:
      return 'b';
  }
  return '?';
}

std::string mode_text(const Entry& e) {
  std::string text(1, type_letter(e.type));
  constexpr std::string_view letters = "rwxrwxrwx";
  for (std::size_t i = 0; i < 9; ++i) text += (e.mode >> (8 - i) & 1) != 0 ? letters[i] : '-';
  const auto special = [&](std::size_t at, unsigned bit, char with, char without) {
    if ((e.mode & bit) != 0) text[at] = text[at] == 'x' ? with : without;
  };
  special(3, 04000, 's', 'S');
  special(6, 02000, 's', 'S');
  special(9, 01000, 't', 'T');
  return text;
}

std::string owner_text(const std::map<std::uint32_t, std::string>& names, std::uint32_t id) {
  const auto found = names.find(id);
  return found == names.end() || found->second.empty() ? std::to_string(id)
                                                       : escaped(found->second);
}

// One entry as ls and find show it.
class EntryPrinter {
 public:
  EntryPrinter(Output& out, const Snapshot& snapshot, bool long_format)
      : out_(out), snapshot_(snapshot), long_(long_format) {}

  void print(const Entry& e, std::string_view type) {
    const std::string path = "/" + e.path();
    if (out_.json()) {
      out_.object(object(e, path, type));
      return;
    }
    std::string text = escaped(path);
    if (long_) {
      if (e.type == EntryType::symlink) text += " -> " + escaped(e.link_target);
      if (e.torn) text += " (changed while it was read)";
      text = fmt::format("{} {:>8} {:>8} {:>12} {} {}", mode_text(e),
                         owner_text(snapshot_.users, e.uid), owner_text(snapshot_.groups, e.gid),
                         e.size, local_time(e.mtime), text);
    }
    out_.line(text);
  }

 private:
  [[nodiscard]] json object(const Entry& e, const std::string& path, std::string_view type) const {
    json o = {{"message_type", type},
              {"snapshot", snapshot_.id.hex()},
              {"type", std::string(1, type_letter(e.type))},
              {"mode", e.mode},
              {"uid", e.uid},
              {"gid", e.gid},
              {"size", e.size},
              {"mtime", utc_time(e.mtime)}};
    if (e.type == EntryType::symlink) o["target"] = escaped(e.link_target);
    if (e.torn) o["torn"] = true;
    return with_path(std::move(o), path);
  }
  Output& out_;
  const Snapshot& snapshot_;
  const bool long_;
};

bool below(std::string_view directory, std::string_view path) {
  return path.empty() || directory == path ||
         (directory.starts_with(path) && directory[path.size()] == '/');
}

// Every entry from a cursor on, until `visit` gives false; damage is warned of and counted.
Result<std::uint64_t> each_entry(const Context& context, TreeCursor& cursor,
                                 const std::function<bool(const Entry&)>& visit) {
  std::uint64_t damaged = 0;
  for (;;) {
    HF_TRY(context.stop.check());
    HF_TRY(context.out.state());
    const auto entry = cursor.next();
    if (!entry && entry.error().code != Code::corrupt) return std::unexpected(entry.error());
    if (!entry) {
      context.out.damage(entry.error().what);
      ++damaged;
      continue;
    }
    if (*entry == nullptr || !visit(**entry)) return damaged;
  }
}

}  // namespace

std::vector<std::string> split_commas(const std::string& text) {
  std::vector<std::string> out;
  for (std::size_t from = 0; from <= text.size();) {
    const std::size_t to = std::min(text.find(',', from), text.size());
    if (to > from) out.push_back(text.substr(from, to - from));
    from = to + 1;
  }
  return out;
}

std::vector<std::string> split_tags(const std::vector<std::string>& given) {
  std::vector<std::string> tags;
  for (const std::string& text : given) {
    if (text.empty()) tags.push_back(text);  // and is refused where that matters
    for (std::string& tag : split_commas(text)) tags.push_back(std::move(tag));
  }
  return tags;
}

bool selected(const Snapshot& s, const SnapshotFilter& filter) {
  return (filter.host.empty() || s.host == filter.host) &&
         (filter.path.empty() || std::ranges::find(s.paths, filter.path) != s.paths.end()) &&
         std::ranges::all_of(split_tags(filter.tags), [&](const std::string& t) {
           return std::ranges::find(s.tags, t) != s.tags.end();
         });
}

std::function<std::string(const Snapshot&)> host_labels(const HeadList& heads) {
  std::map<std::string, std::set<DeviceId>> devices;
  for (const Snapshot& s : heads.snapshots) devices[s.host].insert(s.device);
  return [devices = std::move(devices)](const Snapshot& s) {
    constexpr std::size_t digits = 4;
    const auto of = devices.find(s.host);
    return of == devices.end() || of->second.size() < 2
               ? escaped(s.host)
               : fmt::format("{} ({})", escaped(s.host), s.device.hex().substr(0, digits));
  };
}

Result<SnapshotFilter> stored_filter(SnapshotFilter filter) {
  HF_ASSIGN(filter.path, stored_path(filter.path));
  return filter;
}

namespace {

// Forgotten ones, by whoever has the keys of a device; they can be restored as long as the lock
// holds them.
void show_held(Output& out, const HeadList& heads, const SnapshotFilter& filter) {
  if (heads.held.empty()) return;
  const auto label = host_labels(heads);
  out.line("Forgotten, and kept by the retention lock until:");
  for (const Snapshot& s : heads.dropped) {
    const auto held = heads.held.find({s.device, s.number});
    if (held == heads.held.end() || !selected(s, filter)) continue;
    json object = snapshot_object(s);
    object["held_until"] = utc_time(held->second);
    out.object(object);
    out.line(fmt::format("{:<14}{:<28}{:<16}{:<28}  {}", s.id.brief(), local_time(s.ended),
                         label(s), local_time(held->second), joined(s.paths)));
  }
}

}  // namespace

Result<int> run_snapshots(const Context& context, const SnapshotFilter& given) {
  HF_ASSIGN(const SnapshotFilter filter, stored_filter(given));
  HF_ASSIGN(const auto opened, OpenRepository::open(context));
  HF_ASSIGN(const HeadList heads, opened->heads(context, false));
  Output& out = context.out;
  std::uint64_t shown = 0;
  const auto label = host_labels(heads);
  if (!out.json())
    out.line(fmt::format("{:<14}{:<28}{:<16}{:<14}{:>12}  {}", "ID", "Time", "Host", "Tags", "Size",
                         "Paths"));
  for (const Snapshot& s : heads.snapshots) {
    if (!selected(s, filter)) continue;
    ++shown;
    out.object(snapshot_object(s));
    out.line(fmt::format("{:<14}{:<28}{:<16}{:<14}{:>12}  {}", s.id.brief(), local_time(s.ended),
                         label(s), joined(s.tags), human_bytes(s.statistics.bytes_total),
                         joined(s.paths)));
  }
  out.line(fmt::format("{} snapshots", shown));
  show_held(out, heads, filter);
  out.object({{"message_type", "summary"},
              {"command", "snapshots"},
              {"snapshots", shown},
              {"held", heads.held.size()},
              {"damaged", heads.damaged.size()}});
  return heads.damaged.empty() && opened->client().damaged().empty() ? 0 : 4;
}

Result<int> run_ls(const Context& context, const LsCommand& command) {
  HF_ASSIGN(const auto opened, OpenRepository::open(context));
  HF_ASSIGN(const HeadList heads, opened->heads(context, true));
  HF_ASSIGN(const SnapshotRef ref, find_snapshot(heads, command.snapshot, command.latest));
  NodeSource& nodes = opened->repository().nodes();
  EntryPrinter printer(context.out, *ref.snapshot, command.long_format);
  std::uint64_t shown = 0, damaged = 0;
  bool directory = true;
  if (!ref.path.empty()) {
    HF_ASSIGN(const Entry entry, entry_at(nodes, ref));
    directory = entry.type == EntryType::directory;
    if (!directory) {
      printer.print(entry, "entry");
      ++shown;
    }
  }
  if (directory) {
    // Without a path everything is shown, as there is no one folder that the user asked for.
    const bool all = command.recursive || !ref.has_path;
    TreeCursor cursor(nodes, ref.snapshot->tree);
    HF_TRY(cursor.seek(ref.path, ""));
    HF_ASSIGN(damaged, each_entry(context, cursor, [&](const Entry& e) {
                if (all ? !below(e.directory, ref.path) : e.directory != ref.path) return false;
                printer.print(e, "entry");
                ++shown;
                return true;
              }));
  }
  context.out.object({{"message_type", "summary"},
                      {"command", "ls"},
                      {"snapshot", ref.snapshot->id.hex()},
                      {"entries", shown},
                      {"damaged", damaged}});
  return damaged == 0 ? 0 : 4;
}

namespace {

struct KeyLess {
  bool operator()(const Entry& a, const Entry& b) const {
    return compare_keys(a.directory, a.name, b.directory, b.name) < 0;
  }
};

// What is printed of an entry.
Entry printed(const Entry& e) {
  Entry out;
  out.directory = e.directory;
  out.name = e.name;
  out.type = e.type;
  out.mode = e.mode;
  out.uid = e.uid;
  out.gid = e.gid;
  out.mtime = e.mtime;
  out.size = e.size;
  out.link_target = e.link_target;
  out.torn = e.torn;
  return out;
}

// Matches in snapshot after snapshot, in the order of keys. While they are few they are kept: of a
// tree that comes after another one only what differs is read. Many are given as they come, and
// each tree is looked through.
class Finder {
 public:
  using Show = std::function<void(const Entry&)>;
  Finder(const Context& context, NodeSource& nodes, const FindCommand& command)
      : context_(context),
        nodes_(nodes),
        pattern_(command.pattern),
        by_path_(pattern_.find('/') != std::string::npos),
        flags_(command.ignore_case ? FNM_CASEFOLD : 0) {}

  Result<> in(const TreeRoot& tree, const Show& show) {
    // A tree with damage is looked through by itself: a comparison would stop there.
    if (!before_ || (*before_ != tree && !follow(tree))) return scan(tree, show);
    for (const Entry& e : kept_) show(e);
    return {};
  }
  [[nodiscard]] std::uint64_t damaged() const { return damaged_; }

 private:
  static constexpr std::size_t kKeptMax = 10'000;
  using Matches = std::set<Entry, KeyLess>;

  [[nodiscard]] bool matches(const Entry& e) const {
    const std::string text = by_path_ ? "/" + e.path() : e.name;
    return ::fnmatch(pattern_.c_str(), text.c_str(), flags_) == 0;
  }

  bool follow(const TreeRoot& tree) {
    Matches next = kept_;
    const auto visit = [&](const Entry* before, const Entry* after) -> Result<> {
      HF_TRY(context_.stop.check());
      if (before != nullptr) next.erase(*before);
      if (after != nullptr && matches(*after)) next.insert(printed(*after));
      return next.size() <= kKeptMax ? Result<>() : fail(Code::full, "too many to keep");
    };
    if (!diff_trees(nodes_, *before_, tree, visit)) return false;
    kept_ = std::move(next);
    before_ = tree;
    return true;
  }

  Result<> scan(const TreeRoot& tree, const Show& show) {
    kept_.clear();
    before_.reset();
    bool few = true;
    TreeCursor cursor(nodes_, tree);
    HF_ASSIGN(const std::uint64_t damaged, each_entry(context_, cursor, [&](const Entry& e) {
                if (!matches(e)) return true;
                show(e);
                few = few && kept_.size() < kKeptMax;
                if (few)
                  kept_.insert(kept_.end(), printed(e));
                else
                  kept_.clear();
                return true;
              }));
    damaged_ += damaged;
    if (damaged == 0 && few) before_ = tree;
    return {};
  }

  const Context& context_;
  NodeSource& nodes_;
  const std::string& pattern_;
  const bool by_path_;
  const int flags_;
  std::optional<TreeRoot> before_;  // what kept_ is of
  Matches kept_;
  std::uint64_t damaged_ = 0;
};

}  // namespace

Result<int> run_find(const Context& context, const FindCommand& command) {
  HF_ASSIGN(const auto opened, OpenRepository::open(context));
  HF_ASSIGN(const HeadList heads, opened->heads(context, true));
  std::vector<const Snapshot*> snapshots;
  if (command.snapshot.empty()) {
    for (const Snapshot& s : heads.snapshots) snapshots.push_back(&s);
  } else {
    HF_ASSIGN(const SnapshotRef ref, find_snapshot(heads, command.snapshot));
    snapshots.push_back(ref.snapshot);
  }
  Finder finder(context, opened->repository().nodes(), command);
  std::uint64_t shown = 0;
  for (const Snapshot* s : snapshots) {
    EntryPrinter printer(context.out, *s, command.long_format);
    bool first = true;
    HF_TRY(finder.in(s->tree, [&](const Entry& e) {
      if (std::exchange(first, false))
        context.out.line(fmt::format("Snapshot {} of {}:", s->id.brief(), local_time(s->ended)));
      printer.print(e, "match");
      ++shown;
    }));
  }
  context.out.object({{"message_type", "summary"},
                      {"command", "find"},
                      {"matches", shown},
                      {"damaged", finder.damaged()}});
  return finder.damaged() == 0 ? 0 : 4;
}

namespace {

struct Differences {
  std::uint64_t added = 0, removed = 0, changed = 0, metadata = 0;

  char take(const Entry* before, const Entry* after) {
    if (before == nullptr) return ++added, '+';
    if (after == nullptr) return ++removed, '-';
    if (before->type != after->type) return ++changed, 'T';
    if (before->content != after->content || before->size != after->size ||
        before->link_target != after->link_target || before->rdev != after->rdev)
      return ++changed, 'M';
    return ++metadata, 'm';
  }
};

// Inode numbers and change times of the file system are no difference that anybody asked for.
bool looks_same(const Entry& before, const Entry& after) {
  Entry copy = after;
  copy.ctime = before.ctime;
  copy.device = before.device;
  copy.inode = before.inode;
  return copy == before;
}

}  // namespace

Result<int> run_diff(const Context& context, const DiffCommand& command) {
  HF_ASSIGN(const auto opened, OpenRepository::open(context));
  HF_ASSIGN(const HeadList heads, opened->heads(context, true));
  HF_ASSIGN(const SnapshotRef before, find_snapshot(heads, command.before));
  HF_ASSIGN(const SnapshotRef after, find_snapshot(heads, command.after));
  if (before.has_path || after.has_path)
    return usage("diff compares whole snapshots: name them without a path");
  Differences differences;
  Output& out = context.out;
  const auto visit = [&](const Entry* a, const Entry* b) -> Result<> {
    HF_TRY(context.stop.check());
    if (a != nullptr && b != nullptr && looks_same(*a, *b)) return {};
    const char mark = differences.take(a, b);
    const std::string path = "/" + (b != nullptr ? b : a)->path();
    out.line(fmt::format("{}  {}", mark, escaped(path)));
    if (out.json())
      out.object(
          with_path({{"message_type", "difference"}, {"change", std::string(1, mark)}}, path));
    return out.state();
  };
  HF_TRY(
      diff_trees(opened->repository().nodes(), before.snapshot->tree, after.snapshot->tree, visit));
  out.message(fmt::format(
      "{} added (+), {} removed (-), {} changed (M: contents, T: type), {} only in metadata (m)",
      differences.added, differences.removed, differences.changed, differences.metadata));
  out.object({{"message_type", "summary"},
              {"command", "diff"},
              {"before", before.snapshot->id.hex()},
              {"after", after.snapshot->id.hex()},
              {"added", differences.added},
              {"removed", differences.removed},
              {"changed", differences.changed},
              {"metadata", differences.metadata}});
  return 0;
}

Result<int> run_stats(const Context& context) {
  HF_ASSIGN(const auto opened, OpenRepository::open(context));
  HF_ASSIGN(const HeadList heads, opened->heads(context, true));
  Index& index = opened->repository().index();
  std::uint64_t data = 0, tree = 0, packs = 0, plain = 0;
  for (const IndexedPack& pack : index.packs()) {
    (pack.type == ObjectType::data_pack ? data : tree) += pack.size;
    ++packs;
  }
  for (const Snapshot& s : heads.snapshots) plain += s.statistics.bytes_total;
  const std::uint64_t stored = data + tree;
  Output& out = context.out;
  out.line(fmt::format("Snapshots        {}", heads.snapshots.size()));
  out.line(fmt::format("Size of files    {} in all snapshots together", human_bytes(plain)));
  out.line(
      fmt::format("Stored           {} in {} packs: {} of file contents, {} of names and metadata",
                  human_bytes(stored), packs, human_bytes(data), human_bytes(tree)));
  out.line(fmt::format("Chunks           {}", index.chunk_count()));
  if (stored > 0)
    out.line(fmt::format("Reduction        {:.1f} to 1",
                         static_cast<double>(plain) / static_cast<double>(stored)));
  out.object({{"message_type", "summary"},
              {"command", "stats"},
              {"snapshots", heads.snapshots.size()},
              {"bytes_files", plain},
              {"bytes_stored", stored},
              {"bytes_data", data},
              {"bytes_tree", tree},
              {"packs", packs},
              {"chunks", index.chunk_count()}});
  return 0;
}

}  // namespace holdfast
