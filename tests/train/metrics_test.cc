#include "angel_ptm/train/metrics.h"

#include <gtest/gtest.h>
#include <sys/stat.h>
#include <unistd.h>

#include <cmath>
#include <filesystem>
#include <fstream>
#include <sstream>
#include <string>

#include "nlohmann/json.hpp"
#include "tests/support/file_size_limit.h"
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

TEST(MetricsFileTest, LinesThatFoundNoRoomFollowLater) {
  const TemporaryFolder folder;
  const std::string directory = folder / "run";
  auto file = MetricsFile::Open(directory, 0);
  ASSERT_TRUE(file.ok()) << file.status();
  ASSERT_TRUE(file->Append({.step = 0}).ok());
  const std::string first = Slurp(file->path());
  {
    const FileSizeLimit half_a_line_more(first.size() * 3 / 2);
    for (int64_t step : {1, 2}) {
      const absl::Status status = file->Append({.step = step});
      EXPECT_EQ(status.code(), absl::StatusCode::kResourceExhausted) << status;
      EXPECT_NE(status.message().find(file->path()), std::string::npos) << status;
      EXPECT_TRUE(file->behind());
      EXPECT_EQ(Slurp(file->path()), first);
    }
  }
  ASSERT_TRUE(file->Append({.step = 3}).ok());
  EXPECT_FALSE(file->behind());
  EXPECT_EQ(Slurp(file->path()), ToJson({.step = 0}) + "\n" + ToJson({.step = 1}) + "\n" + ToJson({.step = 2}) + "\n" +
                                     ToJson({.step = 3}) + "\n");
}

TEST(MetricsFileTest, FlushWritesTheLinesThatFoundNoRoom) {
  const TemporaryFolder folder;
  auto file = MetricsFile::Open(folder.path(), 0);
  ASSERT_TRUE(file.ok()) << file.status();
  {
    const FileSizeLimit limit(8);
    EXPECT_FALSE(file->Append({.step = 0}).ok());
    EXPECT_EQ(file->Flush().code(), absl::StatusCode::kResourceExhausted);
    EXPECT_TRUE(file->behind());
  }
  EXPECT_TRUE(file->Flush().ok());
  EXPECT_FALSE(file->behind());
  EXPECT_EQ(Slurp(file->path()), ToJson({.step = 0}) + "\n");
}

TEST(MetricsFileTest, SaysWhereItCannotWrite) {
  const TemporaryFolder folder;
  const std::string directory = folder / "run";
  std::ofstream(directory) << "a file, not a folder";
  const auto file = MetricsFile::Open(directory, 0);
  ASSERT_FALSE(file.ok());
  EXPECT_EQ(file.status().code(), absl::StatusCode::kAlreadyExists) << file.status();
  EXPECT_NE(file.status().message().find(directory), std::string::npos);
}

TEST(MetricsFileTest, ARewriteThatFindsNoRoomLeavesTheFileAsItWas) {
  const TemporaryFolder folder;
  const std::string path = folder / "metrics.jsonl";
  const std::string content = ToJson({.step = 0}) + "\n" + ToJson({.step = 1}) + "\n";
  Spill(path, content);
  const auto open = [&] {
    const FileSizeLimit limit(8);
    return MetricsFile::Open(folder.path(), 1).status();
  };
  const absl::Status status = open();
  EXPECT_EQ(status.code(), absl::StatusCode::kResourceExhausted) << status;
  EXPECT_EQ(Slurp(path), content);
  EXPECT_FALSE(std::filesystem::exists(path + ".tmp"));
}

// Were it taken for an absent one, the steps to be repeated would stand in it twice.
TEST(MetricsFileTest, AHistoryThatCannotBeReadIsAnError) {
  const TemporaryFolder folder;
  const std::string path = folder / "metrics.jsonl";
  const std::string content = ToJson({.step = 0}) + "\n";
  Spill(path, content);
  std::filesystem::permissions(folder.path(), std::filesystem::perms::all);
  ASSERT_EQ(chmod(path.c_str(), 0222), 0);
  // Root reads everything.
  const uid_t user = geteuid();
  constexpr uid_t kNobody = 65534;
  if (user == 0 && seteuid(kNobody) != 0) GTEST_SKIP() << "root that cannot become another user";
  const absl::Status status = MetricsFile::Open(folder.path(), 0).status();
  ASSERT_EQ(seteuid(user), 0);
  EXPECT_EQ(status.code(), absl::StatusCode::kPermissionDenied) << status;
  ASSERT_EQ(chmod(path.c_str(), 0644), 0);
  EXPECT_EQ(Slurp(path), content);
}

}  // namespace
}  // namespace angel_ptm
