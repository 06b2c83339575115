// Columns beside columns (kernels/ops): y[R,A+B] = a[R,A], b[R,B], and the reverse.
//
// Bytes of elements: each is read once and written once; no FLOPs. Limit: memory. A thread handles 8 neighbours of y if
// both widths allow it. The columns of an absent part of a split are not read.
#include "kernels/cuda/elements.cuh"
#include "kernels/cuda/launch.cuh"
#include "kernels/ops/concat.h"
#include "kernels/ops/split.h"

namespace angel_ptm::cuda {
namespace {

constexpr int kConcatThreads = 256;

// The row and column of element i of the wide matrix.
struct Beside {
  std::int64_t a_width, b_width;

  APTM_DEVICE std::int64_t Row(std::int64_t i) const { return i / (a_width + b_width); }
  APTM_DEVICE std::int64_t Column(std::int64_t i) const { return i % (a_width + b_width); }
};

template <int kWidth, typename T>
__global__ void __launch_bounds__(kConcatThreads) Concat(T* y, const T* a, const T* b, Beside beside, std::int64_t n) {
  ForGroups<kWidth>(n, [&](std::int64_t i) {
    const std::int64_t row = beside.Row(i), column = beside.Column(i);
    float values[kWidth];
    LoadGroup(column < beside.a_width ? a + row * beside.a_width + column
                                      : b + row * beside.b_width + column - beside.a_width,
              values);
    StoreGroup(y + i, values);
  });
}

template <int kWidth, typename T>
__global__ void __launch_bounds__(kConcatThreads) Split(T* a, T* b, const T* x, Beside beside, std::int64_t n) {
  ForGroups<kWidth>(n, [&](std::int64_t i) {
    const std::int64_t row = beside.Row(i), column = beside.Column(i);
    T* const part = column < beside.a_width ? a : b;
    if (part == nullptr) return;
    float values[kWidth];
    LoadGroup(x + i, values);
    StoreGroup(column < beside.a_width ? a + row * beside.a_width + column
                                       : b + row * beside.b_width + column - beside.a_width,
               values);
  });
}

// Calls launch(element, group, number of elements) for the type and widths of these arguments.
template <typename Args, typename Fn>
void WithBesides(DType dtype, const Args& args, const Fn& launch) {
  WithElements(dtype, [&](auto element) {
    WithGroups([&](auto group) { launch(element, group, args.rows * (args.a_width + args.b_width)); }, args.a_width,
               args.b_width);
  });
}

}  // namespace

void LaunchConcat(const ConcatArgs& args, const LaunchContext& context) {
  WithBesides(args.y.dtype, args, [&](auto element, auto group, std::int64_t n) {
    using T = decltype(element);
    constexpr int kWidth = decltype(group)::kWidth;
    Launch(Striding(n / kWidth, kConcatThreads), context, &Concat<kWidth, T>, args.y.as<T>(), args.a.as<T>(),
           args.b.as<T>(), Beside{args.a_width, args.b_width}, n);
  });
}

void LaunchSplit(const SplitArgs& args, const LaunchContext& context) {
  WithBesides(args.x.dtype, args, [&](auto element, auto group, std::int64_t n) {
    using T = decltype(element);
    constexpr int kWidth = decltype(group)::kWidth;
    Launch(Striding(n / kWidth, kConcatThreads), context, &Split<kWidth, T>, args.a.as<T>(), args.b.as<T>(),
           args.x.as<T>(), Beside{args.a_width, args.b_width}, n);
  });
}

}  // namespace angel_ptm::cuda
