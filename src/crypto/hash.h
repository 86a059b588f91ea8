// SPDX-License-Identifier: Apache-2.0
// SHA-256 (FIPS 180-4), HMAC-SHA-256 (RFC 2104) and HKDF-SHA-256 (RFC 5869) over OpenSSL;
// SipHash-2-4 over libsodium. Algorithms are fetched once for the process; objects here are cheap
// to use many times, each by one thread at a time.
#pragma once

#include <memory>

#include "base/id.h"

namespace holdfast {

class Sha256 {
 public:
  Sha256();
  ~Sha256();
  Sha256(Sha256&&) noexcept;
  Sha256& operator=(Sha256&&) noexcept;
  void update(ByteSpan bytes);
  Hash256 finish();  // and starts anew

 private:
  struct Impl;
  std::unique_ptr<Impl> impl_;
};

Hash256 sha256(ByteSpan bytes);

// RFC 1321 in base64, for the header Content-MD5 (RFC 1864), which S3 asks for where it is to lock
// something. A checksum: nothing rests on it.
std::string content_md5(ByteSpan bytes);

// Keyed once; each call absorbs `prefix` and `message` and gives the tag. The key's state is
// computed once.
class HmacSha256 {
 public:
  explicit HmacSha256(ByteSpan key);
  ~HmacSha256();
  HmacSha256(HmacSha256&&) noexcept;
  HmacSha256& operator=(HmacSha256&&) noexcept;
  HmacSha256(const HmacSha256& other);
  HmacSha256& operator=(const HmacSha256& other) = delete;
  Hash256 tag(ByteSpan prefix, ByteSpan message);

 private:
  struct Impl;
  std::unique_ptr<Impl> impl_;
};

// HKDF with an empty salt. out.size() <= 255 * 32.
void hkdf_sha256(ByteSpan key, ByteSpan info, MutableByteSpan out);

// SipHash-2-4 (64-bit output) over libsodium. key: 16 bytes.
std::uint64_t siphash(ByteSpan key, ByteSpan message);

// Constant time; false when lengths differ.
[[nodiscard]] bool equal_secret(ByteSpan a, ByteSpan b);

}  // namespace holdfast
