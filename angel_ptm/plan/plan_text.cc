#include "angel_ptm/plan/plan_text.h"

#include <algorithm>
#include <map>
#include <set>
#include <utility>
#include <vector>

#include "absl/strings/str_cat.h"
#include "absl/strings/str_format.h"
#include "angel_ptm/base/text.h"

namespace angel_ptm {
namespace {

const TierPeak& PeakOf(const Plan& plan, TierKind tier) { return plan.peaks[static_cast<int>(tier)]; }

// The tiers to report; the file only if it holds something.
std::vector<TierKind> TiersToTell(const Plan& plan) {
  std::vector<TierKind> tiers = {TierKind::kDevice, TierKind::kHost};
  if (plan.arena_bytes[static_cast<int>(TierKind::kFile)] > 0) tiers.push_back(TierKind::kFile);
  return tiers;
}

std::string Row(std::string_view title, const std::vector<std::string>& cells) {
  std::string text = absl::StrFormat("%-22s", std::string(title));
  for (const std::string& cell : cells) absl::StrAppendFormat(&text, "%14s", cell);
  return text + "\n";
}

std::string BytesOrDash(int64_t bytes) { return bytes == 0 ? "-" : FormatBytes(bytes); }

// What a lane did in a segment.
struct LaneTotals {
  std::map<std::pair<StepKind, bool>, int64_t> steps;  // by kind, and whether it is an exchange
  int64_t bytes = 0;                                   // copied by moves, or exchanged as whole vectors by collectives
};

std::array<LaneTotals, kLaneCount> TotalsOf(const Segment& segment) {
  std::array<LaneTotals, kLaneCount> totals;
  for (const Step& step : segment.steps) {
    LaneTotals& lane = totals[static_cast<int>(step.lane)];
    ++lane.steps[{step.kind, IsExchange(step)}];
    lane.bytes += step.kind == StepKind::kMove ? step.dst.bytes : ExchangedBytes(step);
  }
  return totals;
}

// "program step, next begun: micro-step for each micro-batch, update + micro-step once"
std::string ProgramText(const Plan& plan, const Program& program) {
  std::string text = absl::StrCat("program ", program.name, ":");
  for (const Play& play : program.plays) {
    static constexpr const char* kTimes[] = {"once", "for each micro-batch", "for each micro-batch but the first"};
    absl::StrAppend(&text, text.back() == ':' ? " " : ", ", plan.segments[play.segment].name, " ",
                    kTimes[static_cast<int>(play.times)]);
  }
  return text + "\n";
}

std::string SegmentSummary(const Graph& graph, const Segment& segment) {
  std::string text = absl::StrCat(segment.name, ": ", segment.steps.size(), " steps\n");
  const auto totals = TotalsOf(segment);
  for (int l = 0; l < kLaneCount; ++l) {
    if (totals[l].steps.empty()) continue;
    std::string kinds;
    for (const auto& [kind, count] : totals[l].steps) {
      absl::StrAppend(&kinds, kinds.empty() ? "" : ", ", count, " ", kind.second ? "exchange" : Name(kind.first));
    }
    absl::StrAppendFormat(&text, "  %-14s%12s  %s\n", Name(static_cast<Lane>(l)), BytesOrDash(totals[l].bytes), kinds);
  }
  struct Total {
    int64_t count = 0, bytes = 0;
    std::set<UnitId> units;
  };
  std::map<std::string, Total> collectives;  // by description
  for (const Step& step : segment.steps) {
    if (ExchangedBytes(step) == 0) continue;
    Total& total = collectives[IsExchange(step) ? absl::StrCat(Name(graph.ops[step.op].kind), " of tokens")
                                                : absl::StrCat(Name(step.kind), " ", graph.states()[step.state].name)];
    ++total.count;
    total.bytes += ExchangedBytes(step);
    if (!IsExchange(step) && step.unit != kNone) total.units.insert(step.unit);
  }
  for (const auto& [what, total] : collectives) {
    const std::string units =
        total.units.empty() ? "" : " of " + Counted(static_cast<int64_t>(total.units.size()), "unit");
    absl::StrAppend(&text, "  ", total.count, " times ", what, units, ": ", FormatBytes(total.bytes), "\n");
  }
  return text;
}

// "device[4096+256]" or, in the rank's own slice, "device[4096+1024*rank+256]".
std::string PlaceText(const Layout& layout, const Segment& segment, const Place& place) {
  if (place.region == kNone) return "-";
  const Region& region = segment.regions[place.region];
  const int64_t first = layout.OffsetOf(region, place, 0);
  const std::string own = place.own ? absl::StrCat(layout.OffsetOf(region, place, 1) - first, "*rank+") : "";
  return absl::StrCat(Name(region.range.tier), "[", first, "+", own, place.bytes, "]");
}

std::string StepText(const Graph& graph, const Layout& layout, const Segment& segment, const Step& step) {
  const auto text_of = [&](const Place& place) { return PlaceText(layout, segment, place); };
  std::string text = absl::StrFormat("%-12s %-14s", Name(step.lane), Name(step.kind));
  if (step.kind == StepKind::kCompute) {
    absl::StrAppend(&text, " ", Name(graph.ops[step.op].phase), " ", Name(graph.ops[step.op].kind));
  } else if (step.unit != kNone) {
    absl::StrAppend(&text, " ", graph.units()[step.unit].name);
    if (step.kind != StepKind::kUpdate) absl::StrAppend(&text, " ", graph.states()[step.state].name);
  } else if (step.kind == StepKind::kMove) {
    absl::StrAppend(&text, " ", segment.regions[step.src.region].label);
  }
  if (step.count > 0) absl::StrAppend(&text, step.own ? " own elements " : " elements ", step.begin, "+", step.count);
  if (step.page_count > 0) absl::StrAppend(&text, " pages ", step.first_page, "+", step.page_count);
  if (step.src.region != kNone) absl::StrAppend(&text, " ", text_of(step.src));
  if (step.dst.region != kNone) absl::StrAppend(&text, " -> ", text_of(step.dst));
  if (step.scratch.region != kNone) absl::StrAppend(&text, " scratch ", text_of(step.scratch));
  if (step.when == When::kAccumulating) absl::StrAppend(&text, " if accumulating");
  const size_t inputs = step.kind == StepKind::kCompute ? graph.ops[step.op].inputs.size() : step.operands.size();
  for (size_t i = 0; i < step.operands.size(); ++i) {
    absl::StrAppend(&text, i == inputs ? " -> " : " ", text_of(step.operands[i]));
  }
  for (int l = 0; l < kLaneCount; ++l) {
    if (step.waits[l] > 0) absl::StrAppend(&text, " after ", Name(static_cast<Lane>(l)), " ", step.waits[l]);
  }
  return text;
}

}  // namespace

std::string StepName(const Graph& graph, const Segment& segment, const Step& step) {
  if (step.kind == StepKind::kCompute) {
    const Op& op = graph.ops[step.op];
    return absl::StrCat(Name(op.phase), " ", Name(op.kind), " ", graph.tensors[NamingOutput(op)].name);
  }
  if (step.kind == StepKind::kNorm) return "gradient norm";
  // Activations and micro-batch gradients, which belong to no unit's state.
  if (step.unit == kNone) return absl::StrCat("move ", segment.regions[step.src.region].label);
  return absl::StrCat(Name(step.kind), " ", graph.units()[step.unit].name, " ", graph.states()[step.state].name);
}

double PackingLoss(const Plan& plan, TierKind tier) {
  const int64_t arena = plan.arena_bytes[static_cast<int>(tier)];
  if (arena == 0) return 0;
  return 1 - static_cast<double>(PeakOf(plan, tier).live_bytes) / static_cast<double>(arena);
}

int64_t PlanBytes(const Plan& plan) {
  constexpr size_t kHeapHeader = 16;
  size_t bytes = plan.layout.homes.capacity() * sizeof(Home) + plan.fixed.capacity() * sizeof(MemoryRange);
  const auto add = [&](const Segment& segment) {
    bytes += segment.regions.capacity() * sizeof(Region) + segment.steps.capacity() * sizeof(Step);
    for (const Region& region : segment.regions) {
      const bool inside = region.label.capacity() < sizeof(std::string) / 2;
      bytes += inside ? 0 : region.label.capacity() + kHeapHeader;
    }
    for (const Step& step : segment.steps) {
      bytes += step.operands.empty() ? 0 : step.operands.capacity() * sizeof(Place) + kHeapHeader;
    }
  };
  for (const Segment& segment : plan.segments) add(segment);
  for (const Segment& sweep : plan.sweeps) add(sweep);
  return static_cast<int64_t>(bytes);
}

int64_t HostBytesOfFile(const Plan& plan) {
  const TierSpec& file = SpecOf(TierKind::kFile);
  const int64_t bytes = plan.arena_bytes[static_cast<int>(TierKind::kFile)];
  return bytes == 0 ? 0 : bytes / file.alignment * file.checksum_bytes + file.buffer_bytes;
}

int64_t BytesPerParameter(const Layout& layout) {
  int64_t bytes = 0;
  for (StateId s = 0; s < static_cast<StateId>(layout.states.size()); ++s) {
    if (!layout.shares_place(s)) bytes += layout.bytes(s, 1);
  }
  return bytes;
}

std::string MemoryTable(const Plan& plan) {
  const std::vector<TierKind> tiers = TiersToTell(plan);
  const auto fill = [&](auto&& cell) {
    std::vector<std::string> cells;
    for (TierKind tier : tiers) cells.push_back(cell(tier));
    return cells;
  };
  std::string text = Row("memory of a rank", fill([](TierKind t) { return std::string(Name(t)); }));
  for (int c = 0; c < kMemoryClassCount; ++c) {
    const auto used = [&](TierKind tier) { return PeakOf(plan, tier).by_class[c] > 0; };
    if (std::none_of(kAllTiers.begin(), kAllTiers.end(), used)) continue;
    text += Row(Name(static_cast<MemoryClass>(c)),
                fill([&](TierKind t) { return BytesOrDash(PeakOf(plan, t).by_class[c]); }));
  }
  text += Row("total at the peak", fill([&](TierKind t) { return BytesOrDash(PeakOf(plan, t).live_bytes); }));
  text += Row("holes", fill([&](TierKind t) { return absl::StrFormat("%.1f %%", 100 * PackingLoss(plan, t)); }));
  text += Row("arena", fill([&](TierKind t) { return BytesOrDash(plan.arena_bytes[static_cast<int>(t)]); }));
  text +=
      Row("the same in bytes", fill([&](TierKind t) { return absl::StrCat(plan.arena_bytes[static_cast<int>(t)]); }));
  const auto on_host = [&](int64_t bytes) {
    return fill([&](TierKind t) { return t == TierKind::kHost ? FormatBytes(bytes) : std::string("-"); });
  };
  if (const int64_t bytes = HostBytesOfFile(plan); bytes > 0) text += Row("file's checksums, buffer", on_host(bytes));
  text += Row("and the plan itself", on_host(PlanBytes(plan)));
  return text;
}

std::string PlanSummary(const Graph& graph, const Plan& plan) {
  std::string text = absl::StrCat(
      "plan of graph ", graph.name, ": every rank of ", plan.layout.world_size,
      plan.layout.world().has_nodes() ? absl::StrCat(" (", plan.layout.ranks_per_node, " a node)") : "",
      plan.layout.expert_degree > 1 ? absl::StrCat(", experts split over ", plan.layout.expert_degree) : "", ", stage ",
      plan.layout.zero_stage, ", pages of ", FormatBytes(plan.layout.page_bytes), ", digest ",
      absl::StrFormat("%016x", Hash(plan)), "\n");
  for (const Segment& segment : plan.segments) text += SegmentSummary(graph, segment);
  for (const Program& program : plan.programs) text += ProgramText(plan, program);
  if (!plan.sweeps.empty()) {
    size_t steps = 0;
    for (const Segment& sweep : plan.sweeps) steps += sweep.steps.size();
    absl::StrAppend(&text, "lock-free update: beside the programs sweeps of ",
                    Counted(static_cast<int64_t>(plan.sweeps.size()), "unit"), ", ", steps, " steps in all\n");
  }
  if (plan.segments.size() > kUpdateSegment) {
    absl::StrAppend(&text, "state: ", BytesPerParameter(plan.layout), " bytes a parameter");
    for (StateId s = 0; s < static_cast<StateId>(plan.layout.states.size()); ++s) {
      const StateSpec& state = plan.layout.states[s];
      absl::StrAppend(&text, s == 0 ? ": " : ", ", state.name, " ", Name(state.dtype));
      if (plan.layout.shares_place(s))
        absl::StrAppend(&text, " in the place of ", plan.layout.states[state.takes_place_of].name);
    }
    text += "\n";
  }
  for (TierKind tier : TiersToTell(plan)) {
    const int t = static_cast<int>(tier);
    absl::StrAppend(&text, Name(tier), ": ", FormatBytes(plan.arena_bytes[t]), " reserved, ",
                    FormatBytes(plan.layout.home_bytes[t]), " of it homes; packing loss ",
                    absl::StrFormat("%.1f %%", 100 * PackingLoss(plan, tier)), "\n");
  }
  return text;
}

std::string PlanListing(const Graph& graph, const Plan& plan) {
  std::string text;
  std::vector<const Segment*> all;
  for (const Segment& segment : plan.segments) all.push_back(&segment);
  for (const Segment& sweep : plan.sweeps) all.push_back(&sweep);
  for (const Segment* listed : all) {
    const Segment& segment = *listed;
    std::array<int32_t, kLaneCount> issued = {};
    absl::StrAppend(&text, segment.name, ", ", segment.steps.size(), " steps: step, number in its lane, lane, what\n");
    for (size_t i = 0; i < segment.steps.size(); ++i) {
      const Step& step = segment.steps[i];
      absl::StrAppendFormat(&text, "%6d %6d ", i, ++issued[static_cast<int>(step.lane)]);
      absl::StrAppend(&text, StepText(graph, plan.layout, segment, step), "\n");
    }
  }
  return text;
}

}  // namespace angel_ptm
