// SPDX-License-Identifier: Apache-2.0
// What an epoch and its slots hold, sealed and opened. docs/formats/account.md, "Epochs and slots".
// Everything here is deterministic: who holds an epoch's keys makes every slot of it again and
// compares.
#pragma once

#include <span>
#include <vector>

#include "chain/chain.h"
#include "seal/object_keys.h"
#include "seal/secret.h"
#include "seal/x25519.h"

namespace holdfast {

// Where a slot or an epoch stands. In genesis account and previous are zeros.
struct EpochPlace {
  AccountId account;
  Epoch number = 0;
  std::uint64_t position = 0;
  EntryHash previous;
};
EpochPlace place_of(const Chain& chain, const ChainEpoch& epoch);
EpochPlace place_of(const Chain& chain, const ChainEpoch& epoch, const ChainSlot& slot);

// What a slot yields.
struct EpochKeys {
  Secret key;             // K_epoch
  Secret account_secret;  // of this epoch
  [[nodiscard]] EpochKeys clone() const { return {key.clone(), account_secret.clone()}; }
};

// For whom a slot is.
struct SlotOwner {
  DeviceId id;
  SlotKind kind = SlotKind::device;
  X25519PublicKey open;
};

// `secret`: the parent epoch's account secret where the slot opens an epoch, the current one where
// it is added later; for the paper key its symmetric part. Code::corrupt: a key of small order.
Result<NewSlot> seal_slot(const EpochPlace& place, const SlotOwner& owner, ByteSpan secret,
                          const EpochKeys& keys);
// Code::corrupt, with one text whatever is wrong. The result is not to be used before
// check_commitments.
Result<EpochKeys> open_slot(const EpochPlace& place, const ChainSlot& slot, ByteSpan secret,
                            const X25519Key& key);

Hash256 key_commitment(const AccountId& account, Epoch epoch, ByteSpan epoch_key);
Hash256 secret_commitment(const AccountId& account, Epoch epoch, ByteSpan account_secret);
// The same error text as open_slot's.
Result<> check_commitments(const EpochPlace& place, const ChainEpoch& epoch, const EpochKeys& keys);

// What the entry that opens an epoch keeps for those who opened it.
struct EpochSecrets {
  Secret parent_secret;  // the parent's account secret; in genesis secret 0
  DeviceId paper;
  Secret paper_part;
};
struct EpochParent {
  Epoch number = 0;  // 0: none
  Secret key;        // empty: none
};
Result<NewEpochParts> seal_epoch(const EpochPlace& place, const EpochKeys& keys,
                                 const EpochParent& parent, const EpochSecrets& secrets,
                                 std::span<const SlotOwner> owners);
// Code::corrupt. `epoch` must have a parent.
Result<Secret> open_parent_key(const EpochPlace& place, const ChainEpoch& epoch,
                               const EpochKeys& keys);
Result<EpochSecrets> open_epoch_secrets(const EpochPlace& place, const ChainEpoch& epoch,
                                        const EpochKeys& keys);

}  // namespace holdfast
