// From a configuration to graphs and Plans: everything about a run that can be known before it, without memory or
// peers.
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

// What the configuration leaves to the machine it runs on.
struct RunFactsForPlan {
  int world_size = 1;
  int ranks_per_node = 0;  // as in WorldShape
  int threads = 1;         // of the compute lane
  const KernelTable* kernels = &CpuKernels();
  int64_t vocab_size = 0;        // of the prepared data; used if the configuration gives none
  int64_t host_bytes_max = 0;    // what memory.host_bytes = 0 means here; 0: unlimited
  int64_t device_bytes_max = 0;  // what memory.device_bytes = 0 means here; 0: unlimited
  // What the device and the host tier may take together, both being this machine's memory; 0: unlimited.
  int64_t tiers_bytes_max = 0;
  // By whose time recomputation AUTO chooses; null: TypicalHostModel. The same on all ranks.
  const CostModel* cost = nullptr;
};

// Graphs and Plans of a run, which share one Layout. Not movable: Plans and Executors refer to the
// graphs.
struct RunPlan {
  std::unique_ptr<const Task> task;  // of the configuration, for its graphs
  int64_t recomputed_blocks = 0;     // the first so many
  Graph training, evaluation;
  Plan training_plan, evaluation_plan;
  // Of buckets 1 and up of the task; those above are bucket 0's.
  struct Bucket {
    Graph training, evaluation;
    Plan training_plan, evaluation_plan;
  };
  std::vector<std::unique_ptr<const Bucket>> other_buckets;
  // Of every bucket, null for one of which a run makes no samples.
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
  // All that may be played: "training", "evaluation", of bucket 0, then of the others and, last, "sampling".
  struct Played {
    std::string name;
    const Graph* graph;
    const Plan* plan;
  };
  std::vector<Played> played() const;
  // Of all that is played.
  int64_t ArenaBytes(TierKind tier) const;
};

// The budget of a rank's page file (PlanOptions::file_bytes).
int64_t FileBudget(const NvmeConfig& nvme);

// Graphs, Plans, and the choice of recomputation (AUTO: as few blocks as the budgets allow; where activations would
// move to the host or on to the file for that, as many as make the simulated step shortest). Plans are verified. If
// nothing fits: kResourceExhausted naming the tier, the bytes, and the smallest changes of the configuration that would
// fit.
absl::StatusOr<std::unique_ptr<RunPlan>> MakeRunPlan(const TrainConfig& config, const RunFactsForPlan& facts);

// The ops that these kernels refuse of the configuration's training and evaluation (exec/backend_facts.h).
std::map<OpKind, std::string> OpsRefused(const TrainConfig& config, int64_t vocab_size, const KernelTable& kernels);

// The task of the configuration for graphs alone, its table with all the states of a run.
std::unique_ptr<Task> MakePlanningTask(const TrainConfig& config, const RunFactsForPlan& facts);

// The part of it that decides whether a run fits, for searches: *run has the training graph and Plan, which is not
// verified, and a refusal names no changes.
absl::Status MakeTrainingPlan(const TrainConfig& config, const RunFactsForPlan& facts, RunPlan* run);

// The same with so many recomputed blocks, whatever the configuration says of them.
absl::Status MakeTrainingPlanWith(const TrainConfig& config, const RunFactsForPlan& facts, int64_t recomputed_blocks,
                                  RunPlan* run);

// OK if MakeTrainingPlan would make one, its refusal if not: in less time where recomputation is to be chosen.
absl::Status TrainingFits(const TrainConfig& config, const RunFactsForPlan& facts);

// The least memory.device_bytes, at least a page, for which MakeRunPlan makes a training plan if the host has room for
// the rest. kInvalidArgument if no budget has a plan.
absl::StatusOr<int64_t> LeastDeviceBytes(const TrainConfig& config, const RunFactsForPlan& facts);

}  // namespace angel_ptm

#endif  // ANGEL_PTM_TRAIN_RUN_PLAN_H_
