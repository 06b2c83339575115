#include "angel_ptm/train/metrics.h"

#include <gtest/gtest.h>

#include <cmath>
#include <string>

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
  StepMetrics metrics{
      .step = 9, .loss = 2.5, .grad_norm = 1, .learning_rate = 1e-3, .tokens_per_second = 3500, .peak_fraction = 0.5};
  metrics.validation_loss = 2.75;
  metrics.validation_numbers = {{"validation_bits_per_byte", 1.2, "1.200 bits/byte"}};
  const std::string line = ProgressLine(metrics, {.total_steps = 100, .seconds_per_step = 2});
  EXPECT_EQ(
      line,
      "step 9/100  loss 2.5000  validation 2.7500 (1.200 bits/byte)  grad norm 1.000  lr 1.00e-03  3.50 k tokens/s  "
      "50.0% of peak  ETA 3m00s");
}

}  // namespace
}  // namespace angel_ptm
