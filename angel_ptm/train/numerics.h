// The numerics a run computes with (law 1), as fields that a checkpoint records and ranks compare.
#ifndef ANGEL_PTM_TRAIN_NUMERICS_H_
#define ANGEL_PTM_TRAIN_NUMERICS_H_

#include <string>
#include <utility>
#include <vector>

#include "angel_ptm/base/world_shape.h"
#include "angel_ptm/config/train_config.pb.h"

namespace angel_ptm {

// What the program was built from and for: its commit, and the instruction-set level of its kernels.
struct BuildFacts {
  std::string commit = "unknown";
  std::string processor = "unknown";
};

// (name, value) pairs in the order in which they are reported. A run that resumes with equal fields continues bit for
// bit.
using Numerics = std::vector<std::pair<std::string, std::string>>;

// Everything law 1 holds fixed: backend, world and node size, threads, micro-batch, chunk sizes, build, processor, and
// the libraries whose kernels depend on the machine.
Numerics NumericsOf(const TrainConfig& config, WorldShape world, int threads, const char* backend,
                    const BuildFacts& build);

// Adds the fields that older checkpoints do not record because there was no choice: everything was computed in fp32,
// gradients were kept in fp32, sums ran in the order of all ranks, and every rank had all experts.
void AddWhatWasNotRecorded(Numerics& numerics);

// Parses the text that checkpoints stored before numerics had fields: "backend cpu, world size 2, ...".
Numerics NumericsFromText(const std::string& text);

struct NumericsDifference {
  std::vector<std::string> changed;     // "threads 1 -> 2"
  std::vector<std::string> unrecorded;  // names of fields that `saved` does not have
};
NumericsDifference Compare(const Numerics& saved, const Numerics& now);

}  // namespace angel_ptm

#endif  // ANGEL_PTM_TRAIN_NUMERICS_H_
