// SPDX-License-Identifier: Apache-2.0
// index_bench [CHUNKS [FOLDER]]: an index of so many made-up chunks (default 1,000,000) in FOLDER
// (default /tmp/hf-index, removed at the end); prints what building and looking up cost, and the
// memory that is not page cache. What FOLDER has already is kept (a run that was cut short goes
// on).
#include <fmt/format.h>

#include <chrono>
#include <cstdio>
#include <cstdlib>
#include <ctime>
#include <filesystem>
#include <fstream>

#include "crypto/sign.h"
#include "fs/posix_folder.h"
#include "repo/index.h"

namespace holdfast {
namespace {

constexpr std::uint64_t kChunksInPack = 256;  // 16 MiB of 64 KiB chunks
constexpr std::uint64_t kLookups = 500'000;

std::uint64_t mix(std::uint64_t z) {  // splitmix64
  z += 0x9E3779B97F4A7C15U;
  z = (z ^ (z >> 30)) * 0xBF58476D1CE4E5B9U;
  z = (z ^ (z >> 27)) * 0x94D049BB133111EBU;
  return z ^ (z >> 31);
}

template <class T>
T made_up(std::uint64_t n, std::uint64_t kind) {
  T id;
  for (std::size_t i = 0; i < T::size; i += 8)
    store_le(id.bytes.data() + i, mix(n * 8 + i / 8 + (kind << 56)));
  return id;
}
ChunkId chunk(std::uint64_t n) { return made_up<ChunkId>(n, 1); }

PackTable pack(std::uint64_t number, std::uint64_t chunks) {
  PackTable table;
  table.pack = made_up<ObjectHash>(number, 2);
  for (std::uint64_t i = 0; i < kChunksInPack && number * kChunksInPack + i < chunks; ++i)
    table.chunks.push_back({chunk(number * kChunksInPack + i), 65536, ChunkType::data});
  for (std::uint32_t at = 0; at < table.chunks.size(); at += 16)
    table.frames.push_back(
        {0, 0, 0, Method::raw, at,
         std::min<std::uint32_t>(16, static_cast<std::uint32_t>(table.chunks.size()) - at)});
  return table;
}

std::string memory() {
  std::ifstream status("/proc/self/status");
  std::string out;
  for (std::string line; std::getline(status, line);)
    for (const char* field : {"VmHWM", "RssAnon", "RssFile"})
      if (line.starts_with(field)) {
        std::erase(line, '\t');
        out += "  " + line;
      }
  return out;
}

// Processor time beside wall time: other programs may be running.
class Watch {
 public:
  [[nodiscard]] double wall_s() const {
    return std::chrono::duration<double>(std::chrono::steady_clock::now() - wall_).count();
  }
  [[nodiscard]] double cpu_s() const {
    return static_cast<double>(std::clock() - cpu_) / CLOCKS_PER_SEC;
  }

 private:
  const std::chrono::steady_clock::time_point wall_ = std::chrono::steady_clock::now();
  const std::clock_t cpu_ = std::clock();
};

std::uint64_t file_bytes(const std::string& path, std::size_t& files) {
  std::uint64_t bytes = 0;
  for (const auto& entry : std::filesystem::directory_iterator(path)) {
    bytes += entry.file_size();
    files += entry.path().extension() == ".seg" ? 1 : 0;
  }
  return bytes;
}

[[noreturn]] void give_up(const Error& error) {
  fmt::print(stderr, "index_bench: {}\n", error.what);
  std::exit(1);
}

std::unique_ptr<Index> open(LocalFolder& folder) {
  auto index = Index::open(folder, RepositoryId{}, IndexLimits{});
  if (!index) give_up(index.error());
  return std::move(*index);
}

void build(LocalFolder& folder, std::uint64_t chunks) {
  const auto index = open(folder);
  const Watch watch;
  for (std::uint64_t p = 0; p * kChunksInPack < chunks; ++p) {
    if (index->has_pack(made_up<ObjectHash>(p, 2))) continue;
    if (auto added = index->add(pack(p, chunks)); !added) give_up(added.error());
  }
  if (auto flushed = index->flush(); !flushed) give_up(flushed.error());
  fmt::print("build: {:.1f} s, {:.1f} CPU s,{}\n", watch.wall_s(), watch.cpu_s(), memory());
}

void look_up(Index& index, std::string_view what, std::uint64_t from, std::uint64_t range) {
  std::uint64_t found = 0;
  const Watch watch;
  for (std::uint64_t i = 0; i < kLookups; ++i)
    found += index.contains(chunk(from + mix(i + from) % range)) ? 1 : 0;
  const double lookups = static_cast<double>(kLookups);
  const double cpu_s = watch.cpu_s();
  fmt::print("{}: {:.0f} ns, {:.0f} CPU ns a lookup, {:.2f} million a CPU second; {} of {} found\n",
             what, watch.wall_s() * 1e9 / lookups, cpu_s * 1e9 / lookups, lookups / cpu_s / 1e6,
             found, kLookups);
}

int run(std::uint64_t chunks, const std::string& path) {
  const auto folder = PosixFolder::make(path);
  if (!folder) give_up(folder.error());
  build(**folder, chunks);
  std::size_t files = 0;
  const std::uint64_t bytes = file_bytes(path, files);
  fmt::print("files: {} segments, {} bytes, {:.1f} a chunk\n", files, bytes,
             static_cast<double>(bytes) / static_cast<double>(chunks));
  const Watch watch;
  const auto index = open(**folder);
  fmt::print("open: {:.1f} ms, {} chunks,{}\n", watch.wall_s() * 1e3, index->chunk_count(),
             memory());
  look_up(*index, "miss, first round", chunks + 1, chunks);
  look_up(*index, "miss", chunks + 2, chunks);
  look_up(*index, "hit, first round", 0, chunks);
  look_up(*index, "hit", 0, chunks);
  fmt::print("at the end:{}\n", memory());
  std::filesystem::remove_all(path);
  return 0;
}

}  // namespace
}  // namespace holdfast

int main(int argc, char** argv) {
  holdfast::start_crypto();
  std::setvbuf(stdout, nullptr, _IOLBF, 0);
  const std::uint64_t chunks = argc > 1 ? std::strtoull(argv[1], nullptr, 10) : 1'000'000;
  return holdfast::run(std::max<std::uint64_t>(1, chunks), argc > 2 ? argv[2] : "/tmp/hf-index");
}
