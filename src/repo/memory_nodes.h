// SPDX-License-Identifier: Apache-2.0
// Nodes in memory: the twin of the repository for tests, fuzzers and benchmarks of trees.
#pragma once

#include <map>

#include "repo/tree.h"

namespace holdfast {

class MemoryNodes final : public NodeSource, public NodeSink {
 public:
  explicit MemoryNodes(ByteSpan id_key) : hasher_(id_key) {}

  Result<Bytes> get(const ChunkId& id, ChunkType type) override {
    ++reads;
    const auto found = nodes.find({type, id});
    if (found == nodes.end()) return fail(Code::not_found, "node " + id.brief() + " is not there");
    return found->second;
  }
  Result<ChunkId> put(ChunkType type, ByteSpan node) override {
    const ChunkId id = hasher_.id(type, node);
    ++puts;
    nodes.insert_or_assign({type, id}, Bytes(node.begin(), node.end()));
    return id;
  }
  // Makes it lie: these bytes under that id.
  void replace(ChunkType type, const ChunkId& id, Bytes node) {
    nodes.insert_or_assign({type, id}, std::move(node));
  }

  std::map<std::pair<ChunkType, ChunkId>, Bytes> nodes;
  std::uint64_t reads = 0, puts = 0;

 private:
  ChunkHasher hasher_;
};

}  // namespace holdfast
