// SPDX-License-Identifier: Apache-2.0
// Entries here carry made-up slots: this room checks who may write what, not what slots hold.
#include "chain/chain.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <functional>

#include "crypto/purposes.h"
#include "seal/signer.h"
#include "wire/chain.pb.h"
#include "wire/records.h"

namespace holdfast {
namespace {

using ::testing::AllOf;
using ::testing::HasSubstr;

Secret seed_of(int n) {
  Secret out(32);
  out.bytes()[0] = static_cast<std::byte>(n);
  return out;
}

// Somebody with keys: a device or a paper key.
struct Party {
  explicit Party(int n, std::string called = "host")
      : signer(seed_of(n).span()), name(std::move(called)) {
    open.bytes[0] = static_cast<std::byte>(n);
    id = device_id(signer.public_key(), open);
  }
  DeviceSigner signer;
  X25519PublicKey open;
  DeviceId id;
  std::string name;
  [[nodiscard]] NewDevice device() const { return {signer.public_key(), open, name}; }
  [[nodiscard]] std::string print() const { return fingerprint(signer.public_key(), open); }
};

NewSlot slot_for(const Party& party, SlotKind kind) { return {party.id, kind, 1, {}, Bytes(80)}; }

NewEpochParts first_epoch(const Party& device, const Party& paper) {
  NewEpochParts out;
  out.secrets = Bytes(96);
  out.slots = {slot_for(device, SlotKind::device), slot_for(paper, SlotKind::paper)};
  return out;
}

Bytes genesis_of(const Party& device, const Party& paper) {
  return make_genesis(Bytes(32, std::byte{7}), {}, device.name, first_epoch(device, paper),
                      device.open, paper.open, device.signer, paper.signer);
}

Bytes add(const EntryPlace& place, const Party& author, const Party& device) {
  return make_add_device(place, author.id, device.device(), 1, slot_for(device, SlotKind::device),
                         author.signer, device.signer);
}

Bytes confirm(const EntryPlace& place, const Party& author, const Party& device) {
  return make_confirm_device(place, author.id, device.id, {}, author.signer);
}

class ChainTest : public ::testing::Test {
 protected:
  // What becomes of the chain when `entry` is appended.
  [[nodiscard]] Result<Chain> with(Bytes entry) const {
    std::vector<Bytes> more = entries_;
    more.push_back(std::move(entry));
    return verify_chain(more);
  }
  void append(Bytes entry) {
    entries_.push_back(std::move(entry));
    const auto chain = verify_chain(entries_);
    ASSERT_TRUE(chain) << chain.error().what;
  }
  [[nodiscard]] Chain chain() const { return *verify_chain(entries_); }
  [[nodiscard]] EntryPlace next() const { return next_place(chain()); }

  Party first_{1}, paper_{2}, second_{3, "second"}, third_{4, "third"}, ghost_{9, "ghost\n"};
  std::vector<Bytes> entries_{genesis_of(first_, paper_)};
};

void expect_refused(const Result<Chain>& chain, Code code, std::string_view part) {
  ASSERT_FALSE(chain);
  EXPECT_EQ(chain.error().code, code) << chain.error().what;
  EXPECT_THAT(chain.error().what, HasSubstr(part));
  EXPECT_THAT(chain.error().what, HasSubstr("chain/00000000000000"));
}

TEST_F(ChainTest, genesis_makes_the_account) {
  const Chain c = chain();
  EXPECT_EQ(c.position(), 0U);
  EXPECT_EQ(c.account().bytes, c.newest_hash().bytes);
  EXPECT_EQ(c.newest_hash(), entry_hash(entries_[0]));
  ASSERT_EQ(c.devices().size(), 1U);
  EXPECT_TRUE(c.devices()[0].voting);
  EXPECT_EQ(c.paper().id, paper_.id);
  EXPECT_EQ(c.newest_epoch().number, 1U);
  EXPECT_EQ(c.newest_epoch().slots.size(), 2U);
  EXPECT_EQ(chain_object_name(31), "chain/000000000000001f");
  EXPECT_EQ(verify_chain({}).error().code, Code::not_found);
}

TEST_F(ChainTest, the_paper_key_adds_and_confirms) {
  append(add(next(), paper_, second_));
  EXPECT_FALSE(chain().device(second_.id)->voting);
  EXPECT_EQ(chain().newest_epoch().slots.back().previous, chain().hash_at(0));
  append(confirm(next(), paper_, second_));
  EXPECT_TRUE(chain().device(second_.id)->voting);
  append(add(next(), second_, third_));
  EXPECT_EQ(chain().device(third_.id)->added_at, 3U);
  const auto extended =
      extend_chain(*verify_chain(std::span(entries_).first(2)), std::span(entries_).subspan(2));
  ASSERT_TRUE(extended) << extended.error().what;
  EXPECT_EQ(extended->newest_hash(), chain().newest_hash());
}

TEST_F(ChainTest, two_voting_devices_confirm_and_one_does_not) {
  append(add(next(), first_, second_));
  append(confirm(next(), paper_, second_));
  append(add(next(), first_, third_));
  expect_refused(with(confirm(next(), first_, third_)), Code::alarm, "one device alone");
  const auto by = [&](const Party& second) {
    return with(make_confirm_device(next(), first_.id, third_.id,
                                    SecondVoter{second.id, &second.signer}, first_.signer));
  };
  EXPECT_TRUE(by(second_));
  expect_refused(by(first_), Code::alarm, "not another voting device");
  expect_refused(by(third_), Code::alarm, "not another voting device");
  expect_refused(by(ghost_), Code::alarm, "not another voting device");
  expect_refused(with(make_confirm_device(next(), first_.id, third_.id,
                                          SecondVoter{second_.id, &third_.signer}, first_.signer)),
                 Code::alarm, "did not sign");
}

TEST_F(ChainTest, who_votes_opens_an_epoch_for_all_that_have_a_slot) {
  append(add(next(), paper_, second_));
  const auto parts = [&](Epoch number) {
    NewEpochParts out{.number = number,
                      .parent = number - 1,
                      .parent_key = Bytes(48),
                      .secrets = Bytes(96),
                      .key_commitment = {},
                      .secret_commitment = {},
                      .slots = {}};
    out.slots = {slot_for(first_, SlotKind::device), slot_for(second_, SlotKind::device),
                 slot_for(paper_, SlotKind::paper)};
    return out;
  };
  const auto opens = [&](const Party& by, const NewEpochParts& epoch) {
    return make_new_epoch(next(), by.id, epoch, by.signer);
  };
  expect_refused(with(opens(second_, parts(2))), Code::alarm, "never confirmed");
  expect_refused(with(opens(ghost_, parts(2))), Code::alarm, "no key of this account");
  expect_refused(with(make_new_epoch(next(), first_.id, parts(2), second_.signer)), Code::alarm,
                 "did not sign");
  expect_refused(with(opens(first_, parts(1))), Code::corrupt, "the newest one is 1");
  expect_refused(with(opens(first_, parts(3))), Code::corrupt, "the newest one is 1");
  NewEpochParts steps_over = parts(2);
  steps_over.parent = 0;
  expect_refused(with(opens(first_, steps_over)), Code::corrupt, "after 0");
  NewEpochParts keyless = parts(2);
  keyless.parent_key = {};
  expect_refused(with(opens(first_, keyless)), Code::corrupt, "48 bytes");
  for (int change = 0; change < 3; ++change) {  // shut somebody out, let somebody in
    NewEpochParts other = parts(2);
    if (change == 0) other.slots.erase(other.slots.begin() + 1);
    if (change == 1) other.slots.pop_back();
    if (change == 2) other.slots.push_back(slot_for(ghost_, SlotKind::device));
    expect_refused(with(opens(first_, other)), Code::alarm, "slots are not exactly");
  }
  append(opens(first_, parts(2)));
  append(opens(paper_, parts(3)));
  EXPECT_EQ(chain().newest_epoch().number, 3U);
  EXPECT_EQ(chain().newest_epoch().opened_by, chain().newest_hash());
  EXPECT_EQ(chain().newest_epoch().previous, chain().hash_at(2));
  expect_refused(with(add(next(), paper_, third_)), Code::corrupt, "in the newest epoch");
}

TEST_F(ChainTest, one_device_makes_the_retention_lock_longer_and_not_shorter) {
  RepositoryId here, there;
  here.bytes[0] = std::byte{1};
  there.bytes[0] = std::byte{2};
  const auto set = [&](const Party& author, std::uint64_t seconds,
                       const std::optional<SecondVoter>& second = {}) {
    return make_set_retention_lock(next(), author.id, here, seconds, second, author.signer);
  };
  append(add(next(), first_, second_));
  expect_refused(with(set(second_, 100)), Code::alarm, "never confirmed");
  expect_refused(with(set(ghost_, 100)), Code::alarm, "no key of this account");
  append(set(first_, 100));
  EXPECT_EQ(chain().retention_lock(here), 100U);
  EXPECT_EQ(chain().retention_lock(there), 0U);
  append(set(first_, 200));
  for (const std::uint64_t shorter : {199U, 0U})
    expect_refused(with(set(first_, shorter)), Code::alarm, "one device alone");
  append(confirm(next(), paper_, second_));
  expect_refused(with(set(first_, 150, SecondVoter{third_.id, &third_.signer})), Code::alarm,
                 "not another voting device");
  expect_refused(with(set(first_, 150, SecondVoter{second_.id, &third_.signer})), Code::alarm,
                 "did not sign");
  expect_refused(with(set(first_, 300, SecondVoter{second_.id, &second_.signer})), Code::alarm,
                 "its author alone");
  append(set(first_, 150, SecondVoter{second_.id, &second_.signer}));
  EXPECT_EQ(chain().retention_lock(here), 150U);
  append(set(paper_, 0));
  EXPECT_EQ(chain().retention_lock(here), 0U);
  append(set(second_, kRetentionLockMax));
  expect_refused(with(set(paper_, kRetentionLockMax + 1)), Code::corrupt, "at most");
  expect_refused(
      with(make_set_retention_lock(next(), first_.id, here, kRetentionLockMax, {}, second_.signer)),
      Code::alarm, "its author alone");
}

TEST_F(ChainTest, a_thief_who_adds_a_device_is_not_two) {
  append(add(next(), first_, second_));
  expect_refused(with(add(next(), second_, third_)), Code::alarm, "never confirmed");
  expect_refused(with(confirm(next(), second_, second_)), Code::alarm, "never confirmed");
  expect_refused(with(confirm(next(), first_, second_)), Code::alarm, "one device alone");
}

TEST_F(ChainTest, ACC_01_a_ghost_device_is_refused_and_named) {
  // Signed by the ghost itself, in its own name and in the name of the account's device.
  for (const DeviceId& author : {ghost_.id, first_.id, paper_.id}) {
    const auto made =
        with(make_add_device(next(), author, ghost_.device(), 1, slot_for(ghost_, SlotKind::device),
                             ghost_.signer, ghost_.signer));
    expect_refused(made, Code::alarm, ghost_.print());
    EXPECT_THAT(made.error().what, AllOf(HasSubstr("chain/0000000000000001"),
                                         HasSubstr("ghost\\x0a"), HasSubstr("Nothing is shared")));
  }
}

TEST_F(ChainTest, the_new_device_must_countersign) {
  expect_refused(
      with(make_add_device(next(), first_.id, second_.device(), 1,
                           slot_for(second_, SlotKind::device), first_.signer, third_.signer)),
      Code::alarm, "did not countersign");
}

TEST_F(ChainTest, keys_come_once) {
  append(add(next(), first_, second_));
  expect_refused(with(add(next(), first_, second_)), Code::corrupt, "already");
  expect_refused(with(add(next(), first_, paper_)), Code::corrupt, "already");
  append(confirm(next(), paper_, second_));
  expect_refused(with(confirm(next(), paper_, second_)), Code::corrupt, "votes already");
  expect_refused(with(confirm(next(), paper_, third_)), Code::alarm, "no device of this account");
}

TEST_F(ChainTest, gaps_duplicates_and_other_accounts_are_named) {
  EntryPlace place = next();
  place.sequence = 2;
  expect_refused(with(add(place, first_, second_)), Code::corrupt, "a gap");
  expect_refused(with(entries_[0]), Code::corrupt, "a duplicate");
  place = next();
  place.account.bytes[0] ^= std::byte{1};
  expect_refused(with(add(place, first_, second_)), Code::corrupt, "belongs to account");
  place = next();
  place.previous.bytes[0] ^= std::byte{1};
  expect_refused(with(add(place, first_, second_)), Code::alarm, "follows an entry");
  append(add(next(), first_, second_));
  append(confirm(next(), paper_, second_));
  std::swap(entries_[1], entries_[2]);
  expect_refused(verify_chain(entries_), Code::corrupt, "chain/0000000000000001");
}

TEST_F(ChainTest, a_slot_must_be_the_new_devices_in_the_newest_epoch) {
  expect_refused(
      with(make_add_device(next(), first_.id, second_.device(), 2,
                           slot_for(second_, SlotKind::device), first_.signer, second_.signer)),
      Code::corrupt, "newest epoch");
  expect_refused(
      with(make_add_device(next(), first_.id, second_.device(), 1,
                           slot_for(ghost_, SlotKind::device), first_.signer, second_.signer)),
      Code::corrupt, "slot");
}

// Signs whatever body a test makes.
Bytes signed_entry(const wire::EntryBody& body, std::initializer_list<const Party*> signers) {
  const Bytes bytes = wire::encode(body);
  wire::ChainEntry entry;
  entry.set_body(wire::to_field(bytes));
  for (const Party* p : signers)
    entry.add_signatures(
        wire::to_field(p->signer.sign(Transcript(purpose::chain_entry).field(bytes)).span()));
  return wire::encode(entry);
}

wire::EntryBody body_of(const Bytes& entry) {
  const auto outer = *wire::parse_record<wire::ChainEntry>(entry, "entry");
  return *wire::parse_record<wire::EntryBody>(as_bytes(outer.body()), "body");
}

TEST_F(ChainTest, what_later_versions_bring_is_refused_by_name) {
  wire::EntryBody body = body_of(add(next(), first_, second_));
  for (const std::uint32_t type : {4U, 10U, 14U, 15U, 77U}) {
    body.set_type(type);
    expect_refused(with(signed_entry(body, {&first_, &second_})), Code::denied,
                   "type " + std::to_string(type));
  }
  body.set_type(4);
  expect_refused(with(signed_entry(body, {&first_})), Code::denied,
                 "(suspend) is unknown to this version; update holdfast");
  body.set_type(3);
  expect_refused(with(signed_entry(body, {&first_, &second_})), Code::corrupt,
                 "confirms no device");
  body.set_type(2);
  body.set_version(2);
  expect_refused(with(signed_entry(body, {&first_, &second_})), Code::denied, "version 2");
}

TEST_F(ChainTest, a_payload_of_a_later_version_is_not_called_damage) {
  wire::EntryBody body = body_of(add(next(), first_, second_));
  body.clear_add_device();
  body.set_type(4);
  Bytes bytes = wire::encode(body);
  for (const int b : {0x9A, 0x01, 0x01, 0x41}) bytes.push_back(static_cast<std::byte>(b));
  wire::ChainEntry entry;
  entry.set_body(wire::to_field(bytes));
  // Anybody can write such bytes: only what a key of the account signed is of a newer program.
  expect_refused(with(wire::encode(entry)), Code::corrupt, "no entry that a key of this account");
  const Transcript message = Transcript(purpose::chain_entry).field(bytes);
  const auto signature_by = [&](const Party& who) {
    return wire::to_field(who.signer.sign(message).span());
  };
  entry.add_signatures(signature_by(ghost_));
  expect_refused(with(wire::encode(entry)), Code::corrupt, "no entry that a key of this account");
  entry.set_signatures(0, signature_by(first_));
  expect_refused(with(wire::encode(entry)), Code::denied, "suspend");
}

TEST_F(ChainTest, RNS_01_bytes_that_are_no_entry_are_damage_and_no_newer_version) {
  for (const Bytes& bytes : {Bytes{}, Bytes(1), Bytes(3, std::byte{0x41})})
    expect_refused(with(bytes), Code::corrupt, "");
  wire::EntryBody body = body_of(add(next(), first_, second_));
  body.set_version(2);
  expect_refused(with(signed_entry(body, {&ghost_})), Code::corrupt, "version 2");
  expect_refused(with(signed_entry(body, {&first_})), Code::denied, "version 2");
}

class GenesisTest : public ChainTest {
 protected:
  [[nodiscard]] Result<Chain> changed(const std::function<void(wire::Genesis&)>& change) const {
    wire::EntryBody body = body_of(entries_[0]);
    change(*body.mutable_genesis());
    return verify_chain(std::vector<Bytes>{signed_entry(body, {&first_, &paper_})});
  }
};

TEST_F(GenesisTest, ACC_04_standard_mode_is_an_alarm) {
  expect_refused(changed([](wire::Genesis& g) { g.set_mode(2); }), Code::alarm,
                 "standard mode needs trustees");
  expect_refused(changed([](wire::Genesis& g) { g.set_mode(0); }), Code::alarm, "mode 0");
}

TEST_F(GenesisTest, the_paper_key_and_the_device_sign) {
  const wire::EntryBody body = body_of(entries_[0]);
  const auto signed_by = [&](std::initializer_list<const Party*> parties) {
    return verify_chain(std::vector<Bytes>{signed_entry(body, parties)});
  };
  EXPECT_TRUE(signed_by({&first_, &paper_}));
  expect_refused(signed_by({&first_}), Code::alarm, "not signed");
  expect_refused(signed_by({&paper_, &first_}), Code::alarm, "not signed");
  expect_refused(signed_by({&first_, &ghost_}), Code::alarm, "not signed");
  expect_refused(signed_by({&first_, &paper_, &ghost_}), Code::alarm, "not signed");
}

TEST_F(GenesisTest, every_part_has_its_form) {
  expect_refused(changed([](wire::Genesis& g) { g.clear_random(); }), Code::corrupt, "random");
  expect_refused(changed([](wire::Genesis& g) { g.mutable_place()->set_kind(2); }), Code::denied,
                 "ordering place");
  expect_refused(changed([](wire::Genesis& g) { g.mutable_device()->clear_name(); }), Code::corrupt,
                 "name");
  expect_refused(changed([](wire::Genesis& g) { g.mutable_epoch()->set_number(2); }), Code::corrupt,
                 "epoch 1");
  expect_refused(changed([](wire::Genesis& g) { g.mutable_epoch()->set_secrets("x"); }),
                 Code::corrupt, "secrets");
  expect_refused(
      changed([](wire::Genesis& g) { g.mutable_epoch()->mutable_slots(0)->set_suite(2); }),
      Code::denied, "slot suite 2");
  expect_refused(
      changed([](wire::Genesis& g) { g.mutable_epoch()->mutable_slots()->RemoveLast(); }),
      Code::alarm, "slots");
  expect_refused(
      changed([](wire::Genesis& g) { g.mutable_epoch()->mutable_slots()->SwapElements(0, 1); }),
      Code::alarm, "slots");
  expect_refused(
      changed([](wire::Genesis& g) { *g.mutable_paper()->mutable_open() = g.device().open(); }),
      Code::corrupt, "same key");
}

TEST_F(ChainTest, ACC_02_less_or_other_than_known_is_an_alarm) {
  const Chain before = chain();
  append(add(next(), first_, second_));
  const Chain now = chain();
  EXPECT_TRUE(check_against_known(now, 0, before.newest_hash()));
  EXPECT_TRUE(check_against_known(now, 1, now.newest_hash()));
  const auto rolled_back = check_against_known(before, 1, now.newest_hash());
  ASSERT_FALSE(rolled_back);
  EXPECT_EQ(rolled_back.error().code, Code::alarm);
  EXPECT_THAT(rolled_back.error().what, HasSubstr("chain shorter than known"));
  const auto forked = check_against_known(now, 1, before.newest_hash());
  ASSERT_FALSE(forked);
  EXPECT_EQ(forked.error().code, Code::alarm);
}

TEST_F(ChainTest, two_valid_entries_with_one_number_are_a_fork) {
  const Chain before = chain();
  const Chain a = *with(add(next(), first_, second_));
  const Chain b = *with(add(next(), first_, third_));
  EXPECT_TRUE(check_no_fork(before, a));
  EXPECT_TRUE(check_no_fork(a, before));
  const auto forked = check_no_fork(a, b);
  ASSERT_FALSE(forked);
  EXPECT_EQ(forked.error().code, Code::alarm);
  EXPECT_THAT(forked.error().what, HasSubstr("chain/0000000000000001"));
}

TEST_F(ChainTest, every_changed_byte_is_refused) {
  append(add(next(), first_, second_));
  append(confirm(next(), paper_, second_));
  for (std::size_t n = 0; n < entries_.size(); ++n) {
    const Bytes right = entries_[n];
    for (std::size_t i = 0; i < right.size(); ++i) {
      entries_[n] = right;
      entries_[n][i] ^= std::byte{4};
      ASSERT_FALSE(verify_chain(entries_)) << n << " " << i;
      entries_[n] = Bytes(right.begin(), right.begin() + static_cast<std::ptrdiff_t>(i));
      ASSERT_FALSE(verify_chain(entries_)) << n << " " << i;
    }
    entries_[n] = right;
  }
  EXPECT_TRUE(verify_chain(entries_));
}

TEST_F(ChainTest, limits) {
  expect_refused(with(Bytes(kChainEntryMax + 1)), Code::corrupt, "larger");
  const Party longest(20, std::string(kDeviceNameMax, 'n'));
  EXPECT_TRUE(with(add(next(), first_, longest)));
  const Party longer(20, std::string(kDeviceNameMax + 1, 'n'));
  expect_refused(with(add(next(), first_, longer)), Code::corrupt, "name");
}

TEST_F(ChainTest, at_most_256_devices) {
  Chain c = chain();
  for (int n = 0; n < 255; ++n) {
    Secret seed = seed_of(n);
    seed.bytes()[1] = std::byte{1};
    Party party(10);
    const DeviceSigner signer(seed.span());
    party.open.bytes[0] = static_cast<std::byte>(n);
    party.open.bytes[1] = std::byte{1};
    party.id = device_id(signer.public_key(), party.open);
    const Bytes entry =
        make_add_device(next_place(c), first_.id, {signer.public_key(), party.open, "n"}, 1,
                        slot_for(party, SlotKind::device), first_.signer, signer);
    c = *extend_chain(c, std::vector<Bytes>{entry});
  }
  EXPECT_EQ(c.devices().size(), kChainDevicesMax);
  const auto more = extend_chain(c, std::vector<Bytes>{add(next_place(c), first_, second_)});
  ASSERT_FALSE(more);
  EXPECT_THAT(more.error().what, HasSubstr("at most 256 devices"));
}

}  // namespace
}  // namespace holdfast
