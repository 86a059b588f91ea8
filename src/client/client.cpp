// SPDX-License-Identifier: Apache-2.0
#include "client/client.h"

#include <fmt/format.h>

#include <map>
#include <set>

#include "client/chain_sync.h"
#include "wire/records.h"
#include "wire/records.pb.h"

namespace holdfast {

namespace {

constexpr std::string_view kRepository = "repository", kDeviceFile = "device",
                           kDescriptionFile = "repositories";
constexpr std::uint64_t kRepositoryMax = std::uint64_t{64} * 1024, kSecretsMax = 1U << 20;
constexpr std::uint32_t kFormatVersion = 1;

struct Description {
  Place place;
  Suite suite = Suite::aes_256_gcm;
  bool operator==(const Description& other) const {
    return place.account == other.place.account && place.repository == other.place.repository &&
           suite == other.suite;
  }
};

std::string copy_name(Epoch epoch) { return fmt::format("secrets-{:08x}", epoch); }
std::string secrets_name(Epoch epoch) { return fmt::format("secrets/{:08x}", epoch); }

// ---- what lies in the store
// -------------------------------------------------------------------------------------------

Result<Description> read_description(ObjectStore& store) {
  auto bytes = store.get(kRepository, kRepositoryMax);
  if (!bytes && bytes.error().code == Code::not_found)
    return fail(Code::not_found,
                "no repository of holdfast is there; make one with 'holdfast init'");
  if (!bytes) return wrap(std::move(bytes).error(), kRepository);
  wire::Repository record;
  // The version is looked at first: a newer one may have fields that this program does not know.
  if (record.ParseFromArray(bytes->data(), static_cast<int>(bytes->size())) &&
      record.version() > kFormatVersion)
    return fail(
        Code::denied,
        fmt::format("the repository has format version {}, this program knows {}; update holdfast",
                    record.version(), kFormatVersion));
  HF_ASSIGN(record, wire::parse_record<wire::Repository>(*bytes, kRepository));
  Description out;
  HF_ASSIGN(out.place.account, wire::id_field<AccountId>(record.account(), "repository: account"));
  HF_ASSIGN(out.place.repository,
            wire::id_field<RepositoryId>(record.repository(), "repository: id"));
  if (record.version() != kFormatVersion || (record.suite() != 1 && record.suite() != 2))
    return fail(Code::corrupt, "repository: its description is damaged (version or suite)");
  out.suite = static_cast<Suite>(record.suite());
  return out;
}

Bytes encode_description(const Description& description) {
  wire::Repository record;
  record.set_version(kFormatVersion);
  record.set_account(wire::to_field(description.place.account.span()));
  record.set_repository(wire::to_field(description.place.repository.span()));
  record.set_suite(static_cast<std::uint32_t>(description.suite));
  return wire::encode(record);
}

// One line for each repository that this home opened: id and suite.
std::string description_line(const Description& description) {
  return fmt::format("{} {}\n", description.place.repository.hex(),
                     static_cast<int>(description.suite));
}

// ---- what the home keeps
// ----------------------------------------------------------------------------------------------

Result<DeviceKeys> read_device(Home home, const AskPassphrase& ask) {
  auto file = home.keys.read(kDeviceFile, kKeyFileMax);
  if (!file && file.error().code == Code::not_found)
    return fail(
        Code::not_found,
        fmt::format("{} has no account; make one with 'holdfast init', or come back to one with "
                    "'holdfast recover'",
                    home.keys.where()));
  if (!file) return wrap(std::move(file).error(), "device key");
  std::optional<Secret> passphrase;
  if (key_file_needs_passphrase(*file)) {
    HF_ASSIGN(passphrase, ask());
  }
  auto keys =
      open_key_file(*file, passphrase ? std::optional(as_text(passphrase->span())) : std::nullopt);
  wipe(*file);
  return keys;
}

Result<> write_device(Home home, const DeviceKeys& keys, const std::optional<Secret>& passphrase,
                      Random& random) {
  if (!passphrase) return home.keys.replace(kDeviceFile, plain_key_file(keys).span());
  HF_ASSIGN(const Bytes file,
            sealed_key_file(keys, as_text(passphrase->span()), new_passphrase_parameters(random)));
  return home.keys.replace(kDeviceFile, file);
}

std::unexpected<Error> home_only_reads() {
  return fail(Code::denied,
              "this home only reads (it was made by 'holdfast recover --read-only', and the "
              "account does not know it); to write, recover into another home without "
              "--read-only. Nothing was changed");
}

// What a home that only reads has of a store.
class ReadingStore final : public ObjectStore {
 public:
  explicit ReadingStore(ObjectStore& inner) : inner_(inner) {}
  Result<> put(std::string_view, ByteSpan) override { return home_only_reads(); }
  Result<Bytes> get(std::string_view name, std::uint64_t size_max) override {
    return inner_.get(name, size_max);
  }
  Result<> get_range(std::string_view name, std::uint64_t offset, MutableByteSpan out) override {
    return inner_.get_range(name, offset, out);
  }
  Result<std::uint64_t> size(std::string_view name) override { return inner_.size(name); }
  Result<Tail> get_tail(std::string_view name, std::size_t most) override {
    return inner_.get_tail(name, most);
  }
  Result<> list(std::string_view prefix,
                const std::function<Result<>(const ObjectInfo&)>& visit) override {
    return inner_.list(prefix, visit);
  }
  Result<> remove(std::string_view) override { return home_only_reads(); }
  Result<StoreLock> lock() override { return inner_.lock(); }
  Result<> keep_until(std::string_view, Time) override { return home_only_reads(); }
  [[nodiscard]] unsigned parallel() const override { return inner_.parallel(); }

 private:
  ObjectStore& inner_;
};

// ---- keys
// -------------------------------------------------------------------------------------------------------------

RepositoryKeys repository_keys(const Description& description, const OpenedAccount& account) {
  RepositoryKeys keys;
  keys.place = description.place;
  keys.suite = description.suite;
  keys.newest = account.epochs.back().number;
  for (const OpenEpoch& epoch : account.epochs)
    keys.epoch_keys.emplace(
        epoch.number, repository_key(epoch.key.span(), keys.place, epoch.number, epoch.opened_by));
  return keys;
}

Result<RepositorySecrets> open_secrets(const RepositoryKeys& keys, const std::string& name,
                                       ByteSpan object) {
  HF_ASSIGN(Bytes content, open_box(keys, ObjectType::repository_secrets, name, object));
  auto secrets = parse_secrets(content);
  wipe(content);
  return secrets;
}

Bytes seal_secrets(const RepositoryKeys& keys, const RepositorySecrets& secrets, Random& random) {
  Bytes content = encode_secrets(secrets);
  Bytes object =
      seal_box(keys, ObjectType::repository_secrets, secrets_name(keys.newest), content, random);
  wipe(content);
  return object;
}

Result<> keep_copy(LocalFolder& state, Epoch epoch, ByteSpan object) {
  const std::string copy = copy_name(epoch);
  if (const auto there = state.read(copy, kSecretsMax); there && std::ranges::equal(*there, object))
    return {};
  return if_it_can(state.replace(copy, object));
}

// The repository's secrets objects, each fetched once.
class SecretsObjects {
 public:
  explicit SecretsObjects(ObjectStore& store) : store_(store) {}
  const Result<Bytes>& get(Epoch epoch) {
    const auto at = objects_.find(epoch);
    if (at != objects_.end()) return at->second;
    return objects_.emplace(epoch, store_.get(secrets_name(epoch), kSecretsMax)).first->second;
  }
  void forget(Epoch epoch) { objects_.erase(epoch); }

 private:
  ObjectStore& store_;
  std::map<Epoch, Result<Bytes>> objects_;
};

// The home keeps a copy, as sealed as the store's: without it nothing in the repository opens.
Result<> read_secrets_of(SecretsObjects& objects, LocalFolder& state, Epoch epoch,
                         RepositoryKeys& keys, std::vector<std::string>& damaged) {
  const std::string name = secrets_name(epoch);
  const Result<Bytes>& object = objects.get(epoch);
  if (!object && !is_damage(object.error())) return wrap(object.error(), name);
  auto secrets = object ? open_secrets(keys, name, *object)
                        : Result<RepositorySecrets>(std::unexpected(object.error()));
  if (secrets) {
    keys.secrets = std::move(*secrets);
    return keep_copy(state, epoch, *object);
  }
  // Whatever is wrong with it, it is of no use.
  const std::string what = secrets.error().what;
  if (const auto kept = state.read(copy_name(epoch), kSecretsMax))
    if (auto copy = open_secrets(keys, name, *kept)) {
      keys.secrets = std::move(*copy);
      damaged.push_back(fmt::format("{}: {}", name, what));
      return {};
    }
  return fail(object ? Code::corrupt : Code::not_found, fmt::format("{}: {}", name, what));
}

// The same secrets lie under every epoch, so that dedup survives. Whoever opens the repository
// first in a new one, or after the newest copy was lost, takes them over from the epoch before.
// `put`: null in a home that only reads.
Result<> read_secrets(SecretsObjects& objects, ObjectStore* put, LocalFolder& state,
                      RepositoryKeys& keys, std::vector<std::string>& damaged, Random& random) {
  const auto newest = read_secrets_of(objects, state, keys.newest, keys, damaged);
  if (newest || !is_damage(newest.error())) return newest;
  Result<> found = newest;
  for (auto at = std::next(keys.epoch_keys.rbegin()); !found && at != keys.epoch_keys.rend();
       ++at) {
    found = read_secrets_of(objects, state, at->first, keys, damaged);
    if (!found && !is_damage(found.error())) return found;
  }
  if (!found) return newest;
  const bool nothing_there = newest.error().code == Code::not_found;
  if (!nothing_there) damaged.push_back(newest.error().what);
  if (put == nullptr || !nothing_there) return {};
  const Bytes object = seal_secrets(keys, keys.secrets, random);
  auto done = put->put(secrets_name(keys.newest), object);
  if (done) return keep_copy(state, keys.newest, object);
  if (done.error().code != Code::conflict) return done;
  // Another device was faster: what stands there is read as it would be next time.
  objects.forget(keys.newest);
  return read_secrets_of(objects, state, keys.newest, keys, damaged);
}

// The first session record that the store lists: it opens as of one repository only. None: there is
// none.
struct SessionObject {
  std::string name;
  Bytes bytes;  // empty: damaged
};
Result<std::optional<SessionObject>> first_session(ObjectStore& store, const ListLimits& limits) {
  SessionObject first;
  HF_TRY(list_at_most(store, "heads/", limits.heads, [&](const ObjectInfo& info) -> Result<> {
    const auto name = parse_head_name(info.name);
    if (name && name->kind == HeadName::Kind::open &&
        (first.name.empty() || info.name < first.name))
      first.name = info.name;
    return {};
  }));
  if (first.name.empty()) return std::nullopt;
  auto object = store.get(first.name, kSecretsMax);
  if (!object && !is_damage(object.error())) return std::unexpected(object.error());
  if (object) first.bytes = std::move(*object);
  return first;
}

// What the store says of the repository is signed by nobody, but only with its right id do the
// secrets open, in whatever epoch they are there. The first of `candidates` for which they do; else
// that of the account's first repository, which genesis names.
Result<Description> find_description(SecretsObjects& objects, std::vector<Description> candidates,
                                     const Chain& chain, const OpenedAccount& account) {
  for (const Suite suite : {Suite::aes_256_gcm, Suite::chacha20_poly1305})
    candidates.push_back({{chain.account(), chain.place().repository}, suite});
  std::optional<Error> error;
  for (auto epoch = account.epochs.rbegin(); epoch != account.epochs.rend(); ++epoch) {
    const std::string name = secrets_name(epoch->number);
    const Result<Bytes>& object = objects.get(epoch->number);
    if (!object && !is_damage(object.error())) return wrap(object.error(), name);
    if (!object) {  // no device was here in that epoch yet
      if (!error) error = wrap(object.error(), name).error();
      continue;
    }
    for (const Description& candidate : candidates) {
      auto opened = open_secrets(repository_keys(candidate, account), name, *object);
      if (opened) return candidate;
      error = wrap(std::move(opened).error(), name).error();
    }
  }
  return fail(Code::corrupt, error->what);
}

std::string description_damage(const Result<Description>& said) {
  const std::string why = said ? "damaged: it names what the account's keys do not open"
                          : said.error().code == Code::not_found ? "lost"
                                                                 : said.error().what;
  return fmt::format("{}: {}", kRepository, why);
}

Result<std::vector<Description>> remembered_descriptions(LocalFolder& state,
                                                         const AccountId& account) {
  constexpr std::size_t hex = 2 * RepositoryId::size, line = hex + 3;  // and " 1\n"
  auto file = state.read(kDescriptionFile, kRepositoryMax);
  if (!file && file.error().code != Code::not_found) return std::unexpected(file.error());
  std::vector<Description> out;
  std::string_view text = file ? as_text(*file) : std::string_view();
  for (; text.size() >= line; text.remove_prefix(line)) {
    const auto id = RepositoryId::parse(text.substr(0, hex));
    if (!id) break;  // damaged: it is looked for anew
    out.push_back(
        {{account, *id}, text[hex + 1] == '2' ? Suite::chacha20_poly1305 : Suite::aes_256_gcm});
  }
  return out;
}

Result<> remember_description(LocalFolder& state, const Description& description) {
  HF_ASSIGN(const auto known, remembered_descriptions(state, description.place.account));
  std::string text = description_line(description);
  for (const Description& other : known) {
    if (other == description) return {};
    if (other.place.repository != description.place.repository) text += description_line(other);
  }
  return if_it_can(state.replace(kDescriptionFile, as_bytes(text)));
}

// Who opens: the device, by the chain that this home has, or without one the store's.
struct Opening {
  std::optional<ChainCopy> home;  // its copy
  Chain chain;
  OpenedAccount account;
};
Result<Opening> opening(ObjectStore& store, LocalFolder& state, const DeviceKeys& device,
                        const std::optional<ReaderEntries>& reader) {
  HF_ASSIGN(std::optional<ChainCopy> home, read_home_chain(state));
  HF_ASSIGN(ChainCopy from, home ? Result<ChainCopy>(*home) : read_chain(store));
  if (reader) {
    from.entries.resize(std::min<std::size_t>(from.entries.size(), reader->follows));
    HF_ASSIGN(const Chain base, verify_chain(from.entries));
    HF_ASSIGN(from.chain, extend_chain(base, reader->entries));
  }
  HF_ASSIGN(OpenedAccount account, open_account(from.chain, device));
  return Opening{std::move(home), std::move(from.chain), std::move(account)};
}

// The repository's description as the store has it or, where that is lost or not so, as it follows
// from the keys. A home that knows the repository has copies of its secrets: where the store's are
// lost too, a session record tells which one this is.
Result<Description> describe(ObjectStore& store, SecretsObjects& objects, LocalFolder& state,
                             const Opening& by, const ListLimits& limits,
                             std::vector<std::string>& damaged) {
  const auto said = read_description(store);
  if (!said && !is_damage(said.error())) return said;
  HF_ASSIGN(const std::vector<Description> known,
            remembered_descriptions(state, by.chain.account()));
  std::vector<Description> candidates = known;
  if (said) candidates.push_back(*said);
  auto found = find_description(objects, candidates, by.chain, by.account);
  if (!found && !is_damage(found.error())) return found;
  std::optional<SessionObject> session;
  if (!found && !known.empty()) {
    HF_ASSIGN(session, first_session(store, limits));
  }
  // Without any session only what the store says can tell.
  const auto fits = [&](const Description& candidate) {
    if (!session) return said && *said == candidate;
    return open_box(repository_keys(candidate, by.account), ObjectType::session_open, session->name,
                    session->bytes)
        .has_value();
  };
  if (!found)
    if (const auto one = std::ranges::find_if(known, fits); one != known.end()) found = *one;
  if (!found && said && said->place.account != by.chain.account())
    return fail(
        Code::denied,
        fmt::format(
            "the repository is of account {}, this home of account {}; name the repository or the "
            "home that belong together",
            said->place.account.brief(), by.chain.account().brief()));
  if (!found) return said ? found : said;
  if (!said || *found != *said) damaged.push_back(description_damage(said));
  return found;
}

Result<> put_secrets(ObjectStore& store, const RepositoryKeys& keys, Random& random) {
  const std::string name = secrets_name(keys.newest);
  const RepositorySecrets secrets{Secret::random(32, random), Secret::random(32, random),
                                  Secret::random(16, random)};
  auto put = store.put(name, seal_secrets(keys, secrets, random));
  if (!put && put.error().code == Code::conflict)
    return {};  // an interrupted init's, under the same keys
  return put;
}

// ---- init
// -------------------------------------------------------------------------------------------------------------

// Only what an interrupted init of holdfast leaves may be there.
Result<> check_empty(ObjectStore& store) {
  return store.list("", [](const ObjectInfo& info) -> Result<> {
    if (info.name.starts_with("chain/") || info.name.starts_with("secrets/") ||
        info.name.starts_with("probe/"))
      return {};
    return fail(
        Code::conflict,
        fmt::format(
            "the folder is not empty and not a repository (it holds '{}'); name an empty or a "
            "new folder",
            escaped(info.name)));
  });
}

struct InitAccount {
  DeviceKeys device;
  std::vector<Bytes> chain;
};

Result<InitAccount> new_account(Home home, const InitOptions& options,
                                const RepositoryId& repository, Random& random) {
  const OrderingPlace place{.kind = OrderingPlace::Kind::repository, .repository = repository};
  HF_ASSIGN(NewAccount made, create_account(random, options.device_name, place));
  HF_TRY(options.give_paper_key(made.paper, made.device.account));
  HF_TRY(write_home_chain(home.state, made.entries));
  HF_TRY(write_device(home, made.device, options.passphrase, random));
  return InitAccount{std::move(made.device), std::move(made.entries)};
}

// Chain first, then secrets, then the description that makes it a repository.
Result<> fill_repository(ObjectStore& store, const InitAccount& account,
                         const Description& description, Random& random) {
  for (std::size_t n = 0; n < account.chain.size(); ++n) {
    auto put = store.put(chain_object_name(n), account.chain[n]);
    if (!put && put.error().code == Code::conflict)
      return fail(
          Code::conflict,
          "the folder holds the beginning of another account's repository; name an empty folder");
    HF_TRY(std::move(put));
  }
  HF_ASSIGN(const Chain chain, verify_chain(account.chain));
  HF_ASSIGN(const OpenedAccount opened, open_account(chain, account.device));
  HF_TRY(put_secrets(store, repository_keys(description, opened), random));
  return store.put(kRepository, encode_description(description));
}

RepositoryId draw_repository(Random& random) {
  RepositoryId id;
  random.fill(id.bytes);
  return id;
}

Result<InitReport> init_existing(ObjectStore& store, Home home, const DeviceKeys& device,
                                 const Description& there) {
  if (there.place.account != device.account)
    return fail(
        Code::denied,
        fmt::format("the folder holds a repository of account {}, this home is of account {}; name "
                    "another folder, or use 'holdfast recover' in a new home",
                    there.place.account.brief(), device.account.brief()));
  SubFolder state(home.state, there.place.repository.hex());
  HF_ASSIGN(const std::optional<ChainCopy> ours, read_home_chain(home.state));
  std::vector<std::string> damaged;
  HF_ASSIGN([[maybe_unused]] const SyncedChain chain,
            sync_chain(store, home.state, state, ours, device.account, {}, damaged));
  return InitReport{device.account, there.place.repository, device.id, false, true};
}

// To a machine that has nothing but the paper key: what does not open is of no use to it, and
// nothing may be written on its word.
Result<Description> describe_to_newcomer(ObjectStore& store, const Result<Description>& said,
                                         const Chain& chain, const OpenedAccount& account) {
  std::vector<Description> candidates;
  if (said) candidates.push_back(*said);
  SecretsObjects objects(store);
  auto found = find_description(objects, std::move(candidates), chain, account);
  if (found || !is_damage(found.error())) return found;
  return fail(Code::corrupt,
              fmt::format("{}, and without it nothing opens{}. A device of the account that knows "
                          "this repository can put back what is lost: 'holdfast repair index "
                          "--apply' there",
                          found.error().what, said ? "" : " (" + description_damage(said) + ")"));
}

}  // namespace

Result<bool> home_has_account(Home home) {
  auto file = home.keys.read(kDeviceFile, kKeyFileMax);
  if (file) {
    wipe(*file);
    return true;
  }
  if (file.error().code == Code::not_found) return false;
  return std::unexpected(std::move(file).error());
}

Result<InitReport> init_repository(ObjectStore& store, Home home, const AskPassphrase& ask,
                                   const InitOptions& options, World world) {
  HF_TRY(store.lock());
  HF_ASSIGN(const bool has_account, home_has_account(home));
  HF_ASSIGN(const auto reader, read_reader(home.state));
  if (has_account && reader) return home_only_reads();
  auto there = read_description(store);
  if (!there && there.error().code != Code::not_found)
    return std::unexpected(std::move(there).error());
  if (there && !has_account)
    return fail(Code::conflict,
                "a repository is there already; to open it from this home use 'holdfast recover'");
  if (!there) {
    HF_TRY(check_empty(store));
    HF_TRY(prove_put_if_absent(store, world.random));
  }
  RepositoryId repository = draw_repository(world.random);
  std::optional<InitAccount> account;
  if (has_account) {
    HF_ASSIGN(DeviceKeys device, read_device(home, ask));
    if (there) return init_existing(store, home, device, *there);
    HF_ASSIGN(std::optional<ChainCopy> ours, read_home_chain(home.state));
    if (!ours) return fail(Code::not_found, chain_object_name(0) + ": there is no account here");
    // An init that stopped before its first repository stood goes on with the id that genesis
    // names.
    if (auto seen = home.state.read("first-repository", 64);
        !seen && seen.error().code == Code::not_found)
      repository = ours->chain.place().repository;
    account.emplace(std::move(device), std::move(ours->entries));
  } else {
    HF_ASSIGN(account, new_account(home, options, repository, world.random));
  }
  const Description description{{account->device.account, repository}, options.suite};
  HF_TRY(fill_repository(store, *account, description, world.random));
  HF_TRY(home.state.replace("first-repository", as_bytes("done\n")));
  return InitReport{account->device.account, repository, account->device.id, !has_account, false};
}

Result<RecoverReport> recover_home(ObjectStore& store, Home home, const ParsedPaperKey& paper,
                                   const RecoverOptions& options, World world) {
  HF_ASSIGN(const bool has_account, home_has_account(home));
  if (has_account)
    return fail(Code::conflict,
                fmt::format("{} has an account already; recover into a new home: --home DIR",
                            home.keys.where()));
  HF_TRY(store.lock());
  const auto said = read_description(store);
  if (!said && !is_damage(said.error())) return std::unexpected(said.error());
  RecoverReport report;
  auto read = read_longest_chain(store);
  if (read && read->hides && !options.read_only) read = std::unexpected(*read->hides);
  // Neither of the two: it is no repository.
  if (!read && !said && said.error().code == Code::not_found) return std::unexpected(said.error());
  if (!read && !options.read_only && (is_damage(read.error()) || read.error().code == Code::alarm))
    return fail(read.error().code,
                fmt::format("{}. A home that only reads can do without it: holdfast recover "
                            "--read-only",
                            read.error().what));
  HF_ASSIGN(StoreChain there, std::move(read));
  if (there.hides) report.damaged.push_back(there.hides->what);
  const Chain& chain = there.copy.chain;
  std::vector<Bytes>& entries = there.copy.entries;
  if (paper.account && *paper.account != chain.account())
    return fail(Code::denied,
                fmt::format("the paper key is of account {}, the repository of account {}",
                            paper.account->brief(), chain.account().brief()));
  HF_ASSIGN(const OpenedAccount account, open_account_with_paper(chain, paper.key));
  HF_ASSIGN(const Description description, describe_to_newcomer(store, said, chain, account));
  if (!said || *said != description) report.damaged.push_back(description_damage(said));
  if (!options.read_only && chain.place().repository != description.place.repository)
    return fail(
        Code::denied,
        fmt::format("this repository ({}) is not where the account's entries are ordered; recover "
                    "with the repository {}, or, where that one is lost, with --read-only",
                    description.place.repository.hex(), chain.place().repository.hex()));
  // From now on there is a second device.
  if (!options.read_only) HF_TRY(prove_put_if_absent(store, world.random));
  HF_ASSIGN(const Recovered recovered,
            recover_device(chain, paper.key, world.random, options.device_name));
  std::optional<ReaderEntries> reader;
  if (options.read_only) {
    reader.emplace(entries.size(), recovered.entries);
    SubFolder seen(home.state, description.place.repository.hex());
    if (report.damaged.empty()) HF_TRY(write_seen(seen, chain));
  }
  HF_TRY(write_reader(home.state, reader));
  for (const Bytes& entry : recovered.entries) {
    if (options.read_only) break;
    auto put = store.put(chain_object_name(entries.size()), entry);
    if (!put && put.error().code == Code::conflict)
      return fail(Code::unavailable,
                  "another device added an entry to the account just now; run the command again");
    HF_TRY(std::move(put));
    entries.push_back(entry);
  }
  HF_TRY(write_home_chain(home.state, entries));
  HF_TRY(home.state.replace("first-repository", as_bytes("done\n")));
  HF_TRY(write_device(home, recovered.device, options.passphrase, world.random));
  report.account = recovered.device.account;
  report.repository = description.place.repository;
  report.device = recovered.device.id;
  return report;
}

Client::Client(DeviceKeys device, Chain chain, Home home, const RepositoryId& repository)
    : device_(std::move(device)),
      signer_(device_.sign_seed.span()),
      chain_(std::move(chain)),
      state_(home.state, repository.hex()),
      cache_(home.cache, repository.hex()) {}
Client::~Client() = default;

DeviceKeyLookup Client::device_lookup() const {
  return [this](const DeviceId& id) -> std::optional<SignPublicKey> {
    const ChainDevice* device = chain_->device(id);
    if (device == nullptr) return std::nullopt;
    return device->sign;
  };
}

Result<std::unique_ptr<Client>> Client::open(ObjectStore& store, Home home,
                                             const AskPassphrase& ask, World world,
                                             const ClientOptions& options) {
  HF_ASSIGN(StoreLock store_lock, store.lock());
  HF_ASSIGN(DeviceKeys device, read_device(home, ask));
  HF_ASSIGN(const auto reader, read_reader(home.state));
  if (reader && options.accept_rollback) return home_only_reads();
  std::vector<std::string> damaged;
  SecretsObjects secrets(store);
  HF_ASSIGN(Opening known, opening(store, home.state, device, reader));
  HF_ASSIGN(const Description description,
            describe(store, secrets, home.state, known, options.lists, damaged));
  SubFolder state(home.state, description.place.repository.hex());
  HF_ASSIGN(
      SyncedChain synced,
      sync_chain(store, home.state, state, known.home, device.account,
                 {reader.has_value(), options.accept_rollback, options.despite_alarm}, damaged));
  // A reader opens by its own entries; what came into the chain since then opens for members only.
  const bool more = synced.chain.newest_hash() != known.chain.newest_hash();
  HF_ASSIGN(const OpenedAccount account, reader || !more
                                             ? Result<OpenedAccount>(std::move(known.account))
                                             : open_account(synced.chain, device));
  std::unique_ptr<Client> client(
      new Client(std::move(device), std::move(synced.chain), home, description.place.repository));
  client->keys_ = repository_keys(description, account);
  HF_TRY(read_secrets(secrets, reader ? nullptr : &store, client->state_, client->keys_, damaged,
                      world.random));
  HF_TRY(remember_description(home.state, description));
  if (reader) client->reading_ = std::make_unique<ReadingStore>(store);
  if (const Epoch newest = client->chain_->newest_epoch().number; newest > client->keys_.newest)
    damaged.push_back(fmt::format(
        "the account opened key epoch {} since this home was made: what was stored from then on "
        "does not open here; recover into a new home",
        newest));
  client->damaged_ = std::move(damaged);
  // By the earlier clock, everything is held for longer.
  const RetentionLock lock{
      .period_ns = store_lock.enforced ? static_cast<std::int64_t>(client->chain_->retention_lock(
                                             description.place.repository)) *
                                             1'000'000'000
                                       : 0,
      .now = std::min(store_lock.now, world.clock.now())};
  client->store_lock_ = std::move(store_lock);
  const bool hidden = synced.hidden;
  const auto check_chain = [c = client.get(), hidden](std::uint64_t position,
                                                      const EntryHash& hash) -> Result<> {
    if (hidden && position > c->chain_->position()) return {};  // nobody can tell
    if (position <= c->chain_->position() && c->chain_->hash_at(position) == hash) return {};
    return fail(Code::alarm, fmt::format("a head names chain entry {}, which the repository's "
                                         "chain does not have: the chain was "
                                         "cut off or forked. Nothing was written",
                                         position));
  };
  HF_ASSIGN(client->repository_,
            Repository::open({client->reading_ ? *client->reading_ : store, client->state_,
                              client->cache_, client->keys_, client->device_lookup(), check_chain,
                              client->chain_->position(), client->chain_->newest_hash(),
                              client->device_.id, client->signer_, world.random, world.clock,
                              options.index, options.reader, options.lists, options.accept_rollback,
                              options.despite_alarm, lock}));
  return client;
}

namespace {

// `there`: what the store has. `found` names it where that is not what the home has.
Result<> put_back(ObjectStore& store, const std::string& name, const Result<Bytes>& there,
                  ByteSpan ours, bool apply, std::vector<std::string>& found) {
  if (there && std::ranges::equal(*there, ours)) return {};
  if (!there && !is_damage(there.error())) return std::unexpected(there.error());
  const bool lost = !there && there.error().code == Code::not_found;
  found.push_back(fmt::format("{}: {}; this home has a copy", name, lost ? "lost" : "damaged"));
  if (!apply) return {};
  if (!lost) HF_TRY(store.remove(name));
  return store.put(name, ours);
}

// Bytes in the chain behind this home's newest entry that no key of the account signed: nothing is
// lost with them, and the chain cannot grow before they go. (Of an entry that was damaged there
// whoever has it puts it back.)
Result<> unblock_chain(ObjectStore& store, const Chain& mine, bool apply,
                       std::vector<std::string>& found) {
  HF_ASSIGN(const std::set<std::string> names, list_chain(store));
  for (auto name = names.upper_bound(chain_object_name(mine.position())); name != names.end();
       ++name) {
    const auto there = store.get(*name, kChainEntryMax);
    if (!there && !is_damage(there.error())) return std::unexpected(there.error());
    if (there && signed_by_member(mine, *there)) continue;
    found.push_back(*name + ": no entry that a key of the account signed; the chain cannot grow");
    if (apply) HF_TRY(store.remove(*name));
  }
  return {};
}

bool same_secrets(const RepositorySecrets& a, const RepositorySecrets& b) {
  return equal_secret(a.id_key.span(), b.id_key.span()) &&
         equal_secret(a.chunker_key.span(), b.chunker_key.span()) &&
         equal_secret(a.tree_key.span(), b.tree_key.span());
}

// What opens in the store stays. Else this home's copy, if that is good, or for the newest epoch
// the secrets sealed anew: they are in memory.
Result<> mend_secrets(ObjectStore& store, LocalFolder& state, Epoch epoch,
                      const RepositoryKeys& keys, Random& random, bool apply,
                      std::vector<std::string>& found) {
  const std::string name = secrets_name(epoch);
  const auto good = [&](const Result<Bytes>& object) {
    const auto secrets = object ? open_secrets(keys, name, *object)
                                : Result<RepositorySecrets>(std::unexpected(object.error()));
    return secrets && same_secrets(*secrets, keys.secrets);
  };
  const auto there = store.get(name, kSecretsMax);
  if (!there && !is_damage(there.error())) return std::unexpected(there.error());
  const auto kept = state.read(copy_name(epoch), kSecretsMax);
  if (good(there)) return good(kept) ? Result<>() : keep_copy(state, epoch, *there);
  if (good(kept)) return put_back(store, name, there, *kept, apply, found);
  if (epoch != keys.newest) return {};  // nobody needs it any more
  const Bytes object = seal_secrets(keys, keys.secrets, random);
  HF_TRY(put_back(store, name, there, object, apply, found));
  return apply ? keep_copy(state, epoch, object) : Result<>();
}

}  // namespace

Result<std::vector<std::string>> repair_keys(ObjectStore& store, Home home, const Client& client,
                                             bool apply) {
  std::vector<std::string> found;
  if (client.only_reads()) return home_only_reads();
  HF_ASSIGN(const std::optional<ChainCopy> ours, read_home_chain(home.state));
  if (!ours) return fail(Code::not_found, home.state.where() + ": has no copy of the chain");
  for (std::size_t n = 0; n < ours->entries.size(); ++n) {
    const std::string name = chain_object_name(n);
    const auto there = store.get(name, kChainEntryMax);
    // open() would have told; it is evidence, and is not removed.
    if (there && *there != ours->entries[n] && signed_by_member(ours->chain, *there))
      return fail(Code::alarm, fmt::format("{}: another entry than this home's, signed by a key of "
                                           "the account: a fork. Nothing was changed",
                                           name));
    HF_TRY(put_back(store, name, there, ours->entries[n], apply, found));
  }
  HF_TRY(unblock_chain(store, ours->chain, apply, found));
  const RepositoryKeys& keys = client.keys();
  SubFolder state(home.state, keys.place.repository.hex());
  for (const auto& [epoch, key] : keys.epoch_keys)
    HF_TRY(mend_secrets(store, state, epoch, keys, client.random(), apply, found));
  // The last, as in an init: with it, it is a repository.
  HF_TRY(put_back(store, std::string(kRepository), store.get(kRepository, kRepositoryMax),
                  encode_description({keys.place, keys.suite}), apply, found));
  return found;
}

namespace {

// Puts the entry that `make` makes into the store of the account's ordering place, then into the
// home.
Result<> append_entry(ObjectStore& first, Home home, const Client& client,
                      const std::function<Result<Bytes>(const Chain&)>& make) {
  HF_ASSIGN(const Description place, read_description(first));
  if (place.place.repository != client.chain().place().repository)
    return fail(Code::denied,
                fmt::format("the account's entries are ordered in its repository {}, not in {}; "
                            "name where that one is with --first-repo",
                            client.chain().place().repository.hex(), place.place.repository.hex()));
  HF_ASSIGN(ChainCopy copy, read_chain(first));
  const Chain& chain = copy.chain;
  std::vector<Bytes>& entries = copy.entries;
  HF_TRY(check_no_fork(chain, client.chain()));
  const auto faster = [] {
    return fail(Code::unavailable,
                "another device added an entry to the account just now; run the command again");
  };
  if (chain.position() < client.chain().position())
    HF_TRY(check_against_known(chain, client.chain().position(), client.chain().newest_hash()));
  if (chain.position() != client.chain().position()) {
    HF_TRY(write_home_chain(home.state, entries));  // so that the next run knows them
    return faster();
  }
  HF_ASSIGN(Bytes entry, make(chain));
  auto put = first.put(chain_object_name(entries.size()), entry);
  if (!put && put.error().code == Code::conflict) return faster();
  HF_TRY(std::move(put));
  entries.push_back(std::move(entry));
  return write_home_chain(home.state, entries);
}

}  // namespace

Result<> set_retention_lock(ObjectStore& first, Home home, const Client& client,
                            std::uint64_t seconds, const PaperKey* paper) {
  if (client.only_reads()) return home_only_reads();
  if (!client.store_lock().enforced)
    return fail(Code::denied,
                fmt::format("this store cannot enforce a retention lock: {}. A lock that whoever "
                            "has the keys can lift is none; it takes a bucket that was made with "
                            "object lock",
                            client.store_lock().why_not));
  return append_entry(first, home, client, [&](const Chain& chain) {
    return retention_lock_entry(chain, client.device(), paper, client.keys().place.repository,
                                seconds);
  });
}

Result<> rotate_keys(ObjectStore& first, Home home, const Client& client, Random& random) {
  if (client.only_reads()) return home_only_reads();
  return append_entry(first, home, client, [&](const Chain& chain) {
    return new_epoch_entry(chain, client.device(), random);
  });
}

Result<> seal_home(Home home, const AskPassphrase& ask, const AskPassphrase& ask_new,
                   Random& random) {
  HF_ASSIGN(const DeviceKeys device, read_device(home, ask));
  std::optional<Secret> passphrase;
  if (ask_new) {
    HF_ASSIGN(passphrase, ask_new());
  }
  return write_device(home, device, passphrase, random);
}

}  // namespace holdfast
