// SPDX-License-Identifier: Apache-2.0
#include "repo/dump.h"

#include <archive.h>
#include <archive_entry.h>
#include <gmock/gmock.h>
#include <gtest/gtest.h>
#include <locale.h>

#include "repo/memory_nodes.h"

namespace holdfast {
namespace {

using ::testing::HasSubstr;

const Bytes kIdKey(32, std::byte{7});
const Bytes kTreeKey(16, std::byte{9});

class MapChunks : public ChunkSource {
 public:
  ContentItem put(std::string_view text) {
    const ByteSpan bytes = as_bytes(text);
    const ChunkId id = hasher_.id(ChunkType::data, bytes);
    chunks[id] = std::make_shared<const Bytes>(bytes.begin(), bytes.end());
    return {text.size(), id};
  }
  Result<ChunkReader::Chunk> get(const ChunkId& id) override {
    const auto found = chunks.find(id);
    if (found == chunks.end()) return fail(Code::corrupt, "chunk " + id.hex() + ": damaged");
    return ChunkReader::Chunk{found->second, *found->second};
  }
  std::map<ChunkId, std::shared_ptr<const Bytes>> chunks;

 private:
  ChunkHasher hasher_{kIdKey};
};

struct Read {
  std::string text, link, user, xattr;
  mode_t mode = 0;
  std::int64_t seconds = 0, size = 0;
  long ns = 0;
  int extents = 0, acls = 0;
};

// What libarchive's own reader sees.
std::map<std::string, Read> read_tar(const std::string& tar) {
  std::map<std::string, Read> out;
  const locale_t utf8 = ::newlocale(LC_CTYPE_MASK, "C.UTF-8", nullptr);
  const locale_t before = ::uselocale(utf8);
  archive* a = archive_read_new();
  archive_read_support_format_tar(a);
  archive_read_set_options(a, "hdrcharset=BINARY");
  EXPECT_EQ(archive_read_open_memory(a, tar.data(), tar.size()), ARCHIVE_OK);
  archive_entry* entry = nullptr;
  int status = 0;
  while ((status = archive_read_next_header(a, &entry)) == ARCHIVE_OK) {
    Read read;
    read.mode = archive_entry_mode(entry);
    read.seconds = archive_entry_mtime(entry);
    read.ns = archive_entry_mtime_nsec(entry);
    read.size = archive_entry_size(entry);
    read.extents = archive_entry_sparse_count(entry);
    read.acls = archive_entry_acl_count(entry, ARCHIVE_ENTRY_ACL_TYPE_ACCESS);
    if (const char* name = archive_entry_uname(entry)) read.user = name;
    if (const char* to = archive_entry_symlink(entry)) read.link = to;
    if (const char* to = archive_entry_hardlink(entry)) read.link = to;
    const char* name = nullptr;
    const void* value = nullptr;
    std::size_t size = 0;
    archive_entry_xattr_reset(entry);
    if (archive_entry_xattr_next(entry, &name, &value, &size) == ARCHIVE_OK)
      read.xattr = std::string(name) + "=" + std::string(static_cast<const char*>(value), size);
    const void* block = nullptr;
    la_int64_t offset = 0;
    while (archive_read_data_block(a, &block, &size, &offset) == ARCHIVE_OK) {
      read.text.resize(static_cast<std::size_t>(offset));
      read.text.append(static_cast<const char*>(block), size);
    }
    out[archive_entry_pathname(entry)] = read;
  }
  EXPECT_EQ(status, ARCHIVE_EOF) << archive_error_string(a);
  archive_read_free(a);
  ::uselocale(before);
  ::freelocale(utf8);
  return out;
}

class DumpTest : public testing::Test {
 protected:
  static Entry at(std::string_view path, EntryType type) {
    Entry entry;
    const std::size_t slash = path.rfind('/');
    if (slash != std::string_view::npos) entry.directory = path.substr(0, slash);
    entry.name = slash == std::string_view::npos ? path : path.substr(slash + 1);
    entry.type = type;
    entry.mode = type == EntryType::directory ? 0755 : 0640;
    entry.uid = 1000;
    entry.mtime = {-3, 123'456'789};
    return entry;
  }
  Entry file(std::string_view path, std::vector<ContentItem> items) {
    Entry entry = at(path, EntryType::file);
    for (const ContentItem& item : items) entry.size += item.length;
    entry.content.items = std::move(items);
    return entry;
  }
  TreeRoot tree(const std::vector<Entry>& entries) {
    TreeBuilder builder(nodes_, kTreeKey);
    for (const Entry& entry : entries) {
      const auto added = builder.add(entry);
      EXPECT_TRUE(added) << added.error().what;
    }
    return *builder.finish();
  }
  Result<std::string> run(const TreeRoot& root, const std::string& path) {
    std::string out;
    const std::map<std::uint32_t, std::string> users{{1000, "someone"}};
    HF_TRY(dump(
        chunks_, nodes_, root, path, {&users, nullptr}, workers_,
        [&](ByteSpan bytes) -> Result<> {
          out += as_text(bytes);
          return {};
        },
        stop_));
    return out;
  }
  MemoryNodes nodes_{kIdKey};
  MapChunks chunks_;
  unsigned workers_ = 1;
  Stop stop_;
};

TEST_F(DumpTest, a_file_is_its_bytes) {
  const TreeRoot root =
      tree({at("d", EntryType::directory),
            file("d/f", {chunks_.put("one"), {3, std::nullopt}, chunks_.put("two")})});
  EXPECT_EQ(*run(root, "d/f"), std::string("one\0\0\0two", 9));
  const auto missing = run(root, "d/g");
  ASSERT_FALSE(missing);
  EXPECT_EQ(missing.error().code, Code::not_found);
}

TEST_F(DumpTest, a_directory_is_a_tar_archive) {
  Entry first = file("d/a", {chunks_.put("shared")});
  first.inode = 5;
  first.links = 2;
  Entry second = first;
  second.name = "b";
  Entry rich = file("d/caf\xE9", {chunks_.put("text")});
  rich.xattrs = {{"system.posix_acl_access",
                  std::string("\x02\0\0\0\x01\0\x06\0\xFF\xFF\xFF\xFF\x02\0\x04\0\x0C\0\0\0\x04\0\0"
                              "\0\xFF\xFF\xFF\xFF\x10\0\x04\0\xFF\xFF\xFF\xFF\x20\0\0\0\xFF\xFF\xFF"
                              "\xFF",
                              44)},
                 {"user.x", "y"}};
  Entry link = at("d/l", EntryType::symlink);
  link.link_target = "a";
  const Entry sparse =
      file("d/sparse", {{1U << 20, std::nullopt}, chunks_.put("middle"), {1U << 20, std::nullopt}});
  const Entry deep = file("d/sub/" + std::string(200, 'n'), {chunks_.put("deep")});
  const auto tar = run(tree({at("d", EntryType::directory), at("e", EntryType::directory), first,
                             second, rich, link, sparse, at("d/sub", EntryType::directory), deep}),
                       "d");
  ASSERT_TRUE(tar) << tar.error().what;
  EXPECT_LT(tar->size(), 64U << 10) << "holes are not written";
  auto all = read_tar(*tar);
  EXPECT_EQ(all.size(), 7U);
  EXPECT_EQ(all["a"].text, "shared");
  EXPECT_EQ(all["a"].mode & 07777, 0640U);
  EXPECT_EQ(all["a"].seconds, -3);
  EXPECT_EQ(all["a"].ns, 123'456'789);
  EXPECT_EQ(all["a"].user, "someone");
  EXPECT_EQ(all["b"].link, "a");
  EXPECT_EQ(all["caf\xE9"].text, "text");
  EXPECT_EQ(all["caf\xE9"].xattr, "user.x=y");
  EXPECT_GT(all["caf\xE9"].acls, 0);
  EXPECT_EQ(all["l"].link, "a");
  EXPECT_EQ(all["sparse"].size, (2 << 20) + 6);
  EXPECT_EQ(all["sparse"].text.substr(1U << 20, 6), "middle");
  EXPECT_EQ(all["sub/" + std::string(200, 'n')].text, "deep");
}

TEST_F(DumpTest, several_threads_fetch_and_the_bytes_come_in_order) {
  std::vector<ContentItem> content;
  std::string expected, before_loss;
  ContentItem lost;
  for (int i = 0; i < 60; ++i) {
    if (i % 30 == 15) {
      content.push_back({5000, std::nullopt});
      expected += std::string(5000, '\0');
    }
    const std::string text(static_cast<std::size_t>(400'000 + i * 7),
                           static_cast<char>('a' + i % 26));
    content.push_back(chunks_.put(text));
    if (i == 41) {
      lost = content.back();
      before_loss = expected;
    }
    expected += text;
  }
  const TreeRoot root = tree({file("f", content)});
  for (workers_ = 1; workers_ <= 8; workers_ *= 2) EXPECT_TRUE(*run(root, "f") == expected);
  chunks_.chunks.erase(*lost.chunk);
  std::string out;
  const auto ended = dump(
      chunks_, nodes_, root, "f", {}, 4,
      [&](ByteSpan bytes) -> Result<> {
        out += as_text(bytes);
        return {};
      },
      stop_);
  ASSERT_FALSE(ended);
  EXPECT_THAT(ended.error().what, HasSubstr(lost.chunk->hex()));
  EXPECT_TRUE(out == before_loss) << "what comes is whole up to there";
}

// The header of each entry tells whether its strings are UTF-8; GNU tar knows nothing of that.
TEST_F(DumpTest, times_are_whole_and_only_names_that_need_it_are_binary) {
  const auto plain = run(tree({at("dir", EntryType::directory), file("nai\xCC\x88ve", {}),
                               file("name", {}), file("na\xC3\xAFve", {chunks_.put("text")})}),
                         "");
  ASSERT_TRUE(plain);
  for (const auto& [name, read] : read_tar(*plain)) {
    EXPECT_EQ(read.seconds, -3) << name;
    EXPECT_EQ(read.ns, 123'456'789) << name;
  }
  EXPECT_NE(plain->find("na\xC3\xAFve"), std::string::npos);
  EXPECT_NE(plain->find("nai\xCC\x88ve"), std::string::npos) << "composed";
  EXPECT_EQ(plain->find("hdrcharset"), std::string::npos);
  const auto binary = run(tree({file("caf\xE9", {chunks_.put("text")}), file("name", {})}), "");
  ASSERT_TRUE(binary);
  EXPECT_EQ(read_tar(*binary)["caf\xE9"].text, "text");
  const std::size_t first = binary->find("hdrcharset=BINARY");
  ASSERT_NE(first, std::string::npos);
  EXPECT_EQ(binary->find("hdrcharset", first + 1), std::string::npos);
}

TEST_F(DumpTest, RST_13_damage_ends_it_and_is_named) {
  const ContentItem lost = chunks_.put("lost");
  chunks_.chunks.erase(*lost.chunk);
  const TreeRoot root = tree({at("d", EntryType::directory), file("d/f", {lost})});
  for (const char* path : {"d/f", "d", ""}) {
    const auto result = run(root, path);
    ASSERT_FALSE(result);
    EXPECT_EQ(result.error().code, Code::corrupt);
    EXPECT_THAT(result.error().what, HasSubstr("d/f"));
    EXPECT_THAT(result.error().what, HasSubstr(lost.chunk->hex()));
  }
}

TEST_F(DumpTest, the_writers_error_comes_back) {
  const TreeRoot root = tree({file("f", {chunks_.put("text")})});
  const auto result = dump(
      chunks_, nodes_, root, "", {}, 1, [](ByteSpan) { return fail(Code::full, "no space"); },
      stop_);
  ASSERT_FALSE(result);
  EXPECT_EQ(result.error().code, Code::full);
}

}  // namespace
}  // namespace holdfast
