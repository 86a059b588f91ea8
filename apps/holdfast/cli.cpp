// SPDX-License-Identifier: Apache-2.0
// The command line, by CLI11. Names and forms are promises: scripts and docs/json.md build on them.
#include "cli.h"

#include <fmt/format.h>

#include <CLI/CLI.hpp>
#include <algorithm>
#include <nlohmann/json.hpp>

#include "commands.h"
#include "generate.h"
#include "usage.h"

namespace holdfast {

namespace {

struct Commands {
  GlobalOptions global;
  InitCommand init;
  RecoverCommand recover;
  KeyCommand key;
  BackupCommand backup;
  SnapshotFilter snapshots;
  LsCommand ls;
  FindCommand find;
  DiffCommand diff;
  RestoreCommand restore;
  DumpCommand dump;
  CheckCommand check;
  ForgetCommand forget;
  PruneCommand prune;
  RepairCommand repair;
  TagCommand tag;
  RetentionLockCommand lock;
  HomePassphraseCommand home;
  std::string shell;
};

int exit_code(Code code) {
  if (code == kUsage) return 2;
  switch (code) {
    case Code::alarm:
      return 10;
    case Code::corrupt:
      return 4;
    case Code::interrupted:
      return 130;
    default:
      return 1;
  }
}

std::string_view reason(Code code) {
  if (code == kUsage) return "usage";
  switch (code) {
    case Code::not_found:
      return "not_found";
    case Code::conflict:
      return "conflict";
    case Code::corrupt:
      return "damaged";
    case Code::denied:
      return "denied";
    case Code::unavailable:
      return "unavailable";
    case Code::invalid:
      return "invalid";
    case Code::full:
      return "full";
    case Code::locked:
      return "locked";
    case Code::interrupted:
      return "interrupted";
    case Code::alarm:
      return "alarm";
  }
  return "?";
}

void add_globals(CLI::App& app, GlobalOptions& g) {
  app.add_option("-r,--repo", g.repository,
                 "Repository: a folder, s3:https://HOST/BUCKET[/PREFIX] or s3://BUCKET[/PREFIX] "
                 "(else HOLDFAST_REPO, else 'repository' in config.toml)")
      ->type_name("R");
  app.add_option("--home", g.home,
                 "Folder of holdfast's own files (else HOLDFAST_HOME, else the XDG folders)")
      ->type_name("DIR");
  app.add_option("--passphrase-file", g.passphrase_file,
                 "File with the passphrase of a sealed home; init and recover seal a new home with "
                 "it (else HOLDFAST_PASSPHRASE_FILE, HOLDFAST_PASSPHRASE_COMMAND; to open a home, "
                 "else a prompt)")
      ->type_name("FILE");
  const auto rate = [&](const char* name, std::uint64_t& value, const char* what) {
    app.add_option(name, value, what)
        ->type_name("RATE")
        ->transform(CLI::AsSizeValue(false).description(""));
  };
  rate("--limit-upload", g.limit_upload, "Send at most RATE bytes a second to a bucket (500K, 2M)");
  rate("--limit-download", g.limit_download, "Receive at most RATE bytes a second from a bucket");
  app.add_option("--connections", g.connections, "At most N requests to a bucket at once (8)")
      ->type_name("N")
      ->check(CLI::Range(1, 64));
  app.add_flag("--json", g.json, "One JSON object a line on standard output");
  app.add_flag("-q,--quiet", g.quiet, "Errors and warnings only");
}

CLI::App& command(CLI::App& app, const char* name, const char* what, const char* examples) {
  CLI::App& sub = *app.add_subcommand(name, what);
  sub.footer(std::string("Examples:\n") + examples);
  sub.fallthrough();
  return sub;
}

void add_account_commands(CLI::App& app, Commands& c) {
  CLI::App& init = command(
      app, "init", "Make a repository, and an account where this home has none",
      "  holdfast --repo /mnt/backup init --paper-key-out paper-key.txt\n"
      "  holdfast --repo /mnt/second init        (a second repository of the same account)");
  init.add_option("--paper-key-out", c.init.paper_key_out,
                  "Write the paper key of a new account to this new file; else it is shown once")
      ->type_name("FILE");
  init.add_option("--device-name", c.init.device_name, "Name of this device (else the host's name)")
      ->type_name("NAME");
  CLI::App& recover =
      command(app, "recover", "Add this machine to the account of a repository, by the paper key",
              "  holdfast --repo /mnt/backup recover --paper-key-file paper-key.txt\n"
              "  holdfast --repo /mnt/dvd --home /tmp/h recover --read-only   (to restore only)");
  recover.add_flag(
      "--read-only", c.recover.read_only,
      "Write nothing to the repository: this home can read, restore and check, and the "
      "account does not learn of it");
  recover
      .add_option("--paper-key-file", c.recover.paper_key_file,
                  "File with the words of the paper key; else they are asked for")
      ->type_name("FILE");
  recover
      .add_option("--device-name", c.recover.device_name,
                  "Name of this device (else the host's name)")
      ->type_name("NAME");
  CLI::App& home = command(app, "home", "Seal this home's key with a passphrase, or open it",
                           "  holdfast home passphrase set\n"
                           "  holdfast home passphrase remove");
  home.add_option("WHAT", c.home.what, "passphrase")
      ->required()
      ->check(CLI::IsMember({"passphrase"}));
  home.add_option("ACTION", c.home.action, "set (a new one, or another one) or remove")
      ->required()
      ->check(CLI::IsMember({"set", "remove"}));
  home.add_option("--new-passphrase-file", c.home.new_file,
                  "File whose first line is the new passphrase; else it is asked for")
      ->type_name("FILE");
  CLI::App& key = command(app, "key", "Change the key that new backups are sealed under",
                          "  holdfast key rotate");
  key.add_option("ACTION", c.key.action, "rotate: a new key, for the same devices and paper key")
      ->required()
      ->check(CLI::IsMember({"rotate"}));
  key.add_option("--first-repo", c.key.first_repository,
                 "The account's first repository, where this is another one")
      ->type_name("R");
  key.add_flag("--dry-run", c.key.dry_run, "Show what would change");
  command(app, "status", "Account, devices, mode, newest snapshots", "  holdfast status");
}

void add_backup_command(CLI::App& app, Commands& c) {
  CLI::App& sub =
      command(app, "backup", "Back up files and folders as a new snapshot",
              "  holdfast backup /home --exclude '*.o' --exclude-caches --tag daily\n"
              "  pg_dump base | holdfast backup --stdin --stdin-name base.sql\n"
              "  holdfast backup / --one-file-system --exclude-file /etc/holdfast.exclude");
  sub.add_option("PATH", c.backup.paths, "What to back up");
  sub.add_option("-e,--exclude", c.backup.excludes,
                 "Leave out what matches (as restic's patterns; repeat for more)")
      ->type_name("PATTERN");
  sub.add_option("--iexclude", c.backup.iexcludes, "The same without regard to case")
      ->type_name("PATTERN");
  sub.add_option("--exclude-file", c.backup.exclude_files, "File with patterns, one a line")
      ->type_name("FILE");
  sub.add_option("--exclude-if-present", c.backup.exclude_if_present,
                 "Leave out the contents of folders that hold such a file or folder; with HEADER "
                 "only a file that begins so")
      ->type_name("NAME[:HEADER]");
  sub.add_option("--files-from", c.backup.files_from,
                 "File with shell patterns of paths to back up, one a line, as restic's: lines "
                 "that begin with # are comments; - is standard input")
      ->type_name("FILE");
  sub.add_option("--files-from0", c.backup.files_from0,
                 "File with paths as they are, each ended by a zero byte; - is standard input")
      ->type_name("FILE");
  sub.add_flag("-x,--one-file-system", c.backup.one_file_system,
               "Do not go into other file systems");
  sub.add_flag("--exclude-caches", c.backup.exclude_caches,
               "Leave out the contents of folders with a CACHEDIR.TAG");
  sub.add_option("--tag", c.backup.tags, "Tags of the snapshot (commas between, or repeat)")
      ->type_name("TAG[,TAG]");
  sub.add_option("-H,--host", c.backup.host, "Host name of the snapshot (else this machine's)")
      ->type_name("NAME");
  sub.add_flag("--stdin", c.backup.from_stdin, "Back up standard input as one file");
  c.backup.stdin_name = "stdin";
  sub.add_option("--stdin-name", c.backup.stdin_name,
                 "Path of that file in the snapshot, as dump.sql or /db/dump.sql")
      ->type_name("NAME");
  sub.add_option("--wait", c.backup.wait,
                 "How long to wait while another backup of this home runs, as 30s, 10m, 2h; "
                 "without it there is no waiting")
      ->type_name("DURATION");
  sub.add_flag("-n,--dry-run", c.backup.dry_run,
               "Only tell what would be read; names and metadata are looked at, contents are not");
  sub.add_option("--compression", c.backup.compression, "fast, balanced (the default) or max")
      ->type_name("LEVEL");
  sub.add_option(
         "--compress-alone", c.backup.alone,
         "Compress matching files with nothing else, so that no other file's contents tell on them")
      ->type_name("PATTERN");
  sub.add_option("--no-compress", c.backup.uncompressed, "Store matching files uncompressed")
      ->type_name("PATTERN");
}

void add_latest(CLI::App& sub, SnapshotFilter& filter) {
  sub.add_option("-H,--host", filter.host, "With latest: the latest of this host")
      ->type_name("NAME");
  sub.add_option("--path", filter.path, "With latest: the latest of this path")->type_name("PATH");
}

// Of commands that only read.
void add_despite_alarm(CLI::App& sub, Commands& c) {
  sub.add_flag("--despite-alarm", c.global.despite_alarm,
               "Read what can be read although the store contradicts itself or this home: each "
               "alarm is shown and passed over");
}

void add_query_commands(CLI::App& app, Commands& c) {
  CLI::App& snapshots =
      command(app, "snapshots", "List snapshots", "  holdfast snapshots --host laptop --tag daily");
  add_despite_alarm(snapshots, c);
  snapshots.add_option("-H,--host", c.snapshots.host, "Only of this host")->type_name("NAME");
  snapshots.add_option("--path", c.snapshots.path, "Only of this path")->type_name("PATH");
  snapshots.add_option("--tag", c.snapshots.tags, "Only with these tags")->type_name("TAG[,TAG]");
  CLI::App& ls = command(app, "ls", "List what is in a snapshot",
                         "  holdfast ls latest:/home/me\n  holdfast ls -l -R 3f2a91:/etc");
  ls.add_option("SNAP", c.ls.snapshot,
                "Snapshot: an id, the first digits of one, or latest; with :PATH only that folder")
      ->required();
  ls.add_flag("-l,--long", c.ls.long_format, "Modes, owners, sizes, times");
  ls.add_flag("-R,--recursive", c.ls.recursive,
              "All below the folder; without :PATH it is all in any case");
  add_latest(ls, c.ls.latest);
  add_despite_alarm(ls, c);
  CLI::App& find =
      command(app, "find", "Find files in all snapshots",
              "  holdfast find '*.pdf'\n  holdfast find --snapshot latest '/home/*/.ssh/*'");
  find.add_option("PATTERN", c.find.pattern, "Shell pattern of a name, or with a / of a whole path")
      ->required();
  find.add_option("-s,--snapshot", c.find.snapshot, "Only in this snapshot")->type_name("SNAP");
  add_despite_alarm(find, c);
  find.add_flag("-l,--long", c.find.long_format, "Modes, owners, sizes, times");
  find.add_flag("-i,--ignore-case", c.find.ignore_case, "Without regard to case");
  CLI::App& diff = command(app, "diff", "Compare two snapshots", "  holdfast diff 3f2a91 latest");
  add_despite_alarm(diff, c);
  diff.add_option("BEFORE", c.diff.before, "Snapshot")->required();
  diff.add_option("AFTER", c.diff.after, "Snapshot")->required();
  command(app, "stats", "Sizes of the repository", "  holdfast stats");
}

void add_data_commands(CLI::App& app, Commands& c) {
  CLI::App& restore = command(app, "restore", "Restore a snapshot, or a part of it, into a folder",
                              "  holdfast restore latest --target /tmp/back\n"
                              "  holdfast restore latest:/home/me/photos --target photos --verify\n"
                              "  holdfast restore 3f2a91 --target / --include /etc --privileged");
  restore
      .add_option("SNAP", c.restore.snapshot,
                  "Snapshot; with :PATH the contents of that folder go into DIR")
      ->required();
  restore
      .add_option("-t,--target", c.restore.target,
                  "Folder to restore into; it is made with those above it")
      ->required()
      ->type_name("DIR");
  add_latest(restore, c.restore.latest);
  add_despite_alarm(restore, c);
  restore.add_option("-i,--include", c.restore.includes, "Only what matches (repeat for more)")
      ->type_name("PATTERN");
  restore
      .add_option("-e,--exclude", c.restore.excludes, "Leave out what matches (repeat for more)")
      ->type_name("PATTERN");
  restore.add_flag("-n,--dry-run", c.restore.dry_run,
                   "Only tell what would be restored; what stands in DIR is not looked at");
  restore
      .add_option("--overwrite", c.restore.overwrite,
                  "never, changed (size or time differ; the default) or always")
      ->type_name("WHEN");
  restore.add_flag("--verify", c.restore.verify,
                   "Wait until all is on the disk, then read it back and compare");
  restore.add_flag("--privileged", c.restore.privileged,
                   "Also restore setuid and setgid, capabilities, devices, security and trusted "
                   "attributes, and owners where this user is not root");
  CLI::App& dump = command(
      app, "dump", "Write a file, or a folder as tar, to standard output",
      "  holdfast dump latest:/etc/fstab\n  holdfast dump latest:/home/me | tar -x -C /tmp/back");
  dump.add_option("SNAP:PATH", c.dump.source, "What to write")->required();
  add_latest(dump, c.dump.latest);
  add_despite_alarm(dump, c);
  CLI::App& check =
      command(app, "check", "Verify the repository",
              "  holdfast check\n  holdfast check --read-data\n  holdfast check --read-data=5");
  check
      .add_option("--read-data", c.check.read_data_percent,
                  "Read and verify every byte, or of PERCENT of the packs, drawn by chance")
      ->type_name("[=PERCENT]")
      ->expected(0, 1)
      ->default_str("100")
      ->check(CLI::Range(0.0, 100.0));
}

void add_prune_options(CLI::App& app, PruneCommand& c) {
  app.add_option("--max-unused", c.max_unused_percent,
                 "Share of the used bytes that may stay unused, in percent (5)")
      ->type_name("PERCENT")
      ->check(CLI::Range(0.0, 100.0));
  app.add_option("--max-repack", c.max_repack, "Write at most SIZE of packs again (10G, 500M)")
      ->type_name("SIZE")
      ->transform(CLI::AsSizeValue(false).description(""));
  app.add_option("--give-up-after", c.give_up_after_days,
                 "Do not wait for other devices' backups that began more than DAYS ago (7); such a "
                 "backup begins again by itself")
      ->type_name("DAYS")
      ->check(CLI::Range(0.0, 36500.0));
}

void add_retention_commands(CLI::App& app, Commands& c) {
  CLI::App& forget = command(
      app, "forget",
      "Let snapshots go, by a policy or by name; the newest of each group stays always",
      "  holdfast forget --keep-daily 7 --keep-weekly 5 --keep-monthly 12 --dry-run\n"
      "  holdfast forget --keep-within 30d --keep-yearly 10 --prune\n  holdfast forget 3f2a9c");
  forget.add_option("SNAP", c.forget.snapshots, "Snapshots to forget, instead of a policy");
  const auto count = [&](const char* name, std::uint32_t& value, const char* what) {
    forget.add_option(name, value, fmt::format("Keep the newest of each of the last N {}", what))
        ->type_name("N");
  };
  forget.add_option("--keep-last", c.forget.last, "Keep the last N snapshots")->type_name("N");
  count("--keep-hourly", c.forget.hourly, "hours that have one");
  count("--keep-daily", c.forget.daily, "days that have one");
  count("--keep-weekly", c.forget.weekly, "weeks that have one");
  count("--keep-monthly", c.forget.monthly, "months that have one");
  count("--keep-yearly", c.forget.yearly, "years that have one");
  forget
      .add_option("--keep-within", c.forget.within,
                  "Keep all that are older than the newest by less than that (1y5m7d2h)")
      ->type_name("DURATION");
  forget
      .add_option("--keep-tag", c.forget.keep_tags,
                  "Keep all with these tags (repeatable: any of the lists)")
      ->type_name("TAG[,TAG]");
  forget
      .add_option("--group-by", c.forget.group_by,
                  "What a policy takes together, besides of one device: host,paths (the default), "
                  "host, paths, or nothing; without paths also what was backed up with other paths")
      ->type_name("WHAT");
  forget.add_option("--host", c.forget.filter.host, "Only snapshots of this host");
  forget.add_option("--path", c.forget.filter.path, "Only snapshots of this path");
  forget.add_option("--tag", c.forget.filter.tags, "Only snapshots with this tag (repeatable)");
  forget.add_flag("--dry-run", c.forget.dry_run, "Show what would stay and go, and why");
  forget
      .add_option("--max-drop", c.forget.max_drop_percent,
                  "Refuse when more than PERCENT of them would go (90)")
      ->type_name("PERCENT")
      ->check(CLI::Range(0.0, 100.0));
  forget.add_flag("--clock-is-right", c.forget.clock_is_right,
                  "Go on although this machine's clock and the snapshots disagree");
  forget.add_flag("--prune", c.forget.prune, "Then remove what no snapshot needs");
  add_prune_options(forget, c.forget.pruning);
  CLI::App& prune = command(app, "prune", "Remove what no snapshot needs",
                            "  holdfast prune --dry-run\n  holdfast prune --max-repack 10G");
  prune.add_flag("--dry-run", c.prune.dry_run, "Show what would be removed");
  add_prune_options(prune, c.prune);
}

void add_lock_command(CLI::App& app, Commands& c) {
  CLI::App& lock =
      command(app, "retention-lock",
              "Show or set for how long nobody can delete what was stored, whatever keys he has",
              "  holdfast retention-lock show\n  holdfast retention-lock set 30d\n"
              "  holdfast retention-lock set 7d --paper-key-file paper-key.txt     (shorter)");
  lock.add_option("ACTION", c.lock.action, "show or set")
      ->required()
      ->check(CLI::IsMember({"show", "set"}));
  lock.add_option("DURATION", c.lock.duration,
                  "For how long (12h, 30d, 6w, 1y; 0 lifts it for what is stored from now on)");
  lock.add_option("--paper-key-file", c.lock.paper_key_file,
                  "File with the words of the paper key, to make it shorter")
      ->type_name("FILE");
  lock.add_option("--first-repo", c.lock.first_repository,
                  "The account's first repository, where this is another one")
      ->type_name("R");
  lock.add_flag("--dry-run", c.lock.dry_run, "Show what would change");
}

void add_tag_command(CLI::App& app, Commands& c) {
  CLI::App& tag = command(app, "tag", "Change the tags of snapshots",
                          "  holdfast tag --add before-upgrade latest\n"
                          "  holdfast tag --remove daily --host laptop");
  tag.add_option("SNAP", c.tag.snapshots, "Snapshots; without any, all that the filters leave");
  tag.add_option("--add", c.tag.add, "Tag to add (repeatable)")->type_name("TAG");
  tag.add_option("--remove", c.tag.remove, "Tag to remove (repeatable)")->type_name("TAG");
  tag.add_option("--set", c.tag.set, "These tags instead of all others (repeatable)")
      ->type_name("TAG");
  tag.add_option("--host", c.tag.filter.host, "Only snapshots of this host");
  tag.add_option("--path", c.tag.filter.path, "Only snapshots of this path");
  tag.add_option("--tag", c.tag.filter.tags, "Only snapshots with this tag (repeatable)");
  tag.add_flag("--dry-run", c.tag.dry_run, "Show what would change");
}

void add_repair_commands(CLI::App& app, Commands& c) {
  CLI::App& repair = command(app, "repair", "Make the best of a repository that lost something",
                             "  holdfast repair index             (only tells what it would do)\n"
                             "  holdfast repair index --apply\n  holdfast repair packs --apply\n"
                             "  holdfast repair snapshots --apply");
  repair
      .add_option("WHAT", c.repair.what,
                  "index (lists of packs, the local index, keys that the store lost), packs (saves "
                  "what can be read of damaged ones) or snapshots (copies without what is lost); "
                  "in this order")
      ->required()
      ->check(CLI::IsMember({"index", "packs", "snapshots"}));
  repair.add_flag("--apply", c.repair.apply, "Do it; without it nothing is changed");
  repair.add_flag("--accept-rollback", c.repair.accept_rollback,
                  "With 'index': go on from what the store shows, although this home saw more; for "
                  "a repository that its keeper brought back from an older copy");
  CLI::App& recover = command(app, "recover-snapshots",
                              "Find trees that no snapshot names, and make snapshots of them",
                              "  holdfast recover-snapshots\n  holdfast recover-snapshots --apply");
  recover.add_flag("--apply", c.repair.apply, "Do it; without it nothing is changed");
}

Result<int> run(const CLI::App& app, const Commands& c, const Context& context) {
  const std::string name = app.get_subcommands().front()->get_name();
  if (name == "init") return run_init(context, c.init);
  if (name == "recover") return run_recover(context, c.recover);
  if (name == "status") return run_status(context);
  if (name == "backup") return run_backup(context, c.backup);
  if (name == "snapshots") return run_snapshots(context, c.snapshots);
  if (name == "ls") return run_ls(context, c.ls);
  if (name == "find") return run_find(context, c.find);
  if (name == "diff") return run_diff(context, c.diff);
  if (name == "stats") return run_stats(context);
  if (name == "restore") return run_restore(context, c.restore);
  if (name == "dump") return run_dump(context, c.dump);
  if (name == "check") return run_check(context, c.check);
  if (name == "forget") return run_forget(context, c.forget);
  if (name == "prune") return run_prune(context, c.prune);
  if (name == "tag") return run_tag(context, c.tag);
  if (name == "repair") return run_repair(context, c.repair);
  if (name == "recover-snapshots") return run_recover_snapshots(context, c.repair);
  if (name == "retention-lock") return run_retention_lock(context, c.lock);
  if (name == "key") return run_key(context, c.key);
  if (name == "home") return run_home_passphrase(context, c.home);
  if (name == "completion") return print_completion(app, c.shell, context.out);
  return print_man_page(app, context.out);
}

void add_generators(CLI::App& app, Commands& c) {
  CLI::App& completion = command(app, "completion", "Print shell completion",
                                 "  holdfast completion bash > /etc/bash_completion.d/holdfast");
  completion.add_option("SHELL", c.shell, "bash, zsh or fish")->required();
  command(app, "generate-man", "Print the manual page", "  holdfast generate-man | man -l -")
      .group("");
}

// A mistake on the line may have come before --json was parsed.
bool asks_for_json(int argc, const char* const* argv) {
  return std::any_of(argv, argv + argc,
                     [](const char* a) { return std::string_view(a) == "--json"; });
}

// The last object, and a line on stderr. Gives the exit code.
int end_with(const Error& error, Output& out) {
  const int code = exit_code(error.code);
  if (!out.has_bytes())  // what a dump wrote stays what it is
    out.object({{"message_type", "error"},
                {"reason", reason(error.code)},
                {"code", code},
                {"message", error.what}});
  out.warning("holdfast: " + error.what);
  return code;
}

int end_usage(const CLI::App& app, const CLI::ParseError& error, bool json) {
  if (error.get_exit_code() == 0) return app.exit(error);  // --help, --version
  Output out(json, false);
  const auto chosen = app.get_subcommands();
  // Words that nothing took: the first is what should have been a command.
  const auto rest = app.remaining();
  const int code =
      end_with({kUsage, chosen.empty() && !rest.empty() && !rest.front().starts_with('-')
                            ? fmt::format("there is no command '{}'", escaped(rest.front()))
                            : std::string(error.what())},
               out);
  out.warning(fmt::format("Try 'holdfast {}--help'.",
                          chosen.empty() ? "" : chosen.front()->get_name() + " "));
  return out.flush() ? code : exit_code(Code::unavailable);
}

int end(const Result<int>& result, Output& out, const Stop& stop) {
  const Result<> output = out.flush();
  const bool reader_gone = !output && output.error().code == Code::interrupted;
  if (result && output) return *result;
  if (result && !reader_gone) return end_with(output.error(), out);
  // As everybody does for `head`: it got what it wanted. But a file that was cut off is no success:
  // as if SIGPIPE had ended it.
  constexpr int sigpipe = 128 + 13;
  if (reader_gone && (result || (result.error().code == Code::interrupted && !stop.requested())))
    return out.has_bytes() ? sigpipe : result.value_or(0);
  // Whatever a call gave when the signal came in between.
  const bool stopped = stop.requested() && result.error().code != Code::alarm;
  const int code =
      end_with(stopped ? Error{Code::interrupted, result.error().what} : result.error(), out);
  return out.flush() ? code : std::max(code, 1);
}

// "--tag T PATH": an option that can be repeated takes one value each time, and leaves the paths
// alone.
void take_one_value_each(CLI::App& app) {
  for (CLI::App* sub : app.get_subcommands({}))
    for (CLI::Option* option : sub->get_options())
      if (!option->get_positional() && option->get_expected_max() > 1)
        option->allow_extra_args(false);
}

}  // namespace

int run_command_line(int argc, const char* const* argv, ProgramWorld world) {
  Commands c;
  CLI::App app("End-to-end encrypted backups in which only you can lower your protection.",
               "holdfast");
  app.require_subcommand(1);
  app.set_version_flag("--version", fmt::format("holdfast {}", kVersion));
  app.footer(
      "Exit codes: 0 done, 1 failed or refused, 2 usage, 3 a source was unreadable and the rest is "
      "done,\n"
      "4 damage, 10 alarm, 130 interrupted. 'holdfast COMMAND --help' has examples; see also "
      "holdfast(1).");
  add_globals(app, c.global);
  add_account_commands(app, c);
  add_backup_command(app, c);
  add_query_commands(app, c);
  add_data_commands(app, c);
  add_retention_commands(app, c);
  add_lock_command(app, c);
  add_tag_command(app, c);
  add_repair_commands(app, c);
  add_generators(app, c);
  take_one_value_each(app);
  try {
    app.parse(argc, argv);
  } catch (const CLI::ParseError& error) {
    return end_usage(app, error, c.global.json || asks_for_json(argc, argv));
  }
  Output out(c.global.json, c.global.quiet);
  Result<int> result = fail(Code::unavailable, "");
  try {
    result =
        run(app, c, {c.global, out, world.random, world.clock, world.stop, world.stdin_closed});
  } catch (const std::exception& error) {
    result = fail(Code::unavailable, fmt::format("unexpected: {}", error.what()));
  }
  return end(result, out, world.stop);
}

}  // namespace holdfast
