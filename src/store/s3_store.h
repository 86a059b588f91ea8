// SPDX-License-Identifier: Apache-2.0
// Objects in a bucket of a service that speaks S3 (AWS, Ceph, MinIO and others): conditional PUT
// gives put-if-absent, and what was put is seen by every later get and list. One object is one PUT:
// the largest here (a pack) is far below the 5 GiB that one may have.
// docs/formats/repository.md, "Stores".
#pragma once

#include <functional>

#include "net/http.h"
#include "store/object_store.h"

namespace holdfast {

// As it is written: s3:https://HOST[:PORT]/BUCKET[/PREFIX] or s3://BUCKET[/PREFIX] (AWS).
struct S3Place {
  std::string endpoint;  // "https://host:port"; "" : AWS, by region
  std::string bucket;
  std::string prefix;  // "" or an object name and '/'
  // Code::invalid says what is expected.
  static Result<S3Place> parse(std::string_view text);
};

struct S3Credentials {
  std::string access_key, secret_key;
  std::string session_token;  // "" : none
};

struct S3Options {
  S3Place place;
  S3Credentials credentials;
  std::string region = "us-east-1";
  bool virtual_host = false;  // the bucket is part of the host's name, not of the path
};

class S3Store final : public ObjectStore {
 public:
  // `http` must outlive it. Nothing is sent before the first call.
  S3Store(HttpClient& http, S3Options options);

  // Beside ObjectStore's own: Code::denied: keys, clock, rights, a bucket that is not there, or no
  // conditional PUT; Code::unavailable: anything that trying again may mend.
  Result<> put(std::string_view name, ByteSpan bytes) override;
  Result<Bytes> get(std::string_view name, std::uint64_t size_max) override;
  Result<> get_range(std::string_view name, std::uint64_t offset, MutableByteSpan out) override;
  Result<std::uint64_t> size(std::string_view name) override;
  Result<Tail> get_tail(std::string_view name, std::size_t most) override;
  Result<> list(std::string_view prefix,
                const std::function<Result<>(const ObjectInfo&)>& visit) override;
  Result<> remove(std::string_view name) override;
  [[nodiscard]] unsigned parallel() const override { return http_.connections(); }

 private:
  struct Call;
  [[nodiscard]] std::string key(std::string_view name) const {
    return options_.place.prefix + std::string(name);
  }
  Result<HttpAnswer> send(const Call& call);
  Result<> expect_same(std::string_view name, ByteSpan bytes);
  [[nodiscard]] std::string another_part(std::string_view name) const;
  [[nodiscard]] std::unexpected<Error> refused(const Call& call, const HttpAnswer& answer) const;

  HttpClient& http_;
  const S3Options options_;
  const SigV4 sign_;
  const std::string bucket_address_;
};

// One page of ListObjectsV2, as the service gave it. Code::corrupt: no whole page.
struct S3Page {
  std::vector<ObjectInfo> objects;  // full keys, in the page's order
  std::string next;                 // continuation token; "" : this was the last page
};
Result<S3Page> parse_s3_page(ByteSpan xml);

}  // namespace holdfast
