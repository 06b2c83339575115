// How near matrix products and attention come to the processor's multiply-add instructions, in fp32 and in bf16.
//
//   products_bench [--json FILE] [threads [level]]
//
// Every line has, for both types, GFLOP/s and the share of the peak (matrix_peak.h): for fp32 that of the level's FMA,
// for bf16 that of the faster of its instructions. Kernel and peak are timed in turns, so that both meet the same state
// of the machine, and a share is the ratio of their medians: of wall time, with one thread of its CPU time. The level
// is the highest that the machine runs unless named.
#include <algorithm>
#include <cmath>
#include <cstdio>
#include <cstdlib>
#include <functional>
#include <string>
#include <string_view>
#include <vector>

#include "benchmarks/kernel_report.h"
#include "benchmarks/matrix_peak.h"
#include "kernels/cpu/bf16.h"
#include "kernels/cpu/cpu_isa.h"
#include "kernels/cpu/parallel.h"
#include "kernels/ops/attention.h"
#include "kernels/ops/cached_attention.h"
#include "kernels/ops/grouped_matmul.h"
#include "kernels/ops/matmul.h"

namespace angel_ptm {
namespace {

constexpr int64_t kWorkspaceBytes = int64_t{128} << 20;

double Median(std::vector<double> values) {
  std::nth_element(values.begin(), values.begin() + values.size() / 2, values.end());
  return values[values.size() / 2];
}

double Seconds(int threads, const std::function<void()>& fn) {
  const Stopwatch watch(threads);
  fn();
  return watch.Seconds();
}

struct Rate {
  double flops = 0, share = 0;  // per second; of the peak
};

class Bench {
 public:
  Bench(int threads, const CpuIsa& isa, BenchRecord& record)
      : threads_(threads), kernels_(isa.kernels()), record_(record), workspace_(kWorkspaceBytes / 4) {
    record_.SetSetting("level " + std::string(isa.name) + ", threads " + std::to_string(threads));
    for (const MatrixInstruction& i : MatrixInstructions(isa.name)) {
      const double rate = PeakSteps * i.flops * threads / Peak(i);
      std::printf("%s: %.1f GFLOP/s\n", i.name, rate * 1e-9);
      if (!i.bf16) fp32_ = i;
      if (rate > bf16_rate_) bf16_ = i;
      bf16_rate_ = std::max(bf16_rate_, rate);
    }
    std::printf("level %s, threads %d\n%-48s %10s %8s %10s %8s %10s\n", isa.name, threads, "", "fp32 GF/s", "of peak",
                "bf16 GF/s", "of peak", "bf16/fp32");
  }

  const KernelTable& kernels() const { return kernels_; }
  KernelContext context() const {
    return {threads_, reinterpret_cast<std::byte*>(workspace_.get()), kWorkspaceBytes, nullptr};
  }

  void Line(const std::string& name, double flops, const std::function<void()>& fp32,
            const std::function<void()>& bf16) {
    std::vector<double> seconds[2], peaks[2];
    const std::function<void()>* const fns[2] = {&fp32, &bf16};
    const MatrixInstruction* const instructions[2] = {&fp32_, &bf16_};
    fp32();
    bf16();
    for (double total = 0; (total < 1 || seconds[0].size() < 3) && seconds[0].size() < 400;) {
      for (int type = 0; type < 2; ++type) {
        peaks[type].push_back(Peak(*instructions[type]));
        seconds[type].push_back(Seconds(threads_, *fns[type]));
        total += peaks[type].back() + seconds[type].back();
      }
    }
    Rate rate[2];
    for (int type = 0; type < 2; ++type) {
      rate[type].flops = flops / Median(seconds[type]);
      rate[type].share = rate[type].flops * Median(peaks[type]) / (PeakSteps * instructions[type]->flops * threads_);
    }
    std::printf("%-48s %10.1f %7.0f%% %10.1f %7.0f%% %10.2f\n", name.c_str(), rate[0].flops * 1e-9, 100 * rate[0].share,
                rate[1].flops * 1e-9, 100 * rate[1].share, rate[1].flops / rate[0].flops);
    std::fflush(stdout);
    record_.Add(name, "fp32, share of the peak", Better::kMore, rate[0].share);
    record_.Add(name, "bf16, share of the peak", Better::kMore, rate[1].share);
  }

 private:
  static constexpr double PeakSteps = 20000;

  double Peak(const MatrixInstruction& instruction) const {
    std::vector<float> results(threads_);
    const double seconds = Seconds(threads_, [&] {
      ParallelFor(threads_, threads_,
                  [&](int64_t i) { results[i] = instruction.run(static_cast<int64_t>(PeakSteps)); });
    });
    // Also keeps the loops from being left out.
    if (std::ranges::any_of(results, [](float x) { return std::isnan(x); })) std::printf("a peak is not a number\n");
    return seconds;
  }

  int threads_;
  const KernelTable& kernels_;
  BenchRecord& record_;
  Array workspace_;
  MatrixInstruction fp32_ = {}, bf16_ = {};
  double bf16_rate_ = 0;
};

// One of the two arrays of a Pair.
struct Elements {
  void* data;
  DType type;
  operator Operand() const { return {data, type}; }
  operator ConstOperand() const { return {data, type}; }
};

// The same numbers in both types.
class Pair {
 public:
  explicit Pair(int64_t n) : fp32_(n), bf16_((n + 1) / 2) {
    BFloat16* const rounded = reinterpret_cast<BFloat16*>(bf16_.get());
    for (int64_t i = 0; i < n; ++i) rounded[i] = ToBFloat16(fp32_.get()[i]);
  }
  Elements As(DType type) const { return {type == DType::kFloat32 ? fp32_.get() : bf16_.get(), type}; }

 private:
  Array fp32_, bf16_;
};

struct Product {
  const char* name;
  int64_t m, n, k;
  bool trans_a = false, trans_b = false;
};

void BenchProduct(Bench& bench, const Product& p) {
  const Pair a(p.m * p.k), b(p.n * p.k), c(p.m * p.n);
  const auto run = [&](DType type) {
    const MatmulArgs args = {.c = c.As(type),
                             .a = a.As(type),
                             .b = b.As(type),
                             .m = p.m,
                             .n = p.n,
                             .k = p.k,
                             .trans_a = p.trans_a,
                             .trans_b = p.trans_b};
    // Many of a short one, or the clock would be measured.
    const int64_t repeats = std::max<int64_t>(1, (int64_t{1} << 22) / (p.m * p.n * p.k));
    return std::pair<int64_t, std::function<void()>>(repeats, [&bench, args, repeats] {
      for (int64_t i = 0; i < repeats; ++i) bench.kernels().matmul(args, bench.context());
    });
  };
  const auto [repeats, fp32] = run(DType::kFloat32);
  const auto [same, bf16] = run(DType::kBFloat16);
  const std::string shape = std::to_string(p.m) + "x" + std::to_string(p.n) + "x" + std::to_string(p.k);
  bench.Line(std::string(p.name) + " " + shape, 2.0 * static_cast<double>(p.m * p.n * p.k * repeats), fp32, bf16);
}

// Every expert has as many rows: blocks of 16.
void BenchExperts(Bench& bench, int64_t experts, int64_t rows, int64_t n, int64_t k) {
  const int64_t blocks = rows / 16;
  const int32_t active = static_cast<int32_t>(experts * blocks);
  std::vector<int32_t> block_expert(active);
  for (int32_t i = 0; i < active; ++i) block_expert[i] = static_cast<int32_t>(i / blocks);
  const Pair x(experts * rows * k), w(experts * n * k), y(experts * rows * n);
  const std::string shape =
      std::to_string(experts) + " of " + std::to_string(rows) + "x" + std::to_string(n) + "x" + std::to_string(k);
  const double flops = 2.0 * static_cast<double>(experts * rows * n * k);
  const auto forward = [&](DType type) {
    const GroupedMatmulArgs args = {.c = y.As(type),
                                    .a = x.As(type),
                                    .b = w.As(type),
                                    .block_expert = block_expert.data(),
                                    .active_blocks = &active,
                                    .n = n,
                                    .k = k,
                                    .e = experts,
                                    .block_rows = 16,
                                    .blocks_max = active,
                                    .trans_b = true};
    return [&bench, args] { bench.kernels().grouped_matmul(args, bench.context()); };
  };
  const auto backward = [&](DType type) {
    const GroupedMatmulGradWeightArgs args = {.dw = w.As(type),
                                              .dy = y.As(type),
                                              .x = x.As(type),
                                              .block_expert = block_expert.data(),
                                              .active_blocks = &active,
                                              .n = n,
                                              .k = k,
                                              .e = experts,
                                              .block_rows = 16,
                                              .blocks_max = active};
    return [&bench, args] { bench.kernels().grouped_matmul_grad_weight(args, bench.context()); };
  };
  bench.Line("experts y = x W^T " + shape, flops, forward(DType::kFloat32), forward(DType::kBFloat16));
  bench.Line("experts dW = dy^T x " + shape, flops, backward(DType::kFloat32), backward(DType::kBFloat16));
}

struct Attention {
  int64_t s, q_heads, kv_heads, d;
};

// Counts the visible scores alone: 2 products of them forward, 5 backward.
void BenchAttention(Bench& bench, const Attention& z) {
  const int64_t q_row = z.q_heads * z.d, k_row = z.kv_heads * z.d;
  const Pair q(z.s * q_row), k(z.s * k_row), v(z.s * k_row), o(z.s * q_row), do_(z.s * q_row);
  const Pair dq(z.s * q_row), dk(z.s * k_row), dv(z.s * k_row);
  const Array lse(z.s * z.q_heads);
  const std::vector<int32_t> segment_start(z.s, 0);
  const float scale = 1 / std::sqrt(static_cast<float>(z.d));
  const auto forward = [&](DType type) {
    const AttentionArgs args = {.o = o.As(type),
                                .lse = lse,
                                .q = q.As(type),
                                .k = k.As(type),
                                .v = v.As(type),
                                .v_stride = k_row,
                                .segment_start = segment_start.data(),
                                .b = 1,
                                .s = z.s,
                                .q_heads = z.q_heads,
                                .kv_heads = z.kv_heads,
                                .d = z.d,
                                .scale = scale};
    return [&bench, args] { bench.kernels().attention(args, bench.context()); };
  };
  const auto backward = [&](DType type) {
    const AttentionGradArgs args = {.dq = dq.As(type),
                                    .dk = dk.As(type),
                                    .dv = dv.As(type),
                                    .do_ = do_.As(type),
                                    .o = o.As(type),
                                    .lse = lse,
                                    .q = q.As(type),
                                    .k = k.As(type),
                                    .v = v.As(type),
                                    .v_stride = k_row,
                                    .dv_stride = k_row,
                                    .segment_start = segment_start.data(),
                                    .b = 1,
                                    .s = z.s,
                                    .q_heads = z.q_heads,
                                    .kv_heads = z.kv_heads,
                                    .d = z.d,
                                    .scale = scale};
    return [&bench, args] { bench.kernels().attention_grad(args, bench.context()); };
  };
  const std::string name = "S=" + std::to_string(z.s) + " Q=" + std::to_string(z.q_heads) +
                           " G=" + std::to_string(z.kv_heads) + " D=" + std::to_string(z.d);
  const double flops = static_cast<double>(z.s) * static_cast<double>((z.s + 1) * q_row);
  bench.Line("attention " + name, 2 * flops, forward(DType::kFloat32), forward(DType::kBFloat16));
  bench.Line("attention_grad " + name, 5 * flops, backward(DType::kFloat32), backward(DType::kBFloat16));
}

// The quick start has 1,024 tokens, hidden 256, vocabulary 8,192 in chunks of 256 tokens; then hidden 1,024.
void BenchAll(Bench& bench) {
  for (const Product& p :
       {Product{"cube", 512, 512, 512}, Product{"cube", 1024, 1024, 1024},
        Product{"qkv = x W^T", 1024, 512, 256, false, true}, Product{"dx = dy W", 1024, 256, 512},
        Product{"dW = dy^T x", 512, 256, 1024, true, false}, Product{"logits = x W^T", 256, 8192, 256, false, true},
        Product{"dx = dlogits W", 256, 256, 8192}, Product{"dW = dlogits^T x", 8192, 256, 256, true, false},
        Product{"gate, up = x W^T", 1024, 5632, 1024, false, true},
        Product{"down = x W^T", 1024, 1024, 2816, false, true}, Product{"dW = dy^T x", 5632, 1024, 1024, true, false},
        Product{"one row, x W^T", 1, 512, 256, false, true}, Product{"one row, x W^T", 1, 8192, 256, false, true},
        Product{"one row, x W^T", 1, 4096, 4096, false, true},
        Product{"four rows, x W^T", 4, 4096, 4096, false, true}}) {
    BenchProduct(bench, p);
  }
  BenchExperts(bench, 24, 96, 512, 256);
  for (const int64_t s : {1024, 2048, 4096}) BenchAttention(bench, {s, 4, 2, 64});
  BenchAttention(bench, {2048, 8, 2, 128});
}

}  // namespace
}  // namespace angel_ptm

int main(int argc, char** argv) {
  using namespace angel_ptm;
  BenchRecord record("products_bench", &argc, argv);
  const int threads = argc > 1 ? std::atoi(argv[1]) : 1;
  const std::vector<const CpuIsa*> isas = RunnableCpuIsas();
  const auto isa =
      argc > 2 ? std::ranges::find_if(isas, [&](const CpuIsa* i) { return i->name == std::string_view(argv[2]); })
               : isas.end() - 1;
  if (threads < 1 || isa == isas.end()) {
    std::fprintf(stderr, "products_bench: wanted a number of threads and a level that this machine runs, got%s%s%s%s\n",
                 " ", argv[1], argc > 2 ? " " : "", argc > 2 ? argv[2] : "");
    return 1;
  }
  Bench bench(threads, **isa, record);
  BenchAll(bench);
  return 0;
}
