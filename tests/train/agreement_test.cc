// Ranks that keep the same state have the same bits of it; otherwise the run reports it before it saves anything.
#include "angel_ptm/train/agreement.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <atomic>
#include <memory>
#include <string>
#include <thread>
#include <vector>

#include "absl/strings/str_cat.h"
#include "angel_ptm/train/train_state.h"
#include "comm/forwarding_communicator.h"
#include "comm/local.h"
#include "tests/laws/trainer_run.h"
#include "tests/support/temporary_folder.h"
#include "tests/support/tiny_text.h"

namespace angel_ptm {
namespace {

using testing::HasSubstr;

// In step `step`, one bit of what the update gathers arrives wrong on rank 1.
class FlippedBit final : public ForwardingCommunicator {
 public:
  FlippedBit(Communicator& inner, int64_t step, std::string what)
      : ForwardingCommunicator(inner), step_(step), what_(std::move(what)) {}

  absl::Status AllGather(std::span<std::byte> dst, std::span<const std::byte> src, CallTag tag) override {
    const absl::Status status = ForwardingCommunicator::AllGather(dst, src, tag);
    if (rank() == 1 && tag.step == step_ && tag.what.find(what_) != std::string_view::npos &&
        !flipped_.exchange(true)) {
      dst[0] ^= std::byte{1};
    }
    return status;
  }

 private:
  const int64_t step_;
  const std::string what_;
  std::atomic<bool> flipped_ = false;
};

TEST(ReplicasTest, AFlippedBitIsFoundBeforeItIsSaved) {
  const TemporaryFolder folder;
  PrepareTinyText(folder.path());
  for (int stage : {1, 2}) {
    const TrainConfig config = TrainerConfig(
        /*moe=*/false, folder.path(), absl::StrCat("stage", stage),
        {absl::StrCat("sharding.zero_stage=", stage), "checkpoint.every_steps=2", "evaluation.every_steps=0"});
    const TrainerOutcome outcome = RunTrainer(
        {.configs = {config}, .world_size = 2, .wrap = [](Communicator& inner) -> std::unique_ptr<Communicator> {
           return std::make_unique<FlippedBit>(inner, /*step=*/3, "parameters");
         }});
    for (const absl::Status& status : outcome.statuses) {
      EXPECT_EQ(status.code(), absl::StatusCode::kDataLoss) << status;
      EXPECT_THAT(std::string(status.message()), HasSubstr("at step 4 rank 1 holds other bits of the state"));
    }
    EXPECT_THAT(FindLatestCheckpoint(CheckpointDirectory(config)).value().path, HasSubstr("step-00000002"));
  }
}

TEST(ReplicasTest, InitialStatesAreCompared) {
  std::vector<float> first(64, 1.0f), second(64, 1.0f);
  second[40] = 2.0f;
  const auto check = [&](int64_t own) {
    LocalWorld world(2);
    std::vector<absl::Status> results(2);
    std::vector<std::jthread> threads;
    for (int rank = 0; rank < 2; ++rank) {
      threads.emplace_back([&, rank] {
        const std::unique_ptr<Communicator> communicator = world.Create(rank);
        const std::span<float> stored(rank == 0 ? first : second);
        const StateView view{.unit = 0,
                             .slice_elements = own,
                             .stored_elements = static_cast<int64_t>(stored.size()),
                             .data = std::as_writable_bytes(stored).data()};
        results[rank] = CheckReplicas(std::span(&view, 1), 0, *communicator);
      });
    }
    threads.clear();
    EXPECT_EQ(results[0], results[1]);
    return results[0];
  };
  EXPECT_EQ(check(32).code(), absl::StatusCode::kDataLoss);
  EXPECT_TRUE(check(64).ok());  // slices of their own differ
  second = first;
  EXPECT_TRUE(check(32).ok());
}

// Where experts are split, ranks of one place are replicas, and ranks of other places have other experts.
TEST(ReplicasTest, PartsAreComparedAmongThoseThatHaveThem) {
  const auto check = [](const std::vector<float>& values) {
    LocalWorld world(4);
    std::vector<absl::Status> results(4);
    std::vector<std::jthread> threads;
    for (int rank = 0; rank < 4; ++rank) {
      threads.emplace_back([&, rank] {
        const std::unique_ptr<Communicator> communicator = world.Create(rank);
        std::vector<float> stored(32, values[static_cast<size_t>(rank)]);
        const StateView view{.begin = 16 * rank,
                             .slice_elements = 16,
                             .stored_begin = 32 * (rank / 2),
                             .stored_elements = 32,
                             .data = std::as_writable_bytes(std::span(stored)).data()};
        results[rank] = CheckReplicas(std::span(&view, 1), 5, *communicator);
      });
    }
    threads.clear();
    for (const absl::Status& result : results) EXPECT_EQ(result, results[0]);
    return results[0];
  };
  EXPECT_EQ(check({1, 1, 2, 2}), absl::OkStatus());
  EXPECT_THAT(std::string(check({1, 1, 2, 3}).message()), HasSubstr("rank 3 holds other bits of the state that both "
                                                                    "keep whole than rank 2"));
  EXPECT_EQ(check({1, 2, 3, 3}).code(), absl::StatusCode::kDataLoss);
}

TEST(RankSumsTest, AddsUpWhatAllRanksHave) {
  LocalWorld world(3);
  std::vector<std::vector<int64_t>> sums(3);
  {
    std::vector<std::jthread> threads;
    for (int rank = 0; rank < 3; ++rank) {
      threads.emplace_back([&, rank] {
        const std::unique_ptr<Communicator> communicator = world.Create(rank);
        RankSums adder;
        for (const size_t count : {7, 1, 6, 0}) {  // not all a multiple of the ranks
          std::vector<int64_t> values;
          for (size_t i = 0; i < count; ++i) values.push_back((int64_t{1} << 40) * rank + static_cast<int64_t>(i));
          ASSERT_TRUE(adder.Sum(values, {"test"}, *communicator).ok());
          sums[rank].insert(sums[rank].end(), values.begin(), values.end());
        }
      });
    }
  }
  std::vector<int64_t> wanted;
  for (const int64_t count : {7, 1, 6}) {
    for (int64_t i = 0; i < count; ++i) wanted.push_back(3 * (int64_t{1} << 40) + 3 * i);
  }
  for (const std::vector<int64_t>& sum : sums) EXPECT_EQ(sum, wanted);
}

TEST(ShareStatusTest, AllRanksGetTheFirstError) {
  LocalWorld world(3);
  std::vector<absl::Status> shared(3);
  std::vector<absl::StatusOr<std::string>> chosen(3, "");
  {
    std::vector<std::jthread> threads;
    for (int rank = 0; rank < 3; ++rank) {
      threads.emplace_back([&, rank] {
        const std::unique_ptr<Communicator> communicator = world.Create(rank);
        const absl::Status own = rank == 0 ? absl::OkStatus() : absl::NotFoundError(absl::StrCat("of ", rank));
        shared[rank] = ShareStatus(own, {"test"}, *communicator);
        chosen[rank] = ShareFromRankZero(rank == 0 ? "chosen" : std::string(9, 'x'), {"test"}, *communicator);
      });
    }
  }
  for (int rank = 0; rank < 3; ++rank) {
    EXPECT_EQ(shared[rank], absl::NotFoundError("rank 1: of 1"));
    ASSERT_TRUE(chosen[rank].ok());
    EXPECT_EQ(*chosen[rank], "chosen");
  }
}

}  // namespace
}  // namespace angel_ptm
