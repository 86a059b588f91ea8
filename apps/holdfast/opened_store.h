// SPDX-License-Identifier: Apache-2.0
// The store that a repository's name stands for: a folder, or a bucket with what a network needs.
#pragma once

#include <memory>
#include <string>

#include "commands.h"
#include "net/http.h"
#include "store/folder_store.h"
#include "store/retry_store.h"
#include "store/s3_store.h"

namespace holdfast {

class OpenedStore {
 public:
  // `place` as repository_place() gives it. Code::not_found, with what to do, when it is no folder;
  // a bucket is not asked before the first call.
  static Result<std::unique_ptr<OpenedStore>> open(const Context& context, const std::string& place,
                                                   const HomePaths& paths);
  // For init: makes the folder where there is none. A bucket must be there.
  static Result<std::unique_ptr<OpenedStore>> make(const Context& context, const std::string& place,
                                                   const HomePaths& paths);
  [[nodiscard]] ObjectStore& store() {
    return folder_ ? static_cast<ObjectStore&>(*folder_) : *retry_;
  }
  // The account's first repository, whose name --first-repo gave; null without one.
  static Result<std::unique_ptr<OpenedStore>> open_first(const Context& context,
                                                         const std::string& named);
  // What uploads that were killed a day ago or more left there.
  void remove_stale_uploads(Time now);
  // Takes back what make() made, where nothing was put.
  void unmake();

 private:
  OpenedStore() = default;
  Result<> open_bucket(const Context& context, const std::string& place, const HomePaths& paths);

  std::string made_;  // folder
  std::unique_ptr<FolderStore> folder_;
  std::unique_ptr<HttpClient> http_;
  std::unique_ptr<S3Store> s3_;
  std::unique_ptr<RetryStore> retry_;
};

}  // namespace holdfast
