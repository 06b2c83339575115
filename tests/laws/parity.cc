#include "tests/laws/parity.h"

#include "absl/strings/str_cat.h"

namespace angel_ptm {
namespace {

// Three steps, so that what the second update wrote is read again.
constexpr int kSteps = 3;
constexpr int kResumeAt = 1;

absl::Status CheckBudgets(const TinyRun& run, const TinyResult& result) {
  if (result.device_arena_bytes > run.device_bytes) {
    return absl::InternalError(absl::StrCat("took ", result.device_arena_bytes, " of ", run.device_bytes, " bytes"));
  }
  if (!run.file_tier) return absl::OkStatus();
  if (result.host_arena_bytes > run.host_bytes) {
    return absl::InternalError(absl::StrCat("took ", result.host_arena_bytes, " of ", run.host_bytes, " host bytes"));
  }
  return result.file_arena_bytes > 0 ? absl::OkStatus() : absl::InternalError("nothing rests in the file");
}

}  // namespace

TinyRun ParityMatrix::NumericsOf(const Axes& axes) const {
  return {.shape = axes.moe ? TinyMoe(world_.expert_degree) : TinyDense(),
          .compute = axes.bf16 ? DType::kBFloat16 : DType::kFloat32,
          .ranks_per_node = world_.ranks_per_node,
          .accumulation = axes.accumulation,
          .steps = kSteps};
}

absl::StatusOr<const TinyResult*> ParityMatrix::Reference(const Axes& axes) {
  const auto [it, is_new] = references_.try_emplace({axes.moe, axes.accumulation, axes.bf16});
  if (is_new) {
    ASSIGN_OR_RETURN(it->second, TrainLocally(NumericsOf(axes), world_.size));
  }
  return &it->second;
}

absl::StatusOr<TinyRun> ParityMatrix::RunOf(const Axes& axes, int zero_stage) {
  TinyRun run = NumericsOf(axes);
  run.zero_stage = zero_stage;
  run.page_bytes = axes.page_bytes;
  run.prefetch_steps = axes.prefetch_steps;
  run.device_bytes = DeviceBudget(run, world_.size, axes.budget_percent);
  run.recompute = axes.recompute;
  run.join = axes.joined;
  if (axes.host_percent < 100) {
    const HostRange host = HostBytes(run, world_.size);
    run.host_bytes = host.least + (host.all - host.least) * axes.host_percent / 100;
    run.file_tier = host.all > 0;
  }
  // With a fault there is no shared plan: the fault may change what a plan depends on.
  if (!plant_) {
    ASSIGN_OR_RETURN(run.plan, MakeTinyPlan(run, world_.size));
  }
  return run;
}

absl::StatusOr<TinyResult> ParityMatrix::FirstStep(const Axes& axes) {
  Axes key = axes;
  key.joined = false;  // nothing is joined to a last step
  if (!first_step_.has_value() || first_step_->first != key) {
    first_step_.reset();
    ASSIGN_OR_RETURN(TinyRun run, RunOf(axes, (axes.zero_stage + 1) % 4));
    if (plant_) plant_(run);
    run.steps = kResumeAt;
    run.save_directory = folder_;
    ASSIGN_OR_RETURN(TinyResult result, train_(run));
    first_step_ = {key, std::move(result)};
  }
  return first_step_->second;
}

absl::StatusOr<TinyResult> ParityMatrix::TrainCase(const Axes& axes, TinyRun run) {
  if (plant_) plant_(run);
  if (!axes.resumed) return train_(run);
  ASSIGN_OR_RETURN(const TinyResult before, FirstStep(axes));
  run.load_checkpoint = before.checkpoint;
  run.first_step = kResumeAt;
  ASSIGN_OR_RETURN(TinyResult after, train_(run));
  after.losses.insert(after.losses.begin(), before.losses.begin(), before.losses.end());
  after.norms.insert(after.norms.begin(), before.norms.begin(), before.norms.end());
  return after;
}

absl::Status ParityMatrix::Check(const Axes& axes) {
  ASSIGN_OR_RETURN(const TinyRun run, RunOf(axes, axes.zero_stage));
  ASSIGN_OR_RETURN(const TinyResult result, TrainCase(axes, run));
  ++counts_.cases;
  counts_.moved += result.moves > 0;
  counts_.moves += result.moves;
  counts_.to_join += axes.joined;
  counts_.joined += result.joined;
  if (!compares_) return absl::OkStatus();
  ASSIGN_OR_RETURN(const TinyResult* reference, Reference(axes));
  if (const std::string difference = result.Difference(*reference); !difference.empty()) {
    return absl::InternalError(difference);
  }
  RETURN_IF_ERROR(CheckBudgets(run, result));
  // Only at the tightest budget may holes leave no room to join.
  if (axes.joined && !result.joined && axes.budget_percent >= 60 && axes.host_percent == 100) {
    return absl::InternalError("no update joined");
  }
  // At 60 %, recomputation alone may save enough.
  const bool must_move = axes.budget_percent < 60 || (axes.budget_percent < 100 && !axes.recompute);
  if (must_move && result.moves == 0) return absl::InternalError("nothing moved");
  return absl::OkStatus();
}

}  // namespace angel_ptm
