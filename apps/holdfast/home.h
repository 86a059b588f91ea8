// SPDX-License-Identifier: Apache-2.0
// Where holdfast keeps its own things on this machine, its configuration, and the passphrase of a
// sealed home.
#pragma once

#include <memory>
#include <optional>
#include <string>

#include "client/client.h"

namespace holdfast {

struct HomePaths {
  std::string config;  // folder of config.toml
  std::string keys, state, cache;
};

// --home, else HOLDFAST_HOME: config.toml, keys/, state/, cache/ in it; else the four XDG folders.
// kUsage when there is neither of these nor HOME.
Result<HomePaths> home_paths(const std::string& home_option);

// The folders; cache/ gets a CACHEDIR.TAG.
class HomeFolders {
 public:
  // Code::not_found when there is no home yet: a command that only looks makes none.
  static Result<std::unique_ptr<HomeFolders>> open(const HomePaths& paths);
  static Result<std::unique_ptr<HomeFolders>> make(const HomePaths& paths);
  [[nodiscard]] Home home() { return {*keys_, *state_, *cache_}; }

 private:
  HomeFolders() = default;
  std::unique_ptr<LocalFolder> keys_, state_, cache_;
};

struct Config {
  std::string repository;  // "" : none
  std::string s3_region, s3_ca_file;
  bool s3_virtual_host = false;
};
// config.toml: every key is documented in docs/man; an unknown one is an error that names it.
Result<Config> read_config(const HomePaths& paths);
// Writes the repository of a first init or recover, where there is no config.toml yet.
Result<> write_first_config(const HomePaths& paths, const std::string& repository);

// The first line of what --passphrase-file, HOLDFAST_PASSPHRASE_FILE or HOLDFAST_PASSPHRASE_COMMAND
// names, in that order; none when there is none of them. It opens a sealed home, and seals a new
// one.
Result<std::optional<Secret>> configured_passphrase(const std::string& file_option);
// The same, else a prompt on the terminal.
Result<Secret> get_passphrase(const std::string& file_option);

// To seal a home with: the first line of the file, else what is typed twice on the terminal.
Result<Secret> new_passphrase(const std::string& file);

}  // namespace holdfast
