// SPDX-License-Identifier: Apache-2.0
#include "account/account.h"

#include <fmt/format.h>

#include <algorithm>

#include "account/slots.h"
#include "crypto/hash.h"

namespace holdfast {
namespace {

constexpr std::size_t kSecretSize = 32;

Result<> check_name(const std::string& name) {
  if (!name.empty() && name.size() <= kDeviceNameMax) return {};
  return fail(Code::invalid, fmt::format("a device's name has 1 to {} bytes, not {}",
                                         kDeviceNameMax, name.size()));
}

DeviceKeys draw_device(Random& random, const std::string& name) {
  DeviceKeys keys;
  keys.name = name;
  keys.sign_seed = Secret::random(kSecretSize, random);
  keys.open_secret = Secret::random(kSecretSize, random);
  keys.id = device_id(keys.signer().public_key(), keys.opener().public_key());
  return keys;
}

// Who opens: a device, or the paper key.
struct Opener {
  DeviceId id;
  SlotKind kind;
  X25519Key key;
  Secret secret;  // what its first slot was wrapped under; the paper key's: each of its slots
};

const ChainSlot* slot_of(const ChainEpoch& epoch, const Opener& opener) {
  const auto mine = [&](const ChainSlot& s) { return s.id == opener.id && s.kind == opener.kind; };
  const auto found = std::ranges::find_if(epoch.slots, mine);
  return found == epoch.slots.end() ? nullptr : &*found;
}

Result<EpochKeys> open_own_slot(const Chain& chain, const ChainEpoch& epoch, const ChainSlot& slot,
                                const Opener& opener, ByteSpan secret) {
  HF_ASSIGN(EpochKeys keys, open_slot(place_of(chain, epoch, slot), slot, secret, opener.key));
  HF_TRY(check_commitments(place_of(chain, epoch), epoch, keys));
  return keys;
}

// An epoch as opened.
struct Held {
  EpochKeys keys;
  EpochSecrets secrets;
};

std::unexpected<Error> void_epoch(const ChainEpoch& epoch, std::string_view why) {
  return fail(
      Code::alarm,
      fmt::format("epoch {} (opened by {}) is void: {}. Nothing is sealed under it; somebody "
                  "who held a device's key may have made it",
                  epoch.number, chain_object_name(epoch.position), why));
}

// What a slot must have been wrapped under.
ByteSpan wrapped_under(const ChainEpoch& epoch, const ChainSlot& slot, const Held& held) {
  if (slot.kind == SlotKind::paper) return held.secrets.paper_part.span();
  const bool opening = slot.position == epoch.position;
  return opening ? held.secrets.parent_secret.span() : held.keys.account_secret.span();
}

Result<SlotOwner> owner_of(const Chain& chain, const ChainEpoch& epoch, const ChainSlot& slot) {
  if (slot.kind == SlotKind::paper && slot.id == chain.paper().id)
    return SlotOwner{slot.id, slot.kind, chain.paper().open};
  const ChainDevice* device = chain.device(slot.id);
  if (slot.kind == SlotKind::device && device != nullptr)
    return SlotOwner{slot.id, slot.kind, device->open};
  return void_epoch(epoch, fmt::format("its slot {} is nobody's", slot.id.hex()));
}

Result<> check_slot(const Chain& chain, const ChainEpoch& epoch, const ChainSlot& slot,
                    const Held& held) {
  HF_ASSIGN(const SlotOwner owner, owner_of(chain, epoch, slot));
  const auto expected =
      seal_slot(place_of(chain, epoch, slot), owner, wrapped_under(epoch, slot, held), held.keys);
  if (!expected || expected->ephemeral != slot.ephemeral || expected->sealed != slot.sealed)
    return void_epoch(epoch, fmt::format("the slot of {} {} does not hold this epoch's key",
                                         slot.kind == SlotKind::paper ? "the paper key" : "device",
                                         slot.id.hex()));
  return {};
}

// Everything that the epoch's keys allow to make again is made again and compared.
Result<Held> hold_epoch(const Chain& chain, const ChainEpoch& epoch, EpochKeys keys) {
  auto secrets = open_epoch_secrets(place_of(chain, epoch), epoch, keys);
  if (!secrets || secrets->paper != chain.paper().id)
    return void_epoch(epoch, "its sealed secrets do not open");
  Held held{std::move(keys), std::move(*secrets)};
  for (const ChainSlot& slot : epoch.slots) HF_TRY(check_slot(chain, epoch, slot, held));
  return held;
}

// Keys of the parent, from what its child keeps.
Result<EpochKeys> parent_keys(const Chain& chain, const ChainEpoch& child, const ChainEpoch& parent,
                              const Held& held) {
  auto key = open_parent_key(place_of(chain, child), child, held.keys);
  if (!key) return void_epoch(child, "it does not hold the key of the epoch before");
  EpochKeys keys{std::move(*key), held.secrets.parent_secret.clone()};
  if (!check_commitments(place_of(chain, parent), parent, keys))
    return void_epoch(child, "what it holds is not the key of the epoch before");
  return keys;
}

// A new epoch must go on with what the one before had.
Result<> check_succession(const Chain& chain, const ChainEpoch& child, const Held& before,
                          const Held& after) {
  const auto parent_key = open_parent_key(place_of(chain, child), child, after.keys);
  const bool same_key = parent_key && equal_secret(parent_key->span(), before.keys.key.span());
  const bool same_secret =
      equal_secret(before.keys.account_secret.span(), after.secrets.parent_secret.span());
  const bool same_paper =
      before.secrets.paper != after.secrets.paper ||
      equal_secret(before.secrets.paper_part.span(), after.secrets.paper_part.span());
  if (same_key && same_secret && same_paper) return {};
  return void_epoch(child, "it does not go on with the keys of the epoch before");
}

using HeldEpochs = std::vector<Held>;  // of epochs first .. last

// From the first epoch that the opener has a slot in up to the newest.
Result<HeldEpochs> open_forward(const Chain& chain, const Opener& opener, std::size_t first) {
  HeldEpochs out;
  Secret secret = opener.secret.clone();
  for (std::size_t i = first; i < chain.epochs().size(); ++i) {
    const ChainEpoch& epoch = chain.epochs()[i];
    const ChainSlot* slot = slot_of(epoch, opener);
    if (slot == nullptr) return void_epoch(epoch, "it has no slot for this key");
    HF_ASSIGN(EpochKeys keys, open_own_slot(chain, epoch, *slot, opener, secret.span()));
    HF_ASSIGN(Held held, hold_epoch(chain, epoch, std::move(keys)));
    if (!out.empty()) HF_TRY(check_succession(chain, epoch, out.back(), held));
    if (opener.kind == SlotKind::device) secret = held.keys.account_secret.clone();
    out.push_back(std::move(held));
  }
  return out;
}

// Down to the first epoch of the account.
Result<HeldEpochs> open_backward(const Chain& chain, HeldEpochs later, std::size_t first) {
  for (std::size_t i = first; i-- > 0;) {
    const ChainEpoch& epoch = chain.epochs()[i];
    HF_ASSIGN(EpochKeys keys, parent_keys(chain, chain.epochs()[i + 1], epoch, later.front()));
    HF_ASSIGN(Held held, hold_epoch(chain, epoch, std::move(keys)));
    later.insert(later.begin(), std::move(held));
  }
  return later;
}

Result<OpenedAccount> open_with(const Chain& chain, const Opener& opener) {
  const auto has_slot = [&](const ChainEpoch& e) { return slot_of(e, opener) != nullptr; };
  const auto found = std::ranges::find_if(chain.epochs(), has_slot);
  if (found == chain.epochs().end())
    return fail(Code::denied, fmt::format("the account has no slot for {}", opener.id.hex()));
  const auto first = static_cast<std::size_t>(found - chain.epochs().begin());
  HF_ASSIGN(HeldEpochs forward, open_forward(chain, opener, first));
  HF_ASSIGN(HeldEpochs held, open_backward(chain, std::move(forward), first));
  OpenedAccount out;
  out.account_secret = held.back().keys.account_secret.clone();
  out.paper_part = held.back().secrets.paper_part.clone();
  for (std::size_t i = 0; i < held.size(); ++i) {
    const ChainEpoch& epoch = chain.epochs()[i];
    out.epochs.push_back({epoch.number, std::move(held[i].keys.key), epoch.opened_by});
  }
  return out;
}

DeviceId paper_id(const PaperKey& paper) {
  return device_id(DeviceSigner(paper.sign_seed().span()).public_key(),
                   X25519Key(paper.open_secret()).public_key());
}

Result<NewEpochParts> first_epoch(Random& random, const DeviceKeys& device, const PaperKey& paper) {
  const EpochPlace place{{}, 1, 0, {}};
  const EpochKeys keys{Secret::random(kSecretSize, random), Secret::random(kSecretSize, random)};
  const EpochSecrets secrets{device.start_secret.clone(), paper_id(paper), paper.symmetric()};
  const SlotOwner owners[] = {
      {device.id, SlotKind::device, device.opener().public_key()},
      {secrets.paper, SlotKind::paper, X25519Key(paper.open_secret()).public_key()}};
  return seal_epoch(place, keys, {}, secrets, owners);
}

}  // namespace

Result<NewAccount> create_account(Random& random, const std::string& device_name,
                                  const OrderingPlace& place) {
  HF_TRY(check_name(device_name));
  NewAccount out{{}, draw_device(random, device_name), PaperKey::generate(random)};
  out.device.start_secret = Secret::random(kSecretSize, random);
  HF_ASSIGN(const NewEpochParts epoch, first_epoch(random, out.device, out.paper));
  const Secret unique = Secret::random(kSecretSize, random);
  const DeviceSigner paper_signer(out.paper.sign_seed().span());
  out.entries.push_back(make_genesis(
      unique.span(), place, device_name, epoch, out.device.opener().public_key(),
      X25519Key(out.paper.open_secret()).public_key(), out.device.signer(), paper_signer));
  // Read back as any other device would: what cannot be opened again is not handed out.
  HF_ASSIGN(const Chain chain, verify_chain(out.entries));
  out.device.account = chain.account();
  HF_TRY(open_account(chain, out.device));
  HF_TRY(open_account_with_paper(chain, out.paper));
  return out;
}

Result<OpenedAccount> open_account(const Chain& chain, const DeviceKeys& keys) {
  if (chain.account() != keys.account)
    return fail(Code::denied, fmt::format("the repository belongs to account {}, this home to {}",
                                          chain.account().brief(), keys.account.brief()));
  const ChainDevice* device = chain.device(keys.id);
  if (device == nullptr)
    return fail(Code::denied,
                fmt::format("this device ({}) is not in the account's chain; if `recover` was "
                            "interrupted, run it again in a new home",
                            keys.id.hex()));
  if (device->suspended)
    return fail(Code::alarm, fmt::format("this device ({}) was suspended by another device or the "
                                         "paper key",
                                         keys.id.hex()));
  return open_with(chain, {keys.id, SlotKind::device, keys.opener(), keys.start_secret.clone()});
}

Result<OpenedAccount> open_account_with_paper(const Chain& chain, const PaperKey& paper) {
  const DeviceId id = paper_id(paper);
  if (id != chain.paper().id)
    return fail(Code::denied,
                fmt::format("this paper key is not that of account {}; look for the account's "
                            "number on the page with the words",
                            chain.account().hex()));
  return open_with(chain, {id, SlotKind::paper, X25519Key(paper.open_secret()), paper.symmetric()});
}

namespace {

EpochKeys newest_keys(const OpenedAccount& opened) {
  return {opened.epochs.back().key.clone(), opened.account_secret.clone()};
}

Result<Bytes> add_device_entry(const Chain& chain, const OpenedAccount& opened,
                               const DeviceKeys& device, const PaperKey& paper) {
  const EntryPlace next = next_place(chain);
  const Epoch epoch = chain.newest_epoch().number;
  const SlotOwner owner{device.id, SlotKind::device, device.opener().public_key()};
  HF_ASSIGN(const NewSlot slot,
            seal_slot({next.account, epoch, next.sequence, next.previous}, owner,
                      opened.account_secret.span(), newest_keys(opened)));
  const DeviceSigner signer = device.signer();
  return make_add_device(next, chain.paper().id, {signer.public_key(), owner.open, device.name},
                         epoch, slot, DeviceSigner(paper.sign_seed().span()), signer);
}

}  // namespace

Result<Recovered> recover_device(const Chain& chain, const PaperKey& paper, Random& random,
                                 const std::string& device_name) {
  HF_TRY(check_name(device_name));
  HF_ASSIGN(const OpenedAccount opened, open_account_with_paper(chain, paper));
  Recovered out{{}, draw_device(random, device_name)};
  out.device.account = chain.account();
  out.device.start_secret = opened.account_secret.clone();
  HF_ASSIGN(Bytes added, add_device_entry(chain, opened, out.device, paper));
  EntryPlace next = next_place(chain);
  next.previous = entry_hash(added);
  ++next.sequence;
  out.entries.push_back(std::move(added));
  out.entries.push_back(make_confirm_device(next, chain.paper().id, out.device.id, {},
                                            DeviceSigner(paper.sign_seed().span())));
  // Read back as the new device will.
  HF_ASSIGN(const Chain longer, extend_chain(chain, out.entries));
  HF_TRY(open_account(longer, out.device));
  return out;
}

namespace {

std::vector<SlotOwner> slot_owners(const Chain& chain) {
  std::vector<SlotOwner> owners{{chain.paper().id, SlotKind::paper, chain.paper().open}};
  for (const ChainDevice& device : chain.devices())
    if (!device.suspended) owners.push_back({device.id, SlotKind::device, device.open});
  return owners;
}

}  // namespace

Result<Bytes> new_epoch_entry(const Chain& chain, const DeviceKeys& device, Random& random) {
  HF_ASSIGN(const OpenedAccount opened, open_account(chain, device));
  const EntryPlace next = next_place(chain);
  const Epoch newest = chain.newest_epoch().number;
  const EpochPlace place{next.account, newest + 1, next.sequence, next.previous};
  const EpochKeys keys{Secret::random(kSecretSize, random), Secret::random(kSecretSize, random)};
  const EpochSecrets secrets{opened.account_secret.clone(), chain.paper().id,
                             opened.paper_part.clone()};
  HF_ASSIGN(const NewEpochParts parts,
            seal_epoch(place, keys, {newest, opened.epochs.back().key.clone()}, secrets,
                       slot_owners(chain)));
  Bytes entry = make_new_epoch(next, device.id, parts, device.signer());
  // Read back as the others will: what they would refuse, or hold for void, is not handed out.
  const auto longer = extend_chain(chain, std::span(&entry, 1));
  if (!longer) return fail(Code::denied, longer.error().what);
  HF_TRY(open_account(*longer, device));
  return entry;
}

Result<Bytes> retention_lock_entry(const Chain& chain, const DeviceKeys& device,
                                   const PaperKey* paper, const RepositoryId& repository,
                                   std::uint64_t seconds) {
  if (paper == nullptr && seconds < chain.retention_lock(repository))
    return fail(Code::denied,
                "a lock that gets shorter protects all devices less: that takes the paper key "
                "(--paper-key-file)");
  const EntryPlace place = next_place(chain);
  Bytes entry =
      paper == nullptr
          ? make_set_retention_lock(place, device.id, repository, seconds, {}, device.signer())
          : make_set_retention_lock(place, paper_id(*paper), repository, seconds, {},
                                    DeviceSigner(paper->sign_seed().span()));
  // What others would refuse is not handed out.
  auto verified = extend_chain(chain, std::span(&entry, 1));
  if (verified) return entry;
  return fail(Code::denied, verified.error().what);
}

}  // namespace holdfast
