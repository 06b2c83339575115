// The ops that memory bounds, in fp32 and in bf16, which moves half of the bytes.
#include <cmath>
#include <string>
#include <vector>

#include "benchmarks/kernel_report.h"
#include "kernels/cpu/bf16.h"
#include "kernels/ops/adamw.h"
#include "kernels/ops/add.h"
#include "kernels/ops/add_rms_norm.h"
#include "kernels/ops/combine.h"
#include "kernels/ops/dispatch.h"
#include "kernels/ops/embedding.h"
#include "kernels/ops/gelu.h"
#include "kernels/ops/qk_rope_norm.h"
#include "kernels/ops/router.h"
#include "kernels/ops/swiglu.h"

namespace angel_ptm {
namespace {

constexpr int64_t kT = 1024, kH = 256, kF = 256, kE = 24, kK = 2, kV = 8192, kRows = kT * kK;

// An Array in either type of elements.
class Elements {
 public:
  Elements(DType dtype, int64_t n, float scale = 1.0f) : dtype_(dtype), array_(n, scale) {
    if (dtype == DType::kFloat32) return;
    BFloat16* const rounded = reinterpret_cast<BFloat16*>(array_.get());
    for (int64_t i = 0; i < n; ++i) rounded[i] = ToBFloat16(array_.get()[i]);
  }
  operator Operand() const { return {array_.get(), dtype_}; }
  operator ConstOperand() const { return {array_.get(), dtype_}; }

 private:
  DType dtype_;
  Array array_;
};

void BenchElementwise(Report& report, DType type) {
  const std::string name = std::string(" ") + Name(type);
  const double bytes = static_cast<double>(SizeOf(type)) * kRows * kF;
  const Elements x(type, kRows * 2 * kF, 4.0f), dx(type, kRows * 2 * kF), y(type, kRows * kF), dy(type, kRows * kF);
  const SwigluArgs swiglu = {.y = y, .gate_up = x, .rows = kRows, .f = kF};
  report.Stream("swiglu" + name, bytes * 3, [&] { CpuKernels().swiglu(swiglu, report.context()); });
  const SwigluGradArgs swiglu_grad = {.dgate_up = dx, .dy = dy, .gate_up = x, .rows = kRows, .f = kF};
  report.Stream("swiglu_grad" + name, bytes * 5, [&] { CpuKernels().swiglu_grad(swiglu_grad, report.context()); });
  const GeluArgs gelu = {.y = y, .x = dy, .n = kRows * kF};
  report.Stream("gelu" + name, bytes * 2, [&] { CpuKernels().gelu(gelu, report.context()); });
  const GeluGradArgs gelu_grad = {.dx = y, .dy = dy, .x = x, .n = kRows * kF};
  report.Stream("gelu_grad" + name, bytes * 3, [&] { CpuKernels().gelu_grad(gelu_grad, report.context()); });
  const AddArgs add = {.y = dx, .x = dy, .rows = kRows, .width = kF, .column_end = kF, .accumulate = true};
  report.Stream("add" + name, bytes * 3, [&] { CpuKernels().add(add, report.context()); });
}

void BenchTokens(Report& report, DType type) {
  const std::string name = std::string(" ") + Name(type);
  const double bytes = static_cast<double>(SizeOf(type)) * kT * kH;
  std::vector<int32_t> tokens(kT);
  for (int64_t i = 0; i < kT; ++i) tokens[i] = static_cast<int32_t>(i * 37 % kV);
  const Elements table(type, kV * kH), dtable(type, kV * kH), x(type, kT * kH), delta(type, kT * kH), y(type, kT * kH),
      sum(type, kT * kH), dx(type, kT * kH), weight(type, kH);
  const Array rstd(kT), dweight(kH);
  const EmbeddingArgs embedding = {.y = y, .table = table, .tokens = tokens.data(), .t = kT, .h = kH, .v = kV};
  report.Stream("embedding" + name, bytes * 2, [&] { CpuKernels().embedding(embedding, report.context()); });
  const EmbeddingGradArgs embedding_grad = {
      .dtable = dtable, .dy = y, .tokens = tokens.data(), .t = kT, .h = kH, .v = kV, .accumulate = true};
  report.Stream("embedding_grad accumulating" + name, bytes * 3,
                [&] { CpuKernels().embedding_grad(embedding_grad, report.context()); });
  const AddRmsNormArgs norm = {
      .sum = sum, .y = y, .rstd = rstd, .x = x, .delta = delta, .weight = weight, .t = kT, .h = kH};
  report.Stream("add_rms_norm" + name, bytes * 4, [&] { CpuKernels().add_rms_norm(norm, report.context()); });
  const AddRmsNormGradArgs norm_grad = {.dx = dx,
                                        .dweight = dweight,
                                        .dy = y,
                                        .dsum = delta,
                                        .sum = sum,
                                        .rstd = rstd,
                                        .weight = weight,
                                        .t = kT,
                                        .h = kH};
  report.Stream("add_rms_norm_grad" + name, bytes * 4,
                [&] { CpuKernels().add_rms_norm_grad(norm_grad, report.context()); });
}

void BenchHeads(Report& report, DType type) {
  constexpr int64_t kQ = 4, kG = 2, kD = 64, kRow = (kQ + 2 * kG) * kD;
  const std::string name = std::string(" ") + Name(type);
  const double bytes = static_cast<double>(SizeOf(type)) * kT * (kQ + kG) * kD;
  const Elements qkv(type, kT * kRow), dqkv(type, kT * kRow), q(type, kT * kQ * kD), k(type, kT * kG * kD),
      q_weight(type, kD), k_weight(type, kD);
  const Array cos_sin(kT * kD), q_rstd(kT * kQ), k_rstd(kT * kG), dq_weight(kD), dk_weight(kD);
  const QkRopeNormArgs norm = {.q = q,
                               .k = k,
                               .q_rstd = q_rstd,
                               .k_rstd = k_rstd,
                               .qkv = qkv,
                               .cos_sin = cos_sin,
                               .q_weight = q_weight,
                               .k_weight = k_weight,
                               .t = kT,
                               .q_heads = kQ,
                               .kv_heads = kG,
                               .d = kD};
  report.Stream("qk_rope_norm" + name, bytes * 2, [&] { CpuKernels().qk_rope_norm(norm, report.context()); });
  const QkRopeNormGradArgs grad = {.dqkv = dqkv,
                                   .dq_weight = dq_weight,
                                   .dk_weight = dk_weight,
                                   .dq = q,
                                   .dk = k,
                                   .qkv = qkv,
                                   .q_rstd = q_rstd,
                                   .k_rstd = k_rstd,
                                   .cos_sin = cos_sin,
                                   .q_weight = q_weight,
                                   .k_weight = k_weight,
                                   .t = kT,
                                   .q_heads = kQ,
                                   .kv_heads = kG,
                                   .d = kD};
  report.Stream("qk_rope_norm_grad" + name, bytes * 3, [&] { CpuKernels().qk_rope_norm_grad(grad, report.context()); });
}

void BenchRouter(Report& report, DType type) {
  const std::string name = std::string(" ") + Name(type);
  const double bytes = kT * (static_cast<double>(SizeOf(type)) * kH + 4 * 2 * kE);
  const Elements x(type, kT * kH), dx(type, kT * kH), gate(type, kE * kH, 0.1f);
  const Array probs(kT * kE), weights(kT * kK), dweights(kT * kK), dgate(kE * kH);
  std::vector<int32_t> experts(kT * kK), counts(kE);
  const float target_count = kT;
  const RouterArgs router = {.weights = weights,
                             .probs = probs,
                             .experts = experts.data(),
                             .counts = counts.data(),
                             .x = x,
                             .gate = gate,
                             .t = kT,
                             .h = kH,
                             .e = kE,
                             .k = kK};
  report.Stream("router" + name, bytes, [&] { CpuKernels().router(router, report.context()); });
  const RouterGradArgs grad = {.dx = dx,
                               .dgate = dgate,
                               .dweights = dweights,
                               .weights = weights,
                               .probs = probs,
                               .x = x,
                               .gate = gate,
                               .experts = experts.data(),
                               .counts = counts.data(),
                               .target_count = &target_count,
                               .t = kT,
                               .h = kH,
                               .e = kE,
                               .k = kK};
  report.Stream("router_grad" + name, bytes * 2, [&] { CpuKernels().router_grad(grad, report.context()); });
}

void BenchExpertRows(Report& report, DType type) {
  const std::string name = std::string(" ") + Name(type);
  const double row_bytes = static_cast<double>(SizeOf(type)) * kH;
  const Elements x(type, kT * kH), y(type, kT * kH), rows(type, kRows * kH), drows(type, kRows * kH);
  const Array weights(kT * kK), dweights(kT * kK);
  std::vector<int32_t> row_of_pair(kRows), pair_of_row(kRows);
  for (int64_t i = 0; i < kRows; ++i) {
    row_of_pair[i] = static_cast<int32_t>(i * 1021 % kRows);
    pair_of_row[row_of_pair[i]] = static_cast<int32_t>(i);
  }
  const int32_t active_blocks = kRows / 16;
  const DispatchArgs dispatch = {.rows = rows,
                                 .x = x,
                                 .pair_of_row = pair_of_row.data(),
                                 .active_blocks = &active_blocks,
                                 .t = kT,
                                 .h = kH,
                                 .k = kK,
                                 .block_rows = 16,
                                 .blocks_max = active_blocks};
  report.Stream("dispatch" + name, row_bytes * (kT + kRows),
                [&] { CpuKernels().dispatch(dispatch, report.context()); });
  const DispatchGradArgs dispatch_grad = {
      .dx = y, .drows = rows, .row_of_pair = row_of_pair.data(), .t = kT, .h = kH, .k = kK};
  report.Stream("dispatch_grad" + name, row_bytes * (kT + kRows),
                [&] { CpuKernels().dispatch_grad(dispatch_grad, report.context()); });
  const CombineArgs combine = {.y = y,
                               .base = x,
                               .rows = rows,
                               .weights = weights,
                               .row_of_pair = row_of_pair.data(),
                               .t = kT,
                               .h = kH,
                               .k = kK};
  report.Stream("combine" + name, row_bytes * (2 * kT + kRows),
                [&] { CpuKernels().combine(combine, report.context()); });
  const CombineGradArgs combine_grad = {.drows = drows,
                                        .dweights = dweights,
                                        .dy = x,
                                        .rows = rows,
                                        .weights = weights,
                                        .pair_of_row = pair_of_row.data(),
                                        .active_blocks = &active_blocks,
                                        .t = kT,
                                        .h = kH,
                                        .k = kK,
                                        .block_rows = 16,
                                        .blocks_max = active_blocks};
  report.Stream("combine_grad" + name, row_bytes * (kT + 2 * kRows),
                [&] { CpuKernels().combine_grad(combine_grad, report.context()); });
}

void BenchMaster(Report& report, DType type) {
  const int64_t n = int64_t{1} << 24;
  const Elements param(type, n);
  const Array master(n), m(n), v(n), g(n);
  for (int64_t i = 0; i < n; ++i) v.get()[i] = std::abs(v.get()[i]);
  const AdamWScalars scalars = {1e-3f, 0.5f, 0.1f, 0.05f};
  AdamWArgs args = {.param = param, .m = m, .v = v, .grad = g, .n = n, .scalars = &scalars};
  if (type == DType::kBFloat16) args.master = master;
  report.Stream(std::string("adamw 16 Mi elements ") + Name(type),
                (type == DType::kBFloat16 ? 30.0 : 28.0) * static_cast<double>(n),
                [&] { CpuKernels().adamw(args, report.context()); });
}

}  // namespace

// Group by group in both types, so that they meet the same state of the machine.
void BenchBf16(Report& report) {
  for (const auto bench :
       {&BenchElementwise, &BenchTokens, &BenchHeads, &BenchRouter, &BenchExpertRows, &BenchMaster}) {
    for (const DType type : {DType::kFloat32, DType::kBFloat16}) bench(report, type);
  }
}

}  // namespace angel_ptm
