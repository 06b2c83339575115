// Latents that were encoded elsewhere: which files are refused, what is read, and in which order.
#include "angel_ptm/train/tasks/latents.h"

#include <gmock/gmock.h>

#include <algorithm>
#include <set>

#include "angel_ptm/base/file.h"
#include "tests/support/temporary_folder.h"
#include "tests/support/tiny_latents.h"

namespace angel_ptm {
namespace {

using ::testing::HasSubstr;

constexpr int64_t kSamples = 7;

HunyuanDitShape LatentShape() {
  return {.channels = 2,
          .height = 4,
          .width = 6,
          .hidden_size = 8,
          .num_attention_heads = 1,
          .clip_hidden_size = 6,
          .clip_length = 3,
          .t5_hidden_size = 16,
          .t5_length = 2,
          .size_and_style = true};
}

std::string ErrorOf(float scale, const std::function<void(std::vector<SafetensorsTensor>*)>& change,
                    const HunyuanDitShape& shape = LatentShape()) {
  const TemporaryFolder dir;
  EXPECT_TRUE(WriteTinyLatents(dir / "train.safetensors", shape, kSamples, 3, scale, change).ok());
  const auto file = LatentFile::Open(dir / "train.safetensors", shape);
  return file.ok() ? "OK" : std::string(file.status().message());
}

TEST(LatentFileTest, WhatDoesNotFitTheModelIsNamed) {
  EXPECT_EQ(ErrorOf(1, nullptr), "OK");
  EXPECT_THAT(ErrorOf(1,
                      [](auto* tensors) {
                        (*tensors)[0].shape = {kSamples, 2, 6, 4};
                      }),
              HasSubstr("tensor latents: wanted F32 or BF16 [7, 2, 4, 6] for model.hunyuan_dit, got F32 [7, 2, 6, 4]"));
  EXPECT_THAT(ErrorOf(1,
                      [](auto* tensors) {
                        (*tensors)[0].shape = {kSamples, 48};
                      }),
              HasSubstr("tensor latents: wanted [N, 2, 4, 6], N at least 1, got [7, 48]"));
  EXPECT_THAT(ErrorOf(1, [](auto* tensors) { (*tensors)[2].dtype = DType::kFloat32; }),
              HasSubstr("tensor clip_mask: wanted I32 [7, 3] for model.hunyuan_dit, got F32 [7, 3]"));
  EXPECT_THAT(ErrorOf(1, [](auto* tensors) { (*tensors)[7].name = "other"; }), HasSubstr("has no tensor empty_t5"));
  EXPECT_THAT(ErrorOf(1, [](auto* tensors) { tensors->pop_back(); }), HasSubstr("has no tensor sizes"));
  EXPECT_THAT(ErrorOf(7.7f, nullptr),
              HasSubstr("tensor latents is not scaled: wanted a root mean square of 0.25 to 4, got 8."));
}

TEST(LatentFileTest, ABranchNeedsConditions) {
  HunyuanDitShape shape = LatentShape();
  shape.control = true;
  EXPECT_EQ(ErrorOf(1, nullptr, shape), "OK");
  EXPECT_THAT(ErrorOf(
                  1, [](auto* tensors) { tensors->pop_back(); }, shape),
              HasSubstr("has no tensor condition, wanted F32 or BF16 [7, 2, 4, 6] for model.hunyuan_dit.control: "));
  EXPECT_THAT(
      ErrorOf(
          1,
          [](auto* tensors) {
            tensors->back().shape = {kSamples, 1, 4, 6};
          },
          shape),
      HasSubstr("tensor condition: wanted F32 or BF16 [7, 2, 4, 6] for model.hunyuan_dit, got F32 [7, 1, 4, 6]"));
}

class LatentsTest : public ::testing::Test {
 protected:
  void SetUp() override {
    ASSERT_TRUE(WriteTinyLatents(dir_ / "train.safetensors", LatentShape(), kSamples, 3).ok());
    auto file = LatentFile::Open(dir_ / "train.safetensors", LatentShape());
    ASSERT_TRUE(file.ok()) << file.status();
    file_ = *std::move(file);
  }
  // A row of a tensor as fp32.
  std::vector<float> RowOfFile(const char* name, int64_t row, int64_t size) const {
    const auto reader = SafetensorsReader::Open(dir_ / "train.safetensors");
    const SafetensorsTensor& tensor = *reader->Find(name);
    std::vector<float> values(static_cast<size_t>(size));
    if (tensor.dtype == DType::kFloat32) {
      EXPECT_TRUE(reader->Read(tensor, row * size * 4, std::as_writable_bytes(std::span(values))).ok());
      return values;
    }
    std::vector<BFloat16> narrow(values.size());
    EXPECT_TRUE(reader->Read(tensor, row * size * 2, std::as_writable_bytes(std::span(narrow))).ok());
    Widen(values, narrow);
    return values;
  }

  TemporaryFolder dir_;
  std::unique_ptr<LatentFile> file_;
};

TEST_F(LatentsTest, EachTextMayBeTheEmptyCaption) {
  HunyuanInputs inputs(LatentShape(), /*batch=*/2, file_->scratch_elements());
  LatentSample row = inputs.Row(1);
  const auto values = [](std::span<float> span) { return std::vector<float>(span.begin(), span.end()); };
  ASSERT_TRUE(file_->Read(4, false, false, row).ok());
  EXPECT_EQ(values(row.latent), RowOfFile("latents", 4, 48));
  EXPECT_EQ(values(row.clip), RowOfFile("clip", 4, 18));
  EXPECT_EQ(values(row.t5), RowOfFile("t5", 4, 32));
  EXPECT_EQ(values(row.sizes), RowOfFile("sizes", 4, 6));
  ASSERT_TRUE(file_->Read(4, true, false, row).ok());
  EXPECT_EQ(values(row.clip), RowOfFile("empty_clip", 0, 18));
  EXPECT_EQ(values(row.t5), RowOfFile("t5", 4, 32));
  ASSERT_TRUE(file_->Read(4, false, true, row).ok());
  EXPECT_EQ(values(row.clip), RowOfFile("clip", 4, 18));
  EXPECT_EQ(values(row.t5), RowOfFile("empty_t5", 0, 32));
}

// Texts without sizes are sampled as whole images.
TEST_F(LatentsTest, TextsNeedNoSizes) {
  const std::string path = dir_ / "texts.safetensors";
  ASSERT_TRUE(WriteTinyLatents(path, LatentShape(), kSamples, 3, 1, [](auto* tensors) { tensors->pop_back(); }).ok());
  EXPECT_THAT(std::string(LatentFile::Open(path, LatentShape()).status().message()), HasSubstr("no tensor sizes"));
  const auto file = LatentFile::OpenTexts(path, LatentShape());
  ASSERT_TRUE(file.ok()) << file.status();
  HunyuanInputs inputs(LatentShape(), /*batch=*/2, (*file)->scratch_elements());
  const LatentSample row = inputs.Row(1);
  ASSERT_TRUE((*file)->Read(4, false, false, row).ok());
  EXPECT_EQ(std::vector<float>(row.sizes.begin(), row.sizes.end()), std::vector<float>({32, 48, 32, 48, 0, 0}));
}

// If samples have another size than the latents in the file, they do not get the sizes stored there.
TEST_F(LatentsTest, SizesAreOfTheLatentsBesideThem) {
  HunyuanDitShape shape = LatentShape();
  shape.height = 8;
  const auto file = LatentFile::OpenTexts(dir_ / "train.safetensors", shape);
  ASSERT_TRUE(file.ok()) << file.status();
  HunyuanInputs inputs(shape, /*batch=*/1, (*file)->scratch_elements());
  LatentSample row = inputs.Row(0);
  row.latent = {};
  ASSERT_TRUE((*file)->Read(4, false, false, row).ok());
  EXPECT_EQ(std::vector<float>(row.sizes.begin(), row.sizes.end()), std::vector<float>({64, 48, 64, 48, 0, 0}));
}

// A sample's condition is read whatever its texts are, and also without its latent. The file's digest covers it.
TEST_F(LatentsTest, ConditionsAreRead) {
  HunyuanDitShape shape = LatentShape();
  shape.control = true;
  const std::string path = dir_ / "conditions.safetensors";
  ASSERT_TRUE(WriteTinyLatents(path, shape, kSamples, 3).ok());
  const auto file = LatentFile::Open(path, shape);
  ASSERT_TRUE(file.ok()) << file.status();
  const auto reader = SafetensorsReader::Open(path);
  std::vector<float> wanted(48);
  ASSERT_TRUE(reader->Read(*reader->Find("condition"), 4 * 48 * 4, std::as_writable_bytes(std::span(wanted))).ok());
  HunyuanInputs inputs(shape, /*batch=*/2, (*file)->scratch_elements());
  LatentSample row = inputs.Row(1);
  row.latent = {};
  ASSERT_TRUE((*file)->Read(4, true, true, row).ok());
  EXPECT_EQ(std::vector<float>(row.condition.begin(), row.condition.end()), wanted);
  EXPECT_TRUE(HunyuanInputs(LatentShape(), 2, file_->scratch_elements()).Row(0).condition.empty());

  std::string bytes = Slurp(path);
  bytes.back() ^= 1;  // in the last sample's condition
  ASSERT_TRUE(WriteFile(path, bytes).ok());
  EXPECT_NE(LatentFile::Open(path, shape).value()->digest(), (*file)->digest());
}

TEST_F(LatentsTest, EveryEpochHasEverySampleInAnOrderOfItsOwn) {
  const LatentSource source(*file_, {.global_batch = 3, .micro_batch = 2, .seed = 5});
  std::vector<std::vector<int64_t>> epochs;
  for (int64_t epoch = 0; epoch < 3; ++epoch) {
    std::vector<int64_t>& order = epochs.emplace_back();
    for (int64_t i = 0; i < kSamples; ++i) order.push_back(source.IndexOf(epoch * kSamples + i));
    EXPECT_EQ(std::set<int64_t>(order.begin(), order.end()).size(), static_cast<size_t>(kSamples));
  }
  EXPECT_NE(epochs[0], epochs[1]);
  EXPECT_EQ(source.step_count(), 3);
  EXPECT_EQ(source.MicroBatchesPerStep(1), 2);
  // Rows after the step's last sample weigh nothing.
  EXPECT_EQ(source.SampleAt({.first_sample = 6, .micro = 1}, 0), 8);
  EXPECT_EQ(source.SampleAt({.first_sample = 6, .micro = 1}, 1), -1);
  const LatentSource evaluation(*file_, {.global_batch = 3, .micro_batch = 2, .evaluation_samples = 4});
  EXPECT_EQ(evaluation.sample_count(), 4);
  EXPECT_EQ(evaluation.SampleAt({.first_sample = 3}, 0), 3);
  EXPECT_EQ(evaluation.SampleAt({.first_sample = 3}, 1), -1);
}

// Every epoch has each bucket's steps once, in an order of its own. Each of a bucket's samples comes once before any
// comes again.
TEST(BucketOrderTest, EveryBucketHasItsSteps) {
  const BucketOrder order({7, 3, 12}, /*global_batch=*/3, /*seed=*/5);  // 3, 1 and 4 steps
  std::vector<std::vector<int64_t>> firsts(3), orders;
  for (int64_t epoch = 0; epoch < 3; ++epoch) {
    std::vector<int64_t>& buckets = orders.emplace_back();
    for (int64_t step = epoch * 8; step < epoch * 8 + 8; ++step) {
      const BucketOrder::Step first = order.At(step * 3), last = order.At(step * 3 + 2);
      EXPECT_EQ(first.bucket, last.bucket);
      EXPECT_EQ(first.first, last.first);
      buckets.push_back(first.bucket);
      firsts[static_cast<size_t>(first.bucket)].push_back(first.first);
    }
    std::vector<int64_t> sorted = buckets;
    std::ranges::sort(sorted);
    EXPECT_EQ(sorted, (std::vector<int64_t>{0, 0, 0, 1, 2, 2, 2, 2}));
  }
  EXPECT_NE(orders[0], orders[1]);
  for (std::vector<int64_t>& of_bucket : firsts) {
    std::ranges::sort(of_bucket);
    for (size_t i = 0; i < of_bucket.size(); ++i) EXPECT_EQ(of_bucket[i], static_cast<int64_t>(3 * i));
  }
  const BucketOrder other({7, 3, 12}, 3, /*seed=*/6);
  int differ = 0;
  for (int64_t step = 0; step < 24; ++step) differ += order.At(step * 3).bucket != other.At(step * 3).bucket ? 1 : 0;
  EXPECT_GT(differ, 0);
}

TEST_F(LatentsTest, ASampleOfABucketIsOneOfItsFile) {
  const LatentOrder options{.global_batch = 2, .micro_batch = 1, .seed = 5};
  const BucketOrder buckets({kSamples, kSamples}, 2, 5);
  const LatentSource alone(*file_, options), source(*file_, options, &buckets);
  for (int64_t sample = 0; sample < 40; ++sample) {
    EXPECT_EQ(source.IndexOf(sample), alone.IndexOf(buckets.At(sample).first + sample % 2));
  }
}

}  // namespace
}  // namespace angel_ptm
