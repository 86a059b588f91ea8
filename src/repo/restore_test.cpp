// SPDX-License-Identifier: Apache-2.0
#include "repo/restore.h"

#include <fcntl.h>
#include <gmock/gmock.h>
#include <sys/xattr.h>

#include <map>
#include <thread>

#include "fs/target.h"
#include "fs/temp_tree.h"
#include "repo/memory_nodes.h"

namespace holdfast {
namespace {

using ::testing::HasSubstr;

const Bytes kIdKey(32, std::byte{7});
const Bytes kTreeKey(16, std::byte{9});

class CountingRandom : public Random {
 public:
  void fill(MutableByteSpan out) override {
    const std::uint64_t n = next_++;
    for (std::size_t i = 0; i < out.size(); ++i) out[i] = static_cast<std::byte>(n >> (i % 8 * 8));
  }

 private:
  std::atomic<std::uint64_t> next_{1};
};

class MapChunks : public ChunkSource {
 public:
  MapChunks() : hasher_(kIdKey) {}
  ContentItem put(std::string_view text) {
    const ChunkId id = hasher_.id(ChunkType::data, as_bytes(text));
    const ByteSpan bytes = as_bytes(text);
    chunks[id] = std::make_shared<const Bytes>(bytes.begin(), bytes.end());
    return {text.size(), id};
  }
  Result<ChunkReader::Chunk> get(const ChunkId& id) override {
    const auto found = chunks.find(id);
    if (found == chunks.end())
      return fail(Code::corrupt, "chunk " + id.hex() + ": pack abc, frame 3: damaged");
    return ChunkReader::Chunk{found->second, *found->second};
  }
  std::map<ChunkId, std::shared_ptr<const Bytes>> chunks;

 private:
  ChunkHasher hasher_;
};

struct KeyLess {
  bool operator()(const Entry& a, const Entry& b) const {
    return compare_keys(a.directory, a.name, b.directory, b.name) < 0;
  }
};

class RestoreTest : public TempTree {
 protected:
  static Entry at(std::string_view path, EntryType type) {
    Entry entry;
    const std::size_t slash = path.rfind('/');
    if (slash != std::string_view::npos) entry.directory = path.substr(0, slash);
    entry.name = slash == std::string_view::npos ? path : path.substr(slash + 1);
    entry.type = type;
    entry.mode = type == EntryType::directory ? 0755 : 0644;
    entry.uid = ::geteuid();
    entry.gid = ::getegid();
    entry.mtime = {1'000'000'000, 5};
    entry.device = 1;
    entry.inode = 1000;
    return entry;
  }
  void add(Entry entry) { entries_.push_back(std::move(entry)); }
  Entry& dir(std::string_view path) {
    add(at(path, EntryType::directory));
    return entries_.back();
  }
  Entry& file(std::string_view path, const std::vector<std::string>& pieces) {
    Entry entry = at(path, EntryType::file);
    ListBuilder list(nodes_, kTreeKey);
    for (const std::string& piece : pieces) {
      entry.size += piece.size();
      EXPECT_TRUE(list.add(chunks_.put(piece)));
    }
    entry.content = *list.finish();
    add(std::move(entry));
    return entries_.back();
  }
  Entry& symlink(std::string_view path, const std::string& to) {
    add(at(path, EntryType::symlink));
    entries_.back().link_target = to;
    return entries_.back();
  }
  // Doubled names keep their order.
  void sort_by_insertion() {
    for (std::size_t i = 1; i < entries_.size(); ++i)
      for (std::size_t j = i; j > 0 && KeyLess{}(entries_[j], entries_[j - 1]); --j)
        std::swap(entries_[j], entries_[j - 1]);
  }
  TreeRoot tree() {
    std::ranges::sort(entries_, KeyLess{});
    TreeBuilder builder(nodes_, kTreeKey);
    for (const Entry& entry : entries_) {
      const auto added = builder.add(entry);
      EXPECT_TRUE(added) << added.error().what;
    }
    return *builder.finish();
  }
  // One leaf as it is, whatever the builder would say.
  TreeRoot forged() {
    sort_by_insertion();
    const Bytes leaf = encode_leaf({entries_});
    return {*nodes_.put(ChunkType::leaf, leaf), 0, entries_.size()};
  }
  Result<RestoreReport> run(const TreeRoot& root, RestoreOptions options = {},
                            const TargetOptions& target_options = {}) {
    HF_ASSIGN(const auto to, open_target(target(""), target_options, random_));
    return restore(chunks_, nodes_, root, *to, options, stop_);
  }
  RestoreReport run_ok(const TreeRoot& root, const RestoreOptions& options = {},
                       const TargetOptions& target_options = {}) {
    auto report = run(root, options, target_options);
    EXPECT_TRUE(report) << report.error().what;
    if (!report) return {};
    for (const Incomplete& i : report->incomplete) all_ += i.path + ": " + i.what + "\n";
    return std::move(*report);
  }
  MemoryNodes nodes_{kIdKey};
  MapChunks chunks_;
  CountingRandom random_;
  Stop stop_;
  std::vector<Entry> entries_;
  std::string all_;  // what was incomplete
};

TEST_F(RestoreTest, everything_comes_back) {
  dir("a").mode = 0555;
  dir("a/b").mtime = {-5, 7};
  file("a/b/small", {"hello"});
  file("a/empty", {}).mode = 0;
  file("a/two", {"one ", "two"}).xattrs = {{"user.x", "y"}};
  symlink("a/link", "b/small");
  dir("z").mode = 0;
  file("z/f", {"in a locked directory"});
  add(at("z/fifo", EntryType::fifo));
  const RestoreReport report = run_ok(tree());
  EXPECT_EQ(all_, "");
  EXPECT_EQ(report.files, 4U);
  EXPECT_EQ(report.directories, 3U);
  EXPECT_EQ(report.symlinks, 1U);
  EXPECT_EQ(report.others, 1U);
  EXPECT_EQ(report.bytes, 5U + 7 + 21);
  EXPECT_EQ(get(target("a/b/small")), "hello");
  EXPECT_EQ(get(target("a/link")), "hello");
  EXPECT_EQ(status(target("a/empty")).st_mode & 07777, 0U);
  EXPECT_EQ(status(target("a")).st_mode & 07777, 0555U);
  EXPECT_EQ(status(target("a")).st_mtim.tv_sec, 1'000'000'000);
  EXPECT_EQ(status(target("a/b")).st_mtim.tv_sec, -5);
  EXPECT_EQ(status(target("a/b")).st_mtim.tv_nsec, 7);
  EXPECT_EQ(status(target("z")).st_mode & 07777, 0U);
  ::chmod(target("z").c_str(), 0700);
  EXPECT_EQ(get(target("z/f")), "in a locked directory");
  EXPECT_EQ(status(target("z")).st_mtim.tv_nsec, 5);
  for (const char* path : {"a", "z"}) ::chmod(target(path).c_str(), 0700);
}

TEST_F(RestoreTest, a_large_file_and_one_with_holes) {
  std::vector<std::string> pieces;
  std::string whole;
  for (int i = 0; i < 300; ++i) {
    pieces.push_back(std::string(40'000, static_cast<char>(i)) + std::to_string(i));
    whole += pieces.back();
  }
  file("large", pieces);
  Entry sparse = at("sparse", EntryType::file);
  sparse.size = (8U << 20) + 6;
  sparse.content.items = {{4U << 20, std::nullopt}, chunks_.put("middle"), {4U << 20, {}}};
  add(sparse);
  const TreeRoot root = tree();
  RestoreOptions options;
  options.verify = [] { return ChunkHasher(kIdKey); };
  const RestoreReport report = run_ok(root, options);
  EXPECT_EQ(all_, "");
  EXPECT_EQ(report.verified, 2U);
  EXPECT_EQ(get(target("large")), whole);
  EXPECT_EQ(status(target("sparse")).st_size, (8L << 20) + 6);
  EXPECT_LT(status(target("sparse")).st_blocks, 2048);
  EXPECT_EQ(count(target("")), 2U);
}

TEST_F(RestoreTest, verification_finds_what_is_not_as_it_was) {
  file("same", {"abc"});
  file("changed", {"abc"});
  const TreeRoot root = tree();
  run_ok(root);
  put(target("changed"), "abX");
  const timespec times[] = {{0, UTIME_OMIT}, {1'000'000'000, 5}};
  ::utimensat(AT_FDCWD, target("changed").c_str(), times, 0);
  RestoreOptions options;
  options.verify = [] { return ChunkHasher(kIdKey); };
  const RestoreReport report = run_ok(root, options);
  EXPECT_EQ(report.kept, 2U);
  EXPECT_EQ(report.verified, 1U);
  EXPECT_THAT(all_, HasSubstr("changed: verify: kept, and differs from the snapshot: it differs"));
  EXPECT_EQ(report.damaged_count, 0U) << "of a repository that has none";
  EXPECT_EQ(report.incomplete_count, 1U);
}

TEST_F(RestoreTest, verification_of_what_was_kept_says_nothing_of_the_repository) {
  for (const char* name : {"longer", "same", "symlink"}) file(name, {"abc"});
  ::mkdir(target("").c_str(), 0755);
  put(target("longer"), "of the user");
  put(target("same"), "abc");
  plant(outside("passwd"), target("symlink"));
  RestoreOptions options;
  options.verify = [] { return ChunkHasher(kIdKey); };
  const RestoreReport report = run_ok(tree(), options, {.overwrite = Overwrite::never});
  EXPECT_EQ(report.kept, 3U);
  EXPECT_EQ(report.verified, 1U);
  EXPECT_EQ(report.incomplete_count, 2U);
  EXPECT_EQ(report.damaged_count, 0U);
  EXPECT_THAT(all_, HasSubstr("longer: verify: kept, and differs from the snapshot"));
}

TEST_F(RestoreTest, verification_does_not_read_holes) {
  constexpr std::uint64_t kSize = 1ULL << 40;
  Entry sparse = at("sparse", EntryType::file);
  sparse.size = kSize + 6;
  sparse.content.items = {{kSize, std::nullopt}, chunks_.put("at end")};
  add(sparse);
  RestoreOptions options;
  options.verify = [] { return ChunkHasher(kIdKey); };
  const TreeRoot root = tree();
  EXPECT_EQ(run_ok(root, options).verified, 1U);
  EXPECT_EQ(all_, "");
  // What is written into a hole is found, zeros are as good as a hole.
  const int fd = ::open(target("sparse").c_str(), O_WRONLY | O_CLOEXEC);
  const timespec times[] = {{0, UTIME_OMIT}, {1'000'000'000, 5}};
  EXPECT_EQ(::pwrite(fd, "\0\0", 2, 1L << 30), 2);
  ::futimens(fd, times);
  EXPECT_EQ(run_ok(root, options).verified, 1U);
  EXPECT_EQ(::pwrite(fd, "x", 1, 1L << 39), 1);
  ::futimens(fd, times);
  ::close(fd);
  EXPECT_EQ(run_ok(root, options).verified, 0U);
  EXPECT_THAT(all_, HasSubstr("sparse: verify: kept, and differs"));
}

TEST_F(RestoreTest, hard_links_are_one_file_again) {
  const auto linked = [](Entry& entry, std::uint64_t inode, std::uint32_t links) {
    entry.inode = inode;
    entry.links = links;
  };
  dir("a");
  dir("b");
  linked(file("a/1", {"shared"}), 5, 3);
  linked(file("a/2", {"shared"}), 5, 3);
  linked(file("b/3", {"shared"}), 5, 3);
  linked(file("b/4", {"alone here"}), 6, 2);
  const RestoreReport report = run_ok(tree());
  EXPECT_EQ(all_, "");
  EXPECT_EQ(report.files, 2U);
  EXPECT_EQ(report.links, 2U);
  EXPECT_EQ(status(target("a/1")).st_ino, status(target("b/3")).st_ino);
  EXPECT_EQ(status(target("a/1")).st_nlink, 3U);
  EXPECT_EQ(status(target("b/4")).st_nlink, 1U);
  const RestoreReport again = run_ok(tree());
  EXPECT_EQ(again.kept, 4U);
  EXPECT_EQ(status(target("a/1")).st_nlink, 3U);
}

// `a` of a group stands in the target with other content: no other name may get that.
TEST_F(RestoreTest, RST_03_no_link_is_made_to_a_kept_file_of_other_content) {
  for (const char* name : {"a", "b", "c"}) {
    Entry& entry = file(name, {"shared"});
    entry.inode = 5;
    entry.links = 3;
  }
  const TreeRoot root = tree();
  for (const Overwrite overwrite : {Overwrite::never, Overwrite::changed}) {
    std::filesystem::remove_all(target(""));
    ::mkdir(target("").c_str(), 0755);
    put(target("a"), "user's");
    const timespec times[] = {{0, UTIME_OMIT}, {1'000'000'000, 5}};
    ::utimensat(AT_FDCWD, target("a").c_str(), times, 0);
    const RestoreReport report = run_ok(root, {}, {.overwrite = overwrite});
    EXPECT_EQ(all_, "");
    EXPECT_EQ(report.kept, 1U);
    EXPECT_EQ(report.files, 1U);
    EXPECT_EQ(report.links, 1U);
    EXPECT_EQ(get(target("a")), "user's");
    EXPECT_EQ(get(target("b")), "shared");
    EXPECT_EQ(status(target("b")).st_ino, status(target("c")).st_ino);
    EXPECT_EQ(run_ok(root, {}, {.overwrite = overwrite}).kept, 3U);
    EXPECT_EQ(status(target("b")).st_nlink, 2U);
  }
}

TEST_F(RestoreTest, an_interrupted_group_goes_on_to_one_file) {
  for (const char* name : {"a", "b", "c"}) {
    Entry& entry = file(name, {"sha", "red"});
    entry.inode = 5;
    entry.links = 3;
  }
  const TreeRoot root = tree();
  run_ok(root);
  ::unlink(target("b").c_str());
  ::unlink(target("c").c_str());
  const RestoreReport report = run_ok(root);
  EXPECT_EQ(report.kept, 1U);
  EXPECT_EQ(report.links, 2U);
  EXPECT_EQ(status(target("a")).st_nlink, 3U);
  EXPECT_EQ(count(target("")), 3U);
}

TEST_F(RestoreTest, hard_links_of_symlinks_and_fifos) {
  const auto linked = [](Entry& entry, std::uint64_t inode) {
    entry.inode = inode;
    entry.links = 2;
  };
  dir("d");
  linked(symlink("d/s", "there"), 5);
  linked(symlink("t", "there"), 5);
  for (const char* name : {"f", "g"}) {
    add(at(name, EntryType::fifo));
    linked(entries_.back(), 6);
  }
  // They say that they are one, and are not.
  linked(symlink("x", "one"), 7);
  linked(symlink("y", "two"), 7);
  for (const Overwrite overwrite : {Overwrite::changed, Overwrite::changed, Overwrite::never}) {
    const RestoreReport report = run_ok(tree(), {}, {.overwrite = overwrite});
    EXPECT_EQ(all_, "");
    EXPECT_EQ(status(target("d/s")).st_ino, status(target("t")).st_ino);
    EXPECT_EQ(status(target("f")).st_ino, status(target("g")).st_ino);
    EXPECT_EQ(std::filesystem::read_symlink(target("y")), "two");
    EXPECT_EQ(count(target("")), 6U);
    ASSERT_EQ(report.left_out.size(), 1U);
    EXPECT_EQ(report.left_out[0].kind, LeftOutKind::hard_link);
    EXPECT_EQ(report.left_out[0].first, "y");
    if (overwrite != Overwrite::never) {
      EXPECT_EQ(report.links, 2U);
    }
  }
}

TEST_F(RestoreTest, RST_03_a_link_of_other_content_is_a_file_of_its_own) {
  for (const auto& [name, text] : {std::pair{"1", "content"}, {"2", "another"}}) {
    Entry& entry = file(name, {text});
    entry.inode = 5;
    entry.links = 2;
  }
  const RestoreReport report = run_ok(tree());
  EXPECT_EQ(get(target("1")), "content");
  EXPECT_EQ(get(target("2")), "another");
  ASSERT_EQ(report.left_out.size(), 1U);
  EXPECT_EQ(report.left_out[0].kind, LeftOutKind::hard_link);
  EXPECT_EQ(report.left_out[0].first, "2");
}

TEST_F(RestoreTest, a_subtree_and_a_single_file) {
  dir("a");
  dir("a/b").mode = 0700;
  dir("a/b!");
  dir("a/b/c");
  file("a/b/c/f", {"deep"});
  file("a/b/g", {"near"});
  file("a/b!/x", {"not this"});
  symlink("a/b/l", "g");
  const TreeRoot root = tree();
  RestoreReport report = run_ok(root, {.subtree = "a/b"});
  EXPECT_EQ(all_, "");
  EXPECT_EQ(report.files, 2U);
  EXPECT_EQ(count(target("")), 3U);
  EXPECT_EQ(get(target("c/f")), "deep");
  EXPECT_EQ(get(target("l")), "near");
  EXPECT_EQ(status(target("")).st_mtim.tv_sec, 1'000'000'000);
  std::filesystem::remove_all(target(""));
  report = run_ok(root, {.subtree = "a/b/g"});
  EXPECT_EQ(report.files, 1U);
  EXPECT_EQ(get(target("g")), "near");
  EXPECT_EQ(count(target("")), 1U);
  const auto missing = run(root, {.subtree = "a/nothing"});
  ASSERT_FALSE(missing);
  EXPECT_EQ(missing.error().code, Code::not_found);
  EXPECT_FALSE(run(root, {.subtree = "../a"}));
}

TEST_F(RestoreTest, only_what_is_wanted_and_the_directories_above_it) {
  dir("a").mtime = {77, 88};
  dir("a/b").mode = 0711;
  file("a/b/x.doc", {"yes"});
  file("a/b/x.txt", {"no"});
  dir("c");
  file("c/y.txt", {"no"});
  symlink("c/l.doc", "y.txt");
  dir("stood").mode = 0777;
  file("stood/x.doc", {"yes"});
  ::mkdir(target("").c_str(), 0755);
  ::mkdir(target("stood").c_str(), 0750);
  RestoreOptions options;
  options.wanted = [](const Entry& entry) { return entry.name.ends_with(".doc"); };
  const RestoreReport report = run_ok(tree(), options);
  EXPECT_EQ(all_, "");
  EXPECT_EQ(report.files, 2U);
  EXPECT_EQ(report.directories, 0U);
  EXPECT_EQ(get(target("a/b/x.doc")), "yes");
  EXPECT_FALSE(exists(target("a/b/x.txt")));
  EXPECT_TRUE(exists(target("c/l.doc")));
  // What was made on the way is as in the snapshot, what stood there is as it stood.
  EXPECT_EQ(status(target("a")).st_mode & 07777, 0755U);
  EXPECT_EQ(status(target("a")).st_mtim.tv_nsec, 88);
  EXPECT_EQ(status(target("a/b")).st_mode & 07777, 0711U);
  EXPECT_EQ(status(target("c")).st_mtim.tv_sec, 1'000'000'000);
  EXPECT_EQ(status(target("stood")).st_mode & 07777, 0750U);
}

TEST_F(RestoreTest, never_leaves_directories_that_stand_there_as_they_are) {
  dir("stood").mode = 0777;
  dir("stood/made").mode = 0711;
  file("stood/made/f", {"x"});
  ::mkdir(target("").c_str(), 0755);
  ::mkdir(target("stood").c_str(), 0750);
  const RestoreReport report = run_ok(tree(), {}, {.overwrite = Overwrite::never});
  EXPECT_EQ(all_, "");
  EXPECT_EQ(report.files, 1U);
  EXPECT_EQ(status(target("stood")).st_mode & 07777, 0750U);
  EXPECT_NE(status(target("stood")).st_mtim.tv_sec, 1'000'000'000);
  EXPECT_EQ(status(target("stood/made")).st_mode & 07777, 0711U);
  EXPECT_EQ(status(target("stood/made")).st_mtim.tv_sec, 1'000'000'000);
}

TEST_F(RestoreTest, directories_that_could_not_be_made_are_not_counted) {
  dir("a");
  dir("b");
  ::mkdir(target("").c_str(), 0755);
  put(target("b"), "a file");
  const RestoreReport report = run_ok(tree());
  EXPECT_EQ(report.directories, 1U);
  EXPECT_EQ(report.incomplete_count, 1U);
}

// A user who restores twice finds directories that the first time took his own rights from.
TEST_F(RestoreTest, a_user_can_repeat_a_restore_of_locked_directories) {
  constexpr uid_t kUser = 65534;
  const bool root = ::geteuid() == 0;
  if (root) {
    ASSERT_EQ(::chown(base_.c_str(), kUser, kUser), 0);
    ASSERT_EQ(::setegid(kUser), 0);
    ASSERT_EQ(::seteuid(kUser), 0);
  }
  dir("locked").mode = 0;
  file("locked/f", {"x"});
  dir("locked/inner").mode = 0555;
  symlink("locked/inner/s", "x");
  const TreeRoot tree_root = tree();
  for (int i = 0; i < 3; ++i) {
    // The last time nothing is set: it must be as it stood.
    const RestoreReport report =
        run_ok(tree_root, {}, {.overwrite = i == 2 ? Overwrite::never : Overwrite::changed});
    EXPECT_EQ(report.incomplete_count, 0U) << all_;
    EXPECT_EQ(status(target("locked")).st_mode & 07777, 0U);
    if (i > 0) {
      EXPECT_GE(report.kept, 1U);
    }
  }
  EXPECT_EQ(::chmod(target("locked").c_str(), 0700), 0);
  EXPECT_EQ(status(target("locked/inner")).st_mode & 07777, 0555U);
  if (root) {
    ASSERT_EQ(::seteuid(0), 0);
    ASSERT_EQ(::setegid(0), 0);
  }
}

TEST_F(RestoreTest, a_dry_run_writes_nothing) {
  dir("a");
  file("a/x", {"abc"});
  symlink("l", "a");
  const RestoreReport report = run_ok(tree(), {.dry_run = true});
  EXPECT_EQ(report.files, 1U);
  EXPECT_EQ(report.bytes, 3U);
  EXPECT_EQ(report.directories, 1U);
  EXPECT_EQ(report.symlinks, 1U);
  EXPECT_EQ(count(target("")), 0U);
}

TEST_F(RestoreTest, a_stop_ends_it) {
  file("x", {"abc"});
  stop_.request();
  const auto report = run(tree());
  ASSERT_FALSE(report);
  EXPECT_EQ(report.error().code, Code::interrupted);
}

TEST_F(RestoreTest, a_path_of_4_kib_and_many_directories) {
  std::string path;
  while (path.size() + 200 < kPathMax) {
    path += (path.empty() ? "" : "/") + std::string(190, 'd');
    dir(path);
  }
  file(path + "/" + std::string(kPathMax - path.size() - 1, 'f'), {"deep"});
  for (int i = 0; i < 100; ++i) {
    dir("many" + std::to_string(i));
    file("many" + std::to_string(i) + "/f", {std::to_string(i)});
  }
  const RestoreReport report = run_ok(tree());
  EXPECT_EQ(all_, "");
  EXPECT_EQ(report.files, 101U);
  for (int i = 0; i < 100; ++i) {
    const std::string name = "many" + std::to_string(i);
    EXPECT_EQ(get(target(name + "/f")), std::to_string(i));
    EXPECT_EQ(status(target(name)).st_mtim.tv_nsec, 5);
  }
}

TEST_F(RestoreTest, RST_01_hostile_names_in_a_forged_tree) {
  file("good", {"good"});
  const std::string with_nul("a\0b", 3);
  for (const std::string& name : {std::string(".."), std::string("../x"), std::string("/abs"),
                                  std::string("a/../../x"), with_nul, std::string(".")}) {
    file("good", {"evil"});
    entries_.back().name = name;
  }
  const auto report = run(forged());
  ASSERT_TRUE(report);
  EXPECT_GT(report->incomplete_count, 0U);
  EXPECT_FALSE(exists(base_ + "/x"));
  EXPECT_EQ(get(target("good")), "good");
  EXPECT_EQ(count(target("")), 1U);
  EXPECT_EQ(count(base_), 2U);
}

TEST_F(RestoreTest, RST_02_a_symlink_with_an_entry_below_it) {
  symlink("d", outside(""));
  file("d/passwd", {"owned"});
  file("good", {"good"});
  const auto report = run(forged());
  ASSERT_TRUE(report) << report.error().what;
  ASSERT_GT(report->incomplete_count, 0U);
  std::string all;
  for (const Incomplete& i : report->incomplete) all += i.path + ": " + i.what + "\n";
  EXPECT_THAT(all, HasSubstr("d/passwd"));
  EXPECT_EQ(get(target("good")), "good");
}

// The same, with the directory there as well: under one name in both orders.
TEST_F(RestoreTest, RST_02_doubled_names_are_refused) {
  for (const bool symlink_first : {true, false}) {
    entries_.clear();
    if (symlink_first) symlink("d", outside(""));
    dir("d");
    if (!symlink_first) symlink("d", outside(""));
    file("d/passwd", {"owned"});
    const auto report = run(forged());
    ASSERT_TRUE(report) << report.error().what;
    EXPECT_GT(report->damaged_count, 0U);
  }
}

// One who may write into the target swaps directory and symlink as fast as he can.
TEST_F(RestoreTest, RST_02_RST_06_a_race_for_the_directory) {
  ::mkdir(target("").c_str(), 0777);
  dir("d").mode = 0777;
  for (int i = 0; i < 60; ++i) file("d/f" + std::to_string(i), {"owned"});
  const TreeRoot root = tree();
  std::atomic<bool> done{false};
  std::thread racer([&] {
    const std::string d = target("d"), link = target("evil"), away = target("away");
    while (!done.load()) {
      if (::symlink(outside("").c_str(), link.c_str()) != 0 && errno != EEXIST) break;
      ::rename(d.c_str(), away.c_str());
      ::rename(link.c_str(), d.c_str());
      ::unlink(d.c_str());
      ::rename(away.c_str(), d.c_str());
    }
  });
  for (int i = 0; i < 3; ++i) (void)run(root, {}, {.overwrite = Overwrite::always});
  done.store(true);
  racer.join();
}

TEST_F(RestoreTest, RST_04_planted_symlinks_in_an_existing_target) {
  ::mkdir(target("").c_str(), 0755);
  plant(outside("passwd"), target("file"));
  plant(outside(""), target("dir"));
  file("file", {"restored"});
  dir("dir");
  file("dir/passwd", {"owned"});
  const auto report = run(tree());
  ASSERT_TRUE(report);
  EXPECT_EQ(get(target("file")), "restored");
  EXPECT_TRUE(S_ISREG(status(target("file")).st_mode));
  ASSERT_GE(report->incomplete.size(), 2U);
  EXPECT_EQ(report->incomplete[0].path, "dir");
  EXPECT_EQ(report->incomplete[1].path, "dir/passwd");
  EXPECT_EQ(report->damaged_count, 0U);
}

TEST_F(RestoreTest, RST_10_one_of_two_names_that_look_alike) {
  file("name", {"plain"});
  file("name\xE2\x80\x8B", {"with a zero-width space"});
  const TreeRoot root = tree();
  run_ok(root, {.subtree = "name"});
  EXPECT_EQ(get(target("name")), "plain");
  EXPECT_EQ(count(target("")), 1U);
}

TEST_F(RestoreTest, RST_13_a_damaged_chunk_costs_its_file_only) {
  dir("d");
  file("d/first", {"ok"});
  file("d/half", {"begin", "lost", "end"});
  std::vector<std::string> pieces;
  for (int i = 0; i < 100; ++i) pieces.push_back(std::string(200'000, 'x') + std::to_string(i));
  file("d/large", pieces);
  file("d/last", {"ok too"});
  const ChunkId lost = *chunks_.put("lost").chunk;
  const ChunkId lost_large = *chunks_.put(pieces[70]).chunk;
  chunks_.chunks.erase(lost);
  chunks_.chunks.erase(lost_large);
  const RestoreReport report = run_ok(tree());
  EXPECT_EQ(report.files, 2U);
  EXPECT_EQ(report.damaged_count, 2U);
  EXPECT_EQ(report.bytes_missing, 12U + 20'000'190U);
  ASSERT_EQ(report.incomplete.size(), 2U);
  EXPECT_EQ(report.incomplete[0].path, "d/half");
  EXPECT_THAT(report.incomplete[0].what, HasSubstr(lost.hex()));
  EXPECT_EQ(report.incomplete[1].path, "d/large");
  EXPECT_THAT(report.incomplete[1].what, HasSubstr(lost_large.hex()));
  EXPECT_EQ(count(target("d")), 2U);
  EXPECT_EQ(get(target("d/last")), "ok too");
}

TEST_F(RestoreTest, RST_13_lengths_that_lie_leave_no_file) {
  Entry longer = at("longer", EntryType::file);
  longer.size = 10;
  longer.content.items = {{10, chunks_.put("short").chunk}};
  add(longer);
  const RestoreReport report = run_ok(tree());
  EXPECT_EQ(report.damaged_count, 1U);
  EXPECT_EQ(count(target("")), 0U);
}

TEST_F(RestoreTest, RST_13_a_damaged_node_costs_what_is_in_it) {
  for (int i = 0; i < 1000; ++i) {
    const std::string d = "d" + std::to_string(i % 100);
    if (i < 100) dir(d);
    file(d + "/" + std::to_string(i), {std::to_string(i)});
  }
  const TreeRoot root = tree();
  int n = 0;
  for (auto& [key, node] : nodes_.nodes)
    if (key.first == ChunkType::leaf && ++n % 10 == 0) node.clear();
  ASSERT_GT(n, 10);
  const RestoreReport report = run_ok(root);
  EXPECT_EQ(report.damaged_count, static_cast<std::uint64_t>(n / 10));
  EXPECT_EQ(report.incomplete_count, report.damaged_count) << all_;
  EXPECT_GT(report.files, 500U);
  EXPECT_LT(report.files, 1000U);
}

TEST_F(RestoreTest, left_out_is_counted_and_named) {
  file("a", {"x"}).mode = 04755;
  file("b", {"x"}).mode = 02755;
  const RestoreReport report = run_ok(tree());
  ASSERT_EQ(report.left_out.size(), 1U);
  EXPECT_EQ(report.left_out[0].kind, LeftOutKind::setid);
  EXPECT_EQ(report.left_out[0].count, 2U);
  EXPECT_EQ(status(target("a")).st_mode & 07777, 0755U);
}

}  // namespace
}  // namespace holdfast
