// SPDX-License-Identifier: Apache-2.0
#include "repo/prune.h"

#include <fmt/format.h>

#include <algorithm>
#include <map>
#include <set>
#include <unordered_map>
#include <unordered_set>

#include "base/parallel.h"
#include "repo/chunk_set.h"
#include "repo/repacker.h"
#include "repo/retention_lock.h"

namespace holdfast {

namespace {

constexpr int kTriesMax = 5;             // against other pruners
constexpr std::size_t kRecordLists = 8;  // of older collections, before they become one

// ---- what a repository looks like to a collection

// Sessions with .open and without an outcome. `seen` is asked for each record of a session.
Result<std::vector<HeadRef>> list_undecided(
    const RepositoryParts& parts,
    const std::function<void(const HeadRef&, const std::string&)>& seen = {}) {
  std::set<HeadRef> open, decided;
  HF_TRY(list_at_most(
      parts.store, "heads/", parts.list_limits.heads, [&](const ObjectInfo& info) -> Result<> {
        const auto name = parse_head_name(info.name);
        if (!name) return {};
        const HeadRef ref{name->device, name->number};
        if (name->kind == HeadName::Kind::open) open.insert(ref);
        if (seen &&
            (name->kind == HeadName::Kind::open || name->kind == HeadName::Kind::generation))
          seen(ref, info.name);
        if (name->decides()) decided.insert(ref);
        return {};
      }));
  std::vector<HeadRef> out;
  std::ranges::set_difference(open, decided, std::back_inserter(out));
  return out;
}

// A repository in which something is damaged must not be collected: what cannot be read cannot be
// found in use.
Result<> refuse_damage(const std::vector<std::string>& damaged) {
  if (damaged.empty()) return {};
  return fail(Code::corrupt, fmt::format("{}. Nothing was removed: what is damaged may need what "
                                         "looks unused; run 'holdfast check'",
                                         damaged.front()));
}

Result<HeadList> read_sound(Repository& repository, const Stop& stop) {
  HF_ASSIGN(HeadList heads, repository.heads());
  HF_TRY(refuse_damage(heads.damaged));
  HF_ASSIGN(const auto damaged, repository.sync_index_as_others(heads, stop));
  HF_TRY(refuse_damage(damaged));
  HF_ASSIGN(const auto known, repository.known_damaged());
  if (!known.empty())
    HF_TRY(
        refuse_damage({fmt::format("pack {} is damaged, as a check found", known.begin()->hex())}));
  HF_TRY(repository.index().flush());  // so that chunks have numbers
  return heads;
}

// Marks every chunk below `roots`; `used` is called once for each.
Result<> mark(Repository& repository, std::span<const Snapshot* const> roots, ChunkSet& seen,
              PruneProgress& progress, const Stop& stop,
              const std::function<Result<>(const ChunkId&)>& used) {
  progress.phase = PruneProgress::Phase::mark;
  progress.done = 0;
  progress.total = roots.size();
  TreeUse use;
  use.seen = [&](const ChunkId& id) { return !seen.insert(id); };
  use.node = [&](const ChunkId& id, ChunkType) -> Result<> {
    HF_TRY(stop.check());
    return used(id);
  };
  const std::uint64_t chunks = repository.index().chunk_count();
  for (const Snapshot* snapshot : roots) {
    auto walked = walk_tree(repository.nodes(), snapshot->tree, use);
    if (!walked && walked.error().code == Code::corrupt) {
      HF_TRY(refuse_damage(
          {fmt::format("snapshot {}: {}", snapshot->id.brief(), walked.error().what)}));
    }
    HF_TRY(std::move(walked));
    ++progress.done;
  }
  if (repository.index().chunk_count() != chunks)  // a segment of it lied and was dropped
    return fail(Code::unavailable,
                "the local index was damaged, and what lied is dropped; run the command again");
  return {};
}

std::unexpected<Error> lost_chunk(const ChunkId& id) {
  return fail(Code::corrupt, fmt::format("chunk {} is in no pack that is there. Nothing was "
                                         "removed; run 'holdfast check'",
                                         id.hex()));
}

// Copies count only in packs that the store lists with their full size.
Result<> refuse_lost_packs(Repository& repository, const Stop& stop) {
  HF_ASSIGN(const auto lost, repository.lost_packs(stop));
  if (lost.empty()) return {};
  return refuse_damage(
      {fmt::format("pack {}: the store does not list it, or it was cut off", lost.front().hex())});
}

// What goes with a head. The stub stays.
std::vector<std::string> head_objects(const HeadRef& head) {
  const std::string name = head_name(head.device, head.number);
  return {name, name + ".open", name + ".gen"};
}

// ---- the plan

struct Plan {
  std::uint64_t newest = 0;  // collection when it was made
  ObjectNames condemned;     // without those that are written again
  std::vector<IndexedPack> repack;
  std::vector<HeadRef> heads;
  std::vector<PackListRef> retired;
  std::vector<ListedPack> carried;     // of retired lists
  std::vector<std::string> leftovers;  // of collections that are done
  PrunePlan figures;

  [[nodiscard]] bool empty() const {
    return condemned.empty() && repack.empty() && heads.empty() && retired.empty();
  }
};

// A pack's chunks that are in use: frame and place in it.
using UsedPlaces = std::map<ObjectHash, std::vector<std::pair<std::uint16_t, std::uint16_t>>>;

struct PackUse {
  std::uint64_t total = 0, used = 0;  // chunks
  double unused_bytes = 0;            // as stored; of packs that are used in part
};

class Planner {
 public:
  Planner(Repository& repository, const PruneOptions& options, PruneProgress& progress,
          const Stop& stop)
      : repository_(repository),
        options_(options),
        progress_(progress),
        stop_(stop),
        seen_(repository.index()) {}

  // The listing of packs comes first: what is put after it belongs to sessions or pruners that are
  // seen later, or that see this collection.
  Result<Plan> plan() {
    std::vector<ObjectInfo> listed;
    HF_TRY(list_at_most(repository_.parts().store, "packs/", repository_.parts().list_limits.packs,
                        [&](const ObjectInfo& info) -> Result<> {
                          listed.push_back(info);
                          return {};
                        }));
    std::vector<std::string> lists;
    HF_TRY(list_at_most(repository_.parts().store, "lists/", repository_.parts().list_limits.lists,
                        [&](const ObjectInfo& info) -> Result<> {
                          lists.push_back(info.name);
                          return {};
                        }));
    // A removal that was cut short may have taken the head and left these.
    HF_ASSIGN(const auto undecided,
              list_undecided(repository_.parts(), [&](const HeadRef& ref, const std::string& name) {
                if (repository_.collections().gone(ref)) plan_.leftovers.push_back(name);
              }));
    HF_ASSIGN(heads_, read_sound(repository_, stop_));
    plan_.leftovers.insert(plan_.leftovers.end(), heads_.leftovers.begin(), heads_.leftovers.end());
    plan_.newest = repository_.collections().newest();
    HF_TRY(refuse_lost_packs(repository_, stop_));
    HF_TRY(find_used());
    HF_TRY(choose_packs());
    find_leftover_packs(listed, undecided.empty());
    plan_heads();
    HF_TRY(plan_lists(lists, undecided.empty()));
    if (!options_.dry_run) HF_TRY(verify_copies_that_stay());
    std::ranges::sort(plan_.condemned);
    const auto doubled = std::ranges::unique(plan_.condemned);
    plan_.condemned.erase(doubled.begin(), doubled.end());
    return std::move(plan_);
  }

  // What is in use and lies in a pack that goes, and again in one that stays: the copy that stays
  // has to be one that can be read, as of damage that another home found nothing is known here.
  Result<> verify_copies_that_stay() {
    if (plan_.condemned.empty() && plan_.repack.empty()) return {};
    std::unordered_map<ObjectHash, std::size_t, IdHash> places;
    for (std::size_t i = 0; i < packs_.size(); ++i) places.emplace(packs_[i].pack, i);
    std::vector<bool> goes(packs_.size(), false);
    for (const ObjectHash& pack : plan_.condemned)  // strays are not in the index
      if (const auto at = places.find(pack); at != places.end()) goes[at->second] = true;
    for (const IndexedPack& pack : plan_.repack) goes[places.at(pack.pack)] = true;
    std::map<std::size_t, std::set<std::uint16_t>> stay;  // frames of each pack
    HF_TRY(repository_.index().each_record([&](std::uint64_t number, const ChunkId& id,
                                               std::size_t pack, std::uint16_t,
                                               std::uint16_t) -> Result<> {
      if (!goes[pack] || seen_.contains_number(number) || !seen_.contains(id)) return {};
      const auto place = repository_.index().find(id);
      if (!place) return lost_chunk(id);
      stay[places.at(place->pack)].insert(place->frame);
      return {};
    }));
    const RepositoryParts& parts = repository_.parts();
    FrameReader frames(parts.keys);
    Bytes plain;
    for (const auto& [i, numbers] : stay) {
      HF_TRY(stop_.check());
      const IndexedPack& pack = packs_[i];
      const auto read = [&]() -> Result<> {
        HF_ASSIGN(const PackTable table,
                  read_pack_table(parts.store, parts.keys, parts.devices, pack.pack, pack.type));
        for (const std::uint16_t frame : numbers)
          HF_TRY(frames.read(parts.store, table, frame, plain));
        return {};
      }();
      if (!read && is_damage(read.error()))
        return fail(Code::corrupt,
                    fmt::format("{}. Nothing was removed: another copy of what is damaged may be "
                                "in a pack that looks unused; 'holdfast repair packs --apply' "
                                "saves it",
                                read.error().what));
      HF_TRY(read);
    }
    return {};
  }

  // The chunks to keep of the packs that are written again.
  Result<UsedPlaces> used_places(const std::vector<IndexedPack>& packs) {
    UsedPlaces places;
    for (const IndexedPack& pack : packs) places[pack.pack];
    const std::vector<IndexedPack> all = repository_.index().packs();
    HF_TRY(
        repository_.index().each_record([&](std::uint64_t number, const ChunkId&, std::size_t pack,
                                            std::uint16_t frame, std::uint16_t slot) -> Result<> {
          if (!seen_.contains_number(number)) return {};
          const auto found = places.find(all[pack].pack);
          if (found != places.end()) found->second.emplace_back(frame, slot);
          return {};
        }));
    return places;
  }

 private:
  Result<> find_used() {
    std::vector<const Snapshot*> roots;
    roots.reserve(heads_.snapshots.size());
    for (const Snapshot& s : heads_.snapshots) roots.push_back(&s);
    for (const Snapshot& s : heads_.dropped)
      if (heads_.is_held(s)) roots.push_back(&s);
    HF_TRY(mark(repository_, roots, seen_, progress_, stop_, [&](const ChunkId& id) -> Result<> {
      return repository_.index().find(id) ? Result<>() : lost_chunk(id);
    }));
    packs_ = repository_.index().packs();
    use_.resize(packs_.size());
    return repository_.index().each_record([&](std::uint64_t number, const ChunkId&,
                                               std::size_t pack, std::uint16_t,
                                               std::uint16_t) -> Result<> {
      ++use_[pack].total;
      if (seen_.contains_number(number)) ++use_[pack].used;
      return {};
    });
  }

  Result<> choose_packs() {
    std::vector<std::size_t> partly;
    for (std::size_t i = 0; i < packs_.size(); ++i) {
      ++plan_.figures.packs;
      plan_.figures.bytes += packs_[i].size;
      // Nothing is known of a pack whose records are not in a segment.
      if (repository_.collections().doomed(packs_[i].pack) || use_[i].total == 0) continue;
      if (use_[i].used == 0) {
        plan_.condemned.push_back(packs_[i].pack);
        ++plan_.figures.packs_unused;
        plan_.figures.bytes_unused += packs_[i].size;
      } else if (use_[i].used < use_[i].total) {
        partly.push_back(i);
      }
    }
    HF_TRY(weigh(partly));
    choose_repack(partly);
    return {};
  }

  // Chunks are of very different sizes, and of very different ones when compressed: each has its
  // share of its frame's stored bytes.
  Result<> weigh(std::span<const std::size_t> partly) {
    const RepositoryParts& parts = repository_.parts();
    const unsigned together = std::max(parts.store.parallel(), 1U);
    std::vector<std::optional<Result<PackTable>>> tables(together);
    for (std::size_t from = 0; from < partly.size(); from += together) {
      HF_TRY(stop_.check());
      const auto block =
          partly.subspan(from, std::min<std::size_t>(together, partly.size() - from));
      parallel_for(together, block.size(), [&](std::size_t i) {
        const IndexedPack& pack = packs_[block[i]];
        tables[i] = read_pack_table(parts.store, parts.keys, parts.devices, pack.pack, pack.type);
      });
      for (std::size_t i = 0; i < block.size(); ++i) {
        const Result<PackTable>& table = *tables[i];
        if (!table && is_damage(table.error())) HF_TRY(refuse_damage({table.error().what}));
        HF_TRY(table);
        use_[block[i]].unused_bytes = unused_of(*table);
      }
    }
    return {};
  }

  double unused_of(const PackTable& table) {
    double unused = 0;
    for (const PackFrame& f : table.frames) {
      std::uint64_t dead = 0, all = 0;
      for (const PackChunk& chunk : std::span(table.chunks).subspan(f.first_chunk, f.chunk_count)) {
        const auto place = seen_.contains(chunk.id) ? repository_.index().find(chunk.id)
                                                    : std::optional<ChunkPlace>();
        all += chunk.length;
        if (!place || place->pack != table.pack) dead += chunk.length;
      }
      if (all > 0)
        unused +=
            static_cast<double>(f.stored) * static_cast<double>(dead) / static_cast<double>(all);
    }
    return unused;
  }

  void choose_repack(std::vector<std::size_t>& partly) {
    double unused = 0;
    for (const std::size_t i : partly) unused += use_[i].unused_bytes;
    const double used =
        static_cast<double>(plan_.figures.bytes - plan_.figures.bytes_unused) - unused;
    plan_.figures.unused_bytes = plan_.figures.bytes_unused + static_cast<std::uint64_t>(unused);
    const auto share = [&](std::size_t i) {
      return use_[i].unused_bytes / static_cast<double>(packs_[i].size);
    };
    std::ranges::sort(partly, std::greater(),
                      [&](std::size_t i) { return std::pair(share(i), packs_[i].pack); });
    double freed = 0;
    for (const std::size_t i : partly) {
      if (unused <= options_.unused_max * used) break;
      if (plan_.figures.bytes_repacked + packs_[i].size > options_.repack_max) continue;
      plan_.repack.push_back(packs_[i]);
      ++plan_.figures.packs_repacked;
      plan_.figures.bytes_repacked += packs_[i].size;
      unused -= use_[i].unused_bytes;
      freed += use_[i].unused_bytes;
    }
    plan_.figures.bytes_freed = plan_.figures.bytes_unused + static_cast<std::uint64_t>(freed);
  }

  // Packs that nobody lists are of sessions that were given up, or of other pruners; while a
  // session is undecided they may be its own.
  void find_leftover_packs(const std::vector<ObjectInfo>& listed, bool all_decided) {
    std::set<ObjectHash> known;
    for (const IndexedPack& pack : packs_) known.insert(pack.pack);
    for (const ObjectInfo& info : listed) {
      const auto name = parse_pack_name(info.name);
      if (!name || known.contains(*name)) continue;
      if (repository_.collections().gone(*name)) {
        plan_.leftovers.push_back(info.name);
      } else if (all_decided && !repository_.collections().doomed(*name)) {
        plan_.condemned.push_back(*name);
        ++plan_.figures.strays;
        plan_.figures.stray_bytes += info.size;
        plan_.figures.bytes_freed += info.size;
      }
    }
  }

  void plan_heads() {
    std::set<HeadRef> named;
    for (std::uint64_t n = 1; n <= plan_.newest; ++n) {
      const auto& heads = repository_.collections().record(n).heads;
      named.insert(heads.begin(), heads.end());
    }
    std::map<DeviceId, std::uint64_t> newest;
    for (const auto* snapshots : {&heads_.snapshots, &heads_.dropped})
      for (const Snapshot& s : *snapshots) newest[s.device] = std::max(newest[s.device], s.number);
    for (const Snapshot& s : heads_.dropped) {
      const HeadRef ref{s.device, s.number};
      if (s.number == newest[s.device]) continue;  // what other devices remember of it
      if (heads_.is_held(s)) continue;
      if (!named.contains(ref)) {
        plan_.heads.push_back(ref);
        ++plan_.figures.snapshots_removed;
      } else if (repository_.collections().gone(ref)) {
        for (std::string& name : head_objects(ref)) plan_.leftovers.push_back(std::move(name));
      }
    }
    std::ranges::sort(plan_.heads);
  }

  Result<> plan_lists(const std::vector<std::string>& listed, bool all_decided) {
    std::set<ObjectHash> named;
    for (const auto* snapshots : {&heads_.snapshots, &heads_.dropped})
      for (const Snapshot& s : *snapshots) {
        const bool removed = std::ranges::binary_search(plan_.heads, HeadRef{s.device, s.number});
        for (const PackListRef& ref : s.lists) {
          named.insert(ref.name);
          if (removed) HF_TRY(retire(ref));
        }
      }
    HF_TRY(merge_record_lists(named));
    for (const std::string& name : listed) {
      const auto hash = ObjectHash::parse(name.substr(std::min<std::size_t>(name.size(), 6)));
      if (!hash || named.contains(*hash)) continue;
      if (repository_.collections().gone(*hash))
        plan_.leftovers.push_back(name);
      else if (all_decided && !repository_.collections().doomed(*hash))
        plan_.retired.push_back({*hash, 0});
    }
    std::ranges::sort(plan_.retired, {}, &PackListRef::name);
    const auto doubled = std::ranges::unique(plan_.retired, {}, &PackListRef::name);
    plan_.retired.erase(doubled.begin(), doubled.end());
    return {};
  }

  Result<> merge_record_lists(std::set<ObjectHash>& named) {
    std::vector<PackListRef> lists;
    for (std::uint64_t n = 1; n <= plan_.newest; ++n)
      for (const PackListRef& ref : repository_.collections().record(n).lists) {
        named.insert(ref.name);
        if (!repository_.collections().doomed(ref.name)) lists.push_back(ref);
      }
    if (lists.size() < kRecordLists) return {};
    for (const PackListRef& ref : lists) HF_TRY(retire(ref));
    return {};
  }

  // What it lists is taken over: condemned packs too, as they may turn out to be used.
  Result<> retire(const PackListRef& ref) {
    if (repository_.collections().doomed(ref.name)) return {};
    HF_ASSIGN(const auto packs, repository_.read_counting_list(ref));
    if (!packs) return {};  // another pruner was faster, and will be found to be
    for (const ListedPack& pack : *packs)
      if (!repository_.collections().gone(pack.pack)) plan_.carried.push_back(pack);
    plan_.retired.push_back(ref);
    return {};
  }

  Repository& repository_;
  const PruneOptions& options_;
  PruneProgress& progress_;
  const Stop& stop_;
  HeadList heads_;
  ChunkSet seen_;
  std::vector<IndexedPack> packs_;
  std::vector<PackUse> use_;
  Plan plan_;
};

// ---- writing again

// False: a frame of it cannot be read; the pack must stay.
Result<bool> repack(Repacker::Hand& hand, const RepositoryParts& parts, const IndexedPack& pack,
                    std::vector<std::pair<std::uint16_t, std::uint16_t>> places, const Stop& stop) {
  const auto moved = [&]() -> Result<> {
    HF_ASSIGN(const PackTable table,
              read_pack_table(parts.store, parts.keys, parts.devices, pack.pack, pack.type));
    std::ranges::sort(places);
    std::vector<std::uint16_t> slots;
    for (std::size_t from = 0; from < places.size();) {
      HF_TRY(stop.check());
      const std::uint16_t frame = places[from].first;
      slots.clear();
      for (; from < places.size() && places[from].first == frame; ++from)
        slots.push_back(places[from].second);
      HF_TRY(hand.move_frame(table, frame, slots));
    }
    return {};
  }();
  if (!moved && is_damage(moved.error())) return false;
  HF_TRY(moved);
  return true;
}

// ---- the whole

class Prune {
 public:
  Prune(Repository& repository, const PruneOptions& options, PruneProgress& progress,
        const Stop& stop)
      : repository_(repository),
        parts_(repository.parts()),
        options_(options),
        progress_(progress),
        stop_(stop) {}

  Result<PruneReport> run() {
    const auto lock = parts_.state.lock(kWriterLock);
    if (!lock) return wrap(lock.error(), kAnotherBackupRuns);
    if (!options_.dry_run) {
      HF_ASSIGN(const HeadList heads, repository_.heads());
      HF_TRY(repository_.check_home(heads));  // before it decides or ends anything
      HF_TRY(extend_locks(repository_, stop_));
      HF_TRY(finish_all());
    }
    for (int tries = 1;; ++tries) {
      HF_ASSIGN(const bool first, collect());
      if (first && !options_.dry_run) HF_TRY(extend_locks(repository_, stop_));
      if (first) return std::move(report_);
      if (tries == kTriesMax)
        return fail(Code::conflict,
                    "other devices collect this repository all the time; try again "
                    "later");
    }
  }

 private:
  // What another pruner moves or removes while it is looked for seems lost: looked at again.
  template <class T, class Look>
  Result<T> steady(const Look& look) {
    for (int tries = 1;; ++tries) {
      HF_TRY(repository_.refresh_collections());
      const std::uint64_t before = repository_.collections().state();
      Result<T> seen = look();
      if (seen || tries == kTriesMax) return seen;
      if (!is_damage(seen.error())) return seen;
      HF_TRY(repository_.refresh_collections());
      if (repository_.collections().state() == before) return seen;
    }
  }

  // Records without .done, in order of number, until one has to wait.
  Result<> finish_all() {
    HF_TRY(repository_.refresh_collections());
    for (std::uint64_t n = 1; n <= repository_.collections().newest(); ++n) {
      if (repository_.collections().done(n)) continue;
      HF_ASSIGN(const bool ended, finish(n));
      if (!ended) return {};
    }
    return {};
  }

  // False: another pruner was first.
  Result<bool> collect() {
    std::optional<Planner> planner;
    // Who is not waited for is decided before the plan: its packs are nobody's then.
    if (!options_.dry_run) {
      HF_TRY(repository_.refresh_collections());
      HF_ASSIGN([[maybe_unused]] const auto open,
                decide_sessions(repository_.collections().newest() + 1));
    }
    HF_ASSIGN(Plan plan, steady<Plan>([&] {
                planner.emplace(repository_, options_, progress_, stop_);
                return planner->plan();
              }));
    report_.plan = plan.figures;
    if (options_.dry_run) return true;
    HF_TRY(remove_objects(plan.leftovers));
    if (plan.empty()) return true;
    HF_TRY(repack(*planner, plan));
    HF_ASSIGN(const bool first, condemn(plan));
    if (first) HF_TRY(finish_all());
    return first;
  }

  // Packs that could be written again go to the condemned ones, the new packs to what is carried.
  Result<> repack(Planner& planner, Plan& plan) {
    if (plan.repack.empty()) return {};
    progress_.phase = PruneProgress::Phase::repack;
    progress_.done = 0;
    progress_.total = plan.figures.bytes_repacked;
    HF_ASSIGN(UsedPlaces places, planner.used_places(plan.repack));
    std::unordered_set<ObjectHash, IdHash> avoid(plan.condemned.begin(), plan.condemned.end());
    for (const IndexedPack& pack : plan.repack) avoid.insert(pack.pack);
    Repacker repacker(repository_, std::move(avoid));
    std::vector<Result<bool>> moved(plan.repack.size(), true);
    std::atomic<std::size_t> next{0};
    std::atomic<bool> failed{false};
    parallel_for(options_.workers, options_.workers, [&](std::size_t) {
      Repacker::Hand hand(repacker);
      for (std::size_t i = next++; i < moved.size() && !failed; i = next++) {
        const IndexedPack& pack = plan.repack[i];
        moved[i] = holdfast::repack(hand, parts_, pack, std::move(places.at(pack.pack)), stop_);
        failed = failed || !moved[i];
        progress_.done += pack.size;
      }
    });
    for (std::size_t i = 0; i < moved.size(); ++i) {
      HF_TRY(moved[i]);
      if (*moved[i])
        plan.condemned.push_back(plan.repack[i].pack);
      else
        report_.left.push_back(plan.repack[i].pack.hex());
    }
    HF_ASSIGN(const auto written, repacker.finish());
    report_.bytes_written += repacker.bytes_written();
    for (const IndexedPack& pack : written)
      plan.carried.push_back({pack.pack, pack.type, pack.size});
    std::ranges::sort(plan.condemned);
    return check_listed(parts_, written);
  }

  // What does not fit into one record is left to the next run.
  Result<bool> condemn(Plan& plan) {
    CollectionRecord record;
    record.by = parts_.device;
    record.number = plan.newest + 1;
    if (plan.newest > 0) record.before = repository_.collections().record(plan.newest).object;
    record.condemned = std::move(plan.condemned);
    for (const PackListRef& ref : plan.retired) record.retired.push_back(ref.name);
    record.heads = std::move(plan.heads);
    const auto shorten = [](auto& names) {
      if (names.size() > kCollectionNamesWritten) names.resize(kCollectionNamesWritten);
    };
    shorten(record.condemned);
    shorten(record.retired);
    shorten(record.heads);
    HF_ASSIGN(record.lists, put_pack_lists(parts_, std::move(plan.carried)));
    return put_collection(repository_, record);
  }

  // ---- the end of a collection

  // False: it has to wait, for sessions or for the retention lock.
  Result<bool> finish(std::uint64_t number) {
    const Time put = repository_.collections().put(number);
    if (parts_.lock.holds(put)) {
      report_.held_until = {put.ns + parts_.lock.period_ns};
      return false;
    }
    HF_ASSIGN(report_.waiting, decide_sessions(number));
    if (!report_.waiting.empty()) return false;
    HF_ASSIGN(const auto mine,
              steady<std::optional<CollectionDone>>([&] { return mark_again(number); }));
    HF_TRY(stop_.check());
    bool first = false;
    if (mine) {
      HF_ASSIGN(first, put_collection_done(repository_, *mine));
    }
    if (!first) ++report_.overtaken;
    HF_TRY(repository_.refresh_collections());  // whoever's was first
    if (!repository_.collections().done(number))
      return fail(Code::corrupt,
                  fmt::format("{}: it stands, and the store does not list it. Nothing was removed",
                              collection_done_name(number)));
    HF_TRY(remove_names(number));
    ++report_.finished;
    return true;
  }

  // Every session that did not see this record must have an outcome.
  Result<std::vector<OpenSession>> decide_sessions(std::uint64_t number) {
    HF_ASSIGN(const auto undecided, list_undecided(parts_));
    std::vector<OpenSession> waiting;
    for (const HeadRef& ref : undecided) {
      HF_ASSIGN(const bool saw, saw_collection(ref, number));
      if (saw) continue;
      HF_ASSIGN(const Time begun, started(ref));
      const OpenSession session{ref, begun};
      const bool cut_short = ref.device == parts_.device;  // this home's lock is held
      const std::int64_t now = parts_.clock.now().ns;
      std::int64_t away =
          0;  // either way: a clock that is years ahead is no reason to wait for years
      if (__builtin_sub_overflow(std::max(now, session.started.ns),
                                 std::min(now, session.started.ns), &away))
        away = INT64_MAX;
      if (!cut_short && away < options_.give_up_after_ns) {
        waiting.push_back(session);
        continue;
      }
      HF_TRY(give_up(ref, number));
    }
    return waiting;
  }

  // One that is missing or damaged is older than everything.
  Result<bool> saw_collection(const HeadRef& ref, std::uint64_t number) {
    const auto record = read_session_record(parts_, ref, HeadName::Kind::generation);
    if (record) return record->generation >= number;
    if (is_damage(record.error())) return false;
    return std::unexpected(record.error());
  }

  Result<Time> started(const HeadRef& ref) {
    const auto record = read_session_record(parts_, ref, HeadName::Kind::open);
    if (record) return record->started;
    if (is_damage(record.error())) return Time{};
    return std::unexpected(record.error());
  }

  Result<> give_up(const HeadRef& ref, std::uint64_t number) {
    const Bytes object =
        seal_abandoned({.by = parts_.device,
                        .session = ref,
                        .collection = number,
                        .reason = "it was open for too long while the repository was collected"},
                       parts_.keys, parts_.signer, parts_.random);
    const std::string name = head_name(ref.device, ref.number);
    auto put = parts_.store.put(name, object);
    if (!put && put.error().code == Code::conflict) return {};  // decided by itself meanwhile
    HF_TRY(std::move(put));
    HF_TRY(check_there(parts_.store, name, object));
    ++report_.sessions_given_up;
    return {};
  }

  // Null: another pruner ended it, and may have removed already what this one would look for.
  Result<std::optional<CollectionDone>> mark_again(std::uint64_t number) {
    HF_ASSIGN(const HeadList heads, read_sound(repository_, stop_));
    if (repository_.collections().done(number)) return std::nullopt;
    const CollectionRecord& record = repository_.collections().record(number);
    HF_TRY(refuse_lost_packs(repository_, stop_));
    // Newer records do not matter yet: theirs is done after this one, and finds these packs gone.
    repository_.index().set_condemned(record.condemned);
    std::set<ObjectHash> used;
    std::vector<const Snapshot*> roots;
    for (const auto* snapshots : {&heads.snapshots, &heads.dropped})
      for (const Snapshot& s : *snapshots) {
        const HeadRef head{s.device, s.number};
        // One that an older collection removes may stand still, without what it needs.
        if (std::ranges::binary_search(record.heads, head) || repository_.collections().gone(head))
          continue;
        roots.push_back(&s);
        for (const PackListRef& list : s.lists)
          if (std::ranges::binary_search(record.retired, list.name)) used.insert(list.name);
      }
    ChunkSet seen(repository_.index());
    auto marked =
        mark(repository_, roots, seen, progress_, stop_, [&](const ChunkId& id) -> Result<> {
          if (repository_.index().contains(id)) return {};
          const auto place = repository_.index().find(id);
          if (!place) return lost_chunk(id);
          used.insert(place->pack);
          return {};
        });
    repository_.index().set_condemned(repository_.collections().condemned());
    HF_TRY(std::move(marked));
    return CollectionDone{.by = parts_.device,
                          .number = number,
                          .collection = record.object,
                          .used = {used.begin(), used.end()}};
  }

  Result<> remove_names(std::uint64_t number) {
    const CollectionRecord& record = repository_.collections().record(number);
    const CollectionDone& done = *repository_.collections().done(number);
    const auto unused = [&](const ObjectHash& name) {
      return !std::ranges::binary_search(done.used, name);
    };
    std::vector<std::string> names;
    for (const ObjectHash& pack : record.condemned) {
      if (unused(pack))
        names.push_back(pack_name(pack));
      else
        ++report_.packs_rescued;
    }
    for (const ObjectHash& list : record.retired)
      if (unused(list)) names.push_back(list_name(list));
    for (const HeadRef& head : record.heads)
      for (std::string& name : head_objects(head)) names.push_back(std::move(name));
    return remove_objects(names);
  }

  Result<> remove_objects(const std::vector<std::string>& names) {
    progress_.phase = PruneProgress::Phase::remove;
    progress_.done = 0;
    progress_.total = names.size();
    for (const std::string& name : names) {
      HF_TRY(stop_.check());
      const bool pack = name.starts_with("packs/");
      const auto size = pack ? parts_.store.size(name) : Result<std::uint64_t>(0);
      auto removed = parts_.store.remove(name);
      ++progress_.done;
      if (!removed && removed.error().code == Code::locked) {
        ++report_.locked;  // a later prune finds it again
        continue;
      }
      HF_TRY(std::move(removed));
      if (!pack || !size) continue;
      ++report_.packs_deleted;
      report_.bytes_freed += *size;
    }
    return {};
  }

  Repository& repository_;
  const RepositoryParts& parts_;
  const PruneOptions& options_;
  PruneProgress& progress_;
  const Stop& stop_;
  PruneReport report_;
};

}  // namespace

Result<> check_droppable(const HeadList& heads, const Snapshot& snapshot) {
  const bool newer = std::ranges::any_of(heads.snapshots, [&](const Snapshot& s) {
    return s.device == snapshot.device && s.number > snapshot.number;
  });
  if (newer) return {};
  return fail(Code::denied, fmt::format("snapshot {} is the newest of its device, which is never "
                                        "dropped: other devices know the device by it",
                                        snapshot.id.brief()));
}

Result<> drop_snapshot(Repository& repository, const HeadList& heads, const Snapshot& snapshot,
                       std::string_view reason) {
  const RepositoryParts& parts = repository.parts();
  HF_TRY(check_droppable(heads, snapshot));
  const HeadRef ref{snapshot.device, snapshot.number};
  const Bytes object = seal_dropped({.by = parts.device,
                                     .snapshot = ref,
                                     .head = snapshot.id,
                                     .previous = snapshot.previous,
                                     .previous_number = snapshot.previous_number,
                                     .reason = std::string(reason)},
                                    parts.keys, parts.signer, parts.random);
  auto put = parts.store.put(dropped_name(ref), object);
  if (put || put.error().code != Code::conflict) return put;
  // Somebody else dropped it, if what stands there holds.
  HF_ASSIGN(const Bytes there, parts.store.get(dropped_name(ref), object.size() * 16));
  auto stub = open_dropped(there, ref, parts.keys, parts.devices);
  if (stub && stub->head == snapshot.id) return {};
  return fail(Code::corrupt,
              fmt::format("{}: stands there already, and does not drop this snapshot{}; run "
                          "'holdfast repair index'",
                          dropped_name(ref), stub ? "" : " (" + stub.error().what + ")"));
}

Result<PruneReport> prune(Repository& repository, const PruneOptions& options,
                          PruneProgress& progress, const Stop& stop) {
  return Prune(repository, options, progress, stop).run();
}

}  // namespace holdfast
