// Matrix products: bf16 on the tensor cores of sm_80 and of sm_90a, fp32 by FMA.
#include "kernels/ops/matmul.h"
#include "tests/cuda_emulation/kernel_runs.h"
#include "tests/reference/matmul.h"

namespace angel_ptm::emulated {
namespace {

struct MatmulShape {
  std::int64_t m, n, k;
};

using Launcher = void (*)(const MatmulArgs&, const cuda::LaunchContext&);

// Operands of S, a result of T.
template <typename T, typename S = BFloat16>
void TestMatmul(const MatmulShape& s, bool trans_a, bool trans_b, bool accumulate, int seeds,
                Launcher launcher = &cuda::LaunchMatmul) {
  SCOPED_TRACE(testing::Message() << s.m << " x " << s.n << " x " << s.k << " trans " << trans_a << trans_b);
  std::mt19937 random(13);
  const auto a = RandomElements<S>(s.m * s.k, random), b = RandomElements<S>(s.k * s.n, random);
  const auto before = RandomElements<T>(s.m * s.n, random);
  std::vector<double> want(static_cast<std::size_t>(s.m * s.n));
  reference::Matmul(want.data(), ToDoubles(a).data(), ToDoubles(b).data(), s.m, s.n, s.k, trans_a, trans_b);
  for (std::size_t i = 0; accumulate && i < want.size(); ++i) want[i] += static_cast<double>(ToFloat(before[i]));
  DeviceArray<S> device_a(a), device_b(b);
  DeviceArray<T> c(before);
  MatmulArgs args = {.c = Out(c), .a = In(device_a), .b = In(device_b), .m = s.m, .n = s.n, .k = s.k};
  args.trans_a = trans_a, args.trans_b = trans_b, args.accumulate = accumulate;
  const auto got = RunClean([&] { launcher(args, {}); }, c, [&] { c.Set(before); }, seeds);
  EXPECT_LT(ErrorOf(got, want), 1e-6);
}

// Nine steps go three times round the ring of three stages.
TEST(CudaMatmulTest, AgreesWithTheReference) {
  for (const bool trans_a : {false, true}) {
    for (const bool trans_b : {false, true}) {
      TestMatmul<BFloat16>({136, 72, 288}, trans_a, trans_b, false, 1);
      TestMatmul<float>({37, 21, 75}, trans_a, trans_b, true, 1);
    }
  }
  TestMatmul<float>({1, 1, 1}, false, true, false, 2);
  TestMatmul<BFloat16>({8, 136, 8}, false, false, true, 2);
}

// Across the boundaries of tiles and of steps of 8.
TEST(CudaMatmulTest, Fp32AgreesWithTheReference) {
  for (const bool trans_a : {false, true}) {
    for (const bool trans_b : {false, true}) {
      TestMatmul<float, float>({136, 196, 72}, trans_a, trans_b, false, 1);
      TestMatmul<float, float>({37, 21, 75}, trans_a, trans_b, true, 1);
      TestMatmul<float, float>({4, 129, 20}, trans_a, trans_b, false, 0);
    }
  }
  TestMatmul<float, float>({1, 1, 1}, false, true, false, 2);
}

// Twelve steps go three times round the ring of four stages, and across tile boundaries.
TEST(CudaMatmulSm90aTest, AgreesWithTheReference) {
  const Launcher launcher = &cuda::LaunchMatmulSm90a;
  for (const bool trans_a : {false, true}) {
    for (const bool trans_b : {false, true}) {
      TestMatmul<BFloat16>({136, 264, 712}, trans_a, trans_b, false, 1, launcher);
      TestMatmul<float>({72, 40, 8}, trans_a, trans_b, true, 1, launcher);
    }
  }
  TestMatmul<float>({1, 3, 72}, false, true, false, 2, launcher);  // adjacent results that cannot be stored together
  TestMatmul<BFloat16>({9, 5, 72}, false, true, true, 0, launcher);
  TestMatmul<BFloat16>({9, 6, 72}, false, true, true, 0, launcher);
  TestMatmul<BFloat16>({135 * 128, 8, 72}, false, true, false, 0, launcher);  // more tiles than blocks
}

}  // namespace
}  // namespace angel_ptm::emulated
