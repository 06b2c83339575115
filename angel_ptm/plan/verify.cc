#include "angel_ptm/plan/verify.h"

#include <utility>

#include "absl/container/flat_hash_map.h"
#include "absl/container/flat_hash_set.h"
#include "angel_ptm/plan/verify_internal.h"

namespace angel_ptm {
namespace verify {

std::string Subject::StepText(const Step& step) const {
  const auto region = [&](const Place& place) -> std::string {
    const bool known = place.region >= 0 && place.region < static_cast<int32_t>(segment.regions.size());
    return known ? segment.regions[place.region].label : "?";
  };
  const bool known_op = step.op >= 0 && step.op < static_cast<OpId>(graph.ops.size());
  const bool known_unit = step.unit >= 0 && step.unit < static_cast<UnitId>(graph.units.size());
  std::string text = Name(step.kind);
  if (step.kind == StepKind::kCompute) {
    absl::StrAppend(&text, " ", known_op ? Name(graph.ops[step.op].kind) : "?");
  } else if (known_unit) {
    absl::StrAppend(&text, " ", graph.units[step.unit].name);
    if (step.kind != StepKind::kUpdate) absl::StrAppend(&text, " ", Name(step.state_class));
  } else if (step.kind == StepKind::kMove) {
    absl::StrAppend(&text, " ", region(step.src), " to ", region(step.dst));
  }
  return text;
}

namespace {

// From which ZeRO stage on a rank stores only its slice (Rajbhandari et al. 2020). Stated here again, not asked of the
// shard pass: a mistake there must not prove itself right.
int FirstShardedStage(StateClass state_class) {
  switch (state_class) {
    case StateClass::kParameters:
      return 3;
    case StateClass::kGradients:
      return 2;
    case StateClass::kMoment1:
    case StateClass::kMoment2:
      return 1;
  }
  return 1;
}

}  // namespace

StateExtent ExtentOf(const Layout& layout, UnitId unit, StateClass state_class) {
  const int64_t slice = layout.slice_bytes(unit);
  StateExtent extent{.own_begin = slice * layout.rank, .own_bytes = slice, .whole_bytes = slice * layout.world_size};
  if (layout.zero_stage >= FirstShardedStage(state_class)) {
    extent.begin = extent.own_begin;
    extent.bytes = slice;
  } else {
    extent.bytes = extent.whole_bytes;
  }
  return extent;
}

std::vector<Access> AccessesOf(const Graph& graph, const Step& step) {
  std::vector<Access> accesses;
  const auto add = [&](const Place& place, bool writes) {
    if (place.region != kNone) accesses.push_back({place, writes});
  };
  // A reduce zeroes the padding of its source, and the transport may work in it.
  add(step.src, step.kind == StepKind::kReduce);
  add(step.dst, true);
  add(step.scratch, true);
  const size_t inputs = step.kind == StepKind::kCompute ? graph.ops[step.op].inputs.size() : 0;
  for (size_t i = 0; i < step.operands.size(); ++i) {
    const bool gradient = step.kind == StepKind::kUpdate && i + 1 == step.operands.size();
    add(step.operands[i], i >= inputs && !gradient);
  }
  return accesses;
}

namespace {

void AddUnitsReadBy(const Graph& graph, const Op& op, absl::flat_hash_set<UnitId>& units) {
  for (TensorId t : op.inputs) {
    if (t != kNone && graph.tensors[t].tensor_class == TensorClass::kParameter) units.insert(graph.tensors[t].unit);
  }
}

// How often each unit's parameters must be gathered in a micro-step of stage 3.
std::vector<int> MicroStepGathers(const Graph& graph) {
  std::vector<int> gathers(graph.units.size(), 0);
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

bool HasGradient(const Graph& graph, UnitId unit) {
  for (int32_t p : graph.units[unit].parameters) {
    if (graph.parameters[p].gradient != kNone) return true;
  }
  return false;
}

}  // namespace

absl::Status CheckCollectives(const Subject& subject) {
  const Graph& graph = subject.graph;
  const Layout& layout = subject.plan.layout;
  absl::flat_hash_map<std::pair<UnitId, int>, int> gathers;
  std::vector<int> reduces(graph.units.size(), 0);
  int norms = 0;
  for (int32_t i = 0; i < static_cast<int32_t>(subject.segment.steps.size()); ++i) {
    const Step& step = subject.segment.steps[i];
    norms += step.kind == StepKind::kNorm ? 1 : 0;
    if (step.kind != StepKind::kGather && step.kind != StepKind::kReduce) continue;
    const bool gather = step.kind == StepKind::kGather;
    if (gather) ++gathers[{step.unit, static_cast<int>(step.state_class)}];
    if (!gather) ++reduces[step.unit];
    const int64_t bytes = gather ? step.dst.bytes : step.src.bytes;
    const int64_t want = layout.slice_bytes(step.unit) * layout.world_size;
    if (bytes != want) return subject.StepError(i, "exchanges ", bytes, " bytes, the padded vector has ", want);
  }
  const std::vector<int> parameter_gathers = MicroStepGathers(graph);
  const bool updates = subject.is_update && graph.update_begin < static_cast<OpId>(graph.ops.size());
  for (UnitId unit = 0; unit < static_cast<UnitId>(graph.units.size()); ++unit) {
    const int stage = layout.zero_stage;
    const int want_parameters =
        subject.is_update ? (updates && (stage == 1 || stage == 2)) : (stage == 3 ? parameter_gathers[unit] : 0);
    const int want_gradients = updates && stage <= 1 ? 1 : 0;
    const int want_reduces = !subject.is_update && HasGradient(graph, unit) ? 1 : 0;
    const std::string& name = graph.units[unit].name;
    const auto count = [&](StateClass c) { return gathers[{unit, static_cast<int>(c)}]; };
    if (const int got = count(StateClass::kParameters); got != want_parameters) {
      return subject.Error("unit ", name, " has ", got, " gathers of parameters, stage ", stage, " demands ",
                           want_parameters);
    }
    if (const int got = count(StateClass::kGradients); got != want_gradients) {
      return subject.Error("unit ", name, " has ", got, " gathers of gradients, stage ", stage, " demands ",
                           want_gradients);
    }
    if (reduces[unit] != want_reduces) {
      return subject.Error("unit ", name, " has ", reduces[unit], " reductions of its gradient, wanted ", want_reduces);
    }
    if (count(StateClass::kMoment1) + count(StateClass::kMoment2) != 0) {
      return subject.Error("unit ", name, " gathers moments, which no rank needs whole");
    }
  }
  if (norms != (updates ? 1 : 0)) return subject.Error(norms, " norm steps, wanted ", updates ? 1 : 0);
  return absl::OkStatus();
}

}  // namespace verify

absl::Status VerifyPlan(const Graph& graph, const Plan& plan) {
  RETURN_IF_ERROR(verify::CheckLayout(graph, plan));
  for (const bool is_update : {false, true}) {
    const verify::Subject subject{graph, plan, is_update ? plan.update : plan.micro_step, is_update};
    RETURN_IF_ERROR(verify::CheckCapacity(subject));
    RETURN_IF_ERROR(verify::CheckOrder(subject));
    RETURN_IF_ERROR(verify::CheckReplay(subject));
    RETURN_IF_ERROR(verify::CheckCollectives(subject));
  }
  return absl::OkStatus();
}

}  // namespace angel_ptm
