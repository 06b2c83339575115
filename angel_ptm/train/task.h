// What a run trains: the interface between the trainer, which knows no model family, and a family with its samples. A
// new family is a model file (model/) and a task file (train/tasks/).
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

// Sums of an evaluation. Its loss is loss / weight; `own` is the sum of the values that Feeder::Feed returned.
struct LossSums {
  double loss = 0, weight = 0, own = 0;

  LossSums& operator+=(const LossSums& more) {
    loss += more.loss;
    weight += more.weight;
    own += more.own;
    return *this;
  }
};

// A task-specific number in the metrics: its name in metrics.jsonl and its text in progress lines.
struct TaskNumber {
  std::string name;
  double value = 0;
  std::string text;
};

// A fixed set of samples in a fixed order, which depend only on the configuration and the data.
class SampleSource {
 public:
  virtual ~SampleSource() = default;
  virtual int64_t sample_count() const = 0;  // of an epoch, or of an evaluation
  virtual int64_t step_count() const = 0;    // steps that cover these samples
  virtual int64_t samples_per_step() const = 0;
  // The number on each of `world` ranks.
  virtual int64_t MicroBatchesPerStep(int64_t world) const = 0;
};

// Puts samples into the inputs of one Executor's graph. Allocates nothing.
class Feeder {
 public:
  virtual ~Feeder() = default;
  // Fills the inputs with the micro-batch at `position`. Returns a task-specific number about it, which evaluations sum
  // (LossSums::own).
  virtual absl::StatusOr<double> Feed(const MicroBatchPosition& position) = 0;
  virtual const SampleSource& source() const = 0;
};

// Makes those samples of a configuration's sampling{} that belong to one bucket, with one Executor's graph.
class Sampler {
 public:
  virtual ~Sampler() = default;
  virtual int64_t count() const = 0;     // samples in all
  virtual int64_t batch() const = 0;     // samples that one Make call makes
  virtual int64_t elements() const = 0;  // per sample
  // Makes the samples with these batch() numbers and returns them one after the other; the next call invalidates them.
  // A sample depends only on the configuration, its number and the weights, apart from rounding that the other samples
  // of the batch may cause. Plays the graph equally often for any numbers, so ranks may make different samples.
  // Allocates nothing.
  virtual absl::StatusOr<std::span<const float>> Make(std::span<const int64_t> samples) = 0;
  // Writes all samples, as Make returned them, into a folder for people and for `angel-ptm report`, under names that no
  // other bucket uses. `step`: the step of training. Returns a note for people, or an empty text.
  virtual absl::StatusOr<std::string> Write(const std::string& folder, int64_t step,
                                            std::span<const float> samples) const = 0;
};

// Paths of the fields of model{} that a resumed run may change. A change of any other field makes it another model.
struct ChangeableFields {
  std::span<const std::string_view> without_effect;  // no effect on a run that has begun
  std::span<const std::string_view> of_the_curve;    // change what the next steps learn, like a learning rate
};

// How many tokens each routed expert got, for each layer with experts.
using ExpertLoads = std::vector<std::vector<int64_t>>;

class Task {
 public:
  virtual ~Task() = default;

  // The run's table, made with the task. All graphs below refer to it.
  virtual const ParameterTable& parameters() const = 0;

  // Graphs by purpose. Blocks [0, recomputable_blocks()) can be recomputed in the backward pass. The decoding graph
  // does one step of `rows` sequences of up to `length` positions (train/generate.h); BuildDecoding returns
  // kInvalidArgument if the family cannot decode, or not up to that length.
  virtual int64_t recomputable_blocks() const = 0;
  virtual Graph BuildTraining(const std::vector<bool>& recompute) const = 0;
  // Samples may come in several sizes, called buckets. All samples of a step belong to one bucket, and each bucket has
  // its own training graph over the same parameters. Bucket 0 uses BuildTraining and has the most tokens.
  virtual int64_t bucket_count() const { return 1; }
  virtual Graph BuildBucketTraining(int64_t bucket, const std::vector<bool>& recompute) const {
    APTM_CHECK(bucket == 0, "bucket ", bucket);
    return BuildTraining(recompute);
  }
  // A bucket's name, such as "96x160", and the tokens of one of its samples as a fraction of those of a sample of
  // bucket 0.
  virtual std::string BucketName(int64_t) const { return {}; }
  virtual double BucketShare(int64_t) const { return 1; }
  // `weights`: the state from which trainable parameters are read. Bucket 0 uses BuildEvaluation.
  virtual Graph BuildEvaluation(StateId weights) const = 0;
  virtual Graph BuildBucketEvaluation(int64_t bucket, StateId weights) const {
    APTM_CHECK(bucket == 0, "bucket ", bucket);
    return BuildEvaluation(weights);
  }
  virtual absl::StatusOr<Graph> BuildDecoding(int64_t rows, int64_t length) const = 0;
  // The graph that makes the bucket's samples of sampling{}; none if it asks for none of this bucket.
  virtual std::optional<Graph> BuildSampling(int64_t bucket, StateId weights) const = 0;

  // A short text such as "2 layers, dense, vocabulary 300".
  virtual std::string Describe() const = 0;
  virtual ChangeableFields changeable_fields() const = 0;
  // True if the loss is not a sum over samples; then batch.micro_batch_sequences changes what is learned.
  virtual bool loss_depends_on_micro_batch() const = 0;

  // The vocabulary size of the prepared data, which MakeTask takes.
  virtual int64_t vocab_size() const = 0;

  // The rest is only for a task from OpenTask. The training samples are never null; the validation samples are null if
  // nothing of bucket 0 is evaluated.
  virtual const SampleSource* training_samples() const = 0;
  virtual const SampleSource* validation_samples() const = 0;
  // The samples of one bucket, and the bucket of the step whose first sample has the given number, which is known
  // before the step. An evaluation covers all buckets that have held-out samples.
  virtual const SampleSource* bucket_samples(int64_t) const { return training_samples(); }
  virtual const SampleSource* bucket_validation_samples(int64_t) const { return validation_samples(); }
  virtual int64_t BucketOf(int64_t) const { return 0; }
  // Names everything that determines sample number i. A run that would see other samples is another run.
  virtual std::string sample_order() const = 0;
  // A note for the user about what could not be checked of the samples, or empty.
  virtual std::string note() const = 0;
  // Returns OK if a run may begin with initial values; otherwise the error says what it needs instead.
  virtual absl::Status CheckFreshStart() const { return absl::OkStatus(); }
  // Files that a checkpoint keeps beside the state.
  virtual std::vector<CheckpointFile> checkpoint_files() const = 0;
  // `graph` is the training or evaluation graph of the bucket of `samples`, `executor` is bound to it, and `samples`
  // belong to this task. All must outlive the feeder.
  virtual std::unique_ptr<Feeder> MakeFeeder(const Graph& graph, Executor& executor,
                                             const SampleSource& samples) const = 0;
  // `graph` is the sampling graph of the bucket.
  virtual std::unique_ptr<Sampler> MakeSampler(int64_t bucket, const Graph& graph, Executor& executor) const = 0;
  // Metrics from the expert loads of a step on all ranks, from the step's other sums over all ranks, and from an
  // evaluation.
  virtual std::vector<TaskNumber> LoadNumbers(const ExpertLoads& loads) const = 0;
  virtual std::vector<TaskNumber> LossNumbers(const Graph& training, const StepSums& sums) const = 0;
  virtual std::vector<TaskNumber> EvaluationNumbers(const LossSums& sums) const = 0;
  // Loads of this rank's micro-batches of the step so far. Empty if no layer has experts.
  virtual ExpertLoads ReadExpertLoads(const Graph& training, const Executor& executor) const = 0;
};

// How a family's models grow, in steps of the family's own. Depth: same width, one layer at a time. Width: same depth
// and proportions, one head at a time, or one group of heads if heads are grouped.
enum class ScaleAxis : uint8_t { kDepth, kWidth };

// The model at the given number of such steps, at least 1.
ModelConfig ScaledModel(const ModelConfig& model, ScaleAxis axis, int64_t steps);

// The task of the configuration's model family, for graphs only: no data is read. `vocab_size` is that of the prepared
// data, used if the configuration does not set it. `states`: the rows of the task's table; a run without optimizer has
// only the first, of the configuration's compute type.
std::unique_ptr<Task> MakeTask(const TrainConfig& config, int64_t vocab_size,
                               std::vector<StateSpec> states = {ParameterState()});

// The same with its samples; the task's table has only the parameters' state. Errors: those of the data, or of a
// configuration that does not fit the data.
absl::StatusOr<std::unique_ptr<Task>> OpenTask(const TrainConfig& config);

}  // namespace angel_ptm

#endif  // ANGEL_PTM_TRAIN_TASK_H_
