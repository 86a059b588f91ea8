// SPDX-License-Identifier: Apache-2.0
// repair, recover-snapshots.
#include <fmt/format.h>

#include <nlohmann/json.hpp>

#include "commands.h"
#include "opened_store.h"
#include "progress.h"
#include "repo/repair.h"
#include "usage.h"

namespace holdfast {

namespace {

using RepairFunction = Result<RepairReport> (*)(Repository&, const RepairOptions&, RepairProgress&,
                                                const Stop&);

void report_copies(Output& out, const RepairReport& report, bool apply) {
  for (const RepairReport::Copy& copy : report.snapshots) {
    const bool recovered = copy.of == SnapshotId{};
    if (apply)
      out.message(recovered
                      ? fmt::format("Snapshot {} stands for that tree.", copy.id.brief())
                      : fmt::format("Snapshot {} is {} ({}) without what is lost; the original "
                                    "stays until 'holdfast forget {}'",
                                    copy.id.brief(), copy.of.brief(), local_time(copy.ended),
                                    copy.of.brief()));
    out.object({{"message_type", "repaired"},
                {"of", recovered ? nlohmann::json() : nlohmann::json(copy.of.hex())},
                {"snapshot", apply ? nlohmann::json(copy.id.hex()) : nlohmann::json()}});
  }
}

void report_repair(const Context& context, const RepairReport& report, const std::string& what,
                   bool apply) {
  Output& out = context.out;
  for (const std::string& line : report.found) {
    out.warning("found: " + line);
    out.object({{"message_type", "damage"}, {"what", line}});
  }
  for (const std::string& line : report.lost) {
    out.warning("LOST: " + line);
    out.object({{"message_type", "lost"}, {"what", line}});
  }
  if (report.lost_count > report.lost.size())
    out.warning(
        fmt::format("and {} more that are not listed", report.lost_count - report.lost.size()));
  report_copies(out, report, apply);
  if (report.chunks_saved + report.chunks_lost > 0)
    out.message(fmt::format("{} pieces of data {} saved from damaged packs, {} are lost",
                            report.chunks_saved, apply ? "were" : "can be", report.chunks_lost));
  if (report.nothing())
    out.message("Nothing to repair.");
  else if (!apply)
    out.message(fmt::format("Nothing was changed. 'holdfast {} --apply' does it.", what));
  else
    out.message(fmt::format("Done; {} written. 'holdfast check' tells what is left.",
                            human_bytes(report.bytes_written)));
  out.object({{"message_type", "summary"},
              {"command", what.substr(0, what.find(' '))},
              {"what", what.substr(what.find(' ') + 1)},
              {"applied", apply},
              {"found", report.found.size()},
              {"lost", report.lost_count},
              {"lists_retired", report.lists_retired},
              {"packs_listed", report.packs_listed},
              {"packs_damaged", report.packs_damaged},
              {"packs_lost", report.packs_lost},
              {"chunks_saved", report.chunks_saved},
              {"chunks_lost", report.chunks_lost},
              {"heads_settled", report.heads_settled},
              {"snapshots", report.snapshots.size()},
              {"bytes_written", report.bytes_written}});
}

Result<int> run_one(const Context& context, const std::string& what, RepairFunction repair,
                    const RepairCommand& command) {
  const bool apply = command.apply;
  ClientOptions client;
  client.accept_rollback = command.accept_rollback;
  HF_ASSIGN(const auto opened, OpenRepository::open(context, client));
  RepairReport keys;
  if (repair == repair_index) {
    HF_ASSIGN(keys.found,
              repair_keys(opened->store().store(), opened->home(), opened->client(), apply));
  }
  RepairProgress progress;
  const RepairOptions options{.apply = apply,
                              .host = host_name(),
                              .user = user_name(),
                              .program = fmt::format("holdfast {}", kVersion)};
  Result<RepairReport> report;
  {
    const ProgressLine line(context, [&] {
      return ProgressState{
          progress.done, progress.bytes, 0, fmt::format("of {}", progress.total.load()),
          what == "repair index" || what == "repair packs" ? "packs" : "snapshots"};
    });
    report = repair(opened->repository(), options, progress, context.stop);
  }
  if (!report && report.error().code == Code::interrupted)
    context.out.message("Interrupted. Nothing is worse than before; run it again.");
  HF_TRY(report);
  report->found.insert(report->found.begin(), keys.found.begin(), keys.found.end());
  report_repair(context, *report, what, apply);
  // What a run has repaired is damage no more; what nothing brings back was named.
  return report->nothing() || apply ? 0 : 4;
}

}  // namespace

Result<int> run_repair(const Context& context, const RepairCommand& command) {
  const std::string what = "repair " + command.what;
  if (command.accept_rollback && command.what != "index")
    return usage("--accept-rollback goes with 'repair index'");
  if (command.what == "index") return run_one(context, what, repair_index, command);
  if (command.what == "packs") return run_one(context, what, repair_packs, command);
  return run_one(context, what, repair_snapshots, command);
}

Result<int> run_recover_snapshots(const Context& context, const RepairCommand& command) {
  return run_one(context, "recover-snapshots", recover_snapshots, command);
}

}  // namespace holdfast
