// SPDX-License-Identifier: Apache-2.0
#include "account/account.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>
#include <sodium.h>

#include <algorithm>
#include <cstdlib>
#include <fstream>
#include <functional>
#include <sstream>
#include <utility>

#include "account/slots.h"
#include "base/seeded_random.h"
#include "crypto/hash.h"

namespace holdfast {

// Puts an epoch behind a chain, without an entry that anybody would make.
struct ChainTestAccess {
  static void add_epoch(Chain& chain, ChainEpoch epoch) {
    chain.hashes_.push_back(epoch.opened_by);
    chain.epochs_.push_back(std::move(epoch));
  }
  static ChainEpoch& epoch(Chain& chain, std::size_t n) { return chain.epochs_[n]; }
};

namespace {

using ::testing::HasSubstr;

class AccountTest : public ::testing::Test {
 protected:
  AccountTest() : made_(std::move(*create_account(random_, "first", place()))) {
    entries_ = made_.entries;
  }
  static OrderingPlace place() {
    return {OrderingPlace::Kind::repository, RepositoryId::from(Bytes(16, std::byte{5}))};
  }
  [[nodiscard]] Chain chain() const { return *verify_chain(entries_); }
  DeviceKeys recover(const std::string& name) {
    auto out = recover_device(chain(), made_.paper, random_, name);
    if (!out) throw std::runtime_error(out.error().what);
    entries_.insert(entries_.end(), out->entries.begin(), out->entries.end());
    return std::move(out->device);
  }

  SeededRandom random_{1};
  NewAccount made_;
  std::vector<Bytes> entries_;
};

bool same(const OpenedAccount& a, const OpenedAccount& b) {
  const bool epochs =
      std::ranges::equal(a.epochs, b.epochs, [](const OpenEpoch& x, const OpenEpoch& y) {
        return x.number == y.number && x.opened_by == y.opened_by &&
               equal_secret(x.key.span(), y.key.span());
      });
  return epochs && equal_secret(a.account_secret.span(), b.account_secret.span()) &&
         equal_secret(a.paper_part.span(), b.paper_part.span());
}

void expect_void(const Result<OpenedAccount>& opened, std::string_view part) {
  ASSERT_FALSE(opened);
  EXPECT_EQ(opened.error().code, Code::alarm) << opened.error().what;
  EXPECT_THAT(opened.error().what, HasSubstr("void"));
  EXPECT_THAT(opened.error().what, HasSubstr(part));
}

TEST_F(AccountTest, device_and_paper_key_open_the_same) {
  const auto by_device = open_account(chain(), made_.device);
  ASSERT_TRUE(by_device) << by_device.error().what;
  const auto by_paper = open_account_with_paper(chain(), made_.paper);
  ASSERT_TRUE(by_paper) << by_paper.error().what;
  EXPECT_TRUE(same(*by_device, *by_paper));
  ASSERT_EQ(by_device->epochs.size(), 1U);
  EXPECT_EQ(by_device->epochs[0].opened_by, chain().hash_at(0));
  EXPECT_EQ(chain().place(), place());
  EXPECT_EQ(made_.device.account, chain().account());
}

TEST_F(AccountTest, recovered_devices_vote_and_open_the_same) {
  const DeviceKeys second = recover("second");
  const DeviceKeys third = recover("third");
  EXPECT_EQ(chain().position(), 4U);
  const OpenedAccount first = *open_account(chain(), made_.device);
  for (const DeviceKeys* keys : {&second, &third}) {
    EXPECT_TRUE(chain().device(keys->id)->voting);
    const auto opened = open_account(chain(), *keys);
    ASSERT_TRUE(opened) << opened.error().what;
    EXPECT_TRUE(same(*opened, first));
  }
  EXPECT_TRUE(same(*open_account_with_paper(chain(), made_.paper), first));
}

TEST_F(AccountTest, the_key_file_keeps_what_opens) {
  const DeviceKeys second = recover("second");
  for (const DeviceKeys* keys : {&std::as_const(made_).device, &second}) {
    const auto read = open_key_file(plain_key_file(*keys).span(), {});
    ASSERT_TRUE(read) << read.error().what;
    EXPECT_TRUE(open_account(chain(), *read));
  }
}

TEST_F(AccountTest, keys_of_others_are_denied) {
  SeededRandom random(2);
  const NewAccount other = std::move(*create_account(random, "other", place()));
  EXPECT_EQ(open_account(chain(), other.device).error().code, Code::denied);
  const auto paper = open_account_with_paper(chain(), other.paper);
  ASSERT_FALSE(paper);
  EXPECT_EQ(paper.error().code, Code::denied);
  EXPECT_THAT(paper.error().what, HasSubstr(chain().account().hex()));
  EXPECT_EQ(recover_device(chain(), other.paper, random, "x").error().code, Code::denied);
}

TEST_F(AccountTest, a_device_that_is_not_in_the_chain_is_denied) {
  const Chain before = chain();
  const DeviceKeys second = recover("second");
  EXPECT_EQ(open_account(before, second).error().code, Code::denied);
  DeviceKeys wrong_start = made_.device.clone();
  wrong_start.start_secret.bytes()[0] ^= std::byte{1};
  EXPECT_EQ(open_account(chain(), wrong_start).error().code, Code::corrupt);
}

TEST_F(AccountTest, names_have_limits) {
  for (const std::string& name : {std::string(), std::string(kDeviceNameMax + 1, 'n')}) {
    EXPECT_EQ(create_account(random_, name, place()).error().code, Code::invalid);
    EXPECT_EQ(recover_device(chain(), made_.paper, random_, name).error().code, Code::invalid);
  }
  EXPECT_TRUE(create_account(random_, std::string(kDeviceNameMax, 'n'), place()));
}

TEST_F(AccountTest, ACC_06_no_key_is_taken_from_a_changed_chain) {
  recover("second");
  for (std::size_t n = 0; n < entries_.size(); ++n) {
    for (std::size_t i = 0; i < entries_[n].size(); i += 3) {
      std::vector<Bytes> changed = entries_;
      changed[n][i] ^= std::byte{1};
      const auto read = verify_chain(changed);
      ASSERT_FALSE(read) << n << " " << i;
      EXPECT_THAT(read.error().what, HasSubstr("chain/"));
    }
  }
}

// ---- Slots ----

class SlotTest : public AccountTest {
 protected:
  // As open_account does with its own slot.
  [[nodiscard]] Result<EpochKeys> open(const ChainEpoch& epoch, const ChainSlot& slot,
                                       const X25519Key& key, ByteSpan secret) const {
    const Chain c = chain();
    HF_ASSIGN(EpochKeys keys, open_slot(place_of(c, epoch, slot), slot, secret, key));
    HF_TRY(check_commitments(place_of(c, epoch), epoch, keys));
    return keys;
  }
};

TEST_F(SlotTest, ENG_10_every_flipped_byte_of_a_slot_gives_the_same_error) {
  const DeviceKeys second = recover("second");
  const ChainEpoch epoch = chain().newest_epoch();
  ASSERT_EQ(epoch.slots.size(), 3U);
  std::string text;
  for (const ChainSlot& slot : epoch.slots) {
    const bool paper = slot.kind == SlotKind::paper, first = slot.id == made_.device.id;
    const X25519Key key(paper ? made_.paper.open_secret()
                              : (first ? made_.device : second).open_secret.clone());
    const Secret secret =
        paper ? made_.paper.symmetric() : (first ? made_.device : second).start_secret.clone();
    ASSERT_TRUE(open(epoch, slot, key, secret.span()));
    const auto refused = [&](const std::function<void(ChainSlot&)>& change) {
      ChainSlot changed = slot;
      change(changed);
      const auto opened = open(epoch, changed, key, secret.span());
      ASSERT_FALSE(opened);
      if (text.empty()) text = opened.error().what;
      EXPECT_EQ(opened.error().what, text);
      EXPECT_EQ(opened.error().code, Code::corrupt);
    };
    for (std::size_t i = 0; i < slot.sealed.size(); ++i)
      refused([&](ChainSlot& s) { s.sealed[i] ^= std::byte{1}; });
    for (std::size_t i = 0; i < 32; ++i) {
      refused([&](ChainSlot& s) { s.ephemeral.bytes[i] ^= std::byte{1}; });
      refused([&](ChainSlot& s) { s.previous.bytes[i] ^= std::byte{1}; });
      refused([&](ChainSlot& s) { s.id.bytes[i / 2] ^= std::byte{1}; });
    }
    refused([](ChainSlot& s) { s.ephemeral = {}; });  // small order
    refused([](ChainSlot& s) { s.position += 2; });
    refused([](ChainSlot& s) { s.suite = 2; });
    refused([](ChainSlot& s) { s.sealed.resize(79); });
    refused([](ChainSlot& s) { s.sealed.clear(); });
    refused([](ChainSlot& s) {
      s.kind = s.kind == SlotKind::paper ? SlotKind::device : SlotKind::paper;
    });
  }
}

TEST_F(SlotTest, a_slot_whose_keys_are_not_the_committed_ones_gives_the_same_error) {
  const ChainEpoch epoch = chain().newest_epoch();
  const EpochKeys planted{Secret::random(32, random_), Secret::random(32, random_)};
  const SlotOwner owner{made_.device.id, SlotKind::device, made_.device.opener().public_key()};
  const NewSlot made =
      *seal_slot(place_of(chain(), epoch), owner, made_.device.start_secret.span(), planted);
  const ChainSlot slot{made.id, made.kind, made.suite, made.ephemeral, made.sealed, 0, {}};
  const auto opened = open(epoch, slot, made_.device.opener(), made_.device.start_secret.span());
  ASSERT_FALSE(opened);
  EXPECT_THAT(opened.error().what, HasSubstr("slot does not open"));
}

// A genesis whose first device is the liar.
class VoidTest : public AccountTest {
 protected:
  [[nodiscard]] Result<OpenedAccount> opened_with(
      const std::function<void(NewEpochParts&)>& change) {
    const PaperKey& paper = made_.paper;
    const X25519Key paper_key(paper.open_secret());
    const DeviceSigner paper_signer(paper.sign_seed().span());
    const DeviceId paper_id = device_id(paper_signer.public_key(), paper_key.public_key());
    const EpochKeys keys{Secret::random(32, random_), Secret::random(32, random_)};
    const EpochSecrets secrets{made_.device.start_secret.clone(), paper_id, paper.symmetric()};
    const SlotOwner owners[] = {
        {made_.device.id, SlotKind::device, made_.device.opener().public_key()},
        {paper_id, SlotKind::paper, paper_key.public_key()}};
    NewEpochParts parts = *seal_epoch({{}, 1, 0, {}}, keys, {}, secrets, owners);
    change(parts);
    const auto made = verify_chain(
        std::vector<Bytes>{make_genesis(Bytes(32), place(), "first", parts, owners[0].open,
                                        owners[1].open, made_.device.signer(), paper_signer)});
    if (!made) return std::unexpected(made.error());
    DeviceKeys device = made_.device.clone();
    device.account = made->account();
    return open_account(*made, device);
  }
};

TEST_F(VoidTest, a_wrong_slot_of_the_paper_key_voids_the_epoch) {
  EXPECT_TRUE(opened_with([](NewEpochParts&) {}));
  expect_void(opened_with([](NewEpochParts& e) { e.slots[1].sealed[5] ^= std::byte{1}; }),
              "slot of the paper key");
  expect_void(opened_with([](NewEpochParts& e) { e.slots[1].ephemeral.bytes[5] ^= std::byte{1}; }),
              "slot of the paper key");
}

TEST_F(VoidTest, sealed_secrets_that_do_not_open_void_the_epoch) {
  for (std::size_t i = 0; i < 96; i += 5)
    expect_void(opened_with([&](NewEpochParts& e) { e.secrets[i] ^= std::byte{1}; }), "secrets");
}

TEST_F(VoidTest, commitments_are_compared_before_use) {
  for (std::size_t i = 0; i < 32; i += 5) {
    const auto key =
        opened_with([&](NewEpochParts& e) { e.key_commitment.bytes[i] ^= std::byte{1}; });
    const auto secret =
        opened_with([&](NewEpochParts& e) { e.secret_commitment.bytes[i] ^= std::byte{1}; });
    ASSERT_FALSE(key || secret);
    EXPECT_EQ(key.error().code, Code::corrupt);
    EXPECT_EQ(key.error().what, secret.error().what);
  }
}

TEST_F(VoidTest, a_missing_slot_is_refused_with_the_chain) {
  const auto opened = opened_with([](NewEpochParts& e) { e.slots.pop_back(); });
  ASSERT_FALSE(opened);
  EXPECT_EQ(opened.error().code, Code::alarm);
}

TEST_F(VoidTest, a_wrong_slot_that_was_added_later_voids_the_epoch_for_all) {
  const OpenedAccount opened = *open_account(chain(), made_.device);
  DeviceKeys thief = made_.device.clone();
  thief.sign_seed = Secret::random(32, random_);
  const X25519PublicKey open = thief.opener().public_key();
  const DeviceId id = device_id(thief.signer().public_key(), open);
  const NewSlot slot{id, SlotKind::device, 1, open, Bytes(80)};
  entries_.push_back(
      make_add_device(next_place(chain()), made_.device.id,
                      {thief.signer().public_key(), made_.device.opener().public_key(), "new"}, 1,
                      slot, made_.device.signer(), thief.signer()));
  ASSERT_FALSE(verify_chain(entries_));  // the opening key is taken already
  entries_.pop_back();
  thief.open_secret = Secret::random(32, random_);
  const X25519PublicKey fresh = thief.opener().public_key();
  const DeviceId fresh_id = device_id(thief.signer().public_key(), fresh);
  entries_.push_back(make_add_device(
      next_place(chain()), made_.device.id, {thief.signer().public_key(), fresh, "new"}, 1,
      {fresh_id, SlotKind::device, 1, open, Bytes(80)}, made_.device.signer(), thief.signer()));
  ASSERT_TRUE(verify_chain(entries_));
  expect_void(open_account(chain(), made_.device), fresh_id.hex());
  expect_void(open_account_with_paper(chain(), made_.paper), fresh_id.hex());
  EXPECT_FALSE(recover_device(chain(), made_.paper, random_, "x"));
}

// ---- Later epochs ----

TEST_F(AccountTest, a_new_epoch_opens_for_everybody_and_for_who_comes_later) {
  const DeviceKeys second = recover("second");
  for (const DeviceKeys* by : {&second, &std::as_const(made_).device}) {
    const Secret before = open_account(chain(), *by)->epochs.back().key.clone();
    const auto entry = new_epoch_entry(chain(), *by, random_);
    ASSERT_TRUE(entry) << entry.error().what;
    entries_.push_back(*entry);
    const auto opened = open_account(chain(), *by);
    ASSERT_TRUE(opened) << opened.error().what;
    EXPECT_FALSE(equal_secret(opened->epochs.back().key.span(), before.span()));
  }
  const DeviceKeys third = recover("third");
  const auto by_paper = open_account_with_paper(chain(), made_.paper);
  ASSERT_TRUE(by_paper) << by_paper.error().what;
  ASSERT_EQ(by_paper->epochs.size(), 3U);
  for (const DeviceKeys* keys : {&std::as_const(made_).device, &second, &third})
    EXPECT_TRUE(same(*open_account(chain(), *keys), *by_paper));
}

TEST_F(AccountTest, one_that_does_not_vote_opens_no_epoch) {
  // As add_device_entry does it, without the confirmation.
  auto more = recover_device(chain(), made_.paper, random_, "second");
  ASSERT_TRUE(more);
  entries_.push_back(more->entries[0]);
  const auto refused = new_epoch_entry(chain(), more->device, random_);
  ASSERT_FALSE(refused);
  EXPECT_EQ(refused.error().code, Code::denied);
  EXPECT_THAT(refused.error().what, HasSubstr("never confirmed"));
}

// Epochs that lie: put behind a chain without an entry.

class EpochsTest : public AccountTest {
 protected:
  // Opens epoch `chain.epochs().size() + 1` for all devices, from what `by` knows.
  void next_epoch(Chain& c, const DeviceKeys& by,
                  const std::function<void(EpochKeys&, EpochParent&, EpochSecrets&)>& lie = {}) {
    const OpenedAccount opened = *open_account(c, by);
    const auto number = static_cast<Epoch>(c.epochs().size() + 1);
    const EpochPlace place{c.account(), number, c.position() + 1, c.newest_hash()};
    EpochKeys keys{Secret::random(32, random_), Secret::random(32, random_)};
    EpochParent parent{number - 1, opened.epochs.back().key.clone()};
    EpochSecrets secrets{opened.account_secret.clone(), c.paper().id, opened.paper_part.clone()};
    if (lie) lie(keys, parent, secrets);
    std::vector<SlotOwner> owners{{c.paper().id, SlotKind::paper, c.paper().open}};
    for (const ChainDevice& d : c.devices()) owners.push_back({d.id, SlotKind::device, d.open});
    NewEpochParts parts = *seal_epoch(place, keys, parent, secrets, owners);
    ChainEpoch epoch;
    epoch.number = number;
    epoch.parent = number - 1;
    epoch.position = place.position;
    epoch.previous = place.previous;
    random_.fill(epoch.opened_by.bytes);
    epoch.parent_key = parts.parent_key;
    epoch.secrets = parts.secrets;
    epoch.key_commitment = parts.key_commitment;
    epoch.secret_commitment = parts.secret_commitment;
    for (const NewSlot& s : parts.slots)
      epoch.slots.push_back(
          {s.id, s.kind, s.suite, s.ephemeral, s.sealed, place.position, place.previous});
    ChainTestAccess::add_epoch(c, std::move(epoch));
  }
};

TEST_F(EpochsTest, who_was_away_opens_them_in_order_and_newcomers_open_the_older_ones) {
  const DeviceKeys second = recover("second");
  Chain c = chain();
  for (int i = 0; i < 3; ++i) next_epoch(c, i % 2 == 0 ? second : made_.device);
  const auto first = open_account(c, made_.device);
  ASSERT_TRUE(first) << first.error().what;
  EXPECT_EQ(first->epochs.size(), 4U);
  EXPECT_TRUE(same(*first, *open_account(c, second)));
  EXPECT_TRUE(same(*first, *open_account_with_paper(c, made_.paper)));
}

TEST_F(EpochsTest, one_who_came_late_opens_the_older_ones_through_their_children) {
  Chain c = chain();
  next_epoch(c, made_.device);
  next_epoch(c, made_.device);
  // Only the last epoch has a slot for the paper key, as for one that was added late.
  for (const std::size_t n : {0U, 1U}) {
    auto& slots = ChainTestAccess::epoch(c, n).slots;
    std::erase_if(slots, [](const ChainSlot& s) { return s.kind == SlotKind::paper; });
  }
  const auto late = open_account_with_paper(c, made_.paper);
  ASSERT_TRUE(late) << late.error().what;
  EXPECT_TRUE(same(*late, *open_account(c, made_.device)));
}

TEST_F(EpochsTest, every_changed_byte_of_an_epoch_is_refused) {
  Chain c = chain();
  next_epoch(c, made_.device);
  const ChainEpoch right = c.newest_epoch();
  auto& epoch = ChainTestAccess::epoch(c, 1);
  const auto refused = [&] {
    EXPECT_FALSE(open_account(c, made_.device));
    EXPECT_FALSE(open_account_with_paper(c, made_.paper));
    epoch = right;
  };
  for (std::size_t i = 0; i < right.secrets.size(); i += 7) {
    epoch.secrets[i] ^= std::byte{1};
    refused();
  }
  for (std::size_t i = 0; i < 80; i += 5) {
    epoch.slots[1].sealed[i] ^= std::byte{1};
    refused();
  }
  epoch.parent = 7;
  refused();
  epoch.number = 3;
  refused();
  epoch.slots.erase(epoch.slots.begin());
  EXPECT_FALSE(open_account_with_paper(c, made_.paper));
}

TEST_F(EpochsTest, the_old_epoch_key_must_be_the_old_epoch_key) {
  Chain c = chain();
  next_epoch(c, made_.device, [&](EpochKeys&, EpochParent& parent, EpochSecrets&) {
    parent.key = Secret::random(32, random_);
  });
  expect_void(open_account(c, made_.device), "the epoch before");
}

TEST_F(EpochsTest, a_new_epoch_goes_on_with_the_old_secrets) {
  Chain c = chain();
  next_epoch(c, made_.device, [&](EpochKeys&, EpochParent&, EpochSecrets& secrets) {
    secrets.paper_part = Secret::random(32, random_);
  });
  expect_void(open_account(c, made_.device), "the epoch before");
}

TEST_F(EpochsTest, an_epoch_key_alone_gives_no_account_secret) {
  Chain c = chain();
  next_epoch(c, made_.device);
  const OpenedAccount opened = *open_account(c, made_.device);
  const EpochKeys alone{opened.epochs.back().key.clone(), Secret(32)};
  const ChainEpoch& epoch = c.newest_epoch();
  EXPECT_TRUE(open_parent_key(place_of(c, epoch), epoch, alone));  // older data: yes
  EXPECT_FALSE(open_epoch_secrets(place_of(c, epoch), epoch, alone));
}

// ---- What lies in stores and homes ----

std::vector<Bytes> guesses(ByteSpan secret) {
  const auto copy = [](ByteSpan b) { return Bytes(b.begin(), b.end()); };
  const auto text = [&](std::string_view t) { return copy(as_bytes(t)); };
  std::vector<Bytes> out{copy(secret), text(to_hex(secret))};
  for (const int variant : {sodium_base64_VARIANT_ORIGINAL, sodium_base64_VARIANT_URLSAFE}) {
    char base64[128];
    sodium_bin2base64(base64, sizeof base64, uchars(secret), secret.size(), variant);
    out.push_back(text(std::string_view(base64).substr(0, 42)));
  }
  out.push_back(copy(sha256(secret).span()));
  out.push_back(text(sha256(secret).hex()));
  out.push_back(copy(sha256(sha256(secret).span()).span()));
  for (const std::string_view key : {"", "holdfast", "paper-key"})
    out.push_back(copy(HmacSha256(as_bytes(key)).tag({}, secret).span()));
  Bytes digest(64);
  crypto_hash_sha512(uchars(MutableByteSpan(digest)), uchars(secret), secret.size());
  digest.resize(32);
  out.push_back(digest);
  crypto_generichash(uchars(MutableByteSpan(digest)), 32, uchars(secret), secret.size(), nullptr,
                     0);
  out.push_back(digest);
  return out;
}

bool holds(ByteSpan bytes, ByteSpan part) { return !std::ranges::search(bytes, part).empty(); }

TEST_F(AccountTest, REC_05_nothing_that_is_stored_holds_the_paper_key_or_a_hash_of_it) {
  const DeviceKeys second = recover("second");
  std::vector<Bytes> stored = entries_;
  for (const DeviceKeys* keys : {&std::as_const(made_).device, &second}) {
    const Secret file = plain_key_file(*keys);
    stored.emplace_back(file.span().begin(), file.span().end());
  }
  const Secret words = made_.paper.words();
  const Secret parts[] = {made_.paper.symmetric(), made_.paper.open_secret(),
                          made_.paper.sign_seed(), Secret::copy_of(made_.paper.bits())};
  for (const Bytes& object : stored) {
    for (const Secret& part : parts)
      for (const Bytes& guess : guesses(part.span())) EXPECT_FALSE(holds(object, guess));
    for (std::size_t n = 4; n < words.size(); n *= 2)
      EXPECT_FALSE(holds(object, words.span().first(n)));
  }
  EXPECT_TRUE(holds(stored[0], made_.device.signer().public_key().span()));  // the search finds
}

TEST(Account, any_sequence_of_recoveries_and_epochs_opens_everywhere) {
  for (std::uint64_t seed = 0; seed < 16; ++seed) {
    SeededRandom random(seed);
    const NewAccount made = std::move(*create_account(random, "d0", {}));
    std::vector<Bytes> entries = made.entries;
    std::vector<DeviceKeys> devices;
    devices.push_back(made.device.clone());
    for (std::uint64_t n = random.below(8); n > 0; --n) {
      if (random.below(2) == 0) {
        auto entry =
            new_epoch_entry(*verify_chain(entries), devices[random.below(devices.size())], random);
        ASSERT_TRUE(entry) << seed << ": " << entry.error().what;
        entries.push_back(std::move(*entry));
        continue;
      }
      auto more =
          recover_device(*verify_chain(entries), made.paper, random, "d" + std::to_string(n));
      ASSERT_TRUE(more) << seed << ": " << more.error().what;
      entries.insert(entries.end(), more->entries.begin(), more->entries.end());
      devices.push_back(std::move(more->device));
    }
    const Chain chain = *verify_chain(entries);
    const auto by_paper = open_account_with_paper(chain, made.paper);
    ASSERT_TRUE(by_paper) << seed << ": " << by_paper.error().what;
    for (const DeviceKeys& keys : devices) {
      const auto opened = open_account(chain, keys);
      ASSERT_TRUE(opened) << seed << ": " << opened.error().what;
      EXPECT_TRUE(same(*opened, *by_paper)) << seed;
    }
  }
}

// ---- Vectors: docs/formats/account.md ----

// Random 1 makes the account of "first"; the same stream then recovers "second", which opens epoch
// 2.
std::string vectors() {
  SeededRandom random(1);
  const NewAccount made = std::move(*create_account(
      random, "first",
      {OrderingPlace::Kind::repository, RepositoryId::from(Bytes(16, std::byte{5}))}));
  std::vector<Bytes> entries = made.entries;
  const Recovered more =
      std::move(*recover_device(*verify_chain(entries), made.paper, random, "second"));
  entries.insert(entries.end(), more.entries.begin(), more.entries.end());
  const Chain chain = *verify_chain(entries);
  const OpenedAccount opened = *open_account(chain, more.device);
  PassphraseParameters parameters{kPassesMin, kMemoryMin, {}};
  random.fill(parameters.salt);

  std::string out =
      "# An account of two devices. docs/formats/account.md; made and checked by account_test.\n";
  const auto line = [&](std::string_view name, ByteSpan value) {
    out += std::string(name) + " " + to_hex(value) + "\n";
  };
  line("paper-bits", made.paper.bits());
  out += "paper-words " + std::string(as_text(made.paper.words().span())) + "\n";
  line("paper-symmetric", made.paper.symmetric().span());
  line("paper-x25519", made.paper.open_secret().span());
  line("paper-ed25519", made.paper.sign_seed().span());
  line("paper-id", chain.paper().id.span());
  for (const DeviceKeys* keys : {&made.device, &more.device}) {
    out += "device " + keys->name + "\n";
    line("device-id", keys->id.span());
    line("sign-seed", keys->sign_seed.span());
    line("open-secret", keys->open_secret.span());
    line("start-secret", keys->start_secret.span());
    line("key-file", plain_key_file(*keys).span());
  }
  line("key-file-passphrase-secret", *sealed_key_file(made.device, "secret", parameters));
  line("account", chain.account().span());
  line("epoch-key", opened.epochs[0].key.span());
  line("account-secret", opened.account_secret.span());
  for (std::size_t n = 0; n < entries.size(); ++n) {
    line("entry", entries[n]);
    line("entry-hash", chain.hash_at(n).span());
  }
  entries.push_back(*new_epoch_entry(chain, more.device, random));
  const Chain longer = *verify_chain(entries);
  const OpenedAccount after = *open_account(longer, made.device);
  out += "epoch 2\n";
  line("epoch-key", after.epochs[1].key.span());
  line("account-secret", after.account_secret.span());
  line("entry", entries.back());
  line("entry-hash", longer.newest_hash().span());
  return out;
}

// HOLDFAST_WRITE_VECTORS=1 writes the file anew: only when the format gets a new version, or more
// lines behind those that stand.
TEST(Account, vectors_are_those_of_the_document) {
  const std::string path = HOLDFAST_TESTDATA "/vectors/account.txt";
  if (std::getenv("HOLDFAST_WRITE_VECTORS") != nullptr) std::ofstream(path) << vectors();
  std::stringstream text;
  text << std::ifstream(path).rdbuf();
  EXPECT_EQ(text.str(), vectors());
}

}  // namespace
}  // namespace holdfast
