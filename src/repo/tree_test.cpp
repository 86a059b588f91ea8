// SPDX-License-Identifier: Apache-2.0
#include "repo/tree.h"

#include <fmt/format.h>
#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <fstream>
#include <map>
#include <random>
#include <set>
#include <sstream>

#include "crypto/purposes.h"
#include "crypto/transcript.h"
#include "repo/memory_nodes.h"
#include "repo/node_codec.h"

namespace holdfast {
namespace {

using ::testing::HasSubstr;

Bytes counted(std::size_t n, unsigned start) {
  Bytes out(n);
  for (std::size_t i = 0; i < n; ++i) out[i] = static_cast<std::byte>(start + i);
  return out;
}
const Bytes kIdKey = counted(32, 0x20);
const Bytes kTreeKey = counted(16, 0x80);

ChunkId chunk(std::uint64_t n) {
  ChunkId id;
  store_le(id.bytes.data(), n * 0x9E3779B97F4A7C15U + 1);
  return id;
}

Entry entry_at(std::string_view path, EntryType type = EntryType::file) {
  Entry e;
  const std::size_t slash = path.rfind('/');
  if (slash != std::string_view::npos) e.directory = path.substr(0, slash);
  e.name = slash == std::string_view::npos ? path : path.substr(slash + 1);
  e.type = type;
  e.mode = type == EntryType::directory ? 0755 : 0644;
  return e;
}
Entry dir(std::string_view path) { return entry_at(path, EntryType::directory); }
Entry file(std::string_view path, std::uint64_t n = 1) {
  Entry e = entry_at(path);
  e.size = 100;
  e.content.items = {{100, chunk(n)}};
  return e;
}

struct KeyLess {
  using Key = std::pair<std::string, std::string>;
  bool operator()(const Key& a, const Key& b) const {
    return compare_keys(a.first, a.second, b.first, b.second) < 0;
  }
};
using Table = std::map<KeyLess::Key, Entry, KeyLess>;

void put(Table& table, Entry e) {
  KeyLess::Key key{e.directory, e.name};
  table.insert_or_assign(std::move(key), std::move(e));
}
TreeRoot build(NodeSink& sink, const Table& table) {
  TreeBuilder builder(sink, kTreeKey);
  for (const auto& [key, e] : table) {
    auto ok = builder.add(e);
    EXPECT_TRUE(ok) << ok.error().what;
  }
  auto root = builder.finish();
  EXPECT_TRUE(root);
  return *root;
}
std::vector<Entry> all(const Table& table) {
  std::vector<Entry> out;
  for (const auto& [key, e] : table) out.push_back(e);
  return out;
}

struct Read {
  std::vector<Entry> entries;
  std::vector<std::string> errors;
};
Read drain(TreeCursor& cursor) {
  Read out;
  for (int guard = 0; guard < 1'000'000; ++guard) {
    auto e = cursor.next();
    if (!e) {
      EXPECT_EQ(e.error().code, Code::corrupt);
      out.errors.push_back(e.error().what);
      continue;
    }
    if (*e == nullptr) return out;
    out.entries.push_back(**e);
  }
  ADD_FAILURE() << "no end";
  return out;
}
Read read_all(NodeSource& source, const TreeRoot& root) {
  TreeCursor cursor(source, root);
  Read out = drain(cursor);
  EXPECT_EQ(cursor.errors(), out.errors.size());
  return out;
}
std::vector<std::string> paths(const std::vector<Entry>& entries) {
  std::vector<std::string> out;
  for (const Entry& e : entries) out.push_back(e.path());
  return out;
}

using Rng = std::mt19937_64;
std::uint64_t pick(Rng& rng, std::uint64_t n) { return rng() % n; }

// Any entry, all fields used.
void randomize(Rng& rng, Entry& e) {
  e.mode = static_cast<std::uint32_t>(pick(rng, 010000));
  e.uid = static_cast<std::uint32_t>(rng() >> (32 + pick(rng, 32)));
  e.gid = static_cast<std::uint32_t>(rng() >> (32 + pick(rng, 32)));
  e.mtime = {static_cast<std::int64_t>(rng() >> pick(rng, 64)),
             static_cast<std::uint32_t>(pick(rng, 1'000'000'000))};
  e.ctime = {-static_cast<std::int64_t>(rng() >> 1), 999'999'999};
  e.device = rng() >> pick(rng, 64);
  e.inode = rng() >> pick(rng, 64);
  e.torn = pick(rng, 8) == 0;
  if (pick(rng, 4) == 0) e.flags = static_cast<std::uint32_t>(rng()) | 1;
  if (pick(rng, 4) == 0) e.xattrs = {{"user.a", "1"}, {"user.b", std::string(pick(rng, 99), 'v')}};
  if (e.type != EntryType::directory) e.links = 1 + static_cast<std::uint32_t>(pick(rng, 3));
  if (e.type == EntryType::symlink) e.link_target = std::string(pick(rng, 40), 't');
  if (e.type == EntryType::char_device || e.type == EntryType::block_device) e.rdev = rng();
  if (e.type != EntryType::file) return;
  if (pick(rng, 8) == 0) {
    e.size = rng();
    e.content.root = ListRoot{chunk(rng()), 2, 65 + pick(rng, 1000)};
    return;
  }
  for (std::uint64_t i = pick(rng, 5); i > 0; --i) {
    ContentItem item{1 + pick(rng, 1U << 20), chunk(rng())};
    if (pick(rng, 5) == 0) item = {1 + pick(rng, std::uint64_t{1} << 40), std::nullopt};
    e.size += item.length;
    e.content.items.push_back(item);
  }
}

// A random tree: names that stress the order ('!' below and '0' above '/', bytes above 127).
Table random_table(Rng& rng, std::size_t entries) {
  static constexpr std::string_view kBytes = "ab!.0-\xff\xc3";
  Table table;
  std::vector<std::string> directories{""};
  while (table.size() < entries) {
    Entry e;
    e.directory = directories[pick(rng, directories.size())];
    for (std::uint64_t n = 1 + pick(rng, 6); n > 0; --n) e.name += kBytes[pick(rng, 8)];
    if (e.name == "." || e.name == ".." || table.contains({e.directory, e.name})) continue;
    e.type = static_cast<EntryType>(1 + pick(rng, 6));
    if (pick(rng, 3) == 0) e.type = EntryType::directory;
    randomize(rng, e);
    if (e.type == EntryType::directory) directories.push_back(e.path());
    put(table, std::move(e));
  }
  return table;
}

// A tree as machines have it, of many plain files.
Table plain_table(std::size_t directories, std::size_t files) {
  Table table;
  for (std::size_t d = 0; d < directories; ++d) {
    put(table, dir(fmt::format("dir{:05}", d)));
    for (std::size_t f = 0; f < files; ++f)
      put(table, file(fmt::format("dir{:05}/file{:04}", d, f), d * 1000 + f));
  }
  return table;
}

// ---- encodings

TEST(Node, leaf_round_trip_of_random_entries) {
  Rng rng(1);
  for (int round = 0; round < 50; ++round) {
    const LeafNode leaf{all(random_table(rng, pick(rng, 30)))};
    const Bytes bytes = encode_leaf(leaf);
    const auto back = decode_leaf(bytes);
    ASSERT_TRUE(back) << back.error().what;
    EXPECT_EQ(back->entries, leaf.entries);
  }
}

TEST(Node, inner_and_list_round_trip) {
  InnerNode inner{3,
                  {{"", "b", chunk(1), 3}, {"a/b", "c", chunk(2), 1}, {"a/bc", "c", chunk(3), 9}}};
  const auto back = decode_inner(encode_inner(inner));
  ASSERT_TRUE(back) << back.error().what;
  EXPECT_EQ(encode_inner(*back), encode_inner(inner));
  EXPECT_EQ(back->children[2].last_directory, "a/bc");
  const ListNode list{0, {{5, chunk(1)}, {1U << 20, chunk(2)}, {std::uint64_t{1} << 62, {}}}, {}};
  const auto list_back = decode_list(encode_list(list));
  ASSERT_TRUE(list_back) << list_back.error().what;
  EXPECT_EQ(list_back->items, list.items);
}

// Canonical: what is accepted is exactly what the encoder writes.
template <class Decode, class Encode>
void flip_everything(const Bytes& valid, Decode decode, Encode encode) {
  for (std::size_t i = 0; i < valid.size(); ++i) {
    for (unsigned bit = 0; bit < 8; ++bit) {
      Bytes bad = valid;
      bad[i] ^= static_cast<std::byte>(1U << bit);
      if (const auto node = decode(bad)) {
        EXPECT_EQ(encode(*node), bad) << i;
      }
    }
    EXPECT_FALSE(decode(ByteSpan(valid).first(i))) << i;
    Bytes longer(valid);
    longer.push_back(std::byte{0});
    EXPECT_FALSE(decode(longer));
  }
}

TEST(Node, flipped_and_truncated_bytes_are_refused_or_mean_themselves) {
  Rng rng(7);
  const LeafNode leaf{all(random_table(rng, 7))};
  flip_everything(encode_leaf(leaf), decode_leaf, encode_leaf);
  const InnerNode inner{1, {{"", "b", chunk(1), 3}, {"a/b", "c", chunk(2), 1}}};
  flip_everything(encode_inner(inner), decode_inner, encode_inner);
  const ListNode list{0, {{5, chunk(1)}, {70, {}}}, {}};
  flip_everything(encode_list(list), decode_list, encode_list);
  const ListNode above{2, {}, {{chunk(1), 5, 99}, {chunk(2), 7, 1000}}};
  flip_everything(encode_list(above), decode_list, encode_list);
}

// A leaf by hand: one entry, each field given as bytes.
struct HandEntry {
  std::vector<std::pair<std::string, Bytes>> fields;

  static Bytes varint(std::uint64_t v) {
    Bytes out;
    Writer(out).varint(v);
    return out;
  }
  HandEntry() {
    const auto add = [this](const char* name, std::uint64_t v) {
      fields.emplace_back(name, varint(v));
    };
    add("entries", 1);
    add("shared bytes of the directory", 0);
    add("directory", 0);
    add("shared bytes of the name", 0);
    fields.emplace_back("name", Bytes{std::byte{1}, std::byte{'n'}});
    fields.emplace_back("type", Bytes{std::byte{2 | 0x20 | 0x40 | 0x80}});
    for (const char* name :
         {"mode", "uid", "gid", "mtime", "mtime ns", "ctime", "ctime ns", "device", "inode"})
      add(name, 0);
    add("links", 2);
    add("flags", 1);
    add("extended attributes", 1);
    fields.emplace_back("name of an extended attribute", Bytes{std::byte{1}, std::byte{'x'}});
    add("value of an extended attribute", 0);
    add("size", 0);
    fields.emplace_back("kind of content", Bytes{std::byte{0}});
    add("pieces", 0);
  }
  [[nodiscard]] Bytes bytes() const {
    Bytes out{std::byte{1}};
    for (const auto& [name, b] : fields) out.insert(out.end(), b.begin(), b.end());
    return out;
  }
};
constexpr std::array<std::uint64_t, 4> kHuge{std::uint64_t{1} << 31, 0xFFFFFFFFU,
                                             std::uint64_t{1} << 63, UINT64_MAX};

TEST(Node, DOS_03_huge_value_in_each_field_of_a_leaf_is_refused_by_name) {
  ASSERT_TRUE(decode_leaf(HandEntry().bytes()));
  // These may have any value of their width: what is accepted must mean itself.
  const std::set<std::string> wide{"mtime", "ctime", "device", "inode"};
  const std::set<std::string> wide32{"uid", "gid", "links", "flags"};
  for (std::size_t f = 0; f < HandEntry().fields.size(); ++f) {
    for (const std::uint64_t huge : kHuge) {
      HandEntry hand;
      const std::string& name = hand.fields[f].first;
      if (name == "type" || name == "kind of content") continue;
      hand.fields[f].second = HandEntry::varint(huge);
      const auto leaf = decode_leaf(hand.bytes());
      if (wide.contains(name) || (wide32.contains(name) && huge <= UINT32_MAX)) {
        ASSERT_TRUE(leaf) << name;
        EXPECT_EQ(encode_leaf(*leaf), hand.bytes());
      } else {
        ASSERT_FALSE(leaf) << name << " " << huge;
        EXPECT_EQ(leaf.error().code, Code::corrupt);
        EXPECT_THAT(leaf.error().what, HasSubstr(name)) << huge;
      }
    }
  }
}

TEST(Node, DOS_03_lengths_that_do_not_sum_to_the_size_or_overflow_are_refused) {
  Entry e = file("n");
  for (const std::uint64_t size : {std::uint64_t{0}, std::uint64_t{99}, UINT64_MAX}) {
    e.size = size;
    const auto leaf = decode_leaf(encode_leaf({{e}}));
    ASSERT_FALSE(leaf);
    EXPECT_THAT(leaf.error().what, HasSubstr("size"));
  }
  const std::uint64_t half = UINT64_MAX >> 1;
  e.content.items = {{half, {}}, {half, {}}, {2 + 100, {}}};  // 100, modulo 2^64
  e.size = 100;
  const auto leaf = decode_leaf(encode_leaf({{e}}));
  ASSERT_FALSE(leaf);
  EXPECT_THAT(leaf.error().what, HasSubstr("overflow"));
}

TEST(Node, DOS_03_huge_values_in_inner_and_list_nodes_are_refused_by_name) {
  for (const std::uint64_t huge : kHuge) {
    const Bytes v = HandEntry::varint(huge);
    const auto with = [&v](std::vector<unsigned> head, std::size_t tail) {
      Bytes out;
      for (const unsigned b : head) out.push_back(static_cast<std::byte>(b));
      out.insert(out.end(), v.begin(), v.end());
      out.resize(out.size() + tail);
      return out;
    };
    const auto inner = [&](std::vector<unsigned> head, const char* field) {
      const auto node = decode_inner(with(std::move(head), 40));
      ASSERT_FALSE(node);
      EXPECT_THAT(node.error().what, HasSubstr(field));
    };
    inner({2, 1}, "children");
    inner({2, 1, 1}, "shared bytes of the directory");
    inner({2, 1, 1, 0}, "directory");
    inner({2, 1, 1, 0, 0}, "shared bytes of the name");
    inner({2, 1, 1, 0, 0, 0}, "name");
    const auto list = [&](std::vector<unsigned> head, const char* field) {
      const auto node = decode_list(with(std::move(head), 40));
      ASSERT_FALSE(node);
      EXPECT_THAT(node.error().what, HasSubstr(field));
    };
    list({3, 0}, "pieces");
    list({3, 0, 1}, huge % 2 == 0 ? "length of a piece" : "behind its last piece");
  }
  InnerNode inner{1, {{"", "a", chunk(1), UINT64_MAX}, {"", "b", chunk(2), 1}}};
  EXPECT_THAT(decode_inner(encode_inner(inner)).error().what, HasSubstr("overflow"));
  const ListNode items{1, {}, {{chunk(1), UINT64_MAX, 1}, {chunk(2), 1, 1}}};
  EXPECT_THAT(decode_list(encode_list(items)).error().what, HasSubstr("overflow"));
  const ListNode sizes{1, {}, {{chunk(1), 1, UINT64_MAX}, {chunk(2), 1, 1}}};
  EXPECT_THAT(decode_list(encode_list(sizes)).error().what, HasSubstr("overflow"));
}

TEST(Node, boundary_message_is_the_labelled_transcript) {
  node::Boundary boundary(kTreeKey);
  int cuts = 0;
  for (int i = 0; i < 3000; ++i) {
    const std::string name = std::to_string(i);
    for (const std::uint8_t level : {std::uint8_t{0}, std::uint8_t{2}}) {
      Transcript t(purpose::tree_boundary);
      t.number(level).text("some/dir").text(name);
      const std::uint64_t fanout = level == 0 ? 12 : 64;
      const bool cut = siphash(kTreeKey, t.span()) <= UINT64_MAX / fanout;
      EXPECT_EQ(boundary.tree(level, "some/dir", name), cut);
      cuts += cut ? 1 : 0;
    }
    const std::uint8_t level = 1;
    Transcript t(purpose::list_boundary);
    const ChunkId id = chunk(static_cast<std::uint64_t>(i));
    t.number(level).field(id.bytes);
    EXPECT_EQ(boundary.list(level, id), siphash(kTreeKey, t.span()) <= UINT64_MAX / 128);
  }
  EXPECT_NEAR(cuts, 3000 / 12 + 3000 / 64, 60);
}

// ---- building and reading

TEST(Tree, empty_tree_is_one_empty_leaf) {
  MemoryNodes nodes(kIdKey);
  const TreeRoot root = build(nodes, {});
  EXPECT_EQ(root.level, 0);
  EXPECT_EQ(root.entries, 0U);
  EXPECT_EQ(nodes.puts, 1U);
  EXPECT_TRUE(read_all(nodes, root).entries.empty());
  EXPECT_EQ(find_entry(nodes, root, "a").error().code, Code::not_found);
}

TEST(Tree, random_trees_read_back_as_the_map_they_were_built_from) {
  for (std::uint64_t seed = 0; seed < 300; ++seed) {
    Rng rng(seed);
    const Table table = random_table(rng, pick(rng, seed % 20 == 0 ? 500 : 40));
    MemoryNodes nodes(kIdKey);
    const TreeRoot root = build(nodes, table);
    EXPECT_EQ(root.entries, table.size());
    const Read read = read_all(nodes, root);
    ASSERT_TRUE(read.errors.empty()) << seed << " " << read.errors[0];
    ASSERT_EQ(read.entries, all(table)) << seed;
    for (int i = 0; i < 5 && !table.empty(); ++i) {
      const auto at = std::next(table.begin(), static_cast<long>(pick(rng, table.size())));
      const auto found = find_entry(nodes, root, at->second.path());
      ASSERT_TRUE(found) << found.error().what;
      EXPECT_EQ(*found, at->second);
      EXPECT_FALSE(find_entry(nodes, root, at->second.path() + "~"));
    }
  }
}

TEST(Tree, every_node_is_put_once_and_used) {
  MemoryNodes nodes(kIdKey);
  const TreeRoot root = build(nodes, plain_table(100, 50));
  EXPECT_GE(root.level, 2);
  EXPECT_EQ(nodes.puts, nodes.nodes.size());
  read_all(nodes, root);
  EXPECT_EQ(nodes.reads, nodes.nodes.size());
}

TEST(Tree, seek_gives_the_first_key_not_below_and_reads_one_node_a_level) {
  MemoryNodes nodes(kIdKey);
  const Table table = plain_table(40, 30);
  const TreeRoot root = build(nodes, table);
  Rng rng(3);
  TreeCursor cursor(nodes, root);
  for (int i = 0; i < 100; ++i) {
    const auto at = std::next(table.begin(), static_cast<long>(pick(rng, table.size())));
    const bool exact = i % 2 == 0;
    nodes.reads = 0;
    ASSERT_TRUE(cursor.seek(at->first.first, at->first.second + (exact ? "" : "+")));
    EXPECT_LE(nodes.reads, root.level + 2U);  // a leaf more where the key lies between two leaves
    auto want = exact ? at : std::next(at);
    for (int n = 0; n < 30; ++n) {
      const auto got = cursor.next();
      ASSERT_TRUE(got) << got.error().what;
      if (want == table.end()) {
        ASSERT_EQ(*got, nullptr);
        break;
      }
      ASSERT_NE(*got, nullptr);
      ASSERT_EQ(**got, want->second);
      ++want;
    }
  }
  ASSERT_TRUE(cursor.seek("zzz", "z"));
  EXPECT_EQ(*cursor.next(), nullptr);
  ASSERT_TRUE(cursor.seek("", ""));
  EXPECT_EQ(drain(cursor).entries.size(), table.size());
}

TEST(Tree, skip_directory_leaves_out_the_rest_of_its_subtree_and_reads_little) {
  MemoryNodes nodes(kIdKey);
  Table table = plain_table(3, 2);
  put(table, dir("dir00001/sub"));
  for (int i = 0; i < 5000; ++i) put(table, file(fmt::format("dir00001/sub/{:05}", i)));
  const TreeRoot root = build(nodes, table);
  TreeCursor cursor(nodes, root);
  std::vector<std::string> given;
  for (;;) {
    const auto e = cursor.next();
    ASSERT_TRUE(e) << e.error().what;
    if (*e == nullptr) break;
    given.push_back((*e)->path());
    if ((*e)->directory == "dir00001") {
      ASSERT_TRUE(cursor.skip_directory("dir00001"));
    }
  }
  EXPECT_THAT(given, ::testing::ElementsAre("dir00000", "dir00001", "dir00002", "dir00000/file0000",
                                            "dir00000/file0001", "dir00001/file0000",
                                            "dir00002/file0000", "dir00002/file0001"));
  EXPECT_LT(nodes.reads, 20U);
  TreeCursor before(nodes, root);
  for (int i = 0; i < 5; ++i) ASSERT_TRUE(before.next());
  ASSERT_TRUE(before.skip_directory("dir00001"));  // it stands directly before it
  EXPECT_EQ((*before.next())->path(), "dir00002/file0000");
  TreeCursor elsewhere(nodes, root);
  ASSERT_TRUE(elsewhere.next());
  ASSERT_TRUE(elsewhere.skip_directory("dir00002"));
  EXPECT_EQ((*elsewhere.next())->path(), "dir00001");
}

TEST(Tree, skip_directory_equals_the_oracle_on_random_trees) {
  for (std::uint64_t seed = 0; seed < 60; ++seed) {
    Rng rng(seed);
    const Table table = random_table(rng, 120);
    MemoryNodes nodes(kIdKey);
    const TreeRoot root = build(nodes, table);
    TreeCursor cursor(nodes, root);
    for (auto it = table.begin(); it != table.end();) {
      const auto e = cursor.next();
      ASSERT_TRUE(e) << e.error().what;
      ASSERT_NE(*e, nullptr);
      ASSERT_EQ(**e, it->second) << seed;
      const std::string d = it->first.first;
      ++it;
      if (d.empty() || pick(rng, 4) != 0) continue;
      ASSERT_TRUE(cursor.skip_directory(d));
      while (it != table.end() && (it->first.first == d || it->first.first.starts_with(d + "/")))
        ++it;
    }
    EXPECT_EQ(*cursor.next(), nullptr);
  }
}

TEST(Tree, builder_refuses_bad_order_names_limits_and_says_which_entry) {
  const auto refused = [](std::vector<Entry> entries, const char* what) {
    MemoryNodes nodes(kIdKey);
    TreeBuilder builder(nodes, kTreeKey);
    for (std::size_t i = 0; i + 1 < entries.size(); ++i) ASSERT_TRUE(builder.add(entries[i]));
    const auto bad = builder.add(entries.back());
    ASSERT_FALSE(bad);
    EXPECT_EQ(bad.error().code, Code::invalid);
    EXPECT_THAT(bad.error().what, HasSubstr(what));
    EXPECT_THAT(bad.error().what, HasSubstr(escaped(entries.back().path()).substr(0, 100)));
  };
  refused({file("b"), file("a")}, "not behind");
  refused({file("a"), file("a")}, "not behind");
  refused({file("a!/x"), file("a/x")}, "not behind");
  refused({file("..")}, "names a directory above");
  refused({file("a/../b")}, "names a directory above");
  refused({file(std::string(256, 'n'))}, "255");
  std::string deep = "d";  // 10^5 directories: the limit on paths holds (DOS-02)
  for (int i = 0; i < 100'000; ++i) deep += "/d";
  refused({file(deep)}, "4096");
  Entry e = file("a");
  e.size = 101;
  refused({e}, "size");
  e = file("a");
  e.content.items.assign(65, {1, chunk(1)});
  e.size = 65;
  refused({e}, "64 pieces");
  e = dir("a");
  e.xattrs = {{"user.b", ""}, {"user.a", ""}};
  refused({e}, "ascending");
  e = file("a");
  e.mtime.nanoseconds = 1'000'000'000;
  refused({e}, "nanoseconds");
}

TEST(Tree, entries_at_their_limits_pass) {
  Table table;
  put(table, dir("d"));
  Entry e = file("d/" + std::string(255, 'n'));
  for (int i = 0; i < 3; ++i)
    e.xattrs.push_back({fmt::format("user.{}", i), std::string(kXattrValueMax, 'x')});
  put(table, e);
  for (int i = 0; i < 40; ++i) {  // several of these do not fit one node
    Entry big = file(fmt::format("d/big{:02}", i));
    big.xattrs = {{"user.x", std::string(9000, 'x')}};
    put(table, big);
  }
  std::string path(255, 'p');  // 16 components: 4095 bytes
  for (int i = 0; i < 15; ++i) {
    put(table, dir(path));
    path += "/" + std::string(255, 'p');
  }
  path += "/";
  path.resize(4095);
  put(table, file(path));
  MemoryNodes nodes(kIdKey);
  const TreeRoot root = build(nodes, table);
  const Read read = read_all(nodes, root);
  EXPECT_TRUE(read.errors.empty());
  EXPECT_EQ(read.entries, all(table));
  for (const auto& [key, bytes] : nodes.nodes)
    if (bytes.size() > 65536) {
      EXPECT_EQ(decode_leaf(bytes)->entries.size(), 1U);
    }
}

TEST(Tree, one_change_touches_one_leaf_and_the_nodes_above_it) {
  MemoryNodes nodes(kIdKey);
  Table table = plain_table(50, 40);
  const TreeRoot root = build(nodes, table);
  Rng rng(5);
  for (int round = 0; round < 12; ++round) {
    Table edited = table;
    const auto at = std::next(edited.begin(), static_cast<long>(pick(rng, edited.size())));
    const int kind = round % 3;
    if (kind == 0) at->second.mtime.seconds += 1;
    if (kind == 1 && at->second.type == EntryType::file) edited.erase(at);
    if (kind == 2) put(edited, file(at->second.path() + "+"));
    std::set<std::pair<ChunkType, ChunkId>> before;
    for (const auto& [key, bytes] : nodes.nodes) before.insert(key);
    build(nodes, edited);
    // A removed boundary joins two nodes, an added one splits one: at most two new nodes a level.
    EXPECT_LE(nodes.nodes.size() - before.size(), 2U * (root.level + 1U)) << round;
  }
}

TEST(Tree, root_depends_on_the_entries_alone) {
  Rng rng(11);
  const Table end = random_table(rng, 500);
  MemoryNodes one(kIdKey), two(kIdKey);
  const TreeRoot root = build(one, end);
  Table way = end;
  for (int i = 0; i < 100; ++i) put(way, file(fmt::format("more{}", i)));
  build(two, way);  // another history
  EXPECT_EQ(build(two, end), root);
}

// ---- differences

using Change = std::pair<std::optional<Entry>, std::optional<Entry>>;
std::vector<Change> naive_diff(const Table& a, const Table& b) {
  std::map<KeyLess::Key, Change, KeyLess> merged;
  for (const auto& [key, e] : a) merged[key].first = e;
  for (const auto& [key, e] : b) merged[key].second = e;
  std::vector<Change> out;
  for (const auto& [key, change] : merged)
    if (change.first != change.second) out.push_back(change);
  return out;
}
std::vector<Change> tree_diff(NodeSource& source, const TreeRoot& a, const TreeRoot& b) {
  std::vector<Change> out;
  const auto ok =
      diff_trees(source, a, b, [&](const Entry* before, const Entry* after) -> Result<> {
        Change change;
        if (before != nullptr) change.first = *before;
        if (after != nullptr) change.second = *after;
        out.push_back(std::move(change));
        return {};
      });
  EXPECT_TRUE(ok) << ok.error().what;
  return out;
}
void edit(Rng& rng, Table& table) {
  const auto at = std::next(table.begin(), static_cast<long>(pick(rng, table.size())));
  switch (pick(rng, 4)) {
    case 0:
      table.erase(at);
      break;
    case 1:
      at->second.inode ^= 1;
      break;
    case 2:
      put(table, file(at->second.path() + "a"));
      break;
    default:  // a whole range goes
      table.erase(
          at, std::next(at, static_cast<long>(pick(rng, 1 + static_cast<std::uint64_t>(
                                                                std::distance(at, table.end()))))));
  }
}

TEST(Tree, differences_are_those_of_the_oracle) {
  for (std::uint64_t seed = 0; seed < 200; ++seed) {
    Rng rng(seed);
    const Table a = random_table(rng, 1 + pick(rng, 120));
    Table b = a;
    for (std::uint64_t n = pick(rng, 6); n > 0 && !b.empty(); --n) edit(rng, b);
    MemoryNodes nodes(kIdKey);
    const TreeRoot root_a = build(nodes, a), root_b = build(nodes, b);
    ASSERT_EQ(tree_diff(nodes, root_a, root_b), naive_diff(a, b)) << seed;
    ASSERT_EQ(tree_diff(nodes, root_b, root_a), naive_diff(b, a)) << seed;
  }
}

TEST(Tree, difference_reads_what_changed_and_the_way_to_it) {
  MemoryNodes nodes(kIdKey);
  const Table a = plain_table(100, 40);
  const TreeRoot root_a = build(nodes, a);
  EXPECT_TRUE(tree_diff(nodes, root_a, root_a).empty());
  EXPECT_EQ(nodes.reads, 0U);
  Rng rng(2);
  for (const std::uint64_t changes : {1U, 3U, 10U}) {
    Table b = a;
    for (std::uint64_t n = 0; n < changes; ++n) {
      const auto at = std::next(b.begin(), static_cast<long>(pick(rng, b.size())));
      if (n % 2 == 0) at->second.mtime.seconds += 5;
      if (n % 2 != 0) put(b, file(at->second.path() + "x"));
    }
    const TreeRoot root_b = build(nodes, b);
    nodes.reads = 0;
    EXPECT_EQ(tree_diff(nodes, root_a, root_b), naive_diff(a, b));
    // Each change: a node a level on each side, one more leaf where a boundary came or went.
    EXPECT_LE(nodes.reads, changes * (2U * (root_a.level + 1U) + 2)) << changes;
  }
}

TEST(Tree, difference_between_trees_of_other_heights_skips_what_is_the_same) {
  MemoryNodes nodes(kIdKey);
  Table big = plain_table(100, 40);
  Table small;
  for (const auto& [key, e] : big)
    if (key.first == "dir00000" || key.second == "dir00000") put(small, e);
  const TreeRoot root_big = build(nodes, big), root_small = build(nodes, small);
  ASSERT_LT(root_small.level, root_big.level);
  EXPECT_EQ(tree_diff(nodes, root_small, root_big), naive_diff(small, big));
}

// ---- damage and lies

TEST(Tree, a_damaged_leaf_costs_its_own_entries) {
  MemoryNodes nodes(kIdKey);
  const Table table = plain_table(12, 20);
  const TreeRoot root = build(nodes, table);
  std::vector<std::pair<ChunkType, ChunkId>> keys;
  for (const auto& [key, bytes] : nodes.nodes)
    if (key.first == ChunkType::leaf) keys.push_back(key);
  for (const auto& key : keys) {
    const Bytes saved = nodes.nodes.at(key);
    const auto lost = decode_leaf(saved)->entries;
    std::vector<Entry> want;
    for (const auto& [k, e] : table)
      if (std::ranges::find(lost, e) == lost.end()) want.push_back(e);
    nodes.nodes.erase(key);
    Read read = read_all(nodes, root);
    ASSERT_EQ(read.errors.size(), 1U);
    EXPECT_THAT(read.errors[0], HasSubstr(key.second.brief()));
    ASSERT_EQ(read.entries, want);
    nodes.replace(key.first, key.second, Bytes(3));
    read = read_all(nodes, root);
    ASSERT_EQ(read.errors.size(), 1U);
    ASSERT_EQ(read.entries, want);
    nodes.replace(key.first, key.second, saved);
  }
}

TEST(Tree, a_damaged_inner_node_costs_what_is_below_and_a_damaged_root_all) {
  MemoryNodes nodes(kIdKey);
  const TreeRoot root = build(nodes, plain_table(100, 50));
  const auto root_node = decode_inner(nodes.nodes.at({ChunkType::inner, root.id}));
  ASSERT_TRUE(root_node);
  const auto& child = root_node->children[1];
  ASSERT_GE(root.level, 2);
  nodes.nodes.erase({ChunkType::inner, child.id});
  const Read read = read_all(nodes, root);
  EXPECT_EQ(read.errors.size(), 1U);
  EXPECT_EQ(read.entries.size(), root.entries - child.entries);
  nodes.nodes.erase({ChunkType::inner, root.id});
  const Read none = read_all(nodes, root);
  EXPECT_EQ(none.errors.size(), 1U);
  EXPECT_TRUE(none.entries.empty());
}

class Flaky final : public NodeSource {
 public:
  explicit Flaky(NodeSource& base) : base_(base) {}
  Result<Bytes> get(const ChunkId& id, ChunkType type) override {
    if (++calls_ % 2 != 0) return fail(Code::unavailable, "no answer");
    return base_.get(id, type);
  }

 private:
  NodeSource& base_;
  int calls_ = 0;
};

TEST(Tree, a_store_that_does_not_answer_is_not_damage_and_can_be_asked_again) {
  MemoryNodes nodes(kIdKey);
  const Table table = plain_table(20, 20);
  const TreeRoot root = build(nodes, table);
  Flaky flaky(nodes);
  TreeCursor cursor(flaky, root);
  std::vector<Entry> got;
  for (;;) {
    const auto e = cursor.next();
    if (!e) {
      ASSERT_EQ(e.error().code, Code::unavailable);
      continue;
    }
    if (*e == nullptr) break;
    got.push_back(**e);
  }
  EXPECT_EQ(got, all(table));
  EXPECT_EQ(cursor.errors(), 0U);
}

TEST(Tree, RST_01_hostile_names_are_refused_by_name_and_the_others_are_read) {
  const std::vector<std::string> hostile{"",    ".",         "..",  std::string("n\0l", 3),
                                         "a/b", "../escape", "/abs"};
  for (const std::string& name : hostile) {
    LeafNode leaf{{dir("!"), file("zz")}};
    Entry bad = file("x");
    bad.name = name;
    leaf.entries.push_back(bad);
    std::ranges::sort(leaf.entries, {}, &Entry::name);
    const Bytes bytes = encode_leaf(leaf);
    EXPECT_FALSE(decode_leaf(bytes)) << escaped(name);
    MemoryNodes nodes(kIdKey);
    const TreeRoot root{*nodes.put(ChunkType::leaf, bytes), 0, 3};
    const Read read = read_all(nodes, root);
    EXPECT_THAT(paths(read.entries), ::testing::ElementsAre("!", "zz")) << escaped(name);
    ASSERT_EQ(read.errors.size(), 1U);
    EXPECT_THAT(read.errors[0], HasSubstr("\"" + escaped(name) + "\""));
    EXPECT_THAT(read.errors[0], HasSubstr("refused"));
    std::vector<std::string> walked, damaged;
    ASSERT_TRUE(walk_tree(nodes, root,
                          {{},
                           {},
                           [&](const Entry& e) -> Result<> {
                             walked.push_back(e.path());
                             return {};
                           },
                           [&](const ChunkId&, const Error& e, std::string_view, std::string_view) {
                             damaged.push_back(e.what);
                           }}));
    EXPECT_EQ(walked.size(), 2U);
    EXPECT_EQ(damaged.size(), 1U);
  }
}

TEST(Tree, RST_01_hostile_directories_are_refused) {
  for (const std::string directory : {"..", "a/../b", "/abs", "a//b", "a/", "."}) {
    Entry bad = file("x");
    bad.directory = directory;
    MemoryNodes nodes(kIdKey);
    const LeafNode leaf{{dir("a"), file("zz"), bad}};
    const TreeRoot root{*nodes.put(ChunkType::leaf, encode_leaf(leaf)), 0, 3};
    const Read read = read_all(nodes, root);
    EXPECT_THAT(paths(read.entries), ::testing::ElementsAre("a", "zz"));
    ASSERT_EQ(read.errors.size(), 1U) << directory;
    EXPECT_THAT(read.errors[0], HasSubstr(directory));
  }
}

TEST(Tree, RST_02_entry_below_a_symlink_a_file_or_nothing_is_refused) {
  Entry link = entry_at("d", EntryType::symlink);
  link.link_target = "/outside";
  const std::vector<std::vector<Entry>> hostile{
      {link, file("e"), file("d/passwd")},
      {file("d"), file("e"), file("d/passwd")},
      {file("e"), file("d/passwd")},                // "d" is not there at all
      {link, file("e"), dir("d/s"), file("d/s/x")}  // below that too
  };
  for (const auto& entries : hostile) {
    MemoryNodes nodes(kIdKey);
    const TreeRoot root{*nodes.put(ChunkType::leaf, encode_leaf({entries})), 0, entries.size()};
    const Read read = read_all(nodes, root);
    for (const Entry& e : read.entries) EXPECT_EQ(e.directory, "");
    ASSERT_FALSE(read.errors.empty());
    EXPECT_THAT(read.errors[0], HasSubstr("d/"));
    // Found directly too: by a cursor that did not see what came before.
    const auto found = find_entry(nodes, root, entries.back().path());
    ASSERT_FALSE(found);
    EXPECT_EQ(found.error().code, Code::corrupt);
    EXPECT_THAT(found.error().what, HasSubstr(entries.back().path()));
  }
}

TEST(Tree, RST_02_a_hostile_name_before_a_symlink_does_not_hide_it) {
  Entry link = entry_at("d", EntryType::symlink);
  link.link_target = "/outside";
  MemoryNodes nodes(kIdKey);
  Entry up = dir("up");
  up.name = "..";
  const LeafNode leaf{{up, link, file("d/passwd")}};
  const TreeRoot root{*nodes.put(ChunkType::leaf, encode_leaf(leaf)), 0, 3};
  const Read read = read_all(nodes, root);
  EXPECT_THAT(paths(read.entries), ::testing::ElementsAre("d"));
  ASSERT_EQ(read.errors.size(), 2U);
  EXPECT_THAT(read.errors[1], HasSubstr("d/passwd"));
}

TEST(Tree, RST_02_directories_are_checked_also_where_more_wait_than_are_remembered) {
  Table table;
  const std::string base(240, 'n');
  for (int i = 0; i < 12000; ++i) put(table, dir(fmt::format("{}{:05}", base, i)));
  for (const int i : {1, 5000, 11998}) put(table, file(fmt::format("{}{:05}/file", base, i)));
  put(table, file("o/lost"));
  MemoryNodes nodes(kIdKey);
  const TreeRoot root = build(nodes, table);
  const Read read = read_all(nodes, root);
  EXPECT_EQ(read.entries.size(), table.size() - 1);
  ASSERT_EQ(read.errors.size(), 1U);
  EXPECT_THAT(read.errors[0], HasSubstr("o/lost"));
}

TEST(Tree, RST_10_doubles_and_disorder_are_refused_at_parse) {
  const std::vector<std::vector<Entry>> hostile{
      {file("a", 1), file("a", 2)}, {file("b"), file("a")}, {dir("a"), file("a/x"), file("b")}};
  for (const auto& entries : hostile) {
    const Bytes bytes = encode_leaf({entries});
    EXPECT_THAT(decode_leaf(bytes).error().what, HasSubstr("not behind the key before"));
    MemoryNodes nodes(kIdKey);
    const TreeRoot root{*nodes.put(ChunkType::leaf, bytes), 0, entries.size()};
    EXPECT_EQ(read_all(nodes, root).errors.size(), 1U);
  }
  // Across leaves: the second repeats the last of the first.
  MemoryNodes nodes(kIdKey);
  const ChunkId one = *nodes.put(ChunkType::leaf, encode_leaf({{file("a"), file("b")}}));
  const ChunkId two = *nodes.put(ChunkType::leaf, encode_leaf({{file("b", 2), file("c")}}));
  const InnerNode inner{1, {{"", "b", one, 2}, {"", "c", two, 2}}};
  const TreeRoot root{*nodes.put(ChunkType::inner, encode_inner(inner)), 1, 4};
  const Read read = read_all(nodes, root);
  EXPECT_THAT(paths(read.entries), ::testing::ElementsAre("a", "b"));
  ASSERT_EQ(read.errors.size(), 1U);
  EXPECT_THAT(read.errors[0], HasSubstr("not behind the keys before"));
}

TEST(Tree, MET_03_nodes_that_a_source_swaps_are_refused) {
  const Table table = plain_table(10, 20);
  MemoryNodes nodes(kIdKey);
  const TreeRoot root = build(nodes, table);
  std::vector<std::pair<ChunkType, ChunkId>> leaves;
  for (const auto& [key, bytes] : nodes.nodes)
    if (key.first == ChunkType::leaf) leaves.push_back(key);
  for (std::size_t i = 1; i < leaves.size(); ++i) {
    const auto one = leaves[0], two = leaves[i];
    const Bytes a = nodes.nodes.at(one), b = nodes.nodes.at(two);
    const auto lost = decode_leaf(a)->entries.size() + decode_leaf(b)->entries.size();
    nodes.replace(one.first, one.second, b);
    nodes.replace(two.first, two.second, a);
    const Read read = read_all(nodes, root);
    EXPECT_EQ(read.errors.size(), 2U);
    EXPECT_EQ(read.entries.size(), table.size() - lost);
    for (const Entry& e : read.entries) EXPECT_EQ(e, table.at({e.directory, e.name}));
    nodes.replace(one.first, one.second, a);
    nodes.replace(two.first, two.second, b);
  }
}

TEST(Tree, MET_03_a_record_moved_to_another_leaf_or_from_another_snapshot_is_refused) {
  Table table = plain_table(20, 40);
  MemoryNodes nodes(kIdKey);
  const TreeRoot root = build(nodes, table);
  const auto inner = decode_inner(nodes.nodes.at({ChunkType::inner, root.id}));
  ASSERT_TRUE(inner);
  const auto& c = inner->children[0];
  const ChunkType type = root.level == 1 ? ChunkType::leaf : ChunkType::inner;
  const auto other_level = TreeRoot{c.id, static_cast<std::uint8_t>(root.level), c.entries};
  EXPECT_EQ(read_all(nodes, other_level).errors.size(), 1U);  // not of the level that is said
  // The node of another snapshot, with one entry more, under this snapshot's id.
  put(table, file("dir00000+"));
  const TreeRoot later = build(nodes, table);
  const auto later_inner = decode_inner(nodes.nodes.at({ChunkType::inner, later.id}));
  nodes.replace(type, c.id, nodes.nodes.at({type, later_inner->children[0].id}));
  const Read read = read_all(nodes, root);
  EXPECT_EQ(read.errors.size(), 1U);
}

// ---- bombs

TEST(Tree, DOS_02_equal_children_nested_twelve_levels_end_in_linear_time) {
  for (const bool distinct_keys : {false, true}) {
    MemoryNodes nodes(kIdKey);
    LeafNode leaf;
    for (int i = 0; i < 10; ++i) leaf.entries.push_back(file(fmt::format("{}", i)));
    ChunkId below = *nodes.put(ChunkType::leaf, encode_leaf(leaf));
    std::uint64_t entries = 10;
    for (std::uint8_t level = 1; level <= 12; ++level) {
      InnerNode inner{level, {}};
      for (int i = 0; i < 10; ++i)
        inner.children.push_back(
            {"",
             distinct_keys ? fmt::format("9{}", std::string(static_cast<std::size_t>(i), 'x'))
                           : "9",
             below, entries});
      below = *nodes.put(ChunkType::inner, encode_inner(inner));
      entries *= 10;
    }
    const TreeRoot root{below, 12, entries};
    nodes.reads = 0;
    EXPECT_FALSE(read_all(nodes, root).errors.empty());
    EXPECT_LT(nodes.reads, 200U);
    nodes.reads = 0;
    EXPECT_FALSE(diff_trees(nodes, root, build(nodes, {}),
                            [](const Entry*, const Entry*) -> Result<> { return {}; }));
    EXPECT_FALSE(find_entry(nodes, root, "5/x"));
    std::uint64_t damaged = 0;
    const auto count = [&](const ChunkId&, const Error&, std::string_view, std::string_view) {
      ++damaged;
    };
    ASSERT_TRUE(walk_tree(nodes, root, {{}, {}, {}, count}));
    EXPECT_GT(damaged, 0U);
    EXPECT_LT(nodes.reads, 500U);
  }
}

// ---- reachability

TEST(Tree, walk_tree_meets_every_node_chunk_and_entry_once) {
  MemoryNodes nodes(kIdKey);
  Table table = plain_table(30, 30);
  ListBuilder lists(nodes, kTreeKey);
  for (std::uint64_t i = 0; i < 5000; ++i) ASSERT_TRUE(lists.add({1000, chunk(1'000'000 + i)}));
  Entry big = file("dir00003/big");
  big.content = *lists.finish();
  big.size = 5'000'000;
  ASSERT_TRUE(big.content.root);
  put(table, big);
  const TreeRoot root = build(nodes, table);
  std::set<ChunkId> met, data;
  std::uint64_t entries = 0;
  TreeUse use;
  use.node = [&](const ChunkId& id, ChunkType type) -> Result<> {
    EXPECT_TRUE(met.insert(id).second);
    if (type == ChunkType::data) data.insert(id);
    return {};
  };
  use.entry = [&](const Entry&) -> Result<> {
    ++entries;
    return {};
  };
  ASSERT_TRUE(walk_tree(nodes, root, use));
  EXPECT_EQ(entries, table.size());
  EXPECT_EQ(data.size(), 5000U + 900U);
  EXPECT_EQ(met.size(), data.size() + nodes.nodes.size());
  // A second snapshot with `seen`: only what is new.
  put(table, file("dir00003/more", 77'777));
  const TreeRoot later = build(nodes, table);
  std::uint64_t fresh = 0;
  TreeUse again;
  again.seen = [&](const ChunkId& id) { return met.contains(id); };
  again.node = [&](const ChunkId& id, ChunkType) -> Result<> {
    EXPECT_FALSE(met.contains(id));
    ++fresh;
    return {};
  };
  nodes.reads = 0;
  ASSERT_TRUE(walk_tree(nodes, later, again));
  EXPECT_LE(fresh, 2U * (later.level + 1U) + 1);
  EXPECT_LE(nodes.reads, fresh);
}

TEST(Tree, walk_tree_tells_damage_with_what_it_touches_and_goes_on) {
  MemoryNodes nodes(kIdKey);
  Table table = plain_table(30, 30);
  ListBuilder lists(nodes, kTreeKey);
  for (std::uint64_t i = 0; i < 100; ++i) ASSERT_TRUE(lists.add({1000, chunk(i)}));
  Entry big = file("dir00003/big");
  big.content = *lists.finish();
  big.size = 100'000;
  put(table, big);
  const TreeRoot root = build(nodes, table);
  nodes.nodes.erase({ChunkType::list, big.content.root->id});
  const auto leaf = std::ranges::find_if(nodes.nodes, [&](const auto& n) {
    if (n.first.first != ChunkType::leaf) return false;
    const auto entries = decode_leaf(n.second)->entries;
    return std::ranges::find(entries, big) == entries.end();
  });
  const auto lost = decode_leaf(leaf->second)->entries;
  const ChunkId lost_id = leaf->first.second;
  nodes.nodes.erase(leaf);
  std::map<ChunkId, std::string> damaged;
  std::uint64_t entries = 0;
  TreeUse use;
  use.entry = [&](const Entry&) -> Result<> {
    ++entries;
    return {};
  };
  EXPECT_EQ(walk_tree(nodes, root, use).error().code, Code::corrupt);  // nobody takes the damage
  entries = 0;
  use.damaged = [&](const ChunkId& id, const Error&, std::string_view, std::string_view last) {
    damaged[id] = last;
  };
  ASSERT_TRUE(walk_tree(nodes, root, use));
  EXPECT_EQ(entries, table.size() - lost.size());
  ASSERT_EQ(damaged.size(), 2U);
  EXPECT_EQ(damaged[lost_id], lost.back().path());
  EXPECT_EQ(damaged[big.content.root->id], "dir00003/big");
}

// ---- vectors

// Lines "name value"; nodes as "node <type> <id> <hex>".
TEST(Tree, vectors) {
  std::ifstream in(HOLDFAST_TESTDATA "/vectors/tree.txt");
  ASSERT_TRUE(in);
  std::ostringstream made;
  MemoryNodes nodes(kIdKey);
  Table table;
  Rng rng(42);
  put(table, dir("bin"));
  Entry e = file("bin/sh", 1);
  e.mode = 0755;
  e.mtime = {1'700'000'000, 123'456'789};
  e.ctime = {1'700'000'001, 5};
  e.device = 2049;
  e.inode = 1234;
  put(table, e);
  e.name = "zsh";
  e.links = 3;
  e.inode = 1200;
  e.content.items = {{60, chunk(2)}, {40, std::nullopt}};
  put(table, e);
  put(table, dir("caf\xc3\xa9"));
  Entry link = entry_at("link", EntryType::symlink);
  link.link_target = "bin/sh";
  link.mtime.seconds = -1;
  link.xattrs = {{"security.selinux", "x"}};
  put(table, link);
  Entry null = entry_at("null", EntryType::char_device);
  null.rdev = 0x103;
  null.uid = 1000;
  put(table, null);
  put(table, entry_at("pipe", EntryType::fifo));
  Entry big = file("bin/big", 1);
  ListBuilder lists(nodes, kTreeKey);
  for (std::uint64_t i = 0; i < 70; ++i) ASSERT_TRUE(lists.add({1000 + i, chunk(100 + i)}));
  big.content = *lists.finish();
  big.size = 70 * 1000 + 69 * 35;
  big.torn = true;
  big.flags = 0x10;
  put(table, big);
  for (int i = 0; i < 24; ++i) put(table, dir(fmt::format("d{:02}", i)));
  const TreeRoot root = build(nodes, table);
  made << "id-key " << to_hex(kIdKey) << "\ntree-key " << to_hex(kTreeKey) << "\n";
  made << "root " << root.id.hex() << " level " << int{root.level} << " entries " << root.entries
       << "\n";
  for (const auto& entry : all(table)) made << "entry " << escaped(entry.path()) << "\n";
  for (const auto& [key, bytes] : nodes.nodes)
    made << "node " << static_cast<int>(key.first) << " " << key.second.hex() << " "
         << to_hex(bytes) << "\n";
  std::ostringstream want;
  for (std::string line; std::getline(in, line);)
    if (!line.starts_with("#")) want << line << "\n";
  EXPECT_EQ(made.str(), want.str()) << "made:\n" << made.str();
}

}  // namespace
}  // namespace holdfast
