// SPDX-License-Identifier: Apache-2.0
// One repository as a device sees it: verified heads, what the home remembers of them, the index,
// and sessions.
#pragma once

#include <memory>
#include <mutex>
#include <set>
#include <unordered_set>

#include "repo/chunk_reader.h"
#include "repo/head.h"

namespace holdfast {

// What a store may list (DOS-04): heads with their session records, packs and lists of packs.
struct ListLimits {
  std::uint64_t heads = 4U << 20, packs = 64U << 20, lists = 16U << 20;
};

// What a repository is opened with; all of it outlives the repository.
struct RepositoryParts {
  ObjectStore& store;
  LocalFolder& state;  // must not be lost: newest heads seen, the running session
  LocalFolder& cache;  // may be deleted at any time
  const RepositoryKeys& keys;
  DeviceKeyLookup devices;
  // Compares the chain position and hash that a head names with the verified chain: Code::alarm
  // when the chain is shorter or another (fork, or a chain that was cut off).
  std::function<Result<>(std::uint64_t position, const EntryHash& hash)> check_chain;
  // The newest entry of that chain: what new heads name.
  std::uint64_t chain_position;
  EntryHash chain_hash;
  DeviceId device;  // this one
  const Signer& signer;
  Random& random;
  Clock& clock;
  IndexLimits index_limits;
  ReaderLimits reader_limits;
  ListLimits list_limits;
};

struct HeadList {
  std::vector<Snapshot> snapshots;   // by end time, then device and number
  std::vector<std::string> damaged;  // heads that cannot be read: name and why
};

// The packs of the index, by name, and the size that the store lists of each: none when it does
// not.
struct PackListing {
  std::vector<IndexedPack> packs;
  std::vector<std::optional<std::uint64_t>> sizes;
};

// Adapts ChunkReader to what trees are read from.
class ChunkNodeSource : public NodeSource {
 public:
  explicit ChunkNodeSource(ChunkReader& reader) : reader_(reader) {}
  Result<Bytes> get(const ChunkId& id, ChunkType type) override;

 private:
  ChunkReader& reader_;
};

// Thread-safe where it says so; else one thread.
class Repository {
 public:
  static Result<std::unique_ptr<Repository>> open(RepositoryParts parts);

  // Reads and verifies every head, compares with what this home remembers and remembers the new
  // ones. Code::alarm: a head that was seen is gone, older or another (rollback, fork), or a head
  // is missing in a device's sequence. Names that no head can have are passed over: something else
  // may sync the folder and leave its own there.
  Result<HeadList> heads();
  // Brings the local index up to date with the packs that accepted heads list. `heads` from
  // heads(). A pack whose table cannot be read is named in the result and left out.
  Result<std::vector<std::string>> sync_index(const HeadList& heads, const Stop& stop);

  [[nodiscard]] Index& index() { return *index_; }
  [[nodiscard]] ChunkReader& reader() { return *reader_; }  // thread-safe
  [[nodiscard]] NodeSource& nodes() { return *nodes_; }     // thread-safe
  [[nodiscard]] const RepositoryParts& parts() const { return parts_; }

  // `other` is called for what the store lists and the index does not have.
  Result<PackListing> list_packs(const Stop& stop,
                                 const std::function<void(const ObjectInfo&)>& other);
  // Packs that nothing may be deduplicated against: those of other devices of which a random sample
  // did not hold what their tables say, and those that a check found damaged. Packs that the store
  // does not list any more are forgotten. `warnings` names all of that.
  Result<std::unordered_set<ObjectHash, IdHash>> unreliable_packs(
      const Stop& stop, std::vector<std::string>& warnings);
  // What a check found, for unreliable_packs(): of the packs that it read whole.
  Result<> note_damaged(const std::vector<ObjectHash>& damaged,
                        const std::vector<ObjectHash>& whole);

 private:
  friend class Session;
  explicit Repository(RepositoryParts parts);
  Result<HeadList> read_heads();
  Result<> sample_other_devices(std::unordered_set<ObjectHash, IdHash>& unreliable,
                                std::vector<std::string>& warnings);
  Result<> forget_missing_packs(const Stop& stop, std::vector<std::string>& warnings);
  Result<std::vector<ListedPack>> read_list(const PackListRef& ref);
  Result<std::vector<IndexedPack>> read_journal();
  RepositoryParts parts_;
  std::unique_ptr<Index> index_;
  std::unique_ptr<ChunkReader> reader_;
  std::unique_ptr<ChunkNodeSource> nodes_;
};

// How the message of Session::begin's Code::conflict begins: the lock was another process's.
inline constexpr std::string_view kAnotherBackupRuns = "another backup of this home is running";

// One backup's right to write, from .open to the head. docs/formats/repository.md, "Sessions".
class Session {
 public:
  // Takes the next number, or the one that an interrupted run left, and makes number and nonce
  // durable in the home before anything is put. Code::conflict: another process of this home
  // writes. Code::alarm: another nonce stands there, or this device has heads that the home does
  // not know: the home was copied or rolled back (ENG-09).
  static Result<std::unique_ptr<Session>> begin(Repository& repository, const HeadList& heads);
  [[nodiscard]] std::uint64_t number() const { return record_.number; }
  [[nodiscard]] const Hash256& nonce() const { return record_.nonce; }
  // Makes the name of a pack that is durable in the store durable in the home. Thread-safe.
  Result<> journal(const IndexedPack& pack);
  // Packs that an interrupted run of this session put before.
  [[nodiscard]] const std::vector<IndexedPack>& earlier_packs() const { return earlier_; }
  // Puts the lists, then the head; fills in what the session knows (device, number, previous,
  // nonce, epoch, lists). The snapshot stands when this is Ok, and not otherwise; what the home
  // could not note after that is in `warnings`, and is made good by the next run.
  Result<Snapshot> commit(Snapshot snapshot, std::vector<IndexedPack> packs,
                          std::vector<std::string>& warnings);

 private:
  Session(Repository& repository, std::unique_ptr<LocalLock> lock);
  Result<> find_newest(const HeadList& heads);
  Result<> put_open_record();
  Result<> put_generation_record();
  Result<> load_journal();
  Result<> note_end(const Snapshot& snapshot);
  Repository& repository_;
  std::unique_ptr<LocalLock> lock_;
  SessionRecord record_;
  std::optional<Snapshot> newest_;  // of this device
  std::vector<IndexedPack> earlier_;
  std::mutex mutex_;
};

}  // namespace holdfast
