// SPDX-License-Identifier: Apache-2.0
// S3 against a real Ceph gateway (HOLDFAST_TEST_S3, from scripts/ceph) by the suite of every store,
// and against answers that only a broken service gives, by a server that is told what to say.
#include <arpa/inet.h>
#include <fmt/format.h>
#include <netinet/in.h>
#include <sys/socket.h>
#include <unistd.h>

#include <atomic>
#include <cstdlib>
#include <mutex>
#include <random>

#include "crypto/hash.h"
#include "store/conformance.h"
#include "store/fault_store.h"
#include "store/memory_store.h"
#include "store/retry_store.h"
#include "store/s3_store.h"

namespace holdfast {
namespace {

// Time that only passes by sleeping.
struct SleptClock : Clock {
  std::atomic<std::int64_t> slept_ns{0};
  Time now() override { return {0}; }
  std::int64_t steady_ns() override { return slept_ns; }
  void sleep_ns(std::int64_t ns) override { slept_ns += ns; }
};

S3Options options_at(const std::string& place, const S3Credentials& credentials) {
  S3Options options;
  options.place = S3Place::parse(place).value();
  options.credentials = credentials;
  return options;
}

// ---- a real one
// ------------------------------------------------------------------------------------------------------

std::string environment(const char* name) {
  const char* value = std::getenv(name);
  return value == nullptr ? "" : value;
}

S3Credentials ceph_credentials() {
  return {environment("AWS_ACCESS_KEY_ID"), environment("AWS_SECRET_ACCESS_KEY"), ""};
}

void ask_ceph(const std::string& path, std::string_view body, std::string_view method = "PUT",
              const std::string& header = "Content-Type: x", long status = 200) {
  SleptClock clock;
  HttpClient http({}, clock);
  const S3Credentials keys = ceph_credentials();
  const SigV4 sign{keys.access_key, keys.secret_key, "us-east-1", "s3"};
  const auto done =
      http.send({.method = method,
                 .url = environment("HOLDFAST_TEST_S3") + path,
                 .headers = {"x-amz-content-sha256: " + sha256(as_bytes(body)).hex(), header},
                 .body = as_bytes(body),
                 .answer_max = 1000,
                 .sign = &sign});
  EXPECT_OK(done);
  EXPECT_EQ(done->status, status) << as_text(done->body);
}

std::string make_bucket(const std::string& header) {
  std::random_device device;
  const std::string name = fmt::format("hf-{:08x}{:08x}", device(), device());
  ask_ceph("/" + name, "", "PUT", header);
  return name;
}

// Three buckets for the process, one prefix for each test.
enum class Bucket : std::uint8_t { plain, versioned, locking };
const std::string& ceph_bucket(Bucket kind = Bucket::plain) {
  static const std::string plain = make_bucket("Content-Type: x");
  static const std::string locking = make_bucket("x-amz-bucket-object-lock-enabled: true");
  static const std::string with_versions = [] {
    std::string name = make_bucket("Content-Type: x");
    ask_ceph("/" + name + "?versioning=",
             "<VersioningConfiguration><Status>Enabled</Status></VersioningConfiguration>");
    return name;
  }();
  return kind == Bucket::plain ? plain : kind == Bucket::versioned ? with_versions : locking;
}

struct CephWorld : StoreWorld {
  explicit CephWorld(const HttpOptions& http_options = {}, bool virtual_host = false,
                     Bucket kind = Bucket::plain)
      : http(http_options, clock) {
    static std::atomic<int> number{0};
    std::string endpoint = environment("HOLDFAST_TEST_S3");
    // Ceph knows its buckets below this name (scripts/ceph, "rgw dns name").
    if (virtual_host) endpoint.replace(endpoint.find("127.0.0.1"), 9, "localhost");
    path = fmt::format("/{}/test/{}/", ceph_bucket(kind), number++);
    S3Options options = options_at("s3:" + endpoint + path, ceph_credentials());
    options.virtual_host = virtual_host;
    ceph = std::make_unique<S3Store>(http, options);
    const auto lock = ceph->lock();
    EXPECT_OK(lock);
    EXPECT_EQ(lock && lock->enforced, kind == Bucket::locking);
    EXPECT_EQ(lock && lock->why_not.empty(), kind == Bucket::locking);
  }
  ObjectStore& store() override { return *ceph; }
  std::string path;  // of the bucket and the prefix
  SleptClock clock;
  HttpClient http;
  std::unique_ptr<S3Store> ceph;
};

// As the program stacks them, over a store that fails one call in five.
struct RetryWorld : StoreWorld {
  explicit RetryWorld(std::unique_ptr<StoreWorld> below) : inner(std::move(below)) {}
  ObjectStore& store() override { return retry; }
  std::unique_ptr<StoreWorld> inner;
  FaultStore fault{inner->store(), FaultPlan{.seed = 9, .fail_before = 100, .fail_after = 100}};
  SleptClock clock;
  SeededRandom random{5};
  Stop stop;
  RetryStore retry{fault, clock, random, stop, {.attempts = 100}};
};
struct MemoryWorld : StoreWorld {
  MemoryStore memory;
  ObjectStore& store() override { return memory; }
};

std::vector<Kind> worlds() {
  std::vector<Kind> all = {
      {"retry", [] { return std::make_unique<RetryWorld>(std::make_unique<MemoryWorld>()); }}};
  if (environment("HOLDFAST_TEST_S3").empty()) return all;
  all.push_back({"ceph", [] { return std::make_unique<CephWorld>(); }});
  all.push_back(
      {"ceph_virtual_host", [] { return std::make_unique<CephWorld>(HttpOptions{}, true); }});
  all.push_back({"ceph_limited", [] {
                   return std::make_unique<CephWorld>(HttpOptions{
                       .connections = 2, .rates = {.upload = 1'000'000, .download = 2'000'000}});
                 }});
  all.push_back({"ceph_locking", [] {
                   return std::make_unique<CephWorld>(HttpOptions{}, false, Bucket::locking);
                 }});
  all.push_back({"ceph_locking_retry", [] {
                   return std::make_unique<RetryWorld>(
                       std::make_unique<CephWorld>(HttpOptions{}, false, Bucket::locking));
                 }});
  all.push_back(
      {"ceph_retry", [] { return std::make_unique<RetryWorld>(std::make_unique<CephWorld>()); }});
  return all;
}
INSTANTIATE_TEST_SUITE_P(All, EveryStore, ::testing::ValuesIn(worlds()),
                         [](const auto& row) { return row.param.name; });

class Ceph : public ::testing::Test {
 protected:
  void SetUp() override {
    if (environment("HOLDFAST_TEST_S3").empty())
      GTEST_SKIP() << "no HOLDFAST_TEST_S3 (scripts/ceph)";
  }
};

TEST_F(Ceph, a_listing_of_more_than_two_pages_is_whole) {
  CephWorld world;
  constexpr int kObjects = 2100;
  std::vector<std::thread> threads;
  for (int t = 0; t < 8; ++t)
    threads.emplace_back([&, t] {
      for (int i = t; i < kObjects; i += 8)
        EXPECT_OK(world.store().put(fmt::format("p/{:04}", i), text("x")));
    });
  for (std::thread& thread : threads) thread.join();
  std::set<std::string> names;
  EXPECT_OK(world.store().list("p/", [&](const ObjectInfo& info) -> Result<> {
    names.insert(info.name);
    return {};
  }));
  EXPECT_EQ(names.size(), static_cast<std::size_t>(kObjects));
}

TEST_F(Ceph, wrong_keys_and_missing_buckets_say_what_to_do) {
  SleptClock clock;
  HttpClient http({}, clock);
  S3Credentials wrong = ceph_credentials();
  wrong.secret_key += "x";
  const std::string place = fmt::format("s3:{}/{}", environment("HOLDFAST_TEST_S3"), ceph_bucket());
  const auto denied = S3Store(http, options_at(place, wrong)).get("a", 1);
  EXPECT_CODE(denied, Code::denied);
  EXPECT_THAT(denied.error().what, ::testing::HasSubstr("check AWS_ACCESS_KEY_ID"));
  S3Store nowhere(http, options_at(place + "-no-such", ceph_credentials()));
  const auto visit = [](const ObjectInfo&) -> Result<> { return {}; };
  for (const Error& error :
       {nowhere.get("a", 1).error(), nowhere.size("a").error(), nowhere.put("a", {}).error(),
        nowhere.remove("a").error(), nowhere.list("", visit).error()}) {
    EXPECT_EQ(error.code, Code::denied) << error.what;
    EXPECT_THAT(error.what, ::testing::HasSubstr("make the bucket first"));
  }
}

// Ceph 16.2 does not look at If-None-Match where a bucket keeps versions.
TEST_F(Ceph, a_bucket_with_versions_keeps_put_if_absent_or_is_refused) {
  CephWorld world({}, false, Bucket::versioned);
  SeededRandom random(3);
  const auto proved = prove_put_if_absent(world.store(), random);
  EXPECT_OK(world.store().put("a", text("one")));
  const auto second = world.store().put("a", text("two"));
  if (proved) {
    EXPECT_CODE(second, Code::conflict);
  } else {
    EXPECT_CODE(proved, Code::denied);
    EXPECT_THAT(proved.error().what, ::testing::HasSubstr("more than one succeeded"));
    EXPECT_OK(second);
  }
}

// Whoever has the bucket's keys writes over it and marks it as deleted.
void attack(const CephWorld& world, const std::string& name) {
  ask_ceph(world.path + name, "garbage");
  ask_ceph(world.path + name, "", "DELETE", "Content-Type: x", 204);
  ask_ceph(world.path + name, "more garbage");
}

TEST_F(Ceph, RNS_01_the_oldest_version_is_the_object) {
  CephWorld world({}, false, Bucket::locking);
  for (const char* name : {"p/a", "p/b"}) EXPECT_OK(world.store().put(name, text("honest")));
  attack(world, "p/a");
  ask_ceph(world.path + "p/b", "", "DELETE", "Content-Type: x", 204);
  ask_ceph(world.path + "p/nothing", "", "DELETE", "Content-Type: x", 204);
  S3Store fresh(world.http, options_at("s3:" + environment("HOLDFAST_TEST_S3") + world.path,
                                       ceph_credentials()));
  EXPECT_OK(fresh.lock());
  // Also one that listed the object before it was attacked.
  for (ObjectStore* store : {&world.store(), static_cast<ObjectStore*>(&fresh)}) {
    for (const char* name : {"p/a", "p/b"}) {
      EXPECT_EQ(store->get(name, kBig).value(), text("honest"));
      EXPECT_EQ(store->size(name).value(), 6U);
      EXPECT_EQ(store->get_tail(name, 2).value().bytes, text("st"));
      EXPECT_OK(store->put(name, text("honest")));
      EXPECT_CODE(store->put(name, text("garbage")), Code::conflict);
    }
    std::set<std::string> names;
    EXPECT_OK(store->list("p/", [&](const ObjectInfo& info) -> Result<> {
      EXPECT_TRUE(names.insert(info.name).second);
      EXPECT_EQ(info.size, 6U);
      EXPECT_GT(info.put.ns, 0);
      return {};
    }));
    EXPECT_EQ(names, (std::set<std::string>{"p/a", "p/b"}));
  }
}

TEST_F(Ceph, RNS_01_what_is_kept_cannot_be_removed_before) {
  constexpr std::int64_t second = 1'000'000'000;
  CephWorld world({}, false, Bucket::locking);
  ObjectStore& store = world.store();
  EXPECT_OK(store.put("p/a", text("honest")));
  EXPECT_CODE(store.keep_until("p/none", {0}), Code::not_found);
  const Time now = store.lock().value().now;
  EXPECT_OK(store.keep_until("p/a", {now.ns + 6 * second}));
  EXPECT_OK(store.keep_until("p/a", {now.ns + 8 * second}));
  EXPECT_OK(store.keep_until("p/a", {now.ns + 2 * second}));  // does not shorten it
  attack(world, "p/a");
  const auto kept = store.remove("p/a");
  EXPECT_CODE(kept, Code::locked);
  EXPECT_THAT(kept.error().what, ::testing::HasSubstr("kept until 20"));
  EXPECT_EQ(store.get("p/a", kBig).value(), text("honest"));
  for (int tries = 0; tries < 200 && !store.remove("p/a"); ++tries) ::usleep(100'000);
  EXPECT_CODE(store.get("p/a", kBig), Code::not_found);
  EXPECT_GE(store.lock().value().now.ns, now.ns + 8 * second);
  CephWorld plain;
  EXPECT_OK(plain.store().put("p/a", text("x")));
  EXPECT_CODE(plain.store().keep_until("p/a", now), Code::denied);
}

TEST_F(Ceph, a_listing_of_versions_of_more_than_two_pages_is_whole) {
  CephWorld world({}, false, Bucket::locking);
  constexpr int objects = 350, versions = 7;  // pages end in the middle of a key
  std::vector<std::thread> threads;
  for (int t = 0; t < 8; ++t)
    threads.emplace_back([&, t] {
      for (int i = t; i < objects; i += 8)
        for (int n = 0; n < versions; ++n)
          ask_ceph(fmt::format("{}p/{:04}", world.path, i), n == 0 ? "x" : "garbage");
    });
  for (std::thread& thread : threads) thread.join();
  std::set<std::string> names;
  EXPECT_OK(world.store().list("p/", [&](const ObjectInfo& info) -> Result<> {
    EXPECT_TRUE(names.insert(info.name).second);
    EXPECT_EQ(info.size, 1U);
    return {};
  }));
  EXPECT_EQ(names.size(), static_cast<std::size_t>(objects));
}

TEST_F(Ceph, limits_slow_both_ways_down) {
  constexpr std::uint64_t kRate = 1'000'000;
  CephWorld world({.rates = {.upload = kRate, .download = 2 * kRate}});
  EXPECT_OK(world.store().put("a", Bytes(3 * kRate)));
  const double up = static_cast<double>(world.clock.slept_ns) / 1e9;
  EXPECT_GT(up, 2.8);
  EXPECT_LT(up, 3.2);
  EXPECT_OK(world.store().get("a", kBig));
  const double down = static_cast<double>(world.clock.slept_ns) / 1e9 - up;
  EXPECT_GT(down, 1.3);
  EXPECT_LT(down, 1.7);
}

// ---- one that is told what to say
// -----------------------------------------------------------------------------------

// Each connection gets one answer, made from the request's head; "" cuts it off.
class ToldServer {
 public:
  using Answer = std::function<std::string(const std::string& head)>;
  explicit ToldServer(Answer answer) : answer_(std::move(answer)) {
    sockaddr_in address{};
    address.sin_family = AF_INET;
    address.sin_addr.s_addr = htonl(INADDR_LOOPBACK);
    socklen_t length = sizeof address;
    EXPECT_EQ(::bind(socket_, reinterpret_cast<sockaddr*>(&address), length), 0);
    EXPECT_EQ(::listen(socket_, 16), 0);
    EXPECT_EQ(::getsockname(socket_, reinterpret_cast<sockaddr*>(&address), &length), 0);
    port_ = ntohs(address.sin_port);
    thread_ = std::thread([this] { serve(); });
  }
  ~ToldServer() {
    ::shutdown(socket_, SHUT_RDWR);
    thread_.join();
    ::close(socket_);
  }
  ToldServer(const ToldServer&) = delete;
  ToldServer& operator=(const ToldServer&) = delete;
  [[nodiscard]] std::string place() const {
    return fmt::format("s3:http://127.0.0.1:{}/bucket/pre", port_);
  }
  [[nodiscard]] std::vector<std::string> heads() const {
    const std::lock_guard lock(mutex_);
    return heads_;
  }

 private:
  void serve() {
    for (;;) {
      const int fd = ::accept(socket_, nullptr, nullptr);
      if (fd < 0) return;
      const std::string head = read_request(fd);
      const std::string answer = answer_(head);
      {
        const std::lock_guard lock(mutex_);
        heads_.push_back(head);
      }
      if (!answer.empty()) {
        EXPECT_EQ(::send(fd, answer.data(), answer.size(), MSG_NOSIGNAL),
                  static_cast<ssize_t>(answer.size()));
      }
      ::close(fd);
    }
  }
  // Up to the end of the body, as its length says.
  static std::string read_request(int fd) {
    std::string all;
    std::array<char, 4096> piece{};
    std::size_t end = std::string::npos;
    for (std::size_t body = 0; end == std::string::npos || all.size() < end + 4 + body;) {
      const ssize_t n = ::recv(fd, piece.data(), piece.size(), 0);
      if (n <= 0) break;
      all.append(piece.data(), static_cast<std::size_t>(n));
      end = all.find("\r\n\r\n");
      const std::size_t at = all.find("Content-Length: ");
      if (at != std::string::npos && at < end) body = std::stoul(all.substr(at + 16));
    }
    return all.substr(0, end);
  }

  const Answer answer_;
  const int socket_ = ::socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0);
  std::uint16_t port_ = 0;
  mutable std::mutex mutex_;
  std::vector<std::string> heads_;
  std::thread thread_;
};

std::string answer(int status, std::string_view body, std::string_view headers = "") {
  return fmt::format("HTTP/1.1 {} x\r\nConnection: close\r\n{}Content-Length: {}\r\n\r\n{}", status,
                     headers, body.size(), body);
}
std::string fault(int status, std::string_view code) {
  return answer(status, fmt::format("<Error><Code>{}</Code><Message>m</Message></Error>", code));
}
ToldServer::Answer always(std::string what) {
  return [what = std::move(what)](const std::string&) { return what; };
}

struct Told {
  explicit Told(ToldServer::Answer answer) : server(std::move(answer)) {}
  ToldServer server;
  SleptClock clock;
  HttpClient http{{}, clock};
  S3Store store{http, options_at(server.place(), {"key", "secret", "token"})};
  Result<std::vector<std::string>> names() {
    std::vector<std::string> out;
    HF_TRY(store.list("p/", [&](const ObjectInfo& info) -> Result<> {
      out.push_back(info.name);
      return {};
    }));
    return out;
  }
};

std::string page(std::string_view contents, std::string_view rest) {
  return fmt::format(
      "<?xml version=\"1.0\"?><ListBucketResult xmlns=\"http://s3.amazonaws.com/doc/2006-03-01/\">"
      "{}{}</ListBucketResult>",
      contents, rest);
}
constexpr std::string_view kTwo =
    "<Contents><Key>pre/p/a</Key><Size>1</Size></Contents>"
    "<Contents><Key>pre/p/b</Key><Size>2</Size></Contents>";
constexpr std::string_view kLast = "<IsTruncated>false</IsTruncated>";

TEST(S3, every_request_is_signed_with_its_token_and_its_body) {
  Told told(always(answer(200, "")));
  EXPECT_OK(told.store.put("a/b", text("hello")));
  const std::string head = told.server.heads().at(0);
  EXPECT_THAT(head, ::testing::StartsWith("PUT /bucket/pre/a/b HTTP/1.1\r\n"));
  EXPECT_THAT(head, ::testing::HasSubstr("If-None-Match: *\r\n"));
  EXPECT_THAT(head,
              ::testing::HasSubstr("x-amz-content-sha256: " + sha256(as_bytes("hello")).hex()));
  EXPECT_THAT(head, ::testing::HasSubstr("x-amz-security-token: token\r\n"));
  EXPECT_THAT(head, ::testing::ContainsRegex("Credential=key/[0-9]*/us-east-1/s3/aws4_request"));
  for (const char* name : {"if-none-match", "x-amz-content-sha256", "x-amz-security-token", "host"})
    EXPECT_THAT(head.substr(head.find("SignedHeaders=")), ::testing::HasSubstr(name));
}

TEST(S3, a_listing_goes_on_to_its_last_page) {
  Told told([](const std::string& head) {
    if (head.find("continuation-token=t%2B%2F1") != std::string::npos)
      return answer(200, page("<Contents><Key>pre/p/c</Key><Size>0</Size></Contents>", kLast));
    return answer(200, page(kTwo,
                            "<IsTruncated>true</IsTruncated>"
                            "<NextContinuationToken>t+/1</NextContinuationToken>"));
  });
  EXPECT_EQ(told.names().value(), (std::vector<std::string>{"p/a", "p/b", "p/c"}));
}

TEST(S3, a_listing_cut_at_1000_entries_is_an_error) {
  std::string thousand;
  for (int i = 0; i < 1000; ++i)
    thousand += fmt::format("<Contents><Key>pre/p/{}</Key><Size>1</Size></Contents>", i);
  const std::string whole = page(thousand, kLast);
  for (const std::string& body :
       {page(thousand, "<IsTruncated>true</IsTruncated>"),  // where it goes on is missing
        page(thousand, ""),                                 // whether it does is
        page(thousand, "<KeyCount>1001</KeyCount><IsTruncated>false</IsTruncated>"),
        page(thousand,
             "<IsTruncated>false</IsTruncated><NextContinuationToken>x"
             "</NextContinuationToken>"),
        whole.substr(0, whole.size() - 1), whole.substr(0, whole.size() / 2),
        page("<Contents><Key>pre/p/a</Key><Size>x</Size></Contents>", kLast),
        page("<Contents><Key>other/a</Key><Size>1</Size></Contents>", kLast)}) {
    Told told(always(answer(200, body)));
    EXPECT_CODE(told.names(), Code::unavailable);
  }
  Told again(always(answer(200, page(kTwo,
                                     "<IsTruncated>true</IsTruncated>"
                                     "<NextContinuationToken>t</NextContinuationToken>"))));
  EXPECT_CODE(again.names(), Code::unavailable);
}

// What a bucket with object lock says of itself, and otherwise `page`.
ToldServer::Answer locking(std::string page) {
  return [page = std::move(page)](const std::string& head) {
    if (head.find("?object-lock=") != std::string::npos)
      return answer(200,
                    "<ObjectLockConfiguration><ObjectLockEnabled>Enabled</ObjectLockEnabled>"
                    "</ObjectLockConfiguration>",
                    "Date: Thu, 26 Nov 2026 18:14:33 GMT\r\n");
    return answer(200, page);
  };
}
std::string versions(std::string_view items, std::string_view rest) {
  return fmt::format("<ListVersionsResult>{}{}</ListVersionsResult>", items, rest);
}
std::string version(std::string_view kind, std::string_view key, std::string_view id,
                    std::string_view time = "2026-11-26T18:13:45.003Z") {
  return fmt::format(
      "<{0}><Key>{1}</Key><VersionId>{2}</VersionId><LastModified>{3}</LastModified>"
      "<Size>5</Size></{0}>",
      kind, key, id, time);
}

TEST(S3, a_listing_of_versions_gives_the_oldest_of_each_key) {
  Told told(locking(versions(version("DeleteMarker", "pre/p/a", "4") +
                                 version("Version", "pre/p/a", "3") +
                                 version("Version", "pre/p/a", "2", "2026-11-26T18:13:44Z") +
                                 version("DeleteMarker", "pre/p/b", "1"),
                             kLast)));
  const auto lock = told.store.lock();
  ASSERT_TRUE(lock);
  EXPECT_TRUE(lock->enforced);
  EXPECT_EQ(lock->now.ns, 1795716873'000'000'000);
  int seen = 0;
  EXPECT_OK(told.store.list("p/", [&](const ObjectInfo& info) -> Result<> {
    ++seen;
    EXPECT_EQ(info.name, "p/a");
    EXPECT_EQ(info.put.ns, 1795716824'000'000'000);
    return {};
  }));
  EXPECT_EQ(seen, 1);
  (void)told.store.get("p/a", 5);
  EXPECT_NE(told.server.heads().back().find("/pre/p/a?versionId=2 "), std::string::npos);
}

TEST(S3, a_listing_of_versions_that_is_cut_off_is_an_error) {
  const std::string one = version("Version", "pre/p/a", "1");
  for (const std::string& body :
       {versions(one, ""), versions(one, "<IsTruncated>true</IsTruncated>"),
        versions(one, "<IsTruncated>true</IsTruncated><NextKeyMarker>pre/p/a</NextKeyMarker>"),
        versions(one, kLast).substr(0, 60), std::string("<ListBucketResult/>"),
        versions(version("Version", "pre/p/a", ""), kLast),
        versions(version("Version", "", "1"), kLast),
        versions(version("Version", "pre/p/a", "1", "today"), kLast),
        versions(version("Version", "other/a", "1"), kLast)}) {
    Told told(locking(body));
    ASSERT_TRUE(told.store.lock());
    EXPECT_CODE(told.names(), Code::unavailable) << body;
  }
}

// Without an answer to it, nobody may take a bucket for one without lock.
TEST(S3, whether_a_bucket_locks_is_known_or_asked_again) {
  for (const auto& [said, enforced] : std::vector<std::pair<std::string, bool>>{
           {fault(404, "ObjectLockConfigurationNotFoundError"), false},
           {fault(403, "AccessDenied"), false},
           {fault(501, "NotImplemented"), false},
           {answer(200, "<ObjectLockConfiguration/>"), false}}) {
    Told told(always(said));
    const auto lock = told.store.lock();
    ASSERT_TRUE(lock);
    EXPECT_EQ(lock->enforced, enforced);
    EXPECT_THAT(lock->why_not, ::testing::HasSubstr("made without object lock"));
  }
  for (const std::string& said : {fault(503, "SlowDown"), std::string()})
    EXPECT_CODE(Told(always(said)).store.lock(), Code::unavailable);
}

TEST(S3, a_list_error_is_never_read_as_empty) {
  for (const auto& [said, code] : std::vector<std::pair<std::string, Code>>{
           {fault(500, "InternalError"), Code::unavailable},
           {fault(503, "SlowDown"), Code::unavailable},
           {fault(403, "AccessDenied"), Code::denied},
           {fault(404, "NoSuchBucket"), Code::denied},
           {answer(200, ""), Code::unavailable},
           {answer(200, "<html>log in first</html>"), Code::unavailable},
           {answer(301, "", "Location: http://127.0.0.1:1/\r\n"), Code::denied},
           {answer(204, ""), Code::denied},
           {"", Code::unavailable},
           {"HTTP/1.1 200 x\r\nContent-Length: 5000\r\n\r\n" + page(kTwo, kLast),
            Code::unavailable}}) {
    Told told(always(said));
    EXPECT_CODE(told.names(), code);
  }
}

TEST(S3, what_stands_there_already_is_looked_at) {
  const auto says = [](std::string content) {
    return [content](const std::string& head) {
      return head.starts_with("PUT ") ? fault(412, "PreconditionFailed") : answer(200, content);
    };
  };
  EXPECT_OK(Told(says("hello")).store.put("a", text("hello")));
  EXPECT_CODE(Told(says("hellO")).store.put("a", text("hello")), Code::conflict);
  EXPECT_CODE(Told(says("hello, you")).store.put("a", text("hello")), Code::conflict);
  // Removed between the two.
  Told gone([](const std::string& head) {
    return head.starts_with("PUT ") ? fault(412, "PreconditionFailed") : fault(404, "NoSuchKey");
  });
  EXPECT_CODE(gone.store.put("a", text("hello")), Code::unavailable);
}

TEST(S3, each_refusal_has_the_code_that_callers_react_to) {
  for (const auto& [said, code] : std::vector<std::pair<std::string, Code>>{
           {fault(409, "ConditionalRequestConflict"), Code::unavailable},
           {fault(429, "TooManyRequests"), Code::unavailable},
           {fault(400, "RequestTimeout"), Code::unavailable},
           {fault(500, "InternalError"), Code::unavailable},
           {answer(502, "<html>proxy</html>"), Code::unavailable},
           {fault(501, "NotImplemented"), Code::denied},
           {fault(403, "RequestTimeTooSkewed"), Code::denied},
           {fault(400, "ExpiredToken"), Code::denied},
           {fault(403, "QuotaExceeded"), Code::full},
           {answer(507, ""), Code::full},
           {"", Code::unavailable}}) {
    Told told(always(said));
    EXPECT_CODE(told.store.put("a", text("x")), code);
    EXPECT_FALSE(told.store.get("a", 10));
    EXPECT_FALSE(told.store.size("a"));
    EXPECT_FALSE(told.store.remove("a"));
  }
  Told told(always(fault(501, "NotImplemented")));
  EXPECT_THAT(told.store.put("a", {}).error().what,
              ::testing::HasSubstr("no conditional PUT (If-None-Match)"));
}

TEST(S3, half_an_object_is_no_object) {
  Told cut(always("HTTP/1.1 200 x\r\nContent-Length: 10\r\n\r\n12345"));
  EXPECT_CODE(cut.store.get("a", 100), Code::unavailable);
  Bytes out(10);
  EXPECT_CODE(cut.store.get_range("a", 0, out), Code::unavailable);
  Told large(always(answer(200, std::string(200'000, 'x'))));
  EXPECT_CODE(large.store.get("a", 100'000), Code::corrupt);
}

TEST(S3, a_range_that_was_not_asked_for_is_refused) {
  const auto with_size = [](std::string got) {
    return [got](const std::string& head) {
      return head.starts_with("HEAD ") ? answer(200, std::string(10, 'x')) : got;
    };
  };
  for (const std::string& got : {answer(206, "345", "Content-Range: bytes 3-5/10\r\n"),
                                 answer(206, "23", "Content-Range: bytes 2-3/10\r\n"),
                                 answer(206, "234"), answer(200, "012")}) {
    Told told(with_size(got));
    Bytes out(3);
    EXPECT_CODE(told.store.get_range("a", 2, out), Code::unavailable);
  }
  Told told(with_size(answer(206, "234", "Content-Range: bytes 2-4/10\r\n")));
  Bytes out(3);
  EXPECT_OK(told.store.get_range("a", 2, out));
  EXPECT_EQ(out, text("234"));
}

TEST(S3, nobody_there) {
  SleptClock clock;
  HttpClient http({}, clock);
  S3Store store(http, options_at("s3:http://127.0.0.1:1/bucket", {"k", "s", ""}));
  const auto got = store.get("a", 1);
  EXPECT_CODE(got, Code::unavailable);
  EXPECT_THAT(got.error().what, ::testing::HasSubstr("GET a (bucket)"));
}

TEST(S3, places) {
  const S3Place plain = S3Place::parse("s3:https://ceph.example:7480/back-ups").value();
  EXPECT_EQ(plain.endpoint, "https://ceph.example:7480");
  EXPECT_EQ(plain.bucket, "back-ups");
  EXPECT_EQ(plain.prefix, "");
  const S3Place below = S3Place::parse("s3:http://[::1]:80/bucket/laptops/anna/").value();
  EXPECT_EQ(below.endpoint, "http://[::1]:80");
  EXPECT_EQ(below.prefix, "laptops/anna/");
  const S3Place aws = S3Place::parse("s3://bucket/x").value();
  EXPECT_EQ(aws.endpoint, "");
  EXPECT_EQ(aws.bucket, "bucket");
  for (const char* bad :
       {"s3:", "s3://", "s3:https://", "s3:https://host", "s3:https://host/",
        "s3:ftp://host/bucket", "s3:https://user@host/bucket", "s3:https://host/Bucket",
        "s3:https://host/ab", "s3:https://host/bucket/../x", "s3:https://host/bucket//x",
        "s3:https://host/bucket/A", "https://host/bucket", "s3:host/bucket", "s3:https:///bucket",
        "s3:https://host?x/bucket"})
    EXPECT_CODE(S3Place::parse(bad), Code::invalid);
}

// ---- asking again
// ---------------------------------------------------------------------------------------------------------

struct Asked {
  MemoryStore memory;
  FaultStore fault;
  SleptClock clock;
  SeededRandom random{1};
  Stop stop;
  RetryStore retry;
  explicit Asked(const FaultPlan& plan, RetryLimits limits = {})
      : fault(memory, plan), retry(fault, clock, random, stop, limits) {}
};

TEST(Retry, asks_so_often_and_waits_longer_each_time) {
  Asked asked({.fail_before = 1024}, {.attempts = 6, .first_ns = 1000, .longest_ns = 4000});
  const auto put = asked.retry.put("a", {});
  EXPECT_CODE(put, Code::unavailable);
  EXPECT_THAT(put.error().what, ::testing::EndsWith("; tried 6 times"));
  EXPECT_EQ(asked.fault.calls(), 6U);
  EXPECT_GT(asked.clock.slept_ns, 0);
  EXPECT_LE(asked.clock.slept_ns, 1000 + 2000 + 4000 * 3);
}

TEST(Retry, what_is_not_of_the_line_is_not_asked_again) {
  Asked asked({});
  EXPECT_OK(asked.memory.put("a", text("x")));
  EXPECT_CODE(asked.retry.get("b", 1), Code::not_found);
  EXPECT_CODE(asked.retry.put("a", text("y")), Code::conflict);
  EXPECT_CODE(asked.retry.put("", {}), Code::invalid);
  EXPECT_EQ(asked.fault.calls(), 3U);
  const auto visited = asked.retry.list("", [](const ObjectInfo&) -> Result<> {
    return fail(Code::unavailable, "the visitor's own");
  });
  EXPECT_CODE(visited, Code::unavailable);
  EXPECT_EQ(asked.fault.calls(), 4U);
}

TEST(Retry, a_wish_to_stop_ends_it) {
  Asked asked({.fail_before = 1024});
  asked.stop.request();
  EXPECT_CODE(asked.retry.get("a", 1), Code::unavailable);
  EXPECT_EQ(asked.fault.calls(), 1U);
  EXPECT_EQ(asked.clock.slept_ns, 0);
}

TEST(Retry, a_listing_that_broke_off_gives_each_object_once) {
  for (std::uint64_t seed = 0; seed < 50; ++seed) {
    Asked asked({.seed = seed, .fail_after = 700}, {.attempts = 100});
    for (int i = 0; i < 30; ++i) EXPECT_OK(asked.memory.put(fmt::format("p/{}", i), {}));
    std::vector<std::string> names;
    EXPECT_OK(asked.retry.list("p/", [&](const ObjectInfo& info) -> Result<> {
      names.push_back(info.name);
      return {};
    }));
    EXPECT_EQ(names.size(), 30U);
    EXPECT_EQ(std::set<std::string>(names.begin(), names.end()).size(), 30U);
  }
}

}  // namespace
}  // namespace holdfast
