// A map from ranges of int64 to values, in which verify keeps facts about bytes of memory and elements of vectors.
#ifndef ANGEL_PTM_PLAN_INTERVAL_MAP_H_
#define ANGEL_PTM_PLAN_INTERVAL_MAP_H_

#include <algorithm>
#include <cstdint>
#include <iterator>
#include <map>
#include <utility>

namespace angel_ptm {

// A partial function from int64 to T that is constant on ranges. A piece is a range [begin, end) with one value.
template <typename T>
class IntervalMap {
 public:
  // Sets [begin, end) to `value`.
  void Assign(int64_t begin, int64_t end, T value) {
    if (begin >= end) return;
    Erase(begin, end);
    pieces_.emplace(begin, Piece{end, std::move(value)});
  }

  void Erase(int64_t begin, int64_t end) {
    Split(begin);
    Split(end);
    pieces_.erase(pieces_.lower_bound(begin), pieces_.lower_bound(end));
  }

  // Calls visit(piece_begin, piece_end, const T* value) for the pieces and gaps of [begin, end) in order, with a null
  // value for gaps, until visit returns false. Returns whether the whole range was visited.
  template <typename Visit>
  bool ForEach(int64_t begin, int64_t end, Visit&& visit) const {
    auto it = pieces_.upper_bound(begin);
    if (it != pieces_.begin() && std::prev(it)->second.end > begin) --it;
    while (begin < end) {
      const bool gap = it == pieces_.end() || it->first > begin;
      const int64_t piece_end = std::min(end, !gap ? it->second.end : it == pieces_.end() ? end : it->first);
      if (!visit(begin, piece_end, gap ? nullptr : &it->second.value)) return false;
      begin = piece_end;
      if (!gap) ++it;
    }
    return true;
  }

  // Calls change(T&) for every piece of [begin, end), after filling gaps with T().
  template <typename Change>
  void Update(int64_t begin, int64_t end, Change&& change) {
    Split(begin);
    Split(end);
    auto it = pieces_.lower_bound(begin);
    while (begin < end) {
      if (it == pieces_.end() || it->first > begin) {
        const int64_t gap_end = it == pieces_.end() ? end : std::min(end, it->first);
        it = pieces_.emplace_hint(it, begin, Piece{gap_end, T()});
      }
      change(it->second.value);
      begin = it->second.end;
      ++it;
    }
  }

 private:
  struct Piece {
    int64_t end;
    T value;
  };

  // If `at` lies inside a piece, splits the piece there.
  void Split(int64_t at) {
    auto it = pieces_.lower_bound(at);
    if (it == pieces_.begin()) return;
    --it;
    if (it->second.end <= at) return;
    Piece tail = it->second;
    it->second.end = at;
    pieces_.emplace(at, std::move(tail));
  }

  std::map<int64_t, Piece> pieces_;  // by begin, disjoint
};

}  // namespace angel_ptm

#endif  // ANGEL_PTM_PLAN_INTERVAL_MAP_H_
