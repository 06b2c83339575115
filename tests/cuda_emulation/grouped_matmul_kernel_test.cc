// Products of experts' weights with their rows.
#include <algorithm>
#include <cmath>
#include <memory>
#include <utility>

#include "kernels/cuda/expert_tiles.h"
#include "kernels/cuda/gathered_matmul.h"
#include "kernels/ops/grouped_matmul.h"
#include "tests/cuda_emulation/kernel_runs.h"
#include "tests/reference/grouped_matmul.h"
#include "tests/support/expert_routing.h"

namespace angel_ptm::emulated {
namespace {

struct GroupedLaunchers {
  void (*product)(const GroupedMatmulArgs&, const cuda::LaunchContext&);
  void (*gradient)(const GroupedMatmulGradWeightArgs&, const cuda::LaunchContext&);
};
constexpr GroupedLaunchers kPlain = {&cuda::LaunchGroupedMatmul, &cuda::LaunchGroupedMatmulGradWeight};
constexpr GroupedLaunchers kGroupedSm90a = {&cuda::LaunchGroupedMatmulSm90a, &cuda::LaunchGroupedMatmulGradWeightSm90a};

// Rows of tokens and of gradients; padding rows are zero. The arrays end after the active blocks.
template <typename S>
struct GroupedExperts {
  GroupedExperts(const RoutingShape& s, std::int64_t width_n, std::int64_t width_k)
      : random(19),
        n(width_n),
        k(width_k),
        layout(s, RouteTokens(s, random)),
        x(Rows(k)),
        dy(Rows(n)),
        w(RandomElements<S>(s.e * n * k, random)),
        device_x(layout.rows_max * k),
        device_dy(layout.rows_max * n),
        device_w(w),
        block_expert(layout.block_expert),
        active(std::vector<std::int32_t>{layout.active_blocks}) {
    device_x.Set(x);
    device_dy.Set(dy);
  }
  template <typename Args>
  void SetShape(Args& args) {
    args.block_expert = block_expert.data(), args.active_blocks = active.data(), args.n = n, args.k = k;
    args.e = layout.shape.e, args.block_rows = layout.shape.block_rows, args.blocks_max = layout.blocks_max;
  }
  std::vector<S> Rows(std::int64_t width) {
    std::vector<S> rows = RandomElements<S>(layout.active_rows() * width, random);
    for (std::int64_t i = 0; i < layout.active_rows() * width; ++i) {
      if (layout.pair_of_row[static_cast<std::size_t>(i / width)] < 0) rows[static_cast<std::size_t>(i)] = S{};
    }
    return rows;
  }

  std::mt19937 random;
  std::int64_t n, k;
  TestLayout layout;
  std::vector<S> x, dy, w;
  DeviceArray<S> device_x, device_dy, device_w;
  DeviceArray<std::int32_t> block_expert, active;
};

template <typename Args>
cuda::LaunchContext Workspace(const Args& args, std::unique_ptr<DeviceArray<std::int32_t>>& memory) {
  memory = std::make_unique<DeviceArray<std::int32_t>>(cuda::WorkspaceBytes(args) / 4);
  return {.workspace = reinterpret_cast<std::byte*>(memory->data())};
}

// y = x w^T, or dx = dy w.
template <typename T, typename S>
void TestProduct(GroupedExperts<S>& e, bool forward, int seeds, const GroupedLaunchers& by = kPlain) {
  const std::int64_t out = forward ? e.n : e.k, rows = e.layout.active_rows();
  DeviceArray<T> c(e.layout.rows_max * out);
  GroupedMatmulArgs args = {.c = Out(c), .a = In(forward ? e.device_x : e.device_dy), .b = In(e.device_w)};
  e.SetShape(args);
  args.n = out, args.k = forward ? e.k : e.n, args.trans_b = forward;
  std::unique_ptr<DeviceArray<std::int32_t>> memory;
  const cuda::LaunchContext context = Workspace(args, memory);
  std::vector<T> got = RunClean([&] { by.product(args, context); }, c, [] {}, seeds);
  got.resize(static_cast<std::size_t>(rows * out));
  std::vector<double> want(got.size());
  reference::GroupedMatmul(want.data(), ToDoubles(forward ? e.x : e.dy).data(), ToDoubles(e.w).data(),
                           e.layout.block_expert.data(), e.layout.active_blocks, e.layout.shape.block_rows, args.n,
                           args.k, args.trans_b);
  EXPECT_LT(ErrorOf(got, want), 1e-6) << "forward " << forward;
}

template <typename T, typename S>
void TestGradWeight(GroupedExperts<S>& e, bool accumulate, int seeds, const GroupedLaunchers& by = kPlain) {
  const auto before = RandomElements<T>(e.layout.shape.e * e.n * e.k, e.random);
  DeviceArray<T> dw(before);
  GroupedMatmulGradWeightArgs args = {.dw = Out(dw), .dy = In(e.device_dy), .x = In(e.device_x)};
  e.SetShape(args);
  args.accumulate = accumulate;
  std::unique_ptr<DeviceArray<std::int32_t>> memory;
  const cuda::LaunchContext context = Workspace(args, memory);
  const std::vector<T> got = RunClean([&] { by.gradient(args, context); }, dw, [&] { dw.Set(before); }, seeds);
  std::vector<double> want(got.size());
  reference::GroupedMatmulGradWeight(want.data(), ToDoubles(e.dy).data(), ToDoubles(e.x).data(),
                                     e.layout.block_expert.data(), e.layout.active_blocks, e.layout.shape.block_rows,
                                     e.n, e.k, e.layout.shape.e);
  for (std::size_t i = 0; accumulate && i < want.size(); ++i) want[i] += static_cast<double>(ToFloat(before[i]));
  EXPECT_LT(ErrorOf(got, want), 1e-6) << "accumulate " << accumulate;
}

template <typename S>
void TestAll(const RoutingShape& s, std::int64_t n, std::int64_t k, int seeds, const GroupedLaunchers& by = kPlain) {
  SCOPED_TRACE(ToString(s));
  GroupedExperts<S> e(s, n, k);
  TestProduct<S>(e, true, seeds, by);
  TestProduct<S>(e, false, 0, by);
  TestGradWeight<float>(e, true, 0, by);
  TestGradWeight<S>(e, false, seeds, by);
}

// Experts without a token, with one, and with more rows than a tile; blocks lower and higher than one.
TEST(CudaGroupedMatmulTest, AgreesWithTheReference) {
  TestAll<BFloat16>({3, 5, 2, 4}, 40, 25, 1);
  TestAll<BFloat16>({65, 9, 2, 16, Spread::kHalfOfExperts}, 24, 48, 0);
  TestAll<BFloat16>({290, 3, 1, 16}, 16, 24, 0);
  TestAll<BFloat16>({150, 2, 1, 144, Spread::kFirstExpertsOnly}, 136, 40, 0);
  TestAll<BFloat16>({9, 2, 2, 16, Spread::kFirstExpertsOnly, 2, 6}, 24, 16, 0);  // a part without rows
}

TEST(CudaGroupedMatmulTest, Fp32AgreesWithTheReference) {
  TestAll<float>({3, 5, 2, 4}, 40, 25, 1);
  TestAll<float>({65, 9, 2, 16, Spread::kHalfOfExperts}, 24, 48, 0);
  TestAll<float>({150, 2, 1, 144, Spread::kFirstExpertsOnly}, 136, 37, 0);
  TestAll<float>({9, 2, 2, 16, Spread::kFirstExpertsOnly, 2, 6}, 24, 16, 0);
}

TEST(CudaGroupedMatmulTest, ResultsInFp32) {
  GroupedExperts<BFloat16> e({9, 4, 2, 8}, 16, 8);
  TestProduct<float>(e, true, 0);
  TestGradWeight<float>(e, false, 0);
}

// Twelve steps, forward and of the gradient, go three times round the ring of four stages, across tile boundaries.
// Also: experts without rows; fewer rows in all than a tile has; tails of 16, 32 and 48 rows; more tiles than blocks.
TEST(CudaGroupedMatmulSm90aTest, AgreesWithTheReference) {
  TestAll<BFloat16>({735, 3, 1, 16, Spread::kFirstExpertsOnly}, 136, 264, 0, kGroupedSm90a);
  TestAll<BFloat16>({290, 3, 1, 16}, 264, 712, 0, kGroupedSm90a);
  TestAll<BFloat16>({65, 9, 2, 16, Spread::kHalfOfExperts}, 24, 48, 1, kGroupedSm90a);
  TestAll<BFloat16>({3, 5, 2, 32}, 40, 16, 1, kGroupedSm90a);
  TestAll<BFloat16>({150, 2, 1, 144, Spread::kFirstExpertsOnly}, 8, 72, 0, kGroupedSm90a);
  TestAll<BFloat16>({9, 2, 2, 16, Spread::kFirstExpertsOnly, 2, 6}, 24, 16, 0, kGroupedSm90a);
  GroupedExperts<BFloat16> many({140, 140, 1, 16}, 8, 8);
  TestGradWeight<BFloat16>(many, false, 0, kGroupedSm90a);
}

// Expects the same bits as on rows that a dispatch laid out.
void TestGathered(const RoutingShape& s, std::int64_t n, std::int64_t k, bool trans_b, int seeds) {
  SCOPED_TRACE(ToString(s));
  GroupedExperts<BFloat16> e(s, n, k);
  const auto tokens = RandomElements<BFloat16>(s.t * k, e.random);
  for (std::int64_t row = 0; row < e.layout.active_rows(); ++row) {
    const std::int32_t pair = e.layout.pair_of_row[static_cast<std::size_t>(row)];
    for (std::int64_t i = 0; i < k; ++i) {
      e.x[static_cast<std::size_t>(row * k + i)] =
          pair < 0 ? BFloat16{} : tokens[static_cast<std::size_t>(pair / s.k * k + i)];
    }
  }
  e.device_x.Set(e.x);
  DeviceArray<BFloat16> device_tokens(tokens), c(e.layout.rows_max * n), gathered(e.layout.rows_max * n);
  DeviceArray<std::int32_t> pair_of_row(e.layout.pair_of_row);
  GroupedMatmulArgs args = {.c = Out(c), .a = In(e.device_x), .b = In(e.device_w)};
  e.SetShape(args);
  args.trans_b = trans_b;
  std::unique_ptr<DeviceArray<std::int32_t>> memory;
  const cuda::LaunchContext context = Workspace(args, memory);
  auto want = RunClean([&] { cuda::LaunchGroupedMatmulSm90a(args, context); }, c, [] {}, 0);
  args.c = Out(gathered), args.a = In(device_tokens);
  const cuda::GatheredRows rows = {pair_of_row.data(), static_cast<std::int32_t>(s.k)};
  auto got = RunClean([&] { cuda::LaunchGatheredMatmulSm90a(args, rows, context); }, gathered, [] {}, seeds);
  const auto in_use = static_cast<std::size_t>(e.layout.active_rows() * n);
  want.resize(in_use), got.resize(in_use);
  EXPECT_TRUE(SameBits(got, want));
}

TEST(CudaGatheredMatmulSm90aTest, HasTheBitsOfRowsThatWereLaidOut) {
  TestGathered({200, 4, 2, 16}, 264, 712, true, 0);
  TestGathered({65, 9, 2, 16, Spread::kHalfOfExperts}, 24, 48, false, 1);
  TestGathered({3, 5, 2, 4}, 40, 16, true, 1);
  TestGathered({140, 140, 1, 1}, 8, 8, false, 0);
}

// An expert's tokens, gradients and weights affect only that expert's results: no zero in an operand's tail meets
// another expert's NaN.
template <typename S>
void TestIndependence(const GroupedLaunchers& by) {
  const RoutingShape s = {70, 3, 1, 16};
  GroupedExperts<S> e(s, 24, 40);
  std::vector<S> products[2], inputs[2];
  std::vector<float> gradients[2];
  const auto spoil = [&](std::vector<S>& values, std::int64_t width, const auto& expert_of) {
    for (std::size_t i = 0; i < values.size(); ++i) {
      if (expert_of(i / static_cast<std::size_t>(width)) == 1) values[i] = Element<S>(NAN);
    }
  };
  const auto of_row = [&](std::size_t row) {
    return e.layout.block_expert[row / static_cast<std::size_t>(s.block_rows)];
  };
  for (int i = 0; i < 2; ++i) {
    DeviceArray<S> c(e.layout.rows_max * e.n), dx(e.layout.rows_max * e.k);
    DeviceArray<float> dw(s.e * e.n * e.k);
    GroupedMatmulArgs forward = {.c = Out(c), .a = In(e.device_x), .b = In(e.device_w)}, backward = forward;
    e.SetShape(forward);
    forward.trans_b = true;
    backward.c = Out(dx), backward.a = In(e.device_dy);
    e.SetShape(backward);
    std::swap(backward.n, backward.k);
    GroupedMatmulGradWeightArgs gradient = {.dw = Out(dw), .dy = In(e.device_dy), .x = In(e.device_x)};
    e.SetShape(gradient);
    std::unique_ptr<DeviceArray<std::int32_t>> memory;
    products[i] = RunClean([&, at = Workspace(forward, memory)] { by.product(forward, at); }, c, [] {}, 0);
    inputs[i] = RunClean([&, at = Workspace(backward, memory)] { by.product(backward, at); }, dx, [] {}, 0);
    gradients[i] = RunClean([&, at = Workspace(gradient, memory)] { by.gradient(gradient, at); }, dw, [] {}, 0);
    spoil(e.x, e.k, of_row), spoil(e.dy, e.n, of_row);
    spoil(e.w, e.n * e.k, [](std::size_t expert) { return expert; });
    e.device_x.Set(e.x), e.device_dy.Set(e.dy), e.device_w.Set(e.w);
  }
  int changed = 0;
  const auto compare = [&](const auto& results, std::size_t width, std::size_t rows, const auto& expert_of) {
    for (std::size_t r = 0; r < rows; ++r) {
      const bool same = std::memcmp(&results[0][r * width], &results[1][r * width], width * sizeof(results[0][0])) == 0;
      EXPECT_EQ(same, expert_of(r) != 1) << "row " << r;
      changed += same ? 0 : 1;
    }
  };
  const auto rows = static_cast<std::size_t>(e.layout.active_rows());
  compare(products, static_cast<std::size_t>(e.n), rows, of_row);
  compare(inputs, static_cast<std::size_t>(e.k), rows, of_row);
  compare(gradients, static_cast<std::size_t>(e.n * e.k), static_cast<std::size_t>(s.e),
          [](std::size_t expert) { return expert; });
  EXPECT_GT(changed, 32);
}
TEST(CudaGroupedMatmulTest, ExpertsDoNotDependOnOthers) { TestIndependence<BFloat16>(kPlain); }
TEST(CudaGroupedMatmulSm90aTest, ExpertsDoNotDependOnOthers) { TestIndependence<BFloat16>(kGroupedSm90a); }

// The lists and orders of tiles, for any number of blocks per expert.
void TestTiles(const std::vector<int>& blocks_of_expert, int block_rows, int unused, int wide, int launched) {
  std::vector<std::int32_t> block_expert;
  for (std::size_t expert = 0; expert < blocks_of_expert.size(); ++expert) {
    block_expert.insert(block_expert.end(), static_cast<std::size_t>(blocks_of_expert[expert]),
                        static_cast<std::int32_t>(expert));
  }
  DeviceArray<std::int32_t> active(std::vector<std::int32_t>{static_cast<std::int32_t>(block_expert.size())});
  const std::vector<std::int32_t> in_use = block_expert;
  block_expert.insert(block_expert.end(), static_cast<std::size_t>(unused), -1);
  DeviceArray<std::int32_t> experts(block_expert);
  const int e = static_cast<int>(blocks_of_expert.size());
  const cuda::ExpertBlocks blocks = {experts.data(), active.data(), block_rows, e,
                                     static_cast<std::int32_t>(block_expert.size())};

  // Each row and column of tiles comes once; an expert without rows has none.
  DeviceArray<cuda::ExpertRows> list(cuda::RowTilesMax(blocks));
  const auto tiles = RunClean([&] { cuda::LaunchFindTiles(list.data(), blocks, {}); }, list);
  std::vector<int> made(in_use.size() * static_cast<std::size_t>(block_rows * wide));
  for (int block = 0; block < launched; ++block) {
    for (int i = block; i < tiles[0].count * wide; i += launched) {
      const cuda::TilePlace place = cuda::PlaceOf({tiles[0].count, wide}, i);
      const cuda::ExpertRows& tile = tiles.at(static_cast<std::size_t>(place.row));
      ASSERT_LT(tile.begin, tile.end);
      for (int row = tile.begin; row < std::min(tile.begin + cuda::kExpertTileRows, tile.end); ++row) {
        ASSERT_EQ(in_use.at(static_cast<std::size_t>(row / block_rows)), tile.expert);
        ++made.at(static_cast<std::size_t>(row * wide + place.column));
      }
    }
  }
  EXPECT_EQ(std::count(made.begin(), made.end(), 1), static_cast<std::ptrdiff_t>(made.size()));

  // Each expert comes once, and the work of the launch's blocks differs by at most one tile.
  DeviceArray<cuda::ExpertRows> sorted_list(e);
  const auto sorted = RunClean([&] { cuda::LaunchSortExperts(sorted_list.data(), blocks, {}); }, sorted_list);
  std::vector<int> rows_of_expert(static_cast<std::size_t>(e), -1);
  for (const cuda::ExpertRows& rows : sorted) {
    EXPECT_EQ(rows.count, e);
    EXPECT_EQ(std::exchange(rows_of_expert.at(static_cast<std::size_t>(rows.expert)), rows.end - rows.begin), -1);
    for (int row = rows.begin; row < rows.end; row += block_rows) {
      ASSERT_EQ(in_use.at(static_cast<std::size_t>(row / block_rows)), rows.expert);
    }
  }
  std::vector<std::int64_t> work(static_cast<std::size_t>(launched));
  for (int i = 0; i < e * wide; ++i) {
    const cuda::ExpertRows& rows = sorted[static_cast<std::size_t>(i / wide)];
    work[static_cast<std::size_t>(i % launched)] += rows.end - rows.begin;
  }
  const auto [least, most] = std::minmax_element(work.begin(), work.end());
  EXPECT_LE(*most - *least, sorted[0].end - sorted[0].begin);
  for (std::size_t i = 0; i < rows_of_expert.size(); ++i)
    EXPECT_EQ(rows_of_expert[i], blocks_of_expert[i] * block_rows);
}

TEST(CudaExpertTilesTest, MakeEachTileOnceWhateverTheCounts) {
  TestTiles({0, 0, 0}, 16, 5, 3, 7);
  TestTiles({0, 40, 0, 1, 8, 9, 0}, 16, 3, 5, 132);
  TestTiles({1}, 1, 0, 1, 132);
  TestTiles({2, 2, 2, 2}, 144, 1, 1, 5);
  std::mt19937 random(23);
  for (int i = 0; i < 5; ++i) {
    std::vector<int> counts(40);
    for (int& count : counts) count = random() % 3 == 0 ? 0 : static_cast<int>(random() % (random() % 30 + 1));
    TestTiles(counts, 16, i, i + 1, 11);
  }
}

}  // namespace
}  // namespace angel_ptm::emulated
