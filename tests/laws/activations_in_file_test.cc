// Law 1 where activations wait for the backward pass in the file: the bits equal those of a run that keeps all of them
// in memory, and a lost or stale page of activations does not go unnoticed.
#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <atomic>
#include <deque>
#include <functional>
#include <memory>
#include <span>
#include <string>
#include <utility>

#include "tests/laws/tiny_run.h"
#include "tests/support/or_die.h"
#include "tests/support/sanitized.h"

namespace angel_ptm {
namespace {

constexpr int kFileIndex = static_cast<int>(TierKind::kFile);

TinyRun Small(bool moe, DType type) {
  TinyRun run{.shape = moe ? TinyMoe() : TinyDense(), .compute = type};
  return run;
}

// Sets a small device budget, and a host budget of the least that works plus `host_percent` of what is missing to hold
// everything.
TinyRun InFile(TinyRun run, int world, int host_percent) {
  run.page_bytes = 8192;
  run.device_bytes = DeviceBudget(run, world, 0) / 8 * 9;
  const HostRange host = HostBytes(run, world);
  run.host_bytes = host.least + (host.all - host.least) * host_percent / 100;
  run.file_tier = true;
  const auto plan = MakeTinyPlan(run, world);
  EXPECT_TRUE(plan.ok()) << plan.status();
  if (!plan.ok()) return run;
  run.plan = *plan;
  EXPECT_LE((*plan)->plan.arena_bytes[static_cast<int>(TierKind::kHost)], run.host_bytes);
  EXPECT_GT((*plan)->plan.peaks[kFileIndex].by_class[static_cast<int>(MemoryClass::kActivations)], 0);
  return run;
}

TEST(ActivationsInFileLaw, SameBits) {
  for (const bool moe : {false, true}) {
    for (const int world : FewerIfSanitized(1, {2, 1})) {
      TinyRun run = Small(moe, world == 1 ? DType::kFloat32 : DType::kBFloat16);
      run.accumulation = moe ? 2 : 1;
      const TinyResult plain = OrDie(TrainLocally(run, world));
      for (const int stage : FewerIfSanitized(1, {3, 0, 1, 2})) {
        SCOPED_TRACE(testing::Message() << (moe ? "MoE, " : "dense, ") << world << " ranks, stage " << stage);
        run.zero_stage = stage;
        run.join = stage % 2 == 1;
        run.prefetch_steps = stage == 2 ? 0 : 4;
        EXPECT_EQ(OrDie(TrainLocally(InFile(run, world, stage == 3 ? 2 : 0), world)).Difference(plain), "");
      }
    }
  }
}

TEST(ActivationsInFileLaw, SameBitsWithRecomputedBlocks) {
  TinyRun run = Small(/*moe=*/false, DType::kFloat32);
  const TinyResult plain = OrDie(TrainLocally(run, 2));
  run.zero_stage = 3;
  run.recompute = true;
  EXPECT_EQ(OrDie(TrainLocally(InFile(run, 2, 0), 2)).Difference(plain), "");
}

// A drive that drops one write but reports it as done: write `number`, counted from 1, among those to `offset`.
class LosesAWrite : public BlockFile {
 public:
  LosesAWrite(std::unique_ptr<BlockFile> drive, int64_t offset, int64_t number, std::atomic<int>& lost)
      : drive_(std::move(drive)), offset_(offset), number_(number), lost_(lost) {}

  std::string description() const override { return drive_->description(); }
  absl::Status RegisterBuffer(std::byte* base, int64_t bytes) override { return drive_->RegisterBuffer(base, bytes); }
  void Start(FileDirection direction, const BlockRequest& request) override {
    const bool loses = direction == FileDirection::kWrite && request.offset == offset_ && ++writes_ == number_;
    if (!loses) return drive_->Start(direction, request);
    done_.push_back({.slot = request.slot, .bytes = request.bytes});
    ++lost_;
  }
  std::optional<BlockResult> Wait(FileDirection direction, double seconds) override {
    if (direction == FileDirection::kRead || done_.empty()) return drive_->Wait(direction, seconds);
    const BlockResult result = done_.front();
    done_.pop_front();
    return result;
  }

 private:
  const std::unique_ptr<BlockFile> drive_;
  const int64_t offset_, number_;
  std::atomic<int>& lost_;
  // Used by the writing thread alone.
  int64_t writes_ = 0;
  std::deque<BlockResult> done_;
};

// Loses rank 1's first write of an activation: in step 0, or in step 1, where the first step's activation is still in
// its place.
class LostActivation : public testing::TestWithParam<bool> {
 protected:
  LostActivation() : run_(Small(/*moe=*/true, DType::kFloat32)) {
    run_.zero_stage = 3;
    reference_ = OrDie(TrainLocally(run_, kWorld));
    run_ = InFile(run_, kWorld, 0);
  }

  void Lose(int writes_before) {
    const Segment& micro_step = run_.plan->plan.segments[kMicroStepSegment];
    const auto to_file = [&](const Step& step) {
      return step.lane == Lane::kFileOut &&
             micro_step.regions[step.dst.region].memory_class == MemoryClass::kActivations;
    };
    int64_t offset = -1, of_a_step = 0;
    for (const Step& step : micro_step.steps) {
      if (!to_file(step)) continue;
      if (offset < 0) offset = micro_step.regions[step.dst.region].range.offset;
      of_a_step += micro_step.regions[step.dst.region].range.offset == offset;
    }
    const int64_t number = writes_before * of_a_step + 1;
    run_.wrap_drive = [this, offset, number](std::unique_ptr<BlockFile> drive, int rank) -> std::unique_ptr<BlockFile> {
      if (rank != 1) return drive;
      return std::make_unique<LosesAWrite>(std::move(drive), offset, number, lost_);
    };
  }

  static constexpr int kWorld = 2;
  TinyRun run_;
  TinyResult reference_;
  std::atomic<int> lost_ = 0;
};

TEST_P(LostActivation, IsFoundByItsChecksum) {
  const bool stale = GetParam();
  Lose(stale ? 1 : 0);
  const absl::Status status = TrainLocally(run_, kWorld).status();
  EXPECT_EQ(lost_, 1);
  EXPECT_EQ(status.code(), absl::StatusCode::kDataLoss) << status;
  EXPECT_THAT(std::string(status.message()), testing::HasSubstr("was written with checksum "));
}

// The comparison with the reference would find the loss too.
TEST_P(LostActivation, ChangesBitsIfNobodyLooks) {
  run_.file_checksum = [](std::span<const std::byte>) { return uint64_t{1}; };
  Lose(1000);
  EXPECT_EQ(OrDie(TrainLocally(run_, kWorld)).Difference(reference_), "");
  EXPECT_EQ(lost_, 0);
  const bool stale = GetParam();
  Lose(stale ? 1 : 0);
  const absl::StatusOr<TinyResult> result = TrainLocally(run_, kWorld);
  ASSERT_TRUE(result.ok()) << result.status();
  EXPECT_EQ(lost_, 1);
  const std::string difference = result->Difference(reference_);
  EXPECT_THAT(difference, testing::ContainsRegex("^norm of step|^parameters of unit|^moments of unit")) << stale;
}

INSTANTIATE_TEST_SUITE_P(Pages, LostActivation, testing::Bool(),
                         [](const auto& test) { return test.param ? "Stale" : "NeverWritten"; });

}  // namespace
}  // namespace angel_ptm
