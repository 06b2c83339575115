#include "launch/calibrate.h"

#include <algorithm>
#include <chrono>
#include <memory>
#include <numeric>

#include "absl/strings/str_cat.h"
#include "angel_ptm/config/load.h"
#include "angel_ptm/exec/executor.h"
#include "angel_ptm/plan/cost.h"
#include "angel_ptm/train/initialise.h"
#include "angel_ptm/train/run.h"
#include "angel_ptm/train/run_plan.h"
#include "launch/machine_rates.h"

namespace angel_ptm {
namespace {

using Clock = std::chrono::steady_clock;

double SecondsSince(Clock::time_point begin) { return std::chrono::duration<double>(Clock::now() - begin).count(); }

double Median(std::vector<double> values) {
  std::nth_element(values.begin(), values.begin() + static_cast<int64_t>(values.size() / 2), values.end());
  return values[values.size() / 2];
}

// Runs each step when it is issued, on the player's thread.
class InlineLane final : public LaneQueue {
 public:
  void Begin(SegmentPlay& play) override { play_ = &play; }
  void Issue(int32_t index) override { play_->Run(index); }
  void AwaitFinished(int32_t) override {}
  double TakeBusySeconds() override { return 0; }

 private:
  SegmentPlay* play_ = nullptr;
};

std::unique_ptr<Lanes> InlineLanes() {
  Lanes::Queues queues;
  for (auto& queue : queues) queue = std::make_unique<InlineLane>();
  return std::make_unique<Lanes>(std::move(queues));
}

enum class Rest { kDevice, kHost, kFile };

struct Model {
  int64_t hidden, inner, sequence, experts;
  Rest state = Rest::kDevice;
};
// The first kModelsMin together cover everything that is measured; the others are played if there is time.
constexpr Model kModels[] = {
    {128, 384, 128, 0},
    {128, 128, 256, 4},
    {256, 768, 256, 0, Rest::kHost},
    {256, 768, 256, 0, Rest::kFile},
    {256, 768, 256, 0},
    {256, 256, 512, 8},
    {512, 1536, 512, 0},
    {512, 512, 512, 8},
    {512, 1536, 512, 0, Rest::kHost},
    {512, 1536, 512, 0, Rest::kFile},
    {1024, 2816, 512, 0},
};
constexpr int kModelsMin = 4;
constexpr int64_t kVocabulary = 4096, kPageBytes = int64_t{1} << 20;

TrainConfig ConfigOf(const Model& model, const CalibrationOptions& options, int ranks, DType type) {
  const auto set = [](const char* field, auto value) { return absl::StrCat(field, "=", value); };
  std::vector<std::string> fields = {set("model.hunyuan_lm.hidden_size", model.hidden),
                                     set("model.hunyuan_lm.intermediate_size", model.inner),
                                     set("model.hunyuan_lm.num_hidden_layers", 2),
                                     set("model.hunyuan_lm.num_attention_heads", model.hidden / 64),
                                     set("model.hunyuan_lm.head_dim", 64),
                                     set("model.hunyuan_lm.vocab_size", kVocabulary),
                                     set("model.hunyuan_lm.tie_word_embeddings", "true"),
                                     set("data.sequence_length", model.sequence),
                                     set("batch.global_batch_sequences", ranks),
                                     set("memory.page_bytes", kPageBytes),
                                     set("memory.recomputation", "NONE"),
                                     set("numerics.compute", type == DType::kBFloat16 ? "BF16" : "FP32")};
  if (model.experts > 0) {
    fields.push_back(set("model.hunyuan_lm.num_experts", model.experts));
    fields.push_back(set("model.hunyuan_lm.moe_topk", 2));
  }
  if (model.state == Rest::kFile) {
    fields.push_back(set("memory.nvme.directory", options.directory));
    fields.push_back(set("memory.nvme.allow_buffered", options.allow_buffered ? "true" : "false"));
  }
  const auto config = ParseTrainConfig("", "calibration", fields);
  APTM_CHECK(config.ok(), std::string(config.status().message()));
  return *config;
}

// Plans with budgets that leave the state where the model should have it.
absl::StatusOr<std::unique_ptr<RunPlan>> PlanOf(const Model& model, TrainConfig& config, const RunFactsForPlan& facts) {
  if (model.state == Rest::kDevice) return MakeRunPlan(config, facts);
  ASSIGN_OR_RETURN(const int64_t least, LeastDeviceBytes(config, facts));
  config.mutable_memory()->set_device_bytes(least + least / 16);
  if (model.state == Rest::kHost) return MakeRunPlan(config, facts);
  constexpr int64_t kHostBytesMax = int64_t{1} << 40;  // a refusal beyond that is not about the host
  for (int64_t host_bytes = 4 * kPageBytes;; host_bytes *= 2) {
    config.mutable_memory()->set_host_bytes(host_bytes);
    auto plan = MakeRunPlan(config, facts);
    if (plan.ok() || !absl::IsResourceExhausted(plan.status()) || host_bytes >= kHostBytesMax) return plan;
  }
}

// What all ranks share.
struct Case {
  const Model& model;
  const CalibrationOptions& options;
  const KernelTable& kernels;
  const TrainConfig& config;
  const RunPlan& plan;
  double seconds;

  int64_t Bytes(TierKind tier) const { return plan.training_plan.arena_bytes[static_cast<int>(tier)]; }
};

class RankPlayer {
 public:
  RankPlayer(const Case& c, Communicator& communicator) : case_(c), communicator_(communicator) {}

  absl::Status Play(StepSamples* samples, std::vector<double>* launch_samples) {
    const Clock::time_point begin = Clock::now();
    RETURN_IF_ERROR(AgreeOn(MakeMachine(), communicator_));
    lanes_ = InlineLanes();
    RETURN_IF_ERROR(Bind(nullptr));
    RETURN_IF_ERROR(Steps(2));  // touches pages and creates teams
    const Clock::time_point first = Clock::now();
    RETURN_IF_ERROR(Steps(1));
    // All ranks play rank 0's number of steps, which fits the remaining time.
    constexpr double kStepsMin = 3, kStepsMax = 40;
    double steps = std::clamp((case_.seconds - SecondsSince(begin)) / SecondsSince(first), kStepsMin, kStepsMax);
    RETURN_IF_ERROR(communicator_.Broadcast(std::as_writable_bytes(std::span(&steps, 1)), 0, {"steps"}));
    Trace trace(case_.plan.training_plan, 1, step_, static_cast<int64_t>(steps));
    RETURN_IF_ERROR(Bind(&trace));
    RETURN_IF_ERROR(Steps(static_cast<int64_t>(steps)));
    if (communicator_.rank() == 0) Collect(trace, samples);
    return LanesAdd(launch_samples);
  }

 private:
  absl::Status MakeMachine() {
    ASSIGN_OR_RETURN(device_, MakeHostArena(TierKind::kDevice, case_.Bytes(TierKind::kDevice), case_.options.threads));
    ASSIGN_OR_RETURN(host_, MakeHostArena(TierKind::kHost, case_.Bytes(TierKind::kHost), case_.options.threads));
    std::string notes;
    ASSIGN_OR_RETURN(file_, OpenFileTier(case_.config.memory().nvme(), communicator_.rank(),
                                         case_.Bytes(TierKind::kFile), *host_, &notes));
    machine_ = {.device = device_.get(),
                .host = host_.get(),
                .communicator = &communicator_,
                .control = &communicator_,
                .kernels = &case_.kernels,
                .threads = case_.options.threads,
                .file = file_.get()};
    return InitialiseState(*case_.plan.training.table, 1, StateViews(case_.plan.training_plan.layout, machine_));
  }

  absl::Status Bind(Trace* trace) {
    machine_.lanes = lanes_.get();
    machine_.trace = trace;
    ASSIGN_OR_RETURN(executor_, Executor::Create(case_.plan.training, case_.plan.training_plan, machine_, {}));
    Fill();
    return absl::OkStatus();
  }

  void Fill() {
    const Graph& graph = case_.plan.training;
    const int64_t tokens = case_.model.sequence;
    const std::vector<int32_t> zeros(static_cast<size_t>(tokens), 0);
    std::vector<int32_t> positions(zeros), random(zeros);
    std::iota(positions.begin(), positions.end(), 0);
    uint32_t state = 1;
    for (int32_t& token : random) {
      state = state * 1664525 + 1013904223;
      token = static_cast<int32_t>(state % kVocabulary);
    }
    const float count = static_cast<float>(tokens);
    executor_->WriteInput(graph.FindTensor("tokens"), random.data());
    executor_->WriteInput(graph.FindTensor("targets"), random.data());
    executor_->WriteInput(graph.FindTensor("positions"), positions.data());
    executor_->WriteInput(graph.FindTensor("segment_start"), zeros.data());
    executor_->WriteInput(graph.FindTensor("target_count"), &count);
  }

  absl::Status Steps(int64_t count) {
    const StepHooks hooks = {.feed = [](int64_t, int64_t) { return absl::OkStatus(); },
                             .vote = {},
                             .decide =
                                 [](const StepExchange&) {
                                   UpdateDecision decision;
                                   decision.scalars.learning_rate = 1e-6f;
                                   return decision;
                                 }};
    const Program& program = *case_.plan.training_plan.FindProgram(false, false);
    for (int64_t i = 0; i < count; ++i) RETURN_IF_ERROR(executor_->Run(program, step_++, 1, hooks));
    return absl::OkStatus();
  }

  void Collect(const Trace& trace, StepSamples* samples) {
    std::map<std::pair<std::string_view, int32_t>, std::vector<double>> seconds;
    for (int l = 0; l < kLaneCount; ++l) {
      for (const TraceSpan& span : trace.spans(static_cast<Lane>(l))) {
        seconds[{span.segment, span.index}].push_back(static_cast<double>(span.end_ns - span.begin_ns) * 1e-9);
      }
    }
    serial_seconds_ = 0;
    for (const Segment& segment : case_.plan.training_plan.segments) {
      for (size_t i = 0; i < segment.steps.size(); ++i) {
        const auto it = seconds.find({segment.name, static_cast<int32_t>(i)});
        if (it == seconds.end()) continue;
        const Step& step = segment.steps[i];
        // The time of a collective includes waiting for slower ranks, as in any step.
        const double typical = Median(it->second);
        serial_seconds_ += typical;
        ++steps_;
        if (step.when != When::kAlways) continue;  // the others do nothing in a step of one micro-batch
        const StepWork work = WorkOf(case_.plan.training, step);
        if (work.work > 0) (*samples)[{work.name, work.type}].push_back({work.work, typical});
      }
    }
  }

  // Measures what threaded lanes add to a step. Their time shows only if there is nothing to overlap.
  absl::Status LanesAdd(std::vector<double>* launch_samples) {
    if (communicator_.size() > 1 || case_.model.state != Rest::kDevice || case_.model.hidden > 256) {
      return absl::OkStatus();
    }
    lanes_ = std::make_unique<Lanes>();
    RETURN_IF_ERROR(Bind(nullptr));
    RETURN_IF_ERROR(Steps(2));
    std::vector<double> seconds;
    for (int i = 0; i < 9; ++i) {
      const Clock::time_point begin = Clock::now();
      RETURN_IF_ERROR(Steps(1));
      seconds.push_back(SecondsSince(begin));
    }
    launch_samples->push_back(std::max(0.0, (Median(seconds) - serial_seconds_) / static_cast<double>(steps_)));
    return absl::OkStatus();
  }

  const Case& case_;
  Communicator& communicator_;
  std::unique_ptr<Tier> device_, host_;
  std::unique_ptr<FileTier> file_;
  std::unique_ptr<Lanes> lanes_;
  Machine machine_;
  std::unique_ptr<Executor> executor_;
  int64_t step_ = 1;
  double serial_seconds_ = 0;
  int64_t steps_ = 0;
};

// Whether rank 0 has time left; all ranks follow it.
absl::StatusOr<bool> HasTime(double seconds_left, Communicator& ranks) {
  RETURN_IF_ERROR(ranks.Broadcast(std::as_writable_bytes(std::span(&seconds_left, 1)), 0, {"time left"}));
  return seconds_left > 0;
}

}  // namespace

absl::Status Calibrate(const CalibrationOptions& options, const KernelTable& kernels, DType type, Communicator& ranks,
                       StepSamples* samples, std::vector<double>* launch_samples) {
  const Clock::time_point begin = Clock::now();
  int played = 0;
  for (const Model& model : kModels) {
    if (played++ >= kModelsMin) {
      ASSIGN_OR_RETURN(const bool has_time, HasTime(options.seconds - SecondsSince(begin), ranks));
      if (!has_time) break;
    }
    if (model.state == Rest::kFile && options.directory.empty()) continue;
    TrainConfig config = ConfigOf(model, options, ranks.size(), type);
    const RunFactsForPlan facts{.world_size = ranks.size(),
                                .ranks_per_node = WorldOf(ranks).ranks_per_node,
                                .threads = options.threads,
                                .kernels = &kernels,
                                .vocab_size = kVocabulary};
    const auto plan = PlanOf(model, config, facts);
    RETURN_IF_ERROR(AgreeOn(plan.status(), ranks));
    const Case played_case{model, options, kernels, config, **plan, options.seconds / std::size(kModels)};
    RETURN_IF_ERROR(RankPlayer(played_case, ranks).Play(samples, launch_samples));
  }
  return absl::OkStatus();
}

void AddKernelRates(const StepSamples& samples, ClusterDevice* device) {
  for (const auto& [what, points] : samples) {
    std::map<int64_t, std::vector<double>> by_work;  // as many significant digits as matter
    for (const auto& [work, seconds] : points) by_work[static_cast<int64_t>(work)].push_back(seconds);
    ClusterKernelRate& kernel = *device->add_kernel();
    kernel.set_name(what.first);
    kernel.set_type(what.second == DType::kBFloat16 ? ClusterMatrixRate::BF16 : ClusterMatrixRate::FP32);
    double longest = 1e-9;  // a clock tick, so that nothing takes zero time
    for (auto& [work, seconds] : by_work) {
      longest = std::max(longest, Median(std::move(seconds)));
      ClusterRatePoint& point = *kernel.add_at();
      point.set_work(static_cast<double>(work));
      point.set_per_second(static_cast<double>(work) / longest);
    }
  }
}

}  // namespace angel_ptm
