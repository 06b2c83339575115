// The angel-ptm program: finds the subcommand, runs it, and turns an error into one sentence and exit code 1.
#include <sched.h>

#include <algorithm>
#include <csignal>
#include <cstdio>
#include <string>
#include <thread>
#include <vector>

#include "absl/strings/str_cat.h"
#include "angel_ptm/base/file.h"
#include "angel_ptm/checkpoint/checkpoint.h"
#include "angel_ptm/config/describe.h"
#include "angel_ptm/config/load.h"
#include "launch/commands.h"
#include "launch/machine_memory.h"
#include "launch/process.h"
#include "launch/version_info.h"

namespace angel_ptm {
namespace {

constexpr const char* kHelp = R"(angel-ptm trains language models that do not fit their memory.

  angel-ptm prepare  --config FILE [--set path.to.field=value]...
      Text files -> tokenizer -> packed token files (data.prepare). Prints statistics.
  angel-ptm plan     --config FILE [--set ...] [--ranks N] [--graph] [--listing]
      What a run will need per rank and tier, and what it will move and send. Starts nothing.
  angel-ptm train    --config FILE [--set ...] [--resume]
      Trains. Under mpirun each process is a rank; alone, communication.local_ranks threads are.
  angel-ptm generate --checkpoint DIR --prompt TEXT [--prompt ...] [--tokens 128] [--temperature 0.8] [--top-k 40] [--seed 1]
      Continues prompts. DIR is a checkpoint or a run's output directory.
  angel-ptm export   --checkpoint DIR --format huggingface --output DIR
      Writes a directory that transformers loads, after reading it back and comparing.
  angel-ptm inspect  DIR [--verify]
      What a checkpoint holds; --verify checks every byte.
  angel-ptm help fields
      Every configuration field with unit, default and advice.
  angel-ptm --version

Examples:
  angel-ptm prepare --config launch/configs/quickstart.textproto
  mpirun -np 2 --bind-to none angel-ptm train --config launch/configs/quickstart.textproto
  angel-ptm train --config launch/configs/quickstart.textproto --set optimizer.adamw.learning_rate=3e-4 --resume
  angel-ptm plan --config launch/configs/hunyuan_7b.textproto --ranks 8 --set memory.device_bytes=80000000000
)";

absl::Status Help(const std::vector<std::string>& words) {
  if (!words.empty() && words[0] == "fields") {
    std::printf("%s", DescribeFields().c_str());
  } else {
    std::printf("%s", kHelp);
  }
  return absl::OkStatus();
}

absl::Status Version(const std::vector<std::string>&) {
  std::printf("%s", VersionText().c_str());
  return absl::OkStatus();
}

// Cores this process may use.
int UsableCores() {
  cpu_set_t cores;
  if (sched_getaffinity(0, sizeof(cores), &cores) == 0) return CPU_COUNT(&cores);
  return static_cast<int>(std::thread::hardware_concurrency());
}

struct Command {
  const char* name;
  absl::Status (*run)(const std::vector<std::string>& words);
};
constexpr Command kCommands[] = {{"train", TrainCommand},
                                 {"prepare", PrepareCommand},
                                 {"generate", GenerateCommand},
                                 {"export", ExportCommand},
                                 {"plan", PlanCommand},
                                 {"inspect", InspectCommand},
                                 {"help", Help},
                                 {"--help", Help},
                                 {"-h", Help},
                                 {"--version", Version}};

// What a command prints is its result, except where it has written files: a run that saved everything ended well.
int EndAfter(const Command& command) {
  const absl::Status status = CloseStandardOutput();
  if (status.ok()) return 0;
  const bool reader_left = absl::IsUnavailable(status);
  if (command.run == TrainCommand) {
    if (!reader_left) std::fprintf(stderr, "angel-ptm: warning: %s\n", std::string(status.message()).c_str());
    return 0;
  }
  if (reader_left) {  // as a program ends that does nothing about it
    std::signal(SIGPIPE, SIG_DFL);
    std::raise(SIGPIPE);
  }
  std::fprintf(stderr, "angel-ptm: %s\n", std::string(status.message()).c_str());
  return 1;
}

int Main(int argc, char** argv) {
  PrepareProcess();
  const std::string name = argc > 1 ? argv[1] : "--help";
  const std::vector<std::string> words(argv + std::min(argc, 2), argv + argc);
  for (const Command& command : kCommands) {
    if (name != command.name) continue;
    const absl::Status status = command.run(words);
    if (status.ok()) return EndAfter(command);
    std::fprintf(stderr, "angel-ptm: %s\n", std::string(status.message()).c_str());
    return 1;
  }
  std::fprintf(stderr, "angel-ptm: unknown command %s; angel-ptm --help lists them\n", name.c_str());
  return 1;
}

}  // namespace

absl::StatusOr<TrainConfig> ConfigFrom(const Arguments& arguments) {
  ASSIGN_OR_RETURN(const std::string path, arguments.Require("config"));
  return LoadTrainConfig(path, arguments.All("set"));
}

RunFacts MachineFacts() {
  RunFacts facts;
  facts.machine_memory_bytes = MachineMemoryBytes();
  facts.cores = UsableCores();
#ifdef ANGEL_PTM_WITH_MPI
  facts.mpi_built = true;
#endif
  return facts;
}

absl::StatusOr<std::string> ResolveCheckpoint(const std::string& path) {
  for (const std::string& directory : {path, path + "/checkpoints"}) {
    ASSIGN_OR_RETURN(const bool is_checkpoint, PathExists(directory + "/manifest.json"));
    if (is_checkpoint) return directory;
    ASSIGN_OR_RETURN(const LatestCheckpoint latest, FindLatestCheckpoint(directory));
    if (!latest.warning.empty()) std::fprintf(stderr, "angel-ptm: warning: %s\n", latest.warning.c_str());
    if (!latest.path.empty()) return latest.path;
  }
  return absl::NotFoundError(absl::StrCat("no checkpoint in ", path));
}

}  // namespace angel_ptm

int main(int argc, char** argv) { return angel_ptm::Main(argc, argv); }
