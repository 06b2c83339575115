// The angel-ptm program: finds the subcommand, runs it, and turns an error into one sentence and exit code 1.
#include <algorithm>
#include <csignal>
#include <cstdio>
#include <string>
#include <vector>

#include "absl/strings/str_cat.h"
#include "angel_ptm/base/file.h"
#include "angel_ptm/checkpoint/checkpoint.h"
#include "angel_ptm/config/describe.h"
#include "angel_ptm/config/load.h"
#include "angel_ptm/config/suggest.h"
#include "launch/blas_library.h"
#include "launch/commands.h"
#include "launch/help.h"
#include "launch/isa_choice.h"
#include "launch/library_environment.h"
#include "launch/machine_cores.h"
#include "launch/machine_memory.h"
#include "launch/process.h"
#include "launch/version_info.h"

namespace angel_ptm {
namespace {

absl::Status Help(const std::vector<std::string>& words) {
  if (words.empty()) {
    std::printf("%s", GeneralHelp().c_str());
  } else if (words[0] == "fields") {
    std::printf("%s", DescribeFields().c_str());
  } else if (const std::string text = CommandHelp(words[0]); !text.empty()) {
    std::printf("%s", text.c_str());
  } else {
    std::vector<std::string> known = CommandNames();
    known.push_back("fields");
    return absl::InvalidArgumentError(absl::StrCat("no help on ", words[0], "; ", SuggestName(words[0], known)));
  }
  return absl::OkStatus();
}

absl::Status Version(const std::vector<std::string>&) {
  ASSIGN_OR_RETURN(const IsaChoice choice, ChooseIsa("", DType::kFloat32));
  std::printf("%sin use: kernels for %s (%s); %s\n", VersionText().c_str(), choice.isa->name, choice.reason.c_str(),
              DescribeBlas().c_str());
  return absl::OkStatus();
}

struct Command {
  const char* name;
  absl::Status (*run)(const std::vector<std::string>& words);
};
constexpr Command kCommands[] = {{"init", InitCommand},
                                 {"train", TrainCommand},
                                 {"prepare", PrepareCommand},
                                 {"encode", EncodeCommand},
                                 {"generate", GenerateCommand},
                                 {"import", ImportCommand},
                                 {"export", ExportCommand},
                                 {"merge", MergeCommand},
                                 {"plan", PlanCommand},
                                 {"doctor", DoctorCommand},
                                 {"report", ReportCommand},
                                 {"inspect", InspectCommand},
                                 {"help", Help},
                                 {"--help", Help},
                                 {"-h", Help},
                                 {"--version", Version}};

// The result of a command is what it prints, unless it has written files: a run that saved everything ended well.
int EndAfter(const Command& command) {
  const absl::Status status = CloseStandardOutput();
  if (status.ok()) return 0;
  const bool reader_left = absl::IsUnavailable(status);
  if (command.run == TrainCommand) {
    if (!reader_left) std::fprintf(stderr, "angel-ptm: warning: %s\n", std::string(status.message()).c_str());
    return 0;
  }
  if (reader_left) {  // end like a program that does not handle it
    std::signal(SIGPIPE, SIG_DFL);
    std::raise(SIGPIPE);
  }
  std::fprintf(stderr, "angel-ptm: %s\n", std::string(status.message()).c_str());
  return 1;
}

int Main(int argc, char** argv) {
  const std::string name = argc > 1 ? argv[1] : "--help";
  SetLibraryEnvironment(/*with_teams=*/name == "train" || name == "generate" || name == "encode" || name == "doctor",
                        argv);
  PrepareProcess();
  const std::vector<std::string> words(argv + std::min(argc, 2), argv + argc);
  for (const Command& command : kCommands) {
    if (name != command.name) continue;
    const bool asks_for_help = !CommandHelp(name).empty() && std::ranges::any_of(words, [](const std::string& word) {
      return word == "--help" || word == "-h";
    });
    const absl::Status status = asks_for_help ? Help({name}) : command.run(words);
    if (status.ok()) return EndAfter(command);
    std::fprintf(stderr, "angel-ptm: %s\n", std::string(status.message()).c_str());
    return 1;
  }
  const std::vector<std::string> names = CommandNames();
  const std::string* const nearest = NearestName(name, names);
  std::fprintf(stderr, "angel-ptm: unknown command %s; %sangel-ptm --help lists them\n", name.c_str(),
               nearest == nullptr ? "" : absl::StrCat("did you mean ", *nearest, "? ").c_str());
  return 1;
}

}  // namespace

ArgumentSpec WithConfig(ArgumentSpec spec) {
  spec.flags.insert(spec.flags.begin(), {"config", "set"});
  spec.positional_max = 1;
  spec.positional = "FILE";
  return spec;
}

absl::StatusOr<TrainConfig> ConfigFrom(const Arguments& arguments) {
  const std::vector<std::string>& files = arguments.positional();
  if (files.empty() && !arguments.Has("config")) {
    return absl::InvalidArgumentError("--config is missing: which configuration? angel-ptm init NAME writes one");
  }
  if (!files.empty() && arguments.Has("config")) {
    return absl::InvalidArgumentError(
        absl::StrCat("wanted one configuration, got ", files[0], " and --config ", arguments.Get("config", "")));
  }
  return LoadTrainConfig(files.empty() ? arguments.Get("config", "") : files[0], arguments.All("set"));
}

RunFacts MachineFacts() {
  RunFacts facts;
  facts.machine_memory_bytes = MachineMemoryBytes();
  facts.cores = UsableCores();
  facts.kernel_threads_max = BlasThreadsMax();
#ifdef ANGEL_PTM_WITH_MPI
  facts.mpi_built = true;
#endif
  return facts;
}

TrainConfig WithoutMachine(TrainConfig config) {
  if (config.memory().host_bytes() == 0) config.mutable_memory()->set_host_bytes(int64_t{1} << 50);
  config.mutable_communication()->set_transport(CommunicationConfig::AUTO);
  return config;
}

void AccountForRanks(const TrainConfig& config, int processes, RunFacts* facts) {
  const int ranks_per_process = facts->local_ranks / processes;
  if (facts->kernel_threads_max > 0) {
    facts->kernel_threads_max = std::max(1, facts->kernel_threads_max / ranks_per_process);
  }
  const int cores = facts->rank_cores != 0 ? facts->rank_cores : std::max(1, facts->cores / facts->local_ranks);
  const int given = std::clamp(config.numerics().threads_per_rank(), 0, 1024);  // not yet validated
  const int64_t own = OwnBytes(processes, facts->local_ranks, given != 0 ? given : cores);
  facts->machine_memory_bytes = std::max<int64_t>(1, facts->machine_memory_bytes - own);
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

absl::Status ReadResolved(const std::string& path,
                          absl::FunctionRef<absl::Status(const std::string& checkpoint)> read) {
  return ReadCheckpointBesideRun([&] { return ResolveCheckpoint(path); }, read);
}

}  // namespace angel_ptm

int main(int argc, char** argv) { return angel_ptm::Main(argc, argv); }
