// Chooses the instruction-set level (kernels/cpu/cpu_isa.h) of a command's CPU kernels.
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

// Rate of matrix products at a level, in FLOP/s.
using IsaRate = absl::FunctionRef<double(const CpuIsa&)>;

// Returns the best of `runnable`, which must not be empty and must be in ascending order. For fp32 that is the highest
// level, since a library computes its products at every level. For bf16 the rate decides, because CPUID does not tell
// it: on some processors the AVX-512 instruction for bf16 products has half the rate of fp32 FMA. Measures the levels
// with such instructions and the level below them. To be preferred, a level must be more than 5 % faster than a higher
// one.
IsaChoice BestIsa(std::span<const CpuIsa* const> runnable, DType compute, IsaRate rate);

// Returns the level of that name among `isas`; otherwise kInvalidArgument lists them.
absl::StatusOr<const CpuIsa*> IsaNamed(const std::string& name, std::span<const CpuIsa> isas);

// FLOP/s of the level's matrix product of `compute` operands on one thread: the median of a few runs, within a few
// milliseconds. 0 if the level has no such product.
double MatmulRate(const CpuIsa& isa, DType compute);

// Chooses for a single process. forced: the value of --isa, or empty. kFailedPrecondition if this machine cannot run
// it.
absl::StatusOr<IsaChoice> ChooseIsa(const std::string& forced, DType compute);

// Chooses one level for all ranks. `runnable`: the levels that this rank can run. Rank 0 measures and chooses among
// those that every rank can run. Collective unless a level is forced.
absl::StatusOr<IsaChoice> AgreeOnIsa(const std::string& forced, DType compute, std::span<const CpuIsa* const> runnable,
                                     IsaRate rate, Communicator& peers);

}  // namespace angel_ptm

#endif  // ANGEL_PTM_LAUNCH_ISA_CHOICE_H_
