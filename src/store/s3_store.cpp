// SPDX-License-Identifier: Apache-2.0
#include "store/s3_store.h"

#include <fmt/format.h>

#include <algorithm>
#include <charconv>
#include <limits>
#include <pugixml.hpp>

#include "crypto/hash.h"

namespace holdfast {

namespace {

constexpr std::uint64_t kPageMax = 8U << 20;  // 1000 keys of 1 KiB, escaped
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
  return answer;
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
  const Call call{.method = "PUT",
                  .name = name,
                  .path = key(name),
                  .headers = {"If-None-Match: *", "Content-Type: application/octet-stream"},
                  .body = bytes,
                  .answer_max = kPageMax};
  HF_ASSIGN(const HttpAnswer answer, send(call));
  if (answer.status == kOk) return {};
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
  const Call call{.method = "GET", .name = name, .path = key(name), .answer_max = size_max};
  HF_ASSIGN(HttpAnswer answer, send(call));
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
                  .path = key(name),
                  .headers = {fmt::format("Range: bytes={}-{}", offset, offset + out.size() - 1)},
                  .answer_max = out.size()};
  HF_ASSIGN(const HttpAnswer answer, send(call));
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
  const Call call{.method = "HEAD", .name = name, .path = key(name)};
  HF_ASSIGN(const HttpAnswer answer, send(call));
  if (answer.status == kOk) {
    const auto length = number(answer.header("content-length").value_or(""));
    if (length) return *length;
    return fail(Code::unavailable, fmt::format("HEAD {} (bucket {}): the answer has no length",
                                               escaped(name), options_.place.bucket));
  }
  if (answer.status != kNotFound) return refused(call, answer);
  // A HEAD has no body to tell a missing object from a missing bucket.
  const Call again{.method = "GET",
                   .name = name,
                   .path = key(name),
                   .headers = {"Range: bytes=0-0"},
                   .answer_max = 1};
  HF_ASSIGN(const HttpAnswer told, send(again));
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
                  .path = key(name),
                  .headers = {fmt::format("Range: bytes=-{}", most)},
                  .answer_max = most};
  HF_ASSIGN(HttpAnswer answer, send(call));
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
  for (std::string token;;) {
    // In the order of their names, as the signature has them.
    std::string query = "?";
    if (!token.empty()) query += fmt::format("continuation-token={}&", percent(token));
    query += "encoding-type=url&list-type=2";
    if (!full.empty()) query += fmt::format("&prefix={}", percent(full));
    const Call call{.method = "GET", .name = prefix, .path = query, .answer_max = kPageMax};
    HF_ASSIGN(const HttpAnswer answer, send(call));
    if (answer.status != kOk) return refused(call, answer);
    auto page = parse_s3_page(answer.body);
    if (!page) {
      page.error().code = Code::unavailable;
      return wrap(std::move(page).error(),
                  fmt::format("list {} (bucket {})", escaped(prefix), options_.place.bucket));
    }
    for (ObjectInfo& info : page->objects) {
      if (!info.name.starts_with(full))
        return fail(Code::unavailable,
                    fmt::format("list {} (bucket {}): the service lists '{}', which is elsewhere",
                                escaped(prefix), options_.place.bucket, escaped(info.name)));
      info.name.erase(0, options_.place.prefix.size());
      // What no put can have made is not an object of ours.
      if (check_object_name(info.name)) HF_TRY(visit(info));
    }
    if (page->next.empty()) return {};
    if (page->next == token)
      return fail(Code::unavailable,
                  fmt::format("list {} (bucket {}): the service gives the same page again",
                              escaped(prefix), options_.place.bucket));
    token = std::move(page->next);
  }
}

Result<> S3Store::remove(std::string_view name) {
  HF_TRY(check_object_name(name));
  const Call call{.method = "DELETE", .name = name, .path = key(name), .answer_max = kPageMax};
  HF_ASSIGN(const HttpAnswer answer, send(call));
  if (answer.status == kOk || answer.status == kNoContent) return {};
  auto error = refused(call, answer);
  if (error.error().code == Code::not_found) return {};
  return error;
}

Result<S3Page> parse_s3_page(ByteSpan xml) {
  pugi::xml_document document;
  const pugi::xml_parse_result parsed = document.load_buffer(xml.data(), xml.size());
  if (!parsed)
    return fail(Code::corrupt, fmt::format("the page is not whole: {} at byte {}",
                                           parsed.description(), parsed.offset));
  const pugi::xml_node root = document.child("ListBucketResult");
  const std::string_view more = root.child_value("IsTruncated");
  if (more != "true" && more != "false")
    return fail(Code::corrupt, "the page does not say whether it is the last one");
  const bool encoded = std::string_view(root.child_value("EncodingType")) == "url";
  S3Page page;
  for (const pugi::xml_node item : root.children("Contents")) {
    const auto size = number(item.child_value("Size"));
    const std::string_view key = item.child_value("Key");
    if (!size || key.empty()) return fail(Code::corrupt, "an object has no key or no size");
    Result<std::string> name = encoded ? from_percent(key) : std::string(key);
    if (!name) return std::unexpected(std::move(name).error());
    page.objects.push_back({std::move(*name), *size});
  }
  if (const pugi::xml_node count = root.child("KeyCount"); count) {
    const auto told = number(count.child_value());
    if (!told || *told != page.objects.size())
      return fail(Code::corrupt, fmt::format("the page says it has {} objects, and has {}",
                                             escaped(count.child_value()), page.objects.size()));
  }
  page.next = root.child_value("NextContinuationToken");
  if ((more == "true") != !page.next.empty())
    return fail(Code::corrupt, more == "true" ? "the page is not the last one, and there is no "
                                                "token for the next one"
                                              : "the last page has a token for one more");
  return page;
}

}  // namespace holdfast
