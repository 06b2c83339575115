// From a configuration to graphs and Plans: everything about a run that can be known in advance, without allocating its
// memory or contacting peers.
#ifndef ANGEL_PTM_TRAIN_RUN_PLAN_H_
#define ANGEL_PTM_TRAIN_RUN_PLAN_H_

#include <cstdint>
#include <map>
#include <memory>
#include <optional>
#include <string>
#include <vector>

#include "angel_ptm/base/status.h"
#include "angel_ptm/config/train_config.pb.h"
#include "angel_ptm/model/graph.h"
#include "angel_ptm/plan/cost.h"
#include "angel_ptm/plan/planner.h"
#include "angel_ptm/train/task.h"
#include "kernels/kernels.h"
#include "kernels/op_kind.h"

namespace angel_ptm {

// What the configuration leaves to the machine.
struct RunFactsForPlan {
  int world_size = 1;
  int ranks_per_node = 0;  // as in WorldShape
  int threads = 1;         // of the compute lane
  const KernelTable* kernels = &CpuKernels();
  int64_t vocab_size = 0;        // of the prepared data; used if the configuration does not set it
  int64_t host_bytes_max = 0;    // what memory.host_bytes = 0 means; 0: unlimited
  int64_t device_bytes_max = 0;  // what memory.device_bytes = 0 means; 0: unlimited
  // What the device and host tiers may take together if both are this machine's memory; 0: unlimited.
  int64_t tiers_bytes_max = 0;
  // Cost model by which recomputation AUTO chooses; null: TypicalHostModel. Must be the same on all ranks.
  const CostModel* cost = nullptr;
};

// Graphs and Plans of a run, which share one Layout. Not movable: Plans and Executors refer to the graphs.
struct RunPlan {
  std::unique_ptr<const Task> task;  // of the configuration, for its graphs
  int64_t recomputed_blocks = 0;     // how many, counted from the first
  Graph training, evaluation;
  Plan training_plan, evaluation_plan;
  // The task's buckets from 1 on; the members above are those of bucket 0.
  struct Bucket {
    Graph training, evaluation;
    Plan training_plan, evaluation_plan;
  };
  std::vector<std::unique_ptr<const Bucket>> other_buckets;
  // By bucket; null for a bucket of which the run makes no samples.
  struct Sampling {
    Graph graph;
    Plan plan;
  };
  std::vector<std::unique_ptr<const Sampling>> sampling;

  const Graph& training_of(int64_t bucket) const {
    return bucket == 0 ? training : other_buckets[bucket - 1]->training;
  }
  const Plan& training_plan_of(int64_t bucket) const {
    return bucket == 0 ? training_plan : other_buckets[bucket - 1]->training_plan;
  }
  const Graph& evaluation_of(int64_t bucket) const {
    return bucket == 0 ? evaluation : other_buckets[bucket - 1]->evaluation;
  }
  const Plan& evaluation_plan_of(int64_t bucket) const {
    return bucket == 0 ? evaluation_plan : other_buckets[bucket - 1]->evaluation_plan;
  }
  // Everything that may be played: "training" and "evaluation" of bucket 0, then of the other buckets, and "sampling"
  // last.
  struct Played {
    std::string name;
    const Graph* graph;
    const Plan* plan;
  };
  std::vector<Played> played() const;
  // The maximum over all Plans in played().
  int64_t ArenaBytes(TierKind tier) const;
};

// The budget of a rank's page file (PlanOptions::file_bytes).
int64_t FileBudget(const NvmeConfig& nvme);

// Makes the graphs and verified Plans, and chooses recomputation. AUTO recomputes as few blocks as the budgets allow;
// if activations would then have to move to the host or on to the file, it recomputes as many as make the simulated
// step shortest. If nothing fits, returns kResourceExhausted naming the tier, the bytes, and the smallest changes of
// the configuration that would fit.
absl::StatusOr<std::unique_ptr<RunPlan>> MakeRunPlan(const TrainConfig& config, const RunFactsForPlan& facts);

// The ops of the configuration's training and evaluation that these kernels refuse (exec/backend_facts.h), with
// reasons.
std::map<OpKind, std::string> OpsRefused(const TrainConfig& config, int64_t vocab_size, const KernelTable& kernels);

// The configuration's task for graphs only, with all of a run's states in its table.
std::unique_ptr<Task> MakePlanningTask(const TrainConfig& config, const RunFactsForPlan& facts);

// The part of MakeRunPlan that decides whether a run fits, for searches: *run gets only the training graph and Plan,
// the Plan is not verified, and a refusal names no changes.
absl::Status MakeTrainingPlan(const TrainConfig& config, const RunFactsForPlan& facts, RunPlan* run);

// The same with `recomputed_blocks`, whatever the configuration says about recomputation.
absl::Status MakeTrainingPlanWith(const TrainConfig& config, const RunFactsForPlan& facts, int64_t recomputed_blocks,
                                  RunPlan* run);

// Returns OK if MakeTrainingPlan would succeed, else its refusal. Faster than MakeTrainingPlan if recomputation is
// AUTO.
absl::Status TrainingFits(const TrainConfig& config, const RunFactsForPlan& facts);

// The smallest memory.device_bytes, at least one page, with which MakeRunPlan makes a training plan, provided the host
// has room for the rest. kInvalidArgument if there is no such budget.
absl::StatusOr<int64_t> LeastDeviceBytes(const TrainConfig& config, const RunFactsForPlan& facts);

}  // namespace angel_ptm

#endif  // ANGEL_PTM_TRAIN_RUN_PLAN_H_
