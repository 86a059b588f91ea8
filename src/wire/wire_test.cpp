// SPDX-License-Identifier: Apache-2.0
#include <gmock/gmock.h>
#include <gtest/gtest.h>
#include <sodium.h>

#include "wire/chain.pb.h"
#include "wire/records.h"
#include "wire/records.pb.h"

namespace holdfast::wire {
namespace {

using ::testing::HasSubstr;

// The real one is in seal/, which this room does not see.
class TestSigner : public Signer {
 public:
  TestSigner() {
    unsigned char seed[32] = {7};
    crypto_sign_seed_keypair(reinterpret_cast<unsigned char*>(public_.bytes.data()), secret_, seed);
  }
  SignPublicKey public_key() const override { return public_; }
  Signature sign(const Transcript& message) const override {
    Signature out;
    crypto_sign_detached(reinterpret_cast<unsigned char*>(out.bytes.data()), nullptr,
                         uchars(message.span()), message.span().size(), secret_);
    return out;
  }

 private:
  SignPublicKey public_;
  unsigned char secret_[64];
};

Head example_head() {
  Head head;
  head.set_version(1);
  head.set_number(7);
  head.set_started_ns(-5);
  head.add_tags("");
  head.add_tags("weekly");
  PackListRef& list = *head.add_lists();
  list.set_name("n");
  list.set_packs(300);
  head.add_lists();
  head.mutable_statistics()->set_bytes_read(1ULL << 40);
  head.add_users()->set_id(UINT32_MAX);
  head.set_program("holdfast");
  return head;
}

Bytes bytes_of(std::initializer_list<int> values) {
  Bytes out;
  for (const int v : values) out.push_back(static_cast<std::byte>(v));
  return out;
}

TEST(Wire, round_trip_of_all_kinds_of_fields) {
  const Bytes bytes = encode(example_head());
  const auto head = parse_record<Head>(bytes, "head");
  ASSERT_TRUE(head) << head.error().what;
  EXPECT_EQ(head->started_ns(), -5);
  EXPECT_EQ(head->lists_size(), 2);
  EXPECT_EQ(encode(*head), bytes);
}

TEST(Wire, only_the_canonical_encoding_is_read) {
  struct Row {
    const char* what;
    Bytes bytes;
  };
  const Row rows[] = {
      {"default value", bytes_of({0x08, 0})},
      {"long varint", bytes_of({0x08, 0x81, 0})},
      {"long tag", bytes_of({0x88, 0, 1})},
      {"u32 too large", bytes_of({0x08, 0x80, 0x80, 0x80, 0x80, 0x10})},
      {"twice", bytes_of({0x08, 1, 0x08, 1})},
      {"out of order", bytes_of({0x12, 1, 65, 0x08, 1})},
      {"wrong type", bytes_of({0x0A, 1, 65})},
      {"fixed32", bytes_of({0x0D, 1, 2, 3, 4})},
      {"empty bytes", bytes_of({0x12, 0})},
      {"cut", bytes_of({0x12, 2, 65})},
      {"field 0", bytes_of({0x00, 1})},
      {"group", bytes_of({0x0B, 0x0C})},
  };
  for (const Row& row : rows) {
    const auto head = parse_record<Head>(row.bytes, "heads/1");
    ASSERT_FALSE(head) << row.what;
    EXPECT_EQ(head.error().code, Code::corrupt) << row.what;
    EXPECT_THAT(head.error().what, HasSubstr("heads/1")) << row.what;
  }
}

TEST(Wire, unknown_fields_are_refused_in_nested_messages_too) {
  Bytes bytes = encode(example_head());
  EXPECT_TRUE(parse_record<Head>(bytes, "head"));
  Bytes trailing = bytes;
  for (const std::byte b : bytes_of({0xF8, 0x07, 1})) trailing.push_back(b);  // field 127
  EXPECT_THAT(parse_record<Head>(trailing, "head").error().what, HasSubstr("127"));
  // Statistics (field 23) holding field 99.
  const Bytes nested = bytes_of({0xBA, 0x01, 3, 0x98, 0x06, 1});
  const auto head = parse_record<Head>(nested, "head");
  ASSERT_FALSE(head);
  EXPECT_THAT(head.error().what, HasSubstr("Statistics has a field 99"));
}

TEST(Wire, a_mutation_is_refused_or_read_as_what_it_encodes) {
  const Bytes bytes = encode(example_head());
  for (std::size_t i = 0; i < bytes.size(); ++i) {
    EXPECT_FALSE(i > 0 && parse_record<Head>(ByteSpan(bytes).first(i), "h") &&
                 encode(*parse_record<Head>(ByteSpan(bytes).first(i), "h")).size() != i);
    for (int bit = 0; bit < 8; ++bit) {
      Bytes changed = bytes;
      changed[i] ^= static_cast<std::byte>(1 << bit);
      const auto head = parse_record<Head>(changed, "h");
      if (head) {
        EXPECT_EQ(encode(*head), changed) << i;
      }
    }
  }
}

TEST(Wire, every_message_has_its_shape) {
  EntryBody body;
  body.mutable_genesis()->mutable_epoch()->add_slots()->set_suite(1);
  body.mutable_genesis()->mutable_device()->set_name("n");
  body.mutable_genesis()->mutable_place()->set_kind(1);
  EXPECT_TRUE(parse_record<EntryBody>(encode(body), "entry"));
  body.mutable_confirm_device()->set_device("d");
  EXPECT_TRUE(parse_record<EntryBody>(encode(body), "entry"));
  body.mutable_add_device()->mutable_slot()->set_kind(2);
  EXPECT_TRUE(parse_record<EntryBody>(encode(body), "entry"));
  ChainEntry entry;
  entry.add_signatures("x");
  EXPECT_TRUE(parse_record<ChainEntry>(encode(entry), "entry"));
  Repository repository;
  repository.set_suite(1);
  EXPECT_TRUE(parse_record<Repository>(encode(repository), "repository"));
}

TEST(Wire, signed_records) {
  const TestSigner signer;
  const Bytes body = bytes_of({1, 2, 3});
  const Bytes record = sign_record("head", body, signer);
  const auto opened = open_record("head", "heads/1", record, signer.public_key());
  ASSERT_TRUE(opened) << opened.error().what;
  EXPECT_EQ(*opened, body);
  EXPECT_FALSE(open_record("chain-entry", "heads/1", record, signer.public_key()));
  EXPECT_FALSE(open_record("head", "heads/1", record, SignPublicKey{}));
  for (std::size_t i = 0; i < record.size(); ++i) {
    Bytes changed = record;
    changed[i] ^= std::byte{1};
    const auto bad = open_record("head", "heads/1", changed, signer.public_key());
    ASSERT_FALSE(bad) << i;
    EXPECT_EQ(bad.error().code, Code::corrupt);
    EXPECT_FALSE(open_record("head", "x", ByteSpan(record).first(i), signer.public_key()));
  }
}

}  // namespace
}  // namespace holdfast::wire
