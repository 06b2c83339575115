// Feeds an Executor with micro-batches of packed token sequences.
#ifndef ANGEL_PTM_TRAIN_TASKS_TOKEN_FEEDER_H_
#define ANGEL_PTM_TRAIN_TASKS_TOKEN_FEEDER_H_

#include <cstdint>
#include <span>
#include <vector>

#include "angel_ptm/data/loader.h"
#include "angel_ptm/exec/executor.h"
#include "angel_ptm/model/graph.h"
#include "angel_ptm/train/task.h"

namespace angel_ptm {

// A Loader's samples.
class TokenSource final : public SampleSource {
 public:
  explicit TokenSource(const Loader& loader) : loader_(loader) {}
  int64_t sample_count() const override { return loader_.sample_count(); }
  int64_t step_count() const override { return loader_.step_count(); }
  int64_t samples_per_step() const override { return loader_.options().global_batch; }
  int64_t MicroBatchesPerStep(int64_t world) const override { return loader_.MicroBatchesPerStep(world); }
  const Loader& loader() const { return loader_; }

 private:
  const Loader loader_;
};

// The sums that the routers of a training graph make over a step's micro-batches, by layer: [E] pairs per expert each.
std::vector<TensorId> LoadTensors(const Graph& graph);

// Its buffers are made once.
class TokenFeeder final : public Feeder {
 public:
  // `graph` is a training or evaluation graph and `executor` is bound to it. token_bytes: byte length by token id.
  // Nothing is owned. The first micro-batch of a step clears the sums that routers make over the step.
  TokenFeeder(const Graph& graph, Executor& executor, const TokenSource& source, std::span<const int32_t> token_bytes);

  // Returns the bytes of text that the targets stand for.
  absl::StatusOr<double> Feed(const MicroBatchPosition& position) override;
  const SampleSource& source() const override { return source_; }

 private:
  Executor& executor_;
  const TokenSource& source_;
  const std::span<const int32_t> token_bytes_;
  const TensorId tokens_tensor_, targets_tensor_, positions_tensor_, segment_start_tensor_, target_count_tensor_;
  std::vector<int32_t> tokens_, targets_, positions_, segment_start_;  // [T]
  std::vector<TensorId> loads_;
  std::vector<int32_t> no_loads_;  // [E]
};

}  // namespace angel_ptm

#endif  // ANGEL_PTM_TRAIN_TASKS_TOKEN_FEEDER_H_
