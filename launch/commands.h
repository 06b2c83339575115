// The subcommands of angel-ptm. Each receives the words after its name and prints its result to stdout.
#ifndef ANGEL_PTM_LAUNCH_COMMANDS_H_
#define ANGEL_PTM_LAUNCH_COMMANDS_H_

#include <string>
#include <vector>

#include "absl/functional/function_ref.h"
#include "angel_ptm/base/progress.h"
#include "angel_ptm/base/status.h"
#include "angel_ptm/config/train_config.pb.h"
#include "angel_ptm/config/validate.h"
#include "angel_ptm/train/inference.h"
#include "angel_ptm/train/tasks/text_states.h"
#include "launch/arguments.h"

namespace angel_ptm {

absl::Status InitCommand(const std::vector<std::string>& words);
absl::Status TrainCommand(const std::vector<std::string>& words);
absl::Status PrepareCommand(const std::vector<std::string>& words);
absl::Status EncodeCommand(const std::vector<std::string>& words);
absl::Status GenerateCommand(const std::vector<std::string>& words);
absl::Status ImportCommand(const std::vector<std::string>& words);
absl::Status ExportCommand(const std::vector<std::string>& words);
absl::Status MergeCommand(const std::vector<std::string>& words);
absl::Status DoctorCommand(const std::vector<std::string>& words);
absl::Status PlanCommand(const std::vector<std::string>& words);
absl::Status ReportCommand(const std::vector<std::string>& words);
absl::Status InspectCommand(const std::vector<std::string>& words);

// Adds to `spec` what a command with a configuration takes: FILE or --config, and --set.
ArgumentSpec WithConfig(ArgumentSpec spec);
// The configuration given to such a command.
absl::StatusOr<TrainConfig> ConfigFrom(const Arguments& arguments);

// Facts about this machine, with world size and local ranks 1 and no launcher.
RunFacts MachineFacts();

// Removes from the configuration what depends on the machine and on how ranks are started. Validate the result with
// machine_memory_bytes = 0.
TrainConfig WithoutMachine(TrainConfig config);

// Options for graphs without backward pass on this machine only, with the kernels that --isa names.
absl::StatusOr<InferenceOptions> InferenceHere(const Arguments& arguments);

// Takes the budgets of the tiers that hold the weights from --device-bytes, --host-bytes and --nvme-directory.
absl::Status TakeBudgets(const Arguments& arguments, InferenceOptions& inference);

// Length of texts in tokens, for each encoder.
struct TextLengths {
  int64_t clip = 77, t5 = 256;
};
// Encodes the captions with the encoders of --clip and --t5, computing in --text-compute, into the file `output`.
// `cache`: folder that caches states.
absl::StatusOr<EncodedCounts> EncodeTexts(const Arguments& arguments, const std::vector<std::string>& captions,
                                          const TextLengths& lengths, const InferenceOptions& inference,
                                          const ReportProgress& progress, const std::string& cache,
                                          const std::string& output);

// Completes facts that depend on which ranks share this machine, facts->local_ranks in `processes` processes. Subtracts
// the processes' own memory from the machine's, and divides the threads that libraries can serve in a process.
void AccountForRanks(const TrainConfig& config, int processes, RunFacts* facts);

// Returns `path` itself if it is a checkpoint, else the newest checkpoint of the run directory `path`.
absl::StatusOr<std::string> ResolveCheckpoint(const std::string& path);

// Calls read(checkpoint) with the resolved `path`. Repeats both if a concurrent run prunes or replaces the checkpoint
// meanwhile, so `read` must not print before its end.
absl::Status ReadResolved(const std::string& path, absl::FunctionRef<absl::Status(const std::string& checkpoint)> read);

}  // namespace angel_ptm

#endif  // ANGEL_PTM_LAUNCH_COMMANDS_H_
