// Lanes alone: order, waits and failure. The player asks a lane only to issue, so a lane may be a device's stream.
#include "angel_ptm/exec/lanes.h"

#include <gtest/gtest.h>

#include <algorithm>
#include <array>
#include <atomic>
#include <chrono>
#include <condition_variable>
#include <deque>
#include <functional>
#include <mutex>
#include <random>
#include <string>
#include <thread>
#include <tuple>
#include <utility>
#include <vector>

namespace angel_ptm {
namespace {

// A lane like a device's: Issue turns waits into entries of a command queue and returns. Another thread, which knows
// nothing of plans, executes the queue.
class StreamLike final : public LaneQueue {
 public:
  StreamLike() : device_([this] { Work(); }) {}
  ~StreamLike() override {
    Push([] {}, /*last=*/true);
    device_.join();
  }
  void Begin(SegmentPlay& play) override {
    play_ = &play;
    const std::lock_guard<std::mutex> lock(mutex_);
    finished_ = 0;
  }
  void Issue(int32_t index) override {
    for (int lane = 0; lane < kLaneCount; ++lane) {
      const int32_t count = play_->segment().steps[index].waits[lane];
      LaneQueue& other = play_->lane(static_cast<Lane>(lane));
      if (count > 0) Push([&other, count] { other.AwaitFinished(count); });
    }
    Push([this, index] { play_->Run(index); });
    Push([this] {  // an event
      const std::lock_guard<std::mutex> lock(mutex_);
      ++finished_;
    });
  }
  void AwaitFinished(int32_t count) override {
    std::unique_lock<std::mutex> lock(mutex_);
    changed_.wait(lock, [&] { return finished_ >= count; });
  }
  double TakeBusySeconds() override { return 0; }

 private:
  void Push(std::function<void()> command, bool last = false) {
    const std::lock_guard<std::mutex> lock(mutex_);
    commands_.push_back({std::move(command), last});
    changed_.notify_all();
  }
  void Work() {
    for (bool last = false; !last;) {
      std::function<void()> command;
      {
        std::unique_lock<std::mutex> lock(mutex_);
        changed_.wait(lock, [&] { return !commands_.empty(); });
        std::tie(command, last) = std::move(commands_.front());
        commands_.pop_front();
      }
      command();
      changed_.notify_all();
    }
  }

  SegmentPlay* play_ = nullptr;
  std::mutex mutex_;
  std::condition_variable changed_;
  std::deque<std::pair<std::function<void()>, bool>> commands_;
  int32_t finished_ = 0;
  std::thread device_;
};

enum class Kind { kThreads, kStreams, kMixed };

class LanesTest : public ::testing::TestWithParam<Kind> {
 protected:
  static Lanes::Queues Queues() {
    Lanes::Queues queues;
    for (int lane = 0; lane < kLaneCount; ++lane) {
      const bool stream = GetParam() == Kind::kStreams || (GetParam() == Kind::kMixed && lane % 2 == 0);
      queues[lane] = stream ? std::make_unique<StreamLike>() : MakeThreadLane();
    }
    return queues;
  }

  Lanes lanes_{Queues()};
};

// `count` steps on random lanes; each waits for random earlier steps of other lanes.
Segment RandomSegment(int count, unsigned seed) {
  std::mt19937 random(seed);
  Segment segment;
  std::array<int32_t, kLaneCount> issued = {};
  for (int i = 0; i < count; ++i) {
    Step step{.lane = static_cast<Lane>(random() % kLaneCount)};
    for (int lane = 0; lane < kLaneCount; ++lane) {
      if (lane == static_cast<int>(step.lane) || random() % 3 != 0) continue;
      step.waits[lane] = issued[lane] - static_cast<int32_t>(random() % 3);
      step.waits[lane] = std::max(step.waits[lane], 0);
    }
    ++issued[static_cast<int>(step.lane)];
    segment.steps.push_back(step);
  }
  return segment;
}

// Several times as many steps as a lane's queue has room for.
TEST_P(LanesTest, EveryStepRunsOnceInItsLanesOrderAndBehindWhatItWaitsFor) {
  for (unsigned seed = 0; seed < 2; ++seed) {
    const Segment segment = RandomSegment(12000, seed);
    std::array<std::atomic<int32_t>, kLaneCount> finished = {};
    std::vector<int32_t> number(segment.steps.size());  // in its lane
    std::array<int32_t, kLaneCount> count = {};
    for (size_t i = 0; i < segment.steps.size(); ++i) number[i] = count[static_cast<int>(segment.steps[i].lane)]++;
    std::atomic<int> faults = 0;
    const RunStep run = [&](const Segment& s, int32_t index) {
      const Step& step = s.steps[index];
      for (int lane = 0; lane < kLaneCount; ++lane) faults += finished[lane] < step.waits[lane] ? 1 : 0;
      faults += finished[static_cast<int>(step.lane)]++ != number[index] ? 1 : 0;
      return absl::OkStatus();
    };
    ASSERT_TRUE(lanes_.Play(segment, run).ok());
    EXPECT_EQ(faults, 0) << "seed " << seed;
    for (int lane = 0; lane < kLaneCount; ++lane) EXPECT_EQ(finished[lane], count[lane]);
  }
}

// Other steps follow the failing one on its lane, and other lanes wait for them.
TEST_P(LanesTest, AFailureEndsTheSegmentAndLeavesTheLanesUsable) {
  Segment segment;
  for (int i = 0; i < 100; ++i) segment.steps.push_back({.lane = Lane::kComm});
  Step last{.lane = Lane::kCompute};
  last.waits[static_cast<int>(Lane::kComm)] = 100;
  segment.steps.push_back(last);
  std::atomic<int> ran = 0;
  const RunStep fails = [&](const Segment&, int32_t index) {
    ++ran;
    return index == 3 ? absl::UnavailableError("step 3") : absl::OkStatus();
  };
  EXPECT_EQ(lanes_.Play(segment, fails), absl::UnavailableError("step 3"));
  EXPECT_EQ(ran, 4);
  ran = 0;
  const RunStep counts = [&](const Segment&, int32_t) {
    ++ran;
    return absl::OkStatus();
  };
  EXPECT_TRUE(lanes_.Play(segment, counts).ok());
  EXPECT_EQ(ran, 101);
}

// Each lane's step waits until the other lane's step has begun, which works only if the player issues without waiting.
TEST_P(LanesTest, LanesRunSideBySide) {
  Segment segment;
  segment.steps = {{.lane = Lane::kCompute}, {.lane = Lane::kComm}};
  std::atomic<int> inside = 0;
  const RunStep meet = [&](const Segment&, int32_t) {
    ++inside;
    const auto limit = std::chrono::steady_clock::now() + std::chrono::seconds(60);
    while (inside < 2 && std::chrono::steady_clock::now() < limit) std::this_thread::yield();
    return inside == 2 ? absl::OkStatus() : absl::DeadlineExceededError("alone");
  };
  EXPECT_TRUE(lanes_.Play(segment, meet).ok());
}

TEST_P(LanesTest, AnEmptySegmentIsPlayedAtOnce) {
  EXPECT_TRUE(lanes_.Play({}, [](const Segment&, int32_t) { return absl::InternalError("a step"); }).ok());
}

std::string KindName(const ::testing::TestParamInfo<Kind>& info) {
  static constexpr const char* kNames[] = {"Threads", "Streams", "Mixed"};
  return kNames[static_cast<int>(info.param)];
}

INSTANTIATE_TEST_SUITE_P(Queues, LanesTest, ::testing::Values(Kind::kThreads, Kind::kStreams, Kind::kMixed), KindName);

}  // namespace
}  // namespace angel_ptm
