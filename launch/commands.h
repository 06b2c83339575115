// The subcommands of angel-ptm. Each gets the words behind its name and prints its result to stdout.
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

// What a command takes that has a configuration: FILE or --config, and --set, besides what `spec` says.
ArgumentSpec WithConfig(ArgumentSpec spec);
// The configuration that such a command was given.
absl::StatusOr<TrainConfig> ConfigFrom(const Arguments& arguments);

// This machine; world and local ranks are 1, nothing started by mpirun.
RunFacts MachineFacts();

// The configuration as any machine and any way of starting ranks takes it; to be validated with machine_memory_bytes =
// 0.
TrainConfig WithoutMachine(TrainConfig config);

// How graphs without backward are played on this machine alone, with the kernels that --isa names.
absl::StatusOr<InferenceOptions> InferenceHere(const Arguments& arguments);

// What --device-bytes, --host-bytes and --nvme-directory say of the tiers that its weights rest in.
absl::Status TakeBudgets(const Arguments& arguments, InferenceOptions& inference);

// Tokens of a text for each encoder.
struct TextLengths {
  int64_t clip = 77, t5 = 256;
};
// The captions' states by the encoders of --clip and --t5, computed in --text-compute, with the folder `cache`, into
// the file `output`.
absl::StatusOr<EncodedCounts> EncodeTexts(const Arguments& arguments, const std::vector<std::string>& captions,
                                          const TextLengths& lengths, const InferenceOptions& inference,
                                          const ReportProgress& progress, const std::string& cache,
                                          const std::string& output);

// What is known of the machine once it is known which ranks are on it: facts->local_ranks in `processes` processes.
// Subtracts the processes' own memory from the machine's, and divides what libraries serve in a process.
void AccountForRanks(const TrainConfig& config, int processes, RunFacts* facts);

// `path` itself if it is a checkpoint, else the newest checkpoint in the run directory `path`.
absl::StatusOr<std::string> ResolveCheckpoint(const std::string& path);

// read(checkpoint) of the resolved `path`; both again while a run beside prunes or replaces what is read. `read` must
// print at its end only.
absl::Status ReadResolved(const std::string& path, absl::FunctionRef<absl::Status(const std::string& checkpoint)> read);

}  // namespace angel_ptm

#endif  // ANGEL_PTM_LAUNCH_COMMANDS_H_
