// SPDX-License-Identifier: Apache-2.0
#include "output.h"

#include <fmt/format.h>

#include <cerrno>
#include <cstdio>
#include <cstdlib>
#include <cstring>
#include <ctime>
#include <nlohmann/json.hpp>

namespace holdfast {

namespace {

// The last line of defence (RST-11): foreign text went through escaped() before. With the line's
// end.
std::string without_controls(std::string_view text) {
  std::string line;
  line.reserve(text.size() + 1);
  for (const char c : text) {
    const bool control = (static_cast<unsigned char>(c) < 0x20 && c != '\n') || c == 0x7F;
    control ? line += fmt::format("\\x{:02x}", static_cast<unsigned char>(c)) : line += c;
  }
  return line += '\n';
}

}  // namespace

void Output::put(std::string_view text) {
  const std::lock_guard lock(mutex_);
  if (!state_) return;
  if (std::fwrite(text.data(), 1, text.size(), stdout) == text.size()) return;
  state_ = errno == EPIPE
               ? fail(Code::interrupted, "the reader of the output went away")
               : fail(Code::unavailable, fmt::format("output: {}", std::strerror(errno)));
}

void Output::line(std::string_view text) {
  if (!json_) put(without_controls(text));
}

void Output::message(std::string_view text) {
  if (!quiet_) warning(text);
}

void Output::warning(std::string_view text) {
  const std::string line = without_controls(text);
  const std::lock_guard lock(mutex_);
  // In the order in which they were said, also where both go into one file.
  if (!has_bytes_) std::fflush(stdout);
  std::fwrite(line.data(), 1, line.size(), stderr);
}

void Output::damage(const std::string& what) {
  warning("damaged: " + what);
  object({{"message_type", "damage"}, {"what", what}});
}

void Output::object(const nlohmann::json& object) {
  if (json_) put(object.dump(-1, ' ', false, nlohmann::json::error_handler_t::replace) + "\n");
}

Result<> Output::bytes(ByteSpan bytes) {
  put(as_text(bytes));
  const std::lock_guard lock(mutex_);
  has_bytes_ = true;
  return state_;
}

bool Output::has_bytes() {
  const std::lock_guard lock(mutex_);
  return has_bytes_;
}

Result<> Output::flush() {
  const std::lock_guard lock(mutex_);
  if (state_ && std::fflush(stdout) != 0)
    state_ = errno == EPIPE
                 ? fail(Code::interrupted, "the reader of the output went away")
                 : fail(Code::unavailable, fmt::format("output: {}", std::strerror(errno)));
  return state_;
}

Result<> Output::state() {
  const std::lock_guard lock(mutex_);
  return state_;
}

std::string human_bytes(std::uint64_t bytes) {
  constexpr std::string_view units[] = {"KiB", "MiB", "GiB", "TiB", "PiB", "EiB"};
  if (bytes < 1024) return fmt::format("{} B", bytes);
  double value = static_cast<double>(bytes) / 1024;
  std::size_t unit = 0;
  while (value >= 999.95 && unit + 1 < std::size(units)) {
    value /= 1024;
    ++unit;
  }
  return fmt::format("{:.1f} {}", value, units[unit]);
}

std::string human_duration(std::int64_t ns) {
  const double seconds = static_cast<double>(ns) / 1e9;
  if (seconds < 60) return fmt::format("{:.1f} s", seconds);
  const auto whole = static_cast<std::int64_t>(seconds);
  if (whole < 3600) return fmt::format("{} min {} s", whole / 60, whole % 60);
  return fmt::format("{} h {} min", whole / 3600, whole % 3600 / 60);
}

namespace {

FileTime parts_of(Time time) {
  constexpr std::int64_t second = 1'000'000'000;
  const std::int64_t rest = (time.ns % second + second) % second;
  return {(time.ns - rest) / second, static_cast<std::uint32_t>(rest)};
}

// strftime's %Y gives the year 812 three digits.
std::string date(const std::tm& tm) {
  const std::int64_t year = std::int64_t{tm.tm_year} + 1900;
  return fmt::format("{}{:04}-{:02}-{:02}", year < 0 ? "-" : "", std::abs(year), tm.tm_mon + 1,
                     tm.tm_mday);
}

std::string clock(const std::tm& tm) {
  return fmt::format("{:02}:{:02}:{:02}", tm.tm_hour, tm.tm_min, tm.tm_sec);
}

}  // namespace

std::string local_time(const FileTime& time) {
  const std::time_t seconds = time.seconds;
  std::tm tm{};
  if (localtime_r(&seconds, &tm) == nullptr) return fmt::format("@{}", time.seconds);
  const long minutes = std::abs(tm.tm_gmtoff) / 60;
  return fmt::format("{} {} {}{:02}:{:02}", date(tm), clock(tm), tm.tm_gmtoff < 0 ? '-' : '+',
                     minutes / 60, minutes % 60);
}

std::string utc_time(const FileTime& time) {
  const std::time_t seconds = time.seconds;
  std::tm tm{};
  if (gmtime_r(&seconds, &tm) == nullptr) return fmt::format("@{}", time.seconds);
  return fmt::format("{}T{}.{:09}Z", date(tm), clock(tm), time.nanoseconds);
}

std::string local_time(Time time) { return local_time(parts_of(time)); }
std::string utc_time(Time time) { return utc_time(parts_of(time)); }

std::string age(Time then, Time now) {
  const std::int64_t seconds = (now.ns - then.ns) / 1000000000;
  const auto ago = [](std::int64_t n, std::string_view unit) {
    return fmt::format("{} {}{} ago", n, unit, n == 1 ? "" : "s");
  };
  if (seconds < 0) return "in the future";
  if (seconds < 60) return "just now";
  if (seconds < 3600) return ago(seconds / 60, "minute");
  if (seconds < 48L * 3600) return ago(seconds / 3600, "hour");
  return ago(seconds / (24L * 3600), "day");
}

nlohmann::json with_path(nlohmann::json object, std::string_view path) {
  std::string text = escaped(path);
  if (text != path) object["path_hex"] = to_hex(as_bytes(path));
  object["path"] = std::move(text);
  return object;
}

std::string joined(const std::vector<std::string>& texts) {
  std::string out;
  for (const std::string& t : texts) out += (out.empty() ? "" : ", ") + escaped(t);
  return out;
}

nlohmann::json escaped_all(const std::vector<std::string>& texts) {
  nlohmann::json out = nlohmann::json::array();
  for (const std::string& t : texts) out.push_back(escaped(t));
  return out;
}

}  // namespace holdfast
