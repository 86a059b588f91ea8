// SPDX-License-Identifier: Apache-2.0
// What the program says: results on stdout, messages on stderr; with --json one object a line on
// stdout instead.
#pragma once

#include <cstdint>
#include <mutex>
#include <nlohmann/json_fwd.hpp>
#include <string>
#include <string_view>
#include <vector>

#include "base/world.h"
#include "repo/entry.h"

namespace holdfast {

class Output {
 public:
  Output(bool json, bool quiet) : json_(json), quiet_(quiet) {}
  [[nodiscard]] bool json() const { return json_; }
  [[nodiscard]] bool quiet() const { return quiet_; }
  // Every foreign string in `text` went through escaped() before.
  void line(std::string_view text);           // a result; nothing with --json
  void message(std::string_view text);        // stderr; nothing with --quiet
  void warning(std::string_view text);        // stderr, always
  void object(const nlohmann::json& object);  // only with --json
  // "damaged: ..." on stderr, and an object.
  void damage(const std::string& what);
  // Raw bytes of a dump. Code::unavailable when stdout does not take them.
  Result<> bytes(ByteSpan bytes);
  // Ok, or what went wrong with stdout so far. A reader that went away (EPIPE) is
  // Code::interrupted.
  Result<> flush();
  // What flush() gave or a write met so far, without writing.
  Result<> state();
  // True once a dump began: nothing else belongs onto stdout then.
  bool has_bytes();

 private:
  void put(std::string_view text);
  const bool json_, quiet_;
  std::mutex mutex_;
  Result<> state_;
  bool has_bytes_ = false;
};

std::string human_bytes(std::uint64_t bytes);  // "12.3 MiB"
std::string human_duration(std::int64_t ns);   // "4.2 s", "3 min 20 s"
// "2026-11-24 21:30:00 +01:00". Both: "@SECONDS" for a time that no calendar reaches (files may
// have any 64 bits).
std::string local_time(const FileTime& time);
std::string utc_time(const FileTime& time);  // "2026-11-24T20:30:00.123456789Z"
std::string local_time(Time time);
std::string utc_time(Time time);
// How long ago, roughly: "3 days ago", "just now".
std::string age(Time then, Time now);
// Foreign texts, escaped, for people and as JSON.
std::string joined(const std::vector<std::string>& texts);
nlohmann::json escaped_all(const std::vector<std::string>& texts);
// `object` with "path". Text in JSON is UTF-8, so the path is escaped(); where that is not the path
// itself, "path_hex" has its bytes.
nlohmann::json with_path(nlohmann::json object, std::string_view path);

}  // namespace holdfast
