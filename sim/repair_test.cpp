// SPDX-License-Identifier: Apache-2.0
// One object of each class is lost or damaged, and repaired: what is not lost comes back, what is
// lost is named, and nothing that was good is worse after any sequence of repairs.
#include <gtest/gtest.h>

#include "machine.h"
#include "repo/check.h"
#include "store/memory_store.h"

namespace holdfast::sim {
namespace {

constexpr std::uint64_t kBig = 1U << 30;

class Repair : public ::testing::Test {
 protected:
  // Three snapshots; the second and the third change something.
  void SetUp() override {
    SeededRandom random(5);
    machine.tree = make_tree(random, 25);
    const auto made = machine.init(store);
    ASSERT_TRUE(made);
    place = made->repository;
    for (int i = 0; i < 3; ++i) {
      const auto snapshot = machine.backup(store);
      ASSERT_TRUE(snapshot) << snapshot.error().what;
      reported.push_back({snapshot->id, machine.tree});
      change_tree(machine.tree, random);
    }
  }

  std::vector<std::string> packs_of(ObjectType type) {
    std::vector<std::string> names;
    for (const IndexedPack& pack : packs(machine, store))
      if (pack.type == type) names.push_back(pack_name(pack.pack));
    std::ranges::sort(names);
    return names;
  }

  RepairReport repair(Machine::Repair what, bool apply = true) {
    auto report = machine.repair(store, what, apply);
    EXPECT_TRUE(report) << report.error().what;
    return report ? *report : RepairReport{};
  }

  // What of a snapshot can be read, by a machine that has nothing but the paper key.
  SimTree readable(const SnapshotId& id) {
    Machine fresh(++fresh_seed, "fresh");
    EXPECT_TRUE(fresh.recover(store, *machine.paper));
    const auto client = fresh.open(store);
    if (!client) return {};
    Repository& repository = (*client)->repository();
    const auto heads = repository.heads();
    if (!heads) return {};
    EXPECT_TRUE(repository.sync_index(*heads, Stop()));
    const auto found = std::ranges::find(heads->snapshots, id, &Snapshot::id);
    return found == heads->snapshots.end() ? SimTree{} : read_what_is_there(repository, *found);
  }

  static SimTree read_what_is_there(Repository& repository, const Snapshot& snapshot) {
    SimTree tree;
    TreeCursor cursor(repository.nodes(), snapshot.tree);
    for (;;) {
      const auto entry = cursor.next();
      if (!entry) continue;  // goes on behind it
      if (*entry == nullptr) return tree;
      if ((*entry)->type != EntryType::file) continue;
      SimFile file{.content = {},
                   .version = static_cast<std::uint64_t>((*entry)->mtime.seconds - 1'000'000'000),
                   .uid = (*entry)->uid,
                   .nanoseconds = (*entry)->mtime.nanoseconds};
      if (read_content(repository, **entry, file.content))
        tree.emplace((*entry)->path(), std::move(file));
    }
  }
  static bool read_content(Repository& repository, const Entry& entry, std::string& content) {
    ContentCursor cursor(repository.nodes(), entry.content);
    for (;;) {
      const auto item = cursor.next();
      if (!item) return false;
      if (!*item) return true;
      if (!(*item)->chunk) {
        content.append((*item)->length, '\0');
        continue;
      }
      const auto chunk = repository.reader().get(*(*item)->chunk, ChunkType::data);
      if (!chunk) return false;
      content += as_text(chunk->bytes);
    }
  }

  // The copy that a repair made of a snapshot.
  static SnapshotId copy_of(const RepairReport& report, const SnapshotId& id) {
    for (const RepairReport::Copy& copy : report.snapshots)
      if (copy.of == id) return copy.id;
    return id;
  }

  void expect_all_is_well() {
    const auto verified = verify(store, *machine.paper, ++fresh_seed, reported);
    EXPECT_TRUE(verified) << verified.error().what;
    const auto pruned = machine.prune(store, {});
    ASSERT_TRUE(pruned) << pruned.error().what;
    const auto after = verify(store, *machine.paper, ++fresh_seed, reported);
    EXPECT_TRUE(after) << after.error().what;
  }

  // The newest backup again, which stores what was lost and is still on the machine; then the old
  // snapshots go, and the repository is sound.
  void expect_heals() {
    const auto healed = machine.backup(store);
    ASSERT_TRUE(healed) << healed.error().what;
    reported = {{healed->id, machine.tree}};
    const auto client = machine.open(store).value();
    const auto heads = client->repository().heads().value();
    for (const Snapshot& s : heads.snapshots) {
      if (s.id == healed->id) continue;
      ASSERT_TRUE(machine.drop(store, s));
    }
    for (int i = 0; i < 2; ++i) {
      const auto pruned = machine.prune(store, {});
      ASSERT_TRUE(pruned) << pruned.error().what;
    }
    expect_all_is_well();
  }

  std::uint64_t fresh_seed = 100;
  MemoryStore store;
  RepositoryId place;
  Machine machine{1, "laptop"};
  std::vector<Reported> reported;
};

TEST_F(Repair, has_nothing_to_do_in_a_sound_repository_and_changes_nothing) {
  const auto before = object_names(store, "");
  for (const Machine::Repair what :
       {repair_index, repair_packs, repair_snapshots, recover_snapshots}) {
    EXPECT_TRUE(repair(what).nothing());
  }
  EXPECT_EQ(object_names(store, ""), before);
}

TEST_F(Repair, lost_and_damaged_lists_come_back) {
  const auto lists = object_names(store, "lists/");
  ASSERT_EQ(lists.size(), 3U);
  ASSERT_TRUE(store.remove(lists[0]));
  flip(store, lists[1], 40);
  const auto before = object_names(store, "");
  EXPECT_GE(repair(repair_index, false).lists_retired, 2U);
  EXPECT_EQ(object_names(store, ""), before);
  const RepairReport report = repair(repair_index);
  EXPECT_EQ(report.lists_retired, 2U);
  EXPECT_GE(report.packs_listed, 2U);
  EXPECT_TRUE(repair(repair_index).nothing());
  expect_all_is_well();
}

TEST_F(Repair, of_a_lost_pack_the_files_are_named_and_the_rest_comes_back) {
  for (const ObjectType type : {ObjectType::data_pack, ObjectType::tree_pack}) {
    SCOPED_TRACE(static_cast<int>(type));
    const auto names = packs_of(type);
    ASSERT_FALSE(names.empty());
    ASSERT_TRUE(store.remove(names[0]));
    std::vector<SimTree> left;
    for (const Reported& r : reported) left.push_back(readable(r.id));
    EXPECT_EQ(repair(repair_packs, false).packs_lost, 1U);
    EXPECT_EQ(repair(repair_packs).packs_lost, 1U);
    const RepairReport dry = repair(repair_snapshots, false);
    const RepairReport report = repair(repair_snapshots);
    EXPECT_EQ(report.snapshots.size(), dry.snapshots.size());
    EXPECT_FALSE(report.snapshots.empty());
    EXPECT_GT(report.lost_count, 0U);
    for (std::size_t i = 0; i < reported.size(); ++i) {
      const SnapshotId now = copy_of(report, reported[i].id);
      const SimTree got = readable(now);
      for (const auto& [path, file] : left[i])
        EXPECT_TRUE(got.contains(path) && got.at(path) == file) << path;
      // Each file is there or named.
      for (const auto& [path, file] : reported[i].tree) {
        if (got.contains(path) || now == reported[i].id) continue;
        EXPECT_TRUE(std::ranges::any_of(report.lost, [&](const std::string& line) {
          return line.find(path) != std::string::npos ||
                 line.find("everything behind") != std::string::npos;
        })) << path;
      }
    }
    EXPECT_TRUE(repair(repair_snapshots).snapshots.empty()) << "made once only";
    expect_heals();
    change_tree(machine.tree, machine.random);
    for (int i = 0; i < 2; ++i) {
      const auto snapshot = machine.backup(store);
      ASSERT_TRUE(snapshot);
      reported.push_back({snapshot->id, machine.tree});
      change_tree(machine.tree, machine.random);
    }
  }
}

TEST_F(Repair, of_a_damaged_pack_whole_frames_are_saved) {
  // Two owners, so two frames at least.
  const auto names = packs_of(ObjectType::data_pack);
  flip(store, names[0], 200);
  std::vector<SimTree> left;
  for (const Reported& r : reported) left.push_back(readable(r.id));
  const RepairReport packs = repair(repair_packs);
  EXPECT_EQ(packs.packs_damaged, 1U);
  EXPECT_GT(packs.chunks_saved, 0U);
  EXPECT_GT(packs.chunks_lost, 0U);
  EXPECT_TRUE(repair(repair_packs).nothing());
  const RepairReport report = repair(repair_snapshots);
  for (std::size_t i = 0; i < reported.size(); ++i)
    EXPECT_EQ(readable(copy_of(report, reported[i].id)), left[i]);
  expect_heals();
}

TEST_F(Repair, a_lost_or_damaged_head_is_no_alarm_any_more_and_its_tree_is_found) {
  for (const bool lose : {true, false}) {
    SCOPED_TRACE(lose);
    const Reported victim = reported[1];
    std::string name;
    {
      const auto client = machine.open(store).value();
      const HeadList heads = client->repository().heads().value();
      for (const Snapshot& s : heads.snapshots)
        if (s.id == victim.id) name = head_name(s.device, s.number);
    }
    if (lose) {
      ASSERT_TRUE(store.remove(name));
    } else {
      flip(store, name, 60);
    }
    {
      const auto client = machine.open(store).value();
      const auto heads = client->repository().heads();
      if (lose) {
        ASSERT_FALSE(heads);
        EXPECT_EQ(heads.error().code, Code::alarm);
      } else {
        EXPECT_EQ(heads.value().damaged.size(), 1U);
      }
    }
    EXPECT_EQ(repair(repair_index, false).heads_settled, 1U);
    EXPECT_EQ(repair(repair_index).heads_settled, 1U);
    const RepairReport found = repair(recover_snapshots);
    ASSERT_EQ(found.snapshots.size(), 1U);
    reported[1] = {found.snapshots[0].id, victim.tree};
    EXPECT_TRUE(repair(recover_snapshots).nothing());
    const auto more = machine.backup(store);
    ASSERT_TRUE(more) << more.error().what;
    reported.push_back({more->id, machine.tree});
    expect_all_is_well();
  }
}

TEST_F(Repair, the_newest_head_lost_leaves_the_device_able_to_go_on) {
  std::string name;
  {
    const auto client = machine.open(store).value();
    const Snapshot newest = client->repository().heads().value().snapshots.back();
    name = head_name(newest.device, newest.number);
  }
  ASSERT_TRUE(store.remove(name));
  EXPECT_EQ(machine.backup(store).error().code, Code::alarm);
  // It may as well be a store that shows an older state of itself.
  for (const auto what : {repair_index, repair_packs, repair_snapshots, recover_snapshots})
    EXPECT_EQ(machine.repair(store, what, true).error().code, Code::alarm);
  EXPECT_EQ(repair(repair_index, false).heads_settled, 1U);
  machine.accept_rollback = true;
  EXPECT_EQ(repair(repair_index).heads_settled, 1U);
  machine.accept_rollback = false;
  const RepairReport found = repair(recover_snapshots);
  ASSERT_EQ(found.snapshots.size(), 1U);
  reported[2].id = found.snapshots[0].id;
  const auto more = machine.backup(store);
  ASSERT_TRUE(more) << more.error().what;
  reported.push_back({more->id, machine.tree});
  expect_all_is_well();
}

// Heads, collections and the chain at once, as when a disk is brought back from a copy of it.
TEST_F(Repair, ENG_02_an_older_state_of_the_store_is_gone_on_from_only_when_told) {
  std::map<std::string, Bytes> older;
  for (const std::string& name : object_names(store, ""))
    older[name] = store.get(name, kBig).value();
  {
    const auto client = machine.open(store).value();
    const Snapshot oldest = client->repository().heads().value().snapshots.front();
    ASSERT_TRUE(machine.drop(store, oldest));
  }
  const auto pruned = machine.prune(store, {.unused_max = 0});
  ASSERT_TRUE(pruned) << pruned.error().what;
  Machine other(2, "other");
  ASSERT_TRUE(other.recover(store, *machine.paper));
  ASSERT_TRUE(machine.backup(store));
  for (const std::string& name : object_names(store, "")) ASSERT_TRUE(store.remove(name));
  for (const auto& [name, bytes] : older) ASSERT_TRUE(store.put(name, bytes));

  EXPECT_EQ(machine.backup(store).error().code, Code::alarm);
  for (const auto what : {repair_index, repair_packs, repair_snapshots, recover_snapshots})
    EXPECT_EQ(machine.repair(store, what, true).error().code, Code::alarm);
  machine.accept_rollback = true;
  const auto settled = machine.repair(store, repair_index, true);
  ASSERT_TRUE(settled) << settled.error().what;
  EXPECT_EQ(settled->heads_settled, 1U);
  machine.accept_rollback = false;
  EXPECT_TRUE(repair(repair_index).nothing());
  const auto more = machine.backup(store);
  ASSERT_TRUE(more) << more.error().what;
  reported.push_back({more->id, machine.tree});
  EXPECT_TRUE(machine.prune(store, {.unused_max = 0}));
  // The device that joined meanwhile is in the chain again: this home gave it back.
  EXPECT_TRUE(other.open(store));
  expect_all_is_well();
}

TEST_F(Repair, key_slots_and_secrets_come_back_from_the_home) {
  for (const char* folder : {"chain/", "secrets/"})
    for (const bool lose : {true, false})
      for (const std::string& name : object_names(store, folder)) {
        SCOPED_TRACE(name);
        const Bytes before = store.get(name, kBig).value();
        if (lose) {
          ASSERT_TRUE(store.remove(name));
        } else {
          flip(store, name, before.size() / 2);
        }
        {
          Machine fresh(++fresh_seed, "fresh");
          const auto recovered = fresh.recover(store, *machine.paper);
          EXPECT_FALSE(recovered && fresh.open(store)) << "nobody else can get in";
        }
        auto client = machine.open(store);
        ASSERT_TRUE(client) << client.error().what;
        const auto dry = repair_keys(store, machine.home(), **client, false);
        ASSERT_TRUE(dry) << dry.error().what;
        EXPECT_EQ(dry->size(), 1U);
        EXPECT_EQ(repair_keys(store, machine.home(), **client, true).value(), *dry);
        EXPECT_TRUE(repair_keys(store, machine.home(), **client, true)->empty());
        EXPECT_EQ(store.get(name, kBig).value(), before);
      }
  expect_all_is_well();
}

// Every bit of it: what it says is signed by nobody.
TEST_F(Repair, the_description_comes_back_in_whatever_way_it_was_lost) {
  const Bytes before = store.get("repository", kBig).value();
  for (std::size_t bit = 0; bit <= 8 * before.size(); ++bit) {
    SCOPED_TRACE(bit);
    Bytes damaged = before;
    if (bit == 8 * before.size()) {
      ASSERT_TRUE(store.remove("repository"));
    } else {
      damaged[bit / 8] ^= std::byte(1U << bit % 8);
      store.overwrite("repository", damaged);
    }
    const auto client = machine.open(store);
    if (!client) {  // a newer version than any: nobody can say what that would be
      EXPECT_EQ(client.error().code, Code::denied) << client.error().what;
      EXPECT_TRUE(client.error().what.contains("update holdfast")) << client.error().what;
      store.overwrite("repository", before);
      continue;
    }
    EXPECT_EQ((*client)->keys().place.repository, place);
    EXPECT_EQ(repair_keys(store, machine.home(), **client, true)->size(), 1U);
    EXPECT_EQ(store.get("repository", kBig).value(), before);
  }
  expect_all_is_well();
}

TEST_F(Repair, a_machine_with_only_the_paper_key_needs_no_description) {
  const Bytes before = store.get("repository", kBig).value();
  for (const std::size_t byte : {before.size(), std::size_t{8}, std::size_t{45}}) {
    SCOPED_TRACE(byte);
    Bytes damaged = before;
    if (byte == before.size()) {
      ASSERT_TRUE(store.remove("repository"));
    } else {
      damaged[byte] ^= std::byte{1};  // in the account's id; in the repository's
      store.overwrite("repository", damaged);
    }
    Machine fresh(++fresh_seed, "fresh");
    const auto recovered = fresh.recover(store, *machine.paper);
    ASSERT_TRUE(recovered) << recovered.error().what;
    EXPECT_EQ(recovered->damaged.size(), 1U);
    EXPECT_EQ(recovered->repository, place);
    const auto client = fresh.open(store);
    ASSERT_TRUE(client) << client.error().what;
    EXPECT_EQ(repair_keys(store, fresh.home(), **client, true)->size(), 1U);
    EXPECT_EQ(store.get("repository", kBig).value(), before);
  }
  expect_all_is_well();
}

// The file is small, and copied to the wrong disk as easily as it is swapped by who keeps it.
TEST_F(Repair, a_description_of_another_repository_of_the_account_is_not_believed) {
  MemoryStore second;
  ASSERT_TRUE(machine.init(second));
  ASSERT_TRUE(machine.backup(second));
  const Bytes good = store.get("repository", kBig).value();
  const Bytes secrets = store.get("secrets/00000001", kBig).value();
  store.overwrite("repository", second.get("repository", kBig).value());
  {
    const auto client = machine.open(store);
    ASSERT_TRUE(client) << client.error().what;
    EXPECT_EQ((*client)->keys().place.repository, place);
    ASSERT_EQ((*client)->damaged().size(), 1U);
    EXPECT_TRUE((*client)->damaged()[0].starts_with("repository: ")) << (*client)->damaged()[0];
  }
  // To a machine that has nothing but the paper key the second repository's description is nothing
  // to write on.
  second.overwrite("repository", good);
  for (const bool read_only : {false, true}) {
    const auto before = object_names(second, "");
    Machine fresh(++fresh_seed, "fresh");
    const auto refused = fresh.recover(second, *machine.paper, read_only);
    ASSERT_FALSE(refused);
    EXPECT_EQ(refused.error().code, Code::corrupt) << refused.error().what;
    EXPECT_EQ(object_names(second, ""), before);
    EXPECT_FALSE(fresh.keys.read("device", kBig));
  }
  const auto snapshot = machine.backup(store);
  ASSERT_TRUE(snapshot) << snapshot.error().what;
  reported.push_back({snapshot->id, machine.tree});
  EXPECT_EQ(repair_keys(store, machine.home(), **machine.open(store), true)->size(), 1U);
  EXPECT_EQ(store.get("repository", kBig).value(), good);
  EXPECT_EQ(store.get("secrets/00000001", kBig).value(), secrets);
  expect_all_is_well();
}

TEST_F(Repair, description_and_secrets_come_back_together_from_the_home) {
  MemoryStore second;
  ASSERT_TRUE(machine.init(second));
  ASSERT_TRUE(machine.open(second));  // it knows two
  for (const char* name : {"repository", "secrets/00000001"}) ASSERT_TRUE(store.remove(name));
  Machine fresh(++fresh_seed, "fresh");
  EXPECT_FALSE(fresh.recover(store, *machine.paper));
  EXPECT_FALSE(fresh.recover(store, *machine.paper, true));
  const auto client = machine.open(store);
  ASSERT_TRUE(client) << client.error().what;
  EXPECT_EQ((*client)->keys().place.repository, place);
  EXPECT_EQ(repair_keys(store, machine.home(), **client, true)->size(), 2U);
  expect_all_is_well();
}

TEST_F(Repair, a_home_that_lost_its_state_opens_by_the_stores_chain) {
  Machine bare(++fresh_seed, "bare");
  ASSERT_TRUE(bare.keys.replace("device", machine.keys.read("device", kBig).value()));
  const auto client = bare.open(store);
  ASSERT_TRUE(client) << client.error().what;
  EXPECT_TRUE((*client)->damaged().empty());
  EXPECT_TRUE((*client)->repository().heads());
}

TEST_F(Repair, what_is_no_repository_is_not_taken_for_a_damaged_one) {
  MemoryStore empty;
  const auto opened = machine.open(empty);
  ASSERT_FALSE(opened);
  EXPECT_EQ(opened.error().code, Code::not_found);
  Machine fresh(++fresh_seed, "fresh");
  EXPECT_EQ(fresh.recover(empty, *machine.paper).error().code, Code::not_found);
  EXPECT_EQ(fresh.recover(empty, *machine.paper, true).error().code, Code::not_found);
  // Another account's, whose description is lost.
  Machine other(++fresh_seed, "other");
  MemoryStore others;
  ASSERT_TRUE(other.init(others));
  ASSERT_TRUE(others.remove("repository"));
  EXPECT_FALSE(machine.open(others));
  EXPECT_EQ(fresh.recover(others, *machine.paper).error().code, Code::denied);
  EXPECT_TRUE(fresh.recover(others, *other.paper));
}

// ---- with a second epoch

Result<> rotate(Machine& machine, ObjectStore& store) {
  HF_ASSIGN(const auto client, machine.open(store));
  return rotate_keys(store, machine.home(), *client, machine.random);
}

TEST_F(Repair, every_machine_goes_on_in_a_new_epoch_and_reads_the_old_one) {
  Machine other(++fresh_seed, "other");
  ASSERT_TRUE(other.recover(store, *machine.paper));
  other.tree = machine.tree;
  for (Machine* one : {&machine, &other, &machine}) {
    ASSERT_TRUE(rotate(*one, store));
    for (Machine* each : {&machine, &other}) {
      const auto snapshot = each->backup(store);
      ASSERT_TRUE(snapshot) << snapshot.error().what;
      reported.push_back({snapshot->id, each->tree});
    }
  }
  EXPECT_EQ((*machine.open(store))->chain().newest_epoch().number, 4U);
  EXPECT_EQ(object_names(store, "secrets/").size(), 4U);
  expect_all_is_well();
}

// Anybody knows what it will be called.
TEST_F(Repair, RNS_01_garbage_where_the_next_secrets_will_be_shuts_nobody_out) {
  ASSERT_TRUE(store.put("secrets/00000002", as_bytes("garbage")));
  ASSERT_TRUE(rotate(machine, store));
  Machine fresh(++fresh_seed, "fresh"), reader(++fresh_seed, "reader");
  ASSERT_TRUE(fresh.recover(store, *machine.paper));
  ASSERT_TRUE(reader.recover(store, *machine.paper, true));
  for (Machine* one : {&machine, &fresh, &reader}) {
    const auto client = one->open(store);
    ASSERT_TRUE(client) << one->name << ": " << client.error().what;
    EXPECT_EQ((*client)->damaged().size(), 1U);
    EXPECT_EQ((*client)->repository().heads()->snapshots.size(), 3U);
  }
  EXPECT_EQ(repair_keys(store, machine.home(), **machine.open(store), true)->size(), 1U);
  for (Machine* one : {&machine, &fresh, &reader})
    EXPECT_TRUE((*one->open(store))->damaged().empty());
  expect_all_is_well();
}

TEST_F(Repair, a_bad_copy_in_the_home_spoils_nothing_in_the_store) {
  ASSERT_TRUE(rotate(machine, store));
  ASSERT_TRUE(machine.open(store));
  const std::string copy = place.hex() + "/secrets-00000001";
  const Bytes good = store.get("secrets/00000001", kBig).value();
  ASSERT_TRUE(machine.state.replace(copy, {}));
  EXPECT_TRUE(repair_keys(store, machine.home(), **machine.open(store), true)->empty());
  EXPECT_EQ(store.get("secrets/00000001", kBig).value(), good);
  EXPECT_EQ(machine.state.read(copy, kBig).value(), good);
}

// A larger number than any epoch looks like one that another device opened.
TEST_F(Repair, a_flipped_bit_of_an_objects_epoch_is_damage) {
  for (std::size_t bit = 0; bit < 32; ++bit) {
    Bytes bytes = store.get("secrets/00000001", kBig).value();
    bytes[12 + bit / 8] ^= std::byte(1U << bit % 8);
    store.overwrite("secrets/00000001", bytes);
    const auto client = machine.open(store);
    ASSERT_TRUE(client) << bit << ": " << client.error().what;
    EXPECT_EQ(repair_keys(store, machine.home(), **client, true)->size(), 1U);
  }
  for (const ObjectType type : {ObjectType::data_pack, ObjectType::tree_pack}) {
    flip(store, packs_of(type).front(), 12);
    Machine fresh(++fresh_seed, "fresh");
    ASSERT_TRUE(fresh.recover(store, *machine.paper));
    const auto repaired = fresh.repair(store, repair_packs, true);
    ASSERT_TRUE(repaired) << repaired.error().what;
    EXPECT_EQ(repaired->packs_damaged, 1U);
  }
  const auto snapshot = machine.backup(store);
  EXPECT_TRUE(snapshot) << snapshot.error().what;
}

TEST_F(Repair, RNS_01_what_nobody_signed_is_taken_out_of_the_chain) {
  Machine other(++fresh_seed, "other"), stranger(++fresh_seed, "stranger");
  ASSERT_TRUE(other.recover(store, *machine.paper));
  MemoryStore elsewhere;
  ASSERT_TRUE(stranger.init(elsewhere));
  // In form an entry of this account, behind the last one.
  const auto evil = stranger.open(elsewhere);
  const auto place_of_next = next_place((*machine.open(store))->chain());
  ASSERT_TRUE(store.put(chain_object_name(place_of_next.sequence),
                        make_confirm_device(place_of_next, (*evil)->device().id,
                                            (*evil)->device().id, {}, (*evil)->device().signer())));
  ASSERT_TRUE(store.put(chain_object_name(0xff), as_bytes("far")));
  const auto snapshot = machine.backup(store);
  ASSERT_TRUE(snapshot) << snapshot.error().what;
  EXPECT_EQ((*machine.open(store))->damaged().size(), 1U);
  EXPECT_EQ(repair_keys(store, machine.home(), **machine.open(store), true)->size(), 2U);
  EXPECT_TRUE((*machine.open(store))->damaged().empty());
  EXPECT_TRUE(rotate(machine, store));
  EXPECT_EQ((*other.open(store))->chain().newest_epoch().number, 2U);
}

TEST_F(Repair, a_home_that_lags_sees_what_verifies_before_garbage) {
  Machine other(++fresh_seed, "other");
  ASSERT_TRUE(other.recover(store, *machine.paper));
  ASSERT_TRUE(rotate(other, store));
  other.tree = machine.tree;
  ASSERT_TRUE(other.backup(store));
  ASSERT_TRUE(store.put(chain_object_name(0xff), as_bytes("far")));
  const auto client = machine.open(store);
  ASSERT_TRUE(client) << client.error().what;
  EXPECT_EQ((*client)->chain().newest_epoch().number, 2U);
  EXPECT_EQ((*client)->repository().heads()->snapshots.size(), 4U);
}

TEST_F(Repair, ENG_02_a_fork_behind_a_damaged_entry_is_an_alarm_and_is_not_repaired) {
  ASSERT_TRUE(rotate(machine, store));
  ASSERT_TRUE(machine.open(store));
  MemoryStore other;
  for (const std::string& name : object_names(store, ""))
    ASSERT_TRUE(other.put(name, store.get(name, kBig).value()));
  ASSERT_TRUE(rotate(machine, store));
  ASSERT_TRUE(machine.open(store));
  Machine elsewhere(++fresh_seed, "elsewhere");
  ASSERT_TRUE(elsewhere.recover(other, *machine.paper));
  for (const char* damage : {"none", "entry 1", "genesis"}) {
    SCOPED_TRACE(damage);
    if (std::string_view(damage) == "entry 1") other.overwrite(chain_object_name(1), Bytes(1));
    if (std::string_view(damage) == "genesis") other.overwrite(chain_object_name(0), Bytes(1));
    const auto opened = machine.open(other);
    ASSERT_FALSE(opened);
    EXPECT_EQ(opened.error().code, Code::alarm) << opened.error().what;
  }
}

TEST_F(Repair, a_home_that_lags_behind_the_first_repository_learns_from_it) {
  MemoryStore second;
  Machine other(++fresh_seed, "other");
  ASSERT_TRUE(other.recover(store, *machine.paper));
  ASSERT_TRUE(machine.init(second));  // has not seen the other one's entries
  const auto once = [&] {
    return rotate_keys(store, machine.home(), **machine.open(second), machine.random);
  };
  EXPECT_EQ(once().error().code, Code::unavailable);
  const auto rotated = once();
  ASSERT_TRUE(rotated) << rotated.error().what;
  EXPECT_EQ((*machine.open(second))->chain().newest_epoch().number, 2U);
}

// A home that only reads, made by the paper key alone.
class Reader : public Repair {
 protected:
  void expect_reads(Machine& reader, ObjectStore& from, const std::vector<Reported>& all) {
    const auto client = reader.open(from);
    ASSERT_TRUE(client) << client.error().what;
    EXPECT_TRUE((*client)->only_reads());
    Repository& opened = (*client)->repository();
    const auto heads = opened.heads();
    ASSERT_TRUE(heads) << heads.error().what;
    ASSERT_TRUE(opened.sync_index(*heads, Stop()));
    EXPECT_EQ(heads->snapshots.size(), all.size());
    for (const Reported& r : all) {
      const auto found = std::ranges::find(heads->snapshots, r.id, &Snapshot::id);
      ASSERT_NE(found, heads->snapshots.end());
      EXPECT_EQ(read_back(opened, *found).value(), r.tree);
    }
  }
  static std::map<std::string, Bytes> everything(ObjectStore& from) {
    std::map<std::string, Bytes> all;
    for (const std::string& name : object_names(from, "")) all[name] = from.get(name, kBig).value();
    return all;
  }
  // Recovers, reads, and tries all that writes; nothing in the store may be another one then.
  void expect_reads_and_writes_nothing(ObjectStore& from, const std::vector<Reported>& all) {
    const auto before = everything(from);
    Machine reader(++fresh_seed, "reader");
    const auto recovered = reader.recover(from, *machine.paper, true);
    ASSERT_TRUE(recovered) << recovered.error().what;
    expect_reads(reader, from, all);
    reader.tree = machine.tree;
    const auto denied = [](const auto& result) {
      return !result && result.error().code == Code::denied &&
             result.error().what.contains("only reads");
    };
    EXPECT_TRUE(denied(reader.backup(from)));
    (void)reader.prune(from, {});  // it may have nothing to do
    {
      const auto client = reader.open(from);
      const auto heads = (*client)->repository().heads();
      EXPECT_FALSE(drop_snapshot((*client)->repository(), *heads, heads->snapshots[0], ""));
      EXPECT_TRUE(denied(repair_keys(from, reader.home(), **client, true)));
      EXPECT_TRUE(denied(set_retention_lock(from, reader.home(), **client, 1, nullptr)));
      MemoryStore another;
      EXPECT_TRUE(denied(reader.init(another)));
    }
    EXPECT_EQ(everything(from), before);
  }
};

TEST_F(Reader, reads_all_and_writes_nothing) { expect_reads_and_writes_nothing(store, reported); }

TEST_F(Reader, sees_what_devices_back_up_that_came_later) {
  Machine reader(++fresh_seed, "reader"), later(++fresh_seed, "later");
  ASSERT_TRUE(reader.recover(store, *machine.paper, true));
  expect_reads(reader, store, reported);
  ASSERT_TRUE(later.recover(store, *machine.paper));
  later.tree = machine.tree;
  const auto snapshot = later.backup(store);
  ASSERT_TRUE(snapshot) << snapshot.error().what;
  reported.push_back({snapshot->id, later.tree});
  expect_reads(reader, store, reported);
}

TEST_F(Reader, RNS_01_bytes_under_the_next_number_of_the_chain_shut_nobody_out) {
  const std::string blocked = chain_object_name((*machine.open(store))->chain().position() + 1);
  Bytes newer;  // version 2, signed by nobody
  for (const int b : {0x0a, 0x02, 0x08, 0x02}) newer.push_back(static_cast<std::byte>(b));
  const std::string_view words = "no entry";
  for (const Bytes& bytes :
       {Bytes(as_bytes(words).begin(), as_bytes(words).end()), Bytes{}, newer}) {
    SCOPED_TRACE(bytes.size());
    ASSERT_TRUE(store.put(blocked, bytes));
    // Who has a home goes on backing up.
    const auto snapshot = machine.backup(store);
    ASSERT_TRUE(snapshot) << snapshot.error().what;
    reported.push_back({snapshot->id, machine.tree});
    Machine fresh(++fresh_seed, "fresh");
    const auto recovered = fresh.recover(store, *machine.paper);
    ASSERT_FALSE(recovered);
    EXPECT_TRUE(recovered.error().what.contains("--read-only")) << recovered.error().what;
    const auto reader = fresh.recover(store, *machine.paper, true);
    ASSERT_TRUE(reader) << reader.error().what;
    EXPECT_EQ(reader->damaged.size(), 1U);
    expect_reads_and_writes_nothing(store, reported);
    // A home takes them away, where the store lets it.
    EXPECT_EQ(repair_keys(store, machine.home(), **machine.open(store), false)->size(), 1U);
    EXPECT_EQ(repair_keys(store, machine.home(), **machine.open(store), true)->size(), 1U);
    EXPECT_TRUE((*machine.open(store))->damaged().empty());
    EXPECT_FALSE(store.size(blocked));
  }
  Machine last(++fresh_seed, "last");
  ASSERT_TRUE(last.recover(store, *machine.paper));
  // What a key of the account signed is never taken for such.
  EXPECT_TRUE(repair_keys(store, machine.home(), **machine.open(store), true)->empty());
}

// It hides later entries, of which heads tell; everything is read all the same.
TEST_F(Reader, an_entry_that_is_lost_or_damaged_hides_what_comes_after_and_nothing_else) {
  Machine later(++fresh_seed, "later"), saw(++fresh_seed, "saw");
  ASSERT_TRUE(later.recover(store, *machine.paper));
  const auto snapshot = machine.backup(store);  // names the newest entry
  ASSERT_TRUE(snapshot);
  reported.push_back({snapshot->id, machine.tree});
  ASSERT_TRUE(saw.recover(store, *machine.paper, true));
  expect_reads(saw, store, reported);
  const Bytes entry = store.get(chain_object_name(1), kBig).value();
  for (const bool lose : {false, true}) {
    if (lose)
      ASSERT_TRUE(store.remove(chain_object_name(1)));
    else
      flip(store, chain_object_name(1), entry.size() / 2);
    Machine fresh(++fresh_seed, "fresh");
    const auto reader = fresh.recover(store, *machine.paper, true);
    ASSERT_TRUE(reader) << reader.error().what;
    EXPECT_EQ(reader->damaged.size(), 1U);
    for (Machine* one : {&fresh, &saw}) expect_reads(*one, store, reported);
    EXPECT_EQ((*saw.open(store))->chain().position(), 2U) << "it keeps what it saw";
    if (!lose) store.overwrite(chain_object_name(1), entry);
  }
}

// All homes and the first repository are lost: only the second one and the paper key are there.
TEST_F(Reader, comes_back_from_a_second_repository_alone) {
  MemoryStore second;
  ASSERT_TRUE(machine.init(second));
  const auto snapshot = machine.backup(second);
  ASSERT_TRUE(snapshot) << snapshot.error().what;
  Machine fresh(++fresh_seed, "fresh");
  const auto refused = fresh.recover(second, *machine.paper);
  ASSERT_FALSE(refused);
  EXPECT_TRUE(refused.error().what.contains("--read-only")) << refused.error().what;
  expect_reads_and_writes_nothing(second, {{snapshot->id, machine.tree}});
}

TEST_F(Reader, ENG_02_a_chain_or_heads_that_went_back_are_an_alarm_to_it_too) {
  MemoryStore old;
  for (const auto& [name, bytes] : everything(store)) ASSERT_TRUE(old.put(name, bytes));
  Machine later(++fresh_seed, "later"), reader(++fresh_seed, "reader");
  ASSERT_TRUE(later.recover(store, *machine.paper));
  ASSERT_TRUE(reader.recover(store, *machine.paper, true));
  const auto rolled = reader.open(old);  // before it saw anything but what recover saw
  ASSERT_FALSE(rolled);
  EXPECT_EQ(rolled.error().code, Code::alarm);
  EXPECT_TRUE(rolled.error().what.contains("--despite-alarm")) << rolled.error().what;
  reader.despite_alarm = true;
  EXPECT_TRUE(reader.open(old));
  reader.despite_alarm = false;
  EXPECT_FALSE(reader.open(old)) << "what was passed over once is an alarm the next time";
  reader.accept_rollback = true;
  EXPECT_EQ(reader.open(old).error().code, Code::denied);
  reader.accept_rollback = false;
  EXPECT_FALSE(reader.open(old)) << "and is not forgotten";
  ASSERT_TRUE(reader.open(store));
}

// Whoever can roll back can also add a file.
TEST_F(Reader, ENG_02_bytes_beside_it_make_no_damage_of_a_fork) {
  MemoryStore other;
  for (const auto& [name, bytes] : everything(store)) ASSERT_TRUE(other.put(name, bytes));
  Machine one(++fresh_seed, "one"), two(++fresh_seed, "two"), reader(++fresh_seed, "reader");
  ASSERT_TRUE(one.recover(store, *machine.paper));
  ASSERT_TRUE(two.recover(other, *machine.paper));
  ASSERT_TRUE(reader.recover(store, *machine.paper, true));
  ASSERT_TRUE(reader.open(store));
  ASSERT_TRUE(other.put(chain_object_name(3), as_bytes("no entry")));
  const auto forked = reader.open(other);
  ASSERT_FALSE(forked);
  EXPECT_EQ(forked.error().code, Code::alarm) << forked.error().what;
  // Less, and something that hides the rest: this home has the rest.
  ASSERT_TRUE(store.remove(chain_object_name(2)));
  store.overwrite(chain_object_name(1), Bytes(1));
  const auto less = reader.open(store);
  ASSERT_TRUE(less) << less.error().what;
  EXPECT_EQ((*less)->chain().position(), 2U);
  EXPECT_NE((*less)->chain().device(one.state.read("chain", kBig) ? (*one.open(store))->device().id
                                                                  : DeviceId{}),
            nullptr);
}

TEST_F(Reader, says_that_a_newer_epoch_does_not_open_to_it) {
  Machine reader(++fresh_seed, "reader");
  ASSERT_TRUE(reader.recover(store, *machine.paper, true));
  expect_reads(reader, store, reported);
  ASSERT_TRUE(rotate(machine, store));
  ASSERT_TRUE(machine.backup(store));
  const auto client = reader.open(store);
  ASSERT_TRUE(client) << client.error().what;
  ASSERT_EQ((*client)->damaged().size(), 1U);
  EXPECT_TRUE((*client)->damaged()[0].contains("key epoch 2")) << (*client)->damaged()[0];
}

TEST_F(Reader, a_home_that_lost_the_word_that_it_only_reads_is_no_device) {
  const auto before = everything(store);
  Machine reader(++fresh_seed, "reader");
  ASSERT_TRUE(reader.recover(store, *machine.paper, true));
  ASSERT_TRUE(reader.state.remove("reader"));
  const auto opened = reader.open(store);
  ASSERT_FALSE(opened);
  EXPECT_EQ(opened.error().code, Code::denied) << opened.error().what;
  EXPECT_EQ(everything(store), before);
}

TEST_F(Reader, an_interrupted_recover_that_reads_leaves_nothing_to_one_that_writes) {
  Machine fresh(++fresh_seed, "fresh");
  ASSERT_TRUE(fresh.recover(store, *machine.paper, true));
  ASSERT_TRUE(fresh.keys.remove("device"));
  ASSERT_TRUE(fresh.recover(store, *machine.paper));
  fresh.tree = machine.tree;
  EXPECT_TRUE(fresh.backup(store));
}

TEST_F(Repair, a_record_of_a_collection_comes_back_from_a_home_that_has_read_it) {
  for (int i = 0; i < 2; ++i) {
    const auto heads = (*machine.open(store))->repository().heads();
    ASSERT_TRUE(heads);
    ASSERT_TRUE(machine.drop(store, heads->snapshots.front()));
    reported.erase(reported.begin());
    PruneOptions all;
    all.unused_max = 0;
    ASSERT_TRUE(machine.prune(store, all));
  }
  ASSERT_EQ(object_names(store, "gc/").size(), 4U);
  for (const bool lose : {true, false})
    for (const std::uint64_t number : {1U, 2U}) {
      const std::string name = collection_name(number);
      SCOPED_TRACE(name + (lose ? " lost" : " damaged"));
      Machine fresh(++fresh_seed, "fresh"), reader(++fresh_seed, "reader");
      ASSERT_TRUE(reader.recover(store, *machine.paper));
      ASSERT_TRUE((*reader.open(store))->repository().heads());
      const Bytes before = store.get(name, kBig).value();
      if (lose) {
        ASSERT_TRUE(store.remove(name));
      } else {
        flip(store, name, before.size() / 2);
      }
      EXPECT_FALSE(machine.backup(store));
      ASSERT_TRUE(fresh.recover(store, *machine.paper));
      const auto without = fresh.repair(store, repair_index, true);
      ASSERT_FALSE(without);
      EXPECT_NE(without.error().what.find("another machine of the account"), std::string::npos)
          << without.error().what;
      const RepairReport dry = repair(repair_index, false);
      ASSERT_EQ(dry.found.size(), 1U);
      EXPECT_NE(dry.found[0].find(name), std::string::npos);
      EXPECT_FALSE(machine.backup(store)) << "nothing was changed";
      const auto repaired = reader.repair(store, repair_index, true);
      ASSERT_TRUE(repaired) << repaired.error().what;
      EXPECT_EQ(repaired->found, dry.found);
      EXPECT_EQ(store.get(name, kBig).value(), before);
      const auto snapshot = machine.backup(store);
      ASSERT_TRUE(snapshot) << snapshot.error().what;
      reported.push_back({snapshot->id, machine.tree});
    }
  expect_all_is_well();
}

// What it said is done already: what it let go is gone, and whoever collects next finds that again.
TEST_F(Repair, a_lost_end_of_a_collection_hinders_nobody) {
  const auto heads = (*machine.open(store))->repository().heads();
  ASSERT_TRUE(heads);
  ASSERT_TRUE(machine.drop(store, heads->snapshots.front()));
  reported.erase(reported.begin());
  // One machine's index has what goes.
  Machine fresh(++fresh_seed, "fresh"), old(++fresh_seed, "old");
  ASSERT_TRUE(old.recover(store, *machine.paper));
  EXPECT_FALSE(packs(old, store).empty());
  ASSERT_TRUE(machine.prune(store, {.unused_max = 0}));
  ASSERT_TRUE(store.remove(collection_done_name(1)));
  ASSERT_TRUE(fresh.recover(store, *machine.paper));
  const auto expect_clean = [&](Machine& one) {
    CheckProgress progress;
    const auto client = one.open(store);
    const auto checked = check((*client)->repository(), {.workers = 1}, progress, Stop());
    ASSERT_TRUE(checked) << checked.error().what;
    EXPECT_TRUE(checked->clean()) << one.name << ": " << checked->damage[0].what;
  };
  for (Machine* one : {&fresh, &old}) {
    expect_clean(*one);
    EXPECT_TRUE(one->repair(store, repair_packs, false)->found.empty());
  }
  for (Machine* one : {&machine, &fresh, &old}) {
    one->tree = machine.tree;
    const auto snapshot = one->backup(store);
    ASSERT_TRUE(snapshot) << one->name << ": " << snapshot.error().what;
    reported.push_back({snapshot->id, one->tree});
  }
  for (Machine* one : {&old, &fresh}) expect_clean(*one);
  const auto pruned = old.prune(store, {});
  ASSERT_TRUE(pruned) << pruned.error().what;
  EXPECT_TRUE(store.size(collection_done_name(1)));
  expect_all_is_well();
}

// Whether what a record condemns is needed or not is found by marking, not by its name.
TEST_F(Repair, a_condemned_pack_that_is_lost_and_needed_stops_a_prune) {
  const auto heads = (*machine.open(store))->repository().heads();
  ASSERT_TRUE(heads);
  ASSERT_TRUE(machine.drop(store, heads->snapshots.front()));
  Machine other(++fresh_seed, "other");
  ASSERT_TRUE(other.recover(store, *machine.paper));
  // A record that condemns everything, and has no end: its pruner died, and what it condemns is
  // needed.
  const std::vector<std::string> all = object_names(store, "packs/");
  {
    const auto client = machine.open(store);
    ASSERT_TRUE((*client)->repository().heads());
    const RepositoryParts& parts = (*client)->repository().parts();
    CollectionRecord record = empty_record(parts.device, 1);
    for (const std::string& name : all) record.condemned.push_back(*parse_pack_name(name));
    std::ranges::sort(record.condemned);
    ASSERT_TRUE(store.put(collection_name(1),
                          seal_collection(record, parts.keys, parts.signer, parts.random)));
  }
  for (const std::string& name : packs_of(ObjectType::data_pack)) ASSERT_TRUE(store.remove(name));
  const std::size_t left = object_names(store, "packs/").size();
  for (Machine* one : {&machine, &other}) {
    const auto pruned = one->prune(store, {});
    ASSERT_FALSE(pruned);
    EXPECT_EQ(pruned.error().code, Code::corrupt) << pruned.error().what;
    EXPECT_EQ(object_names(store, "packs/").size(), left);
  }
}

// Whatever is lost, and in whatever order it is repaired: a file that could be read before can be
// read after, in its snapshot or in the copy of it.
class RepairSeeds : public Repair, public ::testing::WithParamInterface<std::uint64_t> {};
INSTANTIATE_TEST_SUITE_P(Some, RepairSeeds,
                         ::testing::Range(std::uint64_t{0}, setting("HOLDFAST_REPAIR_SEEDS", 12)));

TEST_P(RepairSeeds, nothing_that_was_good_is_worse_after_any_sequence_of_repairs) {
  constexpr std::array<Machine::Repair, 4> all = {repair_index, repair_packs, repair_snapshots,
                                                  recover_snapshots};
  SeededRandom random(GetParam());
  if (random.below(2) == 0) {  // with records of collections
    const auto heads = (*machine.open(store))->repository().heads();
    ASSERT_TRUE(heads);
    ASSERT_TRUE(machine.drop(store, heads->snapshots.front()));
    PruneOptions every;
    every.unused_max = 0;
    ASSERT_TRUE(machine.prune(store, every));
    reported.erase(reported.begin());
  }
  for (std::uint64_t n = 1 + random.below(3); n > 0; --n) {
    std::vector<std::string> names = object_names(store, "packs/");
    for (const char* folder : {"lists/", "gc/"})
      for (const std::string& name : object_names(store, folder)) names.push_back(name);
    const std::string& victim = names[random.below(names.size())];
    // Less than a home saw is a rollback, which no repair takes for a loss.
    if (random.below(2) == 0 && !victim.starts_with("gc/")) {
      ASSERT_TRUE(store.remove(victim)) << victim;
    } else if (store.size(victim)) {
      flip(store, victim, random.next());
    }
  }
  std::vector<SimTree> before;
  for (const Reported& r : reported) before.push_back(readable(r.id));
  std::map<SnapshotId, std::vector<SnapshotId>> copies;
  std::size_t found = 0;
  for (std::uint64_t n = 3 + random.below(5); n > 0 || found == 0; n -= n > 0 ? 1 : 0) {
    const auto done = machine.repair(store, all[random.below(4)], true);
    if (!done) {  // it says which one comes first
      EXPECT_EQ(done.error().code, Code::denied) << done.error().what;
      continue;
    }
    for (const RepairReport::Copy& copy : done->snapshots) copies[copy.of].push_back(copy.id);
    found += done->found.size();
  }
  for (std::size_t i = 0; i < reported.size(); ++i) {
    SimTree now = readable(reported[i].id);
    for (const SnapshotId& copy : copies[reported[i].id]) now.merge(readable(copy));
    for (const auto& [path, file] : before[i])
      EXPECT_TRUE(now.contains(path) && now.at(path) == file) << path;
  }
}

}  // namespace
}  // namespace holdfast::sim
