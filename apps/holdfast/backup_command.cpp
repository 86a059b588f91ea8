// SPDX-License-Identifier: Apache-2.0
#include <fmt/format.h>
#include <pwd.h>
#include <sys/resource.h>
#include <unistd.h>

#include <algorithm>
#include <atomic>
#include <cerrno>
#include <charconv>
#include <chrono>
#include <filesystem>
#include <fstream>
#include <nlohmann/json.hpp>
#include <thread>

#include "commands.h"
#include "fs/beneath.h"
#include "fs/owners.h"
#include "fs/stdin_source.h"
#include "fs/walk.h"
#include "progress.h"
#include "repo/backup.h"
#include "usage.h"

namespace holdfast {

namespace {

using nlohmann::json;
constexpr std::uint64_t kListFileMax = 256U << 20;

std::string host_name() {
  char name[256] = {};
  return ::gethostname(name, sizeof name - 1) == 0 ? name : "";
}

std::string user_name() {
  const passwd* entry = ::getpwuid(::geteuid());
  return entry == nullptr ? std::to_string(::geteuid()) : entry->pw_name;
}

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
  return text;
}

// "90", "90s", "10m", "2h"; nanoseconds.
Result<std::int64_t> parse_duration(const std::string& text) {
  if (text.empty()) return 0;
  std::int64_t number = 0;
  const char* const begin = text.data();
  const char* const end = begin + text.size();
  const auto [at, error] = std::from_chars(begin, end, number);
  const std::string_view unit(at, static_cast<std::size_t>(end - at));
  const std::int64_t seconds = unit.empty() || unit == "s" ? 1
                               : unit == "m"               ? 60
                               : unit == "h"               ? 3600
                                                           : 0;
  constexpr std::int64_t days_max_in_seconds = 31LL * 24 * 3600;
  if (error != std::errc{} || seconds == 0 || number < 0 || number > days_max_in_seconds / seconds)
    return usage(fmt::format(
        "--wait '{}': expected a duration such as 30s, 10m or 2h, at most 31 days", escaped(text)));
  return number * seconds * 1000000000;
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

Result<std::vector<std::string>> start_paths(const BackupCommand& command) {
  std::vector<std::string> paths = command.paths;
  const auto add = [&](const std::vector<std::string>& files, char separator) -> Result<> {
    for (const std::string& path : files) {
      HF_ASSIGN(const std::string text, read_file(path, "list of files"));
      for (std::size_t at = 0; at < text.size();) {
        const std::size_t end = std::min(text.find(separator, at), text.size());
        if (end > at) paths.push_back(text.substr(at, end - at));
        at = end + 1;
      }
    }
    return {};
  };
  HF_TRY(add(command.files_from, '\n'));
  HF_TRY(add(command.files_from0, '\0'));
  if (paths.empty())
    return usage(
        "no path to back up: name at least one, or use --files-from, --files-from0 or --stdin");
  for (std::string& path : paths) {
    if (path.empty()) return usage("an empty path was named; name a file or folder");
    std::error_code error;
    const auto absolute = std::filesystem::absolute(path, error);
    if (error) return fail(Code::not_found, fmt::format("{}: {}", escaped(path), error.message()));
    path = absolute.lexically_normal().string();
    while (path.size() > 1 && path.ends_with('/')) path.pop_back();
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

Result<std::unique_ptr<Walk>> make_walk(const BackupCommand& command,
                                        const std::vector<std::string>& paths, bool all_new,
                                        const Stop& stop) {
  WalkOptions options;
  options.all_new = all_new;
  options.starts = paths;
  options.one_file_system = command.one_file_system;
  options.exclude_caches = command.exclude_caches;
  options.exclude_if_present = command.exclude_if_present;
  HF_ASSIGN(options.excludes, patterns(command));
  return typed(Walk::begin(std::move(options), stop));
}

Result<Reading> make_source(const BackupCommand& command, const std::vector<std::string>& paths,
                            bool all_new, const Context& context) {
  if (command.from_stdin) {
    HF_ASSIGN(auto source,
              typed(open_stdin_source(command.stdin_name, context.clock, context.stop)));
    return Reading{std::move(source), nullptr};
  }
  HF_ASSIGN(auto walk, make_walk(command, paths, all_new, context.stop));
  const Walk* const seen = walk.get();
  return Reading{std::move(walk), seen};
}

// Looks over everything once, beside the backup, so that the progress line can tell what is left.
class TotalScan {
 public:
  TotalScan(const BackupCommand& command, const std::vector<std::string>& paths) {
    thread_ = std::thread([this, command, paths] { run(command, paths); });
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
  void run(const BackupCommand& command, const std::vector<std::string>& paths) {
    auto walk = make_walk(command, paths, false, stop_);
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
  options.tags = command.tags;
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

void report(const Context& context, const BackupReport& result, const Reading& reading,
            std::int64_t elapsed_ns, bool dry_run) {
  Output& out = context.out;
  const SnapshotStatistics& s = result.statistics;
  report_unreadable(out, *reading.source);
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

// Until no other process of this home writes.
Result<> wait_for_session(const Context& context, Repository& repository,
                          std::int64_t deadline_ns) {
  for (bool told = false;; told = true) {
    HF_TRY(context.stop.check());
    const auto lock = repository.parts().state.lock("session.lock");
    if (lock || lock.error().code != Code::conflict) return {};
    if (context.clock.steady_ns() >= deadline_ns)
      return fail(Code::conflict,
                  fmt::format("another backup of this home is running: {}, or use --wait DURATION",
                              lock.error().what));
    if (!told) context.out.message("Waiting: " + lock.error().what);
    std::this_thread::sleep_for(std::chrono::milliseconds(100));
  }
}

struct Ran {
  BackupReport report;
  Reading reading;
  std::int64_t elapsed_ns = 0;
};

Result<Ran> run_once(const Context& context, const BackupCommand& command,
                     const std::vector<std::string>& paths, const BackupOptions& options,
                     OpenRepository& opened) {
  HF_ASSIGN(const HeadList heads, opened.heads(context, true));
  const Snapshot* parent = choose_parent(heads, opened.client().device().id, options);
  HF_ASSIGN(Reading reading,
            make_source(command, paths, parent == nullptr && !command.dry_run, context));
  SystemOwners owners;
  BackupProgress progress;
  const std::int64_t started = context.clock.steady_ns();
  std::optional<TotalScan> scan;
  if (parent == nullptr && reading.walk != nullptr && !command.dry_run &&
      progress_on_terminal(context))
    scan.emplace(command, paths);
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

}  // namespace

Result<int> run_backup(const Context& context, const BackupCommand& command) {
  std::vector<std::string> paths;
  if (command.from_stdin) {
    if (!command.paths.empty() || !command.files_from.empty() || !command.files_from0.empty())
      return usage("--stdin backs up standard input alone: name no paths with it");
    paths = {"/" + command.stdin_name};
  } else {
    HF_ASSIGN(paths, start_paths(command));
  }
  HF_ASSIGN(const BackupOptions options, backup_options(command, paths));
  HF_ASSIGN(const std::int64_t wait_ns, parse_duration(command.wait));
  HF_ASSIGN(const auto opened, OpenRepository::open(context));
  const std::int64_t deadline_ns = context.clock.steady_ns() + wait_ns;
  for (;;) {
    if (!command.dry_run) HF_TRY(wait_for_session(context, opened->repository(), deadline_ns));
    auto ran = run_once(context, command, paths, options, *opened);
    if (ran) {
      report(context, ran->report, ran->reading, ran->elapsed_ns, options.dry_run);
      return ran->report.statistics.unreadable > 0 ? 3 : 0;
    }
    // Another one was faster: wait for it too. Standard input cannot have been read yet.
    if (ran.error().code == Code::conflict && context.clock.steady_ns() < deadline_ns) continue;
    if (ran.error().code == Code::interrupted)
      context.out.message(
          "Interrupted. What was stored is kept, and the next backup goes on from it.");
    return std::unexpected(std::move(ran).error());
  }
}

}  // namespace holdfast
