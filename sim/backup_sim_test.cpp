// SPDX-License-Identifier: Apache-2.0
// Interrupted at any point: crashes, full disks, lost answers and power losses at seeded calls, on
// two or three machines that share a repository. Invariant: every snapshot that was reported done
// restores in full, from a machine with nothing but the paper key. HOLDFAST_SIM_SEEDS (default 80)
// and HOLDFAST_SIM_FIRST choose the seeds; a failure prints its seed.
#include <gtest/gtest.h>

#include "machine.h"
#include "store/fault_store.h"
#include "store/memory_store.h"

namespace holdfast::sim {
namespace {

// What the run met, so that a simulation that never hits its target is seen.
struct Coverage {
  std::uint64_t backups = 0, done = 0, store_crashes = 0, full = 0, lost_answers = 0,
                power_losses = 0, resumed = 0;
};

class World {
 public:
  World(std::uint64_t seed, Coverage& coverage) : random_(seed), coverage_(coverage) {
    const std::size_t count = 2 + random_.below(2);
    for (std::size_t i = 0; i < count; ++i) {
      machines_.push_back(std::make_unique<Machine>(seed * 16 + i, "m" + std::to_string(i)));
      machines_.back()->tree = make_tree(random_, 3 + random_.below(25));
    }
    // Some files are the same on both: chunks are shared between devices.
    for (const auto& [path, file] : machines_[0]->tree)
      if (random_.below(2) == 0) machines_[1]->tree[path] = file;
  }

  void run() {
    ASSERT_TRUE(machines_[0]->init(store_));
    for (std::size_t i = 1; i < machines_.size(); ++i)
      ASSERT_TRUE(machines_[i]->recover(store_, *machines_[0]->paper));
    const std::size_t steps = 4 + random_.below(6);
    for (std::size_t i = 0; i < steps && !testing::Test::HasFatalFailure(); ++i) step();
    // Everybody comes to an end undisturbed.
    for (const auto& machine : machines_) {
      const auto snapshot = machine->backup(store_);
      ASSERT_TRUE(snapshot) << snapshot.error().what;
      reported_.push_back({snapshot->id, machine->tree});
    }
    const auto held = verify(store_, *machines_[0]->paper, random_.next(), reported_);
    ASSERT_TRUE(held) << held.error().what;
  }

 private:
  void step() {
    Machine& machine = *machines_[random_.below(machines_.size())];
    if (random_.below(2) == 0) change_tree(machine.tree, random_);
    FaultPlan plan{.seed = random_.next()};
    const std::uint64_t kind = random_.below(6);
    if (kind == 0) plan.crash_at_call = random_.below(60);
    if (kind == 1) {
      plan.crash_at_call = random_.below(60);
      plan.crash_after_effect = true;
    }
    if (kind == 2) plan.full_from_put = random_.below(6);
    if (kind == 3) plan.fail_after = 60;
    FaultStore store(store_, plan);
    bool power_lost = false;
    if (kind == 4) lose_power(machine, power_lost);
    ++coverage_.backups;
    const auto snapshot = machine.backup(store);
    machine.state.set_fault({});
    machine.cache.set_fault({});
    if (snapshot) {
      ++coverage_.done;
      reported_.push_back({snapshot->id, machine.tree});
    } else {
      ASSERT_NE(snapshot.error().code, Code::alarm) << snapshot.error().what;
      coverage_.store_crashes += store.crashed() ? 1U : 0U;
      coverage_.full += snapshot.error().code == Code::full ? 1U : 0U;
      coverage_.lost_answers += kind == 3 ? 1U : 0U;
    }
    coverage_.power_losses += power_lost ? 1U : 0U;
    if (store.crashed() || power_lost || random_.below(4) == 0) machine.crash();
  }

  // The machine dies at the n-th change of its own files.
  void lose_power(Machine& machine, bool& lost) {
    auto left = std::make_shared<std::uint64_t>(random_.below(12));
    const auto fault = [left, &machine, &lost](std::string_view, std::string_view) -> Result<> {
      if (!lost && (*left)-- > 0) return {};
      if (!lost) machine.crash();
      lost = true;
      return fail(Code::unavailable, "power lost");
    };
    machine.state.set_fault(fault);
    machine.cache.set_fault(fault);
  }

  SeededRandom random_;
  Coverage& coverage_;
  MemoryStore store_;
  std::vector<std::unique_ptr<Machine>> machines_;
  std::vector<Reported> reported_;
};

TEST(BackupSim, every_reported_snapshot_restores_whatever_is_interrupted) {
  const std::uint64_t first = setting("HOLDFAST_SIM_FIRST", 1),
                      count = setting("HOLDFAST_SIM_SEEDS", 80);
  Coverage coverage;
  for (std::uint64_t seed = first; seed < first + count; ++seed) {
    SCOPED_TRACE("seed " + std::to_string(seed));
    World(seed, coverage).run();
    if (HasFailure())
      FAIL() << "seed " << seed << ": replay with HOLDFAST_SIM_FIRST=" << seed
             << " HOLDFAST_SIM_SEEDS=1";
  }
  std::printf(
      "%llu backups, %llu done; %llu store crashes, %llu full, %llu lost answers, %llu power "
      "losses\n",
      static_cast<unsigned long long>(coverage.backups),
      static_cast<unsigned long long>(coverage.done),
      static_cast<unsigned long long>(coverage.store_crashes),
      static_cast<unsigned long long>(coverage.full),
      static_cast<unsigned long long>(coverage.lost_answers),
      static_cast<unsigned long long>(coverage.power_losses));
  if (count < 60) return;
  EXPECT_GT(coverage.store_crashes, 0U);
  EXPECT_GT(coverage.full, 0U);
  EXPECT_GT(coverage.lost_answers, 0U);
  EXPECT_GT(coverage.power_losses, 0U);
}

}  // namespace
}  // namespace holdfast::sim
