// Runs CUDA kernels on the CPU and checks them: the interface for tests. tests/gpu has the same functions for a GPU,
// where each schedule is one more launch.
//
//   DeviceArray<float> x(values), y(n);
//   const auto findings = Emulate({Order::kRandom, 3}, [&] { LaunchCast({...}, {}); });
//   EXPECT_THAT(findings, IsEmpty());
#ifndef ANGEL_PTM_TESTS_CUDA_EMULATION_EMULATOR_H_
#define ANGEL_PTM_TESTS_CUDA_EMULATION_EMULATOR_H_

#include <cstddef>
#include <cstdint>
#include <functional>
#include <ostream>
#include <vector>

#include "tests/cuda_emulation/findings.h"

namespace angel_ptm::emulated {

// Which thread runs next, and when asynchronous work is done.
enum class Order {
  kInTurn,  // a thread runs until it waits; asynchronous work is done immediately
  kRandom,  // any thread, any time
  kLate,    // warps by changing priorities; asynchronous work as late as allowed
};
struct Schedule {
  Order order = Order::kInTurn;
  std::uint64_t seed = 1;
};
inline std::ostream& operator<<(std::ostream& out, const Schedule& schedule) {
  return out << "order " << static_cast<int>(schedule.order) << " seed " << schedule.seed;
}
// kInTurn, then each of the other orders with `seeds` seeds.
std::vector<Schedule> Schedules(int seeds);

// Runs what `launches` launches, one after the other as on a stream, and returns what was wrong. After a fault that
// ends a launch, nothing more is run.
std::vector<Finding> Emulate(const Schedule& schedule, const std::function<void()>& launches);

// Device memory: filled with NaN patterns and uninitialised until written. Elements have 2, 4, 8 or 16 bytes: smaller
// ones would share a checked cell.
void* AllocateDevice(std::size_t bytes);
void FreeDevice(void* memory);
// Copies between the host and part of an array. What is written counts as initialised.
void WriteDevice(void* to, const void* from, std::size_t bytes);
void ReadDevice(void* to, const void* from, std::size_t bytes);

template <typename T>
class DeviceArray {
 public:
  explicit DeviceArray(std::int64_t n)
      : n_(static_cast<std::size_t>(n)), data_(static_cast<T*>(AllocateDevice(n_ * sizeof(T)))) {}
  explicit DeviceArray(const std::vector<T>& values) : DeviceArray(static_cast<std::int64_t>(values.size())) {
    Set(values);
  }
  ~DeviceArray() { FreeDevice(data_); }
  DeviceArray(const DeviceArray&) = delete;
  DeviceArray& operator=(const DeviceArray&) = delete;

  T* data() { return data_; }
  // If there are fewer values than elements, sets the first elements.
  void Set(const std::vector<T>& values) {
    if (!values.empty()) WriteDevice(data_, values.data(), values.size() * sizeof(T));
  }
  std::vector<T> Get() const {
    std::vector<T> values(n_);
    if (n_ > 0) ReadDevice(values.data(), data_, n_ * sizeof(T));
    return values;
  }

 private:
  std::size_t n_;
  T* data_;
};

}  // namespace angel_ptm::emulated

#endif  // ANGEL_PTM_TESTS_CUDA_EMULATION_EMULATOR_H_
