#include "angel_ptm/base/text.h"

#include <gtest/gtest.h>

#include <bit>
#include <cmath>
#include <cstdlib>
#include <limits>
#include <optional>

#include "angel_ptm/base/random.h"

namespace angel_ptm {
namespace {

TEST(FormatBytes, BinaryUnitsWithThreeDigits) {
  EXPECT_EQ(FormatBytes(0), "0 B");
  EXPECT_EQ(FormatBytes(512), "512 B");
  EXPECT_EQ(FormatBytes(1023), "1023 B");
  EXPECT_EQ(FormatBytes(4096), "4.00 KiB");
  EXPECT_EQ(FormatBytes(1536 << 20), "1.50 GiB");
  EXPECT_EQ(FormatBytes(int64_t{40} << 30), "40.0 GiB");
  EXPECT_EQ(FormatBytes(int64_t{640} << 40), "640 TiB");
  EXPECT_EQ(FormatBytes(-2048), "-2.00 KiB");
}

TEST(ParseBytes, WholeBytesOrANumberWithAUnit) {
  EXPECT_EQ(ParseBytes("1073741824"), int64_t{1} << 30);
  EXPECT_EQ(ParseBytes("-1"), -1);
  EXPECT_EQ(ParseBytes("64KiB"), 65536);
  EXPECT_EQ(ParseBytes("1.5 GiB"), int64_t{1536} << 20);
  EXPECT_EQ(ParseBytes("3TiB"), int64_t{3} << 40);
  EXPECT_EQ(ParseBytes("80GB"), 80000000000);
  EXPECT_EQ(ParseBytes("2kB"), 2000);
  EXPECT_EQ(ParseBytes("2.2GB"), 2200000000);
  for (const char* text :
       {"", "B", "GiB", "1B", "1 G", "1GiBs", "x GiB", "0.3KiB", "1kiB", "nanGiB", "infGB", "1e9PiB"}) {
    EXPECT_EQ(ParseBytes(text), std::nullopt) << text;
  }
}

TEST(Counted, OneHasNoPlural) {
  EXPECT_EQ(Counted(1, "rank"), "1 rank");
  EXPECT_EQ(Counted(0, "rank"), "0 ranks");
  EXPECT_EQ(Counted(2, "micro-batch", "es"), "2 micro-batches");
}

TEST(FormatCount, DecimalUnitsWithThreeDigits) {
  EXPECT_EQ(FormatCount(950), "950");
  EXPECT_EQ(FormatCount(22.8e6), "22.8 M");
  EXPECT_EQ(FormatCount(1.3e12), "1.30 T");
  EXPECT_EQ(FormatCount(80.39e9), "80.4 G");
}

TEST(FormatSeconds, ThreeScales) {
  EXPECT_EQ(FormatSeconds(12.34), "12.3 s");
  EXPECT_EQ(FormatSeconds(245), "4m05s");
  EXPECT_EQ(FormatSeconds(3 * 3600 + 12 * 60), "3h12m");
  EXPECT_EQ(FormatSeconds(std::numeric_limits<double>::infinity()), "?");
  EXPECT_EQ(FormatSeconds(std::nan("")), "?");
}

TEST(FormatExact, ReadsBackAsTheSameBits) {
  for (uint64_t i = 0; i < 10000; ++i) {
    const auto words = RandomWords(3, RandomPurpose::kTest, 0, i);
    const double value = std::bit_cast<double>(uint64_t{words[0]} << 32 | words[1]);
    if (!std::isfinite(value)) continue;
    EXPECT_EQ(std::bit_cast<uint64_t>(std::strtod(FormatExact(value).c_str(), nullptr)),
              std::bit_cast<uint64_t>(value));
  }
  EXPECT_EQ(FormatExact(0.1), "0.1");
  EXPECT_NE(FormatExact(0.1), FormatExact(std::nextafter(0.1, 1)));
}

TEST(MatchesPattern, AStarStandsForAnything) {
  EXPECT_TRUE(MatchesPattern("layers.0.experts", "layers.*.experts"));
  EXPECT_TRUE(MatchesPattern("layers.0.experts", "*"));
  EXPECT_TRUE(MatchesPattern("layers.0.experts", "layers.0.experts"));
  EXPECT_TRUE(MatchesPattern("abab", "*ab"));
  EXPECT_TRUE(MatchesPattern("", "**"));
  EXPECT_FALSE(MatchesPattern("layers.0.experts", "layers.*.dense"));
  EXPECT_FALSE(MatchesPattern("layers.0.experts", "layers.0"));
  EXPECT_FALSE(MatchesPattern("layers.0", "layers.0.*"));
  EXPECT_FALSE(MatchesPattern("head", ""));
}

}  // namespace
}  // namespace angel_ptm
