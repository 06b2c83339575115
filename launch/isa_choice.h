// Which level of instruction sets (kernels/cpu/cpu_isa.h) a command computes with.
#ifndef ANGEL_PTM_LAUNCH_ISA_CHOICE_H_
#define ANGEL_PTM_LAUNCH_ISA_CHOICE_H_

#include <span>
#include <string>
#include <vector>

#include "absl/functional/function_ref.h"
#include "angel_ptm/base/dtype.h"
#include "angel_ptm/base/status.h"
#include "comm/communicator.h"
#include "kernels/cpu/cpu_isa.h"

namespace angel_ptm {

struct IsaChoice {
  const CpuIsa* isa = nullptr;
  std::string reason;  // "forced", "the highest that runs here", or the rates that decided
};

// Products per second of a level: FLOP/s.
using IsaRate = absl::FunctionRef<double(const CpuIsa&)>;

// The best of `runnable`, which is not empty and lowest first. By order for fp32, whose products are a library's at
// every level. For bf16 by rate, because CPUID does not tell it (the AVX-512 instruction for bf16 products has half the
// rate of fp32 FMA on some processors): measured are the levels that have such instructions and the one below them, and
// a level must be more than 5 % faster than a higher one to be preferred.
IsaChoice BestIsa(std::span<const CpuIsa* const> runnable, DType compute, IsaRate rate);

// The level of that name among `isas`; else kInvalidArgument lists them.
absl::StatusOr<const CpuIsa*> IsaNamed(const std::string& name, std::span<const CpuIsa> isas);

// FLOP/s of the level's matrix product of `compute` operands on one thread: the median of a few in a few milliseconds;
// 0 if it has none.
double MatmulRate(const CpuIsa& isa, DType compute);

// For a process alone. forced: the value of --isa, or empty. kFailedPrecondition if this machine does not run it.
absl::StatusOr<IsaChoice> ChooseIsa(const std::string& forced, DType compute);

// The same for all ranks, `runnable` being what this one runs: of the levels that every rank runs rank 0 measures and
// chooses. Collective unless a level is forced.
absl::StatusOr<IsaChoice> AgreeOnIsa(const std::string& forced, DType compute, std::span<const CpuIsa* const> runnable,
                                     IsaRate rate, Communicator& peers);

}  // namespace angel_ptm

#endif  // ANGEL_PTM_LAUNCH_ISA_CHOICE_H_
