// Law 2, lock-free parity. With no staleness allowed, the lock-free update has the bits of the synchronous one wherever
// state rests. With staleness, no unit's parameters lag by more than is allowed, all ranks agree on what lags, and the
// loss stays near the synchronous one.
#include <gtest/gtest.h>

#include <algorithm>
#include <chrono>
#include <cmath>
#include <numeric>
#include <string>
#include <vector>

#include "absl/strings/str_cat.h"
#include "tests/laws/tiny_run.h"
#include "tests/support/sanitized.h"
#include "tests/support/temporary_folder.h"

namespace angel_ptm {
namespace {

// Where a lock-free run's state rests: parameters and gradients on the device as far as the budget reaches and
// otherwise on the host; the optimizer's states on the host or, with `file`, all in a file.
struct Homes {
  int device_percent = 60;
  bool file = false;
};

TinyRun Synchronous(const HunyuanLmShape& shape, DType compute = DType::kFloat32) {
  return {.shape = shape, .compute = compute, .zero_stage = 3, .page_bytes = 8192, .accumulation = 2};
}

TinyRun LockFree(TinyRun run, int max_staleness, const Homes& homes, int world_size) {
  run.device_bytes = DeviceBudget(run, world_size, homes.device_percent);
  run.max_staleness = max_staleness;
  if (!homes.file) return run;
  run.host_bytes = HostBytes(run, world_size).least;
  run.file_tier = true;
  return run;
}

TinyResult Trained(const TinyRun& run, int world_size) {
  auto result = TrainLocally(run, world_size);
  EXPECT_TRUE(result.ok()) << result.status();
  return result.ok() ? *std::move(result) : TinyResult();
}

TEST(LockFreeTest, WithoutStalenessItHasTheSynchronousBits) {
  for (const bool moe : {false, true}) {
    for (const int world : FewerIfSanitized(1, {2, 1})) {
      for (const bool bf16 : {false, true}) {
        // Chosen so that any two values of model, world, type, file and budget meet in a case.
        const bool file = (moe == (world == 2)) != bf16;
        const int percent = moe != bf16 ? 80 : 35;
        SCOPED_TRACE(absl::StrCat(moe ? "MoE" : "dense", ", ", world, " ranks, ", bf16 ? "bf16" : "fp32",
                                  file ? ", file, " : ", host, ", percent, " % of the device"));
        TinyRun run = Synchronous(moe ? TinyMoe() : TinyDense(), bf16 ? DType::kBFloat16 : DType::kFloat32);
        run.ema_decay = file ? 0.9 : 0;
        const TinyResult wanted = Trained(run, world);
        const TinyResult result = Trained(LockFree(run, 0, {percent, file}, world), world);
        ASSERT_FALSE(result.losses.empty());
        EXPECT_EQ(result.Difference(wanted), "");
        EXPECT_EQ(result.file_arena_bytes > 0, file);
        EXPECT_EQ(result.units_by_lag,
                  std::vector<std::vector<int64_t>>(3, {static_cast<int64_t>(result.unit_updates.size())}));
      }
    }
  }
}

TEST(LockFreeTest, ItIsResumedBitForBitWhereItWasDrained) {
  const TemporaryFolder folder;
  TinyRun run = Synchronous(TinyMoe());
  run.steps = 4;
  const TinyResult wanted = Trained(run, 2);
  TinyRun first = LockFree(run, 0, {60, true}, 2), second = first;
  first.steps = second.first_step = 2;
  first.save_directory = folder.path();
  const TinyResult before = Trained(first, 2);
  second.load_checkpoint = before.checkpoint;
  TinyResult after = Trained(second, 2);
  after.losses.insert(after.losses.begin(), before.losses.begin(), before.losses.end());
  after.norms.insert(after.norms.begin(), before.norms.begin(), before.norms.end());
  EXPECT_EQ(after.Difference(wanted), "");
}

// What the comparison must find.
TEST(LockFreeTest, SabotageIsFound) {
  const TinyRun run = Synchronous(TinyMoe());
  const TinyResult wanted = Trained(run, 2);
  // Parameters are published one step late.
  EXPECT_NE(Trained(LockFree(run, 1, {}, 2), 2).Difference(wanted), "");
  // Gradients never arrive: a mailbox that already holds some is cleared.
  TinyRun lost = LockFree(run, 0, {}, 2);
  lost.tamper = [](const Graph&, const Layout& layout, const Machine& machine, int64_t step, int micro) {
    for (const StateView& view : StateViews(layout, machine)) {
      const bool strikes = view.unit == 3 && view.state == kGradientState && step == 1 && micro == 0;
      if (strikes) std::fill(view.own_slice().begin(), view.own_slice().end(), 0.0f);
    }
  };
  EXPECT_NE(Trained(lost, 2).Difference(wanted), "");
  // One of the optimizer's states is missing when its unit is swept.
  TinyRun stale = LockFree(run, 0, {}, 2);
  stale.tamper = [](const Graph&, const Layout& layout, const Machine& machine, int64_t step, int micro) {
    for (const StateView& view : StateViews(layout, machine)) {
      const bool strikes = view.unit == 3 && layout.states[view.state].name == "moment2" && step == 2 && micro == 0;
      if (strikes) std::fill(view.own_slice().begin(), view.own_slice().end(), 0.0f);
    }
  };
  EXPECT_NE(Trained(stale, 2).Difference(wanted), "");
}

// With a bound of one step, updates are one step late whatever the drive's speed: every run has the same bits.
TEST(LockFreeTest, OneStepOfStalenessRepeats) {
  const TinyRun run = LockFree(Synchronous(TinyDense()), 1, {60, true}, 2);
  TinyRun slow = run;
  slow.file_bytes_per_second = 4e6;
  const TinyResult result = Trained(run, 2);
  EXPECT_EQ(Trained(slow, 2).Difference(result), "");
  const int64_t units = static_cast<int64_t>(result.unit_updates.size());
  const std::vector<std::vector<int64_t>> wanted = {{units, 0}, {0, units}, {0, units}};
  EXPECT_EQ(result.units_by_lag, wanted);
}

double MeanOfLast(const std::vector<double>& values, int64_t n) {
  return std::accumulate(values.end() - n, values.end(), 0.0) / static_cast<double>(n);
}

TEST(LockFreeTest, ASlowDriveIsWaitedForWhereTheBoundDemandsIt) {
  constexpr int64_t kBound = 2, kSteps = 12;
  TinyRun run = Synchronous(TinyDense());
  run.steps = kSteps;
  const auto begin = std::chrono::steady_clock::now();
  const TinyResult synchronous = Trained(run, 2);
  const double step_seconds =
      std::chrono::duration<double>(std::chrono::steady_clock::now() - begin).count() / static_cast<double>(kSteps);
  TinyRun slow = LockFree(run, kBound, {60, true}, 2);
  // Reading what the updates need takes about three steps, and so does writing it, which runs beside the reading.
  TinyRun short_one = slow;
  short_one.steps = 1;
  slow.file_bytes_per_second = static_cast<double>(Trained(short_one, 2).file_arena_bytes) / (3 * step_seconds);
  const TinyResult result = Trained(slow, 2);
  ASSERT_EQ(result.units_by_lag.size(), static_cast<size_t>(kSteps));
  std::vector<int64_t> seen(kBound + 1);
  for (const std::vector<int64_t>& lags : result.units_by_lag) {
    ASSERT_EQ(lags.size(), static_cast<size_t>(kBound) + 1);  // no unit lags by more
    for (int64_t lag = 0; lag <= kBound; ++lag) seen[lag] += lags[lag];
    EXPECT_EQ(std::accumulate(lags.begin(), lags.end(), int64_t{0}), static_cast<int64_t>(result.unit_updates.size()));
  }
  EXPECT_GT(seen[kBound], 0) << "the bound was not reached";
  EXPECT_GT(result.wait_seconds, 0);
  // An update took the gradients of several steps together.
  for (const int64_t updates : result.unit_updates) {
    EXPECT_LT(updates, kSteps);
    EXPECT_GE(updates, kSteps / (2 * kBound));
  }
  // The run learns as well as the synchronous one.
  const double before = MeanOfLast(synchronous.losses, kSteps), after = MeanOfLast(synchronous.losses, 4);
  EXPECT_LT(after, before) << "nothing was learned";
  EXPECT_NEAR(MeanOfLast(result.losses, 4), after, 0.15 * after);
}

// Where more staleness is allowed, fewer units are in flight at a time, which takes less memory.
TEST(LockFreeTest, UnitsTakeTurnsWhereTheBoundAllowsIt) {
  constexpr int kBound = 6;
  TinyRun run = Synchronous(TinyDense());
  run.steps = 12;
  run.accumulation = 1;
  const TinyRun at_once = LockFree(run, 1, {}, 2), in_turns = LockFree(run, kBound, {}, 2);
  const TinyResult few = Trained(in_turns, 2), all = Trained(at_once, 2);
  ASSERT_FALSE(few.losses.empty());
  EXPECT_LT(few.host_arena_bytes, all.host_arena_bytes);
  for (size_t u = 0; u < few.unit_updates.size(); ++u) {
    EXPECT_EQ(all.unit_updates[u], 12);
    EXPECT_LT(few.unit_updates[u], 12);
    EXPECT_GE(few.unit_updates[u], 12 / kBound);
  }
  for (const std::vector<int64_t>& lags : few.units_by_lag) EXPECT_EQ(lags.size(), static_cast<size_t>(kBound) + 1);
  EXPECT_LT(MeanOfLast(few.losses, 3), few.losses[0]) << "nothing was learned";
}

// A skipped step delivers no gradients, and nobody waits for it.
TEST(LockFreeTest, ASkippedStepChangesNoBit) {
  for (const int max_staleness : {0, 1}) {
    TinyRun run = LockFree(Synchronous(TinyDense()), max_staleness, {}, 2);
    run.steps = 2;
    const TinyResult before = Trained(run, 2);
    run.steps = 3;
    run.tamper = [](const Graph&, const Layout& layout, const Machine& machine, int64_t step, int micro) {
      if (machine.communicator->rank() != 1 || step != 2 || micro != 0) return;
      for (const StateView& view : StateViews(layout, machine)) {
        if (view.unit == 3 && view.state == kGradientState) view.own_slice().back() = NAN;
      }
    };
    const TinyResult after = Trained(run, 2);
    ASSERT_EQ(after.norms.size(), 3u);
    EXPECT_FALSE(std::isfinite(after.norms[2]));
    EXPECT_EQ(after.parameters, before.parameters);
    EXPECT_EQ(after.moments, before.moments);
    EXPECT_EQ(after.unit_updates, before.unit_updates);
  }
}

}  // namespace
}  // namespace angel_ptm
