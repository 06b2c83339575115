// The search for the op that made the first number that is not finite. What of an output is data is the op's to say
// (OutputSlot, model/op_rules.h).
#ifndef ANGEL_PTM_EXEC_NON_FINITE_H_
#define ANGEL_PTM_EXEC_NON_FINITE_H_

#include <string>
#include <vector>

#include "angel_ptm/model/graph.h"

namespace angel_ptm {

// A tensor in which a non-finite number was found: a parameter that `op` read, or what `op` made of finite parameters.
struct NonFinite {
  OpId op = kNone;
  TensorId tensor = kNone;
};
// "parameter embed_tokens, read by forward Embedding" or "final_norm.y, written by forward AddRmsNorm".
std::string Describe(const Graph& graph, const NonFinite& found);

// What an op that has just run is to blame for: kNone if all it made is finite. Operands are addressable by the host,
// by slot, inputs then outputs.
TensorId NonFiniteTensor(const Graph& graph, const Op& op, const std::vector<const void*>& operands);

}  // namespace angel_ptm

#endif  // ANGEL_PTM_EXEC_NON_FINITE_H_
