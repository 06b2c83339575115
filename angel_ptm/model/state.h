// What persists from step to step for every sharding unit: parameters, their gradients, the optimizer's states. Each
// state is one flat vector per unit that matches the parameters element by element. A run's states are a table of
// StateSpecs; a new state (EMA weights, a master copy) is a new row, added by the file in optim/ that needs it.
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
inline constexpr StateId kGradientState = 1;   // sum over a step's micro-batches; not kept between steps
inline constexpr StateId kNoState = -1;

struct StateSpec {
  // The content of a state before the first step, or if a checkpoint lacks the state.
  enum class Start : uint8_t { kZero, kParameters };

  std::string name;  // in messages, plans and checkpoints: "parameters", "moment1"
  DType dtype = DType::kFloat32;
  int sharded_from_stage = 1;   // the lowest ZeRO stage at which a rank stores only its slice
  bool saved = true;            // in checkpoints, under its name
  double touches_per_step = 2;  // reads and writes of each element; the busiest states rest nearest to the device
  Start start = Start::kZero;
  bool on_host = false;  // rests in host memory even if other tiers have room
  // Another state of the same type, whose place this state takes from the time it is produced until the update, which
  // consumes it and remakes the other. If both are stored alike (SharesPlace, plan/shard.h), this state needs no memory
  // of its own.
  StateId takes_place_of = kNoState;

  friend bool operator==(const StateSpec&, const StateSpec&) = default;
};

// Parameters are read by the forward and the backward pass of every micro-batch. Stage 3 shards them (Rajbhandari et
// al. 2020, ZeRO). Their type is the type that the run computes in.
inline StateSpec ParameterState(DType type = DType::kFloat32) {
  return {.name = "parameters", .dtype = type, .sharded_from_stage = 3, .touches_per_step = 8};
}

// The index of the state with that name, or -1.
inline StateId FindState(const std::vector<StateSpec>& states, std::string_view name) {
  for (size_t i = 0; i < states.size(); ++i) {
    if (states[i].name == name) return static_cast<StateId>(i);
  }
  return -1;
}

// The fp32 copy of parameters that ops read in a narrower type. Checkpoints store it as the parameters.
inline constexpr const char* kMasterState = "master";

// The state that holds the parameters of trainable units in fp32: the master copy or, without one, the parameters.
inline StateId PreciseState(const std::vector<StateSpec>& states) {
  const StateId master = FindState(states, kMasterState);
  return master < 0 ? kParameterState : master;
}

}  // namespace angel_ptm

#endif  // ANGEL_PTM_MODEL_STATE_H_
