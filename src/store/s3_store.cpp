// SPDX-License-Identifier: Apache-2.0
#include "store/s3_store.h"

#include <fmt/format.h>

#include <algorithm>
#include <charconv>
#include <ctime>
#include <limits>
#include <pugixml.hpp>

#include "crypto/hash.h"

namespace holdfast {

namespace {

constexpr std::uint64_t kPageMax = 8U << 20;   // 1000 keys of 1 KiB, escaped
constexpr std::size_t kOldestKept = 1U << 16;  // versions in memory, about 150 bytes each
constexpr std::int64_t kSecond = 1'000'000'000;
constexpr long kOk = 200, kNoContent = 204, kPartial = 206, kBadRequest = 400, kNotFound = 404,
               kConflict = 409, kPreconditionFailed = 412, kRangeNotSatisfiable = 416,
               kTooMany = 429, kTimeout = 408, kNotImplemented = 501, kServerErrors = 500,
               kNoSpace = 507;

std::unexpected<Error> bad_place(std::string_view text, std::string_view why) {
  return fail(Code::invalid,
              fmt::format("repository '{}': {}; expected s3:https://HOST[:PORT]/BUCKET[/PREFIX], "
                          "or s3://BUCKET[/PREFIX] for AWS",
                          escaped(text), why));
}

// RFC 3986 unreserved as they are. SigV4 wants exactly this form in a query.
std::string percent(std::string_view text) {
  std::string out;
  for (const char c : text) {
    const auto byte = static_cast<unsigned char>(c);
    if (std::isalnum(byte) != 0 || std::string_view("-._~").contains(c))
      out += c;
    else
      out += fmt::format("%{:02X}", byte);
  }
  return out;
}

Result<std::string> from_percent(std::string_view text) {
  std::string out;
  for (std::size_t at = 0; at < text.size(); ++at) {
    if (text[at] != '%') {
      out += text[at];
      continue;
    }
    std::array<std::byte, 1> byte{};
    std::string digits(text.substr(at + 1, 2));
    std::ranges::transform(digits, digits.begin(), [](unsigned char c) { return std::tolower(c); });
    if (!from_hex(digits, byte)) return fail(Code::corrupt, "a key has a '%' without two digits");
    out += static_cast<char>(byte[0]);
    at += 2;
  }
  return out;
}

// AWS's rule for names of buckets, as far as a path needs it.
bool bucket_name(std::string_view name) {
  return name.size() >= 3 && name.size() <= 63 && std::ranges::all_of(name, [](char c) {
           return (c >= 'a' && c <= 'z') || (c >= '0' && c <= '9') || c == '-' || c == '.';
         });
}

// With '/' behind it; keys follow.
std::string bucket_address(const S3Options& options) {
  std::string endpoint = options.place.endpoint;
  bool virtual_host = options.virtual_host;
  if (endpoint.empty()) {
    endpoint = fmt::format("https://s3.{}.amazonaws.com", options.region);
    // A certificate for *.s3… holds one label.
    virtual_host = options.place.bucket.find('.') == std::string::npos;
  }
  if (!virtual_host) return fmt::format("{}/{}/", endpoint, options.place.bucket);
  const std::size_t host = endpoint.find("://") + 3;
  return fmt::format("{}{}.{}/", endpoint.substr(0, host), options.place.bucket,
                     endpoint.substr(host));
}

// The <Code> and <Message> of an error, or nothing.
struct S3Fault {
  std::string code, message;
};
S3Fault parse_fault(ByteSpan xml) {
  pugi::xml_document document;
  if (!document.load_buffer(xml.data(), xml.size())) return {};
  const pugi::xml_node error = document.child("Error");
  return {escaped(error.child_value("Code")), escaped(error.child_value("Message"))};
}

std::string_view advice(std::string_view code) {
  if (code == "NoSuchBucket") return "make the bucket first, or name another one";
  if (code == "SignatureDoesNotMatch" || code == "InvalidAccessKeyId")
    return "check AWS_ACCESS_KEY_ID and AWS_SECRET_ACCESS_KEY";
  if (code == "ExpiredToken" || code == "InvalidToken")
    return "the session token is over: get a new one";
  if (code == "RequestTimeTooSkewed") return "set this machine's clock";
  if (code == "PermanentRedirect" || code == "AuthorizationHeaderMalformed" ||
      code == "IllegalLocationConstraintException")
    return "the bucket is in another region: set AWS_REGION, or 'region' under [s3] in config.toml";
  if (code == "AccessDenied") return "the key has no right to do this on this bucket";
  return "the service refused";
}

bool may_pass(long status) {
  return status == kTimeout || status == kConflict || status == kTooMany ||
         (status >= kServerErrors && status != kNotImplemented && status != kNoSpace);
}

Code code_of(long status, std::string_view code) {
  // Named faults first: services disagree on their numbers.
  if (code == "QuotaExceeded" || status == kNoSpace) return Code::full;
  if (code == "RequestTimeout" || code == "SlowDown") return Code::unavailable;
  if (status == kNotFound && code != "NoSuchBucket") return Code::not_found;
  return may_pass(status) ? Code::unavailable : Code::denied;
}

Result<std::uint64_t> number(std::string_view text) {
  std::uint64_t value = 0;
  const auto [end, error] = std::from_chars(text.data(), text.data() + text.size(), value);
  if (error != std::errc{} || end != text.data() + text.size() || text.empty())
    return fail(Code::corrupt, "no number");
  return value;
}

// "2026-11-26T18:13:45.003Z", ISO 8601 in UTC, with or without a fraction of a second.
Result<Time> time_of(std::string_view text) {
  std::tm utc{};
  const std::string whole(text);
  const char* rest = ::strptime(whole.c_str(), "%Y-%m-%dT%H:%M:%S", &utc);
  if (rest == nullptr) return fail(Code::corrupt, "no time");
  std::string_view end(rest);
  std::int64_t fraction = 0;
  if (end.starts_with('.')) {
    end.remove_prefix(1);
    for (std::int64_t unit = kSecond / 10; !end.empty() && end[0] >= '0' && end[0] <= '9';
         unit /= 10, end.remove_prefix(1))
      fraction += unit * (end[0] - '0');
  }
  if (end != "Z") return fail(Code::corrupt, "no time");
  return Time{::timegm(&utc) * kSecond + fraction};
}

// Whole seconds, up.
std::string text_of(Time time) {
  const std::time_t seconds = time.ns / kSecond + (time.ns % kSecond > 0 ? 1 : 0);
  std::tm utc{};
  ::gmtime_r(&seconds, &utc);
  std::array<char, 32> text{};
  return {text.data(), std::strftime(text.data(), text.size(), "%Y-%m-%dT%H:%M:%SZ", &utc)};
}

bool says_that_it_locks(ByteSpan xml) {
  pugi::xml_document document;
  if (!document.load_buffer(xml.data(), xml.size())) return false;
  return std::string_view(
             document.child("ObjectLockConfiguration").child_value("ObjectLockEnabled")) ==
         "Enabled";
}

}  // namespace

Result<S3Place> S3Place::parse(std::string_view text) {
  std::string_view rest = text;
  if (!rest.starts_with("s3:")) return bad_place(text, "no s3: in front");
  rest.remove_prefix(3);
  S3Place place;
  if (rest.starts_with("//")) {
    rest.remove_prefix(2);
  } else {
    const std::size_t scheme = rest.starts_with("https://")  ? 8
                               : rest.starts_with("http://") ? 7
                                                             : 0;
    if (scheme == 0) return bad_place(text, "neither https:// nor http:// nor // follows");
    const std::size_t slash = rest.find('/', scheme);
    if (slash == std::string_view::npos || slash == scheme)
      return bad_place(text, "the host or the bucket is missing");
    place.endpoint = rest.substr(0, slash);
    if (place.endpoint.find_first_of("@?# ") != std::string::npos)
      return bad_place(text, "the host holds '@', '?', '#' or a space");
    rest.remove_prefix(slash + 1);
  }
  while (rest.ends_with('/')) rest.remove_suffix(1);
  const std::size_t slash = rest.find('/');
  place.bucket = rest.substr(0, slash);
  if (!bucket_name(place.bucket)) return bad_place(text, "no name of a bucket");
  if (slash == std::string_view::npos) return place;
  place.prefix = std::string(rest.substr(slash + 1));
  if (auto rule = check_object_name(place.prefix); !rule)
    return bad_place(text, "the prefix: " + rule.error().what);
  place.prefix += '/';
  return place;
}

struct S3Store::Call {
  std::string_view method;
  std::string_view name;  // for messages
  std::string path;       // behind bucket_address_: a key, or a query
  std::vector<std::string> headers{};
  ByteSpan body{};
  std::uint64_t answer_max = 0;
};

S3Store::S3Store(HttpClient& http, S3Options options)
    : http_(http),
      options_(std::move(options)),
      sign_{options_.credentials.access_key, options_.credentials.secret_key, options_.region,
            "s3"},
      bucket_address_(bucket_address(options_)) {}

Result<HttpAnswer> S3Store::send(const Call& call) {
  HttpRequest request{.method = call.method,
                      .url = bucket_address_ + call.path,
                      .headers = call.headers,
                      .body = call.body,
                      .answer_max = call.answer_max,
                      .sign = &sign_};
  request.headers.push_back("x-amz-content-sha256: " + sha256(call.body).hex());
  if (!options_.credentials.session_token.empty())
    request.headers.push_back("x-amz-security-token: " + options_.credentials.session_token);
  auto answer = http_.send(request);
  if (!answer)
    return wrap(std::move(answer).error(),
                fmt::format("{} {} ({})", call.method, escaped(call.name), options_.place.bucket));
  if (const auto date = answer->date()) service_time_ns_ = date->ns;
  return answer;
}

Result<HttpAnswer> S3Store::send_to_object(Call call) {
  for (bool again = false;; again = true) {
    HF_ASSIGN(const std::string version, version_query(call.name));
    call.path = key(call.name) + version;
    HF_ASSIGN(HttpAnswer answer, send(call));
    if (answer.status != kNotFound || version.empty() || again) return answer;
    forget_version(call.name);
  }
}

std::unexpected<Error> S3Store::refused(const Call& call, const HttpAnswer& answer) const {
  const S3Fault fault = parse_fault(answer.body);
  const Code code = code_of(answer.status, fault.code);
  const std::string_view what = code == Code::not_found     ? "there is no such object"
                                : code == Code::unavailable ? "the service did not do it"
                                : code == Code::full        ? "the bucket is full"
                                                            : advice(fault.code);
  return fail(code,
              fmt::format("{} {} (bucket {}): HTTP {}{}{}{}{}: {}", call.method, escaped(call.name),
                          options_.place.bucket, answer.status, fault.code.empty() ? "" : " ",
                          fault.code, fault.message.empty() ? "" : ", ", fault.message, what));
}

Result<> S3Store::put(std::string_view name, ByteSpan bytes) {
  HF_TRY(check_object_name(name));
  Call call{.method = "PUT",
            .name = name,
            .path = key(name),
            .headers = {"If-None-Match: *", "Content-Type: application/octet-stream"},
            .body = bytes,
            .answer_max = kPageMax};
  if (locking_) call.headers.push_back("Content-MD5: " + content_md5(bytes));  // AWS asks for it
  HF_ASSIGN(const HttpAnswer answer, send(call));
  if (answer.status == kOk)
    return locking_ ? keep_oldest(name, bytes, answer.header("x-amz-version-id").value_or(""))
                    : Result<>();
  if (answer.status == kPreconditionFailed) return expect_same(name, bytes);
  if (answer.status == kNotImplemented)
    return fail(Code::denied,
                fmt::format("put {} (bucket {}): this service has no conditional PUT "
                            "(If-None-Match), without which two devices could overwrite each "
                            "other; use another service",
                            escaped(name), options_.place.bucket));
  return refused(call, answer);
}

// Somebody else put it, or we did and the answer was lost.
Result<> S3Store::expect_same(std::string_view name, ByteSpan bytes) {
  auto there = get(name, bytes.size());
  if (there && std::ranges::equal(*there, bytes)) return {};
  if (there || there.error().code == Code::corrupt)
    return fail(Code::conflict, fmt::format("put {} (bucket {}): other bytes stand there already",
                                            escaped(name), options_.place.bucket));
  // It went in between: put again.
  if (there.error().code == Code::not_found) there.error().code = Code::unavailable;
  return std::unexpected(std::move(there).error());
}

Result<Bytes> S3Store::get(std::string_view name, std::uint64_t size_max) {
  HF_TRY(check_object_name(name));
  const Call call{.method = "GET", .name = name, .path = "", .answer_max = size_max};
  HF_ASSIGN(HttpAnswer answer, send_to_object(call));
  if (answer.status != kOk) return refused(call, answer);
  return std::move(answer.body);
}

std::string S3Store::another_part(std::string_view name) const {
  return fmt::format("read {} (bucket {}): the service gave another part than the one asked for",
                     escaped(name), options_.place.bucket);
}

Result<> S3Store::get_range(std::string_view name, std::uint64_t offset, MutableByteSpan out) {
  HF_TRY(check_object_name(name));
  const auto outside = [&](std::uint64_t size) {
    return fail(Code::corrupt,
                fmt::format("read {} (bucket {}): it has {} bytes, {} from {} were expected",
                            escaped(name), options_.place.bucket, size, out.size(), offset));
  };
  if (out.empty() || offset > std::numeric_limits<std::uint64_t>::max() - out.size()) {
    HF_ASSIGN(const std::uint64_t there, size(name));
    return out.empty() && offset <= there ? Result<>() : outside(there);
  }
  const Call call{.method = "GET",
                  .name = name,
                  .path = "",
                  .headers = {fmt::format("Range: bytes={}-{}", offset, offset + out.size() - 1)},
                  .answer_max = out.size()};
  HF_ASSIGN(const HttpAnswer answer, send_to_object(call));
  const bool whole = answer.status == kPartial && answer.body.size() == out.size();
  if (whole && answer.header("content-range")
                   .value_or("")
                   .starts_with(fmt::format("bytes {}-{}/", offset, offset + out.size() - 1))) {
    std::ranges::copy(answer.body, out.begin());
    return {};
  }
  if (answer.status == kPartial || answer.status == kRangeNotSatisfiable || answer.status == kOk) {
    HF_ASSIGN(const std::uint64_t there, size(name));
    if (offset + out.size() > there) return outside(there);
    return fail(Code::unavailable, another_part(name));
  }
  return refused(call, answer);
}

Result<std::uint64_t> S3Store::size(std::string_view name) {
  HF_TRY(check_object_name(name));
  const Call call{.method = "HEAD", .name = name, .path = ""};
  HF_ASSIGN(const HttpAnswer answer, send_to_object(call));
  if (answer.status == kOk) {
    const auto length = number(answer.header("content-length").value_or(""));
    if (length) return *length;
    return fail(Code::unavailable, fmt::format("HEAD {} (bucket {}): the answer has no length",
                                               escaped(name), options_.place.bucket));
  }
  if (answer.status != kNotFound) return refused(call, answer);
  // A HEAD has no body to tell a missing object from a missing bucket.
  const Call again{
      .method = "GET", .name = name, .path = "", .headers = {"Range: bytes=0-0"}, .answer_max = 1};
  HF_ASSIGN(const HttpAnswer told, send_to_object(again));
  if (told.status >= kBadRequest && told.status != kRangeNotSatisfiable)
    return refused(again, told);
  return fail(Code::unavailable, fmt::format("HEAD {} (bucket {}): the service says that it is "
                                             "not there, and gives it",
                                             escaped(name), options_.place.bucket));
}

Result<ObjectStore::Tail> S3Store::get_tail(std::string_view name, std::size_t most) {
  HF_TRY(check_object_name(name));
  const Call call{.method = "GET",
                  .name = name,
                  .path = "",
                  .headers = {fmt::format("Range: bytes=-{}", most)},
                  .answer_max = most};
  HF_ASSIGN(HttpAnswer answer, send_to_object(call));
  if (answer.status == kRangeNotSatisfiable) return ObjectStore::get_tail(name, most);  // empty
  if (answer.status == kPartial) {
    // "bytes 95-99/100"
    const std::string_view said = answer.header("content-range").value_or("");
    const auto size = number(said.substr(std::min(said.rfind('/') + 1, said.size())));
    const std::size_t got = answer.body.size();
    if (size && got == std::min<std::uint64_t>(*size, most) &&
        said.starts_with(fmt::format("bytes {}-", *size - got)))
      return Tail{.size = *size, .bytes = std::move(answer.body)};
  }
  if (answer.status == kPartial || answer.status == kOk)
    return fail(Code::unavailable, another_part(name));
  return refused(call, answer);
}

Result<> S3Store::list(std::string_view prefix,
                       const std::function<Result<>(const ObjectInfo&)>& visit) {
  HF_TRY(check_list_prefix(prefix));
  const std::string full = key(prefix);
  const auto object = [&](ObjectInfo& info) -> Result<> {
    if (!info.name.starts_with(full))
      return fail(Code::unavailable,
                  fmt::format("list {} (bucket {}): the service lists '{}', which is elsewhere",
                              escaped(prefix), options_.place.bucket, escaped(info.name)));
    info.name.erase(0, options_.place.prefix.size());
    // What no put can have made is not an object of ours.
    return check_object_name(info.name) ? visit(info) : Result<>();
  };
  if (!locking_) return list_keys(prefix, object);
  S3Version oldest;
  const auto ended = [&]() -> Result<> {
    if (oldest.key.empty()) return {};
    ObjectInfo info{oldest.key, oldest.size, oldest.put};
    if (oldest.key.starts_with(full))
      note_version(oldest.key.substr(options_.place.prefix.size()), oldest.version);
    return object(info);
  };
  HF_TRY(list_versions(full, [&](const S3Version& version) -> Result<bool> {
    if (version.marker) return true;
    if (version.key != oldest.key) HF_TRY(ended());
    oldest = version;
    return true;
  }));
  return ended();
}

// A page that is not whole is as one that was not given.
template <class Page>
Result<Page> S3Store::read_page(std::string_view prefix, std::string query,
                                Result<Page> (*parse)(ByteSpan)) {
  const Call call{
      .method = "GET", .name = prefix, .path = std::move(query), .answer_max = kPageMax};
  HF_ASSIGN(const HttpAnswer answer, send(call));
  if (answer.status != kOk) return refused(call, answer);
  auto page = parse(answer.body);
  if (page) return page;
  page.error().code = Code::unavailable;
  return wrap(std::move(page).error(),
              fmt::format("list {} (bucket {})", escaped(prefix), options_.place.bucket));
}

std::unexpected<Error> S3Store::same_page_again(std::string_view prefix) const {
  return fail(Code::unavailable,
              fmt::format("list {} (bucket {}): the service gives the same page again",
                          escaped(prefix), options_.place.bucket));
}

Result<> S3Store::list_keys(std::string_view prefix,
                            const std::function<Result<>(ObjectInfo&)>& visit) {
  const std::string full = key(prefix);
  for (std::string token;;) {
    // In the order of their names, as the signature has them.
    std::string query = "?";
    if (!token.empty()) query += fmt::format("continuation-token={}&", percent(token));
    query += "encoding-type=url&list-type=2";
    if (!full.empty()) query += fmt::format("&prefix={}", percent(full));
    HF_ASSIGN(S3Page page, read_page(prefix, std::move(query), parse_s3_page));
    for (ObjectInfo& info : page.objects) HF_TRY(visit(info));
    if (page.next.empty()) return {};
    if (page.next == token) return same_page_again(prefix);
    token = std::move(page.next);
  }
}

Result<> S3Store::remove(std::string_view name) {
  HF_TRY(check_object_name(name));
  if (locking_) return remove_versions(name);
  const Call call{.method = "DELETE", .name = name, .path = key(name), .answer_max = kPageMax};
  HF_ASSIGN(const HttpAnswer answer, send(call));
  if (answer.status == kOk || answer.status == kNoContent) return {};
  auto error = refused(call, answer);
  if (error.error().code == Code::not_found) return {};
  return error;
}

// ---- buckets with object lock

Result<StoreLock> S3Store::lock() {
  const Call call{
      .method = "GET", .name = "?object-lock", .path = "?object-lock=", .answer_max = kPageMax};
  HF_ASSIGN(const HttpAnswer answer, send(call));
  if (may_pass(answer.status)) return refused(call, answer);
  StoreLock lock{.now = {service_time_ns_}};
  if (answer.status != kOk || !says_that_it_locks(answer.body)) {
    const std::string code = parse_fault(answer.body).code;
    lock.why_not = fmt::format("the bucket {} was made without object lock (HTTP {}{}{})",
                               options_.place.bucket, answer.status, code.empty() ? "" : " ", code);
  } else if (!answer.date()) {
    lock.why_not = "the service does not say what time it is";
  } else {
    lock.enforced = locking_ = true;
  }
  return lock;
}

Result<> S3Store::list_versions(std::string_view prefix,
                                const std::function<Result<bool>(const S3Version&)>& visit) {
  for (std::string key_marker, version_marker;;) {
    // In the order of their names, as the signature has them.
    std::string query = "?encoding-type=url";
    if (!key_marker.empty()) query += fmt::format("&key-marker={}", percent(key_marker));
    if (!prefix.empty()) query += fmt::format("&prefix={}", percent(prefix));
    if (!version_marker.empty())
      query += fmt::format("&version-id-marker={}", percent(version_marker));
    query += "&versions=";
    HF_ASSIGN(S3VersionPage page, read_page(prefix, std::move(query), parse_s3_version_page));
    for (const S3Version& version : page.versions) {
      HF_ASSIGN(const bool more, visit(version));
      if (!more) return {};
    }
    if (page.next_key.empty()) return {};
    if (page.next_key == key_marker && page.next_version == version_marker)
      return same_page_again(prefix);
    key_marker = std::move(page.next_key);
    version_marker = std::move(page.next_version);
  }
}

Result<std::string> S3Store::oldest_version(std::string_view name) {
  const std::string full = key(name);
  std::string oldest;
  HF_TRY(list_versions(full, [&](const S3Version& version) -> Result<bool> {
    if (version.key != full) return version.key < full;
    if (!version.marker) oldest = version.version;
    return true;
  }));
  if (oldest.empty())
    return fail(Code::not_found, fmt::format("{} (bucket {}): there is no such object",
                                             escaped(name), options_.place.bucket));
  note_version(name, oldest);
  return oldest;
}

void S3Store::note_version(std::string_view name, const std::string& version) {
  const std::lock_guard lock(mutex_);
  if (oldest_.size() >= kOldestKept) oldest_.clear();
  oldest_.insert_or_assign(std::string(name), version);
}

void S3Store::forget_version(std::string_view name) {
  const std::lock_guard lock(mutex_);
  if (const auto at = oldest_.find(name); at != oldest_.end()) oldest_.erase(at);
}

Result<std::string> S3Store::version_query(std::string_view name) {
  if (!locking_) return "";
  {
    const std::lock_guard lock(mutex_);
    if (const auto at = oldest_.find(name); at != oldest_.end())
      return "?versionId=" + percent(at->second);
  }
  HF_ASSIGN(const std::string version, oldest_version(name));
  return "?versionId=" + percent(version);
}

// What was put is the object if nothing stood there before. Services disagree on whether a
// conditional PUT counts in a bucket with versions (Ceph 16.2: no); that the oldest version wins,
// holds in all of them: a version that was put later never gets before one that was listed.
Result<> S3Store::keep_oldest(std::string_view name, ByteSpan bytes, std::string_view mine) {
  forget_version(name);
  HF_ASSIGN(const std::string oldest, oldest_version(name));
  if (oldest == mine) return {};
  auto same = expect_same(name, bytes);
  // Nobody reads the later one. What cannot be removed costs space only.
  if (!mine.empty() && (same || same.error().code == Code::conflict)) [[maybe_unused]]
    const auto removed = remove_version(name, std::string(mine));
  return same;
}

Result<> S3Store::remove_version(std::string_view name, const std::string& version) {
  const Call call{.method = "DELETE",
                  .name = name,
                  .path = key(name) + "?versionId=" + percent(version),
                  .answer_max = kPageMax};
  HF_ASSIGN(const HttpAnswer answer, send(call));
  if (answer.status == kOk || answer.status == kNoContent) return {};
  auto error = refused(call, answer);
  if (error.error().code == Code::not_found) return {};
  if (error.error().code != Code::denied) return error;
  const auto until = kept_until(name, version);
  if (!until || until->ns <= service_time_ns_) return error;
  return fail(Code::locked, fmt::format("{} (bucket {}): kept until {} by the retention lock",
                                        escaped(name), options_.place.bucket, text_of(*until)));
}

Result<> S3Store::remove_versions(std::string_view name) {
  const std::string full = key(name);
  std::vector<std::string> versions;
  HF_TRY(list_versions(full, [&](const S3Version& version) -> Result<bool> {
    if (version.key != full) return version.key < full;
    versions.push_back(version.version);
    return true;
  }));
  forget_version(name);
  for (const std::string& version : versions) HF_TRY(remove_version(name, version));
  return {};
}

// 0: it is not locked.
Result<Time> S3Store::kept_until(std::string_view name, const std::string& version) {
  const Call call{
      .method = "HEAD", .name = name, .path = key(name) + "?versionId=" + percent(version)};
  HF_ASSIGN(const HttpAnswer answer, send(call));
  if (answer.status != kOk) return refused(call, answer);
  const auto until = answer.header("x-amz-object-lock-retain-until-date");
  return until ? time_of(*until) : Time{};
}

Result<> S3Store::keep_until(std::string_view name, Time until) {
  if (!locking_) return ObjectStore::keep_until(name, until);
  HF_TRY(check_object_name(name));
  HF_ASSIGN(const std::string version, version_query(name));
  // Compliance mode: not even the owner of the bucket can shorten or lift it.
  const std::string body = fmt::format(
      "<Retention xmlns=\"http://s3.amazonaws.com/doc/2006-03-01/\"><Mode>COMPLIANCE</Mode>"
      "<RetainUntilDate>{}</RetainUntilDate></Retention>",
      text_of(until));
  // "?versionId=..." behind it, in the order of the names.
  const Call call{
      .method = "PUT",
      .name = name,
      .path = fmt::format("{}?retention=&{}", key(name), version.substr(1)),
      .headers = {"Content-Type: application/xml", "Content-MD5: " + content_md5(as_bytes(body))},
      .body = as_bytes(body),
      .answer_max = kPageMax};
  HF_ASSIGN(const HttpAnswer answer, send(call));
  if (answer.status == kOk || answer.status == kNoContent) return {};
  auto error = refused(call, answer);
  if (error.error().code == Code::not_found) forget_version(name);
  if (error.error().code != Code::denied) return error;
  // It does not shorten what is kept for longer.
  HF_ASSIGN(const std::string oldest, oldest_version(name));
  const auto kept = kept_until(name, oldest);
  return kept && kept->ns >= until.ns ? Result<>() : Result<>(error);
}

namespace {

// What every page of a listing has.
struct Listing {
  pugi::xml_node root;
  bool more = false, encoded = false;
  [[nodiscard]] Result<std::string> decoded(std::string_view key) const {
    return encoded ? from_percent(key) : Result<std::string>(key);
  }
};
Result<Listing> open_listing(pugi::xml_document& document, ByteSpan xml,
                             std::initializer_list<const char*> names) {
  const pugi::xml_parse_result parsed = document.load_buffer(xml.data(), xml.size());
  if (!parsed)
    return fail(Code::corrupt, fmt::format("the page is not whole: {} at byte {}",
                                           parsed.description(), parsed.offset));
  Listing listing;
  for (const char* name : names)
    if (!listing.root) listing.root = document.child(name);
  const std::string_view more = listing.root.child_value("IsTruncated");
  if (more != "true" && more != "false")
    return fail(Code::corrupt, "the page does not say whether it is the last one");
  listing.more = more == "true";
  listing.encoded = std::string_view(listing.root.child_value("EncodingType")) == "url";
  return listing;
}

}  // namespace

Result<S3Page> parse_s3_page(ByteSpan xml) {
  pugi::xml_document document;
  HF_ASSIGN(const Listing listing, open_listing(document, xml, {"ListBucketResult"}));
  const pugi::xml_node root = listing.root;
  S3Page page;
  for (const pugi::xml_node item : root.children("Contents")) {
    const auto size = number(item.child_value("Size"));
    const std::string_view key = item.child_value("Key");
    if (!size || key.empty()) return fail(Code::corrupt, "an object has no key or no size");
    HF_ASSIGN(std::string name, listing.decoded(key));
    page.objects.push_back({std::move(name), *size});
  }
  if (const pugi::xml_node count = root.child("KeyCount"); count) {
    const auto told = number(count.child_value());
    if (!told || *told != page.objects.size())
      return fail(Code::corrupt, fmt::format("the page says it has {} objects, and has {}",
                                             escaped(count.child_value()), page.objects.size()));
  }
  page.next = root.child_value("NextContinuationToken");
  if (listing.more != !page.next.empty())
    return fail(Code::corrupt, listing.more ? "the page is not the last one, and there is no "
                                              "token for the next one"
                                            : "the last page has a token for one more");
  return page;
}

Result<S3VersionPage> parse_s3_version_page(ByteSpan xml) {
  pugi::xml_document document;
  HF_ASSIGN(const Listing listing,
            open_listing(document, xml, {"ListVersionsResult", "ListVersionsOutput"}));
  const pugi::xml_node root = listing.root;
  S3VersionPage page;
  for (const pugi::xml_node item : root.children()) {
    const std::string_view kind = item.name();
    if (kind != "Version" && kind != "DeleteMarker") continue;
    S3Version version{.key = {}, .version = item.child_value("VersionId")};
    version.marker = kind == "DeleteMarker";
    HF_ASSIGN(version.key, listing.decoded(item.child_value("Key")));
    if (version.key.empty() || version.version.empty())
      return fail(Code::corrupt, "a version has no key or no id");
    HF_ASSIGN(version.put, time_of(item.child_value("LastModified")));
    if (!version.marker) {
      HF_ASSIGN(version.size, number(item.child_value("Size")));
    }
    page.versions.push_back(std::move(version));
  }
  HF_ASSIGN(page.next_key, listing.decoded(root.child_value("NextKeyMarker")));
  page.next_version = root.child_value("NextVersionIdMarker");
  if (!listing.more) page.next_key.clear();
  if (listing.more && page.next_key.empty())
    return fail(Code::corrupt, "the page is not the last one, and there is no marker for the next");
  return page;
}

}  // namespace holdfast
