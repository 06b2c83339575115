#include <algorithm>
#include <map>
#include <utility>
#include <vector>

#include "angel_ptm/model/lock_free.h"
#include "angel_ptm/plan/passes.h"
#include "angel_ptm/plan/segment_builder.h"

namespace angel_ptm {
namespace {

// Bytes of the homes that units share, which are in no segment of a program.
int64_t SharedBytes(const Layout& layout) {
  const LockFreeRows rows = FindLockFreeRows(layout.states);
  std::map<int64_t, int64_t> most;  // by offset
  for (const Home& home : layout.homes) {
    if (rows.shared(home.state)) most[home.range.offset] = std::max(most[home.range.offset], home.range.bytes);
  }
  int64_t bytes = 0;
  for (const auto& [offset, largest] : most) bytes += largest;
  return bytes;
}

}  // namespace

void PlaceSharedHomes(const Graph& graph, int rounds, Layout& layout) {
  const LockFreeRows rows = FindLockFreeRows(layout.states);
  std::vector<UnitId> units;
  for (UnitId u = 0; u < static_cast<UnitId>(graph.units().size()); ++u) {
    if (graph.units()[u].trainable) units.push_back(u);
  }
  const size_t at_once = (units.size() + rounds - 1) / rounds;
  int64_t& end = layout.home_bytes[static_cast<int>(TierKind::kHost)];
  for (const StateId s : {rows.second_mailbox, rows.new_parameters}) {
    for (size_t slot = 0; slot < at_once; ++slot) {
      int64_t most = 0;
      for (size_t i = slot; i < units.size(); i += at_once) {
        Home& home = layout.homes[layout.HomeIndex(units[i], s)];
        home.elements =
            layout.sharded(units[i], s) ? layout.slices[units[i]].slice_elements : layout.whole_elements(units[i]);
        home.range = {TierKind::kHost, end, layout.bytes(s, home.elements)};
        most = std::max(most, home.range.bytes);
      }
      end = (end + most + kHomeAlignment - 1) / kHomeAlignment * kHomeAlignment;
    }
  }
}

void AddSweeps(const Graph& graph, int64_t early_host_bytes, int prefetch_steps, Plan& plan) {
  constexpr int kHost = static_cast<int>(TierKind::kHost);
  const int64_t base = AlignedUp(TierKind::kFile, plan.arena_bytes[kHost]);
  const int64_t early_bytes = (early_host_bytes - base) / 16 * 15;  // the rest for holes
  int64_t most = 0;
  for (UnitId unit = 0; unit < static_cast<UnitId>(graph.units().size()); ++unit) {
    Segment sweep = BuildSweep(graph, plan.layout, plan.fixed, unit);
    if (early_bytes > 0) {
      StartEarly(graph, sweep, TierKind::kHost, early_bytes, prefetch_steps);
      LeaveLate(graph, sweep, TierKind::kHost, early_bytes, prefetch_steps);
    }
    const int64_t most_live = MostLiveBytes(sweep, TierKind::kHost);
    const int64_t end = PackRegions(sweep, TierKind::kHost, base, std::max(early_host_bytes, base + most_live));
    OrderSteps(graph, sweep);
    if (most_live > 0) plan.arena_bytes[kHost] = std::max(plan.arena_bytes[kHost], end);
    most = std::max(most, most_live);
    plan.sweeps.push_back(std::move(sweep));
  }
  TierPeak& peak = plan.peaks[kHost];
  const int64_t shared = SharedBytes(plan.layout);
  peak.by_class[static_cast<int>(MemoryClass::kStaging)] += most;
  peak.by_class[static_cast<int>(MemoryClass::kMailboxes)] += shared;
  peak.live_bytes += most + shared;
  peak.bytes = plan.arena_bytes[kHost];
}

}  // namespace angel_ptm
