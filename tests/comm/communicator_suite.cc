// What every transport must do: values are compared with plain loops and sums bit for bit, and errors name ranks and
// calls.
#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <bit>
#include <chrono>
#include <cmath>
#include <cstring>
#include <ctime>
#include <numeric>
#include <span>
#include <thread>
#include <vector>

#include "angel_ptm/base/bfloat16.h"
#include "comm/ordered_reduce_scatter.h"
#include "tests/comm/periodic_values.h"
#include "tests/comm/world_under_test.h"

namespace angel_ptm {
namespace {

constexpr int64_t kPieceFloats = kReducePieceBytesMax / 4;
constexpr int64_t kSizes[] = {0, 1, 255, 4097, 65537, kPieceFloats - 1, kPieceFloats, kPieceFloats + 1};

uint64_t Bits(int rank, int64_t i) {
  const uint64_t x =
      (static_cast<uint64_t>(rank + 1) * 0x9e3779b97f4a7c15u) ^ (static_cast<uint64_t>(i) * 0xbf58476d1ce4e5b9u);
  return (x ^ (x >> 29)) * 0x94d049bb133111ebu >> 8;
}

// Magnitudes from 2^-12 to 2^12, so that the order of a sum changes its bits.
float FloatOf(int rank, int64_t i) {
  const uint64_t bits = Bits(rank, i);
  const float fraction = static_cast<float>(static_cast<int64_t>(bits >> 32) - (1 << 23)) * 0x1p-23f;
  return std::ldexp(fraction, static_cast<int>(bits % 25) - 12);
}

// By rank: what it sends (the first kRanksMax), and what a broadcast's buffer holds before the call (the rest).
constexpr int kRanksMax = 8, kBefore = 8;
template <typename T, typename ValueOf>
std::vector<PeriodicValues<T>> ValuesOfRanks(int count, const ValueOf& value) {
  std::vector<PeriodicValues<T>> values;
  for (int r = 0; r < count; ++r) values.emplace_back([&](int64_t i) { return value(r, i); });
  return values;
}
const PeriodicValues<std::byte>& BytesOf(int rank) {
  static const auto* const bytes = new std::vector(ValuesOfRanks<std::byte>(
      kRanksMax + kBefore, [](int r, int64_t i) { return static_cast<std::byte>(Bits(r, i)); }));
  return bytes->at(static_cast<size_t>(rank));
}
const PeriodicValues<float>& FloatsOf(int rank) {
  static const auto* const floats = new std::vector(ValuesOfRanks<float>(kRanksMax, FloatOf));
  return floats->at(static_cast<size_t>(rank));
}

std::vector<std::byte> BytesOf(int rank, int64_t n) {
  std::vector<std::byte> bytes(static_cast<size_t>(n));
  BytesOf(rank).Fill(bytes);
  return bytes;
}

// The sum of these ranks' floats in this order.
PeriodicValues<float> SumsOf(std::span<const int> ranks) {
  std::vector<const PeriodicValues<float>*> values;
  for (const int r : ranks) values.push_back(&FloatsOf(r));
  return OrderedSums(values);
}
std::vector<int> AllRanks(int size) {
  std::vector<int> ranks(static_cast<size_t>(size));
  std::iota(ranks.begin(), ranks.end(), 0);
  return ranks;
}

struct AlignedScratch {
  explicit AlignedScratch(int64_t n_bytes) : lines(static_cast<size_t>((n_bytes + 63) / 64)), bytes(n_bytes) {}
  std::span<std::byte> span() { return {reinterpret_cast<std::byte*>(lines.data()), static_cast<size_t>(bytes)}; }
  struct alignas(64) Line {
    std::byte b[64];
  };
  std::vector<Line> lines;
  int64_t bytes;
};

class CommunicatorTest : public testing::TestWithParam<TestWorld> {};

TEST_P(CommunicatorTest, KnowsItsPlace) {
  RunWorld(GetParam(), [&](Communicator& comm) {
    EXPECT_EQ(comm.size(), GetParam().size);
    EXPECT_GE(comm.rank(), 0);
    EXPECT_LT(comm.rank(), comm.size());
  });
}

TEST_P(CommunicatorTest, AllGatherPlacesEveryRanksBytes) {
  RunWorld(GetParam(), [&](Communicator& comm) {
    for (const int64_t n : {0, 1, 255, 4095, 4096, 4097, 3 * 4096 + 7, 1 << 20}) {
      for (const bool in_place : {false, true}) {
        std::vector<std::byte> dst(static_cast<size_t>(n * comm.size()), std::byte{0xee});
        std::vector<std::byte> src = BytesOf(comm.rank(), n);
        std::span<const std::byte> from = src;
        if (in_place && n > 0) {
          std::memcpy(dst.data() + comm.rank() * n, src.data(), src.size());
          from = std::span(dst).subspan(static_cast<size_t>(comm.rank() * n), static_cast<size_t>(n));
        }
        const absl::Status status = comm.AllGather(dst, from, {"all-gather test", n});
        ASSERT_TRUE(status.ok()) << status;
        for (int r = 0; r < comm.size(); ++r) {
          const auto from_r = std::span(dst).subspan(static_cast<size_t>(r * n), static_cast<size_t>(n));
          ASSERT_EQ(BytesOf(r).FirstDifference(from_r), -1) << "n " << n << " from rank " << r;
        }
      }
    }
  });
}

// Reduces once and returns this rank's dst.
std::vector<float> ReduceOnce(Communicator& comm, int64_t n, bool accumulate) {
  std::vector<float> src(static_cast<size_t>(n * comm.size())), dst(static_cast<size_t>(n), 0.75f);
  FloatsOf(comm.rank()).Fill(src);
  AlignedScratch scratch(ReduceScratchBytes(n, comm.size()));
  const absl::Status status = OrderedReduceScatter(comm, dst, src, accumulate, scratch.span(), {"reduce test", n});
  EXPECT_TRUE(status.ok()) << status;
  return dst;
}

TEST_P(CommunicatorTest, ReduceScatterAddsInRankOrderBitForBit) {
  const PeriodicValues<float> sums = SumsOf(AllRanks(GetParam().size));
  const PeriodicValues<float> added([&](int64_t i) { return 0.75f + sums[i]; });
  RunWorld(GetParam(), [&](Communicator& comm) {
    for (const int64_t n : kSizes) {
      for (const bool accumulate : {false, true}) {
        // Each large size runs with one value of `accumulate`; in a world of more than four ranks, only the largest
        // does.
        if (n > 65537 && (accumulate != (n % 2 == 0) || (comm.size() > 4 && n <= kPieceFloats))) continue;
        const std::vector<float> dst = ReduceOnce(comm, n, accumulate);
        ASSERT_EQ((accumulate ? added : sums).FirstDifference(dst, comm.rank() * n), -1)
            << "n " << n << " accumulate " << accumulate;
      }
    }
  });
}

TEST_P(CommunicatorTest, ReduceScatterOfBf16AddsInFp32) {
  const auto values =
      ValuesOfRanks<BFloat16>(GetParam().size, [](int r, int64_t i) { return ToBFloat16(FloatOf(r, i)); });
  const PeriodicValues<float> sums([&](int64_t i) {
    float s = ToFloat(values[0][i]);
    for (size_t r = 1; r < values.size(); ++r) s += ToFloat(values[r][i]);
    return s;
  });
  const PeriodicValues<BFloat16> rounded_sums([&](int64_t i) { return ToBFloat16(sums[i]); });
  RunWorld(GetParam(), [&](Communicator& comm) {
    for (const int64_t n : {int64_t{1}, int64_t{1000}, kPieceFloats + 17}) {
      std::vector<BFloat16> src(static_cast<size_t>(n * comm.size()));
      values[static_cast<size_t>(comm.rank())].Fill(src);
      std::vector<float> dst(static_cast<size_t>(n));
      AlignedScratch scratch(ReduceScratchBytes(n, comm.size(), DType::kBFloat16));
      const absl::Status status = OrderedReduceScatter(comm, dst, {std::as_bytes(std::span(src)), DType::kBFloat16},
                                                       /*accumulate=*/false, scratch.span(), {"reduce bf16 test", n});
      ASSERT_TRUE(status.ok()) << status;
      std::vector<BFloat16> rounded(static_cast<size_t>(n));
      const absl::Status again = OrderedReduceScatter(
          comm, {std::as_writable_bytes(std::span(rounded)), DType::kBFloat16},
          {std::as_bytes(std::span(src)), DType::kBFloat16}, /*accumulate=*/false, scratch.span(), {"rounded", n});
      ASSERT_TRUE(again.ok()) << again;
      ASSERT_EQ(rounded_sums.FirstDifference(rounded, comm.rank() * n), -1) << n;
      ASSERT_EQ(sums.FirstDifference(dst, comm.rank() * n), -1) << n;
    }
  });
}

// A reduction on 10,000 ranks needs no more scratch memory than one on sixteen.
TEST(OrderedReduceScatterTest, ScratchIsBoundedAtAnyWorldSize) {
  const int64_t n = int64_t{31} << 28;  // floats of a unit of 31 GiB, on one rank
  for (const int size : {1, 2, 3, 16, 17, 1000, 10000, 1000000}) {
    const int64_t bytes = ReduceScratchBytes(n / size, size);
    EXPECT_LE(bytes, kReduceScratchBytesMax) << size;
    EXPECT_EQ(bytes % (64 * size), 0) << size;
    EXPECT_GE(bytes, size == 1 ? 0 : std::min(n / size * 4, int64_t{64}) * size) << size;
  }
  EXPECT_EQ(ReduceScratchBytes(n, 1), 0);
  EXPECT_EQ(ReduceScratchBytes(1 << 20, 2), 2 * kReducePieceBytesMax);
  EXPECT_EQ(ReduceScratchBytes(100, 3), 3 * 448);
  EXPECT_GT(ReduceScratchBytes(n / 10000, 10000), kReduceScratchBytesMax / 2);
}

// Control: on the same data, a sum in another order has other bits.
TEST_P(CommunicatorTest, SwappedRankOrderGivesOtherBits) {
  if (GetParam().size < 3) GTEST_SKIP() << "with two addends there is only one order";
  RunWorld(GetParam(), [&](Communicator& comm) {
    std::vector<int> swapped = AllRanks(comm.size());
    std::swap(swapped[1], swapped[2]);
    const PeriodicValues<float> sums = SumsOf(swapped);
    const int64_t n = 4097;
    const std::vector<float> dst = ReduceOnce(comm, n, false);
    int64_t different = 0;
    for (int64_t i = 0; i < n; ++i) {
      different +=
          std::bit_cast<uint32_t>(dst[static_cast<size_t>(i)]) != std::bit_cast<uint32_t>(sums[comm.rank() * n + i]);
    }
    EXPECT_GT(different, n / 50);
  });
}

TEST_P(CommunicatorTest, AllToAllTransposes) {
  RunWorld(GetParam(), [&](Communicator& comm) {
    for (const int64_t n : {0, 1, 255, 4095, 4096, 4097, 70001}) {
      const std::vector<std::byte> src = BytesOf(comm.rank(), n * comm.size());
      std::vector<std::byte> dst(src.size());
      const absl::Status status = comm.AllToAll(dst, SendBlocks::Parts(src, comm.size()), {"all-to-all test", n});
      ASSERT_TRUE(status.ok()) << status;
      for (int r = 0; r < comm.size(); ++r) {
        const auto from_r = std::span(dst).subspan(static_cast<size_t>(r * n), static_cast<size_t>(n));
        ASSERT_EQ(BytesOf(r).FirstDifference(from_r, comm.rank() * n), -1) << "from rank " << r;
      }
    }
  });
}

TEST_P(CommunicatorTest, BroadcastFromEveryRoot) {
  RunWorld(GetParam(), [&](Communicator& comm) {
    for (int root = 0; root < comm.size(); ++root) {
      for (const int64_t n : {0, 1, 4095, 4096, 4097, 100003}) {
        std::vector<std::byte> dst = BytesOf(kBefore + comm.rank(), n);
        const absl::Status status = comm.Broadcast(dst, root, {"broadcast test", root});
        ASSERT_TRUE(status.ok()) << status;
        ASSERT_EQ(BytesOf(kBefore + root).FirstDifference(dst), -1);
      }
    }
  });
}

// Buffers are reused right after a call: a transport that returns while peers still read them would mix up calls.
TEST_P(CommunicatorTest, CallsFollowEachOtherAtDifferentSpeeds) {
  RunWorld(GetParam(), [&](Communicator& comm) {
    std::vector<int64_t> all(static_cast<size_t>(comm.size())), other(all.size());
    for (int64_t k = 0; k < 200; ++k) {
      if (Bits(comm.rank(), k) % 16 == 0)
        std::this_thread::sleep_for(std::chrono::microseconds(Bits(comm.rank(), k) % 300));
      int64_t mine = k * 1000 + comm.rank();
      ASSERT_TRUE(
          comm.AllGather(std::as_writable_bytes(std::span(all)), std::as_bytes(std::span(&mine, 1)), {"k", k}).ok());
      mine = -1;
      for (int r = 0; r < comm.size(); ++r) ASSERT_EQ(all[static_cast<size_t>(r)], k * 1000 + r);
      ASSERT_TRUE(comm.AllToAll(std::as_writable_bytes(std::span(other)),
                                SendBlocks::Parts(std::as_bytes(std::span(all)), comm.size()), {"k", k})
                      .ok());
      std::fill(all.begin(), all.end(), -1);
      for (const int64_t v : other) ASSERT_EQ(v, k * 1000 + comm.rank());
      if (k % 7 == 0) {
        ASSERT_TRUE(comm.Barrier({"k", k}).ok());
      }
    }
  });
}

double ThreadCpuSeconds() {
  timespec t;
  clock_gettime(CLOCK_THREAD_CPUTIME_ID, &t);
  return static_cast<double>(t.tv_sec) + 1e-9 * static_cast<double>(t.tv_nsec);
}

// Waiting must leave the cores to the compute lanes.
TEST_P(CommunicatorTest, WaitingUsesLittleCpu) {
  if (GetParam().size < 2) GTEST_SKIP() << "needs a peer";
  RunWorld(GetParam(), [](Communicator& comm) {
    if (comm.rank() == 1) std::this_thread::sleep_for(std::chrono::milliseconds(600));
    const auto start = std::chrono::steady_clock::now();
    const double before = ThreadCpuSeconds();
    ASSERT_TRUE(comm.Barrier({"wait", 0}).ok());
    const std::chrono::duration<double> waited = std::chrono::steady_clock::now() - start;
    if (comm.rank() == 0) {
      EXPECT_LT(ThreadCpuSeconds() - before, 0.25 * waited.count());
    }
  });
}

bool HasPeersToWaitFor(const TestWorld& world) { return world.size >= 2 && !world.transport.ends_with("_in_pieces"); }

TEST_P(CommunicatorTest, APeerWaitedForTooLongEndsTheCallWithItsNameAndTheWaitersPlace) {
  if (!HasPeersToWaitFor(GetParam())) GTEST_SKIP() << "needs a peer; pieces make no difference";
  const WaitOptions options = {.timeout_seconds = 2.0};
  // A wait for messages can only name the rank that it expects a message from, which may itself be waiting. A watcher
  // knows better.
  const bool names_it = !GetParam().by_messages();
  RunWorld(
      GetParam(),
      [&](Communicator& comm) {
        if (comm.rank() == 1) return MeetOutside();
        const absl::Status status = comm.Barrier({"rank one is late", 7});
        EXPECT_EQ(status.code(), absl::StatusCode::kUnavailable) << status;
        const std::string text(status.message());
        EXPECT_THAT(text, testing::HasSubstr("barrier \"rank one is late\" (step 7)"));
        EXPECT_THAT(
            text, testing::ContainsRegex(names_it ? "waited [0-9.]+ s for rank 1" : "waited [0-9.]+ s for rank [0-9]"));
        // The communicator stays unusable.
        EXPECT_FALSE(comm.Barrier({"after", 8}).ok());
        MeetOutside();
      },
      options);
}

TEST_P(CommunicatorTest, PollEndsAWaitAtOnce) {
  if (!HasPeersToWaitFor(GetParam())) GTEST_SKIP() << "needs a peer; pieces make no difference";
  constexpr double kDeathSeconds = 0.3;
  const auto start = std::chrono::steady_clock::now();
  const auto seconds = [start] {
    return std::chrono::duration<double>(std::chrono::steady_clock::now() - start).count();
  };
  WaitOptions options = {.timeout_seconds = 60.0};
  options.poll = [&](double) {
    return seconds() < kDeathSeconds ? absl::OkStatus() : absl::UnavailableError("rank 1 (pid 123) died at step 12");
  };
  RunWorld(
      GetParam(),
      [&](Communicator& comm) {
        if (comm.rank() == 1) return MeetOutside();
        const absl::Status status = comm.Barrier({"never", 3});
        EXPECT_EQ(status.code(), absl::StatusCode::kUnavailable) << status;
        EXPECT_THAT(std::string(status.message()), testing::HasSubstr("rank 1 (pid 123) died at step 12"));
        EXPECT_LT(seconds(), options.timeout_seconds / 2);
        MeetOutside();
      },
      options);
}

INSTANTIATE_TEST_SUITE_P(Worlds, CommunicatorTest, testing::ValuesIn(TestWorlds()),
                         [](const auto& instance) { return testing::PrintToString(instance.param); });

}  // namespace
}  // namespace angel_ptm
