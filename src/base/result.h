// SPDX-License-Identifier: Apache-2.0
// One error type for the whole project: what is expected to go wrong is a value, a bug is an
// assertion.
#pragma once

#include <expected>
#include <string>
#include <string_view>
#include <utility>

namespace holdfast {

// A code exists only where some caller reacts differently to it.
enum class Code {
  not_found,    // the named object is not there
  conflict,     // another object (or other bytes) stands under that name
  corrupt,      // it is there, and is not what it must be: damage or a lie; exit code 4
  denied,       // wrong key or passphrase, permission, policy
  unavailable,  // a store or source did not answer; trying again may help
  invalid,      // the caller's input is not of the required form; exit code 2 where a user gave it
  full,         // no space left
  locked,       // the store keeps it, whoever asks, until a time that is not over (retention lock)
  interrupted,  // the user asked to stop
  alarm,        // protection alarm (rollback, fork, ghost device); exit code 10
};

struct Error {
  Code code;
  std::string what;
};

template <class T = void>
using Result = std::expected<T, Error>;

[[nodiscard]] inline std::unexpected<Error> fail(Code code, std::string what) {
  return std::unexpected(Error{code, std::move(what)});
}

// Prefixes the operation: a chain reads "restore docs/a: get 9f3c: connection reset".
[[nodiscard]] inline std::unexpected<Error> wrap(Error error, std::string_view doing) {
  error.what.insert(0, std::string(doing) + ": ");
  return std::unexpected(std::move(error));
}

}  // namespace holdfast

// Gives the error on to the caller. HF_TRY(expr) for Result<>, HF_ASSIGN(auto x, expr) for a value.
#define HF_CONCAT_(a, b) a##b
#define HF_CONCAT(a, b) HF_CONCAT_(a, b)
#define HF_TRY_(tmp, expr)                                                       \
  do {                                                                           \
    if (auto tmp = (expr); !tmp) return std::unexpected(std::move(tmp).error()); \
  } while (false)
#define HF_TRY(expr) HF_TRY_(HF_CONCAT(hf_result_, __LINE__), expr)
// A declaration cannot stand in parentheses. NOLINTBEGIN(bugprone-macro-parentheses)
#define HF_ASSIGN_(tmp, decl, expr)                         \
  auto tmp = (expr);                                        \
  if (!tmp) return std::unexpected(std::move(tmp).error()); \
  decl = std::move(*tmp)
// NOLINTEND(bugprone-macro-parentheses)
#define HF_ASSIGN(decl, expr) HF_ASSIGN_(HF_CONCAT(hf_tmp_, __LINE__), decl, expr)
