// SPDX-License-Identifier: Apache-2.0
// Entries of anybody. Each piece of the input (u8 signers, u16 length, body) becomes an entry with
// the place it must have and signatures of keys that the fuzzer holds, so that the rules behind the
// signatures are reached; the input as one raw entry is tried too.
#include "chain/chain.h"

#include <cstdlib>
#include <optional>

#include "crypto/purposes.h"
#include "seal/signer.h"
#include "wire/chain.pb.h"
#include "wire/records.h"

namespace holdfast {
namespace {

constexpr std::size_t kParties = 4, kEntriesMax = 16;

const DeviceSigner& party(std::size_t n) {
  static const DeviceSigner all[kParties] = {
      DeviceSigner(Bytes(32, std::byte{1})), DeviceSigner(Bytes(32, std::byte{2})),
      DeviceSigner(Bytes(32, std::byte{3})), DeviceSigner(Bytes(32, std::byte{4}))};
  return all[n % kParties];
}

Bytes sign(const Bytes& body, std::uint8_t signers) {
  const Transcript message = Transcript(purpose::chain_entry).field(body);
  wire::ChainEntry entry;
  entry.set_body(wire::to_field(body));
  for (unsigned n = 0; n < (signers >> 4) % 4U; ++n)
    entry.add_signatures(wire::to_field(party(signers >> (2 * n) & 3U).sign(message).span()));
  return wire::encode(entry);
}

Bytes put_in_place(ByteSpan raw, const std::optional<Chain>& chain) {
  wire::EntryBody body;
  if (!body.ParseFromArray(raw.data(), static_cast<int>(raw.size())))
    return {raw.begin(), raw.end()};
  const EntryPlace place = chain ? next_place(*chain) : EntryPlace{};
  body.set_account(wire::to_field(place.account.span()));
  body.set_sequence(place.sequence);
  body.set_previous(wire::to_field(place.previous.span()));
  return wire::encode(body);
}

// What every accepted chain has.
void check(const Chain& chain, std::span<const Bytes> entries) {
  const auto again = verify_chain(entries);
  if (!again || again->newest_hash() != chain.newest_hash()) std::abort();
  if (chain.devices().empty() || chain.newest_epoch().slots.size() != chain.devices().size() + 1)
    std::abort();
  for (const ChainDevice& d : chain.devices())
    if (d.id != device_id(d.sign, d.open)) std::abort();
  for (const Bytes& entry : entries)
    if (!signed_by_member(chain, entry)) std::abort();
}

void run(ByteSpan input) {
  Reader in(input);
  std::optional<Chain> chain;
  std::vector<Bytes> entries;
  while (in.left() > 0 && entries.size() < kEntriesMax) {
    const std::uint8_t signers = in.u8();
    const ByteSpan raw = in.take(in.u16());
    if (!in.ok()) break;
    entries.push_back(sign(put_in_place(raw, chain), signers));
    auto next = chain ? extend_chain(*chain, std::span(entries).last(1)) : verify_chain(entries);
    if (!next) {
      entries.pop_back();
      continue;
    }
    chain = std::move(*next);
    check(*chain, entries);
  }
  const std::vector<Bytes> whole{Bytes(input.begin(), input.end())};
  (void)verify_chain(whole);
}

}  // namespace
}  // namespace holdfast

extern "C" int LLVMFuzzerInitialize(int*, char***) {
  holdfast::start_crypto();
  return 0;
}
extern "C" int LLVMFuzzerTestOneInput(const std::uint8_t* data, std::size_t size) {
  holdfast::run({reinterpret_cast<const std::byte*>(data), size});
  return 0;
}
