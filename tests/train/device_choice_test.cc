// Which device the configuration's `device` selects.
#include "angel_ptm/train/device_choice.h"

#include <gtest/gtest.h>

#include <string>

#include "angel_ptm/config/load.h"
#include "kernels/ops/adamw.h"
#include "kernels/ops/gelu.h"
#include "kernels/ops/router.h"
#include "kernels/ops/square_sum.h"
#include "tests/support/fake_device.h"
#include "tests/support/fake_device_kernels.h"
#include "tests/support/or_die.h"

namespace angel_ptm {
namespace {

TrainConfig Config(const std::string& device, const std::string& transport) {
  return OrDie(
      ParseTrainConfig("model { hunyuan_lm { hidden_size: 32 intermediate_size: 32 num_hidden_layers: 1 "
                       "num_attention_heads: 2 head_dim: 16 num_experts: 2 moe_topk: 1 } } device: " +
                           device + " communication { device_transport: " + transport + " }",
                       "test"));
}

// The text of the choice, or the error's.
std::string Choice(const std::string& device, const DeviceOffer& offer, const std::string& transport = "AUTO") {
  const absl::StatusOr<DeviceChoice> choice = ChooseDevice(Config(device, transport), /*vocab_size=*/64, offer);
  return choice.ok() ? choice->text : std::string(choice.status().message());
}

template <typename Args>
absl::Status Refuses(const Args&) {
  return absl::InvalidArgumentError("not today");
}

TEST(DeviceChoiceTest, TakesTheGpuThatThereIs) {
  FakeDevice api;
  DeviceOffer offer{.api = &api, .kernels = &FakeDeviceKernels(), .proven = true};
  EXPECT_EQ(Choice("AUTO", offer), "GPU 0 (Fake H200)");
  EXPECT_EQ(Choice("CUDA", offer), "GPU 0 (Fake H200)");
  EXPECT_EQ(Choice("CPU", offer), "CPU");
  offer.proven = false;
  EXPECT_EQ(Choice("AUTO", offer), "CPU (the fake device backend is not yet proven on a GPU: device=CUDA tries it)");
  EXPECT_EQ(Choice("CUDA", offer), "GPU 0 (Fake H200)");
}

TEST(DeviceChoiceTest, SaysWhyThereIsNone) {
  FakeDevice none({.driver_version = 0, .codes = {{"DeviceCount", kDeviceInsufficientDriver}}});
  const DeviceOffer offer{.api = &none, .kernels = &FakeDeviceKernels(), .proven = true};
  EXPECT_EQ(Choice("AUTO", offer), "CPU (no NVIDIA driver is loaded on this machine)");
  EXPECT_EQ(Choice("CUDA", offer), "device: wanted CUDA, but no NVIDIA driver is loaded on this machine");
  EXPECT_EQ(Choice("CPU", offer), "CPU");
  EXPECT_EQ(Choice("AUTO", {}), "CPU (this program has no CUDA backend)");
  EXPECT_EQ(Choice("CUDA", {}), "device: wanted CUDA, but this program has no CUDA backend");
  EXPECT_EQ(Choice("CUDA", {}, "NCCL"), "device: wanted CUDA, but this program has no CUDA backend");
}

// The configuration may insist on a transport between GPUs; a run on the CPU has none.
TEST(DeviceChoiceTest, InsistsOnNccl) {
  FakeDevice api;
  DeviceOffer offer{.api = &api, .kernels = &FakeDeviceKernels(), .proven = true};
  EXPECT_EQ(Choice("AUTO", offer, "NCCL"), "GPU 0 (Fake H200)");
  EXPECT_EQ(Choice("AUTO", {}, "NCCL"),
            "communication.device_transport: wanted NCCL, but the run takes the CPU (this program has no CUDA "
            "backend)");
  EXPECT_EQ(Choice("AUTO", {}, "STAGED"), "CPU (this program has no CUDA backend)");
}

// Names ops of the micro-step, of the update, and what both need besides ops of the graph.
TEST(DeviceChoiceTest, NamesTheOpsThatTheBackendLacks) {
  FakeDevice api;
  KernelTable some = FakeDeviceKernels();
  some.router_grad.can_run = &Refuses<RouterGradArgs>;
  some.adamw.can_run = &Refuses<AdamWArgs>;
  some.square_sum.can_run = &Refuses<SquareSumArgs>;
  some.gelu.can_run = &Refuses<GeluArgs>;  // not an op of this model
  const DeviceOffer offer{.api = &api, .kernels = &some, .proven = true};
  const std::string reason =
      "the fake device backend does not run RouterGrad, SquareSum, AdamW of this model: not today";
  EXPECT_EQ(Choice("AUTO", offer), "CPU (" + reason + ")");
  EXPECT_EQ(Choice("CUDA", offer), "device: wanted CUDA, but " + reason);
}

}  // namespace
}  // namespace angel_ptm
