// SPDX-License-Identifier: Apache-2.0
#include "fs/walk.h"

#include <fcntl.h>
#include <gtest/gtest.h>
#include <linux/fs.h>
#include <sys/ioctl.h>
#include <sys/sysmacros.h>
#include <sys/wait.h>
#include <sys/xattr.h>
#include <unistd.h>

#include <algorithm>
#include <atomic>
#include <chrono>
#include <filesystem>
#include <fstream>
#include <map>
#include <random>
#include <set>
#include <thread>

#include "fs/owners.h"
#include "fs/starts.h"

namespace holdfast {
namespace {

namespace stdfs = std::filesystem;

// A folder of its own, with short ways to make things in it.
class WalkTest : public testing::Test {
 protected:
  void SetUp() override { make_root(stdfs::temp_directory_path()); }
  // For trees of many thousand objects: in memory, where the machine has such a place.
  void use_memory() {
    TearDown();
    const bool there = ::access("/dev/shm", W_OK) == 0;
    make_root(there ? stdfs::path("/dev/shm") : stdfs::temp_directory_path());
  }
  void make_root(const stdfs::path& where) {
    std::string pattern = (where / "hf-walk-XXXXXX").string();
    ASSERT_NE(::mkdtemp(pattern.data()), nullptr);
    root_ = stdfs::canonical(pattern).string();
  }
  void TearDown() override { stdfs::remove_all(root_); }

  [[nodiscard]] std::string at(const std::string& path) const { return root_ + "/" + path; }
  // As entries name it.
  [[nodiscard]] std::string key(const std::string& path) const { return at(path).substr(1); }
  void dir(const std::string& path) const { stdfs::create_directories(at(path)); }
  void file(const std::string& path, const std::string& text = "") const {
    std::ofstream out(at(path), std::ios::binary);
    out << text;
    ASSERT_TRUE(out.good()) << path;
  }
  void link(const std::string& target, const std::string& path) const {
    ASSERT_EQ(::symlink(target.c_str(), at(path).c_str()), 0);
  }
  [[nodiscard]] std::unique_ptr<Walk> walk(WalkOptions options) const {
    auto out = Walk::begin(std::move(options), stop_);
    EXPECT_TRUE(out) << (out ? "" : out.error().what);
    return out ? std::move(*out) : nullptr;
  }
  [[nodiscard]] std::unique_ptr<Walk> walk() const {
    WalkOptions options;
    options.starts = {root_};
    return walk(std::move(options));
  }
  // All entries at and below root_, by path relative to it; the order is asserted on the way.
  [[nodiscard]] std::map<std::string, Entry> all(Walk& walk) const {
    std::map<std::string, Entry> out;
    std::optional<Entry> last;
    while (true) {
      const auto next = walk.next();
      EXPECT_TRUE(next);
      if (!next || *next == nullptr) return out;
      const Entry& entry = **next;
      EXPECT_TRUE(check_entry_name(entry.name) && check_entry_directory(entry.directory));
      if (last) {
        EXPECT_TRUE(compare_keys(last->directory, last->name, entry.directory, entry.name) < 0)
            << last->path() << " before " << entry.path();
      }
      last = entry;
      const std::string path = "/" + entry.path();
      if (path.starts_with(root_ + "/")) out.emplace(path.substr(root_.size() + 1), entry);
    }
  }
  [[nodiscard]] std::vector<std::string> names(Walk& walk) const {
    std::vector<std::string> out;
    for (const auto& [path, entry] : all(walk)) out.push_back(path);
    return out;
  }
  [[nodiscard]] std::vector<std::string> names(WalkOptions options) const {
    const auto made = walk(std::move(options));
    return made ? names(*made) : std::vector<std::string>();
  }
  // Goes on until the entry of this name.
  static Entry find(Walk& walk, const std::string& name) {
    while (true) {
      const auto next = walk.next();
      if (!next || *next == nullptr) break;
      if ((*next)->name == name) return **next;
    }
    ADD_FAILURE() << "no entry " << name;
    return {};
  }
  struct ReadBack {
    std::string text;
    std::uint64_t holes = 0;
    bool changed = false;
    Entry entry;
  };
  static ReadBack read_all(Walk& walk, Entry entry, std::size_t buffer_size = 65536) {
    ReadBack out;
    EXPECT_TRUE(walk.open());
    Bytes buffer(buffer_size);
    while (true) {
      const auto piece = walk.read(buffer);
      EXPECT_TRUE(piece);
      if (!piece || piece->kind == ReadPiece::Kind::end) break;
      if (piece->kind == ReadPiece::Kind::hole) {
        out.holes += piece->length;
        if (piece->length < 1000000) out.text.append(piece->length, '\0');
      } else {
        out.text += as_text(ByteSpan(buffer).first(piece->length));
      }
    }
    const auto changed = walk.finish(entry);
    EXPECT_TRUE(changed);
    out.changed = changed.value_or(true);
    out.entry = std::move(entry);
    return out;
  }

  std::string root_;
  Stop stop_;
};

using Names = std::vector<std::string>;

TEST_F(WalkTest, kinds_and_metadata) {
  file("f", "hello");
  dir("d");
  link("../else where", "d/s");
  ASSERT_EQ(::mkfifo(at("p").c_str(), 0640), 0);
  ASSERT_EQ(::link(at("f").c_str(), at("h").c_str()), 0);
  ASSERT_EQ(::chmod(at("f").c_str(), 04751), 0);
  const timespec times[2] = {{5, 0}, {-7, 123456789}};
  ASSERT_EQ(::utimensat(AT_FDCWD, at("f").c_str(), times, 0), 0);
  const bool root = ::geteuid() == 0;
  if (root) {
    ASSERT_EQ(::mknod(at("n").c_str(), S_IFCHR | 0600, ::makedev(1, 3)), 0);
    ASSERT_EQ(::mknod(at("b").c_str(), S_IFBLK | 0600, ::makedev(7, 200)), 0);
    ASSERT_EQ(::lchown(at("d/s").c_str(), 1234, 5678), 0);
  }
  const auto made = walk();
  auto entries = all(*made);
  EXPECT_EQ(entries["f"].type, EntryType::file);
  EXPECT_EQ(entries["f"].mode, 04751U);
  EXPECT_EQ(entries["f"].size, 5U);
  EXPECT_EQ(entries["f"].mtime, (FileTime{-7, 123456789}));
  EXPECT_EQ(entries["f"].links, 2U);
  EXPECT_EQ(entries["f"].inode, entries["h"].inode);
  EXPECT_EQ(entries["f"].device, entries["h"].device);
  EXPECT_EQ(entries["d"].type, EntryType::directory);
  EXPECT_EQ(entries["d"].links, 1U);
  EXPECT_EQ(entries["d"].size, 0U);
  EXPECT_EQ(entries["d/s"].type, EntryType::symlink);
  EXPECT_EQ(entries["d/s"].size, 0U);
  EXPECT_EQ(entries["p"].type, EntryType::fifo);
  EXPECT_EQ(entries["p"].mode, 0640U);
  if (root) {
    EXPECT_EQ(entries["n"].type, EntryType::char_device);
    EXPECT_EQ(entries["n"].rdev, ::makedev(1, 3));
    EXPECT_EQ(entries["b"].type, EntryType::block_device);
    EXPECT_EQ(entries["d/s"].uid, 1234U);
    EXPECT_EQ(entries["d/s"].gid, 5678U);
  }
  EXPECT_EQ(made->unreadable_count(), 0U);
}

TEST_F(WalkTest, ancestors_are_entries_so_that_keys_are_complete) {
  dir("a/b");
  file("a/b/f");
  file("a/other");
  WalkOptions options;
  options.starts = {at("a/b")};
  const auto made = walk(options);
  std::set<std::string> seen;
  while (true) {
    const auto next = made->next();
    ASSERT_TRUE(next);
    if (*next == nullptr) break;
    seen.insert((*next)->path());
    if (!(*next)->directory.empty()) {
      EXPECT_TRUE(seen.contains((*next)->directory));
    }
  }
  EXPECT_TRUE(seen.contains(key("a")));
  EXPECT_TRUE(seen.contains(key("a/b/f")));
  EXPECT_FALSE(seen.contains(key("a/other")));
}

TEST_F(WalkTest, starts_are_merged) {
  for (const char* path : {"a/b", "a!/b", "c"}) dir(path);
  for (const char* path : {"a/f", "a/b/g", "a!/b/h", "c/i", "j"}) file(path);
  WalkOptions options;
  options.starts = {at("c/i"), at("a/b/g"), at("a!//b/"), at("a"), at("./a/../a/b"), at("c/i")};
  EXPECT_EQ(names(options),
            (Names{"a", "a!", "a!/b", "a!/b/h", "a/b", "a/b/g", "a/f", "c", "c/i"}));
}

TEST_F(WalkTest, normal_form_of_starts) {
  EXPECT_EQ(normal_start("/"), "");
  EXPECT_EQ(normal_start("//a/./b//../c/"), "a/c");
  EXPECT_EQ(normal_start("/../.."), "");
  EXPECT_FALSE(normal_start("a"));
  EXPECT_FALSE(normal_start(""));
  EXPECT_FALSE(normal_start(std::string("/a\0b", 4)));
  EXPECT_FALSE(normal_start("/" + std::string(256, 'a')));
  EXPECT_FALSE(merge_starts({}));
}

TEST_F(WalkTest, a_missing_start_is_reported_and_all_missing_fail) {
  file("f");
  WalkOptions options;
  options.starts = {at("missing"), at("none/deep/x"), at("f")};
  const auto made = walk(options);
  EXPECT_EQ(names(*made), Names{"f"});
  ASSERT_EQ(made->unreadable_count(), 2U);
  EXPECT_EQ(made->unreadable()[0].path, key("missing"));
  EXPECT_EQ(made->unreadable()[1].path, key("none/deep/x"));
  options.starts = {at("missing")};
  const auto none = Walk::begin(options, stop_);
  ASSERT_FALSE(none);
  EXPECT_EQ(none.error().code, Code::not_found);
}

TEST_F(WalkTest, a_start_that_is_a_symlink_is_stored_and_one_above_is_followed) {
  dir("real/in");
  file("real/in/f");
  link("real", "way");
  link("in", "real/last");
  WalkOptions options;
  options.starts = {at("way/in"), at("way/last")};
  const auto made = walk(options);
  auto entries = all(*made);
  EXPECT_EQ(entries["way"].type, EntryType::directory);
  EXPECT_TRUE(entries.contains("way/in/f"));
  EXPECT_EQ(entries["way/last"].type, EntryType::symlink);
  EXPECT_FALSE(entries.contains("real"));
  EXPECT_EQ(made->unreadable_count(), 0U);
}

TEST_F(WalkTest, a_start_hidden_behind_a_stored_symlink_is_reported) {
  dir("real/in");
  link("real", "way");
  WalkOptions options;
  options.starts = {root_, at("way/in")};
  const auto made = walk(options);
  EXPECT_EQ(names(*made), (Names{"real", "real/in", "way"}));
  ASSERT_EQ(made->unreadable_count(), 1U);
  EXPECT_EQ(made->unreadable()[0].path, key("way/in"));
}

TEST_F(WalkTest, TOC_01_a_symlink_of_another_user_above_a_start_is_not_followed) {
  if (::geteuid() != 0) GTEST_SKIP() << "needs root";
  dir("canary/in");
  link("canary", "way");
  ASSERT_EQ(::lchown(at("way").c_str(), 1000, 1000), 0);
  WalkOptions options;
  options.starts = {at("way/in"), at("canary")};
  const auto made = walk(options);
  EXPECT_EQ(names(*made), (Names{"canary", "canary/in"}));
  ASSERT_EQ(made->unreadable_count(), 1U);
  EXPECT_EQ(made->unreadable()[0].path, key("way"));
}

TEST_F(WalkTest, names_are_bytes) {
  const Names odd = {
      "\x01", "\n", " ", "-rf", "...", "\\", "\xFF\xFE", "a\xCC\x81", std::string(255, 'x')};
  for (const std::string& name : odd) file(name, name);
  Names found = names(*walk());
  EXPECT_EQ(std::set<std::string>(found.begin(), found.end()),
            std::set<std::string>(odd.begin(), odd.end()));
}

// Random trees: order (asserted in all()), completeness against std::filesystem.
TEST_F(WalkTest, random_trees_are_complete_and_in_key_order) {
  std::mt19937 random(7);
  const std::string letters = "ab.!0\x01\xFF";
  for (int round = 0; round < 10; ++round) {
    const std::string top = "t" + std::to_string(round);
    Names folders = {top};
    dir(top);
    for (int i = 0; i < 80; ++i) {
      std::string path = folders[random() % folders.size()] + "/n";
      for (unsigned j = random() % 4; j > 0; --j) path += letters[random() % letters.size()];
      if (stdfs::exists(stdfs::symlink_status(at(path)))) continue;
      if (random() % 3 == 0) {
        dir(path);
        folders.push_back(path);
      } else {
        file(path, path);
      }
    }
  }
  std::set<std::string> expected;
  for (const auto& item : stdfs::recursive_directory_iterator(root_))
    expected.insert(item.path().string().substr(root_.size() + 1));
  Names found = names(*walk());
  EXPECT_EQ(std::set<std::string>(found.begin(), found.end()), expected);
}

TEST_F(WalkTest, files_opened_early_give_the_same_entries_and_bytes) {
  dir("d");
  for (const char* path : {"a", "d/b", "d/c"}) file(path, std::string(path) + " text");
  link("a", "d/link");
  ASSERT_EQ(::mkfifo(at("d/pipe").c_str(), 0600), 0);
  file("secret", "x");
  ASSERT_EQ(::chmod(at("secret").c_str(), 0), 0);
  WalkOptions options;
  options.starts = {root_};
  options.all_new = true;
  EXPECT_EQ(all(*walk(options)), all(*walk()));
  const auto early = walk(options);
  const ReadBack read = read_all(*early, find(*early, "b"));
  EXPECT_EQ(read.text, "d/b text");
  EXPECT_FALSE(read.changed);
  EXPECT_TRUE(early->open());  // once more, as for a file that changed
}

TEST_F(WalkTest, a_file_opened_early_that_is_replaced_is_read_as_it_was_looked_at) {
  file("f", "old");
  file("g", "new");
  WalkOptions options;
  options.starts = {root_};
  options.all_new = true;
  const auto early = walk(options);
  const Entry entry = find(*early, "f");
  ASSERT_EQ(::rename(at("g").c_str(), at("f").c_str()), 0);
  const ReadBack read = read_all(*early, entry);
  EXPECT_EQ(read.text, "old");
  EXPECT_EQ(read.entry.inode, entry.inode);
}

TEST_F(WalkTest, excludes) {
  for (const char* path : {"keep/cache", "cache", "w"}) dir(path);
  for (const char* path : {"keep/f.o", "keep/f.c", "cache/x", "keep/cache/y", "w/f.o"}) file(path);
  WalkOptions options;
  options.starts = {root_};
  auto list = PatternList::compile({{"cache"}, {"*.o"}, {"!" + at("w/*.o")}});
  ASSERT_TRUE(list);
  options.excludes = *list;
  EXPECT_EQ(names(options), (Names{"keep", "keep/f.c", "w", "w/f.o"}));
  options.starts = {at("cache")};
  EXPECT_FALSE(Walk::begin(options, stop_));
}

TEST_F(WalkTest, tagged_directories_keep_only_their_tag) {
  for (const char* path : {"cache/deep", "fake", "marked", "header", "folder/.nobackup"}) dir(path);
  file("cache/CACHEDIR.TAG", "Signature: 8a477f597d28d172789f06886806bc55\n# text");
  file("cache/x");
  file("cache/deep/y");
  file("fake/CACHEDIR.TAG", "Signature: 0");
  file("fake/x");
  file("marked/.nobackup");
  file("marked/x");
  file("header/tag", "yes, leave it");
  file("header/x");
  file("folder/x");
  WalkOptions options;
  options.starts = {root_};
  const std::size_t everything = names(options).size();
  EXPECT_EQ(everything, 17U);
  options.exclude_caches = true;
  options.exclude_if_present = {".nobackup", "tag:yes"};
  EXPECT_EQ(names(options),
            (Names{"cache", "cache/CACHEDIR.TAG", "fake", "fake/CACHEDIR.TAG", "fake/x", "folder",
                   "folder/.nobackup", "header", "header/tag", "marked", "marked/.nobackup"}));
  options.exclude_if_present = {"tag:no"};
  options.exclude_caches = false;
  EXPECT_EQ(names(options).size(), everything);
  options.exclude_if_present = {"a/b"};
  EXPECT_FALSE(Walk::begin(options, stop_));
}

TEST_F(WalkTest, one_file_system_stores_the_mount_point_only) {
  WalkOptions options;
  options.starts = {"/dev"};  // has /dev/shm or /dev/pts mounted below on most systems
  options.one_file_system = true;
  struct stat dev{}, pts{};
  if (::stat("/dev", &dev) != 0 || ::stat("/dev/pts", &pts) != 0 || dev.st_dev == pts.st_dev)
    GTEST_SKIP() << "no mount below /dev";
  const auto paths = [&](WalkOptions given) {
    std::set<std::string> out;
    const auto made = walk(std::move(given));
    while (true) {
      const auto next = made->next();
      if (!next || *next == nullptr) return out;
      out.insert((*next)->path());
    }
  };
  auto found = paths(options);
  EXPECT_TRUE(found.contains("dev/pts"));
  EXPECT_FALSE(found.contains("dev/pts/ptmx"));
  options.starts.emplace_back("/dev/pts");  // named as well: then it is walked
  found = paths(options);
  EXPECT_TRUE(found.contains("dev/pts/ptmx"));
}

TEST_F(WalkTest, sockets_are_counted) {
  if (::mknod(at("s").c_str(), S_IFSOCK | 0600, 0) != 0) GTEST_SKIP();
  file("f");
  const auto made = walk();
  EXPECT_EQ(names(*made), Names{"f"});
  EXPECT_EQ(made->sockets_skipped(), 1U);
  EXPECT_EQ(made->unreadable_count(), 0U);
}

TEST_F(WalkTest, completes_symlinks_and_directories) {
  dir("d");
  link(std::string(3000, 'x') + "\xFF\n", "l");
  ASSERT_EQ(::mkfifo(at("p").c_str(), 0600), 0);
  ASSERT_EQ(::setxattr(at("d").c_str(), "user.z", "1", 1, 0), 0);
  ASSERT_EQ(::setxattr(at("d").c_str(), "user.a", "\0b", 2, 0), 0);
  const auto made = walk();
  Entry d = find(*made, "d");
  ASSERT_TRUE(made->complete(d));
  EXPECT_EQ(d.xattrs, (std::vector<Xattr>{{"user.a", std::string("\0b", 2)}, {"user.z", "1"}}));
  Entry l = find(*made, "l");
  ASSERT_TRUE(made->complete(l));
  EXPECT_EQ(l.link_target, std::string(3000, 'x') + "\xFF\n");
  Entry p = find(*made, "p");
  ASSERT_TRUE(made->complete(p));  // does not block
  EXPECT_EQ(made->unreadable_count(), 0U);
}

TEST_F(WalkTest, attributes_of_special_objects_through_proc) {
  if (::geteuid() != 0) GTEST_SKIP() << "needs root";
  link("x", "l");
  ASSERT_EQ(::mkfifo(at("p").c_str(), 0600), 0);
  ASSERT_EQ(::lsetxattr(at("l").c_str(), "trusted.l", "1", 1, 0), 0);
  ASSERT_EQ(::lsetxattr(at("p").c_str(), "trusted.p", "2", 1, 0), 0);
  const auto made = walk();
  for (const std::string name : {"l", "p"}) {
    Entry entry = find(*made, name);
    ASSERT_TRUE(made->complete(entry));
    ASSERT_EQ(entry.xattrs.size(), 1U);
    EXPECT_EQ(entry.xattrs[0].name, "trusted." + name);
  }
}

TEST_F(WalkTest, ancestors_have_attributes_too) {
  dir("a/b");
  ASSERT_EQ(::setxattr(at("a").c_str(), "user.a", "1", 1, 0), 0);
  WalkOptions options;
  options.starts = {at("a/b")};
  const auto made = walk(options);
  Entry a = find(*made, "a");
  ASSERT_TRUE(made->complete(a));
  EXPECT_EQ(a.xattrs.size(), 1U);
}

TEST_F(WalkTest, acls_and_flags_of_files) {
  file("f", "text");
  // Version 2; user::rw-, user:7:r--, group::r--, mask::r--, other::---
  const unsigned char acl[] = {2, 0, 0,   0,   1,   0,   6,  0, 255, 255, 255, 255, 2,   0,  4,
                               0, 7, 0,   0,   0,   4,   0,  4, 0,   255, 255, 255, 255, 16, 0,
                               4, 0, 255, 255, 255, 255, 32, 0, 0,   0,   255, 255, 255, 255};
  const bool has_acl =
      ::setxattr(at("f").c_str(), "system.posix_acl_access", acl, sizeof acl, 0) == 0;
  const int fd = ::open(at("f").c_str(), O_RDONLY);
  int flags = FS_NODUMP_FL;
  const bool has_flags = ::ioctl(fd, FS_IOC_SETFLAGS, &flags) == 0;
  ::close(fd);
  const auto made = walk();
  const ReadBack got = read_all(*made, find(*made, "f"));
  EXPECT_EQ(got.text, "text");
  EXPECT_FALSE(got.changed);
  if (has_acl) {
    ASSERT_EQ(got.entry.xattrs.size(), 1U);
    EXPECT_EQ(got.entry.xattrs[0].name, "system.posix_acl_access");
    EXPECT_EQ(got.entry.xattrs[0].value.size(), sizeof acl);
  }
  if (has_flags) {
    EXPECT_EQ(got.entry.flags, static_cast<std::uint32_t>(FS_NODUMP_FL));
  }
  EXPECT_TRUE(has_acl || has_flags);
}

TEST_F(WalkTest, reads_files_of_many_sizes_with_small_buffers) {
  const std::string big(300000, 'z');
  file("a", "");
  file("b", "x");
  file("c", big);
  const auto made = walk();
  EXPECT_EQ(read_all(*made, find(*made, "a")).text, "");
  EXPECT_EQ(read_all(*made, find(*made, "b"), 1).text, "x");
  const ReadBack c = read_all(*made, find(*made, "c"), 999);
  EXPECT_EQ(c.text, big);
  EXPECT_EQ(c.entry.size, big.size());
  EXPECT_FALSE(c.changed);
}

TEST_F(WalkTest, holes_are_told_and_not_read) {
  file("sparse", "begin");
  ASSERT_EQ(::truncate(at("sparse").c_str(), 1LL << 20), 0);
  {
    std::fstream out(at("sparse"), std::ios::in | std::ios::out | std::ios::binary);
    out.seekp(512 * 1024);
    out << "middle";
  }
  file("huge");
  ASSERT_EQ(::truncate(at("huge").c_str(), 100LL << 30), 0);
  const auto before = std::chrono::steady_clock::now();
  const auto made = walk();
  const ReadBack huge = read_all(*made, find(*made, "huge"));
  EXPECT_EQ(huge.holes, 100ULL << 30);
  EXPECT_EQ(huge.entry.size, 100ULL << 30);
  EXPECT_LT(std::chrono::steady_clock::now() - before, std::chrono::seconds(2));
  const ReadBack sparse = read_all(*made, find(*made, "sparse"));
  ASSERT_EQ(sparse.text.size(), 1U << 20);
  EXPECT_GT(sparse.holes, 900000U);
  EXPECT_EQ(sparse.text.substr(0, 5), "begin");
  EXPECT_EQ(sparse.text.substr(512 * 1024, 6), "middle");
  EXPECT_EQ(std::ranges::count(sparse.text, '\0'), (1 << 20) - 11);
  EXPECT_FALSE(sparse.changed);
}

TEST_F(WalkTest, a_file_without_a_size_gives_its_content) {
  for (const bool early : {false, true}) {
    WalkOptions options;
    options.starts = {"/proc/version"};
    options.all_new = early;
    const auto made = walk(options);
    const ReadBack read = read_all(*made, find(*made, "version"), 16);
    EXPECT_EQ(read.text.find("Linux version"), 0U);
    EXPECT_EQ(read.entry.size, read.text.size());
    EXPECT_FALSE(read.changed);
  }
}

TEST_F(WalkTest, a_file_that_grows_or_shrinks_is_told) {
  file("f", std::string(1000, 'a'));
  for (const off_t size : {off_t{5000}, off_t{10}}) {
    ASSERT_EQ(::truncate(at("f").c_str(), 1000), 0);
    const auto made = walk();
    Entry entry = find(*made, "f");
    ASSERT_TRUE(made->open());
    Bytes buffer(100);
    ASSERT_TRUE(made->read(buffer));
    ASSERT_EQ(::truncate(at("f").c_str(), size), 0);
    std::uint64_t total = 100;
    while (true) {
      const auto piece = made->read(buffer);
      ASSERT_TRUE(piece);
      if (piece->kind == ReadPiece::Kind::end) break;
      total += piece->length;
    }
    const auto changed = made->finish(entry);
    ASSERT_TRUE(changed);
    EXPECT_TRUE(*changed);
    EXPECT_EQ(entry.size, total);  // content always sums to the size
    EXPECT_LE(total, 1000U);
  }
}

TEST_F(WalkTest, a_file_written_in_place_while_read_is_told) {
  file("f", std::string(1000, 'a'));
  const auto made = walk();
  Entry entry = find(*made, "f");
  ASSERT_TRUE(made->open());
  Bytes buffer(2000);
  ASSERT_TRUE(made->read(buffer));
  std::this_thread::sleep_for(std::chrono::milliseconds(20));  // beyond the kernel's clock tick
  {
    std::fstream(at("f"), std::ios::in | std::ios::out) << "b";
  }
  const auto changed = made->finish(entry);
  ASSERT_TRUE(changed);
  EXPECT_TRUE(*changed);
  ASSERT_TRUE(made->open());  // again, now still
  while (made->read(buffer)->kind != ReadPiece::Kind::end) {
  }
  EXPECT_FALSE(*made->finish(entry));
}

TEST_F(WalkTest, what_vanished_is_no_error) {
  dir("d");
  for (int i = 0; i < 10; ++i) file("d/" + std::to_string(i));
  const auto made = walk();
  (void)find(*made, "0");
  for (int i = 1; i < 10; ++i) ::unlink(at("d/" + std::to_string(i)).c_str());
  const auto next = made->next();
  ASSERT_TRUE(next);
  EXPECT_EQ(*next, nullptr);
  EXPECT_EQ(made->vanished(), 9U);
  EXPECT_EQ(made->unreadable_count(), 0U);
}

TEST_F(WalkTest, an_unreadable_directory_is_reported_and_its_entry_stays) {
  dir("d/in");
  file("e");
  ASSERT_EQ(::chmod(at("d").c_str(), 0), 0);
  if (::geteuid() == 0) {
    // Without its capabilities root is a stranger; in a child, as it cannot be taken back.
    ASSERT_EQ(::chmod(root_.c_str(), 0755), 0);
    const pid_t child = ::fork();
    if (child == 0) {
      if (::setresgid(65534, 65534, 65534) != 0 || ::setresuid(65534, 65534, 65534) != 0)
        ::_exit(9);
      WalkOptions options;
      options.starts = {root_};
      auto made = Walk::begin(options, stop_);
      if (!made) ::_exit(1);
      const bool names_ok = names(**made) == Names{"d", "e"};
      const bool told = (*made)->unreadable_count() == 1 &&
                        (*made)->unreadable()[0].path == key("d") &&
                        (*made)->unreadable()[0].what == "open: Permission denied";
      ::_exit(names_ok && told ? 0 : 2);
    }
    int status = 0;
    ASSERT_EQ(::waitpid(child, &status, 0), child);
    EXPECT_EQ(status, 0);
  } else {
    const auto made = walk();
    EXPECT_EQ(names(*made), (Names{"d", "e"}));
    EXPECT_EQ(made->unreadable_count(), 1U);
  }
  ::chmod(at("d").c_str(), 0700);
}

TEST_F(WalkTest, interrupted) {
  file("f");
  Stop stop;
  WalkOptions options;
  options.starts = {root_};
  auto made = Walk::begin(options, stop);
  ASSERT_TRUE(made);
  ASSERT_TRUE((*made)->next());
  stop.request();
  const auto next = (*made)->next();
  ASSERT_FALSE(next);
  EXPECT_EQ(next.error().code, Code::interrupted);
}

int open_descriptors() {
  int count = 0;
  for ([[maybe_unused]] const auto& item : stdfs::directory_iterator("/proc/self/fd")) ++count;
  return count;
}

// Makes root_/deep/d/d/..., each with the files "0" and "z"; gives the number of levels.
int make_deep(int directory, int levels) {
  int at = ::dup(directory);
  int made = 0;
  for (; made < levels; ++made) {
    if (::mkdirat(at, "d", 0700) != 0) break;
    const int next = ::openat(at, "d", O_RDONLY | O_DIRECTORY);
    ::close(at);
    at = next;
    for (const char* name : {"0", "z"}) ::close(::openat(at, name, O_CREAT | O_WRONLY, 0600));
    ::mkdirat(at, "e", 0700);  // so that the walk comes back to each level
    ::close(::openat(at, "e/x", O_CREAT | O_WRONLY, 0600));
  }
  ::close(at);
  return made;
}

TEST_F(WalkTest, deep_paths_hold_few_descriptors) {
  use_memory();
  const int fd = ::open(root_.c_str(), O_RDONLY | O_DIRECTORY);
  const int levels = make_deep(fd, 1900);  // two bytes a level: about 4 KiB
  ::close(fd);
  ASSERT_EQ(levels, 1900);
  const int before = open_descriptors();
  const auto made = walk();
  int most = 0;
  std::size_t count = 0;
  while (true) {
    const auto next = made->next();
    ASSERT_TRUE(next);
    if (*next == nullptr) break;
    if (++count % 256 == 0) most = std::max(most, open_descriptors() - before);
  }
  EXPECT_GE(count, 1900U * 5);
  EXPECT_LE(most, 64);
  EXPECT_EQ(made->unreadable_count(), 0U);
}

TEST_F(WalkTest, a_path_beyond_the_limit_is_reported) {
  use_memory();
  const int fd = ::open(root_.c_str(), O_RDONLY | O_DIRECTORY);
  make_deep(fd, 2100);
  ::close(fd);
  const auto made = walk();
  const auto entries = all(*made);
  EXPECT_GT(entries.size(), 1900U * 5);
  EXPECT_GT(made->unreadable_count(), 0U);
  for (const auto& [path, entry] : entries) ASSERT_LE(entry.path().size(), kPathMax);
  EXPECT_NE(made->unreadable()[0].what.find("4096"), std::string::npos);
}

// A directory in the middle, whose descriptor is not held, is moved away while the walk is below.
TEST_F(WalkTest, TOC_01_a_directory_moved_while_the_walk_is_deep_below_leads_nowhere_else) {
  use_memory();
  dir("top/a");
  dir("canary/e");
  file("canary/e/canary-file");
  const int fd = ::open(at("top/a").c_str(), O_RDONLY | O_DIRECTORY);
  make_deep(fd, 200);
  ::close(fd);
  std::string middle = "top/a";
  for (int i = 0; i < 100; ++i) middle += "/d";
  for (const bool replace : {false, true}) {
    WalkOptions options;
    options.starts = {at("top")};
    const auto made = walk(options);
    bool moved = false;
    while (true) {
      const auto next = made->next();
      ASSERT_TRUE(next);
      if (*next == nullptr) break;
      const std::string& directory = (*next)->directory;
      EXPECT_EQ((*next)->name.find("canary"), std::string::npos);
      if (moved || directory.size() < key("top").size() + 390) continue;
      moved = true;
      ASSERT_EQ(::rename(at(middle).c_str(), at("canary/moved").c_str()), 0);
      if (replace) link(at("canary"), middle);
    }
    ASSERT_TRUE(moved);
    ::unlink(at(middle).c_str());
    ASSERT_EQ(::rename(at("canary/moved").c_str(), at(middle).c_str()), 0);
  }
}

TEST_F(WalkTest, a_directory_of_200000_entries) {
  use_memory();
  dir("big");
  const int fd = ::open(at("big").c_str(), O_RDONLY | O_DIRECTORY);
  constexpr int kCount = 200000;
  for (int i = 0; i < kCount; ++i)
    ASSERT_EQ(::mknodat(fd, std::to_string(i * 7919 % kCount).c_str(), S_IFREG | 0600, 0), 0);
  ::close(fd);
  const auto made = walk();
  int count = 0;
  std::string last;
  while (true) {
    const auto next = made->next();
    ASSERT_TRUE(next);
    if (*next == nullptr) break;
    if ((*next)->directory != key("big")) continue;
    ASSERT_LT(last, (*next)->name);
    last = (*next)->name;
    ++count;
  }
  EXPECT_EQ(count, kCount);
}

TEST_F(WalkTest, doubled_names_of_a_changing_directory_are_given_once) {
  NameList list;
  for (const char* name : {"b", "a", "abcdefgh", "b", "abcdefghi", "abcdefgh", "abcdefg"})
    list.add(name, false);
  list.sort();
  Names found;
  for (std::size_t i = 0; i < list.size(); ++i) found.emplace_back(list.text(list[i]));
  EXPECT_EQ(found, (Names{"a", "abcdefg", "abcdefgh", "abcdefghi", "b"}));
  EXPECT_TRUE(list.contains("abcdefgh"));
  EXPECT_FALSE(list.contains("abcd"));
}

// ---- races --------------------------------------------------------------------------------------

class Swapper {
 public:
  Swapper(std::string a, std::string b) : a_(std::move(a)), b_(std::move(b)) {
    thread_ = std::jthread([this](const std::stop_token& stop) {
      while (!stop.stop_requested()) {
        if (::renameat2(AT_FDCWD, a_.c_str(), AT_FDCWD, b_.c_str(), RENAME_EXCHANGE) == 0) ++count_;
      }
    });
  }
  [[nodiscard]] long count() const { return count_; }

 private:
  std::string a_, b_;
  std::atomic<long> count_ = 0;
  std::jthread thread_;
};

class RaceTest : public WalkTest {
 protected:
  static constexpr auto kTime = std::chrono::milliseconds(700);

  // Walks and reads everything again and again; nothing may name or hold the canary.
  void run_race(const std::string& a, const std::string& b) const {
    const Swapper swapper(at(a), at(b));
    const auto end = std::chrono::steady_clock::now() + kTime;
    long walks = 0;
    while (std::chrono::steady_clock::now() < end || walks < 50 ||
           (swapper.count() <= 50 && walks < 100'000)) {
      ++walks;
      WalkOptions options;
      options.starts = {at("home")};
      options.all_new = walks % 2 == 0;
      const auto made = Walk::begin(options, stop_);
      ASSERT_TRUE(made) << made.error().what;
      walk_once(**made);
      if (testing::Test::HasFailure()) break;
    }
    EXPECT_GT(swapper.count(), 50);
    EXPECT_GE(walks, 50);
  }
  static void walk_once(Walk& walk) {
    Bytes buffer(4096);
    while (true) {
      const auto next = walk.next();
      ASSERT_TRUE(next);
      if (*next == nullptr) return;
      Entry entry = **next;
      ASSERT_EQ(entry.name.find("canary"), std::string::npos);
      if (entry.type != EntryType::file) {
        (void)walk.complete(entry);
        for (const Xattr& xattr : entry.xattrs) ASSERT_NE(xattr.name, "user.canary");
        continue;
      }
      if (!walk.open()) continue;
      while (true) {
        const auto piece = walk.read(buffer);
        ASSERT_TRUE(piece);
        if (piece->kind != ReadPiece::Kind::data) break;
        ASSERT_EQ(as_text(ByteSpan(buffer).first(piece->length)).find("canary"),
                  std::string_view::npos);
      }
      ASSERT_TRUE(walk.finish(entry));
    }
  }
  void SetUp() override {
    WalkTest::SetUp();
    dir("outside/deep");
    file("outside/canary-name", "canary bytes");
    file("outside/x", "canary bytes");
    file("outside/deep/canary-deep", "canary bytes");
    ::setxattr(at("outside").c_str(), "user.canary", "1", 1, 0);
    ::setxattr(at("outside/x").c_str(), "user.canary", "1", 1, 0);
    dir("home/d/deep");
    file("home/d/x", "mine");
    file("home/d/deep/y", "mine");
    file("home/f", "mine");
  }
};

TEST_F(RaceTest, TOC_01_directory_swapped_with_a_symlink) {
  link(at("outside"), "home/s");
  run_race("home/d", "home/s");
}

TEST_F(RaceTest, TOC_01_file_swapped_with_a_symlink) {
  link(at("outside/x"), "home/s");
  run_race("home/f", "home/s");
}

TEST_F(RaceTest, TOC_01_file_swapped_with_a_pipe_never_blocks) {
  ASSERT_EQ(::mkfifo(at("home/p").c_str(), 0600), 0);
  run_race("home/f", "home/p");
}

TEST_F(RaceTest, TOC_01_directory_swapped_with_a_file) { run_race("home/d", "home/f"); }

// The same without chance: swapped between next() and what follows it.
class SwapTest : public RaceTest {
 protected:
  void swap(const std::string& a, const std::string& b) const {
    ASSERT_EQ(::renameat2(AT_FDCWD, at(a).c_str(), AT_FDCWD, at(b).c_str(), RENAME_EXCHANGE), 0);
  }
  [[nodiscard]] std::unique_ptr<Walk> home() const {
    WalkOptions options;
    options.starts = {at("home")};
    return walk(options);
  }
  static void expect_told(const Walk& walk, const std::string& path) {
    ASSERT_EQ(walk.unreadable_count(), 1U);
    EXPECT_EQ(walk.unreadable()[0].path, path);
    EXPECT_NE(walk.unreadable()[0].what.find("changed"), std::string::npos);
  }
  void expect_file_refused(const std::string& other) const {
    const auto made = home();
    (void)find(*made, "f");
    swap("home/f", other);
    const auto opened = made->open();
    ASSERT_FALSE(opened) << other;
    EXPECT_EQ(opened.error().code, Code::unavailable);
    expect_told(*made, key("home/f"));
    swap("home/f", other);
  }
  void expect_directory_refused(const std::string& other) const {
    const auto made = home();
    (void)find(*made, "d");
    swap("home/d", other);
    Entry entry;
    entry.type = EntryType::directory;
    EXPECT_FALSE(made->complete(entry)) << other;
    EXPECT_TRUE(entry.xattrs.empty());
    while (true) {
      const auto next = made->next();
      ASSERT_TRUE(next);
      if (*next == nullptr) break;
      EXPECT_FALSE((*next)->directory.ends_with("/d")) << (*next)->path();
    }
    EXPECT_EQ(made->unreadable_count(), 2U);
    swap("home/d", other);
  }
};

TEST_F(SwapTest, TOC_01_a_file_that_became_something_else_is_refused) {
  link(at("outside/x"), "link");
  ASSERT_EQ(::mkfifo(at("pipe").c_str(), 0600), 0);
  for (const char* other : {"link", "pipe", "outside/x", "outside/deep"})
    expect_file_refused(other);
}

TEST_F(SwapTest, TOC_01_a_directory_that_became_something_else_is_refused) {
  link(at("outside"), "link");
  ASSERT_EQ(::mkfifo(at("pipe").c_str(), 0600), 0);
  for (const char* other : {"link", "pipe", "outside/x", "outside/deep"})
    expect_directory_refused(other);
}

TEST_F(SwapTest, TOC_01_a_symlink_that_became_something_else_is_refused) {
  link("mine", "home/l");
  link("canary", "other");
  const auto made = home();
  Entry entry = find(*made, "l");
  swap("home/l", "other");
  EXPECT_FALSE(made->complete(entry));
  EXPECT_TRUE(entry.link_target.empty());
  expect_told(*made, key("home/l"));
}

// ---- opening below ------------------------------------------------------------------------------

class BeneathTest : public WalkTest, public testing::WithParamInterface<Beneath> {};

TEST_P(BeneathTest, RST_02_nothing_is_followed) {
  dir("in/a/b");
  dir("out");
  file("in/a/b/f", "mine");
  file("out/f", "canary");
  link(at("out"), "in/abs");
  link("../out", "in/rel");
  link("../../out/f", "in/a/last");
  const Fd base(::open(at("in").c_str(), O_PATH | O_DIRECTORY));
  const auto opened = [&](std::string_view path, int flags = O_RDONLY) {
    const Opened fd = open_beneath(base.get(), path, flags, 0600, GetParam());
    return fd ? 0 : fd.error();
  };
  EXPECT_EQ(opened("a/b/f"), 0);
  EXPECT_EQ(opened("a", O_RDONLY | O_DIRECTORY), 0);
  EXPECT_EQ(opened("", O_RDONLY | O_DIRECTORY), 0);
  EXPECT_EQ(opened("a/b/new", O_WRONLY | O_CREAT | O_EXCL), 0);
  EXPECT_EQ(opened("a/b/new", O_WRONLY | O_CREAT | O_EXCL), EEXIST);
  EXPECT_EQ(opened("a/none"), ENOENT);
  for (const char* path : {"abs/f", "rel/f"})
    EXPECT_TRUE(opened(path) == ELOOP || opened(path) == ENOTDIR) << path;
  EXPECT_EQ(opened("a/last"), ELOOP);
  EXPECT_EQ(opened("abs", O_RDONLY), ELOOP);
  EXPECT_EQ(opened("a/last", O_PATH | O_NOFOLLOW), 0);  // the link itself
  using std::string_view_literals::operator""sv;
  for (const std::string_view bad : {"../out/f"sv, "/etc/passwd"sv, "a/../../out/f"sv, "a//b"sv,
                                     "a/"sv, "."sv, "./a"sv, ".."sv, "a\0b"sv})
    EXPECT_EQ(opened(bad), EINVAL) << bad;
}

INSTANTIATE_TEST_SUITE_P(Ways, BeneathTest,
                         testing::Values(Beneath::automatic, Beneath::openat2,
                                         Beneath::by_component));

TEST(Owners, names_of_ids) {
  SystemOwners owners;
  EXPECT_EQ(owners.user(0), "root");
  EXPECT_EQ(owners.group(0), "root");
  EXPECT_EQ(owners.user(0), "root");
  EXPECT_EQ(owners.user(3999999999U), "");
}

// ---- measurement: --gtest_also_run_disabled_tests; HOLDFAST_WALK_PATH names a tree --------------

class Measure : public WalkTest {
 protected:
  static std::string path() {
    const char* given = std::getenv("HOLDFAST_WALK_PATH");
    return given != nullptr ? given : "/usr";
  }
  static double seconds_since(std::chrono::steady_clock::time_point from) {
    return std::chrono::duration<double>(std::chrono::steady_clock::now() - from).count();
  }
  void run(bool read_too) const {
    const auto from = std::chrono::steady_clock::now();
    WalkOptions options;
    options.starts = {path()};
    const auto made = walk(options);
    Bytes buffer(1 << 20);
    std::uint64_t count = 0, bytes = 0;
    while (true) {
      const auto next = made->next();
      ASSERT_TRUE(next);
      if (*next == nullptr) break;
      ++count;
      if (!read_too || (*next)->type != EntryType::file || !made->open()) continue;
      Entry entry = **next;
      while (true) {
        const auto piece = made->read(buffer);
        if (!piece || piece->kind == ReadPiece::Kind::end) break;
        bytes += piece->length;
      }
      ASSERT_TRUE(made->finish(entry));
    }
    std::printf("%lu entries, %lu bytes, %.3f s\n", count, bytes, seconds_since(from));
  }
};

TEST_F(Measure, DISABLED_walk) { run(false); }
TEST_F(Measure, DISABLED_walk_and_read) { run(true); }

}  // namespace
}  // namespace holdfast
