#include "launch/isa_choice.h"

#include <algorithm>
#include <array>
#include <chrono>
#include <cstdint>
#include <memory>

#include "absl/strings/str_cat.h"
#include "absl/strings/str_format.h"
#include "absl/strings/str_join.h"
#include "angel_ptm/memory/tier.h"
#include "kernels/ops/matmul.h"

namespace angel_ptm {
namespace {

// How much faster a level must be than a higher one.
constexpr double kClearlyFaster = 1.05;

std::string Names(std::span<const CpuIsa* const> isas) {
  return absl::StrJoin(isas, ", ", [](std::string* out, const CpuIsa* isa) { out->append(isa->name); });
}

absl::StatusOr<IsaChoice> ForcedIsa(const std::string& name, std::span<const CpuIsa* const> runnable) {
  ASSIGN_OR_RETURN(const CpuIsa* const isa, IsaNamed(name, CpuIsas()));
  if (std::find(runnable.begin(), runnable.end(), isa) != runnable.end()) return IsaChoice{isa, "forced"};
  return absl::FailedPreconditionError(absl::StrCat(
      "--isa: wanted ", name, ", but the processor and the system of this machine run ", Names(runnable), " only"));
}

}  // namespace

IsaChoice BestIsa(std::span<const CpuIsa* const> runnable, DType compute, IsaRate rate) {
  const CpuIsa* best = runnable.back();
  if (compute == DType::kFloat32 || !best->bf16_products) return {best, "the highest that runs here"};
  double best_rate = 0;
  std::string rates;
  for (auto it = runnable.rbegin(); it != runnable.rend(); ++it) {
    const double own = rate(**it);
    absl::StrAppend(&rates, rates.empty() ? "" : ", ", absl::StrFormat("%s %.0f GFLOP/s", (*it)->name, own * 1e-9));
    if (own > kClearlyFaster * best_rate) {
      best = *it;
      best_rate = own;
    }
    if (!(*it)->bf16_products) break;
  }
  return {best, absl::StrCat("measured: ", rates)};
}

absl::StatusOr<const CpuIsa*> IsaNamed(const std::string& name, std::span<const CpuIsa> isas) {
  std::vector<const CpuIsa*> known;
  for (const CpuIsa& isa : isas) {
    if (name == isa.name) return &isa;
    known.push_back(&isa);
  }
  return absl::InvalidArgumentError(absl::StrCat("--isa: wanted one of ", Names(known), ", got ", name));
}

double MatmulRate(const CpuIsa& isa, DType compute) {
  constexpr int64_t kSize = 256, kMeasured = 7;
  constexpr double kFlops = 2.0 * kSize * kSize * kSize;
  MatmulArgs args{.c = {nullptr, compute},
                  .a = {nullptr, compute},
                  .b = {nullptr, compute},
                  .m = kSize,
                  .n = kSize,
                  .k = kSize,
                  .trans_b = true};
  const Kernel<MatmulArgs>& matmul = isa.kernels().matmul;
  if (!matmul.can_run(args).ok()) return 0;
  const int64_t bytes = kSize * kSize * SizeOf(compute), workspace_bytes = matmul.workspace_bytes(args, {.threads = 1});
  const auto arena = MakeHostArena(TierKind::kDevice, 3 * bytes + workspace_bytes);
  if (!arena.ok()) return 0;
  std::byte* const data = (*arena)->data();
  args.c.data = data;
  args.a.data = data + bytes;
  args.b.data = data + 2 * bytes;
  const KernelContext context{.threads = 1, .workspace = data + 3 * bytes, .workspace_bytes = workspace_bytes};
  std::array<double, kMeasured> seconds;
  matmul(args, context);
  for (double& s : seconds) {
    const auto begin = std::chrono::steady_clock::now();
    matmul(args, context);
    s = std::chrono::duration<double>(std::chrono::steady_clock::now() - begin).count();
  }
  std::nth_element(seconds.begin(), seconds.begin() + kMeasured / 2, seconds.end());
  return kFlops / seconds[kMeasured / 2];
}

absl::StatusOr<IsaChoice> ChooseIsa(const std::string& forced, DType compute) {
  const std::vector<const CpuIsa*> runnable = RunnableCpuIsas();
  if (!forced.empty()) return ForcedIsa(forced, runnable);
  return BestIsa(runnable, compute, [compute](const CpuIsa& isa) { return MatmulRate(isa, compute); });
}

absl::StatusOr<IsaChoice> AgreeOnIsa(const std::string& forced, DType compute, std::span<const CpuIsa* const> runnable,
                                     IsaRate rate, Communicator& peers) {
  if (!forced.empty()) return ForcedIsa(forced, runnable);
  // Levels are nested, so the smallest number of them is what all ranks can run.
  const int64_t own = static_cast<int64_t>(runnable.size());
  std::vector<int64_t> of_ranks(static_cast<size_t>(peers.size()));
  RETURN_IF_ERROR(peers.AllGather(std::as_writable_bytes(std::span(of_ranks)), std::as_bytes(std::span(&own, 1)),
                                  {"levels of instruction sets"}));
  const auto common = runnable.first(static_cast<size_t>(*std::min_element(of_ranks.begin(), of_ranks.end())));
  IsaChoice choice;
  int64_t chosen = 0;
  if (peers.rank() == 0) {
    choice = BestIsa(common, compute, rate);
    chosen = std::find(common.begin(), common.end(), choice.isa) - common.begin();
  }
  RETURN_IF_ERROR(peers.Broadcast(std::as_writable_bytes(std::span(&chosen, 1)), 0, {"the level of rank 0"}));
  if (chosen < 0 || chosen >= static_cast<int64_t>(common.size())) {
    return absl::FailedPreconditionError(absl::StrCat("rank 0 chose level ", chosen,
                                                      " of the CPU kernels, this rank has ", common.size(),
                                                      ": wanted the same program on all ranks"));
  }
  if (peers.rank() != 0) choice = {common[static_cast<size_t>(chosen)], "rank 0's"};
  return choice;
}

}  // namespace angel_ptm
