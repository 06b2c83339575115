// The order in which a rank exchanges messages with its peers: with one batch of them at a time, around a ring, so that
// a rank is sent to by the few ranks before it, not by all at the same time.
//
// At 1,000 ranks (tests/comm/ring_batches_test.cc) there are 63 batches; a rank has at most 16 sends and 16 receives in
// flight, and the 16 ranks before it send to it in one batch. A batch ends with its receives, so a late rank holds the
// others up: until it comes, each of the 999 others has sent it at most one message, which MPI sends without being
// asked only if it is short (the eager limit, a few KiB). Other calls have fewer messages in flight: a small all-gather
// 4, a barrier 2, a broadcast's root one for each of its 10 children.
#ifndef ANGEL_PTM_COMM_RING_BATCHES_H_
#define ANGEL_PTM_COMM_RING_BATCHES_H_

#include <algorithm>
#include <cstdint>

namespace angel_ptm {

// Whether an all-gather of n bytes from each of `size` ranks goes in log2(size) rounds. It does where the number of
// messages determines its cost, not the number of bytes: when the whole is small, or when each rank's block is (at
// 10,000 ranks a step's few bytes would otherwise cost each rank 9,999 messages).
inline bool GathersInRounds(int64_t n, int size) {
  constexpr int64_t kSmallBlockBytes = int64_t{4} << 10, kSmallGatherBytes = int64_t{256} << 10;
  return n <= kSmallBlockBytes || n * size <= kSmallGatherBytes;
}

class RingBatches {
 public:
  static constexpr int kPeersAtOnce = 16;

  RingBatches(int rank, int size) : rank_(rank), size_(size) {}

  int count() const { return (size_ - 1 + kPeersAtOnce - 1) / kPeersAtOnce; }

  // Calls fn(peer) for every peer of the batch; stops at the first error of fn and returns it.
  template <typename Fn>
  auto EachSource(int batch, Fn&& fn) const {
    return Each(batch, [&](int distance) { return fn((rank_ - distance + size_) % size_); });
  }
  template <typename Fn>
  auto EachDestination(int batch, Fn&& fn) const {
    return Each(batch, [&](int distance) { return fn((rank_ + distance) % size_); });
  }

 private:
  template <typename Fn>
  auto Each(int batch, Fn&& fn) const -> decltype(fn(0)) {
    const int first = 1 + batch * kPeersAtOnce, last = std::min(first + kPeersAtOnce, size_);
    for (int distance = first; distance < last; ++distance) {
      if (auto status = fn(distance); !status.ok()) return status;
    }
    return {};
  }

  const int rank_, size_;
};

}  // namespace angel_ptm

#endif  // ANGEL_PTM_COMM_RING_BATCHES_H_
