#include "angel_ptm/plan/plan.h"

#include "absl/strings/str_cat.h"
#include "angel_ptm/base/hash.h"

namespace angel_ptm {

const char* Name(Lane lane) {
  static constexpr const char* kNames[] = {"compute",      "comm",    "copy-in", "copy-out",
                                           "host-compute", "file-in", "file-out"};
  return kNames[static_cast<int>(lane)];
}

const LinkSpec* FindLink(TierKind from, TierKind to) {
  for (const LinkSpec& link : kLinks) {
    if (link.from == from && link.to == to) return &link;
  }
  return nullptr;
}

const char* Name(StepKind kind) {
  static constexpr const char* kNames[] = {"compute", "move",   "all-gather", "reduce-scatter",
                                           "norm",    "update", "deliver"};
  return kNames[static_cast<int>(kind)];
}

const char* Name(MemoryClass memory_class) {
  static constexpr const char* kNames[] = {"parameters",         "gradients",           "optimizer",      "mailboxes",
                                           "inputs and outputs", "gathered parameters", "unit gradients", "activations",
                                           "workspace",          "communication",       "staging"};
  return kNames[static_cast<int>(memory_class)];
}

const Program* Plan::FindProgram(bool begun, bool begins_next) const {
  for (const Program& program : programs) {
    if (program.begun == begun && program.begins_next == begins_next) return &program;
  }
  return nullptr;
}

std::vector<Program> MakePrograms(const std::vector<Segment>& segments) {
  using Times = Play::Times;
  const int32_t count = static_cast<int32_t>(segments.size());
  const Play all{kMicroStepSegment, Times::kEachMicroBatch}, rest{kMicroStepSegment, Times::kEachButFirst};
  if (count <= kUpdateSegment) return {{.name = "pass", .plays = {all}}};
  std::vector<Program> programs = {{.name = "step", .plays = {all, {kUpdateSegment}}}};
  if (count <= kJoinedSegment) return programs;
  programs.push_back({.name = "step, next begun", .begins_next = true, .plays = {all, {kJoinedSegment}}});
  programs.push_back({.name = "begun step", .begun = true, .plays = {rest, {kUpdateSegment}}});
  programs.push_back(
      {.name = "begun step, next begun", .begun = true, .begins_next = true, .plays = {rest, {kJoinedSegment}}});
  return programs;
}

int64_t ExchangedBytes(const Step& step) {
  if (step.kind == StepKind::kAllGather) return step.dst.bytes;
  if (step.kind == StepKind::kReduceScatter) return step.src.bytes;
  if (!IsExchange(step)) return 0;
  // Operands: GatherRows has x and y; SumRows has x, base, y and possibly scratch.
  return step.operands.size() == 2 ? step.operands[1].bytes : step.operands[0].bytes;
}

std::vector<PlannedCollective> CollectivesOf(const Graph& graph, const Segment& segment) {
  std::vector<PlannedCollective> collectives;
  for (const Step& step : segment.steps) {
    if (step.kind == StepKind::kAllGather || step.kind == StepKind::kReduceScatter) {
      collectives.push_back({step.kind,
                             absl::StrCat(graph.units()[step.unit].name, " ", graph.states()[step.state].name),
                             ExchangedBytes(step)});
    } else if (IsExchange(step)) {
      const Op& op = graph.ops[step.op];
      const bool gathers = op.kind == OpKind::kGatherRows;
      collectives.push_back({gathers ? StepKind::kAllGather : StepKind::kReduceScatter,
                             graph.tensors[op.outputs[0]].name, ExchangedBytes(step)});
    } else if (step.kind == StepKind::kNorm) {
      collectives.push_back({step.kind, "gradient norm", 0});
    }
  }
  return collectives;
}

namespace {

void MixPlace(Hasher& h, const Place& place) {
  h.Mix(static_cast<uint64_t>(place.region))
      .Mix(place.own)
      .Mix(static_cast<uint64_t>(place.begin))
      .Mix(static_cast<uint64_t>(place.bytes));
}

void MixRange(Hasher& h, const MemoryRange& range) {
  h.Mix(static_cast<uint64_t>(range.tier))
      .Mix(static_cast<uint64_t>(range.offset))
      .Mix(static_cast<uint64_t>(range.bytes));
}

void MixSegment(Hasher& h, const Segment& segment) {
  for (const Region& region : segment.regions) {
    MixRange(h, region.range);
    h.Mix(static_cast<uint64_t>(region.unit)).Mix(static_cast<uint64_t>(region.state));
  }
  for (const Step& step : segment.steps) {
    h.Mix(static_cast<uint64_t>(step.kind)).Mix(static_cast<uint64_t>(step.lane)).Mix(static_cast<uint64_t>(step.op));
    h.Mix(static_cast<uint64_t>(step.unit))
        .Mix(static_cast<uint64_t>(step.when))
        .Mix(step.in_update)
        .Mix(step.own)
        .Mix(static_cast<uint64_t>(step.state));
    for (const Place& place : {step.src, step.dst, step.scratch}) MixPlace(h, place);
    for (const Place& place : step.operands) MixPlace(h, place);
    h.Mix(static_cast<uint64_t>(step.begin)).Mix(static_cast<uint64_t>(step.count));
    for (int32_t wait : step.waits) h.Mix(static_cast<uint64_t>(wait));
  }
}

}  // namespace

uint64_t Hash(const Plan& plan) {
  Hasher h;
  h.Mix(static_cast<uint64_t>(plan.layout.world_size)).Mix(static_cast<uint64_t>(plan.layout.zero_stage));
  h.Mix(static_cast<uint64_t>(plan.layout.world().ranks_per_node));
  h.Mix(static_cast<uint64_t>(plan.layout.expert_degree));
  h.Mix(static_cast<uint64_t>(plan.layout.page_bytes));
  for (const Home& home : plan.layout.homes) MixRange(h, home.range);
  for (const MemoryRange& range : plan.fixed) MixRange(h, range);
  for (const Segment& segment : plan.segments) MixSegment(h, segment);
  for (const Segment& sweep : plan.sweeps) MixSegment(h, sweep);
  for (const Program& program : plan.programs) {
    h.Mix(program.begun).Mix(program.begins_next);
    for (const Play& play : program.plays) {
      h.Mix(static_cast<uint64_t>(play.segment)).Mix(static_cast<uint64_t>(play.times));
    }
  }
  return h.Digest();
}

}  // namespace angel_ptm
