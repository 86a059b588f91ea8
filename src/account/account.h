// SPDX-License-Identifier: Apache-2.0
// Making an account, opening it with a device or the paper key, and coming back as a new device.
// docs/formats/account.md, "Epochs and slots".
#pragma once

#include <vector>

#include "account/device_keys.h"
#include "account/paper_key.h"
#include "chain/chain.h"
#include "seal/object_keys.h"

namespace holdfast {

struct NewAccount {
  std::vector<Bytes> entries;  // put them as chain/0.. into the ordering place first
  DeviceKeys device;
  PaperKey paper;
};
// Code::invalid: a device name that is empty or longer than kDeviceNameMax bytes.
Result<NewAccount> create_account(Random& random, const std::string& device_name,
                                  const OrderingPlace& place);

struct OpenEpoch {
  Epoch number = 0;
  Secret key;           // 32
  EntryHash opened_by;  // both go into repository_key()
};
struct OpenedAccount {
  std::vector<OpenEpoch> epochs;  // ascending; the last is what is written under
  Secret account_secret;          // of the last
  Secret paper_part;              // the paper key's symmetric part, to wrap the next epoch to it
};

// Code::denied: the chain has no slot for these keys, or is another account's. Code::corrupt: the
// slot does not open (one text for every changed byte; nothing of it is used). Code::alarm: a slot
// of the epoch is not what its keys give, so the epoch is void; or the device is suspended.
Result<OpenedAccount> open_account(const Chain& chain, const DeviceKeys& keys);
Result<OpenedAccount> open_account_with_paper(const Chain& chain, const PaperKey& paper);

struct Recovered {
  std::vector<Bytes> entries;  // to append at chain.position() + 1, ordering place first
  DeviceKeys device;
};
// Adds a new device to the account and confirms it, by the paper key's authority. Opens the account
// first, so errors are those of open_account_with_paper.
Result<Recovered> recover_device(const Chain& chain, const PaperKey& paper, Random& random,
                                 const std::string& device_name);

// The chain's next entry: a new epoch with keys drawn anew, for everybody who has a slot now.
// Errors are those of open_account; Code::denied: the device does not vote.
Result<Bytes> new_epoch_entry(const Chain& chain, const DeviceKeys& device, Random& random);

// The chain's next entry: for how long that repository's store keeps what is condemned. By the
// device, or by the paper key, which alone may make it shorter. Code::denied: it may not.
Result<Bytes> retention_lock_entry(const Chain& chain, const DeviceKeys& device,
                                   const PaperKey* paper, const RepositoryId& repository,
                                   std::uint64_t seconds);

}  // namespace holdfast
