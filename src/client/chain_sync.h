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

// A verified chain, and the entries that it was verified from.
struct ChainCopy {
  std::vector<Bytes> entries;
  Chain chain;
};

// All of the store's. Code::corrupt: an entry is missing, or is none.
Result<ChainCopy> read_chain(ObjectStore& store);
// As much of it as verifies: bytes that somebody put under its next number, an entry that is lost
// or of a newer program, hide what comes after, and nothing before.
struct StoreChain {
  ChainCopy copy;
  std::optional<Error> hides;  // what does
};
Result<StoreChain> read_longest_chain(ObjectStore& store);
// The names of all objects that have an entry's name, in order.
Result<std::set<std::string>> list_chain(ObjectStore& store);

// The home's copy; none when it has none.
Result<std::optional<ChainCopy>> read_home_chain(LocalFolder& state);
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
// Joins the repository's chain with the home's copy, `ours`: neither may contradict the other, the
// shorter gets what it lacks. `seen`: the home's folder for this repository, which remembers how
// far its chain was; less than that is Code::alarm.
Result<SyncedChain> sync_chain(ObjectStore& store, LocalFolder& state, LocalFolder& seen,
                               const std::optional<ChainCopy>& ours, const AccountId& account,
                               const SyncOptions& options, std::vector<std::string>& damaged);
Result<> write_seen(LocalFolder& seen, const Chain& chain);

// What was written into a home that cannot be written (a rescue system) is kept nowhere, and is no
// error.
Result<> if_it_can(Result<> written);

}  // namespace holdfast
