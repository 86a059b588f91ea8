// SPDX-License-Identifier: Apache-2.0
#include "repo/repacker.h"

namespace holdfast {

Repacker::Repacker(Repository& repository, std::unordered_set<ObjectHash, IdHash> avoid)
    : repository_(repository),
      writer_({.store = repository.parts().store,
               .keys = repository.parts().keys,
               .device = repository.parts().device,
               .signer = repository.parts().signer,
               .random = repository.parts().random,
               .index = repository.index(),
               .stored = [](const PackTable&) -> Result<> { return {}; },
               .distrusted = std::move(avoid)},
              Compression::balanced) {}

Repacker::Hand::Hand(Repacker& repacker)
    : store_(repacker.repository_.parts().store),
      frames_(repacker.repository_.parts().keys),
      data_(repacker.writer_, ObjectType::data_pack),
      tree_(repacker.writer_, ObjectType::tree_pack) {}

// A frame's chunks stay among themselves: they are of one owner (MET-01).
Result<> Repacker::Hand::move_frame(const PackTable& table, std::size_t frame,
                                    std::span<const std::uint16_t> slots) {
  HF_TRY(frames_.read(store_, table, frame, plain_));
  const PackFrame& f = table.frames[frame];
  ChunkWriter::Lane& lane = table.type == ObjectType::tree_pack ? tree_ : data_;
  ++group_;
  std::size_t offset = 0;
  auto next = slots.begin();
  for (std::uint32_t slot = 0; slot < f.chunk_count && next != slots.end(); ++slot) {
    const PackChunk& chunk = table.chunks[f.first_chunk + slot];
    if (*next == slot) {
      ++next;
      HF_TRY(lane.put(chunk.type, ByteSpan(plain_).subspan(offset, chunk.length), group_,
                      f.method != Method::raw));
    }
    offset += chunk.length;
  }
  return lane.flush();
}

}  // namespace holdfast
