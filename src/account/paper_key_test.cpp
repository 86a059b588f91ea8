// SPDX-License-Identifier: Apache-2.0
#include "account/paper_key.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>
#include <rapidcheck.h>

#include "account/wordlist.h"
#include "base/seeded_random.h"
#include "crypto/hash.h"

namespace holdfast {
namespace {

using ::testing::HasSubstr;

std::string text_of(const Secret& secret) { return std::string(as_text(secret.span())); }

std::vector<std::string> words_of(const PaperKey& key) {
  std::vector<std::string> out(1);
  for (const char c : text_of(key.words())) {
    if (c == ' ')
      out.emplace_back();
    else
      out.back() += c;
  }
  return out;
}

std::string join(const std::vector<std::string>& words, std::string_view between = " ") {
  std::string out;
  for (const std::string& word : words) {
    if (!out.empty()) out += between;
    out += word;
  }
  return out;
}

bool gives(std::string_view text, const PaperKey& key) {
  const auto parsed = parse_paper_key(text);
  return parsed && equal_secret(parsed->key.bits(), key.bits());
}

PaperKey seeded(std::uint64_t seed) {
  SeededRandom random(seed);
  return PaperKey::generate(random);
}

TEST(PaperKey, the_word_list_is_the_published_one) {
  std::string all;
  for (const std::string_view word : kWordList) (all += word) += '\n';
  EXPECT_EQ(sha256(as_bytes(all)).hex(),
            "2f5eed53a4727b4bf8880d8f3f199efc90e58503646d9ff8eff3a2ed3b24dbda");
}

TEST(PaperKey, REC_04_every_changed_word_is_refused) {
  for (std::uint64_t seed = 0; seed < 5; ++seed) {
    const PaperKey key = seeded(seed);
    const WordNumbers right = encode_words(key.bits());
    ASSERT_TRUE(equal_secret(decode_words(right)->span(), key.bits()));
    for (std::size_t i = 0; i < kPaperWords; ++i) {
      WordNumbers words = right;
      for (WordNumber wrong = 0; wrong < 2048; ++wrong) {
        words[i] = wrong;
        ASSERT_EQ(decode_words(words).has_value(), wrong == right[i]) << i << " " << wrong;
      }
    }
  }
}

TEST(PaperKey, REC_04_every_swap_of_two_words_is_refused) {
  for (std::uint64_t seed = 0; seed < 50; ++seed) {
    WordNumbers words = encode_words(seeded(seed).bits());
    for (std::size_t i = 0; i < kPaperWords; ++i) {
      for (std::size_t j = i + 1; j < kPaperWords; ++j) {
        if (words[i] == words[j]) continue;
        std::swap(words[i], words[j]);
        EXPECT_FALSE(decode_words(words)) << i << " " << j;
        std::swap(words[i], words[j]);
      }
    }
  }
}

TEST(PaperKey, REC_04_a_mistyped_page_is_refused) {
  std::vector<std::string> words = words_of(seeded(1));
  for (std::size_t i = 0; i < kPaperWords; ++i) {
    const std::string right = words[i];
    for (std::size_t n = i; n < kWordList.size(); n += 97) {
      words[i] = kWordList[n];
      ASSERT_EQ(parse_paper_key(join(words)).has_value(), words[i] == right) << i << " " << n;
    }
    words[i] = right;
  }
}

// All bits come from the given randomness, and each of them is kept by the words.
TEST(PaperKey, REC_04_each_of_the_256_bits_counts) {
  for (std::size_t bit = 0; bit < 256; ++bit) {
    Bytes bits(32);
    bits[bit / 8] = static_cast<std::byte>(1U << bit % 8);
    const PaperKey key = PaperKey::from_bits(Secret::copy_of(bits));
    EXPECT_TRUE(gives(text_of(key.words()), key)) << bit;
  }
  Bytes ones(32), zeros(32);
  for (std::uint64_t seed = 0; seed < 64; ++seed) {
    const PaperKey key = seeded(seed);
    for (std::size_t i = 0; i < 32; ++i) {
      ones[i] |= key.bits()[i];
      zeros[i] |= ~key.bits()[i];
    }
  }
  EXPECT_EQ(ones, Bytes(32, std::byte{0xFF}));
  EXPECT_EQ(zeros, Bytes(32, std::byte{0xFF}));
}

TEST(PaperKey, parts_differ_and_none_is_the_key) {
  const PaperKey key = seeded(4);
  const Secret parts[] = {key.symmetric(), key.open_secret(), key.sign_seed()};
  for (const Secret& part : parts) {
    EXPECT_FALSE(equal_secret(part.span(), key.bits()));
    for (const Secret& other : parts)
      EXPECT_EQ(&part == &other, equal_secret(part.span(), other.span()));
  }
}

TEST(PaperKey, is_read_as_people_write_it) {
  const PaperKey key = seeded(5);
  const std::vector<std::string> words = words_of(key);
  EXPECT_TRUE(gives("  \n" + join(words, " \r\n\t ") + "\n", key));
  EXPECT_TRUE(gives(join(words, ", ") + ".", key));
  std::string upper = join(words);
  for (char& c : upper) c = static_cast<char>(std::toupper(static_cast<unsigned char>(c)));
  EXPECT_TRUE(gives(upper, key));
  for (const char* form : {"%zu. %s\n", "%zu.%s ", "%zu) %s ", "%zu: %s ", "%zu %s\n"}) {
    std::string text;
    for (std::size_t i = 0; i < words.size(); ++i) {
      char line[64];
      std::snprintf(line, sizeof line, form, i + 1, words[i].c_str());
      text += line;
    }
    EXPECT_TRUE(gives(text, key)) << text;
  }
  std::vector<std::string> cut;
  for (const std::string& word : words) cut.push_back(word.substr(0, 4));
  EXPECT_TRUE(gives(join(cut), key));
}

TEST(PaperKey, a_word_that_is_none_is_named_with_the_nearest) {
  std::vector<std::string> words = words_of(seeded(6));
  words[6] = "abndon";
  const auto parsed = parse_paper_key(join(words));
  ASSERT_FALSE(parsed);
  EXPECT_EQ(parsed.error().code, Code::invalid);
  EXPECT_THAT(parsed.error().what, HasSubstr("word 7"));
  EXPECT_THAT(parsed.error().what, HasSubstr("\"abndon\""));
  EXPECT_THAT(parsed.error().what, HasSubstr("\"abandon\""));
  words[6] = "aba";  // cut too short to be one word
  EXPECT_FALSE(parse_paper_key(join(words)));
  words[6] = "\x1B[31m";
  EXPECT_THAT(parse_paper_key(join(words)).error().what, HasSubstr("\\x1b"));
}

TEST(PaperKey, the_number_of_words_is_said) {
  std::vector<std::string> words = words_of(seeded(7));
  words.pop_back();
  EXPECT_THAT(parse_paper_key(join(words)).error().what, HasSubstr("here are 24"));
  words.insert(words.end(), {"zoo", "zoo"});
  EXPECT_THAT(parse_paper_key(join(words)).error().what, HasSubstr("here are 26"));
  EXPECT_FALSE(parse_paper_key(""));
  EXPECT_FALSE(parse_paper_key(std::string(70000, 'a')));
}

TEST(PaperKey, a_page_gives_key_and_account_back) {
  const PaperKey key = seeded(8);
  SeededRandom random(9);
  AccountId account;
  random.fill(account.bytes);
  const std::string page = text_of(render_paper_key(key, account));
  const auto parsed = parse_paper_key(page);
  ASSERT_TRUE(parsed) << parsed.error().what;
  EXPECT_TRUE(equal_secret(parsed->key.bits(), key.bits()));
  EXPECT_EQ(parsed->account, account);
  EXPECT_FALSE(parse_paper_key(text_of(key.words()))->account);

  std::string cut = page;
  cut.resize(cut.rfind("-----END"));
  EXPECT_THAT(parse_paper_key(cut).error().what, HasSubstr("cut off"));
  std::string typo = page;
  typo[typo.find("Account: ") + 20] = 'x';
  EXPECT_THAT(parse_paper_key(typo).error().what, HasSubstr("Account:"));
  for (std::size_t n = 0; n < page.size() - 36; n += 29)
    EXPECT_FALSE(gives(page.substr(0, n), key)) << n;
}

TEST(PaperKey, any_key_comes_back_from_its_words_and_its_page) {
  rc::check([](std::uint64_t seed) {
    const PaperKey key = seeded(seed);
    RC_ASSERT(gives(text_of(key.words()), key));
    RC_ASSERT(gives(text_of(render_paper_key(key, AccountId{})), key));
  });
}

TEST(PaperKey, any_text_is_refused_or_read) {
  rc::check([](const std::string& text) {
    const auto parsed = parse_paper_key(text);
    RC_ASSERT(parsed || parsed.error().code == Code::invalid);
  });
}

}  // namespace
}  // namespace holdfast
