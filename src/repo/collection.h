// SPDX-License-Identifier: Apache-2.0
// Records of retention and collection: docs/formats/collection.md.
#pragma once

#include <functional>
#include <optional>
#include <string>
#include <vector>

#include "repo/head.h"

namespace holdfast {

// One session, or the snapshot that it ended with.
struct HeadRef {
  DeviceId device;
  std::uint64_t number = 0;
  auto operator<=>(const HeadRef&) const = default;
};

// Names of packs or lists in a record: ascending, each once, at most kCollectionNamesMax.
using ObjectNames = std::vector<ObjectHash>;
inline constexpr std::size_t kCollectionNamesMax = 1U << 20;
// At most that many packs, lists and heads go into a record that is written, so that it fits into
// its box; the rest goes into the next one.
inline constexpr std::size_t kCollectionNamesWritten = 1U << 18;

// The outcome of a session that somebody else gave up. Stands where its head would.
struct Abandoned {
  DeviceId by;
  HeadRef session;
  std::uint64_t collection = 0;  // on whose behalf
  std::string reason;            // for people
};

// A stub beside a head: the snapshot does not count any more.
struct Dropped {
  DeviceId by;
  HeadRef snapshot;
  SnapshotId head, previous;  // previous: zero for a device's first
  std::uint64_t previous_number = 0;
  std::string reason;
};

// What a snapshot's tags are instead of those in its head; the one with the highest revision
// counts.
struct TagsRecord {
  DeviceId by;
  HeadRef snapshot;
  SnapshotId head;
  std::uint32_t revision = 1;
  std::vector<std::string> tags;
};
inline constexpr std::size_t kTagsMax = 1000, kTagMax = 1000;  // tags; bytes of one

struct CollectionRecord {
  ObjectHash object;  // SHA-256 of the box; not part of the record
  DeviceId by;
  std::uint64_t number = 0;
  ObjectHash before;               // zero for the first
  ObjectNames condemned;           // packs
  std::vector<PackListRef> lists;  // that it adds
  ObjectNames retired;             // lists
  std::vector<HeadRef> heads;      // to be removed; ascending
};

inline constexpr std::uint64_t kRecordObjectMax = 64U << 20;  // bytes of gc/<n>

struct CollectionDone {
  DeviceId by;
  std::uint64_t number = 0;
  ObjectHash collection;  // CollectionRecord::object
  ObjectNames used;       // packs and lists that stay
};

std::string dropped_name(const HeadRef& snapshot);
std::string tags_name(const HeadRef& snapshot, std::uint32_t revision);
std::string collection_name(std::uint64_t number);  // "gc/<number>"
std::string collection_done_name(std::uint64_t number);

// Boxes with their place in the store bound to them. open_*: Code::corrupt names the object and
// what does not hold.
Bytes seal_abandoned(const Abandoned& record, const RepositoryKeys& keys, const Signer& signer,
                     Random& random);
Result<Abandoned> open_abandoned(ByteSpan object, const HeadRef& session,
                                 const RepositoryKeys& keys, const DeviceKeyLookup& devices);
Bytes seal_dropped(const Dropped& record, const RepositoryKeys& keys, const Signer& signer,
                   Random& random);
Result<Dropped> open_dropped(ByteSpan object, const HeadRef& snapshot, const RepositoryKeys& keys,
                             const DeviceKeyLookup& devices);
Bytes seal_tags(const TagsRecord& record, const RepositoryKeys& keys, const Signer& signer,
                Random& random);
Result<TagsRecord> open_tags(ByteSpan object, const HeadRef& snapshot, std::uint32_t revision,
                             const RepositoryKeys& keys, const DeviceKeyLookup& devices);
Bytes seal_collection(const CollectionRecord& record, const RepositoryKeys& keys,
                      const Signer& signer, Random& random);
Result<CollectionRecord> open_collection(ByteSpan object, std::uint64_t number,
                                         const RepositoryKeys& keys,
                                         const DeviceKeyLookup& devices);
Bytes seal_collection_done(const CollectionDone& record, const RepositoryKeys& keys,
                           const Signer& signer, Random& random);
// `record`: what it must be the end of.
Result<CollectionDone> open_collection_done(ByteSpan object, const CollectionRecord& record,
                                            const RepositoryKeys& keys,
                                            const DeviceKeyLookup& devices);

// True: the object at a head's name says that the session was given up (by its unauthenticated
// header; open_abandoned() tells whether that holds).
bool looks_abandoned(ByteSpan object);

// The retention lock of a repository whose store enforces it: docs/formats/collection.md,
// "Retention lock".
struct RetentionLock {
  std::int64_t period_ns = 0;  // 0: there is none
  Time now{};                  // the earlier of the store's clock and this machine's
  // What was put then does not take effect yet.
  [[nodiscard]] bool holds(Time put) const { return period_ns > 0 && now.ns < put.ns + period_ns; }
};

// Where records are read from.
struct CollectionSource {
  ObjectStore& store;
  const RepositoryKeys& keys;
  const DeviceKeyLookup& devices;
  RetentionLock lock{};
  // Called for each record that holds.
  std::function<void(std::uint64_t number, ByteSpan object)> seen{};
};

// All records of a repository, by number from 1, and what they come to.
class Collections {
 public:
  // Lists gc/ and reads what is not known yet. The end of a record that `lock` holds does not count
  // yet, as if it were not there. Code::alarm: a record that was known, or one between
  // others, is not there; Code::corrupt: a record does not hold.
  Result<> refresh(const CollectionSource& source);
  [[nodiscard]] std::uint64_t newest() const { return records_.size(); }
  // Changes whenever a record or an end is added.
  [[nodiscard]] std::uint64_t state() const { return records_.size() + ended_; }
  [[nodiscard]] const CollectionRecord& record(std::uint64_t number) const {
    return records_[number - 1].record;
  }
  [[nodiscard]] const std::optional<CollectionDone>& done(std::uint64_t number) const {
    return records_[number - 1].done;
  }
  // When the record was put, by the store's clock.
  [[nodiscard]] Time put(std::uint64_t number) const { return records_[number - 1].put; }
  // The first record that the last refresh() could not read: it is damaged, or is not there while a
  // later one is.
  [[nodiscard]] std::optional<std::uint64_t> broken() const { return broken_; }
  // Records whose `.done` stood there damaged when refresh() last read: they count as without one.
  [[nodiscard]] const std::vector<std::uint64_t>& damaged_ends() const { return damaged_ends_; }
  // Packs and lists of records without `.done`: they may be read, and nothing may rely on them.
  [[nodiscard]] const ObjectNames& condemned() const { return condemned_; }
  // A record that is done names it, and does not call it used.
  [[nodiscard]] bool gone(const ObjectHash& name) const;
  [[nodiscard]] const ObjectNames& gone() const { return gone_; }
  // Condemned or gone.
  [[nodiscard]] bool doomed(const ObjectHash& name) const;
  // The same of a head; while it still stands, what it needs may be gone already.
  [[nodiscard]] bool gone(const HeadRef& head) const;

 private:
  struct Entry {
    CollectionRecord record;
    Time put;
    std::optional<CollectionDone> done;
  };
  Result<> read_new(const CollectionSource& source);
  Result<> take_record(const CollectionSource& source, Result<Bytes> object, Time put);
  Result<> take_end(const CollectionSource& source, std::uint64_t number, Result<Bytes> object);
  void sum_up();
  std::vector<Entry> records_;
  std::uint64_t ended_ = 0;
  std::optional<std::uint64_t> broken_;
  std::vector<std::uint64_t> damaged_ends_;
  ObjectNames condemned_, gone_;
};

// The bodies, for tests and the fuzzer. Code::corrupt.
Result<CollectionRecord> parse_collection(ByteSpan body, const Place& place);
Result<CollectionDone> parse_collection_done(ByteSpan body, const Place& place);
Result<Abandoned> parse_abandoned(ByteSpan body, const Place& place);
Result<Dropped> parse_dropped(ByteSpan body, const Place& place);
Result<TagsRecord> parse_tags(ByteSpan body, const Place& place);

}  // namespace holdfast
