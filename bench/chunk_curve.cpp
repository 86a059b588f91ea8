// SPDX-License-Identifier: Apache-2.0
// What a choice of chunk lengths stores: walks a tree in order of names, chunks, dedups by hash,
// packs new chunks into frames of 1 MiB at zstd level 3, then does the same with a second tree
// against the first one's chunks. No store, no seal: their cost is counted by the constants below.
//
//   chunk_curve <min KiB> <average KiB> <max KiB> <tree> [<changed tree>]
#include <fcntl.h>
#include <fmt/core.h>
#include <sys/mman.h>
#include <sys/stat.h>
#include <unistd.h>
#include <zstd.h>

#include <algorithm>
#include <chrono>
#include <ctime>
#include <filesystem>
#include <string>
#include <unordered_set>

#include "crypto/hash.h"
#include "crypto/sign.h"
#include "repo/chunker.h"

namespace holdfast {
namespace {

namespace fs = std::filesystem;

constexpr std::size_t kFrame = 1U << 20;
constexpr std::uint64_t kFrameOverhead = 28 + 13;  // nonce, tag, line of the table
constexpr std::uint64_t kNewChunkOverhead = 37;    // line of the table
constexpr std::uint64_t kItemOverhead = 36;        // in a file's list of chunks
constexpr std::uint64_t kIndexBytes = 48;          // local, a chunk

double cpu_seconds() {
  timespec t{};
  clock_gettime(CLOCK_THREAD_CPUTIME_ID, &t);
  return static_cast<double>(t.tv_sec) + static_cast<double>(t.tv_nsec) * 1e-9;
}

struct Counts {
  std::uint64_t bytes = 0, stored = 0, chunks = 0, fresh = 0;
  double chunking = 0;
};

class Curve {
 public:
  explicit Curve(const ChunkerLimits& limits)
      : limits_(limits), chunker_(Bytes(32, std::byte{42}), ChunkerPath::automatic, limits) {}

  Counts run(const fs::path& root) {
    counts_ = {};
    if (fs::is_regular_file(fs::symlink_status(root)))
      add_file(root);
    else
      walk(root);
    flush();
    return counts_;
  }

 private:
  void walk(const fs::path& folder) {
    std::vector<fs::directory_entry> entries;
    for (const auto& e : fs::directory_iterator(folder)) entries.push_back(e);
    std::ranges::sort(entries);
    for (const auto& e : entries) {
      if (e.is_symlink()) continue;
      if (e.is_directory())
        walk(e.path());
      else if (e.is_regular_file())
        add_file(e.path());
    }
  }

  void add_file(const fs::path& path) {
    const int fd = open(path.c_str(), O_RDONLY | O_CLOEXEC | O_NOFOLLOW);
    struct stat st{};
    if (fd < 0 || fstat(fd, &st) != 0 || st.st_size == 0) {
      if (fd >= 0) close(fd);
      return;
    }
    const auto size = static_cast<std::size_t>(st.st_size);
    void* const map = mmap(nullptr, size, PROT_READ, MAP_PRIVATE, fd, 0);
    close(fd);
    if (map == MAP_FAILED) return;
    madvise(map, size, MADV_SEQUENTIAL);
    add({static_cast<const std::byte*>(map), size});
    munmap(map, size);
  }

  void add(ByteSpan rest) {
    counts_.bytes += rest.size();
    while (!rest.empty()) {
      const double before = cpu_seconds();
      const std::size_t n =
          chunker_.cut(rest.first(std::min<std::size_t>(rest.size(), limits_.max)));
      counts_.chunking += cpu_seconds() - before;
      add_chunk(rest.first(n));
      rest = rest.subspan(n);
    }
  }

  void add_chunk(ByteSpan chunk) {
    ++counts_.chunks;
    const Hash256 id = sha256(chunk);
    if (!seen_.insert(load_le<std::uint64_t>(id.span().data())).second) return;
    ++counts_.fresh;
    if (frame_.size() + chunk.size() > kFrame) flush();
    frame_.insert(frame_.end(), chunk.begin(), chunk.end());
    // A chunk that is new is named by a list that is new; lists of what is old are shared.
    counts_.stored += kNewChunkOverhead + kItemOverhead;
  }

  void flush() {
    if (frame_.empty()) return;
    out_.resize(ZSTD_compressBound(kFrame));
    const std::size_t n =
        ZSTD_compressCCtx(zstd_, out_.data(), out_.size(), frame_.data(), frame_.size(), 3);
    counts_.stored += std::min(n, frame_.size()) + kFrameOverhead;
    frame_.clear();
  }

  ChunkerLimits limits_;
  Chunker chunker_;
  std::unordered_set<std::uint64_t> seen_;  // 64 bits of a hash tell apart what is measured here
  Bytes frame_, out_;
  ZSTD_CCtx* zstd_ = ZSTD_createCCtx();
  Counts counts_;
};

void print(std::string_view what, const Counts& c) {
  fmt::print(
      "  {}: {:.1f} MB in, {:.2f} MB stored, {} chunks, {} new, index {:.2f} MB, chunking {:.2f} s "
      "({:.0f} MB/s)\n",
      what, static_cast<double>(c.bytes) / 1e6, static_cast<double>(c.stored) / 1e6, c.chunks,
      c.fresh, static_cast<double>(c.fresh * kIndexBytes) / 1e6, c.chunking,
      static_cast<double>(c.bytes) / 1e6 / c.chunking);
  std::fflush(stdout);
}

}  // namespace
}  // namespace holdfast

int main(int argc, char** argv) {
  using namespace holdfast;
  if (argc < 5) {
    fmt::print(stderr,
               "usage: chunk_curve <min KiB> <average KiB> <max KiB> <tree> [<changed tree>]\n");
    return 2;
  }
  start_crypto();
  const auto kib = [&](int i) { return static_cast<std::uint32_t>(std::stoul(argv[i])) << 10; };
  Curve curve({.min = kib(1), .max = kib(3), .average = kib(2)});
  fmt::print("{} / {} / {} KiB, {}\n", argv[1], argv[2], argv[3], argv[4]);
  print("first", curve.run(argv[4]));
  if (argc > 5) print("change", curve.run(argv[5]));
}
