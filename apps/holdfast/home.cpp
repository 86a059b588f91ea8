// SPDX-License-Identifier: Apache-2.0
#include "home.h"

#include <fcntl.h>
#include <fmt/format.h>
#include <sys/stat.h>
#include <termios.h>
#include <toml++/toml.h>
#include <unistd.h>

#include <cerrno>
#include <cstdio>
#include <cstdlib>
#include <cstring>
#include <nlohmann/json.hpp>

#include "fs/posix_folder.h"
#include "usage.h"

namespace holdfast {

namespace {

constexpr std::size_t kPassphraseMax = 1024;
constexpr std::uint64_t kConfigMax = 1U << 20;

std::string environment(const char* name) {
  const char* value = std::getenv(name);
  return value == nullptr ? std::string() : std::string(value);
}

struct CloseFile {
  void operator()(FILE* file) const { std::fclose(file); }
};
using File = std::unique_ptr<FILE, CloseFile>;

Result<Secret> first_line(FILE* file, std::string_view where) {
  std::setvbuf(file, nullptr, _IONBF, 0);  // no copy of it stays behind
  Secret buffer(kPassphraseMax + 2);
  char* const text = reinterpret_cast<char*>(buffer.bytes().data());
  if (std::fgets(text, static_cast<int>(buffer.size()), file) == nullptr)
    return fail(
        Code::invalid,
        fmt::format("{}: no passphrase in it; its first line is expected to be one", where));
  std::size_t length = std::strlen(text);
  while (length > 0 && (text[length - 1] == '\n' || text[length - 1] == '\r')) --length;
  if (length == 0 || length > kPassphraseMax)
    return fail(Code::invalid,
                fmt::format("{}: a passphrase has 1 to {} bytes", where, kPassphraseMax));
  return Secret::copy_of(buffer.span().first(length));
}

Result<Secret> read_passphrase_file(const std::string& path) {
  const File file(std::fopen(path.c_str(), "re"));
  if (!file)
    return fail(Code::invalid,
                fmt::format("passphrase file {}: {}", escaped(path), errno_text(errno)));
  return first_line(file.get(), fmt::format("passphrase file {}", escaped(path)));
}

Result<Secret> command_passphrase(const std::string& command) {
  constexpr std::string_view name = "HOLDFAST_PASSPHRASE_COMMAND";
  FILE* const pipe = ::popen(command.c_str(), "re");
  if (pipe == nullptr)
    return fail(Code::invalid, fmt::format("{}: cannot be started: {}", name, errno_text(errno)));
  auto line = first_line(pipe, name);
  const int status = ::pclose(pipe);
  // One that was read but not to its end may die of SIGPIPE; only an exit code is its own word.
  if (status != -1 && WIFEXITED(status) && WEXITSTATUS(status) != 0)
    return fail(Code::invalid,
                fmt::format("{}: the command failed with exit code {}", name, WEXITSTATUS(status)));
  return line;
}

Result<Secret> prompt_passphrase(std::string_view words) {
  const File tty(std::fopen("/dev/tty", "r+e"));
  if (!tty)
    return fail(Code::denied,
                "the home is sealed and there is no terminal to ask for its passphrase: use "
                "--passphrase-file, HOLDFAST_PASSPHRASE_FILE or HOLDFAST_PASSPHRASE_COMMAND (for a "
                "new one --new-passphrase-file)");
  const int fd = ::fileno(tty.get());
  termios old{};
  const bool echo = tcgetattr(fd, &old) == 0;
  termios quiet = old;
  quiet.c_lflag &= ~static_cast<tcflag_t>(ECHO);
  if (echo) tcsetattr(fd, TCSAFLUSH, &quiet);
  (void)write_all(fd, as_bytes(words));
  auto line = first_line(tty.get(), "passphrase");
  if (echo) tcsetattr(fd, TCSAFLUSH, &old);
  (void)write_all(fd, as_bytes("\n"));
  return line;
}

}  // namespace

Result<HomePaths> home_paths(const std::string& home_option) {
  const std::string home = home_option.empty() ? environment("HOLDFAST_HOME") : home_option;
  if (!home.empty()) return HomePaths{home, home + "/keys", home + "/state", home + "/cache"};
  const auto xdg = [user = environment("HOME")](const char* variable, const char* fallback) {
    const std::string set = environment(variable);
    if (!set.empty() && set[0] == '/') return set + "/holdfast";
    return user.empty() ? std::string() : user + "/" + fallback + "/holdfast";
  };
  const HomePaths paths{xdg("XDG_CONFIG_HOME", ".config"), xdg("XDG_DATA_HOME", ".local/share"),
                        xdg("XDG_STATE_HOME", ".local/state"), xdg("XDG_CACHE_HOME", ".cache")};
  if (paths.config.empty() || paths.keys.empty() || paths.state.empty() || paths.cache.empty())
    return usage(
        "no place for holdfast's own files: HOME is not set; set HOLDFAST_HOME or use --home DIR");
  return HomePaths{paths.config, paths.keys + "/keys", paths.state, paths.cache};
}

Result<std::unique_ptr<HomeFolders>> HomeFolders::open(const HomePaths& paths) {
  struct stat st{};
  if (::stat(paths.keys.c_str(), &st) != 0 && errno == ENOENT)
    return fail(Code::not_found,
                fmt::format("{}: there is no home of holdfast; make an account with 'holdfast "
                            "init', come back to one with 'holdfast recover', or name another "
                            "home with --home or HOLDFAST_HOME",
                            escaped(paths.keys)));
  return make(paths);
}

Result<std::unique_ptr<HomeFolders>> HomeFolders::make(const HomePaths& paths) {
  std::unique_ptr<HomeFolders> folders(new HomeFolders);
  HF_ASSIGN(folders->keys_, PosixFolder::make(paths.keys));
  HF_ASSIGN(folders->state_, PosixFolder::make(paths.state));
  HF_ASSIGN(auto cache, PosixFolder::make(paths.cache));
  // Backup programs leave a folder with this tag out (bford.info/cachedir). The name is not one
  // that LocalFolder takes.
  const std::string tag = paths.cache + "/CACHEDIR.TAG";
  if (const int fd =
          ::open(tag.c_str(), O_WRONLY | O_CREAT | O_EXCL | O_CLOEXEC | O_NOFOLLOW, 0600);
      fd >= 0) {
    constexpr std::string_view text =
        "Signature: 8a477f597d28d172789f06886806bc55\n# Made by holdfast; it can be deleted.\n";
    if (::write(fd, text.data(), text.size()) < 0) ::unlink(tag.c_str());
    ::close(fd);
  }
  folders->cache_ = std::move(cache);
  return folders;
}

namespace {

Result<> take_key(Config& config, const std::string& key, const toml::node& value,
                  const std::string& path) {
  const std::pair<std::string_view, std::string*> texts[] = {{"repository", &config.repository},
                                                             {"s3.region", &config.s3_region},
                                                             {"s3.ca_file", &config.s3_ca_file}};
  for (const auto& [name, to] : texts) {
    if (key != name || !value.is_string()) continue;
    *to = *value.value<std::string>();
    return {};
  }
  if (key == "s3.virtual_host" && value.is_boolean()) {
    config.s3_virtual_host = *value.value<bool>();
    return {};
  }
  return fail(Code::invalid,
              fmt::format("{}: unknown key or wrong type: '{}'; known: repository, s3.region, "
                          "s3.ca_file (strings), s3.virtual_host (true or false)",
                          path, escaped(key)));
}

}  // namespace

Result<Config> read_config(const HomePaths& paths) {
  const std::string path = paths.config + "/config.toml";
  struct stat st{};
  if (::stat(path.c_str(), &st) != 0) return Config{};
  if (static_cast<std::uint64_t>(st.st_size) > kConfigMax)
    return fail(Code::invalid, fmt::format("{}: larger than {} bytes", path, kConfigMax));
  Config config;
  try {
    const toml::table table = toml::parse_file(path);
    for (const auto& [key, value] : table) {
      if (key == "s3" && value.is_table())
        for (const auto& [name, of_s3] : *value.as_table())
          HF_TRY(take_key(config, fmt::format("s3.{}", name.str()), of_s3, path));
      else
        HF_TRY(take_key(config, std::string(key.str()), value, path));
    }
  } catch (const toml::parse_error& error) {
    return fail(Code::invalid,
                fmt::format("{}:{}: {}", path, error.source().begin.line, error.description()));
  }
  return config;
}

Result<> write_first_config(const HomePaths& paths, const std::string& repository) {
  struct stat st{};
  if (::stat((paths.config + "/config.toml").c_str(), &st) == 0) return {};
  if (escaped(repository).find("\\x") != std::string::npos) return {};  // TOML is text
  HF_ASSIGN(const auto folder, PosixFolder::make(paths.config));
  // JSON's way to write a string is one of TOML's.
  const std::string text = "repository = " + nlohmann::json(repository).dump() + "\n";
  return folder->replace("config.toml", as_bytes(text));
}

Result<std::optional<Secret>> configured_passphrase(const std::string& file_option) {
  const std::string file =
      file_option.empty() ? environment("HOLDFAST_PASSPHRASE_FILE") : file_option;
  const std::string command = environment("HOLDFAST_PASSPHRASE_COMMAND");
  if (file.empty() && command.empty()) return std::nullopt;
  HF_ASSIGN(Secret passphrase,
            file.empty() ? command_passphrase(command) : read_passphrase_file(file));
  return std::optional(std::move(passphrase));
}

Result<Secret> get_passphrase(const std::string& file_option) {
  HF_ASSIGN(auto configured, configured_passphrase(file_option));
  return configured ? std::move(*configured)
                    : prompt_passphrase("Passphrase of the holdfast home: ");
}

Result<Secret> new_passphrase(const std::string& file) {
  if (!file.empty()) return read_passphrase_file(file);
  HF_ASSIGN(Secret first, prompt_passphrase("New passphrase of the holdfast home: "));
  HF_ASSIGN(const Secret second, prompt_passphrase("The same again: "));
  if (as_text(first.span()) == as_text(second.span())) return first;
  return fail(Code::invalid, "the two were not the same; nothing was changed");
}

}  // namespace holdfast
