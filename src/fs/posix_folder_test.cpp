// SPDX-License-Identifier: Apache-2.0
// One suite for the real folder and its twin in memory; then what only the real one does.
#include "fs/posix_folder.h"

#include <fcntl.h>
#include <gmock/gmock.h>
#include <gtest/gtest.h>
#include <sys/mount.h>
#include <sys/stat.h>
#include <sys/syscall.h>

#include <csignal>

#include "base/memory_folder.h"
#include "store/child_process.h"
#include "store/scratch_folder.h"

namespace holdfast {
namespace {

using ::testing::ElementsAre;
using ::testing::HasSubstr;
using ::testing::IsEmpty;

std::string content(LocalFolder& folder, std::string_view name) {
  const auto bytes = folder.read(name, 1U << 30);
  return bytes ? std::string(as_text(*bytes)) : "(" + bytes.error().what + ")";
}

class EveryFolder : public ::testing::TestWithParam<bool> {
 protected:
  static std::unique_ptr<LocalFolder> make(const ScratchFolder& scratch) {
    if (GetParam()) return std::make_unique<MemoryFolder>();
    return PosixFolder::make(scratch.path("made/here")).value();
  }
  const ScratchFolder scratch_;
  const std::unique_ptr<LocalFolder> folder_ = make(scratch_);
};

INSTANTIATE_TEST_SUITE_P(All, EveryFolder, ::testing::Bool(),
                         [](const auto& row) { return row.param ? "memory" : "posix"; });

TEST_P(EveryFolder, replace_read_append_remove) {
  EXPECT_EQ(folder_->read("a", 9).error().code, Code::not_found);
  EXPECT_TRUE(folder_->replace("a", as_bytes("one")));
  EXPECT_TRUE(folder_->replace("a", as_bytes("two")));
  EXPECT_TRUE(folder_->append("a", as_bytes(", three")));
  EXPECT_TRUE(folder_->append("deep/er/b", as_bytes("four")));
  EXPECT_EQ(content(*folder_, "a"), "two, three");
  EXPECT_EQ(content(*folder_, "deep/er/b"), "four");
  EXPECT_TRUE(folder_->read("a", 10));
  EXPECT_EQ(folder_->read("a", 9).error().code, Code::corrupt);
  EXPECT_TRUE(folder_->remove("a"));
  EXPECT_TRUE(folder_->remove("a"));
  EXPECT_TRUE(folder_->remove("none/a"));
  EXPECT_EQ(folder_->read("a", 9).error().code, Code::not_found);
  EXPECT_EQ(folder_->map("a").error().code, Code::not_found);
}

TEST_P(EveryFolder, list_has_the_files_of_that_folder_only) {
  for (const char* name : {"z", "d/b", "d/a", "d/e/c", "d.x"})
    EXPECT_TRUE(folder_->replace(name, {}));
  EXPECT_THAT(folder_->list("").value(), ElementsAre("d.x", "z"));
  EXPECT_THAT(folder_->list("d").value(), ElementsAre("a", "b"));
  EXPECT_THAT(folder_->list("none").value(), IsEmpty());
}

TEST_P(EveryFolder, refuses_names_that_could_leave_it) {
  for (const std::string& name :
       {std::string(), std::string("/a"), std::string("a//b"), std::string("../a"),
        std::string("a/.."), std::string("A"), std::string("~1.0"), std::string("a\0b", 3)}) {
    EXPECT_EQ(folder_->read(name, 1).error().code, Code::invalid) << name;
    EXPECT_EQ(folder_->replace(name, {}).error().code, Code::invalid) << name;
    EXPECT_EQ(folder_->append(name, {}).error().code, Code::invalid) << name;
    EXPECT_EQ(folder_->create(name).error().code, Code::invalid) << name;
    EXPECT_EQ(folder_->map(name).error().code, Code::invalid) << name;
    EXPECT_EQ(folder_->remove(name).error().code, Code::invalid) << name;
    EXPECT_EQ(folder_->lock(name).error().code, Code::invalid) << name;
  }
}

TEST_P(EveryFolder, a_writer_shows_nothing_before_it_commits) {
  ASSERT_TRUE(folder_->replace("a", as_bytes("old")));
  std::string expected;
  {
    const auto writer = folder_->create("a").value();
    for (int i = 0; i < 3000; ++i) {
      const std::string line = std::to_string(i) + std::string(500, '.') + "\n";
      ASSERT_TRUE(writer->append(as_bytes(line)));
      expected += line;
    }
    EXPECT_EQ(content(*folder_, "a"), "old");
    EXPECT_THAT(folder_->list("").value(), ElementsAre("a"));
    EXPECT_TRUE(writer->commit());
    EXPECT_FALSE(writer->commit());
  }
  EXPECT_EQ(content(*folder_, "a"), expected);
}

TEST_P(EveryFolder, a_writer_that_is_dropped_leaves_nothing) {
  {
    const auto writer = folder_->create("d/a").value();
    ASSERT_TRUE(writer->append(Bytes(1U << 20)));
  }
  EXPECT_THAT(folder_->list("d").value(), IsEmpty());
}

TEST_P(EveryFolder, two_writers_of_one_name) {
  const auto first = folder_->create("a").value();
  const auto second = folder_->create("a").value();
  ASSERT_TRUE(first->append(as_bytes("first")));
  ASSERT_TRUE(second->append(as_bytes("second")));
  EXPECT_TRUE(second->commit());
  EXPECT_TRUE(first->commit());
  EXPECT_EQ(content(*folder_, "a"), "first");
}

TEST_P(EveryFolder, a_mapping_outlives_replacement_and_removal) {
  ASSERT_TRUE(folder_->replace("a", as_bytes("old")));
  ASSERT_TRUE(folder_->replace("empty", {}));
  const auto mapping = folder_->map("a").value();
  const auto empty = folder_->map("empty").value();
  ASSERT_TRUE(folder_->replace("a", as_bytes("new, longer")));
  ASSERT_TRUE(folder_->remove("a"));
  EXPECT_EQ(as_text(mapping->bytes()), "old");
  EXPECT_TRUE(empty->bytes().empty());
}

TEST_P(EveryFolder, a_lock_excludes_a_second_one_until_it_goes) {
  auto held = folder_->lock("lock").value();
  EXPECT_EQ(folder_->lock("lock").error().code, Code::conflict);
  EXPECT_TRUE(folder_->lock("other"));
  held.reset();
  EXPECT_TRUE(folder_->lock("lock"));
}

class Posix : public ::testing::Test {
 protected:
  std::unique_ptr<PosixFolder> open() const { return PosixFolder::open(scratch_.path()).value(); }
  std::vector<std::string> raw_names() const {
    std::vector<std::string> names;
    for (const auto& entry : std::filesystem::directory_iterator(scratch_.path()))
      names.push_back(entry.path().filename());
    std::ranges::sort(names);
    return names;
  }
  const ScratchFolder scratch_;
};

TEST_F(Posix, modes_are_private) {
  const auto folder = PosixFolder::make(scratch_.path("a/b")).value();
  ASSERT_TRUE(folder->replace("d/x", as_bytes("1")));
  ASSERT_TRUE(folder->append("d/y", as_bytes("1")));
  const auto lock = folder->lock("d/z").value();
  struct stat info{};
  for (const char* name : {"a", "a/b", "a/b/d"}) {
    ASSERT_EQ(::stat(scratch_.path(name).c_str(), &info), 0);
    EXPECT_EQ(info.st_mode & 07777, 0700U) << name;
  }
  for (const char* name : {"a/b/d/x", "a/b/d/y", "a/b/d/z"}) {
    ASSERT_EQ(::stat(scratch_.path(name).c_str(), &info), 0);
    EXPECT_EQ(info.st_mode & 07777, 0600U) << name;
  }
}

TEST_F(Posix, the_lock_names_the_process_that_holds_it) {
  const auto lock = open()->lock("lock").value();
  const auto second = open()->lock("lock");
  EXPECT_EQ(second.error().code, Code::conflict);
  EXPECT_THAT(second.error().what, HasSubstr("in use by process " + std::to_string(::getpid())));
}

TEST_F(Posix, a_lock_goes_with_its_process) {
  const int code = in_child([&] {
    const auto lock = open()->lock("lock");
    if (!lock) return 1;
    ::raise(SIGKILL);
    return 2;
  });
  EXPECT_EQ(code, 1000 + SIGKILL);
  EXPECT_TRUE(open()->lock("lock"));
}

TEST_F(Posix, symlinks_are_not_followed) {
  std::filesystem::create_directory(scratch_.path("outside"));
  std::filesystem::create_directory(scratch_.path("root"));
  scratch_.write("outside/x", "secret");
  std::filesystem::create_directory_symlink("../outside", scratch_.path("root/d"));
  std::filesystem::create_symlink("../outside/x", scratch_.path("root/x"));
  std::filesystem::create_symlink("../outside/new", scratch_.path("root/new"));
  const auto folder = PosixFolder::open(scratch_.path("root")).value();
  EXPECT_EQ(folder->read("x", 9).error().code, Code::corrupt);
  EXPECT_EQ(folder->map("x").error().code, Code::corrupt);
  EXPECT_EQ(folder->append("x", as_bytes("more")).error().code, Code::corrupt);
  EXPECT_EQ(folder->append("new", as_bytes("more")).error().code, Code::corrupt);
  EXPECT_EQ(folder->lock("new").error().code, Code::corrupt);
  EXPECT_EQ(folder->read("d/x", 9).error().code, Code::corrupt);
  EXPECT_EQ(folder->replace("d/y", {}).error().code, Code::corrupt);
  EXPECT_EQ(folder->replace("d/e/y", {}).error().code, Code::corrupt);
  EXPECT_EQ(folder->remove("d/x").error().code, Code::corrupt);
  EXPECT_THAT(folder->list("").value(), IsEmpty());
  EXPECT_TRUE(folder->replace("x", as_bytes("mine")));  // the link itself is replaced
  EXPECT_EQ(content(*folder, "x"), "mine");
  EXPECT_EQ(content(*PosixFolder::open(scratch_.path("outside")).value(), "x"), "secret");
  EXPECT_FALSE(std::filesystem::exists(scratch_.path("outside/new")));
}

TEST_F(Posix, killed_before_the_rename_leaves_the_old_and_is_tidied_up_by_the_next_writer) {
  ASSERT_TRUE(open()->replace("a", as_bytes("old")));
  const int code = in_child([&] {
    const auto folder = open();
    if (!intercept_syscall(SYS_renameat, SECCOMP_RET_KILL_PROCESS)) return kChildSkip;
    return folder->replace("a", as_bytes("new")) ? 1 : 2;
  });
  if (code == kChildSkip) GTEST_SKIP() << "no seccomp";
  EXPECT_EQ(code, 1000 + SIGSYS);
  const auto folder = open();
  EXPECT_EQ(content(*folder, "a"), "old");
  EXPECT_EQ(raw_names().size(), 2U);
  EXPECT_THAT(folder->list("").value(), ElementsAre("a"));
  EXPECT_TRUE(folder->replace("b", {}));
  EXPECT_THAT(raw_names(), ElementsAre("a", "b"));
}

TEST_F(Posix, tidying_up_spares_who_is_still_writing) {
  const auto slow = open()->create("slow").value();
  ASSERT_TRUE(slow->append(as_bytes("content")));
  EXPECT_TRUE(open()->replace("b", {}));
  EXPECT_TRUE(slow->commit());
  EXPECT_EQ(content(*open(), "slow"), "content");
}

TEST_F(Posix, a_full_disk_is_told_and_leaves_the_old) {
  const std::string disk = scratch_.path("disk");
  std::filesystem::create_directory(disk);
  if (::mount("tmpfs", disk.c_str(), "tmpfs", 0, "size=256k") != 0)
    GTEST_SKIP() << "cannot mount a small tmpfs";
  {
    const auto folder = PosixFolder::open(disk).value();
    EXPECT_TRUE(folder->replace("a", as_bytes("old")));
    EXPECT_EQ(folder->replace("a", Bytes(1U << 20)).error().code, Code::full);
    EXPECT_EQ(content(*folder, "a"), "old");
    EXPECT_TRUE(folder->replace("b", Bytes(100U << 10)));
  }
  ::umount2(disk.c_str(), MNT_DETACH);
}

TEST_F(Posix, a_failing_sync_is_not_ok) {
  const int code = in_child([&] {
    const auto folder = open();
    if (!intercept_syscall(SYS_fsync, SECCOMP_RET_ERRNO | EIO)) return kChildSkip;
    if (folder->append("a", as_bytes("x"))) return 1;
    return folder->replace("b", as_bytes("x")) ? 2 : 0;
  });
  if (code == kChildSkip) GTEST_SKIP() << "no seccomp";
  EXPECT_EQ(code, 0);
  EXPECT_FALSE(std::filesystem::exists(scratch_.path("b")));
}

TEST_F(Posix, may_be_renamed_while_it_is_open) {
  const auto folder = PosixFolder::make(scratch_.path("r")).value();
  std::filesystem::rename(scratch_.path("r"), scratch_.path("s"));
  EXPECT_TRUE(folder->replace("x", as_bytes("1")));
  EXPECT_TRUE(std::filesystem::exists(scratch_.path("s/x")));
}

}  // namespace
}  // namespace holdfast
