#include "angel_ptm/train/report/history.h"

#include <gtest/gtest.h>

#include <cmath>
#include <string>

#include "absl/strings/str_cat.h"
#include "angel_ptm/train/metrics.h"

namespace angel_ptm {
namespace {

TEST(CurveTest, ManyStepsShareFewPointsAndNothingIsLost) {
  Curve curve(/*points_max=*/100);
  constexpr int64_t kSteps = 12345;
  double sum = 0;
  for (int64_t step = 0; step < kSteps; ++step) {
    curve.Add(step, static_cast<double>(step % 7));
    sum += static_cast<double>(step % 7);
    ASSERT_LE(curve.points().size(), 100u);
  }
  EXPECT_GT(curve.points().size(), 50u);
  EXPECT_EQ(curve.steps_per_point(), 128);
  int64_t next = 0;
  for (const CurvePoint& point : curve.points()) {
    EXPECT_EQ(point.first_step, next);
    next = point.last_step + 1;
  }
  EXPECT_EQ(next, kSteps);
  EXPECT_DOUBLE_EQ(curve.mean(), sum / kSteps);
  EXPECT_EQ(curve.last(), (kSteps - 1) % 7);
}

TEST(CurveTest, ValuesThatAreNotFiniteSpoilNoMean) {
  Curve curve(/*points_max=*/2);
  for (int64_t step : {0, 1, 2, 3}) curve.Add(step, step == 1 ? NAN : step == 2 ? INFINITY : 5.0);
  ASSERT_EQ(curve.points().size(), 2u);
  EXPECT_EQ(curve.points()[0].mean(), 5);
  EXPECT_EQ(curve.points()[1].mean(), 5);
  Curve none;
  none.Add(0, NAN);
  EXPECT_TRUE(std::isnan(none.points()[0].mean()));
  EXPECT_TRUE(std::isnan(none.mean()));
}

TEST(HistoryTest, ReadsWhatTheTrainerWrites) {
  History history;
  StepMetrics metrics{.step = 0, .loss = 2, .grad_norm = 3, .busy_seconds = {0.5, 0, 0, 0, 0}};
  metrics.validation_loss = 4;
  EXPECT_TRUE(history.AddLine(ToJson(metrics)));
  EXPECT_EQ(history.Find("loss")->last(), 2);
  EXPECT_EQ(history.Find("busy_compute")->last(), 0.5);
  EXPECT_EQ(history.Find("validation_loss")->last(), 4);
  EXPECT_EQ(history.Find("step"), nullptr);
  EXPECT_EQ(history.Find("tflop"), nullptr);
}

TEST(HistoryTest, NamesGapsAndStepsThatAreNotFinite) {
  History history;
  for (int64_t step : {4, 5, 9, 10, 12}) EXPECT_TRUE(history.AddLine(ToJson({.step = step, .loss = 1})));
  EXPECT_TRUE(history.AddLine(ToJson({.step = 13, .loss = NAN, .skipped = true})));
  EXPECT_TRUE(history.AddLine(ToJson({.step = 14, .loss = 1, .grad_norm = INFINITY, .skipped = true})));
  EXPECT_EQ(history.missing().ToString(), "6 to 8, 11");
  EXPECT_EQ(history.missing().count(), 4);
  EXPECT_EQ(history.non_finite().ToString(), "13 to 14");
  EXPECT_EQ(history.lines(), 7);
  EXPECT_EQ(history.last_step(), 14);
}

TEST(HistoryTest, ListsOfManyStepsAreCutShort) {
  StepList steps;
  for (int64_t step = 0; step < 100; step += 2) steps.Add(step, step);
  EXPECT_EQ(steps.ToString(), "0, 2, 4, 6, 8, 10, 12, 14 and 42 more");
}

TEST(HistoryTest, RefusesWhatIsNoStepBehindTheOneBefore) {
  History history;
  ASSERT_TRUE(history.AddLine(R"({"step": 3, "loss": 1})"));
  const std::string deep =
      absl::StrCat(R"({"step": 4, "loss": )", std::string(100000, '['), std::string(100000, ']'), "}");
  for (const std::string& line :
       {std::string(R"({"step": 3, "loss": 2})"), std::string(R"({"step": 2})"), std::string(R"({"step": 4, "lo)"),
        std::string("4"), std::string(), std::string(R"({"step": -1})"), std::string(R"({"step": 1e9})"),
        std::string(R"({"step": "5"})"), std::string(R"({"loss": 5})"), deep}) {
    EXPECT_FALSE(history.AddLine(line)) << line.substr(0, 50);
  }
  EXPECT_EQ(history.lines(), 1);
  EXPECT_EQ(history.Find("loss")->last(), 1);
}

TEST(ExpertHistoryTest, LoadsAreOverTheMean) {
  ExpertHistory experts;
  EXPECT_TRUE(experts.AddLine(ExpertLine(0, {{1, 3}, {2, 2}})));
  EXPECT_TRUE(experts.AddLine(ExpertLine(9, {{0, 8}, {5, 3}})));
  EXPECT_EQ(experts.last_step(), 9);
  EXPECT_EQ(experts.loads(), (std::vector<std::vector<double>>{{0, 2}, {1.25, 0.75}}));
  ASSERT_EQ(experts.fullest().size(), 2u);
  EXPECT_EQ(experts.fullest()[0].points()[0].mean(), 1.5);
  EXPECT_EQ(experts.fullest()[1].last(), 1.25);
  for (const char* line : {R"({"step": 9, "loads": [[1, 1], [1, 1]]})", R"({"step": 10, "loads": [[1, 1]]})",
                           R"({"step": 10, "loads": [[1, "a"], [1, 1]]})", R"({"step": 10, "loads": [[], []]})",
                           R"({"step": 10, "loads": 3})", R"({"step": 10})"}) {
    EXPECT_FALSE(experts.AddLine(line)) << line;
  }
}

}  // namespace
}  // namespace angel_ptm
