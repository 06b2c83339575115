#include "tests/support/fake_device_kernels.h"

#include <memory>
#include <type_traits>

#include "tests/support/fake_device.h"

namespace angel_ptm {
namespace {

template <typename Args>
absl::Status CanRun(const Args& args) {
  return KernelOf<Args>(CpuKernels()).can_run(args);
}
template <typename Args>
int64_t WorkspaceBytes(const Args& args, const BackendOptions& options) {
  return KernelOf<Args>(CpuKernels()).workspace_bytes(args, options);
}
template <typename Args>
struct Launched {
  Args args;
  KernelContext context;
};
// What arguments point to besides operands, which lie on tiers: it must be where a device can follow.
template <typename Args>
void WantReachable(const Args& args, void* stream) {
  const auto want = [stream](const void* memory) { FakeDevice::WantReachable(stream, memory); };
  if constexpr (requires { *args.scalars; }) want(args.scalars);
  if constexpr (requires { *args.no_decay; }) want(args.no_decay);
  if constexpr (requires { *args.loss; }) want(args.loss);
  if constexpr (requires { *args.total; }) want(args.total);
}
template <typename Args>
void Run(const Args& args, const KernelContext& context) {
  static_assert(std::is_trivially_copyable_v<Launched<Args>>);
  const auto launched = std::make_shared<Launched<Args>>(Launched<Args>{args, context});
  launched->context.stream = nullptr;
  WantReachable(args, context.stream);
  FakeDevice::Launch(context.stream, launched.get(), sizeof(*launched),
                     [launched] { KernelOf<Args>(CpuKernels()).run(launched->args, launched->context); });
}

}  // namespace

const KernelTable& FakeDeviceKernels() {
  static const KernelTable table = {
      .name = "fake device",
      .alignment_bytes = 256,
#define APTM_OP(Kind, name) .name = {&CanRun<Kind##Args>, &WorkspaceBytes<Kind##Args>, &Run<Kind##Args>},
#include "kernels/ops.def"
  };
  return table;
}

}  // namespace angel_ptm
