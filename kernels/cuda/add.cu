// y[R,W] = x in columns [begin, end) and zero elsewhere; or y += x in these columns.
//
// Bytes of elements: 2 R W to write, 3 R (end - begin) to add; FLOPs: R (end - begin) to add. Limit: memory. A thread
// handles 8 neighbours at a time if the columns allow it; the grid strides.
#include "kernels/cuda/elements.cuh"
#include "kernels/cuda/launch.cuh"
#include "kernels/ops/add.h"

namespace angel_ptm::cuda {
namespace {

constexpr int kAddThreads = 256;

struct Columns {
  std::int64_t width, begin, end;
};

template <int kWidth, typename T>
__global__ void __launch_bounds__(kAddThreads) Accumulate(T* y, const T* x, std::int64_t rows, Columns columns) {
  const std::int64_t added = columns.end - columns.begin;
  ForGroups<kWidth>(rows * added, [&](std::int64_t i) {
    const std::int64_t at = i / added * columns.width + columns.begin + i % added;
    float sum[kWidth], term[kWidth];
    LoadGroup(y + at, sum);
    LoadGroup(x + at, term);
    for (int j = 0; j < kWidth; ++j) sum[j] += term[j];
    StoreGroup(y + at, sum);
  });
}

template <int kWidth, typename T>
__global__ void __launch_bounds__(kAddThreads) Copy(T* y, const T* x, std::int64_t rows, Columns columns) {
  ForGroups<kWidth>(rows * columns.width, [&](std::int64_t i) {
    const std::int64_t column = i % columns.width;
    float values[kWidth] = {};
    if (x != nullptr && column >= columns.begin && column < columns.end) LoadGroup(x + i, values);
    StoreGroup(y + i, values);
  });
}

}  // namespace

void LaunchAdd(const AddArgs& args, const LaunchContext& context) {
  const Columns columns = {args.width, args.column_begin, args.column_end};
  WithElements(args.y.dtype, [&](auto element) {
    using T = decltype(element);
    WithGroups(
        [&](auto group) {
          constexpr int kWidth = decltype(group)::kWidth;
          const std::int64_t handled = args.accumulate ? columns.end - columns.begin : columns.width;
          Launch(Striding(args.rows * handled / kWidth, kAddThreads), context,
                 args.accumulate ? &Accumulate<kWidth, T> : &Copy<kWidth, T>, args.y.as<T>(), args.x.as<T>(), args.rows,
                 columns);
        },
        columns.width, columns.begin, columns.end);
  });
}

}  // namespace angel_ptm::cuda
