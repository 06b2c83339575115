// How near the transports are to a memcpy and to Open MPI's own collectives, and what a waiting rank costs.
//
//   mpirun -np <ranks> --bind-to none [--oversubscribe] comm_mpi_bench [--json FILE] [largest MiB]
//
// For each total size, interleaved, round after round: median and best milliseconds of the slowest rank, the bytes over
// the median time, and how many times the median of MPI_Allreduce, not in place, fits into this one's.
//   memcpy           the bytes that arrive at a rank, by all ranks at once: in private memory on huge pages, in an
//   arena MPI's own        MPI_Allgather; MPI_Alltoall and the ordered sum; MPI_Allreduce, also in place messages,
//   direct reads    an all-gather; an ordered reduce-scatter; both, which is an all-reduce: the sums go to
//                    their place in the result, the gather fills in the others'
// MPI has private memory on huge pages, direct reads have arenas; "staged": an all-gather from outside them. The
// results of all-reduces are compared with each other. Of four ranks and more also as if every two had a machine of
// their own: by messages, and by nodes (comm/nodes.h). Then the CPU time of a rank that waits for a late peer.
#include <mpi.h>
#include <sys/mman.h>

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

#include "absl/strings/str_cat.h"
#include "benchmarks/bench_record.h"
#include "comm/mpi.h"
#include "comm/nodes.h"
#include "comm/ordered_reduce_scatter.h"
#include "comm/ordered_sum.h"

namespace angel_ptm {
namespace {

using Clock = std::chrono::steady_clock;
using Bytes = std::span<std::byte>;

double Seconds(Clock::time_point start) { return std::chrono::duration<double>(Clock::now() - start).count(); }

void Check(const absl::Status& status) {
  if (status.ok()) return;
  std::fprintf(stderr, "%s\n", std::string(status.message()).c_str());
  MPI_Abort(MPI_COMM_WORLD, 1);
}

// Private memory on huge pages, touched.
std::shared_ptr<std::byte> PrivateMemory(int64_t bytes) {
  constexpr size_t kHugePage = size_t{2} << 20;
  const size_t n = (static_cast<size_t>(bytes) + kHugePage - 1) / kHugePage * kHugePage;
  std::shared_ptr<std::byte> memory(static_cast<std::byte*>(std::aligned_alloc(kHugePage, n)), &std::free);
  madvise(memory.get(), n, MADV_HUGEPAGE);
  std::memset(memory.get(), 1, n);
  return memory;
}

Bytes First(const std::shared_ptr<std::byte>& memory, int64_t bytes) {
  return {memory.get(), static_cast<size_t>(bytes)};
}
std::span<float> Floats(Bytes bytes) { return {reinterpret_cast<float*>(bytes.data()), bytes.size() / 4}; }

std::shared_ptr<std::byte> ArenaOf(Communicator& communicator, int64_t bytes) {
  auto made = communicator.MakeArena(bytes, 1, {"benchmark"});
  Check(made.status());
  return *made != nullptr ? *std::move(made) : PrivateMemory(bytes);
}

struct Transports {
  std::unique_ptr<Communicator> direct, messages;
  // As if every two ranks had a machine of their own; null where there are too few.
  std::unique_ptr<Communicator> machines, nodes;
};

// One rank's memory, for the largest size.
struct Memory {
  Memory(const Transports& by, int64_t bytes)
      : send(PrivateMemory(bytes)),
        result(PrivateMemory(bytes)),
        scratch(PrivateMemory(bytes)),
        arena_send(ArenaOf(*by.direct, bytes)),
        arena_result(ArenaOf(*by.direct, bytes)) {
    if (by.nodes == nullptr) return;
    node_send = ArenaOf(*by.nodes, bytes);
    node_result = ArenaOf(*by.nodes, bytes);
  }

  std::shared_ptr<std::byte> send, result, scratch, arena_send, arena_result, node_send, node_result;
};

struct Contestant {
  std::string name;
  std::function<void()> run;
  std::vector<double> seconds = {};  // of the slowest rank, by round
};

void Measure(std::vector<Contestant>& contestants) {
  const Clock::time_point start = Clock::now();
  int go_on = 1;
  for (int round = 0; go_on != 0; ++round) {
    for (Contestant& contestant : contestants) {
      MPI_Barrier(MPI_COMM_WORLD);
      const Clock::time_point begin = Clock::now();
      contestant.run();
      double mine = Seconds(begin), slowest = 0;
      MPI_Allreduce(&mine, &slowest, 1, MPI_DOUBLE, MPI_MAX, MPI_COMM_WORLD);
      if (round > 0) contestant.seconds.push_back(slowest);
    }
    go_on = round < 7 || (round < 100 && Seconds(start) < 4) ? 1 : 0;
    MPI_Bcast(&go_on, 1, MPI_INT, 0, MPI_COMM_WORLD);
  }
}

void Print(int64_t bytes, std::vector<Contestant>& contestants, BenchRecord& record) {
  double allreduce = 0;
  for (Contestant& c : contestants) {
    std::sort(c.seconds.begin(), c.seconds.end());
    if (c.name == "MPI's own      all-reduce") allreduce = c.seconds[c.seconds.size() / 2];
  }
  for (const Contestant& c : contestants) {
    const double median = c.seconds[c.seconds.size() / 2];
    std::printf("%-40s %4lld MiB  median %9.3f ms  best %9.3f ms %7.2f GB/s  %6.2f x MPI's all-reduce\n",
                c.name.c_str(), static_cast<long long>(bytes >> 20), median * 1e3, c.seconds[0] * 1e3,
                static_cast<double>(bytes) / median * 1e-9, allreduce / median);
    if (c.name.starts_with("MPI's own")) continue;
    record.Add(absl::StrCat(c.name, ", ", bytes >> 20, " MiB"), "times the speed of MPI's all-reduce", Better::kMore,
               allreduce / median);
  }
  std::fflush(stdout);
}

// The verbs at one size: `n` bytes per rank.
struct Verbs {
  const Memory& memory;
  const int rank, size;
  const int64_t n;

  int count() const { return static_cast<int>(n); }
  int64_t all() const { return n * size; }

  void Copy(const std::shared_ptr<std::byte>& to, const std::shared_ptr<std::byte>& from) const {
    std::memcpy(to.get(), from.get(), static_cast<size_t>(all() - n));
  }
  // MPI's own calls count in int: up to 2 GiB here.
  void AllGatherOfMpi() const {
    MPI_Allgather(memory.send.get(), count(), MPI_BYTE, memory.result.get(), count(), MPI_BYTE, MPI_COMM_WORLD);
  }
  void AllToAllAndSum() const {
    MPI_Alltoall(memory.send.get(), count(), MPI_BYTE, memory.scratch.get(), count(), MPI_BYTE, MPI_COMM_WORLD);
    std::vector<const std::byte*> arrived;
    for (int r = 0; r < size; ++r) arrived.push_back(memory.scratch.get() + r * n);
    OrderedSum(Floats(First(memory.result, n)).data(), arrived, DType::kFloat32, n / 4, false);
  }
  void AllReduceOfMpi(bool in_place) const {
    MPI_Allreduce(in_place ? MPI_IN_PLACE : memory.send.get(), memory.result.get(), static_cast<int>(all() / 4),
                  MPI_FLOAT, MPI_SUM, MPI_COMM_WORLD);
  }
  static void AllGather(Communicator& comm, Bytes result, std::span<const std::byte> src) {
    Check(comm.AllGather(result, src, {"bench"}));
  }
  void ReduceScatter(Communicator& comm, Bytes result, Bytes src) const {
    const Bytes scratch = First(memory.scratch, ReduceScratchBytes(n / 4, WorldOf(comm)));
    Check(OrderedReduceScatter(comm, Floats(result), Floats(src), false, scratch, {"bench"}));
  }
  void AllReduce(Communicator& comm, Bytes result, Bytes src) const {
    const Bytes own = result.subspan(static_cast<size_t>(rank * n), static_cast<size_t>(n));
    ReduceScatter(comm, own, src);
    AllGather(comm, result, own);
  }
};

std::vector<Contestant> Contestants(const Verbs& v, const Transports& by) {
  const Memory& m = v.memory;
  Communicator &direct = *by.direct, &messages = *by.messages;
  const Bytes send = First(m.send, v.all()), result = First(m.result, v.all());
  const Bytes arena_send = First(m.arena_send, v.all()), arena_result = First(m.arena_result, v.all());
  const size_t n = static_cast<size_t>(v.n);
  std::vector<Contestant> all = {
      {"memcpy         private memory", [&v, &m] { v.Copy(m.result, m.send); }},
      {"memcpy         arenas", [&v, &m] { v.Copy(m.arena_result, m.arena_send); }},
      {"MPI's own      all-gather", [&v] { v.AllGatherOfMpi(); }},
      {"MPI's own      all-to-all and sum", [&v] { v.AllToAllAndSum(); }},
      {"MPI's own      all-reduce", [&v] { v.AllReduceOfMpi(false); }},
      {"MPI's own      all-reduce in place", [&v] { v.AllReduceOfMpi(true); }},
      {"messages       all-gather", [=, &messages] { Verbs::AllGather(messages, result, send.first(n)); }},
      {"messages       reduce-scatter", [=, &v, &messages] { v.ReduceScatter(messages, result.first(n), send); }},
      {"direct reads   all-gather, staged", [=, &direct] { Verbs::AllGather(direct, result, send.first(n)); }},
      {"direct reads   all-gather", [=, &direct] { Verbs::AllGather(direct, arena_result, arena_send.first(n)); }},
      {"direct reads   reduce-scatter",
       [=, &v, &direct] { v.ReduceScatter(direct, arena_result.first(n), arena_send); }},
      {"direct reads   reduce-scatter + all-gather",
       [=, &v, &direct] { v.AllReduce(direct, arena_result, arena_send); }},
      {"messages       reduce-scatter + all-gather", [=, &v, &messages] { v.AllReduce(messages, result, send); }},
  };
  if (by.nodes != nullptr) {
    const Bytes node_send = First(m.node_send, v.all()), node_result = First(m.node_result, v.all());
    all.push_back({"nodes of 2     reduce-scatter + all-gather",
                   [=, &v, &nodes = *by.nodes] { v.AllReduce(nodes, node_result, node_send); }});
  }
  return all;
}

void CheckAllReduces(const Verbs& v, const Transports& by) {
  const Bytes send = First(v.memory.send, v.all()), result = First(v.memory.result, v.all());
  const Bytes arena_send = First(v.memory.arena_send, v.all()), arena_result = First(v.memory.arena_result, v.all());
  const std::span<float> values = Floats(send);
  // Whole numbers, whose sums are exact in any order.
  for (size_t i = 0; i < values.size(); ++i) values[i] = static_cast<float>((i * 7 + static_cast<size_t>(v.rank)) % 64);
  std::memcpy(arena_send.data(), send.data(), send.size());
  v.AllReduceOfMpi(false);
  v.AllReduce(*by.direct, arena_result, arena_send);
  if (std::memcmp(result.data(), arena_result.data(), result.size()) != 0) {
    Check(absl::InternalError("the all-reduces differ"));
  }
  if (by.nodes == nullptr) return;
  const Bytes node_send = First(v.memory.node_send, v.all()), node_result = First(v.memory.node_result, v.all());
  std::memcpy(node_send.data(), send.data(), send.size());
  v.AllReduce(*by.nodes, node_result, node_send);
  if (std::memcmp(result.data(), node_result.data(), result.size()) != 0) {
    Check(absl::InternalError("the all-reduce of nodes differs"));
  }
}

void BenchSize(MpiWorld& world, const Memory& memory, int64_t bytes, const Transports& by, BenchRecord& record) {
  const Verbs verbs{memory, world.rank(), world.size(), bytes / world.size() / 64 * 64};
  CheckAllReduces(verbs, by);
  std::vector<Contestant> contestants = Contestants(verbs, by);
  Measure(contestants);
  if (world.rank() == 0) Print(bytes, contestants, record);
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
  std::vector<Contestant> barrier = {{"barrier", [&] { Check(comm.Barrier({"bench"})); }}};
  Measure(barrier);
  std::sort(barrier[0].seconds.begin(), barrier[0].seconds.end());
  if (world.rank() == 0)
    std::printf("%-14s waiting uses %.2f %% of a core; a barrier takes %.1f us\n", name, sent / 3 * 100,
                barrier[0].seconds[barrier[0].seconds.size() / 2] * 1e6);
}

std::unique_ptr<Communicator> CreateOrEnd(MpiWorld& world, MpiTransport transport) {
  auto made = world.Create({}, transport);
  Check(made.status());
  return *std::move(made);
}

Transports ConnectAll(MpiWorld& world) {
  Transports by = {.direct = CreateOrEnd(world, MpiTransport::kDirectReads),
                   .messages = CreateOrEnd(world, MpiTransport::kMessages),
                   .machines = nullptr,
                   .nodes = nullptr};
  if (world.size() < 4 || world.size() % 2 != 0) return by;
  Check(world.FindMachines(std::to_string(world.rank() / 2)));
  by.machines = CreateOrEnd(world, MpiTransport::kAuto);
  auto nodes = CreateNodes(*by.machines, 2);
  Check(nodes.status());
  by.nodes = *std::move(nodes);
  return by;
}

void Run(MpiWorld& world, int64_t largest_mib, BenchRecord& record) {
  const Transports by = ConnectAll(world);
  record.SetSetting(absl::StrCat(world.size(), " ranks"));
  if (world.rank() == 0) std::printf("%d ranks, %u cores\n", world.size(), std::thread::hardware_concurrency());
  const Memory memory(by, largest_mib << 20);
  for (const int64_t mib : {1, 4, 16, 64, 256}) {
    if (mib <= largest_mib) BenchSize(world, memory, mib << 20, by, record);
  }
  if (world.size() < 2) return;
  BenchWaiting(world, *by.direct, "direct reads");
  BenchWaiting(world, *by.messages, "messages");
}

}  // namespace
}  // namespace angel_ptm

int main(int argc, char** argv) {
  angel_ptm::BenchRecord record("comm_mpi_bench", &argc, argv);
  auto world = angel_ptm::MpiWorld::Init(/*limit_seconds=*/60);
  if (!world.ok()) {
    std::fprintf(stderr, "%s\n", std::string(world.status().message()).c_str());
    return 1;
  }
  angel_ptm::Run(**world, argc > 1 ? std::atoll(argv[1]) : 256, record);
  return 0;
}
