#include "launch/machine_memory.h"

#include <gtest/gtest.h>

#include <limits>
#include <string>

#include "tests/support/temporary_folder.h"

namespace angel_ptm {
namespace {

constexpr int64_t kNoLimit = std::numeric_limits<int64_t>::max();

class ControlGroupTest : public testing::Test {
 protected:
  void Write(const std::string& path, const std::string& text) { Spill(root_ / path, text + "\n"); }

  const TemporaryFolder root_;
};

TEST_F(ControlGroupTest, NothingKnownIsNoLimit) {
  EXPECT_EQ(ControlGroupMemoryLimit("", root_.path()), kNoLimit);
  EXPECT_EQ(ControlGroupMemoryLimit("0::/user.slice\nnonsense\n", root_.path()), kNoLimit);
}

TEST_F(ControlGroupTest, Version2TakesTheSmallestAboveTheGroup) {
  Write("job.slice/step/memory.max", "max");
  Write("job.slice/memory.max", "3000000000");
  Write("memory.max", "9000000000");
  EXPECT_EQ(ControlGroupMemoryLimit("0::/job.slice/step\n", root_.path()), 3000000000);
  EXPECT_EQ(ControlGroupMemoryLimit("0::/\n", root_.path()), 9000000000);
  EXPECT_EQ(ControlGroupMemoryLimit("0::/not/visible/here\n", root_.path()), 9000000000);
}

TEST_F(ControlGroupTest, Version1ReadsTheMemoryController) {
  Write("memory/batch/memory.limit_in_bytes", "2000000000");
  Write("memory/memory.limit_in_bytes", "9223372036854771712");
  Write("cpu/batch/memory.limit_in_bytes", "1");
  EXPECT_EQ(ControlGroupMemoryLimit("5:cpu:/batch\n4:hugetlb,memory:/batch\n", root_.path()), 2000000000);
  EXPECT_EQ(ControlGroupMemoryLimit("5:cpu:/batch\n", root_.path()), kNoLimit);
}

TEST(MachineMemoryTest, IsPositive) { EXPECT_GT(MachineMemoryBytes(), int64_t{1} << 27); }

}  // namespace
}  // namespace angel_ptm
