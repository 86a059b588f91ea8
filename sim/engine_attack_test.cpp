// SPDX-License-Identifier: Apache-2.0
// Attacks on the engine as a whole, by the ids of the attack list: a store that lies, a copied
// machine, a curious store.
#include <gtest/gtest.h>

#include <algorithm>
#include <cmath>
#include <set>
#include <thread>

#include "machine.h"
#include "repo/check.h"
#include "store/fault_store.h"
#include "store/memory_store.h"

namespace holdfast::sim {
namespace {

std::vector<std::string> names(ObjectStore& store) { return object_names(store, ""); }

void copy_store(ObjectStore& from, MemoryStore& to) {
  for (const std::string& name : names(from)) to.overwrite(name, *from.get(name, 1U << 30));
}

void copy_folder(MemoryFolder& from, MemoryFolder& to, const std::vector<std::string>& folders) {
  for (const std::string& folder : folders) {
    const auto listed = from.list(folder);
    for (const std::string& name : *listed) {
      const std::string path = folder.empty() ? name : folder + "/" + name;
      if (const auto bytes = from.read(path, 1U << 30)) {
        ASSERT_TRUE(to.replace(path, *bytes));
      }
    }
  }
}

std::string repository_folder(ObjectStore& store) {
  const Bytes record = *store.get("repository", 4096);
  // Fields 1 (version), 2 (account), 3 (repository): 2 + 34 bytes, then tag and length.
  return to_hex(ByteSpan(record).subspan(38, 16));
}

// The same home on another machine: a cloned disk, with the same state of randomness.
std::unique_ptr<Machine> clone(Machine& machine, ObjectStore& store, std::uint64_t seed) {
  auto copy = std::make_unique<Machine>(seed, machine.name);
  copy->tree = machine.tree;
  copy_folder(machine.keys, copy->keys, {""});
  copy_folder(machine.state, copy->state, {"", repository_folder(store)});
  return copy;
}

SimTree small_tree(std::uint64_t seed) {
  SeededRandom random(seed);
  return make_tree(random, 12);
}

TEST(Engine, ENG_02_a_rolled_back_head_is_an_alarm_and_nothing_is_written) {
  MemoryStore store, old;
  Machine machine(1, "m");
  machine.tree = small_tree(1);
  ASSERT_TRUE(machine.init(store));
  ASSERT_TRUE(machine.backup(store));
  copy_store(store, old);
  for (int i = 0; i < 2; ++i) ASSERT_TRUE(machine.backup(store));
  const auto before = names(old);
  const auto refused = machine.backup(old);
  ASSERT_FALSE(refused);
  EXPECT_EQ(refused.error().code, Code::alarm);
  EXPECT_NE(refused.error().what.find("head rolled back 3->1"), std::string::npos)
      << refused.error().what;
  EXPECT_EQ(names(old), before);
}

TEST(Engine, ENG_02_a_head_that_is_missing_in_the_middle_or_another_one_is_an_alarm) {
  MemoryStore store;
  Machine machine(2, "m");
  machine.tree = small_tree(2);
  ASSERT_TRUE(machine.init(store));
  for (int i = 0; i < 3; ++i) ASSERT_TRUE(machine.backup(store));
  const auto client = *machine.open(store);
  ASSERT_TRUE(store.remove(head_name(client->device().id, 2)));
  const auto missing = client->repository().heads();
  ASSERT_FALSE(missing);
  EXPECT_EQ(missing.error().code, Code::alarm);
}

TEST(Engine, ENG_02_a_collection_that_this_home_saw_and_is_gone_is_an_alarm) {
  MemoryStore store;
  Machine machine(3, "m");
  machine.tree = small_tree(3);
  ASSERT_TRUE(machine.init(store));
  const auto first = machine.backup(store);
  ASSERT_TRUE(machine.backup(store));
  ASSERT_TRUE(machine.drop(store, *first));
  ASSERT_TRUE(machine.prune(store, {}));
  for (const std::string& name : object_names(store, "gc/")) ASSERT_TRUE(store.remove(name));
  const auto before = names(store);
  const auto refused = machine.backup(store);
  ASSERT_FALSE(refused);
  EXPECT_EQ(refused.error().code, Code::alarm) << refused.error().what;
  EXPECT_EQ(names(store), before);
}

// Made-up names, as many as anybody asks for.
class EndlessStore : public ListingStore {
 public:
  using ListingStore::ListingStore;
  std::string endless;  // the folder that has no end; empty: none
  std::uint64_t given = 0;

 protected:
  Result<> listed(std::string_view prefix, const Visit& visit) override {
    if (endless.empty() || prefix != endless) return {};
    for (;; ++given) HF_TRY(visit({made_up(), 1U << 24}));
  }

 private:
  [[nodiscard]] std::string made_up() const {
    DeviceId device;
    ObjectHash hash;
    store_le(device.bytes.data(), given);
    store_le(hash.bytes.data(), given);
    if (endless == "heads/") return head_name(device, 1 + given);
    return endless == "packs/" ? pack_name(hash) : list_name(hash);
  }
};

TEST(Engine, DOS_04_a_listing_without_end_is_given_up_and_named) {
  for (const std::string folder : {"heads/", "packs/", "lists/"}) {
    MemoryStore inner;
    EndlessStore store(inner);
    Machine machine(41, "m");
    machine.tree = small_tree(41);
    machine.list_limits = {.heads = 1000, .packs = 1000, .lists = 1000};
    ASSERT_TRUE(machine.init(store));
    ASSERT_TRUE(machine.backup(store));
    const auto client = *machine.open(store);
    store.endless = folder;
    CheckProgress progress;
    const auto checked = check(client->repository(), {}, progress, Stop());
    ASSERT_FALSE(checked) << folder;
    EXPECT_NE(checked.error().what.find("list " + folder + ": more than 1000 objects"),
              std::string::npos)
        << checked.error().what;
    EXPECT_LE(store.given, 1000U);
    if (folder == "heads/") {
      EXPECT_FALSE(machine.backup(store));
    }
  }
}

TEST(Engine, ENG_01_and_06_objects_under_other_names_are_refused) {
  MemoryStore mine, theirs;
  Machine me(3, "m"), other(4, "m");
  me.tree = other.tree = small_tree(3);
  ASSERT_TRUE(me.init(mine));
  ASSERT_TRUE(other.init(theirs));
  ASSERT_TRUE(me.backup(mine));
  ASSERT_TRUE(other.backup(theirs));
  const auto client = *me.open(mine);
  const std::string head = head_name(client->device().id, 1);
  const Bytes good = *mine.get(head, 1U << 20);
  // Another account's head, and another object of this account, under the head's name.
  for (const std::string& name : names(theirs))
    if (name.starts_with("heads/") && name.size() == head.size())
      mine.overwrite(head, *theirs.get(name, 1U << 20));
  auto heads = client->repository().heads();
  ASSERT_TRUE(heads);
  EXPECT_TRUE(heads->snapshots.empty());
  ASSERT_EQ(heads->damaged.size(), 1U);
  mine.overwrite(head, *mine.get(head + ".open", 1U << 20));
  heads = client->repository().heads();
  ASSERT_TRUE(heads);
  ASSERT_EQ(heads->damaged.size(), 1U);
  EXPECT_NE(heads->damaged[0].find("wrong object type"), std::string::npos) << heads->damaged[0];
  mine.overwrite(head, good);
  EXPECT_EQ(client->repository().heads()->snapshots.size(), 1U);
}

// (salt, nonce) of every frame, table and box of a store, with a hash of what was sealed under it.
using Nonces = std::map<std::pair<std::string, std::string>, std::set<std::string>>;

void collect_nonces(MemoryStore& store, const Client& client, Nonces& out) {
  const auto hash = [](ByteSpan bytes) { return to_hex(sha256(bytes).span()); };
  for (const std::string& name : names(store)) {
    const Bytes bytes = *store.get(name, 1U << 30);
    if (name.starts_with("packs/")) {
      const std::string salt = to_hex(ByteSpan(bytes).subspan(16, 32));
      const ObjectHash pack = *parse_pack_name(name);
      const auto type = static_cast<ObjectType>(bytes[9]);
      const auto table = parse_pack(client.keys(), client.device_lookup(), pack, type, bytes);
      ASSERT_TRUE(table) << table.error().what;
      for (const PackFrame& frame : table->frames) {
        const ByteSpan sealed = ByteSpan(bytes).subspan(frame.offset, 12 + frame.stored + 16);
        out[{salt, to_hex(sealed.first(12))}].insert(hash(sealed.subspan(12)));
      }
      const ByteSpan footer = ByteSpan(bytes).last(32);
      const std::size_t length = load_le<std::uint32_t>(footer.data() + 12);
      out[{salt, to_hex(footer.first(12))}].insert(
          hash(ByteSpan(bytes).subspan(bytes.size() - 32 - length, length)));
    } else if (bytes.size() > 96 && as_text(ByteSpan(bytes).first(8)) == "HFBOX001") {
      const ByteSpan all(bytes);
      out[{to_hex(all.subspan(16, 32)), to_hex(all.subspan(80, 12))}].insert(hash(all.subspan(96)));
    }
  }
}

TEST(Engine, ENG_09_a_cloned_machine_repeats_no_nonce_with_other_bytes) {
  MemoryStore store;
  Machine machine(5, "m");
  machine.tree = small_tree(5);
  ASSERT_TRUE(machine.init(store));
  ASSERT_TRUE(machine.backup(store));
  Nonces nonces;
  std::size_t repeated = 0;
  for (std::uint64_t trial = 0; trial < 6; ++trial) {
    const auto a = clone(machine, store, 77), b = clone(machine, store, 77);
    SeededRandom random(trial);
    change_tree(a->tree, random);
    change_tree(b->tree, random);
    MemoryStore left, right;
    copy_store(store, left);
    copy_store(store, right);
    ASSERT_TRUE(a->backup(left));
    ASSERT_TRUE(b->backup(right));
    collect_nonces(left, **a->open(left), nonces);
    collect_nonces(right, **b->open(right), nonces);
  }
  std::set<std::string> salts;
  for (const auto& [pair, sealed] : nonces) {
    EXPECT_EQ(sealed.size(), 1U) << "salt " << pair.first << " nonce " << pair.second;
    repeated += salts.insert(pair.first).second ? 0U : 1U;
  }
  EXPECT_GT(repeated, 0U);  // the clones did draw the same salts, or the test shows nothing
}

TEST(Engine, ENG_09_a_copied_home_is_an_alarm) {
  MemoryStore store;
  Machine machine(6, "m");
  machine.tree = small_tree(6);
  ASSERT_TRUE(machine.init(store));
  ASSERT_TRUE(machine.backup(store));
  const auto copy = clone(machine, store, 78);
  ASSERT_TRUE(machine.backup(store));
  const auto refused = copy->backup(store);
  ASSERT_FALSE(refused);
  EXPECT_EQ(refused.error().code, Code::alarm);
  EXPECT_NE(refused.error().what.find("copied or rolled back"), std::string::npos)
      << refused.error().what;
  // Whatever else would write finds it out too, before it has written anything; a stub that is
  // damaged is something to repair.
  store.put(dropped_name({copy->open(store).value()->device().id, 1}), as_bytes("no stub")).value();
  const auto before = object_names(store, "");
  // (The two other repairs write by a session, as a backup does.)
  for (const auto what : {repair_index, repair_packs}) {
    const auto repaired = copy->repair(store, what, true);
    ASSERT_FALSE(repaired);
    EXPECT_EQ(repaired.error().code, Code::alarm) << repaired.error().what;
  }
  const auto pruned = copy->prune(store, {});
  ASSERT_FALSE(pruned);
  EXPECT_EQ(pruned.error().code, Code::alarm) << pruned.error().what;
  EXPECT_EQ(object_names(store, ""), before);
}

// Item 7: every class of object, bits at many places.
TEST(Engine, a_flipped_bit_in_any_object_is_found_and_never_restored) {
  MemoryStore store;
  Machine machine(7, "m");
  machine.tree = small_tree(7);
  ASSERT_TRUE(machine.init(store));
  const auto dropped = machine.backup(store);
  const auto snapshot = machine.backup(store);
  ASSERT_TRUE(dropped && snapshot);
  // And a session that was given up, a stub, a collection and its end.
  Machine other(70, "other");
  ASSERT_TRUE(other.recover(store, *machine.paper));
  other.tree = small_tree(70);
  FaultStore dies(store, {.crash_at_call = 40});
  ASSERT_FALSE(other.backup(dies));
  ASSERT_TRUE(machine.drop(store, *dropped));
  const auto pruned = machine.prune(store, {.give_up_after_ns = 0});
  ASSERT_TRUE(pruned) << pruned.error().what;
  ASSERT_EQ(pruned->sessions_given_up, 1U);
  {
    const auto client = machine.open(store);
    ASSERT_TRUE(client);
    ASSERT_TRUE(put_tags((*client)->repository().parts(), *snapshot, {"tagged"}));
  }
  SeededRandom random(7);
  std::set<std::string> classes;
  for (const std::string& name : names(store)) {
    classes.insert(name.substr(0, name.find('/')) +
                   name.substr(std::min(name.size(), name.rfind('.'))));
    const Bytes good = *store.get(name, 1U << 30);
    for (std::size_t trial = 0; trial < 14; ++trial) {
      SCOPED_TRACE(name + " trial " + std::to_string(trial));
      Bytes bad = good;
      const std::size_t at = trial == 0   ? 0
                             : trial == 1 ? bad.size() - 1
                                          : random.below(bad.size());
      bad[at] ^= static_cast<std::byte>(1U << random.below(8));
      store.overwrite(name, bad);
      const auto fresh = clone(machine, store, 1000 + trial);  // without its cache
      const auto client = fresh->open(store);
      if (!client) continue;  // found at once
      CheckProgress progress;
      const Stop stop;
      const auto report =
          check((*client)->repository(),
                {.read_data_percent = 100, .workers = 1, .found_before = (*client)->damaged()},
                progress, stop);
      EXPECT_TRUE(!report || !report->clean()) << "byte " << at << " of " << bad.size();
      const auto tree = read_back((*client)->repository(), *snapshot);
      if (tree) {
        EXPECT_EQ(*tree, machine.tree);
      }
    }
    store.overwrite(name, good);
  }
  // repository, chain, secrets, packs, lists, heads, .open, .gen, .dropped, .tags, gc, .done
  EXPECT_EQ(classes.size(), 12U);
}

TEST(Engine, two_machines_back_up_at_once_into_one_repository) {
  MemoryStore store;
  Machine a(8, "a"), b(9, "b");
  a.tree = small_tree(8);
  b.tree = small_tree(8);
  ASSERT_TRUE(a.init(store));
  ASSERT_TRUE(b.recover(store, *a.paper));
  Result<Snapshot> first = fail(Code::invalid, ""), second = first;
  std::thread one([&] { first = a.backup(store); });
  std::thread two([&] { second = b.backup(store); });
  one.join();
  two.join();
  ASSERT_TRUE(first) << first.error().what;
  ASSERT_TRUE(second) << second.error().what;
  const auto client = *b.open(store);
  const auto heads = client->repository().heads();
  ASSERT_TRUE(heads);
  EXPECT_EQ(heads->snapshots.size(), 2U);
  const Stop stop;
  ASSERT_TRUE(client->repository().sync_index(*heads, stop));
  for (const Snapshot& s : heads->snapshots) EXPECT_EQ(*read_back(client->repository(), s), a.tree);
}

// MET-01. The secret's frame has the same stored length whatever another user's file beside it
// says.
std::uint32_t secret_frame_length(const std::string& secret, const std::string& guess,
                                  std::uint32_t guess_uid, std::uint64_t seed) {
  MemoryStore store;
  Machine machine(seed, "m");
  machine.tree["home/a/secret"] = {secret, 1, 1000};
  machine.tree["home/b/guess"] = {guess, 1, guess_uid};
  EXPECT_TRUE(machine.init(store));
  const auto snapshot = machine.backup(store);
  EXPECT_TRUE(snapshot);
  const auto client = *machine.open(store);
  Repository& repository = client->repository();
  const Stop stop;
  EXPECT_TRUE(repository.sync_index(*repository.heads(), stop));
  const auto entry = find_entry(repository.nodes(), snapshot->tree, "home/a/secret");
  EXPECT_TRUE(entry);
  const auto place = repository.index().find(*entry->content.items[0].chunk);
  const auto table = read_pack_table(store, client->keys(), client->device_lookup(), place->pack,
                                     ObjectType::data_pack);
  EXPECT_TRUE(table);
  return table->frames[place->frame].stored;
}

TEST(Engine, MET_01_another_users_guesses_do_not_change_what_a_secret_compresses_to) {
  SeededRandom random(10);
  std::string secret = "token=";
  for (int i = 0; i < 40; ++i) secret += static_cast<char>('a' + random.below(26));
  std::string base;
  for (int i = 0; i < 400; ++i) base += static_cast<char>('a' + random.below(26));
  std::set<std::uint32_t> separate, together;
  for (std::size_t known = 0; known <= secret.size(); known += 8) {
    const std::string guess =
        base + secret.substr(0, known) + base.substr(0, secret.size() - known);
    separate.insert(secret_frame_length(secret, guess, 1001, 10));
    together.insert(secret_frame_length(secret, guess, 1000, 10));
  }
  EXPECT_EQ(separate.size(), 1U);
  EXPECT_GT(together.size(), 1U);  // the oracle works where it is not prevented
}

// CHK-02. Files of one size and kind; the observer sees sizes only.
TEST(Engine, CHK_02_sizes_of_objects_do_not_tell_which_file_is_stored) {
  constexpr std::size_t candidates = 10, trials = 30;
  const auto content = [](std::uint64_t seed) {
    SeededRandom random(seed);
    std::string text(600'000, '\0');
    for (char& c : text) c = static_cast<char>('a' + random.below(16));
    return text;
  };
  const auto observe = [&](std::size_t candidate, std::uint64_t seed) {
    MemoryStore store;
    Machine machine(seed, "m");
    machine.tree["f"] = {content(candidate), 1, 1000};
    EXPECT_TRUE(machine.init(store));
    EXPECT_TRUE(machine.backup(store));
    std::vector<std::uint64_t> sizes;
    for (const std::string& name : object_names(store, "packs/")) {
      sizes.push_back(*store.size(name));
      EXPECT_EQ(sizes.back(), padme(sizes.back())) << "a size that is no class";
    }
    std::ranges::sort(sizes);
    return sizes;
  };
  // The observer's own repositories of each candidate, under a key of his own.
  std::vector<std::vector<std::uint64_t>> known;
  for (std::size_t c = 0; c < candidates; ++c) known.push_back(observe(c, 5000 + c));
  std::size_t right = 0;
  for (std::size_t t = 0; t < trials; ++t) {
    const std::size_t truth = t % candidates;
    const auto seen = observe(truth, 9000 + t);
    std::vector<std::size_t> fits;
    for (std::size_t c = 0; c < candidates; ++c)
      if (known[c] == seen) fits.push_back(c);
    // Among those that fit he can only guess.
    right += !fits.empty() && fits[t % fits.size()] == truth ? 1U : 0U;
  }
  const double mean = static_cast<double>(trials) / candidates;
  EXPECT_LE(static_cast<double>(right), mean + 3 * std::sqrt(mean));
}

// A device whose packs do not hold what their tables say: nothing is deduplicated against it
// (hollowed-out backups).
TEST(Engine, a_device_whose_sample_fails_is_not_deduplicated_against) {
  MemoryStore store;
  Machine a(11, "a"), b(12, "b");
  a.tree = b.tree = small_tree(11);
  ASSERT_TRUE(a.init(store));
  ASSERT_TRUE(b.recover(store, *a.paper));
  ASSERT_TRUE(a.backup(store));
  // Frames of the device's packs are damaged; header, table and footer are left as they are.
  for (const std::string& name : object_names(store, "packs/")) {
    Bytes bytes = *store.get(name, 1U << 30);
    bytes[100] ^= std::byte{1};
    store.overwrite(name, bytes);
  }
  const auto snapshot = b.backup(store);
  ASSERT_TRUE(snapshot) << snapshot.error().what;
  EXPECT_GT(snapshot->statistics.chunks_new, 0U);
  const auto client = *b.open(store);
  const Stop stop;
  const auto heads = client->repository().heads();
  ASSERT_TRUE(client->repository().sync_index(*heads, stop));
  const auto tree = read_back(client->repository(), *snapshot);
  ASSERT_TRUE(tree) << tree.error().what;
  EXPECT_EQ(*tree, b.tree);
}

}  // namespace
}  // namespace holdfast::sim
