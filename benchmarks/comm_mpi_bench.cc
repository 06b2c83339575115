// How near the transports are to a memcpy, and what a waiting rank costs.
//
//   mpirun -np <ranks> --bind-to none comm_mpi_bench
//
// For each transport and total buffer size: median and best milliseconds of an all-gather and an ordered
// reduce-scatter, the bytes of the larger buffer over the best time, and that time as a multiple of the best memcpy of
// the bytes that arrive at a rank, done by all ranks at once (a gather from a separate buffer also copies the rank's
// own part). "MPI's own" is MPI_Allgather, and MPI_Alltoall with the same ordered sum. Then the CPU time of a rank that
// waits for a late peer. On a busy machine run it under `chrt -r 10`, or the other processes' time slices are measured.
#include <mpi.h>

#include <algorithm>
#include <chrono>
#include <cstdio>
#include <cstdlib>
#include <cstring>
#include <ctime>
#include <functional>
#include <memory>
#include <string>
#include <thread>
#include <vector>

#include "comm/mpi.h"
#include "comm/ordered_reduce_scatter.h"
#include "comm/ordered_sum.h"

namespace angel_ptm {
namespace {

using Clock = std::chrono::steady_clock;

double Seconds(Clock::time_point start) { return std::chrono::duration<double>(Clock::now() - start).count(); }

struct Buffer {
  explicit Buffer(int64_t n_bytes)
      : bytes(n_bytes),
        data(static_cast<std::byte*>(std::aligned_alloc(4096, (n_bytes + 4095) / 4096 * 4096)), &std::free) {
    std::memset(data.get(), 1, static_cast<size_t>(n_bytes));
  }
  std::span<std::byte> span() const { return {data.get(), static_cast<size_t>(bytes)}; }
  std::span<float> floats() const { return {reinterpret_cast<float*>(data.get()), static_cast<size_t>(bytes / 4)}; }
  int64_t bytes;
  std::unique_ptr<std::byte, decltype(&std::free)> data;
};

struct Timing {
  double median = 0, best = 0;
};

// Over repetitions of the slowest rank's time.
Timing Measure(const std::function<void()>& fn) {
  std::vector<double> seconds;
  double total = 0;
  for (int i = 0; i < 200 && (i < 7 || total < 0.5); ++i) {
    MPI_Barrier(MPI_COMM_WORLD);
    const Clock::time_point start = Clock::now();
    fn();
    double mine = Seconds(start), slowest = 0;
    MPI_Allreduce(&mine, &slowest, 1, MPI_DOUBLE, MPI_MAX, MPI_COMM_WORLD);
    total += slowest;
    if (i >= 2) seconds.push_back(slowest);
  }
  std::nth_element(seconds.begin(), seconds.begin() + static_cast<int64_t>(seconds.size() / 2), seconds.end());
  return {seconds[seconds.size() / 2], *std::min_element(seconds.begin(), seconds.end())};
}

void Check(const absl::Status& status) {
  if (status.ok()) return;
  std::fprintf(stderr, "%s\n", std::string(status.message()).c_str());
  MPI_Abort(MPI_COMM_WORLD, 1);
}

struct Case {
  const Buffer &large, &small, &scratch;  // [size * n], [n], reduction scratch
  int rank, size;

  void Print(const char* transport, const char* verb, Timing time, Timing copy) const {
    if (rank != 0) return;
    std::printf("%-14s %-14s %4lld MiB  median %9.3f ms  best %8.3f ms %7.2f GB/s %6.2f x memcpy\n", transport, verb,
                static_cast<long long>(large.bytes >> 20), time.median * 1e3, time.best * 1e3,
                static_cast<double>(large.bytes) / time.best * 1e-9, time.best / copy.best);
    std::fflush(stdout);
  }

  // MPI's own calls (which count in int: up to 2 GiB here).
  void AllGatherOfMpi() const {
    const int n = static_cast<int>(small.bytes);
    MPI_Allgather(small.data.get(), n, MPI_BYTE, large.data.get(), n, MPI_BYTE, MPI_COMM_WORLD);
  }
  void AllToAllAndSum(const Buffer& arrived) const {
    const int n = static_cast<int>(small.bytes);
    MPI_Alltoall(large.data.get(), n, MPI_BYTE, arrived.data.get(), n, MPI_BYTE, MPI_COMM_WORLD);
    OrderedSum(small.floats().data(), arrived.floats().data(), small.bytes / 4, size, small.bytes / 4, false);
  }
};

void BenchSize(MpiWorld& world, int64_t bytes, Communicator& direct, Communicator& messages) {
  const int64_t n = bytes / world.size() / 64 * 64;
  const Buffer large(n * world.size()), small(n), arrived(n * world.size());
  const Buffer scratch(ReduceScratchBytes(n / 4, world.size()));
  const Case c{large, small, scratch, world.rank(), world.size()};
  const Timing copy = Measure([&] {
    for (int r = 1; r < world.size(); ++r)
      std::memcpy(large.data.get() + r * n, small.data.get(), static_cast<size_t>(n));
  });
  c.Print("MPI's own", "all-gather", Measure([&] { c.AllGatherOfMpi(); }), copy);
  c.Print("MPI's own", "reduce-scatter", Measure([&] { c.AllToAllAndSum(arrived); }), copy);
  for (Communicator* comm : {&messages, &direct}) {
    const char* name = comm == &direct ? "direct reads" : "messages";
    c.Print(name, "all-gather", Measure([&] { Check(comm->AllGather(large.span(), small.span(), {"bench"})); }), copy);
    c.Print(name, "reduce-scatter", Measure([&] {
              Check(OrderedReduceScatter(*comm, small.floats(), large.floats(), false, scratch.span(), {"bench"}));
            }),
            copy);
  }
}

double ProcessCpuSeconds() {
  timespec t;
  clock_gettime(CLOCK_PROCESS_CPUTIME_ID, &t);
  return static_cast<double>(t.tv_sec) + 1e-9 * static_cast<double>(t.tv_nsec);
}

// Rank 1 comes one second late; how much of a core does rank 0 use meanwhile, and how long after does it go on?
void BenchWaiting(MpiWorld& world, Communicator& comm, const char* name) {
  double sent = 0;
  for (int i = 0; i < 3; ++i) {
    MPI_Barrier(MPI_COMM_WORLD);
    if (world.rank() == 1) std::this_thread::sleep_for(std::chrono::seconds(1));
    const double cpu = ProcessCpuSeconds();
    const Clock::time_point start = Clock::now();
    Check(comm.Barrier({"late"}));
    if (world.rank() == 0) sent += (ProcessCpuSeconds() - cpu) / Seconds(start);
  }
  const Timing barrier = Measure([&] { Check(comm.Barrier({"bench"})); });
  if (world.rank() == 0)
    std::printf("%-14s waiting uses %.2f %% of a core; a barrier takes %.1f us\n", name, sent / 3 * 100,
                barrier.median * 1e6);
}

void Run(MpiWorld& world) {
  auto direct = world.Create({}, MpiTransport::kDirectReads);
  auto messages = world.Create({}, MpiTransport::kMessages);
  Check(direct.status());
  Check(messages.status());
  if (world.rank() == 0) std::printf("%d ranks, %u cores\n", world.size(), std::thread::hardware_concurrency());
  for (const int64_t mib : {1, 16, 64}) BenchSize(world, mib << 20, **direct, **messages);
  if (world.size() < 2) return;
  BenchWaiting(world, **direct, "direct reads");
  BenchWaiting(world, **messages, "messages");
}

}  // namespace
}  // namespace angel_ptm

int main() {
  auto world = angel_ptm::MpiWorld::Init(/*limit_seconds=*/60);
  if (!world.ok()) {
    std::fprintf(stderr, "%s\n", std::string(world.status().message()).c_str());
    return 1;
  }
  angel_ptm::Run(**world);
  return 0;
}
