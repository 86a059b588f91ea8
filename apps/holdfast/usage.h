// SPDX-License-Identifier: Apache-2.0
// What the user typed is wrong: exit code 2. Only this room knows that something was typed; the
// engine's Code::invalid may mean anything, and is exit code 1.
#pragma once

#include <string>
#include <utility>

#include "base/result.h"

namespace holdfast {

inline constexpr Code kUsage{100};  // none of the engine's codes

[[nodiscard]] inline std::unexpected<Error> usage(std::string what) {
  return fail(kUsage, std::move(what));
}

// For a call whose input is what the user typed.
template <class T>
[[nodiscard]] Result<T> typed(Result<T> result) {
  if (!result && result.error().code == Code::invalid) return usage(std::move(result).error().what);
  return result;
}

}  // namespace holdfast
