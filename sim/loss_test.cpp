// SPDX-License-Identifier: Apache-2.0
// Ways to lose a backup without anybody noticing, each played once: what a snapshot rests on is
// gone or bad, what it compares with lies, what happens beside it.
#include <gtest/gtest.h>

#include "machine.h"
#include "repo/check.h"
#include "store/fault_store.h"
#include "store/memory_store.h"

namespace holdfast::sim {
namespace {

void expect_restores(Machine& machine, ObjectStore& store, const Result<Snapshot>& snapshot,
                     const SimTree& tree) {
  ASSERT_TRUE(snapshot) << snapshot.error().what;
  const auto client = *machine.open(store);
  const auto heads = client->repository().heads();
  ASSERT_TRUE(heads) << heads.error().what;
  ASSERT_TRUE(client->repository().sync_index(*heads, Stop()));
  const auto back = read_back(client->repository(), *snapshot);
  ASSERT_TRUE(back) << back.error().what;
  EXPECT_EQ(*back, tree);
}

// Lets a test do something at a put, or say what comes of it.
class PutStore : public ListingStore {
 public:
  // Null: the put goes on to the store.
  using OnPut = std::function<std::optional<Result<>>(std::string_view name, ByteSpan bytes)>;
  PutStore(ObjectStore& inner, OnPut on_put) : ListingStore(inner), on_put_(std::move(on_put)) {}
  Result<> put(std::string_view name, ByteSpan bytes) override {
    const auto result = on_put_(name, bytes);
    return result ? *result : ListingStore::put(name, bytes);
  }

 protected:
  Result<> listed(std::string_view, const Visit&) override { return {}; }

 private:
  OnPut on_put_;
};

class Loss : public ::testing::Test {
 protected:
  void SetUp() override {
    SeededRandom random(77);
    machine.tree = make_tree(random, 12);
    ASSERT_TRUE(machine.init(store));
  }
  MemoryStore store;
  Machine machine{77, "m"};
};

// A clock that keeps whole seconds: a change in the second of the last backup shows in no time.
TEST_F(Loss, a_change_within_the_tick_of_a_coarse_clock_is_seen) {
  const std::int64_t before = machine.clock.now_ns;
  const std::int64_t delay = machine.backup(store)->started.ns - before;
  const std::int64_t second = (machine.clock.now_ns + delay) / 1'000'000'000 - 1;
  SimFile& file = machine.tree["coarse"];
  file = {"AAAA", static_cast<std::uint64_t>(second - 1'000'000'000), 1000, 0};
  ASSERT_TRUE(machine.backup(store));
  file.content = "BBBB";
  expect_restores(machine, store, machine.backup(store), machine.tree);
}

TEST_F(Loss, unchanged_files_do_not_rest_on_another_devices_bad_packs) {
  Machine other(78, "other");
  other.tree = machine.tree;
  for (auto& [path, file] : other.tree) ++file.version;  // the same contents in another tree
  ASSERT_TRUE(other.recover(store, *machine.paper));
  ASSERT_TRUE(other.backup(store));
  ASSERT_TRUE(machine.backup(store));  // deduplicates against the other's packs
  // More than was sampled last time, so that they are sampled again.
  other.tree["more"] = {"something new", 1, 1000};
  ASSERT_TRUE(other.backup(store));
  const DeviceId its = (*other.open(store))->device().id;
  for (const IndexedPack& pack : packs(other, store))
    if (pack.device == its) flip(store, pack_name(pack.pack));
  expect_restores(machine, store, machine.backup(store), machine.tree);
}

TEST_F(Loss, a_pack_that_the_store_lost_is_stored_again) {
  ASSERT_TRUE(machine.backup(store));
  for (const std::string& name : data_packs(machine, store)) ASSERT_TRUE(store.remove(name));
  expect_restores(machine, store, machine.backup(store), machine.tree);
  ASSERT_TRUE(machine.backup(store));
  for (const std::string& name : object_names(store, "packs/")) ASSERT_TRUE(store.remove(name));
  expect_restores(machine, store, machine.backup(store), machine.tree);
}

TEST_F(Loss, a_pack_that_a_check_found_bad_is_stored_again) {
  ASSERT_TRUE(machine.backup(store));
  const auto packs = data_packs(machine, store);
  ASSERT_FALSE(packs.empty());
  flip(store, packs[0]);
  const auto check_all = [&] {
    const auto client = *machine.open(store);
    CheckProgress progress;
    CheckOptions options;
    options.read_data_percent = 100;
    return holdfast::check(client->repository(), options, progress, Stop())->damage.size();
  };
  EXPECT_GT(check_all(), 0U);
  expect_restores(machine, store, machine.backup(store), machine.tree);
  const std::size_t stored = object_names(store, "packs/").size();
  flip(store, packs[0]);  // it was put right
  EXPECT_EQ(check_all(), 0U);
  ASSERT_TRUE(machine.backup(store));
  EXPECT_EQ(object_names(store, "packs/").size(), stored) << "nothing new to store";
}

// Two runs of one home: the second read the heads before the first one put its own.
TEST_F(Loss, ENG_02_a_run_that_waited_for_another_one_follows_its_head) {
  ASSERT_TRUE(machine.backup(store));
  const auto early = *machine.open(store);
  const auto stale = early->repository().heads();
  ASSERT_TRUE(stale);
  ASSERT_TRUE(machine.backup(store));
  const auto session = Session::begin(early->repository(), *stale);
  ASSERT_TRUE(session) << session.error().what;
  std::vector<std::string> warnings;
  Snapshot snapshot = stale->snapshots[0];
  snapshot.lists.clear();
  ASSERT_TRUE((*session)->commit(snapshot, {}, warnings));
  EXPECT_TRUE(warnings.empty());
  const auto heads = (*machine.open(store))->repository().heads();
  ASSERT_TRUE(heads) << heads.error().what;
  ASSERT_EQ(heads->snapshots.size(), 3U);
  for (const std::uint64_t number : {1U, 2U}) {
    MemoryStore cut;
    for (const std::string& name : object_names(store, ""))
      if (name != head_name((*machine.open(store))->device().id, number))
        cut.overwrite(name, *store.get(name, 1U << 30));
    Machine fresh(79, "fresh");
    const auto seen = fresh.recover(cut, *machine.paper);
    const auto client = fresh.open(cut);
    ASSERT_TRUE(seen && client);
    const auto refused = (*client)->repository().heads();
    ASSERT_FALSE(refused) << "head " << number << " was dropped unnoticed";
    EXPECT_EQ(refused.error().code, Code::alarm);
  }
}

// The home remembers a head that was put after this listing began.
class PutsWhileListing : public ListingStore {
 public:
  using ListingStore::ListingStore;
  std::function<void()> meanwhile;

 protected:
  Result<> listed(std::string_view prefix, const Visit&) override {
    if (prefix == "heads/" && meanwhile) std::exchange(meanwhile, nullptr)();
    return {};
  }
};

TEST_F(Loss, a_head_that_is_put_while_heads_are_read_is_no_alarm) {
  ASSERT_TRUE(machine.backup(store));
  PutsWhileListing busy(store);
  const auto client = *machine.open(busy);
  busy.meanwhile = [&] { ASSERT_TRUE(machine.backup(store)); };
  const auto heads = client->repository().heads();
  ASSERT_TRUE(heads) << heads.error().what;
  EXPECT_FALSE(busy.meanwhile);
}

// What is in memory for each chunk of an open pack must not grow with the smallness of files.
TEST_F(Loss, a_pack_ends_before_its_chunks_outweigh_it) {
  machine.tree.clear();
  for (int i = 0; i < 33'000; ++i)
    machine.tree["d/" + std::to_string(i)] = {std::to_string(i), 1, 1000};
  const auto snapshot = machine.backup(store);
  const auto made = data_packs(machine, store);
  EXPECT_EQ(made.size(), 2U);
  for (const std::string& name : made) {
    EXPECT_LT(*store.size(name), kPackSize / 2);
    EXPECT_EQ(*store.size(name), padme(*store.size(name)));
  }
  expect_restores(machine, store, snapshot, machine.tree);
}

// Files that only look unchanged, in the words of another device of the same host name and paths.
TEST_F(Loss, another_devices_snapshot_is_never_what_a_backup_compares_with) {
  Machine other(80, "m");
  for (const auto& [path, file] : machine.tree)
    other.tree[path] = {std::string(file.content.size(), '#'), file.version, file.uid};
  ASSERT_TRUE(other.recover(store, *machine.paper));
  ASSERT_TRUE(other.backup(store));
  expect_restores(machine, store, machine.backup(store), machine.tree);
}

TEST_F(Loss, what_something_else_left_in_the_folders_hinders_nobody) {
  ASSERT_TRUE(machine.backup(store));
  const std::string device = (*machine.open(store))->device().id.hex();
  for (const char* name : {"heads/thumbs.db", "heads/d/x", "chain/readme.txt", "gc/readme",
                           "packs/index.html", "lists/.stfolder"})
    store.overwrite(name, as_bytes("x"));
  store.overwrite("heads/" + device + "/0000000000000001.sync-conflict-1", as_bytes("x"));
  expect_restores(machine, store, machine.backup(store), machine.tree);
}

TEST_F(Loss, a_damaged_record_of_a_collection_stops_who_writes_and_not_who_reads) {
  const auto snapshot = machine.backup(store);
  store.overwrite("gc/0000000000000001", as_bytes("x"));
  const auto refused = machine.backup(store);
  ASSERT_FALSE(refused);
  EXPECT_NE(refused.error().what.find("gc/0000000000000001"), std::string::npos);
  const auto heads = (*machine.open(store))->repository().heads();
  ASSERT_TRUE(heads) << heads.error().what;
  EXPECT_EQ(heads->snapshots.size(), 1U);
  ASSERT_EQ(heads->damaged.size(), 1U);
  EXPECT_NE(heads->damaged[0].find("gc/0000000000000001"), std::string::npos);
}

TEST_F(Loss, a_damaged_stub_of_a_snapshot_that_is_gone_is_no_alarm) {
  const auto first = machine.backup(store);
  const auto second = machine.backup(store);
  ASSERT_TRUE(machine.drop(store, *first));
  ASSERT_TRUE(machine.prune(store, {}));
  flip(store, dropped_name({first->device, first->number}));
  const auto heads = (*machine.open(store))->repository().heads();
  ASSERT_TRUE(heads) << heads.error().what;
  EXPECT_EQ(heads->damaged.size(), 1U);
  expect_restores(machine, store, second, machine.tree);
}

TEST_F(Loss, behind_a_damaged_record_the_collections_before_it_still_count) {
  const auto first = machine.backup(store);
  machine.tree["d/a"] = {"another", 2, 1000};
  const auto second = machine.backup(store);
  ASSERT_TRUE(machine.drop(store, *first));
  ASSERT_TRUE(machine.prune(store, {.unused_max = 0}));
  ASSERT_TRUE(store.size(collection_done_name(1)));
  store.overwrite(collection_name(2), as_bytes("x"));
  Machine fresh(79, "fresh");
  ASSERT_TRUE(fresh.recover(store, *machine.paper));
  const auto client = *fresh.open(store);
  const auto heads = *client->repository().heads();
  const auto damaged = client->repository().sync_index(heads, Stop());
  ASSERT_TRUE(damaged);
  ASSERT_EQ(damaged->size(), 1U) << damaged->back();  // and no list or pack that is gone
  EXPECT_EQ(*read_back(client->repository(), *second), machine.tree);
}

TEST_F(Loss, a_home_that_is_full_once_the_head_stands_does_not_call_it_a_failure) {
  ASSERT_TRUE(machine.backup(store));
  bool full = false;
  const auto fault = [&](std::string_view, std::string_view) -> Result<> {
    if (object_names(store, "heads/").size() > 3)
      full = true;  // head, .open, .gen, and the next three
    if (!full || object_names(store, "heads/").size() < 6) return {};
    return fail(Code::full, "no space left");
  };
  machine.state.set_fault(fault);
  machine.cache.set_fault(fault);
  machine.tree["new"] = {"new", 5, 1000};
  const auto snapshot = machine.backup(store);
  ASSERT_TRUE(snapshot) << snapshot.error().what;
  machine.state.set_fault({});
  machine.cache.set_fault({});
  expect_restores(machine, store, snapshot, machine.tree);
  machine.tree["newer"] = {"newer", 6, 1000};
  expect_restores(machine, store, machine.backup(store), machine.tree);
}

TEST_F(Loss, a_home_that_cannot_be_written_can_still_read) {
  const auto snapshot = machine.backup(store);
  const auto fault = [](std::string_view, std::string_view) -> Result<> {
    return fail(Code::denied, "read-only");
  };
  machine.state.set_fault(fault);
  machine.cache.set_fault(fault);
  expect_restores(machine, store, snapshot, machine.tree);
}

// What a session that was cut short stored is in the home's journal and listed by no head: nobody
// else finds it, so it is no copy that lets a collection remove another one.
TEST_F(Loss, packs_of_a_session_without_a_head_are_no_copies_for_a_collection) {
  const SimFile file = {std::string(5000, 'x') + "of both", 1, 1000};
  machine.tree = {{"d/shared", file}, {"d/a", {"a", 1, 1000}}};
  const auto first = machine.backup(store);
  machine.tree = {{"d/a", {"a", 1, 1000}}};
  ASSERT_TRUE(machine.backup(store));
  ASSERT_TRUE(machine.drop(store, *first));
  Machine other(78, "other");
  ASSERT_TRUE(other.recover(store, *machine.paper));
  other.tree = {{"d/shared", file}};
  // The other one's backup relies on a pack that is condemned while it runs.
  PutStore beside(store, [&](std::string_view name, ByteSpan) -> std::optional<Result<>> {
    if (!is_outcome(name)) return std::nullopt;
    const auto report = machine.prune(store, {.unused_max = 0});
    EXPECT_TRUE(report) << report.error().what;
    EXPECT_EQ(report ? report->waiting.size() : 0, 1U);
    return std::nullopt;
  });
  const auto kept = other.backup(beside);
  ASSERT_TRUE(kept) << kept.error().what;
  // This one stores the same again, as it must not rely on it, and dies before its head.
  machine.tree["d/shared"] = file;
  add_many(machine.tree, "new");
  PutStore dying(store, [&](std::string_view name, ByteSpan) -> std::optional<Result<>> {
    if (is_outcome(name)) return fail(Code::unavailable, "died");
    return std::nullopt;
  });
  ASSERT_FALSE(machine.backup(dying));
  machine.crash();
  const auto report = machine.prune(store, {.unused_max = 1e9});  // nothing is written again
  ASSERT_TRUE(report) << report.error().what;
  EXPECT_EQ(report->packs_rescued, 1U);
  Machine fresh(79, "fresh");
  ASSERT_TRUE(fresh.recover(store, *machine.paper));
  expect_restores(fresh, store, kept, other.tree);
}

// The head of an earlier run of the session arrives when a later run has stored more: what it
// stored is in no list then.
TEST_F(Loss, what_was_stored_when_a_late_head_arrived_is_listed_by_the_next_one) {
  Bytes late;
  std::string late_name;
  PutStore loses(store, [&](std::string_view name, ByteSpan bytes) -> std::optional<Result<>> {
    if (!is_outcome(name)) return std::nullopt;
    late_name = name;
    late.assign(bytes.begin(), bytes.end());
    return fail(Code::unavailable, "no answer");
  });
  ASSERT_FALSE(machine.backup(loses));
  add_many(machine.tree, "more");
  PutStore delivers(store, [&](std::string_view name, ByteSpan) -> std::optional<Result<>> {
    if (!is_outcome(name)) return std::nullopt;
    EXPECT_TRUE(store.put(late_name, late));
    return std::nullopt;
  });
  const auto again = machine.backup(delivers);
  ASSERT_FALSE(again);
  EXPECT_TRUE(again.error().what.starts_with(kGivenUp)) << again.error().what;
  const auto snapshot = machine.backup(store);
  Machine fresh(79, "fresh");
  ASSERT_TRUE(fresh.recover(store, *machine.paper));
  expect_restores(fresh, store, snapshot, machine.tree);
}

// A tree of a session that was cut short lies in packs that only this home's journal names, and
// that a collection condemns; they may be read as long as it has not ended.
TEST_F(Loss, a_tree_in_condemned_packs_of_a_session_without_a_head_is_recovered) {
  ASSERT_TRUE(machine.backup(store));
  add_many(machine.tree, "new");
  const SimTree lost = machine.tree;
  PutStore dying(store, [&](std::string_view name, ByteSpan) -> std::optional<Result<>> {
    if (is_outcome(name)) return fail(Code::unavailable, "died");
    return std::nullopt;
  });
  ASSERT_FALSE(machine.backup(dying));
  add_many(machine.tree, "more");  // so that the index learns what the first run stored
  ASSERT_FALSE(machine.backup(dying));
  Machine other(78, "other");
  ASSERT_TRUE(other.recover(store, *machine.paper));
  PutStore no_end(store, [&](std::string_view name, ByteSpan) -> std::optional<Result<>> {
    if (name.ends_with(".done")) return fail(Code::unavailable, "died");
    return std::nullopt;
  });
  ASSERT_FALSE(other.prune(no_end, {.give_up_after_ns = 0}));
  const auto report = machine.repair(store, recover_snapshots, true);
  ASSERT_TRUE(report) << report.error().what;
  ASSERT_EQ(report->snapshots.size(), 1U);
  ASSERT_TRUE(other.prune(store, {}));
  const auto client = machine.open(store).value();
  const auto heads = client->repository().heads();
  ASSERT_TRUE(heads) << heads.error().what;
  ASSERT_TRUE(client->repository().sync_index(*heads, Stop()));
  const auto found = std::ranges::find(heads->snapshots, report->snapshots[0].id, &Snapshot::id);
  ASSERT_NE(found, heads->snapshots.end());
  EXPECT_EQ(read_back(client->repository(), *found).value(), lost);
}

// Both write the local index; what the one has put is not listed yet when the other relies on it.
TEST_F(Loss, a_home_does_not_collect_while_it_backs_up) {
  ASSERT_TRUE(machine.backup(store));
  bool asked = false;
  PutStore beside(store, [&](std::string_view name, ByteSpan) -> std::optional<Result<>> {
    if (!is_outcome(name)) return std::nullopt;
    const auto report = machine.prune(store, {.unused_max = 0});
    asked = true;
    EXPECT_TRUE(!report && report.error().code == Code::conflict);
    return std::nullopt;
  });
  ASSERT_TRUE(machine.backup(beside));
  EXPECT_TRUE(asked);
  EXPECT_TRUE(machine.prune(store, {.unused_max = 0}));
}

// ---- Losses that happened to other programs, each by its cause. Two machines, something to
// collect, and something of it that is about to be used again.

class Known : public Loss {
 protected:
  void SetUp() override {
    Loss::SetUp();
    machine.tree = {{"d/kept", {std::string(4000, 'k') + "kept", 1, 1000}},
                    {"d/gone", {std::string(9000, 'g') + "gone", 1, 1000}}};
    add_many(machine.tree, "many");
    ASSERT_TRUE(other.recover(store, *machine.paper));
    const auto first = machine.backup(store);
    other.tree = {{"d/other", {"of the other", 1, 1000}}};
    ASSERT_TRUE(other.backup(store));  // its index knows all packs
    machine.tree.erase("d/gone");
    const auto second = machine.backup(store);
    ASSERT_TRUE(second);
    reported.push_back({second->id, machine.tree});
    ASSERT_TRUE(machine.drop(store, *first));
    other.tree["d/again"] = {std::string(9000, 'g') + "gone", 2, 1000};
  }

  // Both machines back up once more, and everything that was reported is there.
  void expect_nothing_lost() {
    for (Machine* m : {&other, &machine}) {
      const auto snapshot = m->backup(store);
      ASSERT_TRUE(snapshot) << snapshot.error().what;
      reported.push_back({snapshot->id, m->tree});
    }
    const auto held = verify(store, *machine.paper, ++seed, reported);
    EXPECT_TRUE(held) << held.error().what;
  }

  Machine other{78, "other"};
  std::vector<Reported> reported;
  std::uint64_t seed = 500;
};

TEST_F(Known, stale_index_after_an_interrupted_compaction) {
  int interrupted = 0;
  for (std::uint64_t put = 0;; ++put) {
    // One more put or removal reaches the store each time.
    std::uint64_t left = put;
    struct Dying : ListingStore {
      Dying(ObjectStore& inner, std::uint64_t& left) : ListingStore(inner), left_(left) {}
      Result<> put(std::string_view name, ByteSpan bytes) override {
        if (left_ == 0) return fail(Code::unavailable, "died");
        --left_;
        return ListingStore::put(name, bytes);
      }
      Result<> remove(std::string_view name) override {
        if (left_ == 0) return fail(Code::unavailable, "died");
        --left_;
        return ListingStore::remove(name);
      }
      Result<> listed(std::string_view, const Visit&) override { return {}; }
      std::uint64_t& left_;
    } dying(store, left);
    const auto report = machine.prune(dying, {.unused_max = 0});
    if (report) break;
    ++interrupted;
    machine.crash();
    ASSERT_LT(put, 100U);
  }
  EXPECT_GT(interrupted, 5);
  expect_nothing_lost();
}

TEST_F(Known, a_backup_with_an_old_index_after_each_step_of_a_compaction) {
  for (const std::string_view step : {"packs/", "lists/", "gc/", ".done", "removed"}) {
    SCOPED_TRACE(step);
    bool met = false;
    PutStore beside(store, [&](std::string_view name, ByteSpan) -> std::optional<Result<>> {
      if (met || !(name.starts_with(step) || name.ends_with(step))) return std::nullopt;
      met = true;
      const auto snapshot = other.backup(store);
      EXPECT_TRUE(snapshot) << snapshot.error().what;
      if (snapshot) reported.push_back({snapshot->id, other.tree});
      return std::nullopt;
    });
    const auto report = machine.prune(beside, {.unused_max = 0, .give_up_after_ns = 0});
    ASSERT_TRUE(report) << report.error().what;
    expect_nothing_lost();
    // Something to collect again.
    const auto client = *machine.open(store);
    const auto heads = client->repository().heads();
    for (const Snapshot& s : heads->snapshots) {
      const bool newest = std::ranges::none_of(heads->snapshots, [&](const Snapshot& n) {
        return n.device == s.device && n.number > s.number;
      });
      if (newest) continue;
      ASSERT_TRUE(machine.drop(store, s));
      std::erase_if(reported, [&](const Reported& r) { return r.id == s.id; });
    }
    machine.tree.erase("many/many" + std::to_string(step.size()));
    machine.tree["new/" + std::string(step.substr(0, 2))] = {"n", step.size(), 1000};
    other.tree.erase("d/again");
    ASSERT_TRUE(other.backup(store));
    other.tree["d/again"] = {std::string(9000, 'g') + "gone", 2, 1000};
  }
}

TEST_F(Known, overlapping_collections) {
  for (const std::string_view step : {"packs/", "lists/", "gc/", ".done"}) {
    SCOPED_TRACE(step);
    bool met = false;
    PutStore beside(store, [&](std::string_view name, ByteSpan) -> std::optional<Result<>> {
      if (met || !(name.starts_with(step) || name.ends_with(step))) return std::nullopt;
      met = true;
      const auto second = other.prune(store, {.unused_max = 0, .give_up_after_ns = 0});
      EXPECT_TRUE(second) << second.error().what;
      return std::nullopt;
    });
    const auto report = machine.prune(beside, {.unused_max = 0, .give_up_after_ns = 0});
    ASSERT_TRUE(report) << report.error().what;
    expect_nothing_lost();
  }
}

TEST_F(Known, an_idle_devices_long_backup_beside_two_prunes) {
  int prunes = 0;
  PutStore slow(store, [&](std::string_view name, ByteSpan) -> std::optional<Result<>> {
    if (!is_outcome(name) || prunes > 0) return std::nullopt;
    for (const std::int64_t patience : {std::int64_t{INT64_MAX}, std::int64_t{0}}) {
      const auto report = machine.prune(store, {.unused_max = 0, .give_up_after_ns = patience});
      EXPECT_TRUE(report) << report.error().what;
      ++prunes;
    }
    return std::nullopt;
  });
  const auto given_up = other.backup(slow);
  ASSERT_EQ(prunes, 2);
  ASSERT_FALSE(given_up);
  EXPECT_TRUE(given_up.error().what.starts_with(kGivenUp)) << given_up.error().what;
  expect_nothing_lost();
}

TEST_F(Known, an_index_rewrite_that_drops_entries) {
  for (int i = 0; i < 6; ++i) {
    add_many(machine.tree, "round" + std::to_string(i));
    ASSERT_TRUE(machine.backup(store));
  }
  ASSERT_TRUE(machine.prune(store, {.unused_max = 0}));
  const auto client = *machine.open(store);
  Repository& repository = client->repository();
  const auto heads = repository.heads();
  ASSERT_TRUE(repository.sync_index(*heads, Stop()));
  std::size_t chunks = 0;
  const auto listed = repository.listed_packs(*heads, Stop());
  ASSERT_TRUE(listed);
  for (const ListedPack& pack : *listed) {
    const auto table = read_pack_table(store, repository.parts().keys, repository.parts().devices,
                                       pack.pack, pack.type);
    ASSERT_TRUE(table) << table.error().what;
    for (const PackChunk& chunk : table->chunks) {
      EXPECT_TRUE(repository.index().find(chunk.id)) << chunk.id.hex();
      ++chunks;
    }
  }
  EXPECT_GT(chunks, 600U);
}

TEST_F(Known, a_full_disk_during_compaction) {
  for (std::uint64_t put = 0;; ++put) {
    FaultStore full(store, {.full_from_put = put});
    const auto report = machine.prune(full, {.unused_max = 0});
    if (report) break;
    EXPECT_EQ(report.error().code, Code::full) << report.error().what;
    const auto held = verify(store, *machine.paper, ++seed, reported);
    EXPECT_TRUE(held) << held.error().what;
    ASSERT_LT(put, 100U);
  }
  expect_nothing_lost();
}

TEST_F(Known, errors_seen_as_absence) {
  for (std::uint64_t fault = 0; fault < 40; ++fault) {
    FaultStore failing(store, {.seed = fault, .fail_before = 60, .fail_after = 60});
    const auto report = machine.prune(failing, {.unused_max = 0, .give_up_after_ns = 0});
    EXPECT_TRUE(report || report.error().code == Code::unavailable) << report.error().what;
    const auto backup = other.backup(failing);
    if (backup) reported.push_back({backup->id, other.tree});
  }
  expect_nothing_lost();
}

TEST_F(Known, a_repair_run_twice) {
  flip(store, object_names(store, "lists/")[0]);
  const std::string lost = data_packs(machine, store)[0];
  ASSERT_TRUE(store.remove(lost));
  constexpr std::array<Machine::Repair, 4> all = {repair_index, repair_packs, repair_snapshots,
                                                  recover_snapshots};
  for (const Machine::Repair what : all) {
    const auto once = machine.repair(store, what, true);
    ASSERT_TRUE(once) << once.error().what;
  }
  const auto after = object_names(store, "");
  for (const Machine::Repair what : all) {
    const auto twice = machine.repair(store, what, true);
    ASSERT_TRUE(twice) << twice.error().what;
  }
  EXPECT_EQ(object_names(store, ""), after);
}

TEST_F(Known, a_clock_that_jumps_a_year_ahead_or_back) {
  constexpr std::int64_t year = 365LL * 24 * 3600 * 1'000'000'000;
  for (const std::int64_t jump : {year, -year}) {
    int given_up = 0;
    PutStore beside(store, [&](std::string_view name, ByteSpan) -> std::optional<Result<>> {
      if (!is_outcome(name)) return std::nullopt;
      machine.clock.now_ns += jump;
      const auto report = machine.prune(store, {.unused_max = 0});
      EXPECT_TRUE(report) << report.error().what;
      given_up += report && report->sessions_given_up > 0 ? 1 : 0;
      return std::nullopt;
    });
    const auto backup = other.backup(beside);
    // A clock that is ahead gives it up, which costs a repetition; one that is behind waits.
    EXPECT_EQ(backup.has_value(), given_up == 0);
    if (backup) reported.push_back({backup->id, other.tree});
    expect_nothing_lost();
  }
}

}  // namespace
}  // namespace holdfast::sim
