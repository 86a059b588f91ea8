// SPDX-License-Identifier: Apache-2.0
// Keys of one repository, and of one object in it. docs/formats/repository.md, "Keys".
#pragma once

#include <cstdint>
#include <map>

#include "base/id.h"
#include "crypto/hash.h"
#include "crypto/sign.h"
#include "seal/aead.h"
#include "seal/secret.h"

namespace holdfast {

// Every object class has its own type, and with it its own key.
enum class ObjectType : std::uint8_t {
  data_pack = 1,
  tree_pack = 2,
  head = 3,
  pack_list = 4,
  session_open = 5,
  session_generation = 6,
  repository_secrets = 7,
  dropped = 8,
  collection = 9,
  collection_done = 10,
  abandoned = 11,
  tags = 12,
};

using Epoch = std::uint32_t;

// Who the objects belong to; part of every key and every AAD, so nothing can be moved to another
// account or repository.
struct Place {
  AccountId account;
  RepositoryId repository;
};

// Drawn once for a repository, sealed under every epoch: dedup survives a rotation.
struct RepositorySecrets {
  Secret id_key;       // 32 bytes: ChunkId
  Secret chunker_key;  // 32 bytes: cuts
  Secret tree_key;     // 16 bytes: node boundaries (SipHash)
  [[nodiscard]] RepositorySecrets clone() const {
    return {id_key.clone(), chunker_key.clone(), tree_key.clone()};
  }
};

// Everything that repo/ needs to read and write one repository. Made by client/ from the account.
struct RepositoryKeys {
  Place place;
  Suite suite = Suite::aes_256_gcm;    // for what is written
  Epoch newest = 0;                    // the epoch that is written under
  std::map<Epoch, Secret> epoch_keys;  // K_repo of each epoch that this device can open
  RepositorySecrets secrets;
};

// K_repo = HKDF(K_epoch, T("repository"; account, repository, u32 epoch, hash of the entry that
// opened the epoch)), 32 bytes.
Secret repository_key(ByteSpan epoch_key, const Place& place, Epoch epoch,
                      const EntryHash& opened_by);

struct ObjectKeyInput {
  std::uint8_t version;
  Suite suite;
  ObjectType type;
  Epoch epoch;
  ByteSpan salt;  // 32 random bytes
};

// K || commitment || K_nonce = HKDF(K_repo, T("object"; u8 version, u8 suite, u8 type, account,
// repository, u32 epoch, salt)), 96 bytes.
struct ObjectKeys {
  Secret key;          // 32
  Hash256 commitment;  // compared first, in constant time, before anything is decrypted
  Secret nonce_key;    // 32
};
ObjectKeys derive_object_keys(ByteSpan repository_key, const Place& place,
                              const ObjectKeyInput& input);
// Of an object whose header names an epoch that `keys` do not have. Code::corrupt: it commits to
// one that they have, so the header is damaged; Code::denied: to none of them.
Error unknown_epoch(const RepositoryKeys& keys, ObjectKeyInput input, ByteSpan commitment);

// nonce = first 12 bytes of HMAC-SHA-256(nonce_key, T("nonce"; u32 number, aad, digest)); digest:
// what is sealed, by SHA-256.
std::array<std::byte, kNonceSize> derive_nonce(HmacSha256& nonce_key, std::uint32_t number,
                                               ByteSpan aad, ByteSpan digest);

// Small objects (heads, lists, session records, secrets): one sealed box each.
// docs/formats/repository.md, "Sealed objects".
inline constexpr std::size_t kBoxHeaderSize = 96;
inline constexpr std::uint32_t kBoxPlainMax = 64U << 20;
// `name`: the object's full name in the store, or for objects named by their hash the empty string;
// bound by the AAD. Padded inside to a Padme size. Errors: none that a caller can cause.
Bytes seal_box(const RepositoryKeys& keys, ObjectType type, std::string_view name, ByteSpan plain,
               Random& random);
// Code::corrupt: not such an object, damaged, or of another type, name, account or repository (the
// text says which it can tell). Code::denied: sealed under an epoch that this device has no key
// for.
Result<Bytes> open_box(const RepositoryKeys& keys, ObjectType type, std::string_view name,
                       ByteSpan sealed);

// Padme (Nikitin et al., PoPETs 2019(4), algorithm 1): the size class of `length`.
std::uint64_t padme(std::uint64_t length);

}  // namespace holdfast
