// SPDX-License-Identifier: Apache-2.0
// The chain's rules, entry by entry. docs/formats/account.md, "The chain".
#include <fmt/format.h>

#include <algorithm>

#include "chain/chain.h"
#include "crypto/hash.h"
#include "crypto/purposes.h"
#include "wire/chain.pb.h"
#include "wire/records.h"

namespace holdfast {
namespace {

constexpr std::uint32_t kVersion = 1;
constexpr std::uint32_t kModeAdvanced = 1;
constexpr std::uint32_t kSlotSuite = 1;
constexpr std::size_t kSealedSlotSize = 80;     // epoch key, account secret, tag
constexpr std::size_t kSealedKeySize = 48;      // parent's epoch key, tag
constexpr std::size_t kSealedSecretsSize = 96;  // parent's secret, one paper key's id and part, tag

struct VersionAndType {
  std::uint64_t version = 0;
  std::uint64_t type = 0;
  std::uint64_t sequence = 0;
  std::optional<EntryHash> previous{};
  std::optional<DeviceId> author{};
};

// Before the strict parser complains about a field that a later version added.
VersionAndType peek(ByteSpan body) {
  VersionAndType out;
  Reader in(body);
  while (in.left() > 0) {
    const std::uint64_t tag = in.varint();
    if ((tag & 7) == 0) {
      const std::uint64_t value = in.varint();
      if (tag >> 3 == 1) out.version = value;
      if (tag >> 3 == 3) out.sequence = value;
      if (tag >> 3 == 5) out.type = value;
    } else if ((tag & 7) == 2) {
      const ByteSpan block = in.block(kChainEntryMax);
      if (tag >> 3 == 4 && block.size() == EntryHash::size) out.previous = EntryHash::from(block);
      if (tag >> 3 == 6 && block.size() == DeviceId::size) out.author = DeviceId::from(block);
    } else {
      break;
    }
  }
  return out;
}

bool known_type(std::uint64_t type) {
  return (type >= 1 && type <= 3) ||
         type == static_cast<std::uint64_t>(ChainEntryType::new_epoch) ||
         type == static_cast<std::uint64_t>(ChainEntryType::set_retention_lock);
}

std::string describe(std::uint64_t type) {
  if (type <= static_cast<std::uint64_t>(ChainEntryType::resolve) && type > 0)
    return fmt::format("type {} ({})", type, name_of(static_cast<ChainEntryType>(type)));
  return fmt::format("type {}", type);
}

// One entry while it is looked at.
struct Candidate {
  std::uint64_t number = 0;
  std::string name;  // for errors
  wire::ChainEntry entry;
  wire::EntryBody body;
  DeviceId author;
  std::vector<Signature> signatures;

  [[nodiscard]] std::unexpected<Error> bad(Code code, std::string_view why) const {
    return fail(code, fmt::format("{}: {}", name, why));
  }
  [[nodiscard]] bool signed_by(std::size_t n, const SignPublicKey& key) const {
    const Transcript message = Transcript(purpose::chain_entry).field(as_bytes(entry.body()));
    return n < signatures.size() && verify(key, message, signatures[n]);
  }
};

EntryHash hash_of(const wire::ChainEntry& entry) {
  Transcript t = Transcript(purpose::chain_entry_id).field(as_bytes(entry.body()));
  for (const std::string& signature : entry.signatures()) t.field(as_bytes(signature));
  return EntryHash{sha256(t.span()).bytes};
}

Result<> read_signatures(Candidate& c) {
  for (const std::string& signature : c.entry.signatures()) {
    HF_ASSIGN(c.signatures.emplace_back(),
              wire::id_field<Signature>(signature, c.name + ": signature"));
  }
  return {};
}

// What all versions have: body and signatures, and in the body version, sequence, previous, type
// and author.
struct Outer {
  Candidate candidate;
  VersionAndType seen;
  [[nodiscard]] bool known() const { return seen.version == kVersion && known_type(seen.type); }
  [[nodiscard]] std::string what() const {
    return seen.version != kVersion ? fmt::format("version {}", seen.version) : describe(seen.type);
  }
};

Result<Outer> read_outer(ByteSpan raw, std::uint64_t number) {
  Outer out;
  Candidate& c = out.candidate;
  c.number = number;
  c.name = chain_object_name(number);
  if (raw.size() > kChainEntryMax) return c.bad(Code::corrupt, "larger than any entry");
  HF_TRY(wire::parse_into(raw, c.name, c.entry));
  out.seen = peek(as_bytes(c.entry.body()));
  return out;
}

Result<Candidate> read_candidate(Outer outer) {
  Candidate c = std::move(outer.candidate);
  HF_TRY(wire::parse_into(as_bytes(c.entry.body()), c.name, c.body));
  HF_ASSIGN(c.author, wire::id_field<DeviceId>(c.body.author(), c.name + ": author"));
  HF_TRY(read_signatures(c));
  return c;
}

struct Keys {
  SignPublicKey sign;
  X25519PublicKey open;
};
Result<Keys> read_keys(const Candidate& c, const std::string& sign, const std::string& open) {
  Keys keys;
  HF_ASSIGN(keys.sign, wire::id_field<SignPublicKey>(sign, c.name + ": signing key"));
  HF_ASSIGN(keys.open, wire::id_field<X25519PublicKey>(open, c.name + ": opening key"));
  return keys;
}

Result<ChainDevice> read_device(const Candidate& c, const wire::Device& in) {
  HF_ASSIGN(const Keys keys, read_keys(c, in.sign(), in.open()));
  if (in.name().empty() || in.name().size() > kDeviceNameMax)
    return c.bad(Code::corrupt, fmt::format("a device's name has 1 to {} bytes", kDeviceNameMax));
  ChainDevice device;
  device.id = device_id(keys.sign, keys.open);
  device.sign = keys.sign;
  device.open = keys.open;
  device.name = in.name();
  device.added_at = c.number;
  return device;
}

Result<ChainSlot> read_slot(const Candidate& c, const wire::Slot& in, const EntryHash& previous) {
  ChainSlot slot;
  HF_ASSIGN(slot.id, wire::id_field<DeviceId>(in.id(), c.name + ": slot"));
  if (in.kind() != 1 && in.kind() != 2)
    return c.bad(
        Code::denied,
        fmt::format("slot kind {} is unknown to this version; update holdfast", in.kind()));
  if (in.suite() != kSlotSuite)
    return c.bad(
        Code::denied,
        fmt::format("slot suite {} is unknown to this version; update holdfast", in.suite()));
  if (in.sealed().size() != kSealedSlotSize)
    return c.bad(Code::corrupt, fmt::format("a slot holds {} bytes", kSealedSlotSize));
  slot.kind = static_cast<SlotKind>(in.kind());
  slot.suite = in.suite();
  HF_ASSIGN(slot.ephemeral, wire::id_field<X25519PublicKey>(in.ephemeral(), c.name + ": slot"));
  const ByteSpan sealed = as_bytes(in.sealed());
  slot.sealed.assign(sealed.begin(), sealed.end());
  slot.position = c.number;
  slot.previous = previous;
  return slot;
}

Result<ChainEpoch> read_epoch(const Candidate& c, const wire::NewEpoch& in,
                              const EntryHash& previous) {
  ChainEpoch epoch;
  epoch.number = in.number();
  epoch.parent = in.parent();
  epoch.position = c.number;
  epoch.previous = previous;
  const ByteSpan parent_key = as_bytes(in.parent_key());
  epoch.parent_key.assign(parent_key.begin(), parent_key.end());
  const ByteSpan secrets = as_bytes(in.secrets());
  epoch.secrets.assign(secrets.begin(), secrets.end());
  if (secrets.size() != kSealedSecretsSize)
    return c.bad(Code::corrupt,
                 fmt::format("an epoch's secrets have {} bytes", kSealedSecretsSize));
  HF_ASSIGN(epoch.key_commitment,
            wire::id_field<Hash256>(in.key_commitment(), c.name + ": key commitment"));
  HF_ASSIGN(epoch.secret_commitment,
            wire::id_field<Hash256>(in.secret_commitment(), c.name + ": secret commitment"));
  for (const wire::Slot& slot : in.slots()) {
    HF_ASSIGN(epoch.slots.emplace_back(), read_slot(c, slot, previous));
  }
  return epoch;
}

// Of the account, as far as `chain` goes.
bool signed_by_author(const Chain& chain, Outer& outer, bool voting) {
  Candidate& c = outer.candidate;
  if (!outer.seen.author || !read_signatures(c)) return false;
  if (*outer.seen.author == chain.paper().id) return c.signed_by(0, chain.paper().sign);
  const ChainDevice* device = chain.device(*outer.seen.author);
  return device != nullptr && !device->suspended && (!voting || device->voting) &&
         c.signed_by(0, device->sign);
}

}  // namespace

// Holds the chain so far; after a refused entry it is thrown away.
class ChainVerifier {
 public:
  ChainVerifier() = default;
  explicit ChainVerifier(const Chain& known) : chain_(known) {}
  Result<> add(ByteSpan raw);
  Chain take() && { return std::move(chain_); }

 private:
  [[nodiscard]] std::unexpected<Error> unknown(Outer outer) const;
  [[nodiscard]] Result<> check_place(const Candidate& c) const;
  [[nodiscard]] Result<> check_slots(const Candidate& c, const ChainEpoch& epoch) const;
  [[nodiscard]] Result<SignPublicKey> authority(const Candidate& c, std::string_view does) const;
  [[nodiscard]] Result<> check_fresh(const Candidate& c, const ChainDevice& device) const;
  [[nodiscard]] EntryHash previous() const {
    return chain_.hashes_.empty() ? EntryHash{} : chain_.hashes_.back();
  }
  Result<> genesis(const Candidate& c);
  Result<> read_genesis_keys(const Candidate& c, const wire::Genesis& in);
  Result<> add_device(const Candidate& c);
  Result<> confirm_device(const Candidate& c);
  // The paper key alone, or two voting devices.
  [[nodiscard]] Result<> check_two(const Candidate& c, const std::string& does,
                                   const std::string& second) const;
  Result<> new_epoch(const Candidate& c);
  Result<> set_retention_lock(const Candidate& c);

  Chain chain_;
};

// An entry that a newer program made, if a key of the account signed it; else anything at all that
// somebody put there, which must not look like a reason to stop.
std::unexpected<Error> ChainVerifier::unknown(Outer outer) const {
  Candidate& c = outer.candidate;
  const auto newer = [&] {
    return c.bad(Code::denied,
                 fmt::format("{} is unknown to this version; update holdfast", outer.what()));
  };
  if (chain_.hashes_.empty() && outer.seen.version > kVersion) return newer();
  if (outer.seen.sequence == c.number && outer.seen.previous == previous() &&
      signed_by_author(chain_, outer, true))
    return newer();
  return c.bad(Code::corrupt,
               fmt::format("is no entry that a key of this account signed ({})", outer.what()));
}

Result<> ChainVerifier::check_place(const Candidate& c) const {
  if (c.body.sequence() != c.number)
    return c.bad(Code::corrupt,
                 fmt::format("says that it is entry {}: {}", c.body.sequence(),
                             c.body.sequence() < c.number ? "a duplicate" : "there is a gap"));
  HF_ASSIGN(const AccountId account,
            wire::id_field<AccountId>(c.body.account(), c.name + ": account"));
  if (account != chain_.account_)
    return c.bad(Code::corrupt, fmt::format("belongs to account {}, not to {}", account.brief(),
                                            chain_.account_.brief()));
  HF_ASSIGN(const EntryHash named,
            wire::id_field<EntryHash>(c.body.previous(), c.name + ": previous entry"));
  if (named != previous())
    return c.bad(Code::alarm, fmt::format("follows an entry {}, but the one before it is {}: an "
                                          "entry was replaced, or the chain was forked",
                                          named.brief(), previous().brief()));
  return {};
}

// Every device and every paper key has its slot, and nobody else.
Result<> ChainVerifier::check_slots(const Candidate& c, const ChainEpoch& epoch) const {
  std::vector<std::pair<DeviceId, SlotKind>> expected{{chain_.paper_.id, SlotKind::paper}};
  for (const ChainDevice& d : chain_.devices_)
    if (!d.suspended) expected.emplace_back(d.id, SlotKind::device);
  std::ranges::sort(expected);
  const bool same = std::ranges::equal(expected, epoch.slots, {}, {}, [](const ChainSlot& s) {
    return std::pair<DeviceId, SlotKind>(s.id, s.kind);
  });
  if (!same)
    return c.bad(Code::alarm,
                 "its slots are not exactly those of the account's devices and paper key");
  return {};
}

Result<> ChainVerifier::read_genesis_keys(const Candidate& c, const wire::Genesis& in) {
  HF_ASSIGN(ChainDevice device, read_device(c, in.device()));
  HF_ASSIGN(const Keys paper, read_keys(c, in.paper().sign(), in.paper().open()));
  device.voting = true;
  if (paper.sign == device.sign || paper.open == device.open)
    return c.bad(Code::corrupt, "its device and its paper key are the same key");
  if (c.author != device.id) return c.bad(Code::alarm, "its author is not the device in it");
  if (c.signatures.size() != 2 || !c.signed_by(0, device.sign) || !c.signed_by(1, paper.sign))
    return c.bad(Code::alarm, "is not signed by its device and its paper key");
  chain_.paper_ = {device_id(paper.sign, paper.open), paper.sign, paper.open};
  chain_.devices_ = {std::move(device)};
  return {};
}

Result<> ChainVerifier::genesis(const Candidate& c) {
  if (!c.body.has_genesis()) return c.bad(Code::corrupt, "is no genesis entry");
  const wire::Genesis& in = c.body.genesis();
  if (in.random().size() != 32) return c.bad(Code::corrupt, "has not 32 random bytes");
  if (in.mode() != kModeAdvanced)
    return c.bad(Code::alarm, fmt::format("mode {}: standard mode needs trustees, and this version "
                                          "has none: nothing is opened or written",
                                          in.mode()));
  if (in.place().kind() != 1)
    return c.bad(
        Code::denied,
        fmt::format("ordering place of kind {} is unknown to this version; update holdfast",
                    in.place().kind()));
  HF_ASSIGN(const RepositoryId repository,
            wire::id_field<RepositoryId>(in.place().id(), c.name + ": ordering place"));
  HF_TRY(read_genesis_keys(c, in));
  HF_ASSIGN(ChainEpoch epoch, read_epoch(c, in.epoch(), EntryHash{}));
  if (epoch.number != 1 || epoch.parent != 0 || !epoch.parent_key.empty())
    return c.bad(Code::corrupt, "does not open epoch 1");
  HF_TRY(check_slots(c, epoch));
  epoch.opened_by = hash_of(c.entry);
  chain_.account_ = AccountId{epoch.opened_by.bytes};
  chain_.place_ = {OrderingPlace::Kind::repository, repository};
  chain_.epochs_ = {std::move(epoch)};
  return {};
}

// The key that the author must have signed with: the paper key's, or a voting device's.
Result<SignPublicKey> ChainVerifier::authority(const Candidate& c, std::string_view does) const {
  if (c.author == chain_.paper_.id) return chain_.paper_.sign;
  const ChainDevice* author = chain_.device(c.author);
  const auto refuse = [&](std::string_view why) {
    return c.bad(Code::alarm,
                 fmt::format("{}, but {}. Nothing is shared with it; ask who keeps the "
                             "store how the entry came there",
                             does, why));
  };
  if (author == nullptr)
    return refuse(fmt::format("its author {} is no key of this account", c.author.hex()));
  if (author->suspended) return refuse(fmt::format("its author {} is suspended", c.author.hex()));
  if (!author->voting)
    return refuse(fmt::format("its author {} was never confirmed", c.author.hex()));
  return author->sign;
}

Result<> ChainVerifier::check_fresh(const Candidate& c, const ChainDevice& device) const {
  const auto same = [&](const auto& known) {
    return known.sign == device.sign || known.open == device.open;
  };
  if (same(chain_.paper_) || std::ranges::any_of(chain_.devices_, same))
    return c.bad(Code::corrupt, fmt::format("adds a key that the account has already ({})",
                                            fingerprint(device.sign, device.open)));
  if (chain_.devices_.size() >= kChainDevicesMax)
    return c.bad(Code::corrupt, fmt::format("an account has at most {} devices", kChainDevicesMax));
  return {};
}

Result<> ChainVerifier::add_device(const Candidate& c) {
  if (!c.body.has_add_device()) return c.bad(Code::corrupt, "adds no device");
  const wire::AddDevice& in = c.body.add_device();
  HF_ASSIGN(ChainDevice device, read_device(c, in.device()));
  const std::string does = fmt::format("adds the device \"{}\" with fingerprint {}",
                                       escaped(device.name), fingerprint(device.sign, device.open));
  HF_ASSIGN(const SignPublicKey author, authority(c, does));
  if (!c.signed_by(0, author))
    return c.bad(Code::alarm,
                 fmt::format("{}, but its author {} did not sign it. Nothing is shared "
                             "with it; ask who keeps the store how it came there",
                             does, c.author.hex()));
  if (c.signatures.size() != 2 || !c.signed_by(1, device.sign))
    return c.bad(Code::alarm, fmt::format("{}, but that device did not countersign", does));
  HF_TRY(check_fresh(c, device));
  HF_ASSIGN(ChainSlot slot, read_slot(c, in.slot(), previous()));
  ChainEpoch& epoch = chain_.epochs_.back();
  if (in.epoch() != epoch.number || slot.id != device.id || slot.kind != SlotKind::device)
    return c.bad(Code::corrupt, "its slot is not one of that device in the newest epoch");
  epoch.slots.push_back(std::move(slot));
  chain_.devices_.push_back(std::move(device));
  return {};
}

Result<> ChainVerifier::check_two(const Candidate& c, const std::string& does,
                                  const std::string& named) const {
  HF_ASSIGN(const SignPublicKey author, authority(c, does));
  const auto refuse = [&](std::string_view why) {
    return c.bad(Code::alarm, fmt::format("{}, but {}", does, why));
  };
  if (!c.signed_by(0, author)) return refuse("its author did not sign it");
  if (c.author == chain_.paper_.id) {
    if (!named.empty() || c.signatures.size() != 1)
      return refuse("has more signers than its author");
    return {};
  }
  if (named.empty())
    return refuse("one device alone cannot: a second voting device or the paper key");
  HF_ASSIGN(const DeviceId second, wire::id_field<DeviceId>(named, c.name + ": second device"));
  const ChainDevice* voter = chain_.device(second);
  if (voter == nullptr || second == c.author || !voter->voting || voter->suspended)
    return refuse("its second signer is not another voting device");
  if (c.signatures.size() != 2 || !c.signed_by(1, voter->sign))
    return refuse("its second signer did not sign it");
  return {};
}

Result<> ChainVerifier::confirm_device(const Candidate& c) {
  if (!c.body.has_confirm_device()) return c.bad(Code::corrupt, "confirms no device");
  HF_ASSIGN(const DeviceId id,
            wire::id_field<DeviceId>(c.body.confirm_device().device(), c.name + ": device"));
  const auto found = std::ranges::find(chain_.devices_, id, &ChainDevice::id);
  if (found == chain_.devices_.end())
    return c.bad(Code::alarm,
                 fmt::format("confirms {}, which is no device of this account", id.hex()));
  if (found->voting || found->suspended)
    return c.bad(Code::corrupt,
                 fmt::format("confirms {}, which votes already or is suspended", id.hex()));
  HF_TRY(check_two(c,
                   fmt::format("confirms the device \"{}\" with fingerprint {}",
                               escaped(found->name), fingerprint(found->sign, found->open)),
                   c.body.confirm_device().second()));
  found->voting = true;
  return {};
}

// It gives nobody anything that he has not, so whoever votes can open one.
Result<> ChainVerifier::new_epoch(const Candidate& c) {
  if (!c.body.has_open_epoch()) return c.bad(Code::corrupt, "opens no epoch");
  HF_ASSIGN(ChainEpoch epoch, read_epoch(c, c.body.open_epoch().epoch(), previous()));
  const std::string does = fmt::format("opens key epoch {}", epoch.number);
  HF_ASSIGN(const SignPublicKey author, authority(c, does));
  if (c.signatures.size() != 1 || !c.signed_by(0, author))
    return c.bad(Code::alarm, fmt::format("{}, but its author alone did not sign it", does));
  const Epoch newest = chain_.epochs_.back().number;
  if (epoch.number != newest + 1 || epoch.parent != newest)
    return c.bad(Code::corrupt,
                 fmt::format("{} after {}, but the newest one is {}", does, epoch.parent, newest));
  if (epoch.parent_key.size() != kSealedKeySize)
    return c.bad(Code::corrupt, fmt::format("a sealed epoch key has {} bytes", kSealedKeySize));
  HF_TRY(check_slots(c, epoch));
  epoch.opened_by = hash_of(c.entry);
  chain_.epochs_.push_back(std::move(epoch));
  return {};
}

// Whoever votes can make it longer; what makes it shorter weakens everybody's protection.
Result<> ChainVerifier::set_retention_lock(const Candidate& c) {
  if (!c.body.has_set_retention_lock()) return c.bad(Code::corrupt, "sets no retention lock");
  const wire::SetRetentionLock& in = c.body.set_retention_lock();
  HF_ASSIGN(const RepositoryId repository,
            wire::id_field<RepositoryId>(in.repository(), c.name + ": repository"));
  if (in.seconds() > kRetentionLockMax)
    return c.bad(Code::corrupt,
                 fmt::format("a retention lock has at most {} seconds", kRetentionLockMax));
  const std::uint64_t before = chain_.retention_lock(repository);
  const std::string does =
      fmt::format("changes the retention lock of repository {} from {} to {} s", repository.hex(),
                  before, in.seconds());
  if (in.seconds() < before) {
    HF_TRY(check_two(c, does, in.second()));
  } else {
    HF_ASSIGN(const SignPublicKey author, authority(c, does));
    if (!in.second().empty() || c.signatures.size() != 1 || !c.signed_by(0, author))
      return c.bad(Code::alarm, fmt::format("{}, but its author alone did not sign it", does));
  }
  chain_.retention_locks_[repository] = in.seconds();
  return {};
}

Result<> ChainVerifier::add(ByteSpan raw) {
  const std::uint64_t number = chain_.hashes_.size();
  if (number >= kChainLengthMax)
    return fail(Code::corrupt, fmt::format("{}: a chain has at most {} entries",
                                           chain_object_name(number), kChainLengthMax));
  HF_ASSIGN(Outer outer, read_outer(raw, number));
  if (!outer.known()) return unknown(std::move(outer));
  HF_ASSIGN(const Candidate c, read_candidate(std::move(outer)));
  HF_TRY(check_place(c));
  const auto type = static_cast<ChainEntryType>(c.body.type());
  if ((type == ChainEntryType::genesis) != (number == 0))
    return c.bad(Code::corrupt, "a chain has one genesis entry, the first");
  switch (type) {
    case ChainEntryType::genesis:
      HF_TRY(genesis(c));
      break;
    case ChainEntryType::add_device:
      HF_TRY(add_device(c));
      break;
    case ChainEntryType::confirm_device:
      HF_TRY(confirm_device(c));
      break;
    case ChainEntryType::new_epoch:
      HF_TRY(new_epoch(c));
      break;
    default:
      HF_TRY(set_retention_lock(c));
  }
  chain_.hashes_.push_back(hash_of(c.entry));
  return {};
}

bool signed_by_member(const Chain& chain, ByteSpan entry) {
  auto outer = read_outer(entry, 0);
  return outer && signed_by_author(chain, *outer, false);
}

Result<Chain> verify_chain(std::span<const Bytes> entries) {
  if (entries.empty())
    return fail(Code::not_found, chain_object_name(0) + ": there is no account here");
  ChainVerifier verifier;
  for (const Bytes& entry : entries) HF_TRY(verifier.add(entry));
  return std::move(verifier).take();
}

Result<Chain> extend_chain(const Chain& known, std::span<const Bytes> more) {
  ChainVerifier verifier(known);
  for (const Bytes& entry : more) HF_TRY(verifier.add(entry));
  return std::move(verifier).take();
}

// ---- Writing ----

namespace {

wire::EntryBody new_body(const EntryPlace& place, ChainEntryType type, const DeviceId& author) {
  wire::EntryBody body;
  body.set_version(kVersion);
  body.set_account(wire::to_field(place.account.span()));
  body.set_sequence(place.sequence);
  body.set_previous(wire::to_field(place.previous.span()));
  body.set_type(static_cast<std::uint32_t>(type));
  body.set_author(wire::to_field(author.span()));
  return body;
}

Bytes finish(const wire::EntryBody& body, std::initializer_list<const Signer*> signers) {
  const Bytes bytes = wire::encode(body);
  const Transcript message = Transcript(purpose::chain_entry).field(bytes);
  wire::ChainEntry entry;
  entry.set_body(wire::to_field(bytes));
  for (const Signer* signer : signers)
    entry.add_signatures(wire::to_field(signer->sign(message).span()));
  return wire::encode(entry);
}

void put_slot(const NewSlot& slot, wire::Slot& out) {
  out.set_id(wire::to_field(slot.id.span()));
  out.set_kind(static_cast<std::uint32_t>(slot.kind));
  out.set_suite(slot.suite);
  out.set_ephemeral(wire::to_field(slot.ephemeral.span()));
  out.set_sealed(wire::to_field(slot.sealed));
}

void put_epoch(const NewEpochParts& epoch, wire::NewEpoch& out) {
  out.set_number(epoch.number);
  out.set_parent(epoch.parent);
  out.set_parent_key(wire::to_field(epoch.parent_key));
  out.set_secrets(wire::to_field(epoch.secrets));
  out.set_key_commitment(wire::to_field(epoch.key_commitment.span()));
  out.set_secret_commitment(wire::to_field(epoch.secret_commitment.span()));
  std::vector<NewSlot> slots = epoch.slots;
  std::ranges::sort(slots, {}, &NewSlot::id);
  for (const NewSlot& slot : slots) put_slot(slot, *out.add_slots());
}

void put_device(const NewDevice& device, wire::Device& out) {
  out.set_sign(wire::to_field(device.sign.span()));
  out.set_open(wire::to_field(device.open.span()));
  out.set_name(device.name);
}

}  // namespace

EntryHash entry_hash(ByteSpan entry) {
  wire::ChainEntry parsed;
  [[maybe_unused]] const auto ok = wire::parse_into(entry, "entry", parsed);
  assert(ok);
  return hash_of(parsed);
}

Bytes make_genesis(ByteSpan random, const OrderingPlace& place, const std::string& device_name,
                   const NewEpochParts& epoch, const X25519PublicKey& device_open,
                   const X25519PublicKey& paper_open, const Signer& device, const Signer& paper) {
  const SignPublicKey sign = device.public_key();
  wire::EntryBody body = new_body({}, ChainEntryType::genesis, device_id(sign, device_open));
  wire::Genesis& out = *body.mutable_genesis();
  out.set_random(wire::to_field(random));
  out.set_mode(kModeAdvanced);
  out.mutable_place()->set_kind(static_cast<std::uint32_t>(place.kind));
  out.mutable_place()->set_id(wire::to_field(place.repository.span()));
  put_device({sign, device_open, device_name}, *out.mutable_device());
  out.mutable_paper()->set_sign(wire::to_field(paper.public_key().span()));
  out.mutable_paper()->set_open(wire::to_field(paper_open.span()));
  put_epoch(epoch, *out.mutable_epoch());
  return finish(body, {&device, &paper});
}

Bytes make_add_device(const EntryPlace& place, const DeviceId& author, const NewDevice& device,
                      Epoch epoch, const NewSlot& slot, const Signer& author_key,
                      const Signer& device_key) {
  wire::EntryBody body = new_body(place, ChainEntryType::add_device, author);
  wire::AddDevice& out = *body.mutable_add_device();
  put_device(device, *out.mutable_device());
  out.set_epoch(epoch);
  put_slot(slot, *out.mutable_slot());
  return finish(body, {&author_key, &device_key});
}

Bytes make_confirm_device(const EntryPlace& place, const DeviceId& author, const DeviceId& device,
                          const std::optional<SecondVoter>& second, const Signer& author_key) {
  wire::EntryBody body = new_body(place, ChainEntryType::confirm_device, author);
  body.mutable_confirm_device()->set_device(wire::to_field(device.span()));
  if (!second) return finish(body, {&author_key});
  body.mutable_confirm_device()->set_second(wire::to_field(second->id.span()));
  return finish(body, {&author_key, second->key});
}

Bytes make_new_epoch(const EntryPlace& place, const DeviceId& author, const NewEpochParts& epoch,
                     const Signer& author_key) {
  wire::EntryBody body = new_body(place, ChainEntryType::new_epoch, author);
  put_epoch(epoch, *body.mutable_open_epoch()->mutable_epoch());
  return finish(body, {&author_key});
}

Bytes make_set_retention_lock(const EntryPlace& place, const DeviceId& author,
                              const RepositoryId& repository, std::uint64_t seconds,
                              const std::optional<SecondVoter>& second, const Signer& author_key) {
  wire::EntryBody body = new_body(place, ChainEntryType::set_retention_lock, author);
  wire::SetRetentionLock& out = *body.mutable_set_retention_lock();
  out.set_repository(wire::to_field(repository.span()));
  out.set_seconds(seconds);
  if (!second) return finish(body, {&author_key});
  out.set_second(wire::to_field(second->id.span()));
  return finish(body, {&author_key, second->key});
}

}  // namespace holdfast
