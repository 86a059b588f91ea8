// SPDX-License-Identifier: Apache-2.0
#include <gtest/gtest.h>

#include "crypto/sign.h"

int main(int argc, char** argv) {
  holdfast::start_crypto();
  ::testing::InitGoogleTest(&argc, argv);
  return RUN_ALL_TESTS();
}
