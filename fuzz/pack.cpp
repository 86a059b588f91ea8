// SPDX-License-Identifier: Apache-2.0
// Packs from anybody. The first byte chooses: (0) the input is a whole pack; (1) it is a table,
// which is signed and sealed with the keys, so that the parser behind tag and signature is reached;
// (2) it is a frame's stored bytes, sealed with the keys, so that the decompressor is reached.
#include <cstdlib>

#include "repo/pack_forge.h"
#include "store/memory_store.h"

namespace holdfast {
namespace {

using forge::Forger;
using forge::Lies;
using forge::TestRepository;

const Bytes kSalt(32, std::byte{7});

void must(bool ok) {
  if (!ok) std::abort();
}

// What a table that was accepted must keep, whoever wrote it.
void check_table(const PackTable& table) {
  std::uint64_t at = 80, chunks = 0;
  for (const PackFrame& f : table.frames) {
    must(f.offset == at && f.first_chunk == chunks && f.plain <= kFramePlainMax);
    std::uint64_t sum = 0;
    for (std::uint32_t i = 0; i < f.chunk_count; ++i) sum += table.chunks.at(chunks + i).length;
    must(sum == f.plain);
    at += std::uint64_t{f.stored} + 28;
    chunks += f.chunk_count;
  }
  must(chunks == table.chunks.size() && at + 28 <= table.pack_size);
}

void whole(const TestRepository& r, ByteSpan input) {
  const ObjectHash name = Forger::name(input);
  const auto table = parse_pack(r.keys, r.devices(), name, ObjectType::data_pack, input);
  if (table) check_table(*table);
  MemoryStore store;
  store.overwrite(pack_name(name), input);
  FrameReader reader(r.keys);
  const auto damage = verify_pack(store, r.keys, r.devices(), name, ObjectType::data_pack, reader);
  must(damage.has_value() == table.has_value());
}

void table(const TestRepository& r, ByteSpan input) {
  Lies lies;
  lies.table = [input](Bytes& encoded) {
    // Over the honest table, so that numbers which the mutation leaves alone stay right.
    encoded.resize(std::max<std::size_t>(encoded.size(), 24));
    for (std::size_t i = 0; i < input.size() && i < (1U << 16); ++i) {
      if (i < encoded.size())
        encoded[i] ^= input[i];
      else
        encoded.push_back(input[i]);
    }
  };
  std::vector<forge::Frame> frames;
  for (std::uint8_t i = 1; i < 3; ++i) {
    const Bytes plain(40, std::byte{i});
    frames.push_back({plain, 40, Method::raw, {r.chunk(ChunkType::data, plain)}});
  }
  whole(r, Forger(r, ObjectType::data_pack, kSalt).pack(frames, lies));
}

void frame(const TestRepository& r, ByteSpan input) {
  if (input.size() < 4) return;
  const std::uint32_t plain = load_le<std::uint32_t>(input.data()) % kFramePlainMax + 1;
  const ByteSpan stored = input.subspan(4);
  if (stored.empty() || stored.size() > plain) return;
  const PackChunk chunk{ChunkId{}, plain, ChunkType::data};
  const Bytes pack =
      Forger(r, ObjectType::data_pack, kSalt)
          .pack({{Bytes(stored.begin(), stored.end()), plain, Method::zstd, {chunk}}}, {});
  const auto parsed =
      parse_pack(r.keys, r.devices(), Forger::name(pack), ObjectType::data_pack, pack);
  must(parsed.has_value());
  FrameReader reader(r.keys);
  Bytes out;
  const auto opened = reader.open(
      *parsed, 0, ByteSpan(pack).subspan(parsed->frames[0].offset, stored.size() + 28), out);
  must(!opened && out.size() <= plain);  // an id of zeros is that of no bytes
}

}  // namespace
}  // namespace holdfast

extern "C" int LLVMFuzzerInitialize(int*, char***) {
  holdfast::start_crypto();
  return 0;
}

extern "C" int LLVMFuzzerTestOneInput(const std::uint8_t* data, std::size_t size) {
  using namespace holdfast;
  static const forge::TestRepository repository(1);
  if (size == 0) return 0;
  const ByteSpan input = std::as_bytes(std::span(data, size));
  switch (data[0] % 3) {
    case 0:
      whole(repository, input.subspan(1));
      break;
    case 1:
      table(repository, input.subspan(1));
      break;
    default:
      frame(repository, input.subspan(1));
  }
  return 0;
}
