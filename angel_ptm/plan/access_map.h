// Records which steps touched which bytes, so that OrderSteps and StartEarly can find conflicts. (verify has its own.)
#ifndef ANGEL_PTM_PLAN_ACCESS_MAP_H_
#define ANGEL_PTM_PLAN_ACCESS_MAP_H_

#include <algorithm>
#include <cstdint>
#include <iterator>
#include <map>

#include "absl/container/flat_hash_map.h"
#include "angel_ptm/plan/plan.h"

namespace angel_ptm {

// A map from every byte that was visited to a value of type T, which is constant on ranges.
template <typename T>
class RangeMap {
 public:
  // Calls visit(T&) for every range of [begin, end); bytes visited for the first time have T().
  template <typename Visit>
  void ForEach(int64_t begin, int64_t end, Visit&& visit) {
    auto it = ranges_.lower_bound(begin);
    if (it == ranges_.end() || it->first != begin) it = SplitBefore(it, begin);
    for (int64_t at = begin; at < end; ++it) {
      if (it == ranges_.end() || it->first > at) {
        const int64_t next = it == ranges_.end() ? end : std::min(end, it->first);
        it = ranges_.emplace_hint(it, at, Range{next, T()});
      } else if (it->second.end > end) {
        ranges_.emplace_hint(std::next(it), end, it->second);
        it->second.end = end;
      }
      visit(it->second.value);
      at = it->second.end;
    }
  }

 private:
  struct Range {
    int64_t end;
    T value;
  };
  using Ranges = std::map<int64_t, Range>;

  // Cuts the range before `next` at `at` if it extends beyond `at`. Returns the first range that begins at or after
  // `at`.
  typename Ranges::iterator SplitBefore(typename Ranges::iterator next, int64_t at) {
    if (next == ranges_.begin()) return next;
    const auto it = std::prev(next);
    if (it->second.end <= at) return next;
    const Range tail = it->second;
    it->second.end = at;
    return ranges_.emplace_hint(next, at, tail);
  }

  Ranges ranges_;  // by begin, disjoint
};

// The uses of one tier's bytes, for all ranks at once. A rank's own slice may lie anywhere in a vector, so to an access
// by address, a use of the own slice counts as a use of the whole vector. Two uses of the own slice of the same vector
// conflict only where they overlap within the slice, so that the pages of a slice do not wait for each other.
//
// A Use accumulates uses and provides Add(const Use&).
template <typename Use>
class AccessMap {
 public:
  // Records an access to `place`, in a region that begins at byte `region_begin`. Calls see(const Use&) for every use
  // that shares bytes with the place on some rank, and note(Use&, bool only) for every Use to which the access is to be
  // added. If `only`, the place covers all bytes of that Use, so a later access that waits for this one need not know
  // of earlier ones.
  template <typename See, typename Note>
  void Access(const Place& place, int64_t region_begin, int64_t region_bytes, See&& see, Note&& note) {
    if (!place.own) {
      const int64_t begin = region_begin + place.begin;
      bytes_.ForEach(begin, begin + place.bytes, [&](Bytes& bytes) {
        see(bytes.use);
        if (bytes.own_of != kNone) see(own_[bytes.own_of].all);
        note(bytes.use, true);
      });
      return;
    }
    Own& own = own_[place.region];
    bytes_.ForEach(region_begin, region_begin + region_bytes, [&](Bytes& bytes) {
      // Own parts of another vector, which was here before, are not comparable by their position in the slice.
      if (bytes.own_of != kNone && bytes.own_of != place.region) bytes.use.Add(own_[bytes.own_of].all);
      bytes.own_of = place.region;
      see(bytes.use);
    });
    own.parts.ForEach(place.begin, place.begin + place.bytes, [&](Use& use) {
      see(use);
      note(use, true);
    });
    note(own.all, false);
  }

 private:
  // Uses of the own slice of the vector that fills a region.
  struct Own {
    Use all;
    RangeMap<Use> parts;  // by byte of the slice
  };
  struct Bytes {
    Use use;  // of places with the same address on all ranks
    int32_t own_of = kNone;
  };

  RangeMap<Bytes> bytes_;
  absl::flat_hash_map<int32_t, Own> own_;  // by region
};

}  // namespace angel_ptm

#endif  // ANGEL_PTM_PLAN_ACCESS_MAP_H_
