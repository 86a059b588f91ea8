// SPDX-License-Identifier: Apache-2.0
#include "opened_store.h"

#include <fmt/format.h>
#include <sys/stat.h>
#include <unistd.h>

#include <cstdlib>

#include "usage.h"

namespace holdfast {

namespace {

// A file that stands where the user named a folder is no damage of a repository.
std::unexpected<Error> not_damage(Error error) {
  if (error.code == Code::corrupt) error.code = Code::invalid;
  return std::unexpected(std::move(error));
}

Result<std::unique_ptr<FolderStore>> open_folder(const std::string& path, Random& random) {
  auto store = FolderStore::open(path, random);
  if (store) return store;
  if (store.error().code != Code::not_found) return not_damage(std::move(store).error());
  return fail(Code::not_found,
              fmt::format("{}: there is no such folder; name another one with --repo, or make a "
                          "repository with 'holdfast init'",
                          escaped(path)));
}

Result<std::unique_ptr<FolderStore>> make_folder(const std::string& path, Random& random) {
  auto made = FolderStore::create(path, random);
  if (made) return made;
  // Something is in it: whether that is a repository is for init to see.
  if (made.error().code == Code::conflict) return open_folder(path, random);
  return not_damage(std::move(made).error());
}

// The first of these variables that is set.
std::string first_of(std::initializer_list<const char*> names) {
  for (const char* name : names)
    if (const char* value = std::getenv(name); value != nullptr && value[0] != 0) return value;
  return "";
}

Result<S3Credentials> credentials() {
  S3Credentials keys{first_of({"AWS_ACCESS_KEY_ID"}), first_of({"AWS_SECRET_ACCESS_KEY"}),
                     first_of({"AWS_SESSION_TOKEN"})};
  if (!keys.access_key.empty() && !keys.secret_key.empty()) return keys;
  return fail(Code::denied,
              "a bucket needs keys: set AWS_ACCESS_KEY_ID and AWS_SECRET_ACCESS_KEY (and "
              "AWS_SESSION_TOKEN for keys that end)");
}

}  // namespace

Result<std::unique_ptr<OpenedStore>> OpenedStore::open(const Context& context,
                                                       const std::string& place,
                                                       const HomePaths& paths) {
  std::unique_ptr<OpenedStore> opened(new OpenedStore);
  if (is_bucket(place)) {
    HF_TRY(opened->open_bucket(context, place, paths));
  } else {
    HF_ASSIGN(opened->folder_, open_folder(place, context.random));
  }
  return opened;
}

Result<std::unique_ptr<OpenedStore>> OpenedStore::open_first(const Context& context,
                                                             const std::string& named) {
  if (named.empty()) return nullptr;
  HF_ASSIGN(const HomePaths paths, home_paths(context.options.home));
  std::string place = named;
  if (!is_bucket(place)) {
    HF_ASSIGN(place, named_path(place));
  }
  HF_ASSIGN(auto opened, open(context, place, paths));
  HF_TRY(opened->store().lock());
  return opened;
}

Result<std::unique_ptr<OpenedStore>> OpenedStore::make(const Context& context,
                                                       const std::string& place,
                                                       const HomePaths& paths) {
  if (is_bucket(place)) return open(context, place, paths);
  std::unique_ptr<OpenedStore> opened(new OpenedStore);
  struct stat st{};
  const bool was_there = ::stat(place.c_str(), &st) == 0;
  HF_ASSIGN(opened->folder_, make_folder(place, context.random));
  if (!was_there) opened->made_ = place;
  return opened;
}

Result<> OpenedStore::open_bucket(const Context& context, const std::string& place,
                                  const HomePaths& paths) {
  HF_ASSIGN(const Config config, read_config(paths));
  S3Options options;
  HF_ASSIGN(options.place, typed(S3Place::parse(place)));
  HF_ASSIGN(options.credentials, credentials());
  if (std::string region = first_of({"AWS_REGION", "AWS_DEFAULT_REGION"}); !region.empty())
    options.region = std::move(region);
  else if (!config.s3_region.empty())
    options.region = config.s3_region;
  options.virtual_host = config.s3_virtual_host;
  HttpOptions http{.ca_file = first_of({"AWS_CA_BUNDLE"}),
                   .connections = context.options.connections,
                   .rates = {context.options.limit_upload, context.options.limit_download}};
  if (http.ca_file.empty()) http.ca_file = config.s3_ca_file;
  http_ = std::make_unique<HttpClient>(std::move(http), context.clock);
  s3_ = std::make_unique<S3Store>(*http_, std::move(options));
  retry_ = std::make_unique<RetryStore>(*s3_, context.clock, context.random, context.stop);
  return {};
}

void OpenedStore::remove_stale_uploads(Time now) {
  constexpr std::int64_t day_ns = 24LL * 3600 * 1'000'000'000;
  if (!folder_) return;
  // They hinder nobody: the next run tries again.
  [[maybe_unused]] const auto removed = folder_->remove_stale_temporaries({now.ns - day_ns});
}

void OpenedStore::unmake() {
  if (made_.empty()) return;
  // Each succeeds only when nothing is in it.
  for (const char* folder : {"/probe", "/tmp", ""}) ::rmdir((made_ + folder).c_str());
}

}  // namespace holdfast
