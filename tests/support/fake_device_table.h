// A backend of a FakeDevice: another backend's kernels, as work on the device's streams, on its memory. A file that
// includes this must include the arguments of all ops before (CMake arranges it for its file).
#ifndef ANGEL_PTM_TESTS_SUPPORT_FAKE_DEVICE_TABLE_H_
#define ANGEL_PTM_TESTS_SUPPORT_FAKE_DEVICE_TABLE_H_

#include <cstdint>
#include <memory>
#include <type_traits>

#include "kernels/kernels.h"
#include "tests/support/fake_device.h"

namespace angel_ptm {

// `Backend` has `static const KernelTable& Table()`, and `static void Run(const std::function<void()>& kernel)`, which
// calls a kernel of the table when its turn on the stream comes.
template <typename Backend>
class FakeDeviceTable {
 public:
  static KernelTable Make(const char* name, int64_t alignment_bytes) {
    return {
        .name = name,
        .alignment_bytes = alignment_bytes,
#define APTM_OP(Kind, op_name) .op_name = {&CanRun<Kind##Args>, &WorkspaceBytes<Kind##Args>, &Put<Kind##Args>},
#include "kernels/ops.def"
    };
  }

 private:
  template <typename Args>
  static absl::Status CanRun(const Args& args) {
    return KernelOf<Args>(Backend::Table()).can_run(args);
  }
  template <typename Args>
  static int64_t WorkspaceBytes(const Args& args, const BackendOptions& options) {
    return KernelOf<Args>(Backend::Table()).workspace_bytes(args, options);
  }
  template <typename Args>
  struct Launched {
    Args args;
    KernelContext context;
  };
  // Memory that arguments point to besides operands (these lie on tiers) must be accessible from a device.
  template <typename Args>
  static void WantReachable(const Args& args, void* stream) {
    const auto want = [stream](const void* memory) { FakeDevice::WantReachable(stream, memory); };
    if constexpr (requires { *args.scalars; }) want(args.scalars);
    if constexpr (requires { *args.no_decay; }) want(args.no_decay);
    if constexpr (requires { *args.loss; }) want(args.loss);
    if constexpr (requires { *args.first; }) want(args.first);
    if constexpr (requires { *args.weight; }) want(args.weight);
    if constexpr (requires { *args.total; }) want(args.total);
  }
  template <typename Args>
  static void Put(const Args& args, const KernelContext& context) {
    static_assert(std::is_trivially_copyable_v<Launched<Args>>);
    const auto launched = std::make_shared<Launched<Args>>(Launched<Args>{args, context});
    launched->context.stream = nullptr;
    WantReachable(args, context.stream);
    FakeDevice::Launch(context.stream, launched.get(), sizeof(*launched), [launched] {
      Backend::Run([&] { KernelOf<Args>(Backend::Table()).run(launched->args, launched->context); });
    });
  }
};

}  // namespace angel_ptm

#endif  // ANGEL_PTM_TESTS_SUPPORT_FAKE_DEVICE_TABLE_H_
