// Checks of a lock-free update: gradients are delivered to mailboxes, and sweeps, which are played concurrently with
// the programs, empty them. No sweep reads what a delivery writes, because deliveries fill a unit's second mailbox
// while the unit is swept (exec/lock_free_updater.h). No sweep writes what a micro-step reads. One job of a unit takes
// everything in its mailbox, so waiting for jobs bounds the lag.
#include <algorithm>

#include "angel_ptm/plan/verify_replay.h"

namespace angel_ptm::verify {

absl::Status Replay::Deliver() {
  const UnitId unit = step().unit;
  if (!lock_free_) return Error("there are no mailboxes");
  if (norms_ == 0) return Error("before the norm");
  const int64_t begin = step().begin, end = begin + step().count;
  if (step().own != (layout_.slices[unit].replicas > 1) || begin < 0 || step().count <= 0 ||
      end > layout_.slices[unit].slice_elements) {
    return Error("elements [", begin, ", ", end, ") are not the rank's");
  }
  RETURN_IF_ERROR(NeedTier(step().src, TierKind::kHost));
  RETURN_IF_ERROR(NeedTier(step().dst, TierKind::kHost));
  if (step().lane != Lane::kHostCompute) return Error("runs on lane ", Name(step().lane));
  const ObjectRange gradients = Elements(unit, kGradientState, step().own, begin, step().count);
  RETURN_IF_ERROR(Need(step().src, gradients, "gradients"));
  const Region& to = RegionOf(step().dst);
  if (!to.permanent || to.unit != unit || to.state != lock_free_.mailbox || step().dst.own ||
      step().dst.begin != gradients.begin || step().dst.bytes != gradients.bytes ||
      step().src.bytes != gradients.bytes) {
    return Error("delivers to the place of ", to.label);
  }
  if (!delivered_[unit].Add(begin, end)) return Error("elements of [", begin, ", ", end, ") are delivered twice");
  memory_.Write(step().dst, Elements(unit, lock_free_.mailbox, step().own, begin, step().count));
  return absl::OkStatus();
}

// Restated here instead of asking the builder.
StateId Replay::StateInSweep(StateId state) const {
  if (state == kGradientState) return lock_free_.mailbox;
  return state == kParameterState ? lock_free_.new_parameters : state;
}

// The first op of a unit's update, and no other, begins by copying the newest parameters.
absl::Status Replay::CheckNewestParameters() {
  const UnitId unit = step().unit;
  const Place& src = step().src;
  if (step().op != update_ops_[unit].front()) {
    return src.region == kNone ? absl::OkStatus() : Error("copies parameters that are there");
  }
  const ObjectRange part = Elements(unit, kParameterState, step().own, step().begin, step().count);
  RETURN_IF_ERROR(Need(src, part, "newest parameters"));
  if (src.bytes != part.bytes || !RegionOf(src).permanent) return Error("does not begin with the newest parameters");
  return absl::OkStatus();
}

namespace {

class SweepCheck {
 public:
  SweepCheck(const Graph& graph, const Plan& plan) : graph_(graph), plan_(plan) {}

  absl::Status Run() const {
    const bool trained = graph_.update_begin < static_cast<OpId>(graph_.ops.size());
    const size_t wanted = trained && FindLockFreeRows(plan_.layout.states) ? graph_.units().size() : 0;
    if (plan_.sweeps.size() != wanted) return Error(plan_.sweeps.size(), " sweeps, wanted ", wanted);
    if (wanted == 0) return absl::OkStatus();
    if (plan_.layout.world_size > 1 && plan_.layout.zero_stage < 3) {
      return Error("ranks have parameters of their peers, which no sweep updates");
    }
    RETURN_IF_ERROR(CheckTiers());
    for (const Segment& segment : plan_.segments) RETURN_IF_ERROR(CheckProgramsSegment(segment));
    const int64_t transients_begin = HostEndOfPrograms();
    for (size_t i = 0; i < wanted; ++i) {
      if (plan_.sweeps[i].sweeps != static_cast<UnitId>(i)) return Error("sweep ", i, " is of another unit");
      RETURN_IF_ERROR(CheckTransients(plan_.sweeps[i], transients_begin));
    }
    return absl::OkStatus();
  }

 private:
  template <typename... Parts>
  absl::Status Error(const Parts&... parts) const {
    return absl::InternalError(absl::StrCat("plan of graph ", graph_.name, ", lock-free update: ", parts...));
  }

  // File lanes belong to sweeps alone, the device to micro-steps alone.
  absl::Status CheckTiers() const {
    for (const Home& home : plan_.layout.homes) {
      if (home.elements == 0) continue;
      const TierKind unwanted = home.state <= kGradientState ? TierKind::kFile : TierKind::kDevice;
      if (home.range.tier != unwanted) continue;
      return Error(plan_.layout.states[home.state].name, " of ", graph_.units()[home.unit].name, " rest on the ",
                   Name(unwanted));
    }
    return absl::OkStatus();
  }

  // A segment of a program uses only parameters and gradients, and mailboxes in deliveries. It uses parameters on the
  // host only as the source of moves.
  absl::Status CheckProgramsSegment(const Segment& segment) const {
    const Subject subject{graph_, plan_, segment};
    for (int32_t i = 0; i < static_cast<int32_t>(segment.steps.size()); ++i) {
      const Step& step = segment.steps[i];
      if (step.lane == Lane::kFileIn || step.lane == Lane::kFileOut) {
        return subject.StepError(i, "runs on lane ", Name(step.lane), ", which belongs to sweeps");
      }
      for (const MemoryAccess& access : AccessesOf(graph_, step)) {
        const Region& region = segment.regions[access.place.region];
        if (!region.permanent || region.unit == kNone || region.state == kGradientState) continue;
        const bool delivers = step.kind == StepKind::kDeliver && access.writes;
        const bool reads = region.state == kParameterState && !access.writes &&
                           (step.kind == StepKind::kMove || region.range.tier == TierKind::kDevice);
        if (!delivers && !reads) return subject.StepError(i, "uses ", region.label, ", which belongs to a sweep");
      }
    }
    return absl::OkStatus();
  }

  int64_t HostEndOfPrograms() const {
    int64_t end = plan_.layout.home_bytes[static_cast<int>(TierKind::kHost)];
    for (const Segment& segment : plan_.segments) {
      for (const Region& region : segment.regions) {
        if (region.range.tier != TierKind::kHost || (!region.permanent && region.first_step == kNone)) continue;
        end = std::max(end, region.range.offset + region.range.bytes);
      }
    }
    return end;
  }

  absl::Status CheckTransients(const Segment& sweep, int64_t begin) const {
    for (const Region& region : sweep.regions) {
      if (region.permanent || region.first_step == kNone) continue;
      if (region.range.tier != TierKind::kHost || region.range.offset < begin) {
        return Error(sweep.name, ": region ", region.label, " lies where programs have theirs");
      }
    }
    return absl::OkStatus();
  }

  const Graph& graph_;
  const Plan& plan_;
};

}  // namespace

absl::Status CheckSweeps(const Graph& graph, const Plan& plan) { return SweepCheck(graph, plan).Run(); }

}  // namespace angel_ptm::verify
