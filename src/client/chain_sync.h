// SPDX-License-Identifier: Apache-2.0
// The account's chain as a repository has it, and as this home keeps it.
#pragma once

#include <optional>
#include <set>
#include <string>
#include <vector>

#include "base/local_folder.h"
#include "chain/chain.h"
#include "store/object_store.h"

namespace holdfast {

// All entries, verified. Code::corrupt: one is missing, or is none.
Result<Chain> read_chain(ObjectStore& store, std::vector<Bytes>& entries);
// As much of the chain as verifies, for who only reads: bytes that somebody put under its next
// number, an entry that is lost or of a newer program, hide what comes after, and nothing before.
// `passed`: what that was.
Result<Chain> read_longest_chain(ObjectStore& store, std::vector<Bytes>& entries,
                                 std::vector<std::string>& passed);

// The home's copy; empty when it has none.
Result<std::vector<Bytes>> read_home_chain(LocalFolder& state);
Result<> write_home_chain(LocalFolder& state, const std::vector<Bytes>& entries);

// A home that only reads: the entries that make it a device stand in no store, and not among those
// of its copy either.
struct ReaderEntries {
  std::uint64_t follows = 0;  // how many entries of the chain are before them
  std::vector<Bytes> entries;
};
Result<std::optional<ReaderEntries>> read_reader(LocalFolder& state);
Result<> write_reader(LocalFolder& state, const std::optional<ReaderEntries>& reader);

struct SyncOptions {
  bool reader = false;  // nothing is put
  bool accept_rollback = false, despite_alarm = false;
};
struct SyncedChain {
  Chain chain;
  // Something in the store hides what comes after: whatever refers to later entries is unknown.
  bool hidden = false;
};
// The names of all objects that have an entry's name, in order.
Result<std::set<std::string>> list_chain(ObjectStore& store);

// Joins the repository's chain with the home's copy: neither may contradict the other, the shorter
// gets what it lacks. `seen`: the home's folder for this repository, which remembers how far its
// chain was; less than that is Code::alarm.
Result<SyncedChain> sync_chain(ObjectStore& store, LocalFolder& state, LocalFolder& seen,
                               const AccountId& account, const SyncOptions& options,
                               std::vector<std::string>& damaged);
Result<> write_seen(LocalFolder& seen, const Chain& chain);

}  // namespace holdfast
