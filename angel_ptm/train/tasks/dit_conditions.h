// Prompts for model.dit, and the inputs for samples with these prompts.
#ifndef ANGEL_PTM_TRAIN_TASKS_DIT_CONDITIONS_H_
#define ANGEL_PTM_TRAIN_TASKS_DIT_CONDITIONS_H_

#include <cstdint>
#include <span>
#include <string>
#include <vector>

#include "angel_ptm/base/status.h"
#include "angel_ptm/data/images/image.h"
#include "angel_ptm/data/tokenizer.h"
#include "angel_ptm/model/dit.h"
#include "angel_ptm/train/tasks/batch_sampler.h"
#include "angel_ptm/train/tasks/prompt_files.h"

namespace angel_ptm {

// Tokens of a caption, or one class; empty if the model reads neither.
using Condition = std::vector<int32_t>;

struct DitPrompts {
  std::vector<Condition> conditions;  // by prompt; a single empty one for a model without conditions
  std::vector<Condition> negatives;   // by prompt, what guidance leads away from
  std::vector<std::string> notes;     // sentences about prompts that were cut
};

// Reads prompts with the model's tokenizer or by the names of its classes. `negatives`: one per prompt; an empty text
// means no condition. Errors name `field`, such as "--prompt", or the field of the negative: no prompts, prompts for a
// model without conditions, invalid UTF-8, unknown classes.
absl::StatusOr<DitPrompts> ReadDitPrompts(const DitShape& shape, const Tokenizer& tokenizer,
                                          const std::vector<std::string>& classes,
                                          const std::vector<std::string>& prompts,
                                          const std::vector<NegativePrompt>& negatives, const std::string& field);

class DitConditions final : public Conditions {
 public:
  // For `rows` rows of the graph. Sample i has prompt i / samples_per_prompt.
  DitConditions(const DitShape& shape, DitPrompts prompts, int64_t samples_per_prompt, int64_t rows);

  absl::Status SetRow(int64_t row, int64_t sample) override;
  absl::Status SetAway(int64_t row, int64_t sample) override;
  void Write(double time, const Graph& graph, Executor& executor) override;

 private:
  void Set(int64_t row, const Condition& condition);

  const DitShape shape_;
  const DitPrompts prompts_;
  const int64_t samples_per_prompt_;
  std::vector<float> time_features_, cos_sin_;
  std::vector<int32_t> tokens_, token_counts_, class_ids_;
};

// Converts a sample to an image.
inline Image DitImage(const DitShape& shape, std::span<const float> planes) {
  return PlanesToImage(planes, static_cast<int32_t>(shape.channels), static_cast<int32_t>(shape.height),
                       static_cast<int32_t>(shape.width));
}

// The patches that the forward graph reads and outputs.
inline PatchGrid NoisyGrid(const DitShape& shape) {
  return {shape.channels, shape.height, shape.width, shape.patch_size};
}
inline PatchGrid PredictionGrid(const DitShape& shape) {
  return {shape.out_channels(), shape.height, shape.width, shape.patch_size};
}

}  // namespace angel_ptm

#endif  // ANGEL_PTM_TRAIN_TASKS_DIT_CONDITIONS_H_
