// SPDX-License-Identifier: Apache-2.0
#include "repo/repair.h"

#include <fmt/format.h>

#include <algorithm>
#include <numeric>

#include "base/parallel.h"
#include "repo/check.h"
#include "repo/chunk_set.h"
#include "repo/repacker.h"

namespace holdfast {

namespace {

constexpr std::size_t kLostListed = 10'000;

Result<std::unique_ptr<LocalLock>> writer_lock(Repository& repository) {
  auto lock = repository.parts().state.lock(kWriterLock);
  if (!lock) return wrap(std::move(lock).error(), kAnotherBackupRuns);
  return lock;
}

// What may be a lie of the store is not written down as its loss unless the user says so.
Result<> check_rollback(const Repository& repository, const std::vector<MissingHead>& missing) {
  const auto newest = std::ranges::find_if(missing, &MissingHead::rollback);
  if (newest == missing.end() || repository.parts().accept_rollback) return {};
  return fail(
      Code::alarm,
      fmt::format("{}: this home saw it, and the store shows nothing as new of that device: an "
                  "older state of the repository (rolled back), or a loss. Nothing was changed. If "
                  "you know why, 'holdfast repair index --apply --accept-rollback' goes on from "
                  "what is there",
                  head_name(newest->at.device, newest->at.number)));
}

// The heads that are there, and what is missing of them. With `apply` this comes before anything is
// written, and refuses what must not be written on.
Result<HeadList> heads_to_repair(Repository& repository, bool apply,
                                 std::vector<MissingHead>& missing) {
  HF_ASSIGN(HeadList heads, repository.heads_with_gaps(missing));
  if (apply) {
    HF_TRY(check_rollback(repository, missing));
    HF_TRY(repository.check_home(heads));
  }
  return heads;
}

// The index knows all that counts; what damage says is a repair's matter, not an error.
Result<HeadList> read_with_damage(Repository& repository, bool apply, const Stop& stop) {
  std::vector<MissingHead> missing;
  HF_ASSIGN(HeadList heads, heads_to_repair(repository, apply, missing));
  HF_ASSIGN([[maybe_unused]] const auto damaged, repository.sync_index_as_others(heads, stop));
  return heads;
}

// What another device moves or removes meanwhile seems to be damage.
Result<RepairReport> told_apart(Repository& repository,
                                const std::function<Result<RepairReport>()>& repair) {
  auto read = repository.refresh_collections();
  const Collections& collections = repository.collections();
  if (!read && collections.damaged_ends().empty() && !collections.broken())
    return std::unexpected(std::move(read).error());
  const std::uint64_t before = repository.collections().state();
  auto report = repair();
  if (!read || report || !is_damage(report.error())) return report;
  HF_TRY(repository.refresh_collections());
  if (repository.collections().state() == before) return report;
  return fail(Code::conflict,
              fmt::format("another device collects this repository; run the repair again ({})",
                          report.error().what));
}

// Every repair but that of the index: what collections said must be known.
Result<RepairReport> after_records(Repository& repository,
                                   const std::function<Result<RepairReport>()>& repair) {
  return told_apart(repository, [&]() -> Result<RepairReport> {
    if (repository.collections().broken())
      return fail(Code::denied,
                  fmt::format("{}: damaged or lost. Run 'holdfast repair index --apply' first",
                              collection_name(*repository.collections().broken())));
    return repair();
  });
}

// ---- records of repairs

struct Amends {
  ObjectNames condemned;  // cannot be read, and what could be is in `listed`
  std::vector<PackListRef> retired;
  std::vector<IndexedPack> listed;
  [[nodiscard]] bool empty() const {
    return condemned.empty() && retired.empty() && listed.empty();
  }
};

// A record and its end, at once.
Result<> put_amends(Repository& repository, Amends amends, std::uint64_t looked) {
  HF_TRY(check_listed(repository.parts(), amends.listed));
  std::vector<ListedPack> packs;
  packs.reserve(amends.listed.size());
  for (const IndexedPack& pack : amends.listed) packs.push_back({pack.pack, pack.type, pack.size});
  CollectionRecord record;
  record.by = repository.parts().device;
  record.condemned = std::move(amends.condemned);
  for (const PackListRef& ref : amends.retired) record.retired.push_back(ref.name);
  std::ranges::sort(record.condemned);
  std::ranges::sort(record.retired);
  const auto doubled = std::ranges::unique(record.retired);
  record.retired.erase(doubled.begin(), doubled.end());
  if (record.condemned.size() > kCollectionNamesWritten)
    record.condemned.resize(kCollectionNamesWritten);
  if (record.retired.size() > kCollectionNamesWritten)
    record.retired.resize(kCollectionNamesWritten);
  HF_ASSIGN(record.lists, put_pack_lists(repository.parts(), std::move(packs)));
  record.number = looked + 1;  // what others condemned since may rest on what this condemns
  if (record.number > 1) record.before = repository.collections().record(record.number - 1).object;
  HF_ASSIGN(const bool first, put_collection(repository, record));
  if (!first)
    return fail(Code::conflict, "another device collects this repository; run the repair again");
  const std::uint64_t number = record.number;
  HF_TRY(
      put_collection_done(repository, {.by = record.by,
                                       .number = number,
                                       .collection = repository.collections().record(number).object,
                                       .used = {}}));
  return repository.refresh_collections();
}

// ---- packs in the store

struct SeenPack {
  IndexedPack pack;
  std::optional<PackTable> table;        // none: it cannot be read
  std::vector<std::size_t> good_frames;  // when not all are
  bool sound = false;
};

// Every byte of it. Code::not_found: it is not there.
Result<SeenPack> look_at(const RepositoryParts& parts, const IndexedPack& pack) {
  SeenPack seen{.pack = pack, .table = std::nullopt, .good_frames = {}, .sound = false};
  FrameReader frames(parts.keys);
  const auto damage =
      verify_pack(parts.store, parts.keys, parts.devices, pack.pack, pack.type, frames);
  if (!damage && damage.error().code != Code::corrupt) return std::unexpected(damage.error());
  if (!damage) return seen;
  HF_ASSIGN(seen.table,
            read_pack_table(parts.store, parts.keys, parts.devices, pack.pack, pack.type));
  seen.pack.size = seen.table->pack_size;
  seen.pack.device = seen.table->device;
  seen.sound = damage->empty();
  if (seen.sound) return seen;
  Bytes plain;
  for (std::size_t i = 0; i < seen.table->frames.size(); ++i)
    if (frames.read(parts.store, *seen.table, i, plain)) seen.good_frames.push_back(i);
  return seen;
}

// Of a type that is not known.
Result<SeenPack> look_at_stray(const RepositoryParts& parts, const ObjectHash& name) {
  HF_ASSIGN(SeenPack data, look_at(parts, {name, ObjectType::data_pack, 0, {}}));
  if (data.table) return data;
  return look_at(parts, {name, ObjectType::tree_pack, 0, {}});
}

bool has_what_is_missing(Repository& repository, const PackTable& table) {
  return std::ranges::any_of(
      table.chunks, [&](const PackChunk& chunk) { return !repository.index().contains(chunk.id); });
}

// In the store, in no list that counts, and of no collection.
Result<std::vector<ObjectHash>> stray_packs(Repository& repository, const Stop& stop) {
  std::vector<ObjectHash> strays;
  HF_ASSIGN([[maybe_unused]] const PackListing listing,
            repository.list_packs(stop, [&](const ObjectInfo& info) {
              const auto name = parse_pack_name(info.name);
              if (name && !repository.collections().doomed(*name)) strays.push_back(*name);
            }));
  return strays;
}

// Several at once; `take` in order, on this thread.
template <class T>
Result<> look_at_each(const std::vector<T>& packs, unsigned workers, const Stop& stop,
                      const std::function<Result<SeenPack>(const T&)>& look,
                      const std::function<Result<>(const T&, Result<SeenPack>)>& take) {
  std::vector<Result<SeenPack>> seen;
  for (std::size_t from = 0; from < packs.size(); from += workers) {
    HF_TRY(stop.check());
    seen.resize(std::min<std::size_t>(workers, packs.size() - from));
    parallel_for(workers, seen.size(), [&](std::size_t i) { seen[i] = look(packs[from + i]); });
    for (std::size_t i = 0; i < seen.size(); ++i) HF_TRY(take(packs[from + i], std::move(seen[i])));
  }
  return {};
}

unsigned workers_of(const RepositoryParts& parts, const RepairOptions& options) {
  return std::max({options.workers, parts.store.parallel(), 1U});
}

// Stubs for heads that are gone, so that nobody misses them any more.
Result<> settle_heads(Repository& repository, bool apply, RepairReport& report) {
  const RepositoryParts& parts = repository.parts();
  std::vector<MissingHead> missing;
  HF_ASSIGN(const HeadList heads, heads_to_repair(repository, apply, missing));
  for (const HeadRef& ref : heads.damaged_stubs) {
    report.found.push_back(fmt::format(
        "{}: damaged; without it a snapshot that still stands counts again", dropped_name(ref)));
    if (apply) HF_TRY(parts.store.remove(dropped_name(ref)));
  }
  for (const MissingHead& head : missing) {
    report.found.push_back(fmt::format(
        "{}: {}; 'holdfast recover-snapshots' looks for its tree",
        head_name(head.at.device, head.at.number),
        head.rollback ? "this home saw it, and the store shows nothing as new of that device: "
                        "rolled back to an older state, or lost"
                      : "lost or damaged"));
    ++report.heads_settled;
    if (!apply) continue;
    const Bytes object = seal_dropped({.by = parts.device,
                                       .snapshot = head.at,
                                       .head = head.id,
                                       .previous = head.before,
                                       .previous_number = head.before_number,
                                       .reason = "lost in the store; settled by a repair"},
                                      parts.keys, parts.signer, parts.random);
    auto put = parts.store.put(dropped_name(head.at), object);
    if (!put && put.error().code != Code::conflict) return put;
  }
  return {};
}

// Records of collections that are damaged, or lost before later ones: put back from this home's
// copy. Without one nothing but another home's copy helps: what it condemned is written nowhere
// else.
Result<> mend_records(Repository& repository, bool apply, RepairReport& report) {
  const RepositoryParts& parts = repository.parts();
  for (std::optional<std::uint64_t> last;;) {
    auto read = repository.refresh_collections();
    const auto broken = repository.collections().broken();
    if (!broken) return {};
    const std::string name = collection_name(*broken);
    auto copy = parts.cache.read(collection_copy_name(*broken), kRecordObjectMax);
    const auto held = copy ? open_collection(*copy, *broken, parts.keys, parts.devices)
                           : std::unexpected(copy.error());
    if (!held)
      return fail(read.error().code,
                  fmt::format("{}. This home has no copy of it: run the repair on another machine "
                              "of the account",
                              read.error().what));
    if (last == broken)  // it was put back, and is not what the others follow
      return std::unexpected(std::move(read).error());
    report.found.push_back(fmt::format(
        "{}: damaged or lost; until it is repaired no backup and no prune can be made; this home "
        "has a copy",
        name));
    if (!apply) return {};
    HF_TRY(parts.store.remove(name));
    HF_TRY(parts.store.put(name, *copy));
    last = broken;
  }
}

// Ends of collections that do not hold. What such a one called used is not known any more; whatever
// of its collection still stands is called used by the new one, and a later collection looks again.
Result<> mend_ends(Repository& repository, bool apply, RepairReport& report) {
  auto read = repository.refresh_collections();
  const std::vector<std::uint64_t> damaged = repository.collections().damaged_ends();
  if (read || damaged.empty()) return read;
  const RepositoryParts& parts = repository.parts();
  std::set<std::string> standing;
  const auto note = [&](const ObjectInfo& info) -> Result<> {
    standing.insert(info.name);
    return {};
  };
  HF_TRY(list_at_most(parts.store, "packs/", parts.list_limits.packs, note));
  HF_TRY(list_at_most(parts.store, "lists/", parts.list_limits.lists, note));
  for (const std::uint64_t number : damaged) {
    const std::string name = collection_done_name(number);
    report.found.push_back(
        fmt::format("{}: damaged; until it is repaired no backup and no prune can be made", name));
    if (!apply) continue;
    const CollectionRecord& record = repository.collections().record(number);
    CollectionDone done{
        .by = parts.device, .number = number, .collection = record.object, .used = {}};
    for (const ObjectHash& pack : record.condemned)
      if (standing.contains(pack_name(pack))) done.used.push_back(pack);
    for (const ObjectHash& list : record.retired)
      if (standing.contains(list_name(list))) done.used.push_back(list);
    std::ranges::sort(done.used);
    HF_TRY(parts.store.remove(name));
    HF_ASSIGN(const bool first, put_collection_done(repository, done));
    if (!first) return fail(Code::conflict, "another device repairs " + name + "; run it again");
  }
  return apply ? repository.refresh_collections() : Result<>();
}

}  // namespace

// ---- index

namespace {

Result<RepairReport> index_repair(Repository& repository, const RepairOptions& options,
                                  RepairProgress& progress, const Stop& stop) {
  const RepositoryParts& parts = repository.parts();
  HF_ASSIGN(const auto lock, writer_lock(repository));
  RepairReport report;
  HF_TRY(mend_records(repository, options.apply, report));
  if (repository.collections().broken()) return report;  // nothing else can be looked at then
  const std::uint64_t looked = repository.collections().newest();
  HF_TRY(settle_heads(repository, options.apply, report));
  if (options.apply) {  // the local index: from nothing
    std::vector<ObjectHash> all;
    for (const IndexedPack& pack : repository.index().packs()) all.push_back(pack.pack);
    if (!all.empty()) HF_TRY(repository.index().remove_packs(all));
  }
  HF_TRY(mend_ends(repository, options.apply, report));
  // Nothing else can be looked at then.
  if (!options.apply && !repository.collections().damaged_ends().empty()) return report;
  if (options.apply && parts.accept_rollback) HF_TRY(repository.remember_collections());
  HF_ASSIGN(const HeadList heads, read_with_damage(repository, options.apply, stop));
  Amends amends;
  HF_ASSIGN(amends.retired, repository.damaged_lists(heads, stop));
  for (const PackListRef& ref : amends.retired)
    report.found.push_back(
        fmt::format("{}: lost or damaged; it named {} packs", list_name(ref.name), ref.packs));
  HF_ASSIGN(const auto strays, stray_packs(repository, stop));
  progress.total = strays.size();
  const auto take = [&](const ObjectHash& name, Result<SeenPack> seen) -> Result<> {
    ++progress.done;
    if (!seen && seen.error().code == Code::not_found) return {};
    if (!seen) return std::unexpected(seen.error());
    progress.bytes += seen->pack.size;
    if (!seen->sound || !has_what_is_missing(repository, *seen->table)) return {};
    report.found.push_back(
        fmt::format("{}: sound, in no list, and has what no other pack has", pack_name(name)));
    amends.listed.push_back(seen->pack);
    return {};
  };
  HF_TRY(look_at_each<ObjectHash>(
      strays, workers_of(parts, options), stop,
      [&](const ObjectHash& name) { return look_at_stray(parts, name); }, take));
  report.lists_retired = amends.retired.size();
  report.packs_listed = amends.listed.size();
  if (!options.apply || amends.empty()) return report;
  HF_TRY(put_amends(repository, std::move(amends), looked));
  HF_ASSIGN([[maybe_unused]] const HeadList after,
            read_with_damage(repository, options.apply, stop));
  return report;
}

}  // namespace

Result<RepairReport> repair_index(Repository& repository, const RepairOptions& options,
                                  RepairProgress& progress, const Stop& stop) {
  return told_apart(repository, [&] { return index_repair(repository, options, progress, stop); });
}

// ---- packs

namespace {

class PackRepair {
 public:
  PackRepair(Repository& repository, const RepairOptions& options, RepairProgress& progress,
             const Stop& stop)
      : repository_(repository),
        parts_(repository.parts()),
        options_(options),
        progress_(progress),
        stop_(stop) {}

  Result<RepairReport> run() {
    HF_ASSIGN(const auto lock, writer_lock(repository_));
    looked_ = repository_.collections().newest();
    HF_ASSIGN(const HeadList heads, read_with_damage(repository_, options_.apply, stop_));
    HF_TRY(look_at_listed(heads));
    HF_TRY(look_at_strays());
    count_lost();
    if (!options_.apply || (condemned_.empty() && strays_.empty())) return std::move(report_);
    HF_TRY(save());
    return std::move(report_);
  }

 private:
  // The index does not have those whose tables cannot be read.
  Result<> look_at_listed(const HeadList& heads) {
    HF_ASSIGN(const auto listed, repository_.listed_packs(heads, stop_));
    std::vector<IndexedPack> packs;
    for (const ListedPack& pack : listed) packs.push_back({pack.pack, pack.type, pack.size, {}});
    progress_.total = packs.size();
    return look_at_each<IndexedPack>(
        packs, workers_of(parts_, options_), stop_,
        [&](const IndexedPack& pack) { return look_at(parts_, pack); },
        [&](const IndexedPack& pack, Result<SeenPack> seen) -> Result<> {
          ++progress_.done;
          progress_.bytes += pack.size;
          if (!seen && seen.error().code != Code::not_found) return std::unexpected(seen.error());
          if (seen && seen->sound) return {};
          // Condemned already, and perhaps removed on behalf of an end that the store lost.
          if (!seen && repository_.collections().doomed(pack.pack)) return {};
          condemned_.push_back(pack.pack);
          if (!seen) {
            ++report_.packs_lost;
            report_.found.push_back(
                fmt::format("{}: the store does not have it", pack_name(pack.pack)));
            return {};
          }
          ++report_.packs_damaged;
          report_.found.push_back(fmt::format(
              "{}: damaged; {}", pack_name(pack.pack),
              seen->table ? fmt::format("{} of {} frames are whole", seen->good_frames.size(),
                                        seen->table->frames.size())
                          : "its table cannot be read"));
          if (seen->table) bad_.push_back(std::move(*seen));
          return {};
        });
  }

  // Damaged ones that nobody lists may have what is lost elsewhere.
  Result<> look_at_strays() {
    HF_ASSIGN(const auto names, stray_packs(repository_, stop_));
    return look_at_each<ObjectHash>(
        names, workers_of(parts_, options_), stop_,
        [&](const ObjectHash& name) { return look_at_stray(parts_, name); },
        [&](const ObjectHash&, Result<SeenPack> seen) -> Result<> {
          if (!seen && seen.error().code == Code::not_found) return {};
          if (!seen) return std::unexpected(seen.error());
          if (seen->table && !seen->sound && has_what_is_missing(repository_, *seen->table))
            strays_.push_back(std::move(*seen));
          return {};
        });
  }

  // Chunks of bad frames that no sound pack has.
  void count_lost() {
    std::vector<ObjectHash> condemned = condemned_;
    std::ranges::sort(condemned);
    repository_.index().set_condemned(condemned);
    for (const SeenPack& seen : bad_) {
      auto good = seen.good_frames.begin();
      for (std::size_t i = 0; i < seen.table->frames.size(); ++i) {
        const PackFrame& f = seen.table->frames[i];
        const bool whole = good != seen.good_frames.end() && *good == i;
        if (whole) ++good;
        for (std::uint32_t c = 0; c < f.chunk_count; ++c)
          if (!repository_.index().contains(seen.table->chunks[f.first_chunk + c].id))
            ++(whole ? report_.chunks_saved : report_.chunks_lost);
      }
    }
    repository_.index().set_condemned(repository_.collections().condemned());
  }

  Result<> save() {
    std::unordered_set<ObjectHash, IdHash> avoid(condemned_.begin(), condemned_.end());
    Repacker repacker(repository_, std::move(avoid));
    Repacker::Hand hand(repacker);
    for (const auto* packs : {&bad_, &strays_})
      for (const SeenPack& seen : *packs) HF_TRY(move(hand, seen));
    HF_ASSIGN(const auto written, repacker.finish());
    report_.bytes_written = repacker.bytes_written();
    if (!condemned_.empty() || !written.empty())
      HF_TRY(put_amends(repository_, {.condemned = condemned_, .retired = {}, .listed = written},
                        looked_));
    // What checks of this home remember of these packs is settled.
    return repository_.note_damaged({}, condemned_);
  }

  Result<> move(Repacker::Hand& hand, const SeenPack& seen) {
    for (const std::size_t frame : seen.good_frames) {
      HF_TRY(stop_.check());
      std::vector<std::uint16_t> all(seen.table->frames[frame].chunk_count);
      std::iota(all.begin(), all.end(), std::uint16_t{0});
      HF_TRY(hand.move_frame(*seen.table, frame, all));
    }
    return {};
  }

  Repository& repository_;
  const RepositoryParts& parts_;
  const RepairOptions& options_;
  RepairProgress& progress_;
  const Stop& stop_;
  RepairReport report_;
  ObjectNames condemned_;
  std::uint64_t looked_ = 0;  // the newest collection then
  std::vector<SeenPack> bad_, strays_;
};

}  // namespace

Result<RepairReport> repair_packs(Repository& repository, const RepairOptions& options,
                                  RepairProgress& progress, const Stop& stop) {
  return after_records(repository,
                       [&] { return PackRepair(repository, options, progress, stop).run(); });
}

// ---- snapshots

namespace {

// A tree as a session of this device writes it: what it relies on is in packs that count, and what
// only condemned packs have is stored again.
class TreeCopy {
 public:
  TreeCopy(Repository& repository, Session& session)
      : repository_(repository),
        writer_({.store = repository.parts().store,
                 .keys = repository.parts().keys,
                 .device = repository.parts().device,
                 .signer = repository.parts().signer,
                 .random = repository.parts().random,
                 .index = repository.index(),
                 .stored = [&](const PackTable& pack) -> Result<> {
                   HF_TRY(session.journal(pack));
                   return repository.index().add(pack);
                 },
                 .distrusted = {}},
                Compression::balanced),
        data_(writer_, ObjectType::data_pack),
        nodes_(writer_, ObjectType::tree_pack),
        sink_(nodes_),
        tree_(sink_, repository.parts().keys.secrets.tree_key.span()) {}

  Result<> add(const Entry& entry) {
    if (entry.type == EntryType::file) HF_TRY(keep_content(entry));
    return tree_.add(entry);
  }

  Result<TreeRoot> finish(std::vector<IndexedPack>& packs, std::uint64_t& bytes) {
    HF_ASSIGN(const TreeRoot root, tree_.finish());
    HF_TRY(data_.flush());
    HF_TRY(nodes_.flush());
    HF_ASSIGN(packs, writer_.finish());
    bytes += writer_.counts().bytes_stored;
    return root;
  }

 private:
  class Sink : public NodeSink {
   public:
    explicit Sink(ChunkWriter::Lane& lane) : lane_(lane) {}
    Result<ChunkId> put(ChunkType type, ByteSpan node) override {
      return lane_.put(type, node, 0, true);
    }

   private:
    ChunkWriter::Lane& lane_;
  };

  // `owner`: its chunks share frames with nobody else's (MET-01).
  Result<> keep(const ChunkId& id, std::uint32_t owner) {
    if (writer_.present(id)) return {};
    HF_ASSIGN(const auto chunk, repository_.reader().get(id, ChunkType::data));
    HF_ASSIGN([[maybe_unused]] const ChunkId same,
              data_.put(ChunkType::data, chunk.bytes, owner, true));
    return {};
  }

  Result<> keep_content(const Entry& entry) {
    const Content& content = entry.content;
    std::optional<ListBuilder> list;  // the nodes of a list are chunks too
    if (content.root) list.emplace(sink_, repository_.parts().keys.secrets.tree_key.span());
    ContentCursor cursor(repository_.nodes(), content);
    for (;;) {
      HF_ASSIGN(const auto item, cursor.next());
      if (!item) break;
      if (item->chunk) HF_TRY(keep(*item->chunk, entry.uid));
      if (list) HF_TRY(list->add(*item));
    }
    if (!list) return {};
    HF_ASSIGN([[maybe_unused]] const Content same, list->finish());
    return {};
  }

  Repository& repository_;
  ChunkWriter writer_;
  ChunkWriter::Lane data_, nodes_;
  Sink sink_;
  TreeBuilder tree_;
};

bool has_tag(const Snapshot& snapshot, std::string_view tag) {
  return std::ranges::find(snapshot.tags, tag) != snapshot.tags.end();
}

// What of a snapshot is whole.
class Sifter {
 public:
  Sifter(Repository& repository, const TreeRoot& root, const Stop& stop)
      : repository_(repository), root_(root), stop_(stop) {}

  // Paths and ranges of keys that are lost.
  std::vector<std::string> lost;

  // Directories whose entries are lost, and that something below still needs.
  Result<> look() {
    std::set<std::string> there, needed;
    HF_TRY(walk([&](const Entry& entry) -> Result<> {
      if (entry.type == EntryType::directory) there.insert(entry.path());
      needed.insert(entry.directory);
      return {};
    }));
    for (const std::string& path : needed)
      for (std::string at = path; !at.empty(); at = parent_of(at))
        if (!there.contains(at)) made_.emplace(key_of(at), at);
    for (const auto& [key, path] : made_)
      lost.push_back(fmt::format("/{}: what it was (owner, mode, times); what is below it is kept",
                                 escaped(path)));
    return {};
  }

  // In the order of keys.
  Result<> give(const std::function<Result<>(const Entry&)>& take) {
    auto next = made_.begin();
    HF_TRY(walk([&](const Entry& entry) -> Result<> {
      for (; next != made_.end() && next->first < Key{entry.directory, entry.name}; ++next)
        HF_TRY(take(made(next->second)));
      HF_ASSIGN(const bool whole, is_whole(entry));
      return whole ? take(entry) : Result<>();
    }));
    for (; next != made_.end(); ++next) HF_TRY(take(made(next->second)));
    return {};
  }

 private:
  struct Key {
    std::string directory, name;
    bool operator<(const Key& other) const {
      return compare_keys(directory, name, other.directory, other.name) < 0;
    }
  };
  static std::string parent_of(const std::string& path) {
    const std::size_t slash = path.rfind('/');
    return slash == std::string::npos ? "" : path.substr(0, slash);
  }
  static Key key_of(const std::string& path) {
    const std::size_t slash = path.rfind('/');
    return {parent_of(path), slash == std::string::npos ? path : path.substr(slash + 1)};
  }
  static Entry made(const std::string& path) {
    Entry entry;
    const Key key = key_of(path);
    entry.directory = key.directory;
    entry.name = key.name;
    entry.type = EntryType::directory;
    entry.mode = 0700;  // of nobody else, as it is not known whose it was
    return entry;
  }

  Result<> walk(const std::function<Result<>(const Entry&)>& visit) {
    const bool first = !walked_;
    walked_ = true;
    TreeUse use;
    use.entry = [&](const Entry& entry) -> Result<> {
      HF_TRY(stop_.check());
      return visit(entry);
    };
    use.damaged = [&](const ChunkId&, const Error&, std::string_view after, std::string_view last) {
      if (first)
        lost.push_back(fmt::format(
            "everything behind '/{}' up to {}", escaped(after),
            last.empty() ? std::string("the end") : fmt::format("'/{}'", escaped(last))));
    };
    return walk_tree(repository_.nodes(), root_, use);
  }

  Result<bool> is_whole(const Entry& entry) {
    if (entry.type != EntryType::file) return true;
    ContentCursor cursor(repository_.nodes(), entry.content);
    for (;;) {
      const auto item = cursor.next();
      if (!item && !is_damage(item.error())) return std::unexpected(item.error());
      if (item && !*item) return true;
      if (item && (!(*item)->chunk || repository_.index().find(*(*item)->chunk))) continue;
      lost.push_back("/" + escaped(entry.path()));
      return false;
    }
  }

  Repository& repository_;
  const TreeRoot& root_;
  const Stop& stop_;
  bool walked_ = false;
  std::map<Key, std::string> made_;
};

class SnapshotRepair {
 public:
  SnapshotRepair(Repository& repository, const RepairOptions& options, RepairProgress& progress,
                 const Stop& stop)
      : repository_(repository), options_(options), progress_(progress), stop_(stop) {}

  Result<RepairReport> run() {
    HF_ASSIGN(const HeadList heads, repository_.heads());
    HF_ASSIGN([[maybe_unused]] const auto damaged, repository_.sync_index(heads, stop_));
    progress_.total = heads.snapshots.size();
    HF_TRY(repository_.index().flush());  // so that chunks have numbers
    HF_ASSIGN(const bool all_whole, are_whole(heads));
    HF_ASSIGN(const auto known, repository_.known_damaged());
    if (all_whole && known.empty()) return std::move(report_);
    HF_TRY(expect_others_done());
    for (const Snapshot& snapshot : heads.snapshots) {
      HF_ASSIGN(const bool whole, is_whole(snapshot, nullptr));
      if (!whole && !was_repaired(heads, snapshot)) HF_TRY(repair(snapshot));
      ++progress_.done;
    }
    return std::move(report_);
  }

 private:
  // What is only not found must not be taken for lost.
  Result<> expect_others_done() {
    RepairProgress progress;
    HF_ASSIGN(const RepairReport index,
              repair_index(repository_, {.apply = false}, progress, stop_));
    if (!index.nothing())
      return fail(Code::denied, fmt::format("{}. Run 'holdfast repair index --apply' first",
                                            index.found.front()));
    HF_ASSIGN(const auto known, repository_.known_damaged());
    HF_ASSIGN(const HeadList heads, repository_.heads());
    HF_ASSIGN(const auto damaged, repository_.sync_index(heads, stop_));
    HF_ASSIGN(const auto lost, repository_.lost_packs(stop_));
    if (known.empty() && damaged.empty() && lost.empty()) return {};
    const std::string what = !damaged.empty() ? damaged.front()
                             : !known.empty() ? "pack " + known.begin()->hex() + " is damaged"
                                              : "pack " + lost.front().hex() + " is lost";
    return fail(Code::denied, fmt::format("{}. Run 'holdfast repair packs --apply' first", what));
  }

  // What snapshots share is looked at once.
  Result<bool> are_whole(const HeadList& heads) {
    ChunkSet seen(repository_.index());
    for (const Snapshot& snapshot : heads.snapshots) {
      HF_ASSIGN(const bool whole, is_whole(snapshot, &seen));
      if (!whole) return false;
    }
    return true;
  }

  Result<bool> is_whole(const Snapshot& snapshot, ChunkSet* seen) {
    bool whole = true;
    TreeUse use;
    if (seen != nullptr) use.seen = [&](const ChunkId& id) { return !seen->insert(id); };
    use.node = [&](const ChunkId& id, ChunkType) -> Result<> {
      HF_TRY(stop_.check());
      whole = whole && repository_.index().find(id).has_value();
      return {};
    };
    use.damaged = [&](const ChunkId&, const Error&, std::string_view, std::string_view) {
      whole = false;
    };
    HF_TRY(walk_tree(repository_.nodes(), snapshot.tree, use));
    return whole;
  }

  // By an earlier run: the times are the original's.
  static bool was_repaired(const HeadList& heads, const Snapshot& snapshot) {
    return std::ranges::any_of(heads.snapshots, [&](const Snapshot& s) {
      return s.started == snapshot.started && s.ended == snapshot.ended &&
             s.paths == snapshot.paths && s.host == snapshot.host && s.id != snapshot.id &&
             has_tag(s, kRepairedTag);
    });
  }

  void name_lost(const Snapshot& snapshot, const std::vector<std::string>& lost) {
    report_.lost_count += lost.size();
    for (const std::string& what : lost)
      if (report_.lost.size() < kLostListed)
        report_.lost.push_back(fmt::format("snapshot {}: {}", snapshot.id.brief(), what));
  }

  Result<> repair(const Snapshot& snapshot) {
    report_.found.push_back(fmt::format("snapshot {}: not whole", snapshot.id.brief()));
    Sifter sifter(repository_, snapshot.tree, stop_);
    HF_TRY(sifter.look());
    RepairReport::Copy copy{.of = snapshot.id, .id = {}, .ended = snapshot.ended};
    if (options_.apply) {
      HF_ASSIGN(const HeadList heads, repository_.heads());
      HF_ASSIGN(const auto session, Session::begin(repository_, heads));
      TreeCopy tree(repository_, *session);
      HF_TRY(sifter.give([&](const Entry& entry) { return tree.add(entry); }));
      Snapshot fresh = snapshot;
      if (!has_tag(fresh, kRepairedTag)) fresh.tags.emplace_back(kRepairedTag);
      std::vector<IndexedPack> packs;
      HF_ASSIGN(fresh.tree, tree.finish(packs, report_.bytes_written));
      std::vector<std::string> warnings;
      HF_ASSIGN(const Snapshot stands,
                session->commit(std::move(fresh), std::move(packs), warnings));
      copy.id = stands.id;
    } else {
      HF_TRY(sifter.give([](const Entry&) -> Result<> { return {}; }));
    }
    name_lost(snapshot, sifter.lost);
    report_.snapshots.push_back(copy);
    return {};
  }

  Repository& repository_;
  const RepairOptions& options_;
  RepairProgress& progress_;
  const Stop& stop_;
  RepairReport report_;
};

}  // namespace

Result<RepairReport> repair_snapshots(Repository& repository, const RepairOptions& options,
                                      RepairProgress& progress, const Stop& stop) {
  return after_records(repository,
                       [&] { return SnapshotRepair(repository, options, progress, stop).run(); });
}

// ---- trees that no head names

namespace {

class TreeHunt {
 public:
  TreeHunt(Repository& repository, const RepairOptions& options, RepairProgress& progress,
           const Stop& stop)
      : repository_(repository), options_(options), progress_(progress), stop_(stop) {}

  Result<RepairReport> run() {
    HF_ASSIGN(const HeadList heads, repository_.heads());
    HF_ASSIGN([[maybe_unused]] const auto damaged, repository_.sync_index(heads, stop_));
    HF_TRY(read_nodes());
    for (const auto* snapshots : {&heads.snapshots, &heads.dropped})
      for (const Snapshot& s : *snapshots) below_another_.insert(s.tree.id);
    for (const TreeRoot& root : roots_) {
      HF_TRY(stop_.check());
      if (below_another_.contains(root.id) || root.entries == 0) continue;
      HF_ASSIGN(const bool whole, is_whole(root));
      if (whole) HF_TRY(recover(root));
    }
    return std::move(report_);
  }

 private:
  Result<> read_nodes() {
    const RepositoryParts& parts = repository_.parts();
    std::vector<IndexedPack> packs = repository_.index().packs();
    std::erase_if(packs, [](const IndexedPack& p) { return p.type != ObjectType::tree_pack; });
    progress_.total = packs.size();
    for (const IndexedPack& pack : packs) {
      HF_TRY(stop_.check());
      const auto table =
          read_pack_table(parts.store, parts.keys, parts.devices, pack.pack, pack.type);
      if (!table && !is_damage(table.error())) return std::unexpected(table.error());
      if (table)
        for (const PackChunk& chunk : table->chunks) HF_TRY(note(chunk));
      ++progress_.done;
    }
    return {};
  }

  Result<> note(const PackChunk& chunk) {
    if (chunk.type != ChunkType::leaf && chunk.type != ChunkType::inner) return {};
    if (!met_.insert(chunk.id).second) return {};
    const auto bytes = repository_.nodes().get(chunk.id, chunk.type);
    if (!bytes && !is_damage(bytes.error())) return std::unexpected(bytes.error());
    if (!bytes) return {};
    TreeRoot root{.id = chunk.id, .level = 0, .entries = 0};
    if (chunk.type == ChunkType::leaf) {
      const auto leaf = decode_leaf(*bytes);
      if (!leaf) return {};
      root.entries = leaf->entries.size();
    } else {
      const auto inner = decode_inner(*bytes);
      if (!inner) return {};
      root.level = inner->level;
      for (const InnerNode::Child& child : inner->children) {
        root.entries += child.entries;
        below_another_.insert(child.id);
      }
    }
    roots_.push_back(root);
    return {};
  }

  Result<bool> is_whole(const TreeRoot& root) {
    bool whole = true;
    TreeUse use;
    use.node = [&](const ChunkId& id, ChunkType) -> Result<> {
      whole = whole && repository_.index().find(id).has_value();
      return stop_.check();
    };
    auto walked = walk_tree(repository_.nodes(), root, use);
    if (!walked && !is_damage(walked.error())) return std::unexpected(walked.error());
    // A node from inside of a tree has entries whose directories are elsewhere: no snapshot.
    if (!walked || !whole) return false;
    TreeCursor cursor(repository_.nodes(), root);
    for (;;) {
      const auto entry = cursor.next();
      if (!entry && !is_damage(entry.error())) return std::unexpected(entry.error());
      if (!entry) return false;
      if (*entry == nullptr) return true;
    }
  }

  // The paths that were backed up: the topmost that are not only on the way to others.
  Result<std::vector<std::string>> paths_of(const TreeRoot& root) {
    std::vector<std::string> paths;
    TreeCursor cursor(repository_.nodes(), root);
    HF_ASSIGN(const Entry* entry, cursor.next());
    for (; entry != nullptr && entry->directory.empty();) {
      paths.push_back("/" + entry->name);
      HF_ASSIGN(entry, cursor.next());
    }
    return paths;
  }

  Result<> recover(const TreeRoot& root) {
    HF_ASSIGN(std::vector<std::string> paths, paths_of(root));
    report_.found.push_back(fmt::format("a tree of {} entries that no snapshot names, from {}",
                                        root.entries,
                                        paths.empty() ? "?" : escaped(paths.front())));
    RepairReport::Copy copy{.of = {}, .id = {}, .ended = repository_.parts().clock.now()};
    if (options_.apply) {
      HF_ASSIGN(const HeadList heads, repository_.heads());
      HF_ASSIGN(const auto session, Session::begin(repository_, heads));
      TreeCopy tree(repository_, *session);
      TreeCursor cursor(repository_.nodes(), root);
      Snapshot fresh;
      for (;;) {
        HF_TRY(stop_.check());
        HF_ASSIGN(const Entry* entry, cursor.next());
        if (entry == nullptr) break;
        HF_TRY(tree.add(*entry));
        if (entry->type == EntryType::file) fresh.statistics.bytes_total += entry->size;
        ++(entry->type == EntryType::file        ? fresh.statistics.files_unmodified
           : entry->type == EntryType::directory ? fresh.statistics.directories
                                                 : fresh.statistics.others);
      }
      fresh.started = fresh.ended = copy.ended;
      fresh.paths = std::move(paths);
      fresh.tags = {std::string(kRecoveredTag)};
      fresh.host = options_.host;
      fresh.user = options_.user;
      fresh.program = options_.program;
      std::vector<IndexedPack> packs;
      HF_ASSIGN(fresh.tree, tree.finish(packs, report_.bytes_written));
      std::vector<std::string> warnings;
      HF_ASSIGN(const Snapshot stands,
                session->commit(std::move(fresh), std::move(packs), warnings));
      copy.id = stands.id;
    }
    report_.snapshots.push_back(copy);
    return {};
  }

  Repository& repository_;
  const RepairOptions& options_;
  RepairProgress& progress_;
  const Stop& stop_;
  RepairReport report_;
  std::unordered_set<ChunkId, IdHash> met_, below_another_;
  std::vector<TreeRoot> roots_;
};

}  // namespace

Result<RepairReport> recover_snapshots(Repository& repository, const RepairOptions& options,
                                       RepairProgress& progress, const Stop& stop) {
  return after_records(repository,
                       [&] { return TreeHunt(repository, options, progress, stop).run(); });
}

}  // namespace holdfast
