// A configuration with a cluster's budgets, and predictions that follow from the cluster's numbers.
#include "angel_ptm/train/predict.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <algorithm>
#include <cmath>
#include <nlohmann/json.hpp>

#include "angel_ptm/config/cluster.h"
#include "angel_ptm/model/cost.h"
#include "tests/config/example_config.h"

namespace angel_ptm {
namespace {

using testing::HasSubstr;

// An accelerator that computes 2^40 FLOP/s at any size; everything else takes negligible time.
Cluster Fast() {
  const auto cluster = ParseCluster(R"(
      name: "a node of four"
      devices_per_node: 4
      device {
        bytes: 1000000000 reserve_bytes: 1000 memory_bytes_per_second: 1e25
        matrix { type: FP32 peak_flops_per_second: 2199023255552 at { work: 1 per_second: 1099511627776 } }
      }
      host { bytes: 4000000400 reserve_bytes: 400 cores: 8 memory_bytes_per_second: 4e25 adamw_bytes_per_second: 4e25 }
      link { to_device_bytes_per_second: 1e25 to_host_bytes_per_second: 1e25 }
      file { bytes: 8000000000 read_bytes_per_second: 1e9 write_bytes_per_second: 1e9 endurance_bytes_per_day: 1e12 }
      inside_node { bytes_per_second: 1e25 }
  )",
                                    "fast");
  EXPECT_TRUE(cluster.ok()) << cluster.status();
  return *cluster;
}

double MatrixFlops(const Graph& graph) {
  double flops = 0;
  for (OpId op = 0; op < graph.update_begin; ++op) flops += CostOf(graph, graph.ops[op]).flops;
  return flops;
}

TEST(PredictTest, OpenBudgetsAreThoseOfTheCluster) {
  RunFactsForPlan facts{.world_size = 4};
  const auto config = WithBudgetsOf(Fast(), ExampleConfig({"memory.nvme.directory=/drive"}), &facts);
  ASSERT_TRUE(config.ok()) << config.status();
  EXPECT_EQ(config->memory().device_bytes(), 999'999'000);
  EXPECT_EQ(config->memory().host_bytes(), 1'000'000'000);
  EXPECT_EQ(config->memory().nvme().bytes(), 2'000'000'000);
  EXPECT_EQ(facts.tiers_bytes_max, 0);
  // Two ranks share what four would.
  facts.world_size = 2;
  EXPECT_EQ(WithBudgetsOf(Fast(), ExampleConfig(), &facts)->memory().host_bytes(), 2'000'000'000);
  // Budgets that are given stay. Where the devices are the host, its memory holds both tiers.
  Cluster host = Fast();
  host.mutable_device()->set_kind(ClusterDevice::HOST);
  EXPECT_EQ(WithBudgetsOf(host, ExampleConfig({"memory.device_bytes=5000000"}), &facts)->memory().device_bytes(),
            5'000'000);
  EXPECT_EQ(facts.tiers_bytes_max, 2'000'000'000);
}

TEST(PredictTest, RefusesWhatTheClusterDoesNotHave) {
  Cluster cluster = Fast();
  cluster.clear_file();
  RunFactsForPlan facts{.world_size = 5};
  const absl::Status status =
      WithBudgetsOf(cluster,
                    ExampleConfig({"memory.device_bytes=2000000000", "memory.host_bytes=2000000000",
                                   "memory.nvme.directory=/drive", "numerics.compute=BF16"}),
                    &facts)
          .status();
  EXPECT_EQ(status.code(), absl::StatusCode::kInvalidArgument);
  const std::string message(status.message());
  EXPECT_THAT(message, HasSubstr("--ranks is 5, the cluster has 4 devices\n"));
  EXPECT_THAT(message, HasSubstr("memory.device_bytes is 1.86 GiB (2000000000), a device of a node of four has 954 MiB "
                                 "(999999000)\n"));
  EXPECT_THAT(message, HasSubstr("memory.host_bytes is 1.86 GiB (2000000000), one of 4 ranks of a node"));
  EXPECT_THAT(message, HasSubstr("memory.nvme.directory is set, the cluster has no drives"));
  EXPECT_THAT(message, HasSubstr("numerics.compute is BF16, the cluster has no rate"));
}

TEST(PredictTest, WhereOnlyProductsTakeTimeAStepIsTheirFlops) {
  RunFactsForPlan facts{.world_size = 2};
  const auto config = WithBudgetsOf(Fast(), ExampleConfig(), &facts);
  ASSERT_TRUE(config.ok()) << config.status();
  const auto run = MakeRunPlan(*config, facts);
  ASSERT_TRUE(run.ok()) << run.status();
  const StepPrediction prediction = Predict(**run, *config, Fast(), 2);
  const double micro_batches =
      static_cast<double>(config->batch().global_batch_sequences() / config->batch().micro_batch_sequences());
  const double seconds = MatrixFlops((*run)->training) * std::ceil(micro_batches / 2) / (int64_t{1} << 40);
  EXPECT_NEAR(prediction.time.seconds, seconds, 1e-6 * seconds);
  EXPECT_THAT(BoundText(prediction.time), HasSubstr("compute 100 %"));
  const double tokens =
      static_cast<double>(config->batch().global_batch_sequences() * config->data().sequence_length());
  EXPECT_NEAR(prediction.tokens_per_second, tokens / seconds, 1e-6 * tokens / seconds);
  // Half of the peak, times the share of FLOPs that are neither repeated by recomputation nor wasted on padding
  // micro-batches.
  EXPECT_NEAR(prediction.mfu,
              0.5 * ModelFlops((*run)->training) / MatrixFlops((*run)->training) * micro_batches /
                  (2 * std::ceil(micro_batches / 2)),
              1e-6);
  EXPECT_EQ(prediction.file_bytes_per_day, 0);
}

TEST(PredictTest, TellsWhatWearsDrivesOut) {
  RunFactsForPlan facts{.world_size = 1};
  const std::vector<std::string> in_file = {"memory.page_bytes=4096", "memory.device_bytes=700000",
                                            "memory.host_bytes=600000", "memory.nvme.directory=/drive"};
  const auto config = WithBudgetsOf(Fast(), ExampleConfig(in_file), &facts);
  ASSERT_TRUE(config.ok()) << config.status();
  const auto run = MakeRunPlan(*config, facts);
  ASSERT_TRUE(run.ok()) << run.status();
  const StepPrediction prediction = Predict(**run, *config, Fast(), 1);
  const double written = prediction.time.bytes[static_cast<int>(Lane::kFileOut)];
  EXPECT_GT(written, 0);
  EXPECT_GE(prediction.time.busy[static_cast<int>(Lane::kFileOut)], written / 1e9 * (1 - 1e-9));
  EXPECT_DOUBLE_EQ(prediction.file_bytes_per_day, written / prediction.time.seconds * 86'400);
  EXPECT_DOUBLE_EQ(prediction.endurance_share, prediction.file_bytes_per_day / 1e12);
  EXPECT_THAT(PredictionText(prediction, Fast(), 1), HasSubstr("a day to files"));
}

TEST(PredictTest, TheTraceHasEveryStepOfEveryMicroBatch) {
  RunFactsForPlan facts{.world_size = 1};
  const auto config =
      WithBudgetsOf(Fast(), ExampleConfig({"batch.global_batch_sequences=8", "batch.micro_batch_sequences=2"}), &facts);
  ASSERT_TRUE(config.ok()) << config.status();
  const auto run = MakeRunPlan(*config, facts);
  ASSERT_TRUE(run.ok()) << run.status();
  const StepPrediction prediction = Predict(**run, *config, Fast(), 1);
  const auto trace = nlohmann::json::parse(PredictedTrace(**run, prediction.time, 77));
  size_t spans = 0, wanted = 0;
  double end = 0;
  for (const auto& event : trace["traceEvents"]) {
    EXPECT_EQ(event["pid"], 77);
    if (event["ph"] != "X") continue;
    ++spans;
    end = std::max(end, event["ts"].get<double>() + event["dur"].get<double>());
  }
  for (const PlayTime& play : prediction.time.plays) {
    wanted += (*run)->training_plan.segments[play.segment].steps.size() * static_cast<size_t>(play.times);
  }
  EXPECT_EQ(spans, wanted);
  EXPECT_NEAR(end, prediction.time.seconds * 1e6, 1);
}

}  // namespace
}  // namespace angel_ptm
