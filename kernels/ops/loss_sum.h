#ifndef ANGEL_PTM_KERNELS_OPS_LOSS_SUM_H_
#define ANGEL_PTM_KERNELS_OPS_LOSS_SUM_H_

#include <cstdint>

#include "kernels/operand.h"

namespace angel_ptm {

// *loss += (values[0] + values[1] + ... + values[n-1]), summed in double in this order; *first += the same sum up to
// values[first_n - 1]; *weight += batch_weight[0].
struct LossSumArgs {
  double* loss = nullptr;
  double* first = nullptr;
  double* weight = nullptr;
  ConstOperand values;         // [n] fp32
  ConstOperand batch_weight;   // [1] fp32
  int64_t n = 0, first_n = 0;  // first_n <= n
};

}  // namespace angel_ptm

#endif  // ANGEL_PTM_KERNELS_OPS_LOSS_SUM_H_
