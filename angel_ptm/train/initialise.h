// Random initial parameters, the same on every rank count, ZeRO stage and layout.
#ifndef ANGEL_PTM_TRAIN_INITIALISE_H_
#define ANGEL_PTM_TRAIN_INITIALISE_H_

#include <cstdint>
#include <span>
#include <vector>

#include "angel_ptm/base/status.h"
#include "angel_ptm/exec/executor.h"
#include "angel_ptm/model/parameter_table.h"

namespace angel_ptm {

// Parameters: N(0, stddev) or ones, as InitialValues say, each element a function of (seed, its parameter's stream, its
// index); padding, gradients and moments: zero. `threads` share the work and change no bit. Errors: a drive's.
absl::Status InitialiseState(const ParameterTable& table, uint64_t seed, std::span<const StateView> views,
                             int threads = 1);

// The random stream of every parameter, by index: 32 bits of its name's digest. Of two names with the same 32 bits the
// later parameter's is digested again until its stream is its own: equal streams would give equal initial weights.
std::vector<uint32_t> InitialisationStreams(const ParameterTable& table);

}  // namespace angel_ptm

#endif  // ANGEL_PTM_TRAIN_INITIALISE_H_
