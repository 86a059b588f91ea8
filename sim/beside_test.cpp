// SPDX-License-Identifier: Apache-2.0
// What happens between two looks of another machine or process, each found by a review and played
// once.
#include <gtest/gtest.h>

#include <algorithm>
#include <condition_variable>
#include <thread>

#include "machine.h"
#include "repo/check.h"
#include "store/memory_store.h"

namespace holdfast::sim {
namespace {

// Hooks before calls: an error is given on and nothing is done.
class HookStore : public ObjectStore {
 public:
  explicit HookStore(ObjectStore& inner) : inner_(inner) {}
  std::function<Result<>(std::string_view)> on_put, on_get, on_remove;
  std::function<void(std::string_view)> before_list, after_list;
  std::function<bool(std::string_view)> hidden;  // from listings
  std::uint64_t gets = 0;
  Result<> put(std::string_view name, ByteSpan bytes) override {
    if (on_put) HF_TRY(on_put(name));
    return inner_.put(name, bytes);
  }
  Result<Bytes> get(std::string_view name, std::uint64_t size_max) override {
    ++gets;
    if (on_get) HF_TRY(on_get(name));
    return inner_.get(name, size_max);
  }
  Result<> get_range(std::string_view name, std::uint64_t offset, MutableByteSpan out) override {
    if (on_get) HF_TRY(on_get(name));
    return inner_.get_range(name, offset, out);
  }
  Result<std::uint64_t> size(std::string_view name) override { return inner_.size(name); }
  Result<> list(std::string_view prefix,
                const std::function<Result<>(const ObjectInfo&)>& visit) override {
    if (before_list) before_list(prefix);
    HF_TRY(inner_.list(prefix, [&](const ObjectInfo& info) -> Result<> {
      if (hidden && hidden(info.name)) return {};
      return visit(info);
    }));
    if (after_list) after_list(prefix);
    return {};
  }
  Result<> remove(std::string_view name) override {
    if (on_remove) HF_TRY(on_remove(name));
    return inner_.remove(name);
  }

 private:
  ObjectStore& inner_;
};

std::string noise(std::uint64_t seed, std::size_t size) {
  SeededRandom random(seed);
  std::string out(size, '\0');
  for (char& c : out) c = static_cast<char>(random.next());
  return out;
}

class Beside : public ::testing::Test {
 protected:
  void SetUp() override {
    machine.tree = {{"d/a", {"a", 1, 1000}}};
    ASSERT_TRUE(machine.init(store));
  }
  void restores(const Result<Snapshot>& snapshot, const SimTree& tree) {
    ASSERT_TRUE(snapshot) << snapshot.error().what;
    const auto held = verify(store, *machine.paper, 999, {{snapshot->id, tree}});
    ASSERT_TRUE(held) << held.error().what;
  }
  // The same where something else may be damaged, and as often as wanted.
  void can_be_read(const Result<Snapshot>& snapshot, const SimTree& tree) {
    ASSERT_TRUE(snapshot) << snapshot.error().what;
    Machine fresh(++fresh_seed, "fresh");
    ASSERT_TRUE(fresh.recover(store, *machine.paper));
    const auto client = fresh.open(store).value();
    const HeadList heads = client->repository().heads().value();
    ASSERT_TRUE(client->repository().sync_index(heads, Stop()));
    const auto back = read_back(client->repository(), *snapshot);
    ASSERT_TRUE(back) << back.error().what;
    EXPECT_EQ(*back, tree);
  }
  // This machine, whose first listing of packs comes after another one has pruned one away.
  std::unique_ptr<Client> opened_beside_a_prune() {
    const auto first = machine.backup(store);
    machine.tree = {{"d/a", {"second", 2, 1000}}};
    EXPECT_TRUE(machine.backup(store));
    EXPECT_TRUE(pruner_.recover(store, *machine.paper));
    EXPECT_TRUE(pruner_.drop(store, *first));
    hooked_.before_list = [this, done = false](std::string_view prefix) mutable {
      if (prefix != "packs/" || std::exchange(done, true)) return;
      const auto report = pruner_.prune(store, {.unused_max = 0});
      EXPECT_TRUE(report && report->packs_deleted > 0);
    };
    return machine.open(hooked_).value();
  }
  MemoryStore store;
  HookStore hooked_{store};
  Machine machine{77, "m"}, pruner_{78, "pruner"};
  std::uint64_t fresh_seed = 1000;
};

// A: two records wait; the older ends, and its pruner dies between removing packs and heads.
TEST_F(Beside, a_crash_between_packs_and_heads_does_not_stop_the_next_record) {
  machine.tree = {{"d/a", {"only in the first", 1, 1000}}};
  const auto first = machine.backup(store);
  machine.tree = {{"d/a", {"only in the second", 2, 1000}}};
  const auto second = machine.backup(store);
  machine.tree = {{"d/a", {"third", 3, 1000}}};
  const auto third = machine.backup(store);
  Machine other(78, "other");
  ASSERT_TRUE(other.recover(store, *machine.paper));
  other.tree = {{"d/b", {"b", 1, 1000}}};
  ASSERT_TRUE(machine.drop(store, *first));
  // While the other one backs up, two collections are planned; both wait for it.
  HookStore beside(store);
  beside.on_put = [&](std::string_view name) -> Result<> {
    if (!is_outcome(name)) return {};
    const auto one = machine.prune(store, {.unused_max = 0});
    EXPECT_TRUE(one && one->waiting.size() == 1);
    EXPECT_TRUE(machine.drop(store, *second));
    const auto two = machine.prune(store, {.unused_max = 0});
    EXPECT_TRUE(two && two->waiting.size() == 1);
    return {};
  };
  ASSERT_TRUE(other.backup(beside));
  ASSERT_TRUE(store.size(collection_name(2)));
  HookStore dying(store);
  dying.on_remove = [&](std::string_view name) -> Result<> {
    return name.starts_with("heads/") ? fail(Code::unavailable, "died") : Result<>();
  };
  ASSERT_FALSE(machine.prune(dying, {.unused_max = 0}));
  machine.crash();
  ASSERT_TRUE(store.size(collection_done_name(1)));
  ASSERT_FALSE(store.size(collection_done_name(2)));
  for (int i = 0; i < 3; ++i) {
    const auto report = machine.prune(store, {.unused_max = 0});
    EXPECT_TRUE(report) << report.error().what;
  }
  restores(third, machine.tree);
}

// A2: the first put of a head was delayed, the second was answered; the snapshot was dropped and
// removed; then the delayed one arrives.
TEST_F(Beside, a_head_that_comes_back_late_does_not_stop_collections) {
  machine.tree = {{"d/a", {"only in the first", 1, 1000}}};
  const auto first = machine.backup(store);
  const std::string name = head_name(first->device, first->number);
  const Bytes late = *store.get(name, 1U << 30);
  machine.tree = {{"d/a", {"second", 2, 1000}}};
  const auto second = machine.backup(store);
  machine.tree = {{"d/a", {"third", 3, 1000}}};
  ASSERT_TRUE(machine.backup(store));
  ASSERT_TRUE(machine.drop(store, *first));
  ASSERT_TRUE(machine.prune(store, {.unused_max = 0}));
  ASSERT_FALSE(store.size(name));
  ASSERT_TRUE(machine.drop(store, *second));
  HookStore dying(store);  // a record without its end
  dying.on_put = [&](std::string_view n) -> Result<> {
    return n.ends_with(".done") ? fail(Code::unavailable, "died") : Result<>();
  };
  ASSERT_FALSE(machine.prune(dying, {.unused_max = 0}));
  store.overwrite(name, late);
  for (int i = 0; i < 3; ++i) {
    const auto report = machine.prune(store, {.unused_max = 0});
    EXPECT_TRUE(report) << report.error().what;
  }
}

// A3: .open and .gen of a head whose removal was cut short stay for ever.
TEST_F(Beside, what_stood_beside_a_removed_head_is_removed_by_the_next_prune) {
  const auto first = machine.backup(store);
  machine.tree = {{"d/a", {"second", 2, 1000}}};
  ASSERT_TRUE(machine.backup(store));
  ASSERT_TRUE(machine.drop(store, *first));
  const std::string name = head_name(first->device, first->number);
  HookStore dying(store);
  dying.on_remove = [&](std::string_view n) -> Result<> {
    return n.ends_with(".open") ? fail(Code::unavailable, "died") : Result<>();
  };
  ASSERT_FALSE(machine.prune(dying, {.unused_max = 0}));
  ASSERT_TRUE(machine.prune(store, {.unused_max = 0}));
  EXPECT_FALSE(store.size(name));
  EXPECT_FALSE(store.size(name + ".open"));
  EXPECT_FALSE(store.size(name + ".gen"));
}

// B: a slow reader of the same home writes into the index what was collected meanwhile; a backup
// that runs takes it over.
TEST_F(Beside, a_slow_reader_of_this_home_does_not_bring_back_what_is_gone) {
  const SimFile shared = {noise(5, 5000), 1, 1000};
  Machine other(78, "other");
  ASSERT_TRUE(other.recover(store, *machine.paper));
  other.tree = {{"d/shared", shared}};
  const auto first = other.backup(store);
  other.tree = {{"d/b", {"b", 1, 1000}}};
  ASSERT_TRUE(other.backup(store));
  std::mutex mutex;
  std::condition_variable changed;
  int stage = 0;
  const auto go = [&](int to) {
    const std::lock_guard lock(mutex);
    stage = to;
    changed.notify_all();
  };
  const auto wait = [&](int for_what) {
    std::unique_lock lock(mutex);
    changed.wait(lock, [&] { return stage >= for_what; });
  };
  // 'holdfast ls' on this home, whose cache knows nothing yet: after the first list it hangs.
  HookStore slow(store);
  int lists = 0;
  slow.on_get = [&](std::string_view name) -> Result<> {
    if (name.starts_with("lists/") && ++lists == 2) {
      go(1);
      wait(2);
    }
    return {};
  };
  std::thread reader([&] {
    const auto client = *machine.open(slow);
    const auto heads = client->repository().heads();
    EXPECT_TRUE(heads);
    EXPECT_TRUE(client->repository().sync_index(*heads, Stop()));
  });
  wait(1);
  ASSERT_TRUE(other.drop(store, *first));
  const auto report = other.prune(store, {.unused_max = 0});
  ASSERT_TRUE(report) << report.error().what;
  ASSERT_GT(report->packs_deleted, 0U);
  machine.tree = {{"a/big", {noise(6, 40'000'000), 1, 1000}}, {"z/shared", shared}};
  HookStore beside(store);
  bool resumed = false;
  beside.on_put = [&](std::string_view name) -> Result<> {
    if (name.starts_with("packs/") && !resumed) {
      resumed = true;
      go(2);
      reader.join();
    }
    return {};
  };
  const auto snapshot = machine.backup(beside);
  ASSERT_TRUE(resumed);
  restores(snapshot, machine.tree);
}

// C: a prune by another device runs to its end between what a repair looks at and what it puts.
TEST_F(Beside, a_repair_does_not_condemn_what_became_the_last_copy) {
  // Two devices store the same chunk at once: one copy each, in different packs.
  const SimFile shared = {noise(5, 5000), 1, 1000};
  const SimFile beside_it = {noise(6, 5000), 1, 2000};  // of another owner: a frame of its own
  Machine other(78, "other");
  ASSERT_TRUE(other.recover(store, *machine.paper));
  machine.tree = {{"d/shared", shared}, {"d/z", beside_it}};
  other.tree = {{"d/shared", shared}};
  HookStore at_once(store);
  Result<Snapshot> others = fail(Code::invalid, "");
  at_once.on_put = [&](std::string_view name) -> Result<> {
    if (is_outcome(name)) others = other.backup(store);
    return {};
  };
  const auto mine = machine.backup(at_once);
  ASSERT_TRUE(mine && others);
  // Damage the frame of d/z in machine's pack only: found by flipping bytes until the shared
  // chunk is still readable.
  std::string damaged;
  {
    const DeviceId me = (*machine.open(store))->device().id;
    for (const IndexedPack& pack : packs(machine, store))
      if (pack.type == ObjectType::data_pack && pack.device == me) damaged = pack_name(pack.pack);
  }
  flip(store, damaged, 80 + 12 + 5000 + 28 + 2500);  // in the second frame
  bool done = false;
  HookStore beside(store);
  int packs_listed = 0;
  beside.before_list = [&](std::string_view prefix) {
    if (prefix != "packs/" || ++packs_listed != 1) return;
    const auto report = other.prune(store, {.unused_max = 1e9});
    EXPECT_TRUE(report) << report.error().what;
    done = report && report->packs_deleted > 0;
  };
  const auto repaired = machine.repair(beside, repair_packs, true);
  ASSERT_TRUE(done);
  const auto client = *other.open(store);
  const auto heads = *client->repository().heads();
  ASSERT_TRUE(client->repository().sync_index(heads, Stop()));
  const auto back = read_back(client->repository(), *others);
  ASSERT_TRUE(back) << back.error().what;
  EXPECT_EQ(*back, other.tree);
}

// C2: a prune's record between a repair's list and its record.
TEST_F(Beside, what_a_repair_saved_stays_listed_when_a_prune_is_faster) {
  const SimFile keep = {noise(5, 5000), 1, 1000};
  machine.tree = {{"d/keep", keep}, {"d/z", {noise(6, 5000), 1, 2000}}};
  const auto first = machine.backup(store);
  Machine other(78, "other");
  ASSERT_TRUE(other.recover(store, *machine.paper));
  other.tree = {{"d/keep", keep}};
  const auto others = other.backup(store);
  ASSERT_TRUE(others);
  const auto data = data_packs(machine, store);
  ASSERT_EQ(data.size(), 1U);
  machine.tree = {};  // d/z is not needed any more
  ASSERT_TRUE(machine.backup(store));
  ASSERT_TRUE(machine.drop(store, *first));
  flip(store, data[0], 80 + 12 + 5000 + 28 + 2500);
  HookStore beside(store);
  bool list_put = false, done = false;
  beside.on_put = [&](std::string_view name) -> Result<> {
    if (name.starts_with("lists/")) list_put = true;
    return {};
  };
  beside.before_list = [&](std::string_view prefix) {
    if (prefix != "gc/" || !list_put || done) return;
    done = true;
    HookStore dies(store);  // puts its record, and no more
    dies.on_put = [&](std::string_view n) -> Result<> {
      return n.ends_with(".done") ? fail(Code::unavailable, "died") : Result<>();
    };
    const auto report = other.prune(dies, {.unused_max = 1e9});
    EXPECT_TRUE(store.size(collection_name(1)));
  };
  const auto repaired = machine.repair(beside, repair_packs, true);
  ASSERT_TRUE(done);
  for (int i = 0; i < 3; ++i) {
    const auto report = other.prune(store, {.unused_max = 0});
  }
  const auto client = *other.open(store);
  const auto heads = *client->repository().heads();
  ASSERT_TRUE(client->repository().sync_index(heads, Stop()));
  const auto back = read_back(client->repository(), *others);
  ASSERT_TRUE(back) << back.error().what;
}

// D: a home copied while a session was begun: the copy's generation is younger.
TEST_F(Beside, a_generation_of_a_copied_home_that_is_younger_is_not_taken_for_mine) {
  const SimFile shared = {noise(5, 5000), 1, 1000};
  Machine other(78, "other");
  ASSERT_TRUE(other.recover(store, *machine.paper));
  other.tree = {{"d/shared", shared}};
  const auto first = other.backup(store);
  other.tree = {{"d/b", {"b", 1, 1000}}};
  ASSERT_TRUE(other.backup(store));
  ASSERT_TRUE(other.drop(store, *first));
  ASSERT_TRUE(machine.backup(store));
  // A session is begun: its .open is there, its .gen is not.
  HookStore dying(store);
  dying.on_put = [&](std::string_view n) -> Result<> {
    return n.ends_with(".gen") ? fail(Code::unavailable, "died") : Result<>();
  };
  ASSERT_FALSE(machine.backup(dying));
  // The copy.
  Machine copy(77, "m");
  copy.paper = machine.paper->clone();
  ASSERT_TRUE(copy.keys.replace("device", *machine.keys.read("device", 1U << 20)));
  for (const char* name : {"chain", "first-repository"})
    if (const auto bytes = machine.state.read(name, 1U << 20)) {
      ASSERT_TRUE(copy.state.replace(name, *bytes));
    }
  const std::string repository =
      (*machine.open(store))->repository().parts().keys.place.repository.hex();
  for (const char* name : {"chain-seen", "known-heads", "session", "known-collection"})
    if (const auto bytes = machine.state.read(repository + "/" + name, 1U << 20)) {
      ASSERT_TRUE(copy.state.replace(repository + "/" + name, *bytes));
    }
  copy.tree = {{"d/shared", shared}};
  machine.tree = copy.tree;
  // The original has read gc/ when the copy begins; between them a collection puts its record.
  HookStore original(store);
  Result<Snapshot> copies = fail(Code::invalid, "");
  bool met = false;
  original.on_put = [&](std::string_view n) -> Result<> {
    if (n.ends_with(".gen") && !met) {
      met = true;
      const auto waits = other.prune(store, {.unused_max = 0});  // condemns d/shared
      EXPECT_TRUE(waits && waits->waiting.size() == 1);
      HookStore begins(store);
      begins.on_put = [&](std::string_view name) -> Result<> {
        return name.starts_with("packs/") ? fail(Code::unavailable, "died") : Result<>();
      };
      copies = copy.backup(begins);
      EXPECT_FALSE(copies);
      EXPECT_TRUE(store.size(n)) << "the copy put its .gen";
    }
    if (is_outcome(n)) {
      const auto ended = other.prune(store, {.unused_max = 0});
      EXPECT_TRUE(ended) << ended.error().what;
    }
    return {};
  };
  const auto snapshot = machine.backup(original);
  ASSERT_TRUE(met);
  if (!snapshot) {
    return;
  }
  restores(snapshot, machine.tree);
}

// E: the store has .done and does not list it.
TEST_F(Beside, an_end_that_is_not_listed_deletes_nothing) {
  const SimFile shared = {noise(5, 5000), 1, 1000};
  machine.tree = {{"d/shared", shared}, {"d/a", {"a", 1, 1000}}};
  const auto first = machine.backup(store);
  machine.tree = {{"d/a", {"a", 1, 1000}}};
  ASSERT_TRUE(machine.backup(store));
  ASSERT_TRUE(machine.drop(store, *first));
  Machine other(78, "other");
  ASSERT_TRUE(other.recover(store, *machine.paper));
  other.tree = {{"d/shared", shared}};
  HookStore beside(store);
  beside.on_put = [&](std::string_view name) -> Result<> {
    if (is_outcome(name)) {
      const auto report = machine.prune(store, {.unused_max = 0});
      EXPECT_TRUE(report && report->waiting.size() == 1);
    }
    return {};
  };
  const auto kept = other.backup(beside);
  ASSERT_TRUE(kept);
  HookStore lies(store);
  lies.hidden = [](std::string_view name) { return name.ends_with(".done"); };
  const auto report = machine.prune(lies, {.unused_max = 1e9});
  EXPECT_FALSE(report);
  if (report) restores(kept, other.tree);
}

// F: a device that is gone for ever left an undecided session and packs; nothing else is unused.
TEST_F(Beside, packs_of_a_device_that_never_comes_back_are_collected) {
  ASSERT_TRUE(machine.backup(store));
  Machine other(78, "other");
  ASSERT_TRUE(other.recover(store, *machine.paper));
  other.tree = {{"d/b", {noise(7, 100'000), 1, 1000}}};
  HookStore dying(store);
  dying.on_put = [&](std::string_view name) -> Result<> {
    return is_outcome(name) ? fail(Code::unavailable, "died") : Result<>();
  };
  ASSERT_FALSE(other.backup(dying));
  const std::size_t before = object_names(store, "packs/").size();
  for (int i = 0; i < 5; ++i) {
    const auto report = machine.prune(store, {.unused_max = 0, .give_up_after_ns = 0});
    ASSERT_TRUE(report) << report.error().what;
  }
  EXPECT_LT(object_names(store, "packs/").size(), before);
}

// G: it began in the year 2100, as its clock says, and never comes back.
TEST_F(Beside, a_session_of_a_clock_that_is_ahead_can_be_given_up) {
  const auto first = machine.backup(store);
  machine.tree = {{"d/a", {"second", 2, 1000}}};
  ASSERT_TRUE(machine.backup(store));
  ASSERT_TRUE(machine.drop(store, *first));
  Machine other(78, "other");
  ASSERT_TRUE(other.recover(store, *machine.paper));
  other.tree = {{"d/b", {"b", 1, 1000}}};
  other.clock.now_ns += 74LL * 365 * 24 * 3600 * 1'000'000'000;
  HookStore dying(store);
  dying.on_put = [&](std::string_view name) -> Result<> {
    return is_outcome(name) ? fail(Code::unavailable, "died") : Result<>();
  };
  ASSERT_FALSE(other.backup(dying));
  for (int i = 0; i < 3; ++i) {
    const auto report = machine.prune(store, {.unused_max = 0, .give_up_after_ns = 0});
    ASSERT_TRUE(report);
    if (i == 2) {
      EXPECT_TRUE(report->waiting.empty());
    }
  }
}

// H: what a check of this home found damaged was put right, and removed, by another device.
TEST_F(Beside, a_pack_that_is_gone_is_not_remembered_as_damaged) {
  ASSERT_TRUE(machine.backup(store));
  const auto data = data_packs(machine, store);
  ASSERT_EQ(data.size(), 1U);
  flip(store, data[0]);
  const auto check_all = [&] {
    const auto client = *machine.open(store);
    CheckProgress progress;
    return holdfast::check(client->repository(), {.read_data_percent = 100, .workers = 1}, progress,
                           Stop())
        ->damage.size();
  };
  EXPECT_GT(check_all(), 0U);
  ASSERT_TRUE(machine.backup(store));  // stored again
  Machine other(78, "other");
  ASSERT_TRUE(other.recover(store, *machine.paper));
  const auto repaired = other.repair(store, repair_packs, true);
  ASSERT_TRUE(repaired) << repaired.error().what;
  ASSERT_TRUE(other.prune(store, {}));
  ASSERT_FALSE(store.size(data[0]));
  EXPECT_EQ(check_all(), 0U);
  const auto mine = machine.repair(store, repair_packs, true);
  EXPECT_TRUE(mine);
  const auto report = machine.prune(store, {});
  EXPECT_TRUE(report) << report.error().what;
}

// I: a damaged stub, .done, abandoned: can anything ever be collected again?
TEST_F(Beside, a_damaged_stub_can_be_repaired) {
  const auto first = machine.backup(store);
  machine.tree = {{"d/a", {"second", 2, 1000}}};
  ASSERT_TRUE(machine.backup(store));
  ASSERT_TRUE(machine.drop(store, *first));
  ASSERT_TRUE(machine.prune(store, {.unused_max = 0}));
  flip(store, dropped_name({first->device, first->number}));
  for (const auto what : {repair_index, repair_packs, repair_snapshots}) {
    const auto repaired = machine.repair(store, what, true);
    EXPECT_TRUE(repaired) << repaired.error().what;
  }
  const auto report = machine.prune(store, {});
  EXPECT_TRUE(report) << report.error().what;
}

// I2: without a sound end no session can begin.
TEST_F(Beside, a_damaged_end_can_be_repaired) {
  const auto first = machine.backup(store);
  machine.tree = {{"d/a", {"second", 2, 1000}}};
  const auto second = machine.backup(store);
  ASSERT_TRUE(machine.drop(store, *first));
  ASSERT_TRUE(machine.prune(store, {.unused_max = 0}));
  flip(store, collection_done_name(1));
  machine.tree["d/new"] = {"new", 9, 1000};
  EXPECT_FALSE(machine.backup(store));
  EXPECT_EQ(machine.repair(store, repair_index, false)->found.size(), 1U);
  EXPECT_FALSE(machine.backup(store));
  const auto repaired = machine.repair(store, repair_index, true);
  ASSERT_TRUE(repaired) << repaired.error().what;
  EXPECT_EQ(repaired->found.size(), 1U);
  EXPECT_TRUE(machine.repair(store, repair_index, true)->nothing());
  can_be_read(machine.backup(store), machine.tree);
  can_be_read(second, {{"d/a", {"second", 2, 1000}}});
  ASSERT_TRUE(machine.drop(store, *second));
  const auto pruned = machine.prune(store, {.unused_max = 0});
  ASSERT_TRUE(pruned) << pruned.error().what;
}

// J: heads are read while a collection removes many.
TEST_F(Beside, heads_can_be_read_while_a_collection_removes_many) {
  std::vector<Snapshot> old;
  for (int i = 0; i < 8; ++i) {
    machine.tree["d/a"] = {std::to_string(i), static_cast<std::uint64_t>(i), 1000};
    old.push_back(*machine.backup(store));
  }
  for (int i = 0; i < 7; ++i) ASSERT_TRUE(machine.drop(store, old[static_cast<std::size_t>(i)]));
  // Each time it is about to remove a head, the other one has listed and not fetched yet.
  std::size_t removed = 0;
  HookStore reading(store);
  reading.after_list = [&](std::string_view prefix) {
    if (prefix == "heads/" && removed < 7) {
      const Snapshot& s = old[removed++];
      for (const char* end : {"", ".open", ".gen"})
        EXPECT_TRUE(store.remove(head_name(s.device, s.number) + end));
    }
  };
  const auto client = *machine.open(reading);
  const auto heads = client->repository().heads();
  EXPECT_TRUE(heads) << heads.error().what;
}

// K: one answer that did not come.
TEST_F(Beside, a_sample_that_got_no_answer_is_no_verdict) {
  Machine other(78, "other");
  ASSERT_TRUE(other.recover(store, *machine.paper));
  other.tree = {{"d/b", {noise(7, 100'000), 1, 1000}}};
  ASSERT_TRUE(other.backup(store));
  machine.tree = other.tree;
  const auto backup_warns = [&](ObjectStore& s) -> std::string {
    const auto client = *machine.open(s);
    const auto heads = *client->repository().heads();
    EXPECT_TRUE(client->repository().sync_index(heads, Stop()));
    std::vector<std::string> warnings;
    const auto bad = client->repository().unreliable_packs(Stop(), warnings);
    return bad ? (warnings.empty() ? "" : warnings[0]) : "error " + bad.error().what;
  };
  HookStore tired(store);
  {
    const auto client = *machine.open(store);
    ASSERT_TRUE(client->repository().sync_index(*client->repository().heads(), Stop()));
  }
  tired.on_get = [&](std::string_view name) -> Result<> {
    return name.starts_with("packs/") ? fail(Code::unavailable, "no answer") : Result<>();
  };
  const std::string with_fault = backup_warns(tired);
  EXPECT_EQ(backup_warns(store), "");
}

// L: a check found damage, and a backup stored it again; another device knows nothing of that.
TEST_F(Beside, of_two_copies_the_one_that_can_be_read_is_read_and_kept) {
  const SimFile shared = {noise(5, 5000), 1, 1000};
  const SimFile others_file = {noise(6, 5000), 1, 2000};
  machine.tree = {{"d/shared", shared}, {"d/z", others_file}};
  const auto first = machine.backup(store);
  Machine other(78, "other");
  ASSERT_TRUE(other.recover(store, *machine.paper));
  other.tree = {{"d/z", others_file}};
  ASSERT_TRUE(other.backup(store));
  machine.tree["d/x"] = {"x", 1, 1000};
  ASSERT_TRUE(machine.backup(store));
  ASSERT_TRUE(machine.drop(store, *first));
  ASSERT_TRUE(machine.prune(store, {.unused_max = 1e9}));  // takes over the list
  std::string bad;
  for (const std::string& name : data_packs(machine, store))
    if (*store.size(name) > 8000) bad = name;
  flip(store, bad, 80 + 12 + 2500);  // the first frame
  {
    const auto client = *machine.open(store);
    CheckProgress progress;
    EXPECT_GT(holdfast::check(client->repository(), {.read_data_percent = 100, .workers = 1},
                              progress, Stop())
                  ->damage.size(),
              0U);
  }
  const auto healed = machine.backup(store);
  can_be_read(healed, machine.tree);  // from a machine that knows nothing of the damage
  // Each home finds one of the two copies first; both prune, and neither may lose the good one.
  for (std::uint64_t seed = 79; seed < 83; ++seed) {
    Machine third(seed, "third");
    ASSERT_TRUE(third.recover(store, *machine.paper));
    const auto pruned = third.prune(store, {.unused_max = 1e9});
    if (!pruned) {
      EXPECT_EQ(pruned.error().code, Code::corrupt) << pruned.error().what;
    }
    can_be_read(healed, machine.tree);
  }
  ASSERT_TRUE(machine.repair(store, repair_packs, true));
  const auto pruned = machine.prune(store, {.unused_max = 0});
  ASSERT_TRUE(pruned) << pruned.error().what;
  can_be_read(healed, machine.tree);
  EXPECT_FALSE(store.size(bad));
}

// M: a folder that names a file twice while it changes (POSIX allows readdir that).
TEST_F(Beside, a_name_that_is_listed_twice_does_not_make_a_record_that_nobody_can_read) {
  ASSERT_TRUE(machine.backup(store));
  store.overwrite("packs/00/00" + std::string(62, '1'), as_bytes("stray"));
  class Twice : public ListingStore {
   public:
    using ListingStore::ListingStore;

   protected:
    Result<> listed(std::string_view prefix, const Visit& visit) override {
      if (prefix == "packs/") return visit({"packs/00/00" + std::string(62, '1'), 5});
      return {};
    }
  } twice(store);
  const auto report = machine.prune(twice, {});
  machine.tree["d/new"] = {"new", 9, 1000};
  const auto after = machine.backup(store);
  EXPECT_TRUE(after) << after.error().what;
}

// N: others' work beside a check and a backup.
TEST_F(Beside, a_check_beside_a_collection_finds_no_damage) {
  const auto client = opened_beside_a_prune();
  CheckProgress progress;
  const auto report = holdfast::check(client->repository(), {.read_data_percent = 0, .workers = 1},
                                      progress, Stop());
  ASSERT_TRUE(report) << report.error().what;
  EXPECT_TRUE(report->clean()) << report->damage[0].what;
}

TEST_F(Beside, a_backup_beside_a_collection_warns_of_nothing) {
  const auto client = opened_beside_a_prune();
  ASSERT_TRUE(client->repository().sync_index(*client->repository().heads(), Stop()));
  std::vector<std::string> warnings;
  ASSERT_TRUE(client->repository().unreliable_packs(Stop(), warnings));
  EXPECT_TRUE(warnings.empty()) << warnings[0];
}

// R: with any pack distrusted, what only a condemned pack has counts as present.
TEST_F(Beside, a_session_that_distrusts_a_pack_relies_on_no_condemned_one) {
  const SimFile shared = {noise(5, 5000), 1, 1000};
  Machine other(78, "other");
  ASSERT_TRUE(other.recover(store, *machine.paper));
  other.tree = {{"d/shared", shared}};
  const auto first = other.backup(store);
  other.tree = {{"d/b", {"b", 1, 1000}}};
  ASSERT_TRUE(other.backup(store));
  ASSERT_TRUE(other.drop(store, *first));
  // One pack of this machine is damaged, and its check found that.
  const std::vector<std::string> before = data_packs(other, store);
  machine.tree = {{"d/mine", {noise(9, 5000), 1, 1000}}};
  ASSERT_TRUE(machine.backup(store));
  for (const std::string& name : data_packs(machine, store))
    if (std::ranges::find(before, name) == before.end()) flip(store, name);
  {
    const auto client = *machine.open(store);
    CheckProgress progress;
    ASSERT_GT(holdfast::check(client->repository(), {.read_data_percent = 100, .workers = 1},
                              progress, Stop())
                  ->damage.size(),
              0U);
  }
  // A record that condemns d/shared, without its end.
  HookStore dying(store);
  dying.on_put = [&](std::string_view n) -> Result<> {
    return n.ends_with(".done") ? fail(Code::unavailable, "died") : Result<>();
  };
  ASSERT_FALSE(other.prune(dying, {.unused_max = 0}));
  ASSERT_TRUE(store.size(collection_name(1)));
  machine.tree = {{"d/shared", shared}};
  HookStore beside(store);
  beside.on_put = [&](std::string_view name) -> Result<> {
    if (is_outcome(name)) {
      const auto report = other.prune(store, {.unused_max = 0});  // ends it: the session saw it
      EXPECT_TRUE(report && report->waiting.empty() && report->packs_deleted > 0);
    }
    return {};
  };
  const auto snapshot = machine.backup(beside);
  ASSERT_TRUE(snapshot) << snapshot.error().what;
  Machine fresh(80, "fresh");
  ASSERT_TRUE(fresh.recover(store, *machine.paper));
  const auto client = *fresh.open(store);
  ASSERT_TRUE(client->repository().sync_index(*client->repository().heads(), Stop()));
  const auto back = read_back(client->repository(), *snapshot);
  ASSERT_TRUE(back) << back.error().what;
}

// S: the disk of the cache is full; another device has collected.
TEST_F(Beside, a_full_cache_does_not_keep_anybody_from_reading) {
  add_many(machine.tree, "first");
  const auto first = machine.backup(store);
  machine.tree = {{"d/a", {"second", 2, 1000}}};
  const auto second = machine.backup(store);
  (void)packs(machine, store);
  Machine other(78, "other");
  ASSERT_TRUE(other.recover(store, *machine.paper));
  ASSERT_TRUE(other.drop(store, *first));
  ASSERT_TRUE(other.prune(store, {.unused_max = 0}));
  machine.cache.set_fault([](std::string_view, std::string_view) -> Result<> {
    return fail(Code::full, "no space left");
  });
  const auto client = *machine.open(store);
  const auto heads = client->repository().heads();
  ASSERT_TRUE(heads) << heads.error().what;
  ASSERT_TRUE(client->repository().sync_index(*heads, Stop()));
  const auto back = read_back(client->repository(), *second);
  ASSERT_TRUE(back) << back.error().what;
}

}  // namespace
}  // namespace holdfast::sim
