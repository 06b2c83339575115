#include "angel_ptm/plan/planner.h"

#include <algorithm>
#include <limits>
#include <numeric>
#include <utility>

#include "absl/strings/str_cat.h"
#include "angel_ptm/base/check.h"
#include "angel_ptm/base/text.h"
#include "angel_ptm/plan/passes.h"
#include "angel_ptm/plan/segment_builder.h"

namespace angel_ptm {
namespace {

constexpr int64_t kUnlimited = std::numeric_limits<int64_t>::max() / 4;

int64_t BudgetOr(int64_t bytes) { return bytes == 0 ? kUnlimited : bytes; }

// What may be at home on the device, most traffic saved per byte first.
std::vector<std::pair<UnitId, StateId>> CachingOrder(const Graph& graph) {
  std::vector<StateId> states(graph.states.size());
  std::iota(states.begin(), states.end(), StateId{0});
  const auto traffic = [&](StateId s) { return graph.states[s].touches_per_step / SizeOf(graph.states[s].dtype); };
  std::stable_sort(states.begin(), states.end(), [&](StateId a, StateId b) { return traffic(a) > traffic(b); });
  std::vector<std::pair<UnitId, StateId>> order;
  for (StateId s : states) {
    for (UnitId u = 0; u < static_cast<UnitId>(graph.units.size()); ++u) {
      if (graph.HasState(u, s)) order.push_back({u, s});
    }
  }
  return order;
}

// Homes of the first `on_device` entries of the caching order are on the device, the others on the host.
Layout MakeLayout(const Graph& graph, const PlanOptions& options, size_t on_device) {
  Layout layout{.world_size = options.world_size,
                .rank = options.rank,
                .zero_stage = options.zero_stage,
                .page_bytes = options.page_bytes};
  layout.states = graph.states;
  for (const Unit& unit : graph.units) layout.slices.push_back(SliceUnit(unit.elements, options.world_size));
  layout.homes.resize(graph.units.size() * graph.states.size());
  for (UnitId u = 0; u < static_cast<UnitId>(graph.units.size()); ++u) {
    for (StateId s = 0; s < static_cast<StateId>(graph.states.size()); ++s) {
      layout.homes[layout.HomeIndex(u, s)] = {.unit = u, .state = s};
    }
  }
  const auto order = CachingOrder(graph);
  for (size_t i = 0; i < order.size(); ++i) {
    const auto [unit, state] = order[i];
    Home& home = layout.homes[layout.HomeIndex(unit, state)];
    home.elements = layout.sharded(state) ? layout.slices[unit].slice_elements : layout.whole_elements(unit);
    const TierKind tier = i < on_device ? TierKind::kDevice : TierKind::kHost;
    int64_t& end = layout.home_bytes[static_cast<int>(tier)];
    home.range = {tier, end, layout.bytes(state, home.elements)};
    end = (end + home.range.bytes + kHomeAlignment - 1) / kHomeAlignment * kHomeAlignment;
  }
  return layout;
}

// Addresses of inputs, outputs and caches, right behind the homes. Returns the end.
int64_t PlaceFixed(const Graph& graph, int64_t begin, std::vector<MemoryRange>& fixed) {
  fixed.assign(graph.tensors.size(), {});
  for (size_t t = 0; t < graph.tensors.size(); ++t) {
    const TensorClass c = graph.tensors[t].tensor_class;
    if (c != TensorClass::kInput && c != TensorClass::kOutput && c != TensorClass::kCache) continue;
    fixed[t] = {TierKind::kDevice, begin, graph.tensors[t].bytes()};
    begin = (begin + fixed[t].bytes + kRegionAlignment - 1) / kRegionAlignment * kRegionAlignment;
  }
  return begin;
}

TierPeak PeakOf(const Segment& segment, TierKind tier) {
  TierPeak best;
  std::vector<std::array<int64_t, kMemoryClassCount>> change(segment.steps.size() + 1);
  for (const Region& region : segment.regions) {
    if (region.range.tier != tier || (!region.permanent && region.first_step == kNone)) continue;
    const int c = static_cast<int>(region.memory_class);
    change[region.permanent ? 0 : region.first_step][c] += region.range.bytes;
    if (!region.permanent) change[region.last_step + 1][c] -= region.range.bytes;
    best.bytes = std::max(best.bytes, region.range.offset + region.range.bytes);
  }
  std::array<int64_t, kMemoryClassCount> live = {};
  for (size_t i = 0; i < std::max<size_t>(1, segment.steps.size()); ++i) {
    int64_t total = 0;
    for (int c = 0; c < kMemoryClassCount; ++c) total += live[c] += change[i][c];
    if (total > best.live_bytes) {
      best.live_bytes = total;
      best.by_class = live;
    }
  }
  return best;
}

// `prefetch_steps`, halved as long as it reaches across all compute steps, which changes nothing. Not clamped to their
// number: so the values that Finish falls back to from here are those of half as many prefetch_steps.
int UsefulPrefetch(const Segment& segment, int prefetch_steps) {
  const auto is_compute = [](const Step& step) { return step.lane == Lane::kCompute; };
  const auto compute_steps = std::count_if(segment.steps.begin(), segment.steps.end(), is_compute);
  while (prefetch_steps / 2 >= std::max<int64_t>(1, compute_steps)) prefetch_steps /= 2;
  return prefetch_steps;
}

// Runs the passes on one segment. transient_budget: device bytes above the permanent regions.
absl::Status Finish(const Graph& graph, const PlanOptions& options, const Layout& layout, int64_t device_base,
                    int64_t transient_budget, bool may_offload, Segment& segment) {
  constexpr int kOffloadRetries = 11;
  const Segment natural = segment;
  if (may_offload) {
    RETURN_IF_ERROR(OffloadActivations(graph, segment, transient_budget, options.page_bytes));
  } else if (const std::vector<int64_t> live = LiveBytes(segment, TierKind::kDevice);
             !live.empty() && *std::max_element(live.begin(), live.end()) > transient_budget) {
    return absl::ResourceExhaustedError("the working set does not fit");
  }
  int64_t excess = 0, least_excess = kUnlimited;  // bytes that holes add above the budget: now, at best
  const auto fits = [&](int prefetch_steps) {
    StartEarly(graph, segment, transient_budget, prefetch_steps);
    excess = PackRegions(segment, TierKind::kDevice, device_base, device_base + transient_budget) - device_base -
             transient_budget;
    least_excess = std::min(least_excess, excess);
    return excess <= 0;
  };
  const auto finish = [&] {
    PackRegions(segment, TierKind::kHost, layout.home_bytes[static_cast<int>(TierKind::kHost)], kUnlimited);
    OrderSteps(graph, segment);
    return absl::OkStatus();
  };
  // Packing may lose a few percent to holes: then first give up starting early, down to nothing, so that whatever fits
  // without it fits at any prefetch_steps ...
  const Segment offloaded = segment;
  for (int prefetch = UsefulPrefetch(segment, options.prefetch_steps);; prefetch /= 2) {
    segment = offloaded;
    if (fits(prefetch)) return finish();
    if (prefetch == 0) break;
  }
  // ... then offload a little more.
  int64_t offload_budget = transient_budget;
  for (int retry = 0; may_offload && retry < kOffloadRetries; ++retry) {
    offload_budget -= std::max(excess, transient_budget / 50);
    segment = natural;
    // What fails here is too large for the lowered budget only: not it but the holes are to blame.
    if (!OffloadActivations(graph, segment, offload_budget, options.page_bytes).ok()) break;
    if (fits(0)) return finish();
  }
  return absl::ResourceExhaustedError(
      absl::StrCat("buffers with the holes between them need ", FormatBytes(transient_budget + least_excess),
                   " of device memory at once, ", FormatBytes(transient_budget), " are left for them"));
}

absl::StatusOr<Plan> PlanWithLayout(const Graph& graph, const BackendFacts& facts, const PlanOptions& options,
                                    Layout layout, bool may_offload) {
  Plan plan;
  plan.layout = std::move(layout);
  const int64_t home_bytes = plan.layout.home_bytes[static_cast<int>(TierKind::kDevice)];
  const int64_t device_base = PlaceFixed(graph, home_bytes, plan.fixed);
  const int64_t transient_budget = BudgetOr(options.device_bytes) - device_base;
  if (transient_budget < 0) {
    return absl::ResourceExhaustedError(absl::StrCat("homes take ", FormatBytes(home_bytes),
                                                     " of device memory and inputs, outputs and caches take ",
                                                     FormatBytes(device_base - home_bytes)));
  }
  plan.micro_step = BuildMicroStep(graph, plan.layout, plan.fixed, facts);
  RETURN_IF_ERROR(Finish(graph, options, plan.layout, device_base, transient_budget, may_offload, plan.micro_step));
  if (graph.update_begin < static_cast<OpId>(graph.ops.size())) {
    plan.update = BuildUpdate(graph, plan.layout, plan.fixed);
    RETURN_IF_ERROR(Finish(graph, options, plan.layout, device_base, transient_budget, may_offload, plan.update));
  }
  for (int t = 0; t < kTierCount; ++t) {
    const TierPeak micro = PeakOf(plan.micro_step, static_cast<TierKind>(t));
    const TierPeak update = PeakOf(plan.update, static_cast<TierKind>(t));
    plan.peaks[t] = micro.live_bytes >= update.live_bytes ? micro : update;
    plan.arena_bytes[t] = std::max({micro.bytes, update.bytes, plan.layout.home_bytes[t]});
    plan.peaks[t].bytes = plan.arena_bytes[t];
  }
  return plan;
}

// The plan with as much state at home on the device as the budget allows.
absl::StatusOr<Plan> PlanAndChooseLayout(const Graph& graph, const BackendFacts& facts, const PlanOptions& options) {
  const auto attempt = [&](size_t on_device, bool may_offload) {
    return PlanWithLayout(graph, facts, options, MakeLayout(graph, options, on_device), may_offload);
  };
  size_t all = graph.units.size() * graph.states.size();
  absl::StatusOr<Plan> best = attempt(all, /*may_offload=*/false);
  if (best.ok() || options.device_bytes == 0) return best;
  absl::StatusOr<Plan> none = attempt(0, /*may_offload=*/false);
  if (!none.ok()) return attempt(0, /*may_offload=*/true);
  best = std::move(none);
  size_t fits = 0;
  while (all - fits > 1) {
    const size_t middle = fits + (all - fits) / 2;
    if (absl::StatusOr<Plan> plan = attempt(middle, /*may_offload=*/false); plan.ok()) {
      best = std::move(plan);
      fits = middle;
    } else {
      all = middle;
    }
  }
  return best;
}

// The least device budget that works with this layout, to within a percent, whatever the host needs for it.
int64_t LeastBytesWithLayout(const Graph& graph, const BackendFacts& facts, PlanOptions options, const Layout& layout) {
  std::vector<MemoryRange> fixed;
  const int64_t base = PlaceFixed(graph, layout.home_bytes[static_cast<int>(TierKind::kDevice)], fixed);
  int64_t need = LeastLiveBytes(graph, BuildMicroStep(graph, layout, fixed, facts));
  if (graph.update_begin < static_cast<OpId>(graph.ops.size())) {
    need = std::max(need, LeastLiveBytes(graph, BuildUpdate(graph, layout, fixed)));
  }
  // What holes between buffers add shows only when the buffers are placed.
  const auto round_up = [](int64_t bytes) { return (bytes + 4095) / 4096 * 4096; };
  for (int64_t bytes = round_up(base + need);; bytes = round_up(bytes + bytes / 100 + 1)) {
    options.device_bytes = bytes;
    if (PlanWithLayout(graph, facts, options, layout, /*may_offload=*/true).ok()) return bytes;
  }
}

}  // namespace

absl::StatusOr<Plan> MakePlan(const Graph& graph, const BackendFacts& facts, const PlanOptions& options,
                              const Layout* layout) {
  APTM_CHECK(facts.op_workspace_bytes.size() == graph.ops.size() &&
             facts.reduce_scratch_bytes.size() == graph.units.size());
  APTM_CHECK(layout == nullptr || layout->states == graph.states, "graph ", graph.name,
             " has other states than the layout");
  absl::StatusOr<Plan> plan = layout == nullptr ? PlanAndChooseLayout(graph, facts, options)
                                                : PlanWithLayout(graph, facts, options, *layout, /*may_offload=*/true);
  if (!plan.ok()) {
    const Layout least_layout = layout == nullptr ? MakeLayout(graph, options, 0) : *layout;
    const int64_t least = LeastBytesWithLayout(graph, facts, options, least_layout);
    if (least > options.device_bytes) {
      return absl::ResourceExhaustedError(absl::StrCat(
          "graph ", graph.name, " does not fit: memory.device_bytes is ", FormatBytes(options.device_bytes), " (",
          options.device_bytes, "), the least that works is ", FormatBytes(least), " (", least, "), ",
          FormatBytes(least - options.device_bytes), " more; ", plan.status().message()));
    }
    // Where the holes are changes with the budget: all of it may not do although less of it does.
    PlanOptions within_least = options;
    within_least.device_bytes = least;
    ASSIGN_OR_RETURN(plan, PlanWithLayout(graph, facts, within_least, least_layout, /*may_offload=*/true));
  }
  // As little as possible rests on the host already: whatever fits is at home on the device.
  const int64_t host = plan->arena_bytes[static_cast<int>(TierKind::kHost)];
  if (host > BudgetOr(options.host_bytes)) {
    return absl::ResourceExhaustedError(
        absl::StrCat("graph ", graph.name, " does not fit: it needs ", FormatBytes(host), " of host memory (", host,
                     " bytes), memory.host_bytes is ", FormatBytes(options.host_bytes), ": raise it by ",
                     FormatBytes(host - options.host_bytes), " or raise memory.device_bytes"));
  }
  return plan;
}

}  // namespace angel_ptm
