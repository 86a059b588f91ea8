// SPDX-License-Identifier: Apache-2.0
// A device's keys, and the file in the home that keeps them (keys/device).
// docs/formats/account.md, "Key file".
#pragma once

#include <optional>
#include <string>

#include "base/id.h"
#include "seal/passphrase.h"
#include "seal/secret.h"
#include "seal/signer.h"
#include "seal/x25519.h"

namespace holdfast {

struct DeviceKeys {
  AccountId account;
  DeviceId id;  // follows from the keys
  std::string name;
  Secret sign_seed;     // Ed25519
  Secret open_secret;   // X25519
  Secret start_secret;  // what stood for the account secret when its first slot was wrapped
  [[nodiscard]] DeviceKeys clone() const {
    return {account, id, name, sign_seed.clone(), open_secret.clone(), start_secret.clone()};
  }
  [[nodiscard]] DeviceSigner signer() const { return DeviceSigner(sign_seed.span()); }
  [[nodiscard]] X25519Key opener() const { return X25519Key(open_secret.clone()); }
};

inline constexpr std::size_t kKeyFileMax = 1024;

// Without a passphrase: whoever reads the file (mode 0600) has the keys.
Secret plain_key_file(const DeviceKeys& keys);
// Code::invalid or Code::full: from passphrase_key().
Result<Bytes> sealed_key_file(const DeviceKeys& keys, std::string_view passphrase,
                              const PassphraseParameters& parameters);
// Whether a passphrase must be asked for. False for what is no key file at all: open says so.
[[nodiscard]] bool key_file_needs_passphrase(ByteSpan file);
// Code::denied: wrong passphrase, or changed bytes (one text for both, whatever byte it was), or a
// passphrase is needed and there is none. Code::invalid: parameters outside the compiled limits.
Result<DeviceKeys> open_key_file(ByteSpan file, std::optional<std::string_view> passphrase);

}  // namespace holdfast
