#include "angel_ptm/exec/lanes.h"

#include <atomic>
#include <mutex>
#include <utility>

#include "absl/strings/str_cat.h"
#include "angel_ptm/base/check.h"

namespace angel_ptm {

class Lanes::Player final : public SegmentPlay {
 public:
  explicit Player(const Queues& queues) : queues_(queues) {}

  absl::Status Play(const Segment& segment, const RunStep& run_step, const NameStep& name_step,
                    const StepReplay* replay) {
    APTM_CHECK(!playing_.exchange(true), "two players at a time");
    segment_ = &segment;
    run_step_ = &run_step;
    name_step_ = &name_step;
    replay_ = replay;
    failed_ = false;
    status_ = absl::OkStatus();
    std::array<int32_t, kLaneCount> issued = {};
    for (const auto& queue : queues_) queue->Begin(*this);
    for (int32_t i = 0; i < static_cast<int32_t>(segment.steps.size()); ++i) {
      const int lane = static_cast<int>(segment.steps[i].lane);
      queues_[lane]->Issue(i);
      ++issued[lane];
    }
    for (int lane = 0; lane < kLaneCount; ++lane) queues_[lane]->AwaitFinished(issued[lane]);
    playing_ = false;
    return std::exchange(status_, absl::OkStatus());
  }

  const Segment& segment() const override { return *segment_; }
  LaneQueue& lane(Lane lane) const override { return *queues_[static_cast<int>(lane)]; }

  void Run(int32_t index) override { Call(*run_step_, index); }
  void Follow(int32_t index) override { Call(replay_->follow, index); }
  const StepReplay* replay() const override { return replay_; }
  bool failed() const override { return failed_.load(std::memory_order_acquire); }

  void Fail(int32_t index, const absl::Status& status) override {
    const std::string step = *name_step_ ? (*name_step_)(*segment_, index) : absl::StrCat("step ", index);
    Keep(absl::Status(status.code(), absl::StrCat("in ", step, " or soon behind it: ", status.message())));
  }

 private:
  void Call(const RunStep& step, int32_t index) {
    if (failed()) return;
    absl::Status status = step(*segment_, index);
    if (!status.ok()) Keep(std::move(status));
  }
  void Keep(absl::Status status) {
    const std::lock_guard<std::mutex> lock(mutex_);
    if (status_.ok()) status_ = std::move(status);
    failed_.store(true, std::memory_order_release);
  }

  const Queues& queues_;
  std::atomic<bool> playing_ = false;
  const Segment* segment_ = nullptr;
  const RunStep* run_step_ = nullptr;
  const NameStep* name_step_ = nullptr;
  const StepReplay* replay_ = nullptr;
  std::atomic<bool> failed_ = false;
  std::mutex mutex_;
  absl::Status status_;  // guarded by mutex_ while lanes run
};

Lanes::Lanes() : player_(std::make_unique<Player>(queues_)) {
  for (auto& queue : queues_) queue = MakeThreadLane();
}
Lanes::Lanes(Queues queues) : queues_(std::move(queues)), player_(std::make_unique<Player>(queues_)) {}
Lanes::~Lanes() = default;

absl::Status Lanes::Play(const Segment& segment, const RunStep& run_step, const NameStep& name_step,
                         const StepReplay* replay) {
  return player_->Play(segment, run_step, name_step, replay);
}

absl::Status LaneQueue::Precede(DeviceStream&, int32_t count) {
  AwaitFinished(count);
  return absl::OkStatus();
}

std::array<double, kLaneCount> Lanes::TakeBusySeconds() {
  std::array<double, kLaneCount> seconds;
  for (int lane = 0; lane < kLaneCount; ++lane) seconds[lane] = queues_[lane]->TakeBusySeconds();
  return seconds;
}

}  // namespace angel_ptm
