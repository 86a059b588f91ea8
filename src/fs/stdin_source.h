// SPDX-License-Identifier: Apache-2.0
// Standard input as a source of one file.
#pragma once

#include <memory>
#include <string_view>

#include "base/world.h"
#include "repo/source.h"

namespace holdfast {

// `name`: a path like "dump.sql", "db/dump.sql" or "/db/dump.sql"; its directories are entries too.
// Code::invalid for a bad one.
Result<std::unique_ptr<Source>> open_stdin_source(std::string_view name, Clock& clock,
                                                  const Stop& stop);

}  // namespace holdfast
