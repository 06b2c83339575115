// Predicts the seconds of a Plan's steps from a machine model, which is plain data: nothing here reads a clock or
// measures. The numbers come from cluster files (config/cluster.proto), which train/predict.h converts to a CostModel.
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

// A rate of work per second as a function of the work in one call. Points increase in work and in the time it takes;
// without points the rate is unknown.
struct WorkRate {
  std::vector<std::pair<double, double>> points;  // work, per second

  bool known() const { return !points.empty(); }
  // Seconds for `work`. Between points, time is a power of work; outside their range it is proportional to work. So
  // time never decreases as work grows.
  double Seconds(double work) const;
};

// Resources that the lanes of a rank share. While steps demand more of a resource than its capacity, all steps that use
// it are slowed by the same factor.
enum class Shared : uint8_t {
  kCores,       // host cores, the rank's share
  kHostMemory,  // host memory bandwidth, the rank's share
  kDrive,       // bandwidth of the node's drives, the rank's share
};
inline constexpr int kSharedCount = 3;

// A machine as seen by one of ranks_per_node ranks while all ranks do the same. Rates are bytes or FLOPs per second of
// one rank; 0 means that the machine has no such resource, and no step may need it.
struct CostModel {
  int ranks_per_node = 1;
  int threads = 1;                                            // of the compute lane, if it runs on the host
  bool device_is_host = false;                                // compute, reductions and copies use host cores
  std::array<WorkRate, 2> matrix;                             // FLOPs of matrix products, by type: fp32, bf16
  double device_memory = 0;                                   // bytes read and written
  double launch_seconds = 0;                                  // of each step
  std::map<std::pair<std::string, DType>, WorkRate> kernels;  // measured: cluster.proto, ClusterKernelRate
  double host_memory = 0, host_adamw = 0;
  double to_device = 0, to_host = 0, link_latency_seconds = 0;
  double file_read = 0, file_write = 0, file_latency_seconds = 0, file_cores = 0;
  double inside_node = 0, inside_latency_seconds = 0;     // received by a rank from ranks of its node
  double between_nodes = 0, between_latency_seconds = 0;  // received by all ranks of a node together from other nodes
  // kCores: a number of cores. The others: in units of the resource's rate for traffic in one direction alone.
  std::array<double, kSharedCount> capacity = {1, 1, 1};
};

// Typical ratios between CPU, memory, drives and communication within one machine, for choices without measurements.
CostModel TypicalHostModel(int threads);

// The time of a step while nothing else runs, and its use of each shared resource during that time.
struct StepCost {
  double seconds = 0;
  std::array<double, kSharedCount> uses = {};
};

// The position of a micro-batch in its step. The first fetches no gradients; the last sums their squares.
struct MicroBatchKind {
  bool first = true, last = true;
};

// Returns the costs by step. An op, or a collective of all ranks, takes the time measured for its kind. Without a
// measurement an op takes the longer of its FLOPs at the matrix rate and its bytes at the memory rate. All-gathers
// between GPUs, of all ranks or of a group, cross each node's network once for each group that has ranks there (NCCL's
// rings). Other all-gathers, and all reductions, are exchanges between all ranks in which the ranks of a node share its
// network or, in a world of nodes (Layout), one exchange inside nodes and one across them (comm/nodes.h).
std::vector<StepCost> CostsOf(const Graph& graph, const Plan& plan, const Segment& segment, const CostModel& model,
                              const MicroBatchKind& micro_batch);

// The time of the graph's micro-step ops run one after the other. No plan of the graph takes less time for a
// micro-batch.
double ComputeSeconds(const Graph& graph, const CostModel& model);

// A lower bound on the time of a step of `micro_batches` micro-batches, for every plan of the graph with that world and
// ZeRO stage: the longer of its ops run one after the other and its collectives. Every micro-batch has the row
// exchanges, a reduction of each trainable unit's gradients and, at stage 3, an all-gather of its parameters; stages 1
// and 2 gather parameters once, after the update.
double LeastStepSeconds(const Graph& graph, const CostModel& model, const WorldShape& world, int zero_stage,
                        int64_t micro_batches);

// The key under which a step's rate is found in CostModel::kernels, and the amount of work in the step. Calibration
// measures the same quantity.
struct StepWork {
  std::string name;
  DType type = DType::kFloat32;
  double work = 0;
};
StepWork WorkOf(const Graph& graph, const Step& step);

}  // namespace angel_ptm

#endif  // ANGEL_PTM_PLAN_COST_H_
