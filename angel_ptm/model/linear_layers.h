// Linear layers as Python libraries export them: one tensor per weight and one per bias.
#ifndef ANGEL_PTM_MODEL_LINEAR_LAYERS_H_
#define ANGEL_PTM_MODEL_LINEAR_LAYERS_H_

#include <cstdint>
#include <string>
#include <vector>

#include "angel_ptm/model/graph_builder.h"

namespace angel_ptm {

// x[T,in] -> [T, names.size() * out]: one product with the concatenated weights "<prefix><name>.weight" [out, in] of
// all these layers, plus, unless `bias` is false, their biases "<prefix><name>.bias" [out], which start as zeros. The
// parameters are added to `unit`.
TensorId AppendLinears(GraphBuilder& builder, UnitId unit, const std::string& prefix,
                       const std::vector<std::string>& names, TensorId x, int64_t out, InitialValues initial,
                       bool bias = true);

}  // namespace angel_ptm

#endif  // ANGEL_PTM_MODEL_LINEAR_LAYERS_H_
