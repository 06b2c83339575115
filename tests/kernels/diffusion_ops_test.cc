// Compares the ops that diffusion transformers add, in fp32 and bf16, with fp64 references and finite differences of
// these.
#include <gtest/gtest.h>

#include <type_traits>
#include <utility>

#include "absl/strings/str_cat.h"
#include "kernels/ops/add_rows.h"
#include "kernels/ops/gated_add.h"
#include "kernels/ops/layer_norm.h"
#include "kernels/ops/mean_pool.h"
#include "kernels/ops/norm_rope.h"
#include "kernels/ops/silu.h"
#include "kernels/ops/weighted_mse.h"
#include "tests/reference/modulated_norm.h"
#include "tests/reference/norm_rope.h"
#include "tests/reference/samples.h"
#include "tests/support/bf16_testing.h"
#include "tests/support/op_table.h"

namespace angel_ptm {
namespace {

template <typename Tensor>
constexpr bool kIsBf16Tensor = std::is_same_v<Tensor, Bf16Tensor>;

std::string Row(const char* op, bool bf16) { return absl::StrCat(op, bf16 ? " bf16" : ""); }

// For fp32 results, whose own errors show in finite differences.
template <typename Tensor>
double DifferenceError(const Tensor& gradient, std::vector<double>& x, const std::function<double()>& loss) {
  if constexpr (kIsBf16Tensor<Tensor>) return 0;
  if constexpr (!kIsBf16Tensor<Tensor>) return FiniteDifferenceError(gradient.data(), x, loss);
}

// What a call must not change.
template <typename Tensor>
void Clear(Tensor& x, float value) {
  for (int64_t i = 0; i < x.size(); ++i) {
    if constexpr (kIsBf16Tensor<Tensor>) x.Set(i, value);
    if constexpr (!kIsBf16Tensor<Tensor>) x[i] = value;
  }
}

struct NormCase {
  int64_t b, s, h;
  bool affine, shift, scale;
};

// All operands of LayerNorm and its gradient; modulation has other columns on both sides.
template <typename Tensor>
struct LayerNorms {
  explicit LayerNorms(const NormCase& c)
      : z(c),
        random(3),
        width(2 * c.h + 5),
        x(c.b * c.s * c.h, random, 2.0f),
        weight(c.h, random),
        bias(c.h, random),
        modulation(c.b * width, random),
        dy(x.size(), random),
        dsum(x.size(), random),
        y(x.size()),
        dx(x.size()),
        dweight(c.h),
        dbias(c.h),
        dmodulation(c.b * width),
        statistics(2 * c.b * c.s) {
    Clear(dmodulation, 7.0f);
    Clear(dweight, 1.0f);
    Clear(dbias, -1.0f);
  }
  void Run(int threads) {
    LayerNormArgs args{.y = y, .statistics = statistics, .x = x, .b = z.b, .s = z.s, .h = z.h};
    LayerNormGradArgs grad{.dx = dx, .dy = dy, .dsum = dsum, .x = x, .statistics = statistics};
    grad.b = z.b, grad.s = z.s, grad.h = z.h;
    grad.accumulate_dweight = true;
    if (z.affine) {
      args.weight = grad.weight = weight;
      args.bias = grad.bias = bias;
      grad.dweight = dweight;
      grad.dbias = dbias;
    }
    if (z.shift) {
      args.modulation = grad.modulation = modulation;
      grad.dmodulation = dmodulation;
      args.modulation_width = grad.modulation_width = width;
      args.shift_at = grad.shift_at = 3;
      args.scale_at = grad.scale_at = z.scale ? 3 + z.h : -1;
    }
    EXPECT_TRUE(CpuKernels().layer_norm.can_run(args).ok() && CpuKernels().layer_norm_grad.can_run(grad).ok());
    RunKernel(CpuKernels().layer_norm, args, threads);
    RunKernel(CpuKernels().layer_norm_grad, grad, threads);
  }
  std::vector<double> Columns(const Tensor& of, int64_t at) const {
    const std::vector<double> all = of.ToDouble();
    std::vector<double> columns;
    for (int64_t i = 0; i < z.b * z.h; ++i) columns.push_back(all[i / z.h * width + at + i % z.h]);
    return columns;
  }

  NormCase z;
  std::mt19937 random;
  int64_t width;
  Tensor x, weight, bias, modulation, dy, dsum, y, dx, dweight, dbias, dmodulation;
  TestTensor statistics;
};

template <typename Tensor>
double MaxDifference(const LayerNorms<Tensor>& got, int64_t at, const std::vector<double>& want) {
  const std::vector<double> columns = got.Columns(got.dmodulation, at);
  double error = 0, magnitude = 0;
  for (size_t i = 0; i < want.size(); ++i) {
    const double rounding = kIsBf16Tensor<Tensor> ? HalfBf16Ulp(want[i]) : 0;
    error = std::max(error, std::abs(columns[i] - want[i]) - rounding);
    magnitude = std::max(magnitude, std::abs(want[i]));
  }
  return error / magnitude;
}

class LayerNormTest : public testing::TestWithParam<NormCase> {};

template <typename Tensor>
void CheckLayerNorm(const NormCase& c) {
  LayerNorms<Tensor> got(c), threaded(c);
  got.Run(1);
  threaded.Run(3);
  EXPECT_TRUE(got.y.SameBits(threaded.y) && got.dx.SameBits(threaded.dx) &&
              got.statistics.SameBits(threaded.statistics));
  EXPECT_TRUE(!c.affine || (got.dweight.SameBits(threaded.dweight) && got.dbias.SameBits(threaded.dbias)));
  EXPECT_TRUE(got.dmodulation.SameBits(threaded.dmodulation));

  std::vector<double> x = got.x.ToDouble(), weight = got.weight.ToDouble(), bias = got.bias.ToDouble();
  std::vector<double> shift = got.Columns(got.modulation, 3), scale = got.Columns(got.modulation, 3 + c.h);
  const std::vector<double> dy = got.dy.ToDouble(), dsum = got.dsum.ToDouble();
  const reference::ModulatedNorm norm{c.b,
                                      c.s,
                                      c.h,
                                      static_cast<double>(1e-6f),
                                      c.affine ? weight.data() : nullptr,
                                      c.affine ? bias.data() : nullptr,
                                      c.scale ? scale.data() : nullptr,
                                      c.shift ? shift.data() : nullptr};
  std::vector<double> y(x.size()), dx(x.size()), dweight(c.h), dbias(c.h), dscale(c.b * c.h), dshift(c.b * c.h);
  reference::LayerNorm(y.data(), x.data(), norm);
  reference::LayerNormGrad({dx.data(), dweight.data(), dbias.data(), dscale.data(), dshift.data()}, dy.data(), x.data(),
                           norm);
  const auto loss = [&] {
    reference::LayerNorm(y.data(), x.data(), norm);
    return Dot(y, dy);
  };
  const double forward_error = ErrorOfType(got.y, y);
  for (int64_t i = 0; i < c.b * c.s * c.h; ++i) dx[i] += dsum[i];
  double gradient_error = ErrorOfType(got.dx, dx);
  const auto with_sum = [&] { return loss() + Dot(x, dsum); };
  gradient_error = std::max(gradient_error, DifferenceError(got.dx, x, with_sum));
  if (c.affine) {
    for (int64_t i = 0; i < c.h; ++i) dweight[i] += 1, dbias[i] -= 1;
    gradient_error = std::max({gradient_error, ErrorOfType(got.dweight, dweight), ErrorOfType(got.dbias, dbias)});
  }
  if (c.shift) gradient_error = std::max(gradient_error, MaxDifference(got, 3, dshift));
  if (c.scale) gradient_error = std::max(gradient_error, MaxDifference(got, 3 + c.h, dscale));
  EXPECT_LT(forward_error, 2e-6);
  EXPECT_LT(gradient_error, 4e-6);
  const std::vector<double> dmodulation = got.dmodulation.ToDouble();
  const int64_t end = 3 + (c.scale ? 2 : c.shift ? 1 : 0) * c.h;
  for (int64_t i = 0; i < c.b * got.width; ++i) {
    const int64_t column = i % got.width;
    if (column >= 3 && column < end) continue;
    ASSERT_EQ(dmodulation[i], 7) << "column " << column << " was written";
  }
  AddToOpTable({Row("layer_norm", kIsBf16Tensor<Tensor>),
                absl::StrCat("B=", c.b, " S=", c.s, " H=", c.h, c.affine ? " affine" : "", c.shift ? " shift" : "",
                             c.scale ? " scale" : ""),
                forward_error, gradient_error});
}

TEST_P(LayerNormTest, AgreesWithReference) {
  CheckLayerNorm<TestTensor>(GetParam());
  CheckLayerNorm<Bf16Tensor>(GetParam());
}

INSTANTIATE_TEST_SUITE_P(Shapes, LayerNormTest,
                         testing::Values(NormCase{1, 1, 2, false, false, false},
                                         NormCase{1, 37, 48, true, false, false},
                                         NormCase{3, 17, 33, false, true, true},
                                         NormCase{2, 70, 65, false, true, false}, NormCase{5, 3, 20, true, true, true},
                                         NormCase{2, 40, 300, true, true, true}));

TEST(LayerNormTest, RowsFarFromZeroKeepTheirDigits) {
  const int64_t h = 64;
  std::mt19937 random(5);
  TestTensor x(h, random), shifted(h), y(h), y_shifted(h), statistics(2);
  for (int64_t i = 0; i < h; ++i) {
    x[i] = std::round(x[i] * 16) / 16;
    shifted[i] = x[i] + 4096;
  }
  for (auto [from, to] : {std::pair(&x, &y), std::pair(&shifted, &y_shifted)}) {
    RunKernel(CpuKernels().layer_norm, {.y = *to, .statistics = statistics, .x = *from, .b = 1, .s = 1, .h = h}, 1);
  }
  EXPECT_LT(ScaledError(y_shifted, y.ToDouble()), 1e-3);
}

struct GatedCase {
  int64_t b, s, h;
};
class GatedAddTest : public testing::TestWithParam<GatedCase> {};

template <typename Tensor>
void CheckGatedAdd(const GatedCase& c) {
  const int64_t n = c.b * c.s * c.h, width = c.h + 4, at = 3;
  std::mt19937 random(4);
  Tensor x(n, random), delta(n, random), modulation(c.b * width, random), dy(n, random);
  Tensor y(n), ddelta(n), dmodulation(c.b * width), y2(n), ddelta2(n), dmodulation2(c.b * width);
  const auto run = [&](Tensor& to_y, Tensor& to_ddelta, Tensor& to_dmodulation, int threads) {
    Clear(to_dmodulation, 7.0f);
    const GatedAddArgs args{to_y, x, delta, modulation, c.b, c.s, c.h, width, at};
    const GatedAddGradArgs grad{to_ddelta, to_dmodulation, dy, delta, modulation, c.b, c.s, c.h, width, at};
    EXPECT_TRUE(CpuKernels().gated_add.can_run(args).ok() && CpuKernels().gated_add_grad.can_run(grad).ok());
    RunKernel(CpuKernels().gated_add, args, threads);
    RunKernel(CpuKernels().gated_add_grad, grad, threads);
  };
  run(y, ddelta, dmodulation, 1);
  run(y2, ddelta2, dmodulation2, 3);
  EXPECT_TRUE(y.SameBits(y2) && ddelta.SameBits(ddelta2) && dmodulation.SameBits(dmodulation2));

  const std::vector<double> modulation64 = modulation.ToDouble(), dmodulation64 = dmodulation.ToDouble();
  std::vector<double> gate, want(n), want_ddelta(n), want_dgate(c.b * c.h), delta64 = delta.ToDouble();
  for (int64_t i = 0; i < c.b * c.h; ++i) gate.push_back(modulation64[i / c.h * width + at + i % c.h]);
  const std::vector<double> x64 = x.ToDouble(), dy64 = dy.ToDouble();
  reference::GatedAdd(want.data(), x64.data(), delta64.data(), gate.data(), c.b, c.s, c.h);
  reference::GatedAddGrad(want_ddelta.data(), want_dgate.data(), dy64.data(), delta64.data(), gate.data(), c.b, c.s,
                          c.h);
  const double forward_error = ErrorOfType(y, want);
  double gradient_error = ErrorOfType(ddelta, want_ddelta), largest = 0, off = 0;
  const auto loss = [&] {
    reference::GatedAdd(want.data(), x64.data(), delta64.data(), gate.data(), c.b, c.s, c.h);
    return Dot(want, dy64);
  };
  gradient_error = std::max(gradient_error, DifferenceError(ddelta, delta64, loss));
  for (int64_t i = 0; i < c.b * width; ++i) {
    const int64_t column = i % width - at;
    if (column < 0 || column >= c.h) {
      ASSERT_EQ(dmodulation64[i], 7) << i;
      continue;
    }
    const double dgate = want_dgate[i / width * c.h + column];
    off = std::max(off, std::abs(dmodulation64[i] - dgate) - (kIsBf16Tensor<Tensor> ? HalfBf16Ulp(dgate) : 0));
    largest = std::max(largest, std::abs(dgate));
  }
  gradient_error = std::max(gradient_error, off / largest);
  EXPECT_LT(forward_error, 5e-7);
  EXPECT_LT(gradient_error, 2e-6);
  // Without x the result is the product, as with zeros for x.
  Tensor zeros(n), product(n), of_zeros(n);
  Clear(zeros, 0.0f);
  const GatedAddArgs alone{product, {}, delta, modulation, c.b, c.s, c.h, width, at};
  EXPECT_TRUE(CpuKernels().gated_add.can_run(alone).ok());
  RunKernel(CpuKernels().gated_add, {of_zeros, zeros, delta, modulation, c.b, c.s, c.h, width, at}, 1);
  RunKernel(CpuKernels().gated_add, alone, 2);
  EXPECT_TRUE(product.SameBits(of_zeros));
  AddToOpTable({Row("gated_add", kIsBf16Tensor<Tensor>), absl::StrCat("B=", c.b, " S=", c.s, " H=", c.h), forward_error,
                gradient_error});
}

TEST_P(GatedAddTest, AgreesWithReference) {
  CheckGatedAdd<TestTensor>(GetParam());
  CheckGatedAdd<Bf16Tensor>(GetParam());
}

INSTANTIATE_TEST_SUITE_P(Shapes, GatedAddTest,
                         testing::Values(GatedCase{1, 1, 1}, GatedCase{3, 17, 33}, GatedCase{2, 100, 80}));

struct RowsCase {
  int64_t t, h, p;
};
class AddRowsTest : public testing::TestWithParam<RowsCase> {};

template <typename Tensor>
void CheckAddRows(const RowsCase& c) {
  const int64_t n = c.t * c.h, m = c.p * c.h;
  std::mt19937 random(4);
  Tensor x(n, random), rows(m, random), dy(n, random), y(n), drows(m), y2(n), drows2(m);
  RunKernel(CpuKernels().add_rows, {y, x, rows, c.t, c.h, c.p}, 1);
  RunKernel(CpuKernels().add_rows, {y2, x, rows, c.t, c.h, c.p}, 3);
  for (auto [to, threads] : {std::pair(&drows, 1), std::pair(&drows2, 3)}) {
    Clear(*to, 1.0f);
    RunKernel(CpuKernels().add_rows_grad, {*to, dy, c.t, c.h, c.p, /*accumulate=*/true}, threads);
  }
  EXPECT_TRUE(y.SameBits(y2) && drows.SameBits(drows2));
  std::vector<double> want(n), want_drows(m);
  reference::AddRows(want.data(), x.ToDouble().data(), rows.ToDouble().data(), c.t, c.h, c.p);
  reference::AddRowsGrad(want_drows.data(), dy.ToDouble().data(), c.t, c.h, c.p);
  for (double& value : want_drows) value += 1;
  const double forward_error = ErrorOfType(y, want), gradient_error = ErrorOfType(drows, want_drows);
  EXPECT_LT(forward_error, 5e-7);
  EXPECT_LT(gradient_error, 1e-6);
  AddToOpTable({Row("add_rows", kIsBf16Tensor<Tensor>), absl::StrCat("T=", c.t, " H=", c.h, " P=", c.p), forward_error,
                gradient_error});
}

TEST_P(AddRowsTest, AgreesWithReference) {
  CheckAddRows<TestTensor>(GetParam());
  CheckAddRows<Bf16Tensor>(GetParam());
}

INSTANTIATE_TEST_SUITE_P(Shapes, AddRowsTest,
                         testing::Values(RowsCase{1, 1, 1}, RowsCase{77, 33, 1}, RowsCase{60, 20, 15},
                                         RowsCase{1100, 70, 1}));

class NormRopeTest : public testing::TestWithParam<reference::NormRopeShape> {};

template <typename Tensor>
struct NormRopes {
  explicit NormRopes(const reference::NormRopeShape& shape)
      : z(shape),
        random(6),
        x(z.t * z.x_row, random),
        weight(z.d, random),
        bias(z.d, random),
        dy(z.t * z.heads * z.d, random),
        y(dy.size()),
        dx(x.size()),
        dweight(z.d),
        dbias(z.d),
        cos_sin(std::max<int64_t>(1, z.table_rows * z.d)) {
    for (int64_t i = 0; i < cos_sin.size() / 2; ++i) {
      cos_sin[2 * i] = std::cos(static_cast<float>(i));
      cos_sin[2 * i + 1] = std::sin(static_cast<float>(i));
    }
    Clear(dx, 7.0f);
  }
  void Run(int threads) {
    NormRopeArgs args{.y = y, .x = x, .weight = weight, .t = z.t, .heads = z.heads, .d = z.d, .x_stride = z.x_row};
    NormRopeGradArgs grad{.dx = dx, .dweight = dweight, .dy = dy, .x = x, .weight = weight};
    grad.t = z.t, grad.heads = z.heads, grad.d = z.d, grad.x_stride = z.x_row;
    args.p = grad.p = z.table_rows;
    args.layer_norm = grad.layer_norm = z.layer_norm;
    args.interleaved = grad.interleaved = z.interleaved;
    if (z.layer_norm) {
      args.bias = bias;
      grad.dbias = dbias;
    }
    if (z.table_rows > 0) args.cos_sin = grad.cos_sin = cos_sin;
    EXPECT_TRUE(CpuKernels().norm_rope.can_run(args).ok() && CpuKernels().norm_rope_grad.can_run(grad).ok());
    RunKernel(CpuKernels().norm_rope, args, threads);
    RunKernel(CpuKernels().norm_rope_grad, grad, threads);
  }

  reference::NormRopeShape z;
  std::mt19937 random;
  Tensor x, weight, bias, dy, y, dx, dweight, dbias;
  TestTensor cos_sin;
};

template <typename Tensor>
void CheckNormRope(const reference::NormRopeShape& z) {
  NormRopes<Tensor> got(z), threaded(z);
  got.Run(1);
  threaded.Run(3);
  EXPECT_TRUE(got.y.SameBits(threaded.y) && got.dx.SameBits(threaded.dx) && got.dweight.SameBits(threaded.dweight));
  std::vector<double> x = got.x.ToDouble(), want(got.y.size()), dx(x.size(), 7), dweight(z.d), dbias(z.d);
  const std::vector<double> weight = got.weight.ToDouble(), bias = got.bias.ToDouble(), dy = got.dy.ToDouble();
  const std::vector<double> cos_sin = got.cos_sin.ToDouble();
  const double* table = z.table_rows > 0 ? cos_sin.data() : nullptr;
  const double* added = z.layer_norm ? bias.data() : nullptr;
  reference::NormRope(want.data(), x.data(), weight.data(), added, table, z);
  reference::NormRopeGrad(dx.data(), dweight.data(), dbias.data(), dy.data(), x.data(), weight.data(), table, z);
  const double forward_error = ErrorOfType(got.y, want);
  double gradient_error = std::max(ErrorOfType(got.dx, dx), ErrorOfType(got.dweight, dweight));
  if (z.layer_norm) gradient_error = std::max(gradient_error, ErrorOfType(got.dbias, dbias));
  if constexpr (!kIsBf16Tensor<Tensor>) {
    const auto loss = [&] {
      reference::NormRope(want.data(), x.data(), weight.data(), added, table, z);
      double outside = 0;  // columns that the op leaves alone were set to 7
      for (size_t i = 0; i < x.size(); ++i) {
        if (static_cast<int64_t>(i) % z.x_row >= z.heads * z.d) outside += 7 * x[i];
      }
      return Dot(want, dy) + outside;
    };
    gradient_error = std::max(gradient_error, FiniteDifferenceError(got.dx.data(), x, loss));
  }
  EXPECT_LT(forward_error, 1e-6);
  EXPECT_LT(gradient_error, 2e-6);
  AddToOpTable({Row("norm_rope", kIsBf16Tensor<Tensor>),
                absl::StrCat("T=", z.t, " N=", z.heads, " D=", z.d, z.layer_norm ? " layer" : " rms",
                             z.table_rows == 0 ? ""
                             : z.interleaved   ? " interleaved"
                                               : " halves"),
                forward_error, gradient_error});
}

TEST_P(NormRopeTest, AgreesWithReference) {
  CheckNormRope<TestTensor>(GetParam());
  CheckNormRope<Bf16Tensor>(GetParam());
}

constexpr double kDiffusionOpsEpsilon = static_cast<double>(1e-6f);
INSTANTIATE_TEST_SUITE_P(
    Shapes, NormRopeTest,
    testing::Values(reference::NormRopeShape{1, 1, 2, 2, 0, false, false, kDiffusionOpsEpsilon},
                    reference::NormRopeShape{12, 3, 22, 70, 4, false, false, kDiffusionOpsEpsilon},
                    reference::NormRopeShape{40, 2, 88, 176, 40, true, true, kDiffusionOpsEpsilon},
                    reference::NormRopeShape{33, 2, 64, 256, 11, false, true, kDiffusionOpsEpsilon},
                    reference::NormRopeShape{20, 1, 128, 130, 0, true, false, kDiffusionOpsEpsilon}));

class SamplesTest : public testing::TestWithParam<GatedCase> {};

template <typename Tensor>
void CheckMeanPool(const GatedCase& c) {
  const int64_t n = c.b * c.s * c.h;
  std::mt19937 random(7);
  Tensor x(n, random), dy(c.b * c.h, random), y(c.b * c.h), dx(n);
  std::vector<int32_t> counts;
  for (int64_t i = 0; i < c.b; ++i) counts.push_back(static_cast<int32_t>(1 + (i * 5 + c.s - 1) % c.s));
  // Elements after the counted rows are not read.
  const float nan = std::numeric_limits<float>::quiet_NaN();
  std::vector<double> x64 = x.ToDouble();
  for (int64_t i = 0; i < n; ++i) {
    if (i / c.h % c.s < counts[i / (c.s * c.h)]) continue;
    if constexpr (kIsBf16Tensor<Tensor>) x.Set(i, nan);
    if constexpr (!kIsBf16Tensor<Tensor>) x[i] = nan;
  }
  RunKernel(CpuKernels().mean_pool, {y, x, counts.data(), c.b, c.s, c.h}, 2);
  RunKernel(CpuKernels().mean_pool_grad, {dx, dy, counts.data(), c.b, c.s, c.h}, 2);
  std::vector<double> want(c.b * c.h), want_dx(n);
  reference::MeanPool(want.data(), x64.data(), counts.data(), c.b, c.s, c.h);
  reference::MeanPoolGrad(want_dx.data(), dy.ToDouble().data(), counts.data(), c.b, c.s, c.h);
  const double forward_error = ErrorOfType(y, want), gradient_error = ErrorOfType(dx, want_dx);
  EXPECT_LT(forward_error, 5e-7);
  EXPECT_LT(gradient_error, 2e-7);
  AddToOpTable({Row("mean_pool", kIsBf16Tensor<Tensor>), absl::StrCat("B=", c.b, " S=", c.s, " H=", c.h), forward_error,
                gradient_error});
}

template <typename Tensor>
void CheckWeightedMse(const GatedCase& c) {
  const int64_t n = c.s * c.h;
  std::mt19937 random(8);
  Tensor x(c.b * n, random), dx(c.b * n);
  TestTensor target(c.b * n, random), weight(c.b, random), loss(c.b);
  RunKernel(CpuKernels().weighted_mse, {loss, dx, x, target, weight, c.b, n}, 2);
  std::vector<double> x64 = x.ToDouble(), want(c.b), want_dx(c.b * n);
  const std::vector<double> target64 = target.ToDouble(), weight64 = weight.ToDouble();
  reference::WeightedMse(want.data(), want_dx.data(), x64.data(), target64.data(), weight64.data(), c.b, n);
  const double forward_error = ScaledError(loss, want);
  double gradient_error = ErrorOfType(dx, want_dx);
  std::vector<double> unused(c.b * n);
  const auto sum = [&] {
    reference::WeightedMse(want.data(), unused.data(), x64.data(), target64.data(), weight64.data(), c.b, n);
    double all = 0;
    for (const double value : want) all += value;
    return all;
  };
  gradient_error = std::max(gradient_error, DifferenceError(dx, x64, sum));
  EXPECT_LT(forward_error, 5e-7);
  EXPECT_LT(gradient_error, 1e-6);
  AddToOpTable(
      {Row("weighted_mse", kIsBf16Tensor<Tensor>), absl::StrCat("B=", c.b, " N=", n), forward_error, gradient_error});
}

template <typename Tensor>
void CheckSilu(const GatedCase& c) {
  const int64_t n = c.b * c.s * c.h;
  std::mt19937 random(1);
  Tensor x(n, random, 3.0f), dy(n, random), y(n), dx(n);
  RunKernel(CpuKernels().silu, {y, x, n}, 2);
  RunKernel(CpuKernels().silu_grad, {dx, dy, x, n}, 2);
  std::vector<double> x64 = x.ToDouble(), want(n), want_dx(n);
  const std::vector<double> dy64 = dy.ToDouble();
  reference::Silu(want.data(), x64.data(), n);
  reference::SiluGrad(want_dx.data(), dy64.data(), x64.data(), n);
  const double forward_error = ErrorOfType(y, want);
  double gradient_error = ErrorOfType(dx, want_dx);
  const auto loss = [&] {
    reference::Silu(want.data(), x64.data(), n);
    return Dot(want, dy64);
  };
  gradient_error = std::max(gradient_error, DifferenceError(dx, x64, loss));
  EXPECT_LT(forward_error, 5e-7);
  EXPECT_LT(gradient_error, 1e-6);
  AddToOpTable({Row("silu", kIsBf16Tensor<Tensor>), absl::StrCat("n=", n), forward_error, gradient_error});
}

TEST_P(SamplesTest, AgreeWithReferences) {
  CheckMeanPool<TestTensor>(GetParam());
  CheckMeanPool<Bf16Tensor>(GetParam());
  CheckWeightedMse<TestTensor>(GetParam());
  CheckWeightedMse<Bf16Tensor>(GetParam());
  CheckSilu<TestTensor>(GetParam());
  CheckSilu<Bf16Tensor>(GetParam());
}

INSTANTIATE_TEST_SUITE_P(Shapes, SamplesTest,
                         testing::Values(GatedCase{1, 1, 1}, GatedCase{4, 7, 33}, GatedCase{3, 20, 300}));

}  // namespace
}  // namespace angel_ptm
