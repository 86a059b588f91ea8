// SPDX-License-Identifier: Apache-2.0
// A file's bytes, or a directory as a tar archive (pax), into a writer. Only verified bytes come
// out.
#pragma once

#include <functional>
#include <map>
#include <string>

#include "repo/restore.h"

namespace holdfast {

struct DumpOwners {  // names of ids; null: numbers only
  const std::map<std::uint32_t, std::string>* users = nullptr;
  const std::map<std::uint32_t, std::string>* groups = nullptr;
};
using DumpWriter = std::function<Result<>(ByteSpan bytes)>;

// On `workers` threads, several chunks of a file are fetched together. The file at `path`, or of
// the directory there ("" is all) what is below it, with names relative to it. The first damage
// ends it: an archive cannot leave out half a file (Code::corrupt names it).
Result<> dump(ChunkSource& chunks, NodeSource& nodes, const TreeRoot& root, const std::string& path,
              const DumpOwners& owners, unsigned workers, const DumpWriter& writer,
              const Stop& stop);

}  // namespace holdfast
