// SPDX-License-Identifier: Apache-2.0
#include "progress.h"

#include <fmt/format.h>
#include <sys/ioctl.h>
#include <unistd.h>

#include <condition_variable>
#include <cstdio>
#include <cstdlib>
#include <nlohmann/json.hpp>
#include <stop_token>

namespace holdfast {

namespace {

bool terminal_wanted() {
  const char* term = std::getenv("TERM");
  return ::isatty(STDERR_FILENO) == 1 && term != nullptr && std::string_view(term) != "dumb";
}

std::size_t terminal_width() {
  winsize size{};
  return ::ioctl(STDERR_FILENO, TIOCGWINSZ, &size) == 0 && size.ws_col > 20 ? size.ws_col : 80;
}

// Keeps the end of a path: it tells more than its beginning.
std::string shortened(const std::string& path, std::size_t width) {
  const std::string shown = escaped(path);
  return shown.size() <= width ? shown
         : width < 4           ? std::string()
                               : "..." + shown.substr(shown.size() - (width - 3));
}

std::string figures(const ProgressState& state, double seconds) {
  const double rate = seconds > 0 ? static_cast<double>(state.bytes) / seconds : 0;
  std::string text =
      fmt::format("{} {}, {}, {}/s", state.files, state.what, human_bytes(state.bytes),
                  human_bytes(static_cast<std::uint64_t>(rate)));
  if (state.bytes_expected > 0 && state.bytes <= state.bytes_expected && rate > 0) {
    const double left = static_cast<double>(state.bytes_expected - state.bytes) / rate;
    text += fmt::format(
        ", {:.0f} %, {} left",
        100.0 * static_cast<double>(state.bytes) / static_cast<double>(state.bytes_expected),
        human_duration(static_cast<std::int64_t>(left * 1e9)));
  }
  return text;
}

}  // namespace

ProgressLine::ProgressLine(const Context& context, std::function<ProgressState()> ask)
    : context_(context), ask_(std::move(ask)), started_(context.clock.steady_ns()) {
  terminal_ = progress_on_terminal(context);
  if (terminal_ || context.out.json())
    thread_ = std::jthread([this](const std::stop_token& token) { run(token); });
}

ProgressLine::~ProgressLine() {
  if (!thread_.joinable()) return;
  thread_.request_stop();
  thread_.join();
  if (terminal_) std::fputs("\r\033[K", stderr);
}

void ProgressLine::run(const std::stop_token& token) {
  std::mutex mutex;
  std::condition_variable_any wake;
  std::unique_lock lock(mutex);
  const auto pause = std::chrono::milliseconds(terminal_ ? 150 : 1000);
  while (!wake.wait_for(lock, token, pause, [&] { return token.stop_requested(); })) draw(ask_());
}

void ProgressLine::draw(const ProgressState& state) {
  const double seconds = static_cast<double>(context_.clock.steady_ns() - started_) / 1e9;
  if (!terminal_) {
    context_.out.object({{"message_type", "status"},
                         {"files", state.files},
                         {"bytes", state.bytes},
                         {"bytes_expected", state.bytes_expected},
                         {"seconds", seconds},
                         {"current", escaped(state.current)}});
    return;
  }
  const std::string text = figures(state, seconds);
  const std::size_t width = terminal_width() - 1;
  const std::string file =
      text.size() + 2 < width ? shortened(state.current, width - text.size() - 2) : "";
  std::fprintf(stderr, "\r\033[K%.*s  %s", static_cast<int>(std::min(text.size(), width)),
               text.c_str(), file.c_str());
  std::fflush(stderr);
}

bool progress_on_terminal(const Context& context) {
  return !context.out.json() && !context.out.quiet() && terminal_wanted();
}

}  // namespace holdfast
