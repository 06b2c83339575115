// A fake NCCL for planted faults: for each stream that calls are put on it has a second one that no other code knows.
#ifndef ANGEL_PTM_TESTS_SUPPORT_STRAY_STREAMS_H_
#define ANGEL_PTM_TESTS_SUPPORT_STRAY_STREAMS_H_

#include <map>
#include <mutex>

#include "tests/support/fake_device.h"
#include "tests/support/fake_nccl.h"

namespace angel_ptm {

class WithStrayStreams : public FakeNccl {
 protected:
  struct Stray {
    void* stream = nullptr;
    void *before = nullptr, *behind = nullptr;  // events
  };
  Stray& StrayOf(void* stream) {
    const std::lock_guard<std::mutex> lock(mutex_);
    Stray& stray = strays_[stream];
    FakeDevice& device = FakeDevice::Of(stream);
    if (stray.stream == nullptr) {
      device.CreateStream(&stray.stream);
      device.CreateEvent(&stray.before);
      device.CreateEvent(&stray.behind);
    }
    return stray;
  }
  // Work put on `stream` from now on waits for the work that is on `first` now.
  static void Chain(void* first, void* stream, void* event) {
    FakeDevice::Of(stream).RecordEvent(event, first);
    FakeDevice::Of(stream).StreamWaitEvent(stream, event);
  }

 private:
  std::mutex mutex_;
  std::map<void*, Stray> strays_;  // by the stream that each accompanies
};

}  // namespace angel_ptm

#endif  // ANGEL_PTM_TESTS_SUPPORT_STRAY_STREAMS_H_
