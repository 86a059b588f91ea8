// SPDX-License-Identifier: Apache-2.0
// A folder inside a LocalFolder, seen as one of its own.
#pragma once

#include <string>
#include <utility>

#include "base/local_folder.h"

namespace holdfast {

class SubFolder : public LocalFolder {
 public:
  SubFolder(LocalFolder& inner, std::string folder)
      : inner_(inner), prefix_(std::move(folder) + "/") {}
  Result<Bytes> read(std::string_view name, std::uint64_t size_max) override {
    return inner_.read(at(name), size_max);
  }
  Result<> replace(std::string_view name, ByteSpan bytes) override {
    return inner_.replace(at(name), bytes);
  }
  Result<> append(std::string_view name, ByteSpan bytes) override {
    return inner_.append(at(name), bytes);
  }
  Result<std::unique_ptr<LocalWriter>> create(std::string_view name) override {
    return inner_.create(at(name));
  }
  Result<std::unique_ptr<Mapping>> map(std::string_view name) override {
    return inner_.map(at(name));
  }
  Result<std::vector<std::string>> list(std::string_view folder) override {
    return inner_.list(folder.empty() ? prefix_.substr(0, prefix_.size() - 1) : at(folder));
  }
  Result<> remove(std::string_view name) override { return inner_.remove(at(name)); }
  Result<std::unique_ptr<LocalLock>> lock(std::string_view name) override {
    return inner_.lock(at(name));
  }
  [[nodiscard]] std::string where() const override {
    return inner_.where() + "/" + prefix_.substr(0, prefix_.size() - 1);
  }

 private:
  [[nodiscard]] std::string at(std::string_view name) const { return prefix_ + std::string(name); }
  LocalFolder& inner_;
  const std::string prefix_;
};

}  // namespace holdfast
