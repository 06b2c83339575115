// The run-time half of what verify proves about state: while a Plan plays, every step that touches parameters, moments
// or reduced gradients finds the newest copy of their pages where it was bound to look, and in the end all of them are
// home again.
//
// State that a segment changes travels: the newest copy of its pages goes where a move, a gather or an update puts it.
// In the update this is all state but gradients; in the micro-step it is the reduced gradients. The newest copy of
// state that a segment only reads stays at home: a use at home is checked; for a use of a copy, only that the copy was
// taken from home. Gradients that take their parameters' place leave no copy of the parameters, and an update leaves no
// copy of the gradients, so a step that looks for either at the wrong time is caught. Activations and a micro-batch's
// own gradients are not state: only verify checks them.
#ifndef ANGEL_PTM_EXEC_RESIDENCY_H_
#define ANGEL_PTM_EXEC_RESIDENCY_H_

#include <cstdint>
#include <vector>

#include "angel_ptm/memory/page_table.h"
#include "angel_ptm/plan/plan.h"

namespace angel_ptm {

// Thread safety: lanes may call Follow for different steps at the same time. Two steps touch the same page only if both
// just read its state, or if the Plan orders them because they touch the same bytes.
class Residency {
 public:
  // For rank `rank`, with everything at home. Graph and layout must outlive the Residency.
  Residency(const Graph& graph, const Layout& layout, int rank);

  // To be called when a lane is about to run `step`: CHECKs that the newest copy of the state it uses is where the step
  // says, and notes where that copy will be. No other step asks for it there before this one has finished. `overwrite`:
  // a reduction does not add to what is there.
  void Follow(const Segment& segment, const Step& step, bool overwrite);

  // At the end of a segment: CHECKs that everything is at home.
  void ExpectAllHome() const { pages_.ExpectAllHome(); }

 private:
  // Bytes [begin, begin + bytes) of what this rank stores of a unit's state.
  struct StateRange {
    UnitId unit;
    StateId state;
    int64_t begin, bytes;
  };
  void FollowMove(const Segment& segment, const Step& step, bool travels);
  void FollowUpdate(const Segment& segment, const Step& step);
  void Expect(const Segment& segment, const StateRange& extent, const Place& place, bool travels) const;
  void Set(const Segment& segment, const StateRange& extent, const Place& place);

  // `count` elements from element `begin` of the unit's flat vector, or of the rank's own slice of it.
  StateRange Elements(UnitId unit, StateId s, bool own, int64_t begin, int64_t count) const;
  StateRange ElementsOf(const Step& step, StateId s) const {
    return Elements(step.unit, s, step.own, step.begin, step.count);
  }
  StateRange OwnSlice(UnitId unit, StateId s) const {
    return Elements(unit, s, /*own=*/true, 0, layout_.slices[unit].slice_elements);
  }
  Frame FrameOf(const Segment& segment, const Place& place) const;
  int VectorOf(const StateRange& extent) const { return vectors_[layout_.HomeIndex(extent.unit, extent.state)]; }

  const Graph& graph_;
  const Layout& layout_;
  const int rank_;
  PageTable pages_;
  std::vector<int> vectors_;  // by Layout::HomeIndex
};

}  // namespace angel_ptm

#endif  // ANGEL_PTM_EXEC_RESIDENCY_H_
