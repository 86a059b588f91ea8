// SPDX-License-Identifier: Apache-2.0
// forget, prune.
#include <fmt/format.h>

#include <algorithm>
#include <ctime>
#include <nlohmann/json.hpp>
#include <set>

#include "commands.h"
#include "opened_store.h"
#include "progress.h"
#include "repo/prune.h"
#include "repo/retention.h"
#include "repo/retention_lock.h"
#include "usage.h"

namespace holdfast {

namespace {

using nlohmann::json;

// ---- prune

std::string phase_text(const PruneProgress& progress) {
  switch (progress.phase.load()) {
    case PruneProgress::Phase::mark:
      return fmt::format("looking at snapshot {} of {}", progress.done + 1, progress.total.load());
    case PruneProgress::Phase::repack:
      return fmt::format("writing again: {} of {}", human_bytes(progress.done),
                         human_bytes(progress.total));
    case PruneProgress::Phase::remove:
      return fmt::format("removing {} of {}", progress.done.load(), progress.total.load());
  }
  return "";
}

void report_waiting(const Context& context, const PruneReport& report) {
  for (const OpenSession& open : report.waiting) {
    context.out.message(fmt::format(
        "Waiting for backup {} of device {}, begun {}: what it may rely on is removed by a prune "
        "after it has ended, or when it is given up (--give-up-after)",
        open.session.number, open.session.device.hex(), age(open.started, context.clock.now())));
    context.out.object({{"message_type", "waiting"},
                        {"device", open.session.device.hex()},
                        {"number", open.session.number},
                        {"started", utc_time(open.started)}});
  }
}

void report_prune(const Context& context, const PruneReport& r, bool dry_run,
                  std::int64_t elapsed_ns) {
  Output& out = context.out;
  const PrunePlan& p = r.plan;
  out.message(
      fmt::format("{} packs, {}; about {} of it unused: {} packs wholly, {}; {} packs that "
                  "no snapshot lists, {}",
                  p.packs, human_bytes(p.bytes), human_bytes(p.unused_bytes), p.packs_unused,
                  human_bytes(p.bytes_unused), p.strays, human_bytes(p.stray_bytes)));
  out.message(fmt::format("{} {} packs again without what is unused: {} read{}",
                          dry_run ? "Would write" : "Wrote", p.packs_repacked,
                          human_bytes(p.bytes_repacked),
                          dry_run ? "" : ", " + human_bytes(r.bytes_written) + " written"));
  if (dry_run) out.message(fmt::format("About {} would be freed", human_bytes(p.bytes_freed)));
  for (const std::string& pack : r.left)
    out.warning(
        fmt::format("pack {}: cannot be read in full, and was left as it is; run 'holdfast "
                    "check --read-data'",
                    pack));
  report_waiting(context, r);
  if (r.held_until.ns > 0)
    out.message(
        fmt::format("The retention lock keeps what was condemned until {}; a prune after "
                    "that removes it",
                    local_time(r.held_until)));
  if (r.locked > 0)
    out.message(fmt::format("{} objects are locked still; a later prune removes them", r.locked));
  if (!dry_run)
    out.message(fmt::format("Removed {} packs, {}, in {}{}", r.packs_deleted,
                            human_bytes(r.bytes_freed), human_duration(elapsed_ns),
                            r.packs_rescued > 0
                                ? fmt::format("; {} were found in use and stay", r.packs_rescued)
                                : ""));
  out.object({{"message_type", "summary"},
              {"command", "prune"},
              {"dry_run", dry_run},
              {"packs", p.packs},
              {"bytes", p.bytes},
              {"unused_bytes", p.unused_bytes},
              {"packs_unused", p.packs_unused},
              {"bytes_unused", p.bytes_unused},
              {"strays", p.strays},
              {"stray_bytes", p.stray_bytes},
              {"packs_repacked", p.packs_repacked},
              {"bytes_repacked", p.bytes_repacked},
              {"bytes_written", r.bytes_written},
              {"snapshots_removed", p.snapshots_removed},
              {"packs_deleted", r.packs_deleted},
              {"bytes_freed", dry_run ? p.bytes_freed : r.bytes_freed},
              {"packs_rescued", r.packs_rescued},
              {"collections_ended", r.finished},
              {"sessions_given_up", r.sessions_given_up},
              {"waiting", r.waiting.size()},
              {"held_until", r.held_until.ns > 0 ? json(utc_time(r.held_until)) : json()},
              {"locked", r.locked},
              {"left", r.left.size()},
              {"seconds", static_cast<double>(elapsed_ns) / 1e9}});
}

Result<int> prune_opened(const Context& context, OpenRepository& opened,
                         const PruneCommand& command) {
  constexpr double days = 24.0 * 3600 * 1e9;
  PruneOptions options;
  options.dry_run = command.dry_run;
  constexpr unsigned workers_max = 8;  // about 5 MB each
  options.workers = std::clamp(opened.repository().parts().store.parallel(), 2U, workers_max);
  options.unused_max = command.max_unused_percent / 100;
  if (command.max_repack) options.repack_max = *command.max_repack;
  options.give_up_after_ns = static_cast<std::int64_t>(command.give_up_after_days * days);
  PruneProgress progress;
  const std::int64_t started = context.clock.steady_ns();
  Result<PruneReport> report;
  {
    const ProgressLine line(context, [&] { return ProgressState{0, 0, 0, phase_text(progress)}; });
    report = prune(opened.repository(), options, progress, context.stop);
  }
  if (!report && report.error().code == Code::interrupted)
    context.out.message("Interrupted. Nothing is lost; the next prune goes on from there.");
  HF_TRY(report);
  report_prune(context, *report, command.dry_run, context.clock.steady_ns() - started);
  return report->left.empty() ? 0 : 4;
}

// ---- forget

std::int64_t local_offset(std::int64_t utc_seconds) {
  const std::time_t time = utc_seconds;
  std::tm local{};
  return localtime_r(&time, &local) == nullptr ? 0 : local.tm_gmtoff;
}

Result<RetentionPolicy> make_policy(const ForgetCommand& c) {
  RetentionPolicy policy{.last = c.last,
                         .hourly = c.hourly,
                         .daily = c.daily,
                         .weekly = c.weekly,
                         .monthly = c.monthly,
                         .yearly = c.yearly,
                         .within = {},
                         .keep_tags = {},
                         .by_host = false,
                         .by_paths = false};
  for (const std::string& what : split_commas(c.group_by)) {
    if (what != "host" && what != "paths")
      return usage(
          fmt::format("--group-by '{}': expected host, paths, both with a comma between, "
                      "or nothing; snapshots of different devices are never one group",
                      escaped(c.group_by)));
    (what == "host" ? policy.by_host : policy.by_paths) = true;
  }
  if (!c.within.empty()) {
    HF_ASSIGN(policy.within, typed(RetentionDuration::parse(c.within)));
  }
  for (const std::string& tags : c.keep_tags) {
    policy.keep_tags.push_back(split_commas(tags));
    if (policy.keep_tags.back().empty())
      return usage(fmt::format("--keep-tag '{}': expected a tag, or several with commas between",
                               escaped(tags)));
  }
  return policy;
}

// A snapshot and what becomes of it.
struct Fate {
  const Snapshot* snapshot;
  bool kept = false;
  std::vector<std::string> reasons;
};

Result<std::vector<Fate>> by_policy(const Context& context, const ForgetCommand& command,
                                    const HeadList& heads) {
  HF_ASSIGN(const RetentionPolicy policy, make_policy(command));
  if (policy.is_empty())
    return usage(
        "forget: expected what to keep, as in --keep-daily 7 --keep-weekly 5 --keep-monthly 12, or "
        "the snapshots to forget");
  HF_ASSIGN(const SnapshotFilter filter, stored_filter(command.filter));
  std::vector<RetentionItem> items;
  for (const Snapshot& s : heads.snapshots) {
    items.push_back(retention_item(s));
    items.back().considered = selected(s, filter);
  }
  HF_ASSIGN(const RetentionPlan plan, plan_retention(items, policy,
                                                     {.now = context.clock.now(),
                                                      .zone = local_offset,
                                                      .is_right = command.clock_is_right}));
  std::vector<Fate> fates;
  for (const RetentionGroup& group : plan.groups)
    for (const RetentionDecision& d : group.decisions)
      fates.push_back({&heads.snapshots[d.item], d.kept, d.reasons});
  return fates;
}

Result<std::vector<Fate>> by_name(const ForgetCommand& command, const HeadList& heads) {
  std::vector<Fate> fates;
  std::set<SnapshotId> named;
  for (const std::string& text : command.snapshots) {
    HF_ASSIGN(const SnapshotRef ref, find_snapshot(heads, text));
    if (ref.has_path)
      return usage(
          fmt::format("forget '{}': expected a whole snapshot, not a path in it", escaped(text)));
    if (named.insert(ref.snapshot->id).second) fates.push_back({ref.snapshot, false, {}});
  }
  return fates;
}

void show_fate(Output& out, const std::string& host, const Fate& fate) {
  const Snapshot& s = *fate.snapshot;
  out.line(fmt::format("{:<7}{:<14}{:<28}{:<16}{}{}{}", fate.kept ? "keep" : "forget", s.id.brief(),
                       local_time(s.ended), host, joined(s.paths), fate.reasons.empty() ? "" : "  ",
                       joined(fate.reasons)));
  out.object({{"message_type", "decision"},
              {"snapshot", s.id.hex()},
              {"keep", fate.kept},
              {"reasons", escaped_all(fate.reasons)},
              {"time", utc_time(s.ended)},
              {"host", escaped(s.host)}});
}

// A mistake in a policy should not cost everything at once.
Result<> check_share(const ForgetCommand& command, std::size_t forget, std::size_t all) {
  if (all == 0 || command.dry_run) return {};
  const double share = 100.0 * static_cast<double>(forget) / static_cast<double>(all);
  if (share <= command.max_drop_percent) return {};
  return fail(
      Code::denied,
      fmt::format("{} of {} snapshots would go, more than {} %. Nothing was changed. Look at "
                  "them with --dry-run; --max-drop {:.0f} allows it",
                  forget, all, command.max_drop_percent, std::min(100.0, share + 1)));
}

}  // namespace

Result<int> run_prune(const Context& context, const PruneCommand& command) {
  HF_ASSIGN(const auto opened, OpenRepository::open(context));
  return prune_opened(context, *opened, command);
}

Result<int> run_forget(const Context& context, const ForgetCommand& command) {
  HF_ASSIGN(const RetentionPolicy policy, make_policy(command));
  if (!command.snapshots.empty() && !policy.is_empty())
    return usage("forget: expected either snapshots to forget or --keep-…, not both");
  HF_ASSIGN(const auto opened, OpenRepository::open(context));
  HF_ASSIGN(const HeadList heads, opened->heads(context, false));
  HF_ASSIGN(const std::vector<Fate> fates, command.snapshots.empty()
                                               ? by_policy(context, command, heads)
                                               : by_name(command, heads));
  Output& out = context.out;
  std::size_t forget = 0;
  const auto host = host_labels(heads);
  for (const Fate& fate : fates) {
    show_fate(out, host(*fate.snapshot), fate);
    if (!fate.kept) ++forget;
  }
  if (command.snapshots.empty()) HF_TRY(check_share(command, forget, fates.size()));
  if (!command.dry_run) HF_TRY(opened->repository().check_home(heads));
  // All of them or none.
  for (const Fate& fate : fates)
    if (!fate.kept) HF_TRY(check_droppable(heads, *fate.snapshot));
  for (const Fate& fate : fates) {
    HF_TRY(context.stop.check());
    if (!fate.kept && !command.dry_run)
      HF_TRY(drop_snapshot(opened->repository(), heads, *fate.snapshot,
                           command.snapshots.empty() ? "policy" : "named by the user"));
  }
  out.message(fmt::format(
      "{} {} of {} snapshots{}", command.dry_run ? "Would forget" : "Forgot", forget, fates.size(),
      command.dry_run || command.prune ? ""
                                       : ". What only they needed is removed by 'holdfast prune'"));
  out.object({{"message_type", "summary"},
              {"command", "forget"},
              {"dry_run", command.dry_run},
              {"kept", fates.size() - forget},
              {"forgotten", forget}});
  if (!command.prune) return 0;
  PruneCommand prune = command.pruning;
  prune.dry_run = command.dry_run;
  return prune_opened(context, *opened, prune);
}

namespace {

// Each once, in the order in which they came.
std::vector<std::string> changed_tags(const TagCommand& command, std::vector<std::string> tags) {
  if (!command.set.empty()) tags = command.set;
  tags.insert(tags.end(), command.add.begin(), command.add.end());
  std::vector<std::string> out;
  for (std::string& tag : tags)
    if (std::ranges::find(command.remove, tag) == command.remove.end() &&
        std::ranges::find(out, tag) == out.end())
      out.push_back(std::move(tag));
  return out;
}

Result<std::vector<const Snapshot*>> snapshots_to_tag(const TagCommand& command,
                                                      const HeadList& heads) {
  std::vector<const Snapshot*> out;
  if (command.snapshots.empty()) {
    HF_ASSIGN(const SnapshotFilter filter, stored_filter(command.filter));
    for (const Snapshot& s : heads.snapshots)
      if (selected(s, filter)) out.push_back(&s);
    return out;
  }
  for (const std::string& text : command.snapshots) {
    HF_ASSIGN(const SnapshotRef ref, find_snapshot(heads, text));
    if (ref.has_path)
      return usage(
          fmt::format("tag '{}': expected a whole snapshot, not a path in it", escaped(text)));
    if (std::ranges::find(out, ref.snapshot) == out.end()) out.push_back(ref.snapshot);
  }
  return out;
}

Result<> check_tags(const TagCommand& command) {
  if (command.add.empty() && command.remove.empty() && command.set.empty())
    return usage("tag: nothing to do; say --add, --remove or --set");
  if (!command.set.empty() && !(command.add.empty() && command.remove.empty()))
    return usage("tag: --set takes all other tags away; --add and --remove do not go with it");
  for (const auto* tags : {&command.add, &command.set})
    for (const std::string& tag : *tags)
      if (tag.empty() || tag.size() > kTagMax)
        return usage(fmt::format("tag '{}': a tag has 1 to {} bytes",
                                 escaped(tag.substr(0, kTagMax)), kTagMax));
  return {};
}

}  // namespace

Result<int> run_tag(const Context& context, const TagCommand& given) {
  TagCommand command = given;
  for (auto* tags : {&command.add, &command.remove, &command.set}) *tags = split_tags(*tags);
  HF_TRY(check_tags(command));
  HF_ASSIGN(const auto opened, OpenRepository::open(context));
  HF_ASSIGN(const HeadList heads, opened->heads(context, false));
  HF_ASSIGN(const auto chosen, snapshots_to_tag(command, heads));
  if (!command.dry_run) HF_TRY(opened->repository().check_home(heads));
  Output& out = context.out;
  std::size_t changed = 0;
  for (const Snapshot* s : chosen) {
    HF_TRY(context.stop.check());
    const std::vector<std::string> tags = changed_tags(command, s->tags);
    if (tags == s->tags) continue;
    if (tags.size() > kTagsMax)
      return usage(fmt::format("snapshot {}: more than {} tags", s->id.brief(), kTagsMax));
    if (!command.dry_run) HF_TRY(put_tags(opened->repository().parts(), *s, tags));
    ++changed;
    out.line(fmt::format("{}  {}: {}", s->id.brief(), local_time(s->ended),
                         tags.empty() ? "no tags" : joined(tags)));
    out.object(
        {{"message_type", "tagged"}, {"snapshot", s->id.hex()}, {"tags", escaped_all(tags)}});
  }
  out.message(fmt::format("{} the tags of {} of {} snapshots",
                          command.dry_run ? "Would change" : "Changed", changed, chosen.size()));
  out.object({{"message_type", "summary"},
              {"command", "tag"},
              {"dry_run", command.dry_run},
              {"changed", changed}});
  return 0;
}

namespace {

std::string lock_text(std::uint64_t seconds) {
  constexpr std::uint64_t hour = 3600, day = 24 * hour;
  if (seconds == 0) return "none";
  if (seconds % day == 0) return fmt::format("{} days", seconds / day);
  if (seconds % hour == 0) return fmt::format("{} hours", seconds / hour);
  return fmt::format("{} seconds", seconds);
}

Result<int> show_lock(const Context& context, OpenRepository& opened) {
  HF_ASSIGN(const HeadList heads, opened.heads(context, false));
  const Client& client = opened.client();
  const Repository& repository = opened.repository();
  const std::uint64_t seconds = client.chain().retention_lock(client.keys().place.repository);
  const bool enforced = client.store_lock().enforced;
  const auto period_ns = repository.parts().lock.period_ns;
  std::vector<Time> held;  // collections
  for (std::uint64_t n = 1; n <= repository.collections().newest(); ++n)
    if (const Time put = repository.collections().put(n); repository.parts().lock.holds(put))
      held.push_back({put.ns + period_ns});
  Output& out = context.out;
  out.line(fmt::format("Retention lock  {}", lock_text(seconds)));
  out.line(fmt::format("Store           {}",
                       enforced ? "enforces it: what is locked can be deleted by nobody"
                                : "cannot enforce one: " + client.store_lock().why_not));
  if (period_ns > 0) {
    out.line(
        fmt::format("Forgotten       {} snapshots are kept still; 'holdfast snapshots' lists them",
                    heads.held.size()));
    out.line(fmt::format("Condemned       {} collections wait{}", held.size(),
                         held.empty() ? "" : ", the first until " + local_time(held.front())));
  }
  out.object({{"message_type", "summary"},
              {"command", "retention-lock"},
              {"seconds", seconds},
              {"enforced", enforced},
              {"why_not", client.store_lock().why_not},
              {"snapshots_held", heads.held.size()},
              {"collections_held", held.size()}});
  return heads.damaged.empty() ? 0 : 4;
}

Result<> append_lock(const Context& context, OpenRepository& opened,
                     const RetentionLockCommand& command, std::uint64_t seconds) {
  std::optional<ParsedPaperKey> paper;
  if (!command.paper_key_file.empty()) {
    HF_ASSIGN(paper, read_paper_key(command.paper_key_file));
  }
  HF_ASSIGN(const auto other, OpenedStore::open_first(context, command.first_repository));
  return set_retention_lock(other ? other->store() : opened.store().store(), opened.home(),
                            opened.client(), seconds, paper ? &paper->key : nullptr);
}

Result<int> set_lock(const Context& context, std::unique_ptr<OpenRepository> opened,
                     const RetentionLockCommand& command) {
  constexpr std::uint64_t day = 24UL * 3600;
  HF_ASSIGN(const std::uint64_t seconds,
            duration_seconds("retention-lock set", command.duration, kRetentionLockMax / day));
  const Client& client = opened->client();
  const std::uint64_t before = client.chain().retention_lock(client.keys().place.repository);
  const bool enforced = client.store_lock().enforced;
  if (command.dry_run && enforced) {
    context.out.message(fmt::format("Would change the retention lock from {} to {}",
                                    lock_text(before), lock_text(seconds)));
    context.out.object({{"message_type", "summary"},
                        {"command", "retention-lock"},
                        {"dry_run", true},
                        {"seconds", seconds},
                        {"enforced", true}});
    return 0;
  }
  if (!enforced || seconds != before) {  // where nothing enforces it, that refuses
    HF_TRY(append_lock(context, *opened, command, seconds));
    opened.reset();  // the home is opened anew, with the new entry
    HF_ASSIGN(opened, OpenRepository::open(context));
  }
  HF_ASSIGN(const HeadList heads, opened->heads(context, false));
  HF_TRY(opened->repository().check_home(heads));
  HF_ASSIGN(const LockReport report, extend_locks(opened->repository(), context.stop));
  Output& out = context.out;
  out.message(seconds == 0
                  ? std::string("There is no retention lock from now on. What was locked stays "
                                "locked until its time is over: nobody can change that.")
                  : fmt::format("The retention lock is {}. Of {} objects {} are locked until {}; "
                                "nobody can take that back, you included.",
                                lock_text(seconds), report.objects, report.extended,
                                local_time(report.until)));
  out.object({{"message_type", "summary"},
              {"command", "retention-lock"},
              {"dry_run", false},
              {"seconds", seconds},
              {"enforced", true},
              {"objects", report.objects},
              {"locked", report.extended}});
  return 0;
}

}  // namespace

Result<int> run_retention_lock(const Context& context, const RetentionLockCommand& command) {
  const bool set = command.action == "set";
  if (set == command.duration.empty())
    return usage(set ? "retention-lock set: expected for how long, as in 'retention-lock set 30d'"
                     : "retention-lock show: takes no duration; 'set' does");
  HF_ASSIGN(auto opened, OpenRepository::open(context));
  return set ? set_lock(context, std::move(opened), command) : show_lock(context, *opened);
}

}  // namespace holdfast
