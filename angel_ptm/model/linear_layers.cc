#include "angel_ptm/model/linear_layers.h"

#include <utility>

#include "absl/strings/str_cat.h"

namespace angel_ptm {

TensorId AppendLinears(GraphBuilder& builder, UnitId unit, const std::string& prefix,
                       const std::vector<std::string>& names, TensorId x, int64_t out, InitialValues initial,
                       bool bias) {
  const int64_t in = builder.graph().tensors[x].shape[1], all = out * static_cast<int64_t>(names.size());
  std::vector<ExportedName> weights, biases;
  std::string joined;
  for (int64_t i = 0; i < static_cast<int64_t>(names.size()); ++i) {
    weights.push_back({absl::StrCat(prefix, names[i], ".weight"), i * out * in, {out, in}});
    biases.push_back({absl::StrCat(prefix, names[i], ".bias"), i * out, {out}});
    absl::StrAppend(&joined, i == 0 ? prefix : "+", names[i]);
  }
  const TensorId weight =
      builder.AddParameter(unit, joined + ".weight", {all, in}, initial, /*weight_decay=*/true, std::move(weights));
  if (!bias) return builder.Append(OpKind::kMatmul, joined, {x, weight}, {.trans_b = true})[0];
  const TensorId added = builder.AddParameter(unit, joined + ".bias", {all}, InitialValues::Normal(0),
                                              /*weight_decay=*/false, std::move(biases));
  const TensorId product = builder.Append(OpKind::kMatmul, joined, {x, weight}, {.trans_b = true})[0];
  return builder.Append(OpKind::kAddRows, joined, {product, added})[0];
}

}  // namespace angel_ptm
