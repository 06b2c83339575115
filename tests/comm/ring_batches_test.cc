// The batches of an exchange by messages among many ranks: no rank is flooded, and everyone gets everything.
#include "comm/ring_batches.h"

#include <gtest/gtest.h>

#include <algorithm>
#include <vector>

#include "angel_ptm/base/status.h"

namespace angel_ptm {
namespace {

// What every rank posts in every batch, in total.
struct Traffic {
  int in_flight_max = 0;  // sends and receives of a rank in a batch
  int to_one_max = 0;     // ranks that send to one rank in a batch
  bool complete = true;   // each rank sends to each other once, in the batch in which the other receives it
};

// destinations(rank, batch, fn) and sources(rank, batch, fn) call fn(peer) for each peer.
template <typename Destinations, typename Sources>
Traffic Replay(int size, int batches, const Destinations& destinations, const Sources& sources) {
  Traffic traffic;
  const auto n = static_cast<size_t>(size);
  std::vector<int> sent_in(n * n, -1);  // the batch, by sender and receiver
  for (int batch = 0; batch < batches; ++batch) {
    std::vector<int> arriving(n), received(n), posted(n);
    for (int rank = 0; rank < size; ++rank) {
      destinations(rank, batch, [&](int peer) {
        int& sent = sent_in[static_cast<size_t>(rank) * n + static_cast<size_t>(peer)];
        traffic.complete &= peer != rank && sent < 0;
        sent = batch;
        ++posted[static_cast<size_t>(rank)], ++arriving[static_cast<size_t>(peer)];
        return absl::OkStatus();
      }).IgnoreError();
    }
    for (int rank = 0; rank < size; ++rank) {
      sources(rank, batch, [&](int peer) {
        traffic.complete &= sent_in[static_cast<size_t>(peer) * n + static_cast<size_t>(rank)] == batch;
        ++posted[static_cast<size_t>(rank)], ++received[static_cast<size_t>(rank)];
        return absl::OkStatus();
      }).IgnoreError();
    }
    traffic.complete &= arriving == received;
    traffic.in_flight_max = std::max(traffic.in_flight_max, *std::max_element(posted.begin(), posted.end()));
    traffic.to_one_max = std::max(traffic.to_one_max, *std::max_element(arriving.begin(), arriving.end()));
  }
  traffic.complete &= std::count(sent_in.begin(), sent_in.end(), -1) == size;  // none to itself
  return traffic;
}

Traffic InARing(int size) {
  return Replay(
      size, RingBatches(0, size).count(),
      [&](int rank, int batch, auto fn) { return RingBatches(rank, size).EachDestination(batch, fn); },
      [&](int rank, int batch, auto fn) { return RingBatches(rank, size).EachSource(batch, fn); });
}

TEST(RingBatchesTest, NobodyIsSentToByManyAtOnceHoweverManyRanksThereAre) {
  EXPECT_EQ(RingBatches(0, 1).count(), 0);
  EXPECT_EQ(RingBatches(0, 1000).count(), 63);
  for (const int size : {1, 2, 3, 16, 17, 18, 33, 100, 1000}) {
    const Traffic traffic = InARing(size);
    EXPECT_TRUE(traffic.complete) << size;
    EXPECT_EQ(traffic.to_one_max, std::min(size - 1, 16)) << size;
    EXPECT_EQ(traffic.in_flight_max, 2 * std::min(size - 1, 16)) << size;
  }
}

// Control: the replay finds a burst. If every rank went through its peers from 0 on, all would send to the same few.
TEST(RingBatchesTest, TheOrderOfRanksWouldBeABurst) {
  constexpr int kSize = 1000, kAtOnce = RingBatches::kPeersAtOnce;
  const auto in_order = [&](int rank, int batch, auto fn) {
    for (int peer = batch * kAtOnce; peer < std::min(kSize, (batch + 1) * kAtOnce); ++peer) {
      if (peer != rank) fn(peer).IgnoreError();
    }
    return absl::OkStatus();
  };
  const Traffic traffic = Replay(kSize, (kSize + kAtOnce - 1) / kAtOnce, in_order, in_order);
  EXPECT_FALSE(traffic.complete);
  EXPECT_EQ(traffic.to_one_max, kSize - 1);
}

// The block sizes of a step's norm, in worlds of any size.
TEST(RingBatchesTest, SmallBlocksAreGatheredInRoundsHoweverManyRanksThereAre) {
  for (const int size : {2, 3276, 3277, 10000, 100000}) EXPECT_TRUE(GathersInRounds(80, size)) << size;
  EXPECT_TRUE(GathersInRounds(4096, 10000));
  EXPECT_FALSE(GathersInRounds(4097, 10000));
  EXPECT_TRUE(GathersInRounds(64 << 10, 4));
  EXPECT_FALSE(GathersInRounds(64 << 10, 5));
}

TEST(RingBatchesTest, AnErrorEndsABatch) {
  int calls = 0;
  const absl::Status status = RingBatches(3, 100).EachSource(
      1, [&](int) { return ++calls == 2 ? absl::UnavailableError("gone") : absl::OkStatus(); });
  EXPECT_EQ(status.message(), "gone");
  EXPECT_EQ(calls, 2);
}

}  // namespace
}  // namespace angel_ptm
