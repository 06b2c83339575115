#include "angel_ptm/config/compare.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <string>
#include <string_view>
#include <vector>

#include "angel_ptm/config/load.h"
#include "tests/config/example_config.h"

namespace angel_ptm {
namespace {

using ::testing::ElementsAre;

std::vector<std::string> Differences(const TrainConfig& before, const TrainConfig& after) {
  std::vector<std::string> texts;
  for (const FieldDifference& d : ConfigDifferences(before, after)) {
    texts.push_back(d.path + ": " + d.before + " -> " + d.after);
  }
  return texts;
}

TEST(ConfigDifferencesTest, AreNamedWithBothValues) {
  const TrainConfig a = ExampleConfig({"steps=10", "optimizer.schedule.kind=LINEAR", "optimizer.adamw.beta1=0.9"});
  EXPECT_THAT(Differences(a, a), ElementsAre());
  const TrainConfig b =
      ExampleConfig({"steps=20", "optimizer.schedule.kind=COSINE", "optimizer.adamw.beta1=0.90000000000000002"});
  EXPECT_THAT(Differences(a, b), ElementsAre("optimizer.schedule.kind: LINEAR -> COSINE", "steps: 10 -> 20"));
}

TEST(ConfigDifferencesTest, ListsAreOneValue) {
  TrainConfig a = ExampleConfig({}), b = a;
  a.mutable_data()->mutable_prepare()->clear_input();
  b.mutable_data()->mutable_prepare()->clear_input();
  a.mutable_data()->mutable_prepare()->add_input("x");
  b.mutable_data()->mutable_prepare()->add_input("x");
  b.mutable_data()->mutable_prepare()->add_input("y");
  EXPECT_THAT(Differences(a, b), ElementsAre("data.prepare.input: [\"x\"] -> [\"x\", \"y\"]"));
}

TEST(ModelDifferencesTest, AreNamedWithBothValues) {
  const std::string lm = "model.hunyuan_lm.";
  const TrainConfig a = ExampleConfig({lm + "num_hidden_layers=2", lm + "rope_theta=10000", lm + "rms_norm_eps=1e-5"});
  EXPECT_THAT(ModelDifferences(a, a, {}), ElementsAre());
  const TrainConfig b = ExampleConfig(
      {lm + "num_hidden_layers=3", lm + "rope_theta=10000.000000000002", lm + "rms_norm_eps=1e-6", "steps=77"});
  EXPECT_THAT(ModelDifferences(a, b, {}), ElementsAre(lm + "num_hidden_layers: wanted 2, got 3",
                                                      lm + "rope_theta: wanted 10000, got 10000.000000000002",
                                                      lm + "rms_norm_eps: wanted 1e-05, got 1e-06"));
  constexpr std::string_view kMayDiffer[] = {"model.hunyuan_lm.rope_theta", "model.hunyuan_lm.num_hidden"};
  EXPECT_THAT(ModelDifferences(a, b, kMayDiffer),
              ElementsAre(lm + "num_hidden_layers: wanted 2, got 3", lm + "rms_norm_eps: wanted 1e-05, got 1e-06"));
}

// Otherwise two configurations whose common family has no field set would compare equal.
TEST(ModelDifferencesTest, AnotherFamilyIsAnotherModel) {
  const TrainConfig a = ExampleConfig({});
  TrainConfig b = a;
  b.mutable_model()->clear_family();
  EXPECT_THAT(ModelDifferences(a, b, {}), ElementsAre("model.family: wanted hunyuan_lm, got none"));
}

TEST(IsBelowTest, TakesWholeNamesOnly) {
  constexpr std::string_view kFields[] = {"output", "optimizer.adamw"};
  EXPECT_TRUE(IsBelow("output", kFields));
  EXPECT_TRUE(IsBelow("output.directory", kFields));
  EXPECT_TRUE(IsBelow("optimizer.adamw.beta1", kFields));
  EXPECT_FALSE(IsBelow("outputs.directory", kFields));
  EXPECT_FALSE(IsBelow("optimizer.gradient_clip_norm", kFields));
}

// A checkpoint's configuration may come from an older or a newer program.
TEST(ParseStoredConfigTest, LeavesOutAndNamesWhatThisProgramDoesNotKnow) {
  std::vector<std::string> unknown;
  const auto config = ParseStoredConfig(
      "steps: 7 retired: 3 optimizer { momentum: 0.9 schedule { kind: POLYNOMIAL } nested { a: 1 b { c: 2 } } }", "old",
      &unknown);
  ASSERT_TRUE(config.ok()) << config.status();
  EXPECT_EQ(config->steps(), 7);
  EXPECT_EQ(config->optimizer().schedule().kind(), ScheduleConfig::COSINE);
  EXPECT_THAT(unknown, ElementsAre("kind: POLYNOMIAL", "TrainConfig.retired", "OptimizerConfig.momentum",
                                   "OptimizerConfig.nested"));
  // Nothing else goes that the unknown value is a part of.
  const auto prompt = ParseStoredConfig(
      "sampling { prompt: \"kind: POLYNOMIAL\" } data { prepare { input: \"kind: POLYNOMIAL2\" } } "
      "optimizer { schedule { kind: POLYNOMIAL } }",
      "old", &unknown);
  ASSERT_TRUE(prompt.ok()) << prompt.status();
  EXPECT_EQ(prompt->sampling().prompt(0), "kind: POLYNOMIAL");
  EXPECT_EQ(prompt->data().prepare().input(0), "kind: POLYNOMIAL2");
  EXPECT_FALSE(ParseStoredConfig("steps: seven", "old", &unknown).ok());
  EXPECT_FALSE(ParseTrainConfig("retired: 3", "new").ok());
}

}  // namespace
}  // namespace angel_ptm
