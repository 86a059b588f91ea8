// SPDX-License-Identifier: Apache-2.0
// Objects as files in a folder, under their names; "tmp/" is for files that are being written.
// docs/formats/repository.md, "Stores". Tests: store_test.cpp (the suite of every store).
#pragma once

#include "base/world.h"
#include "store/directory.h"
#include "store/object_store.h"

namespace holdfast {

class FolderStore final : public ObjectStore {
 public:
  // Makes the folder (mode 0700; its parent must be there). Code::conflict: something is in it
  // already. `random` names temporary files and must outlive the store.
  static Result<std::unique_ptr<FolderStore>> create(const std::string& path, Random& random);
  // Code::not_found: no such folder. Nothing is written before the first put.
  static Result<std::unique_ptr<FolderStore>> open(const std::string& path, Random& random);

  FolderStore(std::unique_ptr<Directory> directory, Random& random)
      : directory_(std::move(directory)), random_(random) {}

  Result<> put(std::string_view name, ByteSpan bytes) override;
  Result<> put_from(std::string_view name, ByteSpan bytes,
                    const std::function<void()>& taken) override;
  Result<Bytes> get(std::string_view name, std::uint64_t size_max) override;
  Result<> get_range(std::string_view name, std::uint64_t offset, MutableByteSpan out) override;
  Result<std::uint64_t> size(std::string_view name) override;
  Result<> list(std::string_view prefix,
                const std::function<Result<>(const ObjectInfo&)>& visit) override;
  Result<> remove(std::string_view name) override;

  // What a crash left in "tmp/", last written before `before`. Whoever still writes there fails
  // with Code::unavailable and can put again; choose a time that no upload takes.
  Result<> remove_stale_temporaries(Time before);

 private:
  class Temporary;
  Result<> put_once(std::string_view name, ByteSpan bytes, const std::function<void()>& taken);
  Result<> expect_same(std::string_view name, const Fd& folder, ByteSpan bytes) const;
  Result<> list_folder(const std::string& folder,
                       const std::function<Result<>(const ObjectInfo&)>& visit) const;

  const std::unique_ptr<Directory> directory_;
  Random& random_;
};

}  // namespace holdfast
