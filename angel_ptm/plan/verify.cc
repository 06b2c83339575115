#include "angel_ptm/plan/verify.h"

#include <tuple>
#include <utility>

#include "absl/container/flat_hash_map.h"
#include "absl/container/flat_hash_set.h"
#include "angel_ptm/model/access.h"
#include "angel_ptm/plan/verify_internal.h"

namespace angel_ptm {
namespace verify {

std::string Subject::StepText(const Step& step) const {
  const auto region = [&](const Place& place) -> std::string {
    const bool known = place.region >= 0 && place.region < static_cast<int32_t>(segment.regions.size());
    return known ? segment.regions[place.region].label : "?";
  };
  const bool known_op = step.op >= 0 && step.op < static_cast<OpId>(graph.ops.size());
  const bool known_unit = step.unit >= 0 && step.unit < static_cast<UnitId>(graph.units().size());
  std::string text = Name(step.kind);
  if (step.kind == StepKind::kCompute) {
    absl::StrAppend(&text, " ", known_op ? Name(graph.ops[step.op].kind) : "?");
  } else if (known_unit) {
    absl::StrAppend(&text, " ", graph.units()[step.unit].name);
    if (step.kind != StepKind::kUpdate) absl::StrAppend(&text, " ", plan.layout.states[step.state].name);
  } else if (step.kind == StepKind::kMove) {
    absl::StrAppend(&text, " ", region(step.src), " to ", region(step.dst));
  }
  return text;
}

// Restated here instead of using the shard pass or the Layout, so that a mistake there cannot confirm itself.
StateExtent ExtentOf(const Layout& layout, UnitId unit, StateId state) {
  const StateSpec& spec = layout.states[state];
  const int64_t element = SizeOf(spec.dtype), slice = layout.slices[unit].slice_elements * element;
  StateExtent extent{.element_bytes = element, .own_bytes = slice, .whole_bytes = slice * layout.slices[unit].replicas};
  extent.stored_bytes = layout.zero_stage < spec.sharded_from_stage ? extent.whole_bytes : slice;
  return extent;
}

// True if a rank stores the same part of both states: its slice, which in a world of one is everything.
bool IsGuest(const Layout& layout, StateId state) {
  const StateId host = layout.states[state].takes_place_of;
  const auto stores_slice = [&](StateId s) { return layout.zero_stage >= layout.states[s].sharded_from_stage; };
  return host != kNoState && (layout.world_size == 1 || (stores_slice(state) && stores_slice(host)));
}

StateId GuestOf(const Graph& graph, const Layout& layout, UnitId unit, StateId state) {
  for (StateId s = 0; s < static_cast<StateId>(layout.states.size()) && graph.units()[unit].trainable; ++s) {
    if (layout.states[s].takes_place_of == state && IsGuest(layout, s)) return s;
  }
  return kNoState;
}

int64_t GradientBytes(const Graph& graph, const Layout& layout, UnitId unit) {
  return layout.slices[unit].slice_elements * layout.slices[unit].replicas * SizeOf(graph.table->compute_type());
}

std::vector<MemoryAccess> AccessesOf(const Graph& graph, const Step& step) {
  std::vector<MemoryAccess> accesses;
  const auto add = [&](const Place& place, bool writes) {
    if (place.region != kNone) accesses.push_back({place, writes});
  };
  // A reduction zeroes the padding of its source, and the transport may use the source as scratch memory.
  add(step.src, step.kind == StepKind::kReduceScatter);
  add(step.dst, true);
  add(step.scratch, true);
  if (step.op < 0 || step.op >= static_cast<OpId>(graph.ops.size())) return accesses;
  const Op& op = graph.ops[step.op];
  const size_t slots = op.inputs.size() + op.outputs.size() + op.states.size();
  for (size_t i = 0; i < step.operands.size(); ++i) {
    add(step.operands[i], i >= slots || AccessOf(op, static_cast<int>(i)) != Access::kRead);
  }
  return accesses;
}

bool HasGradient(const Graph& graph, UnitId unit) {
  for (int32_t p : graph.units()[unit].parameters) {
    if (graph.gradient_tensors[p] != kNone) return true;
  }
  return false;
}

namespace {

void AddUnitsReadBy(const Graph& graph, const Op& op, absl::flat_hash_set<UnitId>& units) {
  for (TensorId t : op.inputs) {
    if (t != kNone && graph.tensors[t].tensor_class == TensorClass::kParameter) units.insert(graph.tensors[t].unit);
  }
}

// By unit: how often its parameters must be gathered in a micro-step if they are sharded.
std::vector<int> MicroStepGathers(const Graph& graph) {
  std::vector<int> gathers(graph.units().size(), 0);
  OpId begin = 0;
  while (begin < graph.update_begin) {
    const auto key = [&](OpId op) { return std::pair(graph.ops[op].block, graph.ops[op].phase == Phase::kForward); };
    absl::flat_hash_set<UnitId> units;
    OpId end = begin;
    for (; end < graph.update_begin && key(end) == key(begin); ++end) AddUnitsReadBy(graph, graph.ops[end], units);
    for (UnitId unit : units) ++gathers[unit];
    begin = end;
  }
  return gathers;
}

// How often a state of a unit must be gathered in the segment, by the definition of the ZeRO stage.
int GathersDemanded(const Subject& subject, UnitId unit, StateId state, bool in_update,
                    const std::vector<int>& parameter_gathers) {
  const Graph& graph = subject.graph;
  const Layout& layout = subject.plan.layout;
  if (layout.slices[unit].replicas == 1 || !(in_update ? subject.segment.updates : subject.segment.computes)) return 0;
  const auto whole = [&](StateId s) { return layout.zero_stage < layout.states[s].sharded_from_stage; };
  if (!in_update) return state == graph.ReadState(unit) && !whole(state) ? parameter_gathers[unit] : 0;
  bool updated = false, all_whole = true, written = false;
  for (OpId op = graph.update_begin; op < static_cast<OpId>(graph.ops.size()); ++op) {
    if (graph.ops[op].unit != unit) continue;
    updated = true;
    for (size_t slot = 0; slot < graph.ops[op].states.size(); ++slot) {
      const StateId operand = graph.ops[op].states[slot];
      all_whole &= whole(operand);
      written |= operand == state && Writes(AccessOf(graph.ops[op], static_cast<int>(slot)));
    }
  }
  if (!updated) return 0;
  // Ranks that update everything need the whole gradient. Ranks that update a slice need the other slices of the
  // result.
  return all_whole ? (state == kGradientState ? 1 : 0) : (written && whole(state) ? 1 : 0);
}

}  // namespace

absl::Status CheckCollectives(const Subject& subject) {
  const Graph& graph = subject.graph;
  const Layout& layout = subject.plan.layout;
  absl::flat_hash_map<std::tuple<UnitId, StateId, bool>, int> gathers;
  std::vector<int> reduces(graph.units().size(), 0);
  int norms = 0;
  for (int32_t i = 0; i < static_cast<int32_t>(subject.segment.steps.size()); ++i) {
    const Step& step = subject.segment.steps[i];
    norms += step.kind == StepKind::kNorm ? 1 : 0;
    if (step.kind != StepKind::kAllGather && step.kind != StepKind::kReduceScatter) continue;
    const bool gather = step.kind == StepKind::kAllGather;
    if (gather) ++gathers[{step.unit, step.state, step.in_update}];
    if (!gather) ++reduces[step.unit];
    const int64_t bytes = gather ? step.dst.bytes : step.src.bytes;
    const int64_t want =
        gather ? ExtentOf(layout, step.unit, step.state).whole_bytes : GradientBytes(graph, layout, step.unit);
    if (bytes != want) return subject.StepError(i, "exchanges ", bytes, " bytes, the padded vector has ", want);
  }
  const std::vector<int> parameter_gathers = MicroStepGathers(graph);
  for (UnitId unit = 0; unit < static_cast<UnitId>(graph.units().size()); ++unit) {
    const std::string& name = graph.units()[unit].name;
    for (StateId s = 0; s < static_cast<StateId>(layout.states.size()); ++s) {
      for (const bool in_update : {false, true}) {
        const int want = GathersDemanded(subject, unit, s, in_update, parameter_gathers);
        const int got = gathers[{unit, s, in_update}];
        if (got == want) continue;
        return subject.Error("unit ", name, " has ", got, " gathers of ", layout.states[s].name, ", stage ",
                             layout.zero_stage, " demands ", want);
      }
    }
    const int want_reduces = subject.segment.computes && HasGradient(graph, unit) ? 1 : 0;
    if (reduces[unit] != want_reduces) {
      return subject.Error("unit ", name, " has ", reduces[unit], " reductions of its gradient, wanted ", want_reduces);
    }
  }
  const int want_norms = subject.segment.updates && graph.update_begin < static_cast<OpId>(graph.ops.size()) ? 1 : 0;
  if (norms != want_norms) return subject.Error(norms, " norm steps, wanted ", want_norms);
  return absl::OkStatus();
}

}  // namespace verify

absl::Status VerifyPlan(const Graph& graph, const Plan& plan) {
  RETURN_IF_ERROR(verify::CheckLayout(graph, plan));
  RETURN_IF_ERROR(verify::CheckPrograms(graph, plan));
  RETURN_IF_ERROR(verify::CheckSweeps(graph, plan));
  for (const std::vector<Segment>* segments : {&plan.segments, &plan.sweeps}) {
    for (const Segment& segment : *segments) {
      const verify::Subject subject{graph, plan, segment};
      RETURN_IF_ERROR(verify::CheckCapacity(subject));
      RETURN_IF_ERROR(verify::CheckOrder(subject));
      RETURN_IF_ERROR(verify::CheckReplay(subject));
      RETURN_IF_ERROR(verify::CheckCollectives(subject));
    }
  }
  return absl::OkStatus();
}

}  // namespace angel_ptm
