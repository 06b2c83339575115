#include "angel_ptm/train/saver.h"

#include <vector>

#include "absl/strings/str_cat.h"
#include "absl/strings/str_join.h"
#include "angel_ptm/base/text.h"
#include "angel_ptm/train/agreement.h"

namespace angel_ptm {

void Saver::Skipped(int64_t step) {
  if (step == saved_step_) {
    suspect_step_ = step;
  } else if (!skipped_since_save_) {
    healthy_step_ = saved_step_;
  }
  skipped_since_save_ = true;
}

std::string Saver::WhatWasSkipped(const TrainState& state) {
  return state.skipped_in_a_row == 1
             ? std::string("the last step was skipped as non-finite")
             : absl::StrCat("the last ", state.skipped_in_a_row, " steps were skipped as non-finite");
}

absl::Status Saver::SaveIfDue(const TrainState& state, bool last) {
  const int64_t every = run_.config.checkpoint().every_steps();
  const bool due = every > 0 && state.next_step % every == 0;
  if ((!due && !last) || state.next_step == saved_step_) return absl::OkStatus();
  const bool diverging = state.skipped_in_a_row > 0;
  if (diverging && !last) {
    run_.Print(absl::StrCat("warning: no checkpoint of step ", state.next_step, ": ", WhatWasSkipped(state),
                            "; the existing checkpoints are kept"));
    return absl::OkStatus();
  }
  return Save(state, /*beside=*/diverging, last);
}

absl::Status Saver::Save(const TrainState& state, bool beside, bool last) {
  RETURN_IF_ERROR(run_.communicator.VerifySameHistory({"collectives so far", state.next_step}));
  if (run_.groups) RETURN_IF_ERROR(run_.groups->VerifySameHistory({"collectives of groups so far", state.next_step}));
  RETURN_IF_ERROR(run_.control->VerifySameHistory({"control calls so far", state.next_step}));
  reporter_.Flush();
  RETURN_IF_ERROR(CheckReplicas(run_.views, state.next_step, *run_.control));
  const CheckpointPlace place =
      beside ? CheckpointPlace{DivergedDirectory(run_.config), 1, kNone}
             : CheckpointPlace{CheckpointDirectory(run_.config), run_.config.checkpoint().keep_last(),
                               skipped_since_save_ ? healthy_step_ : kNone};
  const absl::StatusOr<SavedCheckpoint> saved =
      SaveCheckpoint(place, run_.plan->training, run_.views, {run_.config, run_.files, state}, *run_.control);
  if (saved.ok()) {
    if (!beside) {
      if (!skipped_since_save_ && saved_step_ != kNone) healthy_step_ = saved_step_;
      saved_step_ = state.next_step;
      skipped_since_save_ = false;
    }
    run_.Print(absl::StrCat("saved ", saved->path, " (", FormatBytes(saved->bytes), ")",
                            saved->warning.empty() ? "" : absl::StrCat("; warning: ", saved->warning)));
    if (beside) {
      run_.Print(absl::StrCat("warning: this one is kept apart from the other checkpoints, because ",
                              WhatWasSkipped(state), "; ", WayBack()));
    }
    return absl::OkStatus();
  }
  // The state is in memory and earlier checkpoints are intact, so only a run that ends here loses anything.
  if (last) return saved.status();
  run_.Print(absl::StrCat("warning: checkpoint not saved, training goes on: ", saved.status().message()));
  return absl::OkStatus();
}

std::string Saver::WayBack() const {
  const auto checkpoints = ListCompleteCheckpoints(CheckpointDirectory(run_.config));
  std::vector<int64_t> steps;
  if (checkpoints.ok()) {
    for (const CompleteCheckpoint& checkpoint : *checkpoints) {
      if (checkpoint.step != suspect_step_) steps.push_back(checkpoint.step);
    }
  }
  if (steps.empty()) return "there is no healthy checkpoint to go back to";
  const int64_t healthy = steps.back();
  steps.pop_back();
  const bool newest = checkpoints->back().step == healthy;
  return absl::StrCat(
      "the last healthy checkpoint is that of step ", healthy, " in ", CheckpointDirectory(run_.config), ": ",
      newest ? std::string("--resume") : absl::StrCat("--resume-from ", healthy),
      " continues from it, preferably after a change to what made the run diverge",
      newest ? "" : absl::StrCat(" (after the newer one, of step ", suspect_step_, ", the next step was non-finite)"),
      steps.empty()
          ? ""
          : absl::StrCat("; --resume-from also accepts the older ones of steps ", absl::StrJoin(steps, ", ")));
}

}  // namespace angel_ptm
