#include "launch/machine_cores.h"

#include <gtest/gtest.h>

#include <cmath>
#include <initializer_list>

#include "tests/support/temporary_folder.h"

namespace angel_ptm {
namespace {

class ControlGroupCoresTest : public testing::Test {
 protected:
  void Write(const std::string& path, const std::string& text) { Spill(root_ / path, text + "\n"); }

  const TemporaryFolder root_;
};

TEST_F(ControlGroupCoresTest, Version2TakesTheSmallestQuotaAboveTheGroup) {
  Write("job.slice/step/cpu.max", "max 100000");
  Write("job.slice/cpu.max", "150000 100000");
  Write("cpu.max", "800000 100000");
  EXPECT_EQ(ControlGroupCores("0::/job.slice/step\n", root_.path()), 1.5);
  EXPECT_EQ(ControlGroupCores("0::/\n", root_.path()), 8);
}

TEST_F(ControlGroupCoresTest, Version1ReadsTheProcessorController) {
  Write("cpu/batch/cpu.cfs_quota_us", "50000");
  Write("cpu/batch/cpu.cfs_period_us", "100000");
  Write("cpu/cpu.cfs_quota_us", "-1");
  Write("cpu/cpu.cfs_period_us", "100000");
  EXPECT_EQ(ControlGroupCores("4:memory:/x\n3:cpu,cpuacct:/batch\n", root_.path()), 0.5);
  EXPECT_TRUE(std::isinf(ControlGroupCores("3:cpu,cpuacct:/\n", root_.path())));
  EXPECT_TRUE(std::isinf(ControlGroupCores("", root_.path())));
}

TEST(MachineCoresTest, AQuotaIsAtLeastOneThreadAndRounded) {
  EXPECT_EQ(ThreadsForQuota(0.5), 1);
  EXPECT_EQ(ThreadsForQuota(1.2), 1);
  EXPECT_EQ(ThreadsForQuota(1.5), 2);
  EXPECT_EQ(ThreadsForQuota(16), 16);
}

cpu_set_t Mask(std::initializer_list<int> cores) {
  cpu_set_t mask;
  CPU_ZERO(&mask);
  for (const int core : cores) CPU_SET(core, &mask);
  return mask;
}

TEST(MachineCoresTest, OnlySharedCoresAreDivided) {
  const cpu_set_t a = Mask({0, 1}), b = Mask({2, 3}), all = Mask({0, 1, 2, 3});
  EXPECT_EQ(ShareOfCores(a, std::vector{a, b}), 2);        // disjoint: not divided again
  EXPECT_EQ(ShareOfCores(all, std::vector{all, all}), 2);  // the same: divided
  EXPECT_EQ(ShareOfCores(all, std::vector{all, all, all}), 1);
  EXPECT_EQ(ShareOfCores(all, std::vector{all, a}), 3);  // in part: two alone and half of two
  EXPECT_EQ(ShareOfCores(a, std::vector{a, a, a, a}), 1);
}

TEST(MachineCoresTest, WithoutALauncherTheJobIsThisProcess) {
  EXPECT_EQ(MasksOfJob().size(), 1u);
  EXPECT_EQ(CoresOfRank(2), 0);
  EXPECT_GE(UsableCores(), 1);
}

// The affinity mask is set by taskset, a launcher's binding or a cpuset; the kernel keeps it within the group's cpuset.
TEST(MachineCoresTest, TheAffinityMaskLimitsTheCores) {
  cpu_set_t before;
  ASSERT_EQ(sched_getaffinity(0, sizeof(before), &before), 0);
  int first = 0;
  while (!CPU_ISSET(first, &before)) ++first;
  const cpu_set_t one = Mask({first});
  ASSERT_EQ(sched_setaffinity(0, sizeof(one), &one), 0);
  EXPECT_EQ(UsableCores(), 1);
  ASSERT_EQ(sched_setaffinity(0, sizeof(before), &before), 0);
}

TEST(MachineCoresTest, IdleCoresAreSaidWithTheReason) {
  const int cores = UsableCores();
  EXPECT_EQ(IdleCoresWarning(1, cores, 0), "");
  EXPECT_EQ(IdleCoresWarning(cores, 1, 0), "");
  if (cores < 2) return;
  EXPECT_NE(IdleCoresWarning(1, 1, 1).find("was built for 1 thread per rank"), std::string::npos);
  EXPECT_NE(IdleCoresWarning(1, 1, 0).find("--bind-to none"), std::string::npos);
}

}  // namespace
}  // namespace angel_ptm
