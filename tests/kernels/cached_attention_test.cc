#include "kernels/ops/cached_attention.h"

#include <gtest/gtest.h>

#include "absl/strings/str_cat.h"
#include "tests/reference/attention.h"
#include "tests/support/kernel_testing.h"
#include "tests/support/op_table.h"

namespace angel_ptm {
namespace {

struct CachedAttentionShape {
  int64_t b, s, q_heads, kv_heads, d;
};

class CachedAttentionTest : public testing::TestWithParam<CachedAttentionShape> {};

// Decoding a row token by token gives the same as attention over the whole row.
TEST_P(CachedAttentionTest, AgreesWithReference) {
  const auto [b, s, q_heads, kv_heads, d] = GetParam();
  const int64_t s_max = s + 2, q_row = q_heads * d, k_row = kv_heads * d, v_stride = q_row + 2 * k_row;
  const float scale = 0.3f;
  std::mt19937 random(26);
  TestTensor q(b * s * q_row, random), k(b * s * k_row, random), v(b * s * k_row, random);
  TestTensor k_cache(b * s_max * k_row), v_cache(b * s_max * k_row), k_cache2(b * s_max * k_row),
      v_cache2(b * s_max * k_row);
  TestTensor o(b * s * q_row);
  for (int32_t position = 0; position < s; ++position) {
    TestTensor q_now(b * q_row), k_now(b * k_row), qkv_now(b * v_stride), o_now(b * q_row), o_now2(b * q_row);
    for (int64_t row = 0; row < b; ++row) {
      const int64_t token = row * s + position;
      std::copy_n(q.data() + token * q_row, q_row, q_now.data() + row * q_row);
      std::copy_n(k.data() + token * k_row, k_row, k_now.data() + row * k_row);
      std::copy_n(v.data() + token * k_row, k_row, qkv_now.data() + row * v_stride + q_row + k_row);
    }
    CachedAttentionArgs args = {.o = o_now,
                                .k_cache = k_cache,
                                .v_cache = v_cache,
                                .q = q_now,
                                .k = k_now,
                                .v = {qkv_now.data() + q_row + k_row},
                                .v_stride = v_stride,
                                .position = &position,
                                .b = b,
                                .s_max = s_max,
                                .q_heads = q_heads,
                                .kv_heads = kv_heads,
                                .d = d,
                                .scale = scale};
    CpuKernels().cached_attention(args, TestContext(1));
    args.o = o_now2;
    args.k_cache = k_cache2;
    args.v_cache = v_cache2;
    CpuKernels().cached_attention(args, TestContext(2));
    ASSERT_TRUE(o_now.SameBits(o_now2));
    for (int64_t row = 0; row < b; ++row) {
      std::copy_n(o_now.data() + row * q_row, q_row, o.data() + (row * s + position) * q_row);
    }
  }
  EXPECT_TRUE(k_cache.SameBits(k_cache2) && v_cache.SameBits(v_cache2));
  for (int64_t row = 0; row < b; ++row) {
    EXPECT_EQ(std::memcmp(k_cache.data() + row * s_max * k_row, k.data() + row * s * k_row, s * k_row * 4), 0);
    EXPECT_TRUE(std::isnan(v_cache[(row * s_max + s) * k_row]));  // rows behind the position stay untouched
  }
  std::vector<double> want(b * s * q_row);
  const std::vector<int32_t> segment_start(b * s, 0);
  reference::Attention(want.data(), nullptr, q.ToDouble().data(), k.ToDouble().data(), v.ToDouble().data(),
                       segment_start.data(), {b, s, q_heads, kv_heads, d, static_cast<double>(scale)});
  const double error = ScaledError(o, want);
  EXPECT_LT(error, 2e-6);
  AddToOpTable(
      {"cached_attention", absl::StrCat("B=", b, " S=", s, " Q=", q_heads, " G=", kv_heads, " D=", d), error, {}});
}

INSTANTIATE_TEST_SUITE_P(Shapes, CachedAttentionTest,
                         testing::Values(CachedAttentionShape{1, 1, 1, 1, 2}, CachedAttentionShape{2, 3, 4, 2, 8},
                                         CachedAttentionShape{1, 66, 2, 1, 80}, CachedAttentionShape{3, 17, 4, 4, 64},
                                         CachedAttentionShape{1, 130, 4, 1, 128}));

}  // namespace
}  // namespace angel_ptm
