// Law 1 for diffusion: the real trainer on images with captions, and on latents with text states, both with an average
// of the weights.
#include <gtest/gtest.h>

#include <array>
#include <cmath>
#include <filesystem>
#include <map>
#include <set>
#include <string>
#include <tuple>
#include <utility>
#include <vector>

#include "absl/strings/str_cat.h"
#include "angel_ptm/config/load.h"
#include "angel_ptm/data/images/codecs.h"
#include "angel_ptm/train/sample.h"
#include "angel_ptm/train/tasks/hunyuan_dit.h"
#include "tests/laws/diffusion_run.h"
#include "tests/laws/trainer_run.h"
#include "tests/support/or_die.h"
#include "tests/support/sanitized.h"
#include "tests/support/temporary_folder.h"
#include "tests/support/tiny_images.h"
#include "tests/support/tiny_latents.h"
#include "tests/support/tiny_text.h"

namespace angel_ptm {
namespace {

constexpr const char* kDit = R"(
model {
  dit {
    channels: 1
    height: 8
    patch_size: 2
    hidden_size: 32
    intermediate_size: 64
    num_hidden_layers: 2
    num_attention_heads: 2
    text_length: 12
    text_hidden_size: 16
    text_num_hidden_layers: 1
    condition_dropout: 0.3
    flip_probability: 0.5
  }
}
)";

struct Family {
  const char* name;
  const char* model;
  std::vector<std::string> objective;  // fields of the model's that differ
};
// The first two cover all paths except those of flows, which generate_images_test trains.
std::vector<Family> Families() {
  return FewerIfSanitized<Family>(
      2, {{"BucketsOfHunyuanDit", kTinyHunyuanDit, {"model.hunyuan_dit.bucket=4x12", "model.hunyuan_dit.bucket=6x8"}},
          {"DenoisingDit",
           kDit,
           {"model.dit.prediction=EPSILON", "model.dit.min_snr_gamma=5", "model.dit.noise_offset=0.1",
            "model.dit.variance_weight=1"}},
          {"Dit", kDit, {}},
          {"HunyuanDit", kTinyHunyuanDit, {}}});
}

// The family and the compute type.
class DitParity : public testing::TestWithParam<std::tuple<Family, const char*>> {
 protected:
  static void SetUpTestSuite() {
    folder_ = new TemporaryFolder;
    PrepareTinyImages(folder_->path());
    const TrainConfig config = OrDie(ParseTrainConfig(kTinyHunyuanDit, "dit_parity_test.cc", {}));
    HunyuanDitShape shape = HunyuanDitShapeFromConfig(config.model());
    const std::string latents = folder_->path() + "/latents";
    std::filesystem::create_directory(latents);
    OrDie(WriteTinyLatents(latents + "/train.safetensors", shape, 13, 1));
    OrDie(WriteTinyLatents(latents + "/validation.safetensors", shape, 4, 2));
    // Samples of two bucket sizes, and the same samples again as data of a run of one size.
    for (const auto& [height, width] : {std::pair(4, 12), std::pair(6, 8)}) {
      shape.height = height, shape.width = width;
      const std::string size = absl::StrCat(height, "x", width);
      std::filesystem::create_directory(latents + size);
      for (const std::string& path : {latents + "/train-" + size, latents + size + "/train"}) {
        OrDie(WriteTinyLatents(path + ".safetensors", shape, 7, 3 + static_cast<uint32_t>(width)));
      }
      if (height != 4) continue;  // of the other size nothing is held out
      for (const std::string& path : {latents + "/validation-" + size, latents + size + "/validation"}) {
        OrDie(WriteTinyLatents(path + ".safetensors", shape, 5, 9));
      }
    }
  }
  static void TearDownTestSuite() { delete folder_; }
  TrainConfig Config(const std::string& run, const std::vector<std::string>& overrides = {}) {
    const auto& [family, type] = GetParam();
    std::vector<std::string> all = {
        absl::StrCat("data.directory=", folder_->path(), OfImages() ? "/images" : "/latents"),
        absl::StrCat("output.directory=", folder_->path(), "/", type, family.name, run),
        absl::StrCat("numerics.compute=", type)};
    all.insert(all.end(), family.objective.begin(), family.objective.end());
    all.insert(all.end(), overrides.begin(), overrides.end());
    return OrDie(ParseTrainConfig(absl::StrCat(family.model, kDiffusionTraining), "dit_parity_test.cc", all));
  }
  TrainConfig Trained(const std::string& run, const std::vector<std::string>& overrides, bool resume = false,
                      int world_size = 2) {
    const TrainConfig config = Config(run, overrides);
    const TrainerOutcome outcome = RunTrainer({.configs = {config}, .world_size = world_size, .resume = resume});
    EXPECT_TRUE(outcome.status().ok()) << outcome.status();
    return config;
  }
  std::string Budget(double share) { return DeviceBudget(Config("unused"), share); }

  static bool HasBuckets() { return !OfImages() && !std::get<0>(GetParam()).objective.empty(); }
  static bool OfImages() { return std::get<0>(GetParam()).model != kTinyHunyuanDit; }

  static TemporaryFolder* folder_;
};
TemporaryFolder* DitParity::folder_ = nullptr;

TEST_P(DitParity, SameBitsForStagesBudgetsAndResume) {
  const TrainConfig plain = Trained("plain", {"sharding.zero_stage=0", "memory.recomputation=NONE"});
  const std::vector<std::string> lines = MetricLines(plain);
  ASSERT_EQ(lines.size(), 6u);
  EXPECT_NE(lines[0], lines[1]);
  EXPECT_NE(lines[5].find("validation_loss"), std::string::npos) << lines[5];
  const std::map<std::string, std::vector<float>> states = StatesOf(plain);

  const TrainConfig tight = Trained("tight", {Budget(0.5), "memory.recomputation=BLOCKS"});
  EXPECT_EQ(MetricLines(tight), lines);
  EXPECT_EQ(StatesOf(tight), states);

  Trained("resumed", {"sharding.zero_stage=2", "steps=3"});
  const TrainConfig resumed = Trained("resumed", {Budget(0.7)}, /*resume=*/true);
  const std::vector<std::string> resumed_lines = MetricLines(resumed);
  ASSERT_EQ(resumed_lines.size(), 6u);
  EXPECT_EQ(std::vector(resumed_lines.begin() + 3, resumed_lines.end()), std::vector(lines.begin() + 3, lines.end()));
  EXPECT_EQ(StatesOf(resumed), states);
}

// A step of a bucket has the bits of a run of that size on the same samples. So have the samples that it draws in that
// size.
TEST_P(DitParity, StepsOfABucketAreThoseOfItsSize) {
  if (!HasBuckets()) GTEST_SKIP() << "of buckets";
  if (kSanitized) GTEST_SKIP() << "no path of its own";
  // Each bucket has one step in an epoch and takes its own samples in the order of their numbers in the run, from the
  // first on. So the run's first step equals that of a run of one size.
  const std::vector<std::string> one_step = {"steps=1",
                                             "optimizer.schedule.warmup_steps=0",
                                             "evaluation.every_steps=0",
                                             "batch.global_batch_sequences=14",
                                             "sampling.every_steps=1",
                                             "sampling.guidance=2",
                                             "sampling.prompt=5 8x8",
                                             "sampling.prompt=3 4x12",
                                             "sampling.prompt=4",
                                             "sampling.prompt=6 4x12"};
  std::set<std::string> seen;
  for (int seed = 1; seed < 20 && seen.size() < 3; ++seed) {
    std::vector<std::string> overrides = one_step;
    overrides.push_back(absl::StrCat("seed=", seed));
    const TrainConfig config = Trained(absl::StrCat("seed", seed), overrides);
    const std::string line = Slurp(config.output().directory() + "/metrics.jsonl");
    const size_t at = line.find("\"bucket\": ");
    ASSERT_NE(at, std::string::npos) << line;
    const char bucket = line[at + std::string("\"bucket\": ").size()];
    const std::string size = bucket == '0' ? "8x8" : bucket == '1' ? "4x12" : "6x8";
    if (!seen.insert(size).second) continue;
    const size_t x = size.find('x');
    const TrainConfig with_buckets = config;
    TrainConfig alone = config;
    alone.mutable_model()->mutable_hunyuan_dit()->clear_bucket();
    alone.mutable_model()->mutable_hunyuan_dit()->set_height(std::stoi(size.substr(0, x)));
    alone.mutable_model()->mutable_hunyuan_dit()->set_width(std::stoi(size.substr(x + 1)));
    if (bucket != '0') alone.mutable_data()->set_directory(config.data().directory() + size);
    alone.mutable_sampling()->clear_prompt();
    for (const char* prompt : bucket == '0' ? std::array{"5", "4"} : std::array{"3", "6"}) {
      alone.mutable_sampling()->add_prompt(prompt);
    }
    alone.mutable_output()->set_directory(config.output().directory() + "alone");
    OrDie(RunTrainer({.configs = {alone}, .world_size = 2}).status());
    EXPECT_EQ(MetricLines(alone), MetricLines(with_buckets)) << size;
    EXPECT_EQ(StatesOf(alone), StatesOf(with_buckets)) << size;
    auto samples = SamplesOf(with_buckets, 1);
    EXPECT_EQ(samples.size(), 2u);
    if (bucket == '2') continue;
    const std::string name = bucket == '0' ? "latents.safetensors" : "latents-4x12.safetensors";
    EXPECT_EQ(samples[name], SamplesOf(alone, 1)["latents.safetensors"]) << size;
  }
  EXPECT_EQ(seen.size(), 3u);
}

// The validation loss over all sizes is the mean of the losses of runs of one size, weighted by how many samples each
// size has.
TEST_P(DitParity, ValidationLossIsOfAllBuckets) {
  if (!HasBuckets()) GTEST_SKIP() << "of buckets";
  // The weights stay as initialised.
  const std::vector<std::string> still = {"steps=1", "optimizer.schedule.warmup_steps=0",
                                          "optimizer.adamw.learning_rate=1e-30", "evaluation.weights=LAST"};
  const auto loss = [&](TrainConfig config, const std::string& run, int64_t sequences) {
    config.mutable_evaluation()->set_sequences(sequences);
    config.mutable_output()->set_directory(absl::StrCat(config.output().directory(), run, sequences));
    const TrainerOutcome outcome = RunTrainer({.configs = {config}, .world_size = 2});
    OrDie(outcome.status());
    const bool told = outcome.text.find("the validation loss leaves out size 6x8, which has no held-out samples (") !=
                      std::string::npos;
    EXPECT_EQ(told, config.model().hunyuan_dit().bucket_size() > 0) << outcome.text;
    const std::string line = Slurp(config.output().directory() + "/metrics.jsonl"), key = "\"validation_loss\": ";
    const size_t at = line.find(key);
    EXPECT_NE(at, std::string::npos) << line;
    return std::stod(line.substr(at + key.size()));
  };
  const TrainConfig all = Config("validated", still);
  TrainConfig first = all, other = all;
  for (TrainConfig* const one : {&first, &other}) one->mutable_model()->mutable_hunyuan_dit()->clear_bucket();
  other.mutable_model()->mutable_hunyuan_dit()->set_height(4);
  other.mutable_model()->mutable_hunyuan_dit()->set_width(12);
  other.mutable_data()->set_directory(all.data().directory() + "4x12");
  const double of_first = loss(first, "first", 64), of_other = loss(other, "other", 64);
  EXPECT_GT(std::abs(of_first - of_other), 1e-3 * of_first);
  EXPECT_NEAR(loss(all, "all", 64), (4 * of_first + 5 * of_other) / 9, 1e-6 * of_first);
  // Three samples, divided by the counts 4 and 5: one and two.
  const double some = (loss(first, "first", 1) + 2 * loss(other, "other", 2)) / 3;
  EXPECT_NEAR(loss(all, "all", 3), some, 1e-6 * some);
}

// Sampling during a run changes no bit of the training, and the samples have the same bits whatever the memory.
TEST_P(DitParity, SamplesChangeNoBitAndAreTheSame) {
  if (!HasImageLibraries()) GTEST_SKIP() << "a build without image libraries";
  const std::vector<std::string> sampling = {"sampling.every_steps=2", "sampling.guidance=2"};
  const auto with = [&](std::vector<std::string> overrides) {
    overrides.insert(overrides.end(), sampling.begin(), sampling.end());
    // One prompt more than two ranks sample at a time.
    for (int i = 0; i < 3; ++i) {
      overrides.push_back(
          absl::StrCat("sampling.prompt=", OfImages() ? std::string(TinyImages()[i].chinese) : absl::StrCat(i)));
    }
    if (HasBuckets()) overrides.push_back("sampling.prompt=2 6x8");
    return overrides;
  };
  const TrainConfig plain = Trained("unsampled", {});
  const TrainConfig sampled = Trained("sampled", with({"sharding.zero_stage=0", "memory.recomputation=NONE"}));
  EXPECT_EQ(MetricLines(sampled), MetricLines(plain));
  EXPECT_EQ(StatesOf(sampled), StatesOf(plain));
  EXPECT_FALSE(std::filesystem::exists(plain.output().directory() + "/samples"));
  const auto first = SamplesOf(sampled, 2), last = SamplesOf(sampled, 6);
  EXPECT_EQ(first.size(), OfImages() ? 5u : HasBuckets() ? 2u : 1u);
  EXPECT_NE(first, last);

  // A run that ends at a sampling step and goes on in little memory, past the samples that a killed run left at a later
  // step.
  Trained("sampled_again", with({"steps=4", "checkpoint.every_steps=4"}));
  std::filesystem::create_directories(SamplesFolder(Config("sampled_again").output().directory(), 99));
  const TrainConfig again = Trained("sampled_again", with({Budget(0.6)}), /*resume=*/true);
  EXPECT_EQ(StatesOf(again), StatesOf(plain));
  for (const int64_t step : {2, 4, 6}) EXPECT_EQ(SamplesOf(again, step), SamplesOf(sampled, step)) << step;
  EXPECT_FALSE(std::filesystem::exists(SamplesFolder(again.output().directory(), 99)));
}

// Other tests cover what the objectives compute. Here: they enter the run's loss, with the same value in any world.
TEST_P(DitParity, ObjectivesReachTheLossInEveryWorld) {
  if (OfImages() && std::get<0>(GetParam()).objective.empty()) GTEST_SKIP() << "of flows there is neither";
  const std::string family = OfImages() ? "model.dit." : "model.hunyuan_dit.";
  const auto first_loss = [&](const char* run, const std::vector<std::string>& changes, int world_size) {
    std::vector<std::string> overrides = {"steps=1", "optimizer.schedule.warmup_steps=0", "evaluation.every_steps=0"};
    for (const std::string& change : changes) overrides.push_back(family + change);
    return Losses(Trained(absl::StrCat(run, world_size), overrides, /*resume=*/false, world_size))[0];
  };
  const double with = first_loss("objective", {}, 2);
  // The loss is the sum of its two parts.
  const auto number = [&](int world_size, const std::string& name) {
    const std::string line =
        Slurp(Config(absl::StrCat("objective", world_size)).output().directory() + "/metrics.jsonl");
    const size_t at = line.find("\"" + name + "\": ");
    EXPECT_NE(at, std::string::npos) << name << " in " << line;
    return at == std::string::npos ? 0 : std::stod(line.substr(at + name.size() + 4));
  };
  EXPECT_GT(number(2, "loss_bound"), 0);
  EXPECT_NEAR(number(2, "loss_mse") + number(2, "loss_bound"), with, 1e-12 * with);
  EXPECT_GT(std::abs(first_loss("plain", {"noise_offset=0"}, 2) - with), 1e-4 * with);
  EXPECT_GT(std::abs(first_loss("of_mean", {"variance_weight=0"}, 2) - with), 1e-4 * with);
  // Every image has its own noise and time, so only the order of sums differs.
  for (const int world_size : {1, 3}) {
    EXPECT_NEAR(first_loss("objective", {}, world_size), with, 1e-6 * with);
    EXPECT_NEAR(number(world_size, "loss_mse"), number(2, "loss_mse"), 1e-6 * with);
  }
}

INSTANTIATE_TEST_SUITE_P(Types, DitParity,
                         testing::Combine(testing::ValuesIn(Families()),
                                          testing::ValuesIn(FewerIfSanitized<const char*>(1, {"BF16", "FP32"}))),
                         [](const auto& test) {
                           return absl::StrCat(std::get<0>(test.param).name, std::get<1>(test.param));
                         });

}  // namespace
}  // namespace angel_ptm
