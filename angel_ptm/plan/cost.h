// Seconds of a Plan's steps, from numbers about a machine as plain data: no clock, no measuring. cluster files
// (config/cluster.proto) are where the numbers come from; train/predict.h makes one of the other.
#ifndef ANGEL_PTM_PLAN_COST_H_
#define ANGEL_PTM_PLAN_COST_H_

#include <array>
#include <cstdint>
#include <map>
#include <string>
#include <utility>
#include <vector>

#include "angel_ptm/base/dtype.h"
#include "angel_ptm/base/world_shape.h"
#include "angel_ptm/model/graph.h"
#include "angel_ptm/plan/plan.h"

namespace angel_ptm {

// Work per second, by how much of it a call has. Points rise in work and in the time it takes; none: unknown.
struct WorkRate {
  std::vector<std::pair<double, double>> points;  // work, per second

  bool known() const { return !points.empty(); }
  // Between points time is a power of work, beyond them it is proportional to work: it never falls as work grows.
  double Seconds(double work) const;
};

// What lanes of a rank share: while steps want more of one than there is, all that use it are slowed alike.
enum class Shared : uint8_t {
  kCores,       // of the host, the rank's part
  kHostMemory,  // its bandwidth, the rank's part
  kDrive,       // of the node's drives, the rank's part
};
inline constexpr int kSharedCount = 3;

// A machine as one rank of so many sees it while all ranks do the same. Rates: bytes or FLOPs per second of one rank;
// 0: there is no such thing, and no step may need it.
struct CostModel {
  int ranks_per_node = 1;
  int threads = 1;                 // of the compute lane, where it is the host's
  bool device_is_host = false;     // compute and reductions take host cores, moves copy by host cores
  std::array<WorkRate, 2> matrix;  // FLOPs of products, by type: fp32, bf16
  double device_memory = 0;        // bytes read and written
  double launch_seconds = 0;       // of each step
  std::map<std::pair<std::string, DType>, WorkRate> kernels;  // measured: cluster.proto, ClusterKernelRate
  double host_memory = 0, host_adamw = 0;
  double to_device = 0, to_host = 0, link_latency_seconds = 0;
  double file_read = 0, file_write = 0, file_latency_seconds = 0, file_cores = 0;
  double inside_node = 0, inside_latency_seconds = 0;     // what a rank receives from ranks of its node
  double between_nodes = 0, between_latency_seconds = 0;  // what a node receives from others, for all its ranks
  std::array<double, kSharedCount> capacity = {1, 1,
                                               1};  // cores; parts of the others' rates, as of one direction alone
};

// Ratios of common CPUs with their memory, drives and ranks of one machine, for choices where nobody has measured.
CostModel TypicalHostModel(int threads);

// What a step takes while nothing else runs, and how much of what is shared it uses then.
struct StepCost {
  double seconds = 0;
  std::array<double, kSharedCount> uses = {};
};

// Where a micro-batch stands in its step: the first fetches no gradients, the last sums their squares.
struct MicroBatchKind {
  bool first = true, last = true;
};

// By step. Ops and collectives of all ranks take what their kind was measured to take, else ops the longer of their
// FLOPs at the matrix rate and their bytes at the memory's. All-gathers between GPUs, of all ranks or of a group, cross
// each node's network once for each group that has ranks there (NCCL's rings). Others, and sums, are exchanges between
// all ranks, for which all ranks of a node share its network, or in a world of nodes (Layout) one inside nodes and one
// across (comm/nodes.h).
std::vector<StepCost> CostsOf(const Graph& graph, const Plan& plan, const Segment& segment, const CostModel& model,
                              const MicroBatchKind& micro_batch);

// Of the graph's micro-step ops one after the other: no plan of the graph takes less time for a micro-batch.
double ComputeSeconds(const Graph& graph, const CostModel& model);

// No plan of the graph for that world and ZeRO stage takes less for a step of so many micro-batches: its ops one after
// the other, or its collectives. These are in every micro-batch the exchanges of rows, a reduction of each trainable
// unit's gradients and at stage 3 an all-gather of its parameters, which stages 1 and 2 have once, after the update.
double LeastStepSeconds(const Graph& graph, const CostModel& model, const WorldShape& world, int zero_stage,
                        int64_t micro_batches);

// How a step's seconds are looked up in CostModel::kernels and how much of that work it is; the calibration measures
// the same.
struct StepWork {
  std::string name;
  DType type = DType::kFloat32;
  double work = 0;
};
StepWork WorkOf(const Graph& graph, const Step& step);

}  // namespace angel_ptm

#endif  // ANGEL_PTM_PLAN_COST_H_
