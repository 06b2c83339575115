// LossSum: (losses of the loss op), (weight of the micro-batch), (the step's sums). Never an op of a graph: it runs
// after the loss op, so that the host reads only one sum per step.
#include "angel_ptm/model/op_rules.h"

namespace angel_ptm {

OpRules LossSumRules() {
  return {.inputs = {{"values"}, {"batch_weight"}, {.name = "sums", .access = Access::kReadWrite}}};
}

}  // namespace angel_ptm
