#include "angel_ptm/exec/executor.h"

#include <algorithm>
#include <array>
#include <string>
#include <utility>

#include "absl/cleanup/cleanup.h"
#include "absl/strings/str_cat.h"
#include "angel_ptm/base/check.h"
#include "angel_ptm/exec/lane_backend.h"
#include "angel_ptm/exec/lock_free_updater.h"
#include "angel_ptm/exec/residency.h"
#include "angel_ptm/exec/row_exchange.h"
#include "angel_ptm/exec/step_graphs.h"
#include "angel_ptm/exec/unit_spans.h"
#include "angel_ptm/model/op_rules.h"
#include "angel_ptm/plan/plan_text.h"
#include "kernels/ops/loss_sum.h"
#include "kernels/ops/square_sum.h"

namespace angel_ptm {
namespace {

// What ranks exchange in kNorm.
struct NormMessage {
  StepSums sums;
  double vote = 0;
  int64_t jobs_finished = 0;  // of a lock-free update
};

// Where a micro-batch stands in its step: the first one overwrites the reduced gradients, the others add to them; the
// last one completes them, and their squares are summed as they are reduced.
struct MicroBatch {
  bool first = true, last = true;
};

using KernelCalls = std::vector<std::unique_ptr<const KernelCall>>;  // by step; null where there is nothing to call

class LaneExecutor : public Executor {
 public:
  LaneExecutor(const Graph& graph, const Plan& plan, const Machine& machine, const AdamWConstants& adamw)
      : graph_(graph),
        plan_(plan),
        machine_(machine),
        adamw_(adamw),
        run_step_([this](const Segment& segment, int32_t index) { return RunStep(segment, index); }),
        name_step_([this](const Segment&, int32_t index) { return NameInErrors(index); }),
        segments_(plan.segments.begin(), plan.segments.end()),
        residency_(graph, plan.layout, rank()) {}

  absl::Status Bind();

  absl::Status Run(const Program& program, int64_t step, int64_t micro_batches, const StepHooks& hooks) override;
  absl::Status RunMicroStep(int64_t step) override {
    Begin(step);
    micro_batch_ = {};
    return PlaySegment(kMicroStepSegment, step);
  }

  absl::StatusOr<NonFinite> FindNonFinite(int64_t step) override {
    RETURN_IF_ERROR(RemakeParameters(step));
    non_finite_ = {};
    check_finite_ = true;
    const absl::Status status = RunMicroStep(step);
    check_finite_ = false;
    RETURN_IF_ERROR(status);
    return non_finite_;
  }

  const StepSums& SumsOf(int64_t step) const override {
    StepSums& sums = shown_sums_[step & 1];
    failed_between_.Update(backend_->ReadSums(step, &sums));
    return sums;
  }

  LockFreeUpdater* updater() override { return updater_.get(); }

  void WriteInput(TensorId tensor, const void* data) override {
    failed_between_.Update(backend_->WriteInput(tensor, data));
  }
  void ReadOutput(TensorId tensor, void* data) const override {
    failed_between_.Update(backend_->ReadOutput(tensor, data));
  }

 private:
  int rank() const { return machine_.communicator->rank(); }
  Tier& TierOf(TierKind kind) const { return *angel_ptm::TierOf(machine_, kind); }
  std::byte* Address(const Segment& segment, const Place& place) const {
    if (place.region == kNone) return nullptr;
    return TierOf(segment.regions[place.region].range.tier).data() + OffsetOf(segment, place);
  }
  int64_t OffsetOf(const Segment& segment, const Place& place) const {
    const Region& region = segment.regions[place.region];
    const bool shifts = updater_ != nullptr && region.permanent && region.unit != kNone;
    return plan_.layout.OffsetOf(region, place, rank()) +
           (shifts ? updater_->BufferShift(region.unit, region.state) : 0);
  }
  std::span<std::byte> Bytes(const Segment& segment, const Place& place) const {
    return {Address(segment, place), static_cast<size_t>(place.bytes)};
  }
  // The training step that a plan's step belongs to: a micro-batch that plays in the same segment as an update is the
  // next step's.
  int64_t StepOf(const Step& step) const { return step_ + (playing_->of->updates && !step.in_update ? 1 : 0); }
  std::string NameInErrors(int32_t index) const {
    const CallTag tag = Tag(index);
    return absl::StrCat("rank ", rank(), ", step ", tag.step, ", ", playing_->names[index]);
  }
  CallTag Tag(int32_t index) const { return {playing_->names[index], StepOf(playing_->of->steps[index])}; }

  // A segment with everything that is worked out once.
  struct BoundSegment {
    explicit BoundSegment(const Segment& segment) : of(&segment) {}

    const Segment* of;
    KernelCalls calls;                   // by step
    KernelCalls skipped_calls;           // of updates, in a step that changes nothing
    std::vector<std::string> names;      // by step
    std::unique_ptr<StepGraphs> graphs;  // on a device; null elsewhere
    StepReplay replay;
  };
  // The sums of a step start from zero. first_expert is written again, because another plan may have overwritten it
  // since the last step: the arenas are shared.
  void Begin(int64_t step) {
    failed_between_.Update(backend_->ClearSums(step));
    if (graph_.first_expert != kNone) WriteInput(graph_.first_expert, &first_expert_);
  }
  absl::Status PlaySegment(int32_t index, int64_t step);
  absl::Status RemakeParameters(int64_t step);
  bool InParameters() const { return plan_.layout.guest_of(kParameterState) != kNoState; }

  // The ranks among which a unit's data is gathered and reduced.
  RankGroup SharersOf(UnitId unit) const {
    return plan_.layout.replicas(unit) == plan_.layout.world_size ? RankGroup::kWorld : RankGroup::kReplicas;
  }
  void BindSegment(BoundSegment& bound);

  // Called on the lanes' threads, from here on.
  absl::Status RunStep(const Segment& segment, int32_t index);
  absl::Status RunUntraced(const Segment& segment, int32_t index);
  // Does the host's part of a step, whoever puts the step's work. False if this micro-batch skips the step.
  bool Follow(const Segment& segment, int32_t index);
  // Identifies what the compute lane puts on its stream: which step's sums, which micro-batch, what updates do.
  int32_t VariantOf(bool updates) const;
  absl::Status Move(const Segment& segment, const Step& step);
  absl::Status Compute(const Segment& segment, const Step& step, int32_t index);
  absl::Status Exchange(const Segment& segment, const Step& step, int32_t index);
  absl::Status CheckOutputs(const Segment& segment, const Step& step);
  void AddLoss(const Segment& segment, const Step& step);
  absl::Status Reduce(const Segment& segment, const Step& step, int32_t index);
  absl::Status ExchangeNorm(int32_t index);
  void Update(const Step& step, int32_t index);
  void Deliver(const Segment& segment, const Step& step);

  const Graph& graph_;
  const Plan& plan_;
  const Machine machine_;
  const AdamWConstants adamw_;
  const angel_ptm::RunStep run_step_;
  const NameStep name_step_;
  std::vector<BoundSegment> segments_;  // by Plan::segments
  NoDecay no_decay_;
  std::vector<std::vector<ElementSpan>> gaps_;  // by unit: padding of the flat vector, always zero
  std::vector<NormMessage> norm_messages_;      // by rank
  std::unique_ptr<LaneBackend> backend_;
  std::unique_ptr<LockFreeUpdater> updater_;
  Residency residency_;

  int32_t first_expert_ = 0;  // the first of this rank's, where experts are split
  MicroBatch micro_batch_;
  bool check_finite_ = false;
  bool remaking_ = false;                 // no norm, nothing is updated
  bool gradients_in_parameters_ = false;  // in their place, where the two share it
  const BoundSegment* playing_ = nullptr;
  int64_t step_ = 0;
  const StepHooks* hooks_ = nullptr;
  double vote_ = 0;
  UpdateDecision decision_;                     // of the last norm
  mutable std::array<StepSums, 2> shown_sums_;  // what SumsOf has read
  mutable absl::Status failed_between_;         // of calls while the lanes were idle
  NonFinite non_finite_;
};

void LaneExecutor::BindSegment(BoundSegment& bound) {
  const Segment& segment = *bound.of;
  for (const Step& step : segment.steps) {
    bound.names.push_back(StepName(graph_, segment, step));
    bound.calls.push_back(nullptr);
    bound.skipped_calls.push_back(nullptr);
    if (step.kind != StepKind::kCompute && step.kind != StepKind::kUpdate) continue;
    std::vector<void*> operands;
    for (const Place& place : step.operands) operands.push_back(Address(segment, place));
    const Op& op = graph_.ops[step.op];
    if (step.kind == StepKind::kCompute) {
      if (!IsExchange(op.kind)) bound.calls.back() = BindKernel(graph_, op, operands);
      continue;
    }
    const Layout& layout = plan_.layout;
    const int64_t first = step.own ? layout.own_begin(step.unit, rank()) : layout.part_begin(step.unit, rank());
    const OpRules& rules = RulesOf(op.kind);
    const UpdateBinding binding = {.address = operands,
                                   .type = graph_.table->compute_type(),
                                   .gradient_type = graph_.states()[kGradientState].dtype,
                                   .begin = step.begin + first,
                                   .count = step.count,
                                   .no_decay = backend_->NoDecayOf(step.lane, step.unit),
                                   .adamw = adamw_,
                                   .decision = backend_->BlockOf(step.lane)->decision};
    bound.calls.back() = rules.bind_update(binding);
    if (rules.bind_skipped != nullptr) bound.skipped_calls.back() = rules.bind_skipped(binding);
  }
}

absl::Status LaneExecutor::Bind() {
  norm_messages_.resize(machine_.control->size());
  for (UnitId u = 0; u < static_cast<UnitId>(graph_.units().size()); ++u) {
    no_decay_.push_back(WithoutDecay(graph_, u));
    gaps_.push_back(GapsOf(graph_, plan_.layout, u));
  }
  if (machine_.device_side == nullptr) {
    backend_ = MakeHostBackend(plan_, machine_, no_decay_);
  } else {
    ASSIGN_OR_RETURN(backend_, MakeDeviceBackend(graph_, plan_, machine_, no_decay_));
  }
  for (BoundSegment& bound : segments_) {
    RETURN_IF_ERROR(CheckRegions(*bound.of, machine_));
    BindSegment(bound);
    if (machine_.device_side == nullptr) continue;
    bound.graphs = std::make_unique<StepGraphs>(*bound.of, Lane::kCompute);
    bound.replay = {.graphs = bound.graphs.get(),
                    .follow =
                        [this](const Segment& segment, int32_t index) {
                          Follow(segment, index);
                          return absl::OkStatus();
                        },
                    .variant = [this](bool updates) { return VariantOf(updates); }};
  }
  if (graph_.first_expert != kNone) {
    const int64_t place = plan_.layout.world().expert_place(rank());
    first_expert_ = static_cast<int32_t>(place * graph_.experts_of_rank);
  }
  if (plan_.sweeps.empty()) return absl::OkStatus();
  for (const Segment& sweep : plan_.sweeps) RETURN_IF_ERROR(CheckRegions(sweep, machine_));
  APTM_CHECK(machine_.device_side == nullptr, "lock-free updates of a GPU's parameters");
  updater_ = std::make_unique<LockFreeUpdater>(graph_, plan_, machine_, adamw_, no_decay_);
  return absl::OkStatus();
}

absl::Status LaneExecutor::PlaySegment(int32_t index, int64_t step) {
  RETURN_IF_ERROR(failed_between_);
  playing_ = &segments_[index];
  step_ = step;
  RETURN_IF_ERROR(machine_.lanes->Play(*playing_->of, run_step_, name_step_,
                                       playing_->graphs == nullptr ? nullptr : &playing_->replay));
  if (machine_.publish) machine_.publish(step_, {});
  residency_.ExpectAllHome();
  const bool trains = plan_.segments.size() > kUpdateSegment && !check_finite_;
  gradients_in_parameters_ = InParameters() && trains && playing_->of->computes;
  return absl::OkStatus();
}

// An update that changes nothing, if the last segment has left gradients where the parameters were: it makes the
// parameters anew.
absl::Status LaneExecutor::RemakeParameters(int64_t step) {
  if (!gradients_in_parameters_) return absl::OkStatus();
  decision_.apply = false;
  remaking_ = true;
  const absl::Status status = PlaySegment(kUpdateSegment, step);
  remaking_ = false;
  return status;
}

absl::Status LaneExecutor::Run(const Program& program, int64_t step, int64_t micro_batches, const StepHooks& hooks) {
  APTM_CHECK(micro_batches == 1 || !InParameters() || !hooks.decide, micro_batches,
             " micro-batches would read parameters whose place gradients have taken");
  hooks_ = &hooks;
  const auto feed = [&](int64_t of_step, int64_t micro) {
    if (micro == 0) Begin(of_step);
    if (micro == 0 && updater_ != nullptr) RETURN_IF_ERROR(updater_->BeginStep(of_step));
    micro_batch_ = {.first = micro == 0, .last = micro + 1 == micro_batches};
    return hooks.feed(of_step, micro);
  };
  for (const Play& play : program.plays) {
    const Segment& segment = plan_.segments[play.segment];
    if (play.times != Play::Times::kOnce) {
      for (int64_t micro = play.times == Play::Times::kEachButFirst ? 1 : 0; micro < micro_batches; ++micro) {
        RETURN_IF_ERROR(feed(step, micro));
        RETURN_IF_ERROR(PlaySegment(play.segment, step));
      }
      continue;
    }
    ASSIGN_OR_RETURN(vote_, hooks.vote ? hooks.vote() : absl::StatusOr<double>(0));
    if (segment.computes) RETURN_IF_ERROR(feed(step + 1, 0));
    RETURN_IF_ERROR(PlaySegment(play.segment, step));
    if (updater_ != nullptr) updater_->EndStep(step, decision_);
  }
  return absl::OkStatus();
}

absl::Status LaneExecutor::RunStep(const Segment& segment, int32_t index) {
  const Step& step = segment.steps[index];
  const int64_t of_step = StepOf(step);
  backend_->BeginStep(playing_->names[index]);
  const absl::Cleanup end_step = [this] { backend_->EndStep(); };
  // A diagnosis plays micro-batches again; these are not part of the step.
  if (machine_.trace == nullptr || check_finite_ || !machine_.trace->Wants(of_step)) return RunUntraced(segment, index);
  TraceSpan span{.begin_ns = Trace::Now(), .step = of_step, .index = index, .segment = segment.name};
  const absl::Status status = RunUntraced(segment, index);
  span.end_ns = Trace::Now();
  span.name = playing_->names[index];
  machine_.trace->Add(step.lane, span);
  return status;
}

bool LaneExecutor::Follow(const Segment& segment, int32_t index) {
  const Step& step = segment.steps[index];
  if (machine_.publish) machine_.publish(StepOf(step), Tag(index).what);
  if (step.when == When::kAccumulating && micro_batch_.first) return false;
  // A diagnosis leaves the parameters where they are.
  if (check_finite_ && InParameters() && step.state == kGradientState) return false;
  residency_.Follow(segment, step, /*overwrite=*/micro_batch_.first);
  return true;
}

// A diagnosis looks at every step's outputs, and a trace at its time, so both need steps to be put one by one.
int32_t LaneExecutor::VariantOf(bool updates) const {
  const bool traced = machine_.trace != nullptr && (machine_.trace->Wants(step_) || machine_.trace->Wants(step_ + 1));
  if (check_finite_ || traced) return -1;
  return static_cast<int32_t>(step_ & 1) | (micro_batch_.first ? 2 : 0) | (micro_batch_.last ? 4 : 0) |
         (updates && decision_.apply ? 8 : 0);
}

absl::Status LaneExecutor::RunUntraced(const Segment& segment, int32_t index) {
  const Step& step = segment.steps[index];
  if (!Follow(segment, index)) return absl::OkStatus();
  switch (step.kind) {
    case StepKind::kCompute:
      return step.lane == Lane::kComm ? Exchange(segment, step, index) : Compute(segment, step, index);
    case StepKind::kMove:
      return Move(segment, step);
    case StepKind::kAllGather:
      return backend_->AllGather(SharersOf(step.unit), Bytes(segment, step.dst), Bytes(segment, step.src), Tag(index));
    case StepKind::kReduceScatter:
      return Reduce(segment, step, index);
    case StepKind::kNorm:
      return ExchangeNorm(index);
    case StepKind::kUpdate:
      Update(step, index);
      return absl::OkStatus();
    case StepKind::kDeliver:
      Deliver(segment, step);
      return absl::OkStatus();
  }
  APTM_CHECK(false);
}

absl::Status LaneExecutor::Move(const Segment& segment, const Step& step) {
  const auto in_file = [&](const Place& place) { return segment.regions[place.region].range.tier == TierKind::kFile; };
  if (in_file(step.src)) {
    return machine_.file->store().Read(OffsetOf(segment, step.src), Address(segment, step.dst), step.dst.bytes);
  }
  if (in_file(step.dst)) {
    return machine_.file->store().Write(OffsetOf(segment, step.dst), Address(segment, step.src), step.src.bytes);
  }
  return backend_->Copy(step.lane, Address(segment, step.dst), Address(segment, step.src), step.src.bytes);
}

absl::Status LaneExecutor::Compute(const Segment& segment, const Step& step, int32_t index) {
  const Op& op = graph_.ops[step.op];
  KernelContext context = backend_->ContextOf(step.lane);
  if (step.operands.size() > op.inputs.size() + op.outputs.size()) {
    context.workspace = Address(segment, step.operands.back());
    context.workspace_bytes = step.operands.back().bytes;
  }
  playing_->calls[index]->Run(*machine_.kernels, context);
  if (step.op == graph_.loss) AddLoss(segment, step);
  return check_finite_ && non_finite_.op == kNone ? CheckOutputs(segment, step) : absl::OkStatus();
}

absl::Status LaneExecutor::Exchange(const Segment& segment, const Step& step, int32_t index) {
  RowExchange exchange{.op = graph_.ops[step.op]};
  const size_t inputs = exchange.op.inputs.size();
  exchange.type = graph_.tensors[exchange.op.outputs[0]].dtype;
  exchange.x = Bytes(segment, step.operands[0]);
  if (inputs > 1) exchange.base = Address(segment, step.operands[1]);
  exchange.y = Bytes(segment, step.operands[inputs]);
  if (step.operands.size() > inputs + 1) exchange.scratch = Bytes(segment, step.operands.back());
  return RunExchange(exchange, *backend_, *machine_.kernels, Tag(index));
}

absl::Status LaneExecutor::CheckOutputs(const Segment& segment, const Step& step) {
  std::vector<std::vector<std::byte>> rooms(step.operands.size());
  std::vector<const void*> operands;
  for (size_t i = 0; i < step.operands.size(); ++i) {
    const std::byte* const address = Address(segment, step.operands[i]);
    operands.push_back(address);
    if (address == nullptr) continue;
    ASSIGN_OR_RETURN(operands.back(), backend_->Show(address, step.operands[i].bytes, rooms[i]));
  }
  const TensorId tensor = NonFiniteTensor(graph_, graph_.ops[step.op], operands);
  if (tensor != kNone) non_finite_ = {step.op, tensor};
  return absl::OkStatus();
}

void LaneExecutor::AddLoss(const Segment& segment, const Step& step) {
  const Op& op = graph_.ops[step.op];
  const MemoryRange& weight = plan_.fixed[graph_.loss_weight];
  StepSums& sums = backend_->BlockOf(step.lane)->SumsOf(StepOf(step));
  KernelContext context = backend_->ContextOf(step.lane);
  context.threads = 1;
  const int64_t n = graph_.tensors[op.outputs[0]].shape.elements();
  machine_.kernels->loss_sum(LossSumArgs{.loss = &sums.loss,
                                         .first = &sums.loss_first,
                                         .weight = &sums.weight,
                                         .values = {Address(segment, step.operands[op.inputs.size()])},
                                         .batch_weight = {TierOf(weight.tier).data() + weight.offset},
                                         .n = n,
                                         .first_n = n / RulesOf(op.kind).loss_parts},
                             context);
}

absl::Status LaneExecutor::Reduce(const Segment& segment, const Step& step, int32_t index) {
  const std::span<std::byte> gradient = Bytes(segment, step.src);
  const DType type = graph_.table->compute_type();
  // Padding between and after parameters belongs to no tensor, so nobody wrote it.
  for (const ElementSpan& gap : gaps_[step.unit]) {
    RETURN_IF_ERROR(
        backend_->Clear(step.lane, gradient.subspan(gap.begin * SizeOf(type), (gap.end - gap.begin) * SizeOf(type))));
  }
  const ReducedSlice own = {Bytes(segment, step.dst), graph_.states()[step.state].dtype};
  RETURN_IF_ERROR(backend_->ReduceScatter(SharersOf(step.unit), own, {gradient, type},
                                          /*accumulate=*/!micro_batch_.first, Bytes(segment, step.scratch),
                                          Tag(index)));
  if (!micro_batch_.last) return backend_->Finish(step.lane);
  // Now rather than before the update: by then the slice may rest where it would have to be moved to be read.
  FixedPointSum* const squares = &backend_->BlockOf(step.lane)->SumsOf(StepOf(step)).squares;
  machine_.kernels->square_sum({squares, {own.data.data(), own.type}, own.elements()}, backend_->ContextOf(step.lane));
  return backend_->Finish(step.lane);
}

absl::Status LaneExecutor::ExchangeNorm(int32_t index) {
  if (remaking_) return absl::OkStatus();
  NormMessage mine{.vote = vote_, .jobs_finished = updater_ == nullptr ? 0 : updater_->finished()};
  RETURN_IF_ERROR(backend_->ReadSums(step_, &mine.sums));
  RETURN_IF_ERROR(machine_.control->AllGather(std::as_writable_bytes(std::span(norm_messages_)),
                                              std::as_bytes(std::span(&mine, 1)), Tag(index)));
  StepExchange all;
  int64_t jobs_finished = mine.jobs_finished;
  for (const NormMessage& rank : norm_messages_) {
    jobs_finished = std::min(jobs_finished, rank.jobs_finished);
    all.sums.Add(rank.sums);
    all.votes += rank.vote;
  }
  if (updater_ != nullptr) updater_->Agree(jobs_finished);
  decision_ = hooks_->decide(all);
  return backend_->WriteDecision(decision_);
}

void LaneExecutor::Update(const Step& step, int32_t index) {
  const KernelCall* const call = (decision_.apply ? playing_->calls : playing_->skipped_calls)[index].get();
  if (call == nullptr) return;
  const bool on_host = step.lane == Lane::kHostCompute;
  const KernelTable& kernels = on_host && machine_.host_kernels != nullptr ? *machine_.host_kernels : *machine_.kernels;
  call->Run(kernels, backend_->ContextOf(step.lane));
}

void LaneExecutor::Deliver(const Segment& segment, const Step& step) {
  if (!decision_.apply) return;
  // Gradients are fp32 (config/validate.cc).
  const auto floats = [&](const Place& place) {
    const std::span<std::byte> bytes = Bytes(segment, place);
    return std::span<float>{reinterpret_cast<float*>(bytes.data()), bytes.size() / sizeof(float)};
  };
  updater_->Deliver(step.unit, floats(step.dst), floats(step.src), decision_.scalars.gradient_scale);
}

}  // namespace

absl::StatusOr<std::unique_ptr<Executor>> Executor::Create(const Graph& graph, const Plan& plan, const Machine& machine,
                                                           const AdamWConstants& adamw) {
  auto executor = std::make_unique<LaneExecutor>(graph, plan, machine, adamw);
  RETURN_IF_ERROR(executor->Bind());
  return executor;
}

}  // namespace angel_ptm
