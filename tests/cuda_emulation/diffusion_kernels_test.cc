// CUDA kernels of diffusion transformers' ops, compared with the host backend.
#include <memory>

#include "kernels/ops/add_rows.h"
#include "kernels/ops/concat.h"
#include "kernels/ops/conv2d.h"
#include "kernels/ops/gated_add.h"
#include "kernels/ops/group_norm.h"
#include "kernels/ops/hybrid_loss.h"
#include "kernels/ops/layer_norm.h"
#include "kernels/ops/mean_pool.h"
#include "kernels/ops/norm_rope.h"
#include "kernels/ops/relative_attention.h"
#include "kernels/ops/silu.h"
#include "kernels/ops/split.h"
#include "kernels/ops/weighted_mse.h"
#include "tests/cuda_emulation/kernel_runs.h"

namespace angel_ptm::emulated {
namespace {

// The operands of a call on the host and on the device, initially with the same random values. A call's arguments are
// made twice, in the same order.
class Operands {
 public:
  void Begin(bool on_host) { on_host_ = on_host, next_ = 0; }
  template <typename T>
  Operand Next(std::int64_t n) {
    return {Memory(RandomElements<T>(n, random_), n * static_cast<std::int64_t>(sizeof(T)), TypeOf(T())), TypeOf(T())};
  }
  template <typename T>
  ConstOperand In(std::int64_t n) {
    const Operand operand = Next<T>(n);
    return {operand.data, operand.dtype};
  }
  ConstOperand Given(const std::vector<float>& values) {
    return {Memory(values, static_cast<std::int64_t>(values.size() * sizeof(float)), DType::kFloat32), DType::kFloat32};
  }
  const std::int32_t* Ints(const std::vector<std::int32_t>& values) {
    const auto bytes = static_cast<std::int64_t>(values.size() * sizeof(std::int32_t));
    return static_cast<const std::int32_t*>(Memory(values, bytes, DType::kInt32));
  }
  // Restores the device's initial values.
  void Reset() {
    for (const auto& memory : memories_) memory->device.Set(memory->before);
  }
  // Compares within an error relative to the largest value in fp32, or within a rounding of it in bf16.
  void ExpectSame(double error) {
    for (std::size_t i = 0; i < memories_.size(); ++i) {
      const std::vector<double> got = Values(*memories_[i], true), want = Values(*memories_[i], false);
      const double allowed = memories_[i]->dtype == DType::kBFloat16 ? 0.008 : error;
      EXPECT_LT(ScaledError(got.data(), want.data(), static_cast<std::int64_t>(got.size())), allowed)
          << "operand " << i;
    }
  }

 private:
  struct Pair {
    std::vector<std::uint16_t> before, host;
    DeviceArray<std::uint16_t> device;
    DType dtype;
  };

  template <typename T>
  void* Memory(const std::vector<T>& values, std::int64_t bytes, DType dtype) {
    if (next_ == memories_.size()) {
      std::vector<std::uint16_t> words(static_cast<std::size_t>(bytes / 2));
      std::memcpy(words.data(), values.data(), static_cast<std::size_t>(bytes));
      memories_.push_back(std::unique_ptr<Pair>(new Pair{words, words, DeviceArray<std::uint16_t>(words), dtype}));
    }
    Pair& pair = *memories_[next_++];
    return on_host_ ? static_cast<void*>(pair.host.data()) : pair.device.data();
  }
  static std::vector<double> Values(const Pair& pair, bool device) {
    const std::vector<std::uint16_t> words = device ? pair.device.Get() : pair.host;
    std::vector<double> values(words.size() * sizeof(std::uint16_t) / static_cast<std::size_t>(SizeOf(pair.dtype)));
    for (std::size_t i = 0; i < values.size(); ++i) {
      if (pair.dtype == DType::kBFloat16) {
        values[i] = static_cast<double>(ToFloat(BFloat16{words[i]}));
      } else if (pair.dtype == DType::kFloat32) {
        values[i] = static_cast<double>(reinterpret_cast<const float*>(words.data())[i]);
      } else {
        values[i] = reinterpret_cast<const std::int32_t*>(words.data())[i];
      }
    }
    return values;
  }

  std::mt19937 random_{26};
  std::vector<std::unique_ptr<Pair>> memories_;
  std::size_t next_ = 0;
  bool on_host_ = true;
};

template <typename Args, typename Make>
void ExpectHostResults(void (*launch)(const Args&, const cuda::LaunchContext&), const Make& make,
                       std::int64_t workspace_bytes = 0, double error = 2e-6) {
  Operands operands;
  operands.Begin(true);
  RunOnHost<Args>(make(operands));
  operands.Begin(false);
  const Args args = make(operands);
  DeviceArray<float> workspace(workspace_bytes / 4);
  const cuda::LaunchContext context = {.workspace = reinterpret_cast<std::byte*>(workspace.data())};
  for (const Schedule& schedule : Schedules(1)) {
    operands.Reset();
    for (const Finding& finding : Emulate(schedule, [&] { launch(args, context); })) {
      ADD_FAILURE() << finding.Describe() << " in " << schedule;
    }
    operands.ExpectSame(error);
  }
}
template <typename Args, typename Make>
void ExpectHostResultsInWorkspace(void (*launch)(const Args&, const cuda::LaunchContext&), const Make& make) {
  Operands operands;
  ExpectHostResults(launch, make, cuda::WorkspaceBytes(make(operands)));
}

template <typename T>
void TestElementwise(std::int64_t n) {
  ExpectHostResults(&cuda::LaunchSilu,
                    [n](Operands& o) { return SiluArgs{.y = o.Next<T>(n), .x = o.In<T>(n), .n = n}; });
  ExpectHostResults(&cuda::LaunchSiluGrad, [n](Operands& o) {
    return SiluGradArgs{.dx = o.Next<T>(n), .dy = o.In<T>(n), .x = o.In<T>(n), .n = n};
  });
}

// Adds p rows repeatedly to t.
template <typename T, typename Sum>
void TestAddRows(std::int64_t t, std::int64_t h, std::int64_t p, bool accumulate) {
  ExpectHostResults(&cuda::LaunchAddRows, [=](Operands& o) {
    return AddRowsArgs{.y = o.Next<T>(t * h), .x = o.In<T>(t * h), .rows = o.In<T>(p * h), .t = t, .h = h, .p = p};
  });
  ExpectHostResultsInWorkspace(&cuda::LaunchAddRowsGrad, [=](Operands& o) {
    return AddRowsGradArgs{
        .drows = o.Next<Sum>(p * h), .dy = o.In<T>(t * h), .t = t, .h = h, .p = p, .accumulate = accumulate};
  });
}

struct Samples {
  std::int64_t b, s, h, width;  // of modulation
  std::int64_t tokens() const { return b * s * h; }
};

template <typename T>
void TestGatedAdd(const Samples& z, std::int64_t gate_at, bool with_gates) {
  ExpectHostResults(&cuda::LaunchGatedAdd, [=](Operands& o) {
    GatedAddArgs args = {.y = o.Next<T>(z.tokens()), .x = o.In<T>(z.tokens()), .delta = o.In<T>(z.tokens())};
    args.modulation = o.In<T>(z.b * z.width), args.b = z.b, args.s = z.s, args.h = z.h;
    args.modulation_width = z.width, args.gate_at = gate_at;
    return args;
  });
  ExpectHostResults(&cuda::LaunchGatedAddGrad, [=](Operands& o) {
    GatedAddGradArgs args = {.ddelta = o.Next<T>(z.tokens())};
    if (with_gates) args.dmodulation = o.Next<T>(z.b * z.width);
    args.dy = o.In<T>(z.tokens()), args.delta = o.In<T>(z.tokens()), args.modulation = o.In<T>(z.b * z.width);
    args.b = z.b, args.s = z.s, args.h = z.h, args.modulation_width = z.width, args.gate_at = gate_at;
    return args;
  });
}

// Without a summand this is another op, which multiplies by the gate only.
template <typename T>
void TestGatedProduct(const Samples& z) {
  ExpectHostResults(&cuda::LaunchGatedAdd, [=](Operands& o) {
    GatedAddArgs args = {.y = o.Next<T>(z.tokens()), .delta = o.In<T>(z.tokens())};
    args.modulation = o.In<T>(z.b * z.width), args.b = z.b, args.s = z.s, args.h = z.h;
    args.modulation_width = z.width;
    return args;
  });
}

template <typename T>
void TestRelativeAttention(const Samples& z, std::int64_t heads, const std::vector<std::int32_t>& key_counts) {
  std::vector<std::int32_t> places;
  for (std::int64_t i = 0; i < 2 * z.s - 1; ++i) places.push_back(static_cast<std::int32_t>(i * i % 5));
  ExpectHostResults(&cuda::LaunchRelativeAttention, [&](Operands& o) {
    RelativeAttentionArgs args = {.o = o.Next<T>(z.tokens()), .qkv = o.In<T>(3 * z.tokens())};
    args.table = o.In<T>(5 * heads), args.places = o.Ints(places), args.key_counts = o.Ints(key_counts);
    args.b = z.b, args.s = z.s, args.heads = heads, args.d = z.h / heads, args.p = 5;
    return args;
  });
}

template <typename T>
void TestMeanPool(const Samples& z, const std::vector<std::int32_t>& counts) {
  ExpectHostResults(&cuda::LaunchMeanPool, [&](Operands& o) {
    MeanPoolArgs args = {.y = o.Next<T>(z.b * z.h), .x = o.In<T>(z.tokens()), .b = z.b, .s = z.s, .h = z.h};
    if (!counts.empty()) args.counts = o.Ints(counts);
    return args;
  });
  ExpectHostResults(&cuda::LaunchMeanPoolGrad, [&](Operands& o) {
    MeanPoolGradArgs args = {.dx = o.Next<T>(z.tokens()), .dy = o.In<T>(z.b * z.h), .b = z.b, .s = z.s, .h = z.h};
    if (!counts.empty()) args.counts = o.Ints(counts);
    return args;
  });
}

template <typename T>
void TestWeightedMse(std::int64_t b, std::int64_t n, bool with_dx) {
  ExpectHostResults(&cuda::LaunchWeightedMse, [=](Operands& o) {
    WeightedMseArgs args = {.sample_loss = o.Next<float>(b)};
    if (with_dx) args.dx = o.Next<T>(b * n);
    args.x = o.In<T>(b * n), args.target = o.In<float>(b * n), args.weight = o.In<float>(b), args.b = b, args.n = n;
    return args;
  });
}

// Normal numbers as the coefficients of a sample's bound, and one sample that is decoded.
template <typename T>
void TestHybridLoss(std::int64_t r, std::int64_t c, bool with_dx) {
  ExpectHostResults(&cuda::LaunchHybridLoss, [=](Operands& o) {
    HybridLossArgs args = {.sample_loss = o.Next<float>(4)};
    if (with_dx) args.dx = o.Next<T>(4 * r * c);
    args.x = o.In<T>(4 * r * c), args.target = o.In<float>(2 * r * c), args.clean = o.In<float>(2 * r * c);
    args.weight = o.In<float>(2);
    args.bound = o.Given({1, -4, 0.3f, 0.1f, 0, 0.5f, -2, 0.7f, -0.1f, 1});
    args.b = 2, args.r = r, args.c = c;
    return args;
  });
}

// Both parts of a split, or only one.
template <typename T>
void TestConcat(std::int64_t rows, std::int64_t a, std::int64_t b, bool with_b) {
  ExpectHostResults(&cuda::LaunchConcat, [=](Operands& o) {
    return ConcatArgs{.y = o.Next<T>(rows * (a + b)),
                      .a = o.In<T>(rows * a),
                      .b = o.In<T>(rows * b),
                      .rows = rows,
                      .a_width = a,
                      .b_width = b};
  });
  ExpectHostResults(&cuda::LaunchSplit, [=](Operands& o) {
    SplitArgs args = {.a = o.Next<T>(rows * a)};
    if (with_b) args.b = o.Next<T>(rows * b);
    args.x = o.In<T>(rows * (a + b)), args.rows = rows, args.a_width = a, args.b_width = b;
    return args;
  });
}

TEST(CudaDiffusionKernelsTest, RowsHaveTheHostsResults) {
  TestConcat<float>(5, 24, 8, true);
  TestConcat<BFloat16>(40, 16, 16, false);
  TestConcat<BFloat16>(3, 7, 13, true);
  TestElementwise<float>(1003);
  TestElementwise<BFloat16>(264);
  TestAddRows<float, float>(6, 24, 3, true);
  TestAddRows<BFloat16, float>(70, 13, 1, false);
  TestAddRows<BFloat16, BFloat16>(8, 8, 8, true);
  TestGatedAdd<float>({3, 5, 24, 80}, 8, true);
  TestGatedAdd<BFloat16>({2, 4, 13, 40}, 3, true);
  TestGatedAdd<BFloat16>({2, 4, 16, 48}, 32, false);
  TestGatedProduct<float>({3, 1, 24, 24});
  TestGatedProduct<BFloat16>({2, 1, 13, 13});
  TestRelativeAttention<float>({2, 11, 24, 0}, 3, {11, 4});
  TestRelativeAttention<BFloat16>({1, 18, 80, 0}, 2, {18});
  TestMeanPool<float>({3, 5, 24, 0}, {1, 5, 3});
  TestMeanPool<BFloat16>({2, 7, 13, 0}, {});
  TestWeightedMse<float>(3, 300, true);
  TestWeightedMse<BFloat16>(2, 77, false);
  TestHybridLoss<float>(100, 3, true);
  TestHybridLoss<BFloat16>(7, 32, true);
  TestHybridLoss<BFloat16>(40, 13, false);
}

// With weight and bias, or with neither; with shift and scale, with one of them, or with neither.
template <typename T>
void TestLayerNorm(const Samples& z, bool affine, std::int64_t shift_at, std::int64_t scale_at, bool with_dsum) {
  const auto set = [=](auto& args, Operands& o) {
    if (affine) args.weight = o.In<T>(z.h), args.bias = o.In<T>(z.h);
    if (z.width > 0) args.modulation = o.In<T>(z.b * z.width);
    args.b = z.b, args.s = z.s, args.h = z.h, args.modulation_width = z.width;
    args.shift_at = shift_at, args.scale_at = scale_at;
  };
  ExpectHostResults(&cuda::LaunchLayerNorm, [=](Operands& o) {
    LayerNormArgs args = {.y = o.Next<T>(z.tokens()), .statistics = o.Next<float>(2 * z.b * z.s)};
    args.x = o.In<T>(z.tokens());
    set(args, o);
    return args;
  });
  ExpectHostResultsInWorkspace(&cuda::LaunchLayerNormGrad, [=](Operands& o) {
    LayerNormGradArgs args = {.dx = o.Next<T>(z.tokens())};
    if (affine) args.dweight = o.Next<float>(z.h), args.dbias = o.Next<T>(z.h);
    if (z.width > 0) args.dmodulation = o.Next<T>(z.b * z.width);
    args.dy = o.In<T>(z.tokens()), args.x = o.In<T>(z.tokens()), args.statistics = o.In<float>(2 * z.b * z.s);
    if (with_dsum) args.dsum = o.In<T>(z.tokens());
    set(args, o);
    args.accumulate_dweight = with_dsum;
    return args;
  });
}

TEST(CudaLayerNormTest, HasTheHostsResults) {
  TestLayerNorm<float>({2, 3, 24, 80}, true, 8, 40, true);
  TestLayerNorm<BFloat16>({3, 2, 264, 600}, false, 0, 300, false);
  TestLayerNorm<float>({1, 4, 13, 0}, true, -1, -1, false);
  TestLayerNorm<BFloat16>({2, 2, 37, 100}, true, -1, 50, true);
}

template <typename T, typename Sum>
void TestConvolution(const ConvShape& z, bool with_bias) {
  const std::int64_t x = z.in_pixels() * z.in, y = z.out_pixels() * z.out, weight = z.out * z.in * z.taps();
  ExpectHostResults(&cuda::LaunchConv2d, [=](Operands& o) {
    Conv2dArgs args = {.y = o.Next<T>(y), .x = o.In<T>(x), .weight = o.In<T>(weight), .shape = z};
    if (with_bias) args.bias = o.In<T>(z.out);
    return args;
  });
  ExpectHostResults(&cuda::LaunchConv2dGradInput, [=](Operands& o) {
    return Conv2dGradInputArgs{.dx = o.Next<T>(x), .dy = o.In<T>(y), .weight = o.In<T>(weight), .shape = z};
  });
  ExpectHostResults(&cuda::LaunchConv2dGradWeight, [=](Operands& o) {
    return Conv2dGradWeightArgs{
        .dweight = o.Next<Sum>(weight), .dy = o.In<T>(y), .x = o.In<T>(x), .shape = z, .accumulate = with_bias};
  });
}

TEST(CudaConvolutionTest, HasTheHostsResults) {
  TestConvolution<float, float>(
      {.b = 2, .height = 5, .width = 7, .in = 3, .out = 6, .kernel = 3, .pad_before = 1, .pad_after = 1}, true);
  TestConvolution<BFloat16, float>(
      {.b = 1, .height = 8, .width = 6, .in = 5, .out = 3, .kernel = 3, .stride = 2, .pad_after = 1}, false);
  ConvShape repeated = {.b = 1, .height = 3, .width = 4, .in = 2, .out = 66, .kernel = 3};
  repeated.pad_before = repeated.pad_after = 1, repeated.upsample = 2;
  TestConvolution<BFloat16, BFloat16>(repeated, true);
}

template <typename T>
void TestGroupNorm(const Samples& z, std::int64_t groups, bool silu, bool with_dx) {
  const auto set = [=](auto& args, Operands& o) {
    args.x = o.In<T>(z.tokens()), args.weight = o.In<T>(z.h), args.bias = o.In<T>(z.h);
    args.b = z.b, args.s = z.s, args.c = z.h, args.groups = groups, args.silu = silu;
  };
  const auto forward = [=](Operands& o) {
    GroupNormArgs args = {.y = o.Next<T>(z.tokens()), .statistics = o.Next<float>(2 * z.b * groups)};
    set(args, o);
    return args;
  };
  ExpectHostResultsInWorkspace(&cuda::LaunchGroupNorm, forward);
  ExpectHostResultsInWorkspace(&cuda::LaunchGroupNormGrad, [=](Operands& o) {
    GroupNormGradArgs args = {.dweight = o.Next<float>(z.h), .dbias = o.Next<T>(z.h), .dy = o.In<T>(z.tokens())};
    if (with_dx) args.dx = o.Next<T>(z.tokens());
    args.statistics = o.In<float>(2 * z.b * groups);
    set(args, o);
    args.accumulate_dweight = with_dx;
    return args;
  });
}

TEST(CudaGroupNormTest, HasTheHostsResults) {
  TestGroupNorm<float>({2, 9, 12, 0}, 2, true, true);
  TestGroupNorm<float>({1, 70, 3, 0}, 1, true, true);
  TestGroupNorm<BFloat16>({1, 9, 15, 0}, 5, false, true);
  TestGroupNorm<BFloat16>({2, 5, 8, 0}, 8, true, false);
}

struct NormedHeads {
  std::int64_t t, heads, d, beside, p;
  bool layer_norm, interleaved;
  std::int64_t row() const { return heads * d + beside; }
};

template <typename T>
void TestNormRope(const NormedHeads& z, bool with_bias, bool turns) {
  const auto set = [=](auto& args, Operands& o) {
    args.x = o.In<T>(z.t * z.row()), args.weight = o.In<T>(z.d);
    if (turns) args.cos_sin = o.In<float>(z.p * z.d);
    args.t = z.t, args.heads = z.heads, args.d = z.d, args.x_stride = z.row(), args.p = z.p;
    args.layer_norm = z.layer_norm, args.interleaved = z.interleaved;
  };
  ExpectHostResults(&cuda::LaunchNormRope, [=](Operands& o) {
    NormRopeArgs args = {.y = o.Next<T>(z.t * z.heads * z.d)};
    set(args, o);
    if (with_bias) args.bias = o.In<T>(z.d);
    return args;
  });
  ExpectHostResultsInWorkspace(&cuda::LaunchNormRopeGrad, [=](Operands& o) {
    NormRopeGradArgs args = {.dx = o.Next<T>(z.t * z.row()), .dweight = o.Next<float>(z.d)};
    if (with_bias) args.dbias = o.Next<T>(z.d);
    args.dy = o.In<T>(z.t * z.heads * z.d);
    set(args, o);
    args.accumulate_dweight = with_bias;
    return args;
  });
}

TEST(CudaNormRopeTest, HasTheHostsResults) {
  TestNormRope<float>({5, 3, 24, 7, 5, false, false}, false, true);
  TestNormRope<BFloat16>({6, 2, 88, 9, 3, true, true}, true, true);
  TestNormRope<float>({3, 9, 6, 0, 1, true, false}, true, false);
  TestNormRope<BFloat16>({4, 1, 130, 2, 2, false, true}, false, true);
}

}  // namespace
}  // namespace angel_ptm::emulated
