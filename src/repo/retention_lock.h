// SPDX-License-Identifier: Apache-2.0
// Keeps what a repository needs from being deleted by anybody, where its store can enforce that.
// docs/formats/collection.md, "Retention lock".
#pragma once

#include "repo/repository.h"

namespace holdfast {

// A lock of less protects nothing, and one machine's clock may be that much off.
inline constexpr std::int64_t kLockClockTolerance_ns = 3600LL * 1'000'000'000;

struct LockReport {
  std::uint64_t objects = 0;   // that the store lists
  std::uint64_t extended = 0;  // of these, that were locked, or locked for longer, in this run
  Time until{};                // until when everything is locked that is not condemned
};

// Until when an object that is needed at `now` is locked: three half periods from the beginning of
// the half period that `now` is in, so that at least one whole period is left all through it, and
// an object is locked again twice in each period.
Time locked_until(Time now, std::int64_t period_ns);

// Locks everything that no collection removed: new objects, and in a new half period all of them.
// At the end of each run that writes, and before a collection. Without a lock it does nothing.
// Code::denied: the store's clock and this machine's disagree (ENG-16).
Result<LockReport> extend_locks(Repository& repository, const Stop& stop);

// Code::denied, naming both times, when a decision about the lock would rest on a clock that is
// wrong.
Result<> check_lock_clock(Time store, Time machine);

}  // namespace holdfast
