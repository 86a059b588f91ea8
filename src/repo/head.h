// SPDX-License-Identifier: Apache-2.0
// Heads (snapshots), pack lists and session records: docs/formats/repository.md, "Heads", "Pack
// lists", "Sessions".
#pragma once

#include <map>
#include <string>
#include <vector>

#include "repo/index.h"
#include "repo/tree.h"

namespace holdfast {

struct PackListRef {
  ObjectHash name;
  std::uint64_t packs = 0;
};

struct SnapshotStatistics {
  std::uint64_t files_new = 0, files_changed = 0, files_unmodified = 0, unreadable = 0;
  std::uint64_t directories = 0, others = 0;
  std::uint64_t bytes_read = 0, bytes_total = 0, bytes_added = 0, chunks_new = 0;
};

// A snapshot as its head says. A value.
struct Snapshot {
  SnapshotId id;  // not part of the record
  DeviceId device;
  std::uint64_t number = 0;
  SnapshotId previous;  // zero for a device's first
  std::uint64_t previous_number = 0;
  Hash256 session_nonce;
  TreeRoot tree;
  Epoch epoch = 0;
  std::uint64_t chain_position = 0;
  EntryHash chain_hash;
  std::vector<PackListRef> lists;
  Time started, ended;
  std::vector<std::string> paths, tags, excludes;
  std::string host, user, program;
  SnapshotStatistics statistics;
  std::map<std::uint32_t, std::string> users, groups;  // owner names of this snapshot
  std::uint32_t tags_revision = 0;  // of the record that `tags` are from; 0: the head's own
};

std::string head_name(const DeviceId& device, std::uint64_t number);
// What a name below heads/ says; Code::corrupt for a name that is none.
struct HeadName {
  enum class Kind : std::uint8_t { head, open, generation, dropped, tags } kind;
  DeviceId device;
  std::uint64_t number;
  std::uint32_t revision = 0;  // of tags
  // The session has an outcome: a head, an abandoned record, or a stub of one that was removed.
  [[nodiscard]] bool decides() const { return kind == Kind::head || kind == Kind::dropped; }
};
Result<HeadName> parse_head_name(std::string_view name);

// Sealed bytes of the head object, and its id.
struct SealedHead {
  SnapshotId id;
  Bytes object;
};
SealedHead seal_head(const Snapshot& snapshot, const RepositoryKeys& keys, const Signer& signer,
                     Random& random);
// Code::corrupt names the head and what does not hold.
Result<Snapshot> open_head(ByteSpan object, std::string_view name, const RepositoryKeys& keys,
                           const DeviceKeyLookup& devices);
// The record inside, for tests and the fuzzer.
Result<Snapshot> parse_head(ByteSpan body, const Place& place);
Bytes encode_head(const Snapshot& snapshot, const Place& place);

struct ListedPack {
  ObjectHash pack;
  ObjectType type;
  std::uint64_t size;
};
inline constexpr std::size_t kListPacksMax = 1U << 20;
Bytes encode_pack_list(std::vector<ListedPack> packs);  // sorts
Result<std::vector<ListedPack>> parse_pack_list(ByteSpan plain);
std::string list_name(const ObjectHash& list);

// Session records: contents of their boxes.
struct SessionRecord {
  DeviceId device;
  std::uint64_t number = 0;
  Hash256 nonce;                 // .open
  std::uint64_t generation = 0;  // .gen
  Time started;
};
Bytes encode_session_open(const SessionRecord& record);
Result<SessionRecord> parse_session_open(ByteSpan content);
Bytes encode_session_generation(const SessionRecord& record);
Result<SessionRecord> parse_session_generation(ByteSpan content);

Bytes encode_secrets(const RepositorySecrets& secrets);
Result<RepositorySecrets> parse_secrets(ByteSpan content);

}  // namespace holdfast
