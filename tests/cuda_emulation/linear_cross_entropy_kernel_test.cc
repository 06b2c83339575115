// Losses of a linear layer and their gradients.
#include <cmath>
#include <limits>

#include "kernels/ops/linear_cross_entropy.h"
#include "tests/cuda_emulation/kernel_runs.h"
#include "tests/reference/linear_cross_entropy.h"

namespace angel_ptm::emulated {
namespace {

struct LossShape {
  std::int64_t t, h, v, chunk_tokens;
};

// Operands of S, dweight of T.
template <typename T, typename S>
struct Loss {
  explicit Loss(const LossShape& z)
      : shape(z),
        random(24),
        x(RandomElements<S>(z.t * z.h, random)),
        weight(RandomElements<S>(z.v * z.h, random, 0.5f)),
        before(RandomElements<T>(z.v * z.h, random)) {
    // Every fifth target is masked; the others cover the first and last token of the vocabulary.
    for (std::int64_t i = 0; i < z.t; ++i) {
      targets.push_back(i % 5 == 4 ? -1 : static_cast<std::int32_t>(i * (z.v - 1) % z.v));
    }
  }
  void Run(bool accumulate, bool with_gradients, int seeds) {
    DeviceArray<S> device_x(x), device_weight(weight), device_dx(shape.t * shape.h);
    DeviceArray<T> device_dweight(before);
    DeviceArray<float> device_loss(shape.t);
    DeviceArray<std::int32_t> device_targets(targets);
    LinearCrossEntropyArgs args = {.token_loss = Out(device_loss)};
    if (with_gradients) args.dx = Out(device_dx), args.dweight = Out(device_dweight);
    args.x = In(device_x), args.weight = In(device_weight), args.targets = device_targets.data();
    args.t = shape.t, args.h = shape.h, args.v = shape.v, args.chunk_tokens = shape.chunk_tokens;
    args.accumulate_dweight = accumulate;
    DeviceArray<float> workspace(cuda::WorkspaceBytes(args) / 4);
    const cuda::LaunchContext context = {.workspace = reinterpret_cast<std::byte*>(workspace.data())};
    const auto prepare = [&] { device_dweight.Set(before); };
    loss = RunClean([&] { cuda::LaunchLinearCrossEntropy(args, context); }, device_loss, prepare, seeds);
    dx = device_dx.Get(), dweight = device_dweight.Get();
  }

  LossShape shape;
  std::mt19937 random;
  std::vector<S> x, weight, dx;
  std::vector<T> before, dweight;
  std::vector<std::int32_t> targets;
  std::vector<float> loss;
};

// With bf16 operands, gradients of logits are rounded to bf16, which averages out; dx and a bf16 dweight are rounded in
// addition.
template <typename T, typename S>
void TestLoss(const LossShape& z, bool accumulate, int seeds) {
  SCOPED_TRACE(testing::Message() << z.t << " x " << z.h << " of " << z.v << " by " << z.chunk_tokens);
  Loss<T, S> got(z);
  got.Run(accumulate, true, seeds);
  std::vector<double> loss(got.loss.size()), dx(got.x.size()), dweight(got.weight.size());
  reference::LinearCrossEntropy(loss.data(), dx.data(), dweight.data(), ToDoubles(got.x).data(),
                                ToDoubles(got.weight).data(), got.targets.data(), z.t, z.h, z.v);
  for (std::size_t i = 0; accumulate && i < dweight.size(); ++i) {
    dweight[i] += static_cast<double>(ToFloat(got.before[i]));
  }
  EXPECT_LT(ErrorOf(got.loss, loss), 2e-6);
  EXPECT_LT(ErrorOf(got.dx, dx), IsFp32<S>() ? 2e-6 : 0.003);
  EXPECT_LT(ErrorOf(got.dweight, dweight), IsFp32<S>() ? 2e-6 : 0.003);
  for (std::size_t i = 4; i < got.targets.size(); i += 5) {
    EXPECT_EQ(got.loss[i], 0);
    for (std::int64_t j = 0; j < z.h; ++j) {
      EXPECT_EQ(ToFloat(got.dx[i * static_cast<std::size_t>(z.h) + static_cast<std::size_t>(j)]), 0);
    }
  }
  Loss<T, S> without(z);
  without.Run(accumulate, false, 0);
  EXPECT_TRUE(SameBits(without.loss, got.loss));
  EXPECT_TRUE(SameBits(without.dweight, without.before));
}

TEST(CudaLinearCrossEntropyTest, AgreesWithTheReference) {
  TestLoss<float, BFloat16>({1, 8, 1, 4}, false, 1);
  TestLoss<BFloat16, BFloat16>({13, 24, 44, 8}, true, 1);
  TestLoss<float, BFloat16>({9, 16, 2200, 5}, true, 0);  // more than a piece of what a block overwrites
}

TEST(CudaLinearCrossEntropyTest, Fp32AgreesWithTheReference) {
  TestLoss<float, float>({1, 8, 1, 4}, false, 1);
  TestLoss<float, float>({13, 22, 43, 8}, true, 1);
  TestLoss<float, float>({7, 16, 2200, 5}, false, 0);
}

// A diverged token shows in its own results and in no others.
TEST(CudaLinearCrossEntropyTest, NanStaysWithItsToken) {
  const LossShape z = {4, 8, 40, 4};
  Loss<float, BFloat16> got(z);
  got.x[static_cast<std::size_t>(2 * z.h)] = ToBFloat16(std::numeric_limits<float>::quiet_NaN());
  got.Run(false, true, 0);
  for (std::size_t i = 0; i < 4; ++i) {
    EXPECT_EQ(std::isnan(got.loss[i]), i == 2) << i;
    EXPECT_EQ(std::isnan(ToFloat(got.dx[i * static_cast<std::size_t>(z.h)])), i == 2) << i;
  }
}

}  // namespace
}  // namespace angel_ptm::emulated
