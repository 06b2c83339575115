// The search for the op that produced the first non-finite number. Each op says which part of an output is data
// (OutputSlot, model/op_rules.h).
#ifndef ANGEL_PTM_EXEC_NON_FINITE_H_
#define ANGEL_PTM_EXEC_NON_FINITE_H_

#include <string>
#include <vector>

#include "angel_ptm/model/graph.h"

namespace angel_ptm {

// A tensor in which a non-finite number was found: a parameter that `op` read, or what `op` produced from finite
// parameters.
struct NonFinite {
  OpId op = kNone;
  TensorId tensor = kNone;
};
// "parameter embed_tokens, read by forward Embedding" or "final_norm.y, written by forward AddRmsNorm".
std::string Describe(const Graph& graph, const NonFinite& found);

// The tensor for which an op that has just run is to blame (NonFinite::tensor); kNone if everything it produced is
// finite. operands: by slot, inputs then outputs, addressable by the host.
TensorId NonFiniteTensor(const Graph& graph, const Op& op, const std::vector<const void*>& operands);

}  // namespace angel_ptm

#endif  // ANGEL_PTM_EXEC_NON_FINITE_H_
