// SPDX-License-Identifier: Apache-2.0
// Strong byte-string identities. Unparsed hex can never be one, and one kind never stands for
// another.
#pragma once

#include <array>
#include <compare>
#include <cstring>
#include <functional>

#include "base/bytes.h"

namespace holdfast {

template <class Tag, std::size_t N = 32>
struct Id {
  static constexpr std::size_t size = N;
  std::array<std::byte, N> bytes{};

  auto operator<=>(const Id&) const = default;
  // Order as unsigned bytes. Code::invalid: not exactly 2 * N hex digits.
  static Result<Id> parse(std::string_view hex) {
    Id id;
    HF_TRY(from_hex(hex, id.bytes));
    return id;
  }
  // `b` must have N bytes.
  static Id from(ByteSpan b) {
    Id id;
    if (b.size() == N) std::memcpy(id.bytes.data(), b.data(), N);
    return id;
  }
  [[nodiscard]] ByteSpan span() const { return bytes; }
  [[nodiscard]] std::string hex() const { return to_hex(bytes); }
  [[nodiscard]] std::string brief() const { return hex().substr(0, 12); }
  [[nodiscard]] bool is_zero() const { return *this == Id{}; }
};

using ChunkId = Id<struct ChunkTag>;          // HMAC-SHA-256(K_id, type, plaintext)
using ObjectHash = Id<struct ObjectTag>;      // SHA-256 of an object's sealed bytes: its name
using SnapshotId = Id<struct SnapshotTag>;    // hash of a signed head
using EntryHash = Id<struct EntryTag>;        // hash of a signed chain entry
using AccountId = Id<struct AccountTag>;      // hash of the genesis entry
using RepositoryId = Id<struct RepoTag, 16>;  // drawn at init
using DeviceId =
    Id<struct DeviceTag, 16>;  // first 16 bytes of the hash of the device's public keys
using Hash256 = Id<struct PlainHashTag>;

// The bytes of these identities are uniform already (hashes or random), so the first eight serve as
// a hash.
struct IdHash {
  template <class Tag, std::size_t N>
  std::size_t operator()(const Id<Tag, N>& id) const {
    return static_cast<std::size_t>(load_le<std::uint64_t>(id.bytes.data()));
  }
};

}  // namespace holdfast
