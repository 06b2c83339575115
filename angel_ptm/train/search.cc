#include "angel_ptm/train/search.h"

#include <algorithm>

#include "absl/strings/str_cat.h"
#include "absl/strings/str_format.h"
#include "absl/strings/str_join.h"
#include "angel_ptm/base/text.h"
#include "angel_ptm/plan/plan_text.h"

namespace angel_ptm {
namespace {

// The budget of one rank.
double BudgetBytes(const MemoryConfig& memory, const RunFactsForPlan& facts) {
  const double tiers = static_cast<double>(memory.device_bytes()) + static_cast<double>(memory.host_bytes());
  const double most = static_cast<double>(facts.tiers_bytes_max);
  const double file = memory.nvme().directory().empty() ? 0 : static_cast<double>(memory.nvme().bytes());
  return (facts.tiers_bytes_max == 0 ? tiers : std::min(tiers, most)) + file;
}

// The least bytes of state that a rank must keep at that stage.
double StateBytes(const ParameterTable& table, int world_size, const ShardingConfig& sharding) {
  const int zero_stage = sharding.zero_stage();
  double bytes = 0;
  for (UnitId unit = 0; unit < static_cast<UnitId>(table.units.size()); ++unit) {
    for (StateId s = 0; s < static_cast<StateId>(table.states.size()); ++s) {
      if (!table.HasState(unit, s) || SharesPlace(table.states, s, world_size, zero_stage)) continue;
      const double whole = static_cast<double>(table.units[unit].elements * SizeOf(table.states[s].dtype));
      const int parts = table.units[unit].is_experts ? sharding.expert_degree() : 1;
      bytes += whole / (IsSharded(table.states[s], zero_stage) ? world_size : parts);
    }
  }
  return bytes;
}

}  // namespace

absl::Status CheckStateBytes(const TrainConfig& config, const RunFactsForPlan& facts) {
  const double budget = BudgetBytes(config.memory(), facts);
  const double state = StateBytes(MakePlanningTask(config, facts)->parameters(), facts.world_size, config.sharding());
  if (state <= budget) return absl::OkStatus();
  return absl::ResourceExhaustedError(absl::StrCat("a rank's state takes ", FormatBytes(static_cast<int64_t>(state)),
                                                   ", all tiers have ", FormatBytes(static_cast<int64_t>(budget))));
}

namespace {

TrainConfig WithModel(const TrainConfig& config, ScaleAxis axis, int64_t steps) {
  TrainConfig scaled = config;
  *scaled.mutable_model() = ScaledModel(config.model(), axis, steps);
  return scaled;
}

absl::Status ModelFits(const TrainConfig& config, const RunFactsForPlan& facts) {
  RETURN_IF_ERROR(CheckStateBytes(config, facts));
  return TrainingFits(config, facts);
}

}  // namespace

absl::StatusOr<LargestModel> FindLargestModel(const TrainConfig& config, const Cluster& cluster,
                                              const RunFactsForPlan& facts, ScaleAxis axis, int64_t layers_max) {
  LargestModel largest;
  const int64_t steps_max = axis == ScaleAxis::kDepth ? layers_max : int64_t{1} << 20;
  int64_t too_many = 1;
  for (;; too_many *= 2) {
    const absl::Status fits = ModelFits(WithModel(config, axis, too_many), facts);
    if (!fits.ok() && !absl::IsResourceExhausted(fits)) return fits;
    if (!fits.ok() && too_many == 1) return fits;
    largest.refusal = std::string(fits.message());
    if (!fits.ok()) break;
    largest.steps = too_many;
    if (too_many >= steps_max) {
      return absl::OutOfRangeError(
          axis == ScaleAxis::kDepth
              ? absl::StrCat("the cluster has room for ", steps_max,
                             " layers of this width and more: wanted a wider model, or --scale width")
              : std::string("the cluster has room for models without end"));
    }
  }
  while (too_many - largest.steps > 1) {
    const int64_t middle = largest.steps + (too_many - largest.steps) / 2;
    const absl::Status fits = ModelFits(WithModel(config, axis, middle), facts);
    if (!fits.ok() && !absl::IsResourceExhausted(fits)) return fits;
    (fits.ok() ? largest.steps : too_many) = middle;
    if (!fits.ok()) largest.refusal = std::string(fits.message());
  }
  largest.config = WithModel(config, axis, largest.steps);
  ASSIGN_OR_RETURN(largest.run, MakeRunPlan(largest.config, facts));
  largest.prediction = Predict(*largest.run, largest.config, cluster, facts.world_size);
  largest.budget_bytes = BudgetBytes(config.memory(), facts) * facts.world_size;
  largest.bytes_per_parameter = BytesPerParameter(largest.run->training_plan.layout);
  return largest;
}

std::string ToText(const LargestModel& largest, const Cluster& cluster, int64_t ranks) {
  const double parameters = static_cast<double>(largest.run->training.table->ParameterCount());
  const double bound = largest.budget_bytes / largest.bytes_per_parameter;
  std::string text =
      absl::StrCat("largest model that fits: ", FormatCount(parameters), " parameters (",
                   largest.run->training.table->ParameterCount(), "), ", largest.run->task->Describe(), "\n");
  absl::StrAppend(&text, "byte bound: ", FormatCount(bound), " parameters, ",
                  FormatBytes(static_cast<int64_t>(largest.budget_bytes)), " of all tiers at ",
                  largest.bytes_per_parameter, " bytes each; reached ",
                  absl::StrFormat("%.1f %%", 100 * parameters / bound), "\n");
  absl::StrAppend(&text, "one step more: ", largest.refusal, "\n", PredictionText(largest.prediction, cluster, ranks));
  return text;
}

std::string ToText(const FastestRun& fastest) {
  std::string text = absl::StrCat(fastest.candidates, " candidates: ", fastest.pruned, " ruled out by arithmetic, ",
                                  fastest.refused, " do not fit, ", fastest.planned.size(), " planned\n");
  constexpr size_t kShown = 5;
  for (size_t i = 0; i < std::min(kShown, fastest.planned.size()); ++i) {
    const Candidate& c = fastest.planned[i];
    absl::StrAppend(&text, absl::StrFormat("%10.4f s  ", c.seconds), absl::StrJoin(c.settings, " "), "\n");
  }
  return text;
}

}  // namespace angel_ptm
