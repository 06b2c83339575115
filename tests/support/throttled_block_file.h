// A block device as slow as a test wants: it wraps another one and returns results no earlier than its speed allows.
#ifndef ANGEL_PTM_TESTS_SUPPORT_THROTTLED_BLOCK_FILE_H_
#define ANGEL_PTM_TESTS_SUPPORT_THROTTLED_BLOCK_FILE_H_

#include <algorithm>
#include <array>
#include <chrono>
#include <memory>
#include <string>
#include <thread>
#include <utility>
#include <vector>

#include "absl/strings/str_cat.h"
#include "angel_ptm/memory/block_file.h"

namespace angel_ptm {

struct DeviceSpeed {
  double bytes_per_second = 0;  // of one direction, whatever the queue depth; > 0
  double latency_seconds = 0;   // added for each request
};

class ThrottledBlockFile : public BlockFile {
 public:
  ThrottledBlockFile(std::unique_ptr<BlockFile> device, DeviceSpeed read, DeviceSpeed write, int queue_depth)
      : device_(std::move(device)), lanes_{Lane{read}, Lane{write}} {
    for (Lane& lane : lanes_) lane.due.resize(static_cast<size_t>(queue_depth));
  }

  std::string description() const override { return absl::StrCat("throttled ", device_->description()); }
  absl::Status RegisterBuffer(std::byte* base, int64_t bytes) override { return device_->RegisterBuffer(base, bytes); }

  void Start(FileDirection direction, const BlockRequest& request) override {
    Lane& lane = lanes_[static_cast<int>(direction)];
    lane.idle_from = std::max(lane.idle_from, Clock::now()) +
                     Duration(static_cast<double>(request.bytes) / lane.speed.bytes_per_second);
    lane.due[request.slot] = lane.idle_from + Duration(lane.speed.latency_seconds);
    device_->Start(direction, request);
  }

  // May take longer than `seconds` if the result is available but not yet due.
  std::optional<BlockResult> Wait(FileDirection direction, double seconds) override {
    const std::optional<BlockResult> result = device_->Wait(direction, seconds);
    if (result) std::this_thread::sleep_until(lanes_[static_cast<int>(direction)].due[result->slot]);
    return result;
  }

 private:
  using Clock = std::chrono::steady_clock;
  static Clock::duration Duration(double seconds) {
    return std::chrono::duration_cast<Clock::duration>(std::chrono::duration<double>(seconds));
  }
  struct Lane {
    DeviceSpeed speed;
    Clock::time_point idle_from = {};
    std::vector<Clock::time_point> due = {};  // by slot
  };

  const std::unique_ptr<BlockFile> device_;
  std::array<Lane, kFileDirections> lanes_;
};

}  // namespace angel_ptm

#endif  // ANGEL_PTM_TESTS_SUPPORT_THROTTLED_BLOCK_FILE_H_
