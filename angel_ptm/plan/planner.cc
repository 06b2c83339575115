#include "angel_ptm/plan/planner.h"

#include <algorithm>
#include <limits>
#include <numeric>
#include <optional>
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
  std::vector<StateId> states(graph.states().size());
  std::iota(states.begin(), states.end(), StateId{0});
  const auto traffic = [&](StateId s) { return graph.states()[s].touches_per_step / SizeOf(graph.states()[s].dtype); };
  std::stable_sort(states.begin(), states.end(), [&](StateId a, StateId b) { return traffic(a) > traffic(b); });
  std::vector<std::pair<UnitId, StateId>> order;
  for (StateId s : states) {
    for (UnitId u = 0; u < static_cast<UnitId>(graph.units().size()); ++u) {
      if (graph.table->HasState(u, s)) order.push_back({u, s});
    }
  }
  return order;
}

// Homes of the first `on_device` entries of the caching order are on the device, the others on the host.
Layout MakeLayout(const Graph& graph, const PlanOptions& options, size_t on_device) {
  Layout layout{.world_size = options.world_size, .zero_stage = options.zero_stage, .page_bytes = options.page_bytes};
  layout.states = graph.states();
  for (const Unit& unit : graph.units()) layout.slices.push_back(SliceUnit(unit.elements, options.world_size));
  layout.homes.resize(graph.units().size() * graph.states().size());
  for (UnitId u = 0; u < static_cast<UnitId>(graph.units().size()); ++u) {
    for (StateId s = 0; s < static_cast<StateId>(graph.states().size()); ++s) {
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
  const std::vector<int64_t> live = LiveBytes(segment, tier);
  const auto fullest = static_cast<int32_t>(std::max_element(live.begin(), live.end()) - live.begin());
  TierPeak peak;
  for (const Region& region : segment.regions) {
    if (region.range.tier != tier || (!region.permanent && region.first_step == kNone)) continue;
    peak.bytes = std::max(peak.bytes, region.range.offset + region.range.bytes);
    if (!region.permanent && (region.first_step > fullest || region.last_step < fullest)) continue;
    peak.by_class[static_cast<int>(region.memory_class)] += region.range.bytes;
    peak.live_bytes += region.range.bytes;
  }
  return peak;
}

int64_t MostLiveBytes(const Segment& segment) {
  const std::vector<int64_t> live = LiveBytes(segment, TierKind::kDevice);
  return live.empty() ? 0 : *std::max_element(live.begin(), live.end());
}

// Pages of parameters and gradients, which an update moves if they rest on the device and the optimizer's states on the
// host: the plan has some steps for each, about 1 KiB in all.
constexpr int64_t kPagesMax = int64_t{1} << 20;

absl::Status CheckPageCount(const Graph& graph, const Layout& layout) {
  const auto pages_of = [&](int64_t page_bytes) {
    int64_t pages = 0;
    for (const Home& home : layout.homes) {
      if (home.state == kParameterState || home.state == kGradientState) {
        pages += (home.range.bytes + page_bytes - 1) / page_bytes;
      }
    }
    return pages;
  };
  const int64_t pages = pages_of(layout.page_bytes);
  if (pages <= kPagesMax) return absl::OkStatus();
  int64_t enough = layout.page_bytes;
  while (pages_of(enough) > kPagesMax && enough < int64_t{1} << 40) enough *= 2;
  return absl::InvalidArgumentError(absl::StrCat("graph ", graph.name, ": memory.page_bytes is ", layout.page_bytes,
                                                 ", which cuts a rank's parameters and gradients into ", pages,
                                                 " pages, a plan moves at most ", kPagesMax,
                                                 ": set memory.page_bytes=", enough, " or more"));
}

// One way to plan. Candidates are chosen by arithmetic on live bytes; whether holes between buffers break one shows
// when its buffers are placed.
struct Candidate {
  Layout layout;
  bool may_offload = false;
  int64_t live_bytes_max = 0;  // of transient buffers at any step
};

// The share of Candidate::live_bytes_max up to which buffers arrive early, or linger, in percent. Less leaves room for
// holes where that matters: it is at the fullest steps that nothing comes early then.
constexpr int64_t kMuchEarly = 100, kLessEarly = 80, kNothingEarly = 0;

class Planner {
 public:
  Planner(const Graph& graph, const BackendFacts& facts, const PlanOptions& options, const Layout* layout)
      : graph_(graph), facts_(facts), options_(options), given_layout_(layout) {}

  absl::StatusOr<Plan> Make(int64_t* least_device_bytes);

 private:
  // What the tightest candidate needs, and how it is found again.
  struct Tightest {
    int64_t device_bytes = 0;
    int64_t live_bytes_max = 0;
  };

  bool HasUpdate() const { return graph_.update_begin < static_cast<OpId>(graph_.ops.size()); }
  size_t AllHomes() const { return graph_.units().size() * graph_.states().size(); }
  int64_t Budget() const { return BudgetOr(options_.device_bytes); }
  Layout LayoutWith(size_t on_device) const {
    return given_layout_ != nullptr ? *given_layout_ : MakeLayout(graph_, options_, on_device);
  }
  // The end of homes and fixed places, where transients begin.
  int64_t Base(const Layout& layout, std::vector<MemoryRange>& fixed) const {
    return PlaceFixed(graph_, layout.home_bytes[static_cast<int>(TierKind::kDevice)], fixed);
  }
  int64_t Base(const Layout& layout) const {
    std::vector<MemoryRange> fixed;
    return Base(layout, fixed);
  }
  Segment Natural(bool update, const Layout& layout) const {
    std::vector<MemoryRange> fixed;
    Base(layout, fixed);
    return update ? BuildUpdate(graph_, layout, fixed) : BuildMicroStep(graph_, layout, fixed, facts_);
  }
  // What may be live of the budget above `base`, if holes take one part in `parts` of that (0: none).
  int64_t LiveBytesMax(int64_t base, int parts) const {
    return parts == 0 ? Budget() - base : (Budget() - base) / (parts + 1) * parts;
  }

  bool FitsByArithmetic(bool update, size_t on_device, int parts) const;
  std::optional<size_t> MostHomes(int parts) const;
  Candidate CandidateFor(int parts) const;
  Tightest FindTightest();
  bool PlaceSegment(const Candidate& candidate, int64_t early_percent, Segment& segment) const;
  std::optional<Plan> Place(const Candidate& candidate, int64_t early_percent);
  std::optional<Plan> FirstThatFits(const Candidate& candidate, std::initializer_list<int64_t> early_percents);
  absl::Status Refusal(const Tightest& tightest) const;
  std::string WhyTooSmall(const Tightest& tightest) const;

  const Graph& graph_;
  const BackendFacts& facts_;
  const PlanOptions& options_;
  const Layout* const given_layout_;
};

bool Planner::FitsByArithmetic(bool update, size_t on_device, int parts) const {
  const Layout layout = LayoutWith(on_device);
  const int64_t most = LiveBytesMax(Base(layout), parts);
  return most >= 0 && MostLiveBytes(Natural(update, layout)) <= most;
}

// How many homes, in caching order, may be on the device while all activations stay. A home there takes at least the
// bytes that its fetched copy takes elsewhere, so what is needed grows with their number.
std::optional<size_t> Planner::MostHomes(int parts) const {
  size_t most = AllHomes();
  for (const bool update : {false, true}) {
    if (update && !HasUpdate()) break;
    if (FitsByArithmetic(update, most, parts)) continue;
    if (!FitsByArithmetic(update, 0, parts)) return std::nullopt;
    size_t fits = 0;
    while (most - fits > 1) {
      const size_t middle = fits + (most - fits) / 2;
      (FitsByArithmetic(update, middle, parts) ? fits : most) = middle;
    }
    most = fits;
  }
  return most;
}

// As much state on the device as fits; only if none does do activations move.
Candidate Planner::CandidateFor(int parts) const {
  Candidate candidate;
  const std::optional<size_t> on_device = given_layout_ != nullptr ? std::nullopt : MostHomes(parts);
  candidate.layout = LayoutWith(on_device.value_or(0));
  candidate.may_offload = !on_device.has_value();
  candidate.live_bytes_max = LiveBytesMax(Base(candidate.layout), parts);
  return candidate;
}

// The candidate that needs least: all state on the host, every activation too as soon as a byte is short, nothing
// early. Where it has holes, more room for activations that stay may make up for it.
Planner::Tightest Planner::FindTightest() {
  const Layout layout = LayoutWith(0);
  const int64_t base = Base(layout);
  const Segment micro_step = Natural(/*update=*/false, layout);
  Segment update = HasUpdate() ? Natural(/*update=*/true, layout) : Segment();
  // Of an update nothing can leave.
  const int64_t least_live = std::max(LeastLiveBytes(graph_, micro_step), MostLiveBytes(update));
  const int64_t update_end = PackRegions(update, TierKind::kDevice, base, base + least_live);
  Tightest tightest;
  for (const int64_t percent : {0, 1, 2, 4, 8}) {
    const int64_t live_bytes_max = least_live + least_live / 100 * percent;
    Segment segment = micro_step;
    APTM_CHECK(OffloadActivations(graph_, segment, live_bytes_max, options_.page_bytes).ok());
    const int64_t end = std::max(update_end, PackRegions(segment, TierKind::kDevice, base, base + least_live));
    if (percent == 0 || end < tightest.device_bytes) tightest = {end, live_bytes_max};
    if (tightest.device_bytes <= base + least_live + least_live / 100 * (percent + 1)) break;
  }
  tightest.device_bytes = (tightest.device_bytes + 4095) / 4096 * 4096;
  return tightest;
}

// Gives the segment, in natural order before, addresses. False if it does not stay within the budget.
bool Planner::PlaceSegment(const Candidate& candidate, int64_t early_percent, Segment& segment) const {
  if (MostLiveBytes(segment) > candidate.live_bytes_max) {
    if (!candidate.may_offload) return false;
    const absl::Status fits = OffloadActivations(graph_, segment, candidate.live_bytes_max, options_.page_bytes);
    if (!fits.ok()) return false;
  }
  if (early_percent > 0) {
    StartEarly(graph_, segment, candidate.live_bytes_max / 100 * early_percent,
               std::min(options_.prefetch_steps, kPrefetchStepsMax));
  }
  if (PackRegions(segment, TierKind::kDevice, Base(candidate.layout), Budget()) > Budget()) return false;
  PackRegions(segment, TierKind::kHost, candidate.layout.home_bytes[static_cast<int>(TierKind::kHost)], kUnlimited);
  OrderSteps(graph_, segment);
  return true;
}

std::optional<Plan> Planner::Place(const Candidate& candidate, int64_t early_percent) {
  if (candidate.live_bytes_max < 0) return std::nullopt;
  Plan plan;
  plan.layout = candidate.layout;
  Base(plan.layout, plan.fixed);
  plan.segments.push_back(Natural(/*update=*/false, plan.layout));
  if (HasUpdate()) {
    plan.segments.push_back(Natural(/*update=*/true, plan.layout));
    plan.segments.push_back(Join(plan.segments[kUpdateSegment], plan.segments[kMicroStepSegment]));
  }
  for (size_t i = 0; i < plan.segments.size(); ++i) {
    if (PlaceSegment(candidate, early_percent, plan.segments[i])) continue;
    // Both at once need no more at any step than the two apart, but may have more holes: then they are played apart.
    if (i != kJoinedSegment) return std::nullopt;
    plan.segments.pop_back();
  }
  plan.programs = MakePrograms(plan.segments);
  for (int t = 0; t < kTierCount; ++t) {
    plan.arena_bytes[t] = plan.layout.home_bytes[t];
    for (const Segment& segment : plan.segments) {
      const TierPeak peak = PeakOf(segment, static_cast<TierKind>(t));
      if (peak.live_bytes > plan.peaks[t].live_bytes) plan.peaks[t] = peak;
      plan.arena_bytes[t] = std::max(plan.arena_bytes[t], peak.bytes);
    }
    plan.peaks[t].bytes = plan.arena_bytes[t];
  }
  return plan;
}

std::optional<Plan> Planner::FirstThatFits(const Candidate& candidate, std::initializer_list<int64_t> early_percents) {
  for (const int64_t early_percent : early_percents) {
    if (std::optional<Plan> plan = Place(candidate, early_percent)) return plan;
  }
  return std::nullopt;
}

// "homes take ...", "computing x (Op) needs ..." or, if only holes are to blame, "buffers with the holes ...".
std::string Planner::WhyTooSmall(const Tightest& tightest) const {
  const Layout layout = LayoutWith(0);
  const int64_t home_bytes = layout.home_bytes[static_cast<int>(TierKind::kDevice)];
  const int64_t base = Base(layout), left = Budget() - base;
  if (left < 0) {
    return absl::StrCat("homes take ", FormatBytes(home_bytes),
                        " of device memory and inputs, outputs and caches take ", FormatBytes(base - home_bytes));
  }
  for (const bool update : {false, true}) {
    if (update && !HasUpdate()) continue;
    Segment segment = Natural(update, layout);
    const absl::Status fits = OffloadActivations(graph_, segment, left, options_.page_bytes);
    if (!fits.ok()) return std::string(fits.message());
  }
  return absl::StrCat("buffers with the holes between them need ", FormatBytes(tightest.device_bytes - base),
                      " of device memory at once, ", FormatBytes(left), " are left for them");
}

absl::Status Planner::Refusal(const Tightest& tightest) const {
  const int64_t least = tightest.device_bytes, given = options_.device_bytes;
  return absl::ResourceExhaustedError(absl::StrCat("graph ", graph_.name, " does not fit: memory.device_bytes is ",
                                                   FormatBytes(given), " (", given, "), the least that works is ",
                                                   FormatBytes(least), " (", least, "), ", FormatBytes(least - given),
                                                   " more; ", WhyTooSmall(tightest)));
}

absl::StatusOr<Plan> Planner::Make(int64_t* least_device_bytes) {
  if (given_layout_ == nullptr && FitsByArithmetic(false, AllHomes(), 0) && FitsByArithmetic(true, AllHomes(), 0)) {
    const Layout layout = LayoutWith(AllHomes());
    std::optional<Plan> plan = Place({layout, false, LiveBytesMax(Base(layout), 0)}, kMuchEarly);
    if (plan.has_value()) return *std::move(plan);
  }
  // Below what the tightest candidate needs nothing is tried, above it that candidate is there to fall back on: so
  // whether a budget works does not depend on where the holes of other candidates happen to be.
  RETURN_IF_ERROR(CheckPageCount(graph_, LayoutWith(0)));
  const Tightest tightest = FindTightest();
  if (Budget() < tightest.device_bytes) {
    if (least_device_bytes != nullptr) *least_device_bytes = tightest.device_bytes;
    return Refusal(tightest);
  }
  std::optional<Plan> plan = FirstThatFits(CandidateFor(32), {kMuchEarly, kLessEarly});
  if (!plan.has_value()) plan = FirstThatFits(CandidateFor(8), {kLessEarly, kNothingEarly});
  if (!plan.has_value()) {
    plan = FirstThatFits({LayoutWith(0), true, tightest.live_bytes_max}, {kLessEarly, kNothingEarly});
  }
  APTM_CHECK(plan.has_value(), "graph ", graph_.name, " in ", Budget(), " bytes");
  return *std::move(plan);
}

}  // namespace

absl::StatusOr<Plan> MakePlan(const Graph& graph, const BackendFacts& facts, const PlanOptions& options,
                              const Layout* layout, int64_t* least_device_bytes) {
  APTM_CHECK(facts.op_workspace_bytes.size() == graph.ops.size() &&
             facts.reduce_scratch_bytes.size() == graph.units().size());
  APTM_CHECK(layout == nullptr || layout->states == graph.states(), "graph ", graph.name,
             " has other states than the layout");
  ASSIGN_OR_RETURN(Plan plan, Planner(graph, facts, options, layout).Make(least_device_bytes));
  // As little as possible rests on the host already: whatever fits is at home on the device.
  const int64_t host = plan.arena_bytes[static_cast<int>(TierKind::kHost)];
  if (host > BudgetOr(options.host_bytes)) {
    return absl::ResourceExhaustedError(
        absl::StrCat("graph ", graph.name, " does not fit: it needs ", FormatBytes(host), " of host memory (", host,
                     " bytes), memory.host_bytes is ", FormatBytes(options.host_bytes), ": raise it by ",
                     FormatBytes(host - options.host_bytes), " or raise memory.device_bytes"));
  }
  return plan;
}

}  // namespace angel_ptm
