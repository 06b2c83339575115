#include "launch/machine_rates.h"

#include <sys/resource.h>

#include <algorithm>
#include <array>
#include <atomic>
#include <chrono>
#include <cstring>
#include <functional>
#include <memory>
#include <numeric>
#include <thread>

#include "absl/strings/str_cat.h"
#include "angel_ptm/base/check.h"
#include "angel_ptm/memory/file_store.h"
#include "angel_ptm/memory/tier.h"
#include "kernels/ops/matmul.h"

namespace angel_ptm {
namespace {

using Clock = std::chrono::steady_clock;

double SecondsSince(Clock::time_point begin) { return std::chrono::duration<double>(Clock::now() - begin).count(); }

double Median(std::vector<double> values) {
  std::nth_element(values.begin(), values.begin() + static_cast<int64_t>(values.size() / 2), values.end());
  return values[values.size() / 2];
}

// Typical duration of a call: after one warm-up, the median of as many calls as fit in `seconds`, at least three.
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

double Mean(const std::vector<double>& values) {
  return std::accumulate(values.begin(), values.end(), 0.0) / static_cast<double>(values.size());
}

// Bytes copied per second by one of the `copiers` threads of each rank.
absl::StatusOr<double> CopyRate(int copiers, Communicator& ranks) {
  constexpr double kSeconds = 0.3;
  std::vector<double> rates(static_cast<size_t>(copiers), 0.0);
  RETURN_IF_ERROR(ranks.Barrier({"copies begin"}));
  {
    std::vector<std::jthread> threads;
    for (double& rate : rates) {
      threads.emplace_back([&rate] {
        const auto arena = MakeHostArena(TierKind::kHost, 2 * kCopyBytes);
        if (!arena.ok()) return;
        std::byte* const data = (*arena)->data();
        rate = static_cast<double>(kCopyBytes) /
               TypicalSeconds(kSeconds, [&] { std::memcpy(data, data + kCopyBytes, kCopyBytes); });
      });
    }
  }
  ASSIGN_OR_RETURN(const std::vector<double> all, ValuesOf(Mean(rates), ranks));
  return Mean(all);
}

double ProcessorSeconds() {
  rusage usage = {};
  getrusage(RUSAGE_SELF, &usage);
  const auto seconds = [](const timeval& t) { return static_cast<double>(t.tv_sec) + 1e-6 * t.tv_usec; };
  return seconds(usage.ru_utime) + seconds(usage.ru_stime);
}

constexpr int64_t kFileBytes = int64_t{128} << 20, kCallBytes = int64_t{32} << 20;

// A complete pass over half of the file in several calls; `memory` has room for one call.
absl::Status Pass(FileStore& store, std::byte* memory, bool write, int64_t begin) {
  for (int64_t at = begin; at < begin + kFileBytes / 2; at += kCallBytes) {
    RETURN_IF_ERROR(write ? store.Write(at, memory, kCallBytes) : store.Read(at, memory, kCallBytes));
  }
  return absl::OkStatus();
}

// Bytes per second while one thread reads and another writes; the faster one continues until the other is done.
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
  // Without a registered buffer transfers are slower, and so are a run's.
  const absl::Status registered = store->RegisterBuffer(memory->data(), memory->bytes());
  (void)registered;
  std::byte* const to = memory->data();
  std::byte* const from = memory->data() + kCallBytes;
  RETURN_IF_ERROR(Pass(*store, from, true, 0));  // the first writes to reserved space are slower
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

absl::StatusOr<std::vector<double>> MatrixRates(const KernelTable& kernels, DType type, const ProductShape& shape,
                                                int threads, double seconds, Communicator& ranks) {
  RETURN_IF_ERROR(ranks.Barrier({"products begin"}));
  return ValuesOf(ProductRate(kernels, type, shape, threads, seconds), ranks);
}

absl::StatusOr<MemoryRates> MeasureMemory(int threads, Communicator& ranks) {
  ASSIGN_OR_RETURN(const double all, CopyRate(threads, ranks));
  ASSIGN_OR_RETURN(const double one, CopyRate(1, ranks));
  return MemoryRates{.node = 2 * all * ranks.size() * threads, .copy = one};
}

absl::StatusOr<std::vector<FileRate>> MeasureFiles(const std::string& directory, bool allow_buffered,
                                                   Communicator& ranks) {
  std::vector<FileRate> rates;
  for (const auto& [request, depth] :
       {std::pair(int64_t{64} << 10, 8), {int64_t{64} << 10, 32}, {int64_t{1} << 20, 1}, {int64_t{1} << 20, 32}}) {
    FileRate rate{request, depth};
    absl::Status status;
    if (ranks.rank() == 0) {
      const absl::StatusOr<FileRate> measured = RateOfFiles(directory, allow_buffered, rate);
      status = measured.status();
      if (measured.ok()) rate = *measured;
    }
    RETURN_IF_ERROR(AgreeOn(status, ranks));
    RETURN_IF_ERROR(ranks.Broadcast(std::as_writable_bytes(std::span(&rate, 1)), 0, {"rates of files"}));
    rates.push_back(rate);
  }
  return rates;
}

absl::StatusOr<NetworkRate> MeasureNetwork(Communicator& ranks, Communicator& world) {
  constexpr int64_t kLeastBytes = 64, kBytes = int64_t{64} << 20;
  constexpr int kCalls = 7;
  const int64_t most = kBytes / ranks.size() / kLeastBytes * kLeastBytes;
  ASSIGN_OR_RETURN(const std::shared_ptr<std::byte> arena,
                   world.MakeArena(most * (ranks.size() + 1), 1, {"memory to gather in"}));
  std::vector<std::byte> elsewhere(arena == nullptr ? static_cast<size_t>(most * (ranks.size() + 1)) : 0);
  std::byte* const memory = arena == nullptr ? elsewhere.data() : arena.get();
  NetworkRate rate;
  for (const int64_t bytes : {kLeastBytes, most}) {
    const std::span<const std::byte> own(memory + most * ranks.size(), static_cast<size_t>(bytes));
    const std::span<std::byte> all(memory, static_cast<size_t>(bytes * ranks.size()));
    std::vector<double> took;
    for (int call = 0; call <= kCalls; ++call) {
      RETURN_IF_ERROR(ranks.Barrier({"a gather begins"}));
      const Clock::time_point begin = Clock::now();
      RETURN_IF_ERROR(ranks.AllGather(all, own, {"a gather that is timed"}));
      if (call > 0) took.push_back(SecondsSince(begin));  // the first call touches memory and makes connections
    }
    ASSIGN_OR_RETURN(const std::vector<double> seconds, ValuesOf(Median(std::move(took)), ranks));
    const double slowest = *std::max_element(seconds.begin(), seconds.end());
    if (bytes == kLeastBytes) {
      rate.latency_seconds = slowest;
    } else {
      rate.bytes_per_second = static_cast<double>(all.size()) / slowest;
    }
  }
  ranks.KeepAlive(arena);
  return rate;
}

absl::StatusOr<std::vector<std::string>> TextsOf(const std::string& own, Communicator& ranks) {
  constexpr size_t kBytes = 4096;
  std::vector<char> all(kBytes * static_cast<size_t>(ranks.size())), mine(kBytes, '\0');
  own.copy(mine.data(), kBytes - 1);
  RETURN_IF_ERROR(ranks.AllGather(std::as_writable_bytes(std::span(all)), std::as_bytes(std::span(mine)), {"texts"}));
  std::vector<std::string> texts;
  for (size_t at = 0; at < all.size(); at += kBytes) texts.emplace_back(&all[at]);
  return texts;
}

absl::StatusOr<std::vector<double>> ValuesOf(double own, Communicator& ranks) {
  std::vector<double> all(static_cast<size_t>(ranks.size()));
  RETURN_IF_ERROR(
      ranks.AllGather(std::as_writable_bytes(std::span(all)), std::as_bytes(std::span(&own, 1)), {"values"}));
  return all;
}

absl::Status AgreeOn(const absl::Status& status, Communicator& ranks) {
  ASSIGN_OR_RETURN(const std::vector<double> codes, ValuesOf(static_cast<double>(status.code()), ranks));
  if (std::count(codes.begin(), codes.end(), 0.0) == ranks.size()) return absl::OkStatus();
  ASSIGN_OR_RETURN(const std::vector<std::string> texts, TextsOf(std::string(status.message()), ranks));
  for (size_t rank = 0; rank < codes.size(); ++rank) {
    if (codes[rank] == 0) continue;
    const std::string who =
        ranks.size() > 1 ? absl::StrCat("rank ", ranks.world_rank(static_cast<int>(rank)), ": ") : "";
    return absl::Status(static_cast<absl::StatusCode>(codes[rank]), who + texts[rank]);
  }
  return absl::OkStatus();
}

}  // namespace angel_ptm
