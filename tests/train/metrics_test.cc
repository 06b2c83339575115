#include "angel_ptm/train/metrics.h"

#include <gtest/gtest.h>

#include <cmath>
#include <string>
#include <vector>

#include "nlohmann/json.hpp"

namespace angel_ptm {
namespace {

TEST(MetricsTest, NumbersReadBackAsTheSameDouble) {
  const StepMetrics metrics{.step = 7, .loss = 0.1 + 0.2, .grad_norm = 1.0 / 3, .learning_rate = 3e-4};
  const auto json = nlohmann::json::parse(ToJson(metrics));
  EXPECT_EQ(json["step"], 7);
  EXPECT_EQ(json["loss"].get<double>(), 0.1 + 0.2);
  EXPECT_EQ(json["grad_norm"].get<double>(), 1.0 / 3);
  EXPECT_EQ(json["learning_rate"].get<double>(), 3e-4);
  EXPECT_FALSE(json.contains("validation_loss"));
  EXPECT_FALSE(json.contains("skipped"));
}

// The old keys keep their order, for readers of files that older programs wrote.
TEST(MetricsTest, NewKeysStandBehindTheOldOnes) {
  StepMetrics metrics{.seconds = 0.5, .tflops = 2, .tier_bytes = {7, 8, 9}, .busy_seconds = {1, 2, 3, 4, 5, 6, 7}};
  metrics.skipped = true;
  metrics.step_numbers = {{"expert_balance", 1.5, ""}};
  metrics.validation_loss = 3;
  std::vector<std::string> keys;
  const auto json = nlohmann::ordered_json::parse(ToJson(metrics));
  for (const auto& [key, value] : json.items()) keys.push_back(key);
  const std::vector<std::string> wanted = {
      "step",      "loss",           "grad_norm",      "learning_rate",     "tokens_per_second", "peak_fraction",
      "seconds",   "tflops",         "device_bytes",   "host_bytes",        "file_bytes",        "busy_compute",
      "busy_comm", "busy_copy_in",   "busy_copy_out",  "busy_host_compute", "busy_file_in",      "busy_file_out",
      "skipped",   "expert_balance", "validation_loss"};
  EXPECT_EQ(keys, wanted);
  EXPECT_EQ(json["host_bytes"], 8);
  EXPECT_EQ(json["busy_host_compute"], 5);
}

TEST(MetricsTest, DifferentBitsPrintDifferent) {
  const double next = std::nextafter(5.25, 6);
  EXPECT_NE(ToJson({.loss = 5.25}), ToJson({.loss = next}));
}

TEST(MetricsTest, NonFiniteNumbersAreStillJson) {
  const auto json = nlohmann::json::parse(ToJson({.loss = NAN, .grad_norm = INFINITY, .skipped = true}));
  EXPECT_EQ(json["loss"], "nan");
  EXPECT_EQ(json["grad_norm"], "inf");
  EXPECT_EQ(json["skipped"], true);
}

TEST(MetricsTest, ProgressLineSaysWhatIsLeft) {
  StepMetrics metrics{.step = 9,
                      .loss = 2.5,
                      .grad_norm = 1,
                      .learning_rate = 1e-3,
                      .tokens_per_second = 3500,
                      .peak_fraction = 0.5,
                      .tflops = 0.0125,
                      .tier_bytes = {1 << 20, 0}};
  metrics.validation_loss = 2.75;
  metrics.validation_numbers = {{"validation_bits_per_byte", 1.2, "1.200 bits/byte"}};
  const std::string line = ProgressLine(metrics, {.total_steps = 100, .seconds_per_step = 2});
  EXPECT_EQ(
      line,
      "step 9/100  loss 2.5000  validation 2.7500 (1.200 bits/byte)  grad_norm 1.000  lr 1.00e-03  memory 1.00 MiB  "
      "tps 3.50 k  tflops 0.0125  mfu 50.0%  ETA 3m00s");
}

}  // namespace
}  // namespace angel_ptm
