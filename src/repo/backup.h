// SPDX-License-Identifier: Apache-2.0
// A backup: walk, read, cut, id and dedup, frame, compress, seal, put; then the tree and the head.
#pragma once

#include <atomic>
#include <functional>
#include <mutex>
#include <optional>
#include <string>
#include <vector>

#include "repo/head.h"
#include "repo/repository.h"
#include "repo/source.h"

namespace holdfast {

// What a file's frames may share with others (MET-01).
struct Treatment {
  bool alone = false;  // its chunks are compressed with nothing else
  bool compress = true;
};

struct BackupOptions {
  std::vector<std::string> paths, tags, excludes;  // as they go into the head
  std::string host, user, program;
  Compression compression = Compression::balanced;
  unsigned workers = 2;
  std::function<void()> on_worker;  // called first on each worker's thread; may be empty
  bool dry_run = false;             // looks at names and metadata only; reads and stores nothing
  // Of a file's absolute path; null: the default for all.
  std::function<Treatment(std::string_view path)> treatment;
};

// Written by the backup, read by whoever shows it. Thread-safe.
class BackupProgress {
 public:
  std::atomic<std::uint64_t> files{0}, bytes{0};  // looked at so far: unchanged ones count too
  std::atomic<std::uint64_t> bytes_read{0};
  void set_current(const Entry& entry);
  [[nodiscard]] std::string current() const;

 private:
  mutable std::mutex mutex_;
  std::string current_;
};

inline constexpr std::size_t kTornListed = 1000;

struct BackupReport {
  std::optional<Snapshot> snapshot;  // none for a dry run
  SnapshotStatistics statistics;
  // Files that changed each time they were read, and are stored and marked as such: absolute paths,
  // the first kTornListed of them.
  std::vector<std::string> torn;
  std::uint64_t torn_count = 0;
  std::optional<SnapshotId> parent;
  std::vector<std::string> warnings;
};

// The snapshot that a new one of these paths is compared with: this device's newest of the same
// host and paths. Never another device's: what it says is unchanged would be taken over unread.
const Snapshot* choose_parent(const HeadList& heads, const DeviceId& device,
                              const BackupOptions& options);

// The index must be in step with `heads`. Errors end the backup; what was put stays and is used by
// the next run. What could not be read is in source.unreadable().
Result<BackupReport> backup(Repository& repository, const HeadList& heads, Source& source,
                            OwnerNames& owners, const BackupOptions& options,
                            BackupProgress& progress, const Stop& stop);

}  // namespace holdfast
