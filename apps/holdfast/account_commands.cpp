// SPDX-License-Identifier: Apache-2.0
// init, recover, status.
#include <fcntl.h>
#include <fmt/format.h>
#include <sys/stat.h>
#include <unistd.h>

#include <algorithm>
#include <cerrno>
#include <cstdlib>
#include <filesystem>
#include <fstream>
#include <iostream>
#include <iterator>
#include <nlohmann/json.hpp>
#include <sstream>

#include "commands.h"
#include "opened_store.h"
#include "usage.h"

namespace holdfast {

namespace {

using nlohmann::json;

Result<> write_new_file(const std::string& path, ByteSpan bytes) {
  const int fd = ::open(path.c_str(), O_WRONLY | O_CREAT | O_EXCL | O_CLOEXEC | O_NOFOLLOW, 0600);
  if (fd < 0 && errno == EEXIST)
    return fail(Code::conflict,
                fmt::format("{}: is there already, and a paper key must not replace anything; name "
                            "a new file. Nothing was made",
                            escaped(path)));
  if (fd < 0)
    return fail(Code::denied,
                fmt::format("{}: the paper key cannot be written: {}. Nothing was made",
                            escaped(path), errno_text(errno)));
  int error = write_all(fd, bytes);
  if (error == 0) error = sync_fd(fd);
  ::close(fd);
  if (error == 0) return {};
  ::unlink(path.c_str());
  return fail(Code::full, fmt::format("{}: the paper key cannot be written: {}. Nothing was made",
                                      escaped(path), errno_text(error)));
}

bool on_terminal() { return ::isatty(STDIN_FILENO) == 1 && ::isatty(STDERR_FILENO) == 1; }

std::vector<std::string> split_words(std::string_view text) {
  std::istringstream stream{std::string(text)};
  return {std::istream_iterator<std::string>(stream), {}};
}

Result<> ask_word(const std::string& word, std::size_t number) {
  std::cerr << fmt::format("Type word {}: ", number);
  std::string typed_word;
  if (!std::getline(std::cin, typed_word))
    return fail(Code::interrupted, "the paper key was not confirmed; nothing was made");
  if (typed_word == word) return {};
  return fail(Code::denied,
              fmt::format("that is not word {}; nothing was made. Run the command again", number));
}

void clear_screen() {
  const char* term = std::getenv("TERM");
  if (term != nullptr && std::string_view(term) != "dumb") std::cerr << "\033[2J\033[3J\033[H";
}

// Shown once; two words that are asked for show that it was copied.
Result<> show_and_confirm(const PaperKey& key, const AccountId& account, Random& random) {
  if (!on_terminal())
    return usage(
        "the paper key needs a place: use --paper-key-out FILE, or run on a terminal. Nothing was "
        "made");
  const Secret page = render_paper_key(key, account);
  std::cerr << as_text(page.span())
            << "\nWrite the words down (or print them) now: they are not shown again.\n";
  const Secret words = key.words();
  const std::vector<std::string> list = split_words(as_text(words.span()));
  constexpr int asked_words = 2;
  for (int asked = 0; asked < asked_words; ++asked) {
    std::array<std::byte, 8> draw{};
    random.fill(draw);
    const std::size_t n = load_le<std::uint64_t>(draw.data()) % list.size();
    HF_TRY(ask_word(list[n], n + 1));
  }
  clear_screen();
  return {};
}

// Until the words are complete, or a line is empty.
Result<std::string> ask_paper_key() {
  if (!on_terminal())
    return usage("the paper key is needed: use --paper-key-file FILE, or run on a terminal");
  constexpr std::size_t words_of_a_key = 25;
  std::cerr << "Type the words of the paper key, several on a line if you like:\n";
  std::string text, line;
  while (split_words(text).size() < words_of_a_key && std::getline(std::cin, line) && !line.empty())
    text += line + "\n";
  return text;
}

}  // namespace

Result<ParsedPaperKey> read_paper_key(const std::string& path) {
  std::string text;
  if (path.empty()) {
    HF_ASSIGN(text, ask_paper_key());
  } else {
    std::ifstream file(path, std::ios::binary);
    if (!file)
      return fail(Code::not_found,
                  fmt::format("paper key file {}: {}", escaped(path), errno_text(errno)));
    constexpr std::size_t page_max = 64UL * 1024;
    text.resize(page_max);
    file.read(text.data(), static_cast<std::streamsize>(text.size()));
    text.resize(static_cast<std::size_t>(file.gcount()));
  }
  auto paper = parse_paper_key(text);
  wipe(std::as_writable_bytes(std::span(text)));
  return paper;
}

namespace {

// How far the account of a home is.
enum class AccountStage : std::uint8_t { none, begun, complete };

Result<AccountStage> account_stage(const HomePaths& paths) {
  auto folders = HomeFolders::open(paths);
  if (!folders && folders.error().code == Code::not_found) return AccountStage::none;
  if (!folders) return std::unexpected(std::move(folders).error());
  const Home home = (*folders)->home();
  HF_ASSIGN(const bool has_account, home_has_account(home));
  if (!has_account) return AccountStage::none;
  // Written last, by the first init and by a recover (client.cpp).
  constexpr std::size_t enough = 64;
  auto first = home.state.read("first-repository", enough);
  if (first) return AccountStage::complete;
  if (first.error().code == Code::not_found) return AccountStage::begun;
  return std::unexpected(std::move(first).error());
}

// There is a paper key to write only when an account is made: it is kept nowhere. Who asks for it
// later must not believe that he has it.
Result<> check_paper_key_option(AccountStage stage, const HomePaths& paths,
                                const std::string& file) {
  if (file.empty() || stage == AccountStage::none) return {};
  if (stage == AccountStage::complete)
    return usage(
        fmt::format("--paper-key-out: {} has an account already, and its paper key is kept nowhere "
                    "but where it was written when the account was made. To make one more "
                    "repository of the account leave the option out; for a new account name "
                    "another home with --home. Nothing was made",
                    escaped(paths.keys)));
  struct stat st{};
  if (::stat(file.c_str(), &st) == 0) return {};  // that of the init that goes on now
  return usage(
      fmt::format("--paper-key-out {}: the init that was interrupted has given the paper key, and "
                  "it is kept nowhere. To go on name the file that was named then, or leave the "
                  "option out; without that paper key remove {} and begin again. Nothing was made",
                  escaped(file), escaped(paths.keys)));
}

std::string_view sealed_text(bool sealed) {
  return sealed ? "The home is sealed: its key opens with the passphrase."
                : "The home is not sealed: who can read its files can open the backups. A new home "
                  "is sealed when init or recover has a passphrase (--passphrase-file).";
}

struct InitDone {
  InitReport report;
  std::string place, device_name;
  bool sealed = false;
};

void report_init(const Context& context, const InitDone& done, const InitCommand& command) {
  Output& out = context.out;
  const InitReport& report = done.report;
  out.object({{"message_type", "summary"},
              {"command", "init"},
              {"account", report.account.hex()},
              {"repository", report.repository.hex()},
              {"device", report.device.hex()},
              {"location", escaped(done.place)},
              {"home_sealed", done.sealed},
              {"new_account", report.new_account},
              {"already_there", report.already}});
  out.message(fmt::format(
      "{} {} in {}", report.already ? "Already a repository of this account:" : "Made repository",
      report.repository.hex(), escaped(done.place)));
  out.message(sealed_text(done.sealed));
  if (!report.new_account) return;
  out.message(fmt::format("Made account {} with this device, '{}'.", report.account.brief(),
                          escaped(done.device_name)));
  if (!command.paper_key_out.empty())
    out.message(
        fmt::format("The paper key is in {}. Print it or copy it by hand, keep it apart from this "
                    "machine, and delete the file.",
                    escaped(command.paper_key_out)));
  out.message(
      "Nobody can open your backups without this home or the paper key: if both are lost, the data "
      "is gone for ever.");
}

}  // namespace

Result<int> run_init(const Context& context, const InitCommand& command) {
  HF_ASSIGN(const HomePaths paths, home_paths(context.options.home));
  HF_ASSIGN(const std::string place, repository_place(context, paths));
  HF_ASSIGN(const AccountStage stage, account_stage(paths));
  HF_TRY(check_paper_key_option(stage, paths, command.paper_key_out));
  InitOptions options{
      .device_name = command.device_name.empty() ? host_name() : command.device_name,
      .passphrase = std::nullopt,
      .suite = preferred_suite(),
      .give_paper_key = [&](const PaperKey& key, const AccountId& account) {
        return command.paper_key_out.empty()
                   ? show_and_confirm(key, account, context.random)
                   : write_new_file(command.paper_key_out, render_paper_key(key, account).span());
      }};
  if (stage == AccountStage::none) {
    HF_ASSIGN(options.passphrase, configured_passphrase(context.options.passphrase_file));
  }
  HF_ASSIGN(const auto store, OpenedStore::make(context, place, paths));
  HF_ASSIGN(const auto folders, HomeFolders::make(paths));
  const AskPassphrase ask = [&] { return get_passphrase(context.options.passphrase_file); };
  auto report = init_repository(store->store(), folders->home(), ask, options,
                                {context.random, context.clock});
  if (!report) {
    store->unmake();
    return wrap(std::move(report).error(), escaped(place));
  }
  HF_TRY(write_first_config(paths, place));
  HF_ASSIGN(const bool sealed, home_is_sealed(folders->home()));
  report_init(context, {*report, place, options.device_name, sealed}, command);
  return 0;
}

Result<int> run_recover(const Context& context, const RecoverCommand& command) {
  HF_ASSIGN(const HomePaths paths, home_paths(context.options.home));
  HF_ASSIGN(const std::string place, repository_place(context, paths));
  HF_ASSIGN(const auto store, OpenedStore::open(context, place, paths));
  HF_ASSIGN(const ParsedPaperKey paper, read_paper_key(command.paper_key_file));
  RecoverOptions options{
      .device_name = command.device_name.empty() ? host_name() : command.device_name,
      .passphrase = std::nullopt,
      .read_only = command.read_only};
  HF_ASSIGN(options.passphrase, configured_passphrase(context.options.passphrase_file));
  HF_ASSIGN(const auto folders, HomeFolders::make(paths));
  auto report = recover_home(store->store(), folders->home(), paper, options,
                             {context.random, context.clock});
  if (!report) return wrap(std::move(report).error(), escaped(place));
  HF_TRY(write_first_config(paths, place));
  HF_ASSIGN(const bool sealed, home_is_sealed(folders->home()));
  for (const std::string& what : report->damaged) context.out.damage(what + ". Done without it");
  context.out.object({{"message_type", "summary"},
                      {"command", "recover"},
                      {"account", report->account.hex()},
                      {"repository", report->repository.hex()},
                      {"device", report->device.hex()},
                      {"read_only", command.read_only},
                      {"home_sealed", sealed}});
  context.out.message(
      command.read_only
          ? fmt::format("This home now reads account {}: list, restore, check. Nothing was written "
                        "to the repository, and nothing can be from here.",
                        report->account.brief())
          : fmt::format(
                "This home is now device '{}' of account {}; the account's other devices will see "
                "it.",
                escaped(options.device_name), report->account.brief()));
  context.out.message(sealed_text(sealed));
  return 0;
}

namespace {

struct DeviceState {
  const ChainDevice& device;
  const Snapshot* newest = nullptr;
  bool own = false, silent = false;
};

std::vector<DeviceState> device_states(const Client& client, const HeadList& heads, Time now) {
  constexpr std::int64_t week_ns = 7LL * 24 * 3600 * 1000000000;
  std::vector<DeviceState> states;
  for (const ChainDevice& device : client.chain().devices()) {
    DeviceState state{.device = device, .own = device.id == client.device().id};
    for (const Snapshot& s : heads.snapshots)
      if (s.device == device.id) state.newest = &s;
    state.silent = state.newest != nullptr && now.ns - state.newest->ended.ns > week_ns;
    states.push_back(state);
  }
  return states;
}

void print_device(Output& out, const DeviceState& s, Time now) {
  out.line(fmt::format("  {}  {}{}{}: {}", s.device.id.hex().substr(0, 8), escaped(s.device.name),
                       s.own ? " (this one)" : "", s.device.suspended ? " (suspended)" : "",
                       s.newest == nullptr
                           ? "no snapshot yet"
                           : fmt::format("newest snapshot {}, {}{}", local_time(s.newest->ended),
                                         age(s.newest->ended, now),
                                         s.silent ? "; silent for more than 7 days" : "")));
}

json device_object(const DeviceState& s) {
  return {{"id", s.device.id.hex()},
          {"name", escaped(s.device.name)},
          {"this", s.own},
          {"suspended", s.device.suspended},
          {"votes", s.device.voting},
          {"silent", s.silent},
          {"newest_snapshot", s.newest == nullptr ? json() : json(s.newest->id.hex())},
          {"newest_time", s.newest == nullptr ? json() : json(utc_time(s.newest->ended))}};
}

// Of this home, by the folders that it keeps for them.
std::vector<std::string> other_repositories(const HomePaths& paths, const std::string& own) {
  std::vector<std::string> ids;
  std::error_code error;
  for (const auto& item : std::filesystem::directory_iterator(paths.state, error)) {
    const std::string name = item.path().filename().string();
    if (name != own && RepositoryId::parse(name)) ids.push_back(name);
  }
  std::ranges::sort(ids);
  return ids;
}

}  // namespace

Result<int> run_status(const Context& context) {
  HF_ASSIGN(const HomePaths paths, home_paths(context.options.home));
  HF_ASSIGN(const auto opened, OpenRepository::open(context));
  HF_ASSIGN(const HeadList heads, opened->heads(context, false));
  const Client& client = opened->client();
  const Chain& chain = client.chain();
  const std::string repository = client.keys().place.repository.hex();
  const std::vector<std::string> others = other_repositories(paths, repository);
  const Time now = context.clock.now();
  HF_ASSIGN(const bool sealed, home_is_sealed(opened->home()));
  Output& out = context.out;
  out.line(fmt::format("Account      {}", chain.account().hex()));
  out.line(
      "Protection   advanced: only this account's devices and its paper key open the backups;");
  out.line("             who runs the storage sees ciphertext, total sizes and times");
  out.line(fmt::format("Repository   {} in {}", repository, escaped(opened->place())));
  for (const std::string& other : others)
    out.line(fmt::format("             {} is another one of this home", other));
  out.line(sealed ? "Home         sealed: its key opens with a passphrase"
                  : "Home         not sealed: who can read its files can open the backups");
  if (client.only_reads())
    out.line("             reads only: made by 'recover --read-only', no device of the account");
  out.line("Paper key    one; it is the only way back when all devices are lost");
  out.line(fmt::format("Account log  {} entries, key epoch {}", chain.position() + 1,
                       chain.newest_epoch().number));
  out.line(fmt::format("Snapshots    {}", heads.snapshots.size()));
  json devices = json::array();
  const std::vector<DeviceState> states = device_states(client, heads, now);
  out.line(fmt::format("Devices      {}", states.size()));
  for (const DeviceState& state : states) {
    print_device(out, state, now);
    devices.push_back(device_object(state));
  }
  out.object({{"message_type", "summary"},
              {"command", "status"},
              {"account", chain.account().hex()},
              {"repository", repository},
              {"location", escaped(opened->place())},
              {"other_repositories", others},
              {"mode", "advanced"},
              {"home_sealed", sealed},
              {"read_only", client.only_reads()},
              {"chain_position", chain.position()},
              {"epoch", chain.newest_epoch().number},
              {"devices", devices},
              {"snapshots", heads.snapshots.size()},
              {"damaged_heads", heads.damaged.size()}});
  return heads.damaged.empty() && client.damaged().empty() ? 0 : 4;
}

Result<int> run_key(const Context& context, const KeyCommand& command) {
  HF_ASSIGN(auto opened, OpenRepository::open(context));
  const Epoch before = opened->client().chain().newest_epoch().number;
  if (!command.dry_run) {
    HF_ASSIGN(const auto first, OpenedStore::open_first(context, command.first_repository));
    HF_TRY(rotate_keys(first ? first->store() : opened->store().store(), opened->home(),
                       opened->client(), context.random));
    opened.reset();
    // Opened anew, which seals this repository's secrets under the new key.
    auto again = OpenRepository::open(context);
    if (!again)
      return wrap(std::move(again).error(),
                  fmt::format("key epoch {} was opened, and the repository does not open with it",
                              before + 1));
    opened = std::move(*again);
  }
  const Chain& chain = opened->client().chain();
  context.out.object({{"message_type", "summary"},
                      {"command", "key"},
                      {"dry_run", command.dry_run},
                      {"epoch_before", before},
                      {"epoch", command.dry_run ? before + 1 : chain.newest_epoch().number},
                      {"devices", chain.devices().size()}});
  context.out.message(
      fmt::format("{} key epoch {}, for the account's {} devices and its paper key. What is stored "
                  "from then on "
                  "opens with the new key; what is stored already opens as before.",
                  command.dry_run ? "Would open" : "Opened", before + 1, chain.devices().size()));
  return 0;
}

Result<int> run_home_passphrase(const Context& context, const HomePassphraseCommand& command) {
  HF_ASSIGN(const HomePaths paths, home_paths(context.options.home));
  HF_ASSIGN(const auto folders, HomeFolders::open(paths));
  const AskPassphrase ask = [&] { return get_passphrase(context.options.passphrase_file); };
  const AskPassphrase ask_new = [&] { return new_passphrase(command.new_file); };
  const bool seal = command.action == "set";
  HF_TRY(seal_home(folders->home(), ask, seal ? ask_new : AskPassphrase(), context.random));
  context.out.object({{"message_type", "summary"}, {"command", "home"}, {"home_sealed", seal}});
  context.out.message(sealed_text(seal));
  if (seal)
    context.out.message(
        "Copies of the key that were made before (backups of the home, snapshots of its disk) open "
        "as they did then.");
  return 0;
}

}  // namespace holdfast
