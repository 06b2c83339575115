// Convolutions as matrix products of gathered rows (implicit GEMM). For a tile of output pixels, the input pixels that
// each reads through all taps are gathered side by side in scratch memory, so an image costs one copy per tap and no
// more memory than one tile per thread. Gathering is 1 / (2 out) of the work of the product, reordering the weight
// 1 / (2 pixels).
//
// The shape alone determines the tiles, and one thread computes each tile's product: bits do not depend on the number
// of threads.
#include "kernels/ops/conv2d.h"

#include <algorithm>

#include "kernels/cpu/bf16.h"
#include "kernels/cpu/bf16_product.h"
#include "kernels/cpu/can_run.h"
#include "kernels/cpu/cpu_kernels.h"
#include "kernels/cpu/gemm.h"
#include "kernels/cpu/parallel.h"

namespace angel_ptm {
namespace {

constexpr int64_t kTileRowsMin = 64, kTileRowsMax = 512;  // fewer rows would pack the weight as often as they use it
constexpr int64_t kTilesWanted = 32;
constexpr int64_t kOutBlock = 64;  // output channels per task of the weight's gradient
constexpr int64_t kConvLineBytes = 64;

int64_t RoundedUp(int64_t n, int64_t to) { return (n + to - 1) / to * to; }

int64_t TileRows(int64_t pixels) {
  const int64_t rows = RoundedUp((pixels + kTilesWanted - 1) / kTilesWanted, kTileRowsMin);
  return std::min(pixels, std::clamp(rows, kTileRowsMin, kTileRowsMax));
}
int64_t TileCount(int64_t pixels) { return (pixels + TileRows(pixels) - 1) / TileRows(pixels); }

struct Place {
  int64_t image, y, x;

  Place(int64_t pixel, int64_t height, int64_t width)
      : image(pixel / (height * width)), y(pixel / width % height), x(pixel % width) {}
};

// The position along one axis of x that the output at `at` reads through tap `tap`; -1: a padding zero.
int64_t Read(const ConvShape& z, int64_t at, int64_t tap, int64_t extent) {
  const int64_t seen = at * z.stride + tap - z.pad_before;
  return seen < 0 || seen >= extent * z.upsample ? -1 : seen / z.upsample;
}
// The output along one axis that reads repetition `part` of x's position `at` through tap `tap`; -1: none.
int64_t Reader(const ConvShape& z, int64_t at, int64_t part, int64_t tap, int64_t out_extent) {
  const int64_t from_first = at * z.upsample + part + z.pad_before - tap;
  if (from_first < 0 || from_first % z.stride != 0) return -1;
  return from_first / z.stride < out_extent ? from_first / z.stride : -1;
}

// Copies the `channels` elements of one pixel of an image, or zeros where y or x is -1. Returns the end of `to`.
template <typename T>
T* CopyPixel(T* to, const T* from, int64_t image_row, int64_t y, int64_t width, int64_t x, int64_t channels) {
  if (y < 0 || x < 0) return std::fill_n(to, channels, T{});
  return std::copy_n(from + ((image_row + y) * width + x) * channels, channels, to);
}

// to[n,taps,in]: the inputs that the n outputs from pixel `begin` on read; with one tap alone, [n,in].
template <typename T>
void GatherInputs(T* to, const T* x, const ConvShape& z, int64_t begin, int64_t n, int64_t first_tap, int64_t taps) {
  for (int64_t pixel = begin; pixel < begin + n; ++pixel) {
    const Place at(pixel, z.out_height(), z.out_width());
    for (int64_t tap = first_tap; tap < first_tap + taps; ++tap) {
      to = CopyPixel(to, x, at.image * z.height, Read(z, at.y, tap / z.kernel, z.height), z.width,
                     Read(z, at.x, tap % z.kernel, z.width), z.in);
    }
  }
}

// to[n,taps,out]: the gradients of the outputs that read repetition `part` of the n pixels of x from `begin` on.
template <typename T>
void GatherReaders(T* to, const T* dy, const ConvShape& z, int64_t begin, int64_t n, int64_t part) {
  for (int64_t pixel = begin; pixel < begin + n; ++pixel) {
    const Place at(pixel, z.height, z.width);
    for (int64_t tap = 0; tap < z.taps(); ++tap) {
      to = CopyPixel(to, dy, at.image * z.out_height(),
                     Reader(z, at.y, part / z.upsample, tap / z.kernel, z.out_height()), z.out_width(),
                     Reader(z, at.x, part % z.upsample, tap % z.kernel, z.out_width()), z.out);
    }
  }
}

// Reorders weight[out,in,taps] so that a tap's inputs are contiguous: those of output o and tap t start at
// o * out_step + t * tap_step.
template <typename T>
void TurnWeight(T* to, int64_t out_step, int64_t tap_step, const T* weight, const ConvShape& z, int threads) {
  ParallelFor(threads, z.out, [&](int64_t o) {
    const int64_t taps = z.taps();
    for (int64_t i = 0; i < z.in; ++i) {
      for (int64_t tap = 0; tap < taps; ++tap) {
        to[o * out_step + tap * tap_step + i] = weight[(o * z.in + i) * taps + tap];
      }
    }
  });
}

// c[m,n] (+)= op(a) op(b) on one thread, c in fp32.
template <typename T>
struct Product {
  int64_t m, n, k;
  const T* a;
  int64_t lda;
  bool trans_a;
  const T* b;
  bool trans_b;
  float* c;
  bool accumulate;
};
void Multiply(const Product<float>& p, std::byte*) {
  SerialGemm({p.m, p.n, p.k, p.a, p.lda, p.trans_a, p.b, p.trans_b ? p.k : p.n, p.trans_b, p.c, p.n, p.accumulate});
}
void Multiply(const Product<BFloat16>& p, std::byte* workspace) {
  const Operand c = {p.c, DType::kFloat32};
  MultiplyBf16(1, {p.m, p.n, p.k, p.a, p.lda, p.trans_a, p.b, p.trans_b ? p.k : p.n, p.trans_b, c, p.n, p.accumulate},
               workspace);
}

// Bytes of a thread's scratch memory: for gathered rows, for their sums, and for the product itself.
struct Scratch {
  int64_t gathered, sums, product;

  Scratch(DType type, int64_t gathered_elements, int64_t sum_elements, int64_t m, int64_t n, int64_t k)
      : gathered(RoundedUp(gathered_elements * SizeOf(type), kConvLineBytes)),
        sums(RoundedUp(FloatBytes(sum_elements), kConvLineBytes)),
        product(type == DType::kBFloat16 ? RoundedUp(Bf16ProductWorkspace(m, n, k, 1), kConvLineBytes) : 0) {}
  int64_t bytes() const { return gathered + sums + product; }

  std::byte* Thread(std::byte* workspace, int64_t thread) const { return workspace + thread * bytes(); }
  template <typename T>
  T* Gathered(std::byte* thread) const {
    return reinterpret_cast<T*>(thread);
  }
  float* Sums(std::byte* thread) const { return reinterpret_cast<float*>(thread + gathered); }
  std::byte* OfProduct(std::byte* thread) const { return thread + gathered + sums; }
};

// Bytes of the reordered weight in that type, or, with fp32, of the sums of its gradient.
int64_t WeightBytes(const ConvShape& z, DType type) {
  return RoundedUp(z.out * z.in * z.taps() * SizeOf(type), kConvLineBytes);
}

Scratch ScratchOf(const Conv2dArgs& args) {
  const ConvShape& z = args.shape;
  const int64_t rows = TileRows(z.out_pixels()), k = z.taps() * z.in;
  return {args.x.dtype, rows * k, rows * z.out, rows, z.out, k};
}
Scratch ScratchOf(const Conv2dGradInputArgs& args) {
  const ConvShape& z = args.shape;
  const int64_t rows = TileRows(z.in_pixels()), k = z.taps() * z.out;
  return {args.dy.dtype, rows * k, rows * z.in, rows, z.in, k};
}
Scratch ScratchOf(const Conv2dGradWeightArgs& args) {
  const ConvShape& z = args.shape;
  const int64_t rows = TileRows(z.out_pixels());
  return {args.dy.dtype, rows * z.in, 0, std::min(kOutBlock, z.out), z.in, rows};
}

template <typename T>
void Forward(const Conv2dArgs& args, const KernelContext& ctx) {
  const ConvShape& z = args.shape;
  const Scratch scratch = ScratchOf(args);
  T* const weight = reinterpret_cast<T*>(ctx.workspace);
  std::byte* const threads = ctx.workspace + WeightBytes(z, args.x.dtype);
  TurnWeight(weight, z.taps() * z.in, z.in, args.weight.as<T>(), z, ctx.threads);  // [out,taps,in]
  const int64_t pixels = z.out_pixels(), rows = TileRows(pixels), k = z.taps() * z.in;
  ParallelRanges(ctx.threads, TileCount(pixels), 1, [&](int64_t first, int64_t last, int part) {
    std::byte* const own = scratch.Thread(threads, part);
    T* const gathered = scratch.Gathered<T>(own);
    float* const sums = scratch.Sums(own);
    const T* const bias = args.bias.as<T>();
    for (int64_t tile = first; tile < last; ++tile) {
      const int64_t begin = tile * rows, n = std::min(rows, pixels - begin);
      GatherInputs(gathered, args.x.as<T>(), z, begin, n, 0, z.taps());
      Multiply(Product<T>{n, z.out, k, gathered, k, false, weight, true, sums, false}, scratch.OfProduct(own));
      for (int64_t row = 0; row < n; ++row) {
        const float* __restrict sum = sums + row * z.out;
        T* __restrict y = args.y.as<T>() + (begin + row) * z.out;
        if (bias == nullptr) {
          for (int64_t o = 0; o < z.out; ++o) y[o] = Rounded<T>(sum[o]);
        } else {
          for (int64_t o = 0; o < z.out; ++o) y[o] = Rounded<T>(sum[o] + ToFloat(bias[o]));
        }
      }
    }
  });
}

template <typename T>
void GradInput(const Conv2dGradInputArgs& args, const KernelContext& ctx) {
  const ConvShape& z = args.shape;
  const Scratch scratch = ScratchOf(args);
  T* const weight = reinterpret_cast<T*>(ctx.workspace);
  std::byte* const threads = ctx.workspace + WeightBytes(z, args.dy.dtype);
  TurnWeight(weight, z.in, z.out * z.in, args.weight.as<T>(), z, ctx.threads);  // [taps,out,in]
  const int64_t pixels = z.in_pixels(), rows = TileRows(pixels), k = z.taps() * z.out;
  ParallelRanges(ctx.threads, TileCount(pixels), 1, [&](int64_t first, int64_t last, int part) {
    std::byte* const own = scratch.Thread(threads, part);
    T* const gathered = scratch.Gathered<T>(own);
    float* const sums = scratch.Sums(own);
    for (int64_t tile = first; tile < last; ++tile) {
      const int64_t begin = tile * rows, n = std::min(rows, pixels - begin);
      for (int64_t repetition = 0; repetition < z.upsample * z.upsample; ++repetition) {
        GatherReaders(gathered, args.dy.as<T>(), z, begin, n, repetition);
        Multiply(Product<T>{n, z.in, k, gathered, k, false, weight, false, sums, repetition > 0},
                 scratch.OfProduct(own));
      }
      T* __restrict dx = args.dx.as<T>() + begin * z.in;
      for (int64_t i = 0; i < n * z.in; ++i) dx[i] = Rounded<T>(sums[i]);
    }
  });
}

// sums[taps,out,in]: a task computes one tap of a block of outputs, over all pixels in order.
template <typename T>
void SumWeightGrads(const Conv2dGradWeightArgs& args, float* sums, std::byte* threads, int team) {
  const ConvShape& z = args.shape;
  const Scratch scratch = ScratchOf(args);
  const int64_t blocks = (z.out + kOutBlock - 1) / kOutBlock, pixels = z.out_pixels(), rows = TileRows(pixels);
  ParallelRanges(team, z.taps() * blocks, 1, [&](int64_t first, int64_t last, int part) {
    std::byte* const own = scratch.Thread(threads, part);
    T* const gathered = scratch.Gathered<T>(own);
    for (int64_t task = first; task < last; ++task) {
      const int64_t tap = task / blocks, o = task % blocks * kOutBlock, outs = std::min(kOutBlock, z.out - o);
      for (int64_t begin = 0; begin < pixels; begin += rows) {
        const int64_t n = std::min(rows, pixels - begin);
        GatherInputs(gathered, args.x.as<T>(), z, begin, n, tap, 1);
        Multiply(Product<T>{outs, z.in, n, args.dy.as<T>() + begin * z.out + o, z.out, true, gathered, false,
                            sums + (tap * z.out + o) * z.in, begin > 0},
                 scratch.OfProduct(own));
      }
    }
  });
}

void Run(const Conv2dArgs& args, const KernelContext& ctx) {
  WithElements(args.x.dtype, [&](auto element) { Forward<decltype(element)>(args, ctx); });
}

void Run(const Conv2dGradInputArgs& args, const KernelContext& ctx) {
  WithElements(args.dy.dtype, [&](auto element) { GradInput<decltype(element)>(args, ctx); });
}

void Run(const Conv2dGradWeightArgs& args, const KernelContext& ctx) {
  const ConvShape& z = args.shape;
  float* const sums = reinterpret_cast<float*>(ctx.workspace);
  std::byte* const threads = ctx.workspace + WeightBytes(z, DType::kFloat32);
  WithElements(args.dy.dtype,
               [&](auto element) { SumWeightGrads<decltype(element)>(args, sums, threads, ctx.threads); });
  WithElements(args.dweight.dtype, [&](auto element) {
    using T = decltype(element);
    ParallelFor(ctx.threads, z.out, [&](int64_t o) {
      T* const to = args.dweight.as<T>() + o * z.in * z.taps();
      for (int64_t i = 0; i < z.in * z.taps(); ++i) {
        const float sum = sums[(i % z.taps() * z.out + o) * z.in + i / z.taps()];
        to[i] = Rounded<T>(args.accumulate ? ToFloat(to[i]) + sum : sum);
      }
    });
  });
}

int64_t WorkspaceBytes(const Conv2dArgs& args, const BackendOptions& options) {
  return WeightBytes(args.shape, args.x.dtype) + options.threads * ScratchOf(args).bytes();
}
int64_t WorkspaceBytes(const Conv2dGradInputArgs& args, const BackendOptions& options) {
  return WeightBytes(args.shape, args.dy.dtype) + options.threads * ScratchOf(args).bytes();
}
int64_t WorkspaceBytes(const Conv2dGradWeightArgs& args, const BackendOptions& options) {
  return WeightBytes(args.shape, DType::kFloat32) + options.threads * ScratchOf(args).bytes();
}

absl::Status ShapeSupported(const char* op, const ConvShape& z) {
  return BelowInt32(op, {z.in_pixels(), z.out_pixels(), z.in * z.taps(), z.out * z.taps()});
}
absl::Status CanRun(const Conv2dArgs& args) {
  RETURN_IF_ERROR(Fp32OrBf16(
      "conv2d",
      {.same = {{"x", args.x}, {"y", args.y}, {"weight", args.weight}, NamedOperand::Optional("bias", args.bias)}}));
  return ShapeSupported("conv2d", args.shape);
}
absl::Status CanRun(const Conv2dGradInputArgs& args) {
  RETURN_IF_ERROR(
      Fp32OrBf16("conv2d_grad_input", {.same = {{"dy", args.dy}, {"dx", args.dx}, {"weight", args.weight}}}));
  return ShapeSupported("conv2d_grad_input", args.shape);
}
absl::Status CanRun(const Conv2dGradWeightArgs& args) {
  RETURN_IF_ERROR(Fp32OrBf16("conv2d_grad_weight",
                             {.same = {{"dy", args.dy}, {"x", args.x}}, .same_or_fp32 = {{"dweight", args.dweight}}}));
  return ShapeSupported("conv2d_grad_weight", args.shape);
}

}  // namespace

Kernel<Conv2dArgs> CpuConv2d() { return {&CanRun, &WorkspaceBytes, &Run}; }
Kernel<Conv2dGradInputArgs> CpuConv2dGradInput() { return {&CanRun, &WorkspaceBytes, &Run}; }
Kernel<Conv2dGradWeightArgs> CpuConv2dGradWeight() { return {&CanRun, &WorkspaceBytes, &Run}; }

}  // namespace angel_ptm
