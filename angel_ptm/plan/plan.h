// The Plan: what runs when and where, as plain data. MakePlan (planner.h) makes it, the executor plays it, verify
// proves it and plan_text prints it. It never changes after it is made.
//
// A rank's memory is one arena per tier, addressed by byte offset. On every tier the homes of persistent state come
// first, at the same offsets in every Plan of a run (Layout); the rest is specific to the Plan.
//
// A Plan names no rank: all ranks of a run play the same one (Place::own), each with its own slices.
//
// A Plan consists of segments and programs. Every segment starts and ends with all state at home and all lanes idle. A
// program lists the segments that make up a step and says which of them are played for every micro-batch.
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

// Steps of one lane run in order, one at a time. Lanes run concurrently, synchronised by Step::waits.
enum class Lane : uint8_t { kCompute, kComm, kCopyIn, kCopyOut, kHostCompute, kFileIn, kFileOut };
inline constexpr int kLaneCount = 7;
const char* Name(Lane lane);

// A legal move between tiers, and the lane that performs it.
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

// In which micro-batches of a training step a plan step runs. In the others it counts as done and touches nothing.
enum class When : uint8_t {
  kAlways,
  kAccumulating,  // not in the first, which overwrites the reduced gradients instead of adding to them
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
  kMailboxes,      // homes of the additional states of a lock-free update
  kInputsOutputs,  // batch, losses, expert counts, caches: fixed for the Plan
  kGathered,       // a unit's whole parameters while ops use them
  kUnitGradients,  // a unit's micro-batch gradient before its reduction
  kActivations,
  kWorkspace,      // scratch memory of kernels
  kCommunication,  // scratch memory of reductions
  kStaging,        // pages of state in transit between tiers
};
inline constexpr int kMemoryClassCount = 11;
const char* Name(MemoryClass memory_class);

// A buffer at one address: a home, an input, output or cache, or one stay of a transient buffer from its arrival to its
// release. Steps [first_step, last_step] of the segment's issue order may touch a transient one.
struct Region {
  std::string label;  // e.g. "layers.3.dense parameters", "layers.3.mlp.swiglu.y"
  MemoryClass memory_class = MemoryClass::kActivations;
  MemoryRange range;
  bool permanent = false;  // homes, inputs, outputs
  // The content: a tensor (activations, inputs, outputs), or all or part of a unit's vector (homes and staging of
  // `state`, gathered parameters, micro-batch gradients).
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
  // Whether the place is a part of the rank's own slice of the unit's vector, which fills the region. Its address
  // depends on the rank (Layout::OffsetOf).
  bool own = false;
  int64_t begin = 0;  // bytes from the start of the region or, if `own`, of the own slice
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
  // kCompute: inputs then outputs by slot, then the workspace if any. kUpdate: see StepKind.
  std::vector<Place> operands;
  int64_t begin = 0, count = 0;            // elements of the unit's flat vector: kUpdate, kMove of a state
  int64_t first_page = 0, page_count = 0;  // kMove: of the moved vector
  // waits[l]: this step starts after the first waits[l] steps of lane l of the segment have finished.
  std::array<int32_t, kLaneCount> waits = {};
};

struct Segment {
  std::string name;  // "micro-step", "update", "update + micro-step"
  // The parts of the graph that the segment contains, each in full: all ops of a micro-batch, all ops of an update. A
  // segment with both contains the update of one step and the first micro-batch of the next, so that the end of the
  // update overlaps the beginning of the micro-batch.
  bool computes = false, updates = false;
  UnitId sweeps = kNone;  // the unit whose part of a lock-free update this is (Plan::sweeps)
  std::vector<Region> regions;
  std::vector<Step> steps;  // in issue order; running them one after the other is a valid execution
};

// A segment, and how often a program plays it.
struct Play {
  enum class Times : uint8_t {
    kOnce,
    kEachMicroBatch,
    kEachButFirst,  // the first was played together with the previous update
  };
  int32_t segment = 0;  // index into Plan::segments
  Times times = Times::kOnce;
};

// One training step or, for a graph without an update, one pass over given micro-batches. At every step the trainer
// chooses which of the Plan's programs to play next.
struct Program {
  std::string name;  // "step", "step, next begun"
  // begun: the previous program played this step's first micro-batch. begins_next: this program plays the next step's
  // first micro-batch. A program with begins_next is always followed by one with begun, any other program by one
  // without.
  bool begun = false, begins_next = false;
  std::vector<Play> plays;
};

// Where one state of a unit rests between uses.
struct Home {
  UnitId unit = kNone;
  StateId state = kParameterState;
  int64_t elements = 0;  // stored by a rank: its slice, or the whole vector
  MemoryRange range;
};

// Shared by all Plans and ranks of a run.
struct Layout {
  int world_size = 1, zero_stage = 0;
  int ranks_per_node = 0;          // as in WorldShape
  int expert_degree = 1;           // as in WorldShape
  int64_t page_bytes = 0;          // of fp32 states; a page of any other state holds the same number of elements
  std::vector<StateSpec> states;   // Graph::states of the run
  std::vector<UnitSlices> slices;  // by unit
  std::vector<Home> homes;         // by HomeIndex; elements == 0 if the unit lacks the state; see shares_place
  std::array<int64_t, kTierCount> home_bytes = {};

  WorldShape world() const { return {world_size, ranks_per_node, expert_degree}; }
  size_t HomeIndex(UnitId unit, StateId state) const { return static_cast<size_t>(unit) * states.size() + state; }
  const Home& home(UnitId unit, StateId state) const { return homes[HomeIndex(unit, state)]; }
  // The number of ranks among which the part of the unit that a rank uses is sliced.
  int replicas(UnitId unit) const { return slices[unit].replicas; }
  // Whether a rank stores only its slice. With a single replica the slice is the whole vector, and the answer is false.
  bool sharded(UnitId unit, StateId state) const { return replicas(unit) > 1 && IsSharded(states[state], zero_stage); }
  // Whether the state has no place of its own. Its home is then that of StateSpec::takes_place_of, which holds one of
  // the two states at a time: parameters until a micro-step has read them, then gradients until the update. A step then
  // has one micro-batch.
  bool shares_place(StateId state) const { return SharesPlace(states, state, world_size, zero_stage); }
  // The state that temporarily takes the place of this one, or kNoState.
  StateId guest_of(StateId state) const {
    for (StateId guest = 0; guest < static_cast<StateId>(states.size()); ++guest) {
      if (states[guest].takes_place_of == state && shares_place(guest)) return guest;
    }
    return kNoState;
  }
  // Bytes of `elements` elements of a unit's vector in this state.
  int64_t bytes(StateId state, int64_t elements) const { return elements * SizeOf(states[state].dtype); }
  int64_t page_elements() const { return page_bytes / SizeOf(DType::kFloat32); }
  // The elements, padding included, of the unit's vector or, for split experts, of a rank's part of it.
  int64_t whole_elements(UnitId unit) const { return slices[unit].slice_elements * replicas(unit); }
  // The first element of a rank's part (0 unless experts are split), and of its own slice.
  int64_t part_begin(UnitId unit, int rank) const { return rank / replicas(unit) * whole_elements(unit); }
  int64_t own_begin(UnitId unit, int rank) const { return slices[unit].slice_elements * rank; }
  // The first element in a rank's home of the state.
  int64_t home_begin(UnitId unit, StateId state, int rank) const {
    return sharded(unit, state) ? own_begin(unit, rank) : part_begin(unit, rank);
  }
  // The offset of the place in its tier's arena on `rank`. A place that is `own` must lie in a region of a unit's
  // state.
  int64_t OffsetOf(const Region& region, const Place& place, int rank) const {
    if (!place.own) return region.range.offset + place.begin;
    const int64_t own = own_begin(region.unit, rank) - part_begin(region.unit, rank);
    return region.range.offset + bytes(region.state, own) + place.begin;
  }
};

// The bytes of a tier by class, at the step at which the tier is fullest.
struct TierPeak {
  int64_t bytes = 0;       // highest address used, holes included
  int64_t live_bytes = 0;  // sum of by_class
  std::array<int64_t, kMemoryClassCount> by_class = {};
};

// Indices into Plan::segments: the micro-step, which every Plan has; the update of a graph that is trained; and, if
// memory allows, both joined.
inline constexpr int32_t kMicroStepSegment = 0, kUpdateSegment = 1, kJoinedSegment = 2;

struct Plan {
  Layout layout;
  std::vector<Segment> segments;  // indexed by the constants above, as far as present
  std::vector<Program> programs;  // one of each possible kind
  // For a lock-free update (model/lock_free.h), one segment per unit with its update; else empty. Sweeps are played one
  // at a time, concurrently with the programs, on lanes and in transient memory of their own. The update segment then
  // only delivers gradients to mailboxes.
  std::vector<Segment> sweeps;
  std::vector<MemoryRange> fixed;  // by tensor: the place of inputs, outputs and caches; offset -1 for others
  std::array<TierPeak, kTierCount> peaks;
  std::array<int64_t, kTierCount> arena_bytes = {};  // to be reserved for this Plan

  // The program with these properties, or null.
  const Program* FindProgram(bool begun, bool begins_next) const;
};

// The programs that these segments allow: one pass for a graph that is not trained; else a step and, if there is a
// joined segment, also steps that begin the next one, that have been begun, or both.
std::vector<Program> MakePrograms(const std::vector<Segment>& segments);

// Whether the step is an op in which ranks exchange rows: a kCompute step that is a collective on the comm lane.
inline bool IsExchange(const Step& step) { return step.kind == StepKind::kCompute && step.lane == Lane::kComm; }
// The total bytes of a collective: a unit's whole vector, or all rows that ranks gather or sum. 0 for other steps.
int64_t ExchangedBytes(const Step& step);

// A collective step as other ranks see it. Must be equal on all ranks, or the run must not start (law 4).
struct PlannedCollective {
  StepKind kind;
  std::string what;
  int64_t bytes = 0;
};
std::vector<PlannedCollective> CollectivesOf(const Graph& graph, const Segment& segment);

// A digest of what the executor acts on in the Plan. Must be equal on all ranks, or the run must not start.
uint64_t Hash(const Plan& plan);

}  // namespace angel_ptm

#endif  // ANGEL_PTM_PLAN_PLAN_H_
