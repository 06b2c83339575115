// Graph ops bound to addresses: everything a kernel needs is worked out once, when an Executor is made.
#ifndef ANGEL_PTM_EXEC_KERNEL_CALL_H_
#define ANGEL_PTM_EXEC_KERNEL_CALL_H_

#include <variant>
#include <vector>

#include "angel_ptm/model/graph.h"
#include "kernels/kernels.h"

namespace angel_ptm {

using KernelArgs = std::variant<std::monostate, MatmulArgs, EmbeddingArgs, EmbeddingGradArgs, AddRmsNormArgs,
                                AddRmsNormGradArgs, RopeTableArgs, QkRopeNormArgs, QkRopeNormGradArgs, AttentionArgs,
                                AttentionGradArgs, CachedAttentionArgs, SwigluArgs, SwigluGradArgs, RouterArgs,
                                RouterGradArgs, ExpertLayoutArgs, DispatchArgs, DispatchGradArgs, GroupedMatmulArgs,
                                GroupedMatmulGradWeightArgs, CombineArgs, CombineGradArgs, LinearCrossEntropyArgs>;

// The output whose name stands for the op in messages: the first one it has.
TensorId NamingOutput(const Op& op);

// The argument struct of a micro-step op. operands: addresses by slot, inputs then outputs, null where absent. With all
// addresses null the shapes are still filled in, which is what workspace sizes are computed from.
KernelArgs BindKernel(const Graph& graph, const Op& op, const std::vector<void*>& operands);

// Runs it.
void Run(const KernelTable& kernels, const KernelArgs& args, const KernelContext& context);

}  // namespace angel_ptm

#endif  // ANGEL_PTM_EXEC_KERNEL_CALL_H_
