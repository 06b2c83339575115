// model.dit on latents of a prepared set's images: which files are refused, and that latents replace pixels in
// training, evaluation and sampling.
#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <cmath>
#include <functional>
#include <span>
#include <string>
#include <vector>

#include "absl/strings/str_cat.h"
#include "angel_ptm/base/checksum.h"
#include "angel_ptm/checkpoint/checkpoint.h"
#include "angel_ptm/checkpoint/safetensors.h"
#include "angel_ptm/config/load.h"
#include "angel_ptm/data/images/image_dataset.h"
#include "angel_ptm/train/sample.h"
#include "angel_ptm/train/tasks/generate_images.h"
#include "angel_ptm/train/tasks/latent_tensors.h"
#include "angel_ptm/train/train_state.h"
#include "tests/laws/trainer_run.h"
#include "tests/support/or_die.h"
#include "tests/support/temporary_folder.h"
#include "tests/support/tiny_images.h"

namespace angel_ptm {
namespace {

using ::testing::HasSubstr;

constexpr int64_t kLatentSide = 8, kLatentPixels = kLatentSide * kLatentSide;

constexpr const char* kModelOfImages = R"(
model {
  dit {
    channels: 1
    height: 8
    patch_size: 4
    hidden_size: 32
    num_hidden_layers: 1
    num_attention_heads: 2
    class_count: 6
  }
}
optimizer {
  adamw { learning_rate: 3e-3 }
  schedule { kind: CONSTANT warmup_steps: 2 }
}
batch { global_batch_sequences: 4 micro_batch_sequences: 2 }
steps: 12
evaluation { every_steps: 4 sequences: 4 }
sampling { every_steps: 12 guidance: 2 prompt: "top" }
numerics { threads_per_rank: 1 }
output { report_every_steps: 0 }
)";

class ImageLatentsTest : public testing::Test {
 protected:
  void SetUp() override {
    images_ = PrepareTinyImages(folder_.path());
    dataset_ = OrDie(OpenImageDataset(images_));
    Write("train", *dataset_.train);
    Write("validation", *dataset_.validation);
  }

  std::string PathOf(const std::string& split) const {
    return absl::StrCat(images_, "/", split, "-latents.safetensors");
  }
  // Writes the images' planes times `factor` as their latents.
  void Write(const std::string& split, const ImageFile& images, float factor = 1, bool bf16 = false,
             const SafetensorsMetadata& metadata = {}) {
    const DType dtype = bf16 ? DType::kBFloat16 : DType::kFloat32;
    const std::vector<SafetensorsTensor> tensors = {{"latents", dtype, {images.count(), 1, kLatentSide, kLatentSide}}};
    OrDie(WriteSafetensors(PathOf(split), tensors, metadata, [&](SafetensorsWriter& writer) -> absl::Status {
      std::vector<float> planes(kLatentPixels);
      for (int64_t image = 0; image < images.count(); ++image) {
        RETURN_IF_ERROR(images.ReadPlanes(image, {.height = kLatentSide, .width = kLatentSide}, planes));
        for (float& value : planes) value *= factor;
        std::vector<BFloat16> narrow;
        for (const float value : planes) narrow.push_back(ToBFloat16(value));
        RETURN_IF_ERROR(writer.Append(bf16 ? std::as_bytes(std::span(narrow)) : std::as_bytes(std::span(planes))));
      }
      return absl::OkStatus();
    }));
  }
  std::string ErrorOf(const Shape& sample, const ImageFile& images) const {
    return std::string(ImageLatents::Open(PathOf("train"), sample, images).status().message());
  }
  TrainConfig Config(const std::string& run, const std::vector<std::string>& overrides = {}) const {
    std::vector<std::string> all = {absl::StrCat("data.directory=", images_),
                                    absl::StrCat("output.directory=", folder_.path(), "/", run)};
    all.insert(all.end(), overrides.begin(), overrides.end());
    return OrDie(ParseTrainConfig(kModelOfImages, "image_latents_test.cc", all));
  }
  static std::string ErrorOfRun(const TrainConfig& config, bool resume = false) {
    return std::string(RunTrainer({.configs = {config}, .resume = resume}).status().message());
  }

  const TemporaryFolder folder_;
  std::string images_;
  ImageDataset dataset_;
};

TEST_F(ImageLatentsTest, FilesThatDoNotFitAreRefused) {
  const Shape sample = {1, kLatentSide, kLatentSide};
  EXPECT_EQ(ErrorOf(sample, *dataset_.train), "");
  EXPECT_THAT(ErrorOf({4, kLatentSide, kLatentSide}, *dataset_.train),
              HasSubstr("tensor latents: wanted F32 or BF16 [6, 4, 8, 8] for model.dit, got F32 [6, 1, 8, 8]"));
  EXPECT_THAT(ErrorOf(sample, *dataset_.validation), HasSubstr("wanted a latent for each of the 4 images of "));
  Write("train", *dataset_.train, 8);
  EXPECT_THAT(ErrorOf(sample, *dataset_.train),
              HasSubstr("tensor latents is not scaled: wanted a root mean square of"));
  const std::string checksum = ChecksumText(dataset_.train->header_xxh64());
  Write("train", *dataset_.train, 1, false, {{"images_xxh64", checksum}});
  EXPECT_EQ(ErrorOf(sample, *dataset_.train), "");
  Write("train", *dataset_.train, 1, false, {{"images_xxh64", "0123456789abcdef"}});
  EXPECT_THAT(ErrorOf(sample, *dataset_.train), HasSubstr("has latents of other images than "));
}

TEST_F(ImageLatentsTest, RowsAreReadAsFloats) {
  Write("train", *dataset_.train, 1, /*bf16=*/true);
  const auto latents = OrDie(ImageLatents::Open(PathOf("train"), {1, kLatentSide, kLatentSide}, *dataset_.train));
  std::vector<float> wanted(kLatentPixels), got(kLatentPixels);
  std::vector<BFloat16> scratch(kLatentPixels);
  OrDie(dataset_.train->ReadPlanes(4, {.height = kLatentSide, .width = kLatentSide}, wanted));
  OrDie(latents->Read(4, got, scratch));
  for (int64_t i = 0; i < kLatentPixels; ++i) EXPECT_EQ(got[i], ToFloat(ToBFloat16(wanted[i]))) << i;
}

// If the latents are the images' planes, training losses, held-out losses and samples have the bits of a run on the
// images.
TEST_F(ImageLatentsTest, StandForThePixels) {
  const TrainConfig pixels = Config("pixels"), latents = Config("latents", {"model.dit.latents=true"});
  ASSERT_EQ(ErrorOfRun(pixels), "");
  ASSERT_EQ(ErrorOfRun(latents), "");
  ASSERT_EQ(MetricLines(pixels).size(), 12u);
  EXPECT_EQ(MetricLines(latents), MetricLines(pixels));
  // They are read, not the pixels: others give another curve, and so do others that are held out.
  const TrainConfig unlike = Config("unlike", {"model.dit.latents=true", "sampling.every_steps=0"});
  Write("train", *dataset_.train, -1);
  ASSERT_EQ(ErrorOfRun(unlike), "");
  EXPECT_NE(MetricLines(unlike)[0], MetricLines(pixels)[0]);
  Write("train", *dataset_.train);
  Write("validation", *dataset_.validation, -1);
  const TrainConfig held_out = Config("held_out", {"model.dit.latents=true", "sampling.every_steps=0"});
  ASSERT_EQ(ErrorOfRun(held_out), "");
  EXPECT_EQ(MetricLines(held_out)[0], MetricLines(pixels)[0]);
  EXPECT_NE(MetricLines(held_out)[3], MetricLines(pixels)[3]);

  const std::string sampled = absl::StrCat(SamplesFolder(folder_.path() + "/latents", 12), "/latents.safetensors");
  const SafetensorsReader file = OrDie(SafetensorsReader::Open(sampled));
  EXPECT_EQ(file.Find("latents")->shape, (Shape{1, 1, kLatentSide, kLatentSide}));
  EXPECT_EQ(file.metadata().at("step"), "12");

  const auto checkpoint = [](const TrainConfig& config) {
    return OrDie(FindLatestCheckpoint(CheckpointDirectory(config))).path;
  };
  const GenerateImagesOptions options{.prompts = {"left", "top"}, .images_per_prompt = 2, .steps = 4, .guidance = 2};
  const std::vector<GeneratedImage> images = OrDie(GenerateImages(checkpoint(pixels), options));
  const std::string output = folder_.path() + "/made.safetensors";
  EXPECT_EQ(OrDie(GenerateDitLatents(checkpoint(latents), options, output)), 4);
  const SafetensorsReader made = OrDie(SafetensorsReader::Open(output));
  std::vector<float> planes(4 * kLatentPixels);
  OrDie(made.Read(*made.Find("latents"), 0, std::as_writable_bytes(std::span(planes))));
  std::vector<int32_t> prompts(4);
  OrDie(made.Read(*made.Find("samples"), 0, std::as_writable_bytes(std::span(prompts))));
  EXPECT_EQ(prompts, (std::vector<int32_t>{0, 0, 1, 1}));
  for (size_t i = 0; i < images.size(); ++i) {
    const Image image =
        PlanesToImage(std::span(planes).subspan(i * kLatentPixels, kLatentPixels), 1, kLatentSide, kLatentSide);
    EXPECT_EQ(image.pixels, images[i].image.pixels) << i;
  }
}

TEST_F(ImageLatentsTest, OtherLatentsAreOtherSamples) {
  const TrainConfig config = Config("run", {"model.dit.latents=true", "sampling.every_steps=0"});
  ASSERT_EQ(ErrorOfRun(config), "");
  TrainConfig more = config;
  more.set_steps(14);
  EXPECT_EQ(ErrorOfRun(more, /*resume=*/true), "");
  Write("train", *dataset_.train, -1);
  more.set_steps(16);
  EXPECT_THAT(ErrorOfRun(more, /*resume=*/true), HasSubstr("latents "));
  more.mutable_model()->mutable_dit()->set_latents(false);
  EXPECT_THAT(ErrorOfRun(more, /*resume=*/true), HasSubstr("model.dit.latents"));
}

TEST_F(ImageLatentsTest, WhatIsMissingIsNamed) {
  EXPECT_THAT(ErrorOfRun(Config("flipped", {"model.dit.latents=true", "model.dit.flip_probability=0.5"})),
              HasSubstr("a mirrored latent is not that of a mirrored image, wanted 0 with latents, got 0.5"));
  OrDie(RemoveFile(PathOf("validation")));
  EXPECT_THAT(ErrorOfRun(Config("missing", {"model.dit.latents=true"})),
              HasSubstr("validation-latents.safetensors, wanted what angel-ptm encode --images "));
}

}  // namespace
}  // namespace angel_ptm
