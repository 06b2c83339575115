// The most that the processor's multiply-add instructions do on operands in registers: what products are measured by.
#ifndef ANGEL_PTM_BENCHMARKS_MATRIX_PEAK_H_
#define ANGEL_PTM_BENCHMARKS_MATRIX_PEAK_H_

#include <cstdint>
#include <string_view>
#include <vector>

namespace angel_ptm {

// One kind of instruction. `run` does `steps` rounds of them on the calling thread, of `flops` each; what it returns is
// of no use but that it was computed.
struct MatrixInstruction {
  const char* name;
  bool bf16;  // of two bf16 operands; those of fp32 serve bf16 too, widened
  double flops;
  float (*run)(int64_t steps);
};

// Those that code for a level of the host backend may use (CpuIsa::name). The machine must run the level.
std::vector<MatrixInstruction> MatrixInstructions(std::string_view isa);

}  // namespace angel_ptm

#endif  // ANGEL_PTM_BENCHMARKS_MATRIX_PEAK_H_
