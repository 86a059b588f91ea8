// SPDX-License-Identifier: Apache-2.0
// The commands. Each gives its exit code (0, 3 or 4) or an error; cli.cpp fills in the options.
#pragma once

#include <memory>
#include <optional>
#include <string>
#include <vector>

#include "base/world.h"
#include "home.h"
#include "output.h"

namespace holdfast {

struct GlobalOptions {
  std::string repository, home, passphrase_file;
  bool json = false, quiet = false;
  // Of a bucket: bytes a second (0: no limit), requests at once.
  std::uint64_t limit_upload = 0, limit_download = 0;
  unsigned connections = 8;
  bool despite_alarm = false;
};

// What main() built, for every command.
struct Context {
  GlobalOptions options;
  Output& out;
  Random& random;
  Clock& clock;
  const Stop& stop;
  bool stdin_closed = false;  // descriptor 0 was not there when the program began
};

inline constexpr std::string_view kVersion = "0.1.0";

class OpenedStore;

// One opened home and repository.
class OpenRepository {
 public:
  static Result<std::unique_ptr<OpenRepository>> open(const Context& context,
                                                      const ClientOptions& options = {});
  ~OpenRepository();
  OpenRepository(const OpenRepository&) = delete;
  OpenRepository& operator=(const OpenRepository&) = delete;
  [[nodiscard]] Client& client() { return *client_; }
  [[nodiscard]] Repository& repository() { return client_->repository(); }
  [[nodiscard]] const std::string& place() const { return place_; }
  [[nodiscard]] Home home() { return folders_->home(); }
  // Verified heads; damaged ones are warned of. With `index` the index is brought up to date too.
  Result<HeadList> heads(const Context& context, bool index);
  OpenedStore& store() { return *store_; }

 private:
  OpenRepository();
  std::string place_;
  std::unique_ptr<HomeFolders> folders_;
  std::unique_ptr<OpenedStore> store_;
  std::unique_ptr<Client> client_;
};

[[nodiscard]] Result<bool> home_is_sealed(Home home);
std::string host_name();
std::string user_name();

// What a path on this machine names: absolute, clean, as it was spelled. Only where it has "..",
// the part up to the last of these is the place that the system goes to, which behind a symlink is
// another one than the spelling says; Code::not_found when there is no such place.
Result<std::string> named_path(const std::string& path);

// --repo, HOLDFAST_REPO, config.toml: the full path of a folder, or a bucket as it was written.
// kUsage when there is none.
Result<std::string> repository_place(const Context& context, const HomePaths& paths);
[[nodiscard]] bool is_bucket(const std::string& place);
// The words of a paper key, from a file or, without one, typed on the terminal.
Result<ParsedPaperKey> read_paper_key(const std::string& path);
// "90", "90s", "10m", "2h", "30d", "6w", "1y"; of `option`, for messages.
Result<std::uint64_t> duration_seconds(std::string_view option, const std::string& text,
                                       std::uint64_t days_max);

// SNAP or SNAP:PATH.
struct SnapshotRef {
  const Snapshot* snapshot = nullptr;
  std::string path;  // inside the snapshot, as Entry::path(); "" for all of it
  bool has_path = false;
};
// Full id, unique prefix, or "latest". Code::not_found; kUsage (ambiguous, or no id at all).
struct SnapshotFilter {
  std::string host, path;
  std::vector<std::string> tags;
};
// `latest` among those that `filter` selects.
Result<SnapshotRef> find_snapshot(const HeadList& heads, std::string_view text,
                                  const SnapshotFilter& filter = {});

// What a SNAP:PATH names; Code::not_found says how to look for it.
Result<Entry> entry_at(NodeSource& nodes, const SnapshotRef& ref);

struct InitCommand {
  std::string paper_key_out, device_name;
};
struct RecoverCommand {
  std::string paper_key_file, device_name;
  bool read_only = false;
};
struct BackupCommand {
  std::vector<std::string> paths, excludes, iexcludes, exclude_files, exclude_if_present,
      files_from, files_from0, tags, alone, uncompressed;
  std::string host, stdin_name;
  bool one_file_system = false, exclude_caches = false, from_stdin = false, dry_run = false;
  std::string compression = "balanced", wait;
};
struct LsCommand {
  std::string snapshot;
  SnapshotFilter latest;
  bool long_format = false, recursive = false;
};
struct FindCommand {
  std::string pattern, snapshot;
  bool long_format = false, ignore_case = false;
};
struct DiffCommand {
  std::string before, after;
};
struct RestoreCommand {
  std::string snapshot, target, overwrite = "changed";
  SnapshotFilter latest;
  std::vector<std::string> includes, excludes;
  bool dry_run = false, verify = false, privileged = false;
};
struct DumpCommand {
  std::string source;
  SnapshotFilter latest;
};
struct CheckCommand {
  double read_data_percent = 0;  // 0: structure only
};

struct PruneCommand {
  bool dry_run = false;
  double max_unused_percent = 5, give_up_after_days = 7;
  std::optional<std::uint64_t> max_repack;  // bytes
};
struct ForgetCommand {
  std::vector<std::string> snapshots;
  std::uint32_t last = 0, hourly = 0, daily = 0, weekly = 0, monthly = 0, yearly = 0;
  std::string within, group_by = "host,paths";
  std::vector<std::string> keep_tags;
  SnapshotFilter filter;
  double max_drop_percent = 90;
  bool dry_run = false, clock_is_right = false, prune = false;
  PruneCommand pruning;
};

struct TagCommand {
  std::vector<std::string> snapshots, add, remove, set;
  SnapshotFilter filter;
  bool dry_run = false;
};
struct RepairCommand {
  std::string what;
  bool apply = false, accept_rollback = false;
};
struct RetentionLockCommand {
  std::string action, duration, paper_key_file, first_repository;
  bool dry_run = false;
};
struct KeyCommand {
  std::string action, first_repository;
  bool dry_run = false;
};
struct HomePassphraseCommand {
  std::string what, action, new_file;
};

// Paths of a filter as a backup stored them.
Result<SnapshotFilter> stored_filter(SnapshotFilter filter);
bool selected(const Snapshot& snapshot, const SnapshotFilter& filter);
std::vector<std::string> split_commas(const std::string& text);
// "--tag a,b" is two tags, as restic has it.
std::vector<std::string> split_tags(const std::vector<std::string>& given);
// Host names as they are shown: with the device where several devices have one name.
std::function<std::string(const Snapshot&)> host_labels(const HeadList& heads);

Result<int> run_init(const Context& context, const InitCommand& command);
Result<int> run_recover(const Context& context, const RecoverCommand& command);
Result<int> run_status(const Context& context);
Result<int> run_backup(const Context& context, const BackupCommand& command);
Result<int> run_snapshots(const Context& context, const SnapshotFilter& filter);
Result<int> run_ls(const Context& context, const LsCommand& command);
Result<int> run_find(const Context& context, const FindCommand& command);
Result<int> run_diff(const Context& context, const DiffCommand& command);
Result<int> run_stats(const Context& context);
Result<int> run_restore(const Context& context, const RestoreCommand& command);
Result<int> run_dump(const Context& context, const DumpCommand& command);
Result<int> run_check(const Context& context, const CheckCommand& command);
Result<int> run_forget(const Context& context, const ForgetCommand& command);
Result<int> run_prune(const Context& context, const PruneCommand& command);
Result<int> run_tag(const Context& context, const TagCommand& command);
Result<int> run_repair(const Context& context, const RepairCommand& command);
Result<int> run_recover_snapshots(const Context& context, const RepairCommand& command);
Result<int> run_retention_lock(const Context& context, const RetentionLockCommand& command);
Result<int> run_key(const Context& context, const KeyCommand& command);
Result<int> run_home_passphrase(const Context& context, const HomePassphraseCommand& command);

}  // namespace holdfast
