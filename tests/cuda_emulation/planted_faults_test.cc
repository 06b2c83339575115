// Every planted fault is found by its name under every schedule; without it, the same kernels are clean and their
// results right.
#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <algorithm>
#include <set>
#include <string>

#include "absl/strings/str_cat.h"
#include "tests/cuda_emulation/planted/planted.h"

namespace angel_ptm::emulated {
namespace {

constexpr int kSeeds = 3;

std::string Texts(const std::vector<Finding>& findings) {
  std::string text;
  for (const Finding& finding : findings) absl::StrAppend(&text, "\n  ", finding.Describe());
  return text.empty() ? "nothing" : text;
}

void ExpectClean(const PlantedFault& planted, const Schedule& schedule) {
  const Outcome outcome = planted.run(schedule, 0);
  EXPECT_TRUE(outcome.findings.empty()) << "in " << schedule << " the right kernel has: " << Texts(outcome.findings);
  EXPECT_TRUE(outcome.values_right) << "wrong values in " << schedule;
}

void ExpectFound(const PlantedFault& planted, const Schedule& schedule) {
  const Outcome outcome = planted.run(schedule, planted.variant);
  if (!planted.fault) {
    EXPECT_FALSE(outcome.values_right) << "in " << schedule;
    return;
  }
  EXPECT_TRUE(std::any_of(
      outcome.findings.begin(), outcome.findings.end(),
      [&](const Finding& finding) { return finding.fault == *planted.fault || finding.fault == planted.or_fault; }))
      << "wanted [" << Name(*planted.fault) << "] in " << schedule << ", found: " << Texts(outcome.findings);
}

void TestAll(const std::vector<PlantedFault>& faults) {
  std::set<Outcome (*)(const Schedule&, int)> clean;
  for (const PlantedFault& planted : faults) {
    SCOPED_TRACE(planted.name);
    const bool is_new = clean.insert(planted.run).second;
    for (const Schedule& schedule : Schedules(kSeeds)) {
      if (is_new) ExpectClean(planted, schedule);
      ExpectFound(planted, schedule);
    }
  }
}

TEST(PlantedFaultsTest, OfBlocksAreFound) { TestAll(BlockFaults()); }
TEST(PlantedFaultsTest, OfPipelinesAreFound) { TestAll(PipelineFaults()); }
TEST(PlantedFaultsTest, OfHopperAreFound) { TestAll(HopperFaults()); }
TEST(PlantedFaultsTest, OfClustersAreFound) { TestAll(ClusterFaults()); }

TEST(PlantedFaultsTest, ADeadlockSaysWhoWaitsForWhat) {
  const std::vector<PlantedFault>& faults = HopperFaults();
  const auto planted = std::find_if(faults.begin(), faults.end(), [](const PlantedFault& fault) {
    return std::string(fault.name) == "more bytes expected than come";
  });
  ASSERT_NE(planted, faults.end());
  const std::string text = Texts(planted->run({}, planted->variant).findings);
  EXPECT_THAT(text, testing::HasSubstr("threads 128-255 wait for parity 0 of the mbarrier at byte 57344"));
  EXPECT_THAT(text, testing::HasSubstr("0 of 1 arrivals and 16 bytes outstanding"));
}

}  // namespace
}  // namespace angel_ptm::emulated
