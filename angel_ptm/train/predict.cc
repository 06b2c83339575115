#include "angel_ptm/train/predict.h"

#include <algorithm>
#include <cmath>
#include <numeric>
#include <vector>

#include "absl/strings/str_cat.h"
#include "absl/strings/str_format.h"
#include "absl/strings/str_join.h"
#include "angel_ptm/base/text.h"
#include "angel_ptm/config/validate.h"
#include "angel_ptm/exec/trace.h"
#include "angel_ptm/model/cost.h"
#include "angel_ptm/plan/plan_text.h"

namespace angel_ptm {
namespace {

constexpr double kSecondsPerDay = 86'400;

int64_t RanksPerNode(const Cluster& cluster, int64_t ranks) { return std::min(cluster.devices_per_node(), ranks); }

WorkRate RateOf(const google::protobuf::RepeatedPtrField<ClusterRatePoint>& points) {
  WorkRate rate;
  for (const ClusterRatePoint& point : points) rate.points.emplace_back(point.work(), point.per_second());
  return rate;
}

DType TypeOf(ClusterMatrixRate::Type type) {
  return type == ClusterMatrixRate::BF16 ? DType::kBFloat16 : DType::kFloat32;
}

const ClusterMatrixRate* MatrixRateFor(const Cluster& cluster, DType type) {
  for (const ClusterMatrixRate& rate : cluster.device().matrix()) {
    if (TypeOf(rate.type()) == type) return &rate;
  }
  return nullptr;
}

// Sets the budget to what exists, or refuses a larger one that was given.
template <typename Set>
void SetBudget(const char* field, int64_t given, int64_t there, const std::string& whose, const Set& set,
               std::vector<std::string>& wrong) {
  if (given > there) {
    wrong.push_back(absl::StrCat(field, " is ", FormatBytes(given), " (", given, "), ", whose, " has ",
                                 FormatBytes(there), " (", there, ")"));
  } else if (given == 0) {
    set(there);
  }
}

}  // namespace

CostModel CostModelOf(const Cluster& cluster, int64_t ranks) {
  const ClusterDevice& device = cluster.device();
  const ClusterHost& host = cluster.host();
  const double per_node = static_cast<double>(RanksPerNode(cluster, ranks));
  CostModel model;
  model.ranks_per_node = static_cast<int>(per_node);
  model.threads = device.threads();
  model.device_is_host = device.kind() == ClusterDevice::HOST;
  for (const ClusterMatrixRate& rate : device.matrix()) {
    model.matrix[TypeOf(rate.type()) == DType::kBFloat16 ? 1 : 0] = RateOf(rate.at());
  }
  for (const ClusterKernelRate& kernel : device.kernel()) {
    model.kernels[{kernel.name(), TypeOf(kernel.type())}] = RateOf(kernel.at());
  }
  model.device_memory = device.memory_bytes_per_second();
  model.launch_seconds = device.launch_seconds();
  model.host_memory = host.memory_bytes_per_second() / per_node;
  model.host_adamw = host.adamw_bytes_per_second() / per_node;
  model.to_device = std::min(cluster.link().to_device_bytes_per_second(), model.host_memory);
  model.to_host = std::min(cluster.link().to_host_bytes_per_second(), model.host_memory);
  model.link_latency_seconds = cluster.link().latency_seconds();
  const ClusterFile& file = cluster.file();
  model.file_read = file.read_bytes_per_second() / per_node;
  model.file_write = file.write_bytes_per_second() / per_node;
  model.file_latency_seconds = file.latency_seconds();
  model.file_cores = file.cores();
  model.inside_node = cluster.inside_node().bytes_per_second();
  model.inside_latency_seconds = cluster.inside_node().latency_seconds();
  model.between_nodes = cluster.between_nodes().bytes_per_second();
  model.between_latency_seconds = cluster.between_nodes().latency_seconds();
  model.capacity[static_cast<int>(Shared::kCores)] = host.cores() / per_node;
  if (file.both_bytes_per_second() > 0) {
    // 1 is one direction at full speed. When both are active, each runs at both / (read + write) of its own speed.
    model.capacity[static_cast<int>(Shared::kDrive)] =
        2 * file.both_bytes_per_second() / (file.read_bytes_per_second() + file.write_bytes_per_second());
  }
  return model;
}

absl::StatusOr<TrainConfig> WithBudgetsOf(const Cluster& cluster, const TrainConfig& config, RunFactsForPlan* facts) {
  TrainConfig with = config;
  MemoryConfig& memory = *with.mutable_memory();
  const int64_t ranks = facts->world_size, per_node = RanksPerNode(cluster, ranks);
  const int64_t devices = cluster.nodes() * cluster.devices_per_node();
  std::vector<std::string> wrong;
  if (ranks > devices) wrong.push_back(absl::StrCat("--ranks is ", ranks, ", the cluster has ", devices, " devices"));
  const std::string on = absl::StrCat("of ", cluster.name().empty() ? "the cluster" : cluster.name());
  const ClusterHost& host = cluster.host();
  const int64_t host_share = (host.bytes() - host.reserve_bytes()) / per_node;
  SetBudget(
      "memory.device_bytes", memory.device_bytes(), cluster.device().bytes() - cluster.device().reserve_bytes(),
      absl::StrCat("a device ", on), [&](int64_t bytes) { memory.set_device_bytes(bytes); }, wrong);
  SetBudget(
      "memory.host_bytes", memory.host_bytes(), host_share, absl::StrCat("one of ", per_node, " ranks of a node ", on),
      [&](int64_t bytes) { memory.set_host_bytes(bytes); }, wrong);
  if (cluster.device().kind() == ClusterDevice::HOST) facts->tiers_bytes_max = host_share;
  if (!memory.nvme().directory().empty()) {
    SetBudget(
        "memory.nvme.bytes", memory.nvme().bytes(), cluster.file().bytes() / per_node,
        absl::StrCat("the drive for one of ", per_node, " ranks of a node ", on),
        [&](int64_t bytes) { memory.mutable_nvme()->set_bytes(bytes); }, wrong);
    if (!cluster.has_file()) wrong.push_back("memory.nvme.directory is set, the cluster has no drives (file)");
  }
  const DType type = ComputeType(config);
  if (MatrixRateFor(cluster, type) == nullptr) {
    wrong.push_back(absl::StrCat("numerics.compute is ", NumericsConfig::Compute_Name(config.numerics().compute()),
                                 ", the cluster has no rate of matrix products for it (device.matrix)"));
  }
  if (!wrong.empty()) return absl::InvalidArgumentError(absl::StrJoin(wrong, "\n"));
  return with;
}

StepPrediction Predict(const RunPlan& run, const TrainConfig& config, const Cluster& cluster, int64_t ranks) {
  const DerivedConfig derived = Derive(config, {.world_size = static_cast<int>(ranks), .local_ranks = 1});
  const CostModel model = CostModelOf(cluster, ranks);
  StepPrediction p;
  p.time = SimulateStep(run.training, run.training_plan, model, derived.accumulation_steps);
  p.tokens_per_second = static_cast<double>(derived.step_tokens) / p.time.seconds;
  p.peak_flops = MatrixRateFor(cluster, ComputeType(config))->peak_flops_per_second();
  p.mfu = ModelFlops(run.training) * static_cast<double>(derived.micro_batches) /
          (p.time.seconds * p.peak_flops * static_cast<double>(ranks));
  p.file_bytes_per_day = p.time.bytes[static_cast<int>(Lane::kFileOut)] / p.time.seconds * kSecondsPerDay *
                         static_cast<double>(RanksPerNode(cluster, ranks));
  if (cluster.file().endurance_bytes_per_day() > 0) {
    p.endurance_share = p.file_bytes_per_day / cluster.file().endurance_bytes_per_day();
  }
  return p;
}

std::string BoundText(const LaneSeconds& time) {
  std::vector<int> lanes(kLaneCount);
  std::iota(lanes.begin(), lanes.end(), 0);
  std::stable_sort(lanes.begin(), lanes.end(), [&](int a, int b) { return time.critical[a] > time.critical[b]; });
  std::vector<std::string> parts;
  for (const int lane : lanes) {
    const double share = time.critical[lane] / time.seconds;
    if (share >= 0.01) parts.push_back(absl::StrFormat("%s %.0f %%", Name(static_cast<Lane>(lane)), 100 * share));
  }
  return absl::StrJoin(parts, ", ");
}

std::string PredictionText(const StepPrediction& p, const Cluster& cluster, int64_t ranks) {
  std::string text = absl::StrCat("on ", cluster.name().empty() ? "the cluster" : cluster.name(), ", ",
                                  Counted(ranks, "rank"), ", ", RanksPerNode(cluster, ranks), " in a node:\n");
  absl::StrAppend(&text, "predicted step ", FormatExact(std::round(p.time.seconds * 1e4) / 1e4), " s, ",
                  FormatCount(p.tokens_per_second), " tokens/s, MFU ", absl::StrFormat("%.1f %%", 100 * p.mfu), " of ",
                  FormatCount(p.peak_flops), "FLOP/s a device; bound by ", BoundText(p.time), "\n");
  absl::StrAppendFormat(&text, "%-14s%14s%14s%20s\n", "lane", "busy", "of the path", "bytes of a rank");
  for (int l = 0; l < kLaneCount; ++l) {
    if (p.time.busy[l] == 0) continue;
    absl::StrAppendFormat(&text, "%-14s%12.2f s%12.2f s%20s\n", Name(static_cast<Lane>(l)), p.time.busy[l],
                          p.time.critical[l],
                          p.time.bytes[l] == 0 ? "-" : FormatBytes(static_cast<int64_t>(p.time.bytes[l])));
  }
  if (p.file_bytes_per_day > 0) {
    absl::StrAppend(&text, "a node writes ", FormatBytes(static_cast<int64_t>(p.file_bytes_per_day)), " a day to files",
                    p.endurance_share > 0
                        ? absl::StrFormat(", %.0f %% of the daily writes that its drives are rated for "
                                          "over their warranty",
                                          100 * p.endurance_share)
                        : "",
                    "\n");
  }
  return text;
}

std::string PredictedTrace(const RunPlan& run, const StepTime& time, int process) {
  const Plan& plan = run.training_plan;
  int64_t micro_batches = 0;
  std::vector<std::vector<std::string>> names(plan.segments.size());
  for (const PlayTime& play : time.plays) {
    const Segment& segment = plan.segments[play.segment];
    if (segment.computes) micro_batches += play.times;
    if (!names[play.segment].empty()) continue;
    for (const Step& step : segment.steps) names[play.segment].push_back(StepName(run.training, segment, step));
  }
  Trace trace(plan, micro_batches, 0, 1);
  double begin = 0;
  const auto nanoseconds = [&](double seconds) { return std::llround((begin + seconds) * 1e9); };
  for (const PlayTime& play : time.plays) {
    const Segment& segment = plan.segments[play.segment];
    for (int64_t i = 0; i < play.times; ++i) {
      for (size_t s = 0; s < segment.steps.size(); ++s) {
        trace.Add(segment.steps[s].lane, {.begin_ns = nanoseconds(play.time.spans[s].begin),
                                          .end_ns = nanoseconds(play.time.spans[s].end),
                                          .index = static_cast<int32_t>(s),
                                          .segment = segment.name,
                                          .name = names[play.segment][s]});
      }
      begin += play.time.seconds;
    }
  }
  return trace.ToJson(process, "predicted");
}

}  // namespace angel_ptm
