#include "optim/adamw.h"

#include <utility>

#include "angel_ptm/base/check.h"

namespace angel_ptm {

std::vector<StateSpec> AdamWStates(DType compute_type, DType gradient_type) {
  const bool narrow = gradient_type != DType::kFloat32;
  APTM_CHECK(!narrow || gradient_type == compute_type, "gradients in ", Name(gradient_type));
  // The reduction of every micro-batch reads and writes the gradients. They are reduced to the slices of their owners,
  // so only ranks that update everything (stage 0) need whole vectors.
  std::vector<StateSpec> states = {ParameterState(compute_type),
                                   {.name = "gradients",
                                    .dtype = gradient_type,
                                    .saved = false,
                                    .touches_per_step = 4,
                                    .takes_place_of = narrow ? kParameterState : kNoState},
                                   {.name = "moment1"},
                                   {.name = "moment2"}};
  if (compute_type != DType::kFloat32) {
    states.push_back({.name = kMasterState, .saved = false, .start = StateSpec::Start::kParameters});
  }
  return states;
}

void AppendAdamW(Graph& graph) {
  APTM_CHECK(graph.update_begin == static_cast<OpId>(graph.ops.size()), "the update segment exists already");
  APTM_CHECK(FindState(graph.states(), "moment2") == kMoment2State, "the run's table has no moments");
  for (UnitId u = 0; u < static_cast<UnitId>(graph.units().size()); ++u) {
    if (!graph.units()[u].trainable) continue;
    for (int32_t p : graph.units()[u].parameters) {
      APTM_CHECK(graph.gradient_tensors[p] != kNone, graph.parameters()[p].name, " has no gradient");
    }
    std::vector<StateId> states = {kParameterState, kMoment1State, kMoment2State, kGradientState};
    if (const StateId precise = PreciseState(graph.states()); precise != kParameterState) states.push_back(precise);
    graph.ops.push_back({.kind = OpKind::kAdamW, .phase = Phase::kUpdate, .unit = u, .states = std::move(states)});
  }
}

}  // namespace angel_ptm
