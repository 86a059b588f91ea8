// SPDX-License-Identifier: Apache-2.0
// What only a folder or a failing store does, beside the suite of every store.
#include <fcntl.h>
#include <gmock/gmock.h>
#include <gtest/gtest.h>
#include <sys/mount.h>
#include <sys/resource.h>
#include <sys/stat.h>
#include <sys/syscall.h>

#include <csignal>
#include <thread>

#include "base/seeded_random.h"
#include "store/child_process.h"
#include "store/conformance.h"
#include "store/fault_store.h"
#include "store/folder_store.h"
#include "store/memory_store.h"
#include "store/scratch_folder.h"

namespace holdfast {
namespace {

struct MemoryWorld : StoreWorld {
  MemoryStore memory;
  ObjectStore& store() override { return memory; }
};
struct FaultWorld : StoreWorld {
  MemoryStore memory;
  FaultStore fault{memory, FaultPlan{}};
  ObjectStore& store() override { return fault; }
};
struct FolderWorld : StoreWorld {
  explicit FolderWorld(Beneath how)
      : folder(std::make_unique<Directory>(Fd(::open(scratch.path().c_str(), O_RDONLY)),
                                           scratch.path(), how),
               random) {}
  ScratchFolder scratch;
  SeededRandom random{1};
  FolderStore folder;
  ObjectStore& store() override { return folder; }
};

INSTANTIATE_TEST_SUITE_P(
    All, EveryStore,
    ::testing::Values(Kind{"memory", [] { return std::make_unique<MemoryWorld>(); }},
                      Kind{"fault", [] { return std::make_unique<FaultWorld>(); }},
                      Kind{"folder",
                           [] { return std::make_unique<FolderWorld>(Beneath::automatic); }},
                      Kind{"folder_by_component",
                           [] { return std::make_unique<FolderWorld>(Beneath::by_component); }}),
    [](const auto& row) { return row.param.name; });

// Stores that look well until two write at once.
struct Overwriting : MemoryStore {
  Result<> put(std::string_view name, ByteSpan bytes) override {
    HF_TRY(MemoryStore::remove(name));
    return MemoryStore::put(name, bytes);
  }
};
// Looks, then puts.
struct Racing : MemoryStore {
  Result<> put(std::string_view name, ByteSpan bytes) override {
    if (auto there = MemoryStore::get(name, kBig);
        there && *there != Bytes(bytes.begin(), bytes.end()))
      return fail(Code::conflict, "taken");
    std::this_thread::sleep_for(std::chrono::milliseconds(30));
    HF_TRY(MemoryStore::remove(name));
    return MemoryStore::put(name, bytes);
  }
};
struct Forgetful : MemoryStore {
  Result<> list(std::string_view /*prefix*/,
                const std::function<Result<>(const ObjectInfo&)>& /*visit*/) override {
    return {};
  }
};
struct Keeping : MemoryStore {
  Result<> remove(std::string_view /*name*/) override { return {}; }
};

template <class Bad>
std::string refusal() {
  Bad bad;
  SeededRandom random(1);
  const auto proved = prove_put_if_absent(bad, random);
  EXPECT_CODE(proved, Code::denied);
  return proved ? "" : proved.error().what;
}

TEST(Probe, a_store_without_put_if_absent_is_refused_with_the_reason) {
  EXPECT_THAT(refusal<Overwriting>(), ::testing::HasSubstr("more than one succeeded"));
  EXPECT_THAT(refusal<Racing>(), ::testing::HasSubstr("more than one succeeded"));
  EXPECT_THAT(refusal<Forgetful>(), ::testing::HasSubstr("a listing leaves out"));
  EXPECT_THAT(refusal<Keeping>(), ::testing::HasSubstr("still there"));
}

class Folder : public ::testing::Test {
 protected:
  std::unique_ptr<FolderStore> open(const std::string& path) {
    auto store = FolderStore::open(path, random_);
    EXPECT_OK(store);
    return store ? std::move(*store) : nullptr;
  }
  static std::size_t files_in(const std::string& path) {
    std::size_t count = 0;
    std::error_code error;
    for (const auto& entry : std::filesystem::recursive_directory_iterator(path, error))
      count += entry.is_regular_file() ? 1 : 0;
    return count;
  }
  ScratchFolder scratch_;
  SeededRandom random_{2};
};

TEST_F(Folder, create_wants_an_empty_or_new_folder) {
  EXPECT_OK(FolderStore::create(scratch_.path("new"), random_));
  EXPECT_OK(FolderStore::create(scratch_.path("new"), random_));
  std::filesystem::create_directory(scratch_.path("new/lost+found"));
  EXPECT_OK(FolderStore::create(scratch_.path("new"), random_));
  scratch_.write("new/letter.txt", "dear");
  const auto refused = FolderStore::create(scratch_.path("new"), random_);
  EXPECT_CODE(refused, Code::conflict);
  EXPECT_THAT(refused.error().what, ::testing::HasSubstr("letter.txt"));
  EXPECT_CODE(FolderStore::create(scratch_.path("no/such/parent"), random_), Code::not_found);
  EXPECT_CODE(FolderStore::open(scratch_.path("absent"), random_), Code::not_found);
  EXPECT_CODE(FolderStore::open(scratch_.path("new/letter.txt"), random_), Code::corrupt);
}

TEST_F(Folder, modes_are_private) {
  const auto store = FolderStore::create(scratch_.path("r"), random_).value();
  EXPECT_OK(store->put("packs/ab/x", text("1")));
  struct stat info{};
  for (const char* folder : {"r", "r/packs", "r/packs/ab", "r/tmp"}) {
    ASSERT_EQ(::stat(scratch_.path(folder).c_str(), &info), 0);
    EXPECT_EQ(info.st_mode & 07777, 0700U) << folder;
  }
  ASSERT_EQ(::stat(scratch_.path("r/packs/ab/x").c_str(), &info), 0);
  EXPECT_EQ(info.st_mode & 07777, 0600U);
}

TEST_F(Folder, may_be_renamed_while_it_is_open) {
  const auto store = FolderStore::create(scratch_.path("r"), random_).value();
  EXPECT_OK(store->put("a/x", text("1")));
  std::filesystem::rename(scratch_.path("r"), scratch_.path("s"));
  EXPECT_OK(store->put("b/y", text("2")));
  EXPECT_TRUE(std::filesystem::exists(scratch_.path("s/b/y")));
  EXPECT_EQ(store->get("a/x", 1).value(), text("1"));
}

TEST_F(Folder, a_folder_that_vanished_is_made_again) {
  const auto store = FolderStore::create(scratch_.path("r"), random_).value();
  EXPECT_OK(store->put("a/x", text("1")));
  std::filesystem::remove_all(scratch_.path("r/a"));
  std::filesystem::remove_all(scratch_.path("r/tmp"));
  EXPECT_OK(store->put("a/x", text("2")));
  EXPECT_EQ(store->get("a/x", 1).value(), text("2"));
}

TEST_F(Folder, temporary_files_are_not_objects) {
  const auto store = open(scratch_.path());
  EXPECT_OK(store->put("x", {}));
  EXPECT_EQ(files_in(scratch_.path("tmp")), 0U);
  scratch_.write("tmp/00ff", "left by a crash");
  scratch_.write("Foreign", "not an object's name");
  std::vector<std::string> seen;
  const auto visit = [&](const ObjectInfo& info) -> Result<> {
    seen.push_back(info.name);
    return {};
  };
  EXPECT_OK(store->list("", visit));
  EXPECT_OK(store->list("tmp/", visit));
  EXPECT_THAT(seen, ::testing::ElementsAre("x"));
  EXPECT_CODE(store->get("tmp/00ff", kBig), Code::invalid);
  EXPECT_CODE(store->put("tmp/x", {}), Code::invalid);
  EXPECT_CODE(store->put("tmp", {}), Code::invalid);
  EXPECT_OK(store->remove_stale_temporaries(Time{0}));
  EXPECT_EQ(files_in(scratch_.path("tmp")), 1U);
  EXPECT_OK(store->remove_stale_temporaries(Time{INT64_MAX}));
  EXPECT_EQ(files_in(scratch_.path("tmp")), 0U);
}

TEST_F(Folder, symlinks_inside_are_not_followed) {
  std::filesystem::create_directory(scratch_.path("r"));
  std::filesystem::create_directory(scratch_.path("outside"));
  scratch_.write("outside/secret", "secret");
  std::filesystem::create_directory_symlink("../outside", scratch_.path("r/packs"));
  std::filesystem::create_symlink("../outside/secret", scratch_.path("r/config"));
  for (const Beneath how : {Beneath::automatic, Beneath::by_component}) {
    FolderStore store(
        std::make_unique<Directory>(Fd(::open(scratch_.path("r").c_str(), O_RDONLY)), "r", how),
        random_);
    Bytes out(1);
    EXPECT_CODE(store.get("packs/secret", kBig), Code::corrupt);
    EXPECT_CODE(store.get("config", kBig), Code::corrupt);
    EXPECT_CODE(store.get_range("config", 0, out), Code::corrupt);
    EXPECT_CODE(store.size("config"), Code::corrupt);
    EXPECT_CODE(store.put("packs/new", text("x")), Code::corrupt);
    EXPECT_CODE(store.put("packs/ab/new", text("x")), Code::corrupt);
    EXPECT_CODE(store.put("config", text("secret")), Code::corrupt);
    EXPECT_CODE(store.remove("packs/secret"), Code::corrupt);
    EXPECT_OK(
        store.list("", [](const ObjectInfo&) -> Result<> { return fail(Code::invalid, "?"); }));
  }
  EXPECT_EQ(files_in(scratch_.path("outside")), 1U);
}

TEST_F(Folder, a_symlink_in_place_of_tmp_is_not_followed) {
  std::filesystem::create_directory(scratch_.path("r"));
  std::filesystem::create_directory(scratch_.path("outside"));
  std::filesystem::create_directory_symlink("../outside", scratch_.path("r/tmp"));
  EXPECT_CODE(open(scratch_.path("r"))->put("x", text("x")), Code::corrupt);
  EXPECT_EQ(files_in(scratch_.path("r")) + files_in(scratch_.path("outside")), 0U);
}

TEST_F(Folder, a_fifo_or_folder_in_place_of_an_object_is_damage_and_blocks_nothing) {
  ASSERT_EQ(::mkfifo(scratch_.path("pipe").c_str(), 0600), 0);
  std::filesystem::create_directory(scratch_.path("sub"));
  const auto store = open(scratch_.path());
  for (const char* name : {"pipe", "sub"}) {
    EXPECT_CODE(store->get(name, kBig), Code::corrupt);
    EXPECT_CODE(store->put(name, {}), Code::corrupt);
    EXPECT_CODE(store->size(name), Code::corrupt);
  }
}

// As another user, since root may do everything.
int put_as_nobody(const std::string& path) {
  if (!become_nobody()) return kChildSkip;
  SeededRandom random(3);
  const auto store = FolderStore::open(path, random);
  if (!store) return store.error().code == Code::denied ? 0 : 1;
  const auto put = (*store)->put("y", text("1"));
  const bool told = !put && put.error().what.find(path) != std::string::npos;
  return told && put.error().code == Code::denied && (*store)->get("x", 1) ? 0 : 2;
}

TEST_F(Folder, a_read_only_folder_is_denied_by_name_and_still_reads) {
  EXPECT_OK(open(scratch_.path())->put("x", text("1")));
  ASSERT_EQ(::chmod(scratch_.path().c_str(), 0555), 0);
  ASSERT_EQ(::chmod(scratch_.path("x").c_str(), 0444), 0);
  std::filesystem::remove_all(scratch_.path("tmp"));
  const int code = in_child([&] { return put_as_nobody(scratch_.path()); });
  if (code == kChildSkip) GTEST_SKIP() << "needs root";
  EXPECT_EQ(code, 0);
}

TEST_F(Folder, a_full_disk_leaves_nothing) {
  const std::string disk = scratch_.path("disk");
  std::filesystem::create_directory(disk);
  if (::mount("tmpfs", disk.c_str(), "tmpfs", 0, "size=256k") != 0)
    GTEST_SKIP() << "cannot mount a small tmpfs";
  {
    const auto store = open(disk);
    EXPECT_OK(store->put("small", text("1")));
    const Bytes large(1U << 20);
    const auto full = store->put("packs/ab/large", large);
    EXPECT_CODE(full, Code::full);
    EXPECT_THAT(full.error().what, ::testing::HasSubstr("free some space"));
    EXPECT_CODE(store->get("packs/ab/large", kBig), Code::not_found);
    EXPECT_EQ(files_in(disk), 1U);
    EXPECT_OK(store->put("small2", text("2")));
  }
  ::umount2(disk.c_str(), MNT_DETACH);
}

// Runs put() in a child in which `number` gives `action`.
int put_intercepted(const std::string& path, long number, std::uint32_t action) {
  SeededRandom random(4);
  const auto store = FolderStore::open(path, random);
  if (!store) return 1;
  if (!intercept_syscall(number, action)) return kChildSkip;
  if (!(*store)->put("packs/ab/x", text("1"))) return 2;
  if (!(*store)->put("packs/ab/x", text("1"))) return 3;
  const auto other = (*store)->put("packs/ab/x", text("2"));
  return !other && other.error().code == Code::conflict ? 0 : 4;
}

TEST_F(Folder, killed_between_write_and_rename_leaves_nothing_under_the_name) {
  const int code = in_child(
      [&] { return put_intercepted(scratch_.path(), SYS_renameat2, SECCOMP_RET_KILL_PROCESS); });
  if (code == kChildSkip) GTEST_SKIP() << "no seccomp";
  EXPECT_EQ(code, 1000 + SIGSYS);
  const auto store = open(scratch_.path());
  EXPECT_CODE(store->get("packs/ab/x", 1), Code::not_found);
  EXPECT_EQ(files_in(scratch_.path("tmp")), 1U);
  EXPECT_OK(store->put("packs/ab/x", text("1")));
}

TEST_F(Folder, killed_while_writing_leaves_nothing_under_the_name) {
  const int code = in_child([&] {
    constexpr rlimit limit{.rlim_cur = 64U << 10, .rlim_max = 64U << 10};
    SeededRandom random(5);
    const auto store = FolderStore::open(scratch_.path(), random);
    if (!store || ::setrlimit(RLIMIT_FSIZE, &limit) != 0) return 1;
    return (*store)->put("x", Bytes(1U << 20)) ? 2 : 3;
  });
  EXPECT_EQ(code, 1000 + SIGXFSZ);
  EXPECT_CODE(open(scratch_.path())->get("x", kBig), Code::not_found);
}

TEST_F(Folder, without_renameat2_a_link_does_it) {
  for (const int error : {EINVAL, ENOSYS}) {
    const ScratchFolder scratch;
    const int code = in_child([&] {
      return put_intercepted(scratch.path(), SYS_renameat2,
                             SECCOMP_RET_ERRNO | static_cast<std::uint32_t>(error));
    });
    if (code == kChildSkip) GTEST_SKIP() << "no seccomp";
    EXPECT_EQ(code, 0);
    EXPECT_EQ(files_in(scratch.path()), 1U) << "the temporary file stayed";
  }
}

TEST_F(Folder, a_failing_sync_is_not_ok) {
  const int code = in_child(
      [&] { return put_intercepted(scratch_.path(), SYS_fsync, SECCOMP_RET_ERRNO | EIO); });
  if (code == kChildSkip) GTEST_SKIP() << "no seccomp";
  EXPECT_EQ(code, 2);
  EXPECT_EQ(files_in(scratch_.path()), 0U);
}

TEST_F(Folder, a_listing_that_breaks_off_is_an_error) {
  EXPECT_OK(open(scratch_.path())->put("a/x", {}));
  const int code = in_child([&] {
    SeededRandom random(6);
    const auto store = FolderStore::open(scratch_.path(), random);
    if (!store) return 1;
    if (!intercept_syscall(SYS_getdents64, SECCOMP_RET_ERRNO | EIO)) return kChildSkip;
    return (*store)->list("", [](const ObjectInfo&) -> Result<> { return {}; }) ? 2 : 0;
  });
  if (code == kChildSkip) GTEST_SKIP() << "no seccomp";
  EXPECT_EQ(code, 0);
}

// What a run of puts looked like from outside and what then stands in the store.
std::string run_with_faults(std::uint64_t seed) {
  MemoryStore memory;
  FaultStore store(memory, {.seed = seed, .fail_before = 100, .fail_after = 100});
  std::string history;
  for (int i = 0; i < 200; ++i) {
    const std::string name = std::to_string(i);
    const bool ok = store.put(name, as_bytes(name)).has_value();
    const bool there = memory.size(name).has_value();
    EXPECT_TRUE(!ok || there);
    history += ok ? '+' : there ? 'L' : '-';  // L: the reply was lost
  }
  return history;
}

TEST(Fault, one_seed_replays_one_run) {
  const std::string first = run_with_faults(42);
  EXPECT_EQ(first, run_with_faults(42));
  EXPECT_NE(first, run_with_faults(43));
  for (const char outcome : {'+', 'L', '-'})
    EXPECT_GT(std::ranges::count(first, outcome), 5) << first;
  // The engine is the same on every library and machine.
  EXPECT_EQ(first.substr(0, 24), "+++++++++++-+++-++++++++");
}

TEST(Fault, full_from_the_nth_put) {
  MemoryStore memory;
  FaultStore store(memory, {.full_from_put = 2});
  EXPECT_OK(store.put("a", {}));
  EXPECT_OK(store.get("a", 0));
  EXPECT_OK(store.put("b", {}));
  EXPECT_CODE(store.put("c", {}), Code::full);
  EXPECT_CODE(store.put("d", {}), Code::full);
  EXPECT_CODE(memory.size("c"), Code::not_found);
  EXPECT_EQ(store.calls(), 5U);
  EXPECT_EQ(store.puts(), 4U);
  EXPECT_EQ(store.gets(), 1U);
}

TEST(Fault, the_nth_get_is_damaged_by_one_bit) {
  MemoryStore memory;
  const Bytes content = text("0123456789");
  EXPECT_OK(memory.put("a", content));
  FaultStore store(memory, {.seed = 1, .corrupt_get = 1});
  EXPECT_EQ(store.get("a", kBig).value(), content);
  Bytes range(10);
  EXPECT_OK(store.get_range("a", 0, range));
  EXPECT_NE(range, content);
  EXPECT_EQ(store.get("a", kBig).value(), content);
}

TEST(Fault, short_reads) {
  MemoryStore memory;
  EXPECT_OK(memory.put("a", text("0123456789")));
  FaultStore store(memory, {.seed = 1, .short_reads = 1024});
  EXPECT_LT(store.get("a", kBig).value().size(), 10U);
  Bytes range(10);
  EXPECT_CODE(store.get_range("a", 0, range), Code::unavailable);
}

TEST(Fault, crash_before_or_after_the_effect_and_for_ever) {
  for (const bool after : {false, true}) {
    MemoryStore memory;
    FaultStore store(memory, {.crash_at_call = 1, .crash_after_effect = after});
    EXPECT_OK(store.put("a", {}));
    EXPECT_FALSE(store.crashed());
    EXPECT_CODE(store.put("b", {}), Code::unavailable);
    EXPECT_TRUE(store.crashed());
    EXPECT_CODE(store.get("a", 0), Code::unavailable);
    EXPECT_CODE(store.put("c", {}), Code::unavailable);
    EXPECT_EQ(memory.size("b").has_value(), after);
    EXPECT_FALSE(memory.size("c").has_value());
  }
}

TEST(Fault, a_listing_may_break_off_and_is_never_ok_then) {
  MemoryStore memory;
  for (int i = 0; i < 20; ++i) EXPECT_OK(memory.put(std::to_string(i), {}));
  FaultStore store(memory, {.seed = 3, .fail_after = 1024});
  int seen = 0;
  EXPECT_CODE(store.list("",
                         [&](const ObjectInfo&) -> Result<> {
                           ++seen;
                           return {};
                         }),
              Code::unavailable);
  EXPECT_LT(seen, 20);
}

}  // namespace
}  // namespace holdfast
