// SPDX-License-Identifier: Apache-2.0
// One repository as a device sees it: verified heads, what the home remembers of them, the index,
// and sessions.
#pragma once

#include <memory>
#include <mutex>
#include <set>
#include <unordered_set>

#include "repo/chunk_reader.h"
#include "repo/collection.h"

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
  // Less than this home saw is no alarm: for a repair that its user told to go on from there.
  bool accept_rollback = false;
  // Contradictions in what the store shows are named and passed over, for reading what can be read.
  bool despite_alarm = false;
  RetentionLock lock;
};

struct HeadSequences;  // private to repository.cpp
struct HeadList {
  std::vector<Snapshot> snapshots;   // by end time, then device and number
  std::vector<std::string> damaged;  // heads and stubs that cannot be read: name and why
  std::vector<Snapshot> dropped;     // that stand still, and do not count any more
  std::map<HeadRef, Time> held;      // of these, until when the retention lock holds them
  [[nodiscard]] bool is_held(const Snapshot& s) const {
    return held.contains({s.device, s.number});
  }
  std::uint64_t collections = 0;  // Collections::state() before they were read
  std::vector<HeadRef> damaged_stubs;
  std::vector<std::string> leftovers;  // records beside heads that are gone
  // What the next head of a device follows: its newest one, also of those that only a stub tells
  // of.
  struct Newest {
    std::uint64_t number = 0;
    SnapshotId id;
  };
  std::map<DeviceId, Newest> newest;
};

// A head that is known of and is not there, or is damaged.
struct MissingHead {
  HeadRef at;
  SnapshotId id;
  // The newest one below it that is there: number 0 for none.
  std::uint64_t before_number = 0;
  SnapshotId before;
  // Nothing newer of its device is there: the store may show an older state of itself.
  bool rollback = false;
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
  // The same for a repair: what is missing is in `missing` and no alarm; a fork is one.
  Result<HeadList> heads_with_gaps(std::vector<MissingHead>& missing);
  // What lists that count and can be read name, each pack once, without those that are gone.
  Result<std::vector<ListedPack>> listed_packs(const HeadList& heads, const Stop& stop);
  // Lists that count and are lost or damaged.
  Result<std::vector<PackListRef>> damaged_lists(const HeadList& heads, const Stop& stop);
  // Brings the local index up to date with the packs that count: those that accepted heads and
  // collection records list. `heads` from heads(). A pack whose table cannot be read is named in
  // the result and left out.
  Result<std::vector<std::string>> sync_index(const HeadList& heads, const Stop& stop);
  // The same without what a session of this home stored that has no head (its journal): nobody else
  // finds that, so that it is no copy for a collection.
  Result<std::vector<std::string>> sync_index_as_others(const HeadList& heads, const Stop& stop);

  // Before this home writes anything. Code::alarm: the store has a head of this device that this
  // home did not write: it was copied or rolled back (ENG-09). `heads` were read before.
  Result<> check_home(const HeadList& heads);
  // What the store shows of collections is what this home knows from now on.
  Result<> remember_collections();

  // Reads what is new below gc/, and makes the index forget packs that are gone and avoid those
  // that are condemned. Code::alarm: a record that this home saw is not there.
  Result<> refresh_collections();
  [[nodiscard]] const Collections& collections() const { return collections_; }
  // What `ref` lists. Null: a collection removed it, perhaps just now.
  Result<std::optional<std::vector<ListedPack>>> read_counting_list(const PackListRef& ref);

  [[nodiscard]] Index& index() { return *index_; }
  [[nodiscard]] ChunkReader& reader() { return *reader_; }  // thread-safe
  [[nodiscard]] NodeSource& nodes() { return *nodes_; }     // thread-safe
  [[nodiscard]] const RepositoryParts& parts() const { return parts_; }

  // `other` is called for what the store lists and the index does not have. What is condemned and
  // not there is forgotten: it is no loss by itself, and what needs it misses its chunks.
  Result<PackListing> list_packs(const Stop& stop,
                                 const std::function<void(const ObjectInfo&)>& other);
  // Packs of the index that the store does not list with their size.
  Result<std::vector<ObjectHash>> lost_packs(const Stop& stop);
  // Packs that nothing may be deduplicated against: those of other devices of which a random sample
  // did not hold what their tables say, and those that a check found damaged. Packs that the store
  // does not list any more are forgotten. `warnings` names all of that.
  Result<std::unordered_set<ObjectHash, IdHash>> unreliable_packs(
      const Stop& stop, std::vector<std::string>& warnings);
  // Packs that checks of this home found damaged.
  Result<std::set<ObjectHash>> known_damaged();
  // What a check found, for unreliable_packs(): of the packs that it read whole.
  Result<> note_damaged(const std::vector<ObjectHash>& damaged,
                        const std::vector<ObjectHash>& whole);

 private:
  friend class Session;
  explicit Repository(RepositoryParts parts);
  // Without `missing` what is missing is an alarm.
  Result<HeadList> read_heads(std::vector<MissingHead>* missing);
  Result<> read_tags(const std::map<HeadRef, std::uint32_t>& revisions, HeadList& list);
  Result<> read_head(const HeadRef& ref, Result<Bytes> object, std::map<HeadRef, Dropped>& stubs,
                     HeadList& list, HeadSequences& sequences);
  Result<> sample_other_devices(std::unordered_set<ObjectHash, IdHash>& unreliable,
                                std::vector<std::string>& warnings);
  Result<> forget_condemned(PackListing& listing);
  Result<> forget_missing_packs(const Stop& stop, std::vector<std::string>& warnings);
  Result<std::vector<std::string>> sync_index_with(const std::vector<IndexedPack>& journal,
                                                   const HeadList& heads, const Stop& stop);
  // With despite_alarm an alarm is named in `damaged`, and no error.
  Result<> pass_over_alarm(Result<> checked, std::vector<std::string>& damaged) const;
  Result<> check_known_collections();
  void keep_copy(std::uint64_t number, ByteSpan object);
  Result<> refresh_for_reading(std::vector<std::string>& damaged);
  static Result<std::vector<ListedPack>> open_list(const RepositoryKeys& keys,
                                                   const PackListRef& ref, Result<Bytes> object);
  Result<std::optional<std::vector<ListedPack>>> open_counting_list(const PackListRef& ref,
                                                                    Result<Bytes> object);
  Result<> index_packs(std::span<const ListedPack> packs, const std::optional<DeviceId>& device,
                       std::vector<std::string>& damaged);
  Result<std::vector<IndexedPack>> read_journal();
  RepositoryParts parts_;
  std::unique_ptr<Index> index_;
  std::unique_ptr<ChunkReader> reader_;
  std::unique_ptr<ChunkNodeSource> nodes_;
  Collections collections_;
  std::optional<std::uint64_t> collections_applied_;  // state() that the index knows of
};

// What is said of an alarm where despite_alarm passes it over.
std::string passed_over(const Error& alarm);

// How Session::commit's Code::conflict begins: a collection did not wait for this session. All of
// it is to be done again, in a new one.
inline constexpr std::string_view kGivenUp = "this backup was given up";

// What is there or not there for good. Others (no answer, no right) may be other next time.
inline bool is_damage(const Error& error) {
  return error.code == Code::corrupt || error.code == Code::not_found;
}
// Everything rests on what was put being there: asked of the store a second time. Code::corrupt
// when it is not.
Result<> check_there(ObjectStore& store, const std::string& name, ByteSpan object);
// The same of packs, by one listing.
Result<> check_listed(const RepositoryParts& parts, std::span<const IndexedPack> packs);
// Puts as many lists as these packs need, each pack named once.
Result<std::vector<PackListRef>> put_pack_lists(const RepositoryParts& parts,
                                                std::vector<ListedPack> packs);
// Gives a snapshot other tags. Code::conflict: another device did, just now.
Result<> put_tags(const RepositoryParts& parts, const Snapshot& snapshot,
                  std::vector<std::string> tags);
// What a home's cache calls its copy of gc/<number>.
std::string collection_copy_name(std::uint64_t number);
// Puts gc/<number>. False: another pruner was first with that number.
Result<bool> put_collection(Repository& repository, const CollectionRecord& record);
// Puts its end. False: there is one.
Result<bool> put_collection_done(Repository& repository, const CollectionDone& done);
// A session's .open or .gen. Code::not_found; Code::corrupt: damaged, or of another session.
Result<SessionRecord> read_session_record(const RepositoryParts& parts, const HeadRef& session,
                                          HeadName::Kind kind);

// In a home's state: held by what writes, a backup or a prune.
inline constexpr std::string_view kWriterLock = "session.lock";
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
  // Code::conflict (kGivenUp): a collection did not wait for this session.
  Result<> still_wanted();
  // Makes the name of a pack that is durable in the store durable in the home. Thread-safe.
  Result<> journal(const PackTable& pack);
  // Packs that an interrupted run of this session put before.
  [[nodiscard]] const std::vector<IndexedPack>& earlier_packs() const { return earlier_; }
  // Puts the lists, sees that all packs are there, puts the head; fills in what the session knows
  // (device, number, previous, nonce, epoch, lists). The snapshot stands when this is Ok, and not
  // otherwise; what the home could not note after that is in `warnings`, and is made good by the
  // next run.
  Result<Snapshot> commit(Snapshot snapshot, std::vector<IndexedPack> packs,
                          std::vector<std::string>& warnings);

 private:
  Session(Repository& repository, std::unique_ptr<LocalLock> lock);
  Result<> find_newest(const HeadList& heads);
  Result<std::optional<Abandoned>> abandoned(std::uint64_t number);
  Result<bool> ended_by_itself();
  Result<> put_open_record();
  Result<> put_generation_record();
  Result<> load_journal();
  Result<> note_end(const Snapshot& snapshot);
  Repository& repository_;
  std::unique_ptr<LocalLock> lock_;
  SessionRecord record_;
  std::optional<Snapshot> newest_;  // of this device
  HeadList::Newest follows_;        // what its next head follows
  std::uint64_t decided_ = 0;       // the newest number of this device that has an outcome
  std::vector<IndexedPack> earlier_;
  std::mutex mutex_;
};

}  // namespace holdfast
