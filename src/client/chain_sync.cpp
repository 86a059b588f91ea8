// SPDX-License-Identifier: Apache-2.0
#include "client/chain_sync.h"

#include <fmt/format.h>

#include <algorithm>
#include <charconv>
#include <set>

#include "repo/repository.h"

namespace holdfast {

namespace {

constexpr std::string_view kChainFile = "chain", kSeenFile = "chain-seen", kReaderFile = "reader";
constexpr std::uint64_t kChainFileMax = std::uint64_t{kChainEntryMax} * 1024;
// Something else that syncs the folder may have left its own there; what counts are the entries.
constexpr std::size_t kForeignMax = 10'000;

bool is_chain_object(std::string_view name) {
  constexpr std::string_view prefix = "chain/";
  std::array<std::byte, 8> number;
  return name.starts_with(prefix) && from_hex(name.substr(prefix.size()), number).has_value();
}

bool no_entry(const Error& error) {
  return error.code == Code::corrupt || error.code == Code::alarm || error.code == Code::not_found;
}

// Of `more`, as many as verify behind `known`; what begins a chain that verifies does so too.
// Null when the first one does not.
struct Extended {
  std::optional<Chain> chain;
  std::size_t count = 0;
  std::optional<Error> error;
};
Extended extend_as_far(const std::optional<Chain>& known, std::span<const Bytes> more) {
  const auto verify = [&](std::size_t count) {
    return known ? extend_chain(*known, more.first(count)) : verify_chain(more.first(count));
  };
  Extended out{.chain = known, .count = 0, .error = {}};
  std::size_t bad = more.size() + 1;  // more than verify
  for (std::size_t tried = more.size(); bad - out.count > 1;
       tried = out.count + (bad - out.count) / 2) {
    auto chain = verify(tried);
    if (chain) {
      out.chain = std::move(*chain);
      out.count = tried;
    } else {
      bad = tried;
      out.error = std::move(chain).error();
    }
  }
  return out;
}

// u32 length, bytes, for each entry.
void put_entries(Writer& w, const std::vector<Bytes>& entries) {
  for (const Bytes& entry : entries) {
    w.u32(static_cast<std::uint32_t>(entry.size()));
    w.raw(entry);
  }
}
std::vector<Bytes> take_entries(Reader& r) {
  std::vector<Bytes> entries;
  while (r.ok() && !r.at_end()) {
    const std::uint32_t length = r.u32();
    const ByteSpan entry = r.take(length);
    entries.emplace_back(entry.begin(), entry.end());
  }
  return entries;
}

std::unexpected<Error> damaged_file(const LocalFolder& folder, std::string_view name) {
  return fail(Code::corrupt, fmt::format("{}/{}: damaged", folder.where(), name));
}

// What this home saw of the chain in this repository; less than that is a rollback.
Result<> check_seen(LocalFolder& seen, const Chain& chain) {
  auto file = seen.read(kSeenFile, 4096);
  if (!file)
    return file.error().code == Code::not_found ? Result<>()
                                                : std::unexpected(std::move(file).error());
  const std::string_view text = as_text(*file);
  std::uint64_t position = 0;
  const auto [end, error] = std::from_chars(text.data(), text.data() + text.size(), position);
  const auto hash = error == std::errc{} && text.size() >= 64 + 2
                        ? EntryHash::parse(text.substr(text.size() - 65, 64))
                        : Result<EntryHash>(fail(Code::corrupt, ""));
  if (!hash) return damaged_file(seen, kSeenFile);
  return check_against_known(chain, position, *hash);
}

Error with_hint(Error error, const SyncOptions& options) {
  if (options.reader)
    error.what +=
        ". This home only reads: with --despite-alarm it reads what is there all the same";
  return error;
}

// Behind what verifies an entry of another chain may stand: two that keys of the account signed are
// a fork, whatever is damaged before them.
Result<> check_no_hidden_fork(ObjectStore& store, const ChainCopy& ours, std::size_t from) {
  for (std::size_t n = from; n < ours.entries.size(); ++n) {
    const std::string name = chain_object_name(n);
    const auto there = store.get(name, kChainEntryMax);
    if (!there && !no_entry(there.error())) return wrap(there.error(), name);
    if (there && *there != ours.entries[n] && signed_by_member(ours.chain, *there))
      return fail(Code::alarm,
                  fmt::format("{}: a key of the account signed it, and it is another one than this "
                              "home has: the chain was forked. Nothing is written; compare with "
                              "another device of the account",
                              name));
  }
  return {};
}

}  // namespace

Result<std::set<std::string>> list_chain(ObjectStore& store) {
  std::set<std::string> names;
  HF_TRY(list_at_most(store, "chain/", kChainLengthMax + kForeignMax,
                      [&](const ObjectInfo& info) -> Result<> {
                        if (is_chain_object(info.name)) names.insert(info.name);
                        return {};
                      }));
  if (names.size() > kChainLengthMax)
    return fail(Code::corrupt, "chain: more entries than its limit");
  return names;
}

Result<ChainCopy> read_chain(ObjectStore& store) {
  HF_ASSIGN(StoreChain read, read_longest_chain(store));
  if (read.hides) return std::unexpected(*read.hides);
  return std::move(read.copy);
}

// By number, each time twice as many as before: what somebody put behind a bad one is not read.
Result<StoreChain> read_longest_chain(ObjectStore& store) {
  const auto names = list_chain(store);
  if (!names && names.error().code != Code::corrupt) return std::unexpected(names.error());
  std::vector<Bytes> entries;
  std::optional<Chain> chain;
  std::optional<Error> end;
  for (std::size_t step = 16; !end && entries.size() < kChainLengthMax; step *= 2) {
    std::vector<Bytes> more;
    while (!end && more.size() < step) {
      const std::string name = chain_object_name(entries.size() + more.size());
      auto entry = !names || names->contains(name)
                       ? store.get(name, kChainEntryMax)
                       : Result<Bytes>(fail(Code::not_found, "not there"));
      if (entry)
        more.push_back(std::move(*entry));
      else if (no_entry(entry.error()))
        end = wrap(std::move(entry).error(), name).error();
      else
        return wrap(std::move(entry).error(), name);
    }
    if (more.empty()) break;
    Extended extended = extend_as_far(chain, more);
    chain = std::move(extended.chain);
    if (extended.count < more.size()) end = extended.error;
    more.resize(extended.count);
    std::ranges::move(more, std::back_inserter(entries));
  }
  if (end && end->code == Code::not_found) end.reset();  // as every chain ends
  if (!end && !names) end = names.error();
  if (!end && names->size() > entries.size())
    end = Error{Code::corrupt, fmt::format("chain: entry {} is missing", entries.size())};
  if (!chain && end) return std::unexpected(*end);
  if (!chain) return fail(Code::corrupt, "chain: the repository has no account chain");
  return StoreChain{{std::move(entries), std::move(*chain)}, std::move(end)};
}

Result<std::optional<ChainCopy>> read_home_chain(LocalFolder& state) {
  auto file = state.read(kChainFile, kChainFileMax);
  if (!file && file.error().code == Code::not_found) return std::nullopt;
  if (!file) return std::unexpected(std::move(file).error());
  Reader r(*file);
  std::vector<Bytes> entries = take_entries(r);
  if (!r.ok()) return damaged_file(state, kChainFile);
  if (entries.empty()) return std::nullopt;
  HF_ASSIGN(Chain chain, verify_chain(entries));
  return ChainCopy{std::move(entries), std::move(chain)};
}

Result<> write_home_chain(LocalFolder& state, const std::vector<Bytes>& entries) {
  Bytes file;
  Writer w(file);
  put_entries(w, entries);
  return state.replace(kChainFile, file);
}

Result<std::optional<ReaderEntries>> read_reader(LocalFolder& state) {
  auto file = state.read(kReaderFile, kChainFileMax);
  if (!file && file.error().code == Code::not_found) return std::nullopt;
  if (!file) return std::unexpected(std::move(file).error());
  Reader r(*file);
  ReaderEntries reader{.follows = r.u64(), .entries = {}};
  reader.entries = take_entries(r);
  if (!r.ok() || reader.entries.empty()) return damaged_file(state, kReaderFile);
  return reader;
}

Result<> write_reader(LocalFolder& state, const std::optional<ReaderEntries>& reader) {
  if (!reader) return state.remove(kReaderFile);
  Bytes file;
  Writer w(file);
  w.u64(reader->follows);
  put_entries(w, reader->entries);
  return state.replace(kReaderFile, file);
}

Result<> write_seen(LocalFolder& seen, const Chain& chain) {
  const std::string line = fmt::format("{} {}\n", chain.position(), chain.newest_hash().hex());
  const auto before = seen.read(kSeenFile, 4096);
  if (before && as_text(*before) == line) return {};
  return if_it_can(seen.replace(kSeenFile, as_bytes(line)));
}

Result<SyncedChain> sync_chain(ObjectStore& store, LocalFolder& state, LocalFolder& seen,
                               const std::optional<ChainCopy>& ours, const AccountId& account,
                               const SyncOptions& options, std::vector<std::string>& damaged) {
  auto read = read_longest_chain(store);
  // What does not verify is nothing that anybody signed: this home's own copy counts, as when the
  // store shows nothing new, and repair_keys() puts it back. A chain that verifies and is another
  // one is an alarm below.
  if (!read && no_entry(read.error()) && ours) {
    HF_ASSIGN(Chain genesis, verify_chain(std::span(ours->entries).first(1)));
    read = StoreChain{{{}, std::move(genesis)}, read.error()};
  }
  HF_ASSIGN(StoreChain theirs, std::move(read));
  Chain& chain = theirs.copy.chain;
  if (chain.account() != account)
    return fail(Code::denied, "the repository's chain is of another account");
  const bool hidden = theirs.hides.has_value();
  if (hidden) damaged.push_back(theirs.hides->what);
  const bool shorter = ours && chain.position() < ours->chain.position();
  Result<> forked = ours ? check_no_fork(ours->chain, chain) : Result<>();
  if (forked && shorter && hidden)
    forked = check_no_hidden_fork(store, *ours, theirs.copy.entries.size());
  if (!forked && forked.error().code != Code::alarm) return std::unexpected(forked.error());
  // What is hidden is not rolled back as long as this home has it.
  const Result<> less = check_seen(seen, hidden && shorter && forked ? ours->chain : chain);
  if (options.despite_alarm && ours && (!forked || !less)) {
    for (const Result<>& holds : {less, forked})
      if (!holds) damaged.push_back(passed_over(holds.error()));
    return SyncedChain{forked && !shorter ? chain : ours->chain, hidden};
  }
  if (!less && !options.accept_rollback) return std::unexpected(with_hint(less.error(), options));
  if (!forked) return std::unexpected(with_hint(forked.error(), options));
  const std::size_t known = ours ? ours->entries.size() : 0, there = theirs.copy.entries.size();
  if (shorter && !hidden && !options.reader)
    for (std::size_t n = there; n < known; ++n)
      HF_TRY(store.put(chain_object_name(n), ours->entries[n]));
  if (there > known) HF_TRY(if_it_can(write_home_chain(state, theirs.copy.entries)));
  if (shorter) chain = ours->chain;
  if (!hidden) HF_TRY(write_seen(seen, chain));
  return SyncedChain{std::move(chain), hidden};
}

Result<> if_it_can(Result<> written) {
  return !written && written.error().code == Code::denied ? Result<>() : written;
}

}  // namespace holdfast
