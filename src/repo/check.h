// SPDX-License-Identifier: Apache-2.0
// Is everything there that the snapshots need, and is it what it must be?
#pragma once

#include <functional>

#include "repo/repository.h"

namespace holdfast {

struct CheckOptions {
  double read_data_percent = 0;  // 0: structure only; 100: every byte of every pack
  unsigned workers = 2;
  std::vector<std::string> found_before{};  // damage that opening the repository met
};

struct CheckDamage {
  std::string what;  // names the object, what was expected and what is there
};
// A file of a snapshot that cannot be restored whole, or a range of them.
struct TouchedFile {
  SnapshotId snapshot;
  std::string path;  // absolute; for damaged tree nodes "everything between A and B"
};

inline constexpr std::size_t kTouchedListed = 10000;  // more are counted only

struct CheckReport {
  std::uint64_t snapshots = 0, packs = 0, packs_read = 0, nodes = 0, chunks = 0, bytes_read = 0;
  std::uint64_t stray_packs =
      0;  // that no snapshot lists: of an interrupted run, or waiting for collection
  std::vector<CheckDamage> damage;
  std::vector<TouchedFile> touched;
  std::uint64_t touched_count = 0;
  [[nodiscard]] bool clean() const { return damage.empty(); }
};

struct CheckProgress {
  std::atomic<std::uint64_t> packs{0}, packs_total{0}, bytes{0}, snapshots{0};
};

// Damage is in the report, not an error; errors are a store that does not answer, an alarm, an
// interruption.
Result<CheckReport> check(Repository& repository, const CheckOptions& options,
                          CheckProgress& progress, const Stop& stop);

}  // namespace holdfast
