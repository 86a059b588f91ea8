// SPDX-License-Identifier: Apache-2.0
// One thread walks, reads, cuts and builds the tree; workers hash, deduplicate, compress, seal and
// put. Between them go batches of about 1 MiB. Entries reach the tree in key order, so what waits
// for a batch waits in a queue of steps.
#include "repo/backup.h"

#include <fmt/format.h>

#include <algorithm>
#include <condition_variable>
#include <deque>
#include <thread>

#include "base/queue.h"
#include "repo/chunk_writer.h"
#include "repo/chunker.h"
#include "repo/retention_lock.h"

namespace holdfast {

namespace {

constexpr std::size_t kBatchBytes = 1U << 20;
constexpr std::size_t kBatchPiecesMax = 4096;
constexpr std::size_t kBatches = 4;
constexpr std::size_t kStepsMax = 4096;  // entries and pieces that wait for their batch
constexpr int kReadAttempts = 3;         // of a file that changes while it is read

struct Piece {
  std::uint32_t offset, length;
  std::uint64_t group;
  bool compress;
  ChunkId id;
};

// Plain bytes on their way to the workers.
struct Batch {
  Bytes data = Bytes(kBatchBytes);
  std::size_t used = 0;  // bytes cut into pieces or read and not cut yet
  std::vector<Piece> pieces;
  std::size_t steps = 0;  // that still want ids from it
  bool sent = false, done = false;
};

// What becomes of the tree next, in key order.
struct Step {
  enum class Kind : std::uint8_t { pieces, hole, discard, entry };
  explicit Step(Kind k) : kind(k) {}
  Step(Entry e, bool is_settled) : kind(Kind::entry), entry(std::move(e)), settled(is_settled) {}
  Kind kind;
  Batch* batch = nullptr;  // pieces
  std::size_t from = 0, to = 0;
  std::uint64_t hole = 0;
  Entry entry;  // entry: its content is what pieces and holes before it gave, unless it is settled
  bool settled = false;
};

class TreeSink : public NodeSink {
 public:
  explicit TreeSink(ChunkWriter::Lane& lane) : lane_(lane) {}
  Result<ChunkId> put(ChunkType type, ByteSpan node) override {
    return lane_.put(type, node, 0, true);
  }

 private:
  ChunkWriter::Lane& lane_;
};

// The workers. A batch goes in, and comes out done with the ids of its pieces, or with the first
// error of any.
class Workers {
 public:
  Workers(ChunkWriter& writer, unsigned count, const std::function<void()>& on_worker)
      : writer_(writer), queue_(kBatches) {
    if (count == 0) inline_lane_.emplace(writer, ObjectType::data_pack);
    for (unsigned i = 0; i < count; ++i)
      threads_.emplace_back([this, on_worker] {
        if (on_worker) on_worker();
        run();
      });
  }
  ~Workers() { [[maybe_unused]] const Result<> result = close(); }
  Workers(const Workers&) = delete;
  Workers& operator=(const Workers&) = delete;

  void send(Batch& batch) {
    batch.sent = true;
    if (inline_lane_)
      finish(batch, process(*inline_lane_, batch));
    else
      queue_.push(&batch);
  }
  bool done(const Batch& batch) {
    const std::lock_guard lock(mutex_);
    return batch.done;
  }
  Result<> wait(const Batch& batch) {
    std::unique_lock lock(mutex_);
    ready_.wait(lock, [&] { return batch.done; });
    return error_;
  }
  // Ends the threads, each after it sealed its open frames.
  Result<> close() {
    queue_.close();
    for (std::thread& t : threads_)
      if (t.joinable()) t.join();
    if (inline_lane_ && error_) note(inline_lane_->flush());
    inline_lane_.reset();
    return error_;
  }

 private:
  void run() {
    ChunkWriter::Lane lane(writer_, ObjectType::data_pack);
    while (const auto batch = queue_.pop()) finish(**batch, process(lane, **batch));
    note(failed() ? Result<>() : lane.flush());
  }
  Result<> process(ChunkWriter::Lane& lane, Batch& batch) {
    if (failed()) return {};
    for (Piece& piece : batch.pieces) {
      const ByteSpan plain = ByteSpan(batch.data).subspan(piece.offset, piece.length);
      HF_ASSIGN(piece.id, lane.put(ChunkType::data, plain, piece.group, piece.compress));
    }
    return {};
  }
  bool failed() {
    const std::lock_guard lock(mutex_);
    return !error_;
  }
  void note(Result<> result) {
    const std::lock_guard lock(mutex_);
    if (!result && error_) error_ = std::move(result);
  }
  void finish(Batch& batch, Result<> result) {
    note(std::move(result));
    const std::lock_guard lock(mutex_);
    batch.done = true;
    ready_.notify_all();
  }

  ChunkWriter& writer_;
  BoundedQueue<Batch*> queue_;
  std::mutex mutex_;
  std::condition_variable ready_;
  Result<> error_;
  std::optional<ChunkWriter::Lane> inline_lane_;
  std::vector<std::thread> threads_;
};

bool same_object(const Entry& before, const Entry& now) {
  return before.type == now.type && before.size == now.size && before.mtime == now.mtime &&
         before.ctime == now.ctime && before.inode == now.inode && before.mode == now.mode &&
         before.uid == now.uid && before.gid == now.gid && before.links == now.links &&
         before.rdev == now.rdev && !before.torn;
}

// Entries of the snapshot before, in step with those of the walk.
class Before {
 public:
  Before(NodeSource& nodes, const Snapshot* parent) {
    if (parent == nullptr) return;
    cursor_.emplace(nodes, parent->tree);
    started_ = parent->started;
  }
  // The entry of the same key, or null. A damaged node costs only that its files are read again.
  Result<const Entry*> find(const Entry& now) {
    while (cursor_) {
      if (!ahead_) {
        auto next = cursor_->next();
        if (!next && next.error().code == Code::corrupt) continue;
        if (!next) return next;
        current_ = *next;
        if (current_ == nullptr) break;
        ahead_ = true;
      }
      const auto order = compare_keys(current_->directory, current_->name, now.directory, now.name);
      if (order > 0) return nullptr;
      ahead_ = false;
      if (order == 0) return current_;
    }
    cursor_.reset();
    return nullptr;
  }
  // Its times are from while that backup ran: it may have changed again within one tick of the
  // clock after it was read.
  [[nodiscard]] bool racy(const Entry& before) const {
    // Most file systems' clocks go on in steps of 10 ms at most; those that keep no fractions (ext4
    // with small inodes, FAT, some network ones), in steps of up to 2 s.
    constexpr std::int64_t fine_ns = 20'000'000, coarse_ns = 2'100'000'000;
    const std::int64_t tick_ns = before.ctime.nanoseconds == 0 ? coarse_ns : fine_ns;
    const std::int64_t started_s = (started_.ns - tick_ns) / 1'000'000'000;
    const auto started_rest = static_cast<std::uint32_t>((started_.ns - tick_ns) % 1'000'000'000);
    return before.ctime >= FileTime{started_s, started_rest};
  }

 private:
  std::optional<TreeCursor> cursor_;
  const Entry* current_ = nullptr;
  bool ahead_ = false;
  Time started_;
};

class Run {
 public:
  Run(Repository& repository, const Snapshot* parent, Source& source, OwnerNames& owners,
      const BackupOptions& options, BackupProgress& progress, const Stop& stop, ChunkWriter* writer)
      : repository_(repository),
        source_(source),
        owners_(owners),
        options_(options),
        progress_(progress),
        stop_(stop),
        has_parent_(parent != nullptr),
        before_(repository.nodes(), parent),
        chunker_(repository.parts().keys.secrets.chunker_key.span(), ChunkerPath::automatic,
                 kChunkerLimits),
        writer_(writer) {}

  // Looks at everything, changes nothing.
  Result<> look() {
    for (;;) {
      HF_TRY(stop_.check());
      HF_ASSIGN(const Entry* now, source_.next());
      if (now == nullptr) return {};
      HF_ASSIGN(const Entry* old, before_.find(*now));
      progress_.bytes += now->size;
      count(*now, old != nullptr, old != nullptr && same_object(*old, *now) && !before_.racy(*old));
    }
  }

  Result<TreeRoot> store() {
    lane_.emplace(*writer_, ObjectType::tree_pack, has_parent_);
    sink_.emplace(*lane_);
    const ByteSpan tree_key = repository_.parts().keys.secrets.tree_key.span();
    tree_.emplace(*sink_, tree_key);
    list_.emplace(*sink_, tree_key);
    workers_.emplace(*writer_, options_.workers, options_.on_worker);
    HF_TRY(walk());
    HF_TRY(workers_->close());
    HF_ASSIGN(const TreeRoot root, tree_->finish());
    HF_TRY(lane_->flush());
    return root;
  }

  SnapshotStatistics statistics;
  std::map<std::uint32_t, std::string> users, groups;
  std::vector<std::string> torn;
  std::uint64_t torn_count = 0;

 private:
  Result<> walk() {
    for (;;) {
      HF_TRY(stop_.check());
      HF_ASSIGN(const Entry* now, source_.next());
      if (now == nullptr) break;
      note_owner(*now);
      progress_.set_current(*now);
      HF_ASSIGN(const Entry* old, before_.find(*now));
      HF_ASSIGN(const bool unchanged, reuse(old, *now));
      if (unchanged) progress_.bytes += now->size;
      // A file that is read is counted when that is done: it may be unreadable, or longer by then.
      if (unchanged || now->type != EntryType::file) count(*now, old != nullptr, unchanged);
      if (!unchanged) HF_TRY(take(*now, old != nullptr));
      HF_TRY(settle(false));
    }
    if (filling_ != nullptr && !filling_->pieces.empty()) send();
    return settle(true);
  }

  // An entry that is as it was: everything that is not asked of the file system is taken from the
  // snapshot before.
  Result<bool> reuse(const Entry* old, const Entry& now) {
    if (old == nullptr || !same_object(*old, now) || before_.racy(*old)) return false;
    if (now.type == EntryType::file && !present(*old)) return false;
    steps_.emplace_back(*old, true).entry.device = now.device;
    return true;
  }

  // Every chunk and list node is in a pack that counts and can be relied on.
  bool present(const Entry& entry) {
    if (!entry.content.root)
      return std::ranges::all_of(entry.content.items, [&](const ContentItem& i) {
        return !i.chunk || writer_->present(*i.chunk);
      });
    if (!writer_->present(entry.content.root->id)) return false;
    ContentCursor cursor(repository_.nodes(), entry.content);
    for (;;) {
      const auto item = cursor.next();
      if (!item) return false;
      if (!*item) return true;
      if ((*item)->chunk && !writer_->present(*(*item)->chunk)) return false;
    }
  }

  Result<> take(const Entry& now, bool known) {
    Entry entry = now;
    if (entry.type == EntryType::file) return read_file(std::move(entry), known);
    if (auto done = source_.complete(entry); !done) {
      if (done.error().code != Code::unavailable) return done;
      // Gone or unreadable, and noted by the source. A directory stays, for what is below it.
      if (entry.type != EntryType::directory) return {};
    }
    steps_.emplace_back(std::move(entry), true);
    return {};
  }

  Result<> read_file(Entry entry, bool known) {
    const std::string path = "/" + entry.path();
    const Treatment treatment = options_.treatment ? options_.treatment(path) : Treatment{};
    group_ = treatment.alone ? (++alone_ | (std::uint64_t{1} << 63)) : entry.uid;
    compress_ = treatment.compress;
    for (int attempt = 1;; ++attempt) {
      auto changed = read_once(entry);
      if (!changed) {
        steps_.emplace_back(Step::Kind::discard);
        return changed.error().code == Code::unavailable
                   ? Result<>()
                   : std::unexpected(std::move(changed).error());
      }
      entry.torn = *changed;
      if (*changed && attempt == kReadAttempts) note_torn(path);
      if (!*changed || attempt == kReadAttempts) break;
      progress_.bytes -= entry.size;
      steps_.emplace_back(Step::Kind::discard);
    }
    count(entry, known, false);
    steps_.emplace_back(std::move(entry), false);
    return {};
  }

  void note_torn(const std::string& path) {
    ++torn_count;
    if (torn.size() < kTornListed) torn.push_back(path);
  }

  Result<bool> read_once(Entry& entry) {
    HF_TRY(source_.open());
    std::uint64_t size = 0;
    HF_TRY(reserve(std::min<std::uint64_t>(entry.size + 1, kBatchBytes / 2)));
    pending_ = filling_->used;
    auto read = read_pieces(size);
    auto changed = source_.finish(entry);
    HF_TRY(std::move(read));
    if (changed && entry.size != size) {
      entry.size = size;
      return true;
    }
    return changed;
  }

  Result<> read_pieces(std::uint64_t& size) {
    for (;;) {
      HF_TRY(stop_.check());
      if (filling_->used == kBatchBytes || filling_->pieces.size() >= kBatchPiecesMax)
        HF_TRY(next_batch());
      const MutableByteSpan room = MutableByteSpan(filling_->data).subspan(filling_->used);
      auto piece = source_.read(room);
      if (!piece) {
        filling_->used = pending_;
        return std::unexpected(std::move(piece).error());
      }
      size += piece->length;
      progress_.bytes += piece->length;
      if (piece->kind == ReadPiece::Kind::data) {
        filling_->used += piece->length;
        statistics.bytes_read += piece->length;
        progress_.bytes_read += piece->length;
        cut(false);
      } else {
        cut(true);
        if (piece->kind == ReadPiece::Kind::end) return {};
        steps_.emplace_back(Step::Kind::hole).hole = piece->length;
      }
    }
  }

  // Cuts what was read and not cut yet; all of it when nothing follows.
  void cut(bool all) {
    const std::size_t first = filling_->pieces.size();
    while (pending_ < filling_->used && (all || filling_->used - pending_ >= kChunkerLimits.max)) {
      const ByteSpan rest = ByteSpan(filling_->data).subspan(pending_, filling_->used - pending_);
      const std::size_t length = chunker_.cut(rest);
      filling_->pieces.push_back({static_cast<std::uint32_t>(pending_),
                                  static_cast<std::uint32_t>(length),
                                  group_,
                                  compress_,
                                  {}});
      pending_ += length;
    }
    if (filling_->pieces.size() == first) return;
    ++filling_->steps;
    Step& step = steps_.emplace_back(Step::Kind::pieces);
    step.batch = filling_;
    step.from = first;
    step.to = filling_->pieces.size();
  }

  // A batch with room for that much; a small file is not parted.
  Result<> reserve(std::size_t size) {
    if (filling_ != nullptr && kBatchBytes - filling_->used >= size &&
        filling_->pieces.size() < kBatchPiecesMax)
      return {};
    pending_ = filling_ == nullptr ? 0 : filling_->used;
    return next_batch();
  }

  // Sends the batch; what is not cut yet goes to the head of the next one.
  Result<> next_batch() {
    Batch* old = filling_;
    HF_ASSIGN(Batch * fresh, free_batch());
    if (old != nullptr) {
      const std::size_t rest = old->used - pending_;
      std::memcpy(fresh->data.data(), old->data.data() + pending_, rest);
      fresh->used = rest;
      old->used = pending_;
      filling_ = old;
      send();
    }
    pending_ = 0;
    filling_ = fresh;
    return {};
  }

  void send() {
    Batch* batch = std::exchange(filling_, nullptr);
    if (batch->steps == 0) {  // nothing in it is wanted
      batches_free_.push_back(batch);
      return;
    }
    workers_->send(*batch);
  }

  Result<Batch*> free_batch() {
    if (batches_free_.empty() && batches_.size() < kBatches) {
      batches_.push_back(std::make_unique<Batch>());
      batches_free_.push_back(batches_.back().get());
    }
    while (batches_free_.empty()) HF_TRY(settle_one());
    Batch* batch = batches_free_.back();
    batches_free_.pop_back();
    batch->used = 0;
    batch->pieces.clear();
    batch->sent = batch->done = false;
    return batch;
  }

  // Takes the steps whose batches are done; all steps when the walk is over or too many wait.
  Result<> settle(bool all) {
    while (!steps_.empty()) {
      const Batch* batch = steps_.front().batch;
      const bool ready = batch == nullptr || (batch->sent && workers_->done(*batch));
      if (!ready && !all && steps_.size() < kStepsMax) return {};
      if (!ready && !batch->sent) send();
      HF_TRY(settle_one());
    }
    return {};
  }

  Result<> settle_one() {
    Step step = std::move(steps_.front());
    steps_.pop_front();
    switch (step.kind) {
      case Step::Kind::pieces:
        return settle_pieces(step);
      case Step::Kind::hole:
        return list_->add({.length = step.hole, .chunk = std::nullopt});
      case Step::Kind::discard: {
        HF_ASSIGN([[maybe_unused]] const Content dropped, list_->finish());
        return {};
      }
      case Step::Kind::entry:
        if (!step.settled) {
          HF_ASSIGN(step.entry.content, list_->finish());
        }
        return tree_->add(step.entry);
    }
    return {};
  }

  Result<> settle_pieces(const Step& step) {
    HF_TRY(workers_->wait(*step.batch));
    for (std::size_t i = step.from; i < step.to; ++i) {
      const Piece& piece = step.batch->pieces[i];
      HF_TRY(list_->add({.length = piece.length, .chunk = piece.id}));
    }
    if (--step.batch->steps == 0) batches_free_.push_back(step.batch);
    return {};
  }

  void count(const Entry& entry, bool known, bool unchanged) {
    if (entry.type == EntryType::directory) {
      ++statistics.directories;
    } else if (entry.type != EntryType::file) {
      ++statistics.others;
    } else {
      ++(unchanged ? statistics.files_unmodified
         : known   ? statistics.files_changed
                   : statistics.files_new);
      statistics.bytes_total += entry.size;
      ++progress_.files;
    }
  }

  void note_owner(const Entry& entry) {
    if (entry.uid != last_uid_ || users.empty()) {
      last_uid_ = entry.uid;
      if (!users.contains(entry.uid)) users.emplace(entry.uid, owners_.user(entry.uid));
    }
    if (entry.gid != last_gid_ || groups.empty()) {
      last_gid_ = entry.gid;
      if (!groups.contains(entry.gid)) groups.emplace(entry.gid, owners_.group(entry.gid));
    }
  }

  Repository& repository_;
  Source& source_;
  OwnerNames& owners_;
  const BackupOptions& options_;
  BackupProgress& progress_;
  const Stop& stop_;
  const bool has_parent_;
  Before before_;
  Chunker chunker_;
  ChunkWriter* writer_;
  std::optional<ChunkWriter::Lane> lane_;  // of tree nodes
  std::optional<TreeSink> sink_;
  std::optional<TreeBuilder> tree_;
  std::optional<ListBuilder> list_;

  std::vector<std::unique_ptr<Batch>> batches_;
  std::vector<Batch*> batches_free_;
  Batch* filling_ = nullptr;
  std::size_t pending_ = 0;  // of filling_: where the next chunk begins
  std::uint64_t group_ = 0, alone_ = 0;
  bool compress_ = true;
  std::deque<Step> steps_;
  std::uint32_t last_uid_ = 0, last_gid_ = 0;
  std::optional<Workers> workers_;  // last: its threads end before what they use
};

}  // namespace

void BackupProgress::set_current(const Entry& entry) {
  const std::lock_guard lock(mutex_);
  current_.assign(entry.directory);
  if (!current_.empty()) current_ += '/';
  current_ += entry.name;
}

std::string BackupProgress::current() const {
  const std::lock_guard lock(mutex_);
  return current_;
}

const Snapshot* choose_parent(const HeadList& heads, const DeviceId& device,
                              const BackupOptions& options) {
  const Snapshot* best = nullptr;
  for (const Snapshot& s : heads.snapshots) {
    if (s.device != device || s.host != options.host || s.paths != options.paths) continue;
    if (best == nullptr || s.number > best->number) best = &s;
  }
  return best;
}

namespace {

// Collections that this session has seen do not wait for it: what they moved or removed since
// `heads` were read is read again. Null: nothing.
Result<std::optional<HeadList>> newer_heads(Repository& repository, const HeadList& heads,
                                            const Stop& stop, std::vector<std::string>& warnings) {
  if (repository.collections().state() == heads.collections) return std::nullopt;
  HF_ASSIGN(HeadList now, repository.heads());
  HF_ASSIGN(const auto damaged, repository.sync_index(now, stop));
  warnings.insert(warnings.end(), damaged.begin(), damaged.end());
  return now;
}

struct BackupParts {
  Repository& repository;
  const HeadList& heads;
  Source& source;
  OwnerNames& owners;
  const BackupOptions& options;
  BackupProgress& progress;
  const Stop& stop;
};

Snapshot begin_snapshot(const BackupOptions& options, Time started) {
  Snapshot snapshot;
  snapshot.started = started;
  snapshot.paths = options.paths;
  snapshot.tags = options.tags;
  snapshot.excludes = options.excludes;
  snapshot.host = options.host;
  snapshot.user = options.user;
  snapshot.program = options.program;
  return snapshot;
}

Result<BackupReport> store_snapshot(const BackupParts& b, Session& session) {
  const RepositoryParts& parts = b.repository.parts();
  BackupReport report;
  Snapshot snapshot = begin_snapshot(b.options, parts.clock.now());
  HF_ASSIGN(const auto newer, newer_heads(b.repository, b.heads, b.stop, report.warnings));
  const Snapshot* parent = choose_parent(newer ? *newer : b.heads, parts.device, b.options);
  if (parent != nullptr) report.parent = parent->id;
  HF_ASSIGN(auto distrusted, b.repository.unreliable_packs(b.stop, report.warnings));
  ChunkWriter writer({.store = parts.store,
                      .keys = parts.keys,
                      .device = parts.device,
                      .signer = parts.signer,
                      .random = parts.random,
                      .index = b.repository.index(),
                      .stored = [&](const PackTable& pack) -> Result<> {
                        HF_TRY(session.journal(pack));
                        return b.repository.index().add(pack);
                      },
                      .distrusted = std::move(distrusted)},
                     b.options.compression);
  Run run(b.repository, parent, b.source, b.owners, b.options, b.progress, b.stop, &writer);
  HF_ASSIGN(snapshot.tree, run.store());
  HF_ASSIGN(auto packs, writer.finish());
  HF_TRY(b.stop.check());
  snapshot.statistics = run.statistics;
  snapshot.statistics.unreadable = b.source.unreadable_count();
  snapshot.statistics.bytes_added = writer.counts().bytes_stored;
  snapshot.statistics.chunks_new = writer.counts().chunks_new;
  snapshot.users = std::move(run.users);
  snapshot.groups = std::move(run.groups);
  snapshot.ended = parts.clock.now();
  HF_ASSIGN(report.snapshot,
            session.commit(std::move(snapshot), std::move(packs), report.warnings));
  if (auto locked = extend_locks(b.repository, b.stop); !locked)
    report.warnings.push_back(
        fmt::format("the snapshot stands, but not all of it is locked yet, and the next run locks "
                    "it: {}",
                    locked.error().what));
  report.torn = std::move(run.torn);
  report.torn_count = run.torn_count;
  report.statistics = report.snapshot->statistics;
  return report;
}

}  // namespace

Result<BackupReport> backup(Repository& repository, const HeadList& heads, Source& source,
                            OwnerNames& owners, const BackupOptions& options,
                            BackupProgress& progress, const Stop& stop) {
  const RepositoryParts& parts = repository.parts();
  if (options.dry_run) {
    BackupReport report;
    const Snapshot* parent = choose_parent(heads, parts.device, options);
    if (parent != nullptr) report.parent = parent->id;
    Run run(repository, parent, source, owners, options, progress, stop, nullptr);
    HF_TRY(run.look());
    report.statistics = run.statistics;
    report.statistics.unreadable = source.unreadable_count();
    return report;
  }
  HF_ASSIGN(const auto session, Session::begin(repository, heads));
  auto stored =
      store_snapshot({repository, heads, source, owners, options, progress, stop}, *session);
  // What a collection that did not wait removed seems to be damage.
  if (!stored && is_damage(stored.error())) HF_TRY(session->still_wanted());
  return stored;
}

}  // namespace holdfast
