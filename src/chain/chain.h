// SPDX-License-Identifier: Apache-2.0
// The account's signed chain: the only authority for who can read and who can change that.
// docs/formats/account.md, "The chain". Pure: entries in, verified state out.
#pragma once

#include <map>
#include <optional>
#include <span>
#include <string>
#include <vector>

#include "base/id.h"
#include "crypto/sign.h"

namespace holdfast {

// The same types as in seal/, which this room does not see.
using Epoch = std::uint32_t;
using X25519PublicKey = Id<struct X25519PublicTag>;

// Not repo/entry.h's EntryType.
enum class ChainEntryType : std::uint32_t {
  genesis = 1,
  add_device = 2,
  confirm_device = 3,
  suspend = 4,
  add_slot = 5,
  remove_slot = 6,
  set_mode = 7,
  new_epoch = 8,
  set_retention_lock = 9,
  propose = 10,
  veto = 11,
  enact = 12,
  move = 13,
  resolve = 14,
};
std::string_view name_of(ChainEntryType type);

// Where entries are put first. A server comes later.
struct OrderingPlace {
  enum class Kind : std::uint8_t { repository = 1 };
  Kind kind = Kind::repository;
  RepositoryId repository;
  bool operator==(const OrderingPlace&) const = default;
};

struct ChainDevice {
  DeviceId id;
  SignPublicKey sign;
  X25519PublicKey open;
  std::string name;  // whatever bytes its owner chose: print it escaped()
  bool voting = false;
  bool suspended = false;
  std::uint64_t added_at = 0;  // number of the entry that brought it
};

struct ChainPaperKey {
  DeviceId id;  // made as a device's, from its keys
  SignPublicKey sign;
  X25519PublicKey open;
};

enum class SlotKind : std::uint8_t { device = 1, paper = 2 };

// A slot and all that its keys are bound to.
struct ChainSlot {
  DeviceId id;
  SlotKind kind = SlotKind::device;
  std::uint32_t suite = 0;
  X25519PublicKey ephemeral;
  Bytes sealed;
  std::uint64_t position = 0;  // number of the entry that it stands in
  EntryHash previous;          // hash of the entry before that one
};

struct ChainEpoch {
  Epoch number = 0;
  Epoch parent = 0;  // 0: none
  std::uint64_t position = 0;
  EntryHash opened_by;
  EntryHash previous;  // hash of the entry before the one that opened it
  Bytes parent_key;    // sealed
  Bytes secrets;       // sealed
  Hash256 key_commitment;
  Hash256 secret_commitment;
  std::vector<ChainSlot> slots;  // those of the opening entry, then those added later
};

// A verified chain. A value; made by verify_chain only.
class Chain {
 public:
  [[nodiscard]] const AccountId& account() const { return account_; }
  [[nodiscard]] const OrderingPlace& place() const { return place_; }
  [[nodiscard]] std::uint64_t position() const { return hashes_.size() - 1; }
  [[nodiscard]] const EntryHash& newest_hash() const { return hashes_.back(); }
  // `position` must not be above position().
  [[nodiscard]] const EntryHash& hash_at(std::uint64_t position) const {
    return hashes_.at(position);
  }
  [[nodiscard]] const std::vector<ChainDevice>& devices() const { return devices_; }
  [[nodiscard]] const ChainDevice* device(const DeviceId& id) const;
  [[nodiscard]] const ChainPaperKey& paper() const { return paper_; }
  [[nodiscard]] const std::vector<ChainEpoch>& epochs() const { return epochs_; }
  [[nodiscard]] const ChainEpoch& newest_epoch() const { return epochs_.back(); }
  // Seconds for which that repository's store keeps what is condemned; 0: no lock.
  [[nodiscard]] std::uint64_t retention_lock(const RepositoryId& repository) const;

 private:
  friend class ChainVerifier;
  friend struct ChainTestAccess;  // account/ tests epochs that no entry opens yet
  Chain() = default;
  AccountId account_;
  OrderingPlace place_;
  std::vector<EntryHash> hashes_;
  std::vector<ChainDevice> devices_;
  ChainPaperKey paper_;
  std::vector<ChainEpoch> epochs_;
  std::map<RepositoryId, std::uint64_t> retention_locks_;
};

inline constexpr std::size_t kChainEntryMax = 256U << 10;  // bytes of one entry
inline constexpr std::size_t kChainLengthMax = 1U << 16;   // entries
inline constexpr std::size_t kChainDevicesMax = 256;
inline constexpr std::size_t kDeviceNameMax = 255;
// Ten years: nobody can take a lock back.
inline constexpr std::uint64_t kRetentionLockMax = std::uint64_t{3653} * 24 * 3600;  // seconds

// entries[n] is the object chain/<n>. Every rule is checked again, from genesis. Each error names
// the entry: Code::corrupt: not an entry, a gap, a duplicate, another account's; Code::alarm:
// an entry that its signers were not entitled to (a ghost device), standard mode;
// Code::denied: a type or version that this program does not know, signed by a key of the account.
Result<Chain> verify_chain(std::span<const Bytes> entries);
// The same, going on from what was verified before.
Result<Chain> extend_chain(const Chain& known, std::span<const Bytes> more);

// Whether a key of the account signed it, whatever it says: a device that is not suspended, or the
// paper key. What nobody signed is no entry, whoever put it there.
[[nodiscard]] bool signed_by_member(const Chain& chain, ByteSpan entry);

// What this home knows already. Code::alarm: the chain is shorter than that, or is another one.
Result<> check_against_known(const Chain& chain, std::uint64_t known_position,
                             const EntryHash& known_hash);
// Two copies of one account's chain (two repositories): one must begin with the other. Code::alarm:
// two valid entries with one number.
Result<> check_no_fork(const Chain& a, const Chain& b);

// First 16 bytes of SHA-256(T("device-id"; sign, open)).
DeviceId device_id(const SignPublicKey& sign, const X25519PublicKey& open);
// For people: of a device or a paper key.
std::string fingerprint(const SignPublicKey& sign, const X25519PublicKey& open);
// "chain/" and 16 hex digits.
std::string chain_object_name(std::uint64_t sequence);

// ---- Writing entries: used by account/ and by tests. ----

struct NewSlot {
  DeviceId id;
  SlotKind kind = SlotKind::device;
  std::uint32_t suite = 1;
  X25519PublicKey ephemeral;
  Bytes sealed;
};
struct NewEpochParts {
  Epoch number = 1;
  Epoch parent = 0;
  Bytes parent_key;
  Bytes secrets;
  Hash256 key_commitment;
  Hash256 secret_commitment;
  std::vector<NewSlot> slots;
};
struct NewDevice {
  SignPublicKey sign;
  X25519PublicKey open;
  std::string name;
};

Bytes make_genesis(ByteSpan random, const OrderingPlace& place, const std::string& device_name,
                   const NewEpochParts& epoch, const X25519PublicKey& device_open,
                   const X25519PublicKey& paper_open, const Signer& device, const Signer& paper);
// What a new entry follows.
struct EntryPlace {
  AccountId account;
  std::uint64_t sequence = 0;
  EntryHash previous;
};
EntryPlace next_place(const Chain& chain);
// The hash of an entry that one just made, for the next one's `previous`.
EntryHash entry_hash(ByteSpan entry);
Bytes make_add_device(const EntryPlace& place, const DeviceId& author, const NewDevice& device,
                      Epoch epoch, const NewSlot& slot, const Signer& author_key,
                      const Signer& device_key);
// `second`: for two voting devices; null with the paper key.
struct SecondVoter {
  DeviceId id;
  const Signer* key = nullptr;
};
Bytes make_confirm_device(const EntryPlace& place, const DeviceId& author, const DeviceId& device,
                          const std::optional<SecondVoter>& second, const Signer& author_key);
Bytes make_new_epoch(const EntryPlace& place, const DeviceId& author, const NewEpochParts& epoch,
                     const Signer& author_key);
// `second`: for two voting devices that make it shorter.
Bytes make_set_retention_lock(const EntryPlace& place, const DeviceId& author,
                              const RepositoryId& repository, std::uint64_t seconds,
                              const std::optional<SecondVoter>& second, const Signer& author_key);

}  // namespace holdfast
