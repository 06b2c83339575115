#include "angel_ptm/plan/cost.h"

#include <algorithm>
#include <cmath>

#include "absl/strings/str_cat.h"
#include "angel_ptm/base/check.h"
#include "angel_ptm/model/cost.h"
#include "angel_ptm/model/lock_free.h"
#include "angel_ptm/plan/homes.h"

namespace angel_ptm {
namespace {

double& Use(StepCost& cost, Shared shared) { return cost.uses[static_cast<int>(shared)]; }

double Over(double work, double rate, const char* what) {
  if (work == 0) return 0;
  APTM_CHECK(rate > 0, "the plan has ", what, ", the cost model has no rate for it");
  return work / rate;
}

// The op's cost or, for an update op, the part of it that falls to `step`.
OpCost CostOfStep(const Graph& graph, const Step& step) {
  const Op& op = graph.ops[step.op];
  OpCost cost = CostOf(graph, op);
  if (step.kind == StepKind::kUpdate) {
    cost.bytes *= static_cast<double>(step.count) / static_cast<double>(graph.units()[op.unit].elements);
  }
  return cost;
}

class Coster {
 public:
  Coster(const Graph& graph, const Plan& plan, const CostModel& model, const MicroBatchKind& micro_batch)
      : graph_(graph), plan_(plan), model_(model), micro_batch_(micro_batch) {}

  StepCost Of(const Step& step) const {
    if (step.when == When::kAccumulating && micro_batch_.first) return {};
    StepCost cost;
    switch (step.kind) {
      case StepKind::kCompute:
      case StepKind::kUpdate:
        IsExchange(step) ? Exchange(step, cost) : Compute(step, cost);
        break;
      case StepKind::kMove:
        Move(step, cost);
        break;
      case StepKind::kAllGather:
        Gather(step, cost);
        break;
      case StepKind::kReduceScatter:
        Reduce(step, cost);
        break;
      case StepKind::kNorm:
        cost.seconds = std::max(Measured(step), NetworkSeconds(RanksPerNode(), Nodes(), 0, 0));
        break;
      case StepKind::kDeliver:
        Deliver(step, cost);
        break;
    }
    cost.seconds += model_.launch_seconds;
    return cost;
  }

 private:
  // The measured seconds, or a negative number.
  double Measured(const Step& step) const {
    const StepWork work = WorkOf(graph_, step);
    const auto it = model_.kernels.find({work.name, work.type});
    return it == model_.kernels.end() ? -1 : it->second.Seconds(work.work);
  }

  double Capacity(Shared shared) const { return model_.capacity[static_cast<int>(shared)]; }

  // Rates hold for all ranks running at once: if there are fewer cores than the ranks want, the rates already reflect
  // that.
  void UseCores(double cores, StepCost& cost) const {
    Use(cost, Shared::kCores) = std::min(cores, Capacity(Shared::kCores));
  }

  double HostShare(double bytes, double seconds) const {
    return seconds > 0 && model_.host_memory > 0 ? std::min(1.0, bytes / seconds / model_.host_memory) : 0;
  }

  void Compute(const Step& step, StepCost& cost) const {
    const OpCost op = CostOfStep(graph_, step);
    const bool on_host = step.lane == Lane::kHostCompute;
    cost.seconds = Measured(step);
    if (cost.seconds < 0) {
      const WorkRate& matrix = model_.matrix[graph_.table->compute_type() == DType::kBFloat16 ? 1 : 0];
      APTM_CHECK(op.flops == 0 || matrix.known(), "no matrix rate for ", Name(graph_.table->compute_type()));
      const double memory = on_host ? model_.host_adamw : model_.device_memory;
      cost.seconds = std::max(op.flops == 0 ? 0 : matrix.Seconds(op.flops), Over(op.bytes, memory, "memory traffic"));
    }
    if (!on_host && !model_.device_is_host) return;
    const bool beside = on_host && model_.device_is_host;  // one thread, exec/executor.cc
    UseCores(beside ? 1 : on_host ? Capacity(Shared::kCores) : model_.threads, cost);
    Use(cost, Shared::kHostMemory) = HostShare(op.bytes, cost.seconds);
  }

  void Move(const Step& step, StepCost& cost) const {
    const double bytes = static_cast<double>(step.dst.bytes);
    const bool file = step.lane == Lane::kFileIn || step.lane == Lane::kFileOut;
    const double rate = step.lane == Lane::kCopyIn    ? model_.to_device
                        : step.lane == Lane::kCopyOut ? model_.to_host
                        : step.lane == Lane::kFileIn  ? model_.file_read
                                                      : model_.file_write;
    cost.seconds = Measured(step);
    if (cost.seconds < 0) {
      cost.seconds =
          Over(bytes, rate, Name(step.lane)) + (file ? model_.file_latency_seconds : model_.link_latency_seconds);
    }
    // A single page does not keep a drive as busy as a deep queue does.
    if (file) Use(cost, Shared::kDrive) = std::min(1.0, bytes / cost.seconds / rate);
    if (file) UseCores(model_.file_cores, cost);
    if (!file && model_.device_is_host) UseCores(1, cost);
    // A copy inside the host's memory reads and writes it.
    Use(cost, Shared::kHostMemory) = HostShare(bytes * (!file && model_.device_is_host ? 2 : 1), cost.seconds);
  }

  // One thread reads gradients and adds them to the mailbox.
  void Deliver(const Step& step, StepCost& cost) const {
    const double bytes = 3 * static_cast<double>(step.dst.bytes);
    cost.seconds = Measured(step);
    if (cost.seconds < 0) cost.seconds = Over(bytes, model_.host_adamw, "deliveries");
    Use(cost, Shared::kCores) = 1;
    Use(cost, Shared::kHostMemory) = HostShare(bytes, cost.seconds);
  }

  double Ranks() const { return plan_.layout.world_size; }
  double RanksPerNode() const { return std::min<double>(model_.ranks_per_node, Ranks()); }
  double Nodes() const { return std::ceil(Ranks() / RanksPerNode()); }

  // on_node: participating ranks of a node. rank_bytes: bytes that each of them receives from the others of its node.
  // node_bytes: bytes that all ranks of a node together receive from other nodes.
  double NetworkSeconds(double on_node, double nodes, double rank_bytes, double node_bytes) const {
    return model_.inside_latency_seconds * std::ceil(std::log2(on_node)) +
           model_.between_latency_seconds * std::ceil(std::log2(nodes)) +
           std::max(Over(rank_bytes, model_.inside_node, "a collective inside a node"),
                    Over(node_bytes, model_.between_nodes, "a collective between nodes"));
  }

  // How many of `members` ranks that are `stride` apart are on one node.
  double OnNode(double members, double stride) const { return std::clamp(RanksPerNode() / stride, 1.0, members); }

  // Each of `members` ranks that are `stride` apart receives `bytes` from every other.
  double ExchangeSeconds(double members, double stride, double bytes) const {
    const double on_node = OnNode(members, stride);
    return NetworkSeconds(on_node, members / on_node, bytes * (on_node - 1),
                          bytes * (members - on_node) * RanksPerNode());
  }

  // The same exchange by rings: the data that a node's members need crosses its network once, and they pass it on to
  // each other.
  double RingSeconds(double members, double stride, double bytes) const {
    const double on_node = OnNode(members, stride), nodes = members / on_node;
    return NetworkSeconds(on_node, nodes, bytes * (on_node - 1) * nodes,
                          bytes * (members - on_node) * RanksPerNode() / on_node);
  }

  // The ranks that take part in the unit's collectives: all, or those with the same experts, which are neighbours.
  bool OfAllRanks(UnitId unit) const { return plan_.layout.replicas(unit) == plan_.layout.world_size; }
  WorldShape SharersOf(UnitId unit) const {
    return OfAllRanks(unit) ? plan_.layout.world() : WorldShape(plan_.layout.replicas(unit));
  }
  // Rates are measured for collectives of all ranks only.
  double MeasuredOfAll(const Step& step) const { return OfAllRanks(step.unit) ? Measured(step) : -1; }

  double GatherSeconds(double bytes, const WorldShape& world) const {
    const double own = bytes / world.size;
    if (!model_.device_is_host) return RingSeconds(world.size, 1, own);
    if (!world.has_nodes()) return ExchangeSeconds(world.size, 1, own);
    return ExchangeSeconds(world.nodes(), world.ranks_per_node, own) +
           ExchangeSeconds(world.ranks_per_node, 1, own * world.nodes());
  }

  // In a world of nodes, each node's sums are written and read again.
  double ReduceSeconds(double bytes, double own, const WorldShape& world) const {
    const double block = bytes / world.size, memory = bytes + own;
    if (!world.has_nodes()) {
      return ExchangeSeconds(world.size, 1, block) + Over(memory, model_.device_memory, "memory traffic");
    }
    const double sum = block * SizeOf(DType::kFloat32) / SizeOf(graph_.table->compute_type());
    return ExchangeSeconds(world.ranks_per_node, 1, block * world.nodes()) +
           ExchangeSeconds(world.nodes(), world.ranks_per_node, sum) +
           Over(memory + 2 * sum * world.nodes(), model_.device_memory, "memory traffic");
  }

  void Gather(const Step& step, StepCost& cost) const {
    const double bytes = static_cast<double>(step.dst.bytes);
    cost.seconds = MeasuredOfAll(step);
    if (cost.seconds < 0) cost.seconds = GatherSeconds(bytes, SharersOf(step.unit));
    Host(bytes * 2, cost);
  }

  void Reduce(const Step& step, StepCost& cost) const {
    const double bytes = static_cast<double>(step.src.bytes), own = static_cast<double>(step.dst.bytes);
    cost.seconds = MeasuredOfAll(step);
    if (cost.seconds < 0) cost.seconds = ReduceSeconds(bytes, own, SharersOf(step.unit));
    if (!micro_batch_.first) cost.seconds += Over(own, model_.device_memory, "memory traffic");
    Host(bytes + own, cost);
  }

  // An exchange between ranks with different experts, whose distance is the number of replicas of each expert.
  void Exchange(const Step& step, StepCost& cost) const {
    const double bytes = static_cast<double>(ExchangedBytes(step)), degree = plan_.layout.expert_degree;
    const double own = bytes / degree, stride = plan_.layout.world().expert_replicas();
    const bool sums = graph_.ops[step.op].kind == OpKind::kSumRows;
    cost.seconds = Measured(step);
    if (cost.seconds < 0) {
      cost.seconds =
          !sums && !model_.device_is_host ? RingSeconds(degree, stride, own) : ExchangeSeconds(degree, stride, own);
      if (sums) cost.seconds += Over(bytes + own, model_.device_memory, "memory traffic");
    }
    Host(bytes + own, cost);
  }

  // If the device is the host, collectives are copies by its cores.
  void Host(double bytes, StepCost& cost) const {
    if (!model_.device_is_host) return;
    UseCores(1, cost);
    Use(cost, Shared::kHostMemory) = HostShare(bytes, cost.seconds);
  }

  const Graph& graph_;
  const Plan& plan_;
  const CostModel& model_;
  const MicroBatchKind micro_batch_;
};

}  // namespace

double WorkRate::Seconds(double work) const {
  APTM_CHECK(known());
  const auto seconds = [](const std::pair<double, double>& point) { return point.first / point.second; };
  if (work <= points.front().first) return work / points.front().second;
  if (work >= points.back().first) return work / points.back().second;
  const auto above = std::upper_bound(points.begin(), points.end(), work,
                                      [](double w, const std::pair<double, double>& point) { return w < point.first; });
  const auto below = above - 1;
  const double along = std::log(work / below->first) / std::log(above->first / below->first);
  return seconds(*below) * std::pow(seconds(*above) / seconds(*below), along);
}

CostModel TypicalHostModel(int threads) {
  CostModel model;
  model.threads = threads;
  model.device_is_host = true;
  for (WorkRate& rate : model.matrix) rate.points = {{1e6, 20e9 * threads}, {1e8, 60e9 * threads}};
  model.device_memory = model.host_memory = 10e9 * threads;
  model.host_adamw = model.to_device = model.to_host = model.inside_node = model.between_nodes = 5e9;
  model.file_read = model.file_write = 1.5e9;
  model.launch_seconds = 1e-5;
  model.capacity[static_cast<int>(Shared::kCores)] = threads;
  return model;
}

StepWork WorkOf(const Graph& graph, const Step& step) {
  const DType type = graph.table->compute_type();
  switch (step.kind) {
    case StepKind::kCompute:
    case StepKind::kUpdate: {
      if (IsExchange(step)) {
        return {Name(graph.ops[step.op].kind), type, static_cast<double>(ExchangedBytes(step))};
      }
      const OpCost cost = CostOfStep(graph, step);
      const char* const where = step.lane == Lane::kHostCompute ? " on the host" : "";
      return {absl::StrCat(Name(graph.ops[step.op].kind), where), type, cost.flops > 0 ? cost.flops : cost.bytes};
    }
    case StepKind::kMove:
      return {Name(step.lane), type, static_cast<double>(step.dst.bytes)};
    case StepKind::kAllGather:
    case StepKind::kReduceScatter:
      return {Name(step.kind), type, static_cast<double>(ExchangedBytes(step))};
    case StepKind::kDeliver:
      return {Name(step.kind), type, static_cast<double>(step.dst.bytes)};
    case StepKind::kNorm:
      return {Name(step.kind), type, 1};
  }
  APTM_CHECK(false);
}

double ComputeSeconds(const Graph& graph, const CostModel& model) {
  const Plan no_plan;
  const Coster coster(graph, no_plan, model, {});
  double seconds = 0;
  for (OpId op = 0; op < graph.update_begin; ++op) {
    if (IsExchange(graph.ops[op].kind)) continue;
    seconds += coster.Of({.kind = StepKind::kCompute, .lane = Lane::kCompute, .op = op}).seconds;
  }
  return seconds;
}

namespace {

// The step that a plan has for an exchange op.
Step ExchangeOf(const Graph& graph, OpId op) {
  const auto place = [&](TensorId id) {
    const Tensor& tensor = graph.tensors[id];
    return Place(kNone, 0, tensor.shape.elements() * SizeOf(tensor.dtype));
  };
  Step step{.lane = Lane::kComm, .op = op};
  step.operands = {place(graph.ops[op].inputs[0])};
  if (graph.ops[op].kind == OpKind::kSumRows) step.operands.emplace_back();
  step.operands.push_back(place(graph.ops[op].outputs[0]));
  return step;
}

}  // namespace

double LeastStepSeconds(const Graph& graph, const CostModel& model, const WorldShape& world, int zero_stage,
                        int64_t micro_batches) {
  Plan plan;
  plan.layout = LayoutWithoutHomes(graph, world, zero_stage);
  const Coster coster(graph, plan, model, {});
  double rows = 0;
  for (OpId op = 0; op < graph.update_begin; ++op) {
    if (IsExchange(graph.ops[op].kind)) rows += coster.Of(ExchangeOf(graph, op)).seconds;
  }
  // Sharded parameters are gathered in every micro-batch; parameters that ranks keep whole are gathered once, after the
  // update. (A lock-free update may take several steps, so its gathers are not counted.)
  const bool for_each = IsSharded(graph.states()[kParameterState], zero_stage);
  const bool once = !for_each && zero_stage > 0 && !FindLockFreeRows(graph.states());
  double reductions = 0, gathers = 0;
  for (UnitId unit = 0; unit < static_cast<UnitId>(graph.units().size()); ++unit) {
    if (!graph.units()[unit].trainable || plan.layout.replicas(unit) == 1) continue;
    Step gather{.kind = StepKind::kAllGather, .lane = Lane::kComm, .unit = unit};
    gather.dst.bytes = plan.layout.whole_elements(unit) * SizeOf(graph.table->compute_type());
    Step reduce{.kind = StepKind::kReduceScatter, .lane = Lane::kComm, .unit = unit};
    reduce.src.bytes = gather.dst.bytes;
    gathers += for_each || once ? coster.Of(gather).seconds : 0;
    reductions += coster.Of(reduce).seconds;
  }
  const auto times = static_cast<double>(micro_batches);
  const double comm = (rows + reductions + (for_each ? gathers : 0)) * times + (once ? gathers : 0);
  return std::max(ComputeSeconds(graph, model) * times, comm);
}

std::vector<StepCost> CostsOf(const Graph& graph, const Plan& plan, const Segment& segment, const CostModel& model,
                              const MicroBatchKind& micro_batch) {
  const Coster coster(graph, plan, model, micro_batch);
  std::vector<StepCost> costs;
  costs.reserve(segment.steps.size());
  for (const Step& step : segment.steps) costs.push_back(coster.Of(step));
  return costs;
}

}  // namespace angel_ptm
