#include "optim/schedule.h"

#include <gtest/gtest.h>

#include <cmath>
#include <limits>

namespace angel_ptm {
namespace {

TEST(LearningRateSchedule, WarmUpIsLinearAndReachesThePeak) {
  for (ScheduleKind kind : {ScheduleKind::kConstant, ScheduleKind::kLinear, ScheduleKind::kCosine}) {
    const LearningRateSchedule schedule{
        .kind = kind, .peak = 4e-4, .warmup_steps = 4, .total_steps = 100, .final_ratio = 0.1};
    EXPECT_DOUBLE_EQ(schedule.At(0), 1e-4);
    EXPECT_DOUBLE_EQ(schedule.At(1), 2e-4);
    EXPECT_DOUBLE_EQ(schedule.At(3), 4e-4);
    EXPECT_DOUBLE_EQ(schedule.At(4), 4e-4);
  }
}

TEST(LearningRateSchedule, ShapesBetweenPeakAndEnd) {
  LearningRateSchedule schedule{.kind = ScheduleKind::kLinear, .peak = 1, .total_steps = 101, .final_ratio = 0.2};
  EXPECT_DOUBLE_EQ(schedule.At(0), 1);
  EXPECT_DOUBLE_EQ(schedule.At(25), 0.8);
  EXPECT_DOUBLE_EQ(schedule.At(50), 0.6);
  EXPECT_DOUBLE_EQ(schedule.At(100), 0.2);
  schedule.kind = ScheduleKind::kCosine;
  EXPECT_DOUBLE_EQ(schedule.At(0), 1);
  EXPECT_DOUBLE_EQ(schedule.At(25), 0.2 + 0.8 * 0.5 * (1 + std::sqrt(0.5)));
  EXPECT_DOUBLE_EQ(schedule.At(50), 0.6);
  EXPECT_DOUBLE_EQ(schedule.At(100), 0.2);
  schedule.kind = ScheduleKind::kConstant;
  EXPECT_DOUBLE_EQ(schedule.At(100), 1);
}

TEST(LearningRateSchedule, FallsMonotonicallyAndStaysAtTheEnd) {
  for (ScheduleKind kind : {ScheduleKind::kLinear, ScheduleKind::kCosine}) {
    const LearningRateSchedule schedule{
        .kind = kind, .peak = 3e-4, .warmup_steps = 10, .total_steps = 60, .final_ratio = 0.1};
    for (int64_t step = 11; step < 60; ++step) EXPECT_LT(schedule.At(step), schedule.At(step - 1));
    EXPECT_DOUBLE_EQ(schedule.At(59), 3e-5);
    EXPECT_DOUBLE_EQ(schedule.At(1000), 3e-5);
  }
}

TEST(LearningRateSchedule, RunsOfOneStepHaveAValue) {
  const LearningRateSchedule schedule{.kind = ScheduleKind::kCosine, .peak = 1, .total_steps = 1};
  EXPECT_DOUBLE_EQ(schedule.At(0), 1);
  const LearningRateSchedule warm{.kind = ScheduleKind::kLinear, .peak = 1, .warmup_steps = 2, .total_steps = 2};
  EXPECT_DOUBLE_EQ(warm.At(1), 1);
}

TEST(ClipFactor, BringsTheNormDownToItsMaximum) {
  EXPECT_EQ(ClipFactor(0.5, 1), 1);
  EXPECT_EQ(ClipFactor(1, 1), 1);
  EXPECT_EQ(ClipFactor(4, 1), 0.25);
  EXPECT_DOUBLE_EQ(ClipFactor(7.3, 0.9) * 7.3, 0.9);
  EXPECT_EQ(ClipFactor(0, 1), 1);
  EXPECT_EQ(ClipFactor(1e9, 0), 1);  // clipping is off
}

}  // namespace
}  // namespace angel_ptm
