// An AutoencoderKL in a diffusers directory: its latents and images match diffusers', what does not fit is named, and
// files of latents have what the options ask for.
#include "angel_ptm/train/tasks/encode_images.h"

#include <gmock/gmock.h>

#include <algorithm>
#include <cmath>
#include <filesystem>
#include <functional>
#include <string_view>

#include "absl/strings/match.h"
#include "absl/strings/str_cat.h"
#include "absl/strings/str_replace.h"
#include "angel_ptm/base/file.h"
#include "angel_ptm/checkpoint/safetensors.h"
#include "angel_ptm/data/images/codecs.h"
#include "angel_ptm/exec/backend_facts.h"
#include "angel_ptm/plan/planner.h"
#include "angel_ptm/train/diffusion/noise.h"
#include "angel_ptm/train/tasks/autoencoder.h"
#include "kernels/cpu/cpu_isa.h"
#include "tests/support/kernel_testing.h"
#include "tests/support/or_die.h"
#include "tests/support/temporary_folder.h"
#include "tests/support/tiny_images.h"

namespace angel_ptm {
namespace {

using ::testing::HasSubstr;

constexpr int32_t kHeight = 6, kWidth = 10;
constexpr double kScale = 0.13025;

std::string Golden(const char* name = "") { return absl::StrCat(TESTDATA, "/autoencoder_kl/", name); }

std::vector<float> Floats(const std::string& path, const std::string& tensor) {
  const SafetensorsReader file = OrDie(SafetensorsReader::Open(path));
  std::vector<float> values(static_cast<size_t>(file.Find(tensor)->shape.elements()));
  OrDie(file.Read(*file.Find(tensor), 0, std::as_writable_bytes(std::span(values))));
  return values;
}
std::vector<float> Expected(const char* tensor) { return Floats(Golden("expected.safetensors"), tensor); }

double Error(std::span<const float> got, std::span<const float> want) {
  EXPECT_EQ(got.size(), want.size());
  return ScaledError(got.data(), want.data(), static_cast<int64_t>(want.size()));
}

// The image that diffusers encoded; with `added`, one of another colour.
Image GoldenImage(uint8_t added = 0) {
  Image image = MakeImage(kWidth, kHeight, 3);
  const std::vector<float> levels = Expected("levels");
  for (size_t i = 0; i < levels.size(); ++i)
    image.pixels[i] = static_cast<uint8_t>(static_cast<int>(levels[i]) + added);
  return image;
}

TEST(AutoencoderKlTest, HasTheNumbersOfDiffusers) {
  const AutoencoderKlDirectory directory = OrDie(OpenAutoencoderKl(Golden()));
  EXPECT_EQ(directory.scaling.scaling_factor, kScale);
  for (const int threads : {1, 2}) {
    const InferenceOptions options{.threads = threads};
    const auto encoder = OrDie(ImageEncoder::Create(directory, kHeight, kWidth, options));
    const Posterior posterior = OrDie(encoder->Encode(GoldenImage().pixels));
    EXPECT_LT(Error(posterior.mean, Expected("mean")), 1e-5);
    EXPECT_LT(Error(posterior.std, Expected("std")), 1e-5);
    const auto decoder = OrDie(LatentDecoder::Create(directory, kHeight / 2, kWidth / 2, options));
    EXPECT_LT(Error(OrDie(decoder->Decode(Expected("latents"))), Expected("decoded")), 1e-5);
  }
}

// Copies the golden directory with its config.json changed.
std::string Changed(const TemporaryFolder& folder, const std::string& from, const std::string& to) {
  std::filesystem::copy(Golden(), folder / "model");
  const std::string text = OrDie(ReadFile(Golden("config.json")));
  EXPECT_THAT(text, HasSubstr(from));
  OrDie(WriteFile(folder / "model/config.json", absl::StrReplaceAll(text, {{from, to}})));
  return folder / "model";
}
std::string ErrorOf(const std::string& from, const std::string& to) {
  const TemporaryFolder folder;
  return std::string(OpenAutoencoderKl(Changed(folder, from, to)).status().message());
}

TEST(AutoencoderKlTest, AnotherArchitectureIsNamed) {
  EXPECT_THAT(ErrorOf("\"AutoencoderKL\"", "\"AutoencoderTiny\""),
              HasSubstr("_class_name: the configuration is of another model, wanted \"AutoencoderKL\", got "
                        "\"AutoencoderTiny\""));
  EXPECT_THAT(ErrorOf("\"shift_factor\": null", "\"shift_factor\": \"some\""),
              HasSubstr("shift_factor: the configuration is of another model, wanted a number, got \"some\""));
  EXPECT_THAT(ErrorOf("\"latents_mean\": null", "\"latents_mean\": [0, 0]"),
              HasSubstr("latents_std: the configuration is of another model, wanted a list of numbers, got null"));
  EXPECT_THAT(ErrorOf("\"latents_mean\": null", "\"latents_mean\": [0]"),
              HasSubstr("latents_mean: the configuration is of another model, wanted a number for each of the 2 "
                        "latent_channels, got [0]"));
  const std::string both = "\"latents_mean\": null,\n  \"latents_std\": null";
  EXPECT_THAT(ErrorOf(both, "\"latents_mean\": [0, 0], \"latents_std\": [1, 0]"),
              HasSubstr("latents_std: the configuration is of another model, wanted a positive number for each"));
  EXPECT_THAT(
      ErrorOf("\"shift_factor\": null", "\"shift_factor\": 1, \"latents_mean\": [0, 0], \"latents_std\": [1, 1]"),
      HasSubstr("shift_factor: the configuration is of another model, wanted null or 0 beside latents_mean"));
  EXPECT_THAT(ErrorOf("\"use_quant_conv\": true", "\"use_quant_conv\": 1"), HasSubstr("wanted true or false, got 1"));
  EXPECT_THAT(ErrorOf("\"use_quant_conv\": true", "\"use_quant_conv\": false"),
              HasSubstr("has a tensor quant_conv.bias that the model has not"));
  EXPECT_THAT(ErrorOf("\"norm_num_groups\": 2", "\"norm_num_groups\": 3"),
              HasSubstr("block_out_channels: the configuration is of another model, wanted 1 to 8 multiples of "
                        "norm_num_groups = 3"));
  EXPECT_THAT(ErrorOf("\"layers_per_block\": 1", "\"layers_per_block\": 2"), HasSubstr("resnets.1"));
  EXPECT_THAT(ErrorOf("\"latent_channels\": 2", "\"latent_channels\": 4"), HasSubstr("encoder.conv_out.weight"));
}

// Writes the golden weights with 1 x 1 identity products in place of quant_conv and post_quant_conv, or without the
// two.
void WriteWeights(const std::string& path, bool with_products) {
  const SafetensorsReader file = OrDie(SafetensorsReader::Open(Golden("diffusion_pytorch_model.safetensors")));
  std::vector<SafetensorsTensor> tensors;
  for (const SafetensorsTensor& tensor : file.tensors()) {
    if (with_products || !absl::StrContains(tensor.name, "quant_conv")) tensors.push_back(tensor);
  }
  OrDie(WriteSafetensors(path, tensors, {}, [&](SafetensorsWriter& writer) -> absl::Status {
    for (const SafetensorsTensor& tensor : tensors) {
      std::vector<float> values(static_cast<size_t>(tensor.shape.elements()));
      RETURN_IF_ERROR(file.Read(tensor, 0, std::as_writable_bytes(std::span(values))));
      if (absl::StrContains(tensor.name, "quant_conv")) {
        const int64_t columns = tensor.shape.rank() > 1 ? tensor.shape[1] : 0;
        std::ranges::fill(values, 0.0f);
        for (int64_t i = 0; i < columns; ++i) values[static_cast<size_t>(i * columns + i)] = 1;
      }
      RETURN_IF_ERROR(writer.Append(std::as_bytes(std::span(values))));
    }
    return absl::OkStatus();
  }));
}

// Autoencoders after Stable Diffusion 2 do not have them.
TEST(AutoencoderKlTest, ProductsOfMomentsAndLatentsMayBeMissing) {
  std::vector<std::vector<float>> numbers;
  for (const bool with_products : {true, false}) {
    const TemporaryFolder folder;
    const std::string model =
        Changed(folder, "quant_conv\": true", absl::StrCat("quant_conv\": ", with_products ? "true" : "false"));
    WriteWeights(model + "/diffusion_pytorch_model.safetensors", with_products);
    const AutoencoderKlDirectory directory = OrDie(OpenAutoencoderKl(model));
    const auto encoder = OrDie(ImageEncoder::Create(directory, kHeight, kWidth, {}));
    const auto decoder = OrDie(LatentDecoder::Create(directory, kHeight / 2, kWidth / 2, {}));
    numbers.push_back(OrDie(encoder->Encode(GoldenImage().pixels)).mean);
    const std::span<const float> decoded = OrDie(decoder->Decode(Expected("latents")));
    numbers.back().insert(numbers.back().end(), decoded.begin(), decoded.end());
  }
  EXPECT_LT(Error(numbers[1], numbers[0]), 1e-6);
}

// Expects that a model's latents decode to the golden image and that encoding gives them. `scaled` maps a value that
// the encoder gives, and its channel, to the model's latent.
void ExpectLatents(const AutoencoderKlDirectory& directory, const std::function<double(double, size_t)>& scaled) {
  const auto all = [&](std::vector<float> values, double factor) {
    const size_t pixels = values.size() / 2;
    for (size_t i = 0; i < values.size(); ++i) values[i] = static_cast<float>(scaled(values[i] / factor, i / pixels));
    return values;
  };
  const auto decoder = OrDie(LatentDecoder::Create(directory, kHeight / 2, kWidth / 2, {}));
  EXPECT_LT(Error(OrDie(decoder->Decode(all(Expected("latents"), kScale))), Expected("decoded")), 1e-5);
  if (!HasImageLibraries()) return;
  const TemporaryFolder folder;
  OrDie(MakeDirectories(folder / "images"));
  OrDie(WritePng(folder / "images/a.png", GoldenImage()));
  const std::string output = folder / "latents.safetensors";
  OrDie(EncodeImages(directory, {.images = folder / "images"}, output).status());
  EXPECT_LT(Error(Floats(output, "latents"), all(Expected("mean"), 1)), 1e-5);
}

TEST(AutoencoderKlTest, LatentsMayBeShifted) {
  const TemporaryFolder folder;
  const std::string model = Changed(folder, "\"shift_factor\": null", "\"shift_factor\": 0.5");
  ExpectLatents(OrDie(OpenAutoencoderKl(model)), [](double latent, size_t) { return (latent - 0.5) * kScale; });
}

TEST(AutoencoderKlTest, LatentsMayBeScaledByChannel) {
  const TemporaryFolder folder;
  const std::string model = Changed(folder, "\"latents_mean\": null,\n  \"latents_std\": null",
                                    "\"latents_mean\": [0.5, -0.25], \"latents_std\": [2, 0.125]");
  ExpectLatents(OrDie(OpenAutoencoderKl(model)), [](double latent, size_t channel) {
    return channel == 0 ? (latent - 0.5) * kScale / 2 : (latent + 0.25) * kScale / 0.125;
  });
}

class EncodeImagesTest : public ::testing::Test {
 protected:
  void SetUp() override {
    if (!HasImageLibraries()) GTEST_SKIP() << "no image libraries";
    OrDie(MakeDirectories(folder_ / "images"));
    Write("b.png", GoldenImage());
    Write("a.png", GoldenImage(1));
    OrDie(WriteFile(folder_ / "images/notes.txt", "not an image"));
  }
  void Write(const char* name, const Image& image) { OrDie(WritePng(absl::StrCat(folder_ / "images/", name), image)); }
  absl::StatusOr<EncodedImages> Encode(EncodeImagesOptions options = {}) {
    if (options.images.empty()) options.images = folder_ / "images";
    return EncodeImages(directory_, options, Output());
  }
  std::string Output() const { return folder_ / "latents.safetensors"; }
  // The latent of b.png, the second image.
  std::vector<float> Latent() const {
    const std::vector<float> all = Floats(Output(), "latents");
    return {all.begin() + static_cast<int64_t>(all.size() / 2), all.end()};
  }
  std::string Error(const EncodeImagesOptions& options = {}) { return std::string(Encode(options).status().message()); }

  const TemporaryFolder folder_;
  const AutoencoderKlDirectory directory_ = OrDie(OpenAutoencoderKl(Golden()));
};

TEST_F(EncodeImagesTest, LatentsAreScaledMeansInTheOrderOfNames) {
  EXPECT_EQ(OrDie(Encode()).count, 2);
  std::vector<float> want = Expected("mean");
  for (float& value : want) value *= static_cast<float>(kScale);
  EXPECT_LT(angel_ptm::ScaledError(Latent().data(), want.data(), static_cast<int64_t>(want.size())), 1e-5);
  const std::vector<float> sizes = Floats(Output(), "sizes");
  EXPECT_THAT(sizes, testing::ElementsAre(6, 10, 6, 10, 0, 0, 6, 10, 6, 10, 0, 0));
}

TEST_F(EncodeImagesTest, TellsHowFarItIs) {
  std::vector<std::string> told;
  const auto progress = [&](std::string_view what, int64_t done, int64_t all) {
    told.push_back(absl::StrCat(std::string(what), " ", done, " of ", all));
  };
  OrDie(Encode({.conditions = folder_ / "images", .progress = progress}));
  EXPECT_THAT(
      told, testing::ElementsAre("images 0 of 4", "images 1 of 4", "images 2 of 4", "images 3 of 4", "images 4 of 4"));
}

TEST_F(EncodeImagesTest, SamplesAreDrawnBySeedAndNumber) {
  OrDie(Encode({.draws = true, .seed = 5}));
  const std::vector<float> drawn = Latent();
  std::vector<float> noise(drawn.size()), want = Expected("mean");
  const std::vector<float> std = Expected("std");
  FillNormal({.seed = 5, .purpose = NoisePurpose::kPosterior, .sample = 1}, noise);
  for (size_t i = 0; i < want.size(); ++i) want[i] = (want[i] + std[i] * noise[i]) * static_cast<float>(kScale);
  EXPECT_LT(angel_ptm::ScaledError(drawn.data(), want.data(), static_cast<int64_t>(want.size())), 1e-5);
  OrDie(Encode({.draws = true, .seed = 6}));
  EXPECT_NE(Latent(), drawn);
}

TEST_F(EncodeImagesTest, ACacheGivesTheSameLatents) {
  const EncodeImagesOptions options{.cache = folder_ / "cache", .draws = true};
  EXPECT_EQ(OrDie(Encode(options)).from_cache, 0);
  const std::vector<float> first = Floats(Output(), "latents");
  Write("c.png", GoldenImage(2));
  EXPECT_EQ(OrDie(Encode(options)).from_cache, 2);
  std::vector<float> again = Floats(Output(), "latents");
  again.resize(first.size());
  EXPECT_EQ(again, first);
  const std::vector<std::string> entries = OrDie(ListDirectory(folder_ / "cache"));
  ASSERT_EQ(entries.size(), 3u);
  for (const std::string& entry : entries) {
    OrDie(RemoveFile(absl::StrCat(folder_ / "cache/", entry)));
    std::filesystem::copy(Output(), absl::StrCat(folder_ / "cache/", entry));
  }
  EXPECT_THAT(Error(options), HasSubstr("is no entry of a cache of posteriors: wanted mean F32 [2, 3, 5]"));
}

// Another instruction level or number of threads gives other last bits, so cached latents are not shared with it.
TEST_F(EncodeImagesTest, ACacheIsOfOneArithmetic) {
  EncodeImagesOptions options{.cache = folder_ / "cache"};
  EXPECT_EQ(OrDie(Encode(options)).from_cache, 0);
  options.inference.threads = 2;
  EXPECT_EQ(OrDie(Encode(options)).from_cache, 0);
  EXPECT_EQ(OrDie(Encode(options)).from_cache, 2);
  const KernelTable* const portable = &CpuIsas().front().kernels();
  if (portable == &CpuKernels()) GTEST_SKIP() << "this machine runs one level";
  options.inference.kernels_for = [&](DType) { return portable; };
  EXPECT_EQ(OrDie(Encode(options)).from_cache, 0);
}

TEST_F(EncodeImagesTest, WhatDoesNotFitIsNamedAndNothingIsWritten) {
  Write("c.png", MakeImage(kWidth, kHeight, 1));
  EXPECT_THAT(Error(), HasSubstr("c.png: wanted RGB, 3 channels, got 1"));
  Write("c.png", MakeImage(kWidth + 2, kHeight, 3));
  EXPECT_THAT(Error(), HasSubstr("c.png: wanted 10 x 6 like "));
  EXPECT_FALSE(OrDie(PathExists(Output())) || OrDie(PathExists(Output() + ".tmp")));
  Write("a.png", MakeImage(kWidth, kHeight + 1, 3));
  EXPECT_THAT(Error(), HasSubstr("wanted sides that are multiples of 2, got 10 x 7"));
  EXPECT_THAT(Error({.images = Golden()}),
              HasSubstr("has neither a prepared image data set nor any PNG or JPEG files"));
  EXPECT_THAT(Error({.images = PrepareTinyImages(folder_ / "grey")}), HasSubstr("train.images: wanted RGB"));
}

TEST_F(EncodeImagesTest, ConditionsAreEncodedLikeTheImages) {
  OrDie(Encode());
  const std::vector<float> latents = Floats(Output(), "latents");
  OrDie(MakeDirectories(folder_ / "conditions"));
  OrDie(WritePng(folder_ / "conditions/1.png", GoldenImage()));
  EXPECT_THAT(Error({.conditions = folder_ / "conditions"}),
              HasSubstr("images, 2 images of 10 x 6, got 1 images of 10 x 6"));
  OrDie(WritePng(folder_ / "conditions/2.png", GoldenImage(1)));
  OrDie(Encode({.conditions = folder_ / "conditions"}));
  EXPECT_EQ(Floats(Output(), "latents"), latents);
  // The conditions are those of images a and b in the opposite order.
  std::vector<float> condition = Floats(Output(), "condition");
  std::ranges::rotate(condition, condition.begin() + static_cast<int64_t>(condition.size() / 2));
  EXPECT_EQ(condition, latents);
}

TEST_F(EncodeImagesTest, LatentsOfAFileAreDecoded) {
  const std::vector<float> latent = Expected("latents");
  const auto write = [&](int64_t channels) {
    OrDie(RemoveFile(Output()));
    SafetensorsWriter writer =
        OrDie(SafetensorsWriter::Create(Output(),
                                        {{.name = "latents", .shape = {1, channels, kHeight / channels, kWidth / 2}},
                                         {.name = "samples", .dtype = DType::kInt32, .shape = {1}}},
                                        {}));
    const std::vector<int32_t> samples = {7};
    OrDie(writer.Append(std::as_bytes(std::span(latent))));
    OrDie(writer.Append(std::as_bytes(std::span(samples))));
    OrDie(writer.Finish());
    return DecodeLatentFile(Output(), directory_, {});
  };
  const std::vector<GeneratedImage> images = OrDie(write(2));
  ASSERT_EQ(images.size(), 1u);
  EXPECT_EQ(images[0].prompt, "sample 7");
  EXPECT_EQ(images[0].image.pixels, PlanesToImage(Expected("decoded"), 3, kHeight, kWidth).pixels);
  EXPECT_THAT(std::string(write(1).status().message()), HasSubstr("wanted latents F32 [N, 2, height, width] for "));
}

// Decoding an image of 1024 x 1024 with Stable Diffusion's decoder takes what the widest block needs.
TEST(AutoencoderKlPlanTest, ALargeImageIsDecodedInThreeGigabytes) {
  const Graph graph = BuildAutoencoderKlDecoder(
      {.block_out_channels = {128, 256, 512, 512}, .layers_per_block = 2, .norm_num_groups = 32}, 128, 128);
  const BackendFacts facts = OrDie(FactsOf(graph, CpuKernels(), {.threads = 2}, 1));
  const Plan plan = OrDie(MakePlan(graph, facts, {}));
  EXPECT_LT(plan.arena_bytes[static_cast<int>(TierKind::kDevice)], int64_t{3} << 30);
}

}  // namespace
}  // namespace angel_ptm
