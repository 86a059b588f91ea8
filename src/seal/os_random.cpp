// SPDX-License-Identifier: Apache-2.0
#include "seal/os_random.h"

#include <sodium.h>

namespace holdfast {

void OsRandom::fill(MutableByteSpan out) {
  if (!out.empty()) randombytes_buf(out.data(), out.size());
}

}  // namespace holdfast
