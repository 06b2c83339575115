// NCCL collectives on streams of fake devices: they have the host's bits, also in several rounds. And how waits for
// peers end.
#include "angel_ptm/exec/nccl_collectives.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <array>
#include <atomic>
#include <chrono>
#include <cstring>
#include <functional>
#include <map>
#include <memory>
#include <mutex>
#include <string>
#include <thread>
#include <vector>

#include "angel_ptm/base/bfloat16.h"
#include "comm/nodes.h"
#include "tests/support/fake_device.h"
#include "tests/support/fake_nccl.h"
#include "tests/support/kernel_testing.h"
#include "tests/support/or_die.h"
#include "tests/support/ranks.h"
#include "tests/support/stray_streams.h"

namespace angel_ptm {
namespace {

using testing::HasSubstr;

std::vector<std::byte> RandomAddends(int rank, DType type, int64_t n) {
  std::vector<float> values(static_cast<size_t>(n));
  uint32_t word = static_cast<uint32_t>(rank) + 3;
  for (float& value : values) {
    word = word * 1664525u + 1013904223u;
    value = static_cast<float>(static_cast<int32_t>(word)) * static_cast<float>(word >> 20);
  }
  std::vector<std::byte> bytes(values.size() * static_cast<size_t>(SizeOf(type)));
  if (type == DType::kFloat32) std::memcpy(bytes.data(), values.data(), bytes.size());
  if (type == DType::kBFloat16) Round({reinterpret_cast<BFloat16*>(bytes.data()), values.size()}, values);
  return bytes;
}

// A rank with a GPU of its own.
class Rank {
 public:
  Rank(Communicator& peers, const std::shared_ptr<FakeNccl>& nccl, const WaitOptions& wait,
       SumsBy sums = SumsBy::kRankOrder)
      : peers_(peers),
        api_({.seed = static_cast<unsigned>(peers.rank()) + 5}),
        device_(OrDie(Device::Open(api_, 0, 1))),
        stream_(OrDie(DeviceStream::Create(*device_))),
        made_(NcclCollectives::Create(nccl, {.nccl = {.sum = &LaunchFakeSum, .wait = wait}, .sums = sums}, peers,
                                      *stream_, std::make_shared<NcclSiblings>())) {}

  absl::Status status() const { return made_.status(); }
  NcclCollectives& collectives() { return **made_; }
  DeviceStream& stream() { return *stream_; }
  FakeDevice& api() { return api_; }

  // Device memory that holds these bytes.
  std::span<std::byte> Place(std::span<const std::byte> bytes) {
    memory_.push_back(OrDie(device_->Memory(static_cast<int64_t>(bytes.size()), "a test")));
    OrDie(stream_->Copy(memory_.back().get(), bytes.data(), static_cast<int64_t>(bytes.size())));
    OrDie(stream_->Await());
    return {memory_.back().get(), bytes.size()};
  }
  std::vector<std::byte> Read(std::span<const std::byte> place) {
    std::vector<std::byte> bytes(place.size());
    OrDie(stream_->Copy(bytes.data(), place.data(), static_cast<int64_t>(place.size())));
    OrDie(stream_->Await());
    return bytes;
  }

  // Returns whether this rank's part of the sum has the same bits by NCCL as by the host's communicator. Sets *error,
  // if given, to the distance between the two.
  bool HasHostsSum(DType type, int64_t n, bool accumulate, DType to = DType::kFloat32, double* error = nullptr) {
    const std::vector<std::byte> addends = RandomAddends(peers_.rank(), type, n * peers_.size());
    std::vector<std::byte> want = RandomAddends(7, to, n);
    std::vector<std::byte> room(static_cast<size_t>(ReduceScratchBytes(n, WorldOf(peers_), type)));
    const std::span<std::byte> dst = Place(want), src = Place(addends), scratch = Place(room);
    OrDie(collectives().ReduceScatter({dst, to}, {src, type}, accumulate, scratch, {"sum"}));
    const std::vector<std::byte> got = Read(dst);
    OrDie(OrderedReduceScatter(peers_, {want, to}, {addends, type}, accumulate, room, {"the host's"}));
    if (error != nullptr) {
      const float* const wanted = reinterpret_cast<const float*>(want.data());
      *error =
          ScaledError(reinterpret_cast<const float*>(got.data()), std::vector<double>(wanted, wanted + n).data(), n);
    }
    return got == want;
  }

 private:
  Communicator& peers_;
  FakeDevice api_;
  const std::unique_ptr<Device> device_;
  const std::unique_ptr<DeviceStream> stream_;
  absl::StatusOr<std::unique_ptr<NcclCollectives>> made_;
  std::vector<std::shared_ptr<std::byte>> memory_;
};

// Calls fn(Rank&) on every rank. `poll` may end a rank's waits.
std::vector<absl::Status> OnRanks(int size, const std::shared_ptr<FakeNccl>& nccl,
                                  const std::function<absl::Status(Rank&, Communicator&)>& fn,
                                  const WaitOptions& wait = {.timeout_seconds = 30}, SumsBy sums = SumsBy::kRankOrder) {
  return StatusOfRanks(size, [&](Communicator& peers) -> absl::Status {
    Rank rank(peers, nccl, wait, sums);
    RETURN_IF_ERROR(rank.status());
    return fn(rank, peers);
  });
}

// A little more than one round has room for, so that there are two, and both end in an odd number of groups.
constexpr int64_t kTwoRounds = (kReducePieceBytesMax / 4) + 48;

absl::Status HasHostsBits(Rank& rank, Communicator& peers) {
  for (const DType type : {DType::kFloat32, DType::kBFloat16}) {
    for (const bool accumulate : {false, true}) EXPECT_TRUE(rank.HasHostsSum(type, 2048, accumulate)) << Name(type);
  }
  EXPECT_TRUE(rank.HasHostsSum(DType::kBFloat16, 2048, false, DType::kBFloat16));
  EXPECT_TRUE(rank.HasHostsSum(DType::kFloat32, kTwoRounds, true));
  const std::vector<std::byte> own = RandomAddends(peers.rank(), DType::kFloat32, 100);
  std::vector<std::byte> want(own.size() * static_cast<size_t>(peers.size()));
  const std::span<std::byte> dst = rank.Place(want), src = rank.Place(own);
  RETURN_IF_ERROR(rank.collectives().AllGather(dst, src, {"gather"}));
  RETURN_IF_ERROR(peers.AllGather(want, own, {"the host's"}));
  EXPECT_EQ(rank.Read(dst), want);
  return rank.collectives().Close();
}

TEST(NcclCollectivesTest, HaveTheHostsBits) {
  for (const int size : {2, 3}) {
    const auto nccl = std::make_shared<FakeNccl>();
    for (const absl::Status& result : OnRanks(size, nccl, &HasHostsBits)) EXPECT_EQ(result, absl::OkStatus());
    EXPECT_EQ(nccl->open(), 0);
    EXPECT_EQ(nccl->aborted(), 0);
    EXPECT_EQ(nccl->groups_put(), size * (5 + 2 + 1));
  }
}

// Ranks meet through any communicator: two groups of two ranks, beside each other and beside the world.
TEST(NcclCollectivesTest, AGroupHasTheHostsBits) {
  const auto nccl = std::make_shared<FakeNccl>();
  const auto in_groups = [&](Rank& world, Communicator& peers) -> absl::Status {
    ASSIGN_OR_RETURN(const std::unique_ptr<Communicator> group, peers.Split(peers.rank() % 2, {"a group"}));
    Rank rank(*group, nccl, {.timeout_seconds = 30});
    RETURN_IF_ERROR(rank.status());
    EXPECT_TRUE(rank.HasHostsSum(DType::kFloat32, 2048, false));
    EXPECT_TRUE(world.HasHostsSum(DType::kFloat32, 2048, false));
    RETURN_IF_ERROR(rank.collectives().Close());
    return world.collectives().Close();
  };
  for (const absl::Status& result : OnRanks(4, nccl, in_groups)) EXPECT_EQ(result, absl::OkStatus());
  EXPECT_EQ(nccl->groups_put(), 8);
}

TEST(NcclCollectivesTest, NodesHaveTheHostsBits) {
  for (const auto& [size, per_node] : {std::pair{4, 2}, {6, 2}, {6, 3}}) {
    const auto nccl = std::make_shared<FakeNccl>();
    const auto in_nodes = [&nccl, ranks = per_node](Communicator& world) -> absl::Status {
      ASSIGN_OR_RETURN(const std::unique_ptr<Communicator> nodes, CreateNodes(world, ranks));
      Rank rank(*nodes, nccl, {.timeout_seconds = 30});
      RETURN_IF_ERROR(rank.status());
      return HasHostsBits(rank, *nodes);
    };
    for (const absl::Status& result : StatusOfRanks(size, in_nodes)) EXPECT_EQ(result, absl::OkStatus());
    EXPECT_EQ(nccl->open(), 0);
    EXPECT_EQ(nccl->aborted(), 0);
  }
}

// NCCL's own sums have other bits, but are close.
TEST(NcclCollectivesTest, NcclSumsWhereThatIsWished) {
  const auto sums = [](Rank& rank, Communicator&) {
    for (const bool accumulate : {false, true}) {
      double error = 0;
      EXPECT_FALSE(rank.HasHostsSum(DType::kFloat32, kTwoRounds, accumulate, DType::kFloat32, &error));
      EXPECT_LT(error, 1e-6);
    }
    return rank.collectives().Close();
  };
  for (const absl::Status& result :
       OnRanks(3, std::make_shared<FakeNccl>(), sums, {.timeout_seconds = 30}, SumsBy::kNccl)) {
    EXPECT_EQ(result, absl::OkStatus());
  }
}

// By nodes a plan has less scratch memory than a sum over all ranks at once needs; NCCL makes do with it.
TEST(NcclCollectivesTest, NcclSumsInTheScratchOfNodes) {
  ASSERT_LT(ReduceScratchBytes(kTwoRounds, {6, 3}), ReduceScratchBytes(kTwoRounds, 6));
  const auto nccl = std::make_shared<FakeNccl>();
  const auto in_nodes = [&nccl](Communicator& world) -> absl::Status {
    ASSIGN_OR_RETURN(const std::unique_ptr<Communicator> nodes, CreateNodes(world, 3));
    Rank rank(*nodes, nccl, {.timeout_seconds = 30}, SumsBy::kNccl);
    RETURN_IF_ERROR(rank.status());
    double error = 1;
    rank.HasHostsSum(DType::kFloat32, kTwoRounds, true, DType::kFloat32, &error);
    EXPECT_LT(error, 1e-6);
    return rank.collectives().Close();
  };
  for (const absl::Status& result : StatusOfRanks(6, in_nodes)) EXPECT_EQ(result, absl::OkStatus());
}

// A round begins before the previous round's sum has read the scratch memory. The fake's lazy streams run that sum only
// when they must.
struct ScratchReusedEarly : WithStrayStreams {
  void Put(std::shared_ptr<Group> group, void* stream) override {
    Stray& stray = StrayOf(stream);
    FakeNccl::Put(std::move(group), stray.stream);
    const std::shared_ptr<std::atomic<int>> rounds = RoundsOf(stream);
    FakeDevice::PutWaiting(stray.stream, {}, [rounds](FakeDevice&) { ++*rounds; });
    Chain(stray.stream, stream, stray.behind);
    const auto next_has_come = [rounds, asked = 0]() mutable { return *rounds > 1 || ++asked > 3000; };
    FakeDevice::PutWaiting(stream, next_has_come, [](FakeDevice&) {});
  }
  std::shared_ptr<std::atomic<int>> RoundsOf(void* stream) {
    const std::lock_guard<std::mutex> lock(rounds_mutex_);
    std::shared_ptr<std::atomic<int>>& rounds = rounds_[stream];
    if (rounds == nullptr) rounds = std::make_shared<std::atomic<int>>(0);
    return rounds;
  }
  std::mutex rounds_mutex_;
  std::map<void*, std::shared_ptr<std::atomic<int>>> rounds_;
};

TEST(NcclCollectivesTest, ScratchThatIsReusedEarlyIsFound) {
  std::atomic<int> found = 0;
  OnRanks(3, std::make_shared<ScratchReusedEarly>(), [&](Rank& rank, Communicator&) {
    found += rank.HasHostsSum(DType::kFloat32, kTwoRounds, false) ? 0 : 1;
    return rank.collectives().Close();
  });
  EXPECT_GT(found, 0);
}

// Gathers `bytes` from each rank and waits for that.
absl::Status Gathers(Rank& rank, Communicator& peers, size_t bytes) {
  const std::span<std::byte> dst = rank.Place(std::vector<std::byte>(bytes * static_cast<size_t>(peers.size())));
  RETURN_IF_ERROR(rank.collectives().AllGather(dst, dst.subspan(peers.rank() * bytes, bytes), {"gather"}));
  RETURN_IF_ERROR(rank.stream().Await());
  return rank.collectives().status();
}

// A stream waits for a peer that does not join a call. The wait ends when the rank learns that the peer is lost.
TEST(NcclCollectivesTest, ALostPeerEndsTheWaitOfAStream) {
  const auto nccl = std::make_shared<FakeNccl>();
  std::atomic<bool> lost = false;
  std::atomic<int> begun = 0;
  const auto gathers = [&](Rank& rank, Communicator& peers) -> absl::Status {
    if (++begun; peers.rank() != 1) return Gathers(rank, peers, 256);
    while (begun < 3) std::this_thread::yield();
    std::this_thread::sleep_for(std::chrono::milliseconds(20));
    lost = true;
    return absl::OkStatus();
  };
  const auto poll = [&](double) { return lost ? absl::UnavailableError("rank 1 died") : absl::OkStatus(); };
  const auto results = OnRanks(3, nccl, gathers, {.timeout_seconds = 30, .poll = poll});
  EXPECT_EQ(results[0], absl::UnavailableError("rank 1 died"));
  EXPECT_EQ(results[2], absl::UnavailableError("rank 1 died"));
  EXPECT_EQ(nccl->aborted(), 3);
  EXPECT_EQ(nccl->open(), 0);
}

// In nodes a stream waits in one communicator and goes on to the next, and none of them ends while a call of another is
// waited for.
TEST(NcclCollectivesTest, ALostPeerEndsTheWaitOfAStreamAmongNodes) {
  const auto nccl = std::make_shared<FakeNccl>();
  std::atomic<bool> lost = false;
  std::atomic<int> begun = 0;
  const auto poll = [&](double) { return lost ? absl::UnavailableError("rank 3 died") : absl::OkStatus(); };
  const auto reduces = [&](Communicator& world) -> absl::Status {
    ASSIGN_OR_RETURN(const std::unique_ptr<Communicator> nodes, CreateNodes(world, 2));
    Rank rank(*nodes, nccl, {.timeout_seconds = 30, .poll = poll});
    RETURN_IF_ERROR(rank.status());
    RETURN_IF_ERROR(Gathers(rank, *nodes, 256));
    if (++begun; world.rank() == 3) {
      while (begun < 4) std::this_thread::yield();
      std::this_thread::sleep_for(std::chrono::milliseconds(20));
      lost = true;
      return absl::OkStatus();
    }
    constexpr int64_t kElements = 2048;
    const std::vector<std::byte> sum(kElements * sizeof(float)),
        room(static_cast<size_t>(ReduceScratchBytes(kElements, WorldOf(*nodes))));
    const std::span<std::byte> dst = rank.Place(sum), scratch = rank.Place(room);
    const std::vector<std::byte> addends = RandomAddends(world.rank(), DType::kFloat32, kElements * world.size());
    RETURN_IF_ERROR(rank.collectives().ReduceScatter({dst, DType::kFloat32}, {rank.Place(addends), DType::kFloat32},
                                                     false, scratch, {"sum"}));
    RETURN_IF_ERROR(rank.stream().Await());
    return rank.collectives().status();
  };
  const auto results = StatusOfRanks(4, reduces);
  for (const int rank : {0, 1, 2}) EXPECT_EQ(results[rank], absl::UnavailableError("rank 3 died")) << rank;
  EXPECT_EQ(nccl->open(), 0);
}

TEST(NcclCollectivesTest, AWaitForAPeerHasALimit) {
  const auto nccl = std::make_shared<FakeNccl>();
  std::atomic<bool> over = false;
  const auto gathers = [&](Rank& rank, Communicator& peers) -> absl::Status {
    if (peers.rank() == 1) {
      for (int i = 0; i < 2000 && !over; ++i) std::this_thread::sleep_for(std::chrono::milliseconds(5));
      return absl::OkStatus();
    }
    const absl::Status status = Gathers(rank, peers, 256);
    over = true;
    return status;
  };
  const auto results = OnRanks(3, nccl, gathers, {.timeout_seconds = 0.5});
  EXPECT_THAT(std::string(results[0].message()),
              testing::MatchesRegex("rank 0 .one of 3. has waited [0-9.]+ s for its peers in NCCL .limit 0.5 s.: .*"));
  EXPECT_TRUE(absl::IsUnavailable(results[2]));
}

// More calls than there are marks for are enqueued while the stream is busy. The peer joins all but the last.
TEST(NcclCollectivesTest, AHangInACallWithoutMarksIsNoticed) {
  constexpr int kCalls = 1100;
  std::atomic<bool> over = false;
  std::atomic<int> put = 0;
  const auto gathers = [&](Rank& rank, Communicator& peers) -> absl::Status {
    const std::span<std::byte> dst = rank.Place(std::vector<std::byte>(2 * 64));
    FakeDevice::PutWaiting(
        rank.stream().handle(), [&] { return put == 2; }, [](FakeDevice&) {});
    for (int i = 0; i < kCalls - peers.rank(); ++i) {
      RETURN_IF_ERROR(rank.collectives().AllGather(dst, dst.subspan(peers.rank() * 64, 64), {"gather"}));
    }
    ++put;
    RETURN_IF_ERROR(rank.stream().Await());
    for (int i = 0; i < 2000 && !over && peers.rank() == 1; ++i) {
      std::this_thread::sleep_for(std::chrono::milliseconds(5));
    }
    over = true;
    return rank.collectives().status();
  };
  const auto results = OnRanks(2, std::make_shared<FakeNccl>(), gathers, {.timeout_seconds = 0.5});
  EXPECT_THAT(std::string(results[0].message()), HasSubstr("s for its peers in NCCL (limit 0.5 s)"));
}

// A GPU that hangs in its own work must not look as if it waited for its peers: they count such waits as a sign of
// life.
TEST(NcclCollectivesTest, WorkBeforeACallIsNoWaitForPeers) {
  std::atomic<int> begun = 0, polls = 0;
  std::atomic<bool> goes_on = false;
  const auto gathers = [&](Rank& rank, Communicator& peers) -> absl::Status {
    FakeDevice::PutWaiting(
        rank.stream().handle(), [&] { return goes_on.load(); }, [](FakeDevice&) {});
    const std::jthread other([&] {
      ++begun;
      std::this_thread::sleep_for(std::chrono::milliseconds(250));
      if (peers.rank() == 0) goes_on = true;
    });
    return Gathers(rank, peers, 256);
  };
  const auto poll = [&](double seconds) {
    if (begun == 2 && seconds > 0.1 && !goes_on) ++polls;
    return absl::OkStatus();
  };
  for (const absl::Status& result :
       OnRanks(2, std::make_shared<FakeNccl>(), gathers, {.timeout_seconds = 30, .poll = poll})) {
    EXPECT_EQ(result, absl::OkStatus());
  }
  EXPECT_EQ(polls, 0);
}

TEST(NcclCollectivesTest, APeerThatNeverStartsIsSaid) {
  const auto nccl = std::make_shared<FakeNccl>();
  const auto results = StatusOfRanks(2, [&](Communicator& peers) -> absl::Status {
    if (peers.rank() == 1) {
      std::array<std::byte, sizeof(NcclId) + 4> room;
      return peers.Broadcast(room, 0, {"where NCCL's ranks meet"});
    }
    return Rank(peers, nccl, {.timeout_seconds = 0.2}).status();
  });
  EXPECT_THAT(std::string(results[0].message()), HasSubstr("for its peers in NCCL (limit 0.2 s): meeting its peers"));
  EXPECT_EQ(nccl->open(), 0);
}

TEST(NcclCollectivesTest, CallsThatDoNotMatchAreTold) {
  std::atomic<bool> told = false;
  const auto gathers = [&](Rank& rank, Communicator& peers) {
    const absl::Status status = Gathers(rank, peers, peers.rank() == 0 ? 512 : 1024);
    told = true;
    return status;
  };
  const auto poll = [&](double) { return told ? absl::UnavailableError("a peer failed") : absl::OkStatus(); };
  const auto results = OnRanks(2, std::make_shared<FakeNccl>(), gathers, {.timeout_seconds = 30, .poll = poll});
  EXPECT_THAT(
      std::string(results[absl::IsUnavailable(results[0]) ? 1 : 0].message()),
      testing::MatchesRegex("rank [01] .one of 2., a call that was put on its stream: NCCL 2.99.0: error 5 of the "
                            "fake NCCL .5.: rank [01] wants all-gather of (512|1024) bytes, rank [01] sends "
                            "all-gather of (512|1024)"));
}

TEST(NcclCollectivesTest, TwoRanksOnOneGpuAreRefusedInASentence) {
  const auto nccl = std::make_shared<FakeNccl>();
  nccl->RefuseInit(kNcclInvalidUsage, "Duplicate GPU detected : rank 1 and rank 0 both on CUDA device 3b000");
  for (const absl::Status& result : OnRanks(2, nccl, [](Rank&, Communicator&) { return absl::OkStatus(); })) {
    EXPECT_THAT(
        std::string(result.message()),
        testing::MatchesRegex("rank [01] .one of 2., meeting its peers: NCCL 2.99.0: error 5 of the fake NCCL .5.: "
                              "Duplicate GPU detected : rank 1 and rank 0 both on CUDA device 3b000; NCCL wants "
                              "a GPU for each rank, set communication.device_transport=STAGED otherwise"));
  }
}

}  // namespace
}  // namespace angel_ptm
