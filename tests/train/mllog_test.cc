#include "angel_ptm/train/report/mllog.h"

#include <gtest/gtest.h>

#include <nlohmann/json.hpp>
#include <sstream>
#include <string>
#include <vector>

#include "tests/support/temporary_folder.h"

namespace angel_ptm {
namespace {

using Json = nlohmann::json;

TEST(MlLogTest, ALineHasTheFormatsKeysAndEscapes) {
  const std::string line = MlLine(MlEvent::kPointInTime, "a\"key", 0.5, {{"samples_count", 3}}, 1234);
  ASSERT_EQ(line.rfind(":::MLLOG {", 0), 0u) << line;
  EXPECT_EQ(line.find('\n'), line.size() - 1);
  const Json json = Json::parse(line.substr(9));
  EXPECT_EQ(json["namespace"], "");
  EXPECT_EQ(json["time_ms"], 1234);
  EXPECT_EQ(json["event_type"], "POINT_IN_TIME");
  EXPECT_EQ(json["key"], "a\"key");
  EXPECT_EQ(json["value"], 0.5);
  EXPECT_EQ(json["metadata"]["samples_count"], 3);
  EXPECT_EQ(json["metadata"]["file"], "mllog_test.cc");
  EXPECT_GT(json["metadata"]["lineno"], 0);
}

TEST(MlLogTest, IntervalsOpenAndClose) {
  const TemporaryFolder folder;
  TrainConfig config;
  config.mutable_batch()->set_global_batch_sequences(4);
  {
    auto log = MlLog::Open(folder.path());
    ASSERT_TRUE(log.ok()) << log.status();
    ASSERT_TRUE(log->Start(config, 2, /*first_sample=*/20).ok());
    StepMetrics metrics{.step = 2, .loss = 1};
    ASSERT_TRUE(log->Step(metrics).ok());
    metrics.step = 3;
    metrics.validation_loss = 1.5;
    ASSERT_TRUE(log->Step(metrics).ok());
    ASSERT_TRUE(log->Finish(5, "success").ok());
  }
  std::istringstream lines(Slurp(folder / "mllog.txt"));
  std::vector<std::string> told;
  Json last;
  for (std::string line; std::getline(lines, line);) {
    last = Json::parse(line.substr(9));
    if (last["event_type"] == "POINT_IN_TIME" && last["key"] != "eval_accuracy") continue;
    told.push_back(last["key"].get<std::string>() + " " + last["metadata"].value("samples_count", Json()).dump());
  }
  EXPECT_EQ(told, (std::vector<std::string>{"run_start null", "block_start 20", "block_stop 28", "eval_accuracy 28",
                                            "block_start 28", "block_stop 32", "run_stop 32"}));
  EXPECT_EQ(last["event_type"], "INTERVAL_END");
  EXPECT_EQ(last["metadata"]["status"], "success");
}

}  // namespace
}  // namespace angel_ptm
