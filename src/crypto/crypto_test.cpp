// SPDX-License-Identifier: Apache-2.0
#include <gtest/gtest.h>
#include <rapidcheck.h>
#include <sodium.h>

#include <filesystem>
#include <fstream>
#include <iterator>
#include <set>

#include "base/seeded_random.h"
#include "crypto/hash.h"
#include "crypto/purposes.h"
#include "crypto/sign.h"

namespace holdfast {
namespace {

Bytes from(std::string_view hex) {
  Bytes out(hex.size() / 2);
  EXPECT_TRUE(from_hex(hex, out));
  return out;
}

Bytes bytes_of(std::string_view text) {
  const ByteSpan b = as_bytes(text);
  return {b.begin(), b.end()};
}

// FIPS 180-4 examples and NIST SHA256ShortMsg.
TEST(Sha256, vectors) {
  const std::pair<Bytes, std::string_view> rows[] = {
      {{}, "e3b0c44298fc1c149afbf4c8996fb92427ae41e4649b934ca495991b7852b855"},
      {bytes_of("abc"), "ba7816bf8f01cfea414140de5dae2223b00361a396177a9cb410ff61f20015ad"},
      {bytes_of("abcdbcdecdefdefgefghfghighijhijkijkljklmklmnlmnomnopnopq"),
       "248d6a61d20638b8e5c026930c3e6039a33ce45964ff2167f6ecedd419db06c1"},
      {from("d3"), "28969cdfa74a12c82f3bad960b0b000aca2ac329deea5c2328ebc6f2ba9802c1"},
      {Bytes(1000000, std::byte{'a'}),
       "cdc76e5c9914fb9281a1c7e284d73e67f1809a48a497200e046d39ccc7112cd0"},
  };
  for (const auto& [in, want] : rows) EXPECT_EQ(sha256(in).hex(), want);
}

TEST(Sha256, pieces_give_the_same_and_finish_starts_anew) {
  Sha256 hash;
  rc::check([&](const std::vector<std::string>& pieces) {
    std::string whole;
    for (const std::string& piece : pieces) {
      hash.update(as_bytes(piece));
      whole += piece;
    }
    RC_ASSERT(hash.finish() == sha256(as_bytes(whole)));
  });
}

// RFC 4231, test cases 1 to 4, 6 and 7.
TEST(HmacSha256, vectors) {
  struct Row {
    Bytes key, message;
    std::string_view want;
  };
  const Row rows[] = {
      {Bytes(20, std::byte{0x0b}), bytes_of("Hi There"),
       "b0344c61d8db38535ca8afceaf0bf12b881dc200c9833da726e9376c2e32cff7"},
      {bytes_of("Jefe"), bytes_of("what do ya want for nothing?"),
       "5bdcc146bf60754e6a042426089575c75a003f089d2739839dec58b964ec3843"},
      {Bytes(20, std::byte{0xaa}), Bytes(50, std::byte{0xdd}),
       "773ea91e36800e46854db8ebd09181a72959098b3ef8c122d9635514ced565fe"},
      {from("0102030405060708090a0b0c0d0e0f10111213141516171819"), Bytes(50, std::byte{0xcd}),
       "82558a389a443c0ea4cc819899f2083a85f0faa3e578f8077a2e3ff46729665b"},
      {Bytes(131, std::byte{0xaa}),
       bytes_of("Test Using Larger Than Block-Size Key - Hash Key First"),
       "60e431591ee0b67f0d8a26aacbf5b77f8e0bc6213728c5140546040f0ee37f54"},
      {Bytes(131, std::byte{0xaa}),
       bytes_of("This is a test using a larger than block-size key and a larger than block-size "
                "data. The key needs to be hashed before being used by the HMAC algorithm."),
       "9b09ffa71b942fcb27635fbcd5b0e944bfdc63644f0713938a7f51535c3a35e2"},
  };
  for (const auto& [key, message, want] : rows) {
    HmacSha256 mac(key);
    EXPECT_EQ(mac.tag({}, message).hex(), want);
    EXPECT_EQ(mac.tag(ByteSpan(message).first(3), ByteSpan(message).subspan(3)).hex(), want);
    HmacSha256 copied(mac);
    HmacSha256 moved(std::move(mac));
    EXPECT_EQ(copied.tag(message, {}).hex(), want);
    EXPECT_EQ(moved.tag(message, {}).hex(), want);
  }
}

// libsodium's own, an independent implementation, as the oracle.
TEST(HmacSha256, agrees_with_libsodium_for_every_size_near_the_block) {
  SeededRandom random(3);
  for (std::size_t size = 0; size < 200; ++size) {
    Bytes key(32), message(size);
    random.fill(key);
    random.fill(message);
    Hash256 want;
    crypto_auth_hmacsha256(uchars(MutableByteSpan(want.bytes)), uchars(ByteSpan(message)), size,
                           uchars(ByteSpan(key)));
    EXPECT_EQ(HmacSha256(key).tag({}, message), want);
  }
}

TEST(Hkdf, rfc_5869_case_3) {
  Bytes out(42);
  hkdf_sha256(Bytes(22, std::byte{0x0b}), {}, out);
  EXPECT_EQ(to_hex(out),
            "8da4e775a563c18f715f802a063c5a31b8a11f5c5ee1879ec3454e5f3c738d2d"
            "9d201395faa4b61a96c8");
}

// RFC 5869 has no other vector with an empty salt, so its text is the oracle: PRK = HMAC(zeros,
// key), T(i) = HMAC(PRK, T(i - 1), info, i).
TEST(Hkdf, agrees_with_the_text_of_the_rfc) {
  SeededRandom random(4);
  for (const std::size_t size : {1U, 31U, 32U, 33U, 96U, 255U * 32U}) {
    Bytes key(1 + random.below(100)), info(random.below(1025)), out(size), want;
    random.fill(key);
    random.fill(info);
    hkdf_sha256(key, info, out);
    HmacSha256 expand(HmacSha256(Bytes(32)).tag({}, key).span());
    Bytes block;
    for (int i = 1; want.size() < size; ++i) {
      block.insert(block.end(), info.begin(), info.end());
      block.push_back(static_cast<std::byte>(i));
      const Hash256 t = expand.tag({}, block);
      block.assign(t.bytes.begin(), t.bytes.end());
      want.insert(want.end(), block.begin(), block.end());
    }
    want.resize(size);
    EXPECT_EQ(out, want);
  }
}

// Aumasson and Bernstein, "SipHash", appendix A, and the reference implementation's vectors.
TEST(SipHash, vectors) {
  struct Row {
    std::size_t size;
    std::uint64_t want;
  };
  constexpr Row rows[] = {{0, 0x726FDB47DD0E0E31},  {1, 0x74F839C593DC67FD},
                          {2, 0x0D6C8009D9A94F5A},  {8, 0x93F5F5799A932462},
                          {15, 0xA129CA6149BE45E5}, {63, 0x958A324CEB064572}};
  Bytes counting(64);
  for (std::size_t i = 0; i < 64; ++i) counting[i] = static_cast<std::byte>(i);
  const ByteSpan all = counting;
  for (const auto& [size, want] : rows) EXPECT_EQ(siphash(all.first(16), all.first(size)), want);
}

TEST(EqualSecret, rows) {
  EXPECT_TRUE(equal_secret({}, {}));
  EXPECT_TRUE(equal_secret(as_bytes("ab"), as_bytes("ab")));
  EXPECT_FALSE(equal_secret(as_bytes("ab"), as_bytes("ac")));
  EXPECT_FALSE(equal_secret(as_bytes("ab"), as_bytes("abc")));
  EXPECT_FALSE(equal_secret({}, as_bytes("a")));
}

// RFC 8032, 7.1, tests 1 to 3: the library below is the right one.
TEST(Ed25519, library_vectors) {
  struct Row {
    std::string_view seed, key, message, signature;
  };
  constexpr Row rows[] = {
      {"9d61b19deffd5a60ba844af492ec2cc44449c5697b326919703bac031cae7f60",
       "d75a980182b10ab7d54bfed3c964073a0ee172f3daa62325af021a68f707511a", "",
       "e5564300c360ac729086e2cc806e828a84877f1eb8e5d974d873e065224901555fb8821590a33bacc61e39701cf"
       "9"
       "b46bd25bf5f0595bbe24655141438e7a100b"},
      {"4ccd089b28ff96da9db6c346ec114e0f5b8a319f35aba624da8cf6ed4fb8a6fb",
       "3d4017c3e843895a92b70aa74d1b7ebc9c982ccf2ec4968cc0cd55f12af4660c", "72",
       "92a009a9f0d4cab8720e820b5f642540a2b27b5416503f8fb3762223ebdb69da085ac1e43e15996e458f3613d0f"
       "1"
       "1d8c387b2eaeb4302aeeb00d291612bb0c00"},
      {"c5aa8df43f9f837bedb7442f31dcb7b166d38535076f094b85ce3a2e0b4458f7",
       "fc51cd8e6218a1a38da47ed00230f0580816ed13ba3303ac5deb911548908025", "af82",
       "6291d657deec24024827e69c3abe01a30ce548a284743a445e3680d7db5ac3ac18ff9b538d16f290ae67f760984"
       "d"
       "c6594a7c15e9716ed28dc027beceea1ec40a"},
  };
  for (const Row& row : rows) {
    SignPublicKey key;
    Signature signature;
    unsigned char secret[64];
    crypto_sign_seed_keypair(uchars(MutableByteSpan(key.bytes)), secret, uchars(from(row.seed)));
    EXPECT_EQ(key.hex(), row.key);
    const Bytes message = from(row.message);
    crypto_sign_detached(uchars(MutableByteSpan(signature.bytes)), nullptr,
                         uchars(ByteSpan(message)), message.size(), secret);
    EXPECT_EQ(signature.hex(), row.signature);
  }
}

struct TestSigner {
  SignPublicKey key;
  unsigned char secret[64];

  TestSigner() {
    const Bytes seed = bytes_of("a seed of thirty-two bytes, fix!");
    crypto_sign_seed_keypair(uchars(MutableByteSpan(key.bytes)), secret, uchars(ByteSpan(seed)));
  }
  [[nodiscard]] Signature sign(const Transcript& message) const {
    Signature out;
    crypto_sign_detached(uchars(MutableByteSpan(out.bytes)), nullptr, uchars(message.span()),
                         message.span().size(), secret);
    return out;
  }
};

TEST(Verify, takes_the_signature_and_nothing_near_it) {
  const TestSigner signer;
  const Transcript message = Transcript("head").text("one").number(std::uint32_t{7});
  const Signature good = signer.sign(message);
  EXPECT_TRUE(verify(signer.key, message, good));
  for (std::size_t bit = 0; bit < 512; ++bit) {
    Signature bad = good;
    bad.bytes[bit / 8] ^= static_cast<std::byte>(1U << (bit % 8));
    EXPECT_FALSE(verify(signer.key, message, bad)) << bit;
  }
  for (std::size_t bit = 0; bit < 256; ++bit) {
    SignPublicKey bad = signer.key;
    bad.bytes[bit / 8] ^= static_cast<std::byte>(1U << (bit % 8));
    EXPECT_FALSE(verify(bad, message, good)) << bit;
  }
  EXPECT_FALSE(verify(signer.key, Transcript("head").text("one").number(std::uint64_t{7}), good));
}

// With such keys a signature of zeros holds for every message, where a library takes them.
TEST(Verify, refuses_keys_of_small_order_and_not_canonical_ones) {
  for (const std::string_view hex :
       {"0000000000000000000000000000000000000000000000000000000000000000",
        "0100000000000000000000000000000000000000000000000000000000000000",
        "ecffffffffffffffffffffffffffffffffffffffffffffffffffffffffffff7f",
        "edffffffffffffffffffffffffffffffffffffffffffffffffffffffffffff7f",
        "26e8958fc2b227b045c3f489f2ef98f0d5dfac05d3c63339b13802886d53fc05",
        "c7176a703d4dd84fba3c0b760d10670f2a2053fa2c39ccc64ec7fd7792ac037a"}) {
    const SignPublicKey key = *SignPublicKey::parse(hex);
    for (const std::string_view r : {hex, std::string_view("01000000000000000000000000000000"
                                                           "00000000000000000000000000000000")}) {
      const auto signature = *Signature::parse(std::string(r) + std::string(64, '0'));
      for (int i = 0; i < 8; ++i)
        EXPECT_FALSE(verify(key, Transcript("head").number(i), signature)) << hex;
    }
  }
}

TEST(Transcript, is_as_written_down) {
  const Transcript t = Transcript("box").text("ab").number(std::uint32_t{1}).field({});
  EXPECT_EQ(to_hex(t.span()), "0f" + to_hex(as_bytes("holdfast/v1/box")) +
                                  "020000006162"
                                  "0400000001000000"
                                  "00000000");
}

using Fields = std::vector<std::string>;

Transcript transcript(std::string_view purpose, const Fields& fields) {
  Transcript out(purpose);
  for (const std::string& field : fields) out.text(field);
  return out;
}

TEST(Purposes, are_distinct) {
  const std::set<std::string_view> all(purpose::all_purposes.begin(), purpose::all_purposes.end());
  EXPECT_EQ(all.size(), purpose::all_purposes.size());
}

// Purposes that stand in `text` as literals: Transcript("x"), Transcript name("x"), and whole
// labels.
std::vector<std::string> spelled_purposes(std::string_view text) {
  constexpr std::string_view made = "Transcript";
  constexpr std::string_view label = "\"holdfast/v1/";
  std::vector<std::string> out;
  const auto take = [&](std::size_t begin) {
    const std::size_t end = text.find('"', begin);
    if (end != std::string_view::npos && end != begin)
      out.emplace_back(text.substr(begin, end - begin));
  };
  for (std::size_t at = text.find(made); at != std::string_view::npos; at = text.find(made, at)) {
    at = text.find_first_not_of(" _abcdefghijklmnopqrstuvwxyz", at + made.size());
    if (at != std::string_view::npos && text.substr(at).starts_with("(\"")) take(at + 2);
  }
  for (std::size_t at = text.find(label); at != std::string_view::npos; at = text.find(label, at))
    take(at += label.size());
  return out;
}

// What the matrix does not know it cannot cross.
TEST(Purposes, ACC_10_every_purpose_spelled_in_the_sources_is_listed) {
  const std::set<std::string_view> all(purpose::all_purposes.begin(), purpose::all_purposes.end());
  const std::filesystem::path sources = std::filesystem::path(HOLDFAST_TESTDATA) / "../src";
  std::size_t found = 0;
  for (const auto& entry : std::filesystem::recursive_directory_iterator(sources)) {
    const std::string name = entry.path().filename().string();
    if (!entry.is_regular_file() || name.ends_with("_test.cpp")) continue;
    std::ifstream in(entry.path());
    const std::string text(std::istreambuf_iterator<char>(in), {});
    for (const std::string& purpose : spelled_purposes(text)) {
      EXPECT_TRUE(all.contains(purpose)) << name << ": " << purpose;
      ++found;
    }
  }
  EXPECT_GT(found, 0U);
}

TEST(Purposes, are_found_where_they_are_spelled) {
  EXPECT_EQ(
      spelled_purposes("Transcript(\"a\") Transcript t(\"b\") \"holdfast/v1/c\" Transcript(p)"),
      (std::vector<std::string>{"a", "b", "c"}));
}

// The domain separation matrix: what is made for one purpose never serves another.
TEST(Purposes, ACC_10_nothing_made_for_one_purpose_serves_another) {
  const TestSigner signer;
  const Fields fields{"the same", "fields"};
  HmacSha256 mac(as_bytes("key"));
  for (const std::string_view one : purpose::all_purposes) {
    const Transcript made = transcript(one, fields);
    const Signature signature = signer.sign(made);
    Hash256 key;
    hkdf_sha256(as_bytes("key"), made.span(), key.bytes);
    for (const std::string_view other : purpose::all_purposes) {
      const Transcript asked = transcript(other, fields);
      EXPECT_EQ(verify(signer.key, asked, signature), one == other) << one << " " << other;
      EXPECT_EQ(mac.tag({}, made.span()) == mac.tag({}, asked.span()), one == other);
      EXPECT_EQ(sha256(made.span()) == sha256(asked.span()), one == other);
      Hash256 other_key;
      hkdf_sha256(as_bytes("key"), asked.span(), other_key.bytes);
      EXPECT_EQ(key == other_key, one == other) << one << " " << other;
    }
  }
}

// A challenge that is itself the encoding of an entry stays a field.
TEST(Purposes, ACC_10_a_field_cannot_become_the_message_of_another_purpose) {
  const TestSigner signer;
  const Transcript entry = transcript(purpose::chain_entry, {"revoke", "every device"});
  for (const std::string_view name : purpose::all_purposes) {
    const Transcript challenge = Transcript(name).field(entry.span());
    EXPECT_FALSE(verify(signer.key, entry, signer.sign(challenge))) << name;
  }
}

bool begins_with(ByteSpan whole, ByteSpan part) {
  return as_text(whole).starts_with(as_text(part));
}

TEST(Purposes, ACC_10_no_encoding_begins_that_of_another_purpose) {
  rc::check([](const Fields& a, const Fields& b) {
    const auto one = *rc::gen::elementOf(purpose::all_purposes);
    const auto other = *rc::gen::elementOf(purpose::all_purposes);
    const Transcript first = transcript(one, a);
    const Transcript second = transcript(other, b);
    if (one == other) return;
    RC_ASSERT(!begins_with(first.span(), second.span()));
    RC_ASSERT(!begins_with(second.span(), first.span()));
  });
}

TEST(Transcript, equal_only_for_equal_fields) {
  rc::check([](const Fields& a, const Fields& b) {
    const bool same = as_text(transcript("x", a).span()) == as_text(transcript("x", b).span());
    RC_ASSERT(same == (a == b));
  });
  const std::pair<Fields, Fields> near[] = {
      {{"ab", "c"}, {"a", "bc"}}, {{"", "a"}, {"a", ""}}, {{}, {""}}, {{"a"}, {"a", ""}}};
  for (const auto& [a, b] : near)
    EXPECT_NE(as_text(transcript("x", a).span()), as_text(transcript("x", b).span()));
}

}  // namespace
}  // namespace holdfast
