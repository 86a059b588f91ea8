// SPDX-License-Identifier: Apache-2.0
// The retention lock against machines that have every key. The store here locks as a bucket in
// compliance mode does; that real ones do is shown by store/s3_test.cpp and tests/cli/s3.bats.
#include "repo/retention_lock.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include "machine.h"

namespace holdfast::sim {
namespace {

using ::testing::HasSubstr;

constexpr std::int64_t kDay = 24LL * 3600 * 1'000'000'000;
constexpr std::int64_t kPeriod = 30 * kDay;

#define ASSERT_OK(result) ASSERT_TRUE((result).has_value()) << (result).error().what

// Keeps what it was told to keep. Time passes when the test says so.
class LockingStore : public MemoryStore {
 public:
  Result<> put(std::string_view name, ByteSpan bytes) override {
    HF_TRY(MemoryStore::put(name, bytes));
    times.try_emplace(std::string(name), Times{now, {}});
    return {};
  }
  Result<> list(std::string_view prefix,
                const std::function<Result<>(const ObjectInfo&)>& visit) override {
    return MemoryStore::list(prefix, [&](const ObjectInfo& info) {
      return visit({info.name, info.size, times.at(info.name).put});
    });
  }
  Result<> remove(std::string_view name) override {
    const auto at = times.find(name);
    if (at == times.end()) return {};
    if (at->second.until > now) return fail(Code::locked, std::string(name) + " is locked");
    times.erase(at);
    return MemoryStore::remove(name);
  }
  Result<StoreLock> lock() override {
    return StoreLock{.enforced = true, .why_not = {}, .now = now};
  }
  Result<> keep_until(std::string_view name, Time until) override {
    const auto at = times.find(name);
    if (at == times.end()) return fail(Code::not_found, std::string(name));
    at->second.until = std::max(at->second.until, until);
    ++kept;
    return {};
  }

  struct Times {
    Time put, until;
  };
  Time now{1'790'000'000'000'000'000};
  std::map<std::string, Times, std::less<>> times;
  std::uint64_t kept = 0;  // calls
};

class RetentionLock : public ::testing::Test {
 protected:
  void SetUp() override {
    a.tree = {{"a/one", {"the first", 1}}, {"a/two", {"stays", 1}}};
    add_many(a.tree, "m");
    ASSERT_OK(a.init(store));
  }
  void pass(std::int64_t ns) {
    store.now.ns += ns;
    for (Machine* machine : {&a, &b}) machine->clock.now_ns = store.now.ns;
  }
  Result<> set(std::int64_t period_ns, const PaperKey* paper = nullptr) {
    HF_ASSIGN(const auto client, a.open(store));
    return set_retention_lock(store, a.home(), *client,
                              static_cast<std::uint64_t>(period_ns / 1'000'000'000), paper);
  }
  // With another content each time.
  Snapshot back_up(int n) {
    a.tree["a/one"] = {"content " + std::to_string(n), static_cast<std::uint64_t>(n + 2)};
    auto snapshot = a.backup(store);
    EXPECT_TRUE(snapshot) << snapshot.error().what;
    trees[snapshot->id] = a.tree;
    return *snapshot;
  }
  // All snapshots that a machine can name, those too that were forgotten and are held, come back.
  void expect_all(Machine& machine, std::size_t counting, std::size_t held) {
    const auto client = machine.open(store);
    ASSERT_OK(client);
    Repository& repository = (*client)->repository();
    const auto heads = repository.heads();
    ASSERT_OK(heads);
    EXPECT_EQ(heads->snapshots.size(), counting);
    EXPECT_EQ(heads->held.size(), held);
    ASSERT_OK(repository.sync_index(*heads, Stop()));
    for (const auto* snapshots : {&heads->snapshots, &heads->dropped})
      for (const Snapshot& s : *snapshots) {
        if (snapshots == &heads->dropped && !heads->is_held(s)) continue;
        const auto tree = read_back(repository, s);
        ASSERT_OK(tree);
        EXPECT_EQ(*tree, trees.at(s.id));
      }
  }
  std::size_t count(std::string_view prefix) { return object_names(store, prefix).size(); }

  LockingStore store;
  Machine a{1, "a"}, b{2, "b"};
  std::map<SnapshotId, SimTree> trees;
};

// Whoever has all keys of a device says that everything may go, and deletes whatever he can.
void destroy(Machine& evil, ObjectStore& store) {
  const std::vector<std::string> before = object_names(store, "");
  const auto client = evil.open(store);
  ASSERT_OK(client);
  Repository& repository = (*client)->repository();
  const RepositoryParts& parts = repository.parts();
  const auto heads = repository.heads();
  ASSERT_OK(heads);
  CollectionRecord record = empty_record(parts.device, 1);
  for (const Snapshot& s : heads->snapshots) {
    const HeadRef ref{s.device, s.number};
    record.heads.push_back(ref);
    ASSERT_OK(store.put(dropped_name(ref), seal_dropped({.by = parts.device,
                                                         .snapshot = ref,
                                                         .head = s.id,
                                                         .previous = s.previous,
                                                         .previous_number = s.previous_number,
                                                         .reason = "evil"},
                                                        parts.keys, parts.signer, parts.random)));
  }
  const auto hashes = [&](std::string_view prefix) {
    ObjectNames names;
    for (const std::string& name : object_names(store, prefix))
      names.push_back(ObjectHash::parse(name.substr(name.rfind('/') + 1)).value());
    std::ranges::sort(names);
    return names;
  };
  record.condemned = hashes("packs/");
  record.retired = hashes("lists/");
  const Bytes object = seal_collection(record, parts.keys, parts.signer, parts.random);
  record.object = ObjectHash::from(sha256(object).span());
  ASSERT_OK(store.put(collection_name(1), object));
  ASSERT_OK(
      store.put(collection_done_name(1),
                seal_collection_done(
                    {.by = parts.device, .number = 1, .collection = record.object, .used = {}},
                    parts.keys, parts.signer, parts.random)));
  for (const std::string& name : before) (void)store.remove(name);
}

TEST_F(RetentionLock, RNS_01_a_client_with_all_keys_destroys_nothing_inside_it) {
  ASSERT_OK(set(kPeriod));
  for (int n = 0; n < 3; ++n) back_up(n);
  pass(20 * kDay);
  destroy(a, store);
  pass(8 * kDay);
  ASSERT_OK(b.recover(store, *a.paper));
  expect_all(b, 0, 3);
  // What it wrote takes effect only when everybody had the time to see it.
  pass(3 * kDay);
  {
    const auto client = b.open(store);
    ASSERT_OK(client);
    ASSERT_OK((*client)->repository().heads());
    EXPECT_FALSE((*client)->repository().collections().done(1));
  }
  pass(20 * kDay);
  const auto client = b.open(store);
  ASSERT_OK(client);
  ASSERT_OK((*client)->repository().heads());
  EXPECT_TRUE((*client)->repository().collections().done(1));
}

TEST_F(RetentionLock,
       RNS_01_another_machine_still_backs_up_and_does_not_rely_on_what_is_condemned) {
  ASSERT_OK(set(kPeriod));
  back_up(0);
  ASSERT_OK(b.recover(store, *a.paper));
  destroy(a, store);
  b.tree = a.tree;
  const auto snapshot = b.backup(store);
  ASSERT_OK(snapshot);
  trees[snapshot->id] = b.tree;
  expect_all(b, 1, 1);
  // Also when the time is over, and everything that may go is gone.
  pass(2 * kPeriod);
  ASSERT_OK(b.prune(store, {}));
  expect_all(b, 1, 0);
}

TEST_F(RetentionLock, without_it_a_client_with_all_keys_destroys_everything) {
  for (int n = 0; n < 3; ++n) back_up(n);
  destroy(a, store);
  EXPECT_EQ(count("packs/"), 0U);
  EXPECT_FALSE(b.recover(store, *a.paper));
}

TEST_F(RetentionLock, forget_and_prune_free_what_is_forgotten_when_its_time_is_over) {
  ASSERT_OK(set(kPeriod));
  std::vector<Snapshot> made;
  for (int n = 0; n < 3; ++n) made.push_back(back_up(n));
  ASSERT_OK(a.drop(store, made[0]));
  ASSERT_OK(a.drop(store, made[1]));
  const auto held = a.prune(store, {});
  ASSERT_OK(held);
  EXPECT_EQ(held->finished, 0U);
  expect_all(a, 1, 2);
  pass(kPeriod + kDay);  // the stubs take effect, and a collection can condemn
  const auto condemned = a.prune(store, {});
  ASSERT_OK(condemned);
  EXPECT_EQ(condemned->packs_deleted, 0U);
  EXPECT_EQ(condemned->held_until.ns / kDay, (store.now.ns + kPeriod) / kDay);
  pass(kPeriod / 2);
  back_up(3);
  pass(kPeriod / 2 + kDay);
  const auto ended = a.prune(store, {});
  ASSERT_OK(ended);
  EXPECT_EQ(ended->finished, 1U);
  // The lock that it had when it was condemned may last half a period longer.
  pass(kPeriod / 2 + kDay);
  const auto removed = a.prune(store, {});
  ASSERT_OK(removed);
  EXPECT_GT(ended->packs_deleted + removed->packs_deleted, 0U);
  EXPECT_EQ(removed->locked, 0U);
  expect_all(a, 2, 0);
  ASSERT_OK(b.recover(store, *a.paper));
  expect_all(b, 2, 0);
}

TEST_F(RetentionLock, everything_that_is_needed_is_locked_for_a_whole_period_after_each_run) {
  back_up(0);
  EXPECT_EQ(store.kept, 0U);
  ASSERT_OK(set(kPeriod));
  std::uint64_t calls = 0;
  for (int n = 1; n < 30; ++n) {
    pass(4 * kDay);
    back_up(n);
    for (const auto& [name, times] : store.times)
      if (!name.starts_with("probe/")) {
        EXPECT_GE(times.until.ns, store.now.ns + kPeriod) << name << " after run " << n;
        EXPECT_LE(times.until.ns, store.now.ns + 2 * kPeriod) << name << " after run " << n;
      }
    calls = std::max(calls, store.kept);
    store.kept = 0;
    // Within a half period only what is new costs a call.
    back_up(n);
    EXPECT_LT(store.kept, 30U);
    store.kept = 0;
  }
  EXPECT_GT(calls, 100U);
}

TEST_F(RetentionLock, what_another_machine_put_and_did_not_lock_is_locked_too) {
  ASSERT_OK(set(kPeriod));
  back_up(0);
  ASSERT_OK(b.recover(store, *a.paper));  // locks nothing
  back_up(1);
  for (const auto& [name, times] : store.times)
    EXPECT_TRUE(name.starts_with("probe/") || times.until > store.now) << name;
}

TEST_F(RetentionLock, ENG_16_a_clock_that_jumps_locks_and_removes_nothing) {
  ASSERT_OK(set(kPeriod));
  std::vector<Snapshot> made;
  for (int n = 0; n < 3; ++n) made.push_back(back_up(n));
  ASSERT_OK(a.drop(store, made[0]));
  pass(kPeriod + kDay);
  ASSERT_OK(a.prune(store, {}));  // condemned
  const std::size_t packs = count("packs/");
  const auto before = store.times;
  const std::int64_t years = 3653 * kDay;
  for (const std::int64_t jump : {years, -years, kDay, -kDay}) {
    store.now.ns += jump;  // the store's, and then this machine's
    const auto pruned = a.prune(store, {});
    ASSERT_FALSE(pruned);
    EXPECT_EQ(pruned.error().code, Code::denied);
    EXPECT_THAT(pruned.error().what, HasSubstr("the store's clock says"));
    store.now.ns -= jump;
    a.clock.now_ns = store.now.ns + jump;
    EXPECT_FALSE(a.prune(store, {}));
    a.clock.now_ns = store.now.ns;
    // Reading goes by the earlier clock: nothing that is held ends.
    store.now.ns += std::max<std::int64_t>(jump, 0);
    const auto client = a.open(store);
    ASSERT_OK(client);
    ASSERT_OK((*client)->repository().heads());
    EXPECT_FALSE((*client)->repository().collections().done(1));
    store.now.ns -= std::max<std::int64_t>(jump, 0);
  }
  EXPECT_EQ(count("packs/"), packs);
  for (const auto& [name, times] : before) EXPECT_EQ(store.times.at(name).until, times.until);
}

TEST_F(RetentionLock, ENG_16_a_backup_beside_a_wrong_clock_stands_and_says_that_it_is_not_locked) {
  ASSERT_OK(set(kPeriod));
  back_up(0);
  a.clock.now_ns += 3653 * kDay;
  const auto client = a.open(store);
  ASSERT_OK(client);
  const auto heads = (*client)->repository().heads();
  ASSERT_OK(heads);
  a.tree["a/one"].content = "new";
  a.tree["a/one"].version = 99;
  SimSource source(a.tree);
  SimOwners owners;
  BackupProgress progress;
  BackupOptions options;
  options.paths = {"/a"};
  options.workers = 0;
  const auto report =
      backup((*client)->repository(), *heads, source, owners, options, progress, Stop());
  ASSERT_OK(report);
  ASSERT_TRUE(report->snapshot);
  ASSERT_EQ(report->warnings.size(), 1U);
  EXPECT_THAT(report->warnings[0], HasSubstr("not all of it is locked yet"));
}

TEST_F(RetentionLock,
       it_is_refused_where_nothing_enforces_it_and_shortened_by_the_paper_key_alone) {
  MemoryStore folder;
  Machine c(3, "c");
  ASSERT_OK(c.init(folder));
  {
    const auto client = c.open(folder);
    ASSERT_OK(client);
    const auto refused = set_retention_lock(folder, c.home(), **client, 100, nullptr);
    ASSERT_FALSE(refused);
    EXPECT_EQ(refused.error().code, Code::denied);
    EXPECT_THAT(refused.error().what, HasSubstr("cannot enforce a retention lock"));
  }
  ASSERT_OK(set(kPeriod));
  const auto shorter = set(kPeriod / 2);
  ASSERT_FALSE(shorter);
  EXPECT_EQ(shorter.error().code, Code::denied);
  EXPECT_THAT(shorter.error().what, HasSubstr("paper key"));
  ASSERT_OK(set(kPeriod / 2, &*a.paper));
  const auto client = a.open(store);
  ASSERT_OK(client);
  EXPECT_EQ((*client)->repository().parts().lock.period_ns, kPeriod / 2);
  EXPECT_FALSE(set(kPeriod, &*c.paper)) << "another account's paper key";
}

// Heads of one device that contradict each other: nobody may be kept from what can be read.
TEST_F(RetentionLock, RNS_01_contradicting_heads_are_an_alarm_that_reading_can_pass_over) {
  ASSERT_OK(set(kPeriod));
  Snapshot first = back_up(0);
  back_up(1);
  {
    const auto client = a.open(store);
    ASSERT_OK(client);
    const RepositoryParts& parts = (*client)->repository().parts();
    first.previous = first.id;  // as if it followed the first one, as the second does
    first.previous_number = first.number;
    first.number = 7;
    ASSERT_OK(store.put(head_name(first.device, 7),
                        seal_head(first, parts.keys, parts.signer, parts.random).object));
  }
  ASSERT_OK(b.recover(store, *a.paper));
  {
    const auto client = b.open(store);
    ASSERT_OK(client);
    const auto heads = (*client)->repository().heads();
    ASSERT_FALSE(heads);
    EXPECT_EQ(heads.error().code, Code::alarm);
  }
  b.despite_alarm = true;
  const auto client = b.open(store);
  ASSERT_OK(client);
  const auto heads = (*client)->repository().heads();
  ASSERT_OK(heads);
  EXPECT_EQ(heads->snapshots.size(), 3U);
  ASSERT_EQ(heads->damaged.size(), 1U);
  EXPECT_THAT(heads->damaged[0], HasSubstr("ALARM, passed over: heads of device"));
  ASSERT_OK((*client)->repository().sync_index(*heads, Stop()));
  for (const Snapshot& s : heads->snapshots)
    if (trees.contains(s.id)) {
      EXPECT_EQ(read_back((*client)->repository(), s).value(), trees[s.id]);
    }
}

TEST(LockedUntil, at_least_one_period_and_at_most_one_and_a_half) {
  SeededRandom random(4);
  for (int n = 0; n < 1000; ++n) {
    const auto period = static_cast<std::int64_t>(random.below(1ULL << 58)) + 1;
    const Time now{static_cast<std::int64_t>(random.below(1ULL << 61))};
    const Time until = locked_until(now, period);
    EXPECT_GE(until.ns - now.ns, period - 1);
    EXPECT_LE(until.ns - now.ns, period / 2 * 3 + 3);
    // The same all through a half period: locking again changes nothing.
    const std::int64_t half = std::max<std::int64_t>(period / 2, 1);
    EXPECT_EQ(locked_until({now.ns / half * half}, period), until);
  }
}

}  // namespace
}  // namespace holdfast::sim
