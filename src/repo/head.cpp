// SPDX-License-Identifier: Apache-2.0
#include "repo/head.h"

#include <fmt/format.h>

#include <algorithm>
#include <charconv>

#include "wire/records.h"
#include "wire/records.pb.h"

namespace holdfast {

namespace {

constexpr std::size_t kTextsMax = 100000;  // paths, tags, excludes of one snapshot
constexpr std::size_t kTextMax = std::size_t{64} * 1024;
constexpr std::size_t kOwnersMax = 1000000;

std::string text(ByteSpan bytes) { return wire::to_field(bytes); }

template <class I>
bool take_id(const std::string& field, I& out) {
  if (field.size() != I::size) return false;
  out = I::from(as_bytes(field));
  return true;
}
template <class I>
bool take_optional_id(const std::string& field, I& out) {
  return field.empty() || take_id(field, out);
}

template <class Field>
bool take_texts(const Field& field, std::vector<std::string>& out) {
  if (static_cast<std::size_t>(field.size()) > kTextsMax) return false;
  for (const std::string& t : field) {
    if (t.size() > kTextMax) return false;
    out.push_back(t);
  }
  return true;
}

template <class Field>
bool take_owners(const Field& field, std::map<std::uint32_t, std::string>& out) {
  if (static_cast<std::size_t>(field.size()) > kOwnersMax) return false;
  for (const auto& owner : field) {
    if (owner.name().size() > kNameMax || (!out.empty() && owner.id() <= out.rbegin()->first))
      return false;
    out.emplace_hint(out.end(), owner.id(), owner.name());
  }
  return true;
}

void put_statistics(const SnapshotStatistics& s, wire::Statistics& out) {
  out.set_files_new(s.files_new);
  out.set_files_changed(s.files_changed);
  out.set_files_unmodified(s.files_unmodified);
  out.set_unreadable(s.unreadable);
  out.set_directories(s.directories);
  out.set_others(s.others);
  out.set_bytes_read(s.bytes_read);
  out.set_bytes_total(s.bytes_total);
  out.set_bytes_added(s.bytes_added);
  out.set_chunks_new(s.chunks_new);
}

SnapshotStatistics take_statistics(const wire::Statistics& s) {
  return {.files_new = s.files_new(),
          .files_changed = s.files_changed(),
          .files_unmodified = s.files_unmodified(),
          .unreadable = s.unreadable(),
          .directories = s.directories(),
          .others = s.others(),
          .bytes_read = s.bytes_read(),
          .bytes_total = s.bytes_total(),
          .bytes_added = s.bytes_added(),
          .chunks_new = s.chunks_new()};
}

template <class I>
std::string field_of(const I& id) {
  return id.is_zero() ? std::string() : text(id.span());
}

SnapshotId snapshot_id(ByteSpan body, ByteSpan signature) {
  return SnapshotId::from(
      sha256(Transcript("snapshot-id").field(body).field(signature).span()).span());
}

std::unexpected<Error> bad_head(std::string_view why) {
  return fail(Code::corrupt, fmt::format("head: {}", why));
}

Result<> take_lists(const wire::Head& head, Snapshot& out) {
  if (static_cast<std::size_t>(head.lists_size()) > kTextsMax)
    return bad_head("too many pack lists");
  for (const wire::PackListRef& ref : head.lists()) {
    PackListRef list{.name = {}, .packs = ref.packs()};
    if (!take_id(ref.name(), list.name)) return bad_head("pack list name is not 32 bytes");
    out.lists.push_back(list);
  }
  return {};
}

Result<> take_tree(const wire::Head& head, Snapshot& out) {
  if (!take_id(head.tree(), out.tree.id)) return bad_head("tree root is not 32 bytes");
  if (head.tree_level() > kTreeLevelMax)
    return bad_head(fmt::format("tree level {} is above {}", head.tree_level(), kTreeLevelMax));
  out.tree.level = static_cast<std::uint8_t>(head.tree_level());
  out.tree.entries = head.tree_entries();
  return {};
}

}  // namespace

std::string head_name(const DeviceId& device, std::uint64_t number) {
  return fmt::format("heads/{}/{:016x}", device.hex(), number);
}

Result<HeadName> parse_head_name(std::string_view name) {
  constexpr std::string_view prefix = "heads/";
  constexpr std::size_t size = prefix.size() + 32 + 1 + 16;
  const auto bad = [&] {
    return fail(
        Code::corrupt,
        fmt::format("{}: not the name of a head; expected heads/<device>/<number>", escaped(name)));
  };
  if (name.size() < size || !name.starts_with(prefix) || name[prefix.size() + 32] != '/')
    return bad();
  auto device = DeviceId::parse(name.substr(prefix.size(), 32));
  const std::string_view digits = name.substr(prefix.size() + 33, 16);
  std::uint64_t number = 0;
  const auto [end, error] =
      std::from_chars(digits.data(), digits.data() + digits.size(), number, 16);
  if (!device || error != std::errc{} || end != digits.data() + 16 || number == 0) return bad();
  using Kind = HeadName::Kind;
  constexpr std::pair<std::string_view, Kind> suffixes[] = {{"", Kind::head},
                                                            {".open", Kind::open},
                                                            {".gen", Kind::generation},
                                                            {".dropped", Kind::dropped}};
  for (const auto& [suffix, kind] : suffixes)
    if (name.substr(size) == suffix) return HeadName{kind, *device, number, 0};
  constexpr std::string_view tags = ".tags-";
  const std::string_view rest = name.substr(size);
  std::array<std::byte, 4> revision;
  if (!rest.starts_with(tags) || !from_hex(rest.substr(tags.size()), revision)) return bad();
  HeadName out{Kind::tags, *device, number, 0};
  for (const std::byte b : revision)
    out.revision = out.revision << 8 | std::to_integer<std::uint32_t>(b);
  return out.revision == 0 ? Result<HeadName>(bad()) : out;
}

Bytes encode_head(const Snapshot& s, const Place& place) {
  wire::Head head;
  head.set_version(1);
  head.set_account(text(place.account.span()));
  head.set_repository(text(place.repository.span()));
  head.set_device(text(s.device.span()));
  head.set_number(s.number);
  head.set_previous(field_of(s.previous));
  head.set_previous_number(s.previous_number);
  head.set_session_nonce(text(s.session_nonce.span()));
  head.set_tree(text(s.tree.id.span()));
  head.set_tree_level(s.tree.level);
  head.set_tree_entries(s.tree.entries);
  head.set_epoch(s.epoch);
  head.set_chain_position(s.chain_position);
  head.set_chain_hash(text(s.chain_hash.span()));
  for (const PackListRef& list : s.lists) {
    wire::PackListRef& ref = *head.add_lists();
    ref.set_name(text(list.name.span()));
    ref.set_packs(list.packs);
  }
  head.set_started_ns(s.started.ns);
  head.set_ended_ns(s.ended.ns);
  for (const std::string& t : s.paths) head.add_paths(t);
  for (const std::string& t : s.tags) head.add_tags(t);
  for (const std::string& t : s.excludes) head.add_excludes(t);
  head.set_host(s.host);
  head.set_user(s.user);
  head.set_program(s.program);
  put_statistics(s.statistics, *head.mutable_statistics());
  const auto put_owners = [](const auto& owners, auto* field) {
    for (const auto& [id, name] : owners) {
      wire::Owner& owner = *field->Add();
      owner.set_id(id);
      owner.set_name(name);
    }
  };
  put_owners(s.users, head.mutable_users());
  put_owners(s.groups, head.mutable_groups());
  return wire::encode(head);
}

Result<Snapshot> parse_head(ByteSpan body, const Place& place) {
  HF_ASSIGN(const wire::Head head, wire::parse_record<wire::Head>(body, "head"));
  if (head.version() != 1)
    return fail(Code::denied,
                fmt::format("head: format version {}, this program reads 1; update holdfast",
                            head.version()));
  if (as_bytes(head.account()).size() != 32 ||
      AccountId::from(as_bytes(head.account())) != place.account)
    return bad_head("belongs to another account");
  if (head.repository().size() != 16 ||
      RepositoryId::from(as_bytes(head.repository())) != place.repository)
    return bad_head("belongs to another repository");
  Snapshot s;
  if (!take_id(head.device(), s.device) || !take_id(head.session_nonce(), s.session_nonce) ||
      !take_id(head.chain_hash(), s.chain_hash) || !take_optional_id(head.previous(), s.previous))
    return bad_head("an identity has the wrong length");
  s.number = head.number();
  s.previous_number = head.previous_number();
  if (s.number == 0 || s.previous_number >= s.number ||
      s.previous.is_zero() != (s.previous_number == 0))
    return bad_head("its number does not follow the one before it");
  HF_TRY(take_tree(head, s));
  HF_TRY(take_lists(head, s));
  s.epoch = head.epoch();
  s.chain_position = head.chain_position();
  s.started.ns = head.started_ns();
  s.ended.ns = head.ended_ns();
  if (!take_texts(head.paths(), s.paths) || !take_texts(head.tags(), s.tags) ||
      !take_texts(head.excludes(), s.excludes) || head.host().size() > kTextMax ||
      head.user().size() > kTextMax)
    return bad_head("texts above their limit");
  if (!take_owners(head.users(), s.users) || !take_owners(head.groups(), s.groups))
    return bad_head("owner names out of order or above their limit");
  s.host = head.host();
  s.user = head.user();
  s.program = head.program();
  s.statistics = take_statistics(head.statistics());
  return s;
}

SealedHead seal_head(const Snapshot& snapshot, const RepositoryKeys& keys, const Signer& signer,
                     Random& random) {
  const Bytes body = encode_head(snapshot, keys.place);
  const Bytes record = wire::sign_record("head", body, signer);
  const auto read_back = wire::read_unverified("head", record);
  assert(read_back);
  return {snapshot_id(body, read_back->signature.span()),
          seal_box(keys, ObjectType::head, head_name(snapshot.device, snapshot.number), record,
                   random)};
}

Result<Snapshot> open_head(ByteSpan object, std::string_view name, const RepositoryKeys& keys,
                           const DeviceKeyLookup& devices) {
  HF_ASSIGN(const HeadName parsed, parse_head_name(name));
  HF_ASSIGN(const Bytes record, open_box(keys, ObjectType::head, name, object));
  HF_ASSIGN(const wire::SignedRecord signed_record, wire::read_unverified(name, record));
  const auto key = devices(parsed.device);
  if (!key)
    return fail(Code::corrupt, fmt::format("{}: the account's chain knows no device {}", name,
                                           parsed.device.hex()));
  if (!wire::verify_record("head", signed_record, *key))
    return fail(Code::corrupt,
                fmt::format("{}: the signature is not of the device that it names", name));
  auto head = parse_head(signed_record.body, keys.place);
  if (!head) return wrap(std::move(head).error(), name);
  if (head->device != parsed.device || head->number != parsed.number)
    return fail(Code::corrupt, fmt::format("{}: is the head {} of device {}: moved here", name,
                                           head->number, head->device.hex()));
  head->id = snapshot_id(signed_record.body, signed_record.signature.span());
  return head;
}

std::string list_name(const ObjectHash& list) { return "lists/" + list.hex(); }

Bytes encode_pack_list(std::vector<ListedPack> packs) {
  assert(packs.size() <= kListPacksMax);
  std::ranges::sort(packs, {}, &ListedPack::pack);
  Bytes out;
  out.reserve(4 + packs.size() * 41);
  Writer w(out);
  w.u32(static_cast<std::uint32_t>(packs.size()));
  for (const ListedPack& p : packs) {
    w.raw(p.pack.span());
    w.u8(static_cast<std::uint8_t>(p.type));
    w.u64(p.size);
  }
  return out;
}

Result<std::vector<ListedPack>> parse_pack_list(ByteSpan plain) {
  Reader r(plain);
  const std::uint32_t count = r.u32();
  if (!r.ok() || count > kListPacksMax || r.left() != std::size_t{count} * 41)
    return fail(Code::corrupt, "pack list: its count and its length do not agree");
  std::vector<ListedPack> packs;
  packs.reserve(count);
  for (std::uint32_t i = 0; i < count; ++i) {
    const ObjectHash pack = ObjectHash::from(r.take(32));
    const std::uint8_t type = r.u8();
    const std::uint64_t size = r.u64();
    if (type != 1 && type != 2)
      return fail(Code::corrupt, fmt::format("pack list: pack {} has type {}", pack.brief(), type));
    if (!packs.empty() && pack <= packs.back().pack)
      return fail(Code::corrupt, "pack list: not in ascending order");
    packs.push_back({pack, static_cast<ObjectType>(type), size});
  }
  return packs;
}

Bytes encode_session_open(const SessionRecord& record) {
  wire::SessionOpen out;
  out.set_device(text(record.device.span()));
  out.set_number(record.number);
  out.set_nonce(text(record.nonce.span()));
  out.set_started_ns(record.started.ns);
  return wire::encode(out);
}

Result<SessionRecord> parse_session_open(ByteSpan content) {
  HF_ASSIGN(const wire::SessionOpen in,
            wire::parse_record<wire::SessionOpen>(content, "session record"));
  SessionRecord record;
  record.number = in.number();
  record.started.ns = in.started_ns();
  if (!take_id(in.device(), record.device) || !take_id(in.nonce(), record.nonce))
    return fail(Code::corrupt, "session record: an identity has the wrong length");
  return record;
}

Bytes encode_session_generation(const SessionRecord& record) {
  wire::SessionGeneration out;
  out.set_device(text(record.device.span()));
  out.set_number(record.number);
  out.set_generation(record.generation);
  return wire::encode(out);
}

Result<SessionRecord> parse_session_generation(ByteSpan content) {
  HF_ASSIGN(const wire::SessionGeneration in,
            wire::parse_record<wire::SessionGeneration>(content, "generation record"));
  SessionRecord record;
  record.number = in.number();
  record.generation = in.generation();
  if (!take_id(in.device(), record.device))
    return fail(Code::corrupt, "generation record: an identity has the wrong length");
  return record;
}

Bytes encode_secrets(const RepositorySecrets& secrets) {
  wire::Secrets out;
  out.set_id_key(text(secrets.id_key.span()));
  out.set_chunker_key(text(secrets.chunker_key.span()));
  out.set_tree_key(text(secrets.tree_key.span()));
  return wire::encode(out);
}

Result<RepositorySecrets> parse_secrets(ByteSpan content) {
  HF_ASSIGN(wire::Secrets in, wire::parse_record<wire::Secrets>(content, "repository secrets"));
  if (in.id_key().size() != 32 || in.chunker_key().size() != 32 || in.tree_key().size() != 16)
    return fail(Code::corrupt, "repository secrets: a key has the wrong length");
  RepositorySecrets out{Secret::copy_of(as_bytes(in.id_key())),
                        Secret::copy_of(as_bytes(in.chunker_key())),
                        Secret::copy_of(as_bytes(in.tree_key()))};
  for (std::string* field : {in.mutable_id_key(), in.mutable_chunker_key(), in.mutable_tree_key()})
    wipe(std::as_writable_bytes(std::span(*field)));
  return out;
}

}  // namespace holdfast
