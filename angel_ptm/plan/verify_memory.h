// What memory holds and which values are newest, while CheckReplay plays a segment.
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

// Something with a value: a tensor of the graph, one of a unit's states (its flat vector over all ranks), or the rank's
// own slice of one, as far as it differs.
using ObjectId = int32_t;

// Bytes [begin, begin + bytes) of an object.
struct ObjectRange {
  ObjectId object = kNone;
  int64_t begin = 0, bytes = 0;
};

// The part of a range that is done; each element may be done once.
class Coverage {
 public:
  // False if some of it was done before.
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

// Symbolic memory of any one rank: every byte of both arenas holds a byte of some object as it was at some time, or
// nothing known; every byte of every object has a time at which it last changed.
//
// Which bytes of a vector are the rank's own is not known. So a region with places in the own slice (Place::own) has
// two contents, what its bytes hold where they are not own, by address, and what they hold where they are, by byte of
// the slice; and a state that ranks know differently has two objects, in the same way. Who reads bytes by address must
// find both.
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

  // The place gets a new version of the extent, which is the newest from now on.
  void Write(const Place& place, const ObjectRange& extent);
  // A new version of the extent exists that no memory of this rank holds.
  void Outdate(const ObjectRange& extent);
  // The place gets the newest version of the extent, whatever memory holds.
  void CopyNewest(const Place& place, const ObjectRange& extent);
  // The place holds nothing known from now on.
  void Forget(const Place& place);
  // Nothing if the place holds the newest version of the extent; else what it holds instead.
  std::optional<std::string> WhyNot(const Place& place, const ObjectRange& extent) const;

 private:
  struct Content {
    ObjectId object = kNone;
    int64_t shift = 0;  // object byte = memory byte + shift
    int64_t time = 0;   // as of which it was the newest
  };
  // Bytes from `begin` of tiers_ or own_. `even_if_own`: what is there by address is there on every rank.
  struct Bytes {
    const IntervalMap<Content>* memory;
    int64_t begin;
    bool even_if_own = false;
  };

  bool IsState(ObjectId object) const { return object >= static_cast<ObjectId>(graph_.tensors.size()); }
  bool IsOwnSlice(ObjectId object) const { return IsState(object) && (object - graph_.tensors.size()) % 2 == 1; }
  bool IsWhole(ObjectId object) const { return IsState(object) && !IsOwnSlice(object); }
  static ObjectId OwnSliceOf(ObjectId whole) { return whole + 1; }
  // Of one rank's slice: of a state, and in a region that a vector fills.
  int64_t SliceBytes(ObjectId object) const;
  // Of a region that has own slices, so of a unit.
  int64_t SliceBytesIn(int32_t region) const {
    const Region& of = segment_.regions[region];
    return of.range.bytes / layout_.slices[of.unit].replicas;
  }
  // Calls visit(begin, end) for the bytes of a slice that [begin, end) of a vector are, whichever slice they are in.
  template <typename Visit>
  static void ForEachInSlice(int64_t begin, int64_t end, int64_t slice, Visit&& visit);

  int64_t Address(const Place& place) const { return segment_.regions[place.region].range.offset + place.begin; }
  IntervalMap<Content>& Tier(const Place& place) {
    return tiers_[static_cast<int>(segment_.regions[place.region].range.tier)];
  }
  const IntervalMap<Content>& Tier(const Place& place) const {
    return tiers_[static_cast<int>(segment_.regions[place.region].range.tier)];
  }
  // What lies at the place, by address, is of no known own slice.
  void ForgetOwn(const Place& place);
  std::optional<std::string> WhyNot(const Bytes& at, const ObjectRange& extent) const;
  bool ChangedSince(int64_t time, const ObjectRange& extent, bool even_if_own) const;

  const Graph& graph_;
  const Layout& layout_;
  const Segment& segment_;
  std::array<IntervalMap<Content>, kTierCount> tiers_;
  absl::flat_hash_map<int32_t, IntervalMap<Content>> own_;  // of regions with places in the own slice: where it is own
  std::vector<IntervalMap<int64_t>> changed_;  // by object: time of the last change of every byte that has one
  int64_t now_ = 0;
};

}  // namespace angel_ptm::verify

#endif  // ANGEL_PTM_PLAN_VERIFY_MEMORY_H_
