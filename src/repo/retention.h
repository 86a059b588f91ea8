// SPDX-License-Identifier: Apache-2.0
// Which snapshots a policy keeps, and why: docs/retention.md. Values in, values out: no clock, no
// time zone, no store. Compared with restic 0.14 by testdata/retention.
#pragma once

#include <functional>
#include <span>
#include <string>
#include <vector>

#include "repo/head.h"

namespace holdfast {

// A length on the calendar: months and years are as long as they happen to be.
struct RetentionDuration {
  std::uint32_t years = 0, months = 0, days = 0, hours = 0;
  auto operator<=>(const RetentionDuration&) const = default;
  [[nodiscard]] bool is_zero() const { return *this == RetentionDuration{}; }
  [[nodiscard]] std::string text() const;  // "1y5m7d2h"
  // Each unit at most once, at least one; Code::invalid names the text and the form.
  static Result<RetentionDuration> parse(std::string_view text);
};

// A count that never runs out.
inline constexpr std::uint32_t kKeepAll = UINT32_MAX;

// Kept is what any one of these keeps. Zero: the rule is not there.
struct RetentionPolicy {
  std::uint32_t last = 0, hourly = 0, daily = 0, weekly = 0, monthly = 0, yearly = 0;
  RetentionDuration within{};                         // of the newest of the group
  std::vector<std::vector<std::string>> keep_tags{};  // snapshots with all tags of one of these
  // Besides by device: what a group's snapshots have in common.
  bool by_host = true, by_paths = true;
  [[nodiscard]] bool is_empty() const;
};

struct RetentionItem {
  SnapshotId id{};
  DeviceId device{};
  std::uint64_t number = 0;
  Time time{};  // when it ended
  std::string host{};
  std::vector<std::string> paths{}, tags{};
  // False: a filter left it out. It is not in the plan, and still shows what time it is. So the
  // caller passes ALL snapshots that count, whatever was asked for.
  bool considered = true;
};
RetentionItem retention_item(const Snapshot& snapshot);

// Seconds that local time is ahead of UTC at an instant (seconds since 1970 UTC).
using UtcOffset = std::function<std::int64_t(std::int64_t utc_seconds)>;

struct RetentionClock {
  Time now;
  UtcOffset zone;
  bool is_right = false;  // a person says so (--clock-is-right): it is not compared with heads
};

// What may differ between a device's own clock and itself later, or this one: a day for who sets
// it wrongly by a date or a zone, and two hours.
inline constexpr std::int64_t kClockTolerance_h = 26;
// The clock counts as right only when a snapshot that is no younger than the first is no older than
// the second: a backup made a minute ago, by the same wrong clock, proves nothing.
inline constexpr std::int64_t kClockProof_days_min = 7, kClockProof_days_max = 45;

// For messages: "2026-06-15 12:00 UTC".
std::string utc_text(Time time);

struct RetentionDecision {
  std::size_t item = 0;  // index into the items that were passed
  bool kept = false;
  bool time_believed = true;         // false: kept, takes no slot; the reason names why
  std::vector<std::string> reasons;  // of keeping: "last 3", "daily 2", "within 30d of the newest"
};

// One device's snapshots of the same host and paths (unless the policy says otherwise: they are
// empty then), to which the policy is applied by itself.
struct RetentionGroup {
  DeviceId device;
  std::string host;
  std::vector<std::string> paths;            // sorted
  std::vector<RetentionDecision> decisions;  // by number, newest first
};

struct RetentionPlan {
  std::vector<RetentionGroup> groups;  // by device, host, paths
  [[nodiscard]] std::size_t kept() const;
  [[nodiscard]] std::size_t dropped() const;
  [[nodiscard]] std::size_t not_believed() const;  // among the kept
};

// Code::invalid: the policy has no rule. Code::denied: the clock and the snapshots disagree; names
// both times and what to do.
Result<RetentionPlan> plan_retention(std::span<const RetentionItem> items,
                                     const RetentionPolicy& policy, const RetentionClock& clock);

}  // namespace holdfast
