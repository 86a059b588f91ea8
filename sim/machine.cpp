// SPDX-License-Identifier: Apache-2.0
#include "machine.h"

#include <sodium.h>

#include <algorithm>
#include <array>
#include <initializer_list>
#include <map>
#include <mutex>
#include <set>
#include <span>

#include "repo/check.h"

// Every call of a machine opens the account anew, and computes again on curves what this process
// computed a thousand times, a third of a simulation's time. What depends on nothing but its input
// is remembered by a hash over that; a signature that did not hold is verified again. The linker
// puts these before libsodium's.
namespace {

using Key = std::array<unsigned char, 32>;
constexpr std::size_t kKept = 1U << 16;  // each world has keys of its own

class Remembered {
 public:
  // Of the input to the output of `compute`, which is 0 when it is to be kept.
  template <std::size_t N, class Compute>
  int get(const Key& input, unsigned char* out, const Compute& compute) {
    const std::lock_guard lock(mutex_);
    if (const auto at = known_.find(input); at != known_.end()) {
      std::copy_n(at->second.begin(), N, out);
      return 0;
    }
    const int verdict = compute();
    if (known_.size() >= kKept) known_.clear();
    if (verdict == 0) std::copy_n(out, N, known_[input].begin());
    return verdict;
  }

 private:
  std::mutex mutex_;
  std::map<Key, std::array<unsigned char, 96>> known_;
};

Key hash_of(std::initializer_list<std::span<const unsigned char>> parts) {
  Key hash{};
  crypto_generichash_state state;
  crypto_generichash_init(&state, nullptr, 0, hash.size());
  for (const auto part : parts) crypto_generichash_update(&state, part.data(), part.size());
  crypto_generichash_final(&state, hash.data(), hash.size());
  return hash;
}

}  // namespace

extern "C" {
int __real_crypto_sign_ed25519_verify_detached(const unsigned char* signature,
                                               const unsigned char* message,
                                               unsigned long long size, const unsigned char* key);
int __wrap_crypto_sign_ed25519_verify_detached(const unsigned char* signature,
                                               const unsigned char* message,
                                               unsigned long long size, const unsigned char* key) {
  static Remembered held;
  const Key input = hash_of({{signature, crypto_sign_BYTES},
                             {key, crypto_sign_PUBLICKEYBYTES},
                             {message, static_cast<std::size_t>(size)}});
  return held.get<0>(input, nullptr, [&] {
    return __real_crypto_sign_ed25519_verify_detached(signature, message, size, key);
  });
}

int __real_crypto_sign_ed25519_seed_keypair(unsigned char* pk, unsigned char* sk,
                                            const unsigned char* seed);
int __wrap_crypto_sign_ed25519_seed_keypair(unsigned char* pk, unsigned char* sk,
                                            const unsigned char* seed) {
  static Remembered keys;
  std::array<unsigned char, crypto_sign_PUBLICKEYBYTES + crypto_sign_SECRETKEYBYTES> both{};
  keys.get<both.size()>(hash_of({{seed, crypto_sign_SEEDBYTES}}), both.data(), [&] {
    return __real_crypto_sign_ed25519_seed_keypair(both.data(),
                                                   both.data() + crypto_sign_PUBLICKEYBYTES, seed);
  });
  std::copy_n(both.begin(), crypto_sign_PUBLICKEYBYTES, pk);
  std::copy_n(both.begin() + crypto_sign_PUBLICKEYBYTES, crypto_sign_SECRETKEYBYTES, sk);
  return 0;
}

int __real_crypto_scalarmult_curve25519_base(unsigned char* q, const unsigned char* n);
int __wrap_crypto_scalarmult_curve25519_base(unsigned char* q, const unsigned char* n) {
  static Remembered points;
  return points.get<crypto_scalarmult_BYTES>(hash_of({{n, crypto_scalarmult_SCALARBYTES}}), q, [&] {
    return __real_crypto_scalarmult_curve25519_base(q, n);
  });
}

int __real_crypto_scalarmult_curve25519(unsigned char* q, const unsigned char* n,
                                        const unsigned char* p);
int __wrap_crypto_scalarmult_curve25519(unsigned char* q, const unsigned char* n,
                                        const unsigned char* p) {
  static Remembered points;
  return points.get<crypto_scalarmult_BYTES>(
      hash_of({{n, crypto_scalarmult_SCALARBYTES}, {p, crypto_scalarmult_BYTES}}), q,
      [&] { return __real_crypto_scalarmult_curve25519(q, n, p); });
}
}

namespace holdfast::sim {

namespace {

Entry base_entry(const std::string& path, EntryType type) {
  Entry entry;
  const std::size_t slash = path.rfind('/');
  entry.directory = slash == std::string::npos ? "" : path.substr(0, slash);
  entry.name = slash == std::string::npos ? path : path.substr(slash + 1);
  entry.type = type;
  entry.mode = type == EntryType::directory ? 0755 : 0644;
  entry.inode = std::hash<std::string>{}(path) >> 1;
  return entry;
}

}  // namespace

SimSource::SimSource(const SimTree& tree) : tree_(tree) {
  std::set<std::string> directories;
  for (const auto& [path, file] : tree) {
    for (std::size_t at = path.find('/'); at != std::string::npos; at = path.find('/', at + 1))
      directories.insert(path.substr(0, at));
    Entry entry = base_entry(path, EntryType::file);
    entry.size = file.content.size();
    entry.uid = entry.gid = file.uid;
    entry.mtime =
        entry.ctime = {static_cast<std::int64_t>(1'000'000'000 + file.version), file.nanoseconds};
    entries_.push_back(std::move(entry));
  }
  for (const std::string& path : directories)
    entries_.push_back(base_entry(path, EntryType::directory));
  std::ranges::sort(entries_, [](const Entry& a, const Entry& b) {
    return compare_keys(a.directory, a.name, b.directory, b.name) < 0;
  });
}

Result<const Entry*> SimSource::next() {
  return next_ < entries_.size() ? &entries_[next_++] : nullptr;
}

Result<> SimSource::open() {
  file_ = &tree_.at(entries_[next_ - 1].path());
  read_ = 0;
  return {};
}

Result<ReadPiece> SimSource::read(MutableByteSpan buffer) {
  const std::size_t n = std::min(buffer.size(), file_->content.size() - read_);
  if (n == 0) return ReadPiece{};
  std::memcpy(buffer.data(), file_->content.data() + read_, n);
  read_ += n;
  return ReadPiece{ReadPiece::Kind::data, n};
}

Result<bool> SimSource::finish(Entry& entry) {
  entry.size = file_->content.size();
  return false;
}

Result<InitReport> Machine::init(ObjectStore& store) {
  InitOptions options{.device_name = name,
                      .passphrase = std::nullopt,
                      .suite = Suite::aes_256_gcm,
                      .give_paper_key = {}};
  options.give_paper_key = [&](const PaperKey& key, const AccountId&) -> Result<> {
    paper = key.clone();
    return {};
  };
  return init_repository(store, home(), {}, options, {random, clock});
}

Result<RecoverReport> Machine::recover(ObjectStore& store, const PaperKey& key, bool read_only) {
  return recover_home(store, home(), ParsedPaperKey{key.clone(), std::nullopt},
                      {.device_name = name, .passphrase = std::nullopt, .read_only = read_only},
                      {random, clock});
}

Result<std::unique_ptr<Client>> Machine::open(ObjectStore& store) {
  // Small limits, so that segments and tiers are exercised by few chunks.
  ClientOptions options;
  options.index = {.table_chunks_max = 64, .tier_ratio = 3};
  options.lists = list_limits;
  options.accept_rollback = accept_rollback;
  options.despite_alarm = despite_alarm;
  return Client::open(store, home(), {}, {random, clock}, options);
}

Result<Snapshot> Machine::backup(ObjectStore& store) {
  HF_ASSIGN(const auto client, open(store));
  HF_ASSIGN(const HeadList heads, client->repository().heads());
  const Stop stop;
  HF_ASSIGN([[maybe_unused]] const auto damaged, client->repository().sync_index(heads, stop));
  SimSource source(tree);
  SimOwners owners;
  BackupProgress progress;
  BackupOptions options;
  options.paths = {"/" + name};
  options.host = name;
  options.program = "sim";
  options.workers = 0;
  HF_ASSIGN(const BackupReport report,
            holdfast::backup(client->repository(), heads, source, owners, options, progress, stop));
  return *report.snapshot;
}

Result<> Machine::drop(ObjectStore& store, const Snapshot& snapshot) {
  HF_ASSIGN(const auto client, open(store));
  HF_ASSIGN(const HeadList heads, client->repository().heads());
  return drop_snapshot(client->repository(), heads, snapshot, "sim");
}

Result<PruneReport> Machine::prune(ObjectStore& store, const PruneOptions& options) {
  HF_ASSIGN(const auto client, open(store));
  PruneProgress progress;
  return holdfast::prune(client->repository(), options, progress, Stop());
}

Result<RepairReport> Machine::repair(ObjectStore& store, Repair what, bool apply) {
  HF_ASSIGN(const auto client, open(store));
  RepairProgress progress;
  return what(client->repository(),
              {.apply = apply, .workers = 1, .host = name, .user = "", .program = "sim"}, progress,
              Stop());
}

void add_many(SimTree& tree, const std::string& called) {
  for (int i = 0; i < 100; ++i)
    tree["many/" + called + std::to_string(i)] = {called + std::to_string(i), 1, 1000};
}

void flip(MemoryStore& store, const std::string& name, std::size_t at) {
  Bytes bytes = store.get(name, 1U << 30).value();
  bytes[at % bytes.size()] ^= std::byte{1};
  store.overwrite(name, bytes);
}

CollectionRecord empty_record(const DeviceId& by, std::uint64_t number) {
  return {.object = {},
          .by = by,
          .number = number,
          .before = {},
          .condemned = {},
          .lists = {},
          .retired = {},
          .heads = {}};
}

bool is_outcome(std::string_view name) {
  const auto parsed = parse_head_name(name);
  return parsed && parsed->kind == HeadName::Kind::head;
}

std::vector<IndexedPack> packs(Machine& machine, ObjectStore& store) {
  const auto client = machine.open(store).value();
  const HeadList heads = client->repository().heads().value();
  client->repository().sync_index(heads, Stop()).value();  // an error throws, which fails the test
  return client->repository().index().packs();
}

std::vector<std::string> data_packs(Machine& machine, ObjectStore& store) {
  std::vector<std::string> out;
  for (const IndexedPack& pack : packs(machine, store))
    if (pack.type == ObjectType::data_pack) out.push_back(pack_name(pack.pack));
  return out;
}

std::vector<std::string> object_names(ObjectStore& store, std::string_view prefix) {
  std::vector<std::string> out;
  const auto note = [&](const ObjectInfo& info) -> Result<> {
    out.push_back(info.name);
    return {};
  };
  store.list(prefix, note).value();  // an error throws, which fails the test
  std::ranges::sort(out);
  return out;
}

Result<SimTree> read_back(Repository& repository, const Snapshot& snapshot) {
  SimTree tree;
  TreeCursor cursor(repository.nodes(), snapshot.tree);
  for (;;) {
    HF_ASSIGN(const Entry* entry, cursor.next());
    if (entry == nullptr) return tree;
    if (entry->type != EntryType::file) continue;
    SimFile file{.content = {},
                 .version = static_cast<std::uint64_t>(entry->mtime.seconds - 1'000'000'000),
                 .uid = entry->uid,
                 .nanoseconds = entry->mtime.nanoseconds};
    ContentCursor content(repository.nodes(), entry->content);
    for (;;) {
      HF_ASSIGN(const auto item, content.next());
      if (!item) break;
      if (!item->chunk) {
        file.content.append(item->length, '\0');
        continue;
      }
      HF_ASSIGN(const ChunkReader::Chunk chunk,
                repository.reader().get(*item->chunk, ChunkType::data));
      file.content += as_text(chunk.bytes);
    }
    HF_TRY(content.check_size(entry->size));
    tree.emplace(entry->path(), std::move(file));
  }
}

Result<> verify(ObjectStore& store, const PaperKey& paper, std::uint64_t seed,
                const std::vector<Reported>& reported) {
  Machine fresh(seed, "fresh");
  HF_TRY(fresh.recover(store, paper));
  HF_ASSIGN(const auto client, fresh.open(store));
  Repository& repository = client->repository();
  CheckProgress progress;
  HF_ASSIGN(const CheckReport checked,
            check(repository, {.read_data_percent = 100, .workers = 1}, progress, Stop()));
  if (!checked.clean()) return fail(Code::corrupt, "damage: " + checked.damage[0].what);
  HF_ASSIGN(const HeadList heads, repository.heads());
  for (const Reported& r : reported) {
    const std::string called = "snapshot " + r.id.brief();
    const auto found = std::ranges::find(heads.snapshots, r.id, &Snapshot::id);
    if (found == heads.snapshots.end())
      return fail(Code::corrupt, called + " was reported and is gone");
    const auto tree = read_back(repository, *found);
    if (!tree) return wrap(tree.error(), called);
    if (*tree != r.tree) return fail(Code::corrupt, called + " came back as something else");
  }
  return {};
}

std::uint64_t setting(const char* name, std::uint64_t otherwise) {
  const char* value = std::getenv(name);
  return value == nullptr ? otherwise : std::strtoull(value, nullptr, 10);
}

namespace {

std::string make_content(SeededRandom& random) {
  const std::size_t size = random.below(8) == 0 ? random.below(200'000) : random.below(3000);
  std::string content(size, '\0');
  // Text of few letters compresses; one file in three does not.
  const bool noise = random.below(3) == 0;
  for (char& c : content) c = static_cast<char>(noise ? random.next() : 'a' + random.below(4));
  return content;
}

}  // namespace

SimTree make_tree(SeededRandom& random, std::size_t files) {
  SimTree tree;
  for (std::size_t i = 0; i < files; ++i)
    tree["d" + std::to_string(random.below(4)) + "/e" + std::to_string(random.below(3)) + "/f" +
         std::to_string(i)] = {make_content(random), random.below(1000),
                               static_cast<std::uint32_t>(1000 + random.below(2))};
  return tree;
}

void change_tree(SimTree& tree, SeededRandom& random) {
  for (auto at = tree.begin(); at != tree.end();) {
    const std::uint64_t fate = random.below(10);
    if (fate == 0) {
      at = tree.erase(at);
      continue;
    }
    if (fate == 1) {
      at->second.content = make_content(random);
      at->second.version += 1 + random.below(1000);
    }
    ++at;
  }
  tree["d9/new" + std::to_string(random.below(1000))] = {make_content(random), random.below(1000),
                                                         1000};
}

}  // namespace holdfast::sim
