// The values that the suites of comm send, by rank and place, computed once. Under a sanitizer, making and comparing
// elements one by one takes more time than the transports do.
#ifndef ANGEL_PTM_TESTS_COMM_PERIODIC_VALUES_H_
#define ANGEL_PTM_TESTS_COMM_PERIODIC_VALUES_H_

#include <algorithm>
#include <cstdint>
#include <cstring>
#include <span>
#include <vector>

namespace angel_ptm {

// An endless row of values. It repeats after a prime number of elements, which divides no slice, block or piece, so
// data that arrives at a wrong place has wrong values.
template <typename T>
class PeriodicValues {
 public:
  static constexpr int64_t kPeriod = 65521;

  // value(i) -> T for i in [0, kPeriod).
  template <typename ValueOf>
  explicit PeriodicValues(const ValueOf& value) {
    period_.reserve(kPeriod);
    for (int64_t i = 0; i < kPeriod; ++i) period_.push_back(value(i));
  }

  T operator[](int64_t i) const { return period_[static_cast<size_t>(i % kPeriod)]; }

  // dst[i] = (*this)[from + i].
  void Fill(std::span<T> dst, int64_t from = 0) const {
    ForEachRun(static_cast<int64_t>(dst.size()), from, [&](int64_t at, int64_t n, const T* values) {
      std::memcpy(dst.data() + at, values, static_cast<size_t>(n) * sizeof(T));
      return true;
    });
  }

  // Returns the first i at which got[i] has other bits than (*this)[from + i]; -1 if there is none.
  int64_t FirstDifference(std::span<const T> got, int64_t from = 0) const {
    int64_t difference = -1;
    ForEachRun(static_cast<int64_t>(got.size()), from, [&](int64_t at, int64_t n, const T* values) {
      if (std::memcmp(got.data() + at, values, static_cast<size_t>(n) * sizeof(T)) == 0) return true;
      difference = at;
      while (std::memcmp(&got[static_cast<size_t>(difference)], values + (difference - at), sizeof(T)) == 0) {
        ++difference;
      }
      return false;
    });
    return difference;
  }

 private:
  // Calls visit(at, n, values) for runs [at, at + n) of [0, count) until it returns false.
  template <typename Visit>
  void ForEachRun(int64_t count, int64_t from, const Visit& visit) const {
    for (int64_t at = 0; at < count;) {
      const int64_t begin = (from + at) % kPeriod, n = std::min(count - at, kPeriod - begin);
      if (!visit(at, n, period_.data() + begin)) return;
      at += n;
    }
  }

  std::vector<T> period_;
};

// The sum of the ranks' rows in the order given. `ranks` must not be empty.
inline PeriodicValues<float> OrderedSums(std::span<const PeriodicValues<float>* const> ranks) {
  return PeriodicValues<float>([&](int64_t i) {
    float sum = (*ranks[0])[i];
    for (size_t r = 1; r < ranks.size(); ++r) sum += (*ranks[r])[i];
    return sum;
  });
}

}  // namespace angel_ptm

#endif  // ANGEL_PTM_TESTS_COMM_PERIODIC_VALUES_H_
