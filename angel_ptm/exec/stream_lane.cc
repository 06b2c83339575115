#include "angel_ptm/exec/stream_lane.h"

#include <array>
#include <mutex>
#include <utility>
#include <vector>

#include "angel_ptm/exec/step_thread.h"

namespace angel_ptm {
namespace {

// What the lane remembers of a step until it has finished.
struct OnStream {
  std::unique_ptr<DeviceEvent> begin, end;
  int32_t index = 0;  // of the segment's step
};

class StreamLane final : public LaneQueue {
 public:
  // Steps on the stream at a time.
  static constexpr uint32_t kSlots = 512;

  StreamLane(DeviceStream& stream, std::function<absl::Status()> judge, std::vector<OnStream> slots)
      : stream_(stream),
        judge_(std::move(judge)),
        slots_(std::move(slots)),
        thread_([this](int32_t index) { Put(index); }) {}

  void Begin(SegmentPlay& play) override {
    play_ = &play;
    begin_ = put_;
    thread_.Begin();
  }
  void Issue(int32_t index) override { thread_.Issue(index); }

  void AwaitFinished(int32_t count) override {
    thread_.AwaitDone(count);
    const uint32_t last = begin_ + static_cast<uint32_t>(count);
    std::unique_lock<std::mutex> lock(mutex_);
    while (failure_.ok() && static_cast<int32_t>(last - finished_) > 0) AwaitOldest(lock);
  }

  absl::Status Precede(DeviceStream& stream, int32_t count) override {
    thread_.AwaitDone(count);
    const uint32_t last = begin_ + static_cast<uint32_t>(count);
    const std::lock_guard<std::mutex> lock(mutex_);
    if (static_cast<int32_t>(last - finished_) <= 0) return absl::OkStatus();
    return stream.Follow(*slots_[(last - 1) % kSlots].end);
  }

  double TakeBusySeconds() override {
    const std::lock_guard<std::mutex> lock(mutex_);
    return std::exchange(busy_seconds_, 0);
  }

 private:
  // On the lane's thread.
  void Put(int32_t index) {
    absl::Status status = stream_.device().MakeCurrent();
    const Step& step = play_->segment().steps[index];
    for (int lane = 0; lane < kLaneCount; ++lane) {
      LaneQueue& other = play_->lane(static_cast<Lane>(lane));
      if (step.waits[lane] > 0 && &other != this) status.Update(other.Precede(stream_, step.waits[lane]));
    }
    OnStream& slot = MakeRoom();
    slot.index = index;
    status.Update(stream_.Record(*slot.begin));
    play_->Run(index);
    status.Update(stream_.Record(*slot.end));
    const std::lock_guard<std::mutex> lock(mutex_);
    ++put_;
    if (failure_.ok()) {
      Note(status);
      TakeFinished();
    } else {
      play_->Fail(index, failure_);
    }
  }

  OnStream& MakeRoom() {
    std::unique_lock<std::mutex> lock(mutex_);
    while (failure_.ok() && put_ - finished_ == kSlots) AwaitOldest(lock);
    return slots_[put_ % kSlots];
  }

  // Under mutex_, from here on, but while waiting: the thread goes on meanwhile. Should it record the event for another
  // step then, which it does when the one waited for has finished, the wait is longer than need be.
  void AwaitOldest(std::unique_lock<std::mutex>& lock) {
    const DeviceEvent& oldest = *slots_[finished_ % kSlots].end;
    lock.unlock();
    const absl::Status status = oldest.Await();
    lock.lock();
    Note(status);
    TakeFinished();
  }

  // Steps that have finished, as far as is known without waiting.
  void TakeFinished() {
    while (failure_.ok() && finished_ != put_) {
      const OnStream& slot = slots_[finished_ % kSlots];
      const absl::StatusOr<bool> reached = slot.end->Reached();
      Note(reached.status());
      if (!reached.ok() || !*reached) return;
      if (judge_) Note(judge_());
      if (!failure_.ok()) return;
      const absl::StatusOr<double> seconds = slot.end->SecondsSince(*slot.begin);
      Note(seconds.status());
      busy_seconds_ += seconds.ok() ? *seconds : 0;
      ++finished_;
    }
  }

  // A GPU that has failed stays so.
  void Note(const absl::Status& status) {
    if (status.ok() || !failure_.ok()) return;
    failure_ = status;
    play_->Fail(slots_[finished_ % kSlots].index, status);
  }

  DeviceStream& stream_;
  const std::function<absl::Status()> judge_;
  SegmentPlay* play_ = nullptr;  // written between segments, while the lane is idle
  uint32_t begin_ = 0;           // put_ when the segment began

  std::mutex mutex_;             // guards what is below
  std::vector<OnStream> slots_;  // by number; each one's events are the thread's until the step is put
  uint32_t put_ = 0, finished_ = 0;
  absl::Status failure_;
  double busy_seconds_ = 0;
  StepThread thread_;  // last: ends first
};

}  // namespace

absl::StatusOr<std::unique_ptr<LaneQueue>> MakeStreamLane(DeviceStream& stream, std::function<absl::Status()> judge) {
  std::vector<OnStream> slots(StreamLane::kSlots);
  for (OnStream& slot : slots) {
    ASSIGN_OR_RETURN(slot.begin, DeviceEvent::Create(stream.device()));
    ASSIGN_OR_RETURN(slot.end, DeviceEvent::Create(stream.device()));
  }
  return std::make_unique<StreamLane>(stream, std::move(judge), std::move(slots));
}

}  // namespace angel_ptm
