// SPDX-License-Identifier: Apache-2.0
// Machines of a simulated world: a home in memory, a tree in memory, and the real client and engine
// between them and a store. Everything follows from one seed.
#pragma once

#include <map>
#include <string>

#include "base/memory_folder.h"
#include "base/seeded_random.h"
#include "client/client.h"
#include "repo/backup.h"
#include "repo/prune.h"
#include "repo/repair.h"
#include "store/memory_store.h"

namespace holdfast::sim {

class SimClock : public Clock {
 public:
  Time now() override { return {now_ns += 1'000'000'000}; }
  std::int64_t steady_ns() override { return now_ns += 1000; }
  void sleep_ns(std::int64_t ns) override { now_ns += ns; }
  std::int64_t now_ns = 1'790'000'000'000'000'000;
};

struct SimFile {
  std::string content;
  std::uint64_t version = 0;  // its mtime and ctime
  std::uint32_t uid = 1000;
  std::uint32_t nanoseconds = 5;  // of its times
  bool operator==(const SimFile&) const = default;
};
// Absolute paths without the leading '/'. Directories follow from them.
using SimTree = std::map<std::string, SimFile>;

class SimSource : public Source {
 public:
  explicit SimSource(const SimTree& tree);
  Result<const Entry*> next() override;
  Result<> complete(Entry&) override { return {}; }
  Result<> open() override;
  Result<ReadPiece> read(MutableByteSpan buffer) override;
  Result<bool> finish(Entry& entry) override;
  [[nodiscard]] const std::vector<Unreadable>& unreadable() const override { return unreadable_; }
  [[nodiscard]] std::uint64_t unreadable_count() const override { return 0; }

 private:
  const SimTree& tree_;
  std::vector<Entry> entries_;
  std::size_t next_ = 0, read_ = 0;
  const SimFile* file_ = nullptr;
  std::vector<Unreadable> unreadable_;
};

class SimOwners : public OwnerNames {
 public:
  std::string user(std::uint32_t uid) override { return "u" + std::to_string(uid); }
  std::string group(std::uint32_t gid) override { return "g" + std::to_string(gid); }
};

class Machine {
 public:
  Machine(std::uint64_t seed, std::string called) : random(seed), name(std::move(called)) {}
  Home home() { return {keys, state, cache}; }
  // A new account, its paper key kept in `paper`.
  Result<InitReport> init(ObjectStore& store);
  Result<RecoverReport> recover(ObjectStore& store, const PaperKey& paper, bool read_only = false);
  Result<std::unique_ptr<Client>> open(ObjectStore& store);
  // The whole command: open, heads, index, session, head. The snapshot is what would be reported to
  // the user.
  Result<Snapshot> backup(ObjectStore& store);
  Result<> drop(ObjectStore& store, const Snapshot& snapshot);
  Result<PruneReport> prune(ObjectStore& store, const PruneOptions& options);
  using Repair = Result<RepairReport> (*)(Repository&, const RepairOptions&, RepairProgress&,
                                          const Stop&);
  // repair_index and so on.
  Result<RepairReport> repair(ObjectStore& store, Repair what, bool apply);
  // The process or the machine dies; what was not durable is gone.
  void crash() {
    keys.crash();
    state.crash();
    cache.crash();
  }

  MemoryFolder keys, state, cache;
  SeededRandom random;
  SimClock clock;
  std::string name;
  SimTree tree;
  std::optional<PaperKey> paper;
  ListLimits list_limits;
  bool accept_rollback = false, despite_alarm = false;  // of the next open()
};

// Files with a chunk each: so many that the index writes a segment.
void add_many(SimTree& tree, const std::string& called);
// One bit of the byte `at`, as a disk does it; beyond the end it is counted from the beginning
// again.
void flip(MemoryStore& store, const std::string& name, std::size_t at = 100);
// A record of a collection with nothing in it.
CollectionRecord empty_record(const DeviceId& by, std::uint64_t number);
// It decides a session: a head, or a word that it was given up.
bool is_outcome(std::string_view name);
// What the machine's index knows after a look at the store; names of the data packs among them.
std::vector<IndexedPack> packs(Machine& machine, ObjectStore& store);
std::vector<std::string> data_packs(Machine& machine, ObjectStore& store);

// A store in front of another one, for worlds in which only listing is special.
class ListingStore : public ObjectStore {
 public:
  using Visit = std::function<Result<>(const ObjectInfo&)>;
  explicit ListingStore(ObjectStore& inner) : inner_(inner) {}
  Result<> put(std::string_view name, ByteSpan bytes) override { return inner_.put(name, bytes); }
  Result<Bytes> get(std::string_view name, std::uint64_t size_max) override {
    return inner_.get(name, size_max);
  }
  Result<> get_range(std::string_view name, std::uint64_t offset, MutableByteSpan out) override {
    return inner_.get_range(name, offset, out);
  }
  Result<std::uint64_t> size(std::string_view name) override { return inner_.size(name); }
  Result<> list(std::string_view prefix, const Visit& visit) override {
    HF_TRY(inner_.list(prefix, visit));
    return listed(prefix, visit);
  }
  Result<> remove(std::string_view name) override { return inner_.remove(name); }

 protected:
  // After the inner store listed all that it has.
  virtual Result<> listed(std::string_view prefix, const Visit& visit) = 0;

 private:
  ObjectStore& inner_;
};

// What the store lists, sorted.
std::vector<std::string> object_names(ObjectStore& store, std::string_view prefix);

// Everything of a snapshot by way of tree, lists, index, packs.
Result<SimTree> read_back(Repository& repository, const Snapshot& snapshot);

// What a user was told.
struct Reported {
  SnapshotId id;
  SimTree tree;
};
// From a new machine with nothing but the paper key: no damage is found, and everything that was
// reported comes back as it was. The error says what does not.
Result<> verify(ObjectStore& store, const PaperKey& paper, std::uint64_t seed,
                const std::vector<Reported>& reported);

// An environment variable that is a number.
std::uint64_t setting(const char* name, std::uint64_t otherwise);

// A tree of about `files` small files and one larger; changes to it.
SimTree make_tree(SeededRandom& random, std::size_t files);
void change_tree(SimTree& tree, SeededRandom& random);

}  // namespace holdfast::sim
