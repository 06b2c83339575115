#include "launch/machine_rates.h"

#include <sys/resource.h>

#include <algorithm>
#include <array>
#include <atomic>
#include <barrier>
#include <chrono>
#include <cstring>
#include <functional>
#include <memory>
#include <numeric>
#include <thread>

#include "angel_ptm/base/check.h"
#include "angel_ptm/memory/file_store.h"
#include "angel_ptm/memory/tier.h"
#include "kernels/ops/matmul.h"

namespace angel_ptm {
namespace {

using Clock = std::chrono::steady_clock;

double SecondsSince(Clock::time_point begin) { return std::chrono::duration<double>(Clock::now() - begin).count(); }

// The mean of what `measure` tells of each rank, all at once. Each has a thread of its own, whose team of kernels ends
// with it.
double MeanOfRanks(int ranks, const std::function<double()>& measure) {
  std::vector<double> rates(static_cast<size_t>(ranks));
  std::barrier all(ranks);
  {
    std::vector<std::jthread> threads;
    for (double& rate : rates) {
      threads.emplace_back([&] {
        all.arrive_and_wait();
        rate = measure();
      });
    }
  }
  return std::accumulate(rates.begin(), rates.end(), 0.0) / ranks;
}

double Median(std::vector<double> values) {
  std::nth_element(values.begin(), values.begin() + static_cast<int64_t>(values.size() / 2), values.end());
  return values[values.size() / 2];
}

// Seconds of a call: after one that does not count, the median of as many as take `seconds`, at least three.
double TypicalSeconds(double seconds, const std::function<void()>& call) {
  call();
  std::vector<double> took;
  for (const Clock::time_point begin = Clock::now(); took.size() < 3 || SecondsSince(begin) < seconds;) {
    const Clock::time_point one = Clock::now();
    call();
    took.push_back(SecondsSince(one));
  }
  return Median(std::move(took));
}

double ProductRate(const KernelTable& kernels, DType type, const ProductShape& shape, int threads, double seconds) {
  MatmulArgs args{.c = {nullptr, type},
                  .a = {nullptr, type},
                  .b = {nullptr, type},
                  .m = shape.m,
                  .n = shape.n,
                  .k = shape.k,
                  .trans_b = true};
  const auto aligned = [](int64_t bytes) { return AlignedUp(TierKind::kDevice, bytes); };
  const int64_t c = aligned(shape.m * shape.n * SizeOf(type)), a = aligned(shape.m * shape.k * SizeOf(type));
  const int64_t b = aligned(shape.k * shape.n * SizeOf(type));
  const int64_t workspace = kernels.matmul.workspace_bytes(args, {.threads = threads});
  const auto arena = MakeHostArena(TierKind::kDevice, a + b + c + workspace, threads);
  if (!arena.ok()) return 0;
  args.c.data = (*arena)->data();
  args.a.data = (*arena)->data() + c;
  args.b.data = (*arena)->data() + c + a;
  const KernelContext context{
      .threads = threads, .workspace = (*arena)->data() + c + a + b, .workspace_bytes = workspace};
  return shape.flops() / TypicalSeconds(seconds, [&] { kernels.matmul(args, context); });
}

constexpr int64_t kCopyBytes = int64_t{64} << 20;

// Bytes copied per second by one of `copiers` threads at once.
double CopyRate(int copiers) {
  constexpr double kSeconds = 0.3;
  return MeanOfRanks(copiers, [] {
    const auto arena = MakeHostArena(TierKind::kHost, 2 * kCopyBytes);
    if (!arena.ok()) return 0.0;
    std::byte* const data = (*arena)->data();
    return static_cast<double>(kCopyBytes) /
           TypicalSeconds(kSeconds, [&] { std::memcpy(data, data + kCopyBytes, kCopyBytes); });
  });
}

double ProcessorSeconds() {
  rusage usage = {};
  getrusage(RUSAGE_SELF, &usage);
  const auto seconds = [](const timeval& t) { return static_cast<double>(t.tv_sec) + 1e-6 * t.tv_usec; };
  return seconds(usage.ru_utime) + seconds(usage.ru_stime);
}

constexpr int64_t kFileBytes = int64_t{128} << 20, kCallBytes = int64_t{32} << 20;

// Whole passes over half of the file, in calls; `memory` has room for one.
absl::Status Pass(FileStore& store, std::byte* memory, bool write, int64_t begin) {
  for (int64_t at = begin; at < begin + kFileBytes / 2; at += kCallBytes) {
    RETURN_IF_ERROR(write ? store.Write(at, memory, kCallBytes) : store.Read(at, memory, kCallBytes));
  }
  return absl::OkStatus();
}

// Bytes per second read and written while one thread does each: the faster one goes on until the other is done.
absl::StatusOr<double> BothRate(FileStore& store, std::byte* to, const std::byte* from) {
  constexpr int64_t kHalf = kFileBytes / 2;
  std::atomic<int> passing = 2;
  std::array<std::atomic<int64_t>, 2> moved = {};
  const auto move = [&](bool write) {
    absl::Status status;
    for (int64_t at = 0; status.ok() && passing > 0; at = (at + kCallBytes) % kHalf) {
      status = write ? store.Write(kHalf + at, from, kCallBytes) : store.Read(at, to, kCallBytes);
      if ((moved[write] += kCallBytes) == kHalf) --passing;
    }
    if (!status.ok()) passing = 0;
    return status;
  };
  const Clock::time_point begin = Clock::now();
  absl::Status written;
  std::jthread writer([&] { written = move(true); });
  const absl::Status read = move(false);
  writer.join();
  RETURN_IF_ERROR(written);
  RETURN_IF_ERROR(read);
  return static_cast<double>(moved[0] + moved[1]) / SecondsSince(begin);
}

absl::StatusOr<FileRate> RateOfFiles(const std::string& directory, bool allow_buffered, FileRate rate) {
  ASSIGN_OR_RETURN(const auto store, FileStore::Create({.directory = directory,
                                                        .name = "a page file to measure",
                                                        .bytes = kFileBytes,
                                                        .block_bytes = 4096,
                                                        .allow_buffered = allow_buffered,
                                                        .queue_depth = rate.depth,
                                                        .request_bytes = rate.request_bytes}));
  ASSIGN_OR_RETURN(const auto memory, MakeHostArena(TierKind::kHost, 2 * kCallBytes));
  // Without it transfers are slower, and so are a run's.
  const absl::Status registered = store->RegisterBuffer(memory->data(), memory->bytes());
  (void)registered;
  std::byte* const to = memory->data();
  std::byte* const from = memory->data() + kCallBytes;
  RETURN_IF_ERROR(Pass(*store, from, true, 0));  // the first writes to reserved room are slower
  RETURN_IF_ERROR(Pass(*store, from, true, kFileBytes / 2));
  constexpr double kHalf = static_cast<double>(kFileBytes / 2);
  const double processor = ProcessorSeconds();
  const Clock::time_point begin = Clock::now();
  RETURN_IF_ERROR(Pass(*store, from, true, 0));
  rate.write = kHalf / SecondsSince(begin);
  const Clock::time_point read_begin = Clock::now();
  RETURN_IF_ERROR(Pass(*store, to, false, 0));
  rate.read = kHalf / SecondsSince(read_begin);
  rate.cores = (ProcessorSeconds() - processor) / SecondsSince(begin);
  ASSIGN_OR_RETURN(rate.both, BothRate(*store, to, from));
  return rate;
}

}  // namespace

double MatrixRate(const KernelTable& kernels, DType type, const ProductShape& shape, int ranks, int threads,
                  double seconds) {
  return MeanOfRanks(ranks, [&] { return ProductRate(kernels, type, shape, threads, seconds); });
}

MemoryRates MeasureMemory(int ranks, int threads) {
  return {.node = 2 * CopyRate(ranks * threads) * ranks * threads, .copy = CopyRate(ranks)};
}

absl::StatusOr<std::vector<FileRate>> MeasureFiles(const std::string& directory, bool allow_buffered) {
  std::vector<FileRate> rates;
  for (const auto& [request, depth] :
       {std::pair(int64_t{64} << 10, 8), {int64_t{64} << 10, 32}, {int64_t{1} << 20, 1}, {int64_t{1} << 20, 32}}) {
    ASSIGN_OR_RETURN(const FileRate rate, RateOfFiles(directory, allow_buffered, {request, depth}));
    rates.push_back(rate);
  }
  return rates;
}

}  // namespace angel_ptm
