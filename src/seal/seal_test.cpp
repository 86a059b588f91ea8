// SPDX-License-Identifier: Apache-2.0
#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include "base/seeded_random.h"
#include "seal/object_keys.h"

namespace holdfast {
namespace {
RepositoryKeys keys_of() {
  SeededRandom random(1);
  RepositoryKeys keys;
  random.fill(keys.place.account.bytes);
  keys.newest = 1;
  keys.epoch_keys.emplace(1, Secret::random(32, random));
  return keys;
}
TEST(Box, round_trip) {
  SeededRandom random(2);
  for (const Suite suite : {Suite::aes_256_gcm, Suite::chacha20_poly1305}) {
    RepositoryKeys keys = keys_of();
    keys.suite = suite;
    for (std::size_t n = 0; n < 300; ++n) {
      Bytes plain(n);
      random.fill(plain);
      const Bytes sealed = seal_box(keys, ObjectType::head, "heads/x/1", plain, random);
      const auto back = open_box(keys, ObjectType::head, "heads/x/1", sealed);
      ASSERT_TRUE(back) << back.error().what;
      ASSERT_EQ(*back, plain);
    }
  }
}
}  // namespace
}  // namespace holdfast
