// SPDX-License-Identifier: Apache-2.0
#include "account/slots.h"

#include <algorithm>

#include "crypto/hash.h"
#include "crypto/purposes.h"
#include "crypto/transcript.h"
#include "seal/aead.h"

namespace holdfast {
namespace {

constexpr std::size_t kSecretSize = 32, kIdSize = DeviceId::size;
constexpr std::uint32_t kSlotSuite = 1;  // X25519, HKDF-SHA-256, ChaCha20-Poly1305
// Every key below is derived from all that it is bound to and seals once, so one nonce will do.
constexpr std::array<std::byte, kNonceSize> kNonce{};

std::unexpected<Error> not_open() {
  return fail(
      Code::corrupt,
      "the account's slot does not open: it was changed, or is not for this key. Nothing of "
      "it is used; try another copy of the repository");
}

Secret concat(std::initializer_list<ByteSpan> parts) {
  std::size_t size = 0;
  for (const ByteSpan part : parts) size += part.size();
  Secret out(size);
  auto at = out.bytes().begin();
  for (const ByteSpan part : parts) at = std::ranges::copy(part, at).out;
  return out;
}

Secret derive(ByteSpan key, const Transcript& info) {
  Secret out(kSecretSize);
  hkdf_sha256(key, info.span(), out.bytes());
  return out;
}

Bytes seal_once(ByteSpan key, ByteSpan plain) {
  Bytes out(plain.size() + kTagSize);
  Aead(Suite::chacha20_poly1305, key).seal(kNonce, {}, plain, out);
  return out;
}

Result<Secret> open_once(ByteSpan key, ByteSpan sealed) {
  if (sealed.size() < kTagSize) return not_open();
  Secret out(sealed.size() - kTagSize);
  if (!Aead(Suite::chacha20_poly1305, key).open(kNonce, {}, sealed, out.bytes())) return not_open();
  return out;
}

Transcript slot_context(std::string_view purpose, const EpochPlace& place, const DeviceId& id,
                        SlotKind kind, std::uint32_t suite) {
  Transcript t(purpose);
  t.field(place.account.span()).number(place.number).field(id.span());
  t.number(static_cast<std::uint8_t>(kind)).number(suite).number(place.position);
  t.field(place.previous.span());
  return t;
}

Secret wrap_key(Transcript context, ByteSpan secret, ByteSpan shared,
                const X25519PublicKey& ephemeral, const X25519PublicKey& owner) {
  context.field(ephemeral.span()).field(owner.span());
  return derive(concat({secret, shared}).span(), context);
}

Transcript epoch_context(std::string_view purpose, const EpochPlace& place, Epoch parent) {
  Transcript t(purpose);
  t.field(place.account.span()).number(place.number).number(parent).number(place.position);
  t.field(place.previous.span());
  return t;
}

Secret parent_key_key(const EpochPlace& place, Epoch parent, ByteSpan epoch_key) {
  return derive(epoch_key, epoch_context(purpose::old_epoch_key, place, parent));
}

// Needs the account secret too: whoever is given an epoch key alone (the operator slot of standard
// mode) learns no secret that a slot of later epochs is wrapped under.
Secret epoch_secrets_key(const EpochPlace& place, Epoch parent, const EpochKeys& keys) {
  const Secret both = concat({keys.key.span(), keys.account_secret.span()});
  return derive(both.span(), epoch_context(purpose::epoch_secrets, place, parent));
}

AccountId account_at(const Chain& chain, std::uint64_t position) {
  return position == 0 ? AccountId{} : chain.account();
}

Hash256 commit(std::string_view purpose, const AccountId& account, Epoch epoch, ByteSpan secret) {
  Hash256 out;
  hkdf_sha256(secret, Transcript(purpose).field(account.span()).number(epoch).span(), out.bytes);
  return out;
}

}  // namespace

EpochPlace place_of(const Chain& chain, const ChainEpoch& epoch) {
  return {account_at(chain, epoch.position), epoch.number, epoch.position, epoch.previous};
}

EpochPlace place_of(const Chain& chain, const ChainEpoch& epoch, const ChainSlot& slot) {
  return {account_at(chain, slot.position), epoch.number, slot.position, slot.previous};
}

Result<NewSlot> seal_slot(const EpochPlace& place, const SlotOwner& owner, ByteSpan secret,
                          const EpochKeys& keys) {
  const X25519Key ephemeral(
      derive(keys.key.span(),
             slot_context(purpose::slot_ephemeral, place, owner.id, owner.kind, kSlotSuite)));
  HF_ASSIGN(const Secret shared, ephemeral.shared(owner.open));
  const Secret key =
      wrap_key(slot_context(purpose::slot_wrap, place, owner.id, owner.kind, kSlotSuite), secret,
               shared.span(), ephemeral.public_key(), owner.open);
  const Secret plain = concat({keys.key.span(), keys.account_secret.span()});
  return NewSlot{owner.id, owner.kind, kSlotSuite, ephemeral.public_key(),
                 seal_once(key.span(), plain.span())};
}

Result<EpochKeys> open_slot(const EpochPlace& place, const ChainSlot& slot, ByteSpan secret,
                            const X25519Key& key) {
  const auto shared = key.shared(slot.ephemeral);
  if (!shared) return not_open();
  const Secret wrap =
      wrap_key(slot_context(purpose::slot_wrap, place, slot.id, slot.kind, slot.suite), secret,
               shared->span(), slot.ephemeral, key.public_key());
  HF_ASSIGN(const Secret plain, open_once(wrap.span(), slot.sealed));
  if (plain.size() != 2 * kSecretSize) return not_open();
  return EpochKeys{Secret::copy_of(plain.span().first(kSecretSize)),
                   Secret::copy_of(plain.span().last(kSecretSize))};
}

Hash256 key_commitment(const AccountId& account, Epoch epoch, ByteSpan epoch_key) {
  return commit(purpose::epoch_commit, account, epoch, epoch_key);
}

Hash256 secret_commitment(const AccountId& account, Epoch epoch, ByteSpan account_secret) {
  return commit(purpose::secret_commit, account, epoch, account_secret);
}

Result<> check_commitments(const EpochPlace& place, const ChainEpoch& epoch,
                           const EpochKeys& keys) {
  const Hash256 key = key_commitment(place.account, epoch.number, keys.key.span());
  const Hash256 secret = secret_commitment(place.account, epoch.number, keys.account_secret.span());
  const bool same_key = equal_secret(key.span(), epoch.key_commitment.span());
  const bool same_secret = equal_secret(secret.span(), epoch.secret_commitment.span());
  if (!same_key || !same_secret) return not_open();
  return {};
}

Result<NewEpochParts> seal_epoch(const EpochPlace& place, const EpochKeys& keys,
                                 const EpochParent& parent, const EpochSecrets& secrets,
                                 std::span<const SlotOwner> owners) {
  NewEpochParts out;
  out.number = place.number;
  out.parent = parent.number;
  if (!parent.key.empty()) {
    const Secret key = parent_key_key(place, parent.number, keys.key.span());
    out.parent_key = seal_once(key.span(), parent.key.span());
  }
  const Secret plain =
      concat({secrets.parent_secret.span(), secrets.paper.span(), secrets.paper_part.span()});
  out.secrets = seal_once(epoch_secrets_key(place, parent.number, keys).span(), plain.span());
  out.key_commitment = key_commitment(place.account, place.number, keys.key.span());
  out.secret_commitment =
      secret_commitment(place.account, place.number, keys.account_secret.span());
  for (const SlotOwner& owner : owners) {
    const bool paper = owner.kind == SlotKind::paper;
    HF_ASSIGN(out.slots.emplace_back(),
              seal_slot(place, owner,
                        paper ? secrets.paper_part.span() : secrets.parent_secret.span(), keys));
  }
  return out;
}

Result<Secret> open_parent_key(const EpochPlace& place, const ChainEpoch& epoch,
                               const EpochKeys& keys) {
  const Secret key = parent_key_key(place, epoch.parent, keys.key.span());
  HF_ASSIGN(Secret out, open_once(key.span(), epoch.parent_key));
  if (out.size() != kSecretSize) return not_open();
  return out;
}

Result<EpochSecrets> open_epoch_secrets(const EpochPlace& place, const ChainEpoch& epoch,
                                        const EpochKeys& keys) {
  HF_ASSIGN(const Secret plain,
            open_once(epoch_secrets_key(place, epoch.parent, keys).span(), epoch.secrets));
  if (plain.size() != 2 * kSecretSize + kIdSize) return not_open();
  return EpochSecrets{Secret::copy_of(plain.span().first(kSecretSize)),
                      DeviceId::from(plain.span().subspan(kSecretSize, kIdSize)),
                      Secret::copy_of(plain.span().last(kSecretSize))};
}

}  // namespace holdfast
