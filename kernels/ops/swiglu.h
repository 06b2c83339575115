#ifndef ANGEL_PTM_KERNELS_OPS_SWIGLU_H_
#define ANGEL_PTM_KERNELS_OPS_SWIGLU_H_

#include <cstdint>

#include "kernels/operand.h"

namespace angel_ptm {

// y[R,F] = silu(gate) * up with gate_up[R,2F] = [gate | up]. y and gate_up are elements. active_blocks, if given,
// points to the number of leading blocks of block_rows rows that hold data; later rows are neither read nor written.
struct SwigluArgs {
  Operand y;
  ConstOperand gate_up;
  int64_t rows = 0, f = 0, block_rows = 0;
  const int32_t* active_blocks = nullptr;
};

// dgate_up[R,2F] from dy[R,F] and gate_up. All three are elements.
struct SwigluGradArgs {
  Operand dgate_up;
  ConstOperand dy, gate_up;
  int64_t rows = 0, f = 0, block_rows = 0;
  const int32_t* active_blocks = nullptr;
};

}  // namespace angel_ptm

#endif  // ANGEL_PTM_KERNELS_OPS_SWIGLU_H_
