// SPDX-License-Identifier: Apache-2.0
#include "fs/target.h"

#include <fcntl.h>
#include <gmock/gmock.h>
#include <linux/fs.h>
#include <sys/ioctl.h>
#include <sys/sysmacros.h>
#include <sys/xattr.h>

#include "fs/directory_set.h"
#include "fs/temp_tree.h"

namespace holdfast {
namespace {

using ::testing::HasSubstr;

class FixedRandom : public Random {
 public:
  void fill(MutableByteSpan out) override {
    for (std::byte& b : out) b = static_cast<std::byte>(next_++);
  }

 private:
  unsigned char next_ = 0;
};

Entry named(std::string directory, std::string name, EntryType type = EntryType::file) {
  Entry entry;
  entry.directory = std::move(directory);
  entry.name = std::move(name);
  entry.type = type;
  entry.mode = type == EntryType::directory ? 0755 : 0644;
  entry.uid = ::geteuid();
  entry.gid = ::getegid();
  entry.mtime = {1'000'000'000, 123'456'789};
  return entry;
}

class TargetTest : public TempTree {
 protected:
  std::unique_ptr<Target> make(TargetOptions options = {}) {
    auto made = open_target(target(""), options, random_);
    EXPECT_TRUE(made) << made.error().what;
    return std::move(*made);
  }
  static DirectoryRef dir(Target& target, std::string_view path) {
    auto found = target.directory(path);
    EXPECT_TRUE(found) << found.error().what;
    return found ? *found : nullptr;
  }
  static Result<TargetFile::Committed> write(Target& target, Entry entry, std::string_view text) {
    entry.size = text.size();
    HF_ASSIGN(const DirectoryRef directory, target.directory(entry.directory));
    HF_ASSIGN(Target::Created created, target.create(directory, entry));
    if (!created.file) return TargetFile::Committed{Placed::kept, created.existing};
    HF_TRY(created.file->write(0, as_bytes(text)));
    return created.file->commit();
  }
  // So many others that no descriptor of an earlier directory is still at hand.
  static void forget_handles(Target& target) {
    for (int i = 0; i < 40; ++i) ASSERT_TRUE(target.make_directory("other" + std::to_string(i)));
  }
  FixedRandom random_;
};

TEST_F(TargetTest, RST_01_hostile_names_are_refused_by_the_target_too) {
  const auto t = make();
  const std::string with_nul("a\0b", 3);
  const std::string names[] = {"", ".", "..", "../x", "a/b", "/abs", with_nul};
  for (const std::string& name : names) {
    const Entry file = named("", name);
    const auto created = t->create(dir(*t, ""), file);
    ASSERT_FALSE(created) << escaped(name);
    EXPECT_EQ(created.error().code, Code::invalid);
    Entry link = named("", name, EntryType::symlink);
    link.link_target = "x";
    EXPECT_FALSE(t->make_symlink(dir(*t, ""), link));
    EXPECT_FALSE(t->make_special(dir(*t, ""), named("", name, EntryType::fifo)));
    EXPECT_FALSE(t->link({"", name, {}}, dir(*t, ""), named("", "fine")));
  }
  for (const char* path : {"../outside", "..", "a/../../outside", "/abs", "a//b", "./a"}) {
    EXPECT_FALSE(t->make_directory(path)) << path;
    EXPECT_FALSE(t->directory(path)) << path;
    EXPECT_FALSE(t->finish_directory(path, named("", "x", EntryType::directory))) << path;
  }
  EXPECT_EQ(count(target("")), 0U);
}

TEST_F(TargetTest, RST_02_a_symlink_in_place_of_a_directory_is_not_entered) {
  ::mkdir(target("").c_str(), 0755);
  plant(outside(""), target("d"));
  const auto t = make();
  const auto made = t->make_directory("d");
  ASSERT_FALSE(made);
  EXPECT_EQ(made.error().code, Code::conflict);
  EXPECT_FALSE(write(*t, named("d", "passwd"), "owned"));
  EXPECT_FALSE(t->make_directory("d/sub"));
}

TEST_F(TargetTest, RST_02_a_directory_replaced_meanwhile_is_not_used) {
  const auto t = make();
  ASSERT_TRUE(t->make_directory("d"));
  ASSERT_TRUE(t->make_directory("e"));
  forget_handles(*t);
  ASSERT_EQ(::rename(target("d").c_str(), target("gone").c_str()), 0);
  plant(outside(""), target("d"));
  EXPECT_FALSE(write(*t, named("d", "passwd"), "owned"));
  // Another directory is not the one that was made either.
  ASSERT_EQ(::rename(target("e").c_str(), target("gone2").c_str()), 0);
  ASSERT_EQ(::mkdir(target("e").c_str(), 0700), 0);
  const auto other = t->directory("e");
  ASSERT_FALSE(other);
  EXPECT_EQ(other.error().code, Code::conflict);
}

TEST_F(TargetTest, RST_03_a_link_is_made_to_the_restored_inode_only) {
  const auto t = make();
  Entry first = named("", "first");
  first.links = 2;
  const auto committed = write(*t, first, "content");
  ASSERT_TRUE(committed);
  const Target::LinkSource source{"", "first", *committed->identity};
  ASSERT_TRUE(t->link(source, dir(*t, ""), named("", "second")));
  EXPECT_EQ(status(target("second")).st_ino, status(target("first")).st_ino);

  ::unlink(target("first").c_str());
  ASSERT_EQ(::link(outside("passwd").c_str(), target("first").c_str()), 0);
  auto wrong = t->link(source, dir(*t, ""), named("", "third"));
  ASSERT_FALSE(wrong);
  EXPECT_EQ(wrong.error().code, Code::conflict);
  EXPECT_THAT(wrong.error().what, HasSubstr("third"));
  ::unlink(target("first").c_str());
  plant(outside("passwd"), target("first"));
  EXPECT_FALSE(t->link(source, dir(*t, ""), named("", "third")));
  EXPECT_FALSE(exists(target("third")));
  EXPECT_EQ(count(target("")), 2U);
}

TEST_F(TargetTest, RST_03_a_source_below_a_planted_symlink_is_not_found) {
  const auto t = make();
  ASSERT_TRUE(t->make_directory("d"));
  Entry first = named("d", "passwd");
  first.links = 2;
  const auto committed = write(*t, first, "content");
  ASSERT_TRUE(committed);
  forget_handles(*t);
  ASSERT_EQ(::rename(target("d").c_str(), target("gone").c_str()), 0);
  plant(outside(""), target("d"));
  EXPECT_FALSE(t->link({"d", "passwd", *committed->identity}, dir(*t, ""), named("", "second")));
  EXPECT_FALSE(exists(target("second")));
}

TEST_F(TargetTest, RST_04_a_symlink_in_place_of_a_file_is_replaced_never_written_through) {
  ::mkdir(target("").c_str(), 0755);
  for (const Overwrite overwrite : {Overwrite::never, Overwrite::changed, Overwrite::always}) {
    plant(outside("passwd"), target("x"));
    const auto t = make({.overwrite = overwrite});
    const auto done = write(*t, named("", "x"), "restored");
    ASSERT_TRUE(done);
    if (overwrite == Overwrite::never) {
      EXPECT_EQ(done->placed, Placed::kept);
      EXPECT_TRUE(S_ISLNK(status(target("x")).st_mode));
    } else {
      EXPECT_TRUE(S_ISREG(status(target("x")).st_mode));
      EXPECT_EQ(get(target("x")), "restored");
    }
    EXPECT_EQ(count(target("")), 1U);
    ::unlink(target("x").c_str());
  }
}

// Between the look and the rename.
TEST_F(TargetTest, RST_04_a_symlink_planted_while_writing) {
  for (const Overwrite overwrite : {Overwrite::never, Overwrite::changed}) {
    const auto t = make({.overwrite = overwrite});
    Entry entry = named("", "x");
    auto created = t->create(dir(*t, ""), entry);
    ASSERT_TRUE(created && created->file);
    plant(outside("passwd"), target("x"));
    const auto done = created->file->commit();
    ASSERT_TRUE(done);
    EXPECT_EQ(done->placed, overwrite == Overwrite::never ? Placed::kept : Placed::made);
    EXPECT_EQ(count(target("")), 1U);
    ::unlink(target("x").c_str());
  }
}

TEST_F(TargetTest, RST_04_a_symlink_at_the_temporary_name) {
  ::mkdir(target("").c_str(), 0755);
  // What FixedRandom will give first.
  plant(outside("passwd"), target(".holdfast-00010203040506070000"));
  plant(outside("new"), target(".holdfast-00010203040506070100"));
  const auto t = make();
  ASSERT_TRUE(write(*t, named("", "x"), "restored"));
  EXPECT_EQ(get(target("x")), "restored");
  EXPECT_EQ(count(target("")), 3U);
  EXPECT_FALSE(exists(outside("new")));
}

TEST_F(TargetTest, RST_04_things_of_another_kind_are_named_and_stay) {
  ::mkdir(target("").c_str(), 0755);
  ::mkdir(target("d").c_str(), 0755);
  put(target("f"), "mine");
  const auto t = make({.overwrite = Overwrite::always});
  const auto onto_directory = write(*t, named("", "d"), "x");
  ASSERT_FALSE(onto_directory);
  EXPECT_EQ(onto_directory.error().code, Code::conflict);
  const auto onto_file = t->make_directory("f");
  ASSERT_FALSE(onto_file);
  EXPECT_EQ(onto_file.error().code, Code::conflict);
  EXPECT_EQ(get(target("f")), "mine");
  EXPECT_EQ(count(target("")), 2U);
}

TEST_F(TargetTest, RST_06_fix_ups_hit_the_directory_that_was_made_and_no_other) {
  const auto t = make();
  Entry entry = named("", "d", EntryType::directory);
  entry.mode = 0777;
  entry.mtime = {1, 1};
  entry.xattrs = {{"user.mark", "1"}};
  for (const char* name : {"d", "e", "f"}) ASSERT_TRUE(t->make_directory(name));
  forget_handles(*t);
  for (const char* name : {"d", "e"})
    ASSERT_EQ(::rename(target(name).c_str(), target(std::string("gone-") + name).c_str()), 0);
  plant(outside(""), target("d"));
  ASSERT_EQ(::mkdir(target("e").c_str(), 0700), 0);
  const std::string other = describe(target("e"));
  EXPECT_FALSE(t->finish_directory("d", entry));
  EXPECT_FALSE(t->finish_directory("e", entry));
  EXPECT_EQ(describe(target("e")), other);
  EXPECT_TRUE(t->finish_directory("f", entry));
  EXPECT_EQ(status(target("f")).st_mode & 07777, 0777U);
}

TEST_F(TargetTest, RST_07_rights_are_given_only_when_asked_for) {
  const std::string capability(
      "\x01\x00\x00\x02\x00\x20\x00\x00\x00\x00\x00\x00\x00\x00\x00\x00"
      "\x00\x00\x00\x00",
      20);
  Entry entry = named("", "tool");
  entry.mode = 06755;
  entry.xattrs = {{"security.capability", capability}, {"trusted.x", "1"}, {"user.y", "2"}};
  {
    const auto t = make();
    ASSERT_TRUE(write(*t, entry, "binary"));
    EXPECT_EQ(status(target("tool")).st_mode & 07777, 0755U);
    EXPECT_LT(::getxattr(target("tool").c_str(), "security.capability", nullptr, 0), 0);
    EXPECT_LT(::getxattr(target("tool").c_str(), "trusted.x", nullptr, 0), 0);
    EXPECT_EQ(t->make_special(dir(*t, ""), named("", "null", EntryType::char_device))->placed,
              Placed::kept);
    EXPECT_FALSE(exists(target("null")));
    std::map<LeftOutKind, LeftOut> notes;
    for (const LeftOut& note : t->left_out()) notes[note.kind] = note;
    EXPECT_EQ(notes[LeftOutKind::setid].count, 1U);
    EXPECT_EQ(notes[LeftOutKind::setid].first, "tool");
    EXPECT_EQ(notes[LeftOutKind::privileged_xattr].count, 2U);
    EXPECT_EQ(notes[LeftOutKind::device].first, "null");
  }
  if (::geteuid() != 0) GTEST_SKIP() << "needs root";
  const auto t = make({.overwrite = Overwrite::always, .privileged = true});
  ASSERT_TRUE(write(*t, entry, "binary"));
  EXPECT_EQ(status(target("tool")).st_mode & 07777, 06755U);
  EXPECT_EQ(::getxattr(target("tool").c_str(), "security.capability", nullptr, 0), 20);
  Entry device = named("", "null", EntryType::char_device);
  device.rdev = makedev(1, 3);
  device.mode = 0666;
  const auto made = t->make_special(dir(*t, ""), device);
  if (!made) GTEST_SKIP() << "no devices here: " << made.error().what;
  EXPECT_TRUE(S_ISCHR(status(target("null")).st_mode));
  EXPECT_EQ(status(target("null")).st_mode & 07777, 0666U);
  EXPECT_EQ(status(target("null")).st_rdev, makedev(1, 3));
}

TEST_F(TargetTest, RST_13_nothing_is_left_of_a_file_that_was_not_finished) {
  const auto t = make();
  {
    auto created = t->create(dir(*t, ""), named("", "x"));
    ASSERT_TRUE(created && created->file);
    ASSERT_TRUE(created->file->write(0, as_bytes("half")));
    EXPECT_FALSE(exists(target("x")));
    EXPECT_EQ(count(target("")), 1U);
  }
  EXPECT_EQ(count(target("")), 0U);
}

TEST_F(TargetTest, files_keep_their_metadata) {
  const auto t = make();
  const std::string name("caf\xE9\x01\n", 6);
  const std::pair<std::int64_t, std::uint32_t> times[] = {
      {-100'000'000, 1}, {0, 0}, {1'700'000'000, 999'999'999}, {5'000'000'000, 123}};
  unsigned mode = 0;
  for (const auto& [seconds, ns] : times) {
    Entry entry = named("", name + std::to_string(seconds));
    entry.mtime = {seconds, ns};
    entry.mode = mode;  // 0000, 0222, 0444, 0666: beyond any umask
    mode += 0222;
    entry.xattrs = {{"user.a", std::string("\0b", 2)}};
    ASSERT_TRUE(write(*t, entry, "text"));
    const struct stat s = status(target(entry.name));
    EXPECT_EQ(s.st_mode & 07777, entry.mode);
    EXPECT_EQ(s.st_mtim.tv_sec, seconds);
    EXPECT_EQ(s.st_mtim.tv_nsec, static_cast<long>(ns));
    char value[8];
    EXPECT_EQ(::lgetxattr(target(entry.name).c_str(), "user.a", value, sizeof value),
              ::geteuid() == 0 || (entry.mode & 0400) != 0 ? 2 : -1);
  }
  EXPECT_TRUE(t->left_out().empty());
}

TEST_F(TargetTest, owners_are_set_by_root_and_left_out_by_others) {
  const auto t = make();
  Entry entry = named("", "x");
  entry.uid = 12345;
  entry.gid = 54321;
  ASSERT_TRUE(write(*t, entry, "text"));
  if (::geteuid() == 0) {
    EXPECT_EQ(status(target("x")).st_uid, 12345U);
    EXPECT_EQ(status(target("x")).st_gid, 54321U);
    EXPECT_TRUE(t->left_out().empty());
  } else {
    ASSERT_EQ(t->left_out().size(), 1U);
    EXPECT_EQ(t->left_out()[0].kind, LeftOutKind::owner);
  }
}

// ACL in the kernel's encoding: user::rw-, user:12:r--, group::---, mask::r--, other::---.
const std::string kAcl(
    "\x02\0\0\0\x01\0\x06\0\xFF\xFF\xFF\xFF\x02\0\x04\0\x0C\0\0\0\x04\0\0\0\xFF\xFF\xFF\xFF"
    "\x10\0\x04\0\xFF\xFF\xFF\xFF\x20\0\0\0\xFF\xFF\xFF\xFF",
    44);

std::string acl_of(const std::string& path, const char* name) {
  std::string value(256, '\0');
  const ssize_t n = ::getxattr(path.c_str(), name, value.data(), value.size());
  return n < 0 ? "none" : value.substr(0, static_cast<std::size_t>(n));
}

TEST_F(TargetTest, acls_are_kept_and_none_is_inherited) {
  ::mkdir(target("").c_str(), 0755);
  if (::setxattr(target("").c_str(), "system.posix_acl_default", kAcl.data(), kAcl.size(), 0) != 0)
    GTEST_SKIP() << "no ACLs here";
  const auto t = make();
  Entry with = named("", "with");
  with.mode = 0640;
  with.xattrs = {{"system.posix_acl_access", kAcl}};
  ASSERT_TRUE(write(*t, with, "x"));
  EXPECT_EQ(acl_of(target("with"), "system.posix_acl_access"), kAcl);
  EXPECT_EQ(status(target("with")).st_mode & 0777, 0640U);
  ASSERT_TRUE(write(*t, named("", "without"), "x"));
  EXPECT_EQ(acl_of(target("without"), "system.posix_acl_access"), "none");
  EXPECT_EQ(status(target("without")).st_mode & 0777, 0644U);
  ASSERT_TRUE(t->make_directory("d"));
  ASSERT_TRUE(write(*t, named("d", "x"), "x"));
  EXPECT_EQ(acl_of(target("d"), "system.posix_acl_default"), "none");
  EXPECT_EQ(acl_of(target("d/x"), "system.posix_acl_access"), "none");
}

TEST_F(TargetTest, what_is_never_written_is_a_hole) {
  const auto t = make();
  Entry entry = named("", "sparse");
  entry.size = 64U << 20;
  auto created = t->create(dir(*t, ""), entry);
  ASSERT_TRUE(created && created->file);
  ASSERT_TRUE(created->file->write(32U << 20, as_bytes("middle")));
  ASSERT_TRUE(created->file->commit());
  EXPECT_EQ(status(target("sparse")).st_size, 64L << 20);
  EXPECT_LT(status(target("sparse")).st_blocks, 2048);
}

TEST_F(TargetTest, a_file_of_same_size_and_time_stays_unless_always) {
  Entry entry = named("", "x");
  ASSERT_TRUE(write(*make(), entry, "abc"));
  EXPECT_EQ(write(*make(), entry, "xyz")->placed, Placed::kept);
  EXPECT_EQ(get(target("x")), "abc");
  EXPECT_EQ(write(*make({.overwrite = Overwrite::never}), entry, "longer")->placed, Placed::kept);
  EXPECT_EQ(write(*make({.overwrite = Overwrite::always}), entry, "xyz")->placed, Placed::made);
  EXPECT_EQ(get(target("x")), "xyz");
  EXPECT_EQ(write(*make(), entry, "longer")->placed, Placed::made);
  EXPECT_EQ(get(target("x")), "longer");
}

TEST_F(TargetTest, a_kept_file_gets_the_metadata_of_its_entry) {
  Entry entry = named("", "x");
  entry.mode = 0640;
  entry.xattrs = {{"user.a", "b"}};
  ASSERT_TRUE(write(*make(), entry, "abc"));
  const ino_t inode = status(target("x")).st_ino;
  // Without a right to open it.
  const auto disturb = [&] {
    ::setxattr(target("x").c_str(), "user.a", "c", 1, 0);
    ::setxattr(target("x").c_str(), "system.posix_acl_access", kAcl.data(), kAcl.size(), 0);
    ::chmod(target("x").c_str(), 0);
  };
  disturb();
  EXPECT_EQ(write(*make({.overwrite = Overwrite::never}), entry, "abc")->placed, Placed::kept);
  EXPECT_EQ(status(target("x")).st_mode & 07777, 0U);
  const auto t = make();
  const auto done = write(*t, entry, "abc");
  EXPECT_EQ(done->placed, Placed::kept);
  EXPECT_EQ(status(target("x")).st_ino, inode);
  EXPECT_EQ(status(target("x")).st_mode & 07777, 0640U);
  EXPECT_EQ(acl_of(target("x"), "system.posix_acl_access"), "none");
  EXPECT_EQ(acl_of(target("x"), "user.a"), "b");
  EXPECT_EQ(status(target("x")).st_mtim.tv_nsec, 123'456'789);
  EXPECT_TRUE(t->left_out().empty());
  if (::geteuid() != 0) return;
  ASSERT_EQ(::chown(target("x").c_str(), 12345, 54321), 0);
  write(*make(), entry, "abc");
  EXPECT_EQ(status(target("x")).st_uid, 0U);
  EXPECT_EQ(status(target("x")).st_gid, 0U);
}

// Who may write into the target links another's file there, of the size and time that he knows.
TEST_F(TargetTest, RST_04_metadata_of_a_kept_file_with_other_names_is_left_alone) {
  ::mkdir(target("").c_str(), 0755);
  ASSERT_EQ(::link(outside("passwd").c_str(), target("x").c_str()), 0);
  before_ = picture();
  Entry entry = named("", "x");
  const struct stat there = status(target("x"));
  entry.mtime = {there.st_mtim.tv_sec, static_cast<std::uint32_t>(there.st_mtim.tv_nsec)};
  entry.mode = 0666;
  entry.uid = 12345;
  entry.xattrs = {{"user.a", "b"}};
  const auto t = make();
  EXPECT_EQ(write(*t, entry, "sentinel")->placed, Placed::kept);
  EXPECT_EQ(acl_of(outside("passwd"), "user.a"), "none");
  ASSERT_EQ(t->left_out().size(), 1U);
  EXPECT_EQ(t->left_out()[0].kind, LeftOutKind::mode);
}

TEST_F(TargetTest, acls_and_attributes_of_fifos_and_devices) {
  ::mkdir(target("").c_str(), 0755);
  if (::setxattr(target("").c_str(), "system.posix_acl_default", kAcl.data(), kAcl.size(), 0) != 0)
    GTEST_SKIP() << "no ACLs here";
  const auto t = make();
  Entry fifo = named("", "fifo", EntryType::fifo);
  fifo.mode = 0640;
  ASSERT_TRUE(t->make_special(dir(*t, ""), fifo));
  EXPECT_EQ(acl_of(target("fifo"), "system.posix_acl_access"), "none") << "inherited";
  EXPECT_EQ(status(target("fifo")).st_mode & 07777, 0640U);
  fifo.name = "with";
  fifo.xattrs = {{"system.posix_acl_access", kAcl}, {"trusted.x", "1"}};
  ASSERT_TRUE(t->make_special(dir(*t, ""), fifo));
  EXPECT_EQ(acl_of(target("with"), "system.posix_acl_access"), kAcl);
  EXPECT_EQ(status(target("with")).st_mode & 07777, 0640U);
  EXPECT_EQ(acl_of(target("with"), "trusted.x"), "none");
  ASSERT_EQ(t->left_out().size(), 1U);
  EXPECT_EQ(t->left_out()[0].kind, LeftOutKind::privileged_xattr);
  if (::geteuid() != 0) return;
  const auto asked = make({.overwrite = Overwrite::always, .privileged = true});
  ASSERT_TRUE(asked->make_special(dir(*asked, ""), fifo));
  EXPECT_EQ(acl_of(target("with"), "trusted.x"), "1");
}

TEST_F(TargetTest, never_locks_no_file_that_it_kept) {
  ::mkdir(target("").c_str(), 0755);
  ::mkdir(target("d").c_str(), 0755);
  put(target("x"), "abc");
  const auto t = make({.overwrite = Overwrite::never});
  ASSERT_TRUE(t->make_directory("d"));
  Entry file = named("", "x"), folder = named("", "d", EntryType::directory);
  file.size = 3;
  for (Entry* entry : {&file, &folder}) {
    entry->flags = FS_APPEND_FL;
    EXPECT_TRUE(t->finish_flags(dir(*t, ""), *entry));
    int flags = 0;
    const int fd = ::open(target(entry->name).c_str(), O_RDONLY | O_CLOEXEC);
    ::ioctl(fd, FS_IOC_GETFLAGS, &flags);
    EXPECT_EQ(flags & FS_APPEND_FL, 0);
    flags &= ~FS_APPEND_FL;
    ::ioctl(fd, FS_IOC_SETFLAGS, &flags);
    ::close(fd);
  }
  EXPECT_TRUE(t->left_out().empty());
}

TEST_F(TargetTest, symlinks_and_fifos) {
  const auto t = make();
  Entry link = named("", "link", EntryType::symlink);
  link.link_target = outside("passwd");
  link.mtime = {77, 88};
  ASSERT_TRUE(t->make_symlink(dir(*t, ""), link));
  ASSERT_TRUE(t->make_symlink(dir(*t, ""), link)) << "again";
  EXPECT_EQ(std::filesystem::read_symlink(target("link")), link.link_target);
  EXPECT_EQ(status(target("link")).st_mtim.tv_sec, 77);
  Entry fifo = named("", "fifo", EntryType::fifo);
  fifo.mode = 0622;
  ASSERT_TRUE(t->make_special(dir(*t, ""), fifo));
  EXPECT_TRUE(S_ISFIFO(status(target("fifo")).st_mode));
  EXPECT_EQ(status(target("fifo")).st_mode & 07777, 0622U);
  EXPECT_EQ(status(target("fifo")).st_mtim.tv_nsec, 123'456'789);
  Entry bad = named("", "bad", EntryType::symlink);
  bad.link_target = std::string("a\0b", 3);
  EXPECT_FALSE(t->make_symlink(dir(*t, ""), bad));
  EXPECT_EQ(count(target("")), 2U);
}

TEST_F(TargetTest, flags_and_locking_flags_last) {
  const auto t = make();
  Entry entry = named("", "x");
  entry.flags = FS_NODUMP_FL | FS_IMMUTABLE_FL;
  ASSERT_TRUE(write(*t, entry, ""));
  int flags = 0;
  const int fd = ::open(target("x").c_str(), O_RDONLY | O_CLOEXEC);
  const bool supported = ::ioctl(fd, FS_IOC_GETFLAGS, &flags) == 0;
  if (supported) {
    EXPECT_EQ(flags & (FS_NODUMP_FL | FS_IMMUTABLE_FL), FS_NODUMP_FL);
    ASSERT_TRUE(t->finish_flags(dir(*t, ""), entry));
    ::ioctl(fd, FS_IOC_GETFLAGS, &flags);
    EXPECT_EQ((flags & FS_IMMUTABLE_FL) != 0, t->left_out().empty());
    flags &= ~FS_IMMUTABLE_FL;
    ::ioctl(fd, FS_IOC_SETFLAGS, &flags);
  }
  ::close(fd);
  if (!supported) GTEST_SKIP() << "no flags here";
}

TEST_F(TargetTest, the_target_gets_metadata_only_when_we_made_it) {
  Entry entry = named("", "x", EntryType::directory);
  entry.mode = 0751;
  ASSERT_TRUE(make()->finish_directory("", entry));
  EXPECT_EQ(status(target("")).st_mode & 07777, 0751U);
  entry.mode = 0777;
  ASSERT_TRUE(make()->finish_directory("", entry));
  EXPECT_EQ(status(target("")).st_mode & 07777, 0751U);
}

TEST(DirectorySet, finds_what_was_put_in_and_is_bounded) {
  DirectorySet set(4096);
  for (std::uint64_t i = 0; i < 3072; ++i)
    ASSERT_TRUE(set.insert("d" + std::to_string(i), {1, i}, i % 2 == 0)) << i;
  EXPECT_FALSE(set.insert("one too many", {1, 1}, true));
  EXPECT_TRUE(set.full());
  for (std::uint64_t i = 0; i < 3072; ++i) {
    const auto known = set.find("d" + std::to_string(i));
    ASSERT_TRUE(known);
    EXPECT_EQ(known->identity, DirectorySet::digest({1, i}));
    EXPECT_EQ(known->made, i % 2 == 0);
  }
  EXPECT_FALSE(set.find("d"));
}

}  // namespace
}  // namespace holdfast
