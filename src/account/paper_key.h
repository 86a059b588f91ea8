// SPDX-License-Identifier: Apache-2.0
// The paper key: 256 random bits as 25 words. docs/formats/account.md, "Paper key".
#pragma once

#include <optional>
#include <string>

#include "account/words.h"
#include "base/id.h"
#include "seal/secret.h"

namespace holdfast {

class PaperKey {
 public:
  static PaperKey generate(Random& random);
  // `bits`: 32 bytes.
  static PaperKey from_bits(Secret bits) { return PaperKey(std::move(bits)); }
  [[nodiscard]] PaperKey clone() const { return PaperKey(bits_.clone()); }
  [[nodiscard]] ByteSpan bits() const { return bits_.span(); }

  // Derived, 32 bytes each.
  [[nodiscard]] Secret symmetric() const;    // stands for the account secret in its slot
  [[nodiscard]] Secret open_secret() const;  // X25519
  [[nodiscard]] Secret sign_seed() const;    // Ed25519

  // 25 words with single spaces.
  [[nodiscard]] Secret words() const;

 private:
  explicit PaperKey(Secret bits) : bits_(std::move(bits)) {}
  Secret bits_;
};

// A page to print: what it is, whose it is, the words, numbered.
Secret render_paper_key(const PaperKey& key, const AccountId& account);

struct ParsedPaperKey {
  PaperKey key;
  std::optional<AccountId> account;  // as the page says; compare it with the chain's
};

// The words alone, or a page that holds them. Any case, spaces, line breaks, numbers ("3. word"),
// and words cut to four letters or more. Code::invalid names the position and what is wrong; no
// changed word and no two swapped ones are accepted.
Result<ParsedPaperKey> parse_paper_key(std::string_view text);

}  // namespace holdfast
