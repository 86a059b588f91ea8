// SPDX-License-Identifier: Apache-2.0
#include "repo/retention.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <algorithm>
#include <chrono>
#include <fstream>
#include <map>
#include <set>
#include <sstream>

#include "base/seeded_random.h"

namespace holdfast {
namespace {

using testing::AllOf;
using testing::ElementsAre;
using testing::HasSubstr;

constexpr std::int64_t kSecond = 1'000'000'000, kHour = 3600 * kSecond, kDay = 24 * kHour;
constexpr std::int64_t kYear = 365 * kDay;

Time utc(int year, unsigned month, unsigned day, int hour = 0, int minute = 0) {
  const std::chrono::year_month_day date{std::chrono::year(year), std::chrono::month(month),
                                         std::chrono::day(day)};
  const std::int64_t days = std::chrono::sys_days(date).time_since_epoch().count();
  return {(days * 24 + hour) * kHour + minute * 60 * kSecond};
}
Time operator+(Time time, std::int64_t ns) { return {time.ns + ns}; }
Time operator-(Time time, std::int64_t ns) { return {time.ns - ns}; }

const Time kNow = utc(2026, 6, 15, 12);
const UtcOffset kUtc = [](std::int64_t) { return 0; };
const RetentionClock kClock{kNow, kUtc, false}, kClockIsRight{kNow, kUtc, true};

DeviceId device(unsigned number) {
  DeviceId id;
  id.bytes[0] = std::byte(number);
  return id;
}

// Item with an id that follows from device and number.
RetentionItem item(unsigned of_device, std::uint64_t number, Time time) {
  RetentionItem out{
      .device = device(of_device), .number = number, .time = time, .host = "host", .paths = {"/a"}};
  out.id.bytes[0] = std::byte(of_device);
  store_le(out.id.bytes.data() + 1, number);
  return out;
}

// `count` snapshots of device 1, `step` apart, the last at `newest`.
std::vector<RetentionItem> series(std::size_t count, std::int64_t step, Time newest = kNow) {
  std::vector<RetentionItem> out;
  for (std::size_t i = 0; i < count; ++i)
    out.push_back(item(1, i + 1, newest - static_cast<std::int64_t>(count - 1 - i) * step));
  return out;
}

void append(std::vector<RetentionItem>& items, const std::vector<RetentionItem>& more) {
  items.insert(items.end(), more.begin(), more.end());
}

using Verdicts = std::map<SnapshotId, RetentionDecision>;

Verdicts verdicts(const std::vector<RetentionItem>& items, const RetentionPolicy& policy,
                  const RetentionClock& clock = kClockIsRight) {
  Verdicts out;
  const auto plan = plan_retention(items, policy, clock);
  EXPECT_TRUE(plan) << plan.error().what;
  if (!plan) return out;
  for (const RetentionGroup& group : plan->groups)
    for (const RetentionDecision& decision : group.decisions) {
      const bool first = out.emplace(items[decision.item].id, decision).second;
      EXPECT_TRUE(first) << "judged twice";
      EXPECT_EQ(decision.kept, !decision.reasons.empty());
    }
  return out;
}

using Ids = std::set<SnapshotId>;

Ids kept(const Verdicts& all) {
  Ids out;
  for (const auto& [id, decision] : all)
    if (decision.kept) out.insert(id);
  return out;
}

Ids kept(const std::vector<RetentionItem>& items, const RetentionPolicy& policy,
         const RetentionClock& clock = kClockIsRight) {
  return kept(verdicts(items, policy, clock));
}

// Numbers of the kept ones, where there is one device.
std::vector<std::uint64_t> kept_numbers(const std::vector<RetentionItem>& items,
                                        const RetentionPolicy& policy,
                                        const RetentionClock& clock = kClockIsRight) {
  const Ids ids = kept(items, policy, clock);
  std::vector<std::uint64_t> out;
  for (const RetentionItem& one : items)
    if (ids.contains(one.id)) out.push_back(one.number);
  return out;
}

bool includes(const Ids& larger, const Ids& smaller) {
  return std::ranges::includes(larger, smaller);
}

RetentionDuration duration(const std::string& text) {
  const auto parsed = RetentionDuration::parse(text);
  EXPECT_TRUE(parsed) << parsed.error().what;
  return parsed.value_or(RetentionDuration{});
}

// ---- Durations

TEST(RetentionDuration, forms) {
  EXPECT_EQ(duration("1y5m7d2h"), (RetentionDuration{1, 5, 7, 2}));
  EXPECT_EQ(duration("30d"), (RetentionDuration{0, 0, 30, 0}));
  EXPECT_EQ(duration("2h1y"), (RetentionDuration{1, 0, 0, 2}));
  EXPECT_EQ(duration("9999h0d"), (RetentionDuration{0, 0, 0, 9999}));
  EXPECT_EQ(duration("2h1y").text(), "1y2h");
  EXPECT_EQ(duration("1y5m7d2h").text(), "1y5m7d2h");
}

TEST(RetentionDuration, anything_else_is_named_with_the_form) {
  const struct Row {
    std::string text, why;
  } rows[] = {
      {"", "empty"},
      {"5", "a unit is missing"},
      {"d", "a number is missing"},
      {"-1d", "a number"},
      {"+1d", "a number is missing"},
      {" 1d", "a number is missing"},
      {"1d ", "a number"},
      {"1w", "none of y, m, d, h"},
      {"1d2d", "comes twice"},
      {"0d", "nothing"},
      {"10000d", "above 9999"},
      {"99999999999999999999d", "above 9999"},
      {"1D", "none of"},
      {"1.5d", "none of"},
      {"1d\n", "a number is missing"},
      {std::string("1\0d", 3), "none of"},
  };
  for (const auto& [text, why] : rows) {
    const auto parsed = RetentionDuration::parse(text);
    ASSERT_FALSE(parsed) << text;
    EXPECT_EQ(parsed.error().code, Code::invalid);
    EXPECT_THAT(parsed.error().what,
                AllOf(HasSubstr(why), HasSubstr("1y5m7d2h"), HasSubstr(escaped(text))));
  }
}

// ---- What restic answers: testdata/retention/answers.txt

struct Zone {
  std::int64_t first = 0;
  std::map<std::int64_t, std::int64_t> changes;

  [[nodiscard]] std::int64_t at(std::int64_t seconds) const {
    const auto after = changes.upper_bound(seconds);
    return after == changes.begin() ? first : std::prev(after)->second;
  }
};

Time read_time(const std::string& text) {
  const auto point = text.find('.');
  std::string decimals = point == std::string::npos ? "" : text.substr(point + 1);
  decimals.resize(9, '0');
  return {std::stoll(text.substr(0, point)) * kSecond + std::stoll(decimals)};
}

std::vector<std::string> split(const std::string& text, char at) {
  std::vector<std::string> out;
  std::istringstream in(text == "-" ? "" : text);
  for (std::string part; std::getline(in, part, at);) out.push_back(part);
  return out;
}

class ResticAnswers {
 public:
  int sets = 0, policies = 0, newest_kept_by_us = 0;

  void read(const std::string& line) {
    std::istringstream words(line);
    std::string what;
    words >> what;
    if (what == "zone") read_zone(words);
    if (what == "set") begin_set(words);
    if (what == "s") read_snapshot(words);
    if (what == "p") judge(words, line);
  }

 private:
  void read_zone(std::istream& words) {
    std::string name, change;
    words >> name;
    words >> zones_[name].first;
    while (words >> change)
      zones_[name].changes[std::stoll(change)] = std::stoll(change.substr(change.find(':') + 1));
  }
  void begin_set(std::istream& words) {
    std::string number;
    words >> number >> zone_;
    items_.clear();
    ++sets;
  }
  void read_snapshot(std::istream& words) {
    std::string time, tags;
    int group = 0;
    words >> time >> group >> tags;
    RetentionItem one = item(1, items_.size() + 1, read_time(time));
    one.host = group == 2 ? "beta" : "alpha";
    if (group == 1) one.paths = {"/b", "/a"};
    one.tags = split(tags, ',');
    items_.push_back(std::move(one));
  }
  // Ours keeps the newest of each group as well; that is the only difference.
  void judge(std::istream& words, const std::string& line) {
    RetentionPolicy policy;
    std::string within, tags;
    std::uint64_t want = 0;
    words >> policy.last >> policy.hourly >> policy.daily >> policy.weekly >> policy.monthly >>
        policy.yearly;
    words >> within >> tags >> std::hex >> want;
    ASSERT_TRUE(words);
    if (within != "-") policy.within = duration(within);
    for (const std::string& list : split(tags, ';')) policy.keep_tags.push_back(split(list, ','));
    const Zone& zone = zones_.at(zone_);
    const RetentionClock clock{kNow, [&](std::int64_t seconds) { return zone.at(seconds); }, true};
    const auto plan = plan_retention(items_, policy, clock);
    ASSERT_TRUE(plan) << plan.error().what;
    std::uint64_t got = 0, newest = 0;
    for (const RetentionGroup& group : plan->groups) {
      newest |= 1ULL << group.decisions.front().item;
      for (const RetentionDecision& decision : group.decisions)
        got |= std::uint64_t{decision.kept} << decision.item;
    }
    ++policies;
    newest_kept_by_us += (newest & ~want) != 0 ? 1 : 0;
    EXPECT_EQ(got, want | newest) << "set " << sets - 1 << " in " << zone_ << ": " << line;
  }

  std::map<std::string, Zone> zones_;
  std::string zone_;
  std::vector<RetentionItem> items_;
};

TEST(Retention, agrees_with_restic) {
  std::ifstream file(HOLDFAST_TESTDATA "/retention/answers.txt");
  ResticAnswers answers;
  for (std::string line; std::getline(file, line);) answers.read(line);
  EXPECT_EQ(answers.sets, 50);
  EXPECT_EQ(answers.policies, 2000);
  EXPECT_EQ(answers.newest_kept_by_us, 15);  // policies of nothing but tags
}

// ---- The rules, one by one

TEST(Retention, an_empty_policy_is_refused) {
  const auto plan = plan_retention(series(3, kDay), {}, kClock);
  ASSERT_FALSE(plan);
  EXPECT_EQ(plan.error().code, Code::invalid);
  EXPECT_THAT(plan.error().what, HasSubstr("--keep-last"));
  const auto tags = plan_retention(series(3, kDay), {.last = 1, .keep_tags = {{"a"}, {}}}, kClock);
  ASSERT_FALSE(tags);
  EXPECT_EQ(tags.error().code, Code::invalid);
}

TEST(Retention, no_snapshots_are_an_empty_plan) {
  const auto plan = plan_retention({}, {.last = 1}, kClock);
  ASSERT_TRUE(plan);
  EXPECT_TRUE(plan->groups.empty());
  EXPECT_EQ(plan->kept() + plan->dropped(), 0U);
}

TEST(Retention, reasons_name_the_slot) {
  auto items = series(4, 16 * kHour);  // 13th 12:00, 14th 04:00, 14th 20:00, 15th 12:00
  items[0].tags = {"x", "y"};
  const auto plan = plan_retention(
      items, {.last = 1, .daily = 2, .within = duration("1d"), .keep_tags = {{"y", "x"}, {"z"}}},
      kClock);
  ASSERT_TRUE(plan);
  ASSERT_EQ(plan->groups.size(), 1U);
  const auto& decisions = plan->groups[0].decisions;
  ASSERT_EQ(decisions.size(), 4U);
  EXPECT_THAT(decisions[0].reasons, ElementsAre("last 1", "daily 1", "within 1d of the newest"));
  EXPECT_THAT(decisions[1].reasons, ElementsAre("daily 2", "within 1d of the newest"));
  EXPECT_THAT(decisions[2].reasons, ElementsAre());
  EXPECT_THAT(decisions[3].reasons, ElementsAre("tag y,x"));
  EXPECT_EQ(decisions[0].item, 3U);
  EXPECT_EQ(plan->kept(), 3U);
  EXPECT_EQ(plan->dropped(), 1U);
}

TEST(Retention, days_are_those_of_the_local_zone) {
  const auto items = series(3, kHour, utc(2026, 6, 1, 0, 30));  // 22:30, 23:30, 00:30 UTC
  const UtcOffset east = [](std::int64_t) { return 3600; };
  EXPECT_THAT(kept_numbers(items, {.daily = 9}), ElementsAre(2, 3));
  EXPECT_THAT(kept_numbers(items, {.daily = 9}, {kNow, east, true}), ElementsAre(1, 3));
}

TEST(Retention, the_hour_that_comes_twice_is_one_hour) {
  // Berlin, 25 October 2026: 02:00 to 03:00 comes twice; local times 02:15, 02:45, 02:15, 02:45,
  // 03:15.
  const Time change = utc(2026, 10, 25, 1);
  const UtcOffset berlin = [&](std::int64_t seconds) {
    return seconds < change.ns / kSecond ? 7200 : 3600;
  };
  const auto items = series(5, kHour / 2, change + kHour + kHour / 4);
  EXPECT_THAT(kept_numbers(items, {.hourly = 9}, {change + kDay, berlin, true}), ElementsAre(4, 5));
}

TEST(Retention, within_counts_on_the_calendar) {
  std::vector<RetentionItem> items = {item(1, 1, utc(2026, 3, 3)), item(1, 2, utc(2026, 3, 3) + 1),
                                      item(1, 3, utc(2026, 3, 31))};
  // 31 March less a month is 31 February, which is 3 March; exactly then is out.
  EXPECT_THAT(kept_numbers(items, {.within = duration("1m")}), ElementsAre(2, 3));
  EXPECT_THAT(kept_numbers(items, {.within = duration("28d")}), ElementsAre(2, 3));
  EXPECT_THAT(kept_numbers(items, {.within = duration("28d1h")}), ElementsAre(1, 2, 3));
  EXPECT_THAT(kept_numbers(items, {.within = duration("9999y9999m9999d9999h")}),
              ElementsAre(1, 2, 3));
}

TEST(Retention, the_newest_of_a_group_and_of_a_device_stays) {
  auto items = series(4, kDay);
  items[0].paths = items[1].paths = {"/other"};
  const Verdicts all = verdicts(items, {.keep_tags = {{"none has it"}}});
  EXPECT_THAT(all.at(items[3].id).reasons, ElementsAre("newest of its device: never dropped"));
  EXPECT_THAT(all.at(items[1].id).reasons,
              ElementsAre("newest of its host and paths: never dropped"));
  EXPECT_FALSE(all.at(items[2].id).kept);
  EXPECT_FALSE(all.at(items[0].id).kept);
}

TEST(Retention, groups_are_of_one_device_host_and_set_of_paths) {
  auto items = series(3, kDay);
  items[0].paths = {"/b", "/a"};
  items[1].paths = {"/a", "/b"};
  append(items, {item(2, 1, kNow)});
  const auto plan = plan_retention(items, {.last = 1}, kClock);
  ASSERT_TRUE(plan);
  ASSERT_EQ(plan->groups.size(), 3U);
  EXPECT_EQ(plan->groups[0].paths, std::vector<std::string>{"/a"});
  EXPECT_EQ(plan->groups[1].paths, (std::vector<std::string>{"/a", "/b"}));
  EXPECT_EQ(plan->groups[2].device, device(2));
  EXPECT_EQ(plan->dropped(), 1U);
}

TEST(Retention, what_a_filter_left_out_is_not_in_the_plan_and_shows_the_time_all_the_same) {
  auto items = series(60, kDay);
  for (std::size_t i = 20; i < items.size(); ++i) items[i].considered = false;
  const auto plan = plan_retention(items, {.last = 3}, kClock);
  ASSERT_TRUE(plan) << plan.error().what;  // the newest one considered is 40 days old
  EXPECT_EQ(plan->kept(), 3U);
  EXPECT_EQ(plan->dropped(), 17U);
  items[19].time = kNow - kDay;
  append(items, {item(1, 61, kNow)});
  EXPECT_EQ(verdicts(items, {.last = 3}).at(items[19].id).time_believed, true);
  items[0].time = kNow;
  items[0].considered = false;
  EXPECT_FALSE(verdicts(items, {.last = 3}).at(items[5].id).time_believed);
}

TEST(Retention, an_item_is_what_the_head_says) {
  Snapshot snapshot;
  snapshot.number = 7;
  snapshot.ended = kNow;
  snapshot.started = kNow - kHour;
  snapshot.host = "h";
  snapshot.paths = {"/p"};
  snapshot.tags = {"t"};
  const RetentionItem one = retention_item(snapshot);
  EXPECT_EQ(one.number, 7U);
  EXPECT_EQ(one.time, kNow);
  EXPECT_EQ(one.host, "h");
  EXPECT_EQ(one.paths, snapshot.paths);
  EXPECT_EQ(one.tags, snapshot.tags);
  EXPECT_TRUE(one.considered);
}

// ---- ENG-15: forged times

TEST(Retention, ENG_15_a_thousand_snapshots_of_all_times_push_nothing_out) {
  SeededRandom random(15);
  auto items = series(60, kDay);
  for (std::uint64_t i = 0; i < 1000; ++i) {
    const auto offset = static_cast<std::int64_t>(random.below(20 * 365 * 24)) * kHour - 10 * kYear;
    append(items, {item(1, 61 + i, kNow + offset)});
  }
  const Verdicts all = verdicts(items, {.last = 10, .daily = 14, .within = duration("30d")});
  int named = 0;
  for (std::size_t i = 0; i < items.size(); ++i) {
    const RetentionDecision& decision = all.at(items[i].id);
    EXPECT_TRUE(decision.time_believed || i >= 60) << i;
    EXPECT_TRUE(decision.kept == (i >= 30) || i >= 60) << i;
    if (decision.time_believed) continue;
    ++named;
    EXPECT_THAT(decision.reasons, ElementsAre(HasSubstr("its time cannot be trusted: ")));
  }
  EXPECT_GE(named, 990);  // all but those that are of yesterday, today and tomorrow
}

// Of what `daily` keeps: those that lie further back than what a forged time may say and be
// believed.
Ids older_than_two_days(const std::vector<RetentionItem>& items, std::uint32_t daily) {
  Ids out;
  const Ids stay = kept(items, {.daily = daily});
  for (const RetentionItem& one : items)
    if (stay.contains(one.id) && one.time < kNow - 2 * kDay) out.insert(one.id);
  return out;
}

TEST(Retention, ENG_15_counts_lose_two_days_at_most) {
  SeededRandom random(16);
  const auto honest = series(60, kDay);
  auto items = honest;
  for (std::uint64_t i = 0; i < 1000; ++i) {
    const auto offset = static_cast<std::int64_t>(random.below(4 * 365 * 24)) * kHour - 2 * kYear;
    append(items, {item(1, 61 + i, kNow + offset)});
  }
  const Ids after = kept(items, {.daily = 14});
  EXPECT_TRUE(includes(after, older_than_two_days(honest, 12)));
}

TEST(Retention, ENG_15_what_is_within_stays_whatever_one_device_says) {
  for (std::uint64_t seed = 0; seed < 300; ++seed) {
    SeededRandom random(seed);
    std::vector<RetentionItem> items;
    const std::uint64_t honest = random.below(120);
    for (std::uint64_t i = 0; i < 120; ++i) {
      const auto past = static_cast<std::int64_t>(120 - i) * 12 * kHour;
      const auto forged = static_cast<std::int64_t>(random.below(40 * 24)) * kHour - 37 * kDay;
      items.push_back(
          item(1, i + 1, i < honest || random.below(2) == 0 ? kNow - past : kNow + forged));
    }
    const Ids stay = kept(items, {.last = 1, .within = duration("30d")});
    for (const RetentionItem& one : items)
      EXPECT_TRUE(one.time <= kNow - 30 * kDay || stay.contains(one.id))
          << seed << " " << one.number;
  }
}

TEST(Retention, ENG_15_a_time_of_tomorrow_does_not_move_the_window) {
  auto items = series(60, kDay, kNow - kHour);
  append(items, {item(1, 61, kNow + kDay)});
  const Ids stay = kept(items, {.within = duration("30d")}, kClock);
  for (std::size_t i = 30; i <= 60; ++i) EXPECT_TRUE(stay.contains(items[i].id)) << i;
  EXPECT_FALSE(stay.contains(items[29].id));
  // Nothing is before now: nothing says what the window is.
  EXPECT_EQ(
      kept_numbers({item(1, 1, kNow + 1), item(1, 2, kNow + kDay)}, {.within = duration("1h")}),
      (std::vector<std::uint64_t>{1, 2}));
}

TEST(Retention, ENG_15_another_device_changes_nothing) {
  const auto honest = series(60, kDay);
  const RetentionPolicy policy{.last = 3, .daily = 7, .monthly = 3};
  auto items = honest;
  for (std::uint64_t i = 0; i < 1000; ++i)
    append(items, {item(2, i + 1, kNow - 5 * kYear + static_cast<std::int64_t>(i) * 4 * kDay)});
  const Ids before = kept(honest, policy, kClock), after = kept(items, policy, kClock);
  for (const RetentionItem& one : honest)
    EXPECT_EQ(before.contains(one.id), after.contains(one.id));
}

TEST(Retention, ENG_15_one_leap_ahead_is_the_liar_and_not_those_that_follow) {
  auto items = series(40, kDay);
  items[20].time = kNow + 5 * kYear;
  const Verdicts all = verdicts(items, {.daily = 5}, kClock);
  for (const RetentionItem& one : items)
    EXPECT_EQ(all.at(one.id).time_believed, one.number != 21) << one.number;
  EXPECT_THAT(
      all.at(items[20].id).reasons,
      ElementsAre("its time cannot be trusted: 2031-06-14 12:00 UTC is 1825 days after now"));
  EXPECT_THAT(kept_numbers(items, {.daily = 5}, kClock), ElementsAre(21, 36, 37, 38, 39, 40));
}

// Five years later the leap is past. Who lied cannot be told any more: those in its shadow stay,
// and name it; without it they are believed again.
TEST(Retention, ENG_15_a_leap_that_has_become_past_loses_nothing_and_is_named) {
  auto items = series(40, kDay);
  items[20].time = kNow + 10 * kDay;
  append(items, {item(1, 41, kNow + 20 * kDay)});
  const RetentionClock clock{kNow + 20 * kDay, kUtc, false};
  const Verdicts all = verdicts(items, {.daily = 5}, clock);
  for (const RetentionItem& one : items)
    EXPECT_EQ(all.at(one.id).time_believed, one.number <= 21 || one.number == 41) << one.number;
  EXPECT_THAT(all.at(items[30].id).reasons[0], HasSubstr("before the earlier snapshot number 21"));
  EXPECT_TRUE(includes(kept(all), Ids{items[21].id, items[39].id}));
  items.erase(items.begin() + 20);
  EXPECT_THAT(kept_numbers(items, {.daily = 5}, clock), ElementsAre(37, 38, 39, 40, 41));
}

TEST(Retention, ENG_15_days_that_alternate_take_a_slot_each_and_no_more) {
  auto items = series(30, kDay);
  for (std::uint64_t i = 0; i < 1000; ++i)
    append(items, {item(1, 31 + i, kNow + (i % 2 == 0 ? kDay : 0))});
  const Ids stay = kept(items, {.daily = 10});
  for (std::size_t i = 22; i < 30; ++i) EXPECT_TRUE(i == 29 || stay.contains(items[i].id)) << i;
}

// Each forged snapshot is of a day that an honest one is of, and later on that day.
TEST(Retention, ENG_15_forgetting_again_and_again_gives_forged_ones_no_more) {
  const auto honest = series(60, kDay);
  auto items = honest;
  for (std::uint64_t i = 0; i < 60; ++i) append(items, {item(1, 61 + i, honest[i].time + kHour)});
  Ids stay;
  for (int run = 0; run < 40; ++run) {
    stay = kept(items, {.daily = 14});
    std::erase_if(items, [&](const RetentionItem& one) { return !stay.contains(one.id); });
  }
  EXPECT_TRUE(includes(stay, older_than_two_days(honest, 14)));
  const Verdicts all = verdicts(items, {.last = 1});
  EXPECT_THAT(all.at(honest[59].id).reasons,
              ElementsAre("shows that the times of later ones are wrong"));
}

TEST(Retention, ENG_15_the_tolerance_to_the_nanosecond) {
  const std::int64_t tolerance = kClockTolerance_h * kHour;
  const std::vector<RetentionItem> items = {
      item(1, 1, kNow), item(1, 2, kNow - tolerance), item(1, 3, kNow - tolerance - 1),
      item(1, 4, kNow + tolerance), item(1, 5, kNow + tolerance + 1)};
  const Verdicts all = verdicts(items, {.last = 1});
  EXPECT_TRUE(all.at(items[1].id).time_believed);
  EXPECT_FALSE(all.at(items[2].id).time_believed);
  EXPECT_TRUE(all.at(items[3].id).time_believed);
  EXPECT_FALSE(all.at(items[4].id).time_believed);
}

TEST(Retention, ENG_15_the_ends_of_time_are_times_as_well) {
  const std::vector<RetentionItem> items = {item(1, 1, {INT64_MIN}), item(1, 2, {INT64_MIN + 1}),
                                            item(1, 3, {INT64_MAX}), item(1, 4, {0}),
                                            item(1, 5, {INT64_MIN})};
  for (const Time now : {kNow, Time{INT64_MIN}, Time{INT64_MAX}}) {
    const RetentionPolicy policy{1, 1, 1, 1, 1, 1, duration("9999y"), {}};
    EXPECT_EQ(verdicts(items, policy, {now, kUtc, true}).size(), items.size());
    (void)plan_retention(items, policy, {now, kUtc, false});
  }
}

// ---- ENG-16: this machine's clock

void expect_denied(const std::vector<RetentionItem>& items, Time now,
                   const std::vector<std::string>& said) {
  const auto plan =
      plan_retention(items, {.daily = 7, .within = duration("30d")}, {now, kUtc, false});
  ASSERT_FALSE(plan);
  EXPECT_EQ(plan.error().code, Code::denied);
  EXPECT_THAT(plan.error().what, HasSubstr("--clock-is-right"));
  for (const std::string& text : said) EXPECT_THAT(plan.error().what, HasSubstr(text));
  EXPECT_TRUE(plan_retention(items, {.daily = 7}, {now, kUtc, true}));
}

bool allowed(const std::vector<RetentionItem>& items, Time now) {
  return plan_retention(items, {.daily = 7}, {now, kUtc, false}).has_value();
}

TEST(Retention, ENG_16_ten_years_ahead_or_back_forget_nothing) {
  const auto items = series(60, kDay);
  EXPECT_TRUE(allowed(items, kNow));
  expect_denied(items, utc(2036, 6, 15, 12),
                {"2036-06-15 12:00 UTC", "2026-06-15 12:00 UTC", items.back().id.brief()});
  expect_denied(items, utc(2016, 6, 15, 12),
                {"2016-06-15 12:00 UTC", "2026-06-15 12:00 UTC", items.back().id.brief()});
}

TEST(Retention, ENG_16_a_backup_just_made_by_the_same_clock_proves_nothing) {
  auto items = series(60, kDay);
  const Time ahead = kNow + 10 * kYear;
  append(items, {item(1, 61, ahead - kHour), item(1, 62, ahead)});
  expect_denied(items, ahead, {"2036-06-12 12:00 UTC", "2026-06-15 12:00 UTC"});
}

TEST(Retention, ENG_16_bounds) {
  const auto items = series(3, kDay);
  EXPECT_TRUE(allowed(items, kNow + kClockProof_days_max * kDay));
  EXPECT_FALSE(allowed(items, kNow + kClockProof_days_max * kDay + 1));
  EXPECT_TRUE(allowed(items, kNow - kClockTolerance_h * kHour));
  EXPECT_FALSE(allowed(items, kNow - kClockTolerance_h * kHour - 1));
  EXPECT_TRUE(allowed(series(5, kDay), kNow)) << "a repository of this week";
  EXPECT_TRUE(allowed(series(5, 31 * kDay), kNow)) << "backups by the month";
}

TEST(Retention, ENG_16_a_laptop_that_was_off_is_right_after_a_week) {
  auto items = series(30, kDay);
  const Time back = kNow + 60 * kDay;
  for (int day = 0; day <= 7; ++day) {
    append(items, {item(1, 31U + static_cast<unsigned>(day), back + day * kDay)});
    EXPECT_EQ(allowed(items, back + day * kDay), day == 7) << day;
  }
}

TEST(Retention, ENG_16_one_device_from_the_future_does_not_stop_the_others) {
  auto items = series(60, kDay);
  append(items, {item(2, 1, kNow + 3 * kYear)});
  EXPECT_TRUE(allowed(items, kNow));
  expect_denied({items.back()}, kNow, {"2029-06-14 12:00 UTC", "2026-06-15 12:00 UTC"});
}

// A clock that is behind finds the rest in the future, which stays and takes no slot.
TEST(Retention, ENG_16_a_clock_that_is_behind_drops_nothing_that_the_right_one_keeps) {
  for (std::uint64_t seed = 0; seed < 200; ++seed) {
    SeededRandom random(seed);
    const auto items = series(100, static_cast<std::int64_t>(1 + random.below(100)) * kHour);
    const auto behind = static_cast<std::int64_t>(random.below(300)) * kDay;
    const RetentionPolicy policy{.last = static_cast<std::uint32_t>(random.below(5)),
                                 .hourly = static_cast<std::uint32_t>(random.below(30)),
                                 .daily = static_cast<std::uint32_t>(random.below(10)),
                                 .weekly = 1 + static_cast<std::uint32_t>(random.below(3)),
                                 .within = {0, 0, static_cast<std::uint32_t>(random.below(30)), 0}};
    EXPECT_TRUE(includes(kept(items, policy, {kNow - behind, kUtc, true}), kept(items, policy)))
        << seed;
  }
}

// ---- What holds for every world

struct World {
  std::vector<RetentionItem> items;
  RetentionPolicy policy;
};

std::uint32_t some(SeededRandom& random, std::uint32_t most) {
  const auto drawn = static_cast<std::uint32_t>(random.below(2 * most));
  return drawn >= most ? 0 : drawn == most - 1 ? kKeepAll : drawn;
}

RetentionPolicy some_policy(SeededRandom& random) {
  RetentionPolicy out{some(random, 5),
                      some(random, 20),
                      some(random, 10),
                      some(random, 6),
                      some(random, 6),
                      some(random, 4),
                      {0, some(random, 4) % 4, some(random, 40) % 40, 0},
                      {}};
  if (random.below(4) == 0) out.keep_tags = {{"a", "b"}, {"c"}};
  if (out.is_empty()) out.daily = 3;
  return out;
}

std::vector<RetentionItem> some_items(SeededRandom& random, unsigned of_device) {
  std::vector<RetentionItem> out;
  Time time = kNow - static_cast<std::int64_t>(random.below(900)) * kDay;
  const std::uint64_t step_h = 1 + random.below(400), liars = random.below(3);
  for (std::uint64_t number = 1, count = random.below(60); number <= count && time < kNow;
       ++number) {
    time = time + static_cast<std::int64_t>(random.below(2 * step_h)) * kHour;
    const bool lies = random.below(10) < liars;
    const auto forged = static_cast<std::int64_t>(random.below(2000)) * kDay - 1000 * kDay;
    RetentionItem one = item(of_device, number, lies ? kNow + forged : time);
    one.host = random.below(3) == 0 ? "x" : "y";
    if (random.below(3) == 0) one.paths = {"/c", "/b"};
    for (const char* tag : {"a", "b", "c"})
      if (random.below(4) == 0) one.tags.emplace_back(tag);
    one.considered = random.below(20) != 0;
    out.push_back(std::move(one));
  }
  return out;
}

World some_world(std::uint64_t seed) {
  SeededRandom random(seed);
  World out{some_items(random, 1), some_policy(random)};
  append(out.items, some_items(random, 2));
  append(out.items, some_items(random, 3));
  return out;
}

constexpr std::uint64_t kWorlds = 150;

TEST(RetentionProperty, each_considered_snapshot_is_judged_once_and_each_group_keeps_its_newest) {
  for (std::uint64_t seed = 0; seed < kWorlds; ++seed) {
    const World world = some_world(seed);
    const auto plan = plan_retention(world.items, world.policy, kClockIsRight);
    ASSERT_TRUE(plan);
    std::set<std::size_t> seen;
    for (const RetentionGroup& group : plan->groups) {
      EXPECT_TRUE(group.decisions.front().kept) << seed;
      for (const RetentionDecision& decision : group.decisions) {
        EXPECT_TRUE(seen.insert(decision.item).second);
        EXPECT_TRUE(decision.kept || decision.time_believed);
      }
      EXPECT_TRUE(
          std::ranges::is_sorted(group.decisions, std::ranges::greater{},
                                 [&](const auto& d) { return world.items[d.item].number; }));
    }
    EXPECT_EQ(seen.size(), plan->kept() + plan->dropped());
    EXPECT_EQ(static_cast<std::ptrdiff_t>(seen.size()),
              std::ranges::count(world.items, true, &RetentionItem::considered));
  }
}

TEST(RetentionProperty, the_order_of_the_input_does_not_matter) {
  for (std::uint64_t seed = 0; seed < kWorlds; ++seed) {
    World world = some_world(seed);
    const Verdicts before = verdicts(world.items, world.policy);
    SeededRandom random(seed);
    for (std::size_t i = world.items.size(); i > 1; --i)
      std::swap(world.items[i - 1], world.items[random.below(i)]);
    const Verdicts after = verdicts(world.items, world.policy);
    ASSERT_EQ(before.size(), after.size());
    for (const auto& [id, decision] : before)
      EXPECT_EQ(decision.reasons, after.at(id).reasons) << seed;
  }
}

TEST(RetentionProperty, a_device_does_not_change_what_is_said_of_another) {
  for (std::uint64_t seed = 0; seed < kWorlds; ++seed) {
    const World world = some_world(seed);
    std::vector<RetentionItem> alone;
    std::ranges::copy_if(world.items, std::back_inserter(alone),
                         [](const RetentionItem& one) { return one.device == device(1); });
    const Verdicts together = verdicts(world.items, world.policy);
    for (const auto& [id, decision] : verdicts(alone, world.policy))
      EXPECT_EQ(decision.reasons, together.at(id).reasons) << seed;
  }
}

RetentionPolicy at_least_both(RetentionPolicy a, const RetentionPolicy& b) {
  for (auto rule : {&RetentionPolicy::last, &RetentionPolicy::hourly, &RetentionPolicy::daily,
                    &RetentionPolicy::weekly, &RetentionPolicy::monthly, &RetentionPolicy::yearly})
    a.*rule = std::max(a.*rule, b.*rule);
  a.within.months = std::max(a.within.months, b.within.months);
  a.within.days = std::max(a.within.days, b.within.days);
  a.keep_tags.insert(a.keep_tags.end(), b.keep_tags.begin(), b.keep_tags.end());
  return a;
}

TEST(RetentionProperty, a_larger_policy_keeps_all_that_smaller_ones_keep) {
  for (std::uint64_t seed = 0; seed < kWorlds; ++seed) {
    const World world = some_world(seed);
    SeededRandom random(seed + kWorlds);
    const RetentionPolicy other = some_policy(random);
    const Ids both = kept(world.items, at_least_both(world.policy, other));
    EXPECT_TRUE(includes(both, kept(world.items, world.policy))) << seed;
    EXPECT_TRUE(includes(both, kept(world.items, other))) << seed;
  }
}

TEST(RetentionProperty, a_policy_keeps_what_its_rules_keep_one_by_one) {
  for (std::uint64_t seed = 0; seed < kWorlds; ++seed) {
    const auto& [items, policy] = some_world(seed);
    Ids sum;
    for (auto rule :
         {&RetentionPolicy::last, &RetentionPolicy::hourly, &RetentionPolicy::daily,
          &RetentionPolicy::weekly, &RetentionPolicy::monthly, &RetentionPolicy::yearly}) {
      RetentionPolicy one;
      one.*rule = policy.*rule;
      if (!one.is_empty()) sum.merge(kept(items, one));
    }
    if (!policy.within.is_zero()) sum.merge(kept(items, {.within = policy.within}));
    if (!policy.keep_tags.empty()) sum.merge(kept(items, {.keep_tags = policy.keep_tags}));
    EXPECT_EQ(kept(items, policy), sum) << seed;
  }
}

TEST(RetentionProperty, forgetting_twice_forgets_no_more) {
  for (std::uint64_t seed = 0; seed < kWorlds; ++seed) {
    World world = some_world(seed);
    for (RetentionItem& one : world.items) one.considered = true;
    const Ids stay = kept(world.items, world.policy);
    std::erase_if(world.items, [&](const RetentionItem& one) { return !stay.contains(one.id); });
    const Verdicts again = verdicts(world.items, world.policy);
    for (const auto& [id, decision] : again) EXPECT_TRUE(decision.kept) << seed;
  }
}

}  // namespace
}  // namespace holdfast
