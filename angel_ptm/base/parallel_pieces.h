// Splits a long range into pieces that several threads process.
#ifndef ANGEL_PTM_BASE_PARALLEL_PIECES_H_
#define ANGEL_PTM_BASE_PARALLEL_PIECES_H_

#include <algorithm>
#include <atomic>
#include <cstdint>
#include <thread>
#include <vector>

namespace angel_ptm {

// Calls work(begin, length) for every piece of [0, total); all pieces but the last are piece_max long. Uses at most
// `threads` threads, including the caller's, and returns when all pieces are done. Each call starts threads, so use it
// at start-up or for pieces large enough to justify that.
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
