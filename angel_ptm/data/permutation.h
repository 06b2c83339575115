// A pseudo-random permutation of 0..size-1 without tables or state, so any rank can compute any element.
#ifndef ANGEL_PTM_DATA_PERMUTATION_H_
#define ANGEL_PTM_DATA_PERMUTATION_H_

#include <cstdint>

namespace angel_ptm {

// A balanced Feistel network over the smallest even number of bits that holds `size`, with Philox 4x32-10 as its round
// function. It is applied repeatedly until the result is below `size` (cycle walking, Black and Rogaway 2002), fewer
// than 4 times on average.
class Permutation {
 public:
  // size >= 1; `seed` and `epoch` choose the permutation.
  Permutation(int64_t size, uint64_t seed, uint64_t epoch);

  // A bijection of [0, size). Does not allocate.
  int64_t operator()(int64_t index) const;

 private:
  uint64_t Encrypt(uint64_t value) const;

  uint64_t size_;
  uint64_t seed_;
  uint64_t epoch_;
  int half_bits_;
};

}  // namespace angel_ptm

#endif  // ANGEL_PTM_DATA_PERMUTATION_H_
