// The all-pairs cases cover all pairs.
#include "tests/laws/axes.h"

#include <gtest/gtest.h>

#include <set>
#include <string>

namespace angel_ptm {
namespace {

TEST(AllPairsTest, CoversEveryPairOfValuesWithFewCases) {
  const std::vector<Axes> cases = AllPairs();
  EXPECT_EQ(PairsLeftOut(cases), 0);
  EXPECT_LE(cases.size(), 21u);  // 20 at least: 4 stages times 5 budgets
  EXPECT_EQ(FullMatrix().size(), 2u * 2 * 2 * 4 * 3 * 5 * 2 * 3 * 2 * 2);
  std::set<std::string> different;
  for (const Axes& axes : FullMatrix()) different.insert(testing::PrintToString(axes));
  EXPECT_EQ(different.size(), FullMatrix().size());
}

TEST(AllPairsTest, MissesAreFound) {
  EXPECT_GT(PairsLeftOut({}), 0);
  std::vector<Axes> cases = AllPairs();
  std::erase_if(cases, [](const Axes& axes) { return axes.zero_stage == 2 && axes.budget_percent == 35; });
  EXPECT_GT(PairsLeftOut(cases), 0);
  cases = FullMatrix();
  std::erase_if(cases, [](const Axes& axes) { return axes.zero_stage == 1 && axes.resumed; });
  EXPECT_EQ(PairsLeftOut(cases), 1);
}

}  // namespace
}  // namespace angel_ptm
