#include "angel_ptm/train/tasks/token_feeder.h"

namespace angel_ptm {

TokenFeeder::TokenFeeder(const Graph& graph, Executor& executor, const TokenSource& source,
                         std::span<const int32_t> token_bytes)
    : executor_(executor),
      source_(source),
      token_bytes_(token_bytes),
      tokens_tensor_(graph.FindTensor("tokens")),
      targets_tensor_(graph.FindTensor("targets")),
      positions_tensor_(graph.FindTensor("positions")),
      segment_start_tensor_(graph.FindTensor("segment_start")),
      target_count_tensor_(graph.FindTensor("target_count")) {
  const auto tokens = static_cast<size_t>(graph.tensors[tokens_tensor_].shape.elements());
  for (std::vector<int32_t>* buffer : {&tokens_, &targets_, &positions_, &segment_start_}) buffer->resize(tokens);
  loads_ = LoadTensors(graph);
  if (!loads_.empty()) no_loads_.resize(static_cast<size_t>(graph.tensors[loads_[0]].shape.elements()));
}

std::vector<TensorId> LoadTensors(const Graph& graph) {
  std::vector<TensorId> loads;
  for (const Op& op : graph.ops) {
    if (op.kind == OpKind::kRouter && op.outputs[4] != kNone) loads.push_back(op.outputs[4]);
  }
  return loads;
}

absl::StatusOr<double> TokenFeeder::Feed(const MicroBatchPosition& position) {
  ASSIGN_OR_RETURN(const int64_t target_count,
                   source_.loader().FillMicroBatch(position, {tokens_, targets_, positions_, segment_start_}));
  const float count = static_cast<float>(target_count);
  for (const TensorId loads : position.micro == 0 ? std::span(loads_) : std::span<TensorId>()) {
    executor_.WriteInput(loads, no_loads_.data());
  }
  executor_.WriteInput(tokens_tensor_, tokens_.data());
  executor_.WriteInput(targets_tensor_, targets_.data());
  executor_.WriteInput(positions_tensor_, positions_.data());
  executor_.WriteInput(segment_start_tensor_, segment_start_.data());
  executor_.WriteInput(target_count_tensor_, &count);
  return static_cast<double>(TargetBytes(targets_, token_bytes_));
}

}  // namespace angel_ptm
