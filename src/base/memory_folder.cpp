// SPDX-License-Identifier: Apache-2.0
#include "base/memory_folder.h"

#include <fmt/format.h>

#include <algorithm>

namespace holdfast {
namespace {

using Content = std::shared_ptr<const Bytes>;  // never changed once made: mappings share it

class SharedMapping : public Mapping {
 public:
  explicit SharedMapping(Content content) : content_(std::move(content)) {}
  [[nodiscard]] ByteSpan bytes() const override { return *content_; }

 private:
  Content content_;
};

bool is_plain_part(std::string_view part) {
  constexpr std::string_view allowed = "abcdefghijklmnopqrstuvwxyz0123456789._-";
  return !part.empty() && part != "." && part != ".." &&
         part.find_first_not_of(allowed) == std::string_view::npos;
}

// As for object names: base/ cannot see store/, and a twin that takes more than the real folder
// hides bugs.
Result<> check_name(std::string_view name) {
  constexpr std::size_t size_max = 200;
  bool good = !name.empty() && name.size() <= size_max;
  for (std::string_view rest = name; good; rest.remove_prefix(rest.find('/') + 1)) {
    good = is_plain_part(rest.substr(0, rest.find('/')));
    if (rest.find('/') == std::string_view::npos) break;
  }
  if (good) return {};
  return fail(Code::invalid,
              fmt::format("file name '{}': expected 1 to 200 of a-z 0-9 . _ - in parts joined by /",
                          escaped(name)));
}

std::unexpected<Error> absent(std::string_view name) {
  return fail(Code::not_found, fmt::format("memory:{}: no such file", name));
}

}  // namespace

struct MemoryFolder::State {
  std::mutex mutex;
  std::map<std::string, Content, std::less<>> files;
  std::set<std::string, std::less<>> locked;
  std::uint64_t life = 0;  // counts crashes: writers and locks belong to one life
  Fault fault;

  Result<> ask(std::string_view operation, std::string_view name) {
    Fault current;
    {
      const std::lock_guard guard(mutex);
      current = fault;
    }
    if (!current) return {};
    return current(operation, name);
  }
  Result<Content> find(std::string_view name) {
    const std::lock_guard guard(mutex);
    const auto at = files.find(name);
    if (at == files.end()) return absent(name);
    return at->second;
  }
};

class MemoryFolder::Writing : public LocalWriter {
 public:
  Writing(std::shared_ptr<State> state, std::string name, std::uint64_t life)
      : state_(std::move(state)), name_(std::move(name)), life_(life) {}

  Result<> append(ByteSpan bytes) override {
    HF_TRY(state_->ask("write", name_));
    const std::lock_guard guard(state_->mutex);
    HF_TRY(check_open());
    content_.insert(content_.end(), bytes.begin(), bytes.end());
    return {};
  }
  Result<> commit() override {
    HF_TRY(state_->ask("commit", name_));
    const std::lock_guard guard(state_->mutex);
    HF_TRY(check_open());
    done_ = true;
    state_->files.insert_or_assign(name_, std::make_shared<const Bytes>(std::move(content_)));
    return {};
  }

 private:
  Result<> check_open() const {
    if (done_) return fail(Code::invalid, fmt::format("memory:{}: committed already", name_));
    if (life_ == state_->life) return {};
    return fail(Code::unavailable, fmt::format("memory:{}: lost when the power went", name_));
  }

  std::shared_ptr<State> state_;
  std::string name_;
  std::uint64_t life_;
  Bytes content_;
  bool done_ = false;
};

class MemoryFolder::Held : public LocalLock {
 public:
  Held(std::shared_ptr<State> state, std::string name, std::uint64_t life)
      : state_(std::move(state)), name_(std::move(name)), life_(life) {}
  ~Held() override {
    const std::lock_guard guard(state_->mutex);
    if (life_ == state_->life) state_->locked.erase(name_);
  }

 private:
  std::shared_ptr<State> state_;
  std::string name_;
  std::uint64_t life_;
};

MemoryFolder::MemoryFolder() : state_(std::make_shared<State>()) {}
MemoryFolder::~MemoryFolder() = default;

void MemoryFolder::set_fault(Fault fault) {
  const std::lock_guard guard(state_->mutex);
  state_->fault = std::move(fault);
}

void MemoryFolder::crash() {
  const std::lock_guard guard(state_->mutex);
  ++state_->life;
  state_->locked.clear();
}

Result<Bytes> MemoryFolder::read(std::string_view name, std::uint64_t size_max) {
  HF_TRY(check_name(name));
  HF_ASSIGN(const Content content, state_->find(name));
  if (content->size() > size_max)
    return fail(Code::corrupt, fmt::format("memory:{}: {} bytes, expected at most {}", name,
                                           content->size(), size_max));
  return *content;
}

Result<> MemoryFolder::replace(std::string_view name, ByteSpan bytes) {
  HF_TRY(check_name(name));
  HF_TRY(state_->ask("replace", name));
  auto content = std::make_shared<const Bytes>(bytes.begin(), bytes.end());
  const std::lock_guard guard(state_->mutex);
  state_->files.insert_or_assign(std::string(name), std::move(content));
  return {};
}

Result<> MemoryFolder::append(std::string_view name, ByteSpan bytes) {
  HF_TRY(check_name(name));
  HF_TRY(state_->ask("append", name));
  const std::lock_guard guard(state_->mutex);
  Content& content = state_->files[std::string(name)];
  Bytes whole = content ? *content : Bytes();
  whole.insert(whole.end(), bytes.begin(), bytes.end());
  content = std::make_shared<const Bytes>(std::move(whole));
  return {};
}

Result<std::unique_ptr<LocalWriter>> MemoryFolder::create(std::string_view name) {
  HF_TRY(check_name(name));
  HF_TRY(state_->ask("create", name));
  const std::lock_guard guard(state_->mutex);
  return std::make_unique<Writing>(state_, std::string(name), state_->life);
}

Result<std::unique_ptr<Mapping>> MemoryFolder::map(std::string_view name) {
  HF_TRY(check_name(name));
  HF_ASSIGN(Content content, state_->find(name));
  return std::make_unique<SharedMapping>(std::move(content));
}

Result<std::vector<std::string>> MemoryFolder::list(std::string_view folder) {
  if (!folder.empty()) HF_TRY(check_name(folder));
  const std::string prefix = folder.empty() ? "" : std::string(folder) + "/";
  std::vector<std::string> out;
  const std::lock_guard guard(state_->mutex);
  for (auto at = state_->files.lower_bound(prefix);
       at != state_->files.end() && at->first.starts_with(prefix); ++at) {
    std::string rest = at->first.substr(prefix.size());
    if (rest.find('/') == std::string::npos) out.push_back(std::move(rest));
  }
  return out;
}

Result<> MemoryFolder::remove(std::string_view name) {
  HF_TRY(check_name(name));
  HF_TRY(state_->ask("remove", name));
  const std::lock_guard guard(state_->mutex);
  if (const auto at = state_->files.find(name); at != state_->files.end()) state_->files.erase(at);
  return {};
}

Result<std::unique_ptr<LocalLock>> MemoryFolder::lock(std::string_view name) {
  HF_TRY(check_name(name));
  const std::lock_guard guard(state_->mutex);
  if (!state_->locked.insert(std::string(name)).second)
    return fail(Code::conflict, fmt::format("memory:{}: locked by this process", name));
  return std::make_unique<Held>(state_, std::string(name), state_->life);
}

std::string MemoryFolder::where() const { return "memory:"; }

}  // namespace holdfast
