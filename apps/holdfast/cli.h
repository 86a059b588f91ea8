// SPDX-License-Identifier: Apache-2.0
#pragma once

#include "base/world.h"

namespace holdfast {

struct ProgramWorld {
  Random& random;
  Clock& clock;
  Stop& stop;
  bool stdin_closed = false;
};

// Parses, runs, prints the error if there is one. Gives the exit code.
int run_command_line(int argc, const char* const* argv, ProgramWorld world);

}  // namespace holdfast
