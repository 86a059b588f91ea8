// SPDX-License-Identifier: Apache-2.0
// What each step of the pipeline costs, each beside its limit: the bare hash, cipher and compressor
// that it is made of. HOLDFAST_BENCH_FILE names a file to compress instead of made-up text.
#include <benchmark/benchmark.h>
#include <zstd.h>

#include <cstdio>
#include <cstdlib>
#include <memory>

#include "repo/chunk_reader.h"
#include "repo/pack_forge.h"
#include "store/memory_store.h"

namespace holdfast {
namespace {

using forge::TestRepository;

Bytes noise(std::size_t size) {
  Bytes out(size);
  SeededRandom(1).fill(out);
  return out;
}

Bytes prose(std::size_t size) {
  static constexpr std::string_view words[] = {"static ", "const ", "return ", "if (",
                                               ") {\n",   "}\n",    "value",   " = ",
                                               "size_t ", ";\n",    "for "};
  SeededRandom random(2);
  Bytes out;
  while (out.size() < size) {
    const std::uint64_t draw = random.next();
    const std::string word = draw % 8 == 0 ? std::to_string(draw % 100003)
                                           : std::string(words[draw / 8 % std::size(words)]);
    out.insert(out.end(), as_bytes(word).begin(), as_bytes(word).end());
  }
  out.resize(size);
  return out;
}

// Frames of a file, evenly from all over it, or of made-up text.
std::vector<Bytes> sample_frames() {
  const char* const path = std::getenv("HOLDFAST_BENCH_FILE");
  constexpr std::size_t count = 250;
  std::vector<Bytes> out;
  std::FILE* const file = path == nullptr ? nullptr : std::fopen(path, "rb");
  if (file == nullptr) return {prose(kFramePlainMax)};
  (void)std::fseek(file, 0, SEEK_END);
  const long step = std::ftell(file) / static_cast<long>(count);
  for (std::size_t i = 0; i < count; ++i) {
    Bytes frame(kFramePlainMax);
    (void)std::fseek(file, step * static_cast<long>(i), SEEK_SET);
    if (std::fread(frame.data(), 1, frame.size(), file) == frame.size())
      out.push_back(std::move(frame));
  }
  (void)std::fclose(file);
  return out;
}

void set_bytes(benchmark::State& state, std::size_t size) {
  state.SetBytesProcessed(state.iterations() * static_cast<std::int64_t>(size));
}

void limit_sha256(benchmark::State& state) {
  const Bytes data = noise(static_cast<std::size_t>(state.range(0)));
  for (auto _ : state) benchmark::DoNotOptimize(sha256(data));
  set_bytes(state, data.size());
}
BENCHMARK(limit_sha256)->Arg(4096)->Arg(65536)->Arg(1 << 20);

void id(benchmark::State& state) {
  const Bytes data = noise(static_cast<std::size_t>(state.range(0)));
  ChunkHasher hasher(Bytes(32));
  for (auto _ : state) benchmark::DoNotOptimize(hasher.id(ChunkType::data, data));
  set_bytes(state, data.size());
}
BENCHMARK(id)->Arg(4096)->Arg(65536)->Arg(1 << 20);

void limit_aead(benchmark::State& state, Suite suite) {
  const Bytes data = noise(static_cast<std::size_t>(state.range(0)));
  Aead aead(suite, Bytes(32));
  Bytes out(data.size() + kTagSize);
  const Bytes nonce(kNonceSize);
  for (auto _ : state) aead.seal(nonce, {}, data, out);
  set_bytes(state, data.size());
}
BENCHMARK_CAPTURE(limit_aead, aes_256_gcm, Suite::aes_256_gcm)->Arg(65536)->Arg(1 << 20);
BENCHMARK_CAPTURE(limit_aead, chacha20, Suite::chacha20_poly1305)->Arg(65536)->Arg(1 << 20);

// All that a frame costs on its way into a pack: digest, nonce, cipher, hash of the pack.
void seal(benchmark::State& state, Method method) {
  const TestRepository r(1);
  SeededRandom random(1);
  PackBuilder builder(r.keys, ObjectType::data_pack, r.device, r.signer, random);
  const Bytes data = noise(static_cast<std::size_t>(state.range(0)));
  const auto size = static_cast<std::uint32_t>(data.size());
  const std::vector<PackChunk> chunks{{ChunkId{}, size, ChunkType::data}};
  for (auto _ : state) {
    if (builder.room(1) < data.size()) benchmark::DoNotOptimize(builder.finish(false).name);
    builder.add_frame(data, size, method, chunks);
  }
  set_bytes(state, data.size());
}
BENCHMARK_CAPTURE(seal, raw, Method::raw)->Arg(65536)->Arg(1 << 20);
BENCHMARK_CAPTURE(seal, compressed, Method::zstd)->Arg(65536)->Arg(1 << 20);

void limit_zstd(benchmark::State& state) {
  const std::vector<Bytes> frames = sample_frames();
  const std::unique_ptr<ZSTD_CCtx, decltype(&ZSTD_freeCCtx)> context(ZSTD_createCCtx(),
                                                                     ZSTD_freeCCtx);
  Bytes out(ZSTD_compressBound(kFramePlainMax));
  std::size_t i = 0, stored = 0;
  for (auto _ : state) {
    const Bytes& frame = frames[i++ % frames.size()];
    const std::size_t size = ZSTD_compressCCtx(context.get(), out.data(), out.size(), frame.data(),
                                               frame.size(), static_cast<int>(state.range(0)));
    if (i <= frames.size()) stored += std::min(size, frame.size());
  }
  set_bytes(state, kFramePlainMax);
  if (i >= frames.size()) state.counters["stored"] = static_cast<double>(stored);
}
BENCHMARK(limit_zstd)->Arg(1)->Arg(3)->Arg(12);

// With the sample before it and the comparison behind it.
void compress(benchmark::State& state, Compression level) {
  const std::vector<Bytes> frames = sample_frames();
  FrameCompressor compressor(level);
  std::size_t i = 0, stored = 0, raw = 0;
  for (auto _ : state) {
    const auto out = compressor.compress(frames[i++ % frames.size()]);
    if (i > frames.size()) continue;
    stored += out.stored.size();
    raw += out.method == Method::raw ? 1 : 0;
  }
  set_bytes(state, kFramePlainMax);
  if (i >= frames.size()) state.counters["stored"] = static_cast<double>(stored);
  state.counters["raw"] = static_cast<double>(raw);
}
BENCHMARK_CAPTURE(compress, fast, Compression::fast);
BENCHMARK_CAPTURE(compress, balanced, Compression::balanced);
BENCHMARK_CAPTURE(compress, max, Compression::max);

void compress_noise(benchmark::State& state) {
  const Bytes data = noise(kFramePlainMax);
  FrameCompressor compressor(Compression::balanced);
  for (auto _ : state) benchmark::DoNotOptimize(compressor.compress(data).stored.data());
  set_bytes(state, data.size());
}
BENCHMARK(compress_noise);

// A pack of frames of 1 MiB with chunks of 64 KiB, in memory.
struct Stored {
  explicit Stored(bool compressed) : r(1) {
    SeededRandom random(1);
    PackBuilder builder(r.keys, ObjectType::data_pack, r.device, r.signer, random);
    FrameCompressor compressor(compressed ? Compression::balanced : Compression::none);
    const Bytes plain = compressed ? prose(kFramePlainMax) : noise(kFramePlainMax);
    std::vector<PackChunk> chunks;
    for (std::size_t at = 0; at < plain.size(); at += 65536)
      chunks.push_back(r.chunk(ChunkType::data, ByteSpan(plain).subspan(at, 65536)));
    for (int i = 0; i < 12; ++i) {
      const auto out = compressor.compress(plain);
      builder.add_frame(out.stored, kFramePlainMax, out.method, chunks);
    }
    const auto pack = builder.finish(true);
    table = pack.table;
    store.overwrite(pack_name(pack.name), pack.bytes);
  }
  TestRepository r;
  MemoryStore store;
  PackTable table;
};

void read_frame(benchmark::State& state, bool compressed) {
  Stored stored(compressed);
  FrameReader reader(stored.r.keys);
  Bytes out;
  std::size_t i = 0;
  for (auto _ : state)
    if (!reader.read(stored.store, stored.table, i++ % 12, out)) state.SkipWithError("damaged");
  set_bytes(state, kFramePlainMax);
}
BENCHMARK_CAPTURE(read_frame, raw, false);
BENCHMARK_CAPTURE(read_frame, compressed, true);

void verify(benchmark::State& state) {
  Stored stored(false);
  FrameReader reader(stored.r.keys);
  for (auto _ : state)
    if (!verify_pack(stored.store, stored.r.keys, stored.r.devices(), stored.table.pack,
                     ObjectType::data_pack, reader))
      state.SkipWithError("damaged");
  set_bytes(state, stored.table.pack_size);
}
BENCHMARK(verify);

void read_table(benchmark::State& state) {
  Stored stored(false);
  for (auto _ : state)
    benchmark::DoNotOptimize(read_pack_table(stored.store, stored.r.keys, stored.r.devices(),
                                             stored.table.pack, ObjectType::data_pack));
}
BENCHMARK(read_table);

// One place for every id: what get() itself costs when the frame is in the cache.
class OnePlace final : public Index {
 public:
  explicit OnePlace(const ObjectHash& pack) : place_{pack, 3, 5} {}
  bool contains(const ChunkId&) override { return true; }
  std::optional<std::uint64_t> number_of(const ChunkId&) override { return std::nullopt; }
  std::optional<ChunkPlace> find(const ChunkId&) override { return place_; }
  std::optional<ChunkPlace> find_beside(const ChunkId&, std::span<const ObjectHash>) override {
    return std::nullopt;
  }
  Result<> add(const PackTable&) override { return {}; }
  bool has_pack(const ObjectHash&) override { return true; }
  std::vector<IndexedPack> packs() override { return {}; }
  Result<> remove_packs(const std::vector<ObjectHash>&) override { return {}; }
  void set_condemned(std::span<const ObjectHash>) override {}
  Result<> each_record(const VisitRecord&) override { return {}; }
  Result<> flush() override { return {}; }
  std::uint64_t chunk_count() override { return 1; }

 private:
  const ChunkPlace place_;
};

void cached_chunk(benchmark::State& state) {
  Stored stored(false);
  OnePlace index(stored.table.pack);
  ChunkReader reader(stored.store, stored.r.keys, stored.r.devices(), index, {});
  const ChunkId wanted = stored.table.chunks[stored.table.frames[3].first_chunk + 5].id;
  for (auto _ : state) benchmark::DoNotOptimize(reader.get(wanted, ChunkType::data)->bytes.data());
}
BENCHMARK(cached_chunk);

}  // namespace
}  // namespace holdfast

int main(int argc, char** argv) {
  holdfast::start_crypto();
  benchmark::Initialize(&argc, argv);
  benchmark::RunSpecifiedBenchmarks();
}
