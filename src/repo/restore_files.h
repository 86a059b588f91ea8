// SPDX-License-Identifier: Apache-2.0
// The part of a restore that writes files: batches of small files and segments of large ones go to
// workers, in the order of the tree, so that each frame is decoded about once.
#pragma once

#include <atomic>
#include <condition_variable>
#include <thread>
#include <variant>

#include "base/queue.h"
#include "repo/link_groups.h"
#include "repo/restore.h"

namespace holdfast {

// What workers found, together. Thread-safe.
class RestoreLog {
 public:
  void incomplete(const Entry& entry, const std::string& path, const Error& error);
  // Whether it is on the list already (of which only the first ones are kept).
  bool named(const std::string& path);
  void tree_damage(const Error& error);
  void hard_link_left_out(const std::string& path, const Error& error);
  // The error that ends all; the first one counts.
  void abort(const Error& error);
  [[nodiscard]] bool aborted() const { return aborted_.load(std::memory_order_relaxed); }
  [[nodiscard]] Result<> status();
  template <class Change>
  void count(Change change) {
    const std::lock_guard lock(mutex_);
    change(report_);
  }
  // That it stood there; by FileJob::number.
  void kept(std::uint64_t number);
  bool was_kept(std::uint64_t number);
  RestoreReport take();
  RestoreProgress progress();

 private:
  void add(Incomplete incomplete);

  std::mutex mutex_;
  RestoreReport report_;
  std::vector<bool> kept_;  // one bit for each file up to the last one that was kept
  std::optional<LeftOut> hard_links_;
  std::optional<Error> error_;
  std::atomic<bool> aborted_{false};
};

struct FileJob {
  Entry entry;       // its directory is relative to the target
  std::string path;  // in the snapshot
  DirectoryRef directory;
  std::uint64_t number = 0;  // of the files in the order of the tree
  std::shared_ptr<LinkGroup> group{};
  bool settles = false;  // it is its turn in the group
};

struct LargeFile;
struct FileSegment {
  std::shared_ptr<LargeFile> file;
  std::uint64_t offset = 0;
  std::vector<ContentItem> items;
};

class FileWriter {
 public:
  // workers is at least 1.
  FileWriter(ChunkSource& chunks, NodeSource& nodes, Target& target, RestoreLog& log,
             const RestoreOptions& options, const Stop& stop);
  ~FileWriter();
  FileWriter(const FileWriter&) = delete;
  FileWriter& operator=(const FileWriter&) = delete;

  void restore(FileJob job);
  // Later: reads it back and compares chunk ids.
  void verify(FileJob job);
  // Everything given so far is done.
  void drain();

 private:
  struct Batch {
    std::vector<FileJob> jobs;
    bool verify = false;
    std::uint64_t bytes = 0, weight = 0;
    std::size_t directories = 0;
  };
  using Job = std::variant<Batch, FileSegment>;
  // What the files of a batch need, from when the first one of them is really written.
  struct Ahead {
    std::span<const FileJob> jobs;
    std::optional<ChunkReader::Ahead> read{};
  };

  void add(FileJob job, bool verify);
  void flush();
  void push(Job job);
  void run();
  void run_batch(Batch& batch, ChunkHasher* hasher);
  Result<> allowed() const;
  void read_ahead(Ahead& ahead);
  void restore_one(FileJob& job, Ahead& ahead);
  Result<> link_one(const FileJob& job, const LinkGroup::Source& source);
  bool link_to_kept(const FileJob& job);
  Result<bool> holds_content(const LinkGroup::Source& source, const FileJob& job);
  void write_one(const FileJob& job, Ahead& ahead);
  Result<TargetFile::Committed> write_content(const FileJob& job, Ahead& ahead);
  Result<> write_item(TargetFile& file, std::uint64_t offset, const ContentItem& item);
  void verify_one(const FileJob& job, ChunkHasher& hasher);
  using SameChunk = std::function<Result<bool>(ByteSpan bytes, const ChunkId& id)>;
  using Difference = std::optional<std::string>;
  // What differs first.
  Result<Difference> compare(const Entry& entry, RestoredFile& file, const SameChunk& same);
  Result<Difference> compare_hole(RestoredFile& file, std::uint64_t offset, std::uint64_t end);
  void restore_large(FileJob job);
  Result<> cut(const std::shared_ptr<LargeFile>& file);
  void run_segment(const FileSegment& segment);
  void release(const std::shared_ptr<LargeFile>& file);
  void settle(const FileJob& job, const Result<TargetFile::Committed>& result);
  void done(const FileJob& job, const Result<TargetFile::Committed>& result);

  ChunkSource& chunks_;
  NodeSource& nodes_;
  Target& target_;
  RestoreLog& log_;
  const RestoreOptions& options_;
  const Stop& stop_;
  Batch batch_;
  BoundedQueue<Job> queue_;
  std::mutex mutex_;
  std::condition_variable idle_;
  std::uint64_t unfinished_ = 0;
  std::vector<std::thread> threads_;
};

}  // namespace holdfast
