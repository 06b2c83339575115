#include "angel_ptm/exec/stream_lane.h"

#include <array>
#include <mutex>
#include <utility>
#include <vector>

#include "angel_ptm/exec/step_graphs.h"
#include "angel_ptm/exec/step_thread.h"

namespace angel_ptm {
namespace {

// What the lane remembers of a step until it has finished. In a run, the first step has the begin event and the last
// the end event.
struct OnStream {
  std::unique_ptr<DeviceEvent> begin, end;
  int32_t index = 0;  // of the segment's step
  bool ends = true;   // it is in no run, or the last of one
};

class StreamLane final : public LaneQueue {
 public:
  // The most steps on the stream at a time.
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
  // Called on the lane's thread.
  void Put(int32_t index) {
    absl::Status status = stream_.device().MakeCurrent();
    const StepReplay* const replay = play_->replay();
    StepGraphs::Run* const run = replay == nullptr ? nullptr : replay->graphs->RunOf(index);
    const bool begins = run == nullptr || run->first == index;
    if (begins) status.Update(FollowOthers(play_->segment().steps[index]));
    OnStream& slot = MakeRoom(begins && run != nullptr ? run->steps : 1);  // nothing is awaited while capturing
    slot.index = index;
    slot.ends = run == nullptr || run->last == index;
    if (begins) status.Update(stream_.Record(*slot.begin));
    if (begins && run != nullptr) status.Update(BeginRun(*run, *replay));
    if (run != nullptr && launches_) {
      play_->Follow(index);
    } else {
      play_->Run(index);
    }
    if (slot.ends && run != nullptr) status.Update(EndRun());
    if (slot.ends) status.Update(stream_.Record(*slot.end));
    const std::lock_guard<std::mutex> lock(mutex_);
    ++put_;
    if (failure_.ok()) {
      Note(status);
      if (slot.ends) TakeFinished();  // not while capturing
    } else {
      play_->Fail(index, failure_);
    }
  }

  // What a run's later steps wait for, its first step has already waited for.
  absl::Status FollowOthers(const Step& step) {
    absl::Status status;
    for (int lane = 0; lane < kLaneCount; ++lane) {
      LaneQueue& other = play_->lane(static_cast<Lane>(lane));
      if (step.waits[lane] > 0 && &other != this) status.Update(other.Precede(stream_, step.waits[lane]));
    }
    return status;
  }

  // Sets graph_ to where the run's graph is, or will be; null if the run is put step by step.
  absl::Status BeginRun(StepGraphs::Run& run, const StepReplay& replay) {
    const int32_t variant = replay.variant(run.updates);
    graph_ = variant < 0 ? nullptr : &run.graphs[static_cast<size_t>(variant)];
    launches_ = graph_ != nullptr && *graph_ != nullptr;
    return graph_ == nullptr || launches_ ? absl::OkStatus() : stream_.BeginCapture();
  }
  // A capture is discarded if a step in it failed, or was left out after a failure.
  absl::Status EndRun() {
    if (graph_ == nullptr) return absl::OkStatus();
    if (!launches_) {
      ASSIGN_OR_RETURN(std::unique_ptr<DeviceGraph> captured, stream_.EndCapture());
      if (!play_->failed()) *graph_ = std::move(captured);
    }
    launches_ = false;
    return play_->failed() ? absl::OkStatus() : stream_.Launch(**graph_);
  }

  // Makes room for `steps` steps; returns the next step's slot.
  OnStream& MakeRoom(uint32_t steps) {
    std::unique_lock<std::mutex> lock(mutex_);
    while (failure_.ok() && put_ - finished_ + steps > kSlots) AwaitOldest(lock);
    return slots_[put_ % kSlots];
  }

  // From here on under mutex_, except while waiting, when the lane's thread goes on. That thread may record the event
  // for another step meanwhile, once the step waited for has finished; then the wait is longer than it need be.
  void AwaitOldest(std::unique_lock<std::mutex>& lock) {
    const DeviceEvent& oldest = *slots_[EndOfOldest() % kSlots].end;
    lock.unlock();
    const absl::Status status = oldest.Await();
    lock.lock();
    Note(status);
    TakeFinished();
  }

  // Notes which steps have finished, as far as is known without waiting.
  void TakeFinished() {
    while (failure_.ok()) {
      const uint32_t last = EndOfOldest();
      if (last == put_) return;
      const OnStream& slot = slots_[last % kSlots];
      const absl::StatusOr<bool> reached = slot.end->Reached();
      Note(reached.status());
      if (!reached.ok() || !*reached) return;
      if (judge_) Note(judge_());
      if (!failure_.ok()) return;
      const absl::StatusOr<double> seconds = slot.end->SecondsSince(*slots_[finished_ % kSlots].begin);
      Note(seconds.status());
      busy_seconds_ += seconds.ok() ? *seconds : 0;
      finished_ = last + 1;
    }
  }
  // The last step of the run that the oldest step belongs to; put_ if it is not put yet, or there is none.
  uint32_t EndOfOldest() const {
    uint32_t last = finished_;
    while (last != put_ && !slots_[last % kSlots].ends) ++last;
    return last;
  }

  // Only the first failure counts: a GPU that has failed stays so.
  void Note(const absl::Status& status) {
    if (status.ok() || !failure_.ok()) return;
    failure_ = status;
    play_->Fail(slots_[finished_ % kSlots].index, status);
  }

  DeviceStream& stream_;
  const std::function<absl::Status()> judge_;
  SegmentPlay* play_ = nullptr;  // written between segments, while the lane is idle
  uint32_t begin_ = 0;           // put_ when the segment began

  // Of the run that is being put; belong to the lane's thread.
  std::unique_ptr<DeviceGraph>* graph_ = nullptr;
  bool launches_ = false;

  std::mutex mutex_;             // guards what is below
  std::vector<OnStream> slots_;  // by number; a slot's events are the thread's until its step is put
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
