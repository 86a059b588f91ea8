// SPDX-License-Identifier: Apache-2.0
#include "account/paper_key.h"

#include <fmt/format.h>

#include <algorithm>
#include <span>
#include <vector>

#include "account/wordlist.h"
#include "crypto/hash.h"
#include "crypto/purposes.h"
#include "crypto/transcript.h"

namespace holdfast {
namespace {

constexpr std::size_t kWordBits = 11, kDataWords = 24, kBitsSize = 32;
constexpr std::size_t kTextMax = 64U << 10;
constexpr std::string_view kBegin = "-----BEGIN HOLDFAST PAPER KEY-----";
constexpr std::string_view kEnd = "-----END HOLDFAST PAPER KEY-----";
constexpr std::string_view kAccountLine = "Account: ";

using Symbol = std::uint16_t;  // an element of GF(2^11): the number of a word
using Symbols = std::array<Symbol, kPaperWords>;

// times x modulo x^11 + x^2 + 1, which is primitive: the powers x^1 .. x^24 differ, and none is 1.
constexpr Symbol times_x(Symbol a) {
  const unsigned shifted = static_cast<unsigned>(a) << 1;
  return static_cast<Symbol>(shifted < 2048 ? shifted : (shifted ^ 0b100000000101U));
}

// Sum of x^(i+1) * w_i, by Horner's rule. A single changed word changes it (weights are not zero),
// and so do two swapped ones (weights differ, and differ from the 1 of the check word itself).
Symbol check_symbol(std::span<const Symbol, kPaperWords> words) {
  Symbol sum = 0;
  for (std::size_t i = kDataWords; i-- > 0;) sum = times_x(sum ^ words[i]);
  return sum;
}

std::byte check_byte(ByteSpan bits) {
  return sha256(Transcript(purpose::paper_check).field(bits).span()).bytes[0];
}

// 256 bits and the check byte, cut into 24 numbers, most significant bit first; then the symbol.
Symbols to_symbols(ByteSpan bits) {
  Symbols words{};
  Secret data(kBitsSize + 1);
  std::ranges::copy(bits, data.bytes().begin());
  data.bytes()[kBitsSize] = check_byte(bits);
  for (std::size_t bit = 0; bit < kDataWords * kWordBits; ++bit) {
    const unsigned value = std::to_integer<unsigned>(data.span()[bit / 8]) >> (7 - bit % 8) & 1;
    Symbol& word = words[bit / kWordBits];
    word = static_cast<Symbol>(static_cast<unsigned>(word) << 1 | value);
  }
  words[kDataWords] = check_symbol(words);
  return words;
}

Secret from_symbols(const Symbols& words) {
  Secret data(kBitsSize + 1);
  for (std::size_t bit = 0; bit < kDataWords * kWordBits; ++bit) {
    const unsigned value = words[bit / kWordBits] >> (kWordBits - 1 - bit % kWordBits) & 1U;
    data.bytes()[bit / 8] |= static_cast<std::byte>(value << (7 - bit % 8));
  }
  return data;
}

void wipe_symbols(Symbols& words) { wipe(std::as_writable_bytes(std::span(words))); }

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

std::size_t distance(std::string_view a, std::string_view b) {
  std::vector<std::size_t> row(b.size() + 1);
  for (std::size_t j = 0; j <= b.size(); ++j) row[j] = j;
  for (std::size_t i = 1; i <= a.size(); ++i) {
    std::size_t diagonal = row[0];
    row[0] = i;
    for (std::size_t j = 1; j <= b.size(); ++j) {
      const std::size_t change = diagonal + (a[i - 1] == b[j - 1] ? 0 : 1);
      diagonal = row[j];
      row[j] = std::min({change, row[j] + 1, row[j - 1] + 1});
    }
  }
  return row.back();
}

std::string_view nearest(std::string_view token) {
  return *std::ranges::min_element(kWordList, {},
                                   [&](std::string_view word) { return distance(token, word); });
}

// The number of the word that `token` (lower case) is, or is cut from.
std::optional<Symbol> find_word(std::string_view token) {
  const auto* const found = std::ranges::lower_bound(kWordList, token);
  const bool is_it = found != kWordList.end() &&
                     (*found == token || (token.size() >= 4 && found->starts_with(token)));
  if (!is_it) return std::nullopt;
  return static_cast<Symbol>(found - kWordList.begin());
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

constexpr std::size_t kShownMax = 32;

Result<Symbols> read_words(std::string_view text) {
  const std::vector<std::string_view> tokens = tokens_of(text);
  Symbols words{};
  for (std::size_t i = 0; i < std::min(tokens.size(), kPaperWords); ++i) {
    const std::string token = lower(tokens[i].substr(0, kShownMax));
    const std::optional<Symbol> word = find_word(token);
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
  Symbols words = to_symbols(bits());
  std::vector<std::string_view> pieces;
  for (const Symbol word : words) {
    if (!pieces.empty()) pieces.emplace_back(" ");
    pieces.push_back(kWordList[word]);
  }
  wipe_symbols(words);
  return join(pieces);
}

Secret render_paper_key(const PaperKey& key, const AccountId& account) {
  constexpr std::size_t kPerLine = 5, kColumn = 14;
  Symbols words = to_symbols(key.bits());
  std::vector<std::string> numbers;
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
  wipe_symbols(words);
  return join(pieces);
}

Result<ParsedPaperKey> parse_paper_key(std::string_view text) {
  if (text.size() > kTextMax)
    return fail(Code::invalid, "paper key: this is no paper key, it is larger than 64 KiB");
  HF_ASSIGN(const std::optional<AccountId> account, account_of(text));
  HF_ASSIGN(const std::string_view part, words_part(text));
  HF_ASSIGN(Symbols words, read_words(part));
  const Secret data = from_symbols(words);
  const ByteSpan bits = data.span().first(kBitsSize);
  const bool holds =
      check_symbol(words) == words[kDataWords] && check_byte(bits) == data.span()[kBitsSize];
  wipe_symbols(words);
  if (!holds)
    return fail(
        Code::invalid,
        "paper key: the words do not fit together: one is another than on the paper, or two "
        "are swapped; compare each");
  return ParsedPaperKey{PaperKey::from_bits(Secret::copy_of(bits)), account};
}

}  // namespace holdfast
