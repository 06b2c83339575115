// What a rank computes on: what the configuration's `device` comes to with this program, this machine and this model.
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

// GPUs as the program has them.
struct DeviceOffer {
  DeviceApi* api = nullptr;              // null: the program knows none; must outlive the run
  const KernelTable* kernels = nullptr;  // that put their work on KernelContext::stream; null: there are none
  bool proven = false;                   // shown right on a GPU: only then AUTO takes one
  int local_rank = 0;                    // of the ranks on this machine
  int local_ranks = 1;
  NcclOffer nccl;  // of worlds of several ranks
};

struct DeviceChoice {
  std::unique_ptr<Device> device;  // null: the CPU
  std::string text;                // "GPU 0 (NVIDIA H200)", "CPU (...)" with the reason if it was left to the program
};

// Errors: where the configuration insists on CUDA or NCCL, why there is no GPU, in one sentence.
absl::StatusOr<DeviceChoice> ChooseDevice(const TrainConfig& config, int64_t vocab_size, const DeviceOffer& offer);

}  // namespace angel_ptm

#endif  // ANGEL_PTM_TRAIN_DEVICE_CHOICE_H_
