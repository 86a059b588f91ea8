// SPDX-License-Identifier: Apache-2.0
#include "repo/repository.h"

#include <fmt/format.h>

#include <algorithm>
#include <charconv>
#include <sstream>

#include "base/parallel.h"
#include "crypto/hash.h"

namespace holdfast {

namespace {

constexpr std::uint64_t kHeadObjectMax = 64U << 20;
constexpr std::uint64_t kListObjectMax = 64U << 20;
constexpr std::uint64_t kStateFileMax = 256U << 20;
constexpr std::string_view kKnown = "known-heads", kSession = "session", kJournal = "session-packs",
                           kDamagedPacks = "damaged-packs", kKnownCollection = "known-collection";
constexpr std::size_t kSamplePacks = 3;  // of each other device, each time it has written more

struct KnownHead {
  std::uint64_t number = 0;
  SnapshotId id;
};
using KnownHeads = std::map<DeviceId, KnownHead>;

// State files are lines of words; one that does not parse is an error, never taken for empty.
Result<std::vector<std::vector<std::string>>> read_lines(LocalFolder& folder,
                                                         std::string_view name) {
  auto bytes = folder.read(name, kStateFileMax);
  if (!bytes && bytes.error().code == Code::not_found) return {};
  if (!bytes) return wrap(std::move(bytes).error(), "home state");
  std::vector<std::vector<std::string>> lines;
  std::istringstream text{std::string(as_text(*bytes))};
  for (std::string line; std::getline(text, line);) {
    std::istringstream words(line);
    lines.emplace_back();
    for (std::string word; words >> word;) lines.back().push_back(word);
  }
  return lines;
}

bool parse_number(const std::string& text, std::uint64_t& out) {
  const auto [end, error] = std::from_chars(text.data(), text.data() + text.size(), out);
  return error == std::errc{} && end == text.data() + text.size();
}

std::unexpected<Error> bad_state(const LocalFolder& folder, std::string_view name) {
  return fail(
      Code::corrupt,
      fmt::format("{}/{}: not a state file of holdfast; put it back from a copy, or make a new "
                  "device of this home with 'holdfast recover'",
                  folder.where(), name));
}

Result<KnownHeads> read_known(LocalFolder& folder) {
  HF_ASSIGN(const auto lines, read_lines(folder, kKnown));
  KnownHeads known;
  for (const auto& words : lines) {
    KnownHead head;
    if (words.size() != 3 || !parse_number(words[1], head.number)) return bad_state(folder, kKnown);
    const auto device = DeviceId::parse(words[0]);
    const auto id = SnapshotId::parse(words[2]);
    if (!device || !id) return bad_state(folder, kKnown);
    head.id = *id;
    known[*device] = head;
  }
  return known;
}

Result<> write_known(LocalFolder& folder, const KnownHeads& known) {
  std::string text;
  for (const auto& [device, head] : known)
    text += fmt::format("{} {} {}\n", device.hex(), head.number, head.id.hex());
  return folder.replace(kKnown, as_bytes(text));
}

// Another process of this home may be at the same file; who comes second leaves the memory as it is
// and adds to it next time. A home that cannot be written (a rescue system) remembers nothing new.
Result<> remember(LocalFolder& folder, const std::vector<Snapshot>& snapshots) {
  auto lock = folder.lock("known-heads.lock");
  if (!lock && (lock.error().code == Code::conflict || lock.error().code == Code::denied))
    return {};
  if (!lock) return std::unexpected(std::move(lock).error());
  HF_ASSIGN(KnownHeads known, read_known(folder));
  bool changed = false;
  for (const Snapshot& s : snapshots) {
    KnownHead& head = known[s.device];
    if (s.number <= head.number) continue;
    head = {s.number, s.id};
    changed = true;
  }
  return changed ? write_known(folder, known) : Result<>();
}

struct SessionState {
  bool running = false;
  std::uint64_t number = 0;  // 0: this home never wrote
  Hash256 nonce;
};

Result<SessionState> read_session(LocalFolder& folder) {
  HF_ASSIGN(const auto lines, read_lines(folder, kSession));
  if (lines.empty()) return SessionState{};
  SessionState state;
  const auto& words = lines[0];
  if (lines.size() != 1 || words.size() != 3 || !parse_number(words[1], state.number))
    return bad_state(folder, kSession);
  const auto nonce = Hash256::parse(words[2]);
  if (!nonce || (words[0] != "running" && words[0] != "done")) return bad_state(folder, kSession);
  state.running = words[0] == "running";
  state.nonce = *nonce;
  return state;
}

Result<> write_session(LocalFolder& folder, const SessionState& state) {
  return folder.replace(
      kSession, as_bytes(fmt::format("{} {} {}\n", state.running ? "running" : "done", state.number,
                                     state.nonce.hex())));
}

std::unexpected<Error> copied_home(std::string_view what) {
  return fail(
      Code::alarm,
      fmt::format(
          "{}: this home was copied or rolled back, and two machines write as one device. "
          "Nothing was written. Give this machine a device of its own: 'holdfast --home NEW "
          "recover --paper-key-file FILE'",
          what));
}

}  // namespace

Result<Bytes> ChunkNodeSource::get(const ChunkId& id, ChunkType type) {
  HF_ASSIGN(const ChunkReader::Chunk chunk, reader_.get(id, type));
  return Bytes(chunk.bytes.begin(), chunk.bytes.end());
}

Repository::Repository(RepositoryParts parts) : parts_(std::move(parts)) {}

Result<std::unique_ptr<Repository>> Repository::open(RepositoryParts parts) {
  std::unique_ptr<Repository> repository(new Repository(std::move(parts)));
  const RepositoryParts& p = repository->parts_;
  HF_ASSIGN(repository->index_, Index::open(p.cache, p.keys.place.repository, p.index_limits));
  repository->reader_ = std::make_unique<ChunkReader>(p.store, p.keys, p.devices,
                                                      *repository->index_, p.reader_limits);
  repository->nodes_ = std::make_unique<ChunkNodeSource>(*repository->reader_);
  return repository;
}

// What a head, or the stub of one that was removed, says about its place in its device's sequence.
struct Link {
  HeadRef at;
  SnapshotId id;
  std::uint64_t previous_number;
  SnapshotId previous;
};

struct HeadSequences {
  std::vector<Link> links;
  std::map<HeadRef, SnapshotId> at;
  std::set<HeadRef> damaged;
  void add(const Link& link) {
    links.push_back(link);
    at[link.at] = link.id;
  }
};

// While others put heads and collections remove them, a listing may show the later of two and not
// the earlier, and what it showed may be gone: looked at again before it is believed.
Result<HeadList> Repository::heads() {
  constexpr int looks = 3;
  for (int look = 1;; ++look) {
    auto list = read_heads(nullptr);
    const bool again =
        !list && (list.error().code == Code::alarm || list.error().code == Code::not_found);
    if (again && look < looks) continue;
    return list;
  }
}

namespace {

std::unexpected<Error> fork_alarm(const Link& link) {
  return fail(Code::alarm,
              fmt::format("heads of device {} fork: head {} does not follow the head {} that is "
                          "there",
                          link.at.device.hex(), link.at.number, link.previous_number));
}

constexpr std::string_view kWayOut = "'holdfast repair index' tells what is missing";

// Each device's heads form a sequence by number and previous id.
Result<> check_sequences(const HeadSequences& heads) {
  std::set<HeadRef> followed;
  for (const Link& link : heads.links) {
    const HeadRef before{link.at.device, link.previous_number};
    if (link.previous_number == 0) continue;
    if (!followed.insert(before).second) return fork_alarm(link);
    if (heads.damaged.contains(before)) continue;
    const auto found = heads.at.find(before);
    if (found == heads.at.end())
      return fail(
          Code::alarm,
          fmt::format(
              "head {} of device {} is missing: the store does not show it, and head {} follows "
              "it; {}",
              link.previous_number, link.at.device.hex(), link.at.number, kWayOut));
    if (found->second != link.previous) return fork_alarm(link);
  }
  return {};
}

// What this home saw must be in what the store shows.
Result<> check_known(const KnownHeads& known, const HeadSequences& heads) {
  std::map<DeviceId, std::uint64_t> newest;
  for (const HeadRef& ref : heads.damaged)
    newest[ref.device] = std::max(newest[ref.device], ref.number);
  for (const auto& [ref, id] : heads.at)
    newest[ref.device] = std::max(newest[ref.device], ref.number);
  for (const auto& [device, head] : known) {
    const auto seen = newest.find(device);
    const std::uint64_t now = seen == newest.end() ? 0 : seen->second;
    if (now < head.number)
      return fail(
          Code::alarm,
          fmt::format(
              "head rolled back {}->{} for device {}: the store shows less than this home saw. "
              "Nothing was written; {}",
              head.number, now, device.hex(), kWayOut));
    const auto found = heads.at.find({device, head.number});
    if (found == heads.at.end() && !heads.damaged.contains({device, head.number}))
      return fail(Code::alarm, fmt::format("head {} of device {} is gone: this home saw it; {}",
                                           head.number, device.hex(), kWayOut));
    if (found != heads.at.end() && found->second != head.id)
      return fail(Code::alarm, fmt::format("head {} of device {} is another than this home saw",
                                           head.number, device.hex()));
  }
  return {};
}

// Heads that another one follows, or that this home saw, and that are not there whole.
std::vector<MissingHead> find_missing(const KnownHeads& known, const HeadSequences& heads) {
  std::map<HeadRef, SnapshotId> wanted;
  for (const Link& link : heads.links)
    if (link.previous_number > 0)
      wanted.emplace(HeadRef{link.at.device, link.previous_number}, link.previous);
  for (const auto& [device, head] : known) wanted.emplace(HeadRef{device, head.number}, head.id);
  std::vector<MissingHead> missing;
  for (const auto& [ref, id] : wanted) {
    if (heads.at.contains(ref)) continue;
    MissingHead head{.at = ref, .id = id, .before_number = 0, .before = {}};
    const auto above = heads.at.lower_bound(ref);
    if (above != heads.at.begin() && std::prev(above)->first.device == ref.device) {
      head.before_number = std::prev(above)->first.number;
      head.before = std::prev(above)->second;
    }
    // Of several in a row each follows the one that this fills in below it.
    if (!missing.empty() && missing.back().at.device == ref.device &&
        missing.back().at.number > head.before_number) {
      head.before_number = missing.back().at.number;
      head.before = missing.back().id;
    }
    head.rollback = !heads.damaged.contains(ref) &&
                    (above == heads.at.end() || above->first.device != ref.device);
    missing.push_back(head);
  }
  return missing;
}

struct HeadNames {
  std::vector<HeadRef> heads, stubs;
  std::map<HeadRef, Time> stubs_put;
  std::map<HeadRef, std::uint32_t> tags;  // newest revision
};

Result<HeadNames> list_heads(const RepositoryParts& parts) {
  HeadNames names;
  HF_TRY(list_at_most(parts.store, "heads/", parts.list_limits.heads,
                      [&](const ObjectInfo& info) -> Result<> {
                        const auto name = parse_head_name(info.name);
                        if (!name) return {};
                        if (name->kind == HeadName::Kind::head)
                          names.heads.push_back({name->device, name->number});
                        if (name->kind == HeadName::Kind::dropped) {
                          names.stubs.push_back({name->device, name->number});
                          names.stubs_put[names.stubs.back()] = info.put;
                        }
                        if (name->kind == HeadName::Kind::tags) {
                          auto& newest = names.tags[{name->device, name->number}];
                          newest = std::max(newest, name->revision);
                        }
                        return {};
                      }));
  return names;
}

// Stubs that hold, by what they drop.
Result<std::map<HeadRef, Dropped>> read_stubs(const RepositoryParts& parts,
                                              const std::vector<HeadRef>& names, HeadList& list,
                                              HeadSequences& sequences) {
  std::map<HeadRef, Dropped> stubs;
  HF_TRY(fetch_each(parts.store, names, kHeadObjectMax, dropped_name,
                    [&](const HeadRef& ref, Result<Bytes> object) -> Result<> {
                      if (!object && object.error().code != Code::corrupt)
                        return wrap(std::move(object).error(), dropped_name(ref));
                      auto stub = object ? open_dropped(*object, ref, parts.keys, parts.devices)
                                         : std::unexpected(object.error());
                      if (stub) {
                        stubs.emplace(ref, std::move(*stub));
                        return {};
                      }
                      list.damaged.push_back(stub.error().what);
                      list.damaged_stubs.push_back(ref);
                      sequences.damaged.insert(ref);  // a head that it stood for is not missing
                      return {};
                    }));
  return stubs;
}

}  // namespace

Result<HeadList> Repository::heads_with_gaps(std::vector<MissingHead>& missing) {
  // Without gaps what others do meanwhile may look like one.
  if (auto list = heads(); list || list.error().code != Code::alarm) {
    if (list && list->damaged.empty()) return list;
  }
  missing.clear();
  return read_heads(&missing);
}

Result<HeadList> Repository::read_heads(std::vector<MissingHead>* missing) {
  // Before the listing: what another process of this home adds meanwhile need not be in it.
  HF_ASSIGN(const KnownHeads known, read_known(parts_.state));
  HeadList list;
  HF_TRY(refresh_for_reading(list.damaged));
  list.collections = collections_.state();
  HF_ASSIGN(const HeadNames names, list_heads(parts_));
  HeadSequences sequences;
  HF_ASSIGN(auto stubs, read_stubs(parts_, names.stubs, list, sequences));
  HF_TRY(fetch_each(
      parts_.store, names.heads, kHeadObjectMax,
      [](const HeadRef& ref) { return head_name(ref.device, ref.number); },
      [&](const HeadRef& ref, Result<Bytes> object) {
        return read_head(ref, std::move(object), stubs, list, sequences);
      }));
  HF_TRY(read_tags(names.tags, list));
  const std::set<HeadRef> there(names.heads.begin(), names.heads.end());
  for (const auto& [ref, revision] : names.tags)
    for (std::uint32_t n = 1; n <= revision && !there.contains(ref); ++n)
      list.leftovers.push_back(tags_name(ref, n));
  for (const auto& [ref, stub] : stubs)  // of heads that were removed
    sequences.add({ref, stub.head, stub.previous_number, stub.previous});
  for (auto* snapshots : {&list.snapshots, &list.dropped})
    std::ranges::sort(*snapshots, {},
                      [](const Snapshot& s) { return std::tuple(s.ended, s.device, s.number); });
  if (missing != nullptr) {
    *missing = find_missing(known, sequences);
    for (const MissingHead& head : *missing)
      if (!sequences.at.contains(head.at)) sequences.damaged.insert(head.at);
  }
  HF_TRY(pass_over_alarm(check_sequences(sequences), list.damaged));
  HF_TRY(pass_over_alarm(check_known(known, sequences), list.damaged));
  for (const Snapshot& s : list.dropped) {
    const HeadRef ref{s.device, s.number};
    if (const Time put = names.stubs_put.at(ref); parts_.lock.holds(put))
      list.held.emplace(ref, Time{put.ns + parts_.lock.period_ns});
  }
  for (const auto& [ref, id] : sequences.at) list.newest[ref.device] = {ref.number, id};
  if (!parts_.despite_alarm) HF_TRY(remember(parts_.state, list.snapshots));
  return list;
}

// A record that does not hold, or is of another head, changes nothing.
Result<> Repository::read_tags(const std::map<HeadRef, std::uint32_t>& revisions, HeadList& list) {
  std::vector<Snapshot*> tagged;
  for (auto* snapshots : {&list.snapshots, &list.dropped})
    for (Snapshot& s : *snapshots)
      if (const auto at = revisions.find({s.device, s.number}); at != revisions.end()) {
        s.tags_revision = at->second;
        tagged.push_back(&s);
      }
  const auto name = [](const Snapshot* s) {
    return tags_name({s->device, s->number}, s->tags_revision);
  };
  return fetch_each(parts_.store, tagged, kHeadObjectMax, name,
                    [&](Snapshot* s, Result<Bytes> object) -> Result<> {
                      auto record = object
                                        ? open_tags(*object, {s->device, s->number},
                                                    s->tags_revision, parts_.keys, parts_.devices)
                                        : std::unexpected(object.error());
                      if (!record && !is_damage(record.error()))
                        return std::unexpected(record.error());
                      if (!record)
                        list.damaged.push_back(record.error().what);
                      else if (record->head == s->id)
                        s->tags = std::move(record->tags);
                      return {};
                    });
}

// Takes the head's stub out of `stubs`, if it has one.
Result<> Repository::read_head(const HeadRef& ref, Result<Bytes> object,
                               std::map<HeadRef, Dropped>& stubs, HeadList& list,
                               HeadSequences& sequences) {
  const std::string name = head_name(ref.device, ref.number);
  // A collection removes it just now; its stub stands in.
  if (!object && object.error().code == Code::not_found && stubs.contains(ref)) return {};
  if (!object && object.error().code != Code::corrupt) return wrap(std::move(object).error(), name);
  if (object && looks_abandoned(*object)) {
    const auto record = open_abandoned(*object, ref, parts_.keys, parts_.devices);
    if (record) return {};
    sequences.damaged.insert(ref);
    list.damaged.push_back(record.error().what);
    return {};
  }
  auto head = object ? open_head(*object, name, parts_.keys, parts_.devices)
                     : std::unexpected(object.error());
  if (!head) {
    // A repair put the stub, or it was dropped: either way nobody needs it, and the stub tells
    // what other heads follow.
    if (stubs.contains(ref)) return {};
    sequences.damaged.insert(ref);
    list.damaged.push_back(head.error().what);
    return {};
  }
  const auto named = parts_.check_chain(head->chain_position, head->chain_hash);
  HF_TRY(pass_over_alarm(named, list.damaged));
  if (!named) {
    sequences.damaged.insert(ref);
    return {};
  }
  sequences.add({ref, head->id, head->previous_number, head->previous});
  auto stub = stubs.extract(ref);
  const bool dropped = !stub.empty() && stub.mapped().head == head->id;
  if (!stub.empty() && !dropped)
    list.damaged.push_back(
        fmt::format("{}: drops another head than the one that is there; it "
                    "counts for nothing",
                    dropped_name(ref)));
  (dropped ? list.dropped : list.snapshots).push_back(std::move(*head));
  return {};
}

// ---- collections

namespace {

struct KnownCollection {
  std::uint64_t number = 0;
  ObjectHash object;
};

Result<KnownCollection> read_known_collection(LocalFolder& folder) {
  HF_ASSIGN(const auto lines, read_lines(folder, kKnownCollection));
  KnownCollection known;
  if (lines.empty()) return known;
  if (lines[0].size() != 2 || !parse_number(lines[0][0], known.number))
    return bad_state(folder, kKnownCollection);
  const auto object = ObjectHash::parse(lines[0][1]);
  if (!object) return bad_state(folder, kKnownCollection);
  known.object = *object;
  return known;
}

}  // namespace

Result<> Repository::check_known_collections() {
  if (parts_.accept_rollback) return {};
  HF_ASSIGN(const KnownCollection known, read_known_collection(parts_.state));
  const std::uint64_t newest = collections_.newest();
  if (known.number > newest ||
      (known.number > 0 && collections_.record(known.number).object != known.object))
    return fail(Code::alarm,
                fmt::format("collection {} is gone or another than this home saw: the store was "
                            "rolled back. Nothing was written; 'holdfast repair index "
                            "--accept-rollback' tells what is missing",
                            known.number));
  return known.number == newest ? Result<>() : remember_collections();
}

Result<> Repository::remember_collections() {
  const std::uint64_t newest = collections_.newest();
  if (newest == 0) return parts_.state.remove(kKnownCollection);
  auto written = parts_.state.replace(
      kKnownCollection,
      as_bytes(fmt::format("{} {}\n", newest, collections_.record(newest).object.hex())));
  // A home that cannot be written (a rescue system) remembers nothing new.
  return written || written.error().code != Code::denied ? written : Result<>();
}

// A damaged record must not keep anybody from what can be read; sessions and collections refuse.
Result<> Repository::refresh_for_reading(std::vector<std::string>& damaged) {
  auto read = refresh_collections();
  if (read || !is_damage(read.error())) return pass_over_alarm(std::move(read), damaged);
  damaged.push_back(std::move(read).error().what);
  return {};
}

std::string passed_over(const Error& alarm) { return "ALARM, passed over: " + alarm.what; }

Result<> Repository::pass_over_alarm(Result<> checked, std::vector<std::string>& damaged) const {
  if (checked || checked.error().code != Code::alarm || !parts_.despite_alarm) return checked;
  damaged.push_back(passed_over(checked.error()));
  return {};
}

// For a repair, should the store damage or lose it: no other object says what it said. A copy in
// the cache, of any device, is enough; one that cannot be kept is no error.
void Repository::keep_copy(std::uint64_t number, ByteSpan object) {
  const std::string name = collection_copy_name(number);
  // The first one stays, should the store show another one later.
  if (const auto there = parts_.cache.read(name, 1); there || there.error().code != Code::not_found)
    return;
  [[maybe_unused]] const auto kept = parts_.cache.replace(name, object);
}

Result<> Repository::refresh_collections() {
  constexpr int looks = 3;  // as for heads()
  Result<> read;
  for (int look = 1; look <= looks; ++look) {
    read = collections_.refresh(
        {parts_.store, parts_.keys, parts_.devices, parts_.lock,
         [&](std::uint64_t number, ByteSpan object) { keep_copy(number, object); }});
    if (read || read.error().code != Code::alarm) break;
  }
  if (collections_applied_ == collections_.state()) return read;
  if (read) HF_TRY(check_known_collections());
  if (!collections_.gone().empty()) HF_TRY(index_->remove_packs(collections_.gone()));
  index_->set_condemned(collections_.condemned());
  if (read) collections_applied_ = collections_.state();
  return read;
}

Result<std::vector<ListedPack>> Repository::open_list(const RepositoryKeys& keys,
                                                      const PackListRef& ref,
                                                      Result<Bytes> object) {
  const std::string name = list_name(ref.name);
  if (!object) return wrap(std::move(object).error(), name);
  if (ObjectHash::from(sha256(*object).span()) != ref.name)
    return fail(Code::corrupt, fmt::format("{}: its bytes are not those of its name", name));
  auto plain = open_box(keys, ObjectType::pack_list, "", *object);
  if (!plain) return wrap(std::move(plain).error(), name);
  auto packs = parse_pack_list(*plain);
  if (!packs) return wrap(std::move(packs).error(), name);
  if (packs->size() != ref.packs)
    return fail(Code::corrupt, fmt::format("{}: lists {} packs, the head says {}", name,
                                           packs->size(), ref.packs));
  return packs;
}

Result<std::optional<std::vector<ListedPack>>> Repository::read_counting_list(
    const PackListRef& ref) {
  return open_counting_list(ref, parts_.store.get(list_name(ref.name), kListObjectMax));
}

Result<std::optional<std::vector<ListedPack>>> Repository::open_counting_list(
    const PackListRef& ref, Result<Bytes> object) {
  if (collections_.gone(ref.name)) return std::nullopt;
  auto packs = open_list(parts_.keys, ref, std::move(object));
  if (packs) return std::optional(std::move(*packs));
  if (packs.error().code == Code::not_found) {
    if (refresh_collections() && collections_.gone(ref.name)) return std::nullopt;
  }
  return std::unexpected(std::move(packs).error());
}

namespace {

// A list that stands and who vouches for it: a head for packs of its own device only, a collection
// record for those of all.
struct Counting {
  PackListRef list;
  std::optional<DeviceId> device;
  std::string what;
};

std::vector<Counting> counting_lists(const HeadList& heads, const Collections& collections) {
  std::vector<Counting> out;
  const auto add = [&](const PackListRef& ref, const std::optional<DeviceId>& device,
                       const std::string& what) {
    if (!collections.gone(ref.name)) out.push_back({ref, device, what});
  };
  for (const auto* snapshots : {&heads.snapshots, &heads.dropped})
    for (const Snapshot& s : *snapshots)
      for (const PackListRef& ref : s.lists) add(ref, s.device, "snapshot " + s.id.brief());
  for (std::uint64_t number = 1; number <= collections.newest(); ++number)
    for (const PackListRef& ref : collections.record(number).lists)
      add(ref, std::nullopt, collection_name(number));
  return out;
}

}  // namespace

Result<std::vector<ListedPack>> Repository::listed_packs(const HeadList& heads, const Stop& stop) {
  std::vector<ListedPack> out;
  for (const Counting& counting : counting_lists(heads, collections_)) {
    HF_TRY(stop.check());
    const auto packs = read_counting_list(counting.list);
    if (!packs && !is_damage(packs.error())) return std::unexpected(packs.error());
    if (!packs || !*packs) continue;
    for (const ListedPack& pack : **packs)
      if (!collections_.gone(pack.pack)) out.push_back(pack);
  }
  std::ranges::sort(out, {}, &ListedPack::pack);
  const auto doubled = std::ranges::unique(out, {}, &ListedPack::pack);
  out.erase(doubled.begin(), doubled.end());
  return out;
}

Result<std::vector<PackListRef>> Repository::damaged_lists(const HeadList& heads,
                                                           const Stop& stop) {
  std::vector<PackListRef> damaged;
  for (const Counting& counting : counting_lists(heads, collections_)) {
    HF_TRY(stop.check());
    const auto packs = read_counting_list(counting.list);
    if (packs) continue;
    if (!is_damage(packs.error())) return std::unexpected(packs.error());
    damaged.push_back(counting.list);
  }
  return damaged;
}

// Adds to the index what these packs' tables say; names the damaged ones. Several tables are read
// at once.
Result<> Repository::index_packs(std::span<const ListedPack> packs,
                                 const std::optional<DeviceId>& device,
                                 std::vector<std::string>& damaged) {
  std::vector<Result<PackTable>> tables(packs.size());
  parallel_for(parts_.store.parallel(), packs.size(), [&](std::size_t i) {
    tables[i] =
        read_pack_table(parts_.store, parts_.keys, parts_.devices, packs[i].pack, packs[i].type);
  });
  for (std::size_t i = 0; i < packs.size(); ++i) {
    const auto& table = tables[i];
    // A collection removed it meanwhile, or before the store lost that collection's end. If it
    // should be needed all the same, its chunks are missed.
    if (!table && table.error().code == Code::not_found && refresh_collections() &&
        collections_.doomed(packs[i].pack))
      continue;
    if (!table && !is_damage(table.error())) return std::unexpected(table.error());
    if (!table)
      damaged.push_back(table.error().what);
    else if (device && table->device != *device)
      damaged.push_back(fmt::format("pack {}: listed by device {}, written by {}",
                                    packs[i].pack.brief(), device->hex(), table->device.hex()));
    else
      HF_TRY(index_->add(*table));
  }
  return {};
}

Result<std::vector<std::string>> Repository::sync_index(const HeadList& heads, const Stop& stop) {
  HF_ASSIGN(const auto journal, read_journal());
  return sync_index_with(journal, heads, stop);
}

Result<std::vector<std::string>> Repository::sync_index_as_others(const HeadList& heads,
                                                                  const Stop& stop) {
  return sync_index_with({}, heads, stop);
}

Result<std::vector<std::string>> Repository::sync_index_with(
    const std::vector<IndexedPack>& journal, const HeadList& heads, const Stop& stop) {
  std::vector<std::string> damaged;
  HF_TRY(refresh_for_reading(damaged));
  std::unordered_set<ObjectHash, IdHash> counted;
  bool added = false;
  const auto take = [&](const Counting& counting, Result<Bytes> object) -> Result<> {
    auto packs = open_counting_list(counting.list, std::move(object));
    if (!packs && !is_damage(packs.error())) return std::unexpected(packs.error());
    if (!packs) damaged.push_back(fmt::format("{} of {}", packs.error().what, counting.what));
    if (!packs || !*packs) return {};
    std::vector<ListedPack> fresh;
    for (const ListedPack& pack : **packs) {
      if (collections_.gone(pack.pack)) continue;
      counted.insert(pack.pack);
      if (!index_->has_pack(pack.pack)) fresh.push_back(pack);
    }
    added |= !fresh.empty();
    const std::size_t together = parts_.store.parallel();
    for (std::size_t from = 0; from < fresh.size(); from += together) {
      HF_TRY(stop.check());
      HF_TRY(index_packs(std::span(fresh).subspan(from, std::min(together, fresh.size() - from)),
                         counting.device, damaged));
    }
    return stop.check();
  };
  HF_TRY(fetch_each(
      parts_.store, counting_lists(heads, collections_), kListObjectMax,
      [](const Counting& counting) { return list_name(counting.list.name); }, take));
  for (const IndexedPack& pack : journal) counted.insert(pack.pack);
  std::vector<ObjectHash> stray;
  for (const IndexedPack& pack : index_->packs())
    if (!counted.contains(pack.pack)) stray.push_back(pack.pack);
  if (!stray.empty()) HF_TRY(index_->remove_packs(stray));
  // A cache that cannot be written (read-only, full) costs time, not the command.
  if (added) [[maybe_unused]]
    const auto flushed = index_->flush();
  return damaged;
}

Result<std::vector<IndexedPack>> Repository::read_journal() {
  HF_ASSIGN(const auto lines, read_lines(parts_.state, kJournal));
  std::vector<IndexedPack> packs;
  for (const auto& words : lines) {
    std::uint64_t type = 0, size = 0;
    // The last line may be cut off by a crash while it was appended; its pack is then stored again.
    if (words.size() != 4 || words[3] != "." || !parse_number(words[1], type) ||
        !parse_number(words[2], size))
      continue;
    const auto pack = ObjectHash::parse(words[0]);
    if (pack && (type == 1 || type == 2))
      packs.push_back({*pack, static_cast<ObjectType>(type), size, parts_.device});
  }
  return packs;
}

namespace {

Result<std::set<ObjectHash>> read_damaged(LocalFolder& folder) {
  HF_ASSIGN(const auto lines, read_lines(folder, kDamagedPacks));
  std::set<ObjectHash> packs;
  for (const auto& words : lines) {
    const auto pack = ObjectHash::parse(words.empty() ? "" : words[0]);
    if (!pack || words.size() != 1) return bad_state(folder, kDamagedPacks);
    packs.insert(*pack);
  }
  return packs;
}

}  // namespace

Result<std::set<ObjectHash>> Repository::known_damaged() {
  HF_ASSIGN(std::set<ObjectHash> packs, read_damaged(parts_.state));
  std::erase_if(packs, [&](const ObjectHash& pack) { return collections_.gone(pack); });
  return packs;
}

Result<> Repository::note_damaged(const std::vector<ObjectHash>& damaged,
                                  const std::vector<ObjectHash>& whole) {
  HF_ASSIGN(std::set<ObjectHash> packs, read_damaged(parts_.state));
  const std::set<ObjectHash> before = packs;
  for (const ObjectHash& pack : whole) packs.erase(pack);
  packs.insert(damaged.begin(), damaged.end());
  if (packs == before) return {};
  std::string text;
  for (const ObjectHash& pack : packs) text += pack.hex() + "\n";
  auto written = parts_.state.replace(kDamagedPacks, as_bytes(text));
  // A home that cannot be written makes no backups either.
  return written || written.error().code != Code::denied ? written : Result<>();
}

Result<PackListing> Repository::list_packs(const Stop& stop,
                                           const std::function<void(const ObjectInfo&)>& other) {
  PackListing out{.packs = index_->packs(), .sizes = {}};
  std::ranges::sort(out.packs, {}, &IndexedPack::pack);
  out.sizes.resize(out.packs.size());
  HF_TRY(list_at_most(
      parts_.store, "packs/", parts_.list_limits.packs, [&](const ObjectInfo& info) -> Result<> {
        HF_TRY(stop.check());
        const auto name = parse_pack_name(info.name);
        const auto at = name ? std::ranges::lower_bound(out.packs, *name, {}, &IndexedPack::pack)
                             : out.packs.end();
        if (at == out.packs.end() || at->pack != *name)
          other(info);
        else
          out.sizes[static_cast<std::size_t>(at - out.packs.begin())] = info.size;
        return {};
      }));
  HF_TRY(forget_condemned(out));
  return out;
}

Result<> Repository::forget_condemned(PackListing& listing) {
  std::vector<ObjectHash> removed;
  std::size_t kept = 0;
  for (std::size_t i = 0; i < listing.packs.size(); ++i) {
    if (!listing.sizes[i] && collections_.doomed(listing.packs[i].pack)) {
      removed.push_back(listing.packs[i].pack);
      continue;
    }
    listing.packs[kept] = listing.packs[i];
    listing.sizes[kept++] = listing.sizes[i];
  }
  listing.packs.resize(kept);
  listing.sizes.resize(kept);
  return removed.empty() ? Result<>() : index_->remove_packs(removed);
}

Result<std::vector<ObjectHash>> Repository::lost_packs(const Stop& stop) {
  HF_ASSIGN(const PackListing listing, list_packs(stop, [](const ObjectInfo&) {}));
  std::vector<ObjectHash> lost;
  for (std::size_t i = 0; i < listing.packs.size(); ++i)
    if (listing.sizes[i] != listing.packs[i].size) lost.push_back(listing.packs[i].pack);
  return lost;
}

// A cache that names packs that are gone would let new snapshots rest on nothing.
Result<> Repository::forget_missing_packs(const Stop& stop, std::vector<std::string>& warnings) {
  HF_ASSIGN(auto gone, lost_packs(stop));
  if (gone.empty()) return {};
  // Those that a collection removed since the index was brought up to date are not missing.
  HF_TRY(refresh_collections());
  std::erase_if(gone, [&](const ObjectHash& pack) { return collections_.gone(pack); });
  if (gone.empty()) return {};
  warnings.push_back(fmt::format(
      "{} packs of earlier snapshots are missing in the store or cut off, such as {}: what was in "
      "them is stored again as far as it is still on this machine; run 'holdfast check'",
      gone.size(), gone.front().hex()));
  return index_->remove_packs(gone);
}

Result<std::unordered_set<ObjectHash, IdHash>> Repository::unreliable_packs(
    const Stop& stop, std::vector<std::string>& warnings) {
  HF_TRY(forget_missing_packs(stop, warnings));
  HF_ASSIGN(const std::set<ObjectHash> damaged, known_damaged());
  std::unordered_set<ObjectHash, IdHash> unreliable(damaged.begin(), damaged.end());
  if (!damaged.empty())
    warnings.push_back(fmt::format(
        "a check found {} damaged packs, such as {}: nothing is deduplicated against them",
        damaged.size(), damaged.begin()->hex()));
  HF_TRY(sample_other_devices(unreliable, warnings));
  return unreliable;
}

Result<> Repository::sample_other_devices(std::unordered_set<ObjectHash, IdHash>& unreliable,
                                          std::vector<std::string>& warnings) {
  std::map<DeviceId, std::vector<IndexedPack>> by_device;
  for (const IndexedPack& pack : index_->packs())
    if (pack.device != parts_.device) by_device[pack.device].push_back(pack);
  FrameReader frames(parts_.keys);
  for (const auto& [device, packs] : by_device) {
    const std::string file = "sampled-" + device.hex();
    HF_ASSIGN(const auto lines, read_lines(parts_.state, file));
    const std::string count = fmt::format("{}", packs.size());
    const bool sampled = !lines.empty() && lines[0].size() == 2 && lines[0][0] == count;
    bool good = !sampled || lines[0][1] == "good";
    for (std::size_t i = 0; !sampled && good && i < std::min(kSamplePacks, packs.size()); ++i) {
      std::array<std::byte, 8> draw;
      parts_.random.fill(draw);
      const IndexedPack& pack = packs[load_le<std::uint64_t>(draw.data()) % packs.size()];
      auto damage =
          verify_pack(parts_.store, parts_.keys, parts_.devices, pack.pack, pack.type, frames);
      if (!damage && !is_damage(damage.error())) return std::unexpected(std::move(damage).error());
      good = damage && damage->empty();
    }
    if (!sampled)
      HF_TRY(parts_.state.replace(file,
                                  as_bytes(fmt::format("{} {}\n", count, good ? "good" : "bad"))));
    if (good) continue;
    warnings.push_back(fmt::format(
        "device {} wrote packs that do not hold what they say: nothing is deduplicated against "
        "them; run 'holdfast check --read-data'",
        device.hex()));
    for (const IndexedPack& pack : packs) unreliable.insert(pack.pack);
  }
  return {};
}

Result<> check_there(ObjectStore& store, const std::string& name, ByteSpan object) {
  const auto there = store.get(name, kHeadObjectMax);
  if (there && std::ranges::equal(*there, object)) return {};
  if (!there && there.error().code != Code::not_found && there.error().code != Code::corrupt)
    return wrap(there.error(), name);
  return fail(Code::corrupt, fmt::format("{}: the store took it and does not have it. The store "
                                         "cannot be relied on, and nothing more was done",
                                         name));
}

Result<> check_listed(const RepositoryParts& parts, std::span<const IndexedPack> packs) {
  std::unordered_map<ObjectHash, std::uint64_t, IdHash> wanted;
  for (const IndexedPack& pack : packs) wanted.emplace(pack.pack, pack.size);
  if (wanted.empty()) return {};
  HF_TRY(list_at_most(parts.store, "packs/", parts.list_limits.packs,
                      [&](const ObjectInfo& info) -> Result<> {
                        const auto name = parse_pack_name(info.name);
                        if (!name) return {};
                        const auto found = wanted.find(*name);
                        if (found != wanted.end() && found->second == info.size)
                          wanted.erase(found);
                        return {};
                      }));
  if (wanted.empty()) return {};
  return fail(Code::corrupt,
              fmt::format("pack {}: the store took it and does not list it, or with another size; "
                          "{} such packs. The store cannot be relied on, and nothing more was done",
                          wanted.begin()->first.hex(), wanted.size()));
}

Result<std::vector<PackListRef>> put_pack_lists(const RepositoryParts& parts,
                                                std::vector<ListedPack> packs) {
  std::ranges::sort(packs, {}, &ListedPack::pack);
  const auto doubled = std::ranges::unique(packs, {}, &ListedPack::pack);
  packs.erase(doubled.begin(), doubled.end());
  std::vector<PackListRef> refs;
  for (std::size_t from = 0; from < packs.size(); from += kListPacksMax) {
    const auto part = std::span(packs).subspan(from, std::min(packs.size() - from, kListPacksMax));
    const Bytes object = seal_box(parts.keys, ObjectType::pack_list, "",
                                  encode_pack_list({part.begin(), part.end()}), parts.random);
    const ObjectHash name = ObjectHash::from(sha256(object).span());
    HF_TRY(parts.store.put(list_name(name), object));
    HF_TRY(check_there(parts.store, list_name(name), object));
    refs.push_back({name, part.size()});
  }
  return refs;
}

Result<> put_tags(const RepositoryParts& parts, const Snapshot& snapshot,
                  std::vector<std::string> tags) {
  const HeadRef ref{snapshot.device, snapshot.number};
  const std::uint32_t revision = snapshot.tags_revision + 1;
  const Bytes object = seal_tags({.by = parts.device,
                                  .snapshot = ref,
                                  .head = snapshot.id,
                                  .revision = revision,
                                  .tags = std::move(tags)},
                                 parts.keys, parts.signer, parts.random);
  auto put = parts.store.put(tags_name(ref, revision), object);
  if (!put && put.error().code == Code::conflict)
    return fail(Code::conflict, fmt::format("snapshot {}: another device changed its tags just "
                                            "now; run the command again",
                                            snapshot.id.brief()));
  HF_TRY(std::move(put));
  return check_there(parts.store, tags_name(ref, revision), object);
}

std::string collection_copy_name(std::uint64_t number) {
  return fmt::format("collections/{:016x}", number);
}

Result<bool> put_collection(Repository& repository, const CollectionRecord& record) {
  const RepositoryParts& parts = repository.parts();
  const Bytes object = seal_collection(record, parts.keys, parts.signer, parts.random);
  auto put = parts.store.put(collection_name(record.number), object);
  if (!put && put.error().code == Code::conflict) return false;
  HF_TRY(std::move(put));
  HF_TRY(check_there(parts.store, collection_name(record.number), object));
  HF_TRY(repository.refresh_collections());
  return true;
}

Result<bool> put_collection_done(Repository& repository, const CollectionDone& done) {
  const RepositoryParts& parts = repository.parts();
  const Bytes object = seal_collection_done(done, parts.keys, parts.signer, parts.random);
  auto put = parts.store.put(collection_done_name(done.number), object);
  if (!put && put.error().code == Code::conflict) return false;
  HF_TRY(std::move(put));
  HF_TRY(check_there(parts.store, collection_done_name(done.number), object));
  return true;
}

Result<SessionRecord> read_session_record(const RepositoryParts& parts, const HeadRef& session,
                                          HeadName::Kind kind) {
  const bool open = kind == HeadName::Kind::open;
  const std::string name = head_name(session.device, session.number) + (open ? ".open" : ".gen");
  HF_ASSIGN(const Bytes object, parts.store.get(name, kHeadObjectMax));
  const ObjectType type = open ? ObjectType::session_open : ObjectType::session_generation;
  HF_ASSIGN(const Bytes content, open_box(parts.keys, type, name, object));
  HF_ASSIGN(const SessionRecord record,
            open ? parse_session_open(content) : parse_session_generation(content));
  if (record.device == session.device && record.number == session.number) return record;
  return fail(Code::corrupt, fmt::format("{}: is the record of another session", name));
}

Session::Session(Repository& repository, std::unique_ptr<LocalLock> lock)
    : repository_(repository), lock_(std::move(lock)) {}

Result<std::unique_ptr<Session>> Session::begin(Repository& repository, const HeadList& heads) {
  const RepositoryParts& parts = repository.parts();
  auto lock = parts.state.lock(kWriterLock);
  if (!lock) return wrap(std::move(lock).error(), std::string(kAnotherBackupRuns));
  std::unique_ptr<Session> session(new Session(repository, std::move(*lock)));
  HF_ASSIGN(SessionState state, read_session(parts.state));
  HF_TRY(session->find_newest(heads));
  if (state.running) {
    HF_ASSIGN(const auto given_up, session->abandoned(state.number));
    if (given_up) state.running = false;
  }
  if (const auto& newest = session->newest_) {
    const bool ours = newest->number == state.number && newest->session_nonce == state.nonce;
    if (newest->number > state.number || (newest->number == state.number && !ours))
      return copied_home(fmt::format(
          "the store has head {} of this device, and this home does not know it", newest->number));
    if (ours) state.running = false;  // its head stands; only the answer was lost
  }
  if (!state.running) {
    state = {.running = true, .number = std::max(state.number, session->decided_) + 1, .nonce = {}};
    parts.random.fill(state.nonce.bytes);
    // The journal stays: what it names may be in no list, as when the session was given up, or its
    // head arrived late; this session lists it.
    HF_TRY(write_session(parts.state, state));
  }
  session->record_ = {.device = parts.device,
                      .number = state.number,
                      .nonce = state.nonce,
                      .generation = 0,
                      .started = parts.clock.now()};
  HF_TRY(session->put_open_record());
  HF_TRY(session->put_generation_record());
  HF_TRY(session->load_journal());
  return session;
}

Result<> Repository::check_home(const HeadList& heads) {
  const auto newest = heads.newest.find(parts_.device);
  if (newest == heads.newest.end()) return {};
  HF_ASSIGN(const SessionState state, read_session(parts_.state));
  if (newest->second.number <= state.number) return {};
  return copied_home(
      fmt::format("the store has head {} of this device, and this home does not know it",
                  newest->second.number));
}

// `heads` were read before this process had the lock: another one may have ended a session since.
Result<> Session::find_newest(const HeadList& heads) {
  const RepositoryParts& parts = repository_.parts();
  for (const auto* snapshots : {&heads.snapshots, &heads.dropped})
    for (const Snapshot& s : *snapshots)
      if (s.device == parts.device && (!newest_ || s.number > newest_->number)) newest_ = s;
  std::set<std::uint64_t> later;
  const std::string folder = fmt::format("heads/{}/", parts.device.hex());
  HF_TRY(list_at_most(parts.store, folder, parts.list_limits.heads,
                      [&](const ObjectInfo& info) -> Result<> {
                        const auto parsed = parse_head_name(info.name);
                        if (!parsed) return {};
                        if (parsed->decides()) decided_ = std::max(decided_, parsed->number);
                        if (parsed->kind == HeadName::Kind::head &&
                            parsed->number > (newest_ ? newest_->number : 0))
                          later.insert(parsed->number);
                        return {};
                      }));
  for (const std::uint64_t number : later) {
    const std::string name = head_name(parts.device, number);
    HF_ASSIGN(const Bytes object, parts.store.get(name, kHeadObjectMax));
    auto head = open_head(object, name, parts.keys, parts.devices);
    if (head) newest_ = std::move(*head);
  }
  if (const auto at = heads.newest.find(parts.device); at != heads.newest.end())
    follows_ = at->second;
  if (newest_ && newest_->number > follows_.number) follows_ = {newest_->number, newest_->id};
  return {};  // damaged heads were named when all were read; others are sessions that were given up
}

// What stands as the outcome of that session of this device, if it is that it was given up.
Result<std::optional<Abandoned>> Session::abandoned(std::uint64_t number) {
  const RepositoryParts& parts = repository_.parts();
  auto object = parts.store.get(head_name(parts.device, number), kHeadObjectMax);
  if (!object && object.error().code == Code::not_found) return std::nullopt;
  if (!object) return std::unexpected(std::move(object).error());
  if (!looks_abandoned(*object)) return std::nullopt;
  HF_ASSIGN(Abandoned record,
            open_abandoned(*object, {parts.device, number}, parts.keys, parts.devices));
  return record;
}

Result<> Session::put_open_record() {
  const RepositoryParts& parts = repository_.parts();
  const std::string name = head_name(record_.device, record_.number) + ".open";
  const Bytes object = seal_box(parts.keys, ObjectType::session_open, name,
                                encode_session_open(record_), parts.random);
  auto put = parts.store.put(name, object);
  if (put) return check_there(parts.store, name, object);
  if (put.error().code != Code::conflict) return put;
  HF_ASSIGN(const SessionRecord other,
            read_session_record(parts, {record_.device, record_.number}, HeadName::Kind::open));
  if (other.nonce != record_.nonce)
    return copied_home(
        fmt::format("session {} of this device was begun with another nonce", record_.number));
  return {};
}

// After .open: a collection that lists sessions later than that waits for this one, and one that
// listed them before has put its record already (docs/formats/collection.md).
Result<> Session::put_generation_record() {
  const RepositoryParts& parts = repository_.parts();
  HF_TRY(repository_.refresh_collections());
  record_.generation = repository_.collections().newest();
  const std::string name = head_name(record_.device, record_.number) + ".gen";
  const Bytes object = seal_box(parts.keys, ObjectType::session_generation, name,
                                encode_session_generation(record_), parts.random);
  auto put = parts.store.put(name, object);
  if (!put && put.error().code == Code::conflict) {
    // Of an interrupted run of this same session: it is no younger than now, which is the safe
    // side.
    const auto there =
        read_session_record(parts, {record_.device, record_.number}, HeadName::Kind::generation);
    if (!there) return is_damage(there.error()) ? Result<>() : std::unexpected(there.error());
    if (there->generation <= record_.generation) return {};
    return copied_home(
        fmt::format("session {} of this device knows of a later collection than "
                    "this home",
                    record_.number));
  }
  return put ? check_there(parts.store, name, object) : put;
}

// Packs that an interrupted run stored are in use again once their tables were read and verified.
Result<> Session::load_journal() {
  const RepositoryParts& parts = repository_.parts();
  HF_ASSIGN(const auto packs, repository_.read_journal());
  std::vector<ObjectHash> lost;
  for (const IndexedPack& pack : packs) {
    // Nothing will rest on it. It stays in the index as long as it may be read: a tree that is
    // being recovered may lie in it.
    if (repository_.collections().doomed(pack.pack)) continue;
    auto table = read_pack_table(parts.store, parts.keys, parts.devices, pack.pack, pack.type);
    if (!table && table.error().code == Code::unavailable)
      return std::unexpected(std::move(table).error());
    if (!table || table->device != parts.device) {
      lost.push_back(pack.pack);
      continue;
    }
    HF_TRY(repository_.index().add(*table));
    earlier_.push_back(pack);
  }
  return lost.empty() ? Result<>() : repository_.index().remove_packs(lost);
}

Result<> Session::journal(const PackTable& pack) {
  const std::lock_guard lock(mutex_);
  return repository_.parts().state.append(
      kJournal, as_bytes(fmt::format("{} {} {} .\n", pack.pack.hex(), static_cast<int>(pack.type),
                                     pack.pack_size)));
}

Result<Snapshot> Session::commit(Snapshot snapshot, std::vector<IndexedPack> packs,
                                 std::vector<std::string>& warnings) {
  const RepositoryParts& parts = repository_.parts();
  packs.insert(packs.end(), earlier_.begin(), earlier_.end());
  std::vector<ListedPack> listed;
  listed.reserve(packs.size());
  for (const IndexedPack& pack : packs) listed.push_back({pack.pack, pack.type, pack.size});
  HF_ASSIGN(snapshot.lists, put_pack_lists(parts, std::move(listed)));
  snapshot.device = record_.device;
  snapshot.number = record_.number;
  snapshot.previous = follows_.id;
  snapshot.previous_number = follows_.number;
  snapshot.session_nonce = record_.nonce;
  snapshot.epoch = parts.keys.newest;
  snapshot.chain_position = parts.chain_position;
  snapshot.chain_hash = parts.chain_hash;
  HF_TRY(check_listed(parts, packs));
  const SealedHead head = seal_head(snapshot, parts.keys, parts.signer, parts.random);
  auto put = parts.store.put(head_name(snapshot.device, snapshot.number), head.object);
  if (!put && put.error().code == Code::conflict) {
    HF_TRY(still_wanted());
    HF_ASSIGN(const bool own, ended_by_itself());
    if (own)
      return fail(
          Code::conflict,
          fmt::format("{}: an earlier attempt of it arrived late; it begins again", kGivenUp));
    return copied_home(
        fmt::format("session {} of this device was ended by somebody else", record_.number));
  }
  HF_TRY(std::move(put));
  HF_TRY(check_there(parts.store, head_name(snapshot.device, snapshot.number), head.object));
  snapshot.id = head.id;
  if (auto noted = note_end(snapshot); !noted)
    warnings.push_back(fmt::format("the snapshot stands, but this home could not note it: {}",
                                   noted.error().what));
  return snapshot;
}

// A head stands that an earlier run of this session sent and had no answer for.
Result<bool> Session::ended_by_itself() {
  const RepositoryParts& parts = repository_.parts();
  const std::string name = head_name(parts.device, record_.number);
  HF_ASSIGN(const Bytes object, parts.store.get(name, kHeadObjectMax));
  const auto head = open_head(object, name, parts.keys, parts.devices);
  return head && head->session_nonce == record_.nonce;
}

Result<> Session::still_wanted() {
  HF_ASSIGN(const auto given_up, abandoned(record_.number));
  if (!given_up) return {};
  return fail(Code::conflict, fmt::format("{} by device {} ({}); it begins again", kGivenUp,
                                          given_up->by.hex(), escaped(given_up->reason)));
}

// What is lost here is found again by the next run: the head's nonce tells that it is this home's.
Result<> Session::note_end(const Snapshot& snapshot) {
  const RepositoryParts& parts = repository_.parts();
  HF_TRY(write_session(parts.state,
                       {.running = false, .number = record_.number, .nonce = record_.nonce}));
  HF_TRY(parts.state.remove(kJournal));
  HF_TRY(remember(parts.state, {snapshot}));
  return repository_.index().flush();
}

}  // namespace holdfast
