// A checkpoint of the first format, with the configuration of that time's program, is resumed and sampled from.
#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <cstdio>
#include <cstdlib>
#include <filesystem>
#include <fstream>
#include <string>
#include <vector>

#include "absl/strings/str_cat.h"
#include "angel_ptm/checkpoint/manifest.h"
#include "angel_ptm/config/load.h"
#include "angel_ptm/train/generate.h"
#include "nlohmann/json.hpp"
#include "tests/laws/trainer_run.h"
#include "tests/support/temporary_folder.h"

namespace angel_ptm {
namespace {

using testing::HasSubstr;
using testing::Not;

class Version1Test : public testing::Test {
 protected:
  Version1Test() {
    std::filesystem::copy(TESTDATA "/version1", folder_ / "copy", std::filesystem::copy_options::recursive);
  }

  TrainConfig Config() const {
    auto config =
        LoadTrainConfig(folder_ / "copy/config.textproto",
                        {absl::StrCat("data.directory=", folder_ / "copy/data"),
                         absl::StrCat("output.directory=", folder_ / "copy/run"), "communication.local_ranks=1"});
    EXPECT_TRUE(config.ok()) << config.status();
    return *config;
  }
  std::string Checkpoint() const { return folder_ / "copy/run/checkpoints/step-00000003"; }
  static std::vector<nlohmann::json> Metrics(const std::string& path) {
    std::vector<nlohmann::json> steps;
    std::ifstream file(path);
    for (std::string line; std::getline(file, line);) steps.push_back(nlohmann::json::parse(line));
    return steps;
  }

  const TemporaryFolder folder_;
};

TEST_F(Version1Test, ResumesWithTheNumbersOfThatTime) {
  const TrainerOutcome outcome = RunTrainer({.configs = {Config()}, .world_size = 2, .resume = true});
  ASSERT_TRUE(outcome.status().ok()) << outcome.status();
  EXPECT_THAT(outcome.text, HasSubstr("step-00000003 at step 3"));
  EXPECT_THAT(outcome.text, HasSubstr("note: the checkpoint does not record these numerics: build"));
  EXPECT_THAT(outcome.text, Not(HasSubstr("what is learned changes")));
  const auto wanted = Metrics(folder_ / "copy/metrics.jsonl"), got = Metrics(folder_ / "copy/run/metrics.jsonl");
  ASSERT_EQ(wanted.size(), 6u);
  ASSERT_EQ(got.size(), 3u);
  for (size_t i = 0; i < got.size(); ++i) {
    EXPECT_EQ(got[i]["step"], wanted[i + 3]["step"]);
    // The last bits differ on another processor.
    for (const char* name : {"loss", "grad_norm", "learning_rate"}) {
      EXPECT_NEAR(got[i][name].get<double>() / wanted[i + 3][name].get<double>(), 1, 1e-4)
          << name << " of step " << i + 3;
    }
  }
}

TEST_F(Version1Test, IsSampledFrom) {
  const auto texts = Generate(Checkpoint(), {.prompts = {"pages move"}, .tokens_max = 8});
  ASSERT_TRUE(texts.ok()) << texts.status();
  EXPECT_FALSE((*texts)[0].tokens.empty());
}

// A field that has been renamed or removed since is ignored, and a note says so.
TEST_F(Version1Test, FieldsThatNoLongerExistDoNotLockItUp) {
  const std::string path = Checkpoint() + "/manifest.json";
  auto manifest = DecodeManifest(Slurp(path), path);
  ASSERT_TRUE(manifest.ok()) << manifest.status();
  const size_t optimizer = manifest->model_config.find("optimizer {");
  ASSERT_NE(optimizer, std::string::npos);
  manifest->model_config.insert(optimizer + 11, "\n  momentum: 0.9");
  absl::StrAppend(&manifest->model_config, "pipeline { stages: 4 }\n");
  Spill(path, EncodeManifest(*manifest));
  const TrainerOutcome outcome = RunTrainer({.configs = {Config()}, .world_size = 2, .resume = true});
  ASSERT_TRUE(outcome.status().ok()) << outcome.status();
  EXPECT_THAT(outcome.text,
              HasSubstr("note: the checkpoint's configuration has fields that this program does not know and ignores: "
                        "OptimizerConfig.momentum, TrainConfig.pipeline"));
  char* text = nullptr;
  size_t bytes = 0;
  std::FILE* notes = open_memstream(&text, &bytes);
  EXPECT_TRUE(Generate(Checkpoint(), {.prompts = {"pages"}, .tokens_max = 2, .notes = notes}).ok());
  std::fclose(notes);
  EXPECT_THAT(std::string(text, bytes), HasSubstr("ignores: OptimizerConfig.momentum, TrainConfig.pipeline"));
  std::free(text);
}

}  // namespace
}  // namespace angel_ptm
