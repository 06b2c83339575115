// Prompts for model.dit, and the inputs that samples with such prompts are made of.
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

// Tokens of a caption, or one class; empty where the model reads neither.
using Condition = std::vector<int32_t>;

struct DitPrompts {
  std::vector<Condition> conditions;  // by prompt; one, empty, of a model without conditions
  std::vector<Condition> negatives;   // what guidance leads away from, likewise
  std::vector<std::string> notes;     // sentences about what was cut
};

// Reads prompts with a model's tokenizer or by its classes' names. `negatives`: as many; empty texts are no condition.
// Errors name `field`, "--prompt", or the negative's: no prompts, or some for a model without conditions, another
// encoding than UTF-8, classes that there are not.
absl::StatusOr<DitPrompts> ReadDitPrompts(const DitShape& shape, const Tokenizer& tokenizer,
                                          const std::vector<std::string>& classes,
                                          const std::vector<std::string>& prompts,
                                          const std::vector<NegativePrompt>& negatives, const std::string& field);

class DitConditions final : public Conditions {
 public:
  // Of so many rows of the graph. Sample i has prompt i / samples_per_prompt.
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

// A sample as an image.
inline Image DitImage(const DitShape& shape, std::span<const float> planes) {
  return PlanesToImage(planes, static_cast<int32_t>(shape.channels), static_cast<int32_t>(shape.height),
                       static_cast<int32_t>(shape.width));
}

// What the forward graph reads and puts out.
inline PatchGrid NoisyGrid(const DitShape& shape) {
  return {shape.channels, shape.height, shape.width, shape.patch_size};
}
inline PatchGrid PredictionGrid(const DitShape& shape) {
  return {shape.out_channels(), shape.height, shape.width, shape.patch_size};
}

}  // namespace angel_ptm

#endif  // ANGEL_PTM_TRAIN_TASKS_DIT_CONDITIONS_H_
