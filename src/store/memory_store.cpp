// SPDX-License-Identifier: Apache-2.0
#include "store/memory_store.h"

#include <fmt/format.h>

#include <algorithm>

namespace holdfast {

Result<> MemoryStore::put(std::string_view name, ByteSpan bytes) {
  HF_TRY(check_object_name(name));
  const std::lock_guard lock(mutex_);
  const auto at = objects_.lower_bound(name);
  if (at == objects_.end() || at->first != name) {
    objects_.emplace_hint(at, name, std::make_shared<Bytes>(bytes.begin(), bytes.end()));
    return {};
  }
  if (std::ranges::equal(*at->second, bytes)) return {};
  return fail(Code::conflict, fmt::format("put {}: other bytes stand there already", name));
}

Result<MemoryStore::Object> MemoryStore::find(std::string_view name) {
  HF_TRY(check_object_name(name));
  const std::lock_guard lock(mutex_);
  const auto at = objects_.find(name);
  if (at == objects_.end()) return fail(Code::not_found, fmt::format("{}: not there", name));
  return at->second;
}

Result<Bytes> MemoryStore::get(std::string_view name, std::uint64_t size_max) {
  HF_ASSIGN(const Object object, find(name));
  if (object->size() > size_max)
    return fail(Code::corrupt, fmt::format("get {}: it has {} bytes, at most {} were expected",
                                           name, object->size(), size_max));
  return *object;
}

Result<> MemoryStore::get_range(std::string_view name, std::uint64_t offset, MutableByteSpan out) {
  HF_ASSIGN(const Object object, find(name));
  if (offset > object->size() || out.size() > object->size() - offset)
    return fail(Code::corrupt, fmt::format("get {}: it has {} bytes, {} from {} were expected",
                                           name, object->size(), out.size(), offset));
  std::ranges::copy(ByteSpan(*object).subspan(static_cast<std::size_t>(offset), out.size()),
                    out.begin());
  return {};
}

Result<std::uint64_t> MemoryStore::size(std::string_view name) {
  HF_ASSIGN(const Object object, find(name));
  return object->size();
}

Result<> MemoryStore::list(std::string_view prefix,
                           const std::function<Result<>(const ObjectInfo&)>& visit) {
  HF_TRY(check_list_prefix(prefix));
  std::vector<ObjectInfo> found;  // the visitor may call the store
  {
    const std::lock_guard lock(mutex_);
    for (auto at = objects_.lower_bound(prefix);
         at != objects_.end() && at->first.starts_with(prefix); ++at)
      found.push_back({at->first, at->second->size()});
  }
  for (const ObjectInfo& info : found) HF_TRY(visit(info));
  return {};
}

Result<> MemoryStore::remove(std::string_view name) {
  HF_TRY(check_object_name(name));
  const std::lock_guard lock(mutex_);
  if (const auto at = objects_.find(name); at != objects_.end()) objects_.erase(at);
  return {};
}

void MemoryStore::overwrite(std::string_view name, ByteSpan bytes) {
  const std::lock_guard lock(mutex_);
  objects_.insert_or_assign(std::string(name), std::make_shared<Bytes>(bytes.begin(), bytes.end()));
}

}  // namespace holdfast
