// SPDX-License-Identifier: Apache-2.0
// Objects in memory: the twin of FolderStore for tests and simulation. What it says is durable
// lives as long as it does.
#pragma once

#include <map>
#include <memory>
#include <mutex>

#include "store/object_store.h"

namespace holdfast {

class MemoryStore : public ObjectStore {
 public:
  Result<> put(std::string_view name, ByteSpan bytes) override;
  Result<Bytes> get(std::string_view name, std::uint64_t size_max) override;
  Result<> get_range(std::string_view name, std::uint64_t offset, MutableByteSpan out) override;
  Result<std::uint64_t> size(std::string_view name) override;
  Result<> list(std::string_view prefix,
                const std::function<Result<>(const ObjectInfo&)>& visit) override;
  Result<> remove(std::string_view name) override;

  // For tests: puts `bytes` there whatever stood there, as damage or a hostile store would.
  void overwrite(std::string_view name, ByteSpan bytes);

 private:
  using Object = std::shared_ptr<const Bytes>;  // shared, so that a reader needs no lock meanwhile
  Result<Object> find(std::string_view name);

  std::mutex mutex_;
  std::map<std::string, Object, std::less<>> objects_;
};

}  // namespace holdfast
