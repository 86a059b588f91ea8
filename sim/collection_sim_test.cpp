// SPDX-License-Identifier: Apache-2.0
// Backup, forget, prune and repair of three machines at once, interleaved at every call to the
// store, which crashes, answers late, fails, or lies. Invariant: every snapshot that was reported
// done, and that nobody dropped, restores in full from a machine with nothing but the paper key.
// docs/formats/collection.md. HOLDFAST_SIM_SEEDS and HOLDFAST_SIM_FIRST choose the seeds; a failure
// prints its seed. The report counts the seeds in which each thing happened; none may be zero.
#include <gtest/gtest.h>

#include <condition_variable>
#include <deque>
#include <set>
#include <thread>

#include "machine.h"
#include "repo/prune.h"
#include "store/memory_store.h"

namespace holdfast::sim {
namespace {

// Seeds in which it happened, by name.
using Coverage = std::map<std::string, std::uint64_t>;

// Lets one client at a time go on, from one call to the store to the next; who is next follows from
// the seed.
class Turns {
 public:
  Turns(std::uint64_t seed, std::size_t clients)
      : random_(seed), waiting_(clients, false), go_(clients) {}

  void wait(std::size_t client) {
    std::unique_lock lock(mutex_);
    waiting_[client] = true;
    running_ = kNobody;
    choose();
    go_[client].wait(lock, [&] { return running_ == client; });
    waiting_[client] = false;
  }
  void leave() {
    const std::lock_guard lock(mutex_);
    ++gone_;
    running_ = kNobody;
    choose();
  }
  // What a crashed client had sent, and what arrives when it is long gone.
  void later(std::function<void()> effect) { late_.push_back(std::move(effect)); }
  void deliver_all() {
    while (!late_.empty()) deliver();
  }

 private:
  static constexpr std::size_t kNobody = SIZE_MAX;

  void deliver() {
    const auto effect = std::move(late_.front());
    late_.pop_front();
    effect();
  }
  void choose() {
    std::vector<std::size_t> ready;
    for (std::size_t i = 0; i < waiting_.size(); ++i)
      if (waiting_[i]) ready.push_back(i);
    if (ready.size() + gone_ < waiting_.size() || ready.empty()) return;
    if (!late_.empty() && random_.below(16) == 0) deliver();
    // Mostly the same one goes on, so that runs of one client are long and short ones.
    if (random_.below(4) == 0 || last_ == kNobody || !waiting_[last_])
      last_ = ready[random_.below(ready.size())];
    running_ = last_;
    go_[last_].notify_one();
  }

  std::mutex mutex_;
  SeededRandom random_;
  std::vector<bool> waiting_;
  std::vector<std::condition_variable> go_;  // one for each client
  std::size_t running_ = kNobody, last_ = kNobody, gone_ = 0;
  std::deque<std::function<void()>> late_;
};

std::string kind_of(std::string_view name) {
  for (const std::string_view suffix : {".open", ".gen", ".dropped", ".done"})
    if (name.ends_with(suffix)) return std::string(suffix);
  return std::string(name.substr(0, name.find('/')));
}

// What goes wrong in one command.
struct Trouble {
  std::uint64_t crash_at = UINT64_MAX;                                          // call
  std::uint64_t crash_at_change = UINT64_MAX;                                   // put or remove
  enum class Effect : std::uint8_t { none, done, late } effect = Effect::none;  // of that call
  std::uint64_t lie_at = UINT64_MAX;   // put: Ok, and nothing is there
  std::uint64_t fail_at = UINT64_MAX;  // call: unavailable
  bool failed_after_effect = false;
};

// One client's way to the shared store.
class ClientStore : public ObjectStore {
 public:
  ClientStore(MemoryStore& inner, Turns& turns, std::size_t client, Coverage& seen)
      : inner_(inner), turns_(turns), client_(client), seen_(seen) {}

  void begin(std::string command, const Trouble& trouble) {
    command_ = std::move(command);
    trouble_ = trouble;
    calls_ = puts_ = changes_ = 0;
    crashed_ = lied_ = false;
  }
  [[nodiscard]] const std::string& command() const { return command_; }
  [[nodiscard]] bool crashed() const { return crashed_; }
  [[nodiscard]] bool lied() const { return lied_; }

  Result<> put(std::string_view name, ByteSpan bytes) override {
    const bool lie = puts_++ == trouble_.lie_at;
    const auto effect = [&inner = inner_, n = std::string(name),
                         b = Bytes(bytes.begin(), bytes.end())] {  // may outlive this client
      return inner.put(n, b);
    };
    if (lie && !crashed_) {
      lied_ = true;
      ++seen_["lie: " + command_ + " " + kind_of(name)];
      return {};
    }
    return call("put " + kind_of(name), effect);
  }
  Result<Bytes> get(std::string_view name, std::uint64_t size_max) override {
    HF_TRY(call("get", [] { return Result<>(); }));
    return inner_.get(name, size_max);
  }
  Result<> get_range(std::string_view name, std::uint64_t offset, MutableByteSpan out) override {
    HF_TRY(call("get", [] { return Result<>(); }));
    return inner_.get_range(name, offset, out);
  }
  Result<std::uint64_t> size(std::string_view name) override {
    HF_TRY(call("size", [] { return Result<>(); }));
    return inner_.size(name);
  }
  Result<> list(std::string_view prefix,
                const std::function<Result<>(const ObjectInfo&)>& visit) override {
    HF_TRY(call("list", [] { return Result<>(); }));
    return inner_.list(prefix, visit);
  }
  Result<> remove(std::string_view name) override {
    return call("remove " + kind_of(name),
                [&inner = inner_, n = std::string(name)] { return inner.remove(n); });
  }

 private:
  Result<> call(const std::string& what, const std::function<Result<>()>& effect) {
    if (crashed_) return fail(Code::unavailable, "crashed");
    turns_.wait(client_);
    const std::uint64_t number = calls_++;
    const bool change = !what.starts_with("get") && what != "size" && what != "list";
    if (number == trouble_.crash_at || (change && changes_++ == trouble_.crash_at_change)) {
      crashed_ = true;
      ++seen_["crash: " + command_ + " " + what];
      using Effect = Trouble::Effect;
      if (trouble_.effect == Effect::done) [[maybe_unused]]
        const auto done = effect();
      if (trouble_.effect == Effect::late) {
        ++seen_["late: " + what];
        turns_.later([effect] { [[maybe_unused]] const auto done = effect(); });
      }
      return fail(Code::unavailable, "crashed");
    }
    if (number == trouble_.fail_at) {
      if (trouble_.failed_after_effect) [[maybe_unused]]
        const auto done = effect();
      return fail(Code::unavailable, "no answer");
    }
    return effect();
  }

  MemoryStore& inner_;
  Turns& turns_;
  const std::size_t client_;
  Coverage& seen_;
  std::string command_;
  Trouble trouble_;
  std::uint64_t calls_ = 0, puts_ = 0, changes_ = 0;
  bool crashed_ = false, lied_ = false;
};

constexpr std::uint64_t kSeedsThatMeetAll = 1000;
constexpr std::size_t kClients = 3, kCommands = 8;  // of each client

class World {
 public:
  World(std::uint64_t seed, Coverage& seen)
      : seed_(seed), random_(seed), turns_(seed * 7 + 1, kClients), seen_(seen) {
    for (std::size_t i = 0; i < 10; ++i) pool_.push_back(content(i));
    for (std::size_t i = 0; i < kClients; ++i) {
      machines_.push_back(std::make_unique<Machine>(seed * 16 + i, "m" + std::to_string(i)));
      churn(machines_.back()->tree, random_);
    }
  }

  void run() {
    ASSERT_TRUE(machines_[0]->init(store_));
    for (std::size_t i = 1; i < kClients; ++i)
      ASSERT_TRUE(machines_[i]->recover(store_, *machines_[0]->paper));
    std::vector<std::thread> threads;
    for (std::size_t i = 0; i < kClients; ++i)
      threads.emplace_back([this, i] {
        turns_.wait(i);
        client(i);
        turns_.leave();
      });
    for (std::thread& t : threads) t.join();
    turns_.deliver_all();
    std::erase_if(reported_, [&](const Reported& r) { return dropped_.contains(r.id); });
    const auto held = verify(store_, *machines_[0]->paper, random_.next(), reported_);
    ASSERT_TRUE(held) << held.error().what;
  }

 private:
  // Some bytes that come and go on all machines.
  std::string content(std::size_t number) {
    SeededRandom random(seed_ * 100 + number);
    std::string out(500 + random.below(3000), '\0');
    for (char& c : out) c = static_cast<char>(random.next());
    return out;
  }

  void churn(SimTree& tree, SeededRandom& random) {
    for (std::size_t i = 0; i < 3; ++i) {
      const std::string path =
          "d" + std::to_string(random.below(2)) + "/f" + std::to_string(random.below(4));
      if (random.below(3) == 0)
        tree.erase(path);
      else
        tree[path] = {pool_[random.below(pool_.size())], random.next() % 100'000, 1000};
    }
    if (tree.empty()) tree["d0/f0"] = {pool_[0], random.next() % 100'000, 1000};
  }

  void client(std::size_t number) {
    Machine& machine = *machines_[number];
    SeededRandom random(seed_ * 31 + number);
    ClientStore store(store_, turns_, number, seen_);
    for (std::size_t i = 0; i < kCommands && !failed_; ++i) {
      const std::uint64_t fate = random.below(22);
      const Trouble trouble = make_trouble(random);
      Result<> result;
      if (fate < 9 || i == 0) {
        if (random.below(3) != 0) churn(machine.tree, random);
        store.begin("backup", trouble);
        result = backup(machine, store);
      } else if (fate < 13) {
        store.begin("forget", trouble);
        result = forget(machine, store, random);
      } else if (fate < 19) {
        store.begin("prune", trouble);
        result = collect(machine, store, random);
      } else if (fate < 20) {
        store.begin("read", {});
        result = read(machine, store, random);
      } else {
        store.begin("repair", trouble);
        result = repair(machine, store, random);
      }
      if (!result) note_failure(number, result.error(), store);
      if (store.crashed()) machine.crash();
    }
  }

  Trouble make_trouble(SeededRandom& random) {
    Trouble trouble;
    const std::uint64_t kind = random.below(10);
    if (kind < 4) {
      // Looks are many and changes are few.
      if (kind < 2)
        trouble.crash_at = random.below(kind == 0 ? 120 : 40);
      else
        trouble.crash_at_change = random.below(10);
      trouble.effect = static_cast<Trouble::Effect>(random.below(3));
    } else if (kind == 4) {
      trouble.lie_at = random.below(8);
    } else if (kind == 5) {
      trouble.fail_at = random.below(60);
      trouble.failed_after_effect = random.below(2) == 0;
    }
    return trouble;
  }

  // What may go wrong: that the store did not answer, was caught lying, or that others were faster.
  void note_failure(std::size_t number, const Error& error, const ClientStore& store) {
    if (error.code == Code::unavailable || error.code == Code::conflict) return;
    // Of a repair: another one comes first, as packs of sessions that were given up are not listed.
    if (error.code == Code::denied && store.command() == "repair") return;
    if (store.lied()) {
      ++seen_["lie noticed"];
      return;
    }
    failed_ = true;
    ADD_FAILURE() << "machine " << number << ": " << store.command() << ": " << error.what;
  }

  Result<> backup(Machine& machine, ClientStore& store) {
    for (int tries = 0; tries < 4; ++tries) {
      const bool all_known = std::ranges::all_of(
          machine.tree, [&](const auto& file) { return stored_.contains(file.second.content); });
      const bool condemned = collections_open();
      auto snapshot = machine.backup(store);
      if (snapshot) {
        if (all_known && condemned && snapshot->statistics.chunks_new > 0)
          ++seen_["live chunks beside a condemned pack are stored again"];
        for (const auto& [path, file] : machine.tree) stored_.insert(file.content);
        reported_.push_back({snapshot->id, machine.tree});
        ++seen_["backup"];
        return {};
      }
      if (!snapshot.error().what.starts_with(kGivenUp)) return std::unexpected(snapshot.error());
      ++seen_["a session that was given up began again"];
    }
    return {};
  }

  Result<> forget(Machine& machine, ClientStore& store, SeededRandom& random) {
    HF_ASSIGN(const auto client, machine.open(store));
    HF_ASSIGN(const HeadList heads, client->repository().heads());
    if (heads.snapshots.empty()) return {};
    const Snapshot& snapshot = heads.snapshots[random.below(heads.snapshots.size())];
    const bool newest = std::ranges::none_of(heads.snapshots, [&](const Snapshot& s) {
      return s.device == snapshot.device && s.number > snapshot.number;
    });
    if (newest) return {};
    dropped_.insert(snapshot.id);  // from here on it may happen
    HF_TRY(drop_snapshot(client->repository(), heads, snapshot, "sim"));
    ++seen_["forget"];
    return {};
  }

  Result<> collect(Machine& machine, ClientStore& store, SeededRandom& random) {
    PruneOptions options;
    options.unused_max = random.below(3) == 0 ? 0.3 : 0;
    options.give_up_after_ns = random.below(2) == 0 ? 0 : INT64_MAX;
    HF_ASSIGN(const PruneReport report, machine.prune(store, options));
    if (report.packs_deleted > 0) ++seen_["prune deletes"];
    if (report.plan.packs_repacked > 0) ++seen_["prune repacks"];
    if (report.packs_rescued > 0) ++seen_["a condemned pack is found used"];
    if (report.sessions_given_up > 0) ++seen_["prune gives up a session"];
    if (!report.waiting.empty()) ++seen_["prune waits"];
    if (report.finished > 1) ++seen_["prune ends an older collection"];
    if (report.overtaken > 0) ++seen_["a slow pruner acts on a record that another one ended"];
    return {};
  }

  // Nothing was lost: beside all the others it must do no harm.
  Result<> repair(Machine& machine, ClientStore& store, SeededRandom& random) {
    constexpr std::array<Machine::Repair, 4> all = {repair_index, repair_packs, repair_snapshots,
                                                    recover_snapshots};
    HF_ASSIGN(const RepairReport report, machine.repair(store, all[random.below(4)], true));
    ++seen_["repair"];
    if (report.packs_listed > 0) ++seen_["repair lists packs of a session"];
    return {};
  }

  Result<> read(Machine& machine, ClientStore& store, SeededRandom& random) {
    if (reported_.empty()) return {};
    const Reported wanted = reported_[random.below(reported_.size())];
    const std::uint64_t before = ended();
    HF_ASSIGN(const auto client, machine.open(store));
    HF_ASSIGN(const HeadList heads, client->repository().heads());
    const Stop stop;
    HF_ASSIGN(const auto damaged, client->repository().sync_index(heads, stop));
    const auto found = std::ranges::find(heads.snapshots, wanted.id, &Snapshot::id);
    if (found == heads.snapshots.end()) return {};
    const auto tree = read_back(client->repository(), *found);
    if (tree) {
      EXPECT_EQ(*tree, wanted.tree);
      ++seen_["read"];
    } else if (before == ended()) {  // else what it wanted to read was moved away meanwhile
      return std::unexpected(tree.error());
    }
    return {};
  }

  // A record without .done.
  bool collections_open() {
    const auto names = object_names(store_, "gc/");
    return static_cast<std::size_t>(std::ranges::count_if(
               names, [](const std::string& n) { return n.ends_with(".done"); })) *
               2 <
           names.size();
  }

  std::uint64_t ended() {
    std::uint64_t count = 0;
    for (const std::string& name : object_names(store_, "gc/")) count += name.ends_with(".done");
    return count;
  }

  const std::uint64_t seed_;
  SeededRandom random_;
  Turns turns_;
  Coverage& seen_;
  MemoryStore store_;
  std::vector<std::string> pool_;
  std::vector<std::unique_ptr<Machine>> machines_;
  std::vector<Reported> reported_;
  std::set<SnapshotId> dropped_;
  std::set<std::string> stored_;  // contents of snapshots that were reported
  bool failed_ = false;
};

TEST(CollectionSim, every_reported_snapshot_restores_whatever_is_collected) {
  const std::uint64_t first = setting("HOLDFAST_SIM_FIRST", 1),
                      count = setting("HOLDFAST_SIM_SEEDS", 40);
  Coverage total;
  for (std::uint64_t seed = first; seed < first + count; ++seed) {
    SCOPED_TRACE("seed " + std::to_string(seed));
    Coverage seen;
    World(seed, seen).run();
    for (const auto& [what, times] : seen) total[what] += times > 0 ? 1 : 0;
    if (HasFailure())
      FAIL() << "seed " << seed << ": replay with HOLDFAST_SIM_FIRST=" << seed
             << " HOLDFAST_SIM_SEEDS=1";
  }
  for (const auto& [what, seeds] : total)
    std::printf("%8llu seeds: %s\n", static_cast<unsigned long long>(seeds), what.c_str());
  if (count < kSeedsThatMeetAll) return;
  for (const char* what : {"crash: backup put .open",
                           "crash: backup put .gen",
                           "crash: backup put packs",
                           "crash: backup put lists",
                           "crash: backup put heads",
                           "crash: forget put .dropped",
                           "crash: prune put packs",
                           "crash: prune put lists",
                           "crash: prune put gc",
                           "crash: prune put heads",
                           "crash: prune put .done",
                           "crash: prune remove packs",
                           "late: put packs",
                           "late: put heads",
                           "late: put gc",
                           "late: put .done",
                           "lie noticed",
                           "prune deletes",
                           "prune repacks",
                           "prune waits",
                           "prune gives up a session",
                           "prune ends an older collection",
                           "a condemned pack is found used",
                           "a slow pruner acts on a record that another one ended",
                           "live chunks beside a condemned pack are stored again",
                           "repair",
                           "a session that was given up began again"})
    EXPECT_GT(total[what], 0U) << what << ": in no seed";
}

}  // namespace
}  // namespace holdfast::sim
