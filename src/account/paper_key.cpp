// SPDX-License-Identifier: Apache-2.0
#include "account/paper_key.h"

#include <fmt/format.h>

#include <algorithm>
#include <span>
#include <vector>

#include "account/wordlist.h"
#include "account/words.h"
#include "crypto/hash.h"
#include "crypto/purposes.h"
#include "crypto/transcript.h"

namespace holdfast {
namespace {

constexpr std::size_t kBitsSize = 32;
constexpr std::size_t kTextMax = 64U << 10;
constexpr std::string_view kBegin = "-----BEGIN HOLDFAST PAPER KEY-----";
constexpr std::string_view kEnd = "-----END HOLDFAST PAPER KEY-----";
constexpr std::string_view kAccountLine = "Account: ";

Secret derive(ByteSpan bits, std::string_view purpose) {
  Secret out(32);
  hkdf_sha256(bits, Transcript(purpose).span(), out.bytes());
  return out;
}

void append(Secret& out, std::size_t& at, std::string_view text) {
  std::ranges::copy(as_bytes(text), out.bytes().begin() + static_cast<std::ptrdiff_t>(at));
  at += text.size();
}

// Writes pieces into secret memory of exactly their size: no copy of a word stays behind.
Secret join(const std::vector<std::string_view>& pieces) {
  std::size_t size = 0;
  for (const std::string_view piece : pieces) size += piece.size();
  Secret out(size);
  std::size_t at = 0;
  for (const std::string_view piece : pieces) append(out, at, piece);
  return out;
}

constexpr std::size_t kShownMax = 16;  // more of a word that is none is not looked at

// Levenshtein's.
std::size_t distance(std::string_view a, std::string_view b) {
  std::array<std::uint8_t, kShownMax + 1> row{};
  for (std::size_t j = 0; j <= b.size(); ++j) row[j] = static_cast<std::uint8_t>(j);
  for (std::size_t i = 1; i <= a.size(); ++i) {
    int diagonal = row[0];
    row[0] = static_cast<std::uint8_t>(i);
    for (std::size_t j = 1; j <= b.size(); ++j) {
      const int change = diagonal + (a[i - 1] == b[j - 1] ? 0 : 1);
      diagonal = row[j];
      row[j] = static_cast<std::uint8_t>(std::min({change, row[j] + 1, row[j - 1] + 1}));
    }
  }
  return row[b.size()];
}

std::string_view nearest(std::string_view token) {
  std::string_view best = kWordList.front();
  std::size_t least = kShownMax + 1;
  for (const std::string_view word : kWordList) {
    const std::size_t longer = std::max(word.size(), token.size());
    if (longer - std::min(word.size(), token.size()) >= least) continue;
    const std::size_t d = distance(token, word);
    if (d < least) {
      least = d;
      best = word;
    }
  }
  return best;
}

// The number of the word that `token` (lower case) is, or is cut from.
std::optional<WordNumber> find_word(std::string_view token) {
  const auto* const found = std::ranges::lower_bound(kWordList, token);
  const bool is_it = found != kWordList.end() &&
                     (*found == token || (token.size() >= 4 && found->starts_with(token)));
  if (!is_it) return std::nullopt;
  return static_cast<WordNumber>(found - kWordList.begin());
}

bool is_space(char c) { return c == ' ' || (c >= '\t' && c <= '\r'); }
bool is_digit(char c) { return c >= '0' && c <= '9'; }

// "3.", "3)", "3:" or "3" before a word, with or without a space between.
std::string_view without_number(std::string_view token) {
  std::size_t n = 0;
  while (n < token.size() && is_digit(token[n])) ++n;
  if (n > 0 && n < token.size() && (token[n] == '.' || token[n] == ')' || token[n] == ':')) ++n;
  return token.substr(n);
}

std::vector<std::string_view> tokens_of(std::string_view text) {
  std::vector<std::string_view> out;
  for (std::size_t at = 0; at < text.size();) {
    std::size_t end = at;
    while (end < text.size() && !is_space(text[end])) ++end;
    std::string_view token = without_number(text.substr(at, end - at));
    if (token.ends_with(',') || token.ends_with('.')) token.remove_suffix(1);
    if (!token.empty()) out.push_back(token);
    at = end + 1;
  }
  return out;
}

std::string lower(std::string_view token) {
  std::string out(token);
  for (char& c : out)
    if (c >= 'A' && c <= 'Z') c = static_cast<char>(c - 'A' + 'a');
  return out;
}

Result<WordNumbers> read_words(std::string_view text) {
  const std::vector<std::string_view> tokens = tokens_of(text);
  WordNumbers words{};
  for (std::size_t i = 0; i < std::min(tokens.size(), kPaperWords); ++i) {
    const std::string token = lower(tokens[i].substr(0, kShownMax));
    const std::optional<WordNumber> word = find_word(token);
    if (!word)
      return fail(Code::invalid,
                  fmt::format("paper key: word {}, \"{}\", is not in the list; is it "
                              "\"{}\"?",
                              i + 1, escaped(token), nearest(token)));
    words[i] = *word;
  }
  if (tokens.size() != kPaperWords)
    return fail(Code::invalid,
                fmt::format("paper key: it has {} words, here are {}", kPaperWords, tokens.size()));
  return words;
}

// What stands between the markers, or all of it where there are none.
Result<std::string_view> words_part(std::string_view text) {
  const std::size_t begin = text.find(kBegin);
  if (begin == std::string_view::npos) return text;
  const std::string_view rest = text.substr(begin + kBegin.size());
  const std::size_t end = rest.find(kEnd);
  if (end == std::string_view::npos)
    return fail(Code::invalid,
                fmt::format("paper key: the page is cut off, there is no line {}", kEnd));
  return rest.substr(0, end);
}

Result<std::optional<AccountId>> account_of(std::string_view text) {
  const std::size_t at = text.find(kAccountLine);
  if (at == std::string_view::npos) return std::nullopt;
  const auto id = AccountId::parse(text.substr(at + kAccountLine.size()).substr(0, 64));
  if (!id)
    return fail(Code::invalid,
                "paper key: the page's line \"Account:\" is not 64 hex digits; correct it or leave "
                "it out");
  return *id;
}

}  // namespace

PaperKey PaperKey::generate(Random& random) { return PaperKey(Secret::random(kBitsSize, random)); }

Secret PaperKey::symmetric() const { return derive(bits(), purpose::paper_symmetric); }
Secret PaperKey::open_secret() const { return derive(bits(), purpose::paper_x25519); }
Secret PaperKey::sign_seed() const { return derive(bits(), purpose::paper_ed25519); }

Secret PaperKey::words() const {
  WordNumbers words = encode_words(bits());
  std::vector<std::string_view> pieces;
  for (const WordNumber word : words) {
    if (!pieces.empty()) pieces.emplace_back(" ");
    pieces.push_back(kWordList[word]);
  }
  wipe_words(words);
  return join(pieces);
}

Secret render_paper_key(const PaperKey& key, const AccountId& account) {
  constexpr std::size_t kPerLine = 5, kColumn = 14;
  WordNumbers words = encode_words(key.bits());
  std::vector<std::string> numbers;
  numbers.reserve(kPaperWords);
  for (std::size_t i = 0; i < kPaperWords; ++i) numbers.push_back(fmt::format("{:>2}. ", i + 1));
  const std::string head = fmt::format(
      "holdfast paper key\n\n"
      "These words open every backup of the account below, and bring it back when all\n"
      "devices are lost:  holdfast --repo REPO recover --paper-key-file THIS_FILE\n"
      "Print this page or write it down, keep it where you keep documents, and delete\n"
      "the file. Who has the words has the backups; without them and without a device\n"
      "nobody can open them, nor can whoever keeps the store.\n\n"
      "{}{}\n\n{}\n",
      kAccountLine, account.hex(), kBegin);
  const std::string foot = fmt::format("\n{}\n", kEnd);
  constexpr std::string_view kBlanks = "              ";
  std::vector<std::string_view> pieces{head};
  for (std::size_t i = 0; i < kPaperWords; ++i) {
    const std::string_view word = kWordList[words[i]];
    pieces.emplace_back(numbers[i]);
    pieces.push_back(word);
    const bool line_ends = i % kPerLine == kPerLine - 1;
    if (line_ends && i + 1 < kPaperWords) pieces.emplace_back("\n");
    if (!line_ends) pieces.push_back(kBlanks.substr(0, kColumn - word.size()));
  }
  pieces.emplace_back(foot);
  wipe_words(words);
  return join(pieces);
}

Result<ParsedPaperKey> parse_paper_key(std::string_view text) {
  if (text.size() > kTextMax)
    return fail(Code::invalid, "paper key: this is no paper key, it is larger than 64 KiB");
  HF_ASSIGN(const std::optional<AccountId> account, account_of(text));
  HF_ASSIGN(const std::string_view part, words_part(text));
  HF_ASSIGN(WordNumbers words, read_words(part));
  const std::optional<Secret> data = decode_words(words);
  wipe_words(words);
  if (!data)
    return fail(
        Code::invalid,
        "paper key: the words do not fit together: one is another than on the paper, or two "
        "are swapped; compare each");
  return ParsedPaperKey{PaperKey::from_bits(data->clone()), account};
}

}  // namespace holdfast
