// SPDX-License-Identifier: Apache-2.0
// A segment of the local index from anybody: opened, searched, merged. The checksum is made right,
// so that what lies behind it is reached too.
#include <algorithm>
#include <cstdlib>

#include "base/memory_folder.h"
#include "crypto/hash.h"
#include "crypto/sign.h"
#include "repo/segment.h"

namespace holdfast {
namespace {

constexpr std::string_view kName = "0-1.seg";

void seal_footer(Bytes& segment) {
  if (segment.size() < kSegmentFooterSize) return;
  const std::size_t footer = segment.size() - kSegmentFooterSize;
  const std::uint64_t size =
      std::uint64_t{load_le<std::uint32_t>(segment.data() + footer + 40)} * kSegmentPackSize;
  if (size > footer) return;
  Sha256 hash;
  hash.update(ByteSpan(segment).subspan(footer, 96));
  hash.update(ByteSpan(segment).subspan(footer - size, size));
  std::ranges::copy(hash.finish().bytes, segment.end() - 32);
}

// What the segment itself holds, and what it does not.
void look_up(Index& index, ByteSpan segment) {
  (void)index.contains(ChunkId{});
  for (std::size_t at = 0; at + 32 <= segment.size() && at < 4096; at += 8) {
    const auto place = index.find(ChunkId::from(segment.subspan(at, 32)));
    if (place && !index.has_pack(place->pack)) std::abort();
    (void)index.has_pack(ObjectHash::from(segment.subspan(at, 32)));
  }
  (void)index.packs();
  (void)index.chunk_count();
}

PackTable small_pack(std::uint8_t number) {
  PackTable table;
  table.pack.bytes[0] = static_cast<std::byte>(number);
  table.chunks.push_back(
      {.id = ChunkId::from(table.pack.bytes), .length = 1, .type = ChunkType::data});
  table.frames.push_back({0, 0, 1, Method::raw, 0, 1});
  return table;
}

void run(ByteSpan input) {
  Bytes segment(input.begin(), input.end());
  seal_footer(segment);
  MemoryFolder folder;
  if (!folder.replace(kName, segment)) std::abort();
  auto index = Index::open(folder, RepositoryId{}, {.table_chunks_max = 16, .tier_ratio = 2});
  if (!index) std::abort();
  look_up(**index, segment);
  for (const std::uint8_t number : {std::uint8_t{1}, std::uint8_t{2}})
    if (!(*index)->add(small_pack(number)) || !(*index)->flush()) std::abort();
  look_up(**index, segment);
}

}  // namespace
}  // namespace holdfast

extern "C" int LLVMFuzzerInitialize(int*, char***) {
  holdfast::start_crypto();
  return 0;
}
extern "C" int LLVMFuzzerTestOneInput(const std::uint8_t* data, std::size_t size) {
  holdfast::run({reinterpret_cast<const std::byte*>(data), size});
  return 0;
}
