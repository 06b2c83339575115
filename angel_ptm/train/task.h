// What a run trains: the door between the trainer, which knows no model family, and a family with its samples. A new
// family is a model file (model/) and a task file (train/tasks/).
#ifndef ANGEL_PTM_TRAIN_TASK_H_
#define ANGEL_PTM_TRAIN_TASK_H_

#include <cstdint>
#include <memory>
#include <optional>
#include <span>
#include <string>
#include <string_view>
#include <vector>

#include "angel_ptm/base/check.h"
#include "angel_ptm/base/status.h"
#include "angel_ptm/checkpoint/checkpoint.h"
#include "angel_ptm/config/train_config.pb.h"
#include "angel_ptm/data/loader.h"
#include "angel_ptm/exec/executor.h"
#include "angel_ptm/model/graph.h"

namespace angel_ptm {

// Of an evaluation. Its loss is loss / weight; `own` is the sum of what Feeder::Feed returned.
struct LossSums {
  double loss = 0, weight = 0, own = 0;

  LossSums& operator+=(const LossSums& more) {
    loss += more.loss;
    weight += more.weight;
    own += more.own;
    return *this;
  }
};

// A number of the task's own in the metrics: its name in metrics.jsonl and its text in progress lines.
struct TaskNumber {
  std::string name;
  double value = 0;
  std::string text;
};

// A fixed set of samples in a fixed order, a function of the configuration and the data alone.
class SampleSource {
 public:
  virtual ~SampleSource() = default;
  virtual int64_t sample_count() const = 0;  // of an epoch, or of an evaluation
  virtual int64_t step_count() const = 0;    // that cover them
  virtual int64_t samples_per_step() const = 0;
  // Of each of `world` ranks.
  virtual int64_t MicroBatchesPerStep(int64_t world) const = 0;
};

// Puts samples into the inputs of one Executor's graph. Allocates nothing.
class Feeder {
 public:
  virtual ~Feeder() = default;
  // Fills the inputs with the micro-batch at `position`. Returns a number of the task's own about it, which evaluations
  // add up (LossSums::own).
  virtual absl::StatusOr<double> Feed(const MicroBatchPosition& position) = 0;
  virtual const SampleSource& source() const = 0;
};

// Makes the samples of one bucket that a configuration's sampling{} asks for, with one Executor's graph.
class Sampler {
 public:
  virtual ~Sampler() = default;
  virtual int64_t count() const = 0;     // of samples in all
  virtual int64_t batch() const = 0;     // that are made side by side
  virtual int64_t elements() const = 0;  // of a sample
  // The samples of these numbers, batch() of them, one after the other; gone with the next call. Each is a function of
  // the configuration, its number and the weights, up to rounding by what is beside it. Plays the graph equally often
  // whatever the numbers are, so that ranks may make others. Allocates nothing.
  virtual absl::StatusOr<std::span<const float>> Make(std::span<const int64_t> samples) = 0;
  // Writes all samples, as Make gave them, into a folder for people and `angel-ptm report`, under names that no other
  // bucket's have; `step` is the training's.
  // Returns a note for people, or an empty text.
  virtual absl::StatusOr<std::string> Write(const std::string& folder, int64_t step,
                                            std::span<const float> samples) const = 0;
};

// Which fields of model{} a resumed run may change, as paths: all others make it another model.
struct ChangeableFields {
  std::span<const std::string_view> without_effect;  // on a run that has begun
  std::span<const std::string_view> of_the_curve;    // change what the next steps learn, as a learning rate does
};

// How many tokens each routed expert got, by layer that has experts.
using ExpertLoads = std::vector<std::vector<int64_t>>;

class Task {
 public:
  virtual ~Task() = default;

  // The run's table, made with the task: every graph below refers to it.
  virtual const ParameterTable& parameters() const = 0;

  // Graphs by purpose. Blocks [0, recomputable_blocks()) can be recomputed in the backward pass. Decoding: one step of
  // `rows` sequences of up to `length` positions (train/generate.h); kInvalidArgument if the family does not decode or
  // not as far.
  virtual int64_t recomputable_blocks() const = 0;
  virtual Graph BuildTraining(const std::vector<bool>& recompute) const = 0;
  // Samples may come in several sizes, buckets: then a step's samples are all of one, which has a training graph of its
  // own on the same parameters. Bucket 0 is BuildTraining's and has the most tokens.
  virtual int64_t bucket_count() const { return 1; }
  virtual Graph BuildBucketTraining(int64_t bucket, const std::vector<bool>& recompute) const {
    APTM_CHECK(bucket == 0, "bucket ", bucket);
    return BuildTraining(recompute);
  }
  // "96x160", and what share of a sample's tokens in bucket 0 one of it has.
  virtual std::string BucketName(int64_t) const { return {}; }
  virtual double BucketShare(int64_t) const { return 1; }
  // `weights`: the state that trainable parameters are read from. Bucket 0's is BuildEvaluation's.
  virtual Graph BuildEvaluation(StateId weights) const = 0;
  virtual Graph BuildBucketEvaluation(int64_t bucket, StateId weights) const {
    APTM_CHECK(bucket == 0, "bucket ", bucket);
    return BuildEvaluation(weights);
  }
  virtual absl::StatusOr<Graph> BuildDecoding(int64_t rows, int64_t length) const = 0;
  // What makes those samples of sampling{} that are of a bucket; none where it asks for none.
  virtual std::optional<Graph> BuildSampling(int64_t bucket, StateId weights) const = 0;

  // "2 layers, dense, vocabulary 300".
  virtual std::string Describe() const = 0;
  virtual ChangeableFields changeable_fields() const = 0;
  // Whether the loss is not a sum over samples: then batch.micro_batch_sequences changes what is learned.
  virtual bool loss_depends_on_micro_batch() const = 0;

  // The size that MakeTask takes, of the prepared data.
  virtual int64_t vocab_size() const = 0;

  // Only of an opened task:
  // training is never null, validation is null if nothing of bucket 0 is evaluated.
  virtual const SampleSource* training_samples() const = 0;
  virtual const SampleSource* validation_samples() const = 0;
  // Those of one bucket, and the bucket of the step that begins with sample number `first_sample`: known before it. An
  // evaluation is of all buckets that have held-out samples.
  virtual const SampleSource* bucket_samples(int64_t) const { return training_samples(); }
  virtual const SampleSource* bucket_validation_samples(int64_t) const { return validation_samples(); }
  virtual int64_t BucketOf(int64_t) const { return 0; }
  // Names what makes sample number i what it is. A run that would see other samples is another run.
  virtual std::string sample_order() const = 0;
  // For the user: what of the samples could not be checked, or empty.
  virtual std::string note() const = 0;
  // Whether a run may begin with initial values; if not, the error says what it needs.
  virtual absl::Status CheckFreshStart() const { return absl::OkStatus(); }
  // What a checkpoint keeps beside the state.
  virtual std::vector<CheckpointFile> checkpoint_files() const = 0;
  // `graph` is the training or evaluation graph of the samples' bucket, `executor` is bound to it, `samples` are this
  // task's. All must outlive the feeder.
  virtual std::unique_ptr<Feeder> MakeFeeder(const Graph& graph, Executor& executor,
                                             const SampleSource& samples) const = 0;
  // `graph` is the sampling graph of the bucket.
  virtual std::unique_ptr<Sampler> MakeSampler(int64_t bucket, const Graph& graph, Executor& executor) const = 0;
  // Of the experts' loads of a step on all ranks; of all else that it summed there; and of an evaluation.
  virtual std::vector<TaskNumber> LoadNumbers(const ExpertLoads& loads) const = 0;
  virtual std::vector<TaskNumber> LossNumbers(const Graph& training, const StepSums& sums) const = 0;
  virtual std::vector<TaskNumber> EvaluationNumbers(const LossSums& sums) const = 0;
  // Of this rank's micro-batches of the step so far. Empty if no layer has experts.
  virtual ExpertLoads ReadExpertLoads(const Graph& training, const Executor& executor) const = 0;
};

// How a family's models grow in steps of their own. Depth: the same width, layer by layer. Width: the same depth and
// proportions, by one head a step, of grouped heads by one group.
enum class ScaleAxis : uint8_t { kDepth, kWidth };

// The model with so many of these steps, at least 1.
ModelConfig ScaledModel(const ModelConfig& model, ScaleAxis axis, int64_t steps);

// The task of the configuration's model family, for graphs alone: no data is read. `vocab_size` stands for the prepared
// data where the configuration leaves the size to it. `states`: the rows of its table; a run without optimizer has the
// first alone, of the configuration's compute type.
std::unique_ptr<Task> MakeTask(const TrainConfig& config, int64_t vocab_size,
                               std::vector<StateSpec> states = {ParameterState()});

// The same with its samples; its table has the parameters' state alone. Errors: those of the data, or of a
// configuration that does not fit them.
absl::StatusOr<std::unique_ptr<Task>> OpenTask(const TrainConfig& config);

}  // namespace angel_ptm

#endif  // ANGEL_PTM_TRAIN_TASK_H_
