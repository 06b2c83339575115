// Runs of a stream lane's steps that are put on the stream as one: the first time step by step while they are captured
// as a graph, from then on by launching the graph.
//
// A run is a sequence of consecutive steps of one lane between which nobody waits: only its first step may wait for
// another lane, and other lanes wait only for its last. So a run delays nothing that could go on concurrently with its
// steps.
//
// A graph repeats what was captured: kernels with their arguments, copies with their addresses. A plan's places are the
// same in every step, so what is put on the stream depends on little else. The player says on what
// (StepReplay::variant), and a run has one graph for each variant.
#ifndef ANGEL_PTM_EXEC_STEP_GRAPHS_H_
#define ANGEL_PTM_EXEC_STEP_GRAPHS_H_

#include <array>
#include <cstdint>
#include <memory>
#include <vector>

#include "angel_ptm/memory/device.h"
#include "angel_ptm/plan/plan.h"

namespace angel_ptm {

class StepGraphs {
 public:
  static constexpr int32_t kVariants = 16;

  struct Run {
    int32_t first = 0, last = 0;                                 // steps of the segment
    uint32_t steps = 0;                                          // of the lane, from first to last
    bool updates = false;                                        // some of them are updates
    std::array<std::unique_ptr<DeviceGraph>, kVariants> graphs;  // by variant; null until played
  };

  // Finds the runs among the segment's steps on `lane`.
  StepGraphs(const Segment& segment, Lane lane);

  Lane lane() const { return lane_; }
  // The run of several steps that the segment's step belongs to, or null.
  Run* RunOf(int32_t index) { return run_of_[index] < 0 ? nullptr : &runs_[run_of_[index]]; }
  const std::vector<Run>& runs() const { return runs_; }

 private:
  const Lane lane_;
  std::vector<Run> runs_;
  std::vector<int32_t> run_of_;  // by step; -1: none
};

}  // namespace angel_ptm

#endif  // ANGEL_PTM_EXEC_STEP_GRAPHS_H_
