// Compares convolutions and their gradients in fp32 and bf16 with plain fp64 loops and finite differences of these.
#include "tests/reference/conv2d.h"

#include <gtest/gtest.h>

#include <type_traits>

#include "absl/strings/str_cat.h"
#include "kernels/ops/conv2d.h"
#include "tests/support/bf16_testing.h"
#include "tests/support/op_table.h"

namespace angel_ptm {
namespace {

ConvShape ShapeOf(const reference::ConvolutionShape& z) {
  return {.b = z.b,
          .height = z.height,
          .width = z.width,
          .in = z.in,
          .out = z.out,
          .kernel = z.kernel,
          .stride = z.stride,
          .pad_before = z.pad_before,
          .pad_after = z.pad_after,
          .upsample = z.upsample};
}

template <typename Tensor>
struct Convolutions {
  explicit Convolutions(const reference::ConvolutionShape& shape)
      : z(ShapeOf(shape)),
        random(11),
        x(z.in_pixels() * z.in, random),
        weight(z.out * z.in * z.taps(), random),
        bias(z.out, random),
        dy(z.out_pixels() * z.out, random),
        y(dy.size()),
        plain(dy.size()),
        dx(x.size()),
        dweight(weight.size()) {}
  // dweight starts at two, and the gradient is added to it.
  void Run(int threads) {
    for (int64_t i = 0; i < dweight.size(); ++i) dweight[i] = 2;
    const Conv2dArgs args{.y = y, .x = x, .weight = weight, .bias = bias, .shape = z};
    const Conv2dGradInputArgs grad_input{.dx = dx, .dy = dy, .weight = weight, .shape = z};
    const Conv2dGradWeightArgs grad_weight{.dweight = dweight, .dy = dy, .x = x, .shape = z, .accumulate = true};
    EXPECT_TRUE(CpuKernels().conv2d.can_run(args).ok() && CpuKernels().conv2d_grad_input.can_run(grad_input).ok() &&
                CpuKernels().conv2d_grad_weight.can_run(grad_weight).ok());
    RunKernel(CpuKernels().conv2d, args, threads);
    RunKernel(CpuKernels().conv2d, {.y = plain, .x = x, .weight = weight, .shape = z}, threads);
    RunKernel(CpuKernels().conv2d_grad_input, grad_input, threads);
    RunKernel(CpuKernels().conv2d_grad_weight, grad_weight, threads);
  }

  ConvShape z;
  std::mt19937 random;
  Tensor x, weight, bias, dy, y, plain, dx;
  TestTensor dweight;  // fp32 beside bf16, too
};

std::string Describe(const ConvShape& z) {
  return absl::StrCat(z.b, "x", z.height, "x", z.width, " ", z.in, "->", z.out, " k", z.kernel, " s", z.stride, " p",
                      z.pad_before, z.pad_after, z.upsample > 1 ? absl::StrCat(" x", z.upsample) : "");
}

template <typename Tensor>
void CheckConv2d(const reference::ConvolutionShape& shape) {
  constexpr bool kIsBf16 = std::is_same_v<Tensor, Bf16Tensor>;
  Convolutions<Tensor> got(shape), threaded(shape);
  got.Run(1);
  for (const int threads : {2, 3, 5}) {
    threaded.Run(threads);
    EXPECT_TRUE(got.y.SameBits(threaded.y) && got.plain.SameBits(threaded.plain)) << threads;
    EXPECT_TRUE(got.dx.SameBits(threaded.dx) && got.dweight.SameBits(threaded.dweight)) << threads;
  }
  std::vector<double> x = got.x.ToDouble(), weight = got.weight.ToDouble();
  const std::vector<double> bias = got.bias.ToDouble(), dy = got.dy.ToDouble();
  std::vector<double> y(dy.size()), dx(x.size()), dweight(weight.size());
  reference::Conv2d(y.data(), x.data(), weight.data(), nullptr, shape);
  double forward_error = ErrorOfType(got.plain, y);
  reference::Conv2d(y.data(), x.data(), weight.data(), bias.data(), shape);
  forward_error = std::max(forward_error, ErrorOfType(got.y, y));
  reference::Conv2dGrad(dx.data(), dweight.data(), dy.data(), x.data(), weight.data(), shape);
  double gradient_error = ErrorOfType(got.dx, dx);
  TestTensor without_two(got.dweight.size());
  for (int64_t i = 0; i < without_two.size(); ++i) without_two[i] = got.dweight[i] - 2;
  if constexpr (!kIsBf16) {
    const auto loss = [&] {
      reference::Conv2d(y.data(), x.data(), weight.data(), bias.data(), shape);
      return Dot(y, dy);
    };
    gradient_error = std::max({gradient_error, FiniteDifferenceError(got.dx.data(), x, loss, 40),
                               FiniteDifferenceError(without_two.data(), weight, loss, 40)});
  }
  for (double& value : dweight) value += 2;
  gradient_error = std::max(gradient_error, ErrorOfType(got.dweight, dweight));
  EXPECT_LT(forward_error, 2e-6);
  EXPECT_LT(gradient_error, 3e-6);
  AddToOpTable({kIsBf16 ? "conv2d bf16" : "conv2d", Describe(got.z), forward_error, gradient_error});
}

class Conv2dTest : public testing::TestWithParam<reference::ConvolutionShape> {};

TEST_P(Conv2dTest, AgreesWithReference) {
  CheckConv2d<TestTensor>(GetParam());
  CheckConv2d<Bf16Tensor>(GetParam());
}

// One pixel, several tiles, odd sides, one axis longer than a tile, both paddings of a stride of 2, repeated pixels, a
// last tile of few rows, more outputs than one task of the weight's gradient covers.
INSTANTIATE_TEST_SUITE_P(Shapes, Conv2dTest,
                         testing::Values(reference::ConvolutionShape{1, 1, 1, 1, 1, 3, 1, 1, 1, 1},
                                         reference::ConvolutionShape{2, 5, 7, 3, 6, 3, 1, 1, 1, 1},
                                         reference::ConvolutionShape{1, 9, 67, 5, 4, 3, 1, 1, 1, 1},
                                         reference::ConvolutionShape{1, 8, 6, 7, 3, 3, 2, 0, 1, 1},
                                         reference::ConvolutionShape{2, 7, 9, 4, 5, 3, 2, 1, 1, 1},
                                         reference::ConvolutionShape{1, 13, 11, 6, 70, 3, 1, 1, 1, 2},
                                         reference::ConvolutionShape{1, 4, 4, 2, 3, 5, 3, 2, 1, 3},
                                         reference::ConvolutionShape{3, 6, 5, 33, 17, 1, 1, 0, 0, 1}));

TEST(Conv2dTest, NothingOutsideAnImageIsRead) {
  // Two images, the first one all NaN: its pixels must not reach the second image through the padding.
  const reference::ConvolutionShape shape{2, 3, 4, 2, 2, 3, 1, 1, 1, 1};
  Convolutions<TestTensor> a(shape);
  for (int64_t i = 0; i < a.x.size() / 2; ++i) a.x[i] = std::numeric_limits<float>::quiet_NaN();
  for (int64_t i = 0; i < a.dy.size() / 2; ++i) a.dy[i] = std::numeric_limits<float>::quiet_NaN();
  a.Run(1);
  for (int64_t i = a.y.size() / 2; i < a.y.size(); ++i) EXPECT_TRUE(std::isfinite(a.y[i])) << i;
  for (int64_t i = a.dx.size() / 2; i < a.dx.size(); ++i) EXPECT_TRUE(std::isfinite(a.dx[i])) << i;
}

TEST(Conv2dTest, ScratchMemoryIsATileWhateverTheImage) {
  const auto bytes = [](int64_t side, int threads) {
    const Conv2dArgs args{.shape = {.b = 1,
                                    .height = side,
                                    .width = side,
                                    .in = 128,
                                    .out = 128,
                                    .kernel = 3,
                                    .pad_before = 1,
                                    .pad_after = 1}};
    return WorkspaceBytes(args, threads);
  };
  EXPECT_EQ(bytes(1024, 2), bytes(128, 2));
  EXPECT_LE(bytes(1024, 1), int64_t{4} << 20);
}

}  // namespace
}  // namespace angel_ptm
