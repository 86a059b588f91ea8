// SPDX-License-Identifier: Apache-2.0
// One line on a terminal, redrawn a few times a second; with --json a status object each second.
#pragma once

#include <functional>
#include <thread>

#include "commands.h"

namespace holdfast {

struct ProgressState {
  std::uint64_t files = 0, bytes = 0;
  std::uint64_t bytes_expected = 0;  // 0: not known
  std::string current;               // raw
  std::string_view what = "files";   // that `files` counts
};

// Shows what `ask` gives until it goes; nothing when nobody looks (no terminal, TERM=dumb,
// --quiet).
class ProgressLine {
 public:
  ProgressLine(const Context& context, std::function<ProgressState()> ask);
  ~ProgressLine();
  ProgressLine(const ProgressLine&) = delete;
  ProgressLine& operator=(const ProgressLine&) = delete;

 private:
  void run(const std::stop_token& token);
  void draw(const ProgressState& state);
  const Context& context_;
  const std::function<ProgressState()> ask_;
  bool terminal_ = false;
  std::int64_t started_ = 0;
  std::jthread thread_;
};

// Whether somebody looks: a terminal that can redraw a line, and neither --quiet nor --json.
bool progress_on_terminal(const Context& context);

}  // namespace holdfast
