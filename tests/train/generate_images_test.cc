// Diffusion from end to end: a model trained on a few images draws the requested one, in both languages.
#include "angel_ptm/train/tasks/generate_images.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <algorithm>
#include <cmath>
#include <cstdlib>
#include <numeric>
#include <span>
#include <string>
#include <string_view>
#include <vector>

#include "absl/strings/str_cat.h"
#include "angel_ptm/checkpoint/checkpoint.h"
#include "angel_ptm/config/load.h"
#include "angel_ptm/data/images/codecs.h"
#include "angel_ptm/train/sample.h"
#include "angel_ptm/train/task.h"
#include "angel_ptm/train/tasks/generate_latents.h"
#include "angel_ptm/train/tasks/hunyuan_dit.h"
#include "angel_ptm/train/train_state.h"
#include "tests/laws/diffusion_run.h"
#include "tests/laws/trainer_run.h"
#include "tests/support/or_die.h"
#include "tests/support/temporary_folder.h"
#include "tests/support/tiny_images.h"
#include "tests/support/tiny_latents.h"

namespace angel_ptm {
namespace {

using ::testing::HasSubstr;

constexpr const char* kConfig = R"(
model {
  dit {
    channels: 1
    height: 8
    patch_size: 8
    hidden_size: 64
    num_hidden_layers: 2
    num_attention_heads: 2
    text_length: 12
    text_hidden_size: 32
    text_num_hidden_layers: 1
    other_captions: 0
    initializer_range: 0.15
    flow_time_mean: 1
  }
}
optimizer {
  adamw { learning_rate: 3e-3 weight_decay: 0 }
  schedule { kind: CONSTANT warmup_steps: 10 }
  ema_decay: 0.95
}
batch { global_batch_sequences: 12 micro_batch_sequences: 12 }
steps: 500
evaluation { every_steps: 0 }
numerics { threads_per_rank: 1 }
checkpoint { every_steps: 0 }
output { report_every_steps: 0 }
)";

// Trains each model once and keeps its checkpoint; tests ask for a model by the settings in which it differs.
class GenerateImagesTest : public testing::Test {
 protected:
  static void SetUpTestSuite() {
    folder_ = new TemporaryFolder;
    PrepareTinyImages(folder_->path());
  }
  static void TearDownTestSuite() { delete folder_; }

  static std::string Trained(const std::string& name, const std::vector<std::string>& overrides) {
    std::vector<std::string> all = {absl::StrCat("data.directory=", folder_->path(), "/images"),
                                    absl::StrCat("output.directory=", folder_->path(), "/", name)};
    all.insert(all.end(), overrides.begin(), overrides.end());
    const TrainConfig config = OrDie(ParseTrainConfig(kConfig, "generate_images_test.cc", all));
    LatestCheckpoint latest = OrDie(FindLatestCheckpoint(CheckpointDirectory(config)));
    if (latest.path.empty()) {
      OrDie(RunTrainer({.configs = {config}}).status());
      latest = OrDie(FindLatestCheckpoint(CheckpointDirectory(config)));
    }
    return latest.path;
  }

  static TemporaryFolder* folder_;
};
TemporaryFolder* GenerateImagesTest::folder_ = nullptr;

// The index of the nearest of TinyImages(), by squared distance of pixels.
size_t Nearest(const Image& image) {
  size_t best = 0;
  double least = 0;
  for (size_t i = 0; i < TinyImages().size(); ++i) {
    double distance = 0;
    for (size_t p = 0; p < image.pixels.size(); ++p) {
      const double difference = static_cast<double>(image.pixels[p]) - TinyImages()[i].image.pixels[p];
      distance += difference * difference;
    }
    if (i == 0 || distance < least) best = i, least = distance;
  }
  return best;
}

int RightOnes(const std::vector<GeneratedImage>& images, int64_t per_prompt) {
  int right = 0;
  for (size_t i = 0; i < images.size(); ++i) {
    const size_t asked = i / static_cast<size_t>(per_prompt) % TinyImages().size();
    right += Nearest(images[i].image) == asked ? 1 : 0;
  }
  return right;
}

GenerateImagesOptions Options(const std::vector<std::string>& prompts) {
  return {.prompts = prompts, .steps = 12, .guidance = 2, .batch_max = 8};
}

TEST_F(GenerateImagesTest, DrawsWhatItIsAskedForInBothLanguages) {
  const std::string checkpoint = Trained("flow", {});
  std::vector<std::string> prompts;
  for (const TinyImage& image : TinyImages()) prompts.emplace_back(image.name);
  for (const TinyImage& image : TinyImages()) prompts.emplace_back(image.chinese);
  GenerateImagesOptions options = Options(prompts);
  options.images_per_prompt = 2;
  options.inference.weights = "ema";
  std::vector<int64_t> told;
  options.progress = [&](std::string_view what, int64_t done, int64_t all) {
    EXPECT_EQ(what, "steps of 24 samples");
    EXPECT_EQ(all, 3 * 12);  // of batches of 8
    told.push_back(done);
  };
  const std::vector<GeneratedImage> images = OrDie(GenerateImages(checkpoint, options));
  options.progress = nullptr;
  std::vector<int64_t> every(3 * 12 + 1);
  std::iota(every.begin(), every.end(), 0);
  EXPECT_EQ(told, every);
  ASSERT_EQ(images.size(), 24u);
  EXPECT_EQ(images[2].prompt, TinyImages()[1].name);
  EXPECT_GE(RightOnes(images, 2), 22);

  // The same options give the same images whatever the batch size; another seed gives others.
  options.batch_max = 24;
  const std::vector<GeneratedImage> again = OrDie(GenerateImages(checkpoint, options));
  for (size_t i = 0; i < images.size(); ++i) {
    for (size_t p = 0; p < images[i].image.pixels.size(); ++p) {
      ASSERT_NEAR(images[i].image.pixels[p], again[i].image.pixels[p], 1) << i;
    }
  }
  options.prompts = {prompts[0]};
  const auto first = OrDie(GenerateImages(checkpoint, options));
  EXPECT_EQ(OrDie(GenerateImages(checkpoint, options))[0].image.pixels, first[0].image.pixels);
  options.seed = 2;
  EXPECT_NE(OrDie(GenerateImages(checkpoint, options))[0].image.pixels, first[0].image.pixels);
}

// A run notes that captions are cut. The tiny images have captions of up to 16 tokens.
TEST_F(GenerateImagesTest, CaptionsThatAreCutAreSaid) {
  const auto note = [](int64_t text_length) {
    const TrainConfig config = OrDie(ParseTrainConfig(kConfig, "generate_images_test.cc",
                                                      {absl::StrCat("data.directory=", folder_->path(), "/images"),
                                                       absl::StrCat("model.dit.text_length=", text_length)}));
    return OrDie(OpenTask(config))->note();
  };
  EXPECT_EQ(note(16), "");
  EXPECT_THAT(note(15), HasSubstr("has 16 tokens, of which the model reads the first 15 (model.dit.text_length)"));
}

// What a run samples is what generate makes of its last checkpoint with the average of the weights.
TEST_F(GenerateImagesTest, ARunSamplesItsAverage) {
  if (!HasImageLibraries()) GTEST_SKIP() << "a build without image libraries";
  std::vector<std::string> overrides = {"steps=60", "sampling.every_steps=100", "sampling.guidance=2"};
  std::vector<std::string> prompts;
  for (const TinyImage& image : TinyImages()) prompts.emplace_back(image.chinese);
  for (const std::string& prompt : prompts) overrides.push_back("sampling.prompt=" + prompt);
  const std::string checkpoint = Trained("samples", overrides);
  GenerateImagesOptions options = Options(prompts);
  options.steps = 30;
  const auto difference = [&](const char* weights) {
    options.inference.weights = weights;
    const std::vector<GeneratedImage> images = OrDie(GenerateImages(checkpoint, options));
    int most = 0;
    for (size_t i = 0; i < images.size(); ++i) {
      const std::string path = absl::StrCat(SamplesFolder(folder_->path() + "/samples", 60), "/000", i, ".png");
      const Image sample = OrDie(DecodeImage(Slurp(path), path));
      for (size_t p = 0; p < sample.pixels.size(); ++p) {
        most = std::max(most, std::abs(sample.pixels[p] - images[i].image.pixels[p]));
      }
    }
    return most;
  };
  EXPECT_LE(difference("ema"), 1);
  EXPECT_GT(difference("last"), 4);
}

TEST_F(GenerateImagesTest, ClassesAndVelocity) {
  const std::string checkpoint =
      Trained("classes", {"model.dit.text_length=0", "model.dit.class_count=6", "model.dit.prediction=VELOCITY",
                          "model.dit.patch_size=4", "steps=1000"});
  std::vector<std::string> prompts;
  for (size_t i = 0; i < TinyImages().size(); ++i) {
    prompts.push_back(i % 2 == 0 ? std::string(TinyImages()[i].name) : absl::StrCat(i));
  }
  EXPECT_GE(RightOnes(OrDie(GenerateImages(checkpoint, Options(prompts))), 1), 5);
  EXPECT_THAT(GenerateImages(checkpoint, Options({"middle"})).status().message(),
              HasSubstr("--prompt: wanted one of the 6 classes by name or number, got \"middle\""));
}

// Ancestral sampling with a variance that the model has learned.
TEST_F(GenerateImagesTest, AncestralStepsOfALearnedVariance) {
  const std::string checkpoint =
      Trained("variance", {"model.dit.text_length=0", "model.dit.class_count=6", "model.dit.prediction=VELOCITY",
                           "model.dit.patch_size=4", "model.dit.variance_weight=1", "steps=1000"});
  std::vector<std::string> prompts;
  for (const TinyImage& image : TinyImages()) prompts.emplace_back(image.name);
  GenerateImagesOptions options = Options(prompts);
  options.method = SamplingMethod::kDdpm;
  options.steps = 60;
  EXPECT_GE(RightOnes(OrDie(GenerateImages(checkpoint, options)), 1), 5);
}

// An untrained model's output is zero, so the image is the noise, whatever the compute type.
TEST_F(GenerateImagesTest, ComputesInTheTypeOfTheRun) {
  std::vector<std::vector<uint8_t>> pixels;
  for (const char* compute : {"FP32", "BF16"}) {
    const std::string checkpoint =
        Trained(compute, {"steps=1", absl::StrCat("numerics.compute=", compute), "optimizer.schedule.warmup_steps=1",
                          "optimizer.adamw.learning_rate=1e-9"});
    pixels.push_back(OrDie(GenerateImages(checkpoint, Options({"top"})))[0].image.pixels);
  }
  ASSERT_EQ(pixels[0].size(), 64u);
  EXPECT_EQ(pixels[0], pixels[1]);
}

TEST_F(GenerateImagesTest, SaysWhatItCannotDo) {
  const std::string checkpoint = Trained("short", {"steps=1", "optimizer.schedule.warmup_steps=0",
                                                   "model.dit.text_length=2", "model.dit.condition_dropout=0"});
  const auto error = [&](const GenerateImagesOptions& options) {
    return std::string(GenerateImages(checkpoint, options).status().message());
  };
  EXPECT_THAT(error(Options({"a"})), HasSubstr("--guidance: the model was trained with condition_dropout = 0"));
  GenerateImagesOptions options = Options({"a\xff"});
  options.guidance = 1;
  EXPECT_THAT(error(options), HasSubstr("--prompt: wanted UTF-8"));
  options.prompts = {};
  EXPECT_THAT(error(options), HasSubstr("--prompt is missing"));
  options.prompts = {"a"};
  options.steps = 0;
  EXPECT_THAT(error(options), HasSubstr("--steps: wanted 1 to 1000, got 0"));
  options.steps = 1;
  options.negative_prompt = "a fox";
  // The error is not that the guidance is too small, because no guidance would work with this model.
  const std::string in_vain = "the model was trained with condition_dropout = 0, wanted none, got \"a fox\"";
  EXPECT_THAT(error(options), HasSubstr("--negative-prompt: " + in_vain));
  options.guidance = 4;
  EXPECT_THAT(error(options), HasSubstr("--negative-prompt: " + in_vain));
  options.guidance = 1;
  options.negative_prompt.clear();
  options.own_negatives = {"a fox"};
  EXPECT_THAT(error(options), HasSubstr("the \"negative\" of prompt 1: " + in_vain));
  options.own_negatives.clear();
  options.method = SamplingMethod::kDdim;
  options.steps = 1;
  EXPECT_THAT(error(options), HasSubstr("--sampler: the model predicts a flow, wanted euler, got ddim"));
  options.method.reset();

  // A prompt that is too long is cut, and a note says what was dropped.
  options.steps = 1;
  options.prompts = {"pages xyz"};
  char* text = nullptr;
  size_t bytes = 0;
  options.notes = open_memstream(&text, &bytes);
  EXPECT_EQ(OrDie(GenerateImages(checkpoint, options)).size(), 1u);
  std::fclose(options.notes);
  EXPECT_THAT(std::string(text, bytes), HasSubstr("the model reads 2 tokens of a prompt, dropped \""));
  std::free(text);
}

constexpr const char* kLatentTraining = R"(
optimizer {
  adamw { learning_rate: 1e-2 }
  schedule { kind: CONSTANT warmup_steps: 1 }
  ema_decay: 0.5
}
batch { global_batch_sequences: 4 micro_batch_sequences: 4 }
steps: 6
evaluation { every_steps: 0 }
sampling { every_steps: 6 prompt: "3" prompt: "1" guidance: 2 }
numerics { threads_per_rank: 1 }
checkpoint { every_steps: 0 }
output { report_every_steps: 0 }
)";

TrainConfig LatentConfig(const std::vector<std::string>& overrides = {}) {
  return OrDie(ParseTrainConfig(absl::StrCat(kTinyHunyuanDit, kLatentTraining), "generate_images_test.cc", overrides));
}

std::vector<float> LatentsOf(const std::string& path, const Shape& shape) {
  const SafetensorsReader file = OrDie(SafetensorsReader::Open(path));
  const SafetensorsTensor* const latents = file.Find("latents");
  EXPECT_NE(latents, nullptr);
  EXPECT_EQ(latents->shape, shape);
  std::vector<float> values(static_cast<size_t>(shape.elements()));
  OrDie(file.Read(*latents, 0, std::as_writable_bytes(std::span(values))));
  return values;
}

// A model of latents samples with the texts of a file, which need not have latents. The result is that of the run's own
// sampling and follows the options.
TEST(GenerateLatentsTest, SamplesWithTextsOfAFile) {
  const TemporaryFolder folder;
  const TrainConfig config =
      LatentConfig({"data.directory=" + folder.path(), absl::StrCat("output.directory=", folder.path(), "/run")});
  const HunyuanDitShape shape = HunyuanDitShapeFromConfig(config.model());
  OrDie(WriteTinyLatents(folder / "train.safetensors", shape, 5, 1));
  // The same texts (written with the same seed), with the latents under another name.
  OrDie(WriteTinyLatents(folder / "texts.safetensors", shape, 5, 1, 1,
                         [](auto* tensors) { tensors->front().name = "unread"; }));
  OrDie(RunTrainer({.configs = {config}}).status());
  const std::string checkpoint = OrDie(FindLatestCheckpoint(CheckpointDirectory(config))).path;
  const std::string output = folder / "latents.safetensors";
  GenerateImagesOptions options = {.prompts = {"3", "1"}, .guidance = 2};
  options.inference.weights = "ema";
  const auto generated = [&](const std::string& texts) {
    EXPECT_EQ(OrDie(GenerateLatents(checkpoint, texts, options, output)), 2);
    return LatentsOf(output, {2, 2, 8, 8});
  };
  const std::vector<float> of_run =
      LatentsOf(SamplesFolder(config.output().directory(), 6) + "/latents.safetensors", {2, 2, 8, 8});
  const std::vector<float> same = generated("");
  ASSERT_EQ(same.size(), of_run.size());
  for (size_t i = 0; i < same.size(); ++i) EXPECT_NEAR(same[i], of_run[i], 1e-4);
  EXPECT_EQ(generated(folder / "texts.safetensors"), same);
  options.prompts = {"1", "1"};
  EXPECT_NE(generated(""), same);
  // Prompts with own seeds and own negatives: equal seeds give the same noise, and negatives guide away from other
  // texts.
  options.own_seeds = {9, 9};
  const std::vector<float> alike = generated("");
  const size_t half = alike.size() / 2;
  // OpenBLAS's AVX2 products give equal rows different last bits at different positions.
  const auto most_apart = [half](const std::vector<float>& a, size_t at_a, const std::vector<float>& b, size_t at_b) {
    float most = 0;
    for (size_t i = 0; i < half; ++i) most = std::max(most, std::abs(a[at_a + i] - b[at_b + i]));
    return most;
  };
  EXPECT_LT(most_apart(alike, 0, alike, half), 1e-5);
  options.own_negatives = {std::nullopt, "2"};
  const std::vector<float> led = generated("");
  for (size_t i = 0; i < half; ++i) ASSERT_EQ(led[i], alike[i]) << i;
  EXPECT_GT(most_apart(led, half, alike, half), 1e-2);
  options.own_negatives = {std::nullopt, "9"};
  EXPECT_THAT(GenerateLatents(checkpoint, "", options, output).status().message(),
              HasSubstr("the \"negative\" of prompt 2: wanted the number of a sample in "));
  options.own_negatives.clear();
  options.own_seeds.clear();
  options.method = SamplingMethod::kDdpm;
  const std::vector<float> ddpm = generated("");
  EXPECT_EQ(generated(""), ddpm);
  options.prompts = {"5"};
  EXPECT_THAT(GenerateLatents(checkpoint, "", options, output).status().message(),
              HasSubstr("train.safetensors, 0 to 4, got \"5\""));
  options.prompts = {"0"};
  options.method = SamplingMethod::kEuler;
  EXPECT_THAT(GenerateLatents(checkpoint, "", options, output).status().message(),
              HasSubstr("--sampler: the model predicts no flow, wanted ddpm, ddim or dpm-solver, got euler"));
}

// The weights do not fix a size: latents of any size can be generated, each with the texts of that size's training
// samples.
TEST(GenerateLatentsTest, MakesLatentsOfTheSizeThatIsAskedFor) {
  const TemporaryFolder folder;
  const TrainConfig config =
      LatentConfig({"data.directory=" + folder.path(), absl::StrCat("output.directory=", folder.path(), "/run"),
                    "model.hunyuan_dit.bucket=6x10", "sampling.every_steps=0"});
  HunyuanDitShape shape = HunyuanDitShapeFromConfig(config.model());
  OrDie(WriteTinyLatents(folder / "train.safetensors", shape, 5, 1));
  shape.height = 6, shape.width = 10;
  OrDie(WriteTinyLatents(folder / "train-6x10.safetensors", shape, 7, 2));
  OrDie(RunTrainer({.configs = {config}}).status());
  const std::string checkpoint = OrDie(FindLatestCheckpoint(CheckpointDirectory(config))).path;
  const std::string output = folder / "latents.safetensors";
  GenerateImagesOptions options = {.prompts = {"4"}, .guidance = 1};
  const auto generated = [&](std::optional<std::string> size, const std::string& texts, const Shape& expected) {
    options.size = size;
    EXPECT_EQ(OrDie(GenerateLatents(checkpoint, texts, options, output)), 1);
    return LatentsOf(output, expected);
  };
  EXPECT_EQ(generated("8x8", "", {1, 2, 8, 8}), generated(std::nullopt, "", {1, 2, 8, 8}));
  const std::vector<float> bucket = generated("6x10", "", {1, 2, 6, 10});
  EXPECT_EQ(generated("6x10", folder / "train-6x10.safetensors", {1, 2, 6, 10}), bucket);
  EXPECT_NE(generated("6x10", folder / "train.safetensors", {1, 2, 6, 10}), bucket);
  generated("12x4", "", {1, 2, 12, 4});
  for (const char* wrong : {"7x8", "8", "8x8x8", "0x8", "-2x8", ""}) {
    options.size = wrong;
    EXPECT_THAT(GenerateLatents(checkpoint, "", options, output).status().message(),
                HasSubstr(absl::StrCat("--size: wanted HEIGHTxWIDTH in multiples of 2, each at most ", kLatentSideMax,
                                       ", got \"", wrong, "\"")));
  }
}

// Two equal models, one of which has hardly begun to learn its variance. Only DDPM uses it.
TEST(GenerateLatentsTest, OnlyALearnedVarianceIsUsed) {
  const TemporaryFolder folder;
  OrDie(WriteTinyLatents(folder / "train.safetensors", HunyuanDitShapeFromConfig(LatentConfig().model()), 5, 1));
  std::vector<std::vector<float>> solver, ancestral;
  for (const char* weight : {"0", "1e-30"}) {
    const TrainConfig config = LatentConfig(
        {"data.directory=" + folder.path(), absl::StrCat("output.directory=", folder.path(), "/run", weight),
         absl::StrCat("model.hunyuan_dit.variance_weight=", weight), "sampling.every_steps=0"});
    OrDie(RunTrainer({.configs = {config}}).status());
    const std::string checkpoint = OrDie(FindLatestCheckpoint(CheckpointDirectory(config))).path;
    GenerateImagesOptions options = {.prompts = {"3"}, .guidance = 1};
    for (auto* made : {&solver, &ancestral}) {
      if (made == &ancestral) options.method = SamplingMethod::kDdpm;
      EXPECT_EQ(OrDie(GenerateLatents(checkpoint, "", options, folder / "latents.safetensors")), 1);
      made->push_back(LatentsOf(folder / "latents.safetensors", {1, 2, 8, 8}));
    }
  }
  float most = 0;
  for (size_t i = 0; i < solver[0].size(); ++i) {
    EXPECT_NEAR(solver[0][i], solver[1][i], 1e-4);
    most = std::max(most, std::abs(ancestral[0][i] - ancestral[1][i]));
  }
  EXPECT_GT(most, 0.01);
}

}  // namespace
}  // namespace angel_ptm
