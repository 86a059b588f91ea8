// SPDX-License-Identifier: Apache-2.0
#include "net/http.h"

#include <curl/curl.h>
#include <fmt/format.h>

#include <algorithm>
#include <cassert>
#include <cstring>
#include <ctime>

namespace holdfast {

namespace {

// What an error's answer says is shown to people, not kept.
constexpr std::uint64_t kErrorAnswerMax = 64U << 10;
constexpr std::size_t kHeadersMax = 100;
constexpr long kRedirection = 300;

struct FreeList {
  void operator()(curl_slist* list) const { curl_slist_free_all(list); }
};
using HeaderList = std::unique_ptr<curl_slist, FreeList>;

HeaderList header_list(const std::vector<std::string>& headers) {
  HeaderList list;
  for (const std::string& header : headers)
    list.reset(curl_slist_append(list.release(), header.c_str()));
  return list;
}

void start_curl() {
  static const CURLcode started = curl_global_init(CURL_GLOBAL_DEFAULT);
  assert(started == CURLE_OK);
  (void)started;
}

Code code_of(CURLcode error) {
  switch (error) {
    case CURLE_PEER_FAILED_VERIFICATION:
    case CURLE_SSL_CACERT_BADFILE:
    case CURLE_SSL_ISSUER_ERROR:
    case CURLE_SSL_CERTPROBLEM:
      return Code::denied;
    case CURLE_URL_MALFORMAT:
    case CURLE_UNSUPPORTED_PROTOCOL:
      return Code::invalid;
    default:
      return Code::unavailable;
  }
}

}  // namespace

std::optional<Time> HttpAnswer::date() const {
  const std::string text(header("date").value_or(""));
  const std::time_t seconds = curl_getdate(text.c_str(), nullptr);
  if (seconds < 0) return std::nullopt;
  return Time{std::int64_t{seconds} * 1'000'000'000};
}

std::optional<std::string_view> HttpAnswer::header(std::string_view name) const {
  for (auto at = headers.rbegin(); at != headers.rend(); ++at)
    if (at->first.size() == name.size() &&
        ::strncasecmp(at->first.data(), name.data(), name.size()) == 0)
      return at->second;
  return std::nullopt;
}

// One rate for all connections: each piece waits for its turn, so that pauses stay short.
class HttpClient::Pace {
 public:
  Pace(std::uint64_t rate, Clock& clock) : rate_(rate), clock_(clock) {}
  // Pieces small enough that several connections share the rate evenly.
  [[nodiscard]] std::size_t piece() const {
    return static_cast<std::size_t>(std::clamp<std::uint64_t>(rate_ / 20, 1024, 64U << 10));
  }
  void wait_for(std::size_t bytes) {
    std::int64_t pause_ns = 0;
    {
      const std::lock_guard lock(mutex_);
      const std::int64_t now = clock_.steady_ns();
      next_ns_ = std::max(next_ns_, now);
      pause_ns = next_ns_ - now;
      next_ns_ +=
          static_cast<std::int64_t>(static_cast<double>(bytes) * 1e9 / static_cast<double>(rate_));
    }
    if (pause_ns > 0) clock_.sleep_ns(pause_ns);
  }

 private:
  const std::uint64_t rate_;
  Clock& clock_;
  std::mutex mutex_;
  std::int64_t next_ns_ = 0;
};

// A handle for one request; curl keeps the connection in it.
class HttpClient::Lease {
 public:
  explicit Lease(HttpClient& client) : client_(client) {
    std::unique_lock lock(client.mutex_);
    client.free_one_.wait(
        lock, [&] { return !client.idle_.empty() || client.made_ < client.options_.connections; });
    if (client.idle_.empty()) {
      handle_ = curl_easy_init();
      assert(handle_ != nullptr);
      ++client.made_;
    } else {
      handle_ = client.idle_.back();
      client.idle_.pop_back();
    }
  }
  Lease(const Lease&) = delete;
  Lease& operator=(const Lease&) = delete;
  ~Lease() {
    curl_easy_reset(handle_);
    const std::lock_guard lock(client_.mutex_);
    client_.idle_.push_back(handle_);
    client_.free_one_.notify_one();
  }
  [[nodiscard]] CURL* handle() const { return handle_; }

 private:
  HttpClient& client_;
  CURL* handle_ = nullptr;
};

// The state of one request that curl's callbacks share.
class HttpClient::Exchange {
 public:
  Exchange(HttpClient& client, CURL* handle, const HttpRequest& request)
      : client_(client), handle_(handle), request_(request) {}

  Result<HttpAnswer> run() {
    const HeaderList headers = header_list(request_.headers);
    set_transport();
    set_request(headers.get());
    std::array<char, CURL_ERROR_SIZE> text{};
    set(CURLOPT_ERRORBUFFER, text.data());
    const CURLcode error = curl_easy_perform(handle_);
    if (too_long_)
      return fail(Code::corrupt, fmt::format("the answer is longer than the {} bytes expected",
                                             request_.answer_max));
    if (error != CURLE_OK)
      return fail(code_of(error), text[0] != 0 ? text.data() : curl_easy_strerror(error));
    curl_easy_getinfo(handle_, CURLINFO_RESPONSE_CODE, &answer_.status);
    take_headers();
    return std::move(answer_);
  }

 private:
  template <class T>
  void set(CURLoption option, T value) {
    // NOLINTNEXTLINE(cppcoreguidelines-pro-type-vararg): curl's only interface
    [[maybe_unused]] const CURLcode done = curl_easy_setopt(handle_, option, value);
    assert(done == CURLE_OK);
  }

  void set_transport() {
    set(CURLOPT_NOSIGNAL, 1L);
    // Several connections carry more than several streams of one, and end apart.
    set(CURLOPT_HTTP_VERSION, static_cast<long>(CURL_HTTP_VERSION_1_1));
    set(CURLOPT_SSLVERSION, static_cast<long>(CURL_SSLVERSION_TLSv1_2));
    set(CURLOPT_TCP_KEEPALIVE, 1L);
    set(CURLOPT_CONNECTTIMEOUT, client_.options_.connect_timeout);
    set(CURLOPT_LOW_SPEED_LIMIT, 1L);
    set(CURLOPT_LOW_SPEED_TIME, client_.options_.stall_timeout);
    set(CURLOPT_USERAGENT, "holdfast");
    set(CURLOPT_BUFFERSIZE, 256L << 10);
    if (!client_.options_.ca_file.empty()) set(CURLOPT_CAINFO, client_.options_.ca_file.c_str());
  }

  void set_request(curl_slist* headers) {
    [[maybe_unused]] const CURLcode known =
        curl_easy_setopt(handle_, CURLOPT_PROTOCOLS_STR, "http,https");
    assert(known == CURLE_OK);
    set(CURLOPT_URL, request_.url.c_str());
    set(CURLOPT_PATH_AS_IS, 1L);
    set(CURLOPT_HTTPHEADER, headers);
    set(CURLOPT_WRITEFUNCTION, &Exchange::on_answer);
    set(CURLOPT_WRITEDATA, this);
    if (request_.method == "HEAD") set(CURLOPT_NOBODY, 1L);
    if (request_.method == "PUT") set_upload();
    if (request_.method == "DELETE") set(CURLOPT_CUSTOMREQUEST, "DELETE");
    if (request_.sign == nullptr) return;
    const SigV4& sign = *request_.sign;
    set(CURLOPT_AWS_SIGV4, fmt::format("aws:amz:{}:{}", sign.region, sign.service).c_str());
    set(CURLOPT_USERNAME, sign.access_key.c_str());
    set(CURLOPT_PASSWORD, sign.secret_key.c_str());
  }

  void set_upload() {
    // As curl's POST: its PUT asks before it sends ("Expect: 100-continue") even one byte, which is
    // one more journey; this asks from 1 MiB on, where it may save the upload of what is refused.
    set(CURLOPT_POST, 1L);
    set(CURLOPT_CUSTOMREQUEST, "PUT");
    set(CURLOPT_POSTFIELDSIZE_LARGE, static_cast<curl_off_t>(request_.body.size()));
    set(CURLOPT_READFUNCTION, &Exchange::on_body);
    set(CURLOPT_READDATA, this);
    set(CURLOPT_SEEKFUNCTION, &Exchange::on_seek);
    set(CURLOPT_SEEKDATA, this);
    set(CURLOPT_UPLOAD_BUFFERSIZE, 256L << 10);
  }

  static std::size_t on_body(char* to, std::size_t size, std::size_t count, void* self) {
    Exchange& e = *static_cast<Exchange*>(self);
    std::size_t n = std::min(size * count, e.request_.body.size() - e.sent_);
    if (e.client_.up_ && n > 0) {
      n = std::min(n, e.client_.up_->piece());
      e.client_.up_->wait_for(n);
    }
    if (n > 0) std::memcpy(to, e.request_.body.data() + e.sent_, n);
    e.sent_ += n;
    return n;
  }

  // A kept connection was closed by the other end: curl sends again on a new one.
  static int on_seek(void* self, curl_off_t offset, int origin) {
    Exchange& e = *static_cast<Exchange*>(self);
    if (origin != SEEK_SET || offset < 0 ||
        static_cast<std::uint64_t>(offset) > e.request_.body.size())
      return CURL_SEEKFUNC_FAIL;
    e.sent_ = static_cast<std::size_t>(offset);
    return CURL_SEEKFUNC_OK;
  }

  static std::size_t on_answer(char* from, std::size_t size, std::size_t count, void* self) {
    Exchange& e = *static_cast<Exchange*>(self);
    const std::size_t n = size * count;
    if (e.client_.down_) e.client_.down_->wait_for(n);
    long status = 0;
    curl_easy_getinfo(e.handle_, CURLINFO_RESPONSE_CODE, &status);
    const bool success = status < kRedirection;
    const std::uint64_t max = success ? e.request_.answer_max : kErrorAnswerMax;
    if (e.answer_.body.size() + n > max) {
      // Of a long error its beginning is enough.
      if (!success) return n;
      e.too_long_ = true;
      return 0;
    }
    const ByteSpan piece = std::as_bytes(std::span(from, n));
    e.answer_.body.insert(e.answer_.body.end(), piece.begin(), piece.end());
    return n;
  }

  void take_headers() {
    curl_header* header = nullptr;
    while (answer_.headers.size() < kHeadersMax &&
           (header = curl_easy_nextheader(handle_, CURLH_HEADER, -1, header)) != nullptr)
      answer_.headers.emplace_back(header->name, header->value);
  }

  HttpClient& client_;
  CURL* const handle_;
  const HttpRequest& request_;
  HttpAnswer answer_;
  std::size_t sent_ = 0;
  bool too_long_ = false;
};

HttpClient::HttpClient(HttpOptions options, Clock& clock) : options_(std::move(options)) {
  start_curl();
  if (options_.rates.upload > 0) up_ = std::make_unique<Pace>(options_.rates.upload, clock);
  if (options_.rates.download > 0) down_ = std::make_unique<Pace>(options_.rates.download, clock);
}

HttpClient::~HttpClient() {
  assert(idle_.size() == made_);
  for (void* handle : idle_) curl_easy_cleanup(handle);
}

Result<HttpAnswer> HttpClient::send(const HttpRequest& request) {
  const Lease lease(*this);
  return Exchange(*this, lease.handle(), request).run();
}

}  // namespace holdfast
