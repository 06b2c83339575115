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
    const std::byte* const addend = reinterpret_cast<const std::byte*>(src.data());
    OrderedSum(dst.data(), {&addend, 1}, n, accumulate);
    return absl::OkStatus();
  }
  const int64_t bytes = n * int64_t{sizeof(float)};
  const auto add = [&](int64_t begin, int64_t piece_bytes, std::span<const std::byte* const> addends) {
    OrderedSum(dst.data() + begin / int64_t{sizeof(float)}, addends, piece_bytes / int64_t{sizeof(float)}, accumulate);
  };
  return communicator.ReadBlocks({reinterpret_cast<const std::byte*>(src.data()), bytes, bytes},
                                 scratch.first(static_cast<size_t>(ReduceScratchBytes(n, size))), add, tag);
}

}  // namespace angel_ptm
