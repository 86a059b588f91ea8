// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <cstdio>
#include <cstdlib>

namespace holdfast {

// For calls into a cryptographic library that fail only when memory or the library itself is
// broken: there is nothing that a caller could do, and going on would be worse.
inline void crypto_must(bool ok, const char* what) {
  if (ok) return;
  std::fprintf(stderr, "holdfast: %s failed: the cryptographic library is not usable\n", what);
  std::abort();
}

}  // namespace holdfast
