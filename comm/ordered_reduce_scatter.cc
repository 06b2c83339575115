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

int64_t ArrivalsBytes(int64_t n, int size, DType type) {
  return size * PieceElements(n, size, SizeOf(type)) * SizeOf(type);
}

// Sums the addends into `count` elements of dst from element `begin` on.
void Sum(const ReducedSlice& dst, int64_t begin, int64_t count, std::span<const std::byte* const> addends, DType type,
         bool accumulate) {
  std::byte* const to = dst.data.data() + begin * SizeOf(dst.type);
  if (dst.type == DType::kBFloat16) {
    OrderedSumRounded(reinterpret_cast<BFloat16*>(to), addends, type, count);
  } else {
    OrderedSum(reinterpret_cast<float*>(to), addends, type, count, accumulate);
  }
}

absl::Status ReduceByNodes(const CommunicatorLevels& levels, const ReducedSlice& dst, const Addends& src,
                           bool accumulate, std::span<std::byte> scratch, CallTag tag) {
  const int nodes = levels.across->size(), local = levels.inside->size();
  const int64_t n = dst.elements(), element = SizeOf(src.type), fp32 = SizeOf(DType::kFloat32);
  const NodeReduction shape(n, {nodes * local, local}, src.type);
  const ReducedSlice sums(scratch.first(static_cast<size_t>(shape.sums_bytes)), DType::kFloat32);
  const auto arrivals =
      scratch.subspan(static_cast<size_t>(shape.sums_bytes), static_cast<size_t>(shape.arrivals_bytes));
  for (int64_t begin = 0, count = 0; begin < n; begin += count) {
    count = std::min(shape.round_elements, n - begin);
    const SendBlocks of_ranks = {src.data.data() + begin * element, n * element, count * element, nodes,
                                 local * n * element};
    RETURN_IF_ERROR(levels.inside->ReadBlocks(
        of_ranks, arrivals,
        [&](int node, int64_t at, int64_t bytes, std::span<const std::byte* const> addends) {
          Sum(sums, node * count + at / element, bytes / element, addends, src.type, false);
        },
        tag));
    RETURN_IF_ERROR(levels.across->ReadBlocks(
        {sums.data.data(), count * fp32, count * fp32}, arrivals,
        [&](int, int64_t at, int64_t bytes, std::span<const std::byte* const> addends) {
          Sum(dst, begin + at / fp32, bytes / fp32, addends, DType::kFloat32, accumulate);
        },
        tag));
  }
  return absl::OkStatus();
}

}  // namespace

NodeReduction::NodeReduction(int64_t n, WorldShape world, DType type) {
  const int nodes = world.nodes();
  // Rounds begin at multiples of a cache line for every type.
  round_elements =
      std::min(n, std::max(kCacheLine, PieceElements(n, nodes, SizeOf(DType::kFloat32)) / kCacheLine * kCacheLine));
  sums_bytes = (nodes * round_elements * SizeOf(DType::kFloat32) + kCacheLine - 1) / kCacheLine * kCacheLine;
  arrivals_bytes = std::max(ArrivalsBytes(round_elements, world.ranks_per_node, type),
                            ArrivalsBytes(round_elements, nodes, DType::kFloat32));
}

int64_t ReduceScratchBytes(int64_t n, WorldShape world, DType type) {
  if (world.size == 1) return 0;
  if (!world.has_nodes()) return ArrivalsBytes(n, world.size, type);
  const NodeReduction shape(n, world, type);
  return shape.sums_bytes + shape.arrivals_bytes;
}

absl::Status OrderedReduceScatter(Communicator& communicator, const ReducedSlice& dst, const Addends& src,
                                  bool accumulate, std::span<std::byte> scratch, CallTag tag) {
  const WorldShape world = WorldOf(communicator);
  const int64_t n = dst.elements(), element = SizeOf(src.type), bytes = n * element;
  const int64_t scratch_bytes = ReduceScratchBytes(n, world, src.type);
  APTM_CHECK(static_cast<int64_t>(src.data.size()) == bytes * world.size, "reduce-scatter: src has ", src.data.size(),
             " bytes, dst ", n, " elements");
  APTM_CHECK(static_cast<int64_t>(scratch.size()) >= scratch_bytes, "reduce-scatter: ", scratch.size(),
             " bytes of scratch");
  APTM_CHECK(dst.type == DType::kFloat32 || !accumulate, "reduce-scatter: a sum is added to ", Name(dst.type));
  if (world.has_nodes()) return ReduceByNodes(*communicator.levels(), dst, src, accumulate, scratch, tag);
  const auto add = [&](int, int64_t begin, int64_t piece_bytes, std::span<const std::byte* const> addends) {
    Sum(dst, begin / element, piece_bytes / element, addends, src.type, accumulate);
  };
  if (world.size == 1) {
    const std::byte* const addend = src.data.data();
    add(0, 0, bytes, {&addend, 1});
    return absl::OkStatus();
  }
  return communicator.ReadBlocks({src.data.data(), bytes, bytes}, scratch.first(static_cast<size_t>(scratch_bytes)),
                                 add, tag);
}

}  // namespace angel_ptm
