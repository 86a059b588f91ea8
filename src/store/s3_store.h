// SPDX-License-Identifier: Apache-2.0
// Objects in a bucket of a service that speaks S3 (AWS, Ceph, MinIO and others): conditional PUT
// gives put-if-absent, and what was put is seen by every later get and list. One object is one PUT:
// the largest here (a pack) is far below the 5 GiB that one may have. In a bucket with object lock
// the oldest version of a key is the object: later ones and delete markers are whatever somebody
// did to it, and change nothing.
// docs/formats/repository.md, "Stores".
#pragma once

#include <atomic>
#include <functional>
#include <map>
#include <mutex>

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

// A version of a key, or a delete marker.
struct S3Version {
  std::string key, version;
  std::uint64_t size = 0;
  Time put{};
  bool marker = false;
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
  Result<StoreLock> lock() override;
  Result<> keep_until(std::string_view name, Time until) override;
  [[nodiscard]] unsigned parallel() const override { return http_.connections(); }

 private:
  struct Call;
  [[nodiscard]] std::string key(std::string_view name) const {
    return options_.place.prefix + std::string(name);
  }
  Result<HttpAnswer> send(const Call& call);
  Result<> expect_same(std::string_view name, ByteSpan bytes);
  template <class Page>
  Result<Page> read_page(std::string_view prefix, std::string query,
                         Result<Page> (*parse)(ByteSpan));
  [[nodiscard]] std::unexpected<Error> same_page_again(std::string_view prefix) const;
  // Pages of ListObjectsV2; `visit` gets full keys.
  Result<> list_keys(std::string_view prefix, const std::function<Result<>(ObjectInfo&)>& visit);
  // Every version and delete marker below a key's beginning, newest first for each key; false from
  // `visit` ends it.
  Result<> list_versions(std::string_view prefix,
                         const std::function<Result<bool>(const S3Version&)>& visit);
  // The query that names the object's version, "" in a bucket without lock. Code::not_found.
  Result<std::string> version_query(std::string_view name);
  Result<std::string> oldest_version(std::string_view name);
  void note_version(std::string_view name, const std::string& version);
  void forget_version(std::string_view name);
  // The path and query of the object, and the answer; a version that is gone is looked up anew.
  Result<HttpAnswer> send_to_object(Call call);
  Result<> keep_oldest(std::string_view name, ByteSpan bytes, std::string_view mine);
  Result<> remove_versions(std::string_view name);
  Result<> remove_version(std::string_view name, const std::string& version);
  Result<Time> kept_until(std::string_view name, const std::string& version);
  [[nodiscard]] std::string another_part(std::string_view name) const;
  [[nodiscard]] std::unexpected<Error> refused(const Call& call, const HttpAnswer& answer) const;

  HttpClient& http_;
  const S3Options options_;
  const SigV4 sign_;
  const std::string bucket_address_;
  std::atomic<bool> locking_{false};
  std::atomic<std::int64_t> service_time_ns_{0};  // the newest that it said
  std::mutex mutex_;
  std::map<std::string, std::string, std::less<>> oldest_;  // versions by name; some of them
};

// One page of ListObjectsV2, as the service gave it. Code::corrupt: no whole page.
struct S3Page {
  std::vector<ObjectInfo> objects;  // full keys, in the page's order
  std::string next;                 // continuation token; "" : this was the last page
};
Result<S3Page> parse_s3_page(ByteSpan xml);

// The same of ListObjectVersions.
struct S3VersionPage {
  std::vector<S3Version> versions;
  std::string next_key, next_version;  // "" : this was the last page
};
Result<S3VersionPage> parse_s3_version_page(ByteSpan xml);

}  // namespace holdfast
