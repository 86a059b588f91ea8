// SPDX-License-Identifier: Apache-2.0
#include "repo/retention.h"

#include <fmt/format.h>
#include <fmt/ranges.h>

#include <algorithm>
#include <cassert>
#include <charconv>
#include <chrono>
#include <map>
#include <optional>
#include <tuple>

namespace holdfast {
namespace {

constexpr std::int64_t kSecond_ns = 1'000'000'000;
constexpr std::int64_t kHour_s = 3600, kDay_s = 24 * kHour_s;
constexpr std::int64_t kTolerance_ns = kClockTolerance_h * kHour_s * kSecond_ns;
constexpr std::uint32_t kDurationNumberMax =
    9999;  // in any unit: a calendar of five digits holds it

std::int64_t floor_div(std::int64_t a, std::int64_t b) { return a / b - (a % b < 0 ? 1 : 0); }

// Heads may say any time at all.
Time later_by(Time time, std::int64_t ns) {
  std::int64_t sum = 0;
  if (!__builtin_add_overflow(time.ns, ns, &sum)) return {sum};
  return {ns < 0 ? INT64_MIN : INT64_MAX};
}

std::int64_t seconds_of(Time time) { return floor_div(time.ns, kSecond_ns); }
std::int64_t below_second_ns(Time time) { return (time.ns % kSecond_ns + kSecond_ns) % kSecond_ns; }

using Days = std::chrono::sys_days;

std::chrono::year_month_day date_of(std::int64_t local_day) {
  return Days(std::chrono::days(static_cast<int>(local_day)));
}

}  // namespace

std::string utc_text(Time time) {
  const std::int64_t seconds = seconds_of(time), day = floor_div(seconds, kDay_s);
  const auto date = date_of(day);
  const std::int64_t minutes = (seconds - day * kDay_s) / 60;
  return fmt::format("{:04}-{:02}-{:02} {:02}:{:02} UTC", int(date.year()), unsigned(date.month()),
                     unsigned(date.day()), minutes / 60, minutes % 60);
}

namespace {

// "26 hours", "12 days": how far `late` lies after `early`.
std::string distance_text(Time early, Time late) {
  const std::int64_t hours = (seconds_of(late) - seconds_of(early)) / kHour_s;
  return hours < 72 ? fmt::format("{} hours", hours) : fmt::format("{} days", hours / 24);
}

// ---- Whose time is believed

using Indices = std::vector<std::size_t>;

// By number, oldest first.
std::map<DeviceId, Indices> by_device(std::span<const RetentionItem> items) {
  std::map<DeviceId, Indices> out;
  for (std::size_t i = 0; i < items.size(); ++i) out[items[i].device].push_back(i);
  for (auto& [device, indices] : out)
    std::ranges::sort(indices, {},
                      [&](std::size_t i) { return std::tie(items[i].number, items[i].id); });
  return out;
}

bool in_future(const RetentionItem& item, Time now) {
  return item.time > later_by(now, kTolerance_ns);
}

struct Belief {
  std::string doubt;        // why its time is not believed, or nothing
  bool is_witness = false;  // another one is not believed because of it
};

// Future ones are put aside first, so that one leap ahead does not make all that follow it look
// late.
std::vector<Belief> beliefs(std::span<const RetentionItem> items,
                            const std::map<DeviceId, Indices>& devices, Time now) {
  std::vector<Belief> out(items.size());
  for (const auto& [device, indices] : devices) {
    std::optional<std::size_t> latest;
    for (const std::size_t i : indices) {
      const Time time = items[i].time;
      if (in_future(items[i], now)) {
        out[i].doubt = fmt::format("{} is {} after now", utc_text(time), distance_text(now, time));
      } else if (latest && time < later_by(items[*latest].time, -kTolerance_ns)) {
        const RetentionItem& before = items[*latest];
        out[i].doubt = fmt::format(
            "{} is {} before the earlier snapshot number {} of its device ({})", utc_text(time),
            distance_text(time, before.time), before.number, utc_text(before.time));
        out[*latest].is_witness = true;
      } else if (!latest || time > items[*latest].time) {
        latest = i;
      }
    }
  }
  return out;
}

// ---- Whether this machine's clock is believed

// A clock that is behind makes the newest snapshot of every device future; a device that lies makes
// only its own so.
Result<> check_not_behind(std::span<const RetentionItem> items,
                          const std::map<DeviceId, Indices>& devices, Time now) {
  const RetentionItem* newest = nullptr;
  for (const auto& [device, indices] : devices) {
    const RetentionItem& item = items[indices.back()];
    if (!in_future(item, now)) return {};
    if (newest == nullptr || item.time > newest->time) newest = &item;
  }
  if (newest == nullptr) return {};
  return fail(
      Code::denied,
      fmt::format("the clock of this machine says {}, but snapshot {} was made at {}, {} later: "
                  "nothing is forgotten. Set the clock, or, if it is right and the snapshot's "
                  "time is not, say --clock-is-right",
                  utc_text(now), newest->id.brief(), utc_text(newest->time),
                  distance_text(now, newest->time)));
}

Result<> check_not_ahead(std::span<const RetentionItem> items, Time now) {
  const Time proof = later_by(now, -kClockProof_days_min * kDay_s * kSecond_ns);
  const RetentionItem* newest = nullptr;
  for (const RetentionItem& item : items)
    if (item.time <= proof && (newest == nullptr || item.time > newest->time)) newest = &item;
  if (newest == nullptr) return {};  // all are of this week
  if (newest->time >= later_by(now, -kClockProof_days_max * kDay_s * kSecond_ns)) return {};
  return fail(
      Code::denied,
      fmt::format("the clock of this machine says {}, but the newest snapshot that is older "
                  "than {} days, {}, was made at {}, {} before: the clock may have leapt, so "
                  "nothing is forgotten. If it is right, say --clock-is-right, or make backups "
                  "as usual and forget in {} days",
                  utc_text(now), kClockProof_days_min, newest->id.brief(), utc_text(newest->time),
                  distance_text(newest->time, now), kClockProof_days_min));
}

// ---- The policy

// Rules of restic 0.14, doc/060_forget.rst: from the newest to the oldest, a snapshot in another
// hour, day, .. than the last one that took a slot takes the next slot.
struct Slots {
  std::string_view name;
  std::uint32_t limit;
  std::uint32_t taken = 0;
  std::optional<std::int64_t> last_period{};

  bool take(std::int64_t period) {
    if (limit != kKeepAll && taken == limit) return false;
    if (last_period == period) return false;
    last_period = period;
    ++taken;
    return true;
  }
};

// Numbers that are equal within one hour, day, ISO week, month, year of local time.
struct Periods {
  std::int64_t hour, day, week, month, year;
};

Periods periods_of(Time time, const UtcOffset& zone) {
  const std::int64_t seconds = seconds_of(time);
  const std::int64_t hour = floor_div(seconds + zone(seconds), kHour_s);
  const std::int64_t day = floor_div(hour, 24);
  const auto date = date_of(day);
  const std::int64_t year = int(date.year());
  // 1970-01-01 was a Thursday; ISO weeks begin on Mondays.
  return {hour, day, floor_div(day + 3, 7), year * 12 + unsigned(date.month()), year};
}

// The instant that local time calls `local_seconds`; of two, or none (when clocks change), the one
// that the offset in force on either side gives, as Go's time.Date() has it.
std::int64_t instant_of(std::int64_t local_seconds, const UtcOffset& zone) {
  const std::int64_t guess = local_seconds - zone(local_seconds);
  return local_seconds - zone(guess);
}

// The same local hour so many years, months and days before, then hours by the clock. A day that a
// month does not have counts on into the next: 31 March less a month is 3 March.
std::int64_t before(std::int64_t utc_seconds, const RetentionDuration& duration,
                    const UtcOffset& zone) {
  using namespace std::chrono;
  const std::int64_t local = utc_seconds + zone(utc_seconds);
  const std::int64_t day = floor_div(local, kDay_s);
  const auto date = date_of(day);
  const auto month =
      year_month(date.year(), date.month()) - years(duration.years) - months(duration.months);
  const std::int64_t first = Days(month / 1).time_since_epoch().count();
  const std::int64_t moved = first + unsigned(date.day()) - 1 - std::int64_t{duration.days};
  return instant_of(moved * kDay_s + (local - day * kDay_s), zone) -
         std::int64_t{duration.hours} * kHour_s;
}

bool has_tags(const RetentionItem& item, const std::vector<std::string>& tags) {
  return std::ranges::all_of(tags, [&](const std::string& tag) {
    return std::ranges::find(item.tags, tag) != item.tags.end();
  });
}

// What one policy says of one group's believed snapshots, which are asked for newest first.
class Rules {
 public:
  Rules(const RetentionPolicy& policy, const RetentionClock& clock)
      : policy_(policy), clock_(clock) {}

  // The newest that is not after now; none: everything is within.
  void set_newest(std::span<const RetentionItem> items, const Indices& newest_first) {
    for (const std::size_t i : newest_first) {
      if (items[i].time > clock_.now) continue;
      newest_ns_ = below_second_ns(items[i].time);
      within_after_ = before(seconds_of(items[i].time), policy_.within, clock_.zone);
      return;
    }
  }

  // Why the policy keeps it; empty: it does not.
  std::vector<std::string> reasons(const RetentionItem& item) {
    std::vector<std::string> out;
    const Periods periods = periods_of(item.time, clock_.zone);
    const std::int64_t values[] = {count_++,     periods.hour,  periods.day,
                                   periods.week, periods.month, periods.year};
    for (std::size_t i = 0; i < std::size(slots_); ++i)
      if (slots_[i].take(values[i]))
        out.push_back(fmt::format("{} {}", slots_[i].name, slots_[i].taken));
    if (is_within(item.time))
      out.push_back(fmt::format("within {} of the newest", policy_.within.text()));
    for (const auto& tags : policy_.keep_tags)
      if (has_tags(item, tags)) out.push_back(fmt::format("tag {}", fmt::join(tags, ",")));
    return out;
  }

 private:
  [[nodiscard]] bool is_within(Time time) const {
    if (policy_.within.is_zero()) return false;
    if (!within_after_) return true;
    return std::tuple(seconds_of(time), below_second_ns(time)) >
           std::tuple(*within_after_, newest_ns_);
  }

  const RetentionPolicy& policy_;
  const RetentionClock& clock_;
  std::optional<std::int64_t> within_after_;
  std::int64_t newest_ns_ = 0;  // below the second
  std::int64_t count_ = 0;
  Slots slots_[6] = {{"last", policy_.last},       {"hourly", policy_.hourly},
                     {"daily", policy_.daily},     {"weekly", policy_.weekly},
                     {"monthly", policy_.monthly}, {"yearly", policy_.yearly}};
};

// ---- Groups

using GroupKey = std::tuple<DeviceId, std::string, std::vector<std::string>>;

// By number, newest first.
std::map<GroupKey, Indices> by_group(std::span<const RetentionItem> items,
                                     const RetentionPolicy& policy,
                                     const std::map<DeviceId, Indices>& devices) {
  std::map<GroupKey, Indices> out;
  for (const auto& [device, indices] : devices) {
    for (auto i = indices.rbegin(); i != indices.rend(); ++i) {
      if (!items[*i].considered) continue;
      std::vector<std::string> paths;
      if (policy.by_paths) paths = items[*i].paths;
      std::ranges::sort(paths);
      out[GroupKey(device, policy.by_host ? items[*i].host : std::string(), std::move(paths))]
          .push_back(*i);
    }
  }
  return out;
}

// A witness stays: were it dropped, the next run would believe those that it speaks against, and
// they would push out one more, run by run.
RetentionDecision decision_of(std::size_t item, const Belief& belief,
                              std::vector<std::string> reasons) {
  if (!belief.doubt.empty()) reasons = {"its time cannot be trusted: " + belief.doubt};
  if (reasons.empty() && belief.is_witness)
    reasons = {"shows that the times of later ones are wrong"};
  const bool kept = !reasons.empty();
  return {item, kept, belief.doubt.empty(), std::move(reasons)};
}

std::vector<RetentionDecision> decide(std::span<const RetentionItem> items,
                                      const Indices& by_number, const std::vector<Belief>& belief,
                                      Rules rules) {
  Indices believed;
  for (const std::size_t i : by_number)
    if (belief[i].doubt.empty()) believed.push_back(i);
  // By time, so that two days that alternate within the tolerance take two slots and not hundreds.
  std::ranges::sort(believed, std::ranges::greater{}, [&](std::size_t i) {
    return std::tie(items[i].time, items[i].number, items[i].id);
  });
  rules.set_newest(items, believed);
  std::map<std::size_t, std::vector<std::string>> reasons;
  for (const std::size_t i : believed) reasons[i] = rules.reasons(items[i]);

  std::vector<RetentionDecision> out;
  for (const std::size_t i : by_number)
    out.push_back(decision_of(i, belief[i], std::move(reasons[i])));
  return out;
}

// A device's newest number is what others remember of it, and the newest of the same host and paths
// is all there is of them.
void keep_newest(std::vector<RetentionDecision>& decisions, bool is_newest_of_device) {
  RetentionDecision& newest = decisions.front();
  if (newest.kept) return;
  newest.kept = true;
  newest.reasons = {is_newest_of_device ? "newest of its device: never dropped"
                                        : "newest of its host and paths: never dropped"};
}

Result<> check_policy(const RetentionPolicy& policy) {
  if (policy.is_empty())
    return fail(
        Code::invalid,
        "no rule says what to keep: name at least one of --keep-last, --keep-hourly, "
        "--keep-daily, --keep-weekly, --keep-monthly, --keep-yearly, --keep-within, --keep-tag");
  if (std::ranges::any_of(policy.keep_tags, &std::vector<std::string>::empty))
    return fail(Code::invalid,
                "--keep-tag: a list of tags is empty, which every snapshot would match");
  return {};
}

template <class Predicate>
std::size_t count(const RetentionPlan& plan, Predicate predicate) {
  std::size_t sum = 0;
  for (const RetentionGroup& group : plan.groups)
    sum += static_cast<std::size_t>(std::ranges::count_if(group.decisions, predicate));
  return sum;
}

}  // namespace

std::string RetentionDuration::text() const {
  std::string out;
  for (const auto& [number, unit] :
       {std::pair(years, 'y'), {months, 'm'}, {days, 'd'}, {hours, 'h'}})
    if (number != 0) out += fmt::format("{}{}", number, unit);
  return out.empty() ? "0h" : out;
}

Result<RetentionDuration> RetentionDuration::parse(std::string_view text) {
  const auto refuse = [&](std::string_view why) {
    return fail(
        Code::invalid,
        fmt::format("duration \"{}\": {}; wanted are years, months, days, hours, such as 1y5m7d2h",
                    escaped(text), why));
  };
  RetentionDuration out;
  std::string seen;
  const char* at = text.data();
  const char* const end = at + text.size();
  if (at == end) return refuse("empty");
  while (at != end) {
    std::uint32_t number = 0;
    const auto [rest, error] = std::from_chars(at, end, number);
    if (error == std::errc::invalid_argument) return refuse("a number is missing");
    if (error != std::errc{} || number > kDurationNumberMax)
      return refuse(fmt::format("a number above {}", kDurationNumberMax));
    if (rest == end) return refuse("a unit is missing");
    std::uint32_t* const field = *rest == 'y'   ? &out.years
                                 : *rest == 'm' ? &out.months
                                 : *rest == 'd' ? &out.days
                                 : *rest == 'h' ? &out.hours
                                                : nullptr;
    if (field == nullptr) return refuse("a unit is none of y, m, d, h");
    if (seen.find(*rest) != std::string::npos) return refuse("a unit comes twice");
    seen += *rest;
    *field = number;
    at = rest + 1;
  }
  if (out.is_zero()) return refuse("nothing at all");
  return out;
}

bool RetentionPolicy::is_empty() const {
  return last == 0 && hourly == 0 && daily == 0 && weekly == 0 && monthly == 0 && yearly == 0 &&
         within.is_zero() && keep_tags.empty();
}

RetentionItem retention_item(const Snapshot& snapshot) {
  return {.id = snapshot.id,
          .device = snapshot.device,
          .number = snapshot.number,
          .time = snapshot.ended,
          .host = snapshot.host,
          .paths = snapshot.paths,
          .tags = snapshot.tags};
}

std::size_t RetentionPlan::kept() const {
  return count(*this, [](const RetentionDecision& decision) { return decision.kept; });
}
std::size_t RetentionPlan::dropped() const {
  return count(*this, [](const RetentionDecision& decision) { return !decision.kept; });
}
std::size_t RetentionPlan::not_believed() const {
  return count(*this, [](const RetentionDecision& decision) { return !decision.time_believed; });
}

Result<RetentionPlan> plan_retention(std::span<const RetentionItem> items,
                                     const RetentionPolicy& policy, const RetentionClock& clock) {
  assert(clock.zone);
  HF_TRY(check_policy(policy));
  const auto devices = by_device(items);
  if (!clock.is_right) {
    HF_TRY(check_not_behind(items, devices, clock.now));
    HF_TRY(check_not_ahead(items, clock.now));
  }
  const std::vector<Belief> belief = beliefs(items, devices, clock.now);
  RetentionPlan plan;
  for (const auto& [key, by_number] : by_group(items, policy, devices)) {
    const auto& [device, host, paths] = key;
    auto decisions = decide(items, by_number, belief, Rules(policy, clock));
    keep_newest(decisions, by_number.front() == devices.at(device).back());
    plan.groups.push_back({device, host, paths, std::move(decisions)});
  }
  return plan;
}

}  // namespace holdfast
