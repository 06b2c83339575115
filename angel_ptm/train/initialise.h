// Random initial parameters, independent of the number of ranks, the ZeRO stage and the layout.
#ifndef ANGEL_PTM_TRAIN_INITIALISE_H_
#define ANGEL_PTM_TRAIN_INITIALISE_H_

#include <cstdint>
#include <span>
#include <vector>

#include "angel_ptm/base/status.h"
#include "angel_ptm/exec/executor.h"
#include "angel_ptm/model/parameter_table.h"

namespace angel_ptm {

// Sets parameters to N(0, stddev) or ones, as their InitialValues say. Each element is a function of (seed, stream of
// its parameter, index). Padding, gradients and moments become zero. `threads` share the work without changing a bit.
// Errors: those of writing to a drive.
absl::Status InitialiseState(const ParameterTable& table, uint64_t seed, std::span<const StateView> views,
                             int threads = 1);

// The random stream of every parameter, by parameter index: 32 bits of the digest of its name. If two names give the
// same 32 bits, the later parameter's digest is hashed again until its stream is unique, because equal streams would
// give equal initial weights.
std::vector<uint32_t> InitialisationStreams(const ParameterTable& table);

}  // namespace angel_ptm

#endif  // ANGEL_PTM_TRAIN_INITIALISE_H_
