// Law 1 where NCCL carries the units' collectives: the run has the host's bits. Faults of a runtime that uses NCCL are
// planted in the fake device and the fake NCCL; the comparison or an error message must reveal them.
#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <cstdio>
#include <functional>
#include <memory>
#include <string>
#include <vector>

#include "absl/strings/str_cat.h"
#include "tests/laws/axes.h"
#include "tests/laws/in_child.h"
#include "tests/laws/parity.h"
#include "tests/support/fake_device.h"
#include "tests/support/fake_device_kernels.h"
#include "tests/support/fake_nccl.h"
#include "tests/support/stray_streams.h"
#include "tests/support/temporary_folder.h"

namespace angel_ptm {
namespace {

// Gives each rank of a run a GPU, with this NCCL between them.
PlantFault OnGpus(const std::shared_ptr<FakeNccl>& nccl, LaunchDeviceSum sum, unsigned seed) {
  return [nccl, sum, seed](TinyRun& run) {
    run.device_kernels = &FakeDeviceKernels();
    run.device = [seed](int rank) {
      return std::make_unique<FakeDevice>(FakeDeviceOptions{.seed = 16 * seed + static_cast<unsigned>(rank)});
    };
    run.collectives = {.way = CollectivesWish::Way::kNccl, .nccl = {.open = [nccl] { return nccl; }, .sum = sum}};
  };
}

class NcclParityTest : public testing::TestWithParam<WorldShape> {};

TEST_P(NcclParityTest, SameBitsAsOnTheHost) {
  const TemporaryFolder folder;
  const auto nccl = std::make_shared<FakeNccl>();
  ParityMatrix matrix(
      GetParam(), [](const TinyRun& run) { return TrainLocally(run, GetParam().size); }, folder.path(),
      /*compares=*/true, OnGpus(nccl, &LaunchFakeSum, /*seed=*/static_cast<unsigned>(GetParam().size)));
  const std::vector<Axes> cases = AllPairs();
  for (size_t i = static_cast<size_t>(GetParam().size); i < cases.size(); i += 7) {
    SCOPED_TRACE(testing::PrintToString(cases[i]));
    EXPECT_EQ(matrix.Check(cases[i]), absl::OkStatus());
  }
  EXPECT_GT(matrix.counts().moved, 0);
  EXPECT_GT(nccl->groups_put(), 0);
  EXPECT_EQ(nccl->aborted(), 0);
  EXPECT_EQ(nccl->open(), 0);
}

INSTANTIATE_TEST_SUITE_P(Ranks, NcclParityTest,
                         testing::Values(WorldShape(2), WorldShape(3), WorldShape(4, 2), WorldShape(2, 0, 2),
                                         WorldShape(4, 2, 2)),
                         [](const auto& test) {
                           const WorldShape& world = test.param;
                           return absl::StrCat(world.size, "InNodesOf", world.ranks_per_node, "Degree",
                                               world.expert_degree);
                         });

// Calls begin before their input is there.
struct ProducerNotAwaited : WithStrayStreams {
  void Put(std::shared_ptr<Group> group, void* stream) override {
    Stray& stray = StrayOf(stream);
    FakeNccl::Put(std::move(group), stray.stream);
    Chain(stray.stream, stream, stray.behind);
  }
};

// Work that follows a call on its stream, events included, is reached before the call is done.
struct ResultReadEarly : WithStrayStreams {
  void Put(std::shared_ptr<Group> group, void* stream) override {
    Stray& stray = StrayOf(stream);
    Chain(stream, stray.stream, stray.before);
    FakeNccl::Put(std::move(group), stray.stream);
  }
};

// Blocks are received in the places of other ranks' blocks, so sums have another order.
struct WrongPeers : FakeNccl {
  NcclCode Receive(void* dst, int64_t bytes, int peer, void* comm, void* stream) override {
    return FakeNccl::Receive(dst, bytes, (2 * RankOf(comm) - peer + 3) % 3, comm, stream);
  }
};

// Received data begins one element too late.
struct ReceivedInTheWrongPlace : FakeNccl {
  NcclCode Receive(void* dst, int64_t bytes, int peer, void* comm, void* stream) override {
    return FakeNccl::Receive(static_cast<std::byte*>(dst) + 4, bytes - 4, peer, comm, stream);
  }
  NcclCode Send(const void* src, int64_t bytes, int peer, void* comm, void* stream) override {
    return FakeNccl::Send(src, bytes - 4, peer, comm, stream);
  }
};

struct NcclFault {
  std::string name;
  std::function<std::shared_ptr<FakeNccl>()> make;
  LaunchDeviceSum sum = &LaunchFakeSum;
};
void PrintTo(const NcclFault& fault, std::ostream* os) { *os << fault.name; }
template <typename Nccl>
NcclFault NcclFaultOf(std::string name) {
  return {std::move(name), [] { return std::make_shared<Nccl>(); }};
}

// Each rank's own addend counts twice; that of rank 0 does not count.
void SumOfTheWrongBlocks(const OrderedSumArgs& args, void* stream) {
  OrderedSumArgs wrong = args;
  wrong.own_rank = 0;
  LaunchFakeSum(wrong, stream);
}
// What the comparison says of three ranks; "" if it finds nothing.
std::string NcclVerdict(const NcclFault& fault, bool moe) {
  const TemporaryFolder folder;
  ParityMatrix matrix(
      3, [](const TinyRun& run) { return TrainLocally(run, 3); }, folder.path(), /*compares=*/true,
      OnGpus(fault.make(), fault.sum, /*seed=*/1));
  return std::string(matrix.Check({.moe = moe, .zero_stage = 3, .budget_percent = 60}).message());
}

class NcclFaultTest : public testing::TestWithParam<NcclFault> {};

TEST_P(NcclFaultTest, IsFound) {
  const std::string found = InChild([] { return NcclVerdict(GetParam(), /*moe=*/false); }, /*seconds_max=*/60);
  EXPECT_THAT(found, testing::ContainsRegex("^loss of step|^norm of step|^parameters of unit|^moments of unit|"
                                            "^rank [0-9]+'s copy of|^signal (6|11)$"));
  std::printf("  %s\n", found.c_str());
}

INSTANTIATE_TEST_SUITE_P(Faults, NcclFaultTest,
                         testing::Values(NcclFaultOf<ProducerNotAwaited>("ProducerNotAwaited"),
                                         NcclFaultOf<ResultReadEarly>("ResultReadEarly"),
                                         NcclFaultOf<WrongPeers>("WrongPeers"),
                                         NcclFaultOf<ReceivedInTheWrongPlace>("ReceivedInTheWrongPlace"),
                                         NcclFault{"SumOfTheWrongBlocks", [] { return std::make_shared<FakeNccl>(); },
                                                   &SumOfTheWrongBlocks}),
                         [](const auto& test) { return test.param.name; });

TEST(NcclFaultControlTest, NoFaultIsNotFound) {
  for (const bool moe : {false, true}) {
    EXPECT_EQ(InChild([&] { return NcclVerdict(NcclFaultOf<FakeNccl>("none"), moe); }), "");
  }
}

// How a run of three ranks ends: a dense model without a budget.
std::string EndOf(const std::shared_ptr<FakeNccl>& nccl, int64_t rank_1_fails_at_kernel) {
  TinyRun run{.shape = TinyDense(), .zero_stage = 3};
  OnGpus(nccl, &LaunchFakeSum, /*seed=*/1)(run);
  run.device = [rank_1_fails_at_kernel](int rank) {
    const int64_t fails_at = rank == 1 ? rank_1_fails_at_kernel : -1;
    return std::make_unique<FakeDevice>(
        FakeDeviceOptions{.seed = static_cast<unsigned>(rank), .fails_at_kernel = fails_at});
  };
  return std::string(TrainLocally(run, 3).status().message());
}

struct AbortMissing : FakeNccl {
  NcclCode CommAbort(void*) override { return kNcclSuccess; }
};
constexpr int64_t kSomeKernel = 60;

// A rank whose GPU fails abandons calls in which its peers' devices wait.
TEST(NcclRunTest, ARankThatFailsEndsItsPeersWaits) {
  const auto ends = [](const std::shared_ptr<FakeNccl>& nccl, unsigned seconds) {
    return InChild([&] { return EndOf(nccl, kSomeKernel); }, seconds);
  };
  EXPECT_THAT(ends(std::make_shared<FakeNccl>(), 60), testing::HasSubstr("error 214 of the fake device"));
  EXPECT_EQ(ends(std::make_shared<AbortMissing>(), 2), "signal 14");
}

// Once, a rank gathers less than its peers.
struct FewerBytes : FakeNccl {
  NcclCode AllGather(const void* src, void* dst, int64_t bytes, void* comm, void* stream) override {
    const bool fewer = RankOf(comm) == 2 && ++gathers_ == 5;
    return FakeNccl::AllGather(src, dst, fewer ? bytes - 4 : bytes, comm, stream);
  }
  int gathers_ = 0;
};
struct AsyncErrorIgnored : FewerBytes {
  NcclCode AsyncError(void* comm, NcclCode* state) override {
    const NcclCode code = FewerBytes::AsyncError(comm, state);
    if (*state != kNcclInProgress) *state = kNcclSuccess;
    return code;
  }
};

TEST(NcclRunTest, AnErrorThatComesLaterEndsTheRun) {
  const auto ends = [](const std::shared_ptr<FakeNccl>& nccl, unsigned seconds) {
    return InChild([&] { return EndOf(nccl, -1); }, seconds);
  };
  EXPECT_THAT(
      ends(std::make_shared<FewerBytes>(), 60),
      testing::ContainsRegex("rank [0-2] .one of 3., .*: rank [0-2] wants all-gather of [0-9]+ bytes, rank [0-2] "
                             "sends all-gather of [0-9]+"));
  EXPECT_EQ(ends(std::make_shared<AsyncErrorIgnored>(), 2), "signal 14");
}

}  // namespace
}  // namespace angel_ptm
