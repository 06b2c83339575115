#include "angel_ptm/plan/segment_builder.h"

#include <algorithm>
#include <string>
#include <utility>

#include "absl/container/flat_hash_map.h"
#include "absl/strings/str_cat.h"
#include "angel_ptm/base/check.h"

namespace angel_ptm {
namespace {

MemoryClass ClassOfHome(StateClass c) {
  switch (c) {
    case StateClass::kParameters:
      return MemoryClass::kParameters;
    case StateClass::kGradients:
      return MemoryClass::kGradients;
    case StateClass::kMoment1:
    case StateClass::kMoment2:
      return MemoryClass::kMoments;
  }
  APTM_CHECK(false);
}

// Regions and steps common to both segments.
class Builder {
 public:
  Builder(const Graph& graph, const Layout& layout, const std::vector<MemoryRange>& fixed)
      : graph_(graph),
        layout_(layout),
        home_region_(layout.homes.size(), kNone),
        fixed_region_(graph.tensors.size(), kNone) {
    for (size_t i = 0; i < layout.homes.size(); ++i) {
      const Home& home = layout.homes[i];
      if (home.elements == 0) continue;
      home_region_[i] = AddRegion({.label = absl::StrCat(graph.units[home.unit].name, " ", Name(home.state_class)),
                                   .memory_class = ClassOfHome(home.state_class),
                                   .range = home.range,
                                   .permanent = true,
                                   .unit = home.unit,
                                   .state_class = home.state_class});
    }
    for (TensorId t = 0; t < static_cast<TensorId>(fixed.size()); ++t) {
      if (fixed[t].offset < 0) continue;
      fixed_region_[t] = AddRegion({.label = graph.tensors[t].name,
                                    .memory_class = MemoryClass::kInputsOutputs,
                                    .range = fixed[t],
                                    .permanent = true,
                                    .tensor = t});
    }
  }

  Segment Take() {
    UpdateLifetimes(segment_);
    return std::move(segment_);
  }

 protected:
  int32_t AddRegion(Region region) {
    segment_.regions.push_back(std::move(region));
    return static_cast<int32_t>(segment_.regions.size()) - 1;
  }
  int32_t AddUnitRegion(UnitId unit, std::string_view what, MemoryClass memory_class, StateClass state_class,
                        int64_t bytes) {
    return AddRegion({.label = absl::StrCat(graph_.units[unit].name, " ", std::string(what)),
                      .memory_class = memory_class,
                      .range = {TierKind::kDevice, -1, bytes},
                      .unit = unit,
                      .state_class = state_class});
  }
  int64_t WholeBytes(UnitId unit) const { return layout_.slice_bytes(unit) * layout_.world_size; }
  // Bytes before this rank's slice in a whole vector.
  int64_t OwnBegin(UnitId unit) const { return layout_.slice_bytes(unit) * layout_.rank; }
  bool OnDevice(UnitId unit, StateClass c) const { return layout_.home(unit, c).range.tier == TierKind::kDevice; }
  bool Sharded(StateClass c) const { return IsSharded(c, layout_.zero_stage); }

  // The home's memory for elements [begin, begin + bytes/4) of the unit's flat vector.
  Place HomePlace(UnitId unit, StateClass c, int64_t begin_bytes, int64_t bytes) const {
    const int32_t region = home_region_[unit * kStateClassCount + static_cast<int>(c)];
    APTM_CHECK(region != kNone, "unit ", graph_.units[unit].name, " has no ", Name(c));
    return {region, begin_bytes - (Sharded(c) ? OwnBegin(unit) : 0), bytes};
  }

  void Move(UnitId unit, StateClass c, Place dst, Place src, bool in) {
    Step step{.kind = StepKind::kMove, .lane = in ? Lane::kCopyIn : Lane::kCopyOut, .unit = unit, .state_class = c};
    step.src = src;
    step.dst = dst;
    const int64_t home_begin = in ? src.begin : dst.begin;
    const int64_t slice = layout_.slice_bytes(unit), page = layout_.page_bytes;
    const int64_t pages_per_slice = (slice + page - 1) / page;
    step.first_page = home_begin / slice * pages_per_slice + home_begin % slice / page;
    const int64_t last = home_begin + src.bytes - 1;
    step.page_count = last / slice * pages_per_slice + last % slice / page + 1 - step.first_page;
    segment_.steps.push_back(std::move(step));
  }

  void Gather(UnitId unit, StateClass c, Place dst, Place src) {
    Step step{.kind = StepKind::kGather, .lane = Lane::kComm, .unit = unit, .state_class = c};
    step.src = src;
    step.dst = dst;
    segment_.steps.push_back(std::move(step));
  }

  const Graph& graph_;
  const Layout& layout_;
  Segment segment_;
  std::vector<int32_t> home_region_;   // by Layout::homes index
  std::vector<int32_t> fixed_region_;  // by tensor
};

using UnitsByOp = absl::flat_hash_map<OpId, std::vector<UnitId>>;

// A unit's parameters are needed by runs of neighbouring ops of one block and direction; each run is one gather (stage
// 3) or one fetch (parameters at home on the host). By op: the units of which a run begins there.
UnitsByOp BeginningParameterUses(const Graph& graph) {
  UnitsByOp uses;
  std::vector<bool> open(graph.units.size(), false);
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
        parameter_region_(graph.units.size(), kNone),
        gradient_region_(graph.units.size(), kNone),
        last_gradient_op_(graph.units.size(), kNone),
        uses_at_(BeginningParameterUses(graph)) {
    for (OpId op = 0; op < graph.update_begin; ++op) {
      for (TensorId t : graph.ops[op].outputs) {
        if (t != kNone && graph.tensors[t].tensor_class == TensorClass::kGradient) {
          last_gradient_op_[graph.tensors[t].unit] = op;
        }
      }
    }
  }

  Segment Build() {
    for (OpId op = 0; op < graph_.update_begin; ++op) {
      if (const auto it = uses_at_.find(op); it != uses_at_.end()) {
        for (UnitId unit : it->second) Materialise(unit);
      }
      Compute(op);
      for (UnitId unit = 0; unit < static_cast<UnitId>(graph_.units.size()); ++unit) {
        if (last_gradient_op_[unit] == op) Reduce(unit);
      }
    }
    return Take();
  }

 private:
  // Makes the unit's whole parameters readable on the device.
  void Materialise(UnitId unit) {
    const StateClass c = StateClass::kParameters;
    const int64_t whole = WholeBytes(unit), slice = layout_.slice_bytes(unit);
    if (!Sharded(c) && OnDevice(unit, c)) {
      parameter_region_[unit] = home_region_[unit * kStateClassCount];
      return;
    }
    const int32_t region = AddUnitRegion(unit, "parameters gathered", MemoryClass::kGathered, c, whole);
    parameter_region_[unit] = region;
    if (!Sharded(c)) {
      Move(unit, c, {region, 0, whole}, HomePlace(unit, c, 0, whole), /*in=*/true);
      return;
    }
    const Place own{region, OwnBegin(unit), slice};
    const Place home = HomePlace(unit, c, OwnBegin(unit), slice);
    if (!OnDevice(unit, c)) Move(unit, c, own, home, /*in=*/true);
    Gather(unit, c, {region, 0, whole}, OnDevice(unit, c) ? home : own);
  }

  Place PlaceOf(TensorId t) {
    if (t == kNone) return {};
    const Tensor& tensor = graph_.tensors[t];
    switch (tensor.tensor_class) {
      case TensorClass::kParameter:
        return {parameter_region_[tensor.unit], tensor.unit_offset * 4, tensor.bytes()};
      case TensorClass::kGradient: {
        int32_t& region = gradient_region_[tensor.unit];
        if (region == kNone) {
          region = AddUnitRegion(tensor.unit, "micro-batch gradient", MemoryClass::kUnitGradients,
                                 StateClass::kGradients, WholeBytes(tensor.unit));
        }
        return {region, tensor.unit_offset * 4, tensor.bytes()};
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

  void Compute(OpId op_id) {
    const Op& op = graph_.ops[op_id];
    Step step{.kind = StepKind::kCompute, .lane = Lane::kCompute, .op = op_id};
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

  void Reduce(UnitId unit) {
    const StateClass c = StateClass::kGradients;
    const int64_t slice = layout_.slice_bytes(unit);
    const Place home = HomePlace(unit, c, OwnBegin(unit), slice);
    Place dst = home;
    if (!OnDevice(unit, c)) {
      dst = {AddUnitRegion(unit, "gradient slice", MemoryClass::kStaging, c, slice), 0, slice};
      Move(unit, c, dst, home, /*in=*/true);
    }
    Step step{.kind = StepKind::kReduce, .lane = Lane::kComm, .unit = unit, .state_class = c};
    step.src = {gradient_region_[unit], 0, WholeBytes(unit)};
    step.dst = dst;
    if (const int64_t bytes = facts_.reduce_scratch_bytes[unit]; bytes > 0) {
      step.scratch = {AddUnitRegion(unit, "reduce scratch", MemoryClass::kCommunication, c, bytes), 0, bytes};
    }
    segment_.steps.push_back(std::move(step));
    if (!OnDevice(unit, c)) Move(unit, c, home, dst, /*in=*/false);
  }

  const BackendFacts& facts_;
  std::vector<int32_t> parameter_region_, gradient_region_;  // by unit: where they are now
  std::vector<OpId> last_gradient_op_;
  const UnitsByOp uses_at_;
  absl::flat_hash_map<TensorId, int32_t> activation_region_;
};

class UpdateBuilder : public Builder {
 public:
  using Builder::Builder;

  Segment Build() {
    // A staged page comes and goes in two to three steps.
    size_t pages = 0;
    for (const Home& home : layout_.homes) {
      if (home.range.tier == TierKind::kHost) pages += static_cast<size_t>(home.range.bytes / layout_.page_bytes + 1);
    }
    segment_.steps.reserve(pages * 5 / 2);
    segment_.regions.reserve(segment_.regions.size() + pages * 3 / 2);
    for (OpId op = graph_.update_begin; op < static_cast<OpId>(graph_.ops.size()); ++op) {
      const Op& o = graph_.ops[op];
      if (o.kind == OpKind::kAdamW && !norm_done_) Norm();
      if (o.kind == OpKind::kSquareSum) SquareSum(op);
      if (o.kind == OpKind::kAdamW) Update(op);
    }
    return Take();
  }

 private:
  void Norm() {
    segment_.steps.push_back({.kind = StepKind::kNorm, .lane = Lane::kComm});
    norm_done_ = true;
  }

  // Pages of [begin, begin + bytes) of the unit's vector; pages never straddle slices.
  template <typename Visit>
  void ForEachPage(UnitId unit, int64_t begin, int64_t bytes, Visit&& visit) const {
    const int64_t slice = layout_.slice_bytes(unit);
    for (int64_t at = begin; at < begin + bytes;) {
      const int64_t in_slice = at % slice;
      const int64_t page =
          std::min({layout_.page_bytes - in_slice % layout_.page_bytes, slice - in_slice, begin + bytes - at});
      visit(at, page);
      at += page;
    }
  }

  void SquareSum(OpId op) {
    const UnitId unit = graph_.ops[op].unit;
    const StateClass c = StateClass::kGradients;
    const auto append = [&](int64_t begin, int64_t bytes) {
      const Place home = HomePlace(unit, c, begin, bytes);
      Place src = home;
      if (!OnDevice(unit, c)) {
        src = {AddUnitRegion(unit, "gradient pages", MemoryClass::kStaging, c, bytes), 0, bytes};
        Move(unit, c, src, home, /*in=*/true);
      }
      Step step{.kind = StepKind::kSquareSum, .lane = Lane::kCompute, .op = op, .unit = unit, .state_class = c};
      step.src = src;
      step.begin = begin / 4;
      step.count = bytes / 4;
      segment_.steps.push_back(std::move(step));
    };
    const int64_t slice = layout_.slice_bytes(unit);
    if (OnDevice(unit, c)) return append(OwnBegin(unit), slice);
    ForEachPage(unit, OwnBegin(unit), slice, append);
  }

  // Whole vectors that live on the device for the duration of one unit's update: gradients that every rank needs whole
  // (stages 0 and 1), and parameters that are updated by slice and gathered again (stages 1 and 2). kNone: not needed,
  // use the home.
  int32_t WholeRegion(UnitId unit, StateClass c) {
    if (OnDevice(unit, c)) return kNone;
    const int64_t slice = layout_.slice_bytes(unit);
    const int32_t region =
        AddUnitRegion(unit, absl::StrCat(Name(c), " whole"), MemoryClass::kStaging, c, WholeBytes(unit));
    Move(unit, c, {region, OwnBegin(unit), slice}, HomePlace(unit, c, OwnBegin(unit), slice), /*in=*/true);
    return region;
  }
  Place WholePlace(UnitId unit, StateClass c, int32_t region) const {
    if (region != kNone) return {region, 0, WholeBytes(unit)};
    return HomePlace(unit, c, 0, WholeBytes(unit));
  }
  static Place Part(Place whole, int64_t begin, int64_t bytes) { return {whole.region, whole.begin + begin, bytes}; }

  void Update(OpId op) {
    const UnitId unit = graph_.ops[op].unit;
    const int64_t slice = layout_.slice_bytes(unit);
    const bool gather_gradients = !Sharded(StateClass::kGradients);
    const bool gather_parameters = !Sharded(StateClass::kParameters) && Sharded(StateClass::kMoment1);
    int32_t gradients = kNone, parameters = kNone;
    if (gather_gradients) {
      gradients = WholeRegion(unit, StateClass::kGradients);
      const Place whole = WholePlace(unit, StateClass::kGradients, gradients);
      Gather(unit, StateClass::kGradients, whole, Part(whole, OwnBegin(unit), slice));
    }
    if (gather_parameters) parameters = WholeRegion(unit, StateClass::kParameters);

    const bool all_moments = !Sharded(StateClass::kMoment1);
    const int64_t begin = all_moments ? 0 : OwnBegin(unit);
    const int64_t bytes = all_moments ? WholeBytes(unit) : slice;
    const auto append = [&](int64_t at, int64_t n) { UpdatePages(op, at, n, gradients, parameters); };
    bool staged = false;
    for (StateClass c : {StateClass::kParameters, StateClass::kGradients, StateClass::kMoment1, StateClass::kMoment2}) {
      staged |= !OnDevice(unit, c);
    }
    if (staged) {
      ForEachPage(unit, begin, bytes, append);
    } else {
      append(begin, bytes);
    }
    if (gather_parameters) {
      const Place whole = WholePlace(unit, StateClass::kParameters, parameters);
      Gather(unit, StateClass::kParameters, whole, Part(whole, OwnBegin(unit), slice));
      if (parameters != kNone) {
        Move(unit, StateClass::kParameters, HomePlace(unit, StateClass::kParameters, 0, WholeBytes(unit)), whole,
             /*in=*/false);
      }
    }
  }

  void UpdatePages(OpId op, int64_t begin, int64_t bytes, int32_t gradients, int32_t parameters) {
    const UnitId unit = graph_.ops[op].unit;
    Step step{.kind = StepKind::kUpdate, .lane = Lane::kCompute, .op = op, .unit = unit};
    step.begin = begin / 4;
    step.count = bytes / 4;
    std::vector<std::pair<StateClass, Place>> back;
    for (StateClass c : {StateClass::kParameters, StateClass::kMoment1, StateClass::kMoment2, StateClass::kGradients}) {
      const int32_t whole = c == StateClass::kGradients ? gradients : c == StateClass::kParameters ? parameters : kNone;
      if (whole != kNone) {
        step.operands.push_back({whole, begin, bytes});
        continue;
      }
      const Place home = HomePlace(unit, c, begin, bytes);
      if (OnDevice(unit, c)) {
        step.operands.push_back(home);
        continue;
      }
      const Place staging{AddUnitRegion(unit, absl::StrCat(Name(c), " pages"), MemoryClass::kStaging, c, bytes), 0,
                          bytes};
      Move(unit, c, staging, home, /*in=*/true);
      step.operands.push_back(staging);
      if (c != StateClass::kGradients) back.push_back({c, staging});
    }
    segment_.steps.push_back(std::move(step));
    for (const auto& [c, staging] : back) Move(unit, c, HomePlace(unit, c, begin, bytes), staging, /*in=*/false);
  }

  bool norm_done_ = false;
};

}  // namespace

Segment BuildMicroStep(const Graph& graph, const Layout& layout, const std::vector<MemoryRange>& fixed,
                       const BackendFacts& facts) {
  return MicroStepBuilder(graph, layout, fixed, facts).Build();
}

Segment BuildUpdate(const Graph& graph, const Layout& layout, const std::vector<MemoryRange>& fixed) {
  return UpdateBuilder(graph, layout, fixed).Build();
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
