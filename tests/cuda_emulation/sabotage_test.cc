// Every wait, fence, byte count, arrival and barrier of the kernels for sm_90a is necessary: if one is removed or
// changed, the checker names a fault in every schedule.
#include "tests/cuda_emulation/sabotage.h"

#include <gtest/gtest.h>

#include <algorithm>

#include "kernels/cuda/gathered_matmul.h"
#include "kernels/ops/attention.h"
#include "kernels/ops/grouped_matmul.h"
#include "kernels/ops/matmul.h"
#include "tests/cuda_emulation/kernel_runs.h"

namespace angel_ptm::emulated {
namespace {

using Found = std::vector<Fault>;

struct PlantedInstruction {
  const char* name;
  Sabotage sabotage;
  Found any_of;
};
const PlantedInstruction kPlanted[] = {
    {"no wait for an mbarrier", Sabotage::kNoMbarrierWait, {Fault::kRace, Fault::kUninitialised, Fault::kMbarrier}},
    {"the other phase", Sabotage::kOtherParity, {Fault::kDeadlock, Fault::kRace, Fault::kUninitialised}},
    {"more bytes expected than come", Sabotage::kTooManyBytes, {Fault::kDeadlock}},
    {"half the bytes expected", Sabotage::kTooFewBytes, {Fault::kRace, Fault::kMbarrier, Fault::kDeadlock}},
    {"stages that nobody releases", Sabotage::kNoRelease, {Fault::kDeadlock}},
    {"no fence after the mbarriers' init", Sabotage::kNoInitFence, {Fault::kMbarrier}},
    {"no wgmma.fence", Sabotage::kNoWgmmaFence, {Fault::kWgmma}},
    {"no wait for wgmma", Sabotage::kNoWgmmaWait, {Fault::kWgmma, Fault::kRace}},
};
// For kernels that store through shared memory.
const PlantedInstruction kPlantedInStores[] = {
    {"no fence.proxy.async before a tensor store", Sabotage::kNoProxyFence, {Fault::kProxy}},
    {"no barrier around a tensor store", Sabotage::kNoNamedBarrier, {Fault::kRace, Fault::kUninitialised}},
};

// For kernels that copy wgmma's operands by cp.async.
const PlantedInstruction kPlantedInGathers[] = {
    {"no wait for cp.async", Sabotage::kNoCopyWait, {Fault::kRace, Fault::kUninitialised}},
    {"no fence.proxy.async behind cp.async", Sabotage::kNoProxyFence, {Fault::kProxy}},
};

void ExpectFound(const PlantedInstruction& planted, const std::function<void()>& launch) {
  SCOPED_TRACE(planted.name);
  for (const Schedule& schedule : Schedules(1)) {
    const std::vector<Finding> findings = EmulateSabotaged(planted.sabotage, schedule, launch);
    const bool found = std::any_of(findings.begin(), findings.end(), [&](const Finding& finding) {
      return std::count(planted.any_of.begin(), planted.any_of.end(), finding.fault) > 0;
    });
    if (found) continue;
    ADD_FAILURE() << "nothing of that name in " << schedule;
    for (const Finding& finding : findings) ADD_FAILURE() << finding.Describe();
  }
}
void ExpectAllFound(const std::function<void()>& launch, bool stores) {
  for (const PlantedInstruction& planted : kPlanted) ExpectFound(planted, launch);
  if (!stores) return;
  for (const PlantedInstruction& planted : kPlantedInStores) ExpectFound(planted, launch);
}

TEST(SabotageTest, OfMatmulIsFound) {
  std::mt19937 random(31);
  DeviceArray<BFloat16> a(RandomElements<BFloat16>(64 * 392, random)), b(RandomElements<BFloat16>(392 * 8, random));
  DeviceArray<float> c(64 * 8);
  MatmulArgs args = {.c = Out(c), .a = In(a), .b = In(b), .m = 64, .n = 8, .k = 392};
  ExpectAllFound([&] { cuda::LaunchMatmulSm90a(args, {}); }, false);
}

// Operands of two experts: the first has no rows, the second so many, or such wide ones, that they go round the ring.
struct ExpertOperands {
  static constexpr std::int64_t kExperts = 2, kBlockRows = 16;

  ExpertOperands(std::int64_t rows, std::int64_t width_n, std::int64_t width_k)
      : n(width_n),
        k(width_k),
        blocks(rows / kBlockRows),
        rows_R(RandomElements<BFloat16>(rows * k, random)),
        gradients_R(RandomElements<BFloat16>(rows * n, random)),
        weights(RandomElements<BFloat16>(kExperts * n * k, random)),
        results(rows * n),
        dw(kExperts * n * k),
        block_expert(std::vector<std::int32_t>(static_cast<std::size_t>(blocks), 1)),
        active(std::vector<std::int32_t>{static_cast<std::int32_t>(blocks)}),
        workspace(1024) {}
  template <typename Args>
  Args WithShape(Args args) {
    args.block_expert = block_expert.data(), args.active_blocks = active.data(), args.n = n, args.k = k;
    args.e = kExperts, args.block_rows = kBlockRows, args.blocks_max = blocks;
    return args;
  }
  cuda::LaunchContext context() { return {.workspace = reinterpret_cast<std::byte*>(workspace.data())}; }

  std::mt19937 random{33};
  std::int64_t n, k, blocks;
  DeviceArray<BFloat16> rows_R, gradients_R, weights;
  DeviceArray<float> results, dw;
  DeviceArray<std::int32_t> block_expert, active, workspace;
};

TEST(SabotageTest, OfProductsOfExpertsIsFound) {
  ExpertOperands operands(32, 8, 392);
  const auto args = operands.WithShape(GroupedMatmulArgs{
      .c = Out(operands.results), .a = In(operands.rows_R), .b = In(operands.weights), .trans_b = true});
  ExpectAllFound([&] { cuda::LaunchGroupedMatmulSm90a(args, operands.context()); }, false);
}

TEST(SabotageTest, OfProductsOfGatheredTokensIsFound) {
  ExpertOperands operands(32, 8, 392);
  DeviceArray<std::int32_t> pair_of_row(std::vector<std::int32_t>(32, 3));
  const auto args = operands.WithShape(GroupedMatmulArgs{
      .c = Out(operands.results), .a = In(operands.rows_R), .b = In(operands.weights), .trans_b = true});
  const auto launch = [&] {
    cuda::LaunchGatheredMatmulSm90a(args, {pair_of_row.data(), /*choices=*/2}, operands.context());
  };
  ExpectAllFound(launch, false);
  for (const PlantedInstruction& planted : kPlantedInGathers) ExpectFound(planted, launch);
}

TEST(SabotageTest, OfTheGradientOfExpertsIsFound) {
  ExpertOperands operands(400, 8, 8);
  const auto args = operands.WithShape(
      GroupedMatmulGradWeightArgs{.dw = Out(operands.dw), .dy = In(operands.gradients_R), .x = In(operands.rows_R)});
  ExpectAllFound([&] { cuda::LaunchGroupedMatmulGradWeightSm90a(args, operands.context()); }, false);
}

// Few queries and enough keys (for gradients of keys, enough heads) to go round the ring.
struct Operands {
  static constexpr std::int64_t kQueries = 19, kD = 16;

  Operands(std::int64_t row_keys, std::int64_t q_heads)
      : keys(row_keys),
        heads(q_heads),
        q(RandomElements<BFloat16>(kQueries * heads * kD, random)),
        do_(RandomElements<BFloat16>(kQueries * heads * kD, random)),
        k(RandomElements<BFloat16>(keys * kD, random)),
        v(RandomElements<BFloat16>(keys * kD, random)),
        o(kQueries * heads * kD),
        dq(kQueries * heads * kD),
        dk(keys * kD),
        dv(keys * kD),
        lse(kQueries * heads) {}
  template <typename Args>
  Args WithShape(Args args) {
    args.q = In(q), args.k = In(k), args.v = In(v), args.v_stride = kD, args.keys = keys;
    args.b = 1, args.s = kQueries, args.q_heads = heads, args.kv_heads = 1, args.d = kD, args.scale = 0.25f;
    return args;
  }
  AttentionArgs Attention() { return WithShape(AttentionArgs{.o = Out(o), .lse = Out(lse)}); }

  std::int64_t keys, heads;
  std::mt19937 random{32};
  DeviceArray<BFloat16> q, do_, k, v, o, dq, dk, dv;
  DeviceArray<float> lse;
};

TEST(SabotageTest, OfAttentionIsFound) {
  Operands operands(300, 1);
  const AttentionArgs args = operands.Attention();
  ExpectAllFound([&] { cuda::LaunchAttentionSm90a(args, {}); }, true);
}

TEST(SabotageTest, OfTheGradientOfAttentionIsFound) {
  Operands operands(60, 5);
  ASSERT_TRUE(Emulate({}, [&] { cuda::LaunchAttentionSm90a(operands.Attention(), {}); }).empty());
  AttentionGradArgs args = {.dq = Out(operands.dq), .dk = Out(operands.dk), .dv = Out(operands.dv)};
  args = operands.WithShape(args);
  args.do_ = In(operands.do_), args.o = In(operands.o), args.lse = In(operands.lse), args.dv_stride = Operands::kD;
  DeviceArray<float> workspace(cuda::WorkspaceBytes(args) / 4);
  const cuda::LaunchContext context = {.workspace = reinterpret_cast<std::byte*>(workspace.data())};
  ExpectAllFound([&] { cuda::LaunchAttentionGradSm90a(args, context); }, true);
}

}  // namespace
}  // namespace angel_ptm::emulated
