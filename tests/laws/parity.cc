#include "tests/laws/parity.h"

#include "absl/strings/str_cat.h"

namespace angel_ptm {
namespace {

// Three, so that what the second update wrote is read again.
constexpr int kSteps = 3;
constexpr int kResumeAt = 1;

TinyRun NumericsOf(const Axes& axes) {
  return {.shape = axes.moe ? TinyMoe() : TinyDense(),
          .compute = axes.bf16 ? DType::kBFloat16 : DType::kFloat32,
          .accumulation = axes.accumulation,
          .steps = kSteps};
}

}  // namespace

absl::StatusOr<const TinyResult*> ParityMatrix::Reference(const Axes& axes) {
  const auto [it, is_new] = references_.try_emplace({axes.moe, axes.accumulation, axes.bf16});
  if (is_new) {
    ASSIGN_OR_RETURN(it->second, TrainLocally(NumericsOf(axes), world_size_));
  }
  return &it->second;
}

TinyRun ParityMatrix::RunOf(const Axes& axes, int zero_stage) const {
  TinyRun run = NumericsOf(axes);
  run.zero_stage = zero_stage;
  run.page_bytes = axes.page_bytes;
  run.prefetch_steps = axes.prefetch_steps;
  run.device_bytes = UnconstrainedDeviceBytes(run, world_size_) * axes.budget_percent / 100;
  run.recompute = axes.recompute;
  run.join = axes.joined;
  return run;
}

absl::StatusOr<TinyResult> ParityMatrix::TrainCase(const Axes& axes) {
  TinyRun run = RunOf(axes, axes.zero_stage);
  if (plant_) plant_(run);
  if (!axes.resumed) return train_(run);
  TinyRun first = RunOf(axes, (axes.zero_stage + 1) % 4);
  if (plant_) plant_(first);
  first.steps = kResumeAt;
  first.save_directory = folder_;
  ASSIGN_OR_RETURN(const TinyResult before, train_(first));
  run.load_checkpoint = before.checkpoint;
  run.first_step = kResumeAt;
  ASSIGN_OR_RETURN(TinyResult after, train_(run));
  after.losses.insert(after.losses.begin(), before.losses.begin(), before.losses.end());
  after.norms.insert(after.norms.begin(), before.norms.begin(), before.norms.end());
  return after;
}

absl::Status ParityMatrix::Check(const Axes& axes) {
  ASSIGN_OR_RETURN(const TinyResult result, TrainCase(axes));
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
  if (const int64_t budget = RunOf(axes, axes.zero_stage).device_bytes; result.device_arena_bytes > budget) {
    return absl::InternalError(absl::StrCat("took ", result.device_arena_bytes, " of ", budget, " bytes"));
  }
  // Holes may leave no room only at the tightest budget.
  if (axes.joined && !result.joined && axes.budget_percent >= 60) return absl::InternalError("no update joined");
  // Recomputation alone may save enough at 60 %.
  const bool must_move = axes.budget_percent < 60 || (axes.budget_percent < 100 && !axes.recompute);
  if (must_move && result.moves == 0) return absl::InternalError("nothing moved");
  return absl::OkStatus();
}

}  // namespace angel_ptm
