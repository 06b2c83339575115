// The reduction of gradients: one sum in rank order over the ranks' gradients, which are read in place in one pass
// where the transport can, and otherwise arrive through all-to-alls in bounded scratch. In a world of nodes there are
// two sums, both in fp32. First every rank adds up its node's gradients for the ranks at its own place in all nodes;
// then each of those ranks adds up the nodes' sums, so that one sum crosses nodes for all ranks of a node. A transport
// only moves bytes, so every transport gives the same bits.
#ifndef ANGEL_PTM_COMM_ORDERED_REDUCE_SCATTER_H_
#define ANGEL_PTM_COMM_ORDERED_REDUCE_SCATTER_H_

#include <concepts>
#include <cstddef>
#include <cstdint>
#include <span>

#include "angel_ptm/base/dtype.h"
#include "angel_ptm/base/status.h"
#include "angel_ptm/base/world_shape.h"
#include "comm/communicator.h"

namespace angel_ptm {

// The most that arrives at one time from one rank, and from all. It bounds the scratch of a reduction at any world size
// (up to a million ranks, whose pieces would be one cache line). With nodes the scratch is at most twice that, because
// a node's sums lie there, too.
constexpr int64_t kReducePieceBytesMax = int64_t{4} << 20;
constexpr int64_t kReduceScratchBytesMax = int64_t{64} << 20;

// The scratch OrderedReduceScatter needs for n elements of `type` per rank.
int64_t ReduceScratchBytes(int64_t n, WorldShape world, DType type = DType::kFloat32);

// How a rank reduces in a world of nodes: in rounds of `round_elements` elements of its slice, the last of fewer. The
// scratch begins with the sums that the rank sends to other nodes, `sums_bytes`; the rest is for what arrives.
struct NodeReduction {
  NodeReduction(int64_t n, WorldShape world, DType type);

  int64_t round_elements;
  int64_t sums_bytes, arrivals_bytes;  // multiples of 64
};

// What is reduced: fp32 or bf16.
struct Addends {
  template <std::convertible_to<std::span<const float>> Floats>
  Addends(const Floats& x) : data(std::as_bytes(std::span<const float>(x))) {}
  Addends(std::span<const std::byte> bytes, DType of) : data(bytes), type(of) {}

  std::span<const std::byte> data;
  DType type = DType::kFloat32;
};

// Where a sum goes: fp32, or bf16, to which the sum is rounded. Converts implicitly from fp32.
struct ReducedSlice {
  template <std::convertible_to<std::span<float>> Floats>
  ReducedSlice(Floats&& x) : data(std::as_writable_bytes(std::span<float>(x))) {}
  ReducedSlice(std::span<std::byte> bytes, DType of) : data(bytes), type(of) {}

  int64_t elements() const { return static_cast<int64_t>(data.size()) / SizeOf(type); }

  std::span<std::byte> data;
  DType type = DType::kFloat32;
};

// dst[i] (+)= sum in fp32 over ranks r, in rank order, of src_r[rank*n + i], i < n = dst.elements(); src has size*n
// elements. Where the communicator has levels(): the sum over nodes of such sums over each node's ranks. With
// accumulate, which only an fp32 dst allows, the ordered sum is formed first and then added to dst once. An fp32 dst
// may be this rank's part of an fp32 src; otherwise dst and src must not overlap. scratch: at least
// ReduceScratchBytes(n, world, src.type) bytes, 64-byte aligned. Collective; the errors are the communicator's.
absl::Status OrderedReduceScatter(Communicator& communicator, const ReducedSlice& dst, const Addends& src,
                                  bool accumulate, std::span<std::byte> scratch, CallTag tag);

}  // namespace angel_ptm

#endif  // ANGEL_PTM_COMM_ORDERED_REDUCE_SCATTER_H_
