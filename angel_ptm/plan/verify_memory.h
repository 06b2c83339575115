// What memory holds and which values are newest, while CheckReplay plays a segment.
#ifndef ANGEL_PTM_PLAN_VERIFY_MEMORY_H_
#define ANGEL_PTM_PLAN_VERIFY_MEMORY_H_

#include <array>
#include <optional>
#include <string>
#include <vector>

#include "angel_ptm/plan/interval_map.h"
#include "angel_ptm/plan/verify_internal.h"

namespace angel_ptm::verify {

// Something with a value: a tensor of the graph, or one of a unit's states (its flat vector over all ranks).
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

// Symbolic memory: every byte of both arenas holds a byte of some version of some object, or nothing known; every byte
// of every object has a newest version.
class SymbolicMemory {
 public:
  SymbolicMemory(const Graph& graph, const Layout& layout, const Segment& segment)
      : graph_(graph),
        layout_(layout),
        segment_(segment),
        newest_(graph.tensors.size() + graph.units().size() * layout.states.size()) {}

  static ObjectId Tensor(TensorId t) { return t; }
  ObjectId State(UnitId unit, StateId s) const {
    return static_cast<ObjectId>(graph_.tensors.size() + static_cast<size_t>(unit) * layout_.states.size() + s);
  }
  // "tensor layers.0.mlp.swiglu.y", "layers.0.dense parameters"
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
  // The extent the place holds a part of at its first byte; object kNone if nothing is known of it.
  ObjectRange HeldBy(const Place& place) const;

 private:
  struct Content {
    ObjectId object = kNone;
    int64_t shift = 0;  // object byte = memory byte + shift
    int64_t version = 0;
  };

  int64_t Address(const Place& place) const { return segment_.regions[place.region].range.offset + place.begin; }
  IntervalMap<Content>& Tier(const Place& place) {
    return tiers_[static_cast<int>(segment_.regions[place.region].range.tier)];
  }
  const IntervalMap<Content>& Tier(const Place& place) const {
    return tiers_[static_cast<int>(segment_.regions[place.region].range.tier)];
  }

  const Graph& graph_;
  const Layout& layout_;
  const Segment& segment_;
  std::array<IntervalMap<Content>, kTierCount> tiers_;
  std::vector<IntervalMap<int64_t>> newest_;  // by object: version of every byte that has one
  int64_t versions_ = 0;
};

}  // namespace angel_ptm::verify

#endif  // ANGEL_PTM_PLAN_VERIFY_MEMORY_H_
