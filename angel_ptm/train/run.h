// What one rank's run consists of, from the task to the bound Executors: everything that stays the same from its first
// step to its last.
#ifndef ANGEL_PTM_TRAIN_RUN_H_
#define ANGEL_PTM_TRAIN_RUN_H_

#include <memory>
#include <optional>
#include <string>
#include <vector>

#include "angel_ptm/base/status.h"
#include "angel_ptm/config/train_config.pb.h"
#include "angel_ptm/config/validate.h"
#include "angel_ptm/exec/device_side.h"
#include "angel_ptm/exec/executor.h"
#include "angel_ptm/memory/device.h"
#include "angel_ptm/train/evaluate.h"
#include "angel_ptm/train/run_plan.h"
#include "angel_ptm/train/sample.h"
#include "angel_ptm/train/task.h"
#include "angel_ptm/train/trainer.h"
#include "comm/checked.h"

namespace angel_ptm {

// Creates a rank's page file of `bytes`, or returns null for 0 bytes. The host tier's arena is registered with it, so
// `host` must outlive the file. *notes: what to tell the user. Errors: those of FileStore::Create.
absl::StatusOr<std::unique_ptr<FileTier>> OpenFileTier(const NvmeConfig& nvme, int rank, int64_t bytes, Tier& host,
                                                       std::string* notes);

struct Run {
  Run(const TrainConfig& run_config, const RunFacts& facts, const TrainerOptions& run_options, Communicator& peers)
      : config(run_config),
        derived(Derive(run_config, facts)),
        options(run_options),
        communicator(&peers, SequenceCheck::kHistory) {}

  // Collective. Splits off `control`, opens the data, plans by what every rank has, creates the machine and binds the
  // Executors.
  absl::Status SetUp();
  // Collective. To be called when all steps are done and nothing failed.
  absl::Status Close();

  // The updater of a lock-free update, else null. Only a run with a single bucket can have one.
  LockFreeUpdater* updater() const { return steppers[0].executor->updater(); }
  const KernelTable& kernels() const { return gpu != nullptr ? *options.gpus.kernels : *options.kernels; }
  int rank() const { return communicator.rank(); }
  // Whether this rank prints text for people (rank 0, if there is a stream).
  bool prints() const { return rank() == 0 && options.out != nullptr; }
  void Print(const std::string& text) const;

  // The parts of SetUp.
  absl::Status MakeThePlan();
  // What a rank has that plans depend on. Bytes: 0 if unknown or unlimited.
  struct Means {
    int64_t has_gpu = 0;
    int64_t device_bytes = 0;                 // of the GPU
    int64_t host_bytes = 0, tiers_bytes = 0;  // as in DerivedConfig
  };
  // Collective: the minimum over all ranks. Returns an error if only some of them have a GPU.
  absl::StatusOr<Means> LeastMeans() const;
  absl::Status MakeTiers();
  absl::Status BindExecutors();
  absl::Status BindBetweenSteps(const AdamWConstants& constants);

  const TrainConfig& config;
  const DerivedConfig derived;
  const TrainerOptions& options;

  // A run has two communicators of all ranks, which are independent of each other. `communicator` moves the units'
  // data; only the executor calls it, on its comm lane. `control` carries what ranks tell each other: agreement, stop
  // requests, norms, losses, digests, barriers, checkpoints. The comm lane calls it while a segment is played (for the
  // norm), the trainer's thread between segments. Law 4 covers both: to check it (VerifyOneSequence, Saver), and only
  // then, the trainer's thread calls `communicator`. Between GPUs NCCL may carry the data instead, on a stream and with
  // two verbs (exec/nccl_collectives.h); then the calls on `communicator` are planned but not made. Control stays on
  // the host.
  CheckedCommunicator communicator;
  std::unique_ptr<CheckedCommunicator> control;
  std::optional<MeshGroups> groups;  // of `communicator`, if experts are split

  std::unique_ptr<Task> task;
  std::vector<CheckpointFile> files;  // the task's files as they were when it was opened
  std::unique_ptr<RunPlan> plan;
  std::optional<Trace> trace;   // none if the run is not traced
  std::unique_ptr<Device> gpu;  // null: the CPU trains
  std::shared_ptr<Tier> device, host;
  std::shared_ptr<void> host_lock;          // only with a GPU
  std::unique_ptr<DeviceSide> device_side;  // only with a GPU
  std::unique_ptr<FileTier> file;           // none if no state rests there
  std::optional<Lanes> lanes;
  Machine machine;
  // What plays the training steps of one bucket.
  struct Stepper {
    std::unique_ptr<Executor> executor;
    std::unique_ptr<Feeder> feeder;
  };
  std::vector<Stepper> steppers;  // by bucket
  // What evaluates and what samples one bucket.
  struct Evaluated {
    std::unique_ptr<Executor> executor;
    std::unique_ptr<Feeder> feeder;
    std::unique_ptr<Evaluator> evaluator;
  };
  struct Sampled {
    std::unique_ptr<Executor> executor;
    std::unique_ptr<Sampler> sampler;
  };
  std::vector<Evaluated> evaluated;
  std::vector<Sampled> sampled;
  std::optional<SampleMaker> sample_maker;  // none if nothing is sampled
  std::vector<StateView> views;
};

}  // namespace angel_ptm

#endif  // ANGEL_PTM_TRAIN_RUN_H_
