#include "kernels/ops/hybrid_loss.h"

#include <algorithm>
#include <cmath>

#include "kernels/cpu/can_run.h"
#include "kernels/cpu/cpu_kernels.h"
#include "kernels/cpu/lanes.h"
#include "kernels/cpu/parallel.h"
#include "kernels/cpu/vector_math.h"

namespace angel_ptm {
namespace {

// Elements whose terms are summed in fp32; the sums of such pieces are added in double.
constexpr int64_t kPiece = 256;

// A sample's bound: the coefficients of kernels/ops/hybrid_loss.h.
struct Bound {
  explicit Bound(const float* row)
      : weight(double{row[kBoundWeight]}),
        log_least(double{row[kBoundLogLeast]}),
        log_range(double{row[kBoundLogRange]}),
        error(double{row[kBoundError]}),
        decoded(row[kBoundDecoded] != 0) {}
  double weight, log_least, log_range, error;
  bool decoded;
};

struct Piece {
  float difference[kPiece];  // p - target
  float fraction[kPiece];    // v
  float clean[kPiece];
  float term[kPiece];   // L
  float slope[kPiece];  // dL/dv
};

// With u = l - least, k = error^2 exp(-least), m = exp(-u) - 1 and a = k difference^2 exp(-u):
//   L = (u + m + a) / 2,  dL/dv = -(m + a) du/dv / 2.
// Computing m directly keeps the digits of both where the range is narrow.
void Divergences(const Bound& bound, int64_t count, Piece& piece) {
  const float half_range = static_cast<float>(0.5 * bound.log_range);
  const float k = static_cast<float>(bound.error * bound.error * std::exp(-bound.log_least));
  for (int64_t i = 0; i < count; ++i) {
    const float u = (piece.fraction[i] + 1) * half_range;
    const float m = ExpMinusOne(-u), a = k * piece.difference[i] * piece.difference[i] * (1 + m);
    piece.term[i] = 0.5f * (u + m + a);
    piece.slope[i] = -0.5f * half_range * (m + a);
  }
}

// The distribution function at z and its derivative, with tanh(y) = 2 sigmoid(2y) - 1.
struct Normal {
  explicit Normal(double z) {
    constexpr double kScale = 1.5957691216057308, kCubic = 0.044715;  // 2 sqrt(2 / pi)
    const double odds = std::exp(-kScale * (z + kCubic * z * z * z));
    below = 1 / (1 + odds);
    above = std::isinf(odds) ? 1 : odds / (1 + odds);
    density = below * above * kScale * (1 + 3 * kCubic * z * z);
  }
  double below, above, density;
};

// In double, because probabilities may be small differences. Only one step in a thousand comes here.
void Decodings(const Bound& bound, int64_t count, Piece& piece) {
  constexpr double kHalfBin = 1.0 / 255, kInner = 0.999, kLeast = 1e-12;
  for (int64_t i = 0; i < count; ++i) {
    const double log_variance = bound.log_least + 0.5 * (double{piece.fraction[i]} + 1) * bound.log_range;
    const double inverse = std::exp(-0.5 * log_variance), from_mean = -bound.error * double{piece.difference[i]};
    const double high = inverse * (from_mean + kHalfBin), low = inverse * (from_mean - kHalfBin);
    const Normal to(high), from(low);
    const double clean = double{piece.clean[i]};
    const bool first = clean<-kInner, last = clean> kInner;
    // If both are in the upper tail, the difference of their `above` keeps the digits.
    const double inner = low > 0 ? from.above - to.above : to.below - from.below;
    const double probability = first ? to.below : last ? from.above : inner;
    piece.term[i] = static_cast<float>(-std::log(std::max(probability, kLeast)));
    // d high / dv = -high log_range / 4, and likewise for low.
    const double change = (last ? 0 : high * to.density) - (first ? 0 : low * from.density);
    piece.slope[i] = probability < kLeast ? 0.0f : static_cast<float>(0.25 * bound.log_range * change / probability);
  }
}

// The row and column of elements that are visited one after the other.
struct LossPlace {
  int64_t row = 0, column = 0;
  void Next(int64_t width) {
    if (++column == width) column = 0, ++row;
  }
};

template <typename T>
void Sample(const HybridLossArgs& args, int64_t sample) {
  const int64_t n = args.r * args.c;
  const T* x = args.x.as<T>() + 2 * sample * n;
  const float* target = args.target.as<float>() + sample * n;
  const float* clean = args.clean.as<float>() + sample * n;
  T* dx = args.dx ? args.dx.as<T>() + 2 * sample * n : nullptr;
  const Bound bound(args.bound.as<float>() + sample * kBoundColumns);
  const double weight = double{args.weight.as<float>()[sample]}, count = static_cast<double>(n);
  const float slope = static_cast<float>(2 * weight / count), bound_slope = static_cast<float>(bound.weight / count);
  double squares = 0, terms = 0;
  Piece piece;
  LossPlace read, write;
  for (int64_t at = 0; at < n; at += kPiece) {
    const int64_t size = std::min(kPiece, n - at);
    for (int64_t i = 0; i < size; ++i, read.Next(args.c)) {
      const T* place = x + read.row * 2 * args.c + read.column;
      piece.difference[i] = ToFloat(place[0]) - target[at + i];
      piece.fraction[i] = ToFloat(place[args.c]);
      piece.clean[i] = clean[at + i];
    }
    bound.decoded ? Decodings(bound, size, piece) : Divergences(bound, size, piece);
    squares += SumOfProducts(size, piece.difference, piece.difference);
    terms += SumOfProducts(size, piece.term);
    if (dx == nullptr) continue;
    for (int64_t i = 0; i < size; ++i, write.Next(args.c)) {
      T* place = dx + write.row * 2 * args.c + write.column;
      place[0] = Rounded<T>(slope * piece.difference[i]);
      place[args.c] = Rounded<T>(bound_slope * piece.slope[i]);
    }
  }
  float* const loss = args.sample_loss.as<float>() + sample;
  loss[0] = static_cast<float>(weight * squares / count);
  loss[args.b] = static_cast<float>(bound.weight * terms / count);
}

void Run(const HybridLossArgs& args, const KernelContext& ctx) {
  WithElements(args.x.dtype, [&](auto element) {
    ParallelFor(ctx.threads, args.b, [&](int64_t sample) { Sample<decltype(element)>(args, sample); });
  });
}

absl::Status CanRun(const HybridLossArgs& args) {
  return Fp32OrBf16("hybrid_loss", {.same = {{"x", args.x}, NamedOperand::Optional("dx", args.dx)},
                                    .fp32 = {{"target", args.target},
                                             {"clean", args.clean},
                                             {"weight", args.weight},
                                             {"bound", args.bound},
                                             {"sample_loss", args.sample_loss}}});
}

}  // namespace

Kernel<HybridLossArgs> CpuHybridLoss() { return {&CanRun, &NoWorkspace, &Run}; }

}  // namespace angel_ptm
