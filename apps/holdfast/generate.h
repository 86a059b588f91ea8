// SPDX-License-Identifier: Apache-2.0
// Shell completions and the manual page, made from the command line's own definition.
#pragma once

#include "output.h"

namespace CLI {
class App;
}

namespace holdfast {

Result<int> print_completion(const CLI::App& app, const std::string& shell, Output& out);
Result<int> print_man_page(const CLI::App& app, Output& out);

}  // namespace holdfast
