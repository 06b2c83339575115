// Convolutions of images as rows of pixels (kernels/ops/conv2d.h), in a plain implementation: each of the three is a
// product over k whose operands are looked up in place, those of x through the taps.
//   y[pixel,o] = bias[o] + sum over (tap, i) of x[read(pixel, tap),i] w[o,i,tap]
//   dx[pixel,i] = sum over (repetition, tap, o) of dy[reader(pixel, repetition, tap),o] w[o,i,tap]
//   dw[o,(i,tap)] (+)= sum over pixels of dy[pixel,o] x[read(pixel, tap),i]
//
// FLOPs of each: 2 pixels out in taps; elements read from the cache: 1 / 64 of that. Limit: finding what a tap reads,
// one or two integer divisions per element. A block of 256 threads computes a tile of 64 x 64, a thread 4 x 4, in steps
// of 16 k through shared memory (8 KB). A sum is one chain of FMA over k in order.
#include "kernels/cuda/elements.cuh"
#include "kernels/cuda/launch.cuh"
#include "kernels/ops/conv2d.h"

namespace angel_ptm::cuda {
namespace {

constexpr int kConv2dThreads = 256, kTile = 64, kStep = 16, kPart = 4, kAcross = kTile / kPart, kPitch = kTile + 1;
static_assert(kAcross * kAcross == kConv2dThreads);

// ConvShape for the device.
struct Convolution {
  std::int64_t height, width, in, out, kernel, taps, stride, pad, upsample, out_height, out_width, in_pixels,
      out_pixels;

  // The pixel of x that pixel `at` of y reads through a tap; -1: zeros.
  APTM_DEVICE std::int64_t Read(std::int64_t at, std::int64_t tap) const {
    const std::int64_t y = at / out_width % out_height * stride + tap / kernel - pad;
    const std::int64_t x = at % out_width * stride + tap % kernel - pad;
    if (y < 0 || x < 0 || y >= height * upsample || x >= width * upsample) return -1;
    return (at / (out_height * out_width) * height + y / upsample) * width + x / upsample;
  }
  // The pixel of y that reads a repetition of pixel `at` of x through a tap; -1: none.
  APTM_DEVICE std::int64_t Reader(std::int64_t at, std::int64_t repetition, std::int64_t tap) const {
    const std::int64_t y = at / width % height * upsample + repetition / upsample + pad - tap / kernel;
    const std::int64_t x = at % width * upsample + repetition % upsample + pad - tap % kernel;
    if (y < 0 || x < 0 || y % stride != 0 || x % stride != 0) return -1;
    if (y / stride >= out_height || x / stride >= out_width) return -1;
    return (at / (height * width) * out_height + y / stride) * out_width + x / stride;
  }
};
Convolution ConvolutionOf(const ConvShape& z) {
  return {z.height,     z.width,    z.in,           z.out,         z.kernel,      z.taps(),      z.stride,
          z.pad_before, z.upsample, z.out_height(), z.out_width(), z.in_pixels(), z.out_pixels()};
}

template <typename T>
APTM_DEVICE float At(const T* image, std::int64_t pixel, std::int64_t channels, std::int64_t channel) {
  return pixel < 0 ? 0.0f : Widened(image[pixel * channels + channel]);
}

// Computes sums over k of A(row, k) B(column, k) and passes each to Store(row, column, sum). Rows are distributed over
// x, columns over y.
template <typename Product>
APTM_DEVICE void MakeTile(const Product& product, std::int64_t rows, std::int64_t columns, std::int64_t count) {
  APTM_SHARED(float, a_tile, kStep* kPitch);
  APTM_SHARED(float, b_tile, kStep* kPitch);
  const std::int64_t row = static_cast<std::int64_t>(blockIdx.x) * kTile;
  const std::int64_t column = static_cast<std::int64_t>(blockIdx.y) * kTile;
  const int down = static_cast<int>(threadIdx.x) / kAcross * kPart, along = static_cast<int>(threadIdx.x) % kAcross;
  float sums[kPart][kPart] = {};
  for (std::int64_t first = 0; first < count; first += kStep) {
    for (int i = static_cast<int>(threadIdx.x); i < kStep * kTile; i += kConv2dThreads) {
      const std::int64_t k = first + i % kStep, r = row + i / kStep, c = column + i / kStep;
      a_tile[i % kStep * kPitch + i / kStep] = k < count && r < rows ? product.A(r, k) : 0.0f;
      b_tile[i % kStep * kPitch + i / kStep] = k < count && c < columns ? product.B(c, k) : 0.0f;
    }
    __syncthreads();  // the step has been stored
    for (int k = 0; k < kStep; ++k) {
      float a[kPart], b[kPart];
      for (int i = 0; i < kPart; ++i) a[i] = a_tile[k * kPitch + down + i];
      for (int j = 0; j < kPart; ++j) b[j] = b_tile[k * kPitch + along + j * kAcross];
      for (int i = 0; i < kPart; ++i) {
        for (int j = 0; j < kPart; ++j) sums[i][j] = fmaf(a[i], b[j], sums[i][j]);
      }
    }
    __syncthreads();  // it has been read
  }
  for (int i = 0; i < kPart; ++i) {
    for (int j = 0; j < kPart; ++j) {
      const std::int64_t r = row + down + i, c = column + along + j * kAcross;
      if (r < rows && c < columns) product.Store(r, c, sums[i][j]);
    }
  }
}

template <typename T>
struct Forward {
  T* y;
  const T *x, *weight, *bias;
  Convolution z;

  APTM_DEVICE float A(std::int64_t pixel, std::int64_t k) const {
    return At(x, z.Read(pixel, k / z.in), z.in, k % z.in);
  }
  APTM_DEVICE float B(std::int64_t o, std::int64_t k) const {
    return Widened(weight[(o * z.in + k % z.in) * z.taps + k / z.in]);
  }
  APTM_DEVICE void Store(std::int64_t pixel, std::int64_t o, float sum) const {
    StoreRounded(y + pixel * z.out + o, bias == nullptr ? sum : sum + Widened(bias[o]));
  }
};

template <typename T>
struct GradInput {
  T* dx;
  const T *dy, *weight;
  Convolution z;

  // k: repetition, tap, output.
  APTM_DEVICE float A(std::int64_t pixel, std::int64_t k) const {
    return At(dy, z.Reader(pixel, k / (z.taps * z.out), k / z.out % z.taps), z.out, k % z.out);
  }
  APTM_DEVICE float B(std::int64_t i, std::int64_t k) const {
    return Widened(weight[(k % z.out * z.in + i) * z.taps + k / z.out % z.taps]);
  }
  APTM_DEVICE void Store(std::int64_t pixel, std::int64_t i, float sum) const {
    StoreRounded(dx + pixel * z.in + i, sum);
  }
};

template <typename T, typename Sum>
struct GradWeight {
  Sum* dweight;
  const T *dy, *x;
  Convolution z;
  bool accumulate;

  APTM_DEVICE float A(std::int64_t o, std::int64_t pixel) const { return Widened(dy[pixel * z.out + o]); }
  APTM_DEVICE float B(std::int64_t column, std::int64_t pixel) const {
    return At(x, z.Read(pixel, column % z.taps), z.in, column / z.taps);
  }
  APTM_DEVICE void Store(std::int64_t o, std::int64_t column, float sum) const {
    Sum* const to = dweight + o * z.in * z.taps + column;
    StoreRounded(to, accumulate ? Widened(*to) + sum : sum);
  }
};

template <typename T>
__global__ void __launch_bounds__(kConv2dThreads) Conv2d(Forward<T> product) {
  MakeTile(product, product.z.out_pixels, product.z.out, product.z.taps * product.z.in);
}
template <typename T>
__global__ void __launch_bounds__(kConv2dThreads) Conv2dGradInput(GradInput<T> product) {
  const Convolution& z = product.z;
  MakeTile(product, z.in_pixels, z.in, z.upsample * z.upsample * z.taps * z.out);
}
template <typename T, typename Sum>
__global__ void __launch_bounds__(kConv2dThreads) Conv2dGradWeight(GradWeight<T, Sum> product) {
  MakeTile(product, product.z.out, product.z.in * product.z.taps, product.z.out_pixels);
}

LaunchShape Tiles(std::int64_t rows, std::int64_t columns) {
  const auto tiles = [](std::int64_t n) { return static_cast<unsigned>((n + kTile - 1) / kTile); };
  return {.grid = {.x = tiles(rows), .y = tiles(columns)}, .block = {.x = kConv2dThreads}};
}

}  // namespace

void LaunchConv2d(const Conv2dArgs& args, const LaunchContext& context) {
  const ConvShape& z = args.shape;
  WithElements(args.x.dtype, [&](auto element) {
    using T = decltype(element);
    Launch(Tiles(z.out_pixels(), z.out), context, &Conv2d<T>,
           Forward<T>{args.y.as<T>(), args.x.as<T>(), args.weight.as<T>(), args.bias.as<T>(), ConvolutionOf(z)});
  });
}

void LaunchConv2dGradInput(const Conv2dGradInputArgs& args, const LaunchContext& context) {
  const ConvShape& z = args.shape;
  WithElements(args.dy.dtype, [&](auto element) {
    using T = decltype(element);
    Launch(Tiles(z.in_pixels(), z.in), context, &Conv2dGradInput<T>,
           GradInput<T>{args.dx.as<T>(), args.dy.as<T>(), args.weight.as<T>(), ConvolutionOf(z)});
  });
}

void LaunchConv2dGradWeight(const Conv2dGradWeightArgs& args, const LaunchContext& context) {
  const ConvShape& z = args.shape;
  WithElements(args.dy.dtype, [&](auto element) {
    using T = decltype(element);
    WithElements(args.dweight.dtype, [&](auto sum) {
      using Sum = decltype(sum);
      Launch(Tiles(z.out, z.in * z.taps()), context, &Conv2dGradWeight<T, Sum>,
             GradWeight<T, Sum>{args.dweight.as<Sum>(), args.dy.as<T>(), args.x.as<T>(), ConvolutionOf(z),
                                args.accumulate});
    });
  });
}

}  // namespace angel_ptm::cuda
