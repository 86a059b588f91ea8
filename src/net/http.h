// SPDX-License-Identifier: Apache-2.0
// HTTP requests over libcurl: one connection a call, kept for the next one. Blocking; every caller
// brings its own thread.
#pragma once

#include <condition_variable>
#include <memory>
#include <mutex>
#include <optional>
#include <string>
#include <vector>

#include "base/bytes.h"
#include "base/world.h"

namespace holdfast {

// Bytes a second, of all connections together; 0: no limit.
struct RateLimits {
  std::uint64_t upload = 0, download = 0;
};

struct HttpOptions {
  std::string ca_file{};     // certificates to trust instead of the system's; "" : the system's
  unsigned connections = 8;  // at most that many requests at once; more wait
  RateLimits rates{};
  // Seconds: until connected, and without one byte before the request is given up.
  long connect_timeout = 20, stall_timeout = 60;
};

// Signs with AWS Signature Version 4 (docs.aws.amazon.com, "Signature Version 4 for API requests").
struct SigV4 {
  std::string access_key, secret_key, region, service;
};

struct HttpRequest {
  std::string_view method;
  std::string url;
  std::vector<std::string> headers{};  // "name: value"
  ByteSpan body{};
  std::uint64_t answer_max = 0;  // bytes of the body of a successful answer
  const SigV4* sign = nullptr;
};

struct HttpAnswer {
  long status = 0;
  Bytes body;
  // Of the last header with that name (no case), or none.
  [[nodiscard]] std::optional<std::string_view> header(std::string_view name) const;
  std::vector<std::pair<std::string, std::string>> headers;
  // When it was given, by the server's clock (Date; RFC 9110, 6.6.1), or none.
  [[nodiscard]] std::optional<Time> date() const;
};

class HttpClient {
 public:
  // `clock` must outlive it.
  HttpClient(HttpOptions options, Clock& clock);
  ~HttpClient();
  HttpClient(const HttpClient&) = delete;
  HttpClient& operator=(const HttpClient&) = delete;
  // Any whole answer is Ok, of every status; redirects are not followed. Code::unavailable: no
  // connection, cut off, stalled; Code::denied: the server's certificate is not trusted;
  // Code::corrupt: the answer is longer than answer_max; Code::invalid: no such kind of address.
  Result<HttpAnswer> send(const HttpRequest& request);
  [[nodiscard]] unsigned connections() const { return options_.connections; }

 private:
  class Lease;
  class Exchange;
  class Pace;

  const HttpOptions options_;
  std::mutex mutex_;
  std::condition_variable free_one_;
  unsigned made_ = 0;
  std::vector<void*> idle_;  // CURL handles
  std::unique_ptr<Pace> up_, down_;
};

}  // namespace holdfast
