// SPDX-License-Identifier: Apache-2.0
#include <fmt/format.h>
#include <pwd.h>
#include <sys/resource.h>
#include <sys/stat.h>
#include <unistd.h>

#include <algorithm>
#include <atomic>
#include <cerrno>
#include <charconv>
#include <chrono>
#include <filesystem>
#include <fstream>
#include <nlohmann/json.hpp>
#include <span>
#include <thread>

#include "fs/beneath.h"
#include "fs/owners.h"
#include "fs/stdin_source.h"
#include "fs/walk.h"
#include "opened_store.h"
#include "progress.h"
#include "repo/backup.h"
#include "usage.h"

namespace holdfast {

namespace {

using nlohmann::json;
constexpr std::uint64_t kListFileMax = 256U << 20;

Result<std::string> read_file(const std::string& path, std::string_view what) {
  std::ifstream file(path == "-" ? "/dev/stdin" : path, std::ios::binary);
  if (!file)
    return fail(Code::not_found, fmt::format("{} {}: {}", what, escaped(path), errno_text(errno)));
  std::string text;
  std::vector<char> piece(1U << 16);
  while (file.read(piece.data(), static_cast<std::streamsize>(piece.size())) || file.gcount() > 0) {
    text.append(piece.data(), static_cast<std::size_t>(file.gcount()));
    if (text.size() > kListFileMax)
      return fail(Code::invalid,
                  fmt::format("{} {}: larger than {} bytes", what, escaped(path), kListFileMax));
  }
  if (file.bad())
    return fail(Code::invalid, fmt::format("{} {}: cannot be read", what, escaped(path)));
  return text;
}

Result<Compression> parse_compression(const std::string& text) {
  if (text == "fast") return Compression::fast;
  if (text == "balanced") return Compression::balanced;
  if (text == "max") return Compression::max;
  return usage(fmt::format("--compression '{}': expected fast, balanced or max", escaped(text)));
}

Result<PatternList> patterns(const BackupCommand& command) {
  std::vector<PatternLine> lines;
  lines.reserve(command.excludes.size() + command.iexcludes.size());
  for (const std::string& text : command.excludes) lines.push_back({text, false});
  for (const std::string& text : command.iexcludes) lines.push_back({text, true});
  for (const std::string& path : command.exclude_files) {
    HF_ASSIGN(const std::string text, read_file(path, "exclude file"));
    auto more = parse_pattern_file(text, false);
    if (!more) return wrap(std::move(more).error(), escaped(path));
    lines.insert(lines.end(), more->begin(), more->end());
  }
  return typed(PatternList::compile(lines));
}

Result<PatternList> plain_patterns(const std::vector<std::string>& texts) {
  std::vector<PatternLine> lines;
  lines.reserve(texts.size());
  for (const std::string& text : texts) lines.push_back({text, false});
  return typed(PatternList::compile(lines));
}

using Paths = std::vector<std::string>;

std::vector<std::string_view> split_at(std::string_view text, char separator) {
  std::vector<std::string_view> parts;
  while (!text.empty()) {
    const std::size_t end = std::min(text.find(separator), text.size());
    if (end > 0) parts.push_back(text.substr(0, end));
    text.remove_prefix(std::min(end + 1, text.size()));
  }
  return parts;
}

std::string_view trimmed(std::string_view line) {
  constexpr std::string_view blanks = " \t\r\v\f";
  const std::size_t first = line.find_first_not_of(blanks);
  if (first == std::string_view::npos) return {};
  return line.substr(first, line.find_last_not_of(blanks) - first + 1);
}

// The names in a directory that a pattern of one component matches.
Result<Paths> names_like(const std::string& directory, std::string_view pattern) {
  HF_ASSIGN(const PatternList list,
            PatternList::compile({{.text = "/" + std::string(pattern), .ignore_case = false}}));
  Paths names;
  std::error_code error;
  std::filesystem::directory_iterator at(directory.empty() ? "." : directory, error), end;
  for (; !error && at != end; at.increment(error))
    if (std::string name = at->path().filename().string(); list.matches("/" + name))
      names.push_back(std::move(name));
  return names;
}

// Not by glob(3): restic's "*" takes hidden names in every component, and its "?" a character.
// NOLINTNEXTLINE(misc-no-recursion): as deep as the pattern
Result<> expand(const std::string& base, std::span<const std::string_view> pattern, Paths& paths) {
  if (pattern.empty()) {
    struct stat st{};
    if (::lstat(base.c_str(), &st) == 0) paths.push_back(base);
    return {};
  }
  const std::string_view part = pattern.front();
  Paths names = {std::string(part)};
  if (part.find_first_of("*?[\\") != std::string_view::npos) {
    HF_ASSIGN(names, names_like(base, part));
  }
  const std::string prefix = base.empty() || base == "/" ? base : base + "/";
  for (const std::string& name : names) HF_TRY(expand(prefix + name, pattern.subspan(1), paths));
  return {};
}

// What matches nothing is taken as it stands: the walk tells that there is no such thing.
Result<> add_matches(std::string_view pattern, Paths& paths) {
  const std::size_t before = paths.size();
  HF_TRY(expand(pattern.starts_with('/') ? "/" : "", split_at(pattern, '/'), paths));
  if (paths.size() == before) paths.emplace_back(pattern);
  return {};
}

// As restic reads it: shell patterns, one a line; comments and empty lines are left out.
Result<> add_patterns_of(const std::string& path, Paths& paths) {
  HF_ASSIGN(const std::string text, read_file(path, "list of files"));
  std::string_view rest = text;
  if (rest.starts_with("\xEF\xBB\xBF")) rest.remove_prefix(3);
  if (rest.find('\0') != std::string_view::npos)
    return usage(fmt::format("list of files {}: it has a zero byte; is it one for --files-from0?",
                             escaped(path)));
  for (const std::string_view raw : split_at(rest, '\n'))
    if (const std::string_view line = trimmed(raw); !line.empty() && !line.starts_with('#'))
      if (auto added = add_matches(line, paths); !added)
        return usage(fmt::format("list of files {}: {}", escaped(path), added.error().what));
  return {};
}

Result<> add_paths_of(const std::string& path, Paths& paths) {
  HF_ASSIGN(const std::string text, read_file(path, "list of files"));
  for (const std::string_view one : split_at(text, '\0')) paths.emplace_back(one);
  return {};
}

Result<Paths> start_paths(const BackupCommand& command) {
  Paths paths = command.paths;
  for (const std::string& list : command.files_from) HF_TRY(add_patterns_of(list, paths));
  for (const std::string& list : command.files_from0) HF_TRY(add_paths_of(list, paths));
  if (paths.empty())
    return usage(
        "no path to back up: name at least one, or use --files-from, --files-from0 or --stdin");
  for (std::string& path : paths) {
    if (path.empty()) return usage("an empty path was named; name a file or folder");
    HF_ASSIGN(path, named_path(path));
  }
  std::ranges::sort(paths);
  paths.erase(std::unique(paths.begin(), paths.end()), paths.end());
  return paths;
}

// What a backup reads. Of a walk more is known than of other sources.
struct Reading {
  std::unique_ptr<Source> source;
  const Walk* walk = nullptr;
};

// `excluded` is patterns(command), which is made once: a file of patterns may be standard input.
Result<std::unique_ptr<Walk>> make_walk(const BackupCommand& command, const PatternList& excluded,
                                        const std::vector<std::string>& paths, bool all_new,
                                        const Stop& stop) {
  WalkOptions options;
  options.all_new = all_new;
  options.starts = paths;
  options.one_file_system = command.one_file_system;
  options.exclude_caches = command.exclude_caches;
  options.exclude_if_present = command.exclude_if_present;
  options.excludes = excluded;
  return typed(Walk::begin(std::move(options), stop));
}

Result<Reading> make_source(const BackupCommand& command, const PatternList& excluded,
                            const std::vector<std::string>& paths, bool all_new,
                            const Context& context) {
  if (command.from_stdin) {
    HF_ASSIGN(auto source,
              typed(open_stdin_source(command.stdin_name, context.clock, context.stop)));
    return Reading{std::move(source), nullptr};
  }
  HF_ASSIGN(auto walk, make_walk(command, excluded, paths, all_new, context.stop));
  const Walk* const seen = walk.get();
  return Reading{std::move(walk), seen};
}

// Looks over everything once, beside the backup, so that the progress line can tell what is left.
class TotalScan {
 public:
  TotalScan(const BackupCommand& command, const PatternList& excluded,
            const std::vector<std::string>& paths) {
    thread_ = std::thread([this, command, excluded, paths] { run(command, excluded, paths); });
  }
  ~TotalScan() {
    stop_.request();
    thread_.join();
  }
  TotalScan(const TotalScan&) = delete;
  TotalScan& operator=(const TotalScan&) = delete;
  // 0 until it is known.
  [[nodiscard]] std::uint64_t bytes() const { return bytes_; }

 private:
  void run(const BackupCommand& command, const PatternList& excluded,
           const std::vector<std::string>& paths) {
    auto walk = make_walk(command, excluded, paths, false, stop_);
    if (!walk) return;
    std::uint64_t bytes = 0;
    while (!stop_.requested()) {
      const auto entry = (*walk)->next();
      if (!entry) return;
      if (*entry == nullptr) break;
      bytes += (*entry)->size;
    }
    bytes_ = bytes;
  }
  Stop stop_;
  std::atomic<std::uint64_t> bytes_{0};
  std::thread thread_;
};

// The thread that walks and reads feeds all others: it must not wait for a core that they have.
void step_back() {
  constexpr int behind = 5;
  ::setpriority(PRIO_PROCESS, static_cast<id_t>(::gettid()),
                ::getpriority(PRIO_PROCESS, 0) + behind);
}

Result<BackupOptions> backup_options(const BackupCommand& command,
                                     const std::vector<std::string>& paths) {
  BackupOptions options;
  options.paths = paths;
  options.tags = split_tags(command.tags);
  options.excludes = command.excludes;
  options.host = command.host.empty() ? host_name() : command.host;
  options.user = user_name();
  options.program = fmt::format("holdfast {}", kVersion);
  HF_ASSIGN(options.compression, parse_compression(command.compression));
  options.dry_run = command.dry_run;
  options.on_worker = step_back;
  HF_ASSIGN(auto alone, plain_patterns(command.alone));
  HF_ASSIGN(auto uncompressed, plain_patterns(command.uncompressed));
  if (!alone.empty() || !uncompressed.empty())
    options.treatment = [a = std::move(alone), u = std::move(uncompressed)](std::string_view path) {
      return Treatment{.alone = a.matches(path), .compress = !u.matches(path)};
    };
  return options;
}

json summary_object(const BackupReport& result, const Reading& reading, std::int64_t elapsed_ns,
                    bool dry_run) {
  const SnapshotStatistics& s = result.statistics;
  json summary = {
      {"message_type", "summary"},
      {"command", "backup"},
      {"dry_run", dry_run},
      {"files_new", s.files_new},
      {"files_changed", s.files_changed},
      {"files_unmodified", s.files_unmodified},
      {"unreadable", s.unreadable},
      {"torn", result.torn_count},
      {"directories", s.directories},
      {"others", s.others},
      {"sockets_skipped", reading.walk == nullptr ? 0 : reading.walk->sockets_skipped()},
      {"bytes_total", s.bytes_total},
      {"bytes_read", s.bytes_read},
      {"bytes_added", s.bytes_added},
      {"chunks_new", s.chunks_new},
      {"seconds", static_cast<double>(elapsed_ns) / 1e9}};
  if (result.snapshot) summary["snapshot"] = result.snapshot->id.hex();
  if (result.parent) summary["parent"] = result.parent->hex();
  return summary;
}

void report_unreadable(Output& out, const Source& source) {
  for (const Unreadable& u : source.unreadable()) {
    out.warning(fmt::format("unreadable: /{}: {}", escaped(u.path), u.what));
    out.object(with_path({{"message_type", "unreadable"}, {"what", u.what}}, "/" + u.path));
  }
  if (source.unreadable_count() > source.unreadable().size())
    out.warning(fmt::format("and {} more that are not listed",
                            source.unreadable_count() - source.unreadable().size()));
}

void report_torn(Output& out, const BackupReport& result) {
  for (const std::string& path : result.torn) {
    out.warning(fmt::format("changed while it was read: {}", escaped(path)));
    out.object(with_path({{"message_type", "torn"}}, path));
  }
  if (result.torn_count > result.torn.size())
    out.warning(
        fmt::format("and {} more that are not listed", result.torn_count - result.torn.size()));
}

void report(const Context& context, const BackupReport& result, const Reading& reading,
            std::int64_t elapsed_ns, bool dry_run) {
  Output& out = context.out;
  const SnapshotStatistics& s = result.statistics;
  report_unreadable(out, *reading.source);
  report_torn(out, result);
  for (const std::string& warning : result.warnings) out.warning("warning: " + warning);
  if (reading.walk != nullptr && reading.walk->sockets_skipped() > 0)
    out.message(
        fmt::format("Skipped: {} sockets; they live only as long as the programs that made "
                    "them",
                    reading.walk->sockets_skipped()));
  out.message(fmt::format(
      "Files:   {} new, {} changed, {} unmodified, {} unreadable; {} directories, {} others",
      s.files_new, s.files_changed, s.files_unmodified, s.unreadable, s.directories, s.others));
  if (dry_run) {
    out.message(
        fmt::format("Dry run: {} in all; nothing was read or stored", human_bytes(s.bytes_total)));
  } else {
    out.message(fmt::format("Bytes:   {} in all, {} read, {} added to the repository, in {}",
                            human_bytes(s.bytes_total), human_bytes(s.bytes_read),
                            human_bytes(s.bytes_added), human_duration(elapsed_ns)));
    if (result.parent) out.message(fmt::format("Parent:  {}", result.parent->brief()));
    out.message(fmt::format("Snapshot {} stands.", result.snapshot->id.brief()));
  }
  out.object(summary_object(result, reading, elapsed_ns, dry_run));
}

Error with_wait_advice(Error error) {
  error.what += ", or use --wait DURATION";
  return error;
}

// Another one began between our look and our own beginning; nothing was read yet.
bool another_was_faster(const Error& error) {
  return error.code == Code::conflict && error.what.starts_with(kAnotherBackupRuns);
}

// Until no other process of this home writes.
Result<> wait_for_session(const Context& context, Repository& repository,
                          std::int64_t deadline_ns) {
  for (bool told = false;; told = true) {
    HF_TRY(context.stop.check());
    const auto lock = repository.parts().state.lock(kWriterLock);
    if (lock || lock.error().code != Code::conflict) return {};
    if (context.clock.steady_ns() >= deadline_ns)
      return std::unexpected(with_wait_advice(
          {Code::conflict, fmt::format("{}: {}", kAnotherBackupRuns, lock.error().what)}));
    if (!told) context.out.message("Waiting: " + lock.error().what);
    constexpr std::int64_t nap_ns = 100'000'000;
    context.clock.sleep_ns(nap_ns);
  }
}

struct Ran {
  BackupReport report;
  Reading reading;
  std::int64_t elapsed_ns = 0;
};

Result<Ran> run_once(const Context& context, const BackupCommand& command,
                     const PatternList& excluded, const std::vector<std::string>& paths,
                     const BackupOptions& options, OpenRepository& opened) {
  HF_ASSIGN(const HeadList heads, opened.heads(context, true));
  const Snapshot* parent = choose_parent(heads, opened.client().device().id, options);
  HF_ASSIGN(Reading reading,
            make_source(command, excluded, paths, parent == nullptr && !command.dry_run, context));
  SystemOwners owners;
  BackupProgress progress;
  const std::int64_t started = context.clock.steady_ns();
  std::optional<TotalScan> scan;
  if (parent == nullptr && reading.walk != nullptr && !command.dry_run &&
      progress_on_terminal(context))
    scan.emplace(command, excluded, paths);
  const ProgressLine line(context, [&] {
    const std::uint64_t expected = parent != nullptr ? parent->statistics.bytes_total
                                   : scan            ? scan->bytes()
                                                     : 0;
    return ProgressState{progress.files, progress.bytes, expected, progress.current()};
  });
  HF_ASSIGN(BackupReport report, backup(opened.repository(), heads, *reading.source, owners,
                                        options, progress, context.stop));
  return Ran{std::move(report), std::move(reading), context.clock.steady_ns() - started};
}

// Whether a backup of `path` comes to the folder `place`.
bool would_read(const std::string& path, const std::string& place, const BackupCommand& command,
                const PatternList& excluded) {
  if (!place.starts_with(path == "/" ? path : path + "/")) return false;
  for (std::size_t end = path.size(); end != std::string::npos; end = place.find('/', end + 1))
    if (excluded.excludes(place.substr(0, end))) return false;
  struct stat start{}, there{};
  return !excluded.excludes(place) &&
         !(command.one_file_system && ::stat(path.c_str(), &start) == 0 &&
           ::stat(place.c_str(), &there) == 0 && start.st_dev != there.st_dev);
}

constexpr int kBeginningsMax = 3;  // of one backup that collections do not wait for

bool reads_stdin(const BackupCommand& command) {
  const auto named = [](const std::vector<std::string>& files) {
    return std::ranges::find(files, "-") != files.end();
  };
  return command.from_stdin || named(command.files_from) || named(command.files_from0) ||
         named(command.exclude_files);
}

}  // namespace

Result<int> run_backup(const Context& context, const BackupCommand& command) {
  if (context.stdin_closed && reads_stdin(command))
    return fail(Code::invalid, "standard input is closed: there is nothing to read");
  std::vector<std::string> paths;
  if (command.from_stdin) {
    if (!command.paths.empty() || !command.files_from.empty() || !command.files_from0.empty())
      return usage("--stdin backs up standard input alone: name no paths with it");
    paths = {std::filesystem::path("/" + command.stdin_name).lexically_normal().string()};
  } else {
    HF_ASSIGN(paths, start_paths(command));
  }
  HF_ASSIGN(const BackupOptions options, backup_options(command, paths));
  HF_ASSIGN(const PatternList excluded, patterns(command));
  constexpr std::uint64_t wait_max_days = 31;
  HF_ASSIGN(const std::uint64_t wait_s,
            command.wait.empty() ? Result<std::uint64_t>(0)
                                 : duration_seconds("--wait", command.wait, wait_max_days));
  const auto wait_ns = static_cast<std::int64_t>(wait_s) * 1'000'000'000;
  HF_ASSIGN(const auto opened, OpenRepository::open(context));
  for (const std::string& path : paths)
    if (would_read(path, opened->place(), command, excluded))
      context.out.warning(
          fmt::format("warning: the repository lies in {} and is backed up with "
                      "it; --exclude {} leaves it out",
                      escaped(path), escaped(opened->place())));
  if (!command.dry_run) opened->store().remove_stale_uploads(context.clock.now());
  const std::int64_t deadline_ns = context.clock.steady_ns() + wait_ns;
  int given_up = 0;
  for (;;) {
    if (!command.dry_run) HF_TRY(wait_for_session(context, opened->repository(), deadline_ns));
    auto ran = run_once(context, command, excluded, paths, options, *opened);
    if (ran) {
      report(context, ran->report, ran->reading, ran->elapsed_ns, options.dry_run);
      return ran->report.statistics.unreadable > 0 ? 3 : 0;
    }
    if (another_was_faster(ran.error())) {
      if (context.clock.steady_ns() < deadline_ns) continue;
      return std::unexpected(with_wait_advice(std::move(ran).error()));
    }
    // What standard input gave is gone.
    if (ran.error().what.starts_with(kGivenUp) && !reads_stdin(command) &&
        ++given_up < kBeginningsMax) {
      context.out.message(ran.error().what);
      continue;
    }
    if (ran.error().code == Code::interrupted)
      context.out.message(
          "Interrupted. What was stored is kept, and the next backup goes on from it.");
    return std::unexpected(std::move(ran).error());
  }
}

}  // namespace holdfast
