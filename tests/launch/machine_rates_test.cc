// What ranks tell each other about their machines.
#include "launch/machine_rates.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include "tests/support/ranks.h"

namespace angel_ptm {
namespace {

using testing::ElementsAre;

TEST(MachineRatesTest, EveryRankHasAllValuesAndTexts) {
  RunRanks(3, [](Communicator& ranks) {
    const auto values = ValuesOf(1.5 * ranks.rank(), ranks);
    ASSERT_TRUE(values.ok()) << values.status();
    EXPECT_THAT(*values, ElementsAre(0, 1.5, 3));
    // A text that is too long is cut to its beginning.
    const auto texts = TextsOf(ranks.rank() == 1 ? std::string(10000, 'x') : ranks.rank() == 0 ? "first" : "", ranks);
    ASSERT_TRUE(texts.ok()) << texts.status();
    EXPECT_THAT(*texts, ElementsAre("first", std::string(4095, 'x'), ""));
  });
}

TEST(MachineRatesTest, TheFirstErrorIsEveryRanks) {
  RunRanks(4, [](Communicator& ranks) {
    EXPECT_TRUE(AgreeOn(absl::OkStatus(), ranks).ok());
    const absl::Status mine = ranks.rank() < 2    ? absl::OkStatus()
                              : ranks.rank() == 2 ? absl::NotFoundError("no such folder")
                                                  : absl::InternalError("another");
    const absl::Status all = AgreeOn(mine, ranks);
    EXPECT_EQ(all, absl::NotFoundError("rank 2: no such folder"));
  });
}

TEST(MachineRatesTest, ARankAloneIsNotNamed) {
  RunRanks(1, [](Communicator& rank) {
    EXPECT_EQ(AgreeOn(absl::NotFoundError("no such folder"), rank), absl::NotFoundError("no such folder"));
  });
}

TEST(MachineRatesTest, FilesOfAFolderThatIsNotThereAreAnErrorOfAll) {
  RunRanks(2, [](Communicator& ranks) {
    const auto rates = MeasureFiles("/nowhere/at/all", true, ranks);
    EXPECT_THAT(std::string(rates.status().message()), testing::HasSubstr("rank 0: "));
    EXPECT_THAT(std::string(rates.status().message()), testing::HasSubstr("/nowhere/at/all"));
  });
}

TEST(MachineRatesTest, ANetworkHasTheSameRateForAllRanks) {
  std::vector<double> rates(2);
  RunRanks(2, [&](Communicator& ranks) {
    const auto rate = MeasureNetwork(ranks, ranks);
    ASSERT_TRUE(rate.ok()) << rate.status();
    EXPECT_GT(rate->latency_seconds, 0);
    rates[static_cast<size_t>(ranks.rank())] = rate->bytes_per_second;
  });
  EXPECT_GT(rates[0], 0);
  EXPECT_EQ(rates[0], rates[1]);
}

}  // namespace
}  // namespace angel_ptm
