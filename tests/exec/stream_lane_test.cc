// Lanes that are streams of the fake device, beside lanes that are threads: order, waits in both directions, more steps
// than a lane has events for, and failing work.
#include "angel_ptm/exec/stream_lane.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <algorithm>
#include <array>
#include <atomic>
#include <memory>
#include <random>
#include <string>
#include <vector>

#include "absl/strings/str_cat.h"
#include "angel_ptm/exec/step_graphs.h"
#include "tests/support/fake_device.h"
#include "tests/support/or_die.h"

namespace angel_ptm {
namespace {

constexpr std::array<Lane, 3> kStreams = {Lane::kCompute, Lane::kCopyIn, Lane::kCopyOut};

class StreamLaneTest : public testing::TestWithParam<unsigned> {
 protected:
  explicit StreamLaneTest(FakeDeviceOptions options = {.seed = GetParam()}) : api_(std::move(options)) {
    for (const Lane lane : kStreams) {
      streams_[Index(lane)] = OrDie(DeviceStream::Create(*device_));
      queues_[Index(lane)] = OrDie(MakeStreamLane(*streams_[Index(lane)]));
    }
    for (auto& queue : queues_) {
      if (queue == nullptr) queue = MakeThreadLane();
    }
    lanes_ = std::make_unique<Lanes>(std::move(queues_));
  }

  static size_t Index(Lane lane) { return static_cast<size_t>(lane); }
  // Does `work` as a step of the lane.
  void Do(Lane lane, const std::function<void()>& work) {
    if (streams_[Index(lane)] == nullptr) return work();
    char none = 0;
    FakeDevice::Launch(streams_[Index(lane)]->handle(), &none, 0, work);
  }

  FakeDevice api_;
  const std::unique_ptr<Device> device_ = OrDie(Device::Open(api_, 0, 1));
  std::array<std::unique_ptr<DeviceStream>, kLaneCount> streams_;
  Lanes::Queues queues_;
  std::unique_ptr<Lanes> lanes_;
};

// `count` steps on random lanes of four. For each lane, one in `apart` steps waits for a random earlier step of it.
Segment RandomSegment(int count, unsigned seed, unsigned apart = 3) {
  std::mt19937 random(seed);
  Segment segment;
  std::array<int32_t, kLaneCount> issued = {};
  for (int i = 0; i < count; ++i) {
    const unsigned choice = random() % 4;
    Step step{.lane = choice < 3 ? kStreams[choice] : Lane::kComm};
    for (size_t lane = 0; lane < kLaneCount; ++lane) {
      if (random() % apart == 0) step.waits[lane] = std::max(issued[lane] - static_cast<int32_t>(random() % 3), 0);
    }
    ++issued[static_cast<size_t>(step.lane)];
    segment.steps.push_back(step);
  }
  return segment;
}

TEST_P(StreamLaneTest, EveryStepIsDoneBehindWhatItWaitsFor) {
  const Segment segment = RandomSegment(2400, GetParam());
  for (int again = 0; again < 2; ++again) {
    std::array<std::atomic<int32_t>, kLaneCount> finished = {};
    std::atomic<int> faults = 0, done = 0;
    const RunStep run = [&](const Segment& s, int32_t index) {
      Do(s.steps[index].lane, [&, index] {
        const Step& step = s.steps[index];
        for (size_t lane = 0; lane < kLaneCount; ++lane) faults += finished[lane] < step.waits[lane] ? 1 : 0;
        ++finished[Index(step.lane)];
        ++done;
      });
      return absl::OkStatus();
    };
    ASSERT_EQ(lanes_->Play(segment, run), absl::OkStatus());
    EXPECT_EQ(faults, 0);
    EXPECT_EQ(done, 2400);
  }
  EXPECT_GT(lanes_->TakeBusySeconds()[Index(Lane::kCompute)], 0);
}

// A step that was done: its index, and the play that enqueued it.
struct Done {
  int32_t index, put_in;
};

// Two variants alternate: in the first play of each, runs of steps are captured, and from then on launched. In each
// play all steps are done once, in order, with the work that the variant's first play enqueued.
TEST_P(StreamLaneTest, RunsOfStepsAreLaunchedAsGraphs) {
  const Segment segment = RandomSegment(1500, GetParam(), /*apart=*/40);
  StepGraphs graphs(segment, Lane::kCompute);
  ASSERT_GT(graphs.runs().size(), 10u);
  int32_t play = 0;
  std::array<std::atomic<int32_t>, kLaneCount> finished = {};
  std::atomic<int> faults = 0, run_calls = 0, follow_calls = 0;
  std::vector<Done> done;  // on the compute lane
  const RunStep run = [&](const Segment& s, int32_t index) {
    ++run_calls;
    Do(s.steps[index].lane, [&, index, put_in = play] {
      const Step& step = segment.steps[index];
      for (size_t lane = 0; lane < kLaneCount; ++lane) faults += finished[lane] < step.waits[lane] ? 1 : 0;
      ++finished[Index(step.lane)];
      if (step.lane == Lane::kCompute) done.push_back({index, put_in});
    });
    return absl::OkStatus();
  };
  const StepReplay replay = {.graphs = &graphs,
                             .follow =
                                 [&](const Segment&, int32_t) {
                                   ++follow_calls;
                                   return absl::OkStatus();
                                 },
                             .variant = [&](bool) { return play % 2; }};
  int32_t in_runs = 0;
  std::vector<int32_t> wanted;
  for (int32_t i = 0; i < 1500; ++i) {
    if (segment.steps[i].lane == Lane::kCompute) wanted.push_back(i);
    in_runs += graphs.RunOf(i) == nullptr ? 0 : 1;
  }
  for (; play < 4; ++play) {
    for (auto& count : finished) count = 0;
    done.clear(), run_calls = 0, follow_calls = 0;
    ASSERT_EQ(lanes_->Play(segment, run, nullptr, &replay), absl::OkStatus());
    EXPECT_EQ(faults, 0);
    EXPECT_EQ(run_calls, play < 2 ? 1500 : 1500 - in_runs);
    EXPECT_EQ(follow_calls, play < 2 ? 0 : in_runs);
    ASSERT_EQ(done.size(), wanted.size());
    for (size_t i = 0; i < done.size(); ++i) {
      EXPECT_EQ(done[i].index, wanted[i]);
      EXPECT_EQ(done[i].put_in, graphs.RunOf(done[i].index) == nullptr ? play : play % 2);
    }
  }
  const auto runs = static_cast<int64_t>(graphs.runs().size());
  EXPECT_EQ(api_.graphs_captured(), 2 * runs);
  EXPECT_EQ(api_.graphs_launched(), 4 * runs);
  EXPECT_GT(lanes_->TakeBusySeconds()[Index(Lane::kCompute)], 0);
}

// Graphs make nobody wait longer: only the first step of a run waits for another lane, and other lanes wait only for
// its last.
TEST_P(StreamLaneTest, NobodyWaitsForARunsMiddle) {
  const Segment segment = RandomSegment(3000, GetParam(), /*apart=*/25);
  StepGraphs graphs(segment, Lane::kCompute);
  std::vector<int32_t> own;  // steps of the lane
  std::array<int32_t, kLaneCount> waited = {};
  for (int32_t i = 0; i < 3000; ++i) {
    const Step& step = segment.steps[i];
    if (step.lane != Lane::kCompute) {
      const int32_t count = step.waits[Index(Lane::kCompute)];
      const StepGraphs::Run* const run = count == 0 ? nullptr : graphs.RunOf(own[static_cast<size_t>(count) - 1]);
      EXPECT_TRUE(run == nullptr || run->last == own[static_cast<size_t>(count) - 1]) << i;
      continue;
    }
    own.push_back(i);
    const StepGraphs::Run* const run = graphs.RunOf(i);
    for (size_t lane = 0; lane < kLaneCount; ++lane) {
      if (lane == Index(Lane::kCompute) || step.waits[lane] <= waited[lane]) continue;
      waited[lane] = step.waits[lane];
      EXPECT_TRUE(run == nullptr || run->first == i) << i;
    }
  }
}

// A run whose capture met a failed step is captured again.
TEST_P(StreamLaneTest, ACaptureWithAFailedStepIsNone) {
  Segment segment;
  for (int i = 0; i < 5; ++i) segment.steps.push_back({.lane = Lane::kCompute});
  StepGraphs graphs(segment, Lane::kCompute);
  ASSERT_EQ(graphs.runs().size(), 1u);
  int done = 0, fails_at = 3;
  const RunStep run = [&](const Segment&, int32_t index) {
    if (index == fails_at) return absl::UnavailableError("step 3");
    Do(Lane::kCompute, [&] { ++done; });
    return absl::OkStatus();
  };
  const StepReplay replay = {.graphs = &graphs,
                             .follow = [](const Segment&, int32_t) { return absl::OkStatus(); },
                             .variant = [](bool) { return 0; }};
  EXPECT_EQ(lanes_->Play(segment, run, nullptr, &replay), absl::UnavailableError("step 3"));
  EXPECT_EQ(done, 0);
  fails_at = -1;
  for (int play = 1; play <= 3; ++play) {
    EXPECT_EQ(lanes_->Play(segment, run, nullptr, &replay), absl::OkStatus());
    EXPECT_EQ(done, 5 * play);
  }
}

// The thread that issues steps goes on where streams wait for each other; nothing is done before somebody waits for it.
TEST_P(StreamLaneTest, PutsStepsOnStreamsWithoutWaitingForThem) {
  Segment segment;
  for (int i = 0; i < 100; ++i) {
    Step step{.lane = kStreams[static_cast<size_t>(i) % 3]};
    if (i > 0) step.waits[Index(kStreams[static_cast<size_t>(i - 1) % 3])] = (i - 1) / 3 + 1;
    segment.steps.push_back(step);
  }
  std::atomic<int> put = 0, put_at_first_work = 0;
  std::atomic<bool> first = true;
  const RunStep run = [&](const Segment& s, int32_t index) {
    ++put;
    Do(s.steps[index].lane, [&] {
      if (first.exchange(false)) put_at_first_work = put.load();
    });
    return absl::OkStatus();
  };
  ASSERT_EQ(lanes_->Play(segment, run), absl::OkStatus());
  EXPECT_EQ(put_at_first_work, 100);
}

TEST_P(StreamLaneTest, AStepThatIsRefusedEndsTheSegmentAndLeavesTheLanesUsable) {
  const Segment segment = RandomSegment(200, GetParam());
  const RunStep fails = [&](const Segment&, int32_t index) {
    return index == 50 ? absl::UnavailableError("step 50") : absl::OkStatus();
  };
  EXPECT_EQ(lanes_->Play(segment, fails), absl::UnavailableError("step 50"));
  EXPECT_EQ(lanes_->Play(segment, [](const Segment&, int32_t) { return absl::OkStatus(); }), absl::OkStatus());
}

INSTANTIATE_TEST_SUITE_P(Seeds, StreamLaneTest, testing::Range(1u, 4u));

class FailingWorkTest : public StreamLaneTest {
 protected:
  FailingWorkTest() : StreamLaneTest({.seed = GetParam(), .fails_at_kernel = 150}) {}
};

TEST_P(FailingWorkTest, NamesTheFirstStepThatIsNotKnownToHaveFinished) {
  Segment segment;
  for (int i = 0; i < 400; ++i) segment.steps.push_back({.lane = Lane::kCompute});
  segment.steps.push_back({.lane = Lane::kComm});
  segment.steps.back().waits[Index(Lane::kCompute)] = 100;
  const RunStep run = [&](const Segment& s, int32_t index) {
    Do(s.steps[index].lane, [] {});
    return absl::OkStatus();
  };
  const NameStep name = [](const Segment&, int32_t index) { return absl::StrCat("rank 3, op ", index); };
  const std::string message(lanes_->Play(segment, run, name).message());
  EXPECT_THAT(message, testing::MatchesRegex("in rank 3, op 1[0-9]+ or soon behind it: GPU 0 .Fake H200., .*214.*"));
  // Every later segment fails too.
  EXPECT_FALSE(lanes_->Play(segment, run, name).ok());
}

INSTANTIATE_TEST_SUITE_P(Seeds, FailingWorkTest, testing::Range(1u, 4u));

}  // namespace
}  // namespace angel_ptm
