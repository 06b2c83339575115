// The CUDA backend's table: micro-steps of tiny models, op by op, with the emulator as the device.
#include <gtest/gtest.h>

#include <cmath>
#include <cstring>
#include <memory>
#include <random>
#include <string>
#include <vector>

#include "angel_ptm/base/bfloat16.h"
#include "angel_ptm/model/dit.h"
#include "angel_ptm/model/hunyuan_lm.h"
#include "angel_ptm/model/op_rules.h"
#include "kernels/cuda/cuda_kernels.h"
#include "kernels/op_kind.h"
#include "kernels/ops/add_rms_norm.h"
#include "kernels/ops/attention.h"
#include "kernels/ops/grouped_matmul.h"
#include "kernels/ops/matmul.h"
#include "optim/adamw.h"
#include "tests/cuda_emulation/emulator.h"
#include "tests/support/bf16_testing.h"
#include "tests/support/kernel_testing.h"

namespace angel_ptm::emulated {
namespace {

constexpr HunyuanLmBatch kBatch = {.rows = 2, .sequence = 10, .lm_head_chunk_tokens = 8, .expert_block_rows = 4};

Graph TrainingGraph(bool moe, DType compute) {
  HunyuanLmShape shape = {.vocab_size = 48,
                          .hidden_size = 32,
                          .intermediate_size = 40,
                          .num_hidden_layers = 1,
                          .num_attention_heads = 4,
                          .num_key_value_heads = 2,
                          .head_dim = 16,
                          .tie_word_embeddings = moe};
  if (moe) shape.num_experts = 4, shape.moe_topk = 2, shape.router_aux_loss_coefficient = 0.1f;
  return BuildHunyuanLmTraining(shape, kBatch, {moe}, HunyuanLmParameters(shape, AdamWStates(compute)));
}

// A model that reads captions, some shorter than others.
Graph DiffusionTrainingGraph(DType compute) {
  const DitShape shape = {.channels = 2,
                          .height = 8,
                          .width = 8,
                          .patch_size = 2,
                          .hidden_size = 32,
                          .intermediate_size = 48,
                          .num_hidden_layers = 1,
                          .num_attention_heads = 2,
                          .text_vocab_size = 48,
                          .text_length = 5,
                          .text_hidden_size = 16,
                          .text_num_hidden_layers = 1,
                          .text_num_attention_heads = 1};
  return BuildDitTraining(shape, /*batch=*/2, {false, true}, DitParameters(shape, AdamWStates(compute)));
}

// Every tensor twice: on the host and on the emulated device.
class TwoBackends {
 public:
  explicit TwoBackends(const Graph& graph) : graph_(graph) {
    for (const Tensor& t : graph.tensors) {
      const auto bytes = static_cast<std::size_t>(t.shape.elements() * SizeOf(t.dtype));
      bytes_.push_back(bytes);
      host_.emplace_back(bytes + kAlignment);
      device_.push_back(AllocateDevice(bytes));
    }
  }
  ~TwoBackends() {
    for (void* memory : device_) FreeDevice(memory);
  }
  TwoBackends(const TwoBackends&) = delete;
  TwoBackends& operator=(const TwoBackends&) = delete;

  void FillInputs();
  // Runs the op on both, from the device's inputs; the host's results are kept beside the device's.
  void PlayOnBoth(const Op& op);
  void PlayOnHost(const Op& op) { Bind(op, true)->Run(CpuKernels(), TestContext(1, HostWorkspace(*Bind(op, true)))); }
  double LossOf(bool host);

 private:
  static constexpr std::size_t kAlignment = 64;

  void* At(TensorId t, bool host) {
    if (!host) return device_[t];
    auto address = reinterpret_cast<std::uintptr_t>(host_[t].data());
    return reinterpret_cast<void*>((address + kAlignment - 1) / kAlignment * kAlignment);
  }
  std::unique_ptr<const KernelCall> Bind(const Op& op, bool host) {
    std::vector<void*> address;
    for (const std::vector<TensorId>* operands : {&op.inputs, &op.outputs}) {
      for (const TensorId t : *operands) address.push_back(t == kNone ? nullptr : At(t, host));
    }
    return BindKernel(graph_, op, address);
  }
  static int64_t HostWorkspace(const KernelCall& call) { return call.WorkspaceBytes(CpuKernels(), {}); }
  // Values made on the host, set on the device too.
  template <typename T>
  void Set(TensorId t, const std::vector<T>& values) {
    std::memcpy(At(t, true), values.data(), bytes_[t]);
    WriteDevice(At(t, false), values.data(), bytes_[t]);
  }
  std::vector<double> Values(TensorId t, bool host);
  void ExpectSame(const Op& op, TensorId t);

  const Graph& graph_;
  std::vector<std::size_t> bytes_;
  std::vector<std::vector<std::byte>> host_;
  std::vector<void*> device_;
};

void TwoBackends::FillInputs() {
  std::mt19937 random(25);
  std::normal_distribution<float> normal;
  for (const TensorId p : graph_.parameter_tensors) {
    const bool is_norm = graph_.tensors[p].shape.rank() == 1;
    std::vector<float> values(static_cast<std::size_t>(graph_.tensors[p].shape.elements()));
    for (float& value : values) value = (is_norm ? 1.0f : 0.0f) + 0.2f * normal(random);
    if (graph_.tensors[p].dtype == DType::kFloat32) {
      Set(p, values);
      continue;
    }
    std::vector<BFloat16> rounded;
    for (const float value : values) rounded.push_back(ToBFloat16(value));
    Set(p, rounded);
  }
  for (TensorId t = 0; t < static_cast<TensorId>(graph_.tensors.size()); ++t) {
    const Tensor& tensor = graph_.tensors[t];
    if (tensor.tensor_class != TensorClass::kInput && tensor.tensor_class != TensorClass::kCache) continue;
    if (tensor.dtype == DType::kFloat32) {
      std::vector<float> values(bytes_[t] / sizeof(float));
      for (float& value : values) value = tensor.name == "target_count" ? 19.0f : normal(random);
      Set(t, values);
      continue;
    }
    std::vector<std::int32_t> values(bytes_[t] / sizeof(std::int32_t));
    for (std::size_t i = 0; i < values.size(); ++i) {
      const auto at = static_cast<std::int32_t>(i) % static_cast<std::int32_t>(kBatch.sequence);
      constexpr std::int32_t kSecond = 6;  // where a row's second document starts
      if (tensor.name == "positions") {
        values[i] = at < kSecond ? at : at - kSecond;
      } else if (tensor.name == "segment_start") {
        values[i] = at < kSecond ? 0 : kSecond;
      } else if (tensor.name == "token_counts") {
        values[i] = 2 + 3 * at;
      } else {
        values[i] = static_cast<std::int32_t>(random() % 48);
      }
    }
    if (tensor.name == "targets") values[3] = -1;
    Set(t, values);
  }
}

std::vector<double> TwoBackends::Values(TensorId t, bool host) {
  std::vector<std::byte> bytes(bytes_[t]);
  if (host) {
    std::memcpy(bytes.data(), At(t, true), bytes.size());
  } else {
    ReadDevice(bytes.data(), At(t, false), bytes.size());
  }
  std::vector<double> values;
  for (std::int64_t i = 0; i < graph_.tensors[t].shape.elements(); ++i) {
    const DType dtype = graph_.tensors[t].dtype;
    if (dtype == DType::kBFloat16) {
      values.push_back(static_cast<double>(ToFloat(reinterpret_cast<const BFloat16*>(bytes.data())[i])));
    } else if (dtype == DType::kFloat32) {
      values.push_back(static_cast<double>(reinterpret_cast<const float*>(bytes.data())[i]));
    } else {
      values.push_back(reinterpret_cast<const std::int32_t*>(bytes.data())[i]);
    }
  }
  return values;
}

// Expects equal values, or values within a few roundings relative to the largest. Elements that neither backend wrote
// hold the same NaN in both.
void TwoBackends::ExpectSame(const Op& op, TensorId t) {
  const std::vector<double> got = Values(t, false), want = Values(t, true);
  const DType dtype = graph_.tensors[t].dtype;
  double magnitude = 0;
  for (const double value : want) magnitude = std::isfinite(value) ? std::max(magnitude, std::abs(value)) : magnitude;
  const double allowed = dtype == DType::kInt32 ? 0 : (dtype == DType::kBFloat16 ? 0.008 : 1e-4) * magnitude;
  bool any = false;
  for (std::size_t i = 0; i < got.size(); ++i) {
    any |= std::isfinite(want[i]);
    if (std::isnan(got[i]) && std::isnan(want[i])) continue;
    EXPECT_NEAR(got[i], want[i], allowed) << Name(op.kind) << " " << graph_.tensors[t].name << " at " << i;
  }
  EXPECT_TRUE(any) << Name(op.kind) << " " << graph_.tensors[t].name;
}

void TwoBackends::PlayOnBoth(const Op& op) {
  for (const std::vector<TensorId>* operands : {&op.inputs, &op.outputs}) {
    for (const TensorId t : *operands) {
      if (t != kNone) ReadDevice(At(t, true), At(t, false), bytes_[t]);
    }
  }
  PlayOnHost(op);
  const auto call = Bind(op, false);
  const absl::Status status = call->CanRun(CudaKernels());
  ASSERT_TRUE(status.ok()) << status;
  const std::int64_t bytes = call->WorkspaceBytes(CudaKernels(), {});
  DeviceArray<double> workspace((bytes + 7) / 8);
  const KernelContext context = {.threads = 1,
                                 .workspace = reinterpret_cast<std::byte*>(workspace.data()),
                                 .workspace_bytes = bytes,
                                 .stream = nullptr};
  for (const Finding& finding : Emulate({Order::kRandom, 1}, [&] { call->Run(CudaKernels(), context); })) {
    ADD_FAILURE() << Name(op.kind) << ": " << finding.Describe();
  }
  for (const TensorId t : op.outputs) {
    if (t != kNone) ExpectSame(op, t);
  }
}

double TwoBackends::LossOf(bool host) {
  double sum = 0;
  for (const double loss : Values(graph_.ops[graph_.loss].outputs[0], host)) sum += loss;
  return sum;
}

// Each op gets the device's own results of the ops before it, and must match what the host backend computes from them.
void TestMicroStep(const Graph& graph) {
  double host_loss = 0;
  {
    TwoBackends host(graph);
    host.FillInputs();
    for (OpId op = 0; op < graph.update_begin; ++op) host.PlayOnHost(graph.ops[op]);
    host_loss = host.LossOf(true);
  }
  TwoBackends both(graph);
  both.FillInputs();
  for (OpId op = 0; op < graph.update_begin && !testing::Test::HasFailure(); ++op) both.PlayOnBoth(graph.ops[op]);
  EXPECT_NEAR(both.LossOf(false), host_loss, 0.01 * std::abs(host_loss));
}

constexpr DType kTypes[] = {DType::kBFloat16, DType::kFloat32};
TEST(CudaMicroStepTest, DenseModelAgreesWithTheHostBackend) {
  for (const DType compute : kTypes) TestMicroStep(TrainingGraph(false, compute));
}
TEST(CudaMicroStepTest, ModelOfExpertsAgreesWithTheHostBackend) {
  for (const DType compute : kTypes) TestMicroStep(TrainingGraph(true, compute));
}
TEST(CudaMicroStepTest, DiffusionTransformerAgreesWithTheHostBackend) {
  for (const DType compute : kTypes) TestMicroStep(DiffusionTrainingGraph(compute));
}

// Ops without a kernel, or without one for these types and shapes, are refused.
TEST(CudaKernelsTest, RefusesWhatItCannotRun) {
  const auto message = [](const absl::Status& status) { return std::string(status.message()); };
  MatmulArgs matmul = {.m = 1, .n = 8, .k = 12};
  EXPECT_TRUE(CudaKernels().matmul.can_run(matmul).ok());
  EXPECT_EQ(message(CudaMatmulSm90a().can_run(matmul)), "cuda backend: matmul on sm_90a takes a in BF16, got F32");
  matmul.c.dtype = DType::kBFloat16;
  EXPECT_EQ(message(CudaKernels().matmul.can_run(matmul)), "cuda backend: matmul takes c in F32, got BF16");
  matmul.a.dtype = matmul.b.dtype = DType::kBFloat16;
  EXPECT_TRUE(CudaKernels().matmul.can_run(matmul).ok());
  EXPECT_EQ(message(CudaMatmulSm90a().can_run(matmul)),
            "cuda backend: matmul on sm_90a takes a length of a's rows that is a multiple of 8, got 12");
  GroupedMatmulArgs grouped = {.n = 24, .k = 8, .e = 2, .block_rows = 8, .blocks_max = 3};
  grouped.a.dtype = grouped.b.dtype = DType::kBFloat16;
  EXPECT_TRUE(CudaGroupedMatmulSm90a().can_run(grouped).ok());
  grouped.n = 20;
  EXPECT_TRUE(CudaKernels().grouped_matmul.can_run(grouped).ok());
  EXPECT_EQ(message(CudaGroupedMatmulSm90a().can_run(grouped)),
            "cuda backend: grouped_matmul on sm_90a takes a length of b's rows that is a multiple of 8, got 20");
  GroupedMatmulGradWeightArgs gradient = {.n = 24, .k = 8, .e = 2, .block_rows = 24, .blocks_max = 3};
  gradient.dy.dtype = gradient.x.dtype = DType::kBFloat16;
  EXPECT_TRUE(CudaKernels().grouped_matmul_grad_weight.can_run(gradient).ok());
  EXPECT_EQ(message(CudaGroupedMatmulGradWeightSm90a().can_run(gradient)),
            "cuda backend: grouped_matmul_grad_weight on sm_90a takes a number of rows of blocks that is a multiple of "
            "16, got 24");
  gradient.block_rows = 32;
  EXPECT_TRUE(CudaGroupedMatmulGradWeightSm90a().can_run(gradient).ok());
  AttentionArgs attention;
  attention.q.dtype = attention.k.dtype = attention.v.dtype = attention.o.dtype = DType::kBFloat16;
  attention.b = attention.s = attention.q_heads = attention.kv_heads = 1, attention.d = 20;
  EXPECT_EQ(message(CudaKernels().attention.can_run(attention)),
            "cuda backend: attention takes a head dimension that is a multiple of 8, got 20");
  attention.d = 24, attention.v_stride = 28;
  EXPECT_TRUE(CudaKernels().attention.can_run(attention).ok());
  EXPECT_EQ(message(CudaAttentionSm90a().can_run(attention)),
            "cuda backend: attention on sm_90a takes a length of v's rows that is a multiple of 24, got 28");
  attention.v_stride = 48;
  EXPECT_EQ(message(CudaAttentionSm90a().can_run(attention)),
            "cuda backend: attention on sm_90a takes a scale above 0, got 0");
  attention.scale = 1;
  EXPECT_TRUE(CudaAttentionSm90a().can_run(attention).ok());
  AttentionGradArgs grad;
  grad.q.dtype = grad.k.dtype = grad.v.dtype = grad.o.dtype = grad.do_.dtype = DType::kBFloat16;
  grad.dq.dtype = grad.dk.dtype = grad.dv.dtype = DType::kBFloat16;
  grad.b = grad.s = grad.q_heads = grad.kv_heads = 1, grad.d = 24, grad.v_stride = 48, grad.dv_stride = 30;
  grad.scale = 1;
  EXPECT_TRUE(CudaKernels().attention_grad.can_run(grad).ok());
  EXPECT_EQ(message(CudaAttentionGradSm90a().can_run(grad)),
            "cuda backend: attention_grad on sm_90a takes a length of dv's rows that is a multiple of 24, got 30");
  // A weight's gradient is fp32 or has the elements' type, as on the host.
  AddRmsNormGradArgs norm = {.t = 1, .h = 8};
  EXPECT_TRUE(CudaKernels().add_rms_norm_grad.can_run(norm).ok());
  norm.dweight.dtype = DType::kBFloat16;
  EXPECT_EQ(message(CudaKernels().add_rms_norm_grad.can_run(norm)),
            "cuda backend: add_rms_norm_grad takes dweight in F32, got BF16");
}

}  // namespace
}  // namespace angel_ptm::emulated
