// The subcommands of angel-ptm. Each gets the words behind its name and prints its result to stdout.
#ifndef ANGEL_PTM_LAUNCH_COMMANDS_H_
#define ANGEL_PTM_LAUNCH_COMMANDS_H_

#include <string>
#include <vector>

#include "absl/functional/function_ref.h"
#include "angel_ptm/base/status.h"
#include "angel_ptm/config/train_config.pb.h"
#include "angel_ptm/config/validate.h"
#include "launch/arguments.h"

namespace angel_ptm {

absl::Status TrainCommand(const std::vector<std::string>& words);
absl::Status PrepareCommand(const std::vector<std::string>& words);
absl::Status GenerateCommand(const std::vector<std::string>& words);
absl::Status ExportCommand(const std::vector<std::string>& words);
absl::Status PlanCommand(const std::vector<std::string>& words);
absl::Status InspectCommand(const std::vector<std::string>& words);

// --config and --set of a command.
absl::StatusOr<TrainConfig> ConfigFrom(const Arguments& arguments);

// This machine; world and local ranks are 1, nothing started by mpirun.
RunFacts MachineFacts();

// `path` itself if it is a checkpoint, else the newest checkpoint in the run directory `path`.
absl::StatusOr<std::string> ResolveCheckpoint(const std::string& path);

// read(checkpoint) of the resolved `path`; both again while a run beside prunes or replaces what is read. `read` must
// print at its end only.
absl::Status ReadResolved(const std::string& path, absl::FunctionRef<absl::Status(const std::string& checkpoint)> read);

}  // namespace angel_ptm

#endif  // ANGEL_PTM_LAUNCH_COMMANDS_H_
