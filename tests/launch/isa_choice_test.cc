#include "launch/isa_choice.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <map>
#include <string>
#include <thread>
#include <vector>

#include "comm/local.h"

namespace angel_ptm {
namespace {

// The levels of an x86-64 program; nothing here runs them.
constexpr CpuIsa kIsas[] = {{"portable", false, {}, nullptr},
                            {"x86-64-v3", false, {}, nullptr},
                            {"avx512", false, {}, nullptr},
                            {"avx512-bf16", true, {}, nullptr},
                            {"amx", true, {}, nullptr}};

std::vector<const CpuIsa*> Lowest(int n) {
  std::vector<const CpuIsa*> isas;
  for (int i = 0; i < n; ++i) isas.push_back(&kIsas[i]);
  return isas;
}

// The choice at these rates, and the levels that were measured.
struct Measured {
  std::string name, reason;
  std::vector<std::string> asked;
};
Measured Choose(int runnable, DType compute, const std::map<std::string, double>& rates) {
  Measured measured;
  const IsaChoice choice = BestIsa(Lowest(runnable), compute, [&](const CpuIsa& isa) {
    measured.asked.push_back(isa.name);
    return rates.at(isa.name);
  });
  measured.name = choice.isa->name;
  measured.reason = choice.reason;
  return measured;
}

TEST(IsaChoiceTest, OrderDecidesWhereRatesAreALibrarys) {
  EXPECT_EQ(Choose(5, DType::kFloat32, {}).name, "amx");
  EXPECT_EQ(Choose(2, DType::kFloat32, {}).name, "x86-64-v3");
  EXPECT_EQ(Choose(3, DType::kBFloat16, {}).name, "avx512");  // no level has bf16 products
  EXPECT_EQ(Choose(1, DType::kBFloat16, {}).reason, "the highest that runs here");
}

TEST(IsaChoiceTest, TheMeasuredRateDecidesForBf16) {
  const Measured intel = Choose(4, DType::kBFloat16, {{"avx512-bf16", 100e9}, {"avx512", 180e9}});
  EXPECT_EQ(intel.name, "avx512");
  EXPECT_EQ(intel.reason, "measured: avx512-bf16 100 GFLOP/s, avx512 180 GFLOP/s");
  EXPECT_THAT(intel.asked, testing::ElementsAre("avx512-bf16", "avx512"));
  EXPECT_EQ(Choose(4, DType::kBFloat16, {{"avx512-bf16", 230e9}, {"avx512", 110e9}}).name, "avx512-bf16");
  EXPECT_EQ(Choose(5, DType::kBFloat16, {{"amx", 2000e9}, {"avx512-bf16", 100e9}, {"avx512", 180e9}}).name, "amx");
}

TEST(IsaChoiceTest, ATieGoesToTheHigherLevel) {
  EXPECT_EQ(Choose(4, DType::kBFloat16, {{"avx512-bf16", 100}, {"avx512", 104}}).name, "avx512-bf16");
  EXPECT_EQ(Choose(4, DType::kBFloat16, {{"avx512-bf16", 100}, {"avx512", 106}}).name, "avx512");
}

TEST(IsaChoiceTest, RatesOfThisMachineAreMeasured) {
  EXPECT_GT(MatmulRate(*RunnableCpuIsas().back(), DType::kFloat32), 1e6);
  EXPECT_EQ(MatmulRate(*RunnableCpuIsas().back(), DType::kInt32), 0);  // no such product
}

TEST(IsaChoiceTest, NamesAreChecked) {
  EXPECT_EQ((*IsaNamed("avx512", kIsas))->name, kIsas[2].name);
  EXPECT_EQ(IsaNamed("avx", kIsas).status().message(),
            "--isa: wanted one of portable, x86-64-v3, avx512, avx512-bf16, amx, got avx");
  EXPECT_STREQ(ChooseIsa("portable", DType::kFloat32)->isa->name, "portable");
  EXPECT_EQ(ChooseIsa("", DType::kFloat32)->isa, RunnableCpuIsas().back());
}

// Ranks on unlike machines, whose measurements disagree, choose the same level.
TEST(IsaChoiceTest, RankZeroChoosesAmongWhatAllRun) {
  constexpr int kRanks = 3, kRunnable[kRanks] = {5, 4, 5};
  LocalWorld world(kRanks);
  std::vector<IsaChoice> choices(kRanks);
  {
    std::vector<std::jthread> threads;
    for (int rank = 0; rank < kRanks; ++rank) {
      threads.emplace_back([&, rank] {
        const auto communicator = world.Create(rank, {});
        const auto choice = AgreeOnIsa(
            "", DType::kBFloat16, Lowest(kRunnable[rank]),
            [rank](const CpuIsa& isa) { return (rank == 0) == (isa.name == std::string("avx512")) ? 2.0 : 1.0; },
            *communicator);
        ASSERT_TRUE(choice.ok()) << choice.status();
        choices[rank] = *choice;
      });
    }
  }
  for (const IsaChoice& choice : choices) EXPECT_STREQ(choice.isa->name, "avx512");
  EXPECT_EQ(choices[1].reason, "rank 0's");
}

TEST(CpuIsaTest, LevelsAreNestedAndNeedTheSystemToSaveTheirRegisters) {
  const std::span<const CpuIsa> isas = CpuIsas();
  EXPECT_STREQ(isas[0].name, "portable");
  EXPECT_TRUE(HasFeatures({}, isas[0].needs));
  for (size_t i = 1; i < isas.size(); ++i) {
    EXPECT_TRUE(HasFeatures(isas[i].needs, isas[i - 1].needs)) << isas[i].name;
    EXPECT_FALSE(HasFeatures(isas[i - 1].needs, isas[i].needs)) << isas[i].name;
    X86Features unsaved = isas[i].needs;
    unsaved.xcr0 = 3;  // x87 and SSE: a system, or a hypervisor, that knows nothing newer
    EXPECT_FALSE(HasFeatures(unsaved, isas[i].needs)) << isas[i].name;
  }
}

}  // namespace
}  // namespace angel_ptm
