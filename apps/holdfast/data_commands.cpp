// SPDX-License-Identifier: Apache-2.0
// restore, dump, check.
#include <fmt/format.h>

#include <atomic>
#include <filesystem>
#include <nlohmann/json.hpp>

#include "commands.h"
#include "fs/target.h"
#include "progress.h"
#include "repo/check.h"
#include "repo/dump.h"
#include "repo/pattern.h"
#include "repo/restore.h"
#include "usage.h"

namespace holdfast {

namespace {

using nlohmann::json;

Result<PatternList> compile(const std::vector<std::string>& texts) {
  std::vector<PatternLine> lines;
  lines.reserve(texts.size());
  for (const std::string& text : texts) lines.push_back({text, false});
  return typed(PatternList::compile(lines));
}

Result<Overwrite> parse_overwrite(const std::string& text) {
  if (text == "never") return Overwrite::never;
  if (text == "changed") return Overwrite::changed;
  if (text == "always") return Overwrite::always;
  return usage(fmt::format("--overwrite '{}': expected never, changed or always", escaped(text)));
}

std::string_view kind_text(LeftOutKind kind) {
  switch (kind) {
    case LeftOutKind::owner:
      return "owner";
    case LeftOutKind::setid:
      return "setuid or setgid bit";
    case LeftOutKind::acl:
      return "ACL";
    case LeftOutKind::xattr:
      return "extended attribute";
    case LeftOutKind::privileged_xattr:
      return "security or trusted attribute";
    case LeftOutKind::flags:
      return "file flag";
    case LeftOutKind::times:
      return "time";
    case LeftOutKind::mode:
      return "mode";
    case LeftOutKind::device:
      return "device node";
    case LeftOutKind::hard_link:
      return "hard link";
  }
  return "?";
}

// A dry run asks nothing of it.
class NoTarget : public Target {
 public:
  Result<Placed> make_directory(std::string_view) override { return none(); }
  bool made_directory(std::string_view) override { return false; }
  Result<DirectoryRef> directory(std::string_view) override { return none(); }
  Result<Created> create(const DirectoryRef&, const Entry&) override { return none(); }
  Result<Placed> link(const LinkSource&, const DirectoryRef&, const Entry&) override {
    return none();
  }
  Result<TargetFile::Committed> make_symlink(const DirectoryRef&, const Entry&) override {
    return none();
  }
  Result<TargetFile::Committed> make_special(const DirectoryRef&, const Entry&) override {
    return none();
  }
  Result<> finish_directory(std::string_view, const Entry&) override { return none(); }
  Result<> finish_modes() override { return none(); }
  Result<> finish_flags(const DirectoryRef&, const Entry&) override { return none(); }
  Result<> sync() override { return none(); }
  Result<std::unique_ptr<RestoredFile>> open(const DirectoryRef&, const Entry&) override {
    return none();
  }
  std::vector<LeftOut> left_out() override { return {}; }

 private:
  static std::unexpected<Error> none() { return fail(Code::invalid, "a dry run has no target"); }
};

// `base`: what the target stands for in the snapshot.
json report_left_out(Output& out, const std::vector<LeftOut>& all, const std::string& base) {
  json list = json::array();
  for (const LeftOut& l : all) {
    const std::string path = "/" + base + (base.empty() || l.first.empty() ? "" : "/") + l.first;
    out.message(fmt::format("Left out: {} of {} entries, the first {} ({})", kind_text(l.kind),
                            l.count, escaped(path), escaped(l.why)));
    list.push_back(with_path(
        {{"kind", kind_text(l.kind)}, {"count", l.count}, {"why", escaped(l.why)}}, path));
  }
  return list;
}

void report_incomplete(Output& out, const RestoreReport& r) {
  for (const Incomplete& i : r.incomplete) {
    out.warning(fmt::format("not restored: {}: {}",
                            i.path.empty() ? "(tree)" : "/" + escaped(i.path), i.what));
    out.object(with_path({{"message_type", "incomplete"}, {"what", i.what}, {"damage", i.damage}},
                         "/" + i.path));
  }
  if (r.incomplete_count > r.incomplete.size())
    out.warning(
        fmt::format("and {} more that are not listed", r.incomplete_count - r.incomplete.size()));
}

bool restored_nothing(const RestoreReport& r) {
  return r.files + r.directories + r.symlinks + r.links + r.others + r.kept + r.incomplete_count ==
         0;
}

struct Restoring {
  SnapshotRef ref;
  std::string base;  // the directory of the snapshot that the target stands for
  bool dry_run = false, chosen = false;
};

void report_restore(const Context& context, const RestoreReport& r, const Restoring& what,
                    std::int64_t elapsed_ns) {
  Output& out = context.out;
  const bool dry_run = what.dry_run;
  report_incomplete(out, r);
  const json left_out = report_left_out(out, r.left_out, what.base);
  out.message(
      fmt::format("{}: {} files, {} directories, {} symlinks, {} hard links, {} others, {} kept as "
                  "they stand; {} in {}",
                  dry_run ? "Would restore" : "Restored", r.files, r.directories, r.symlinks,
                  r.links, r.others, r.kept, human_bytes(r.bytes), human_duration(elapsed_ns)));
  if (dry_run) out.message("Dry run: what stands in the target was not looked at");
  if (what.chosen && restored_nothing(r))
    out.warning(
        "nothing matched: --include and --exclude are matched against the whole path in the "
        "snapshot, as 'holdfast ls' shows it");
  if (r.verified > 0) out.message(fmt::format("Read back and verified: {} files", r.verified));
  if (r.incomplete_count > 0)
    out.warning(fmt::format("INCOMPLETE: {} entries were not restored, {} of them for damage",
                            r.incomplete_count, r.damaged_count));
  out.object({{"message_type", "summary"},
              {"command", "restore"},
              {"snapshot", what.ref.snapshot->id.hex()},
              {"dry_run", dry_run},
              {"files", r.files},
              {"directories", r.directories},
              {"symlinks", r.symlinks},
              {"hard_links", r.links},
              {"others", r.others},
              {"kept", r.kept},
              {"bytes", r.bytes},
              {"verified", r.verified},
              {"incomplete", r.incomplete_count},
              {"damaged", r.damaged_count},
              {"bytes_missing", r.bytes_missing},
              {"left_out", left_out},
              {"seconds", static_cast<double>(elapsed_ns) / 1e9}});
}

std::function<bool(const Entry&)> choice(PatternList includes, PatternList excludes) {
  if (includes.empty() && excludes.empty()) return {};
  return [i = std::move(includes), e = std::move(excludes)](const Entry& entry) {
    const std::string path = "/" + entry.path();
    return (i.empty() || i.matches(path)) && !e.matches(path);
  };
}

// As mkdir -p: the target itself is made by open_target().
Result<> make_parents(const std::string& target) {
  std::filesystem::path path = target;
  if (!path.has_filename()) path = path.parent_path();  // it ends with '/'
  const std::filesystem::path parent = path.parent_path();
  if (parent.empty()) return {};
  std::error_code error;
  std::filesystem::create_directories(parent, error);
  if (!error) return {};
  return fail(Code::denied, fmt::format("target {}: {} cannot be made: {}", escaped(target),
                                        escaped(parent.string()), error.message()));
}

Result<std::unique_ptr<Target>> make_target(const Context& context, const RestoreCommand& command,
                                            Overwrite overwrite) {
  if (command.dry_run) return std::make_unique<NoTarget>();
  HF_TRY(make_parents(command.target));
  return open_target(command.target, {.overwrite = overwrite, .privileged = command.privileged},
                     context.random);
}

Result<Restoring> what_to_restore(Repository& repository, const HeadList& heads,
                                  const RestoreCommand& command) {
  Restoring what;
  what.dry_run = command.dry_run;
  what.chosen = !command.includes.empty() || !command.excludes.empty();
  HF_ASSIGN(what.ref, find_snapshot(heads, command.snapshot, command.latest));
  if (what.ref.path.empty()) return what;
  HF_ASSIGN(const Entry entry, entry_at(repository.nodes(), what.ref));
  what.base = entry.type == EntryType::directory ? what.ref.path : entry.directory;
  return what;
}

}  // namespace

Result<int> run_restore(const Context& context, const RestoreCommand& command) {
  HF_ASSIGN(const Overwrite overwrite, parse_overwrite(command.overwrite));
  HF_ASSIGN(PatternList includes, compile(command.includes));
  HF_ASSIGN(PatternList excludes, compile(command.excludes));
  HF_ASSIGN(const auto opened, OpenRepository::open(context));
  HF_ASSIGN(const HeadList heads, opened->heads(context, true));
  Repository& repository = opened->repository();
  HF_ASSIGN(const Restoring what, what_to_restore(repository, heads, command));
  const SnapshotRef& ref = what.ref;
  HF_ASSIGN(const auto target, make_target(context, command, overwrite));
  std::atomic<std::uint64_t> files{0}, bytes{0};
  RestoreOptions options;
  options.subtree = ref.path;
  options.wanted = choice(std::move(includes), std::move(excludes));
  options.dry_run = command.dry_run;
  options.workers = std::max(options.workers, repository.parts().store.parallel());
  options.progress = [&](const RestoreProgress& p) {
    files = p.files;
    bytes = p.bytes;
  };
  if (command.verify)
    options.verify = [&keys = opened->client().keys()] {
      return ChunkHasher(keys.secrets.id_key.span());
    };
  ReaderChunks chunks(repository.reader());
  const std::int64_t started = context.clock.steady_ns();
  Result<RestoreReport> report;
  {
    const std::uint64_t expected = ref.path.empty() ? ref.snapshot->statistics.bytes_total : 0;
    const ProgressLine line(context, [&] { return ProgressState{files, bytes, expected, ""}; });
    report =
        restore(chunks, repository.nodes(), ref.snapshot->tree, *target, options, context.stop);
  }
  if (!report && report.error().code == Code::interrupted)
    context.out.message(
        "Interrupted. What was restored is whole; the same command goes on from there.");
  HF_TRY(report);
  report_restore(context, *report, what, context.clock.steady_ns() - started);
  return report->incomplete_count > 0 ? 4 : 0;
}

Result<int> run_dump(const Context& context, const DumpCommand& command) {
  if (command.source.find(':') == std::string::npos)
    return usage(fmt::format(
        "dump '{}': expected a snapshot and what to write of it, as in latest:/etc/fstab",
        escaped(command.source)));
  HF_ASSIGN(const auto opened, OpenRepository::open(context));
  HF_ASSIGN(const HeadList heads, opened->heads(context, true));
  HF_ASSIGN(const SnapshotRef ref, find_snapshot(heads, command.source, command.latest));
  Repository& repository = opened->repository();
  if (!ref.path.empty()) HF_TRY(entry_at(repository.nodes(), ref));
  ReaderChunks chunks(repository.reader());
  const DumpOwners owners{&ref.snapshot->users, &ref.snapshot->groups};
  HF_TRY(dump(
      chunks, repository.nodes(), ref.snapshot->tree, ref.path, owners,
      std::max(RestoreOptions().workers, repository.parts().store.parallel()),
      [&](ByteSpan bytes) { return context.out.bytes(bytes); }, context.stop));
  return 0;
}

namespace {

void report_damage(Output& out, const CheckReport& report) {
  for (const CheckDamage& d : report.damage) out.damage(d.what);
  for (const TouchedFile& t : report.touched) {
    out.warning(fmt::format("touched: snapshot {}: {}", t.snapshot.brief(), escaped(t.path)));
    out.object(with_path({{"message_type", "touched"}, {"snapshot", t.snapshot.hex()}}, t.path));
  }
  if (report.touched_count > report.touched.size())
    out.warning(fmt::format("and {} more files that are not listed",
                            report.touched_count - report.touched.size()));
}

void report_check(const Context& context, const CheckReport& report, std::int64_t elapsed_ns) {
  Output& out = context.out;
  report_damage(out, report);
  if (report.stray_packs > 0)
    out.message(fmt::format(
        "{} packs belong to no snapshot: of an interrupted backup, or of one that runs now",
        report.stray_packs));
  out.message(fmt::format(
      "Checked {} snapshots, {} packs ({} read whole, {}), {} tree nodes, {} chunks in {}",
      report.snapshots, report.packs, report.packs_read, human_bytes(report.bytes_read),
      report.nodes, report.chunks, human_duration(elapsed_ns)));
  if (report.clean())
    out.message("No damage.");
  else
    out.warning(
        fmt::format("DAMAGE: {} objects, {} files touched. Everything else can be restored.",
                    report.damage.size(), report.touched_count));
  out.object({{"message_type", "summary"},
              {"command", "check"},
              {"snapshots", report.snapshots},
              {"packs", report.packs},
              {"packs_read", report.packs_read},
              {"bytes_read", report.bytes_read},
              {"nodes", report.nodes},
              {"chunks", report.chunks},
              {"stray_packs", report.stray_packs},
              {"damaged", report.damage.size()},
              {"touched", report.touched_count},
              {"seconds", static_cast<double>(elapsed_ns) / 1e9}});
}

}  // namespace

Result<int> run_check(const Context& context, const CheckCommand& command) {
  HF_ASSIGN(const auto opened, OpenRepository::open(context));
  CheckProgress progress;
  const CheckOptions options{.read_data_percent = command.read_data_percent,
                             .found_before = opened->client().damaged()};
  const std::int64_t started = context.clock.steady_ns();
  Result<CheckReport> result;
  {
    const ProgressLine line(context, [&] {
      return ProgressState{progress.packs, progress.bytes, 0,
                           fmt::format("of {}", progress.packs_total.load()), "packs"};
    });
    result = check(opened->repository(), options, progress, context.stop);
  }
  HF_ASSIGN(const CheckReport report, std::move(result));
  report_check(context, report, context.clock.steady_ns() - started);
  return report.clean() ? 0 : 4;
}

}  // namespace holdfast
