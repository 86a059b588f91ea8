// SPDX-License-Identifier: Apache-2.0
#include "repo/chunker.h"

#include <openssl/evp.h>

#include <algorithm>
#include <bit>
#include <cassert>
#include <utility>

#include "crypto/hash.h"
#include "crypto/must.h"
#include "crypto/purposes.h"
#include "crypto/transcript.h"
#include "repo/chunker_paths.h"

namespace holdfast {
namespace {

using chunking::Path;
using chunking::State;

struct FreeContext {
  void operator()(EVP_CIPHER_CTX* context) const { EVP_CIPHER_CTX_free(context); }
};
using Context = std::unique_ptr<EVP_CIPHER_CTX, FreeContext>;

// Null where this build has no such path.
const Path* built(ChunkerPath path) {
  switch (path) {
    case ChunkerPath::portable:
      return &chunking::portable_path;
#if defined(__x86_64__)
    case ChunkerPath::aesni:
      return &chunking::aesni_path;
    case ChunkerPath::vaes256:
      return &chunking::vaes256_path;
    case ChunkerPath::vaes512:
      return &chunking::vaes512_path;
#elif defined(__aarch64__)
    case ChunkerPath::arm_aes:
      return &chunking::arm_aes_path;
#endif
    default:
      return nullptr;
  }
}

ChunkerPath fastest() {
  constexpr ChunkerPath order[] = {ChunkerPath::vaes512, ChunkerPath::vaes256, ChunkerPath::aesni,
                                   ChunkerPath::arm_aes};
  const auto* const best = std::ranges::find_if(order, chunker_path_available);
  return best == std::end(order) ? ChunkerPath::portable : *best;
}

// The first irreducible x^64 + c that the key gives, c odd; about one in 32 of those is.
std::uint64_t secret_polynomial(ByteSpan key) {
  for (std::uint32_t attempt = 0;; ++attempt) {
    std::array<std::byte, 8> raw;
    hkdf_sha256(key, Transcript(purpose::chunker_hash).number(attempt).span(), raw);
    const std::uint64_t low = load_le<std::uint64_t>(raw.data()) | 1;
    wipe(raw);
    if (chunking::irreducible(low)) return low;
  }
}

Context keyed_aes(const std::uint8_t* key) {
  struct FreeCipher {
    void operator()(EVP_CIPHER* cipher) const { EVP_CIPHER_free(cipher); }
  };
  const std::unique_ptr<EVP_CIPHER, FreeCipher> cipher(
      EVP_CIPHER_fetch(nullptr, "AES-128-ECB", nullptr));
  Context context(EVP_CIPHER_CTX_new());
  crypto_must(EVP_EncryptInit_ex2(context.get(), cipher.get(), key, nullptr, nullptr) == 1,
              "AES-128-ECB");
  EVP_CIPHER_CTX_set_padding(context.get(), 0);
  return context;
}

}  // namespace

bool chunker_path_available(ChunkerPath path) {
  if (path == ChunkerPath::automatic) return true;
  const Path* const it = built(path);
  return it != nullptr && it->available();
}

std::string_view chunker_path_name(ChunkerPath path) {
  constexpr std::string_view names[] = {"automatic", "portable", "aesni",
                                        "vaes256",   "vaes512",  "arm_aes"};
  return names[static_cast<std::size_t>(path)];
}

struct Chunker::Impl {
  State state{};
  Context aes;  // what state.evp_proto shows to the portable path
  const Path* path = nullptr;
  ChunkerPath name = ChunkerPath::portable;
  ChunkerLimits limits{};
};

Chunker::Chunker(ByteSpan key, ChunkerPath path, const ChunkerLimits& limits)
    : impl_(std::make_unique<Impl>()) {
  assert(key.size() == 32 && chunker_path_available(path));
  assert(kChunkWindow <= limits.min && limits.min < limits.max && limits.max <= kChunkMax);
  assert(std::has_single_bit(limits.average) && limits.average > 1);
  impl_->limits = limits;
  impl_->name = path == ChunkerPath::automatic ? fastest() : path;
  impl_->path = built(impl_->name);
  State& state = impl_->state;
  chunking::set_hash(state, secret_polynomial(key));
  hkdf_sha256(key, Transcript(purpose::chunker_prf).span(),
              std::as_writable_bytes(std::span(state.prf_key)));
  impl_->path->expand(state.prf_key, state.round_keys);
  impl_->aes = keyed_aes(state.prf_key);
  state.evp_proto = impl_->aes.get();
  state.mask = ~(UINT64_MAX / limits.average);  // 2^64 / average - 1 is all ones below the mask
}

Chunker::~Chunker() { wipe(std::as_writable_bytes(std::span(&impl_->state, 1))); }

std::size_t Chunker::cut(ByteSpan data) const {
  const ChunkerLimits& limits = impl_->limits;
  if (data.size() <= limits.min) return data.size();
  const std::size_t end = std::min<std::size_t>(data.size(), limits.max);
  const std::size_t count = end - limits.min - 1;  // positions min + 1 to end - 1
  const std::size_t hit = impl_->path->scan(impl_->state, uchars(data) + limits.min, count);
  return limits.min + 1 + hit;
}

ChunkerPath Chunker::path() const { return impl_->name; }

}  // namespace holdfast
