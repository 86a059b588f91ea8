// SPDX-License-Identifier: Apache-2.0
// LocalFolder over a real directory. base/memory_folder.h is its twin. Tests:
// posix_folder_test.cpp (one suite for both).
#pragma once

#include <atomic>
#include <set>

#include "base/local_folder.h"
#include "store/directory.h"

namespace holdfast {

class PosixFolder final : public LocalFolder {
 public:
  // Code::not_found: no such folder. A name that a writer of this or another process has not
  // committed yet is "~..." beside the final one; what a killed process left is removed when the
  // same folder is next written to.
  static Result<std::unique_ptr<PosixFolder>> open(const std::string& path);
  // Makes it and the folders above it (mode 0700) when they are not there.
  static Result<std::unique_ptr<PosixFolder>> make(const std::string& path);

  explicit PosixFolder(std::shared_ptr<Directory> directory) : directory_(std::move(directory)) {}

  Result<Bytes> read(std::string_view name, std::uint64_t size_max) override;
  Result<> replace(std::string_view name, ByteSpan bytes) override;
  Result<> append(std::string_view name, ByteSpan bytes) override;
  Result<std::unique_ptr<LocalWriter>> create(std::string_view name) override;
  // For random access: the kernel reads no pages ahead.
  Result<std::unique_ptr<Mapping>> map(std::string_view name) override;
  Result<std::vector<std::string>> list(std::string_view folder) override;
  Result<> remove(std::string_view name) override;
  Result<std::unique_ptr<LocalLock>> lock(std::string_view name) override;
  [[nodiscard]] std::string where() const override { return directory_->path(); }

 private:
  class Writing;
  Result<> remove_abandoned(std::string_view folder_name, const Fd& folder);

  const std::shared_ptr<Directory> directory_;  // writers may outlive the folder
  std::atomic<unsigned> next_temporary_{0};
  std::mutex mutex_;
  std::set<std::string, std::less<>> cleaned_;  // folders that remove_abandoned() has seen
};

}  // namespace holdfast
