// Making a micro-batch, its noise and its times, which is part of every step, allocates nothing.
#include "angel_ptm/data/images/image_loader.h"
#include "angel_ptm/train/diffusion/noise.h"
#include "gtest/gtest.h"
#include "tests/data/images/small_set.h"
#include "tests/exec/allocation_counter.h"
#include "tests/support/temporary_folder.h"

namespace angel_ptm {
namespace {

TEST(Allocations, AMicroBatchTakesNone) {
  const TemporaryFolder folder;
  WriteSet(folder / "a.images", SmallSet(23));
  const auto file = OrDie(ImageFile::Open(folder / "a.images"));
  const ImageLoader loader = OrDie(ImageLoader::Create(file.get(), {.global_batch = 4,
                                                                    .micro_batch = 4,
                                                                    .seed = 2,
                                                                    .height = 4,
                                                                    .width = 4,
                                                                    .flip_probability = 0.5,
                                                                    .caption_tokens = 3,
                                                                    .other_captions = 0.5}));
  std::vector<float> images(4 * 48), noise(48);
  std::vector<int32_t> tokens(12), counts(4), classes(4), styles(4);
  std::vector<int64_t> samples(4);
  const int64_t before = AllocationCalls();
  int64_t weighing = 0;
  double times = 0;
  for (int64_t step = 0; step < 20; ++step) {
    const auto filled = loader.FillMicroBatch({4 * step, 0, 0, 1}, {images, tokens, counts, classes, styles, samples});
    weighing += filled.ok() ? *filled : 0;
    for (const int64_t sample : samples) {
      FillNormal({.seed = 1, .sample = sample}, noise);
      AddNoiseOffset(1, sample, 3, 0.1, noise);
      times += TrainingFlowTime(1, sample, 0, 1, 3);
    }
  }
  EXPECT_EQ(AllocationCalls(), before);
  EXPECT_EQ(weighing, 80);
  EXPECT_GT(times, 0);
}

}  // namespace
}  // namespace angel_ptm
