#include "angel_ptm/plan/homes.h"

#include <algorithm>
#include <numeric>

#include "absl/strings/str_cat.h"
#include "angel_ptm/base/check.h"
#include "angel_ptm/model/lock_free.h"
#include "angel_ptm/plan/passes.h"

namespace angel_ptm {
namespace {

// The limit on pages of parameters and gradients. An update moves them if they rest on the device and the optimizer's
// states on the host; the plan then has several steps for each page, about 1 KiB in total.
constexpr int64_t kPagesMax = int64_t{1} << 20;

}  // namespace

std::vector<std::pair<UnitId, StateId>> CachingOrder(const Graph& graph, const Layout& layout) {
  std::vector<StateId> states(graph.states().size());
  std::iota(states.begin(), states.end(), StateId{0});
  const auto traffic = [&](StateId s) { return graph.states()[s].touches_per_step / SizeOf(graph.states()[s].dtype); };
  std::stable_sort(states.begin(), states.end(), [&](StateId a, StateId b) { return traffic(a) > traffic(b); });
  std::vector<std::pair<UnitId, StateId>> order;
  for (StateId s : states) {
    if (graph.states()[s].on_host || layout.shares_place(s)) continue;
    for (UnitId u = 0; u < static_cast<UnitId>(graph.units().size()); ++u) {
      if (graph.table->HasState(u, s)) order.push_back({u, s});
    }
  }
  return order;
}

Layout LayoutWithoutHomes(const Graph& graph, const WorldShape& world, int zero_stage) {
  Layout layout{.world_size = world.size,
                .zero_stage = zero_stage,
                .ranks_per_node = world.ranks_per_node,
                .expert_degree = world.expert_degree,
                .states = graph.states()};
  for (const Unit& unit : graph.units()) {
    UnitSlices& slices = layout.slices.emplace_back(SliceUnit(unit.elements, world.size));
    if (!unit.is_experts) continue;
    APTM_CHECK(PartsAreWhole(unit.elements, world), unit.name, " is cut within experts");
    slices.replicas = world.expert_replicas();
  }
  return layout;
}

Layout MakeLayout(const Graph& graph, const PlanOptions& options, const HomeCounts& counts) {
  Layout layout = LayoutWithoutHomes(graph, {options.world_size, options.ranks_per_node, options.expert_degree},
                                     options.zero_stage);
  layout.page_bytes = options.page_bytes;
  layout.homes.resize(graph.units().size() * graph.states().size());
  for (UnitId u = 0; u < static_cast<UnitId>(graph.units().size()); ++u) {
    for (StateId s = 0; s < static_cast<StateId>(graph.states().size()); ++s) {
      layout.homes[layout.HomeIndex(u, s)] = {.unit = u, .state = s};
    }
  }
  const auto place = [&](UnitId unit, StateId state, TierKind tier) {
    Home& home = layout.homes[layout.HomeIndex(unit, state)];
    home.elements = layout.sharded(unit, state) ? layout.slices[unit].slice_elements : layout.whole_elements(unit);
    int64_t& end = layout.home_bytes[static_cast<int>(tier)];
    home.range = {tier, end, layout.bytes(state, home.elements)};
    end = (end + home.range.bytes + kHomeAlignment - 1) / kHomeAlignment * kHomeAlignment;
  };
  const auto order = CachingOrder(graph, layout);
  for (size_t i = 0; i < order.size(); ++i) place(order[i].first, order[i].second, counts.TierOf(i));
  const LockFreeRows rows = FindLockFreeRows(graph.states());
  for (UnitId u = 0; rows && u < static_cast<UnitId>(graph.units().size()); ++u) {
    if (graph.table->HasState(u, rows.mailbox)) place(u, rows.mailbox, TierKind::kHost);
  }
  if (rows) PlaceSharedHomes(graph, options.sweep_rounds, layout);
  for (Home& home : layout.homes) {
    if (!layout.shares_place(home.state) || !graph.table->HasState(home.unit, home.state)) continue;
    const Home& shared = layout.home(home.unit, layout.states[home.state].takes_place_of);
    home.elements = shared.elements;
    home.range = shared.range;
  }
  return layout;
}

int64_t PlaceFixed(const Graph& graph, int64_t begin, std::vector<MemoryRange>& fixed) {
  fixed.assign(graph.tensors.size(), {});
  for (size_t t = 0; t < graph.tensors.size(); ++t) {
    const TensorClass c = graph.tensors[t].tensor_class;
    if (c != TensorClass::kInput && c != TensorClass::kOutput && c != TensorClass::kCache) continue;
    fixed[t] = {TierKind::kDevice, begin, graph.tensors[t].bytes()};
    begin = AlignedUp(TierKind::kDevice, begin + fixed[t].bytes);
  }
  return begin;
}

absl::Status CheckPageCount(const Graph& graph, const Layout& layout) {
  const auto pages_of = [&](int64_t page_bytes) {
    int64_t pages = 0;
    for (const Home& home : layout.homes) {
      if (home.state == kParameterState || (home.state == kGradientState && !layout.shares_place(home.state))) {
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

}  // namespace angel_ptm
