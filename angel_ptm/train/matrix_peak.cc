#include "angel_ptm/train/matrix_peak.h"

#include <algorithm>
#include <chrono>
#include <memory>
#include <thread>
#include <vector>

#include "angel_ptm/memory/tier.h"
#include "kernels/ops/matmul.h"

namespace angel_ptm {

namespace {

constexpr int64_t kSize = 1024;

MatmulArgs ProductOf(DType type, int64_t size) {
  return {.c = {nullptr, type},
          .a = {nullptr, type},
          .b = {nullptr, type},
          .m = size,
          .n = size,
          .k = size,
          .trans_b = true};
}

// FLOP/s of one size^3 product, whose operands and scratch memory start at `data`.
double RateOf(const KernelTable& kernels, DType type, int threads, std::byte* data, int64_t size) {
  MatmulArgs args = ProductOf(type, size);
  const int64_t bytes = size * size * SizeOf(type);
  args.c.data = data;
  args.a.data = data + bytes;
  args.b.data = data + 2 * bytes;
  const KernelContext context{.threads = threads,
                              .workspace = data + 3 * bytes,
                              .workspace_bytes = kernels.matmul.workspace_bytes(args, {.threads = threads})};
  const auto begin = std::chrono::steady_clock::now();
  kernels.matmul(args, context);
  return 2.0 * static_cast<double>(size * size * size) /
         std::chrono::duration<double>(std::chrono::steady_clock::now() - begin).count();
}

double Measure(const KernelTable& kernels, DType type, int threads) {
  const int64_t workspace_bytes = kernels.matmul.workspace_bytes(ProductOf(type, kSize), {.threads = threads});
  auto arena = MakeHostArena(TierKind::kDevice, 3 * kSize * kSize * SizeOf(type) + workspace_bytes);
  if (!arena.ok()) return 0;
  std::byte* const data = (*arena)->data();
  using Clock = std::chrono::steady_clock;
  const Clock::time_point end = Clock::now() + std::chrono::milliseconds(250);
  // On an emulated processor one large product takes half a minute. Small products on one thread detect that; the best
  // of a few counts, because other processes may share the core.
  constexpr double kSlow = 0.5e9;
  double best = 0;
  for (int i = 0; i < 5; ++i) best = std::max(best, RateOf(kernels, type, 1, data, kSize / 8));
  if (best < kSlow) return best * threads;
  for (best = 0; Clock::now() < end;) best = std::max(best, RateOf(kernels, type, threads, data, kSize));
  return best;
}

// Fills with random numbers below 1 in fp32 or bf16. A GPU computes zeros with less power, and so at higher clocks.
absl::Status FillWithNumbers(DeviceStream& stream, std::byte* memory, int64_t bytes) {
  std::vector<uint32_t> some(size_t{1} << 18);
  uint32_t state = 1;
  for (uint32_t& word : some) {
    state = state * 1664525u + 1013904223u;
    word = 0x3f003f00u | (state >> 8 & 0x807f807fu);
  }
  const int64_t some_bytes = static_cast<int64_t>(some.size() * sizeof(uint32_t));
  for (int64_t at = 0; at < bytes; at += some_bytes) {
    RETURN_IF_ERROR(stream.Copy(memory + at, some.data(), std::min(some_bytes, bytes - at)));
  }
  return stream.Await();
}

absl::StatusOr<double> MeasureOn(const KernelTable& kernels, DType type, Device& device) {
  ASSIGN_OR_RETURN(const std::unique_ptr<DeviceStream> stream, DeviceStream::Create(device));
  ASSIGN_OR_RETURN(const std::unique_ptr<DeviceEvent> begin, DeviceEvent::Create(device));
  ASSIGN_OR_RETURN(const std::unique_ptr<DeviceEvent> end, DeviceEvent::Create(device));
  constexpr double kEnoughSeconds = 2e-3;
  constexpr int64_t kSizeMax = 8192;
  double best = 0;
  for (int64_t size = 256; size <= kSizeMax; size *= 2) {
    MatmulArgs args = ProductOf(type, size);
    RETURN_IF_ERROR(kernels.matmul.can_run(args));
    const int64_t bytes = size * size * SizeOf(type), workspace = kernels.matmul.workspace_bytes(args, {});
    const auto memory = device.Memory(3 * bytes + workspace, "measuring the matrix peak");
    if (absl::IsResourceExhausted(memory.status())) break;
    RETURN_IF_ERROR(memory.status());
    args.c.data = memory->get();
    args.a.data = memory->get() + bytes;
    args.b.data = memory->get() + 2 * bytes;
    RETURN_IF_ERROR(FillWithNumbers(*stream, memory->get(), 3 * bytes));
    const KernelContext context{
        .workspace = memory->get() + 3 * bytes, .workspace_bytes = workspace, .stream = stream->handle()};
    double seconds = 0;
    for (int i = 0; i < 3; ++i) {
      RETURN_IF_ERROR(stream->Record(*begin));
      kernels.matmul(args, context);
      RETURN_IF_ERROR(stream->Record(*end));
      RETURN_IF_ERROR(stream->Await());
      ASSIGN_OR_RETURN(seconds, end->SecondsSince(*begin));
      best = std::max(best, 2.0 * static_cast<double>(size * size * size) / seconds);
    }
    if (seconds > kEnoughSeconds) break;
  }
  return best;
}

}  // namespace

double MeasureMatrixPeak(const KernelTable& kernels, DType type, Device& device) {
  return MeasureOn(kernels, type, device).value_or(0);
}

double MeasureMatrixPeak(const KernelTable& kernels, DType type, int threads) {
  // OpenMP keeps a team for every thread that has asked for one, until that thread ends. A thread of its own keeps this
  // team from staying beside that of the compute lane for the whole run.
  double peak = 0;
  std::jthread([&] { peak = Measure(kernels, type, threads); }).join();
  return peak;
}

}  // namespace angel_ptm
