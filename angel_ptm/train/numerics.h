// The numerics a run computes with (law 1), as fields that a checkpoint records and ranks compare.
#ifndef ANGEL_PTM_TRAIN_NUMERICS_H_
#define ANGEL_PTM_TRAIN_NUMERICS_H_

#include <string>
#include <utility>
#include <vector>

#include "angel_ptm/base/world_shape.h"
#include "angel_ptm/config/train_config.pb.h"

namespace angel_ptm {

// What the program was built from: its commit, and the level of instruction sets its kernels use.
struct BuildFacts {
  std::string commit = "unknown";
  std::string processor = "unknown";
};

// (name, value) in the order in which they are told. Weights that were computed with the same fields go on bit for bit.
using Numerics = std::vector<std::pair<std::string, std::string>>;

// Everything law 1 holds fixed: backend, world and node size, threads, micro-batch, chunk sizes, build, processor, and
// the libraries whose kernels depend on the machine.
Numerics NumericsOf(const TrainConfig& config, WorldShape world, int threads, const char* backend,
                    const BuildFacts& build);

// What was not recorded while there was no choice: that everything was computed, and gradients were kept, in fp32, and
// summed in the order of all ranks, each with all experts.
void AddWhatWasNotRecorded(Numerics& numerics);

// From the text that checkpoints stored until numerics had fields: "backend cpu, world size 2, ...".
Numerics NumericsFromText(const std::string& text);

struct NumericsDifference {
  std::vector<std::string> changed;     // "threads 1 -> 2"
  std::vector<std::string> unrecorded;  // names that `saved` says nothing of
};
NumericsDifference Compare(const Numerics& saved, const Numerics& now);

}  // namespace angel_ptm

#endif  // ANGEL_PTM_TRAIN_NUMERICS_H_
