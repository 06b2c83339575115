#include <algorithm>
#include <utility>
#include <vector>

#include "angel_ptm/plan/passes.h"
#include "angel_ptm/plan/segment_builder.h"

namespace angel_ptm {

void AddSweeps(const Graph& graph, int64_t early_host_bytes, int prefetch_steps, Plan& plan) {
  constexpr int kHost = static_cast<int>(TierKind::kHost);
  const int64_t base = AlignedUp(TierKind::kFile, plan.arena_bytes[kHost]);
  const int64_t early_bytes = (early_host_bytes - base) / 16 * 15;  // the rest for holes
  int64_t most = 0;
  for (UnitId unit = 0; unit < static_cast<UnitId>(graph.units().size()); ++unit) {
    for (const int parity : {0, 1}) {
      Segment sweep = BuildSweep(graph, plan.layout, plan.fixed, unit, parity);
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
  }
  TierPeak& peak = plan.peaks[kHost];
  peak.by_class[static_cast<int>(MemoryClass::kStaging)] += most;
  peak.live_bytes += most;
  peak.bytes = plan.arena_bytes[kHost];
}

}  // namespace angel_ptm
