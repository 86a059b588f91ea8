// SPDX-License-Identifier: Apache-2.0
#pragma once

#include "base/world.h"

namespace holdfast {

// The operating system's randomness (getrandom). Built in apps/ only and passed down from there.
class OsRandom : public Random {
 public:
  void fill(MutableByteSpan out) override;
};

}  // namespace holdfast
