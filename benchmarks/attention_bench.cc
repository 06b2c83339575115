// Embedding, norms, rotary embedding and attention at the shapes of the quick start, and attention at a larger one.
#include <algorithm>
#include <cmath>
#include <string>
#include <string_view>
#include <vector>

#include "benchmarks/kernel_report.h"
#include "kernels/cpu/attention_tiles.h"
#include "kernels/cpu/cpu_isa.h"
#include "kernels/cpu/gemm.h"
#include "kernels/ops/add_rms_norm.h"
#include "kernels/ops/attention.h"
#include "kernels/ops/cached_attention.h"
#include "kernels/ops/embedding.h"
#include "kernels/ops/qk_rope_norm.h"
#include "kernels/ops/rope_table.h"

namespace angel_ptm {
namespace {

constexpr int64_t kT = 1024, kH = 256, kV = 8192;

bool RunsParts() {
  const std::vector<const CpuIsa*> isas = RunnableCpuIsas();
  return std::ranges::any_of(isas,
                             [](const CpuIsa* isa) { return std::string_view(isa->name) == ANGEL_PTM_PARTS_ISA; });
}

// Attention's small products, by its own register tiles and by the matrix library.
void BenchTileProducts(Report& report, int64_t d) {
  if (!RunsParts()) return;
  const Array keys(64 * d), queries(d * 64), scores(64 * 64);
  const double flops = 2.0 * 64 * 64 * static_cast<double>(d);
  const std::string shape = "64x64x" + std::to_string(d);
  report.Product("one thread: register tiles " + shape, flops * 100, [&] {
    for (int i = 0; i < 100; ++i) {
      MultiplyTiles({.m = 64,
                     .n = 64,
                     .k = d,
                     .a = keys.get(),
                     .a_row = d,
                     .b = queries.get(),
                     .ldb = 64,
                     .c = scores.get(),
                     .ldc = 64});
    }
  });
  report.Product("one thread: library " + shape, flops * 100, [&] {
    for (int i = 0; i < 100; ++i) {
      SerialGemm({.m = 64,
                  .n = 64,
                  .k = d,
                  .a = keys.get(),
                  .lda = d,
                  .b = queries.get(),
                  .ldb = 64,
                  .c = scores.get(),
                  .ldc = 64});
    }
  });
}

struct AttentionShape {
  int64_t b, s, q_heads, kv_heads, d, document;
};

// Percentages are of the matrix peak and count the visible scores alone: 2 products of them forward, 5 backward.
void BenchAttentionShape(Report& report, const AttentionShape& z) {
  const int64_t t = z.b * z.s, q_row = z.q_heads * z.d, k_row = z.kv_heads * z.d, row = q_row + 2 * k_row;
  const Array q(t * q_row), k(t * k_row), qkv(t * row), o(t * q_row), do_(t * q_row), lse(t * z.q_heads);
  const Array dq(t * q_row), dk(t * k_row), dqkv(t * row);
  std::vector<int32_t> segment_start(t);
  double visible = 0;
  for (int64_t i = 0; i < t; ++i) {
    segment_start[i] = static_cast<int32_t>(i % z.s / z.document * z.document);
    visible += static_cast<double>(i % z.s - segment_start[i] + 1);
  }
  const float scale = 1 / std::sqrt(static_cast<float>(z.d));
  const AttentionArgs forward = {.o = o,
                                 .lse = lse,
                                 .q = q,
                                 .k = k,
                                 .v = {qkv.get() + q_row + k_row},
                                 .v_stride = row,
                                 .segment_start = segment_start.data(),
                                 .b = z.b,
                                 .s = z.s,
                                 .q_heads = z.q_heads,
                                 .kv_heads = z.kv_heads,
                                 .d = z.d,
                                 .scale = scale};
  const AttentionGradArgs backward = {.dq = dq,
                                      .dk = dk,
                                      .dv = {dqkv.get() + q_row + k_row},
                                      .do_ = do_,
                                      .o = o,
                                      .lse = lse,
                                      .q = q,
                                      .k = k,
                                      .v = {qkv.get() + q_row + k_row},
                                      .v_stride = row,
                                      .dv_stride = row,
                                      .segment_start = segment_start.data(),
                                      .b = z.b,
                                      .s = z.s,
                                      .q_heads = z.q_heads,
                                      .kv_heads = z.kv_heads,
                                      .d = z.d,
                                      .scale = scale};
  const double flops = 2 * visible * static_cast<double>(q_row);
  std::string name = "B=" + std::to_string(z.b) + " S=" + std::to_string(z.s) + " Q=" + std::to_string(z.q_heads) +
                     " G=" + std::to_string(z.kv_heads) + " D=" + std::to_string(z.d);
  if (z.document < z.s) name += " doc " + std::to_string(z.document);
  report.Product("attention " + name, 2 * flops, [&] { CpuKernels().attention(forward, report.context()); });
  report.Product("attention_grad " + name, 5 * flops, [&] { CpuKernels().attention_grad(backward, report.context()); });
}

void BenchCachedAttention(Report& report) {
  constexpr int64_t kRows = 4, kSMax = 1024, kQ = 8, kG = 2, kD = 64;
  const Array q(kRows * kQ * kD), k(kRows * kG * kD), v(kRows * kG * kD), o(kRows * kQ * kD);
  const Array k_cache(kRows * kSMax * kG * kD), v_cache(kRows * kSMax * kG * kD);
  const int32_t position = kSMax - 1;
  const CachedAttentionArgs args = {.o = o,
                                    .k_cache = k_cache,
                                    .v_cache = v_cache,
                                    .q = q,
                                    .k = k,
                                    .v = v,
                                    .v_stride = kG * kD,
                                    .position = &position,
                                    .b = kRows,
                                    .s_max = kSMax,
                                    .q_heads = kQ,
                                    .kv_heads = kG,
                                    .d = kD,
                                    .scale = 0.125f};
  report.Stream("cached_attention 1024 keys", 4.0 * 2 * kRows * kSMax * kG * kD,
                [&] { CpuKernels().cached_attention(args, report.context()); });
}

void BenchNorms(Report& report) {
  const Array x(kT * kH), delta(kT * kH), sum(kT * kH), y(kT * kH), rstd(kT), weight(kH), dweight(kH), dx(kT * kH);
  const AddRmsNormArgs args = {
      .sum = sum, .y = y, .rstd = rstd, .x = x, .delta = delta, .weight = weight, .t = kT, .h = kH};
  report.Stream("add_rms_norm", 4.0 * kT * kH * 4, [&] { CpuKernels().add_rms_norm(args, report.context()); });
  const AddRmsNormGradArgs grad = {.dx = dx,
                                   .dweight = dweight,
                                   .dy = y,
                                   .dsum = delta,
                                   .sum = sum,
                                   .rstd = rstd,
                                   .weight = weight,
                                   .t = kT,
                                   .h = kH};
  report.Stream("add_rms_norm_grad", 4.0 * kT * kH * 4,
                [&] { CpuKernels().add_rms_norm_grad(grad, report.context()); });
}

void BenchRotary(Report& report) {
  constexpr int64_t kQ = 4, kG = 2, kD = 64, kRow = (kQ + 2 * kG) * kD;
  const Array q(kT * kQ * kD), k(kT * kG * kD), q_rstd(kT * kQ), k_rstd(kT * kG), qkv(kT * kRow), dqkv(kT * kRow);
  const Array cos_sin(kT * kD), q_weight(kD), k_weight(kD), dq_weight(kD), dk_weight(kD);
  std::vector<int32_t> positions(kT);
  for (int64_t i = 0; i < kT; ++i) positions[i] = static_cast<int32_t>(i % 256);
  const RopeTableArgs table = {.cos_sin = cos_sin, .positions = positions.data(), .t = kT, .d = kD};
  report.Stream("rope_table", 4.0 * kT * kD, [&] { CpuKernels().rope_table(table, report.context()); });
  const QkRopeNormArgs args = {.q = q,
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
  const double head_bytes = 4.0 * kT * (kQ + kG) * kD;
  report.Stream("qk_rope_norm", 2 * head_bytes, [&] { CpuKernels().qk_rope_norm(args, report.context()); });
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
  report.Stream("qk_rope_norm_grad", 3 * head_bytes, [&] { CpuKernels().qk_rope_norm_grad(grad, report.context()); });
}

void BenchEmbedding(Report& report) {
  const Array table(kV * kH), y(kT * kH);
  std::vector<int32_t> tokens(kT);
  for (int64_t i = 0; i < kT; ++i) tokens[i] = static_cast<int32_t>(i * 7919 % kV);
  const EmbeddingArgs args = {.y = y, .table = table, .tokens = tokens.data(), .t = kT, .h = kH, .v = kV};
  report.Stream("embedding", 4.0 * kT * kH * 2, [&] { CpuKernels().embedding(args, report.context()); });
  const EmbeddingGradArgs grad = {
      .dtable = table, .dy = y, .tokens = tokens.data(), .t = kT, .h = kH, .v = kV, .accumulate = true};
  report.Stream("embedding_grad", 4.0 * kT * kH * 3, [&] { CpuKernels().embedding_grad(grad, report.context()); });
}

}  // namespace

void BenchAttention(Report& report) {
  BenchEmbedding(report);
  BenchNorms(report);
  BenchRotary(report);
  for (const int64_t d : {64, 128}) BenchTileProducts(report, d);
  for (const AttentionShape& shape :
       {AttentionShape{4, 256, 4, 2, 64, 256}, AttentionShape{4, 256, 4, 2, 64, 100},
        AttentionShape{1, 2048, 2, 1, 128, 2048}, AttentionShape{1, 1024, 16, 4, 128, 1024}}) {
    BenchAttentionShape(report, shape);
  }
  BenchCachedAttention(report);
}

}  // namespace angel_ptm
