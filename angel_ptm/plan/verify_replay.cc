// The dynamic half of the proof: plays a segment's steps in issue order on symbolic memory. CheckOrder proves that any
// other execution the waits allow sees the same values.
#include "angel_ptm/plan/verify_replay.h"

#include <algorithm>
#include <utility>

namespace angel_ptm::verify {
namespace {

class Replay {
 public:
  explicit Replay(const Subject& subject)
      : subject_(subject),
        graph_(subject.graph),
        layout_(subject.plan.layout),
        memory_(graph_, subject.segment),
        op_done_(graph_.ops.size(), false),
        writers_(graph_.tensors.size()),
        writes_done_(graph_.tensors.size(), 0),
        reduced_(graph_.units.size(), false),
        squared_(graph_.units.size()),
        updated_(graph_.units.size()),
        update_begun_(graph_.units.size(), false) {}

  absl::Status Run() {
    Begin();
    for (step_ = 0; step_ < static_cast<int32_t>(subject_.segment.steps.size()); ++step_) RETURN_IF_ERROR(Play());
    RETURN_IF_ERROR(CheckComplete());
    return CheckHomes();
  }

 private:
  const Step& step() const { return subject_.segment.steps[step_]; }
  const Region& RegionOf(const Place& place) const { return subject_.segment.regions[place.region]; }
  template <typename... Parts>
  absl::Status Error(const Parts&... parts) const {
    return subject_.StepError(step_, parts...);
  }
  StateExtent ExtentOfStep() const { return ExtentOf(layout_, step().unit, step().state_class); }
  ObjectId StateOfStep() const { return memory_.State(step().unit, step().state_class); }

  void Begin();
  absl::Status Play();
  absl::Status Compute();
  absl::Status ReadOperand(TensorId t, const Place& place);
  absl::Status WriteOperand(TensorId t, const Place& place);
  absl::Status CheckOperandsDisjoint();
  absl::Status Move();
  absl::Status MoveUnitGradients();
  absl::Status CheckPages(int64_t home_begin, int64_t bytes);
  absl::Status Gather();
  absl::Status Reduce();
  absl::Status SquareSum();
  absl::Status Norm();
  absl::Status Update();
  absl::Status CheckComplete();
  absl::Status CheckHomes();

  absl::Status Need(const Place& place, const Extent& extent, std::string_view what) const {
    if (place.region == kNone) return Error(std::string(what), " is missing");
    if (const auto why = memory_.WhyNot(place, extent)) {
      return Error(std::string(what), " in region ", RegionOf(place).label, ": ", *why);
    }
    return absl::OkStatus();
  }
  absl::Status NeedTier(const Place& place, TierKind tier) const {
    if (place.region == kNone) return Error("a place is missing");
    if (RegionOf(place).range.tier == tier) return absl::OkStatus();
    return Error("region ", RegionOf(place).label, " is on the ", Name(RegionOf(place).range.tier), ", wanted ",
                 Name(tier));
  }
  // Elements of a unit's vector as bytes.
  static Extent Elements(ObjectId object, int64_t begin, int64_t count) { return {object, begin * 4, count * 4}; }

  const Subject& subject_;
  const Graph& graph_;
  const Layout& layout_;
  SymbolicMemory memory_;
  int32_t step_ = 0;
  std::vector<bool> op_done_;
  std::vector<std::vector<OpId>> writers_;   // by tensor, in graph order
  std::vector<size_t> writes_done_;          // by tensor
  std::vector<bool> reduced_;                // by unit
  std::vector<Coverage> squared_, updated_;  // by unit, in elements
  std::vector<bool> update_begun_;           // by unit
  int norms_ = 0;
};

// What the segment finds: homes hold the newest state (gradients: the own slice), inputs and caches theirs.
void Replay::Begin() {
  for (OpId op = 0; op < graph_.update_begin; ++op) {
    for (TensorId t : graph_.ops[op].outputs) {
      if (t != kNone) writers_[t].push_back(op);
    }
  }
  for (UnitId unit = 0; unit < static_cast<UnitId>(graph_.units.size()); ++unit) {
    for (int c = 0; c < kStateClassCount; ++c) {
      const StateExtent extent = ExtentOf(layout_, unit, static_cast<StateClass>(c));
      memory_.Outdate({memory_.State(unit, static_cast<StateClass>(c)), 0, extent.whole_bytes});
    }
  }
  for (int32_t r = 0; r < static_cast<int32_t>(subject_.segment.regions.size()); ++r) {
    const Region& region = subject_.segment.regions[r];
    if (!region.permanent) continue;
    if (region.tensor != kNone) {
      const TensorClass c = graph_.tensors[region.tensor].tensor_class;
      if (c != TensorClass::kOutput) {
        memory_.Write({r, 0, region.range.bytes}, {SymbolicMemory::Tensor(region.tensor), 0, region.range.bytes});
      }
      continue;
    }
    const StateExtent extent = ExtentOf(layout_, region.unit, region.state_class);
    const ObjectId object = memory_.State(region.unit, region.state_class);
    if (region.state_class == StateClass::kGradients) {
      memory_.CopyNewest({r, extent.own_begin - extent.begin, extent.own_bytes},
                         {object, extent.own_begin, extent.own_bytes});
    } else {
      memory_.CopyNewest({r, 0, extent.bytes}, {object, extent.begin, extent.bytes});
    }
  }
}

absl::Status Replay::Play() {
  static constexpr Lane kLanes[] = {Lane::kCompute, Lane::kCopyIn, Lane::kComm,   Lane::kComm,
                                    Lane::kCompute, Lane::kComm,   Lane::kCompute};
  const StepKind kind = step().kind;
  const bool lane_ok =
      step().lane == kLanes[static_cast<int>(kind)] || (kind == StepKind::kMove && step().lane == Lane::kCopyOut);
  if (!lane_ok) return Error("runs on lane ", Name(step().lane));
  const bool in_update = kind == StepKind::kSquareSum || kind == StepKind::kNorm || kind == StepKind::kUpdate;
  const bool in_micro_step = kind == StepKind::kCompute || kind == StepKind::kReduce;
  if (subject_.is_update ? in_micro_step : in_update) return Error("belongs to the other segment");
  switch (kind) {
    case StepKind::kCompute:
      return Compute();
    case StepKind::kMove:
      return Move();
    case StepKind::kGather:
      return Gather();
    case StepKind::kReduce:
      return Reduce();
    case StepKind::kSquareSum:
      return SquareSum();
    case StepKind::kNorm:
      return Norm();
    case StepKind::kUpdate:
      return Update();
  }
  return Error("unknown kind");
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

// Outputs and workspace share no byte with any other operand.
absl::Status Replay::CheckOperandsDisjoint() {
  const std::vector<Access> accesses = AccessesOf(graph_, step());
  for (size_t i = 0; i < accesses.size(); ++i) {
    for (size_t j = 0; j < i; ++j) {
      const Place &a = accesses[i].place, &b = accesses[j].place;
      if (!accesses[i].writes && !accesses[j].writes) continue;
      if (a.region == b.region && a.begin < b.begin + b.bytes && b.begin < a.begin + a.bytes) {
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
    const ObjectId object = memory_.State(tensor.unit, StateClass::kParameters);
    return Need(place, Elements(object, tensor.unit_offset, tensor.shape.elements()), tensor.name);
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
  // A second writer adds to the first one's result or writes other columns; caches are written in part.
  const Extent extent{SymbolicMemory::Tensor(t), 0, tensor.bytes()};
  if (earlier > 0 || tensor.tensor_class == TensorClass::kCache) {
    RETURN_IF_ERROR(Need(place, extent, absl::StrCat("earlier part of ", tensor.name)));
  }
  ++writes_done_[t];
  memory_.Write(place, extent);
  return absl::OkStatus();
}

absl::Status Replay::Move() {
  const bool in = step().lane == Lane::kCopyIn;
  const Place &src = step().src, &dst = step().dst;
  RETURN_IF_ERROR(NeedTier(src, in ? TierKind::kHost : TierKind::kDevice));
  RETURN_IF_ERROR(NeedTier(dst, in ? TierKind::kDevice : TierKind::kHost));
  if (src.bytes != dst.bytes || src.bytes <= 0) return Error("moves ", src.bytes, " bytes to ", dst.bytes);
  const Region& to = RegionOf(dst);
  Extent extent{kNone, 0, src.bytes};
  if (step().unit == kNone && to.memory_class == MemoryClass::kUnitGradients) return MoveUnitGradients();
  if (step().unit == kNone) {
    const TensorId t = RegionOf(src).tensor;
    if (t == kNone || to.tensor != t) return Error("moves ", RegionOf(src).label, " to the place of ", to.label);
    if (src.bytes != graph_.tensors[t].bytes()) return Error("moves a part of ", graph_.tensors[t].name);
    extent.object = SymbolicMemory::Tensor(t);
    RETURN_IF_ERROR(CheckPages(0, src.bytes));
  } else {
    extent.object = StateOfStep();
    const Extent held = memory_.HeldBy(src);
    if (held.object != extent.object) {
      return Error("region ", RegionOf(src).label, " holds ", memory_.NameOf(held.object));
    }
    extent.begin = held.begin;
    if (to.unit != step().unit || to.state_class != step().state_class) {
      return Error("moves to the place of ", to.label);
    }
    const int64_t home_begin = extent.begin - ExtentOfStep().begin;
    if (to.permanent && dst.begin != home_begin) {
      return Error("byte ", home_begin, " of the home is moved to byte ", dst.begin, " of ", to.label);
    }
    RETURN_IF_ERROR(CheckPages(home_begin, src.bytes));
  }
  RETURN_IF_ERROR(Need(src, extent, "source"));
  memory_.CopyNewest(dst, extent);
  return absl::OkStatus();
}

// A unit's micro-batch gradient leaves or returns between two contributions: all of it that exists so far.
absl::Status Replay::MoveUnitGradients() {
  const Place &src = step().src, &dst = step().dst;
  const Region &from = RegionOf(src), &to = RegionOf(dst);
  if (from.memory_class != MemoryClass::kUnitGradients || from.unit != to.unit) {
    return Error("moves ", from.label, " to the place of ", to.label);
  }
  if (src.begin != 0 || dst.begin != 0 || src.bytes != from.range.bytes || dst.bytes != to.range.bytes) {
    return Error("moves a part of ", from.label);
  }
  RETURN_IF_ERROR(CheckPages(0, src.bytes));
  memory_.Forget(dst);
  for (int32_t p : graph_.units[from.unit].parameters) {
    const TensorId t = graph_.parameters[p].gradient;
    if (t == kNone || writes_done_[t] == 0) continue;
    const Tensor& tensor = graph_.tensors[t];
    const Extent extent{SymbolicMemory::Tensor(t), 0, tensor.bytes()};
    const auto part = [&](const Place& whole) -> Place {
      return {whole.region, whole.begin + tensor.unit_offset * 4, tensor.bytes()};
    };
    RETURN_IF_ERROR(Need(part(src), extent, tensor.name));
    memory_.CopyNewest(part(dst), extent);
  }
  return absl::OkStatus();
}

// Pages start anew with every slice.
absl::Status Replay::CheckPages(int64_t home_begin, int64_t bytes) {
  const int64_t page = layout_.page_bytes;
  const int64_t run = step().unit == kNone ? bytes : layout_.slice_bytes(step().unit);
  const int64_t pages_per_run = (run + page - 1) / page;
  const auto page_of = [&](int64_t byte) { return byte / run * pages_per_run + byte % run / page; };
  const int64_t first = page_of(home_begin), last = page_of(home_begin + bytes - 1);
  if (step().first_page == first && step().page_count == last - first + 1) return absl::OkStatus();
  return Error("says pages [", step().first_page, ", ", step().first_page + step().page_count,
               "), its bytes are pages [", first, ", ", last + 1, ")");
}

absl::Status Replay::Gather() {
  RETURN_IF_ERROR(NeedTier(step().src, TierKind::kDevice));
  RETURN_IF_ERROR(NeedTier(step().dst, TierKind::kDevice));
  const StateExtent extent = ExtentOfStep();
  const ObjectId object = StateOfStep();
  const Place &src = step().src, &dst = step().dst;
  RETURN_IF_ERROR(Need(src, {object, extent.own_begin, extent.own_bytes}, "own slice"));
  if (dst.bytes != extent.whole_bytes) return Error("gathers ", dst.bytes, " bytes of ", extent.whole_bytes);
  if (RegionOf(dst).unit != step().unit || RegionOf(dst).state_class != step().state_class) {
    return Error("gathers to the place of ", RegionOf(dst).label);
  }
  if (src.region == dst.region && src.begin != dst.begin + extent.own_begin) {
    return Error("the own slice lies at byte ", src.begin, " of its destination, wanted ",
                 dst.begin + extent.own_begin);
  }
  const int64_t own = extent.own_begin / 4, count = extent.own_bytes / 4;
  const bool updates = subject_.is_update && step().state_class == StateClass::kParameters;
  if (updates && !updated_[step().unit].Covers(own, own + count)) return Error("before the own slice is updated");
  memory_.CopyNewest(dst, {object, 0, extent.whole_bytes});
  return absl::OkStatus();
}

absl::Status Replay::Reduce() {
  RETURN_IF_ERROR(NeedTier(step().src, TierKind::kDevice));
  RETURN_IF_ERROR(NeedTier(step().dst, TierKind::kDevice));
  const UnitId unit = step().unit;
  if (step().state_class != StateClass::kGradients) return Error("reduces ", Name(step().state_class));
  if (reduced_[unit]) return Error("a second time");
  reduced_[unit] = true;
  const StateExtent extent = ExtentOfStep();
  if (step().src.bytes != extent.whole_bytes) {
    return Error("reduces ", step().src.bytes, " bytes of ", extent.whole_bytes);
  }
  for (int32_t p : graph_.units[unit].parameters) {
    const TensorId t = graph_.parameters[p].gradient;
    if (t == kNone) return Error("parameter ", graph_.tensors[graph_.parameters[p].tensor].name, " has no gradient");
    const Tensor& tensor = graph_.tensors[t];
    if (writes_done_[t] != writers_[t].size() || writers_[t].empty()) {
      return Error(tensor.name, " has ", writes_done_[t], " of ", writers_[t].size(), " contributions");
    }
    const Place part{step().src.region, step().src.begin + tensor.unit_offset * 4, tensor.bytes()};
    RETURN_IF_ERROR(Need(part, {SymbolicMemory::Tensor(t), 0, tensor.bytes()}, tensor.name));
  }
  memory_.Forget(step().src);
  if (step().scratch.region != kNone) {
    RETURN_IF_ERROR(NeedTier(step().scratch, TierKind::kDevice));
    if (RegionOf(step().scratch).memory_class != MemoryClass::kCommunication) {
      return Error("scratch memory in region ", RegionOf(step().scratch).label);
    }
    memory_.Forget(step().scratch);
  }
  RETURN_IF_ERROR(CheckOperandsDisjoint());
  const Extent own{StateOfStep(), extent.own_begin, extent.own_bytes};
  RETURN_IF_ERROR(Need(step().dst, own, "accumulated gradient"));
  memory_.Write(step().dst, own);
  return absl::OkStatus();
}

absl::Status Replay::SquareSum() {
  RETURN_IF_ERROR(NeedTier(step().src, TierKind::kDevice));
  const UnitId unit = step().unit;
  if (step().op < graph_.update_begin || step().op >= static_cast<OpId>(graph_.ops.size()) ||
      graph_.ops[step().op].kind != OpKind::kSquareSum || graph_.ops[step().op].unit != unit) {
    return Error("op ", step().op, " is no square sum of this unit");
  }
  if (norms_ > 0) return Error("behind the norm");
  const StateExtent extent = ExtentOf(layout_, unit, StateClass::kGradients);
  const int64_t begin = step().begin, end = begin + step().count;
  if (begin * 4 < extent.own_begin || end * 4 > extent.own_begin + extent.own_bytes || begin % kSliceAlignment != 0 ||
      step().count <= 0) {
    return Error("elements [", begin, ", ", end, ") are not aligned or not of the own slice");
  }
  if (!squared_[unit].Add(begin, end)) return Error("elements of [", begin, ", ", end, ") are squared twice");
  return Need(step().src, Elements(memory_.State(unit, StateClass::kGradients), begin, step().count), "gradient");
}

absl::Status Replay::Norm() {
  ++norms_;
  for (UnitId unit = 0; unit < static_cast<UnitId>(graph_.units.size()); ++unit) {
    const StateExtent extent = ExtentOf(layout_, unit, StateClass::kGradients);
    if (!squared_[unit].Covers(extent.own_begin / 4, (extent.own_begin + extent.own_bytes) / 4)) {
      return Error("the own slice of ", graph_.units[unit].name, " is not squared completely");
    }
  }
  return absl::OkStatus();
}

absl::Status Replay::Update() {
  const UnitId unit = step().unit;
  if (step().op < graph_.update_begin || step().op >= static_cast<OpId>(graph_.ops.size()) ||
      graph_.ops[step().op].kind != OpKind::kAdamW || graph_.ops[step().op].unit != unit) {
    return Error("op ", step().op, " is no update of this unit");
  }
  if (norms_ == 0) return Error("before the norm");
  const StateExtent extent = ExtentOf(layout_, unit, StateClass::kMoment1);
  const int64_t begin = step().begin, end = begin + step().count;
  if (begin * 4 < extent.begin || end * 4 > extent.begin + extent.bytes || step().count <= 0) {
    return Error("elements [", begin, ", ", end, ") are not the rank's");
  }
  if (!updated_[unit].Add(begin, end)) return Error("elements of [", begin, ", ", end, ") are updated twice");
  const ObjectId parameters = memory_.State(unit, StateClass::kParameters);
  if (!update_begun_[unit] && extent.bytes < extent.whole_bytes) {
    // The other ranks update their slices meanwhile.
    const int64_t own_end = extent.own_begin + extent.own_bytes;
    memory_.Outdate({parameters, 0, extent.own_begin});
    memory_.Outdate({parameters, own_end, extent.whole_bytes - own_end});
  }
  update_begun_[unit] = true;
  constexpr StateClass kOperands[] = {StateClass::kParameters, StateClass::kMoment1, StateClass::kMoment2,
                                      StateClass::kGradients};
  if (step().operands.size() != std::size(kOperands)) return Error(step().operands.size(), " operands, wanted 4");
  for (size_t i = 0; i < std::size(kOperands); ++i) {
    RETURN_IF_ERROR(NeedTier(step().operands[i], TierKind::kDevice));
    const Extent part = Elements(memory_.State(unit, kOperands[i]), begin, step().count);
    RETURN_IF_ERROR(Need(step().operands[i], part, Name(kOperands[i])));
    if (kOperands[i] != StateClass::kGradients) memory_.Write(step().operands[i], part);
  }
  return CheckOperandsDisjoint();
}

absl::Status Replay::CheckComplete() {
  if (!subject_.is_update) {
    for (OpId op = 0; op < graph_.update_begin; ++op) {
      if (!op_done_[op]) return subject_.Error("op ", op, " (", Name(graph_.ops[op].kind), ") never runs");
    }
    for (size_t t = 0; t < graph_.tensors.size(); ++t) {
      if (graph_.tensors[t].tensor_class != TensorClass::kOutput) continue;
      if (writers_[t].empty()) return subject_.Error("nothing writes output ", graph_.tensors[t].name);
    }
    return absl::OkStatus();
  }
  for (OpId op = graph_.update_begin; op < static_cast<OpId>(graph_.ops.size()); ++op) {
    const UnitId unit = graph_.ops[op].unit;
    const bool update = graph_.ops[op].kind == OpKind::kAdamW;
    const StateExtent extent = ExtentOf(layout_, unit, update ? StateClass::kMoment1 : StateClass::kGradients);
    const int64_t begin = (update ? extent.begin : extent.own_begin) / 4;
    const int64_t end = begin + (update ? extent.bytes : extent.own_bytes) / 4;
    if (!(update ? updated_ : squared_)[unit].Covers(begin, end)) {
      return subject_.Error("op ", op, " (", Name(graph_.ops[op].kind), " ", graph_.units[unit].name,
                            ") does not cover elements [", begin, ", ", end, ")");
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
    Extent want{kNone, 0, region.range.bytes};
    if (region.tensor != kNone) {
      want.object = SymbolicMemory::Tensor(region.tensor);
      const bool written_here = !subject_.is_update;
      if (graph_.tensors[region.tensor].tensor_class == TensorClass::kOutput && !written_here) continue;
    } else {
      const StateExtent extent = ExtentOf(layout_, region.unit, region.state_class);
      want = {memory_.State(region.unit, region.state_class), extent.begin, extent.bytes};
      if (region.state_class == StateClass::kGradients) {
        place = {r, extent.own_begin - extent.begin, extent.own_bytes};
        want.begin = extent.own_begin;
        want.bytes = extent.own_bytes;
      }
    }
    if (const auto why = memory_.WhyNot(place, want)) {
      return subject_.Error("at its end the home of ", region.label, " is not up to date: ", *why);
    }
  }
  return absl::OkStatus();
}

}  // namespace

absl::Status CheckReplay(const Subject& subject) { return Replay(subject).Run(); }

}  // namespace angel_ptm::verify
