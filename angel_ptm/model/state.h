// What persists from step to step for every sharding unit: parameters, their gradients, the optimizer's states. Each is
// one flat vector a unit, element for element beside the parameters. A run's states are a table of StateSpecs; a new
// one (EMA weights, a master copy) is a row of it, added by the file in optim/ that needs it.
#ifndef ANGEL_PTM_MODEL_STATE_H_
#define ANGEL_PTM_MODEL_STATE_H_

#include <cstdint>
#include <string>
#include <vector>

#include "angel_ptm/base/dtype.h"

namespace angel_ptm {

// Index into a run's table of states (ParameterTable::states). The first two rows are the same in every run that
// trains.
using StateId = int16_t;
inline constexpr StateId kParameterState = 0;  // what ops read
inline constexpr StateId kGradientState = 1;   // sum over a step's micro-batches; not between steps
inline constexpr StateId kNoState = -1;

struct StateSpec {
  // What a state holds before the first step, or where a checkpoint does not have it.
  enum class Start : uint8_t { kZero, kParameters };

  std::string name;  // in messages, plans and checkpoints: "parameters", "moment1"
  DType dtype = DType::kFloat32;
  int sharded_from_stage = 1;   // from which ZeRO stage on a rank stores only its slice
  bool saved = true;            // in checkpoints, under its name
  double touches_per_step = 2;  // reads and writes of each element: the busiest states rest nearest to the device
  Start start = Start::kZero;
  bool on_host = false;  // rests in host memory whatever other tiers have room for
  // Another state of the same type, whose place this one takes from the moment it is made to the update, which uses it
  // up and makes the other anew: where both are kept alike (SharesPlace, plan/shard.h) it needs no memory of its own.
  StateId takes_place_of = kNoState;

  friend bool operator==(const StateSpec&, const StateSpec&) = default;
};

// Parameters are read by the forward and the backward pass of every micro-batch. Stage 3 shards them (Rajbhandari et
// al. 2020, ZeRO). Their type is what the run computes in.
inline StateSpec ParameterState(DType type = DType::kFloat32) {
  return {.name = "parameters", .dtype = type, .sharded_from_stage = 3, .touches_per_step = 8};
}

// The number of the state of that name, or -1.
inline StateId FindState(const std::vector<StateSpec>& states, std::string_view name) {
  for (size_t i = 0; i < states.size(); ++i) {
    if (states[i].name == name) return static_cast<StateId>(i);
  }
  return -1;
}

// The fp32 copy of parameters that ops read in a narrower type. Checkpoints have it as the parameters.
inline constexpr const char* kMasterState = "master";

// The state that has the parameters of trainable units in fp32: the master copy, or the parameters themselves.
inline StateId PreciseState(const std::vector<StateSpec>& states) {
  const StateId master = FindState(states, kMasterState);
  return master < 0 ? kParameterState : master;
}

}  // namespace angel_ptm

#endif  // ANGEL_PTM_MODEL_STATE_H_
