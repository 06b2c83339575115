// AdamW: (unit's parameters, moments, gradient). An op of the update segment.
#include "angel_ptm/model/op_rules.h"

namespace angel_ptm {
namespace {

// Three states read and written, the gradient read.
double Bytes(const OpView& v) { return 28.0 * static_cast<double>(v.graph.units[v.op.unit].elements); }

}  // namespace

OpRules AdamWRules() {
  return {.inputs = {{.name = "parameters", .access = Access::kReadWrite},
                     {.name = "moment1", .access = Access::kReadWrite},
                     {.name = "moment2", .access = Access::kReadWrite},
                     {"gradients"}},
          .bytes = &Bytes};
}

}  // namespace angel_ptm
