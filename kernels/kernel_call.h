// An op bound to its operands, independent of the op's argument type and of the backend.
#ifndef ANGEL_PTM_KERNELS_KERNEL_CALL_H_
#define ANGEL_PTM_KERNELS_KERNEL_CALL_H_

#include <cstdint>
#include <memory>
#include <utility>

#include "angel_ptm/base/status.h"
#include "kernels/kernels.h"

namespace angel_ptm {

// Immutable. The functions promise what those of Kernel promise. CanRun and WorkspaceBytes may be called before the
// operands have addresses.
class KernelCall {
 public:
  virtual ~KernelCall() = default;
  virtual absl::Status CanRun(const KernelTable& kernels) const = 0;
  virtual int64_t WorkspaceBytes(const KernelTable& kernels, const BackendOptions& options) const = 0;
  virtual void Run(const KernelTable& kernels, const KernelContext& context) const = 0;
};

template <typename Args>
class KernelCallWith final : public KernelCall {
 public:
  explicit KernelCallWith(Args args) : args_(std::move(args)) {}
  absl::Status CanRun(const KernelTable& kernels) const override { return KernelOf<Args>(kernels).can_run(args_); }
  int64_t WorkspaceBytes(const KernelTable& kernels, const BackendOptions& options) const override {
    return KernelOf<Args>(kernels).workspace_bytes(args_, options);
  }
  void Run(const KernelTable& kernels, const KernelContext& context) const override {
    KernelOf<Args>(kernels).run(args_, context);
  }

 private:
  const Args args_;
};

template <typename Args>
std::unique_ptr<const KernelCall> MakeKernelCall(Args args) {
  return std::make_unique<const KernelCallWith<Args>>(std::move(args));
}

}  // namespace angel_ptm

#endif  // ANGEL_PTM_KERNELS_KERNEL_CALL_H_
