// SPDX-License-Identifier: Apache-2.0
// Makes the best of a repository that lost something: docs/formats/collection.md, "Repair".
#pragma once

#include "repo/repository.h"

namespace holdfast {

struct RepairOptions {
  bool apply = false;  // else only the report
  unsigned workers = 2;
  // Of the snapshots that repair_snapshots() and recover_snapshots() make.
  std::string host{}, user{}, program{};
};

struct RepairReport {
  // What is wrong, what was or would be done about it, and what nothing brings back (files with
  // their snapshots); a line each.
  std::vector<std::string> found, lost;
  std::uint64_t lost_count = 0;  // `lost` has the first ones
  std::uint64_t lists_retired = 0, packs_listed = 0;
  std::uint64_t packs_damaged = 0, packs_lost = 0, chunks_saved = 0, chunks_lost = 0;
  std::uint64_t heads_settled = 0;
  std::uint64_t bytes_written = 0;
  struct Copy {
    SnapshotId of;  // zero: of a tree that no head named
    SnapshotId id;  // zero: not written
    Time ended;
  };
  std::vector<Copy> snapshots;
  [[nodiscard]] bool nothing() const { return found.empty() && lost_count == 0; }
};

struct RepairProgress {
  std::atomic<std::uint64_t> done{0}, total{0}, bytes{0};  // packs or snapshots
};

inline constexpr std::string_view kRepairedTag = "repaired", kRecoveredTag = "recovered";

// Each may be interrupted anywhere and run again. Code::conflict: another process of this home
// writes, or another device collects.
Result<RepairReport> repair_index(Repository& repository, const RepairOptions& options,
                                  RepairProgress& progress, const Stop& stop);
Result<RepairReport> repair_packs(Repository& repository, const RepairOptions& options,
                                  RepairProgress& progress, const Stop& stop);
Result<RepairReport> repair_snapshots(Repository& repository, const RepairOptions& options,
                                      RepairProgress& progress, const Stop& stop);
Result<RepairReport> recover_snapshots(Repository& repository, const RepairOptions& options,
                                       RepairProgress& progress, const Stop& stop);

}  // namespace holdfast
