// SPDX-License-Identifier: Apache-2.0
// Walks a live file system whose owner may be hostile to the user who backs it up. Everything below
// a start is reached from its parent's descriptor, one component at a time, without following
// anything; what was opened must be the object that was looked at before (TOC-01).
#pragma once

#include <sys/stat.h>

#include <memory>
#include <optional>

#include "base/world.h"
#include "fs/attributes.h"
#include "fs/beneath.h"
#include "fs/file_reader.h"
#include "fs/names.h"
#include "repo/pattern.h"
#include "repo/source.h"

namespace holdfast {

struct WalkOptions {
  // Absolute. Entries keep this spelling, cleaned lexically; a start's directories are entries too,
  // so that every entry has its parents. Symlinks among them are followed (fs/starts.h) and appear
  // as the directories that they lead to; a start that is itself a symlink is stored as one.
  std::vector<std::string> starts;
  bool one_file_system = false;  // mount points are stored, what is mounted is not; but starts are
  bool exclude_caches = false;   // of directories with a CACHEDIR.TAG only the tag is stored
  // "NAME" or "NAME:HEADER": of directories that have such a file (that begins so), only that file.
  std::vector<std::string> exclude_if_present;
  PatternList excludes;  // applied to starts too
  bool all_new = false;  // open() will be asked for every file: saves a system call each
  Beneath beneath = Beneath::automatic;
};

class Walk final : public Source {
 public:
  // Code::not_found when none of the starts is there, Code::invalid for a bad or excluded list.
  // `stop` must outlive the walk.
  static Result<std::unique_ptr<Walk>> begin(WalkOptions options, const Stop& stop);

  Result<const Entry*> next() override;
  Result<> complete(Entry& entry) override;
  Result<> open() override;
  Result<ReadPiece> read(MutableByteSpan buffer) override;
  // The entry's size is what read() gave, so that content always sums to it.
  Result<bool> finish(Entry& entry) override;
  [[nodiscard]] const std::vector<Unreadable>& unreadable() const override { return unreadable_; }
  [[nodiscard]] std::uint64_t unreadable_count() const override { return unreadable_count_; }

  [[nodiscard]] std::uint64_t sockets_skipped() const { return sockets_; }
  // Gone between the listing of their directory and the look at them: not an error.
  [[nodiscard]] std::uint64_t vanished() const { return vanished_; }

 private:
  struct Identity {
    dev_t device = 0;
    ino_t inode = 0;
    mode_t type = 0;
    bool operator==(const Identity&) const = default;
    static Identity of(const struct stat& st);
  };
  // Starts below a directory on the way to them: starts_[low, high).
  struct Range {
    std::size_t low = 0, high = 0;
    [[nodiscard]] bool empty() const { return low == high; }
  };
  struct Below {  // a directory to go down into
    std::uint32_t offset = 0;
    std::uint16_t length = 0;
    Identity id;
    Range range;  // not empty: it is on the way to starts
  };
  struct Frame {
    Fd fd;  // closed for the middle of a deep path
    Identity id;
    std::size_t path_length = 0;
    Range range;  // not empty: on the way to starts, and only these are looked at
    bool start = false;
    std::string names;  // of `below`, each with a zero byte
    std::vector<Below> below;
    std::size_t next = 0;
  };
  struct Tag {
    std::string name, header;
  };

  Walk(WalkOptions options, std::vector<std::string> starts, std::vector<std::string> nested,
       const Stop& stop);
  Result<> check_starts();
  Result<> begin_root();
  void report_hidden_starts();

  // Emission of the directory on top.
  bool look_at(std::size_t index);
  bool open_early(std::string_view name, struct stat& st);
  bool look_at_way(std::string_view name, Range range);
  bool take(std::string_view name, const struct stat& st, Range range);
  void go_down_later(std::string_view name, const struct stat& st, Range range);
  void fill(std::string_view name, const struct stat& st);
  bool excluded(std::string_view name);
  bool crosses_file_system(std::string_view name, const struct stat& st);

  // Between directories.
  Result<> advance();
  Result<> enter(const Below& below, std::string_view name);
  Result<Fd> open_directory(const Below& below, const char* name);
  void push(Frame frame);
  Result<> list_top();
  void list_way();
  bool has_tag(const Tag& tag);
  void pop();
  bool reopen_top(const Fd& child);
  Opened reopen_by_path() const;

  // Objects.
  std::expected<Fd, int> open_seen(int flags, struct stat& st);
  Opened open_with_noatime(int directory, const char* name, int flags);
  std::expected<Fd, int> open_for_attributes(const Entry& entry, OpenedAs& as);
  void read_attributes(int fd, OpenedAs as, Entry& entry);
  Result<> give_up(std::string_view doing, int error);
  void report(std::string_view path, std::string what);
  [[nodiscard]] std::string path_of(std::string_view name) const;

  WalkOptions options_;
  const Stop& stop_;
  std::vector<std::string> starts_, nested_;
  std::vector<Tag> tags_;
  bool try_noatime_ = true;

  std::vector<Frame> frames_;
  std::string path_;  // of the frame on top
  NameList names_;    // of the frame on top, as far as it is not yet looked at
  std::vector<Range> ranges_;
  std::size_t cursor_ = 0;
  std::string scratch_;

  Entry entry_;  // what next() gave
  Identity seen_;
  Fd way_;  // the directory of entry_, when it is on the way to starts
  FileReader file_;
  std::optional<FileReader> early_;  // of entry_, opened before it was asked for
  AttributeReader attributes_;

  std::vector<Unreadable> unreadable_;
  std::uint64_t unreadable_count_ = 0;
  std::uint64_t sockets_ = 0, vanished_ = 0;
};

}  // namespace holdfast
