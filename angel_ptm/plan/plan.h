// The Plan: what runs when and where, as plain data. The executor does it, verify proves it, plan text prints it. Made
// by MakePlan (planner.h); never changed afterwards.
//
// A rank's memory is one arena per tier, addressed by byte offset. On every tier the homes of persistent state come
// first, at the same offsets in every Plan of a run (Layout); the rest is the Plan's own.
//
// A Plan names no rank: all ranks of a run play the same one (Place::own), each with its own slices.
//
// A Plan is segments and programs. Every segment starts and ends with all state at home and all lanes idle. A program
// says which segments make up a step, and which of them are played for every micro-batch.
#ifndef ANGEL_PTM_PLAN_PLAN_H_
#define ANGEL_PTM_PLAN_PLAN_H_

#include <array>
#include <cstdint>
#include <string>
#include <vector>

#include "angel_ptm/base/tier_kind.h"
#include "angel_ptm/base/world_shape.h"
#include "angel_ptm/model/graph.h"
#include "angel_ptm/plan/shard.h"

namespace angel_ptm {

// Steps of one lane run in order, one at a time; different lanes run side by side, held together by Step::waits.
enum class Lane : uint8_t { kCompute, kComm, kCopyIn, kCopyOut, kHostCompute, kFileIn, kFileOut };
inline constexpr int kLaneCount = 7;
const char* Name(Lane lane);

// The legal moves between tiers, and the lane that makes them.
struct LinkSpec {
  TierKind from, to;
  Lane lane;
};
inline constexpr std::array<LinkSpec, 4> kLinks = {{
    {TierKind::kHost, TierKind::kDevice, Lane::kCopyIn},
    {TierKind::kDevice, TierKind::kHost, Lane::kCopyOut},
    {TierKind::kFile, TierKind::kHost, Lane::kFileIn},
    {TierKind::kHost, TierKind::kFile, Lane::kFileOut},
}};
// The link from one tier to another, or null.
const LinkSpec* FindLink(TierKind from, TierKind to);

enum class StepKind : uint8_t {
  kCompute,        // run graph op `op` on `operands`
  kMove,           // copy src to dst: a run of pages changes tier
  kAllGather,      // all-gather: dst (a unit's whole vector) from every rank's src (its slice); src may lie in dst
  kReduceScatter,  // ordered reduce-scatter: dst (own slice) (+)= src (a unit's whole micro-batch gradient, used up);
                   // the step's last micro-batch adds the squares of dst to the gradient norm
  kNorm,           // exchange the square sums; the trainer turns the norm into this step's scalars, or skips the update
  kUpdate,         // update op `op` on `count` elements from unit element `begin`; operands: Op::states by slot. In a
                   // sweep `src`, if any, is where the newest parameters are: they are first copied to their operand
  kDeliver,        // dst (a unit's mailbox) (+)= src (reduced gradients) * the step's gradient scale, unless skipped
};
const char* Name(StepKind kind);

// In which micro-batches of a step it takes place; in the others it counts as done and touches nothing.
enum class When : uint8_t {
  kAlways,
  kAccumulating,  // not in the first one, which overwrites the reduced gradients instead of adding to them
};

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
  kOptimizer,      // homes of all other states: moments, EMA weights
  kMailboxes,      // homes of what a lock-free update has besides
  kInputsOutputs,  // batch, losses, expert counts, caches: fixed for the Plan
  kGathered,       // a unit's whole parameters while ops use them
  kUnitGradients,  // a unit's micro-batch gradient before its reduction
  kActivations,
  kWorkspace,      // scratch memory of kernels
  kCommunication,  // scratch memory of reductions
  kStaging,        // pages of state on their way through the device
};
inline constexpr int kMemoryClassCount = 11;
const char* Name(MemoryClass memory_class);

// A buffer of the Plan while it has one address: a home, or one stay of a transient buffer between its arrival and its
// release. Steps [first_step, last_step] of the segment's issue order may touch it.
struct Region {
  std::string label;  // e.g. "layers.3.dense parameters", "layers.3.mlp.swiglu.y"
  MemoryClass memory_class = MemoryClass::kActivations;
  MemoryRange range;
  bool permanent = false;  // homes, inputs, outputs
  // What it holds: a tensor (activations, inputs, outputs), or (part of) a unit's vector: homes and staging of
  // `state`, gathered parameters, micro-batch gradients.
  TensorId tensor = kNone;
  UnitId unit = kNone;
  StateId state = kParameterState;
  int32_t first_step = kNone, last_step = kNone;
};

// A part of a region.
struct Place {
  Place() = default;
  Place(int32_t of_region, int64_t from, int64_t size, bool of_own_slice = false)
      : region(of_region), own(of_own_slice), begin(from), bytes(size) {}

  int32_t region = kNone;
  // A part of the rank's own slice of the unit's vector that fills the region. Where that is depends on the rank:
  // Layout::OffsetOf.
  bool own = false;
  int64_t begin = 0;  // bytes from the region's start, or from the own slice's
  int64_t bytes = 0;
};

struct Step {
  StepKind kind = StepKind::kCompute;
  Lane lane = Lane::kCompute;
  bool own = false;  // `begin` and `first_page` count from the start of the rank's own slice
  OpId op = kNone;
  UnitId unit = kNone;
  StateId state = kParameterState;
  When when = When::kAlways;
  bool in_update = false;  // belongs to the update
  Place src, dst, scratch;
  std::vector<Place>
      operands;  // kCompute: inputs then outputs by slot, then the workspace if any; kUpdate: see StepKind
  int64_t begin = 0, count = 0;            // elements of the unit's flat vector: kUpdate, kMove of a state
  int64_t first_page = 0, page_count = 0;  // kMove: of the moved vector
  // waits[l]: this step starts after the first waits[l] steps of lane l in this segment have finished.
  std::array<int32_t, kLaneCount> waits = {};
};

struct Segment {
  std::string name;  // "micro-step", "update", "update + micro-step"
  // What it holds of the graph, each of it whole: all ops of a micro-batch, all ops of an update. With both it is the
  // update of one step and the first micro-batch of the next, so that the one's end runs beside the other's begin.
  bool computes = false, updates = false;
  UnitId sweeps = kNone;  // it is this unit's part of a lock-free update (Plan::sweeps)
  std::vector<Region> regions;
  std::vector<Step> steps;  // in issue order: playing them one after the other is a valid execution
};

// A segment, as often as a program plays it.
struct Play {
  enum class Times : uint8_t {
    kOnce,
    kEachMicroBatch,
    kEachButFirst,  // the first was played beside the update before
  };
  int32_t segment = 0;  // index into Plan::segments
  Times times = Times::kOnce;
};

// One step of training, or one pass over given micro-batches where nothing is updated. Which of a Plan's programs comes
// next is the trainer's choice, at every step.
struct Program {
  std::string name;  // "step", "step, next begun"
  // The step's first micro-batch was played by the program before; the next step's first is played by this one. A
  // program that begins the next step is followed by one that finds it begun, and by no other.
  bool begun = false, begins_next = false;
  std::vector<Play> plays;
};

// Where one state of a unit rests between uses.
struct Home {
  UnitId unit = kNone;
  StateId state = kParameterState;
  int64_t elements = 0;  // stored by a rank: its slice or the whole vector
  MemoryRange range;
};

// Shared by all Plans and ranks of a run.
struct Layout {
  int world_size = 1, zero_stage = 0;
  int ranks_per_node = 0;          // as in WorldShape
  int expert_degree = 1;           // as in WorldShape
  int64_t page_bytes = 0;          // of fp32 states; a page of another state holds as many elements
  std::vector<StateSpec> states;   // Graph::states of the run
  std::vector<UnitSlices> slices;  // by unit
  std::vector<Home> homes;         // by HomeIndex; elements == 0 where the unit has no such state; see shares_place
  std::array<int64_t, kTierCount> home_bytes = {};

  WorldShape world() const { return {world_size, ranks_per_node, expert_degree}; }
  size_t HomeIndex(UnitId unit, StateId state) const { return static_cast<size_t>(unit) * states.size() + state; }
  const Home& home(UnitId unit, StateId state) const { return homes[HomeIndex(unit, state)]; }
  // How many ranks have slices of what a rank uses of the unit.
  int replicas(UnitId unit) const { return slices[unit].replicas; }
  // Whether the rank stores only its slice. One rank's slice is the whole.
  bool sharded(UnitId unit, StateId state) const { return replicas(unit) > 1 && IsSharded(states[state], zero_stage); }
  // Whether it has no place of its own: its home is that of StateSpec::takes_place_of, which holds the one or the
  // other. Of gradients: parameters until a micro-step has read them, gradients until the update. A step then has one
  // micro-batch.
  bool shares_place(StateId state) const { return SharesPlace(states, state, world_size, zero_stage); }
  // The state that the home of this one holds at times, or kNoState.
  StateId guest_of(StateId state) const {
    for (StateId guest = 0; guest < static_cast<StateId>(states.size()); ++guest) {
      if (states[guest].takes_place_of == state && shares_place(guest)) return guest;
    }
    return kNoState;
  }
  // Bytes that so many elements of a unit's vector take in this state.
  int64_t bytes(StateId state, int64_t elements) const { return elements * SizeOf(states[state].dtype); }
  int64_t page_elements() const { return page_bytes / SizeOf(DType::kFloat32); }
  // Of the vector, or of the rank's part of it.
  int64_t whole_elements(UnitId unit) const { return slices[unit].slice_elements * replicas(unit); }
  // First element of a rank's part, 0 but of split experts, and of its own slice.
  int64_t part_begin(UnitId unit, int rank) const { return rank / replicas(unit) * whole_elements(unit); }
  int64_t own_begin(UnitId unit, int rank) const { return slices[unit].slice_elements * rank; }
  // First element that a rank's home of the state holds.
  int64_t home_begin(UnitId unit, StateId state, int rank) const {
    return sharded(unit, state) ? own_begin(unit, rank) : part_begin(unit, rank);
  }
  // Where the place begins in its tier's arena of that rank. A place that is `own` lies in a region of a unit's state.
  int64_t OffsetOf(const Region& region, const Place& place, int rank) const {
    if (!place.own) return region.range.offset + place.begin;
    const int64_t own = own_begin(region.unit, rank) - part_begin(region.unit, rank);
    return region.range.offset + bytes(region.state, own) + place.begin;
  }
};

// Bytes of a tier by class at the step where the tier is fullest.
struct TierPeak {
  int64_t bytes = 0;       // highest address used, holes included
  int64_t live_bytes = 0;  // sum of by_class
  std::array<int64_t, kMemoryClassCount> by_class = {};
};

// Segments of every Plan; those of a graph that is trained; and, if holes left room for it, both at once.
inline constexpr int32_t kMicroStepSegment = 0, kUpdateSegment = 1, kJoinedSegment = 2;

struct Plan {
  Layout layout;
  std::vector<Segment> segments;  // by the constants above, as far as there are such
  std::vector<Program> programs;  // one each of what is possible
  // Of a lock-free update (model/lock_free.h), else empty: a unit's update each, played one at a time beside the
  // programs, on lanes and transient memory of its own. Its update segment only delivers gradients to mailboxes.
  std::vector<Segment> sweeps;
  std::vector<MemoryRange> fixed;  // by tensor: where inputs, outputs and caches lie; offset -1 for other tensors
  std::array<TierPeak, kTierCount> peaks;
  std::array<int64_t, kTierCount> arena_bytes = {};  // what the run must reserve for this Plan

  // The program of that kind, or null.
  const Program* FindProgram(bool begun, bool begins_next) const;
};

// The programs that these segments allow: of a graph that is not trained one pass; else a step, and where the joined
// segment is there also steps that begin the next one or find themselves begun.
std::vector<Program> MakePrograms(const std::vector<Segment>& segments);

// Whether it is an op in which ranks exchange rows: a collective of the comm lane, though it computes.
inline bool IsExchange(const Step& step) { return step.kind == StepKind::kCompute && step.lane == Lane::kComm; }
// Of a collective the bytes of the whole: a unit's vector, or all rows that ranks gather or sum. Of other steps 0.
int64_t ExchangedBytes(const Step& step);

// What a collective step looks like to the other ranks; equal on all ranks or the run must not start (law 4).
struct PlannedCollective {
  StepKind kind;
  std::string what;
  int64_t bytes = 0;
};
std::vector<PlannedCollective> CollectivesOf(const Graph& graph, const Segment& segment);

// A digest of everything in the Plan that the executor acts on: equal on all ranks or the run must not start.
uint64_t Hash(const Plan& plan);

}  // namespace angel_ptm

#endif  // ANGEL_PTM_PLAN_PLAN_H_
