// SPDX-License-Identifier: Apache-2.0
#include "chain/chain.h"

#include <fmt/format.h>

#include <algorithm>

#include "crypto/hash.h"
#include "crypto/purposes.h"

namespace holdfast {

std::string_view name_of(ChainEntryType type) {
  constexpr std::string_view names[] = {
      "?",        "genesis",     "add device", "confirm device", "suspend",
      "add slot", "remove slot", "set mode",   "new epoch",      "set retention lock",
      "propose",  "veto",        "enact",      "move",           "resolve"};
  const auto n = static_cast<std::uint32_t>(type);
  return n < std::size(names) ? names[n] : names[0];
}

const ChainDevice* Chain::device(const DeviceId& id) const {
  const auto found = std::ranges::find(devices_, id, &ChainDevice::id);
  return found == devices_.end() ? nullptr : &*found;
}

std::uint64_t Chain::retention_lock(const RepositoryId& repository) const {
  const auto found = retention_locks_.find(repository);
  return found == retention_locks_.end() ? 0 : found->second;
}

namespace {

Result<> expect_hash(const Chain& chain, std::uint64_t position, const EntryHash& known) {
  if (chain.hash_at(position) == known) return {};
  return fail(
      Code::alarm,
      fmt::format("{} is another one than this home knows ({}, known {}): the chain was "
                  "forked. Nothing is written; compare with another device of the account",
                  chain_object_name(position), chain.hash_at(position).brief(), known.brief()));
}

}  // namespace

Result<> check_against_known(const Chain& chain, std::uint64_t known_position,
                             const EntryHash& known_hash) {
  if (chain.position() < known_position)
    return fail(
        Code::alarm,
        fmt::format(
            "chain shorter than known: its newest entry is {}, this home has seen "
            "{}: it was rolled back. Nothing is written; ask who keeps the store. 'holdfast "
            "repair index --accept-rollback' goes on from there",
            chain_object_name(chain.position()), chain_object_name(known_position)));
  return expect_hash(chain, known_position, known_hash);
}

Result<> check_no_fork(const Chain& a, const Chain& b) {
  const std::uint64_t common = std::min(a.position(), b.position());
  if (a.hash_at(common) == b.hash_at(common)) return {};
  std::uint64_t first = 0;
  while (a.hash_at(first) == b.hash_at(first)) ++first;
  return fail(
      Code::alarm,
      fmt::format("two valid entries are {} ({} and {}): the chain was forked. Nothing is "
                  "written until the paper key or two devices resolve it",
                  chain_object_name(first), a.hash_at(first).brief(), b.hash_at(first).brief()));
}

DeviceId device_id(const SignPublicKey& sign, const X25519PublicKey& open) {
  const Hash256 hash =
      sha256(Transcript(purpose::device_id).field(sign.span()).field(open.span()).span());
  return DeviceId::from(hash.span().first(DeviceId::size));
}

std::string fingerprint(const SignPublicKey& sign, const X25519PublicKey& open) {
  const std::string hex = device_id(sign, open).hex();
  std::string out;
  for (std::size_t i = 0; i < hex.size(); i += 4) {
    if (i > 0) out += '-';
    out += hex.substr(i, 4);
  }
  return out;
}

std::string chain_object_name(std::uint64_t sequence) {
  return fmt::format("chain/{:016x}", sequence);
}

EntryPlace next_place(const Chain& chain) {
  return {chain.account(), chain.position() + 1, chain.newest_hash()};
}

}  // namespace holdfast
