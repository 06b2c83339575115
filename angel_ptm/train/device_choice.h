// What a rank computes on: resolves the configuration's `device` for this program, machine and model.
#ifndef ANGEL_PTM_TRAIN_DEVICE_CHOICE_H_
#define ANGEL_PTM_TRAIN_DEVICE_CHOICE_H_

#include <cstdint>
#include <memory>
#include <string>

#include "angel_ptm/base/status.h"
#include "angel_ptm/config/train_config.pb.h"
#include "angel_ptm/exec/device_collectives.h"
#include "angel_ptm/memory/device.h"
#include "kernels/kernels.h"

namespace angel_ptm {

// The GPU support that the program has.
struct DeviceOffer {
  DeviceApi* api = nullptr;              // null: the program has no GPU support; must outlive the run
  const KernelTable* kernels = nullptr;  // enqueue their work on KernelContext::stream; null: there are none
  bool proven = false;                   // shown to be correct on a GPU; AUTO takes a GPU only then
  int local_rank = 0;                    // among the ranks on this machine
  int local_ranks = 1;
  NcclOffer nccl;  // for worlds of several ranks
};

struct DeviceChoice {
  std::unique_ptr<Device> device;  // null: the CPU
  std::string text;                // "GPU 0 (NVIDIA H200)", or "CPU (...)" with the reason if the choice was AUTO
};

// Returns an error only if the configuration insists on CUDA or NCCL: one sentence that says why there is no GPU.
absl::StatusOr<DeviceChoice> ChooseDevice(const TrainConfig& config, int64_t vocab_size, const DeviceOffer& offer);

}  // namespace angel_ptm

#endif  // ANGEL_PTM_TRAIN_DEVICE_CHOICE_H_
