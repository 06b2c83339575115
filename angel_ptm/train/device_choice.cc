#include "angel_ptm/train/device_choice.h"

#include <map>
#include <utility>

#include "absl/strings/str_cat.h"
#include "absl/strings/str_join.h"
#include "angel_ptm/train/run_plan.h"

namespace angel_ptm {
namespace {

absl::StatusOr<std::unique_ptr<Device>> OpenGpu(const TrainConfig& config, int64_t vocab_size,
                                                const DeviceOffer& offer) {
  if (config.optimizer().update() == OptimizerConfig::LOCK_FREE) {
    return absl::FailedPreconditionError("optimizer.update=LOCK_FREE is for the CPU so far");
  }
  if (offer.api == nullptr || offer.kernels == nullptr) {
    return absl::FailedPreconditionError("this program has no CUDA backend");
  }
  RETURN_IF_ERROR(Device::Find(*offer.api, offer.local_ranks));
  const std::map<OpKind, std::string> refused = OpsRefused(config, vocab_size, *offer.kernels);
  if (!refused.empty()) {
    const auto name = [](std::string* out, const auto& op) { absl::StrAppend(out, Name(op.first)); };
    return absl::FailedPreconditionError(absl::StrCat("the ", offer.kernels->name, " backend does not run ",
                                                      absl::StrJoin(refused, ", ", name),
                                                      " of this model: ", refused.begin()->second));
  }
  if (config.device() == TrainConfig::AUTO && !offer.proven) {
    return absl::FailedPreconditionError(
        absl::StrCat("the ", offer.kernels->name, " backend is not yet proven on a GPU: device=CUDA tries it"));
  }
  return Device::Open(*offer.api, offer.local_rank, offer.local_ranks);
}

}  // namespace

absl::StatusOr<DeviceChoice> ChooseDevice(const TrainConfig& config, int64_t vocab_size, const DeviceOffer& offer) {
  if (config.device() == TrainConfig::CPU) return DeviceChoice{nullptr, "CPU"};
  absl::StatusOr<std::unique_ptr<Device>> gpu = OpenGpu(config, vocab_size, offer);
  if (gpu.ok()) {
    std::string name = (*gpu)->name();
    return DeviceChoice{*std::move(gpu), std::move(name)};
  }
  const std::string reason(gpu.status().message());
  if (config.device() != TrainConfig::AUTO) {
    return absl::Status(gpu.status().code(), absl::StrCat("device: wanted CUDA, but ", reason));
  }
  if (config.communication().device_transport() == DeviceTransport::NCCL) {
    return absl::FailedPreconditionError(
        absl::StrCat("communication.device_transport: wanted NCCL, but the run takes the CPU (", reason, ")"));
  }
  return DeviceChoice{nullptr, absl::StrCat("CPU (", reason, ")")};
}

}  // namespace angel_ptm
