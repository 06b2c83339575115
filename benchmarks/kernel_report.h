// What the parts of kernels_bench share: operands, timing, and one line per op.
#ifndef ANGEL_PTM_BENCHMARKS_KERNEL_REPORT_H_
#define ANGEL_PTM_BENCHMARKS_KERNEL_REPORT_H_

#include <sys/mman.h>
#include <time.h>

#include <algorithm>
#include <cstdio>
#include <cstdlib>
#include <cstring>
#include <functional>
#include <memory>
#include <string>
#include <vector>

#include "benchmarks/bench_record.h"
#include "kernels/cpu/parallel.h"
#include "kernels/kernels.h"
#include "kernels/ops/matmul.h"

namespace angel_ptm {

// An aligned array of floats in [-1, 1), from a fixed sequence. Large ones ask for huge pages, as the arenas of a run
// do: on small pages products lose up to a quarter of their speed to address translation.
class Array {
 public:
  explicit Array(int64_t n, float scale = 1.0f) : data_(Allocate(static_cast<size_t>(n) * 4), &std::free) {
    uint32_t state = 12345;
    for (int64_t i = 0; i < n; ++i) {
      state = state * 1664525u + 1013904223u;
      data_.get()[i] = scale * (static_cast<float>(state >> 8) * 0x1p-23f - 1.0f);
    }
  }
  operator Operand() const { return {data_.get()}; }
  operator ConstOperand() const { return {data_.get()}; }
  float* get() const { return data_.get(); }

 private:
  static float* Allocate(size_t bytes) {
    constexpr size_t kHugePage = size_t{2} << 20;
    const size_t alignment = bytes < kHugePage ? 64 : kHugePage,
                 padded = (bytes + alignment - 1) / alignment * alignment;
    void* const data = std::aligned_alloc(alignment, padded);
    if (alignment == kHugePage) madvise(data, padded, MADV_HUGEPAGE);
    return static_cast<float*>(data);
  }

  std::unique_ptr<float, decltype(&std::free)> data_;
};

// Wall time, or with one thread its CPU time, which other jobs on the machine disturb less.
class Stopwatch {
 public:
  explicit Stopwatch(int threads) : clock_(threads > 1 ? CLOCK_MONOTONIC : CLOCK_THREAD_CPUTIME_ID), start_(Now()) {}
  double Seconds() const { return Now() - start_; }

 private:
  double Now() const {
    timespec now;
    clock_gettime(clock_, &now);
    return static_cast<double>(now.tv_sec) + 1e-9 * static_cast<double>(now.tv_nsec);
  }
  clockid_t clock_;
  double start_;
};

inline double MedianSeconds(int threads, const std::function<void()>& fn) {
  fn();
  std::vector<double> seconds;
  for (double total = 0; total < 0.4 && seconds.size() < 2000;) {
    const Stopwatch watch(threads);
    fn();
    seconds.push_back(watch.Seconds());
    total += seconds.back();
  }
  std::nth_element(seconds.begin(), seconds.begin() + seconds.size() / 2, seconds.end());
  return seconds[seconds.size() / 2];
}

class Report {
 public:
  Report(int threads, BenchRecord& record) : threads_(threads), record_(record), workspace_(kWorkspaceBytes / 4) {
    record_.SetSetting("threads " + std::to_string(threads));
    context_ = {threads, reinterpret_cast<std::byte*>(workspace_.get()), kWorkspaceBytes, nullptr};
    const Array a(1 << 20), b(1 << 20), c(1 << 20);
    const MatmulArgs peak = {.c = c, .a = a, .b = b, .m = 1024, .n = 1024, .k = 1024};
    peak_flops_ = 2.0 * (1 << 30) / MedianSeconds(threads_, [&] { CpuKernels().matmul(peak, context_); });
    std::printf("threads %d, matrix product 1024^3: %.1f GFLOP/s\n", threads, peak_flops_ * 1e-9);
    std::printf("%-44s %10s %10s %10s %12s\n", "op", "us", "GFLOP/s", "GB/s", "% of peak");
  }

  const KernelContext& context() const { return context_; }

  void Product(const std::string& name, double flops, const std::function<void()>& fn) {
    const double seconds = MedianSeconds(threads_, fn);
    std::printf("%-44s %10.1f %10.1f %10s %11.0f%%\n", name.c_str(), seconds * 1e6, flops / seconds * 1e-9, "",
                100 * flops / seconds / peak_flops_);
    record_.Add(name, "share of the product's speed", Better::kMore, flops / seconds / peak_flops_);
  }

  void Stream(const std::string& name, double bytes, const std::function<void()>& fn) {
    const double seconds = MedianSeconds(threads_, fn), share = CopySeconds(bytes) / seconds;
    std::printf("%-44s %10.1f %10s %10.1f %11.0f%%\n", name.c_str(), seconds * 1e6, "", bytes / seconds * 1e-9,
                100 * share);
    record_.Add(name, "share of memcpy's speed", Better::kMore, share);
  }

 private:
  static constexpr int64_t kWorkspaceBytes = int64_t{32} << 20;

  double CopySeconds(double bytes) {
    const int64_t n = static_cast<int64_t>(bytes / 8);
    const Array from(n), to(n);
    return MedianSeconds(threads_, [&] {
      ParallelRanges(threads_, n, 1024, [&](int64_t begin, int64_t end, int) {
        std::memcpy(to.get() + begin, from.get() + begin, static_cast<size_t>(end - begin) * 4);
      });
    });
  }

  int threads_;
  BenchRecord& record_;
  double peak_flops_ = 0;
  Array workspace_;
  KernelContext context_;
};

// attention_bench.cc: embedding, norms, rotary embedding and attention.
void BenchAttention(Report& report);

// bf16_bench.cc: the ops that memory bounds, in fp32 and bf16.
void BenchBf16(Report& report);

}  // namespace angel_ptm

#endif  // ANGEL_PTM_BENCHMARKS_KERNEL_REPORT_H_
