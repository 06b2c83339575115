#include <algorithm>
#include <map>
#include <utility>
#include <vector>

#include "angel_ptm/model/lock_free.h"
#include "angel_ptm/plan/passes.h"
#include "angel_ptm/plan/segment_builder.h"

namespace angel_ptm {
namespace {

// Of homes that units share, which are in no program's segment.
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
    const std::vector<int64_t> live = LiveBytes(sweep, TierKind::kHost);
    const int64_t most_live = live.empty() ? 0 : *std::max_element(live.begin(), live.end());
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
