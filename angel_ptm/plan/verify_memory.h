// Tracks what memory holds and which values are the newest while CheckReplay plays a segment.
#ifndef ANGEL_PTM_PLAN_VERIFY_MEMORY_H_
#define ANGEL_PTM_PLAN_VERIFY_MEMORY_H_

#include <array>
#include <optional>
#include <string>
#include <vector>

#include "absl/container/flat_hash_map.h"
#include "angel_ptm/plan/interval_map.h"
#include "angel_ptm/plan/verify_internal.h"

namespace angel_ptm::verify {

// An entity with a value: a tensor of the graph, one of a unit's states (its flat vector over all ranks), or the rank's
// own slice of a state, where ranks may differ.
using ObjectId = int32_t;

// Bytes [begin, begin + bytes) of an object.
struct ObjectRange {
  ObjectId object = kNone;
  int64_t begin = 0, bytes = 0;
};

// The part of a range that is done. Each element may be done only once.
class Coverage {
 public:
  // Marks [begin, end) as done; false if some of it was done before.
  bool Add(int64_t begin, int64_t end) {
    const bool is_new = done_.ForEach(begin, end, [](int64_t, int64_t, const bool* done) { return done == nullptr; });
    done_.Assign(begin, end, true);
    return is_new;
  }
  bool Covers(int64_t begin, int64_t end) const {
    return done_.ForEach(begin, end, [](int64_t, int64_t, const bool* done) { return done != nullptr; });
  }

 private:
  IntervalMap<bool> done_;
};

// Symbolic memory of an arbitrary rank. Every byte of every arena holds either a byte of some object as of some time,
// or nothing known. Every byte of every object has a time at which it last changed.
//
// It is unknown which bytes of a vector are the rank's own. So a region with places in the own slice (Place::own) has
// two contents: one by address, for bytes that are not own, and one by byte of the slice, for bytes that are. In the
// same way, a state that differs between ranks has two objects. A read by address must find the expected value in both.
class SymbolicMemory {
 public:
  SymbolicMemory(const Graph& graph, const Layout& layout, const Segment& segment);

  static ObjectId Tensor(TensorId t) { return t; }
  ObjectId State(UnitId unit, StateId s) const {
    return static_cast<ObjectId>(graph_.tensors.size() + 2 * layout_.HomeIndex(unit, s));
  }
  ObjectId OwnSlice(UnitId unit, StateId s) const { return State(unit, s) + 1; }
  // "tensor layers.0.mlp.swiglu.y", "layers.0.dense parameters", "the own slice of layers.0.dense parameters"
  std::string NameOf(ObjectId object) const;

  // Writes a new version of the extent to the place; it becomes the newest version.
  void Write(const Place& place, const ObjectRange& extent);
  // Records that a new version of the extent exists, which no memory of this rank holds.
  void Outdate(const ObjectRange& extent);
  // Puts the newest version of the extent into the place, whether or not memory holds that version.
  void CopyNewest(const Place& place, const ObjectRange& extent);
  // Makes the content of the place unknown.
  void Forget(const Place& place);
  // Returns nullopt if the place holds the newest version of the extent, else a description of what it holds instead.
  std::optional<std::string> WhyNot(const Place& place, const ObjectRange& extent) const;

 private:
  struct Content {
    ObjectId object = kNone;
    int64_t shift = 0;  // object byte = memory byte + shift
    int64_t time = 0;   // when it was the newest version
  };
  // Bytes from `begin` on in a map of tiers_ or own_. `even_if_own`: the content by address holds on every rank, also
  // for bytes that are own.
  struct Bytes {
    const IntervalMap<Content>* memory;
    int64_t begin;
    bool even_if_own = false;
  };

  bool IsState(ObjectId object) const { return object >= static_cast<ObjectId>(graph_.tensors.size()); }
  bool IsOwnSlice(ObjectId object) const { return IsState(object) && (object - graph_.tensors.size()) % 2 == 1; }
  bool IsWhole(ObjectId object) const { return IsState(object) && !IsOwnSlice(object); }
  static ObjectId OwnSliceOf(ObjectId whole) { return whole + 1; }
  // Bytes of one rank's slice: of a state, and in a region that a vector fills.
  int64_t SliceBytes(ObjectId object) const;
  // The region must have own slices, and therefore a unit.
  int64_t SliceBytesIn(int32_t region) const {
    const Region& of = segment_.regions[region];
    return of.range.bytes / layout_.slices[of.unit].replicas;
  }
  // Calls visit(begin, end) for the ranges of bytes within a slice to which [begin, end) of a vector corresponds,
  // whichever slices it touches.
  template <typename Visit>
  static void ForEachInSlice(int64_t begin, int64_t end, int64_t slice, Visit&& visit);

  int64_t Address(const Place& place) const { return segment_.regions[place.region].range.offset + place.begin; }
  IntervalMap<Content>& Tier(const Place& place) {
    return tiers_[static_cast<int>(segment_.regions[place.region].range.tier)];
  }
  const IntervalMap<Content>& Tier(const Place& place) const {
    return tiers_[static_cast<int>(segment_.regions[place.region].range.tier)];
  }
  // Makes the own-slice content of all bytes at the place, which is given by address, unknown.
  void ForgetOwn(const Place& place);
  std::optional<std::string> WhyNot(const Bytes& at, const ObjectRange& extent) const;
  bool ChangedSince(int64_t time, const ObjectRange& extent, bool even_if_own) const;

  const Graph& graph_;
  const Layout& layout_;
  const Segment& segment_;
  std::array<IntervalMap<Content>, kTierCount> tiers_;
  absl::flat_hash_map<int32_t, IntervalMap<Content>> own_;  // content of own bytes, by region with own places
  std::vector<IntervalMap<int64_t>> changed_;               // by object: when each byte last changed, if ever
  int64_t now_ = 0;
};

}  // namespace angel_ptm::verify

#endif  // ANGEL_PTM_PLAN_VERIFY_MEMORY_H_
