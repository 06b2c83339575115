#include "angel_ptm/train/metrics.h"

#include <gtest/gtest.h>
#include <sys/resource.h>

#include <cmath>
#include <csignal>
#include <fstream>
#include <sstream>
#include <string>

#include "nlohmann/json.hpp"
#include "tests/support/temporary_folder.h"

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
  metrics.validation_bits_per_byte = 1.2;
  const std::string line = ProgressLine(metrics, {.total_steps = 100, .seconds_per_step = 2});
  EXPECT_EQ(
      line,
      "step 9/100  loss 2.5000  validation 2.7500 (1.200 bits/byte)  grad norm 1.000  lr 1.00e-03  3.50 k tokens/s  "
      "50.0% of peak  ETA 3m00s");
}

TEST(MetricsFileTest, AResumedRunDropsTheStepsItRepeats) {
  const TemporaryFolder folder;
  const std::string directory = folder / "run";
  for (int64_t begin : {0, 3}) {
    auto file = MetricsFile::Open(directory, begin);
    ASSERT_TRUE(file.ok()) << file.status();
    for (int64_t step = begin; step < begin + 5; ++step) {
      ASSERT_TRUE(file->Append({.step = step, .loss = static_cast<double>(begin)}).ok());
    }
    // A kill in the middle of a line.
    std::ofstream(directory + "/metrics.jsonl", std::ios::app) << "{\"step\": 2, \"lo";
  }
  std::istringstream lines(Slurp(directory + "/metrics.jsonl"));
  std::string line;
  for (int64_t step = 0; step < 8; ++step) {
    ASSERT_TRUE(std::getline(lines, line));
    const auto json = nlohmann::json::parse(line);
    EXPECT_EQ(json["step"], step);
    EXPECT_EQ(json["loss"], step < 3 ? 0 : 3);
  }
}

// A limit on the size of files stands in for a full disk.
TEST(MetricsFileTest, LinesThatFoundNoRoomFollowLater) {
  const TemporaryFolder folder;
  const std::string directory = folder / "run";
  auto file = MetricsFile::Open(directory, 0);
  ASSERT_TRUE(file.ok()) << file.status();
  ASSERT_TRUE(file->Append({.step = 0}).ok());
  const std::string first = Slurp(file->path());
  rlimit before;
  getrlimit(RLIMIT_FSIZE, &before);
  const auto handler = std::signal(SIGXFSZ, SIG_IGN);
  const rlimit half_a_line_more = {first.size() * 3 / 2, before.rlim_max};
  setrlimit(RLIMIT_FSIZE, &half_a_line_more);
  for (int64_t step : {1, 2}) {
    const absl::Status status = file->Append({.step = step});
    EXPECT_NE(status.message().find(file->path()), std::string::npos) << status;
    EXPECT_TRUE(file->behind());
    EXPECT_EQ(Slurp(file->path()), first);
  }
  setrlimit(RLIMIT_FSIZE, &before);
  std::signal(SIGXFSZ, handler);
  ASSERT_TRUE(file->Append({.step = 3}).ok());
  EXPECT_FALSE(file->behind());
  EXPECT_EQ(Slurp(file->path()), ToJson({.step = 0}) + "\n" + ToJson({.step = 1}) + "\n" + ToJson({.step = 2}) + "\n" +
                                     ToJson({.step = 3}) + "\n");
}

TEST(MetricsFileTest, SaysWhereItCannotWrite) {
  const TemporaryFolder folder;
  const std::string directory = folder / "run";
  std::ofstream(directory) << "a file, not a folder";
  const auto file = MetricsFile::Open(directory, 0);
  ASSERT_FALSE(file.ok());
  EXPECT_NE(file.status().message().find(directory), std::string::npos);
}

}  // namespace
}  // namespace angel_ptm
