// Law 1 over the cases of axes.h: trains each case in a world and compares it bit for bit with the reference of its
// numerics (ZeRO 0, no budget, no recomputation, fresh, ranks as threads). Consecutive cases share what they have in
// common: plans, and the checkpoint that they resume from.
#ifndef ANGEL_PTM_TESTS_LAWS_PARITY_H_
#define ANGEL_PTM_TESTS_LAWS_PARITY_H_

#include <functional>
#include <map>
#include <optional>
#include <string>
#include <tuple>
#include <utility>

#include "angel_ptm/base/status.h"
#include "angel_ptm/base/world_shape.h"
#include "tests/laws/axes.h"
#include "tests/laws/tiny_run.h"

namespace angel_ptm {

// Trains in the world under test: TrainLocally, or Train as one process of an MPI world.
using TrainInWorld = std::function<absl::StatusOr<TinyResult>(const TinyRun&)>;

// Plants a fault: changes a case's run before it trains (and the run that saves what it resumes from), but not its
// reference.
using PlantFault = std::function<void(TinyRun&)>;

class ParityMatrix {
 public:
  struct Counts {
    int64_t cases = 0;
    int64_t moved = 0;                // cases whose Plan moves pages
    int64_t moves = 0;                // kMove steps of their Plans
    int64_t to_join = 0, joined = 0;  // cases whose updates should run beside the next step, and that had room for it
  };

  // `folder` must exist and be visible to all ranks; checkpoints are written to it and removed. A process that does not
  // compare (`compares` false: an MPI rank other than 0) only takes part in training. `plant` may be empty; only the
  // tests of the comparison itself plant faults.
  ParityMatrix(WorldShape world, TrainInWorld train, std::string folder, bool compares = true, PlantFault plant = {})
      : world_(world),
        train_(std::move(train)),
        folder_(std::move(folder)),
        compares_(compares),
        plant_(std::move(plant)) {}

  // Returns kInternal naming the first difference from the reference, a budget that was not kept, or a case that should
  // have moved pages and did not.
  absl::Status Check(const Axes& axes);

  const Counts& counts() const { return counts_; }
  bool compares() const { return compares_; }

 private:
  // The part of a case that changes what is computed.
  TinyRun NumericsOf(const Axes& axes) const;
  // The planned run of a case at a stage: its numerics, pages, prefetch distance, budget and recomputation.
  absl::StatusOr<TinyRun> RunOf(const Axes& axes, int zero_stage);
  absl::StatusOr<TinyResult> TrainCase(const Axes& axes, TinyRun run);
  // For a case that is resumed: its first step, trained at another stage and saved.
  absl::StatusOr<TinyResult> FirstStep(const Axes& axes);
  absl::StatusOr<const TinyResult*> Reference(const Axes& axes);

  const WorldShape world_;
  const TrainInWorld train_;
  const std::string folder_;
  const bool compares_;
  const PlantFault plant_;
  std::map<std::tuple<bool, int, bool>, TinyResult> references_;  // by (MoE, accumulation, bf16)
  // The latest result of FirstStep, for the next case that has the same one.
  std::optional<std::pair<Axes, TinyResult>> first_step_;
  Counts counts_;
};

}  // namespace angel_ptm

#endif  // ANGEL_PTM_TESTS_LAWS_PARITY_H_
