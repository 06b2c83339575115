// Work on a long range by several threads in turns.
#ifndef ANGEL_PTM_BASE_PARALLEL_PIECES_H_
#define ANGEL_PTM_BASE_PARALLEL_PIECES_H_

#include <algorithm>
#include <atomic>
#include <cstdint>
#include <thread>
#include <vector>

namespace angel_ptm {

// work(begin, length) on every piece of [0, total), each piece_max long but the last, by at most `threads` threads, the
// caller one of them. Returns when all are done. Starts threads: for start-up, and pieces that are worth one.
template <typename Work>
void ForEachPiece(int64_t total, int64_t piece_max, int threads, const Work& work) {
  const int64_t pieces = (total + piece_max - 1) / piece_max;
  std::atomic<int64_t> next = 0;
  const auto take = [&] {
    for (int64_t i = next++; i < pieces; i = next++) {
      work(i * piece_max, std::min(piece_max, total - i * piece_max));
    }
  };
  std::vector<std::jthread> helpers;
  for (int64_t t = 1; t < std::min<int64_t>(threads, pieces); ++t) helpers.emplace_back(take);
  take();
}

}  // namespace angel_ptm

#endif  // ANGEL_PTM_BASE_PARALLEL_PIECES_H_
