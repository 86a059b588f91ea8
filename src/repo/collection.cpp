// SPDX-License-Identifier: Apache-2.0
#include "repo/collection.h"

#include <fmt/format.h>

#include <algorithm>
#include <charconv>
#include <map>
#include <set>

#include "crypto/hash.h"
#include "crypto/purposes.h"
#include "wire/records.h"
#include "wire/records.pb.h"

namespace holdfast {

namespace {

constexpr std::size_t kReasonMax = 4096;
constexpr std::size_t kListsMax = 100'000;

std::string field_of(ByteSpan bytes) { return wire::to_field(bytes); }
template <class I>
std::string optional_field(const I& id) {
  return id.is_zero() ? std::string() : field_of(id.span());
}

// ---- what all bodies begin with

template <class Message>
void begin_body(Message& out, const Place& place, const DeviceId& by) {
  out.set_version(1);
  out.set_account(field_of(place.account.span()));
  out.set_repository(field_of(place.repository.span()));
  out.set_by(field_of(by.span()));
}

template <class Message>
Result<DeviceId> check_body(const Message& in, const Place& place, std::string_view what) {
  if (in.version() != 1)
    return fail(Code::denied, fmt::format("{}: format version {}, this program reads 1; update "
                                          "holdfast",
                                          what, in.version()));
  if (as_bytes(in.account()).size() != AccountId::size ||
      AccountId::from(as_bytes(in.account())) != place.account ||
      in.repository().size() != RepositoryId::size ||
      RepositoryId::from(as_bytes(in.repository())) != place.repository)
    return fail(Code::corrupt, fmt::format("{}: belongs to another account or repository", what));
  return wire::id_field<DeviceId>(in.by(), what);
}

std::string encode_names(const ObjectNames& names) {
  std::string out;
  out.reserve(names.size() * ObjectHash::size);
  for (const ObjectHash& name : names) out += as_text(name.span());
  return out;
}

Result<ObjectNames> parse_names(const std::string& field, std::string_view what) {
  const std::size_t count = field.size() / ObjectHash::size;
  if (field.size() % ObjectHash::size != 0 || count > kCollectionNamesMax)
    return fail(Code::corrupt, fmt::format("{}: its names are cut off or too many", what));
  ObjectNames names;
  names.reserve(count);
  for (std::size_t i = 0; i < count; ++i) {
    names.push_back(
        ObjectHash::from(as_bytes(field).subspan(i * ObjectHash::size, ObjectHash::size)));
    if (i > 0 && names[i] <= names[i - 1])
      return fail(Code::corrupt, fmt::format("{}: its names are not in ascending order", what));
  }
  return names;
}

Result<HeadRef> parse_ref(const std::string& device, std::uint64_t number, std::string_view what) {
  HeadRef ref;
  HF_ASSIGN(ref.device, wire::id_field<DeviceId>(device, what));
  ref.number = number;
  if (number == 0) return fail(Code::corrupt, fmt::format("{}: session number 0", what));
  return ref;
}

Result<std::string> parse_reason(const std::string& field, std::string_view what) {
  if (field.size() > kReasonMax)
    return fail(Code::corrupt, fmt::format("{}: its reason is too long", what));
  return field;
}

// ---- boxes

struct Kind {
  ObjectType type;
  std::string_view purpose;
};

Bytes seal_signed(const Kind& kind, std::string_view name, ByteSpan body,
                  const RepositoryKeys& keys, const Signer& signer, Random& random) {
  return seal_box(keys, kind.type, name, wire::sign_record(kind.purpose, body, signer), random);
}

// Parses first, to learn whose key the signature must hold under.
template <class Parse>
auto open_signed(const Kind& kind, const std::string& name, ByteSpan object,
                 const RepositoryKeys& keys, const DeviceKeyLookup& devices, const Parse& parse)
    -> decltype(parse(object, keys.place)) {
  HF_ASSIGN(const Bytes content, open_box(keys, kind.type, name, object));
  HF_ASSIGN(const wire::SignedRecord record, wire::read_unverified(name, content));
  auto parsed = parse(record.body, keys.place);
  if (!parsed) return wrap(std::move(parsed).error(), name);
  const auto key = devices(parsed->by);
  if (!key)
    return fail(Code::corrupt,
                fmt::format("{}: the account's chain knows no device {}", name, parsed->by.hex()));
  if (!wire::verify_record(kind.purpose, record, *key))
    return fail(Code::corrupt,
                fmt::format("{}: the signature is not of the device that it names", name));
  return parsed;
}

std::unexpected<Error> moved(std::string_view name) {
  return fail(Code::corrupt, fmt::format("{}: is a record of another place, moved here", name));
}

constexpr Kind kAbandoned{ObjectType::abandoned, purpose::abandoned};
constexpr Kind kDropped{ObjectType::dropped, purpose::dropped};
constexpr Kind kTags{ObjectType::tags, purpose::tags};
constexpr Kind kCollection{ObjectType::collection, purpose::collection};
constexpr Kind kDone{ObjectType::collection_done, purpose::collection_done};

ObjectHash hash_of(ByteSpan object) { return ObjectHash::from(sha256(object).span()); }

}  // namespace

std::string dropped_name(const HeadRef& snapshot) {
  return head_name(snapshot.device, snapshot.number) + ".dropped";
}
std::string tags_name(const HeadRef& snapshot, std::uint32_t revision) {
  return fmt::format("{}.tags-{:08x}", head_name(snapshot.device, snapshot.number), revision);
}
std::string collection_name(std::uint64_t number) { return fmt::format("gc/{:016x}", number); }
std::string collection_done_name(std::uint64_t number) { return collection_name(number) + ".done"; }

// ---- abandoned

Bytes seal_abandoned(const Abandoned& record, const RepositoryKeys& keys, const Signer& signer,
                     Random& random) {
  wire::Abandoned out;
  begin_body(out, keys.place, record.by);
  out.set_device(field_of(record.session.device.span()));
  out.set_number(record.session.number);
  out.set_collection(record.collection);
  out.set_reason(record.reason);
  return seal_signed(kAbandoned, head_name(record.session.device, record.session.number),
                     wire::encode(out), keys, signer, random);
}

Result<Abandoned> parse_abandoned(ByteSpan body, const Place& place) {
  constexpr std::string_view what = "abandoned session";
  HF_ASSIGN(const wire::Abandoned in, wire::parse_record<wire::Abandoned>(body, what));
  Abandoned out;
  HF_ASSIGN(out.by, check_body(in, place, what));
  HF_ASSIGN(out.session, parse_ref(in.device(), in.number(), what));
  out.collection = in.collection();
  HF_ASSIGN(out.reason, parse_reason(in.reason(), what));
  return out;
}

Result<Abandoned> open_abandoned(ByteSpan object, const HeadRef& session,
                                 const RepositoryKeys& keys, const DeviceKeyLookup& devices) {
  const std::string name = head_name(session.device, session.number);
  HF_ASSIGN(Abandoned out, open_signed(kAbandoned, name, object, keys, devices, parse_abandoned));
  if (out.session != session) return moved(name);
  return out;
}

bool looks_abandoned(ByteSpan object) {
  constexpr std::size_t type_offset = 9;
  return object.size() >= kBoxHeaderSize &&
         object[type_offset] == static_cast<std::byte>(ObjectType::abandoned);
}

// ---- dropped

Bytes seal_dropped(const Dropped& record, const RepositoryKeys& keys, const Signer& signer,
                   Random& random) {
  wire::Dropped out;
  begin_body(out, keys.place, record.by);
  out.set_device(field_of(record.snapshot.device.span()));
  out.set_number(record.snapshot.number);
  out.set_head(field_of(record.head.span()));
  out.set_previous(optional_field(record.previous));
  out.set_previous_number(record.previous_number);
  out.set_reason(record.reason);
  return seal_signed(kDropped, dropped_name(record.snapshot), wire::encode(out), keys, signer,
                     random);
}

Result<Dropped> parse_dropped(ByteSpan body, const Place& place) {
  constexpr std::string_view what = "dropped snapshot";
  HF_ASSIGN(const wire::Dropped in, wire::parse_record<wire::Dropped>(body, what));
  Dropped out;
  HF_ASSIGN(out.by, check_body(in, place, what));
  HF_ASSIGN(out.snapshot, parse_ref(in.device(), in.number(), what));
  HF_ASSIGN(out.head, wire::id_field<SnapshotId>(in.head(), what));
  if (!in.previous().empty()) {
    HF_ASSIGN(out.previous, wire::id_field<SnapshotId>(in.previous(), what));
  }
  out.previous_number = in.previous_number();
  if (out.previous_number >= out.snapshot.number ||
      out.previous.is_zero() != (out.previous_number == 0))
    return fail(Code::corrupt,
                fmt::format("{}: its number does not follow the one before it", what));
  HF_ASSIGN(out.reason, parse_reason(in.reason(), what));
  return out;
}

Result<Dropped> open_dropped(ByteSpan object, const HeadRef& snapshot, const RepositoryKeys& keys,
                             const DeviceKeyLookup& devices) {
  const std::string name = dropped_name(snapshot);
  HF_ASSIGN(Dropped out, open_signed(kDropped, name, object, keys, devices, parse_dropped));
  if (out.snapshot != snapshot) return moved(name);
  return out;
}

// ---- tags

Bytes seal_tags(const TagsRecord& record, const RepositoryKeys& keys, const Signer& signer,
                Random& random) {
  wire::Tags out;
  begin_body(out, keys.place, record.by);
  out.set_device(field_of(record.snapshot.device.span()));
  out.set_number(record.snapshot.number);
  out.set_head(field_of(record.head.span()));
  out.set_revision(record.revision);
  for (const std::string& tag : record.tags) out.add_tags(tag);
  return seal_signed(kTags, tags_name(record.snapshot, record.revision), wire::encode(out), keys,
                     signer, random);
}

Result<TagsRecord> parse_tags(ByteSpan body, const Place& place) {
  constexpr std::string_view what = "tags of a snapshot";
  HF_ASSIGN(const wire::Tags in, wire::parse_record<wire::Tags>(body, what));
  TagsRecord out;
  HF_ASSIGN(out.by, check_body(in, place, what));
  HF_ASSIGN(out.snapshot, parse_ref(in.device(), in.number(), what));
  HF_ASSIGN(out.head, wire::id_field<SnapshotId>(in.head(), what));
  out.revision = in.revision();
  if (out.revision == 0 || static_cast<std::size_t>(in.tags_size()) > kTagsMax)
    return fail(Code::corrupt, fmt::format("{}: revision 0, or more tags than its limit", what));
  for (const std::string& tag : in.tags()) {
    if (tag.empty() || tag.size() > kTagMax)
      return fail(Code::corrupt, fmt::format("{}: a tag is empty or too long", what));
    out.tags.push_back(tag);
  }
  return out;
}

Result<TagsRecord> open_tags(ByteSpan object, const HeadRef& snapshot, std::uint32_t revision,
                             const RepositoryKeys& keys, const DeviceKeyLookup& devices) {
  const std::string name = tags_name(snapshot, revision);
  HF_ASSIGN(TagsRecord out, open_signed(kTags, name, object, keys, devices, parse_tags));
  if (out.snapshot != snapshot || out.revision != revision) return moved(name);
  return out;
}

// ---- collection

Bytes seal_collection(const CollectionRecord& record, const RepositoryKeys& keys,
                      const Signer& signer, Random& random) {
  wire::Collection out;
  begin_body(out, keys.place, record.by);
  out.set_number(record.number);
  out.set_before(optional_field(record.before));
  out.set_condemned(encode_names(record.condemned));
  for (const PackListRef& list : record.lists) {
    wire::PackListRef& ref = *out.add_lists();
    ref.set_name(field_of(list.name.span()));
    ref.set_packs(list.packs);
  }
  out.set_retired(encode_names(record.retired));
  for (const HeadRef& head : record.heads) {
    wire::HeadRef& ref = *out.add_heads();
    ref.set_device(field_of(head.device.span()));
    ref.set_number(head.number);
  }
  return seal_signed(kCollection, collection_name(record.number), wire::encode(out), keys, signer,
                     random);
}

Result<CollectionRecord> parse_collection(ByteSpan body, const Place& place) {
  constexpr std::string_view what = "collection record";
  HF_ASSIGN(const wire::Collection in, wire::parse_record<wire::Collection>(body, what));
  CollectionRecord out;
  HF_ASSIGN(out.by, check_body(in, place, what));
  out.number = in.number();
  if (!in.before().empty()) {
    HF_ASSIGN(out.before, wire::id_field<ObjectHash>(in.before(), what));
  }
  if (out.number == 0 || out.before.is_zero() != (out.number == 1))
    return fail(Code::corrupt, fmt::format("{}: its number does not follow one before it", what));
  HF_ASSIGN(out.condemned, parse_names(in.condemned(), what));
  HF_ASSIGN(out.retired, parse_names(in.retired(), what));
  if (static_cast<std::size_t>(in.lists_size()) > kListsMax ||
      static_cast<std::size_t>(in.heads_size()) > kCollectionNamesMax)
    return fail(Code::corrupt, fmt::format("{}: more lists or heads than its limit", what));
  for (const wire::PackListRef& ref : in.lists()) {
    PackListRef list{.name = {}, .packs = ref.packs()};
    HF_ASSIGN(list.name, wire::id_field<ObjectHash>(ref.name(), what));
    out.lists.push_back(list);
  }
  for (const wire::HeadRef& head : in.heads()) {
    HF_ASSIGN(const HeadRef ref, parse_ref(head.device(), head.number(), what));
    if (!out.heads.empty() && ref <= out.heads.back())
      return fail(Code::corrupt, fmt::format("{}: its heads are not in ascending order", what));
    out.heads.push_back(ref);
  }
  return out;
}

Result<CollectionRecord> open_collection(ByteSpan object, std::uint64_t number,
                                         const RepositoryKeys& keys,
                                         const DeviceKeyLookup& devices) {
  const std::string name = collection_name(number);
  HF_ASSIGN(CollectionRecord out,
            open_signed(kCollection, name, object, keys, devices, parse_collection));
  if (out.number != number) return moved(name);
  out.object = hash_of(object);
  return out;
}

Bytes seal_collection_done(const CollectionDone& record, const RepositoryKeys& keys,
                           const Signer& signer, Random& random) {
  wire::CollectionDone out;
  begin_body(out, keys.place, record.by);
  out.set_number(record.number);
  out.set_collection(field_of(record.collection.span()));
  out.set_used(encode_names(record.used));
  return seal_signed(kDone, collection_done_name(record.number), wire::encode(out), keys, signer,
                     random);
}

Result<CollectionDone> parse_collection_done(ByteSpan body, const Place& place) {
  constexpr std::string_view what = "end of a collection";
  HF_ASSIGN(const wire::CollectionDone in, wire::parse_record<wire::CollectionDone>(body, what));
  CollectionDone out;
  HF_ASSIGN(out.by, check_body(in, place, what));
  out.number = in.number();
  HF_ASSIGN(out.collection, wire::id_field<ObjectHash>(in.collection(), what));
  HF_ASSIGN(out.used, parse_names(in.used(), what));
  return out;
}

Result<CollectionDone> open_collection_done(ByteSpan object, const CollectionRecord& record,
                                            const RepositoryKeys& keys,
                                            const DeviceKeyLookup& devices) {
  const std::string name = collection_done_name(record.number);
  HF_ASSIGN(CollectionDone out,
            open_signed(kDone, name, object, keys, devices, parse_collection_done));
  if (out.number != record.number || out.collection != record.object) return moved(name);
  for (const ObjectHash& used : out.used)
    if (!std::ranges::binary_search(record.condemned, used) &&
        !std::ranges::binary_search(record.retired, used))
      return fail(Code::corrupt, fmt::format("{}: calls {} used, which its record does not name",
                                             name, used.brief()));
  return out;
}

// ---- all of them

namespace {

struct Listed {
  std::map<std::uint64_t, Time> records;  // when they were put
  std::set<std::uint64_t> done;
};

// Names that no record can have are passed over, as everywhere.
Result<Listed> list_records(ObjectStore& store) {
  constexpr std::string_view prefix = "gc/", done = ".done";
  constexpr std::uint64_t records_max = 4U << 20;
  Listed out;
  HF_TRY(list_at_most(store, prefix, records_max, [&](const ObjectInfo& info) -> Result<> {
    const std::string_view digits = std::string_view(info.name).substr(prefix.size(), 16);
    const std::string_view rest =
        std::string_view(info.name).substr(std::min(info.name.size(), prefix.size() + 16));
    std::uint64_t number = 0;
    const auto [end, error] =
        std::from_chars(digits.data(), digits.data() + digits.size(), number, 16);
    if (digits.size() != 16 || error != std::errc{} || end != digits.data() + 16 || number == 0)
      return {};
    if (rest.empty()) out.records.emplace(number, info.put);
    if (rest == done) out.done.insert(number);
    return {};
  }));
  return out;
}

std::unexpected<Error> missing(std::uint64_t number) {
  return fail(Code::alarm,
              fmt::format("{}: the store does not show this record of a collection, which this "
                          "home saw or a later one follows. Nothing was written",
                          collection_name(number)));
}

}  // namespace

Result<> Collections::take_record(const CollectionSource& source, Result<Bytes> object, Time put) {
  const std::uint64_t number = records_.size() + 1;
  broken_ = number;
  if (!object) return wrap(std::move(object).error(), collection_name(number));
  HF_ASSIGN(CollectionRecord record, open_collection(*object, number, source.keys, source.devices));
  if (number > 1 && record.before != records_.back().record.object)
    return fail(Code::alarm, fmt::format("{}: does not follow the record before it: the records of "
                                         "collections fork. Nothing was written",
                                         collection_name(number)));
  broken_.reset();
  if (source.seen) source.seen(number, *object);
  records_.push_back({std::move(record), put, std::nullopt});
  return {};
}

Result<> Collections::take_end(const CollectionSource& source, std::uint64_t number,
                               Result<Bytes> object) {
  Entry& entry = records_[number - 1];
  if (!object) return wrap(std::move(object).error(), collection_done_name(number));
  auto done = open_collection_done(*object, entry.record, source.keys, source.devices);
  if (!done && done.error().code == Code::corrupt) damaged_ends_.push_back(number);
  HF_ASSIGN(entry.done, std::move(done));
  ++ended_;
  return {};
}

Result<> Collections::read_new(const CollectionSource& source) {
  broken_.reset();
  HF_ASSIGN(const Listed listed, list_records(source.store));
  const std::uint64_t newest = std::max(listed.records.empty() ? 0 : listed.records.rbegin()->first,
                                        listed.done.empty() ? 0 : *listed.done.rbegin());
  for (std::uint64_t number = 1; number <= std::max(newest, this->newest()); ++number)
    if (!listed.records.contains(number)) {
      if (number <= newest) broken_ = number;
      return missing(number);
    }
  damaged_ends_.clear();
  Result<> records;  // the first error; what can be read is read
  std::vector<std::uint64_t> fresh;
  for (std::uint64_t number = this->newest() + 1; number <= newest; ++number)
    fresh.push_back(number);
  HF_TRY(fetch_each(source.store, fresh, kRecordObjectMax, collection_name,
                    [&](std::uint64_t number, Result<Bytes> object) {
                      if (records)
                        records = take_record(source, std::move(object), listed.records.at(number));
                      return Result<>();
                    }));
  fresh.clear();
  for (const std::uint64_t number : listed.done) {
    if (number <= records_.size() && !records_[number - 1].done && !source.lock.holds(put(number)))
      fresh.push_back(number);
  }
  HF_TRY(fetch_each(source.store, fresh, kRecordObjectMax, collection_done_name,
                    [&](std::uint64_t number, Result<Bytes> object) -> Result<> {
                      auto taken = take_end(source, number, std::move(object));
                      if (!taken && taken.error().code != Code::corrupt) return taken;
                      if (!taken && records) records = std::move(taken);
                      return {};
                    }));
  return records;
}

Result<> Collections::refresh(const CollectionSource& source) {
  const std::uint64_t before = state();
  auto read = read_new(source);
  if (state() != before) sum_up();  // what could be read counts, whatever stands behind it
  return read;
}

void Collections::sum_up() {
  condemned_.clear();
  gone_.clear();
  for (const Entry& entry : records_)
    for (const ObjectNames* names : {&entry.record.condemned, &entry.record.retired})
      for (const ObjectHash& name : *names) {
        if (entry.done && std::ranges::binary_search(entry.done->used, name)) continue;
        (entry.done ? gone_ : condemned_).push_back(name);
      }
  for (ObjectNames* names : {&condemned_, &gone_}) {
    std::ranges::sort(*names);
    const auto doubled = std::ranges::unique(*names);
    names->erase(doubled.begin(), doubled.end());
  }
}

bool Collections::gone(const ObjectHash& name) const {
  return std::ranges::binary_search(gone_, name);
}

bool Collections::doomed(const ObjectHash& name) const {
  return gone(name) || std::ranges::binary_search(condemned_, name);
}

bool Collections::gone(const HeadRef& head) const {
  return std::ranges::any_of(records_, [&](const Entry& entry) {
    return entry.done && std::ranges::binary_search(entry.record.heads, head);
  });
}

}  // namespace holdfast
