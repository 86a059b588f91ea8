// SPDX-License-Identifier: Apache-2.0
#include "base/memory_folder.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <thread>

namespace holdfast {
namespace {

using testing::ElementsAre;
using testing::HasSubstr;

std::string text_of(MemoryFolder& folder, std::string_view name) {
  const auto got = folder.read(name, 1000);
  return got ? std::string(as_text(*got)) : "(" + got.error().what + ")";
}

TEST(MemoryFolder, replaces_appends_removes) {
  MemoryFolder folder;
  EXPECT_EQ(folder.read("a", 10).error().code, Code::not_found);
  EXPECT_TRUE(folder.replace("a", as_bytes("one")));
  EXPECT_TRUE(folder.append("a", as_bytes("two")));
  EXPECT_TRUE(folder.append("d/b", as_bytes("three")));
  EXPECT_EQ(text_of(folder, "a"), "onetwo");
  EXPECT_EQ(text_of(folder, "d/b"), "three");
  EXPECT_TRUE(folder.read("a", 6));
  EXPECT_EQ(folder.read("a", 5).error().code, Code::corrupt);
  EXPECT_TRUE(folder.remove("a"));
  EXPECT_TRUE(folder.remove("a"));
  EXPECT_EQ(folder.map("a").error().code, Code::not_found);
}

TEST(MemoryFolder, lists_the_files_of_one_folder_sorted) {
  MemoryFolder folder;
  for (const std::string_view name : {"z", "d/b", "d/a", "d/e/c", "d.x", "a"})
    EXPECT_TRUE(folder.replace(name, {}));
  EXPECT_THAT(*folder.list("d"), ElementsAre("a", "b"));
  EXPECT_THAT(*folder.list(""), ElementsAre("a", "d.x", "z"));
  EXPECT_THAT(*folder.list("none"), ElementsAre());
}

TEST(MemoryFolder, refuses_names_that_a_real_folder_would_refuse) {
  MemoryFolder folder;
  EXPECT_TRUE(folder.replace(std::string(200, 'a'), {}));
  for (const std::string& name :
       {std::string(), std::string(201, 'a'), std::string("/a"), std::string("a/"),
        std::string("a//b"), std::string(".."), std::string("a/../b"), std::string("."),
        std::string("A"), std::string("a b"), std::string("a\0b", 3)}) {
    EXPECT_EQ(folder.replace(name, {}).error().code, Code::invalid) << name;
    EXPECT_EQ(folder.read(name, 1).error().code, Code::invalid) << name;
  }
}

TEST(MemoryFolder, writer_shows_nothing_before_commit) {
  MemoryFolder folder;
  ASSERT_TRUE(folder.replace("a", as_bytes("old")));
  auto writer = *folder.create("a");
  EXPECT_TRUE(writer->append(as_bytes("ne")));
  EXPECT_TRUE(writer->append(as_bytes("w")));
  EXPECT_EQ(text_of(folder, "a"), "old");
  EXPECT_TRUE(writer->commit());
  EXPECT_EQ(text_of(folder, "a"), "new");
  EXPECT_FALSE(writer->commit());
}

TEST(MemoryFolder, mapping_outlives_replacement_and_folder) {
  auto folder = std::make_unique<MemoryFolder>();
  ASSERT_TRUE(folder->replace("a", as_bytes("old")));
  const auto mapping = *folder->map("a");
  ASSERT_TRUE(folder->append("a", as_bytes("er")));
  folder.reset();
  EXPECT_EQ(as_text(mapping->bytes()), "old");
}

TEST(MemoryFolder, crash_keeps_what_is_durable_and_frees_locks) {
  MemoryFolder folder;
  ASSERT_TRUE(folder.replace("a", as_bytes("1")));
  auto lost = *folder.create("b");
  ASSERT_TRUE(lost->append(as_bytes("2")));
  auto before = folder.lock("l");
  ASSERT_TRUE(before);
  EXPECT_EQ(folder.lock("l").error().code, Code::conflict);
  folder.crash();
  EXPECT_EQ(text_of(folder, "a"), "1");
  EXPECT_EQ(lost->commit().error().code, Code::unavailable);
  EXPECT_EQ(folder.read("b", 9).error().code, Code::not_found);
  const auto after = folder.lock("l");
  ASSERT_TRUE(after);
  before->reset();  // the old life's lock does not free the new one's
  EXPECT_FALSE(folder.lock("l"));
}

TEST(MemoryFolder, lock_is_free_once_dropped) {
  MemoryFolder folder;
  folder.lock("l")->reset();
  EXPECT_TRUE(folder.lock("l"));
}

TEST(MemoryFolder, fault_is_asked_before_each_change) {
  MemoryFolder folder;
  std::vector<std::string> asked;
  folder.set_fault([&](std::string_view operation, std::string_view name) -> Result<> {
    asked.push_back(std::string(operation) + " " + std::string(name));
    if (operation == "commit") folder.crash();
    if (operation == "append") return fail(Code::full, "no space");
    return {};
  });
  EXPECT_TRUE(folder.replace("a", {}));
  EXPECT_EQ(folder.append("a", as_bytes("x")).error().code, Code::full);
  auto writer = *folder.create("b");
  EXPECT_TRUE(writer->append({}));
  EXPECT_THAT(writer->commit().error().what, HasSubstr("lost when the power went"));
  EXPECT_TRUE(folder.remove("a"));
  EXPECT_THAT(asked,
              ElementsAre("replace a", "append a", "create b", "write b", "commit b", "remove a"));
  EXPECT_EQ(folder.read("a", 9).error().code, Code::not_found);
}

TEST(MemoryFolder, is_used_by_several_threads) {
  MemoryFolder folder;
  std::vector<std::thread> threads;
  for (int t = 0; t < 4; ++t)
    threads.emplace_back([&] {
      for (int i = 0; i < 200; ++i) {
        EXPECT_TRUE(folder.append("log", as_bytes("x")));
        EXPECT_TRUE(folder.map("log"));
      }
    });
  for (std::thread& thread : threads) thread.join();
  EXPECT_EQ(folder.read("log", 1000)->size(), 800U);
}

}  // namespace
}  // namespace holdfast
