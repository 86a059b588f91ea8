// SPDX-License-Identifier: Apache-2.0
// Joins an account's keys with a repository: what every command starts from.
#pragma once

#include <functional>
#include <memory>
#include <optional>
#include <string>

#include "account/account.h"
#include "base/sub_folder.h"
#include "repo/repository.h"

namespace holdfast {

// The three folders of a home that the client keeps things in; config is the program's matter.
struct Home {
  LocalFolder& keys;   // "device"
  LocalFolder& state;  // "chain", and a folder for each repository: must not be lost
  LocalFolder& cache;  // a folder for each repository
};

// Asked only when the home is sealed.
using AskPassphrase = std::function<Result<Secret>()>;

struct World {
  Random& random;
  Clock& clock;
};

struct ClientOptions {
  IndexLimits index;
  ReaderLimits reader;
  ListLimits lists;
  // RepositoryParts::accept_rollback, and for the chain too: it gets back what this home has of it.
  bool accept_rollback = false;
  bool despite_alarm = false;  // RepositoryParts::despite_alarm
};

[[nodiscard]] Result<bool> home_has_account(Home home);

struct InitOptions {
  std::string device_name;
  std::optional<Secret> passphrase;  // seals the home
  Suite suite = Suite::aes_256_gcm;
  // Shows or writes the paper key of a new account, before anything is stored; its error ends the
  // init with nothing done.
  std::function<Result<>(const PaperKey&, const AccountId&)> give_paper_key;
};
struct InitReport {
  AccountId account;
  RepositoryId repository;
  DeviceId device;
  bool new_account = false;
  bool already = false;  // the repository was this account's before
};
// A new account of one device with its first repository; or, in a home that has an account, one
// more repository of it. Goes on where an interrupted init stopped. Code::conflict: the place holds
// something else; Code::denied: a repository of another account.
Result<InitReport> init_repository(ObjectStore& store, Home home, const AskPassphrase& ask,
                                   const InitOptions& options, World world);

struct RecoverOptions {
  std::string device_name;
  std::optional<Secret> passphrase;
  // Writes nothing to the store, and so makes a home that only reads: from a medium that cannot be
  // written, from any repository of the account, and however its chain was damaged or blocked.
  bool read_only = false;
};
struct RecoverReport {
  AccountId account;
  RepositoryId repository;
  DeviceId device;
  std::vector<std::string> damaged;  // of the chain and the description: done without
};
// Adds a new device to the account of the repository, by the paper key. Code::conflict: the home
// has an account already; Code::denied: not this account's paper key, or not the account's ordering
// place (says which is).
Result<RecoverReport> recover_home(ObjectStore& store, Home home, const ParsedPaperKey& paper,
                                   const RecoverOptions& options, World world);

class Client {
 public:
  // Code::not_found: no repository there, or no account in the home. Code::denied: another
  // account's repository, wrong passphrase, a format of a newer version. Code::alarm: the chain was
  // rolled back or forked.
  static Result<std::unique_ptr<Client>> open(ObjectStore& store, Home home,
                                              const AskPassphrase& ask, World world,
                                              const ClientOptions& options);
  ~Client();
  Client(const Client&) = delete;
  Client& operator=(const Client&) = delete;
  [[nodiscard]] Repository& repository() { return *repository_; }
  [[nodiscard]] const Chain& chain() const { return *chain_; }
  [[nodiscard]] const DeviceKeys& device() const { return device_; }
  [[nodiscard]] const RepositoryKeys& keys() const { return keys_; }
  [[nodiscard]] DeviceKeyLookup device_lookup() const;
  [[nodiscard]] Random& random() const { return repository_->parts().random; }
  // What of the chain, the secrets and the description the store lost, so that the home's copies
  // were used: repair_keys() puts them back.
  [[nodiscard]] const std::vector<std::string>& damaged() const { return damaged_; }
  // The home was made by a recover that is read_only; every put and removal fails with
  // Code::denied.
  [[nodiscard]] bool only_reads() const { return reading_ != nullptr; }
  // What the store does against deleting; the lock that the account set is
  // chain().retention_lock().
  [[nodiscard]] const StoreLock& store_lock() const { return store_lock_; }

 private:
  Client(DeviceKeys device, Chain chain, Home home, const RepositoryId& repository);
  DeviceKeys device_;
  DeviceSigner signer_;
  std::optional<Chain> chain_;
  RepositoryKeys keys_;
  SubFolder state_, cache_;
  std::vector<std::string> damaged_;
  StoreLock store_lock_;
  std::unique_ptr<ObjectStore> reading_;  // set when the home only reads
  std::unique_ptr<Repository> repository_;
};

// Puts back what of the account's chain, the repository's secrets and its description the store
// lost, from what the home has; what stands there damaged is removed first, and so is what no key
// of the account signed behind the chain's end. Names what was not as it must be. Code::alarm: a
// fork.
Result<std::vector<std::string>> repair_keys(ObjectStore& store, Home home, const Client& client,
                                             bool apply);

// Appends the entry that sets this repository's lock: it goes into the store of the account's
// ordering place, `first`, and the home; the next Client::open brings it into the repository.
// `paper`: who signs, where the lock gets shorter. Code::denied: `first` is not that place, the
// repository's store enforces nothing, one device alone makes it shorter; Code::unavailable:
// another device was faster.
Result<> set_retention_lock(ObjectStore& first, Home home, const Client& client,
                            std::uint64_t seconds, const PaperKey* paper);

// Appends the entry that opens a new epoch, for everybody who has a slot; as set_retention_lock().
// Code::denied: this device does not vote.
Result<> rotate_keys(ObjectStore& first, Home home, const Client& client, Random& random);

// Seals the home's key with what `ask_new` gives; without `ask_new` it lies open from then on.
// Nothing changes unless the key opens. Code::denied: wrong passphrase.
Result<> seal_home(Home home, const AskPassphrase& ask, const AskPassphrase& ask_new,
                   Random& random);

}  // namespace holdfast
