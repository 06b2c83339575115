// The counting sort of expert_layout (kernels/ops/expert_layout.h) with the host backend's numbers: pairs by expert,
// those of each expert in order, starting at the border of a block. Pairs of experts that are not laid out are neither
// counted nor placed.
//
// Bytes: 4 T K read twice, 8 T K and 4 R written, 8 E for every 256 pairs; integers only. Limit: latency of three
// launches. (1) A block counts the experts of 256 pairs. (2) One block, with one thread per expert, turns the counts
// into where each 256 pairs begin within their expert, then computes the experts' first rows. (3) One thread per pair
// counts how many of the block's earlier pairs have its expert. Workspace: E int32 for every 256 pairs and E more.
#include "kernels/cuda/elements.cuh"
#include "kernels/cuda/launch.cuh"
#include "kernels/ops/expert_layout.h"

namespace angel_ptm::cuda {
namespace {

constexpr int kPairs = 256, kLayoutThreads = 1024;

struct Layout {
  std::int32_t *row_of_pair, *pair_of_row, *block_expert, *active_blocks;
  const std::int32_t *experts, *first_expert;
  std::int32_t *before, *first_row;  // [chunks,E], [E]
  std::int64_t pairs, block_rows, blocks_max, chunks;
  int e;
};

std::int64_t Chunks(const ExpertLayoutArgs& args) { return (args.t * args.k + kPairs - 1) / kPairs; }

// A pair's expert among those that are laid out; -1 if it is none of them, or if there is no such pair.
APTM_DEVICE std::int32_t ExpertOf(const Layout& l, std::int64_t pair) {
  if (pair >= l.pairs) return -1;
  const std::int32_t expert = l.experts[pair] - (l.first_expert == nullptr ? 0 : *l.first_expert);
  return expert >= 0 && expert < l.e ? expert : -1;
}

__global__ void __launch_bounds__(kPairs) CountPairs(Layout l) {
  APTM_DYNAMIC_SHARED(shared);
  int* const counts = reinterpret_cast<int*>(shared);
  const int thread = threadIdx.x;
  for (int i = thread; i < l.e; i += kPairs) counts[i] = 0;
  __syncthreads();
  const std::int32_t expert = ExpertOf(l, static_cast<std::int64_t>(blockIdx.x) * kPairs + thread);
  if (expert >= 0) atomicAdd(counts + expert, 1);
  __syncthreads();
  for (int i = thread; i < l.e; i += kPairs) l.before[static_cast<std::int64_t>(blockIdx.x) * l.e + i] = counts[i];
  ForGroups<1>(l.blocks_max * l.block_rows, [&](std::int64_t row) { l.pair_of_row[row] = -1; });
}

__global__ void __launch_bounds__(kLayoutThreads) PlaceExperts(Layout l) {
  APTM_DYNAMIC_SHARED(shared);
  int* const first_block = reinterpret_cast<int*>(shared);  // [E + 1], at first numbers of blocks
  const int thread = threadIdx.x;
  for (int i = thread; i < l.e; i += kLayoutThreads) {
    std::int32_t sum = 0;
    for (std::int64_t chunk = 0; chunk < l.chunks; ++chunk) {
      std::int32_t* const at = l.before + chunk * l.e + i;
      const std::int32_t count = *at;
      *at = sum;
      sum += count;
    }
    first_block[i] = static_cast<int>((sum + l.block_rows - 1) / l.block_rows);
  }
  __syncthreads();
  if (thread == 0) {
    int block = 0;
    for (int i = 0; i < l.e; ++i) {
      const int blocks = first_block[i];
      first_block[i] = block;
      block += blocks;
    }
    first_block[l.e] = block;
    *l.active_blocks = block;
  }
  __syncthreads();
  for (int i = thread; i < l.e; i += kLayoutThreads) {
    l.first_row[i] = static_cast<std::int32_t>(first_block[i] * l.block_rows);
    for (int block = first_block[i]; block < first_block[i + 1]; ++block) l.block_expert[block] = i;
  }
  for (std::int64_t block = first_block[l.e] + thread; block < l.blocks_max; block += kLayoutThreads) {
    l.block_expert[block] = -1;
  }
}

__global__ void __launch_bounds__(kPairs) PlacePairs(Layout l) {
  APTM_SHARED(std::int32_t, experts, kPairs);
  const int thread = threadIdx.x;
  const std::int64_t pair = static_cast<std::int64_t>(blockIdx.x) * kPairs + thread;
  const std::int32_t expert = ExpertOf(l, pair);
  experts[thread] = expert;
  __syncthreads();
  if (expert < 0) {
    if (pair < l.pairs) l.row_of_pair[pair] = -1;
    return;
  }
  std::int32_t row = l.first_row[expert] + l.before[static_cast<std::int64_t>(blockIdx.x) * l.e + expert];
  for (int earlier = 0; earlier < thread; ++earlier) row += experts[earlier] == expert ? 1 : 0;
  l.row_of_pair[pair] = row;
  l.pair_of_row[row] = static_cast<std::int32_t>(pair);
}

}  // namespace

std::int64_t WorkspaceBytes(const ExpertLayoutArgs& args) {
  return (Chunks(args) + 1) * args.e * std::int64_t{sizeof(std::int32_t)};
}

void LaunchExpertLayout(const ExpertLayoutArgs& args, const LaunchContext& context) {
  std::int32_t* const workspace = reinterpret_cast<std::int32_t*>(context.workspace);
  const Layout layout = {.row_of_pair = args.row_of_pair,
                         .pair_of_row = args.pair_of_row,
                         .block_expert = args.block_expert,
                         .active_blocks = args.active_blocks,
                         .experts = args.experts,
                         .first_expert = args.first_expert,
                         .before = workspace + args.e,
                         .first_row = workspace,
                         .pairs = args.t * args.k,
                         .block_rows = args.block_rows,
                         .blocks_max = args.blocks_max,
                         .chunks = Chunks(args),
                         .e = static_cast<int>(args.e)};
  const std::size_t experts = static_cast<std::size_t>(args.e) * sizeof(int);
  const Extent chunks = {.x = static_cast<unsigned>(layout.chunks)};
  Launch({.grid = chunks, .block = {.x = kPairs}, .shared_bytes = experts}, context, &CountPairs, layout);
  Launch({.grid = {}, .block = {.x = kLayoutThreads}, .shared_bytes = experts + sizeof(int)}, context, &PlaceExperts,
         layout);
  Launch({.grid = chunks, .block = {.x = kPairs}}, context, &PlacePairs, layout);
}

}  // namespace angel_ptm::cuda
