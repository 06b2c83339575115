#include "tests/reference/conv2d.h"

#include <algorithm>

namespace angel_ptm::reference {
namespace {

// Calls fn(element of y, element of x, element of weight) for every product that y sums.
template <typename Fn>
void ForEachProduct(const ConvolutionShape& z, const Fn& fn) {
  int64_t y_at = 0;
  for (int64_t b = 0; b < z.b; ++b) {
    for (int64_t y = 0; y < z.OutHeight(); ++y) {
      for (int64_t x = 0; x < z.OutWidth(); ++x) {
        for (int64_t o = 0; o < z.out; ++o, ++y_at) {
          for (int64_t ky = 0; ky < z.kernel; ++ky) {
            for (int64_t kx = 0; kx < z.kernel; ++kx) {
              const int64_t row = y * z.stride + ky - z.pad_before, column = x * z.stride + kx - z.pad_before;
              if (row < 0 || column < 0 || row >= z.height * z.upsample || column >= z.width * z.upsample) continue;
              const int64_t pixel = (b * z.height + row / z.upsample) * z.width + column / z.upsample;
              for (int64_t i = 0; i < z.in; ++i) {
                fn(y_at, pixel * z.in + i, ((o * z.in + i) * z.kernel + ky) * z.kernel + kx);
              }
            }
          }
        }
      }
    }
  }
}

}  // namespace

void Conv2d(double* y, const double* x, const double* weight, const double* bias, const ConvolutionShape& z) {
  for (int64_t i = 0; i < z.b * z.OutHeight() * z.OutWidth() * z.out; ++i) y[i] = bias == nullptr ? 0 : bias[i % z.out];
  ForEachProduct(z, [&](int64_t to, int64_t from, int64_t w) { y[to] += x[from] * weight[w]; });
}

void Conv2dGrad(double* dx, double* dweight, const double* dy, const double* x, const double* weight,
                const ConvolutionShape& z) {
  std::fill_n(dx, z.b * z.height * z.width * z.in, 0.0);
  std::fill_n(dweight, z.out * z.in * z.kernel * z.kernel, 0.0);
  ForEachProduct(z, [&](int64_t to, int64_t from, int64_t w) {
    dx[from] += dy[to] * weight[w];
    dweight[w] += dy[to] * x[from];
  });
}

}  // namespace angel_ptm::reference
