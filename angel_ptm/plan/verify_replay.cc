#include "angel_ptm/plan/verify_replay.h"

#include <algorithm>
#include <tuple>
#include <utility>

#include "angel_ptm/model/access.h"

namespace angel_ptm::verify {

absl::Status Replay::Run() {
  Begin();
  for (step_ = 0; step_ < static_cast<int32_t>(subject_.segment.steps.size()); ++step_) RETURN_IF_ERROR(Play());
  RETURN_IF_ERROR(CheckComplete());
  return CheckHomes();
}

// Sets up what the segment finds: homes hold the newest state (gradients: the own slice), and inputs and caches hold
// their values.
void Replay::Begin() {
  for (OpId op = 0; op < graph_.update_begin; ++op) {
    for (TensorId t : graph_.ops[op].outputs) {
      if (t != kNone) writers_[t].push_back(op);
    }
  }
  for (OpId op = graph_.update_begin; op < static_cast<OpId>(graph_.ops.size()); ++op) {
    update_ops_[graph_.ops[op].unit].push_back(op);
  }
  for (UnitId unit = 0; unit < static_cast<UnitId>(graph_.units().size()); ++unit) {
    for (StateId s = 0; s < static_cast<StateId>(layout_.states.size()); ++s) {
      memory_.Outdate({memory_.State(unit, s), 0, ExtentOf(layout_, unit, s).whole_bytes});
      if (RanksDiffer(unit, s)) memory_.Outdate(OwnSlice(unit, s));
    }
  }
  for (int32_t r = 0; r < static_cast<int32_t>(subject_.segment.regions.size()); ++r) {
    const Region& region = subject_.segment.regions[r];
    if (!region.permanent) continue;
    if (region.tensor == kNone) {
      const auto [place, content] = AtHome(r, /*at_end=*/false);
      memory_.CopyNewest(place, content);
    } else if (graph_.tensors[region.tensor].tensor_class != TensorClass::kOutput) {
      memory_.Write({r, 0, region.range.bytes}, {SymbolicMemory::Tensor(region.tensor), 0, region.range.bytes});
    }
  }
}

// Of gradients that are kept whole, only the own slice is meaningful. If gradients take the parameters' place, an
// update finds them there, and a micro-step leaves them there.
std::pair<Place, ObjectRange> Replay::AtHome(int32_t r, bool at_end) const {
  const Region& region = subject_.segment.regions[r];
  const StateId guest = GuestOf(graph_, layout_, region.unit, region.state);
  const bool left = subject_.segment.computes && HasGradient(graph_, region.unit);
  const StateId state = guest != kNoState && (at_end ? left : subject_.segment.updates) ? guest : region.state;
  const StateExtent extent = ExtentOf(layout_, region.unit, state);
  const ObjectRange whole{memory_.State(region.unit, state), 0, extent.whole_bytes};
  if (!extent.stored_whole()) return {{r, 0, extent.own_bytes}, OwnSlice(region.unit, state)};
  if (state != kGradientState || layout_.slices[region.unit].replicas == 1) return {{r, 0, extent.whole_bytes}, whole};
  return {{r, 0, extent.own_bytes, /*own=*/true}, OwnSlice(region.unit, region.state)};
}

absl::Status Replay::Play() {
  const StepKind kind = step().kind;
  RETURN_IF_ERROR(CheckLane());
  RETURN_IF_ERROR(CheckCondition());
  const bool in_update = kind == StepKind::kNorm || kind == StepKind::kUpdate || kind == StepKind::kDeliver;
  const bool in_micro_step = kind == StepKind::kCompute || kind == StepKind::kReduceScatter;
  const bool misplaced = step().in_update ? in_micro_step : in_update;
  if (misplaced || !(step().in_update ? subject_.segment.updates || sweeping() : subject_.segment.computes))
    return Error("belongs to another segment");
  // Updates are in sweeps if and only if the update is lock-free; a sweep contains no norm, no delivery and no step of
  // another unit.
  const bool in_sweep = kind == StepKind::kUpdate ? static_cast<bool>(lock_free_) : sweeping();
  if (in_sweep != sweeping() || (sweeping() && (kind == StepKind::kNorm || kind == StepKind::kDeliver ||
                                                step().unit != subject_.segment.sweeps))) {
    return Error(sweeping() ? "is not for the sweep of a unit" : "belongs to a sweep");
  }
  switch (kind) {
    case StepKind::kCompute:
      return Compute();
    case StepKind::kMove:
      return Move();
    case StepKind::kAllGather:
      return Gather();
    case StepKind::kReduceScatter:
      return Reduce();
    case StepKind::kNorm:
      return Norm();
    case StepKind::kUpdate:
      return Update();
    case StepKind::kDeliver:
      return Deliver();
  }
  return Error("unknown kind");
}

// Ops run on the compute lane, collectives on the comm lane. The lanes of moves and updates follow from their tiers and
// are checked elsewhere.
absl::Status Replay::CheckLane() {
  const StepKind kind = step().kind;
  const bool comm = kind == StepKind::kAllGather || kind == StepKind::kReduceScatter || kind == StepKind::kNorm;
  // An exchange of rows within a micro-step is an op.
  const bool exchange = kind == StepKind::kCompute && IsExchange(graph_.ops[step().op].kind);
  const bool lane_ok = kind == StepKind::kMove || kind == StepKind::kUpdate || kind == StepKind::kDeliver ||
                       step().lane == (comm || exchange ? Lane::kComm : Lane::kCompute);
  return lane_ok ? absl::OkStatus() : Error("runs on lane ", Name(step().lane));
}

absl::Status Replay::Compute() {
  const Op& op = graph_.ops[step().op];
  if (step().op >= graph_.update_begin) return Error("op ", step().op, " belongs to the update");
  if (op_done_[step().op]) return Error("op ", step().op, " runs a second time");
  op_done_[step().op] = true;
  const size_t slots = op.inputs.size() + op.outputs.size();
  if (step().operands.size() < slots || step().operands.size() > slots + 1) {
    return Error(step().operands.size(), " operands, the op has ", slots);
  }
  for (const Place& place : step().operands) {
    if (place.region != kNone) RETURN_IF_ERROR(NeedTier(place, TierKind::kDevice));
  }
  RETURN_IF_ERROR(CheckOperandsDisjoint());
  for (size_t i = 0; i < op.inputs.size(); ++i) RETURN_IF_ERROR(ReadOperand(op.inputs[i], step().operands[i]));
  if (step().operands.size() > slots) {
    const Place& workspace = step().operands.back();
    if (workspace.region == kNone || RegionOf(workspace).memory_class != MemoryClass::kWorkspace) {
      return Error("its workspace is no workspace");
    }
    memory_.Forget(workspace);
  }
  for (size_t i = 0; i < op.outputs.size(); ++i) {
    RETURN_IF_ERROR(WriteOperand(op.outputs[i], step().operands[op.inputs.size() + i]));
  }
  return absl::OkStatus();
}

// Outputs and workspace share no byte with any other operand. Exception: a state that an update makes anew may lie
// exactly where the guest of its home, which the update reads, lies.
absl::Status Replay::CheckOperandsDisjoint() {
  const std::vector<MemoryAccess> accesses = AccessesOf(graph_, step());
  const auto replaces = [&](size_t i, size_t j) {
    if (step().kind != StepKind::kUpdate) return false;
    const Op& op = graph_.ops[step().op];
    if (accesses.size() != op.states.size()) return false;
    const Place &a = accesses[i].place, &b = accesses[j].place;
    return AccessOf(op, static_cast<int>(j)) == Access::kWrite && !accesses[i].writes && a.begin == b.begin &&
           a.bytes == b.bytes && a.own == b.own && GuestOf(graph_, layout_, op.unit, op.states[j]) == op.states[i];
  };
  for (size_t i = 0; i < accesses.size(); ++i) {
    for (size_t j = 0; j < i; ++j) {
      const Place &a = accesses[i].place, &b = accesses[j].place;
      if (!accesses[i].writes && !accesses[j].writes) continue;
      if (a.region != b.region || replaces(i, j) || replaces(j, i)) continue;
      // Two places of which only one is own overlap on some rank.
      if (a.own != b.own || (a.begin < b.begin + b.bytes && b.begin < a.begin + a.bytes)) {
        return Error("two operands overlap in region ", RegionOf(a).label);
      }
    }
  }
  return absl::OkStatus();
}

absl::Status Replay::ReadOperand(TensorId t, const Place& place) {
  if (t == kNone) return place.region == kNone ? absl::OkStatus() : Error("an operand for an absent input");
  const Tensor& tensor = graph_.tensors[t];
  if (place.bytes != tensor.bytes()) {
    return Error("operand of ", place.bytes, " bytes for tensor ", tensor.name, " of ", tensor.bytes());
  }
  if (tensor.tensor_class == TensorClass::kParameter) {
    const ObjectRange extent = Elements(tensor.unit, graph_.ReadState(tensor.unit), /*own=*/false, tensor.unit_offset,
                                        tensor.shape.elements());
    return Need(place, extent, tensor.name);
  }
  const auto& writers = writers_[t];
  const size_t before = std::lower_bound(writers.begin(), writers.end(), step().op) - writers.begin();
  if (writes_done_[t] != before) {
    return Error("reads ", tensor.name, " after ", writes_done_[t], " of its writers, the graph wants ", before);
  }
  return Need(place, {SymbolicMemory::Tensor(t), 0, tensor.bytes()}, tensor.name);
}

absl::Status Replay::WriteOperand(TensorId t, const Place& place) {
  if (t == kNone) return place.region == kNone ? absl::OkStatus() : Error("an operand for an absent output");
  const Tensor& tensor = graph_.tensors[t];
  if (place.region == kNone) return Error("output ", tensor.name, " has no place");
  if (place.bytes != tensor.bytes()) {
    return Error("operand of ", place.bytes, " bytes for tensor ", tensor.name, " of ", tensor.bytes());
  }
  const Region& region = RegionOf(place);
  const bool owned = tensor.tensor_class == TensorClass::kGradient
                         ? region.memory_class == MemoryClass::kUnitGradients && region.unit == tensor.unit
                         : region.tensor == t;
  if (!owned) return Error("output ", tensor.name, " is written to region ", region.label);
  const size_t earlier = writes_done_[t];
  if (writers_[t][earlier] != step().op) {
    return Error("writes ", tensor.name, " before op ", writers_[t][earlier], ", which comes first in the graph");
  }
  // A second writer adds to the result of the first or writes other columns; caches are written only in part.
  const ObjectRange extent{SymbolicMemory::Tensor(t), 0, tensor.bytes()};
  if (earlier > 0 || tensor.tensor_class == TensorClass::kCache) {
    RETURN_IF_ERROR(Need(place, extent, absl::StrCat("earlier part of ", tensor.name)));
  }
  ++writes_done_[t];
  memory_.Write(place, extent);
  return absl::OkStatus();
}

absl::Status Replay::CheckComplete() {
  for (OpId op = 0; subject_.segment.computes && op < graph_.update_begin; ++op) {
    if (!op_done_[op]) return subject_.Error("op ", op, " (", Name(graph_.ops[op].kind), ") never runs");
  }
  for (size_t t = 0; subject_.segment.computes && t < graph_.tensors.size(); ++t) {
    if (graph_.tensors[t].tensor_class != TensorClass::kOutput) continue;
    if (writers_[t].empty()) return subject_.Error("nothing writes output ", graph_.tensors[t].name);
  }
  for (OpId op = graph_.update_begin; op < static_cast<OpId>(graph_.ops.size()); ++op) {
    const UnitId unit = graph_.ops[op].unit;
    if (subject_.segment.updates && lock_free_ && !delivered_[unit].Covers(0, layout_.slices[unit].slice_elements)) {
      return subject_.Error("gradients of ", graph_.units()[unit].name, " are not delivered");
    }
    if (sweeping() ? subject_.segment.sweeps != unit : !subject_.segment.updates || lock_free_) continue;
    if (!updated_[op].Covers(0, UpdatedElements(unit))) {
      return subject_.Error("op ", op, " (", Name(graph_.ops[op].kind), " ", graph_.units()[unit].name,
                            ") does not cover ", UpdatedElements(unit), " elements");
    }
  }
  return absl::OkStatus();
}

absl::Status Replay::CheckHomes() {
  const bool idle = subject_.segment.steps.empty();
  for (int32_t r = 0; r < static_cast<int32_t>(subject_.segment.regions.size()) && !idle; ++r) {
    const Region& region = subject_.segment.regions[r];
    if (!region.permanent) continue;
    Place place{r, 0, region.range.bytes};
    ObjectRange want{kNone, 0, region.range.bytes};
    if (region.tensor != kNone) {
      want.object = SymbolicMemory::Tensor(region.tensor);
      const bool written_here = subject_.segment.computes;
      if (graph_.tensors[region.tensor].tensor_class == TensorClass::kOutput && !written_here) continue;
    } else {
      std::tie(place, want) = AtHome(r, /*at_end=*/true);
    }
    if (const auto why = memory_.WhyNot(place, want)) {
      return subject_.Error("at its end the home of ", region.label, " is not up to date: ", *why);
    }
  }
  return absl::OkStatus();
}

absl::Status CheckReplay(const Subject& subject) { return Replay(subject).Run(); }

}  // namespace angel_ptm::verify
