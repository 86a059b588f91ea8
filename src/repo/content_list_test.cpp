// SPDX-License-Identifier: Apache-2.0
#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <random>
#include <set>

#include "repo/memory_nodes.h"
#include "repo/node_codec.h"

namespace holdfast {
namespace {

using ::testing::HasSubstr;
const Bytes kKey(32, std::byte{7});
const Bytes kTreeKey(16, std::byte{9});

ChunkId chunk(std::uint64_t n) {
  ChunkId id;
  store_le(id.bytes.data(), n * 0x9E3779B97F4A7C15U + 1);
  return id;
}
std::vector<ContentItem> items_of(std::uint64_t seed, std::size_t n) {
  std::mt19937_64 rng(seed);
  std::vector<ContentItem> out;
  for (std::size_t i = 0; i < n; ++i) {
    const std::uint64_t length = 1 + rng() % kFramePlainMax;
    out.push_back({length, rng() % 10 == 0 ? std::nullopt : std::optional(chunk(rng()))});
  }
  return out;
}
Content build(NodeSink& sink, const std::vector<ContentItem>& items) {
  ListBuilder builder(sink, kTreeKey);
  for (const auto& item : items) EXPECT_TRUE(builder.add(item));
  auto content = builder.finish();
  EXPECT_TRUE(content);
  return *content;
}
struct Got {
  std::vector<ContentItem> items;
  int errors = 0;
};
Got drain(ContentCursor& cursor) {
  Got out;
  for (;;) {
    const auto item = cursor.next();
    if (!item) {
      EXPECT_EQ(item.error().code, Code::corrupt);
      ++out.errors;
      continue;
    }
    if (!*item) return out;
    out.items.push_back(**item);
  }
}
std::uint64_t size_of(const std::vector<ContentItem>& items) {
  std::uint64_t sum = 0;
  for (const auto& item : items) sum += item.length;
  return sum;
}

TEST(ContentList, any_number_of_pieces_reads_back) {
  MemoryNodes nodes(kKey);
  for (const std::size_t n : {0U, 1U, 63U, 64U, 65U, 127U, 1000U, 5000U, 40000U}) {
    const auto items = items_of(n, n);
    const Content content = build(nodes, items);
    EXPECT_EQ(content.root.has_value(), n > kInlineItemsMax);
    if (content.root) {
      EXPECT_EQ(content.root->items, n);
    }
    ContentCursor cursor(nodes, content);
    const Got got = drain(cursor);
    EXPECT_EQ(got.items, items);
    EXPECT_TRUE(cursor.check_size(size_of(items)));
    EXPECT_FALSE(cursor.check_size(size_of(items) + 1));
  }
}

TEST(ContentList, builder_is_ready_for_the_next_file) {
  MemoryNodes nodes(kKey);
  ListBuilder builder(nodes, kTreeKey);
  for (const std::size_t n : {2000U, 3U, 70U, 0U, 2000U}) {
    const auto items = items_of(n, n);
    for (const auto& item : items) ASSERT_TRUE(builder.add(item));
    EXPECT_EQ(*builder.finish(), build(nodes, items));
  }
}

TEST(ContentList, one_changed_piece_makes_few_new_nodes) {
  MemoryNodes nodes(kKey);
  auto items = items_of(1, 20000);
  build(nodes, items);
  const std::size_t before = nodes.nodes.size();
  items.insert(items.begin() + 7777, {12345, chunk(99)});
  const Content content = build(nodes, items);
  EXPECT_LE(nodes.nodes.size() - before, 2U * (content.root->level + 1U));
}

TEST(ContentList, holes_alone_are_cut_at_the_most_that_a_node_holds) {
  MemoryNodes nodes(kKey);
  const std::vector<ContentItem> items(5000, ContentItem{4096, std::nullopt});
  const Content content = build(nodes, items);
  ContentCursor cursor(nodes, content);
  EXPECT_EQ(drain(cursor).items, items);
  for (const auto& [key, bytes] : nodes.nodes) EXPECT_LE(decode_list(bytes)->items.size(), 1024U);
}

TEST(ContentList, pieces_over_a_limit_are_refused) {
  MemoryNodes nodes(kKey);
  ListBuilder builder(nodes, kTreeKey);
  EXPECT_EQ(builder.add({0, chunk(1)}).error().code, Code::invalid);
  EXPECT_EQ(builder.add({kFramePlainMax + 1, chunk(1)}).error().code, Code::invalid);
  EXPECT_TRUE(builder.add({kFramePlainMax, chunk(1)}));
  EXPECT_TRUE(builder.add({kFramePlainMax + 1, std::nullopt}));
  EXPECT_FALSE(decode_list(encode_list({0, {}, {}})));
  EXPECT_FALSE(decode_list(encode_list({0, std::vector<ContentItem>(1025, {1, {}}), {}})));
  EXPECT_TRUE(decode_list(encode_list({0, std::vector<ContentItem>(1024, {1, {}}), {}})));
  EXPECT_FALSE(decode_list(encode_list({7, {}, {{chunk(1), 1, 1}}})));
}

TEST(ContentList, missing_node_is_told_once_and_the_rest_is_read) {
  MemoryNodes nodes(kKey);
  const auto items = items_of(3, 20000);
  const Content content = build(nodes, items);
  ASSERT_GE(content.root->level, 1);
  for (const auto& [key, bytes] : std::map(nodes.nodes)) {
    const auto node = decode_list(bytes);
    if (node->level != 0) continue;
    nodes.nodes.erase(key);
    ContentCursor cursor(nodes, content);
    const Got got = drain(cursor);
    EXPECT_EQ(got.errors, 1);
    EXPECT_EQ(got.items.size(), items.size() - node->items.size());
    EXPECT_FALSE(cursor.check_size(size_of(got.items)));
    nodes.replace(key.first, key.second, bytes);
    if (got.items.size() % 7 == 0) break;
  }
}

TEST(ContentList, MET_03_swapped_list_nodes_are_refused) {
  MemoryNodes nodes(kKey);
  const Content content = build(nodes, items_of(3, 1000));
  std::vector<std::pair<ChunkType, ChunkId>> leaves;
  for (const auto& [key, bytes] : nodes.nodes)
    if (decode_list(bytes)->level == 0) leaves.push_back(key);
  ASSERT_GE(leaves.size(), 2U);
  std::swap(nodes.nodes.at(leaves[0]), nodes.nodes.at(leaves[1]));
  ContentCursor cursor(nodes, content);
  EXPECT_EQ(drain(cursor).errors, 2);
}

TEST(ContentList, DOS_03_sums_that_are_not_those_of_the_node_are_refused) {
  MemoryNodes nodes(kKey);
  const ListNode leaf{0, {{100, chunk(1)}, {200, chunk(2)}}, {}};
  const ChunkId id = *nodes.put(ChunkType::list, encode_list(leaf));
  const auto errors = [&](std::uint64_t items, std::uint64_t bytes, std::uint8_t level) {
    const ListNode above{level, {}, {{id, items, bytes}}};
    const ChunkId root = *nodes.put(ChunkType::list, encode_list(above));
    Content content;
    content.root = ListRoot{root, level, items};
    ContentCursor cursor(nodes, content);
    return drain(cursor).errors;
  };
  EXPECT_EQ(errors(2, 300, 1), 0);
  for (const std::uint64_t huge :
       {std::uint64_t{1} << 31, std::uint64_t{0xFFFFFFFFU}, std::uint64_t{1} << 63, UINT64_MAX}) {
    EXPECT_EQ(errors(huge, 300, 1), 1);
    EXPECT_EQ(errors(2, huge, 1), 1);
  }
  EXPECT_EQ(errors(2, 300, 2), 1);  // a level is missing
}

TEST(ContentList, DOS_02_list_of_equal_children_is_walked_in_linear_time) {
  MemoryNodes nodes(kKey);
  ListNode node{0, std::vector<ContentItem>(1024, {1, chunk(1)}), {}};
  ChunkId id = *nodes.put(ChunkType::list, encode_list(node));
  std::uint64_t items = 1024;
  for (std::uint8_t level = 1; level <= 5; ++level) {
    ListNode above{level, {}, {}};
    for (int i = 0; i < 1000; ++i) above.children.push_back({id, items, items});
    id = *nodes.put(ChunkType::list, encode_list(above));
    items *= 1000;
  }
  Entry e;
  e.name = "bomb";
  e.size = items;
  e.content.root = ListRoot{id, 5, items};
  const TreeRoot root{*nodes.put(ChunkType::leaf, encode_leaf({{e}})), 0, 1};
  nodes.reads = 0;
  ASSERT_TRUE(walk_tree(nodes, root, {}));
  EXPECT_EQ(nodes.reads, 7U);
}

}  // namespace
}  // namespace holdfast
