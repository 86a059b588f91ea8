// SPDX-License-Identifier: Apache-2.0
// Records of retention and collection, and what a reader refuses (docs/formats/collection.md).
#include "repo/collection.h"

#include <gtest/gtest.h>

#include "crypto/hash.h"
#include "repo/pack_forge.h"
#include "store/memory_store.h"

namespace holdfast {
namespace {

class CollectionRecords : public testing::Test {
 protected:
  static ObjectHash name(int n) {
    ObjectHash out;
    out.bytes[0] = static_cast<std::byte>(n);
    return out;
  }
  CollectionRecord record(std::uint64_t number) {
    return {.object = {},
            .by = repository.device,
            .number = number,
            .before = number == 1 ? ObjectHash{} : name(99),
            .condemned = {name(1), name(2)},
            .lists = {{name(3), 7}},
            .retired = {name(4)},
            .heads = {{repository.device, 1}}};
  }
  Bytes sealed(const CollectionRecord& r) {
    return seal_collection(r, repository.keys, repository.signer, random);
  }
  Result<CollectionRecord> opened(ByteSpan object, std::uint64_t number) {
    return open_collection(object, number, repository.keys, repository.devices());
  }
  void put(const CollectionRecord& r) { store.overwrite(collection_name(r.number), sealed(r)); }
  Result<> refresh() {
    const DeviceKeyLookup devices = repository.devices();
    return collections.refresh({store, repository.keys, devices});
  }

  forge::TestRepository repository{1};
  SeededRandom random{2};
  MemoryStore store;
  Collections collections;
};

TEST_F(CollectionRecords, come_back_as_they_were) {
  const auto r = opened(sealed(record(2)), 2);
  ASSERT_TRUE(r) << r.error().what;
  EXPECT_EQ(r->condemned, record(2).condemned);
  EXPECT_EQ(r->retired, record(2).retired);
  EXPECT_EQ(r->heads, record(2).heads);
  ASSERT_EQ(r->lists.size(), 1U);
  EXPECT_EQ(r->lists[0].packs, 7U);
  const Abandoned given_up{repository.device, {repository.device, 5}, 2, "late"};
  const auto a =
      open_abandoned(seal_abandoned(given_up, repository.keys, repository.signer, random),
                     given_up.session, repository.keys, repository.devices());
  ASSERT_TRUE(a) << a.error().what;
  EXPECT_EQ(a->reason, "late");
  EXPECT_EQ(a->collection, 2U);
}

TEST_F(CollectionRecords, moved_to_another_number_are_refused) {
  const Bytes object = sealed(record(2));
  EXPECT_FALSE(opened(object, 3));
  const Dropped stub{repository.device, {repository.device, 5}, {}, {}, 0, "policy"};
  const Bytes dropped = seal_dropped(stub, repository.keys, repository.signer, random);
  EXPECT_TRUE(open_dropped(dropped, {repository.device, 5}, repository.keys, repository.devices()));
  EXPECT_FALSE(
      open_dropped(dropped, {repository.device, 6}, repository.keys, repository.devices()));
}

TEST_F(CollectionRecords, signed_by_a_stranger_are_refused) {
  const Bytes object = seal_collection(record(1), repository.keys, repository.stranger, random);
  const auto r = opened(object, 1);
  ASSERT_FALSE(r);
  EXPECT_NE(r.error().what.find("signature"), std::string::npos);
}

TEST_F(CollectionRecords, names_out_of_order_or_twice_are_refused) {
  for (const ObjectNames& names : {ObjectNames{name(2), name(1)}, ObjectNames{name(1), name(1)}}) {
    CollectionRecord r = record(1);
    r.condemned = names;
    EXPECT_FALSE(opened(sealed(r), 1));
  }
}

TEST_F(CollectionRecords, an_end_names_only_what_its_record_has) {
  const auto r = opened(sealed(record(1)), 1);
  ASSERT_TRUE(r);
  for (const auto& [used, holds] :
       {std::pair{ObjectNames{name(1)}, true}, std::pair{ObjectNames{name(4)}, true},
        std::pair{ObjectNames{name(3)}, false}}) {
    const Bytes object = seal_collection_done({repository.device, 1, r->object, used},
                                              repository.keys, repository.signer, random);
    EXPECT_EQ(open_collection_done(object, *r, repository.keys, repository.devices()).has_value(),
              holds);
  }
  const Bytes other = seal_collection_done({repository.device, 1, name(9), {}}, repository.keys,
                                           repository.signer, random);
  EXPECT_FALSE(open_collection_done(other, *r, repository.keys, repository.devices()));
}

TEST_F(CollectionRecords, what_is_condemned_is_gone_when_the_end_does_not_call_it_used) {
  put(record(1));
  ASSERT_TRUE(refresh());
  EXPECT_EQ(collections.newest(), 1U);
  EXPECT_TRUE(collections.doomed(name(1)));
  EXPECT_FALSE(collections.gone(name(1)));
  store.overwrite(
      collection_done_name(1),
      seal_collection_done({repository.device, 1, collections.record(1).object, {name(1)}},
                           repository.keys, repository.signer, random));
  ASSERT_TRUE(refresh());
  EXPECT_FALSE(collections.doomed(name(1)));
  EXPECT_TRUE(collections.gone(name(2)));
  EXPECT_TRUE(collections.gone(name(4)));
  EXPECT_TRUE(collections.condemned().empty());
}

TEST_F(CollectionRecords, a_record_that_is_missing_or_does_not_follow_is_an_alarm) {
  put(record(1));
  ASSERT_TRUE(refresh());
  put(record(2));  // `before` is another one's
  EXPECT_EQ(refresh().error().code, Code::alarm);
  ASSERT_TRUE(store.remove(collection_name(2)));
  ASSERT_TRUE(refresh());
  ASSERT_TRUE(store.remove(collection_name(1)));
  EXPECT_EQ(refresh().error().code, Code::alarm);
}

TEST_F(CollectionRecords, as_large_as_they_are_written_can_be_read) {
  CollectionRecord r = record(1);
  r.condemned.clear();
  r.heads.clear();
  for (std::uint32_t i = 0; i < kCollectionNamesWritten; ++i) {
    ObjectHash hash;
    for (std::size_t b = 0; b < 4; ++b) hash.bytes[b] = static_cast<std::byte>(i >> (24 - 8 * b));
    r.condemned.push_back(hash);
    r.heads.push_back({repository.device, i + 1});
  }
  r.retired = r.condemned;
  const auto back = opened(sealed(r), 1);
  ASSERT_TRUE(back) << back.error().what;
  EXPECT_EQ(back->heads.size(), kCollectionNamesWritten);
}

TEST_F(CollectionRecords, one_bit_anywhere_is_found) {
  const Bytes object = sealed(record(1));
  for (std::size_t i = 0; i < object.size(); i += 3) {
    Bytes flipped = object;
    flipped[i] ^= std::byte{4};
    EXPECT_FALSE(opened(flipped, 1)) << "byte " << i;
  }
}

}  // namespace
}  // namespace holdfast
