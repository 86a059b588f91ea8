// SPDX-License-Identifier: Apache-2.0
#include <gmock/gmock.h>
#include <gtest/gtest.h>
#include <rapidcheck.h>

#include <map>

#include "base/seeded_random.h"
#include "seal/object_keys.h"
#include "seal/os_random.h"
#include "seal/passphrase.h"
#include "seal/signer.h"
#include "seal/x25519.h"

namespace holdfast {
namespace {

using testing::HasSubstr;
using testing::StartsWith;

constexpr Suite kSuites[] = {Suite::aes_256_gcm, Suite::chacha20_poly1305};

Bytes from(std::string_view hex) {
  Bytes out(hex.size() / 2);
  EXPECT_TRUE(from_hex(hex, out));
  return out;
}

Bytes bytes_of(std::string_view text) {
  const ByteSpan b = as_bytes(text);
  return {b.begin(), b.end()};
}

TEST(Secret, owns_copies_and_moves) {
  Secret a = Secret::copy_of(as_bytes("secret"));
  Secret b = a.clone();
  EXPECT_NE(a.span().data(), b.span().data());
  EXPECT_EQ(as_text(b.span()), "secret");
  const Secret c = std::move(a);
  EXPECT_EQ(as_text(c.span()), "secret");
  EXPECT_TRUE(a.empty());  // NOLINT(bugprone-use-after-move): the promise under test
  b = Secret(3);
  EXPECT_EQ(as_text(b.span()), std::string(3, '\0'));
  b = Secret();
  EXPECT_TRUE(b.empty());
  EXPECT_TRUE(Secret::copy_of({}).empty());
}

TEST(OsRandom, fills) {
  OsRandom random;
  Bytes a(32), b(32);
  random.fill(a);
  random.fill(b);
  random.fill({});
  EXPECT_NE(a, b);
  EXPECT_NE(a, Bytes(32));
}

struct AeadRow {
  Suite suite;
  Bytes key, nonce, aad, plain, sealed;
};

std::vector<AeadRow> aead_rows() {
  const std::string text =
      "Ladies and Gentlemen of the class of '99: If I could offer you only one tip for the future, "
      "sunscreen would be it.";
  return {
      // McGrew and Viega, "The Galois/Counter Mode", test cases 13, 14 and 16.
      {Suite::aes_256_gcm, Bytes(32), Bytes(12), {}, {}, from("530f8afbc74536b9a963b4f1c4cb738b")},
      {Suite::aes_256_gcm,
       Bytes(32),
       Bytes(12),
       {},
       Bytes(16),
       from("cea7403d4d606b6e074ec5d3baf39d18d0d1c8a799996bf0265b98b5d48ab919")},
      {Suite::aes_256_gcm, from("feffe9928665731c6d6a8f9467308308feffe9928665731c6d6a8f9467308308"),
       from("cafebabefacedbaddecaf888"), from("feedfacedeadbeeffeedfacedeadbeefabaddad2"),
       from("d9313225f88406e5a55909c5aff5269a86a7a9531534f7da2e4c303d8a318a72"
            "1c3c0c95956809532fcf0e2449a6b525b16aedf5aa0de657ba637b39"),
       from("522dc1f099567d07f47f37a32a84427d643a8cdcbfe5c0c97598a2bd2555d1aa"
            "8cb08e48590dbb3da7b08b1056828838c5f61e6393ba7a0abcc9f662"
            "76fc6ece0f4e1768cddf8853bb2d551b")},
      // RFC 8439, 2.8.2.
      {Suite::chacha20_poly1305,
       from("808182838485868788898a8b8c8d8e8f909192939495969798999a9b9c9d9e9f"),
       from("070000004041424344454647"), from("50515253c0c1c2c3c4c5c6c7"), bytes_of(text),
       from("d31a8d34648e60db7b86afbc53ef7ec2a4aded51296e08fea9e2b5a736ee62d63dbea45e8ca96712"
            "82fafb69da92728b1a71de0a9e060b2905d6a5b67ecd3b3692ddbd7f2d778b8c9803aee328091b58"
            "fab324e4fad675945585808b4831d7bc3ff4def08e4b7a9de576d26586cec64b6116"
            "1ae10b594f09e26a7e902ecbd0600691")},
  };
}

TEST(Aead, vectors_also_in_place_and_again_with_one_context) {
  for (const AeadRow& row : aead_rows()) {
    Aead aead(row.suite, row.key);
    for (int round = 0; round < 2; ++round) {
      Bytes out(row.plain.size() + kTagSize);
      aead.seal(row.nonce, row.aad, row.plain, out);
      EXPECT_EQ(to_hex(out), to_hex(row.sealed));
      Bytes back(row.plain.size());
      ASSERT_TRUE(aead.open(row.nonce, row.aad, row.sealed, back));
      EXPECT_EQ(back, row.plain);
      Bytes place = row.plain;
      place.resize(row.sealed.size());
      aead.seal(row.nonce, row.aad, ByteSpan(place).first(row.plain.size()), place);
      EXPECT_EQ(place, row.sealed);
      ASSERT_TRUE(
          aead.open(row.nonce, row.aad, place, MutableByteSpan(place).first(row.plain.size())));
      place.resize(row.plain.size());
      EXPECT_EQ(place, row.plain);
    }
  }
}

TEST(Aead, refuses_every_flipped_bit_and_gives_no_plaintext) {
  for (const AeadRow& row : aead_rows()) {
    Aead aead(row.suite, row.key);
    const auto refused = [&](ByteSpan nonce, ByteSpan aad, ByteSpan sealed) {
      Bytes out(sealed.size() - kTagSize, std::byte{0xEE});
      const auto got = aead.open(nonce, aad, sealed, out);
      return !got && got.error().code == Code::corrupt && out == Bytes(out.size());
    };
    const auto each_flip = [](Bytes bytes, const auto& check) {
      for (std::size_t bit = 0; bit < 8 * bytes.size(); ++bit) {
        bytes[bit / 8] ^= static_cast<std::byte>(1U << (bit % 8));
        EXPECT_TRUE(check(bytes)) << bit;
        bytes[bit / 8] ^= static_cast<std::byte>(1U << (bit % 8));
      }
    };
    each_flip(row.sealed, [&](const Bytes& b) { return refused(row.nonce, row.aad, b); });
    each_flip(row.nonce, [&](const Bytes& b) { return refused(b, row.aad, row.sealed); });
    each_flip(row.aad, [&](const Bytes& b) { return refused(row.nonce, b, row.sealed); });
    EXPECT_EQ(aead.open(row.nonce, row.aad, Bytes(15), {}).error().code, Code::corrupt);
  }
}

// RFC 7748, 6.1.
TEST(X25519, vectors) {
  const X25519Key alice(
      Secret::copy_of(from("77076d0a7318a57d3c16c17251b26645df4c2f87ebc0992ab177fba51db92c2a")));
  const X25519Key bob(
      Secret::copy_of(from("5dab087e624a8a4b79e17f8b83800ee66f3bb1292618b6fd1c2f8b27ff88e0eb")));
  EXPECT_EQ(alice.public_key().hex(),
            "8520f0098930a754748b7ddcb43ef75a0dbf3a0d26381af4eba4a98eaa9b4e6a");
  EXPECT_EQ(bob.public_key().hex(),
            "de9edb7d7b7dc1b4d35b61c2ece435373f8343c85b78674dadfc7e146f882b4f");
  const std::string_view shared =
      "4a5d9d5ba4ce2de1728e3bf480350f25e07e21c947d19e3376f09b3c1e161742";
  EXPECT_EQ(to_hex(alice.shared(bob.public_key())->span()), shared);
  EXPECT_EQ(to_hex(bob.shared(alice.public_key())->span()), shared);
}

TEST(X25519, refuses_points_of_small_order) {
  SeededRandom random(7);
  const X25519Key key(Secret::random(32, random));
  for (const std::string_view hex :
       {"0000000000000000000000000000000000000000000000000000000000000000",
        "0100000000000000000000000000000000000000000000000000000000000000",
        "e0eb7a7c3b41b8ae1656e3faf19fc46ada098deb9c32b1fd866205165f49b800",
        "5f9c95bca3508c24b1d0b1559c83ef5b04445cc4581c8e86d8224eddd09f1157",
        "ecffffffffffffffffffffffffffffffffffffffffffffffffffffffffffff7f",
        "edffffffffffffffffffffffffffffffffffffffffffffffffffffffffffff7f",
        "eeffffffffffffffffffffffffffffffffffffffffffffffffffffffffffff7f"}) {
    const auto got = key.shared(*X25519PublicKey::parse(hex));
    ASSERT_FALSE(got) << hex;
    EXPECT_EQ(got.error().code, Code::corrupt);
    EXPECT_THAT(got.error().what, HasSubstr(hex));
  }
}

TEST(DeviceSigner, key_of_rfc_8032_and_signatures_that_hold) {
  const DeviceSigner signer(
      from("9d61b19deffd5a60ba844af492ec2cc44449c5697b326919703bac031cae7f60"));
  EXPECT_EQ(signer.public_key().hex(),
            "d75a980182b10ab7d54bfed3c964073a0ee172f3daa62325af021a68f707511a");
  const Transcript message = Transcript("head").text("a");
  EXPECT_TRUE(verify(signer.public_key(), message, signer.sign(message)));
  EXPECT_FALSE(verify(signer.public_key(), Transcript("head").text("b"), signer.sign(message)));
  EXPECT_EQ(signer.sign(message), signer.sign(message));
}

PassphraseParameters cheapest() {
  PassphraseParameters out{kPassesMin, kMemoryMin, {}};
  for (std::size_t i = 0; i < 16; ++i) out.salt[i] = static_cast<std::byte>(i);
  return out;
}

// By pyca/cryptography 48 (OpenSSL 3.5's Argon2id): iterations 3, lanes 1, 65536 KiB.
TEST(Passphrase, vector) {
  const auto key = passphrase_key("correct horse", cheapest());
  ASSERT_TRUE(key) << key.error().what;
  EXPECT_EQ(to_hex(key->span()),
            "e3c889ca40ed01e6b6771fc8a5bf16e35ad60b41c9bd5d7e6d63adf51e50b0fd");
}

TEST(Passphrase, ACC_07_parameters_below_the_floor_or_above_the_ceiling_are_refused) {
  struct Row {
    std::uint64_t passes, memory;
    std::string_view named;
  };
  constexpr Row rows[] = {
      {1, kMemoryMin, "'passes' is 1"},
      {kPassesMin - 1, kMemoryMin, "'passes' is 2"},
      {0, kMemoryMin, "'passes' is 0"},
      {kPassesMax + 1, kMemoryMin, "'passes' is 65"},
      {UINT64_MAX, kMemoryMin, "'passes' is 18446744073709551615"},
      {kPassesMin, 8U << 10, "'memory' is 8192"},
      {kPassesMin, kMemoryMin - 1, "'memory' is 67108863"},
      {kPassesMin, kMemoryMax + 1, "'memory' is 4294967297"},
      {kPassesMin, UINT64_MAX, "'memory' is 18446744073709551615"},
      {1, 8U << 10, "'passes' is 1"},
  };
  for (const Row& row : rows) {
    const auto got = passphrase_key("x", {row.passes, row.memory, {}});
    ASSERT_FALSE(got) << row.named;
    EXPECT_EQ(got.error().code, Code::invalid);
    EXPECT_THAT(got.error().what, HasSubstr(row.named));
  }
  EXPECT_TRUE(check_passphrase_parameters({kPassesMin, kMemoryMin, {}}));
  EXPECT_TRUE(check_passphrase_parameters({kPassesMax, kMemoryMax, {}}));
  SeededRandom random(1);
  EXPECT_TRUE(check_passphrase_parameters(new_passphrase_parameters(random)));
}

TEST(Passphrase, is_neither_empty_nor_endless) {
  EXPECT_EQ(passphrase_key("", cheapest()).error().code, Code::invalid);
  EXPECT_EQ(passphrase_key(std::string(kPassphraseMax + 1, 'x'), cheapest()).error().code,
            Code::invalid);
  EXPECT_TRUE(passphrase_key(std::string(kPassphraseMax, 'x'), cheapest()));
}

TEST(Padme, values) {
  struct Row {
    std::uint64_t length, padded;
  };
  constexpr Row rows[] = {{0, 0},
                          {1, 1},
                          {2, 2},
                          {3, 3},
                          {8, 8},
                          {9, 10},
                          {10, 10},
                          {100, 104},
                          {1000, 1024},
                          {1025, 1088},
                          {65537, 67584},
                          {1U << 20, 1U << 20},
                          {(1U << 20) + 1, (1U << 20) + (1U << 15)}};
  for (const auto& [length, padded] : rows) EXPECT_EQ(padme(length), padded) << length;
}

TEST(Padme, never_below_never_far_above_and_settled) {
  rc::check([](std::uint64_t any, std::uint8_t shift) {
    const std::uint64_t length = (any >> 1) >> (shift % 63);
    const std::uint64_t padded = padme(length);
    RC_ASSERT(padded >= length);
    RC_ASSERT(padded - length <= length / 8);
    RC_ASSERT(padme(padded) == padded);
  });
}

TEST(RepositoryKey, differs_in_every_input) {
  SeededRandom random(5);
  Place place;
  random.fill(place.account.bytes);
  random.fill(place.repository.bytes);
  const Bytes key(32, std::byte{1});
  const EntryHash opened;
  const std::string base = to_hex(repository_key(key, place, 1, opened).span());
  EXPECT_EQ(base, to_hex(repository_key(key, place, 1, opened).span()));
  Place other = place;
  other.account.bytes[31] ^= std::byte{1};
  EXPECT_NE(base, to_hex(repository_key(key, other, 1, opened).span()));
  other = place;
  other.repository.bytes[15] ^= std::byte{1};
  EXPECT_NE(base, to_hex(repository_key(key, other, 1, opened).span()));
  EXPECT_NE(base, to_hex(repository_key(key, place, 2, opened).span()));
  EntryHash fork;
  fork.bytes[0] = std::byte{1};
  EXPECT_NE(base, to_hex(repository_key(key, place, 1, fork).span()));
  EXPECT_NE(base, to_hex(repository_key(Bytes(32), place, 1, opened).span()));
}

TEST(ObjectKeys, differ_in_every_input_and_among_themselves) {
  const Bytes key(32), salt(32);
  Place place{};
  const auto all = [&](const ObjectKeyInput& input) {
    const ObjectKeys k = derive_object_keys(key, place, input);
    return std::array{to_hex(k.key.span()), k.commitment.hex(), to_hex(k.nonce_key.span())};
  };
  const auto base = all({1, Suite::aes_256_gcm, ObjectType::head, 1, salt});
  EXPECT_NE(base[0], base[1]);
  EXPECT_NE(base[1], base[2]);
  Bytes other_salt(32);
  other_salt[31] = std::byte{1};
  for (const auto& other : {all({2, Suite::aes_256_gcm, ObjectType::head, 1, salt}),
                            all({1, Suite::chacha20_poly1305, ObjectType::head, 1, salt}),
                            all({1, Suite::aes_256_gcm, ObjectType::data_pack, 1, salt}),
                            all({1, Suite::aes_256_gcm, ObjectType::head, 2, salt}),
                            all({1, Suite::aes_256_gcm, ObjectType::head, 1, other_salt})})
    for (std::size_t i = 0; i < 3; ++i) EXPECT_NE(base[i], other[i]);
  for (std::byte* const changed : {&place.account.bytes[31], &place.repository.bytes[15]}) {
    *changed ^= std::byte{1};
    const auto other = all({1, Suite::aes_256_gcm, ObjectType::head, 1, salt});
    for (std::size_t i = 0; i < 3; ++i) EXPECT_NE(base[i], other[i]);
    *changed ^= std::byte{1};
  }
}

RepositoryKeys keys_for(std::uint64_t account) {
  SeededRandom random(account);
  RepositoryKeys keys;
  random.fill(keys.place.account.bytes);
  random.fill(keys.place.repository.bytes);
  keys.newest = 7;
  SeededRandom shared(99);  // the same K_repo for all: the place alone must tell them apart
  keys.epoch_keys.emplace(7, Secret::random(32, shared));
  return keys;
}

constexpr std::string_view kName = "heads/a/1";

Result<Bytes> open_head(const RepositoryKeys& keys, ByteSpan sealed) {
  return open_box(keys, ObjectType::head, kName, sealed);
}

Bytes sealed_head(const RepositoryKeys& keys, std::string_view text, std::uint64_t seed) {
  SeededRandom random(seed);
  return seal_box(keys, ObjectType::head, kName, as_bytes(text), random);
}

TEST(Box, round_trip_and_size_class) {
  SeededRandom random(2);
  for (const Suite suite : kSuites) {
    RepositoryKeys keys = keys_for(1);
    keys.suite = suite;
    for (const std::size_t size : {0U, 1U, 2U, 15U, 16U, 17U, 100U, 139U, 140U, 141U, 5000U}) {
      Bytes plain(size);
      random.fill(plain);
      const Bytes sealed = seal_box(keys, ObjectType::head, kName, plain, random);
      EXPECT_EQ(sealed.size(), padme(96 + 16 + 4 + size));
      const auto back = open_head(keys, sealed);
      ASSERT_TRUE(back) << back.error().what;
      ASSERT_EQ(*back, plain);
    }
  }
}

TEST(Box, largest_content_passes_and_a_larger_object_is_refused_by_its_size) {
  const RepositoryKeys keys = keys_for(1);
  SeededRandom random(2);
  const Bytes plain(kBoxPlainMax);
  Bytes sealed = seal_box(keys, ObjectType::head, kName, plain, random);
  const auto back = open_head(keys, sealed);
  ASSERT_TRUE(back) << back.error().what;
  EXPECT_EQ(back->size(), plain.size());
  sealed.resize(sealed.size() + 1);
  store_le(sealed.data() + 92, static_cast<std::uint32_t>(sealed.size() - 96));
  EXPECT_THAT(open_head(keys, sealed).error().what, HasSubstr("no size that a sealed object has"));
}

// The format, written a second time from docs/formats/repository.md, "Sealed objects".
Bytes seal_by_hand(const RepositoryKeys& keys, ByteSpan salt, ByteSpan padded,
                   std::uint16_t reserved) {
  const ObjectKeys k = derive_object_keys(keys.epoch_keys.at(7).span(), keys.place,
                                          {1, keys.suite, ObjectType::head, 7, salt});
  const auto length = static_cast<std::uint32_t>(padded.size() + 16);
  Bytes out;
  Writer w(out);
  w.raw(as_bytes("HFBOX001"));
  w.u8(static_cast<std::uint8_t>(keys.suite));
  w.u8(3);
  w.u16(reserved);
  w.u32(7);
  w.raw(salt);
  w.raw(k.commitment.span());
  const Transcript aad = Transcript("box")
                             .field(out)
                             .field(keys.place.account.span())
                             .field(keys.place.repository.span())
                             .number(std::uint32_t{7})
                             .text(kName)
                             .number(length);
  const Transcript nonce_input =
      Transcript("nonce").number(std::uint32_t{0}).field(aad.span()).field(sha256(padded).span());
  const Hash256 tag = HmacSha256(k.nonce_key.span()).tag({}, nonce_input.span());
  const ByteSpan nonce = tag.span().first(12);
  w.raw(nonce);
  w.u32(length);
  w.zeros(length);
  Aead(keys.suite, k.key.span())
      .seal(nonce, aad.span(), padded, MutableByteSpan(out).subspan(kBoxHeaderSize));
  return out;
}

Bytes padded_content(std::uint32_t says, std::string_view content, std::size_t size) {
  Bytes out;
  Writer w(out);
  w.u32(says);
  w.raw(as_bytes(content));
  out.resize(size);
  return out;
}

TEST(Box, is_as_the_specification_says) {
  for (const Suite suite : kSuites) {
    RepositoryKeys keys = keys_for(1);
    keys.suite = suite;
    SeededRandom random(6);
    Bytes salt(32);
    random.fill(salt);
    const std::string content(33, 'c');  // 149 bytes, padded to 160
    EXPECT_EQ(sealed_head(keys, content, 6),
              seal_by_hand(keys, salt, padded_content(33, content, 48), 0));
  }
}

// The same on every machine, whatever its byte order.
TEST(Box, bytes_are_pinned) {
  EXPECT_EQ(sha256(sealed_head(keys_for(1), "pinned", 6)).hex(),
            "e85aa6007832ec80327ae735714323ecbfe36cbea27faddc0abc84fdc8bf51c5");
}

TEST(Box, refuses_a_sealed_form_that_this_program_does_not_write) {
  const RepositoryKeys keys = keys_for(1);
  const Bytes salt(32);
  const std::string content(33, 'c');
  Bytes padded = padded_content(33, content, 48);
  EXPECT_TRUE(open_head(keys, seal_by_hand(keys, salt, padded, 0)));
  EXPECT_THAT(open_head(keys, seal_by_hand(keys, salt, padded, 1)).error().what,
              HasSubstr("reserved"));
  padded.back() = std::byte{1};
  EXPECT_THAT(open_head(keys, seal_by_hand(keys, salt, padded, 0)).error().what,
              HasSubstr("padding is not zeros"));
  for (const Bytes& bad : {padded_content(45, content, 48), padded_content(UINT32_MAX, content, 48),
                           padded_content(28, content, 48), padded_content(33, content, 47),
                           padded_content(33, content, 64), padded_content(0, "", 12)}) {
    const auto got = open_head(keys, seal_by_hand(keys, salt, bad, 0));
    ASSERT_FALSE(got);
    EXPECT_EQ(got.error().code, Code::corrupt);
    EXPECT_THAT(got.error().what, HasSubstr("does not fit its size"));
  }
}

TEST(Box, every_flip_truncation_and_extension_is_refused) {
  for (const Suite suite : kSuites) {
    RepositoryKeys keys = keys_for(1);
    keys.suite = suite;
    Bytes sealed = sealed_head(keys, "content", 8);
    ASSERT_TRUE(open_head(keys, sealed));
    for (std::size_t at = 0; at < sealed.size(); ++at)
      for (const std::byte flip : {std::byte{1}, std::byte{0x80}}) {
        sealed[at] ^= flip;
        const auto got = open_head(keys, sealed);
        ASSERT_FALSE(got) << at;
        EXPECT_EQ(got.error().code, Code::corrupt) << at;
        EXPECT_THAT(got.error().what, StartsWith("heads/a/1: "));
        sealed[at] ^= flip;
      }
    for (std::size_t size = 0; size < sealed.size(); ++size)
      EXPECT_EQ(open_head(keys, ByteSpan(sealed).first(size)).error().code, Code::corrupt) << size;
    sealed.push_back(std::byte{0});
    EXPECT_THAT(open_head(keys, sealed).error().what, HasSubstr("cut off or damaged"));
  }
}

TEST(Box, of_an_epoch_that_came_later_is_no_damage) {
  const RepositoryKeys keys = keys_for(1);
  RepositoryKeys later = keys_for(1);
  later.epoch_keys.emplace(2, Secret(32));
  later.newest = 2;
  const auto got = open_head(keys, sealed_head(later, "content", 8));
  ASSERT_FALSE(got);
  EXPECT_EQ(got.error().code, Code::denied);
  EXPECT_THAT(got.error().what, HasSubstr("run the command again"));
  EXPECT_TRUE(open_head(later, sealed_head(keys, "content", 8))) << "and an older one opens";
}

TEST(Box, ENG_01_one_type_never_opens_as_another) {
  const RepositoryKeys keys = keys_for(1);
  SeededRandom random(3);
  Bytes sealed = seal_box(keys, ObjectType::data_pack, kName, as_bytes("a whole head"), random);
  const auto got = open_head(keys, sealed);
  ASSERT_FALSE(got);
  EXPECT_EQ(got.error().code, Code::corrupt);
  EXPECT_EQ(got.error().what, "heads/a/1: wrong object type: expected head, found data pack");
  sealed[9] = static_cast<std::byte>(ObjectType::head);  // and the server rewrites the header
  EXPECT_THAT(open_head(keys, sealed).error().what, HasSubstr("key commitment does not match"));
  sealed[9] = std::byte{77};
  EXPECT_THAT(open_head(keys, sealed).error().what, HasSubstr("found unknown type 77"));
  EXPECT_THAT(open_head(keys, Bytes(200)).error().what, HasSubstr("wrong object type"));
}

TEST(Box, ENG_01_no_pair_of_types_is_exchangeable) {
  const RepositoryKeys keys = keys_for(1);
  SeededRandom random(3);
  for (std::uint8_t made = 1; made <= 10; ++made) {
    Bytes sealed = seal_box(keys, static_cast<ObjectType>(made), kName, as_bytes("x"), random);
    for (std::uint8_t asked = 1; asked <= 10; ++asked) {
      sealed[9] = static_cast<std::byte>(asked);
      EXPECT_EQ(open_box(keys, static_cast<ObjectType>(asked), kName, sealed).has_value(),
                made == asked);
    }
  }
}

TEST(Box, ENG_06_objects_of_another_account_or_repository_are_refused) {
  const Bytes sealed = sealed_head(keys_for(1), "of account 1", 4);
  RepositoryKeys other_account = keys_for(1);
  other_account.place.account.bytes[31] ^= std::byte{1};
  RepositoryKeys other_repository = keys_for(1);
  other_repository.place.repository.bytes[0] ^= std::byte{1};
  for (RepositoryKeys* const keys : {&other_account, &other_repository}) {
    const auto got = open_head(*keys, sealed);
    ASSERT_FALSE(got);
    EXPECT_EQ(got.error().code, Code::corrupt);
    EXPECT_THAT(got.error().what, HasSubstr("sealed for another account or repository"));
  }
}

TEST(Box, another_name_is_refused) {
  const RepositoryKeys keys = keys_for(1);
  const Bytes sealed = sealed_head(keys, "x", 4);
  const auto got = open_box(keys, ObjectType::head, "heads/a/2", sealed);
  ASSERT_FALSE(got);
  EXPECT_EQ(got.error().code, Code::corrupt);
  EXPECT_THAT(got.error().what, StartsWith("heads/a/2: "));
  EXPECT_THAT(got.error().what, HasSubstr("stored under another name"));
  EXPECT_THAT(open_box(keys, ObjectType::head, "", sealed).error().what, StartsWith("object: "));
  EXPECT_THAT(open_box(keys, ObjectType::head, "\x1b[2J", sealed).error().what,
              StartsWith("\\x1b[2J: "));
}

TEST(Box, unknown_epoch_is_denied_and_named) {
  RepositoryKeys keys = keys_for(1);
  const Bytes sealed = sealed_head(keys, "x", 4);
  keys.epoch_keys.clear();
  const auto got = open_head(keys, sealed);
  ASSERT_FALSE(got);
  EXPECT_EQ(got.error().code, Code::denied);
  EXPECT_THAT(got.error().what, HasSubstr("sealed under epoch 7"));
}

TEST(Box, older_epochs_stay_readable) {
  RepositoryKeys keys = keys_for(1);
  const Bytes sealed = sealed_head(keys, "x", 4);
  SeededRandom random(10);
  keys.epoch_keys.emplace(8, Secret::random(32, random));
  keys.newest = 8;
  EXPECT_TRUE(open_head(keys, sealed));
  EXPECT_TRUE(open_head(keys, sealed_head(keys, "y", 5)));
}

// A machine cloned or rolled back draws the same salt again: the key repeats, so the nonce must not
// unless all is the same.
TEST(Box, ENG_09_a_cloned_random_state_repeats_a_nonce_only_with_identical_bytes) {
  const RepositoryKeys keys = keys_for(1);
  std::map<std::string, Bytes> seen;  // key (by what derives it) and nonce -> whole box
  int repeated = 0;
  for (int run = 0; run < 2; ++run)
    for (const std::string_view name : {"heads/a/1", "heads/a/2"})
      for (const std::string& text : {std::string("one"), std::string("two"), std::string(200, 'x'),
                                      std::string("one") + std::string(1, '\0')})
        for (const ObjectType type : {ObjectType::head, ObjectType::pack_list}) {
          SeededRandom cloned(5);
          const Bytes box = seal_box(keys, type, name, as_bytes(text), cloned);
          const ByteSpan all = box;
          const auto [at, fresh] =
              seen.emplace(to_hex(all.subspan(8, 40)) + to_hex(all.subspan(80, 12)), box);
          EXPECT_EQ(at->second, box);
          repeated += fresh ? 0 : 1;
        }
  EXPECT_EQ(seen.size(), 16U);
  EXPECT_EQ(repeated, 16);
}

TEST(Suite, preferred_is_one_of_the_two) {
  const Suite suite = preferred_suite();
  EXPECT_TRUE(suite == Suite::aes_256_gcm || suite == Suite::chacha20_poly1305);
  EXPECT_EQ(suite, preferred_suite());
}

}  // namespace
}  // namespace holdfast
