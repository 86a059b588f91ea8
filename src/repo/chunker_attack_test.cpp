// SPDX-License-Identifier: Apache-2.0
// CHK-01: what is learned of a chunker's secret from files that are known and the lengths of their
// chunks. Truong et al., ePrint 2025/558; Alexeev, Percival, Zhang, ePrint 2025/532; restic issue
// 5291.
//
// The solver here is one for every chunker whose decision is linear over GF(2) (Rabin, buzhash,
// Toeplitz): "cut when k bits of the hash are zero" says that k secret linear forms vanish on the
// window before each cut. Some 512 known windows leave no other forms, whatever the hash is. For
// Rabin's fingerprint the coefficients of any such form are moreover a sequence of a shift register
// whose polynomial is the secret, so Berlekamp-Massey (Massey 1969) prints it.
#include <gtest/gtest.h>

#include <algorithm>
#include <bitset>
#include <optional>
#include <random>

#include "repo/chunker.h"
#include "repo/chunker_paths.h"

namespace holdfast {
namespace {

constexpr std::size_t kBits = 8 * kChunkWindow;
using Window = std::bitset<kBits>;  // bit i: the coefficient of x^i
constexpr ChunkerLimits kLimits{.min = 64, .max = 1U << 16, .average = 1024};

Bytes random_bytes(std::size_t size, std::mt19937_64& rng) {
  Bytes out(size);
  for (std::size_t i = 0; i + 8 <= size; i += 8) store_le(&out[i], rng());
  return out;
}

Window window_before(ByteSpan data, std::size_t end) {
  Window out;
  for (std::size_t back = 0; back < kChunkWindow; ++back) {
    const auto byte = std::to_integer<unsigned>(data[end - 1 - back]);
    for (std::size_t bit = 0; bit < 8; ++bit) out[8 * back + bit] = ((byte >> bit) & 1) != 0;
  }
  return out;
}

// What the attacker sees: the places of all cuts but the end of the file.
template <class Cut>
std::vector<std::size_t> cuts_of(ByteSpan data, const Cut& cut) {
  std::vector<std::size_t> out;
  for (std::size_t at = 0; at < data.size();) {
    const std::size_t length = cut(data.subspan(at));
    at += length;
    if (at < data.size() && length < kLimits.max) out.push_back(at);
  }
  return out;
}

// ---- the solver

// A basis of the forms that vanish on all `windows`, by elimination.
std::vector<Window> vanishing_forms(const std::vector<Window>& windows) {
  std::vector<Window> rows;         // reduced
  std::vector<std::size_t> pivots;  // of each row
  for (Window w : windows) {
    for (std::size_t r = 0; r < rows.size(); ++r)
      if (w[pivots[r]]) w ^= rows[r];
    if (w.none()) continue;
    std::size_t pivot = 0;
    while (!w[pivot]) ++pivot;
    for (Window& row : rows)
      if (row[pivot]) row ^= w;
    rows.push_back(w);
    pivots.push_back(pivot);
  }
  std::vector<Window> forms;
  for (std::size_t free = 0; free < kBits; ++free) {
    if (std::ranges::find(pivots, free) != pivots.end()) continue;
    Window form;
    form[free] = true;
    for (std::size_t r = 0; r < rows.size(); ++r) form[pivots[r]] = rows[r][free];
    forms.push_back(form);
  }
  return forms;
}

// The shortest recurrence of a sequence of bits: C, with C[0] = 1 and sum of C[i] * s[n - i] = 0.
std::vector<bool> shortest_recurrence(const Window& s) {
  std::vector<bool> c(kBits + 1), b(kBits + 1);
  c[0] = b[0] = true;
  std::size_t length = 0, since = 1;
  for (std::size_t n = 0; n < kBits; ++n, ++since) {
    bool wrong = s[n];
    for (std::size_t i = 1; i <= length; ++i) wrong ^= c[i] && s[n - i];
    if (!wrong) continue;
    const std::vector<bool> before = c;
    for (std::size_t i = since; i <= kBits; ++i) c[i] = c[i] ^ b[i - since];
    if (2 * length > n) continue;
    length = n + 1 - length;
    b = before;
    since = 0;
  }
  c.resize(length + 1);
  return c;
}

// The secret polynomial below x^64, if a form is a sequence of such a register.
std::optional<std::uint64_t> polynomial_of(const Window& form) {
  const std::vector<bool> c = shortest_recurrence(form);
  if (c.size() != 65) return std::nullopt;
  std::uint64_t low = 0;
  for (std::size_t i = 0; i < 64; ++i) low |= std::uint64_t{c[64 - i]} << i;
  return low;
}

struct Learned {
  std::vector<Window> forms;
  std::array<double, kBits> lean{};  // how much more often a bit is set before a cut
};

Learned learn(ByteSpan data, const std::vector<std::size_t>& cuts) {
  std::vector<Window> windows;
  for (const std::size_t cut : cuts) windows.push_back(window_before(data, cut));
  Learned out;
  out.forms = vanishing_forms(windows);
  // No form at all fits: take those that fit most of what was seen.
  if (out.forms.empty()) {
    windows.resize(kBits - 32);
    out.forms = vanishing_forms(windows);
  }
  for (const Window& w : windows)
    for (std::size_t i = 0; i < kBits; ++i) out.lean[i] += w[i] ? 1 : -1;
  return out;
}

double score(const Learned& learned, const Window& window) {
  double sum = 0;
  for (const Window& form : learned.forms) sum += ((form & window).count() & 1) == 0 ? 1 : 0;
  double lean = 0;
  for (std::size_t i = 0; i < kBits; ++i) lean += window[i] ? learned.lean[i] : 0;
  return sum + lean * 1e-6;  // decides between equals
}

// Probability that a cut scores above another place.
double auc(const Learned& learned, ByteSpan data, const std::vector<std::size_t>& cuts,
           std::mt19937_64& rng) {
  std::vector<double> others;
  for (int i = 0; i < 100; ++i) {
    const std::size_t at = kChunkWindow + rng() % (data.size() - kChunkWindow);
    if (std::ranges::find(cuts, at) == cuts.end())
      others.push_back(score(learned, window_before(data, at)));
  }
  double wins = 0;
  for (const std::size_t cut : cuts) {
    const double mine = score(learned, window_before(data, cut));
    for (const double other : others) wins += mine > other ? 1 : mine == other ? 0.5 : 0;
  }
  return wins / static_cast<double>(cuts.size() * others.size());
}

// ---- the planted chunker: Rabin's fingerprint decides by itself, as in restic before 0.18

struct WeakChunker {
  explicit WeakChunker(std::uint64_t low) : state(std::make_unique<chunking::State>()) {
    chunking::set_hash(*state, low);
  }
  [[nodiscard]] std::size_t operator()(ByteSpan data) const {
    const std::size_t end = std::min<std::size_t>(data.size(), kLimits.max);
    for (std::size_t from = kLimits.min; from + 1 < end; from += digests.size()) {
      const std::size_t count = std::min(digests.size(), end - from - 1);
      chunking::roll(*state, uchars(data) + from, count, digests.data());
      for (std::size_t i = 0; i < count; ++i)
        if (digests[i] % kLimits.average == 0) return from + i + 1;
    }
    return end;
  }
  std::unique_ptr<chunking::State> state;
  mutable std::array<std::uint64_t, 512> digests{};
};

std::uint64_t irreducible_polynomial(std::mt19937_64& rng) {
  for (;;)
    if (const std::uint64_t low = rng() | 1; chunking::irreducible(low)) return low;
}

constexpr std::size_t kKnownFile = 640 * (64 + 1024);
constexpr std::size_t kFreshFile = 40 * (64 + 1024);

TEST(ChunkerAttack, CHK_01_planted_rabin_chunker_gives_its_polynomial_away) {
  std::mt19937_64 rng(532);
  for (int trial = 0; trial < 5; ++trial) {
    const std::uint64_t secret = irreducible_polynomial(rng);
    const WeakChunker weak(secret);
    const Bytes known = random_bytes(kKnownFile, rng);
    const Learned learned = learn(known, cuts_of(known, weak));
    ASSERT_EQ(learned.forms.size(), 10U);  // log2 of the average
    for (const Window& form : learned.forms) EXPECT_EQ(polynomial_of(form), secret);
    // With it, all cuts of a file that was never seen are known.
    const Bytes fresh = random_bytes(kFreshFile, rng);
    const auto cuts = cuts_of(fresh, weak);
    EXPECT_EQ(cuts_of(fresh, WeakChunker(*polynomial_of(learned.forms[0]))), cuts);
    EXPECT_GT(auc(learned, fresh, cuts, rng), 0.999);
  }
}

TEST(ChunkerAttack, CHK_01_the_same_solver_learns_nothing_of_ours) {
  std::mt19937_64 rng(558);
  double sum = 0;
  constexpr int trials = 200;
  for (int trial = 0; trial < trials; ++trial) {
    const Chunker chunker(random_bytes(32, rng), ChunkerPath::automatic, kLimits);
    const auto cut = [&](ByteSpan data) { return chunker.cut(data); };
    const Bytes known = random_bytes(kKnownFile, rng);
    const Learned learned = learn(known, cuts_of(known, cut));
    EXPECT_FALSE(learned.forms.empty());
    EXPECT_EQ(polynomial_of(learned.forms[0]), std::nullopt);
    const Bytes fresh = random_bytes(kFreshFile, rng);
    sum += auc(learned, fresh, cuts_of(fresh, cut), rng);
  }
  const double mean = sum / trials;
  RecordProperty("auc", std::to_string(mean));
  EXPECT_LT(mean, 0.55);
  EXPECT_GT(mean, 0.45);
}

}  // namespace
}  // namespace holdfast
