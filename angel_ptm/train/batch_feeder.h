// Feeds an Executor with micro-batches of packed sequences and reads the losses back. Its buffers are made once.
#ifndef ANGEL_PTM_TRAIN_BATCH_FEEDER_H_
#define ANGEL_PTM_TRAIN_BATCH_FEEDER_H_

#include <cstdint>
#include <vector>

#include "angel_ptm/base/status.h"
#include "angel_ptm/data/loader.h"
#include "angel_ptm/exec/executor.h"
#include "angel_ptm/model/graph.h"

namespace angel_ptm {

class BatchFeeder {
 public:
  // `graph` is a training or evaluation graph with `executor` bound to it; `loader` gives its batches. Not owned.
  BatchFeeder(const Graph& graph, Executor& executor, const Loader& loader);

  // Fills the inputs with the micro-batch at `place`. Errors: the data cannot be read.
  absl::Status Feed(const MicroBatchPlace& place);

  // Of the micro-batch played last: the sum of its token losses in token order, and how many targets counted.
  double LossSum();
  int64_t target_count() const { return target_count_; }
  // [T], negative where ignored.
  const std::vector<int32_t>& targets() const { return targets_; }

  const Loader& loader() const { return loader_; }

 private:
  Executor& executor_;
  const Loader& loader_;
  const TensorId tokens_tensor_, targets_tensor_, positions_tensor_, segment_start_tensor_, target_count_tensor_,
      token_loss_tensor_;
  std::vector<int32_t> tokens_, targets_, positions_, segment_start_;  // [T]
  std::vector<float> losses_;                                          // [T]
  int64_t target_count_ = 0;
};

}  // namespace angel_ptm

#endif  // ANGEL_PTM_TRAIN_BATCH_FEEDER_H_
