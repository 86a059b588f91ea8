// SPDX-License-Identifier: Apache-2.0
#include "seal/secret.h"

#include <sodium.h>

#include <array>
#include <mutex>

#include "crypto/must.h"

namespace holdfast {

namespace {

// Guarded memory costs half a dozen system calls to make and to give back, and every small object
// of a repository has keys of its own: what was had once is used again for the same size, zeroed in
// between.
class Guarded {
 public:
  std::byte* take(std::size_t size) {
    if (std::byte* used = take_idle(size)) return used;
    // Guard pages around it; locked where the limit allows. Where it does not, a secret may reach
    // swap, which is no reason to refuse a backup.
    auto* const fresh = static_cast<std::byte*>(sodium_malloc(size));
    crypto_must(fresh != nullptr, "allocating guarded memory");
    wipe({fresh, size});
    return fresh;
  }
  void give(std::byte* data, std::size_t size) noexcept {
    if (data == nullptr) return;
    wipe({data, size});
    if (size <= kSizeMax) {
      const std::lock_guard lock(mutex_);
      Idle& idle = idle_[size];
      if (idle.count < idle.items.size()) {
        idle.items[idle.count++] = data;
        return;
      }
    }
    sodium_free(data);
  }

 private:
  static constexpr std::size_t kSizeMax = 64, kIdleMax = 32;
  struct Idle {
    std::array<std::byte*, kIdleMax> items{};
    std::size_t count = 0;
  };
  std::byte* take_idle(std::size_t size) {
    if (size > kSizeMax) return nullptr;
    const std::lock_guard lock(mutex_);
    Idle& idle = idle_[size];
    return idle.count == 0 ? nullptr : idle.items[--idle.count];
  }
  std::mutex mutex_;
  std::array<Idle, kSizeMax + 1> idle_;
};

Guarded& guarded() {
  static auto* const all = new Guarded;  // outlives every static Secret
  return *all;
}

}  // namespace

Secret::Secret(std::size_t size) {
  if (size == 0) return;
  data_ = guarded().take(size);
  size_ = size;
}

Secret Secret::copy_of(ByteSpan bytes) {
  Secret out(bytes.size());
  if (!bytes.empty()) std::memcpy(out.data_, bytes.data(), bytes.size());
  return out;
}

Secret Secret::random(std::size_t size, Random& random) {
  Secret out(size);
  random.fill(out.bytes());
  return out;
}

Secret& Secret::operator=(Secret&& o) noexcept {
  if (this == &o) return *this;
  guarded().give(data_, size_);
  data_ = std::exchange(o.data_, nullptr);
  size_ = std::exchange(o.size_, 0);
  return *this;
}

Secret::~Secret() { guarded().give(data_, size_); }

void wipe(MutableByteSpan bytes) {
  if (!bytes.empty()) sodium_memzero(bytes.data(), bytes.size());
}

}  // namespace holdfast
