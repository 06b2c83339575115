#include "comm/ordered_reduce_scatter.h"

#include <algorithm>

#include "angel_ptm/base/check.h"
#include "comm/ordered_sum.h"

namespace angel_ptm {
namespace {

constexpr int64_t kCacheLine = 64;

// Elements of one rank in one round.
int64_t PieceElements(int64_t n, int size, int64_t element) {
  const int64_t share = std::max(kCacheLine, kReduceScratchBytesMax / size / kCacheLine * kCacheLine);
  const int64_t slice_bytes = (n * element + kCacheLine - 1) / kCacheLine * kCacheLine;
  return std::min({slice_bytes, share, kReducePieceBytesMax}) / element;
}

}  // namespace

int64_t ReduceScratchBytes(int64_t n, int size, DType type) {
  return size == 1 ? 0 : size * PieceElements(n, size, SizeOf(type)) * SizeOf(type);
}

absl::Status OrderedReduceScatter(Communicator& communicator, const ReducedSlice& dst, const Addends& src,
                                  bool accumulate, std::span<std::byte> scratch, CallTag tag) {
  const int size = communicator.size();
  const int64_t n = dst.elements(), element = SizeOf(src.type), bytes = n * element;
  const int64_t scratch_bytes = ReduceScratchBytes(n, size, src.type);
  APTM_CHECK(static_cast<int64_t>(src.data.size()) == bytes * size, "reduce-scatter: src has ", src.data.size(),
             " bytes, dst ", n, " elements");
  APTM_CHECK(static_cast<int64_t>(scratch.size()) >= scratch_bytes, "reduce-scatter: ", scratch.size(),
             " bytes of scratch");
  const bool rounds = dst.type == DType::kBFloat16;
  APTM_CHECK(!rounds || !accumulate, "reduce-scatter: a sum is added to ", Name(dst.type));
  const auto add = [&](int64_t begin, int64_t piece_bytes, std::span<const std::byte* const> addends) {
    std::byte* const to = dst.data.data() + begin / element * SizeOf(dst.type);
    const int64_t count = piece_bytes / element;
    if (rounds) {
      OrderedSumRounded(reinterpret_cast<BFloat16*>(to), addends, src.type, count);
    } else {
      OrderedSum(reinterpret_cast<float*>(to), addends, src.type, count, accumulate);
    }
  };
  if (size == 1) {
    const std::byte* const addend = src.data.data();
    add(0, bytes, {&addend, 1});
    return absl::OkStatus();
  }
  return communicator.ReadBlocks({src.data.data(), bytes, bytes}, scratch.first(static_cast<size_t>(scratch_bytes)),
                                 add, tag);
}

}  // namespace angel_ptm
