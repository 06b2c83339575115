// A run's trace is valid JSON, has each step of the plan once for every time it was played, and no lane does two things
// at a time.
#include "angel_ptm/exec/trace.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <filesystem>
#include <map>
#include <nlohmann/json.hpp>
#include <set>
#include <string>
#include <vector>

#include "absl/strings/str_cat.h"
#include "angel_ptm/base/file.h"
#include "tests/laws/trainer_run.h"
#include "tests/support/or_die.h"
#include "tests/support/temporary_folder.h"
#include "tests/support/tiny_text.h"

namespace angel_ptm {
namespace {

using Json = nlohmann::json;
using ::testing::HasSubstr;

class TraceTest : public testing::Test {
 protected:
  TraceTest() { PrepareTinyText(folder_.path()); }

  TrainConfig Config(std::vector<std::string> more) {
    more.push_back("evaluation.every_steps=0");
    return TrainerConfig(/*moe=*/true, folder_.path(), "run", more);
  }
  static TrainerOutcome Train(const TrainConfig& config, int ranks, bool resume = false) {
    return RunTrainer({.configs = {config}, .world_size = ranks, .resume = resume});
  }
  std::string TracePath(const TrainConfig& config, int rank) const {
    return absl::StrCat(config.output().directory(), "/trace-", rank, ".json");
  }
  // The spans, without the events that name processes and threads.
  std::vector<Json> Spans(const TrainConfig& config, int rank) const {
    std::vector<Json> spans;
    const Json document = Json::parse(OrDie(ReadFile(TracePath(config, rank))));
    for (const Json& event : document["traceEvents"]) {
      if (event["ph"] == "X") spans.push_back(event);
    }
    return spans;
  }

  const TemporaryFolder folder_;
};

TEST_F(TraceTest, EveryStepOfThePlanIsThereAsOftenAsItWasPlayed) {
  const TrainConfig config = Config({"output.trace_steps=2", "output.trace_first_step=1"});
  OrDie(Train(config, 2).status());
  for (int rank = 0; rank < 2; ++rank) {
    std::map<int64_t, std::multiset<std::string>> names;  // by training step
    std::map<int, double> end;                            // by lane
    for (const Json& span : Spans(config, rank)) {
      EXPECT_EQ(span["pid"], rank);
      EXPECT_GE(span["ts"].get<double>() + 0.002, end[span["tid"]]) << span;  // a lane does one thing at a time
      EXPECT_GE(span["dur"].get<double>(), 0);
      end[span["tid"]] = span["ts"].get<double>() + span["dur"].get<double>();
      names[span["args"]["step"]].insert(span["name"]);
    }
    ASSERT_EQ(names.size(), 2u);
    EXPECT_EQ(names[1], names[2]);  // whether or not a step's first micro-batch ran beside the previous update
    EXPECT_EQ(names[1].count("gradient norm"), 1u);
    const int64_t micro_batches = config.batch().global_batch_sequences() / config.batch().micro_batch_sequences() / 2;
    EXPECT_EQ(names[1].count("reduce-scatter embedding gradients"), static_cast<size_t>(micro_batches));
  }
}

TEST_F(TraceTest, ARunWithoutOneWritesNone) {
  const TrainConfig config = Config({});
  OrDie(Train(config, 1).status());
  EXPECT_FALSE(std::filesystem::exists(TracePath(config, 0)));
}

TEST_F(TraceTest, WhatCannotBeWrittenIsSaidAndTrainingGoesOn) {
  const TrainConfig config = Config({"output.trace_steps=1", "output.trace_first_step=1"});
  std::filesystem::create_directories(TracePath(config, 0));
  const TrainerOutcome run = Train(config, 1);
  OrDie(run.status());
  EXPECT_THAT(run.text, HasSubstr("warning: no trace: "));
  EXPECT_THAT(run.text, HasSubstr("; training goes on"));
}

TEST_F(TraceTest, StepsThatTheRunDoesNotPlayAreSaid) {
  TrainConfig config = Config({"output.trace_steps=1", "output.trace_first_step=0"});
  OrDie(Train(config, 1).status());
  config.set_steps(config.steps() + 2);
  const TrainerOutcome resumed = Train(config, 1, /*resume=*/true);
  OrDie(resumed.status());
  EXPECT_THAT(resumed.text, HasSubstr("warning: no trace: the run did not execute steps 0 to 0"));
}

// The segment of an update and a micro-batch together may have more steps than the two apart.
TEST(TraceJsonTest, ThereIsRoomForTheSegmentOfBoth) {
  Plan plan;
  plan.segments = {{.name = "micro-step", .computes = true, .steps = {{}}},
                   {.name = "update", .updates = true, .steps = {{}}},
                   {.name = "both", .computes = true, .updates = true, .steps = std::vector<Step>(7)}};
  Trace trace(plan, 2, 0, 1);
  for (int i = 0; i < 1 + 7; ++i) trace.Add(Lane::kCompute, {.segment = "both", .name = "step"});
  EXPECT_EQ(trace.spans(Lane::kCompute).size(), 8u);
}

TEST(TraceJsonTest, NamesAreQuoted) {
  Segment segment{.name = "micro-step", .computes = true, .steps = {{}}};
  Plan plan;
  plan.segments = {segment};
  Trace trace(plan, 1, 0, 1);
  trace.Add(Lane::kCompute, {.begin_ns = 1500, .end_ns = 2001, .segment = segment.name, .name = "a \"b\" \\ c\n"});
  const Json document = Json::parse(trace.ToJson(0));
  const Json& span = document["traceEvents"][2];
  EXPECT_EQ(span["name"], "a \"b\" \\ c?");
  EXPECT_EQ(span["ts"], 1.5);
  EXPECT_EQ(span["dur"], 0.501);
}

}  // namespace
}  // namespace angel_ptm
