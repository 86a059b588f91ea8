// SPDX-License-Identifier: Apache-2.0
// Writing, reading and merging trees of 300,000 entries: what a backup without changes does.
#include <benchmark/benchmark.h>
#include <fmt/format.h>

#include <unordered_map>

#include "crypto/sign.h"
#include "repo/tree.h"

namespace {

using namespace holdfast;

constexpr int kDirectories = 3000, kFiles = 99;
constexpr std::uint64_t kEntries = kDirectories * (kFiles + 1);
const Bytes kTreeKey(16, std::byte{3});
const Bytes kIdKey(32, std::byte{4});

// Hashed as in a backup, kept in memory.
class Nodes final : public NodeSource, public NodeSink {
 public:
  Result<Bytes> get(const ChunkId& id, ChunkType) override { return nodes_.at(id); }
  Result<ChunkId> put(ChunkType type, ByteSpan node) override {
    const ChunkId id = hasher_.id(type, node);
    bytes += node.size();
    if (keep) nodes_.insert_or_assign(id, Bytes(node.begin(), node.end()));
    return id;
  }
  bool keep = true;
  std::uint64_t bytes = 0;

 private:
  ChunkHasher hasher_{kIdKey};
  std::unordered_map<ChunkId, Bytes, IdHash> nodes_;
};

Entry plain(std::string directory, std::string name, EntryType type, std::uint64_t n) {
  Entry e;
  e.directory = std::move(directory);
  e.name = std::move(name);
  e.type = type;
  e.mode = 0644;
  e.uid = e.gid = 1000;
  const std::uint64_t noise = n * 0x9E3779B97F4A7C15U;
  e.mtime = {1'700'000'000 + static_cast<std::int64_t>(noise >> 44),
             static_cast<std::uint32_t>(noise % 1'000'000'000)};
  e.ctime = {e.mtime.seconds + 10, static_cast<std::uint32_t>(noise % 999'999'937)};
  e.device = 2049;
  e.inode = 1'000'000 + n;
  if (type == EntryType::file) {
    e.size = 1000 + noise % 5000;
    ChunkId id;
    store_le(id.bytes.data(), noise);
    e.content.items = {{e.size, id}};
  }
  return e;
}

std::vector<Entry> table() {
  std::vector<Entry> out;
  out.reserve(kEntries);
  std::uint64_t n = 0;
  for (int d = 0; d < kDirectories; ++d)
    out.push_back(plain("", fmt::format("project-{:05}", d), EntryType::directory, ++n));
  for (int d = 0; d < kDirectories; ++d)
    for (int f = 0; f < kFiles; ++f)
      out.push_back(plain(fmt::format("project-{:05}", d), fmt::format("source_file_{:03}.cpp", f),
                          EntryType::file, ++n));
  return out;
}

TreeRoot build(Nodes& nodes, const std::vector<Entry>& entries) {
  TreeBuilder builder(nodes, kTreeKey);
  for (const Entry& e : entries)
    if (!builder.add(e)) std::abort();
  return *builder.finish();
}

void encode(benchmark::State& state) {
  const auto entries = table();
  Nodes nodes;
  nodes.keep = false;
  for (auto _ : state) benchmark::DoNotOptimize(build(nodes, entries));
  state.counters["bytes/entry"] =
      static_cast<double>(nodes.bytes) / static_cast<double>(state.iterations() * kEntries);
  state.SetItemsProcessed(static_cast<std::int64_t>(state.iterations() * kEntries));
}

void decode(benchmark::State& state) {
  Nodes nodes;
  const TreeRoot root = build(nodes, table());
  for (auto _ : state) {
    TreeCursor cursor(nodes, root);
    std::uint64_t n = 0;
    for (auto e = cursor.next(); *e != nullptr; e = cursor.next()) n += (*e)->name.size();
    benchmark::DoNotOptimize(n);
  }
  state.SetItemsProcessed(static_cast<std::int64_t>(state.iterations() * kEntries));
}

// Two cursors of equal trees side by side, every entry compared, the result written again.
void merge(benchmark::State& state) {
  Nodes nodes;
  const TreeRoot root = build(nodes, table());
  nodes.keep = false;
  for (auto _ : state) {
    TreeCursor a(nodes, root), b(nodes, root);
    TreeBuilder builder(nodes, kTreeKey);
    for (auto x = a.next(), y = b.next(); *x != nullptr; x = a.next(), y = b.next())
      if (**x != **y || !builder.add(**x)) std::abort();
    if (*builder.finish() != root) std::abort();
  }
  state.SetItemsProcessed(static_cast<std::int64_t>(state.iterations() * kEntries));
}

BENCHMARK(encode)->Unit(benchmark::kMillisecond);
BENCHMARK(decode)->Unit(benchmark::kMillisecond);
BENCHMARK(merge)->Unit(benchmark::kMillisecond);

}  // namespace

int main(int argc, char** argv) {
  start_crypto();
  benchmark::Initialize(&argc, argv);
  benchmark::RunSpecifiedBenchmarks();
  return 0;
}
