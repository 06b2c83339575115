#include "launch/machine_memory.h"

#include <gtest/gtest.h>

#include <filesystem>
#include <fstream>
#include <limits>
#include <string>

namespace angel_ptm {
namespace {

constexpr int64_t kNoLimit = std::numeric_limits<int64_t>::max();

class ControlGroupTest : public testing::Test {
 protected:
  ControlGroupTest() {
    const auto* test = testing::UnitTest::GetInstance()->current_test_info();
    root_ = testing::TempDir() + "control_groups." + test->name();
    std::filesystem::remove_all(root_);
  }
  void Write(const std::string& path, const std::string& text) {
    const std::filesystem::path file = root_ + "/" + path;
    std::filesystem::create_directories(file.parent_path());
    std::ofstream(file) << text << "\n";
  }

  std::string root_;
};

TEST_F(ControlGroupTest, NothingKnownIsNoLimit) {
  EXPECT_EQ(ControlGroupMemoryLimit("", root_), kNoLimit);
  EXPECT_EQ(ControlGroupMemoryLimit("0::/user.slice\nnonsense\n", root_), kNoLimit);
}

TEST_F(ControlGroupTest, Version2TakesTheSmallestAboveTheGroup) {
  Write("job.slice/step/memory.max", "max");
  Write("job.slice/memory.max", "3000000000");
  Write("memory.max", "9000000000");
  EXPECT_EQ(ControlGroupMemoryLimit("0::/job.slice/step\n", root_), 3000000000);
  EXPECT_EQ(ControlGroupMemoryLimit("0::/\n", root_), 9000000000);
  EXPECT_EQ(ControlGroupMemoryLimit("0::/not/visible/here\n", root_), 9000000000);
}

TEST_F(ControlGroupTest, Version1ReadsTheMemoryController) {
  Write("memory/batch/memory.limit_in_bytes", "2000000000");
  Write("memory/memory.limit_in_bytes", "9223372036854771712");
  Write("cpu/batch/memory.limit_in_bytes", "1");
  EXPECT_EQ(ControlGroupMemoryLimit("5:cpu:/batch\n4:hugetlb,memory:/batch\n", root_), 2000000000);
  EXPECT_EQ(ControlGroupMemoryLimit("5:cpu:/batch\n", root_), kNoLimit);
}

TEST(MachineMemoryTest, IsPositive) { EXPECT_GT(MachineMemoryBytes(), int64_t{1} << 27); }

}  // namespace
}  // namespace angel_ptm
