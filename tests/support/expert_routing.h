// Routings for tests of the expert ops: which tokens go to which experts, and their layout in blocks.
#ifndef ANGEL_PTM_TESTS_SUPPORT_EXPERT_ROUTING_H_
#define ANGEL_PTM_TESTS_SUPPORT_EXPERT_ROUTING_H_

#include <cstdint>
#include <random>
#include <string>
#include <utility>
#include <vector>

#include "angel_ptm/base/expert_blocks.h"
#include "kernels/kernels.h"
#include "kernels/ops/expert_layout.h"
#include "tests/support/kernel_testing.h"

namespace angel_ptm {

enum class Spread { kRandom, kFirstExpertsOnly, kHalfOfExperts };

// Each token chooses k of all experts. There are `e` experts, or `of_all` if that is not 0; then only experts [first,
// first + e) are laid out.
struct RoutingShape {
  int64_t t, e, k, block_rows;
  Spread spread = Spread::kRandom;
  int64_t first = 0, of_all = 0;

  bool is_part() const { return of_all != 0; }
  int64_t all() const { return is_part() ? of_all : e; }
  // How many of the experts that are laid out a token can choose.
  int64_t k_max() const { return is_part() ? std::min(k, e) : k; }
};

inline std::string ToString(const RoutingShape& s) {
  const char* spread = s.spread == Spread::kRandom ? "random" : s.spread == Spread::kHalfOfExperts ? "half" : "first";
  const std::string part =
      s.is_part() ? " from " + std::to_string(s.first) + " of " + std::to_string(s.of_all) : std::string();
  return "T=" + std::to_string(s.t) + " E=" + std::to_string(s.e) + part + " K=" + std::to_string(s.k) +
         " block=" + std::to_string(s.block_rows) + " " + spread;
}

// K different experts per token; kFirstExpertsOnly sends every token to experts 0..K-1, kHalfOfExperts uses the upper
// half (at least K), so that some experts have no tokens.
inline std::vector<int32_t> RouteTokens(const RoutingShape& s, std::mt19937& random) {
  std::vector<int32_t> experts;
  for (int64_t t = 0; t < s.t; ++t) {
    std::vector<int32_t> candidates;
    const int64_t first = s.spread == Spread::kHalfOfExperts ? std::min(s.all() / 2, s.all() - s.k) : 0;
    const int64_t last = s.spread == Spread::kFirstExpertsOnly ? s.k : s.all();
    for (int64_t e = first; e < last; ++e) candidates.push_back(static_cast<int32_t>(e));
    std::shuffle(candidates.begin(), candidates.end(), random);
    experts.insert(experts.end(), candidates.begin(), candidates.begin() + s.k);
  }
  return experts;
}

// The layout that the expert_layout kernel makes of a routing.
struct TestLayout {
  TestLayout(const RoutingShape& s, std::vector<int32_t> routed)
      : shape(s),
        first_expert(static_cast<int32_t>(s.first)),
        blocks_max(ExpertBlocksMax(s.t, s.k_max(), s.e, s.block_rows)),
        rows_max(blocks_max * s.block_rows),
        experts(std::move(routed)),
        row_of_pair(s.t * s.k, -7),
        pair_of_row(rows_max, -7),
        block_expert(blocks_max, -7) {
    RunKernel(CpuKernels().expert_layout,
              {.row_of_pair = row_of_pair.data(),
               .pair_of_row = pair_of_row.data(),
               .block_expert = block_expert.data(),
               .active_blocks = &active_blocks,
               .experts = experts.data(),
               .first_expert = s.is_part() ? &first_expert : nullptr,
               .t = s.t,
               .k = s.k,
               .e = s.e,
               .block_rows = s.block_rows,
               .blocks_max = blocks_max},
              1);
  }
  int64_t active_rows() const { return active_blocks * shape.block_rows; }

  RoutingShape shape;
  int32_t first_expert;
  int64_t blocks_max, rows_max;
  std::vector<int32_t> experts, row_of_pair, pair_of_row, block_expert;
  int32_t active_blocks = -7;
};

inline const std::vector<RoutingShape>& RoutingShapes() {
  static const std::vector<RoutingShape> shapes = {{1, 3, 2, 4},
                                                   {3, 3, 2, 4},
                                                   {65, 3, 2, 16},
                                                   {65, 24, 2, 8},
                                                   {64, 8, 8, 16},
                                                   {33, 4, 1, 32},
                                                   {65, 6, 2, 16, Spread::kFirstExpertsOnly},
                                                   {65, 6, 1, 1, Spread::kFirstExpertsOnly},
                                                   {65, 9, 2, 16, Spread::kHalfOfExperts},
                                                   // Parts of the experts: each of three in turn, one expert and more
                                                   // choices than experts, all experts, every pair and no pair.
                                                   {65, 2, 2, 16, Spread::kRandom, 0, 6},
                                                   {65, 2, 2, 16, Spread::kRandom, 2, 6},
                                                   {65, 2, 2, 16, Spread::kRandom, 4, 6},
                                                   {33, 1, 3, 8, Spread::kRandom, 4, 5},
                                                   {33, 2, 4, 8, Spread::kRandom, 1, 5},
                                                   {65, 3, 2, 16, Spread::kRandom, 0, 3},
                                                   {65, 3, 2, 16, Spread::kFirstExpertsOnly, 0, 9},
                                                   {65, 3, 2, 16, Spread::kFirstExpertsOnly, 3, 9}};
  return shapes;
}

}  // namespace angel_ptm

#endif  // ANGEL_PTM_TESTS_SUPPORT_EXPERT_ROUTING_H_
