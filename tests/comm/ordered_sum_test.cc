// Compares the sum of gradients bit for bit with the plainest loop: few and many addends, results that do and do not
// fit a cache, every alignment, with the result apart from the addends or in the place of one.
#include "comm/ordered_sum.h"

#include <gtest/gtest.h>

#include <bit>
#include <cstdint>
#include <vector>

#include "angel_ptm/base/bfloat16.h"
namespace angel_ptm {
namespace {

float Value(int rank, int64_t i) {
  return static_cast<float>((i * 7919 + rank * 104729) % 1000003 - 500000) *
         std::bit_cast<float>(static_cast<uint32_t>(110 + (i + 5 * rank) % 30) << 23);
}

void Check(int ranks, int64_t n, int64_t offset, bool accumulate, int in_place_of) {
  std::vector<std::vector<float>> x(static_cast<size_t>(ranks));
  std::vector<const std::byte*> addends;
  for (int r = 0; r < ranks; ++r) {
    for (int64_t i = -offset; i < n + 1; ++i) x[r].push_back(i < 0 || i == n ? -1 : Value(r, i));
    addends.push_back(reinterpret_cast<const std::byte*>(x[r].data() + offset));
  }
  std::vector<float> apart(static_cast<size_t>(offset + n + 1), -1);
  std::vector<float>& result = in_place_of < 0 ? apart : x[in_place_of];
  const std::vector<float> before = result;
  OrderedSum(result.data() + offset, addends, DType::kFloat32, n, accumulate);
  for (int64_t i = 0; i < n; ++i) {
    float s = Value(0, i);
    for (int r = 1; r < ranks; ++r) s += Value(r, i);
    if (accumulate) s = before[offset + i] + s;
    ASSERT_EQ(std::bit_cast<uint32_t>(result[offset + i]), std::bit_cast<uint32_t>(s))
        << ranks << " addends of " << n << ", offset " << offset << ", in place of " << in_place_of << ", at " << i;
  }
  for (int64_t i = 0; i < offset; ++i) ASSERT_EQ(result[i], -1);
  ASSERT_EQ(result[offset + n], -1);
}

TEST(OrderedSumTest, IsThePlainLoopsBitForBit) {
  for (const int ranks : {1, 2, 3, 5}) {
    for (const int64_t n : {0, 1, 3, 1023, 1025, 5000}) {
      for (const int64_t offset : {0, 1, 2, 3}) {
        for (const bool accumulate : {false, true}) {
          for (int in_place_of = -1; in_place_of < ranks; ++in_place_of) {
            Check(ranks, n, offset, accumulate, in_place_of);
          }
        }
      }
    }
  }
}

TEST(OrderedSumTest, Bf16IsSummedAsTheFp32ValuesItIs) {
  for (const int ranks : {1, 2, 3, 5}) {
    for (const int64_t n : {0, 1, 1023, 5000, 300001}) {
      for (const bool accumulate : {false, true}) {
        std::vector<std::vector<BFloat16>> x(static_cast<size_t>(ranks), std::vector<BFloat16>(static_cast<size_t>(n)));
        std::vector<const std::byte*> addends;
        for (int r = 0; r < ranks; ++r) {
          for (int64_t i = 0; i < n; ++i) x[r][i] = ToBFloat16(Value(r, i));
          addends.push_back(reinterpret_cast<const std::byte*>(x[r].data()));
        }
        std::vector<float> result(static_cast<size_t>(n), 0.75f);
        OrderedSum(result.data(), addends, DType::kBFloat16, n, accumulate);
        std::vector<BFloat16> rounded(static_cast<size_t>(n));
        OrderedSumRounded(rounded.data(), addends, DType::kBFloat16, n);
        for (int64_t i = 0; i < n; ++i) {
          float s = ToFloat(x[0][i]);
          for (int r = 1; r < ranks; ++r) s += ToFloat(x[r][i]);
          ASSERT_EQ(rounded[i], ToBFloat16(s)) << ranks << " addends, at " << i;
          if (accumulate) s = 0.75f + s;
          ASSERT_EQ(std::bit_cast<uint32_t>(result[i]), std::bit_cast<uint32_t>(s)) << ranks << " addends, at " << i;
        }
      }
    }
  }
}

TEST(OrderedSumTest, SoItIsWhereTheResultOutgrowsTheCache) {
  constexpr int64_t kLarge = (int64_t{1} << 18) + 3;  // floats
  for (const int ranks : {2, 3}) {
    for (const int64_t offset : {0, 1, 4}) {
      for (const int in_place_of : {-1, 0, ranks - 1}) Check(ranks, kLarge, offset, false, in_place_of);
    }
  }
}

}  // namespace
}  // namespace angel_ptm
