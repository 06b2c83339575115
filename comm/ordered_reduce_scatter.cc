#include "comm/ordered_reduce_scatter.h"

#include <algorithm>

#include "angel_ptm/base/check.h"
#include "comm/ordered_sum.h"

namespace angel_ptm {
namespace {

constexpr int64_t kLine = 64;

// Elements of one rank in one round.
int64_t PieceElements(int64_t n, int size) {
  const int64_t share = std::max(kLine, kReduceScratchBytesMax / size / kLine * kLine);
  const int64_t slice_bytes = (n * int64_t{sizeof(float)} + kLine - 1) / kLine * kLine;
  return std::min({slice_bytes, share, kReducePieceBytesMax}) / int64_t{sizeof(float)};
}

}  // namespace

int64_t ReduceScratchBytes(int64_t n, int size) {
  return size == 1 ? 0 : size * PieceElements(n, size) * int64_t{sizeof(float)};
}

absl::Status OrderedReduceScatter(Communicator& communicator, std::span<float> dst, std::span<const float> src,
                                  bool accumulate, std::span<std::byte> scratch, CallTag tag) {
  const int size = communicator.size();
  const int64_t n = static_cast<int64_t>(dst.size());
  APTM_CHECK(static_cast<int64_t>(src.size()) == n * size, "reduce-scatter: src has ", src.size(), " floats, dst ", n);
  APTM_CHECK(static_cast<int64_t>(scratch.size()) >= ReduceScratchBytes(n, size), "reduce-scatter: ", scratch.size(),
             " bytes of scratch");
  if (size == 1) {
    OrderedSum(dst.data(), src.data(), 0, 1, n, accumulate);
    return absl::OkStatus();
  }
  float* const arrived = reinterpret_cast<float*>(scratch.data());
  const int64_t piece = PieceElements(n, size);
  for (int64_t begin = 0; begin < n; begin += piece) {
    const int64_t m = std::min(piece, n - begin);
    const SendBlocks blocks{reinterpret_cast<const std::byte*>(src.data() + begin), n * int64_t{sizeof(float)},
                            m * int64_t{sizeof(float)}};
    RETURN_IF_ERROR(
        communicator.AllToAll(std::as_writable_bytes(std::span(arrived, static_cast<size_t>(size * m))), blocks, tag));
    OrderedSum(dst.data() + begin, arrived, m, size, m, accumulate);
  }
  return absl::OkStatus();
}

}  // namespace angel_ptm
