// SPDX-License-Identifier: Apache-2.0
// From options to an opened repository, and from what a user types to a snapshot.
#include <fmt/format.h>
#include <pwd.h>
#include <sys/stat.h>
#include <unistd.h>

#include <charconv>
#include <cstdlib>
#include <filesystem>

#include "commands.h"
#include "fs/starts.h"
#include "opened_store.h"
#include "usage.h"

namespace holdfast {

namespace {

std::unexpected<Error> no_place(const std::string& path, std::string_view what) {
  return fail(Code::not_found, fmt::format("{}: {}", escaped(path), what));
}

// `path` ends with "..". Only trusted symlinks may lead there (fs/starts.h).
Result<std::string> real_place(const std::string& path) {
  const Opened opened = open_ancestor(path);
  if (!opened) return no_place(path, errno_text(opened.error()));
  std::error_code error;
  std::string real = std::filesystem::canonical(path, error).string();
  if (error) return no_place(path, error.message());
  struct stat seen{}, now{};
  if (::fstat(opened->get(), &seen) != 0 || ::stat(real.c_str(), &now) != 0 ||
      seen.st_dev != now.st_dev || seen.st_ino != now.st_ino)
    return no_place(path, "it was replaced meanwhile");
  return real;
}

// Behind the last component "..", or 0.
std::size_t end_of_dots(const std::string& path) {
  for (std::size_t at = path.size(); (at = path.rfind("/..", at)) != std::string::npos && at > 0;
       --at)
    if (at + 3 == path.size() || path[at + 3] == '/') return at + 3;
  return 0;
}

}  // namespace

Result<std::string> named_path(const std::string& path) {
  std::error_code error;
  std::string absolute = std::filesystem::absolute(path, error).string();
  if (error) return no_place(path, error.message());
  if (const std::size_t dots = end_of_dots(absolute); dots > 0) {
    HF_ASSIGN(const std::string place, real_place(absolute.substr(0, dots)));
    absolute.replace(0, dots, place);
  }
  std::string clean = std::filesystem::path(absolute).lexically_normal().string();
  while (clean.size() > 1 && clean.ends_with('/')) clean.pop_back();
  return clean;
}

std::string host_name() {
  char name[256] = {};
  return ::gethostname(name, sizeof name - 1) == 0 && name[0] != 0 ? name : "this machine";
}

std::string user_name() {
  const passwd* entry = ::getpwuid(::geteuid());
  return entry == nullptr ? std::to_string(::geteuid()) : entry->pw_name;
}

bool is_bucket(const std::string& place) { return place.starts_with("s3:"); }

Result<std::string> repository_place(const Context& context, const HomePaths& paths) {
  std::string path = context.options.repository;
  if (path.empty()) {
    const char* variable = std::getenv("HOLDFAST_REPO");
    if (variable != nullptr) path = variable;
  }
  if (path.empty()) {
    HF_ASSIGN(const Config config, read_config(paths));
    path = config.repository;
  }
  if (path.empty())
    return usage(
        "no repository was named: use --repo R (a folder, or s3:...), HOLDFAST_REPO, or "
        "'repository' in config.toml");
  if (is_bucket(path)) return path;
  if (path.find("://") != std::string::npos)
    return usage(
        fmt::format("repository '{}': this version knows folders, and buckets as "
                    "s3:https://HOST/BUCKET",
                    escaped(path)));
  return named_path(path);
}

Result<std::uint64_t> duration_seconds(std::string_view option, const std::string& text,
                                       std::uint64_t days_max) {
  constexpr std::uint64_t minute = 60, hour = 60 * minute, day = 24 * hour;
  constexpr std::pair<std::string_view, std::uint64_t> units[] = {
      {"", 1}, {"s", 1}, {"m", minute}, {"h", hour}, {"d", day}, {"w", 7 * day}, {"y", 365 * day},
  };
  std::uint64_t number = 0;
  const char* const end = text.data() + text.size();
  const auto [at, error] = std::from_chars(text.data(), end, number);
  const std::string_view said(at, static_cast<std::size_t>(end - at));
  for (const auto& [unit, seconds] : units)
    if (error == std::errc{} && said == unit && number <= days_max * day / seconds)
      return number * seconds;
  return usage(
      fmt::format("{} '{}': expected a duration such as 30s, 10m, 2h, 30d or 1y, at most "
                  "{} days",
                  option, escaped(text), days_max));
}

OpenRepository::OpenRepository() = default;
OpenRepository::~OpenRepository() = default;

Result<std::unique_ptr<OpenRepository>> OpenRepository::open(const Context& context,
                                                             const ClientOptions& given) {
  ClientOptions options = given;
  options.despite_alarm |= context.options.despite_alarm;
  HF_ASSIGN(const HomePaths paths, home_paths(context.options.home));
  HF_ASSIGN(const std::string place, repository_place(context, paths));
  std::unique_ptr<OpenRepository> opened(new OpenRepository);
  opened->place_ = place;
  HF_ASSIGN(opened->store_, OpenedStore::open(context, place, paths));
  HF_ASSIGN(opened->folders_, HomeFolders::open(paths));
  const AskPassphrase ask = [&] { return get_passphrase(context.options.passphrase_file); };
  auto client = Client::open(opened->store_->store(), opened->folders_->home(), ask,
                             {context.random, context.clock}, options);
  if (!client) return wrap(std::move(client).error(), escaped(place));
  opened->client_ = std::move(*client);
  const Client& opening = *opened->client_;
  if (opening.chain().retention_lock(opening.keys().place.repository) > 0 &&
      !opening.store_lock().enforced)
    context.out.warning(fmt::format(
        "warning: the account set a retention lock for this repository, and its store does not "
        "enforce one: {}",
        opening.store_lock().why_not));
  return opened;
}

Result<bool> home_is_sealed(Home home) {
  HF_ASSIGN(Bytes file, home.keys.read("device", kKeyFileMax));
  const bool sealed = key_file_needs_passphrase(file);
  wipe(file);
  return sealed;
}

Result<HeadList> OpenRepository::heads(const Context& context, bool index) {
  HF_ASSIGN(HeadList heads, repository().heads());
  for (const std::string& what : client_->damaged())
    context.out.damage(client_->only_reads() || what.starts_with("ALARM")
                           ? what
                           : fmt::format("{}. This home's copy is used; 'holdfast repair index "
                                         "--apply' puts it back",
                                         what));
  for (const std::string& what : heads.damaged) context.out.damage(what);
  if (index) {
    HF_ASSIGN(const auto damaged, repository().sync_index(heads, context.stop));
    for (const std::string& what : damaged) context.out.damage(what);
  }
  return heads;
}

namespace {

Result<const Snapshot*> latest(const HeadList& heads, const SnapshotFilter& given) {
  HF_ASSIGN(const SnapshotFilter filter, stored_filter(given));
  for (auto s = heads.snapshots.rbegin(); s != heads.snapshots.rend(); ++s)
    if (selected(*s, filter)) return &*s;
  if (!heads.held.empty())
    return fail(Code::not_found,
                fmt::format("no such snapshot that counts, but {} that were forgotten are kept by "
                            "the retention lock; name one by its id ('holdfast snapshots')",
                            heads.held.size()));
  return fail(Code::not_found,
              fmt::format("no snapshot{}{}; 'holdfast snapshots' lists them",
                          filter.host.empty() ? "" : " of host " + escaped(filter.host),
                          filter.path.empty() ? "" : " of path " + escaped(filter.path)));
}

Result<const Snapshot*> by_prefix(const HeadList& heads, std::string_view text,
                                  const SnapshotFilter& filter) {
  constexpr std::string_view hex = "0123456789abcdef";
  const bool is_latest = text == "latest";
  const bool id =
      !text.empty() && text.size() <= 64 && text.find_first_not_of(hex) == std::string_view::npos;
  if (!is_latest && !id)
    return usage(fmt::format(
        "snapshot '{}': expected 'latest', or an id or its first digits; a folder in it follows "
        "after a colon, as in latest:/home",
        escaped(text)));
  if (heads.snapshots.empty() && heads.held.empty())
    return fail(Code::not_found, "the repository has no snapshots");
  if (is_latest) return latest(heads, filter);
  const Snapshot* found = nullptr;
  for (const auto* snapshots : {&heads.snapshots, &heads.dropped})
    for (const Snapshot& s : *snapshots) {
      if (!s.id.hex().starts_with(text)) continue;
      if (snapshots == &heads.dropped && !heads.is_held(s)) continue;
      if (found != nullptr)
        return usage(
            fmt::format("snapshot '{}': more than one begins so: {} and {}; give more digits", text,
                        found->id.brief(), s.id.brief()));
      found = &s;
    }
  if (found == nullptr)
    return fail(Code::not_found,
                fmt::format("snapshot '{}': there is none; 'holdfast snapshots' lists them", text));
  return found;
}

}  // namespace

Result<SnapshotRef> find_snapshot(const HeadList& heads, std::string_view text,
                                  const SnapshotFilter& filter) {
  SnapshotRef ref;
  const std::size_t colon = text.find(':');
  HF_ASSIGN(ref.snapshot, by_prefix(heads, text.substr(0, colon), filter));
  if (colon == std::string_view::npos) return ref;
  ref.has_path = true;
  const std::string path =
      std::filesystem::path("/" + std::string(text.substr(colon + 1))).lexically_normal().string();
  ref.path = path.substr(
      path.find_first_not_of('/') == std::string::npos ? path.size() : path.find_first_not_of('/'));
  while (ref.path.ends_with('/')) ref.path.pop_back();
  return ref;
}

Result<Entry> entry_at(NodeSource& nodes, const SnapshotRef& ref) {
  auto entry = find_entry(nodes, ref.snapshot->tree, ref.path);
  if (!entry && entry.error().code == Code::not_found)
    return fail(Code::not_found,
                fmt::format("/{} is not in snapshot {}; 'holdfast ls {}' lists it",
                            escaped(ref.path), ref.snapshot->id.brief(), ref.snapshot->id.brief()));
  return entry;
}

}  // namespace holdfast
