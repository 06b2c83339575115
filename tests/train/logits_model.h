// A trained checkpoint as a function from tokens to logits, computed by the graph without caches, chunks or a loss. The
// tests compare sampling and evaluation with it.
#ifndef ANGEL_PTM_TESTS_TRAIN_LOGITS_MODEL_H_
#define ANGEL_PTM_TESTS_TRAIN_LOGITS_MODEL_H_

#include <cstdint>
#include <memory>
#include <span>
#include <string>
#include <vector>

#include "angel_ptm/exec/executor.h"
#include "angel_ptm/memory/tier.h"
#include "comm/local.h"

namespace angel_ptm {

class LogitsModel {
 public:
  // One row of `sequence` tokens. CHECK-fails if the checkpoint cannot be opened.
  LogitsModel(const std::string& checkpoint_path, int64_t sequence);

  // Returns [sequence, vocabulary]; the arguments have `sequence` elements each.
  std::vector<float> Logits(std::span<const int32_t> tokens, std::span<const int32_t> positions,
                            std::span<const int32_t> segment_start);
  int64_t vocabulary() const { return vocabulary_; }

 private:
  LocalWorld world_;
  const std::unique_ptr<Communicator> communicator_;
  Graph graph_;
  Plan plan_;
  std::unique_ptr<Tier> device_, host_;
  Lanes lanes_;
  std::unique_ptr<Executor> executor_;
  int64_t vocabulary_ = 0;
};

}  // namespace angel_ptm

#endif  // ANGEL_PTM_TESTS_TRAIN_LOGITS_MODEL_H_
