// SPDX-License-Identifier: Apache-2.0
// Collection: removes what no snapshot needs. docs/formats/collection.md, "A collection".
#pragma once

#include <atomic>
#include <limits>

#include "repo/repository.h"

namespace holdfast {

struct PruneOptions {
  bool dry_run = false;
  unsigned workers = 1;  // threads that write packs again
  // Share of the used bytes that may stay unused in packs that are kept; above it, packs with the
  // largest unused share are written again without it.
  double unused_max = 0.05;
  std::uint64_t repack_max = std::numeric_limits<std::uint64_t>::max();  // bytes of packs, one run
  // Sessions of other devices that were begun longer ago are given up. Policy, not safety: a wrong
  // guess costs that device an upload.
  std::int64_t give_up_after_ns = 7LL * 24 * 3600 * 1'000'000'000;
};

// A backup that runs, or was cut short, and has no outcome yet.
struct OpenSession {
  HeadRef session;
  Time started;  // as its device's clock said
};

// What the last plan found and chose.
struct PrunePlan {
  std::uint64_t packs = 0, bytes = 0;                    // that counted before
  std::uint64_t unused_bytes = 0;                        // by each chunk's share of its frame
  std::uint64_t bytes_freed = 0;                         // of these, what would be freed now
  std::uint64_t packs_unused = 0, bytes_unused = 0;      // without any used chunk
  std::uint64_t strays = 0, stray_bytes = 0;             // that no snapshot lists
  std::uint64_t packs_repacked = 0, bytes_repacked = 0;  // read to be written again
  std::uint64_t snapshots_removed = 0;
};

struct PruneReport {
  PrunePlan plan;
  std::uint64_t bytes_written = 0;
  std::uint64_t packs_deleted = 0, bytes_freed = 0;  // of all collections that ended in this run
  std::uint64_t packs_rescued = 0;                   // condemned, and then found in use
  std::uint64_t finished = 0;                        // collections that ended in this run
  std::uint64_t overtaken = 0;                       // of these, that another device ended first
  std::uint64_t sessions_given_up = 0;
  std::vector<OpenSession> waiting;  // what the newest collection waits for; run prune again
  // Until when the retention lock holds the oldest collection that it holds; 0: none.
  Time held_until{};
  std::uint64_t locked = 0;       // objects that the store keeps still, and a later prune removes
  std::vector<std::string> left;  // packs that could not be read and were left as they are
};

struct PruneProgress {
  enum class Phase : std::uint8_t { mark, repack, remove };
  std::atomic<Phase> phase{Phase::mark};
  std::atomic<std::uint64_t> done{0}, total{0};  // snapshots, bytes, objects
};

// Code::denied: it is its device's newest.
Result<> check_droppable(const HeadList& heads, const Snapshot& snapshot);
// Puts a stub beside the head: the snapshot does not count any more, and the next prune removes it.
// Code::denied as above; Code::corrupt: a damaged stub stands there. `heads` from heads().
Result<> drop_snapshot(Repository& repository, const HeadList& heads, const Snapshot& snapshot,
                       std::string_view reason);

// May be interrupted anywhere and run by several devices at once. Code::corrupt: something that
// snapshots need is damaged; nothing is removed from a repository in which that is so.
Result<PruneReport> prune(Repository& repository, const PruneOptions& options,
                          PruneProgress& progress, const Stop& stop);

}  // namespace holdfast
