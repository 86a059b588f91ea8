// SPDX-License-Identifier: Apache-2.0
#include "account/device_keys.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include "account/account.h"
#include "base/seeded_random.h"
#include "crypto/hash.h"
#include "crypto/purposes.h"
#include "crypto/transcript.h"

namespace holdfast {
namespace {

using ::testing::HasSubstr;

DeviceKeys example(std::uint64_t seed = 1) {
  SeededRandom random(seed);
  return std::move(create_account(random, "laptop", {})->device);
}

PassphraseParameters cheapest() {
  SeededRandom random(2);
  PassphraseParameters out = new_passphrase_parameters(random);
  out.passes = kPassesMin;
  out.memory_bytes = kMemoryMin;
  return out;
}

void expect_same(const DeviceKeys& a, const DeviceKeys& b) {
  EXPECT_EQ(a.account, b.account);
  EXPECT_EQ(a.id, b.id);
  EXPECT_EQ(a.name, b.name);
  EXPECT_TRUE(equal_secret(a.sign_seed.span(), b.sign_seed.span()));
  EXPECT_TRUE(equal_secret(a.open_secret.span(), b.open_secret.span()));
  EXPECT_TRUE(equal_secret(a.start_secret.span(), b.start_secret.span()));
}

Bytes copy(ByteSpan bytes) { return {bytes.begin(), bytes.end()}; }

// As someone would who writes the file anew, not as damage does.
void renew_check(Bytes& file) {
  const Hash256 hash =
      sha256(Transcript(purpose::home_header).field(ByteSpan(file).first(52)).span());
  std::copy_n(hash.bytes.begin(), 8, file.begin() + 52);
}

TEST(KeyFile, plain_round_trip) {
  const DeviceKeys keys = example();
  const Secret file = plain_key_file(keys);
  EXPECT_FALSE(key_file_needs_passphrase(file.span()));
  const auto opened = open_key_file(file.span(), {});
  ASSERT_TRUE(opened) << opened.error().what;
  expect_same(*opened, keys);
}

TEST(KeyFile, sealed_round_trip_and_wrong_passphrase) {
  const DeviceKeys keys = example();
  const auto file = sealed_key_file(keys, "correct horse", cheapest());
  ASSERT_TRUE(file) << file.error().what;
  EXPECT_TRUE(key_file_needs_passphrase(*file));
  const auto opened = open_key_file(*file, "correct horse");
  ASSERT_TRUE(opened) << opened.error().what;
  expect_same(*opened, keys);
  const auto wrong = open_key_file(*file, "correct horses");
  ASSERT_FALSE(wrong);
  EXPECT_EQ(wrong.error().code, Code::denied);
  EXPECT_THAT(wrong.error().what, HasSubstr("holdfast recover"));
  const auto without = open_key_file(*file, {});
  ASSERT_FALSE(without);
  EXPECT_EQ(without.error().code, Code::denied);
  EXPECT_THAT(without.error().what, HasSubstr("--passphrase-file"));
  const std::string_view text = as_text(*file);
  EXPECT_EQ(text.find(as_text(keys.sign_seed.span())), std::string_view::npos);
  EXPECT_EQ(text.find(keys.name), std::string_view::npos);
}

TEST(KeyFile, ENG_10_every_flipped_byte_of_a_plain_file_gives_the_same_error) {
  const Bytes file = copy(plain_key_file(example()).span());
  const std::string text = open_key_file({}, {}).error().what;
  for (std::size_t i = 0; i < file.size(); ++i) {
    for (const int bit : {0, 7}) {
      Bytes changed = file;
      changed[i] ^= static_cast<std::byte>(1 << bit);
      const auto opened = open_key_file(changed, {});
      ASSERT_FALSE(opened) << i;
      EXPECT_EQ(opened.error().code, Code::denied) << i;
      EXPECT_EQ(opened.error().what, text) << i;
    }
    EXPECT_FALSE(open_key_file(ByteSpan(file).first(i), {})) << i;
  }
}

// Argon2id at its floor takes its time, so the bytes behind the header are sampled; they are under
// one tag.
TEST(KeyFile, ENG_10_every_flipped_byte_of_a_sealed_file_gives_the_same_error) {
  const Bytes file = *sealed_key_file(example(), "p", cheapest());
  const std::string text = open_key_file(file, "q").error().what;
  for (std::size_t i = 0; i < file.size(); i += i < 60 ? 1 : 37) {
    Bytes changed = file;
    changed[i] ^= std::byte{0x10};
    const auto opened = open_key_file(changed, "p");
    ASSERT_FALSE(opened) << i;
    EXPECT_EQ(opened.error().code, Code::denied) << i;
    EXPECT_EQ(opened.error().what, text) << i;
  }
}

TEST(KeyFile, the_header_is_bound_even_when_its_check_is_made_anew) {
  Bytes file = *sealed_key_file(example(), "p", cheapest());
  file[8] = std::byte{0};  // says: plain
  renew_check(file);
  EXPECT_EQ(open_key_file(file, "p").error().code, Code::denied);
  file[8] = std::byte{1};
  file[16] = std::byte{4};  // one pass more
  renew_check(file);
  EXPECT_EQ(open_key_file(file, "p").error().code, Code::denied);
  file[7] = std::byte{'2'};
  renew_check(file);
  EXPECT_THAT(open_key_file(file, "p").error().what, HasSubstr("update holdfast"));
}

TEST(KeyFile, a_plain_file_has_no_parameters) {
  Bytes file = copy(plain_key_file(example()).span());
  file[20] = std::byte{1};
  renew_check(file);
  EXPECT_EQ(open_key_file(file, {}).error().code, Code::denied);
}

TEST(KeyFile, ACC_07_parameters_below_the_floor_or_above_the_ceiling_are_refused) {
  for (const std::uint64_t memory : {std::uint64_t{8192}, std::uint64_t{1} << 50}) {
    Bytes file = *sealed_key_file(example(), "p", cheapest());
    store_le(file.data() + 24, memory);
    renew_check(file);
    const auto opened = open_key_file(file, "p");
    ASSERT_FALSE(opened);
    EXPECT_EQ(opened.error().code, Code::invalid);
    EXPECT_THAT(opened.error().what, HasSubstr(std::to_string(memory)));
  }
  Bytes file = *sealed_key_file(example(), "p", cheapest());
  store_le(file.data() + 16, std::uint64_t{1});
  renew_check(file);
  EXPECT_EQ(open_key_file(file, "p").error().code, Code::invalid);
  PassphraseParameters weak = cheapest();
  weak.passes = 1;
  EXPECT_FALSE(sealed_key_file(example(), "p", weak));
  EXPECT_FALSE(sealed_key_file(example(), "", cheapest()));
}

}  // namespace
}  // namespace holdfast
