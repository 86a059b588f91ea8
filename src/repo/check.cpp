// SPDX-License-Identifier: Apache-2.0
#include "repo/check.h"

#include <fmt/format.h>

#include <algorithm>
#include <thread>

#include "base/parallel.h"
#include "crypto/hash.h"
#include "repo/chunk_set.h"

namespace holdfast {

namespace {

constexpr std::uint64_t kObjectMax = 64U << 20;
constexpr std::string_view kLists = "lists/";
constexpr std::size_t kStraysRead = 100'000;  // of packs that no snapshot needs

class Check {
 public:
  Check(Repository& repository, const CheckOptions& options, CheckProgress& progress,
        const Stop& stop)
      : repository_(repository), options_(options), progress_(progress), stop_(stop) {}

  Result<CheckReport> run() {
    for (const std::string& what : options_.found_before) damage(what);
    HF_ASSIGN(heads_, repository_.heads());
    for (const std::string& head : heads_.damaged) damage(head);
    HF_ASSIGN(const auto lists, repository_.sync_index(heads_, stop_));
    for (const std::string& what : lists) damage(what);
    HF_TRY(check_packs());
    HF_TRY(check_small_objects());
    if (options_.read_data_percent > 0) HF_TRY(read_packs());
    if (options_.read_data_percent >= 100) HF_TRY(read_strays());
    const std::uint64_t chunks = repository_.index().chunk_count();
    for (const Snapshot& snapshot : heads_.snapshots) HF_TRY(check_snapshot(snapshot));
    if (repository_.index().chunk_count() != chunks)  // a segment of it lied and was dropped
      return fail(Code::unavailable,
                  "the local index was damaged, and is made again next time: run check again");
    if (chunks_damaged_ || tree_damaged_)
      for (const Snapshot& snapshot : heads_.snapshots) HF_TRY(name_touched(snapshot));
    report_.snapshots = heads_.snapshots.size();
    return std::move(report_);
  }

 private:
  void damage(std::string what) {
    const std::lock_guard lock(mutex_);
    report_.damage.push_back({std::move(what)});
  }

  void bad_chunk(const ChunkId& id) {
    chunks_damaged_ = true;
    bad_chunks_.insert(id);
  }

  // Every pack that counts is there with the size that was listed, and its table holds; the cache
  // is not believed.
  Result<> check_packs() {
    HF_ASSIGN(const PackListing listing,
              repository_.list_packs(stop_, [&](const ObjectInfo& info) { stray(info); }));
    report_.packs = listing.packs.size();
    std::vector<ObjectHash> gone;
    for (std::size_t i = 0; i < listing.packs.size(); ++i) {
      HF_TRY(stop_.check());
      HF_ASSIGN(const bool usable, check_pack(listing.packs[i], listing.sizes[i]));
      if (!usable) gone.push_back(listing.packs[i].pack);
    }
    if (!gone.empty()) HF_TRY(repository_.index().remove_packs(gone));
    return repository_.index().flush();  // so that its chunks have numbers
  }

  void stray(const ObjectInfo& info) {
    auto name = parse_pack_name(info.name);
    if (!name) return damage(std::move(name).error().what);
    if (repository_.collections().gone(*name)) return;  // the next prune removes it
    ++report_.stray_packs;
    if (strays_.size() < kStraysRead) strays_.push_back(*name);
  }

  Result<bool> gone_meanwhile(const ObjectHash& pack) {
    auto read = repository_.refresh_collections();
    if (!read && !is_damage(read.error())) return std::unexpected(std::move(read).error());
    return repository_.collections().gone(pack);
  }

  // False: nothing in it can be restored.
  Result<bool> check_pack(const IndexedPack& pack, std::optional<std::uint64_t> size) {
    if (!size) {
      // A collection may have removed it since the lists were read.
      HF_ASSIGN(const bool gone, gone_meanwhile(pack.pack));
      if (gone) return false;
      damage(fmt::format("pack {}: listed by a snapshot, not in the store", pack.pack.hex()));
      return false;
    }
    if (*size != pack.size)
      damage(
          fmt::format("pack {}: has {} bytes, {} were written", pack.pack.hex(), *size, pack.size));
    const RepositoryParts& parts = repository_.parts();
    auto table = read_pack_table(parts.store, parts.keys, parts.devices, pack.pack, pack.type);
    if (table) return true;
    if (table.error().code == Code::unavailable) return std::unexpected(std::move(table).error());
    damage(std::move(table).error().what);
    return false;
  }

  // What no restore needs, and a later session or collection reads: session records, and lists that
  // no head names.
  Result<> check_small_objects() {
    const RepositoryParts& parts = repository_.parts();
    std::vector<std::string> names;
    const auto note = [&](const ObjectInfo& info) -> Result<> {
      names.push_back(info.name);
      return {};
    };
    HF_TRY(list_at_most(parts.store, "heads/", parts.list_limits.heads, note));
    HF_TRY(list_at_most(
        parts.store, kLists, parts.list_limits.lists, [&](const ObjectInfo& info) -> Result<> {
          const auto hash = ObjectHash::parse(info.name.substr(kLists.size()));
          // One that is gone is removed by the next prune.
          return hash && repository_.collections().gone(*hash) ? Result<>() : note(info);
        }));
    std::vector<Result<>> checked;
    const std::size_t together = parts.store.parallel();
    for (std::size_t from = 0; from < names.size(); from += together) {
      HF_TRY(stop_.check());
      checked.resize(std::min(together, names.size() - from));
      parallel_for(parts.store.parallel(), checked.size(), [&](std::size_t i) {
        const std::string& name = names[from + i];
        checked[i] = name.starts_with(kLists) ? check_list(name) : check_session_record(name);
      });
      for (const Result<>& result : checked) {
        if (result) continue;
        if (result.error().code == Code::unavailable) return result;
        damage(result.error().what);
      }
    }
    return {};
  }

  Result<> check_list(const std::string& name) {
    HF_ASSIGN(const Bytes bytes, repository_.parts().store.get(name, kObjectMax));
    if (list_name(ObjectHash::from(sha256(bytes).span())) == name) return {};
    return fail(Code::corrupt,
                fmt::format("{}: its bytes are not those of its name", escaped(name)));
  }

  Result<> check_session_record(const std::string& name) {
    HF_ASSIGN(const HeadName parsed, parse_head_name(name));
    const RepositoryParts& parts = repository_.parts();
    if (parsed.kind == HeadName::Kind::tags) {
      HF_ASSIGN(const Bytes bytes, parts.store.get(name, kObjectMax));
      HF_ASSIGN([[maybe_unused]] const TagsRecord record,
                open_tags(bytes, {parsed.device, parsed.number}, parsed.revision, parts.keys,
                          parts.devices));
      return {};
    }
    if (parsed.kind != HeadName::Kind::open && parsed.kind != HeadName::Kind::generation) return {};
    HF_ASSIGN([[maybe_unused]] const SessionRecord record,
              read_session_record(parts, {parsed.device, parsed.number}, parsed.kind));
    return {};
  }

  // Their names are all that can be held against them, as no head vouches for them.
  Result<> read_strays() {
    ObjectStore& store = repository_.parts().store;
    for (const ObjectHash& pack : strays_) {
      HF_TRY(stop_.check());
      HF_ASSIGN(const Bytes bytes, store.get(pack_name(pack), kObjectMax));
      if (ObjectHash::from(sha256(bytes).span()) != pack)
        damage(fmt::format("pack {}: its bytes are not those of its name (no snapshot needs it)",
                           pack.hex()));
    }
    return {};
  }

  std::vector<IndexedPack> chosen() {
    std::vector<IndexedPack> chosen = repository_.index().packs();
    if (options_.read_data_percent >= 100) return chosen;
    const auto want = static_cast<std::size_t>(
        static_cast<double>(chosen.size()) * options_.read_data_percent / 100 + 0.999);
    for (std::size_t i = 0; i < std::min(want, chosen.size()); ++i) {
      std::array<std::byte, 8> draw;
      repository_.parts().random.fill(draw);
      std::swap(chosen[i], chosen[i + load_le<std::uint64_t>(draw.data()) % (chosen.size() - i)]);
    }
    chosen.resize(std::min(want, chosen.size()));
    return chosen;
  }

  Result<> read_packs() {
    const std::vector<IndexedPack> packs = chosen();
    progress_.packs_total = packs.size();
    std::atomic<std::size_t> next{0};
    Result<> result;
    std::vector<std::thread> threads;
    const unsigned workers = std::max(options_.workers, repository_.parts().store.parallel());
    threads.reserve(workers);
    for (unsigned i = 0; i < workers; ++i)
      threads.emplace_back([&] {
        FrameReader frames(repository_.parts().keys);
        for (std::size_t n; (n = next++) < packs.size();)
          if (auto read = read_pack(packs[n], frames); !read) {
            const std::lock_guard lock(mutex_);
            result = std::move(read);
            next = packs.size();
          }
      });
    for (std::thread& t : threads) t.join();
    report_.packs_read = packs.size();
    report_.bytes_read = progress_.bytes;
    HF_TRY(std::move(result));
    return repository_.note_damaged(damaged_, whole_);
  }

  Result<> read_pack(const IndexedPack& pack, FrameReader& frames) {
    HF_TRY(stop_.check());
    const RepositoryParts& parts = repository_.parts();
    HF_ASSIGN(const auto found,
              verify_pack(parts.store, parts.keys, parts.devices, pack.pack, pack.type, frames));
    const std::lock_guard lock(mutex_);
    (found.empty() ? whole_ : damaged_).push_back(pack.pack);
    for (const PackDamage& d : found) {
      report_.damage.push_back({d.what});
      for (const ChunkId& id : d.chunks) bad_chunk(id);
    }
    ++progress_.packs;
    progress_.bytes += pack.size;
    return {};
  }

  Result<> check_snapshot(const Snapshot& snapshot) {
    TreeUse use;
    use.seen = [&](const ChunkId& id) { return !seen_.insert(id); };
    use.node = [&](const ChunkId& id, ChunkType type) -> Result<> {
      HF_TRY(stop_.check());
      if (type != ChunkType::data) {
        ++report_.nodes;
        return {};
      }
      ++report_.chunks;
      if (repository_.index().contains(id) || repository_.index().find(id)) return {};
      damage(fmt::format("chunk {} of snapshot {}: in no pack that counts", id.hex(),
                         snapshot.id.brief()));
      bad_chunk(id);
      return {};
    };
    use.damaged = [&](const ChunkId&, const Error& error, std::string_view, std::string_view) {
      tree_damaged_ = true;
      damage(fmt::format("snapshot {}: {}", snapshot.id.brief(), error.what));
    };
    HF_TRY(walk_tree(repository_.nodes(), snapshot.tree, use));
    ++progress_.snapshots;
    return {};
  }

  // Once more without skipping what other snapshots share: every file that a damage touches, in
  // every snapshot.
  Result<> name_touched(const Snapshot& snapshot) {
    TreeUse use;
    use.entry = [&](const Entry& entry) -> Result<> {
      HF_TRY(stop_.check());
      if (entry.type == EntryType::file && touched(entry)) touch(snapshot, "/" + entry.path());
      return {};
    };
    use.damaged = [&](const ChunkId&, const Error&, std::string_view after, std::string_view last) {
      touch(snapshot, fmt::format("everything behind '/{}' up to {}", after,
                                  last.empty() ? "the end" : fmt::format("'/{}'", last)));
    };
    // Lists are read by touched(); the walk itself need not go into them.
    return walk_tree(repository_.nodes(), snapshot.tree, use);
  }

  bool touched(const Entry& entry) {
    ContentCursor cursor(repository_.nodes(), entry.content);
    for (;;) {
      const auto item = cursor.next();
      if (!item) return true;
      if (!*item) return false;
      if ((*item)->chunk && bad_chunks_.contains(*(*item)->chunk)) return true;
    }
  }

  void touch(const Snapshot& snapshot, std::string path) {
    ++report_.touched_count;
    if (report_.touched.size() < kTouchedListed)
      report_.touched.push_back({snapshot.id, std::move(path)});
  }

  Repository& repository_;
  const CheckOptions& options_;
  CheckProgress& progress_;
  const Stop& stop_;
  HeadList heads_;
  std::vector<ObjectHash> strays_;
  std::vector<ObjectHash> damaged_, whole_;  // of those that were read
  std::mutex mutex_;
  CheckReport report_;
  ChunkSet seen_{repository_.index()}, bad_chunks_{repository_.index()};
  bool chunks_damaged_ = false, tree_damaged_ = false;
};

}  // namespace

Result<CheckReport> check(Repository& repository, const CheckOptions& options,
                          CheckProgress& progress, const Stop& stop) {
  return Check(repository, options, progress, stop).run();
}

}  // namespace holdfast
