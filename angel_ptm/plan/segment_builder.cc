#include "angel_ptm/plan/segment_builder.h"

#include <algorithm>

#include "angel_ptm/plan/builder.h"

namespace angel_ptm {
namespace {

using UnitsByOp = absl::flat_hash_map<OpId, std::vector<UnitId>>;

// A run is a maximal sequence of consecutive ops of one block and direction. Every run that reads a unit's parameters
// needs one gather (of a sharded state) or one fetch (of a state whose home is on another tier). Returns, by op, the
// units of which the first use in a run is at that op.
UnitsByOp BeginningParameterUses(const Graph& graph) {
  UnitsByOp uses;
  std::vector<bool> open(graph.units().size(), false);
  const auto direction = [](const Op& op) { return op.phase == Phase::kForward; };
  for (OpId i = 0; i < graph.update_begin; ++i) {
    const Op& op = graph.ops[i];
    if (i > 0 && (graph.ops[i - 1].block != op.block || direction(graph.ops[i - 1]) != direction(op))) {
      std::fill(open.begin(), open.end(), false);
    }
    for (TensorId t : op.inputs) {
      if (t == kNone || graph.tensors[t].tensor_class != TensorClass::kParameter) continue;
      const UnitId unit = graph.tensors[t].unit;
      if (open[unit]) continue;
      open[unit] = true;
      uses[i].push_back(unit);
    }
  }
  return uses;
}

class MicroStepBuilder : public Builder {
 public:
  MicroStepBuilder(const Graph& graph, const Layout& layout, const std::vector<MemoryRange>& fixed,
                   const BackendFacts& facts)
      : Builder(graph, layout, fixed),
        facts_(facts),
        parameters_(graph.units().size()),
        gradient_region_(graph.units().size(), kNone),
        units_reduced_at_(graph.update_begin),
        uses_at_(BeginningParameterUses(graph)) {
    const bool in_parameters = layout.guest_of(kParameterState) != kNoState;
    std::vector<bool> has_gradient(graph.units().size(), false);
    std::vector<OpId> last_op(graph.units().size(), kNone);  // after which the gradient is reduced
    const auto see = [&](OpId op, TensorId t, TensorClass tensor_class) {
      if (t == kNone || graph.tensors[t].tensor_class != tensor_class) return;
      last_op[graph.tensors[t].unit] = op;
      if (tensor_class == TensorClass::kGradient) has_gradient[graph.tensors[t].unit] = true;
    };
    for (OpId op = 0; op < graph.update_begin; ++op) {
      // Gradients that take the parameters' place must wait until the last op has read the parameters.
      for (TensorId t : graph.ops[op].inputs) {
        if (in_parameters) see(op, t, TensorClass::kParameter);
      }
      for (TensorId t : graph.ops[op].outputs) see(op, t, TensorClass::kGradient);
    }
    for (UnitId unit = 0; unit < static_cast<UnitId>(graph.units().size()); ++unit) {
      if (has_gradient[unit]) units_reduced_at_[last_op[unit]].push_back(unit);
    }
  }

  Segment Build() {
    for (OpId op = 0; op < graph_.update_begin; ++op) {
      if (const auto it = uses_at_.find(op); it != uses_at_.end()) {
        for (UnitId unit : it->second) Materialise(unit);
      }
      Compute(op);
      for (UnitId unit : units_reduced_at_[op]) Reduce(unit);
    }
    return Take();
  }

 private:
  // Makes everything that ops read as the unit's parameters available on the device.
  void Materialise(UnitId unit) {
    const StateId s = graph_.ReadState(unit);
    const Elements whole = Whole(unit), slice = OwnSlice(unit);
    const std::string_view label = "parameters gathered";
    if (!layout_.sharded(unit, s)) {
      const Place home = HomePlace(unit, s, whole);
      parameters_[unit] = Fetch(unit, s, home, whole, TierKind::kDevice, {label, MemoryClass::kGathered});
      return;
    }
    const Place gathered = AddUnitRegion(unit, s, whole.count, TierKind::kDevice, {label, MemoryClass::kGathered});
    parameters_[unit] = gathered;
    const Place home = HomePlace(unit, s, slice), own = Part(gathered, s, slice);
    if (HomeTier(unit, s) != TierKind::kDevice) Transfer(unit, s, own, home, slice);
    Gather(unit, s, gathered, HomeTier(unit, s) == TierKind::kDevice ? home : own);
  }

  Place PlaceOf(TensorId t) {
    if (t == kNone) return {};
    const Tensor& tensor = graph_.tensors[t];
    switch (tensor.tensor_class) {
      case TensorClass::kParameter:
        return {parameters_[tensor.unit].region, parameters_[tensor.unit].begin + OffsetInUnit(tensor), tensor.bytes()};
      case TensorClass::kGradient: {
        int32_t& region = gradient_region_[tensor.unit];
        if (region == kNone) {
          region = AddRegion({.label = absl::StrCat(graph_.units()[tensor.unit].name, " micro-batch gradient"),
                              .memory_class = MemoryClass::kUnitGradients,
                              .range = {TierKind::kDevice, -1, MicroBatchGradientBytes(tensor)},
                              .unit = tensor.unit,
                              .state = kGradientState});
        }
        return {region, OffsetInUnit(tensor), tensor.bytes()};
      }
      case TensorClass::kActivation: {
        auto [it, is_new] = activation_region_.try_emplace(t, kNone);
        if (is_new) {
          it->second = AddRegion({.label = tensor.name,
                                  .memory_class = MemoryClass::kActivations,
                                  .range = {TierKind::kDevice, -1, tensor.bytes()},
                                  .tensor = t});
        }
        return {it->second, 0, tensor.bytes()};
      }
      case TensorClass::kInput:
      case TensorClass::kOutput:
      case TensorClass::kCache:
        return {fixed_region_[t], 0, tensor.bytes()};
    }
    APTM_CHECK(false);
  }

  static int64_t OffsetInUnit(const Tensor& tensor) { return tensor.unit_offset * SizeOf(tensor.dtype); }
  int64_t MicroBatchGradientBytes(const Tensor& gradient) const {
    return layout_.whole_elements(gradient.unit) * SizeOf(gradient.dtype);
  }

  void Compute(OpId op_id) {
    const Op& op = graph_.ops[op_id];
    Step step{.kind = StepKind::kCompute, .lane = IsExchange(op.kind) ? Lane::kComm : Lane::kCompute, .op = op_id};
    for (TensorId t : op.inputs) step.operands.push_back(PlaceOf(t));
    for (TensorId t : op.outputs) step.operands.push_back(PlaceOf(t));
    if (const int64_t bytes = facts_.op_workspace_bytes[op_id]; bytes > 0) {
      const int32_t region = AddRegion({.label = absl::StrCat(Name(op.kind), " workspace"),
                                        .memory_class = MemoryClass::kWorkspace,
                                        .range = {TierKind::kDevice, -1, bytes}});
      step.operands.push_back({region, 0, bytes});
    }
    segment_.steps.push_back(std::move(step));
  }

  // Reduces on the device. If the home is on another tier, its content is fetched only in micro-batches that add to it.
  // No micro-batch adds to gradients that take the parameters' place.
  void Reduce(UnitId unit) {
    const StateId s = kGradientState;
    const Elements slice = OwnSlice(unit);
    const Place home = HomePlace(unit, s, slice);
    const Purpose purpose = {"gradient slice", MemoryClass::kStaging};
    const Place dst = layout_.shares_place(s)
                          ? Room(unit, s, home, slice, TierKind::kDevice, purpose)
                          : Fetch(unit, s, home, slice, TierKind::kDevice, purpose, When::kAccumulating);
    Step step{.kind = StepKind::kReduceScatter, .lane = Lane::kComm, .unit = unit, .state = s};
    step.src = {gradient_region_[unit], 0, segment_.regions[gradient_region_[unit]].range.bytes};
    step.dst = dst;
    if (const int64_t bytes = facts_.reduce_scratch_bytes[unit]; bytes > 0) {
      const int32_t scratch = AddRegion({.label = absl::StrCat(graph_.units()[unit].name, " reduce scratch"),
                                         .memory_class = MemoryClass::kCommunication,
                                         .range = {TierKind::kDevice, -1, bytes},
                                         .unit = unit,
                                         .state = s});
      step.scratch = {scratch, 0, bytes};
    }
    segment_.steps.push_back(std::move(step));
    Return(unit, s, home, dst, slice);
  }

  const BackendFacts& facts_;
  std::vector<Place> parameters_;                      // by unit: current place of the whole parameters
  std::vector<int32_t> gradient_region_;               // by unit
  std::vector<std::vector<UnitId>> units_reduced_at_;  // by op: units whose gradients it completes
  const UnitsByOp uses_at_;
  absl::flat_hash_map<TensorId, int32_t> activation_region_;
};

}  // namespace

Segment BuildMicroStep(const Graph& graph, const Layout& layout, const std::vector<MemoryRange>& fixed,
                       const BackendFacts& facts) {
  Segment segment = MicroStepBuilder(graph, layout, fixed, facts).Build();
  segment.name = "micro-step";
  segment.computes = true;
  return segment;
}

Segment Join(Segment first, const Segment& second) {
  const auto permanent = std::find_if(second.regions.begin(), second.regions.end(),
                                      [](const Region& region) { return !region.permanent; });
  const int32_t shared = static_cast<int32_t>(permanent - second.regions.begin());
  const int32_t shift = static_cast<int32_t>(first.regions.size()) - shared;
  first.regions.insert(first.regions.end(), permanent, second.regions.end());
  const auto renumber = [&](Place& place) { place.region += place.region >= shared ? shift : 0; };
  for (Step step : second.steps) {
    for (Place* place : {&step.src, &step.dst, &step.scratch}) renumber(*place);
    for (Place& place : step.operands) renumber(place);
    first.steps.push_back(std::move(step));
  }
  UpdateLifetimes(first);
  first.name = absl::StrCat(first.name, " + ", second.name);
  first.computes |= second.computes;
  first.updates |= second.updates;
  return first;
}

void UpdateLifetimes(Segment& segment) {
  for (Region& region : segment.regions) region.first_step = region.last_step = kNone;
  const auto touch = [&](const Place& place, int32_t step) {
    if (place.region == kNone) return;
    Region& region = segment.regions[place.region];
    if (region.first_step == kNone) region.first_step = step;
    region.last_step = step;
  };
  for (int32_t i = 0; i < static_cast<int32_t>(segment.steps.size()); ++i) {
    const Step& step = segment.steps[i];
    touch(step.src, i);
    touch(step.dst, i);
    touch(step.scratch, i);
    for (const Place& place : step.operands) touch(place, i);
  }
}

}  // namespace angel_ptm
