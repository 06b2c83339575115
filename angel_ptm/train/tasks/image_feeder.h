// Feeds an Executor with noisy images, the times of their noise, and their conditions.
#ifndef ANGEL_PTM_TRAIN_TASKS_IMAGE_FEEDER_H_
#define ANGEL_PTM_TRAIN_TASKS_IMAGE_FEEDER_H_

#include <cstdint>
#include <span>
#include <vector>

#include "angel_ptm/base/bfloat16.h"
#include "angel_ptm/data/images/image_loader.h"
#include "angel_ptm/exec/executor.h"
#include "angel_ptm/model/dit.h"
#include "angel_ptm/model/graph.h"
#include "angel_ptm/model/patches.h"
#include "angel_ptm/train/diffusion/schedule.h"
#include "angel_ptm/train/task.h"
#include "angel_ptm/train/tasks/dit.h"
#include "angel_ptm/train/tasks/latent_tensors.h"

namespace angel_ptm {

// An ImageLoader's samples. In an evaluation, noise and times do not depend on the run's seed.
class ImageSource final : public SampleSource {
 public:
  // `latents`: take the place of the images' pixels, or null; must outlive the source.
  ImageSource(const ImageLoader& loader, bool evaluation, const ImageLatents* latents)
      : loader_(loader), evaluation_(evaluation), latents_(latents) {}
  int64_t sample_count() const override { return loader_.sample_count(); }
  int64_t step_count() const override { return loader_.step_count(); }
  int64_t samples_per_step() const override { return loader_.options().global_batch; }
  int64_t MicroBatchesPerStep(int64_t world) const override { return loader_.MicroBatchesPerStep(world); }
  const ImageLoader& loader() const { return loader_; }
  bool evaluation() const { return evaluation_; }
  const ImageLatents* latents() const { return latents_; }

 private:
  const ImageLoader loader_;
  const bool evaluation_;
  const ImageLatents* const latents_;
};

// Computes all inputs from images, noise and conditions: pure functions, into buffers that are made once.
class ImageFeeder final : public Feeder {
 public:
  // `graph` is a training or evaluation graph of `shape` and `executor` is bound to it. Nothing is owned.
  ImageFeeder(const Graph& graph, Executor& executor, const DitShape& shape, const DitObjective& objective,
              const ImageSource& source);

  // Returns 0: the task has no number of its own.
  absl::StatusOr<double> Feed(const MicroBatchPosition& position) override;
  const SampleSource& source() const override { return source_; }

 private:
  // Reads the latents of a micro-batch into images_.
  absl::Status ReadLatents();
  // Turns the image in images_ into noisy patches, target and time, for row `row` of the micro-batch, sample number
  // `sample`.
  void MakeNoisy(int64_t row, int64_t sample);
  void ClearRow(int64_t row);
  // Writes what stands for no condition, if there is none or it is dropped.
  void DropCondition(int64_t row);
  void Write();

  Executor& executor_;
  const DitShape shape_;
  const DitObjective objective_;
  const ImageSource& source_;
  const DiffusionSchedule schedule_;
  const PatchGrid grid_;
  const uint64_t seed_;
  const TensorId noisy_tensor_, target_tensor_, time_tensor_, cos_sin_tensor_, sample_weight_tensor_, weight_tensor_;
  TensorId clean_tensor_ = kNone, bound_tensor_ = kNone;  // for a model that learns its variance
  TensorId tokens_tensor_ = kNone, token_counts_tensor_ = kNone, class_ids_tensor_ = kNone;
  float weight_ = 0;
  std::vector<float> images_, noise_, mixed_, noisy_, target_, time_features_, cos_sin_, sample_weight_, clean_, bound_;
  std::vector<int32_t> tokens_, token_counts_, class_ids_;
  std::vector<int64_t> samples_, numbers_;
  std::vector<BFloat16> scratch_;  // of a latent
};

}  // namespace angel_ptm

#endif  // ANGEL_PTM_TRAIN_TASKS_IMAGE_FEEDER_H_
