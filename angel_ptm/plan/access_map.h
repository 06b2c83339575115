// Who touched which bytes: what OrderSteps and StartEarly keep to find conflicts. (verify has its own.)
#ifndef ANGEL_PTM_PLAN_ACCESS_MAP_H_
#define ANGEL_PTM_PLAN_ACCESS_MAP_H_

#include <algorithm>
#include <cstdint>
#include <map>

namespace angel_ptm {

// A value of type Use for every byte that was visited, constant on ranges.
template <typename Use>
class AccessMap {
 public:
  // Calls visit(Use&) for every range of [begin, end); bytes visited for the first time have Use().
  template <typename Visit>
  void Access(int64_t begin, int64_t end, Visit&& visit) {
    auto it = ranges_.lower_bound(begin);
    if (it == ranges_.end() || it->first != begin) it = SplitBefore(it, begin);
    for (int64_t at = begin; at < end; ++it) {
      if (it == ranges_.end() || it->first > at) {
        const int64_t next = it == ranges_.end() ? end : std::min(end, it->first);
        it = ranges_.emplace_hint(it, at, Range{next, Use()});
      } else if (it->second.end > end) {
        ranges_.emplace_hint(std::next(it), end, it->second);
        it->second.end = end;
      }
      visit(it->second.use);
      at = it->second.end;
    }
  }

 private:
  struct Range {
    int64_t end;
    Use use;
  };
  using Ranges = std::map<int64_t, Range>;

  // Cuts the range in front of `next`, if it reaches over `at`, there. Returns the first range at or behind `at`.
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

}  // namespace angel_ptm

#endif  // ANGEL_PTM_PLAN_ACCESS_MAP_H_
