// The dynamic half of the proof: plays a segment's steps in issue order on symbolic memory. CheckOrder proves that
// every other execution that the waits allow sees the same values. verify_replay.cc handles ops; verify_state.cc
// handles steps that move, gather, reduce and update state.
#ifndef ANGEL_PTM_PLAN_VERIFY_REPLAY_H_
#define ANGEL_PTM_PLAN_VERIFY_REPLAY_H_

#include <string>
#include <string_view>
#include <utility>
#include <vector>

#include "absl/container/flat_hash_set.h"
#include "angel_ptm/model/lock_free.h"
#include "angel_ptm/plan/verify_internal.h"
#include "angel_ptm/plan/verify_memory.h"

namespace angel_ptm::verify {

class Replay {
 public:
  explicit Replay(const Subject& subject)
      : subject_(subject),
        graph_(subject.graph),
        layout_(subject.plan.layout),
        lock_free_(FindLockFreeRows(layout_.states)),
        memory_(graph_, layout_, subject.segment),
        op_done_(graph_.ops.size(), false),
        writers_(graph_.tensors.size()),
        writes_done_(graph_.tensors.size(), 0),
        conditional_(subject.segment.regions.size(), false),
        reduced_(graph_.units().size(), false),
        update_ops_(graph_.units().size()),
        updated_(graph_.ops.size()),
        delivered_(graph_.units().size()) {}

  absl::Status Run();

 private:
  const Step& step() const { return subject_.segment.steps[step_]; }
  const Region& RegionOf(const Place& place) const { return subject_.segment.regions[place.region]; }
  template <typename... Parts>
  absl::Status Error(const Parts&... parts) const {
    return subject_.StepError(step_, parts...);
  }
  const std::string& NameOf(StateId state) const { return layout_.states[state].name; }
  StateExtent ExtentOfStep() const { return ExtentOf(layout_, step().unit, step().state); }

  void Begin();
  absl::Status Play();
  absl::Status CheckLane();
  absl::Status Compute();
  absl::Status ReadOperand(TensorId t, const Place& place);
  absl::Status WriteOperand(TensorId t, const Place& place);
  absl::Status CheckOperandsDisjoint();
  absl::Status Move();
  absl::Status MoveTensor();
  absl::Status MoveUnitGradients();
  absl::Status MoveState();
  absl::Status CheckCondition();
  absl::Status CheckBlocks(const Place& place);
  absl::Status CheckPages(int64_t begin, int64_t slice_bytes, int64_t page_bytes, int64_t bytes);
  absl::Status Gather();
  absl::Status CheckUpdatedBeforeGather();
  absl::Status Reduce();
  absl::Status Norm();
  absl::Status Update();
  absl::Status ReadUpdateOperand(size_t slot);
  absl::Status WriteUpdateOperand(size_t slot);
  absl::Status Deliver();
  // For sweeps (verify_lock_free.cc).
  bool sweeping() const { return subject_.segment.sweeps != kNone; }
  StateId StateInSweep(StateId state) const;
  absl::Status CheckNewestParameters();
  bool UpdatesOwnSlice(UnitId unit) const;
  int64_t UpdatedElements(UnitId unit) const;
  bool RanksDiffer(UnitId unit, StateId s) const;
  absl::Status CheckComplete();
  absl::Status CheckHomes();

  absl::Status Need(const Place& place, const ObjectRange& extent, std::string_view what) const {
    if (place.region == kNone) return Error(std::string(what), " is missing");
    if (const auto why = memory_.WhyNot(place, extent)) {
      return Error(std::string(what), " in region ", RegionOf(place).label, ": ", *why);
    }
    return absl::OkStatus();
  }
  absl::Status NeedTier(const Place& place, TierKind tier) const {
    if (place.region == kNone) return Error("a place is missing");
    if (RegionOf(place).range.tier == tier) return absl::OkStatus();
    return Error("region ", RegionOf(place).label, " is on the ", Name(RegionOf(place).range.tier), ", wanted ",
                 Name(tier));
  }
  // Elements of a unit's state, or of the rank's own slice of it.
  ObjectRange Elements(UnitId unit, StateId s, bool own, int64_t begin, int64_t count) const {
    const int64_t bytes = SizeOf(layout_.states[s].dtype);
    return {own ? memory_.OwnSlice(unit, s) : memory_.State(unit, s), begin * bytes, count * bytes};
  }
  // With a single replica, the own slice is the whole vector.
  ObjectRange OwnSlice(UnitId unit, StateId s) const {
    return Elements(unit, s, layout_.slices[unit].replicas > 1, 0, layout_.slices[unit].slice_elements);
  }
  // The place of a home, and what it holds when the segment begins or ends.
  std::pair<Place, ObjectRange> AtHome(int32_t region, bool at_end) const;
  // Whether `region` may hold the state: it is a region of that state, or a home whose guest the state is.
  bool IsPlaceOf(const Region& region, UnitId unit, StateId s) const {
    if (region.unit != unit) return false;
    return region.state == s || (region.permanent && GuestOf(graph_, layout_, unit, region.state) == s);
  }

  const Subject& subject_;
  const Graph& graph_;
  const Layout& layout_;
  const LockFreeRows lock_free_;
  SymbolicMemory memory_;
  int32_t step_ = 0;
  std::vector<bool> op_done_;
  std::vector<std::vector<OpId>> writers_;               // by tensor, in graph order
  std::vector<size_t> writes_done_;                      // by tensor
  std::vector<bool> conditional_;                        // by region: filled in some micro-batches only
  std::vector<bool> reduced_;                            // by unit
  std::vector<std::vector<OpId>> update_ops_;            // by unit, in graph order
  std::vector<Coverage> updated_;                        // by update op, in elements
  std::vector<Coverage> delivered_;                      // by unit, in elements
  absl::flat_hash_set<std::pair<OpId, StateId>> begun_;  // states that update ops have begun to write
  int norms_ = 0;
};

}  // namespace angel_ptm::verify

#endif  // ANGEL_PTM_PLAN_VERIFY_REPLAY_H_
