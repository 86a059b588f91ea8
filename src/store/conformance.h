// SPDX-License-Identifier: Apache-2.0
// The suite that every store passes: a test file includes it once and instantiates EveryStore with
// its worlds.
#pragma once

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <barrier>
#include <set>
#include <thread>

#include "base/seeded_random.h"
#include "store/object_store.h"

namespace holdfast {
namespace {

constexpr std::uint64_t kBig = 1U << 30;

Bytes text(std::string_view t) {
  const ByteSpan b = as_bytes(t);
  return {b.begin(), b.end()};
}

template <class T>
::testing::AssertionResult has_code(const Result<T>& result, Code code) {
  if (result) return ::testing::AssertionFailure() << "it was Ok";
  if (result.error().code == code) return ::testing::AssertionSuccess();
  return ::testing::AssertionFailure() << result.error().what;
}
#define EXPECT_CODE(result, code) EXPECT_TRUE(has_code((result), (code)))
#define EXPECT_OK(result)                                                                  \
  do {                                                                                     \
    const auto& expected_ok = (result);                                                    \
    EXPECT_TRUE(expected_ok.has_value()) << (expected_ok ? "" : expected_ok.error().what); \
  } while (false)

// A store and what it stands on.
struct StoreWorld {
  virtual ~StoreWorld() = default;
  virtual ObjectStore& store() = 0;
};
struct Kind {
  const char* name;
  std::function<std::unique_ptr<StoreWorld>()> make;
};

void PrintTo(const Kind& kind, std::ostream* out) { *out << kind.name; }

class EveryStore : public ::testing::TestWithParam<Kind> {
 protected:
  const std::unique_ptr<StoreWorld> world_ = GetParam().make();
  ObjectStore& store_ = world_->store();

  std::set<std::string> names(std::string_view prefix) {
    std::set<std::string> out;
    EXPECT_OK(store_.list(prefix, [&](const ObjectInfo& info) -> Result<> {
      EXPECT_TRUE(out.insert(info.name).second) << info.name << " was listed twice";
      EXPECT_EQ(store_.size(info.name).value(), info.size);
      return {};
    }));
    return out;
  }
};

TEST_P(EveryStore, what_was_put_is_there) {
  EXPECT_OK(store_.put("config", text("one")));
  EXPECT_OK(store_.put("packs/ab/abcd", text("two two")));
  EXPECT_OK(store_.put("empty", {}));
  EXPECT_EQ(store_.get("config", kBig).value(), text("one"));
  EXPECT_EQ(store_.get("packs/ab/abcd", 7).value(), text("two two"));
  EXPECT_EQ(store_.get("empty", 0).value(), Bytes());
  EXPECT_EQ(store_.size("packs/ab/abcd").value(), 7U);
}

TEST_P(EveryStore, a_put_tells_when_the_bytes_may_be_overwritten) {
  Bytes buffer = text("first");
  const auto overwrite = [&] { std::ranges::fill(buffer, std::byte{0}); };
  EXPECT_OK(store_.put_from("a/b", buffer, overwrite));
  EXPECT_EQ(store_.get("a/b", kBig).value(), text("first"));
  buffer = text("other");
  EXPECT_CODE(store_.put_from("a/b", buffer, overwrite), Code::conflict);
  buffer = text("first");
  EXPECT_OK(store_.put_from("a/b", buffer, overwrite));
  EXPECT_EQ(store_.get("a/b", kBig).value(), text("first"));
}

TEST_P(EveryStore, DOS_04_a_listing_has_a_budget) {
  for (const char* name : {"a/1", "a/2", "a/3"}) EXPECT_OK(store_.put(name, text("x")));
  int seen = 0;
  const auto count = [&](const ObjectInfo&) -> Result<> {
    ++seen;
    return {};
  };
  EXPECT_OK(list_at_most(store_, "a/", 3, count));
  EXPECT_EQ(seen, 3);
  seen = 0;
  const auto refused = list_at_most(store_, "a/", 2, count);
  ASSERT_FALSE(refused);
  EXPECT_EQ(refused.error().code, Code::corrupt);
  EXPECT_NE(refused.error().what.find("list a/: more than 2 objects"), std::string::npos);
  EXPECT_EQ(seen, 2);
}

TEST_P(EveryStore, repeating_a_put_is_ok_and_other_bytes_are_a_conflict) {
  EXPECT_OK(store_.put("a/b", text("same")));
  EXPECT_OK(store_.put("a/b", text("same")));
  EXPECT_CODE(store_.put("a/b", text("sam_")), Code::conflict);
  EXPECT_CODE(store_.put("a/b", text("same, and more")), Code::conflict);
  EXPECT_CODE(store_.put("a/b", {}), Code::conflict);
  EXPECT_EQ(store_.get("a/b", kBig).value(), text("same"));
}

TEST_P(EveryStore, a_large_object_comes_back_and_differs_in_its_last_byte) {
  Bytes large(1'000'003);
  SeededRandom(7).fill(large);
  EXPECT_OK(store_.put("large", large));
  EXPECT_OK(store_.put("large", large));
  EXPECT_EQ(store_.get("large", large.size()).value(), large);
  large.back() ^= std::byte{1};
  EXPECT_CODE(store_.put("large", large), Code::conflict);
}

TEST_P(EveryStore, absent_objects) {
  Bytes out(1);
  EXPECT_CODE(store_.get("no/such", kBig), Code::not_found);
  EXPECT_CODE(store_.get_range("no/such", 0, out), Code::not_found);
  EXPECT_CODE(store_.size("no/such"), Code::not_found);
  EXPECT_OK(store_.remove("no/such"));
  EXPECT_TRUE(names("").empty());
  EXPECT_TRUE(names("no/such/").empty());
}

TEST_P(EveryStore, get_has_a_size_limit) {
  EXPECT_OK(store_.put("x", text("12345")));
  EXPECT_OK(store_.get("x", 5));
  EXPECT_CODE(store_.get("x", 4), Code::corrupt);
}

TEST_P(EveryStore, get_range_gives_exactly_that_or_an_error) {
  EXPECT_OK(store_.put("x", text("0123456789")));
  Bytes out(3);
  EXPECT_OK(store_.get_range("x", 7, out));
  EXPECT_EQ(out, text("789"));
  EXPECT_OK(store_.get_range("x", 10, MutableByteSpan()));
  EXPECT_CODE(store_.get_range("x", 8, out), Code::corrupt);
  EXPECT_CODE(store_.get_range("x", 11, MutableByteSpan()), Code::corrupt);
  EXPECT_CODE(store_.get_range("x", UINT64_MAX, out), Code::corrupt);
  EXPECT_CODE(store_.get_range("x", UINT64_MAX - 1, out), Code::corrupt);
}

TEST_P(EveryStore, get_tail_gives_the_end_and_the_size) {
  EXPECT_OK(store_.put("x", text("0123456789")));
  EXPECT_OK(store_.put("empty", {}));
  for (const std::size_t most : {1U, 3U, 10U, 11U, 1000U}) {
    const auto tail = store_.get_tail("x", most);
    ASSERT_TRUE(tail) << tail.error().what;
    EXPECT_EQ(tail->size, 10U);
    EXPECT_EQ(tail->bytes,
              text(std::string("0123456789").substr(10 - std::min<std::size_t>(most, 10))));
  }
  EXPECT_EQ(store_.get_tail("empty", 5).value().size, 0U);
  EXPECT_CODE(store_.get_tail("none", 5), Code::not_found);
}

TEST_P(EveryStore, list_sees_all_below_a_prefix) {
  const std::set<std::string> all = {"config",     "heads/d1/1",    "heads/d1/1.open",
                                     "heads/d2/1", "packs/00/00aa", "packs/ff/ffee"};
  for (const std::string& name : all) EXPECT_OK(store_.put(name, as_bytes(name)));
  EXPECT_EQ(names(""), all);
  EXPECT_EQ(names("heads/"),
            (std::set<std::string>{"heads/d1/1", "heads/d1/1.open", "heads/d2/1"}));
  EXPECT_EQ(names("heads/d1/"), (std::set<std::string>{"heads/d1/1", "heads/d1/1.open"}));
  EXPECT_TRUE(names("head/").empty());
}

TEST_P(EveryStore, the_visitors_error_ends_the_listing) {
  for (const char* name : {"a", "b", "c"}) EXPECT_OK(store_.put(name, {}));
  int seen = 0;
  EXPECT_CODE(store_.list("",
                          [&](const ObjectInfo&) -> Result<> {
                            return ++seen == 2 ? Result<>(fail(Code::interrupted, "enough"))
                                               : Result<>();
                          }),
              Code::interrupted);
  EXPECT_EQ(seen, 2);
}

TEST_P(EveryStore, the_visitor_may_remove) {
  for (const char* name : {"p/a", "p/b", "p/c", "q"}) EXPECT_OK(store_.put(name, {}));
  EXPECT_OK(store_.list("p/", [&](const ObjectInfo& info) { return store_.remove(info.name); }));
  EXPECT_EQ(names(""), (std::set<std::string>{"q"}));
}

TEST_P(EveryStore, removed_is_gone_and_can_be_put_anew) {
  EXPECT_OK(store_.put("a/x", text("1")));
  EXPECT_OK(store_.remove("a/x"));
  EXPECT_OK(store_.remove("a/x"));
  EXPECT_CODE(store_.get("a/x", kBig), Code::not_found);
  EXPECT_OK(store_.put("a/x", text("2")));
  EXPECT_EQ(store_.get("a/x", kBig).value(), text("2"));
}

TEST_P(EveryStore, ENG_13_names_that_could_leave_the_store_are_refused) {
  using namespace std::string_view_literals;
  const std::string longest(200, 'a');
  const std::string too_long(201, 'a');
  for (const std::string_view name :
       {""sv, "/"sv, "/a"sv, "a/"sv, "a//b"sv, "."sv, ".."sv, "../a"sv, "a/.."sv, "a/../b"sv,
        "a/./b"sv, "A"sv, "a b"sv, "a\0b"sv, "a\\b"sv, "\xc3\xa4"sv, "a\n"sv,
        std::string_view(too_long)}) {
    Bytes out(1);
    EXPECT_CODE(store_.put(name, {}), Code::invalid);
    EXPECT_CODE(store_.get(name, kBig), Code::invalid);
    EXPECT_CODE(store_.get_range(name, 0, out), Code::invalid);
    EXPECT_CODE(store_.size(name), Code::invalid);
    EXPECT_CODE(store_.remove(name), Code::invalid);
  }
  for (const std::string_view name :
       {"..a"sv, "a/..."sv, ".a"sv, "-"sv, "_"sv, std::string_view(longest)})
    EXPECT_OK(store_.put(name, {}));
  const auto visit = [](const ObjectInfo&) -> Result<> { return {}; };
  for (const std::string_view prefix : {"a"sv, "/"sv, "../"sv, "a//"sv, "A/"sv})
    EXPECT_CODE(store_.list(prefix, visit), Code::invalid);
}

TEST_P(EveryStore, proves_its_put_if_absent_and_leaves_nothing) {
  SeededRandom random(8);
  EXPECT_OK(prove_put_if_absent(store_, random));
  EXPECT_TRUE(names("").empty());
}

TEST_P(EveryStore, of_many_puts_at_once_exactly_one_content_wins) {
  constexpr std::size_t kThreads = 4;
  constexpr std::size_t kRounds = 50;
  std::barrier start(kThreads);
  std::array<std::array<int, kThreads>, kRounds> won{};
  std::vector<std::thread> threads;
  for (std::size_t t = 0; t < kThreads; ++t)
    threads.emplace_back([&, t] {
      const Bytes mine = text("content of " + std::to_string(t / 2));  // two and two are the same
      for (std::size_t round = 0; round < kRounds; ++round) {
        start.arrive_and_wait();
        const auto put = store_.put("race/" + std::to_string(round), mine);
        EXPECT_TRUE(put || has_code(put, Code::conflict));
        won[round][t] = put.has_value() ? 1 : 0;
      }
    });
  for (std::thread& thread : threads) thread.join();
  for (std::size_t round = 0; round < kRounds; ++round) {
    const auto& w = won[round];
    EXPECT_EQ(w[0], w[1]);
    EXPECT_EQ(w[2], w[3]);
    EXPECT_EQ(w[0] + w[2], 1) << "round " << round;
    EXPECT_EQ(store_.get("race/" + std::to_string(round), kBig).value(),
              text(w[0] == 1 ? "content of 0" : "content of 1"));
  }
}

}  // namespace
}  // namespace holdfast
