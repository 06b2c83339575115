// Runs a graph's forward and backward ops on plain memory, without a plan.
#ifndef ANGEL_PTM_TESTS_MODEL_GRAPH_PLAYER_H_
#define ANGEL_PTM_TESTS_MODEL_GRAPH_PLAYER_H_

#include <algorithm>
#include <cstring>
#include <limits>
#include <memory>
#include <random>
#include <vector>

#include "angel_ptm/model/op_rules.h"
#include "kernels/kernels.h"

namespace angel_ptm {

class GraphPlayer {
 public:
  explicit GraphPlayer(const Graph& graph) : graph_(graph) {
    for (const Tensor& t : graph.tensors) memory_.emplace_back(static_cast<size_t>(t.shape.elements()) + kAlignment);
    int64_t workspace = 0;
    for (OpId op = 0; op < graph.update_begin; ++op) {
      const Op& o = graph.ops[op];
      std::vector<void*> address;
      for (const std::vector<TensorId>* operands : {&o.inputs, &o.outputs}) {
        for (TensorId t : *operands) address.push_back(t == kNone ? nullptr : Floats(t));
      }
      calls_.push_back(BindKernel(graph, o, address));
      APTM_CHECK(calls_.back()->CanRun(CpuKernels()).ok());
      workspace = std::max(workspace, calls_.back()->WorkspaceBytes(CpuKernels(), {}));
    }
    workspace_.resize(static_cast<size_t>(workspace) / 4 + kAlignment);
  }

  float* Floats(TensorId t) { return Aligned(memory_[t]); }
  int32_t* Ints(TensorId t) { return reinterpret_cast<int32_t*>(Aligned(memory_[t])); }
  std::vector<float> Values(TensorId t) { return {Floats(t), Floats(t) + Elements(t)}; }
  int64_t Elements(TensorId t) const { return graph_.tensors[t].shape.elements(); }

  // Normal weights with standard deviation `stddev`; vectors (norms) vary around one.
  void FillParameters(uint32_t seed, float stddev) {
    std::mt19937 random(seed);
    std::normal_distribution<float> normal;
    for (const TensorId p : graph_.parameter_tensors) {
      const bool norm = graph_.tensors[p].shape.rank() == 1;
      float* values = Floats(p);
      for (int64_t i = 0; i < Elements(p); ++i) values[i] = (norm ? 1.0f : 0.0f) + stddev * normal(random);
    }
  }
  // Tokens and targets at random, one document per row.
  void FillTextInputs(uint32_t seed, int64_t sequence, int32_t vocabulary) {
    std::mt19937 random(seed);
    for (TensorId t = 0; t < static_cast<TensorId>(graph_.tensors.size()); ++t) {
      const Tensor& tensor = graph_.tensors[t];
      if (tensor.tensor_class != TensorClass::kInput) continue;
      for (int64_t i = 0; i < Elements(t); ++i) {
        if (tensor.name == "tokens" || tensor.name == "targets") {
          Ints(t)[i] = static_cast<int32_t>(random() % static_cast<uint32_t>(vocabulary));
        } else if (tensor.name == "target_count") {
          Floats(t)[i] = 1;
        } else {
          Ints(t)[i] = tensor.name == "positions" ? static_cast<int32_t>(i % sequence) : 0;
        }
      }
    }
  }

  // Everything except inputs and parameters is NaN at the start. Returns the sum of the tokens' losses, 0 for a graph
  // without a loss.
  double Run() {
    const float nan = std::numeric_limits<float>::quiet_NaN();
    for (size_t t = 0; t < memory_.size(); ++t) {
      const TensorClass c = graph_.tensors[t].tensor_class;
      if (c != TensorClass::kInput && c != TensorClass::kParameter) std::ranges::fill(memory_[t], nan);
    }
    for (const auto& call : calls_) {
      std::ranges::fill(workspace_, nan);
      call->Run(CpuKernels(), {.workspace = reinterpret_cast<std::byte*>(Aligned(workspace_))});
    }
    if (graph_.loss == kNone) return 0;
    const TensorId loss = graph_.ops[graph_.loss].outputs[0];
    double sum = 0;
    for (int64_t i = 0; i < Elements(loss); ++i) sum += static_cast<double>(Floats(loss)[i]);
    return sum;
  }

 private:
  static constexpr size_t kAlignment = 16;  // floats
  static float* Aligned(std::vector<float>& memory) {
    return reinterpret_cast<float*>((reinterpret_cast<uintptr_t>(memory.data()) + 63) & ~uintptr_t{63});
  }

  const Graph& graph_;
  std::vector<std::vector<float>> memory_;
  std::vector<float> workspace_;
  std::vector<std::unique_ptr<const KernelCall>> calls_;
};

}  // namespace angel_ptm

#endif  // ANGEL_PTM_TESTS_MODEL_GRAPH_PLAYER_H_
