// What the host backend says it accepts and needs.
#include "kernels/cpu/workspace.h"

#include <gtest/gtest-spi.h>
#include <gtest/gtest.h>

#include "tests/support/kernel_testing.h"

namespace angel_ptm {
namespace {

// [T,V] logits never exist: one chunk of them does, of no more tokens than there are.
TEST(CpuWorkspaceBytesTest, TheLossHoldsOneChunkOfLogits) {
  const int64_t v = 1000, chunk = 16;
  for (const bool gradient : {false, true}) {
    float any = 0;
    LinearCrossEntropyArgs args = {.h = 8, .v = v, .chunk_tokens = chunk};
    if (gradient) args.dx = args.dweight = {&any};
    for (const int64_t t : {int64_t{1}, chunk - 1, chunk, chunk + 1, 100 * chunk, int64_t{1} << 30}) {
      args.t = t;
      for (const int threads : {1, 7}) EXPECT_EQ(CpuWorkspaceBytes(args, threads), std::min(t, chunk) * v * 4) << t;
    }
  }
}

// What RunKernel relies on: a kernel that needs more than it was given is seen.
TEST(TestContextTest, WritingBehindTheWorkspaceIsAFailure) {
  const std::vector<int32_t> experts = {2, 0, 1};
  std::vector<int32_t> row_of_pair(3), pair_of_row(3), block_expert(3);
  int32_t active_blocks = 0;
  const ExpertLayoutArgs args = {.row_of_pair = row_of_pair.data(),
                                 .pair_of_row = pair_of_row.data(),
                                 .block_expert = block_expert.data(),
                                 .active_blocks = &active_blocks,
                                 .experts = experts.data(),
                                 .t = 3,
                                 .k = 1,
                                 .e = 3,
                                 .block_rows = 1,
                                 .blocks_max = 3};
  const int64_t bytes = CpuWorkspaceBytes(args, 1);
  CpuKernels().expert_layout(args, TestContext(1, bytes));
  EXPECT_NONFATAL_FAILURE(CpuKernels().expert_layout(args, TestContext(1, bytes - 4)),
                          "written behind the workspace of 8 bytes");
}

}  // namespace
}  // namespace angel_ptm
