// SPDX-License-Identifier: Apache-2.0
#include <gmock/gmock.h>
#include <gtest/gtest.h>
#include <zstd.h>

#include <fstream>
#include <sstream>

#include "repo/pack_forge.h"
#include "store/memory_store.h"

namespace {
enum class Garbage : unsigned char { none, one_bit, cut_short, another_input };
Garbage garbage = Garbage::none;  // what the compressor does from now on
}  // namespace

// The linker puts this before zstd's (src/CMakeLists.txt).
extern "C" {
std::size_t __real_ZSTD_compress2(ZSTD_CCtx* context, void* out, std::size_t out_size,
                                  const void* in, std::size_t in_size);
std::size_t __wrap_ZSTD_compress2(ZSTD_CCtx* context, void* out, std::size_t out_size,
                                  const void* in, std::size_t in_size) {
  const auto* bytes = static_cast<const unsigned char*>(in);
  if (garbage == Garbage::another_input) ++bytes, --in_size;
  const std::size_t size = __real_ZSTD_compress2(context, out, out_size, bytes, in_size);
  if (garbage == Garbage::one_bit) static_cast<unsigned char*>(out)[size / 2] ^= 1;
  return garbage == Garbage::cut_short ? size - 1 : size;
}
}

namespace holdfast {
namespace {

using forge::TestRepository;
using ::testing::HasSubstr;
using ::testing::IsEmpty;

Bytes noise(std::size_t size, std::uint64_t seed) {
  Bytes out(size);
  SeededRandom(seed).fill(out);
  return out;
}

Bytes prose(std::size_t size, std::uint64_t seed) {
  static constexpr std::string_view words[] = {"pack ", "frame ", "chunk ", "table ", "of ",
                                               "the ",  "is ",    "a\n",    "device "};
  SeededRandom random(seed);
  Bytes out;
  while (out.size() < size) {
    const ByteSpan word = as_bytes(words[random.below(std::size(words))]);
    out.insert(out.end(), word.begin(), word.end());
  }
  out.resize(size);
  return out;
}

// Chunks of one frame, with the bytes that they were made of.
struct Content {
  Bytes plain;
  std::vector<PackChunk> chunks;
};

Content make_content(const TestRepository& r, ChunkType type, Bytes plain, std::size_t chunks) {
  Content out{.plain = std::move(plain), .chunks = {}};
  const std::size_t step = out.plain.size() / chunks;
  for (std::size_t i = 0; i < chunks; ++i) {
    const std::size_t end = i + 1 == chunks ? out.plain.size() : (i + 1) * step;
    out.chunks.push_back(r.chunk(type, ByteSpan(out.plain).subspan(i * step, end - i * step)));
  }
  return out;
}

void expect_same(const PackTable& a, const PackTable& b) {
  EXPECT_EQ(a.pack, b.pack);
  EXPECT_EQ(a.pack_size, b.pack_size);
  EXPECT_EQ(a.type, b.type);
  EXPECT_EQ(a.epoch, b.epoch);
  EXPECT_EQ(a.suite, b.suite);
  EXPECT_EQ(a.device, b.device);
  EXPECT_EQ(a.salt, b.salt);
  ASSERT_EQ(a.frames.size(), b.frames.size());
  for (std::size_t i = 0; i < a.frames.size(); ++i) {
    EXPECT_EQ(a.frames[i].offset, b.frames[i].offset);
    EXPECT_EQ(a.frames[i].stored, b.frames[i].stored);
    EXPECT_EQ(a.frames[i].plain, b.frames[i].plain);
    EXPECT_EQ(a.frames[i].method, b.frames[i].method);
    EXPECT_EQ(a.frames[i].first_chunk, b.frames[i].first_chunk);
    EXPECT_EQ(a.frames[i].chunk_count, b.frames[i].chunk_count);
  }
  ASSERT_EQ(a.chunks.size(), b.chunks.size());
  for (std::size_t i = 0; i < a.chunks.size(); ++i) {
    EXPECT_EQ(a.chunks[i].id, b.chunks[i].id);
    EXPECT_EQ(a.chunks[i].length, b.chunks[i].length);
    EXPECT_EQ(a.chunks[i].type, b.chunks[i].type);
  }
}

// Table by both ways, every frame, and the whole.
void expect_reads_back(const TestRepository& r, const PackBuilder::Finished& pack,
                       const std::vector<Content>& contents) {
  MemoryStore store;
  ASSERT_TRUE(store.put(pack_name(pack.name), pack.bytes));
  ASSERT_EQ(pack.name, ObjectHash::from(sha256(pack.bytes).span()));
  const auto parsed = parse_pack(r.keys, r.devices(), pack.name, pack.table.type, pack.bytes);
  ASSERT_TRUE(parsed) << parsed.error().what;
  expect_same(*parsed, pack.table);
  const auto read = read_pack_table(store, r.keys, r.devices(), pack.name, pack.table.type);
  ASSERT_TRUE(read) << read.error().what;
  expect_same(*read, pack.table);
  FrameReader reader(r.keys);
  Bytes out;
  ASSERT_EQ(read->frames.size(), contents.size());
  for (std::size_t i = 0; i < contents.size(); ++i) {
    const auto done = reader.read(store, *read, i, out);
    ASSERT_TRUE(done) << done.error().what;
    EXPECT_EQ(out, contents[i].plain);
  }
  // An index that lies may ask for any (ENG-13).
  for (const std::size_t none : {contents.size(), std::size_t{65535}})
    EXPECT_EQ(reader.read(store, *read, none, out).error().code, Code::corrupt);
  const auto damage = verify_pack(store, r.keys, r.devices(), pack.name, pack.table.type, reader);
  ASSERT_TRUE(damage) << damage.error().what;
  EXPECT_THAT(*damage, IsEmpty());
}

TEST(ChunkHasher, is_the_hmac_of_type_and_bytes) {
  const TestRepository r(1);
  const Bytes plain = prose(1000, 1);
  HmacSha256 hmac(r.keys.secrets.id_key.span());
  ChunkHasher hasher(r.keys.secrets.id_key.span());
  for (std::uint8_t type = 1; type <= 4; ++type) {
    const Hash256 want = hmac.tag(Transcript("chunk-id").number(type).span(), plain);
    EXPECT_EQ(hasher.id(static_cast<ChunkType>(type), plain).bytes, want.bytes);
  }
}

TEST(PackName, is_parsed_back_and_only_in_its_one_form) {
  const ObjectHash hash = ObjectHash::from(noise(32, 1));
  const std::string name = pack_name(hash);
  EXPECT_EQ(name, "packs/" + hash.hex().substr(0, 2) + "/" + hash.hex());
  EXPECT_EQ(parse_pack_name(name).value(), hash);
  std::string upper = name, wrong_folder = name;
  for (char& c : upper) c = static_cast<char>(std::toupper(c));
  wrong_folder[6] = name[6] == '0' ? '1' : '0';
  for (const std::string& bad : {std::string(), hash.hex(), name + "0", name.substr(1), upper,
                                 wrong_folder, "packs/" + hash.hex(), "\x1b[2J" + name}) {
    const auto parsed = parse_pack_name(bad);
    ASSERT_FALSE(parsed) << bad;
    EXPECT_EQ(parsed.error().code, Code::invalid);
    EXPECT_THAT(parsed.error().what, Not(HasSubstr("\x1b")));
  }
}

struct Kind {
  Suite suite;
  ObjectType type;
};
class PackKinds : public ::testing::TestWithParam<Kind> {};

TEST_P(PackKinds, round_trip_with_all_methods) {
  TestRepository r(2);
  r.keys.suite = GetParam().suite;
  const bool data = GetParam().type == ObjectType::data_pack;
  SeededRandom random(3);
  PackBuilder builder(r.keys, GetParam().type, r.device, r.signer, random);
  FrameCompressor compressor(Compression::balanced);
  for (int pack = 0; pack < 3; ++pack) {  // the buffer is used again
    std::vector<Content> contents;
    EXPECT_TRUE(builder.empty());
    for (std::uint64_t i = 0; i < 6; ++i) {
      const std::size_t size = 1 + random.below(60000);
      const ChunkType type = data ? ChunkType::data : static_cast<ChunkType>(2 + i % 3);
      contents.push_back(make_content(r, type, i % 2 != 0 ? noise(size, i) : prose(size, i),
                                      1 + random.below(std::min<std::size_t>(size, 9))));
      const Content& c = contents.back();
      const auto out = compressor.compress(c.plain);
      ASSERT_LE(out.stored.size(), builder.room(c.chunks.size()));
      builder.add_frame(out.stored, static_cast<std::uint32_t>(c.plain.size()), out.method,
                        c.chunks);
    }
    EXPECT_FALSE(builder.empty());
    const auto finished = builder.finish(true);
    EXPECT_EQ(finished.bytes.size(), padme(finished.bytes.size()));
    expect_reads_back(r, finished, contents);
  }
}

INSTANTIATE_TEST_SUITE_P(All, PackKinds,
                         ::testing::Values(Kind{Suite::aes_256_gcm, ObjectType::data_pack},
                                           Kind{Suite::aes_256_gcm, ObjectType::tree_pack},
                                           Kind{Suite::chacha20_poly1305, ObjectType::data_pack},
                                           Kind{Suite::chacha20_poly1305, ObjectType::tree_pack}));

// What the format page says and what PackBuilder does, each written for itself.
TEST(Pack, builder_and_forger_agree_on_every_byte) {
  const TestRepository r(4);
  for (std::uint64_t seed = 0; seed < 20; ++seed) {
    SeededRandom random(seed), same(seed), sizes(seed + 100);
    Bytes salt(32);
    same.fill(salt);
    PackBuilder builder(r.keys, ObjectType::data_pack, r.device, r.signer, random);
    std::vector<forge::Frame> frames;
    for (std::uint64_t i = 0, n = 1 + sizes.below(5); i < n; ++i) {
      const std::size_t size = 1 + sizes.below(3000);
      const Content c = make_content(r, ChunkType::data, noise(size, i), 1 + sizes.below(size) % 4);
      builder.add_frame(c.plain, static_cast<std::uint32_t>(size), Method::raw, c.chunks);
      frames.push_back({c.plain, static_cast<std::uint32_t>(size), Method::raw, c.chunks});
    }
    const auto finished = builder.finish(true);
    const Bytes forged = forge::Forger(r, ObjectType::data_pack, salt).pack(frames, {});
    ASSERT_EQ(to_hex(finished.bytes), to_hex(forged));
  }
}

// One small pack, byte by byte, for other implementations. The zstd frame is written by hand, so
// that it does not depend on the library's version: magic, window 1 MiB, one RLE block of 600 'h',
// last.
std::string vector_text() {
  TestRepository r(5);
  std::ostringstream out;
  out << "# One data pack. docs/formats/repository.md, \"Packs\"; checked by pack_test.\n";
  const auto line = [&out](std::string_view key, std::string_view value) {
    out << key << ' ' << value << '\n';
  };
  line("account", r.keys.place.account.hex());
  line("repository", r.keys.place.repository.hex());
  line("repository-key", to_hex(r.keys.epoch_keys.at(1).span()));
  line("id-key", to_hex(r.keys.secrets.id_key.span()));
  line("epoch", "1");
  line("device", r.device.hex());
  line("device-public-key", r.signer.public_key().hex());
  for (const Suite suite : {Suite::aes_256_gcm, Suite::chacha20_poly1305}) {
    r.keys.suite = suite;
    SeededRandom random(6);
    PackBuilder builder(r.keys, ObjectType::data_pack, r.device, r.signer, random);
    const Content raw = make_content(r, ChunkType::data, prose(100, 1), 3);
    const Content run = make_content(r, ChunkType::data, Bytes(600, std::byte{'h'}), 1);
    const std::uint32_t block = (600U << 3) | (1U << 1) | 1U;
    Bytes zstd;
    Writer w(zstd);
    w.u32(0xFD2FB528U);
    w.u8(0);     // no content size, no checksum, no dictionary
    w.u8(0x50);  // window 2^20
    w.u16(static_cast<std::uint16_t>(block));
    w.u8(static_cast<std::uint8_t>(block >> 16));
    w.u8('h');
    builder.add_frame(raw.plain, 100, Method::raw, raw.chunks);
    builder.add_frame(zstd, 600, Method::zstd, run.chunks);
    const auto pack = builder.finish(true);
    line("suite", suite == Suite::aes_256_gcm ? "1" : "2");
    line("salt", to_hex(pack.table.salt));
    for (const PackFrame& f : pack.table.frames)
      out << "frame " << f.offset << ' ' << f.stored << ' ' << f.plain << ' '
          << static_cast<int>(f.method) << ' ' << f.chunk_count << '\n';
    for (const PackChunk& c : pack.table.chunks)
      out << "chunk " << c.id.hex() << ' ' << c.length << ' ' << static_cast<int>(c.type) << '\n';
    line("plain-0", to_hex(raw.plain));
    line("pack", to_hex(pack.bytes));
    line("name", pack_name(pack.name));
    expect_reads_back(r, pack, {raw, run});
  }
  return out.str();
}

TEST(Pack, vectors_hold) {
  const std::string path = HOLDFAST_TESTDATA "/vectors/pack.txt";
  std::ifstream in(path);
  std::ostringstream file;
  file << in.rdbuf();
  const std::string want = vector_text();
  if (file.str() == want) return;
  const std::string beside = ::testing::TempDir() + "/pack.txt";
  std::ofstream(beside) << want;
  FAIL() << path << " is not what this code writes; that is in " << beside;
}

TEST(Pack, full_pack_has_exactly_the_pack_size) {
  const TestRepository r(7);
  SeededRandom random(8);
  PackBuilder builder(r.keys, ObjectType::data_pack, r.device, r.signer, random);
  const Bytes source = noise(kFramePlainMax, 9);
  // The ids are not checked here: what counts are sizes.
  const auto chunks_of = [](std::size_t plain, std::size_t count) {
    std::vector<PackChunk> out(count, {ChunkId{}, 1, ChunkType::data});
    out.back().length = static_cast<std::uint32_t>(plain - (count - 1));
    return out;
  };
  for (int round = 0; round < 4; ++round) {
    const std::size_t most = round == 0 ? 2000 : kFramePlainMax;
    std::size_t frames = 0;
    while (true) {
      const std::size_t plain = 1 + random.below(most);
      const auto chunks = chunks_of(plain, 1 + random.below(std::min<std::size_t>(plain, 300)));
      if (builder.room(chunks.size()) < plain) break;
      builder.add_frame(ByteSpan(source).first(plain), static_cast<std::uint32_t>(plain),
                        Method::raw, chunks);
      ++frames;
    }
    // Whatever is left can be filled to the last byte.
    while (round % 2 == 0 && builder.room(1) > 0) {
      const std::size_t rest = std::min(builder.room(1), kFramePlainMax);
      builder.add_frame(ByteSpan(source).first(rest), static_cast<std::uint32_t>(rest), Method::raw,
                        chunks_of(rest, 1));
      ++frames;
    }
    const auto pack = builder.finish(false);
    ASSERT_EQ(pack.bytes.size(), full_pack_size(ObjectType::data_pack));
    const auto parsed =
        parse_pack(r.keys, r.devices(), pack.name, ObjectType::data_pack, pack.bytes);
    ASSERT_TRUE(parsed) << parsed.error().what;
    EXPECT_EQ(parsed->frames.size(), frames);
  }
}

TEST(Pack, takes_as_many_frames_and_chunks_as_the_limits_say_and_no_more) {
  const TestRepository r(10);
  SeededRandom random(11);
  PackBuilder builder(r.keys, ObjectType::data_pack, r.device, r.signer, random);
  EXPECT_EQ(builder.room(kFrameChunksMax + 1), 0U);
  EXPECT_GT(builder.room(kFrameChunksMax), kFramePlainMax);
  const Bytes byte(1);
  const std::vector<PackChunk> chunk{r.chunk(ChunkType::data, byte)};
  std::size_t frames = 0;
  for (; builder.room(1) > 0; ++frames) builder.add_frame(byte, 1, Method::raw, chunk);
  EXPECT_EQ(frames, kPackFramesMax - 1);
  const auto pack = builder.finish(true);
  const auto parsed = parse_pack(r.keys, r.devices(), pack.name, ObjectType::data_pack, pack.bytes);
  ASSERT_TRUE(parsed) << parsed.error().what;
  EXPECT_EQ(parsed->frames.size(), frames);
}

TEST(Pack, CHK_02_pack_sizes_take_only_padded_values) {
  const TestRepository r(12);
  SeededRandom random(13);
  PackBuilder builder(r.keys, ObjectType::data_pack, r.device, r.signer, random);
  std::set<std::size_t> sizes;
  std::size_t packs = 0;
  for (std::size_t plain = 30000; plain < 34000; plain += 7, ++packs) {
    const Content c = make_content(r, ChunkType::data, Bytes(plain), 1);
    builder.add_frame(c.plain, static_cast<std::uint32_t>(plain), Method::raw, c.chunks);
    const auto pack = builder.finish(true);
    EXPECT_EQ(padme(pack.bytes.size()), pack.bytes.size());
    sizes.insert(pack.bytes.size());
  }
  EXPECT_GT(packs, 500U);
  EXPECT_LT(sizes.size(), 8U);
}

TEST(Pack, table_longer_than_one_read) {
  const TestRepository r(14);
  SeededRandom random(15);
  PackBuilder builder(r.keys, ObjectType::data_pack, r.device, r.signer, random);
  const Content c = make_content(r, ChunkType::data, noise(20000, 1), 3000);
  builder.add_frame(c.plain, 20000, Method::raw, c.chunks);
  expect_reads_back(r, builder.finish(true), {c});
}

// ---- compression

class Levels : public ::testing::TestWithParam<Compression> {};

TEST_P(Levels, what_comes_out_is_what_went_in) {
  FrameCompressor compressor(GetParam());
  for (const std::size_t size : {0UL, 1UL, 2UL, 100UL, 4096UL, 300000UL, kFramePlainMax}) {
    for (const Bytes& plain : {prose(size, size), noise(size, size), Bytes(size)}) {
      const auto out = compressor.compress(plain);
      if (out.method == Method::raw) {
        EXPECT_EQ(out.stored.data(), plain.data());
        continue;
      }
      ASSERT_EQ(out.method, Method::zstd);
      EXPECT_LT(out.stored.size(), plain.size());
      Bytes again(plain.size());
      ASSERT_EQ(ZSTD_decompress(again.data(), size, out.stored.data(), out.stored.size()), size);
      EXPECT_EQ(again, plain);
    }
  }
}

INSTANTIATE_TEST_SUITE_P(All, Levels,
                         ::testing::Values(Compression::none, Compression::fast,
                                           Compression::balanced, Compression::max));

// Known: zstd, lz4 and their bindings have each had a bug, and machines bad memory, that gave what
// does not come back. Every kind of it goes into the pack uncompressed.
TEST(FrameCompressor, a_compressor_that_returns_garbage) {
  FrameCompressor compressor(Compression::balanced);
  const Bytes plain = prose(100'000, 5);
  ASSERT_EQ(compressor.compress(plain).method, Method::zstd);
  for (const Garbage kind : {Garbage::one_bit, Garbage::cut_short, Garbage::another_input}) {
    garbage = kind;
    const auto out = compressor.compress(plain);
    garbage = Garbage::none;
    EXPECT_EQ(out.method, Method::raw);
    EXPECT_EQ(out.stored.data(), plain.data());
    EXPECT_EQ(out.stored.size(), plain.size());
  }
  EXPECT_EQ(compressor.compress(plain).method, Method::zstd);
}

TEST(FrameCompressor, levels_are_ordered_and_none_is_none) {
  const Bytes plain = prose(kFramePlainMax, 1);
  const auto stored = [&plain](Compression level) {
    FrameCompressor compressor(level);
    return compressor.compress(plain).stored.size();
  };
  EXPECT_EQ(stored(Compression::none), plain.size());
  EXPECT_LT(stored(Compression::fast), plain.size() / 2);
  EXPECT_LE(stored(Compression::max), stored(Compression::balanced));
}

TEST(FrameCompressor, noise_with_something_else_in_it_is_compressed) {
  FrameCompressor compressor(Compression::balanced);
  EXPECT_EQ(compressor.compress(noise(kFramePlainMax, 2)).method, Method::raw);
  for (const std::size_t percent : {2UL, 10UL, 50UL}) {
    Bytes mixed = noise(kFramePlainMax, percent);
    const std::size_t length = kFramePlainMax / 100 * percent;
    for (const std::size_t at : {0UL, 400000UL, kFramePlainMax - length}) {
      Bytes plain = mixed;
      std::fill_n(
          plain.begin() + static_cast<std::ptrdiff_t>(std::min(at, kFramePlainMax - length)),
          length, std::byte{0});
      EXPECT_EQ(compressor.compress(plain).method, Method::zstd) << percent << " % at " << at;
    }
  }
  // Counts see nothing where noise repeats itself.
  Bytes repeated = noise(4096, 3);
  while (repeated.size() < kFramePlainMax)
    repeated.insert(repeated.end(), repeated.begin(), repeated.begin() + 4096);
  EXPECT_EQ(compressor.compress(repeated).method, Method::zstd);
}

}  // namespace
}  // namespace holdfast
