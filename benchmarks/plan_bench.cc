// How long planning takes and how much memory, without a machine: graphs, backend facts, MakePlan and VerifyPlan of
// training and evaluation, as `angel-ptm plan` and `train` do it before step 0.
//
//   plan_bench [--json FILE] <directory of configurations> [part of a case's name]
//
// Per model: no device budget ("unconstrained"), 5 % above the least device budget that works ("constrained"), and
// 90 % of it ("refused", the sentence with the least and the changes that would fit included). Each is the median of
// three runs, each run a process of its own: its CPU time (planning is one thread that waits for nothing, so a busy
// machine does not count) and its peak of resident memory. What --json gets is that time in multiples of a
// calibration's (a map of integers filled and emptied) just before.
#include <sys/resource.h>
#include <sys/wait.h>
#include <unistd.h>

#include <algorithm>
#include <cstdio>
#include <cstdlib>
#include <ctime>
#include <map>
#include <string>
#include <vector>

#include "absl/strings/numbers.h"
#include "absl/strings/str_cat.h"
#include "absl/strings/str_split.h"
#include "angel_ptm/config/load.h"
#include "angel_ptm/train/run_plan.h"
#include "benchmarks/bench_record.h"

namespace angel_ptm {
namespace {

constexpr int kRuns = 3;
constexpr unsigned kSecondsMax = 300;  // of one run

struct Model {
  std::string name, file;
  std::vector<std::string> overrides;
  int ranks;
};

std::vector<Model> Models() {
  return {{"1 T on 10,000 ranks", "moe_1t.textproto", {}, 10'000},
          {"A13B on 64 ranks", "hunyuan_large_a13b.textproto", {}, 64},
          {"18 B on one rank",
           "hunyuan_7b.textproto",
           {"model.hunyuan_lm.hidden_size=6144", "model.hunyuan_lm.num_attention_heads=48",
            "model.hunyuan_lm.intermediate_size=16384", "model.hunyuan_lm.num_hidden_layers=44",
            "batch.micro_batch_sequences=1", "sharding.zero_stage=0"},
           1}};
}

// What one run tells: written to a pipe, as one line.
struct Outcome {
  bool ended = false;  // within kSecondsMax
  double seconds = 0;
  double peak_mib = 0;
  std::string text;  // of the plan, or the refusal
};

std::string PlanText(const RunPlan& run) {
  const Plan& plan = run.training_plan;
  return absl::StrCat("device ", plan.arena_bytes[0], " host ", plan.arena_bytes[1], " B, ",
                      plan.segments[kMicroStepSegment].steps.size(), " + ", plan.segments[kUpdateSegment].steps.size(),
                      " steps, ", run.recomputed_blocks, " blocks recomputed");
}

double CpuSeconds() {
  timespec used = {};
  clock_gettime(CLOCK_PROCESS_CPUTIME_ID, &used);
  return static_cast<double>(used.tv_sec) + static_cast<double>(used.tv_nsec) * 1e-9;
}

// Of work that is like planning's: small allocations, comparisons, pointers. The same at every commit.
double CalibrationSeconds() {
  const double start = CpuSeconds();
  std::map<uint64_t, int> map;
  uint64_t state = 1;
  for (int i = 0; i < 100'000; ++i) {
    state = state * 6364136223846793005u + 1442695040888963407u;
    map[state] = i;
  }
  while (!map.empty()) map.erase(map.begin());
  return CpuSeconds() - start;
}

// Never returns.
void RunChild(const TrainConfig& config, int ranks, int pipe) {
  alarm(kSecondsMax);
  const auto run = MakeRunPlan(config, {.world_size = ranks, .threads = 16});
  const double seconds = CpuSeconds();
  const std::string line =
      absl::StrCat(seconds, "\t", run.ok() ? PlanText(**run) : std::string(run.status().message()), "\n");
  const bool written = write(pipe, line.data(), line.size()) == static_cast<ssize_t>(line.size());
  _exit(written ? 0 : 1);
}

Outcome RunOnce(TrainConfig config, int ranks, int64_t device_bytes) {
  config.mutable_memory()->set_device_bytes(device_bytes);
  int ends[2];
  if (pipe(ends) != 0) std::abort();
  const pid_t child = fork();
  if (child == 0) RunChild(config, ranks, ends[1]);
  close(ends[1]);
  std::string line;
  char buffer[4096];
  for (ssize_t n; (n = read(ends[0], buffer, sizeof(buffer))) > 0;) line.append(buffer, static_cast<size_t>(n));
  close(ends[0]);
  rusage usage = {};
  int status = 0;
  wait4(child, &status, 0, &usage);
  const std::vector<std::string> parts = absl::StrSplit(line, absl::MaxSplits('\t', 1));
  Outcome outcome{.ended = status == 0 && parts.size() == 2, .peak_mib = static_cast<double>(usage.ru_maxrss) / 1024};
  if (!outcome.ended || !absl::SimpleAtod(parts[0], &outcome.seconds)) return outcome;
  outcome.text = parts[1].substr(0, parts[1].find('\n'));
  return outcome;
}

// Prints the median of three runs. Returns the last run.
Outcome Measure(const std::string& name, const TrainConfig& config, int ranks, int64_t device_bytes,
                BenchRecord& record) {
  std::vector<double> seconds, calibrated;
  double peak_mib = 0;
  Outcome outcome;
  for (int i = 0; i < kRuns; ++i) {
    const double calibration = CalibrationSeconds();
    outcome = RunOnce(config, ranks, device_bytes);
    if (!outcome.ended) {
      std::printf("%-36s > %u s, %8.1f MiB\n", name.c_str(), kSecondsMax, outcome.peak_mib);
      return outcome;
    }
    seconds.push_back(outcome.seconds);
    calibrated.push_back(outcome.seconds / calibration);
    peak_mib = std::max(peak_mib, outcome.peak_mib);
  }
  std::sort(seconds.begin(), seconds.end());
  std::sort(calibrated.begin(), calibrated.end());
  std::printf("%-36s %8.3f s  %8.1f MiB  %s\n", name.c_str(), seconds[kRuns / 2], peak_mib, outcome.text.c_str());
  std::fflush(stdout);
  record.Add(name, "calibrated seconds", Better::kLess, calibrated[kRuns / 2]);
  record.Add(name, "peak MiB", Better::kLess, peak_mib);
  return outcome;
}

// The N of "the least that works is ... (N)"; 0 if the text has none.
int64_t LeastIn(const std::string& text) {
  const std::vector<std::string> parts = absl::StrSplit(text, absl::MaxSplits("the least that works is ", 1));
  const std::vector<std::string> in_bytes = absl::StrSplit(parts.back(), absl::ByAnyChar("()"));
  int64_t least = 0;
  return parts.size() == 2 && in_bytes.size() > 1 && absl::SimpleAtoi(in_bytes[1], &least) ? least : 0;
}

int Run(const std::string& directory, const std::string& part, BenchRecord& record) {
  for (const Model& model : Models()) {
    if (model.name.find(part) == std::string::npos) continue;
    const auto config = LoadTrainConfig(absl::StrCat(directory, "/", model.file), model.overrides);
    if (!config.ok()) {
      std::fprintf(stderr, "%s\n", std::string(config.status().message()).c_str());
      return 1;
    }
    Measure(model.name + ", unconstrained", *config, model.ranks, 0, record);
    const int64_t least = LeastIn(RunOnce(*config, model.ranks, 1 << 20).text);
    if (least == 0) {
      std::printf("%-36s no least budget within %u s\n", model.name.c_str(), kSecondsMax);
      continue;
    }
    Measure(model.name + ", constrained", *config, model.ranks, least + least / 20, record);
    Measure(model.name + ", refused", *config, model.ranks, least / 10 * 9, record);
  }
  return 0;
}

}  // namespace
}  // namespace angel_ptm

int main(int argc, char** argv) {
  angel_ptm::BenchRecord record("plan_bench", &argc, argv);
  if (argc < 2) {
    std::fprintf(stderr, "usage: plan_bench [--json FILE] <directory of configurations> [part of a case's name]\n");
    return 2;
  }
  return angel_ptm::Run(argv[1], argc > 2 ? argv[2] : "", record);
}
