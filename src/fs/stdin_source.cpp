// SPDX-License-Identifier: Apache-2.0
#include "fs/stdin_source.h"

#include <fmt/format.h>
#include <unistd.h>

#include <algorithm>
#include <cerrno>
#include <cstring>

namespace holdfast {

namespace {

class StdinSource : public Source {
 public:
  StdinSource(std::vector<Entry> entries, const Stop& stop)
      : entries_(std::move(entries)), stop_(stop) {}
  Result<const Entry*> next() override {
    return next_ < entries_.size() ? &entries_[next_++] : nullptr;
  }
  Result<> complete(Entry&) override { return {}; }
  Result<> open() override { return {}; }
  Result<ReadPiece> read(MutableByteSpan buffer) override {
    for (;;) {
      HF_TRY(stop_.check());
      const ssize_t n = ::read(STDIN_FILENO, buffer.data(), buffer.size());
      if (n < 0 && errno == EINTR) continue;
      // Half of a stream must not become a snapshot: an error here ends the backup.
      if (n < 0)
        return fail(Code::invalid, fmt::format("standard input: {}", std::strerror(errno)));
      if (n == 0) return ReadPiece{};
      size_ += static_cast<std::uint64_t>(n);
      return ReadPiece{ReadPiece::Kind::data, static_cast<std::uint64_t>(n)};
    }
  }
  Result<bool> finish(Entry& entry) override {
    entry.size = size_;
    return false;
  }
  [[nodiscard]] const std::vector<Unreadable>& unreadable() const override { return none_; }
  [[nodiscard]] std::uint64_t unreadable_count() const override { return 0; }

 private:
  const std::vector<Entry> entries_;
  const Stop& stop_;
  std::size_t next_ = 0;
  std::uint64_t size_ = 0;
  const std::vector<Unreadable> none_;
};

}  // namespace

Result<std::unique_ptr<Source>> open_stdin_source(std::string_view name, Clock& clock,
                                                  const Stop& stop) {
  const Time now = clock.now();
  std::vector<Entry> entries;
  std::string directory;
  for (std::size_t at = 0; (at = name.find_first_not_of('/', at)) != std::string_view::npos;) {
    const std::size_t end = std::min(name.find('/', at), name.size());
    Entry entry;
    entry.directory = directory;
    entry.name = name.substr(at, end - at);
    if (auto good = check_entry_name(entry.name); !good)
      return wrap(std::move(good).error(), "--stdin-name");
    entry.type = EntryType::directory;
    entry.mode = 0700;
    entry.uid = ::geteuid();
    entry.gid = ::getegid();
    entry.mtime =
        entry.ctime = {now.ns / 1000000000, static_cast<std::uint32_t>(now.ns % 1000000000)};
    directory = entry.path();
    entries.push_back(std::move(entry));
    at = end;
  }
  if (entries.empty() || name.ends_with('/'))
    return fail(Code::invalid, fmt::format("--stdin-name '{}': expected the path of a file, such "
                                           "as db/dump.sql",
                                           escaped(name)));
  entries.back().type = EntryType::file;
  entries.back().mode = 0600;
  return std::make_unique<StdinSource>(std::move(entries), stop);
}

}  // namespace holdfast
