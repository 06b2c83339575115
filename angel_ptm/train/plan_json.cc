#include "angel_ptm/train/plan_json.h"

#include <map>
#include <nlohmann/json.hpp>
#include <utility>

#include "absl/strings/str_format.h"
#include "angel_ptm/model/cost.h"
#include "angel_ptm/plan/plan_text.h"
#include "angel_ptm/train/task.h"

namespace angel_ptm {
namespace {

using Json = nlohmann::ordered_json;

Json TiersOf(const Plan& plan) {
  Json tiers = Json::array();
  for (const TierKind tier : kAllTiers) {
    const TierPeak& peak = plan.peaks[static_cast<int>(tier)];
    Json classes = Json::object();
    for (int c = 0; c < kMemoryClassCount; ++c) {
      if (peak.by_class[c] > 0) classes[Name(static_cast<MemoryClass>(c))] = peak.by_class[c];
    }
    tiers.push_back({{"tier", Name(tier)},
                     {"arena_bytes", plan.arena_bytes[static_cast<int>(tier)]},
                     {"home_bytes", plan.layout.home_bytes[static_cast<int>(tier)]},
                     {"peak_live_bytes", peak.live_bytes},
                     {"peak_bytes_by_class", classes},
                     {"holes_share", PackingLoss(plan, tier)}});
  }
  return tiers;
}

Json CollectivesJson(const Graph& graph, const Segment& segment) {
  std::map<std::pair<std::string, std::string>, std::pair<int64_t, int64_t>> totals;  // count, bytes
  for (const Step& step : segment.steps) {
    if (ExchangedBytes(step) == 0 && step.kind != StepKind::kNorm) continue;
    const std::string kind = IsExchange(step) ? Name(graph.ops[step.op].kind) : Name(step.kind);
    auto& [count, bytes] = totals[{kind, step.unit == kNone ? "" : graph.states()[step.state].name}];
    ++count;
    bytes += ExchangedBytes(step);
  }
  Json collectives = Json::array();
  for (const auto& [what, total] : totals) {
    collectives.push_back(
        {{"kind", what.first}, {"state", what.second}, {"count", total.first}, {"bytes", total.second}});
  }
  return collectives;
}

Json SegmentJson(const Graph& graph, const Segment& segment) {
  Json moved = Json::object();
  for (const Step& step : segment.steps) {
    if (step.kind != StepKind::kMove) continue;
    Json& bytes = moved[Name(step.lane)];
    bytes = (bytes.is_null() ? 0 : bytes.get<int64_t>()) + step.dst.bytes;
  }
  return {{"steps", segment.steps.size()},
          {"moved_bytes_by_lane", moved},
          {"collectives", CollectivesJson(graph, segment)}};
}

Json PlanObject(const Plan& plan) {
  return {{"digest", absl::StrFormat("%016x", Hash(plan))},
          {"plan_bytes", PlanBytes(plan)},
          {"host_bytes_of_file", HostBytesOfFile(plan)},
          {"tiers", TiersOf(plan)}};
}

Json PredictionJson(const StepPrediction& p) {
  Json lanes = Json::object();
  for (int l = 0; l < kLaneCount; ++l) {
    if (p.time.busy[l] == 0) continue;
    lanes[Name(static_cast<Lane>(l))] = {
        {"busy_seconds", p.time.busy[l]}, {"critical_seconds", p.time.critical[l]}, {"bytes", p.time.bytes[l]}};
  }
  return {{"step_seconds", p.time.seconds},
          {"tokens_per_second", p.tokens_per_second},
          {"mfu", p.mfu},
          {"file_bytes_per_day_of_node", p.file_bytes_per_day},
          {"lanes", lanes}};
}

}  // namespace

std::string PlanJson(const RunPlan& run, int threads, std::optional<int64_t> least_device_bytes,
                     const StepPrediction* prediction) {
  const Layout& layout = run.training_plan.layout;
  Json training = PlanObject(run.training_plan);
  for (const auto& [key, segment] : {std::pair("micro_step", kMicroStepSegment), std::pair("update", kUpdateSegment)}) {
    training[key] = SegmentJson(run.training, run.training_plan.segments[segment]);
  }
  Json document = {{"parameters", run.training.table->ParameterCount()},
                   {"model_flops_per_micro_step", ModelFlops(run.training)},
                   {"ranks", layout.world_size},
                   {"ranks_per_node", layout.world().ranks_per_node},
                   {"expert_degree", layout.expert_degree},
                   {"threads_per_rank", threads},
                   {"zero_stage", layout.zero_stage},
                   {"page_bytes", layout.page_bytes},
                   {"blocks", run.task->recomputable_blocks()},
                   {"recomputed_blocks", run.recomputed_blocks},
                   {"least_device_bytes", least_device_bytes ? Json(*least_device_bytes) : Json()},
                   {"training", training},
                   {"evaluation", PlanObject(run.evaluation_plan)}};
  for (int64_t b = 1; b < run.task->bucket_count(); ++b) {
    document["buckets"][run.task->BucketName(b)] = PlanObject(run.training_plan_of(b));
  }
  for (const RunPlan::Played& played : run.played()) {
    if (played.name.starts_with("sampling")) document[played.name] = PlanObject(*played.plan);
  }
  if (prediction != nullptr) document["prediction"] = PredictionJson(*prediction);
  return document.dump(2) + "\n";
}

}  // namespace angel_ptm
