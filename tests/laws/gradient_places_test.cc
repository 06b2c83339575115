// Law 1 where a step's gradients are bf16 and rest in their parameters' places.
#include <gtest/gtest.h>

#include <string>
#include <vector>

#include "angel_ptm/base/bfloat16.h"
#include "optim/adamw.h"
#include "tests/laws/tiny_run.h"
#include "tests/support/or_die.h"
#include "tests/support/sanitized.h"
#include "tests/support/temporary_folder.h"

namespace angel_ptm {
namespace {

TinyRun Narrow(bool moe) {
  TinyRun run{.compute = DType::kBFloat16, .gradients = DType::kBFloat16};
  if (!moe) run.shape = TinyDense();
  run.shape.num_hidden_layers = 2;
  return run;
}

// With one rank and one micro-batch, bf16 gradients give the bits of fp32 gradients: nothing is summed, so nothing is
// rounded.
TEST(GradientPlacesTest, OneRankComputesWhatItDoesWithFp32Gradients) {
  for (const bool moe : {false, true}) {
    TinyRun run = Narrow(moe);
    const TinyResult narrow = OrDie(TrainLocally(run, 1)), two = OrDie(TrainLocally(run, 2));
    run.gradients = DType::kFloat32;
    EXPECT_EQ(narrow.Difference(OrDie(TrainLocally(run, 1))), "");
    EXPECT_NE(two.Difference(OrDie(TrainLocally(run, 2))), "");  // their sum is rounded
  }
}

TEST(GradientPlacesTest, SameBitsWhereverTheyRest) {
  for (const bool moe : {false, true}) {
    for (const int world : FewerIfSanitized(1, {2, 1})) {
      if (moe && world == 1) continue;
      TinyRun run = Narrow(moe);
      run.ema_decay = moe ? 0.9 : 0;
      const TinyResult plain = OrDie(TrainLocally(run, world));
      for (const int stage : FewerIfSanitized(1, {3, 0, 2})) {
        if (world == 1 && stage == 2) continue;
        for (const int percent : FewerIfSanitized(2, {35, 60, 100})) {
          SCOPED_TRACE(testing::Message()
                       << moe << ", " << world << " ranks, stage " << stage << ", " << percent << " %");
          run.zero_stage = stage;
          run.join = percent != 60;
          run.page_bytes = percent == 35 ? 16384 : 8192;
          run.device_bytes = DeviceBudget(run, world, percent);
          run.file_tier = percent == 35;
          run.host_bytes = run.file_tier ? HostBytes(run, world).least : 0;
          const TinyResult result = OrDie(TrainLocally(run, world));
          EXPECT_EQ(result.Difference(plain), "");
          EXPECT_EQ(result.joined, run.join);
          EXPECT_EQ(result.file_arena_bytes > 0, run.file_tier);
          EXPECT_EQ(result.state_bytes[kGradientState] == 0, world == 1 || stage == 3);
          run.host_bytes = 0;
        }
      }
    }
  }
}

// A skipped step keeps the parameters that the master copy gives, although gradients took their places.
TEST(GradientPlacesTest, ASkippedStepChangesNothing) {
  for (const int world : {1, 2}) {
    for (const int percent : {100, 35}) {
      if ((world == 1) != (percent == 100)) continue;
      SCOPED_TRACE(testing::Message() << world << " ranks, " << percent << " %");
      TinyRun run = Narrow(/*moe=*/true);
      run.zero_stage = 3;
      run.device_bytes = DeviceBudget(run, world, percent);
      run.steps = 1;
      const TinyResult before = OrDie(TrainLocally(run, world));
      run.steps = 2;
      run.skipped_step = 1;
      const TinyResult skipped = OrDie(TrainLocally(run, world));
      EXPECT_EQ(skipped.parameters, before.parameters);
      EXPECT_EQ(skipped.moments, before.moments);
      // The same where the update runs beside the next step's first micro-batch, which takes the places again.
      run.steps = 4;
      const TinyResult apart = OrDie(TrainLocally(run, world));
      run.join = true;
      const TinyResult joined = OrDie(TrainLocally(run, world));
      EXPECT_TRUE(joined.joined);
      EXPECT_EQ(joined.Difference(apart), "");
      run.skipped_step = kNone;
      EXPECT_NE(OrDie(TrainLocally(run, world)).Difference(apart), "");
    }
  }
}

TEST(GradientPlacesTest, ResumesWithTheSameBits) {
  const TemporaryFolder folder;
  const TinyResult straight = OrDie(TrainLocally(Narrow(/*moe=*/true), 2));
  TinyRun first = Narrow(/*moe=*/true);
  first.zero_stage = 3;
  first.steps = 1;
  first.save_directory = folder.path();
  const TinyResult before = OrDie(TrainLocally(first, 2));
  for (const int stage : {2, 3}) {
    TinyRun run = Narrow(/*moe=*/true);
    run.zero_stage = stage;
    run.load_checkpoint = before.checkpoint;
    run.first_step = 1;
    TinyResult after = OrDie(TrainLocally(run, 2));
    after.losses.insert(after.losses.begin(), before.losses.begin(), before.losses.end());
    after.norms.insert(after.norms.begin(), before.norms.begin(), before.norms.end());
    EXPECT_EQ(after.Difference(straight), "") << stage;
  }
}

}  // namespace
}  // namespace angel_ptm
