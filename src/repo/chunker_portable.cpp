// SPDX-License-Identifier: Apache-2.0
// Cuts on any CPU: AES by OpenSSL, many digests a call.
#include <openssl/evp.h>

#include <algorithm>
#include <array>
#include <memory>

#include "base/bytes.h"
#include "crypto/must.h"
#include "repo/chunker_paths.h"

namespace holdfast::chunking {
namespace {

struct FreeContext {
  void operator()(EVP_CIPHER_CTX* context) const { EVP_CIPHER_CTX_free(context); }
};
using Context = std::unique_ptr<EVP_CIPHER_CTX, FreeContext>;

Context copy_of(const void* prototype) {
  Context context(EVP_CIPHER_CTX_new());
  const auto* from = static_cast<const EVP_CIPHER_CTX*>(prototype);
  crypto_must(EVP_CIPHER_CTX_copy(context.get(), from) == 1, "copy of AES-128-ECB");
  return context;
}

void encrypt_blocks(EVP_CIPHER_CTX* context, std::uint8_t* blocks, std::size_t size) {
  int written = 0;
  const int ok = EVP_EncryptUpdate(context, blocks, &written, blocks, static_cast<int>(size));
  crypto_must(ok == 1 && static_cast<std::size_t>(written) == size, "AES-128-ECB");
}

std::size_t scan_batch(const State& state, EVP_CIPHER_CTX* context, const std::uint8_t* at,
                       std::size_t count) {
  std::array<std::uint64_t, kBatch> digests;
  std::array<std::byte, kBatch * 16> blocks;
  roll(state, at, count, digests.data());
  for (std::size_t i = 0; i < count; ++i) {
    store_le(&blocks[16 * i], digests[i]);
    store_le(&blocks[16 * i + 8], std::uint64_t{0});
  }
  encrypt_blocks(context, reinterpret_cast<std::uint8_t*>(blocks.data()), count * 16);
  for (std::size_t i = 0; i < count; ++i)
    if ((load_le<std::uint64_t>(&blocks[16 * i]) & state.mask) == 0) return i;
  return count;
}

std::size_t scan(const State& state, const std::uint8_t* at, std::size_t count) {
  const Context context = copy_of(state.evp_proto);
  for (std::size_t from = 0; from < count; from += kBatch) {
    const std::size_t n = std::min(kBatch, count - from);
    const std::size_t hit = scan_batch(state, context.get(), at + from, n);
    if (hit < n) return from + hit;
  }
  return count;
}

void encrypt(const State& state, const std::uint8_t in[16], std::uint8_t out[16]) {
  std::copy_n(in, 16, out);
  encrypt_blocks(copy_of(state.evp_proto).get(), out, 16);
}

void expand_nothing(const std::uint8_t*, std::uint8_t (*)[16]) {}  // OpenSSL keeps its own

}  // namespace

const Path portable_path{[] { return true; }, expand_nothing, scan, encrypt};

}  // namespace holdfast::chunking
