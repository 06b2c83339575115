// Element types, shapes and digests.
#include <gtest/gtest.h>

#include <cmath>
#include <set>

#include "angel_ptm/base/check.h"
#include "angel_ptm/base/dtype.h"
#include "angel_ptm/base/float16.h"
#include "angel_ptm/base/hash.h"
#include "angel_ptm/base/shape.h"
#include "angel_ptm/base/status.h"

namespace angel_ptm {
namespace {

TEST(DType, SizesAndNames) {
  EXPECT_EQ(SizeOf(DType::kFloat32), 4);
  EXPECT_EQ(SizeOf(DType::kBFloat16), 2);
  EXPECT_EQ(SizeOf(DType::kInt32), 4);
  EXPECT_EQ(SizeOf(DType::kUInt8), 1);
  EXPECT_STREQ(Name(DType::kFloat32), "F32");
  EXPECT_STREQ(Name(DType::kBFloat16), "BF16");
  EXPECT_STREQ(Name(DType::kInt32), "I32");
  EXPECT_STREQ(Name(DType::kUInt8), "U8");
  EXPECT_EQ(SizeOf(DType::kFloat16), 2);
  EXPECT_STREQ(Name(DType::kFloat16), "F16");
  EXPECT_EQ(SizeOf(DType::kInt64), 8);
  EXPECT_STREQ(Name(DType::kInt64), "I64");
}

TEST(Float16, EveryValueIsExact) {
  int numbers = 0;
  for (uint32_t bits = 0; bits < 0x10000; ++bits) {
    const float value = ToFloat(Float16{static_cast<uint16_t>(bits)});
    const int exponent = static_cast<int>((bits >> 10) & 31), fraction = static_cast<int>(bits & 1023);
    ASSERT_EQ(std::signbit(value), bits >= 0x8000) << bits;
    if (exponent == 31) {
      ASSERT_EQ(fraction == 0 ? std::isinf(value) : std::isnan(value), true) << bits;
      continue;
    }
    const double magnitude = exponent == 0 ? std::ldexp(fraction, -24) : std::ldexp(1024 + fraction, exponent - 25);
    ASSERT_EQ(std::abs(static_cast<double>(value)), magnitude) << bits;
    ++numbers;
  }
  EXPECT_EQ(numbers, 2 * 31 * 1024);
}

TEST(Shape, ElementsAndText) {
  EXPECT_EQ(Shape().elements(), 1);
  EXPECT_EQ(Shape().rank(), 0);
  EXPECT_EQ((Shape{3, 4, 5}).elements(), 60);
  EXPECT_EQ((Shape{3, 0}).elements(), 0);
  EXPECT_EQ((Shape{128167, 4096, 64}).elements(), int64_t{128167} * 4096 * 64);  // beyond 32 bits
  EXPECT_EQ((Shape{3, 4}).ToString(), "[3, 4]");
  const int64_t dims[] = {7, 8};
  EXPECT_EQ(Shape(dims, dims + 2), (Shape{7, 8}));
  EXPECT_NE((Shape{3, 4}), (Shape{4, 3}));
  EXPECT_NE((Shape{3}), (Shape{3, 1}));
}

TEST(ShapeDeathTest, MoreElementsThanCanBeCounted) {
  const int64_t large = (int64_t{1} << 62) - 1;
  EXPECT_EQ((Shape{0, large, large}).elements(), 0);
  EXPECT_DEATH((Shape{large, large, 0}).elements(),
               "too many elements: \\[4611686018427387903, 4611686018427387903, 0");
}

TEST(Hasher, SeparatesWhatDiffers) {
  std::set<uint64_t> digests;
  int count = 0;
  const auto add = [&](uint64_t digest) {
    digests.insert(digest);
    ++count;
  };
  for (uint64_t a = 0; a < 50; ++a) {
    for (uint64_t b = 0; b < 50; ++b) add(Hasher().Mix(a).Mix(b).Digest());
  }
  for (uint64_t a = 0; a < 50; ++a) add(Hasher().Mix(a).Digest());
  for (const char* text : {"a", "b", "ab", "ba", "abc"}) add(Hasher().Mix(std::string_view(text)).Digest());
  add(Hasher().Mix(std::string_view("a")).Mix(std::string_view("b")).Digest());  // not the same as "ab"
  EXPECT_EQ(static_cast<int>(digests.size()), count);
  EXPECT_EQ(Hasher().Mix(1).Mix(2).Digest(), Hasher().Mix(1).Mix(2).Digest());
}

absl::StatusOr<int> Half(int x) {
  if (x % 2 != 0) return absl::InvalidArgumentError("odd");
  return x / 2;
}
absl::StatusOr<int> Quarter(int x) {
  ASSIGN_OR_RETURN(const int half, Half(x));
  ASSIGN_OR_RETURN(const int quarter, Half(half));
  return quarter;
}
absl::Status CheckQuarter(int x) {
  RETURN_IF_ERROR(Quarter(x).status());
  return absl::OkStatus();
}

TEST(StatusMacros, PassErrorsOn) {
  EXPECT_EQ(*Quarter(8), 2);
  EXPECT_EQ(Quarter(6).status().message(), "odd");
  EXPECT_TRUE(CheckQuarter(4).ok());
  EXPECT_FALSE(CheckQuarter(3).ok());
}

TEST(CheckDeathTest, PrintsConditionAndMessage) {
  const int pages = 3;
  EXPECT_DEATH(APTM_CHECK(pages == 4, "pages is ", pages),
               "types_test.cc:[0-9]+: check failed: pages == 4: pages is 3");
}

}  // namespace
}  // namespace angel_ptm
