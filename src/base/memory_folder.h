// SPDX-License-Identifier: Apache-2.0
// LocalFolder in memory, for tests and simulations: the twin of fs/posix_folder.h, with faults and
// power loss.
#pragma once

#include <functional>
#include <map>
#include <memory>
#include <mutex>
#include <set>

#include "base/local_folder.h"

namespace holdfast {

class MemoryFolder : public LocalFolder {
 public:
  // Asked before each change ("replace", "append", "create", "write", "commit", "remove"); an error
  // is given on and nothing is changed. Called without a lock held, so it may call crash().
  using Fault = std::function<Result<>(std::string_view operation, std::string_view name)>;

  MemoryFolder();
  ~MemoryFolder() override;

  void set_fault(Fault fault);
  // Power loss: what a call that gave Ok made durable stays; open writers are lost (their later
  // calls give Code::unavailable) and locks are free again. Mappings stay readable.
  void crash();

  Result<Bytes> read(std::string_view name, std::uint64_t size_max) override;
  Result<> replace(std::string_view name, ByteSpan bytes) override;
  Result<> append(std::string_view name, ByteSpan bytes) override;
  Result<std::unique_ptr<LocalWriter>> create(std::string_view name) override;
  Result<std::unique_ptr<Mapping>> map(std::string_view name) override;
  Result<std::vector<std::string>> list(std::string_view folder) override;
  Result<> remove(std::string_view name) override;
  Result<std::unique_ptr<LocalLock>> lock(std::string_view name) override;
  [[nodiscard]] std::string where() const override;

 private:
  class Writing;
  class Held;
  struct State;  // outlives the folder in its writers and locks
  std::shared_ptr<State> state_;
};

}  // namespace holdfast
