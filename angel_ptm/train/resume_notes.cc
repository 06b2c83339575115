#include "angel_ptm/train/resume_notes.h"

#include <string_view>

#include "absl/strings/str_cat.h"
#include "absl/strings/str_format.h"
#include "absl/strings/str_join.h"
#include "angel_ptm/base/text.h"
#include "angel_ptm/config/compare.h"
#include "angel_ptm/train/start.h"

namespace angel_ptm {
namespace {

// Fields that do not change the loss curve, or whose change a resume refuses (those of the samples). Their effect on
// the last bits is reported by the numerics.
constexpr std::string_view kHarmless[] = {"data",       "seed",   "evaluation", "sampling",
                                          "sharding",   "memory", "numerics",   "communication",
                                          "checkpoint", "output", "device",     "optimizer.skipped_steps_max"};
constexpr std::string_view kMicroBatch[] = {"batch.micro_batch_sequences"};
// Fields that determine where the learning rate falls to.
constexpr std::string_view kOfTheFall[] = {"steps", "optimizer.schedule.final_learning_rate_ratio"};

bool IsConstant(const TrainConfig& config) { return config.optimizer().schedule().kind() == ScheduleConfig::CONSTANT; }

// Returns "optimizer.adamw.beta1: 0.9 -> 0.8" for every field that changes what is learned.
std::vector<std::string> CurveChanges(const TrainConfig& saved, const TrainConfig& now, const Task& task) {
  std::vector<std::string> changes;
  for (const FieldDifference& d : ConfigDifferences(saved, now)) {
    if (IsBelow(d.path, kHarmless) || IsBelow(d.path, task.changeable_fields().without_effect)) continue;
    if (IsBelow(d.path, kMicroBatch) && !task.loss_depends_on_micro_batch()) continue;
    if (IsBelow(d.path, kOfTheFall) && IsConstant(saved) && IsConstant(now)) continue;
    const char* why = IsBelow(d.path, kMicroBatch) ? " (the balance loss is that of one micro-batch)" : "";
    changes.push_back(absl::StrCat(d.path, ": ", d.before, " -> ", d.after, why));
  }
  return changes;
}

std::string CurveNote(const std::vector<std::string>& changes, const TrainConfig& saved, const TrainConfig& now,
                      int64_t step) {
  const double before = ScheduleFromConfig(saved).At(step), after = ScheduleFromConfig(now).At(step);
  const std::string rate = before == after
                               ? std::string()
                               : absl::StrFormat(" (the learning rate of step %d: %.6g -> %.6g)", step, before, after);
  return absl::StrCat("what is learned changes from here on: ", absl::StrJoin(changes, "; "), rate);
}

}  // namespace

std::vector<std::string> ResumeNotes(const TrainConfig& saved, const TrainState& state, const TrainConfig& now,
                                     const Numerics& numerics, const Task& task) {
  std::vector<std::string> notes;
  const std::vector<std::string> changes = CurveChanges(saved, now, task);
  if (!changes.empty()) notes.push_back(CurveNote(changes, saved, now, state.next_step));
  const NumericsDifference difference = Compare(state.numerics, numerics);
  if (!difference.changed.empty()) {
    notes.push_back(absl::StrCat("the numerics change: ", absl::StrJoin(difference.changed, ", "),
                                 changes.empty() ? ": the run continues within rounding, not bit for bit" : ""));
  }
  // For imported weights the numerics are not recorded, because they were computed elsewhere.
  if (!difference.unrecorded.empty() && state.next_step > 0) {
    notes.push_back(
        absl::StrCat("the checkpoint does not record these numerics: ", absl::StrJoin(difference.unrecorded, ", "),
                     "; if they differ, the run continues within rounding"));
  }
  return notes;
}

std::vector<std::string> OtherModelFields(const TrainConfig& wanted, const TrainConfig& got, const Task& task) {
  const ChangeableFields fields = task.changeable_fields();
  std::vector<std::string_view> may_differ(fields.without_effect.begin(), fields.without_effect.end());
  may_differ.insert(may_differ.end(), fields.of_the_curve.begin(), fields.of_the_curve.end());
  return ModelDifferences(wanted, got, may_differ);
}

}  // namespace angel_ptm
