// The Plan: what runs when and where, as plain data. The executor does it, verify proves it, plan text prints it. Made
// by MakePlan (planner.h); never changed afterwards.
//
// A rank's memory is one arena per tier, addressed by byte offset. On both tiers the homes of persistent state come
// first, at the same offsets in every Plan of a run (Layout); the rest is the Plan's own.
//
// A training Plan has two segments: the micro-step, played once per micro-batch, and the update, played once per step.
// Every segment starts and ends with all state at home and all lanes idle.
#ifndef ANGEL_PTM_PLAN_PLAN_H_
#define ANGEL_PTM_PLAN_PLAN_H_

#include <array>
#include <cstdint>
#include <string>
#include <vector>

#include "angel_ptm/base/tier_kind.h"
#include "angel_ptm/model/graph.h"
#include "angel_ptm/plan/shard.h"

namespace angel_ptm {

// Steps of one lane run in order, one at a time; different lanes run side by side, held together by Step::waits.
enum class Lane : uint8_t { kCompute, kComm, kCopyIn, kCopyOut };
inline constexpr int kLaneCount = 4;
const char* Name(Lane lane);

enum class StepKind : uint8_t {
  kCompute,    // run graph op `op` on `operands`
  kMove,       // copy src to dst: a run of pages changes tier
  kGather,     // all-gather: dst (a unit's whole vector) from every rank's src (its slice); src may lie in dst
  kReduce,     // ordered reduce-scatter: dst (own slice) (+)= src (a unit's whole micro-batch gradient, used up)
  kSquareSum,  // add the squares of src (a run of gradient pages) to the step's gradient norm
  kNorm,    // exchange the square sums; the trainer turns the norm into this step's AdamW scalars, or skips the update
  kUpdate,  // AdamW on `count` elements from unit element `begin`; operands: parameters, moment1, moment2, gradient
};
const char* Name(StepKind kind);

struct MemoryRange {
  TierKind tier = TierKind::kDevice;
  int64_t offset = -1;
  int64_t bytes = 0;

  friend bool operator==(const MemoryRange&, const MemoryRange&) = default;
};

// What a range of memory holds, for accounting and for verify.
enum class MemoryClass : uint8_t {
  kParameters,     // homes
  kGradients,      // homes
  kMoments,        // homes
  kInputsOutputs,  // batch, losses, expert counts, caches: fixed for the Plan
  kGathered,       // a unit's whole parameters while ops use them
  kUnitGradients,  // a unit's micro-batch gradient before its reduction
  kActivations,
  kWorkspace,      // scratch memory of kernels
  kCommunication,  // scratch memory of reductions
  kStaging,        // pages of state on their way through the device
};
inline constexpr int kMemoryClassCount = 10;
const char* Name(MemoryClass memory_class);

// A buffer of the Plan while it has one address: a home, or one stay of a transient buffer between its arrival and its
// release. Steps [first_step, last_step] of the segment's issue order may touch it.
struct Region {
  std::string label;  // e.g. "layers.3.dense parameters", "layers.3.mlp.swiglu.y"
  MemoryClass memory_class = MemoryClass::kActivations;
  MemoryRange range;
  bool permanent = false;  // homes, inputs, outputs
  // What it holds: a tensor (activations, inputs, outputs), or (part of) a unit's vector: homes and staging of
  // `state_class`, gathered parameters, micro-batch gradients.
  TensorId tensor = kNone;
  UnitId unit = kNone;
  StateClass state_class = StateClass::kParameters;
  int32_t first_step = kNone, last_step = kNone;
};

// A part of a region.
struct Place {
  int32_t region = kNone;
  int64_t begin = 0;  // bytes from the region's start
  int64_t bytes = 0;
};

struct Step {
  StepKind kind = StepKind::kCompute;
  Lane lane = Lane::kCompute;
  OpId op = kNone;
  UnitId unit = kNone;
  StateClass state_class = StateClass::kParameters;
  Place src, dst, scratch;
  std::vector<Place>
      operands;  // kCompute: inputs then outputs by slot, then the workspace if any; kUpdate: see StepKind
  int64_t begin = 0, count = 0;            // elements of the unit's flat vector: kSquareSum, kUpdate
  int64_t first_page = 0, page_count = 0;  // kMove: of the moved vector
  // waits[l]: this step starts after the first waits[l] steps of lane l in this segment have finished.
  std::array<int32_t, kLaneCount> waits = {0, 0, 0, 0};
};

struct Segment {
  std::vector<Region> regions;
  std::vector<Step> steps;  // in issue order: playing them one after the other is a valid execution
};

// Where a unit's state of one class rests between uses.
struct Home {
  UnitId unit = kNone;
  StateClass state_class = StateClass::kParameters;
  int64_t elements = 0;  // stored by this rank: its slice or the whole vector
  MemoryRange range;
};

// Shared by all Plans of a run.
struct Layout {
  int world_size = 1, rank = 0, zero_stage = 0;
  int64_t page_bytes = 0;
  std::vector<UnitSlices> slices;  // by unit
  std::vector<Home> homes;  // by unit * kStateClassCount + state class; elements == 0 where the run keeps no such state
  std::array<int64_t, kTierCount> home_bytes = {0, 0};

  const Home& home(UnitId unit, StateClass c) const { return homes[unit * kStateClassCount + static_cast<int>(c)]; }
  // Bytes of the rank's own slice of a unit, of one class.
  int64_t slice_bytes(UnitId unit) const { return slices[unit].slice_elements * 4; }
};

// Bytes of a tier by class at the step where the tier is fullest.
struct TierPeak {
  int64_t bytes = 0;       // highest address used, holes included
  int64_t live_bytes = 0;  // sum of by_class
  std::array<int64_t, kMemoryClassCount> by_class = {};
};

struct Plan {
  Layout layout;
  Segment micro_step;
  Segment update;                  // empty for graphs without an update segment
  std::vector<MemoryRange> fixed;  // by tensor: where inputs, outputs and caches lie; offset -1 for other tensors
  std::array<TierPeak, kTierCount> peaks;
  std::array<int64_t, kTierCount> arena_bytes = {0, 0};  // what the run must reserve for this Plan
};

// What a collective step looks like to the other ranks; equal on all ranks or the run must not start (law 4).
struct PlannedCollective {
  StepKind kind;
  std::string what;
  int64_t bytes = 0;
};
std::vector<PlannedCollective> CollectivesOf(const Graph& graph, const Segment& segment);

// A digest of everything in the Plan that the executor acts on.
uint64_t Hash(const Plan& plan);

}  // namespace angel_ptm

#endif  // ANGEL_PTM_PLAN_PLAN_H_
