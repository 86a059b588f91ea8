// SPDX-License-Identifier: Apache-2.0
#include "repo/retention_lock.h"

#include <fmt/format.h>

#include <algorithm>
#include <charconv>
#include <mutex>

#include "base/parallel.h"
#include "repo/retention.h"

namespace holdfast {

namespace {

constexpr std::string_view kState = "retention-lock";
// Clocks of one service's machines differ; what was put about when the last pass began is looked at
// again.
constexpr std::int64_t kOverlap_ns = 900LL * 1'000'000'000;

std::int64_t half(std::int64_t period_ns) { return std::max<std::int64_t>(period_ns / 2, 1); }

// The last pass that ended: of which period, in which of its halves, and when it began.
struct LastPass {
  std::int64_t period_ns = 0, slot = 0, began_ns = 0;
};

// None, or one that cannot be read: everything is locked anew, which is never wrong.
std::optional<LastPass> read_last(LocalFolder& state) {
  const auto file = state.read(kState, 200);
  if (!file) return std::nullopt;
  const std::string_view text = as_text(*file);
  LastPass last;
  const char* at = text.data();
  const char* const end = at + text.size();
  for (std::int64_t* number : {&last.period_ns, &last.slot, &last.began_ns}) {
    const auto [next, error] = std::from_chars(at, end, *number);
    if (error != std::errc{} || next == end) return std::nullopt;
    at = next + 1;
  }
  return last;
}

// What collections condemned and did not end: until when it is to stay.
struct Condemned {
  std::map<ObjectHash, Time> names;  // packs and lists
  std::map<HeadRef, Time> heads;
};
Condemned condemned_until(const Collections& collections, std::int64_t period_ns) {
  Condemned out;
  for (std::uint64_t n = 1; n <= collections.newest(); ++n) {
    if (collections.done(n)) continue;
    const CollectionRecord& record = collections.record(n);
    const Time until{collections.put(n).ns + period_ns};  // later for each record
    for (const ObjectNames* names : {&record.condemned, &record.retired})
      for (const ObjectHash& name : *names) out.names[name] = until;
    for (const HeadRef& head : record.heads) out.heads[head] = until;
  }
  return out;
}

// The hash in the name of a pack or a list.
std::optional<ObjectHash> named_by_hash(std::string_view name) {
  if (!name.starts_with("packs/") && !name.starts_with("lists/")) return std::nullopt;
  const auto hash = ObjectHash::parse(name.substr(name.rfind('/') + 1));
  return hash ? std::optional(*hash) : std::nullopt;
}

struct Wanted {
  std::string name;
  Time until;
};

class Pass {
 public:
  Pass(Repository& repository, Time now)
      : repository_(repository), period_ns_(repository.parts().lock.period_ns), now_(now) {}

  Result<LockReport> run(const Stop& stop) {
    HF_TRY(repository_.refresh_collections());
    condemned_ = condemned_until(repository_.collections(), period_ns_);
    report_.until = locked_until(now_, period_ns_);
    const LastPass mine{period_ns_, now_.ns / half(period_ns_), now_.ns};
    const auto last = read_last(repository_.parts().state);
    const bool same = last && last->period_ns == mine.period_ns && last->slot == mine.slot;
    HF_TRY(find(same ? last->began_ns - kOverlap_ns : 0, stop));
    HF_TRY(lock_all(stop));
    HF_TRY(repository_.parts().state.replace(
        kState, as_bytes(fmt::format("{} {} {}\n", mine.period_ns, mine.slot, mine.began_ns))));
    return report_;
  }

 private:
  // Until when it is to stay; a time that is over: it may go.
  Time until(std::string_view name) const {
    const Collections& collections = repository_.collections();
    if (const auto hash = named_by_hash(name)) {
      if (collections.gone(*hash)) return {};
      const auto at = condemned_.names.find(*hash);
      return at == condemned_.names.end() ? report_.until : at->second;
    }
    if (name.starts_with("probe/")) return {};
    const auto head = parse_head_name(name);
    if (!head || head->kind == HeadName::Kind::dropped) return report_.until;
    const HeadRef ref{head->device, head->number};
    if (collections.gone(ref)) return {};
    const auto at = condemned_.heads.find(ref);
    return at == condemned_.heads.end() ? report_.until : at->second;
  }

  // What was put since `since_ns`.
  Result<> find(std::int64_t since_ns, const Stop& stop) {
    const ListLimits& limits = repository_.parts().list_limits;
    return list_at_most(repository_.parts().store, "",
                        limits.heads + limits.packs + limits.lists + kChainAndMore,
                        [&](const ObjectInfo& info) -> Result<> {
                          HF_TRY(stop.check());
                          ++report_.objects;
                          if (info.put.ns < since_ns) return {};
                          const Time end = until(info.name);
                          if (end > now_) wanted_.push_back({info.name, end});
                          return wanted_.size() < kAtOnce ? Result<>() : lock_all(stop);
                        });
  }

  Result<> lock_all(const Stop& stop) {
    ObjectStore& store = repository_.parts().store;
    std::mutex mutex;
    Result<> failed;
    parallel_for(store.parallel(), wanted_.size(), [&](std::size_t i) {
      Result<> done = stop.check();
      if (done) done = store.keep_until(wanted_[i].name, wanted_[i].until);
      const std::lock_guard lock(mutex);
      if (done)
        ++report_.extended;
      else if (done.error().code != Code::not_found && failed)  // removed meanwhile: not needed
        failed = std::move(done);
    });
    wanted_.clear();
    return failed;
  }

  static constexpr std::uint64_t kChainAndMore = 1U << 17;  // objects
  static constexpr std::size_t kAtOnce = 4096;              // names in memory
  Repository& repository_;
  const std::int64_t period_ns_;
  const Time now_;
  Condemned condemned_;
  std::vector<Wanted> wanted_;
  LockReport report_;
};

}  // namespace

Time locked_until(Time now, std::int64_t period_ns) {
  return {(now.ns / half(period_ns) + 3) * half(period_ns)};
}

Result<> check_lock_clock(Time store, Time machine) {
  const std::int64_t apart = std::max(store.ns, machine.ns) - std::min(store.ns, machine.ns);
  if (apart <= kLockClockTolerance_ns) return {};
  return fail(Code::denied,
              fmt::format("the store's clock says {}, this machine's {}: a retention lock rests on "
                          "them. Nothing was locked or removed; set the one that is wrong",
                          utc_text(store), utc_text(machine)));
}

Result<LockReport> extend_locks(Repository& repository, const Stop& stop) {
  const RepositoryParts& parts = repository.parts();
  if (parts.lock.period_ns == 0) return LockReport{};
  HF_ASSIGN(const StoreLock lock, parts.store.lock());
  HF_TRY(check_lock_clock(lock.now, parts.clock.now()));
  return Pass(repository, lock.now).run(stop);
}

}  // namespace holdfast
