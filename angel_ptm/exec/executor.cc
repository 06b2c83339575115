#include "angel_ptm/exec/executor.h"

#include <cstring>
#include <string>
#include <utility>

#include "absl/strings/str_cat.h"
#include "angel_ptm/base/check.h"
#include "angel_ptm/base/text.h"
#include "angel_ptm/exec/residency.h"
#include "angel_ptm/model/op_rules.h"
#include "kernels/ops/adamw.h"
#include "kernels/ops/square_sum.h"

namespace angel_ptm {
namespace {

// The bytes ranks exchange in kNorm.
struct NormMessage {
  FixedPointSum squares;
  std::array<double, kStepPayload> payload;
};

using KernelCalls = std::vector<std::unique_ptr<const KernelCall>>;  // by step; null for steps that compute no op

class LaneExecutor : public Executor {
 public:
  LaneExecutor(const Graph& graph, const Plan& plan, const Machine& machine, const AdamWConstants& adamw)
      : graph_(graph),
        plan_(plan),
        machine_(machine),
        adamw_(adamw),
        run_step_([this](const Segment& segment, int32_t index) { return RunStep(segment, index); }),
        micro_steps_(plan.micro_step),
        update_steps_(plan.update),
        residency_(plan.layout) {}

  absl::Status Bind();

  absl::Status RunMicroStep(bool accumulate, int64_t step) override {
    accumulate_ = accumulate;
    updating_ = false;
    step_ = step;
    RETURN_IF_ERROR(machine_.lanes->Play(micro_steps_, run_step_));
    residency_.ExpectAllHome();
    return absl::OkStatus();
  }

  absl::StatusOr<NonFinite> FindNonFinite(bool accumulate, int64_t step) override {
    non_finite_ = {};
    check_finite_ = true;
    const absl::Status status = RunMicroStep(accumulate, step);
    check_finite_ = false;
    RETURN_IF_ERROR(status);
    return non_finite_;
  }

  absl::Status RunUpdate(int64_t step, const std::array<double, kStepPayload>& payload,
                         const DecideUpdate& decide) override {
    updating_ = true;
    step_ = step;
    message_ = {.payload = payload};
    decide_ = &decide;
    RETURN_IF_ERROR(machine_.lanes->Play(update_steps_, run_step_));
    residency_.ExpectAllHome();
    return absl::OkStatus();
  }

  void WriteInput(TensorId tensor, const void* data) override {
    const MemoryRange& range = plan_.fixed[tensor];
    TierOf(range.tier).Write(range.offset, data, range.bytes);
  }
  void ReadOutput(TensorId tensor, void* data) const override {
    const MemoryRange& range = plan_.fixed[tensor];
    TierOf(range.tier).Read(range.offset, data, range.bytes);
  }

 private:
  Tier& TierOf(TierKind kind) const { return kind == TierKind::kDevice ? *machine_.device : *machine_.host; }
  std::byte* Address(const Segment& segment, const Place& place) const {
    if (place.region == kNone) return nullptr;
    const MemoryRange& range = segment.regions[place.region].range;
    return TierOf(range.tier).data() + range.offset + place.begin;
  }
  std::span<std::byte> Bytes(const Segment& segment, const Place& place) const {
    return {Address(segment, place), static_cast<size_t>(place.bytes)};
  }
  static std::span<float> Floats(std::span<std::byte> bytes) {
    return {reinterpret_cast<float*>(bytes.data()), bytes.size() / 4};
  }
  CallTag Tag(int32_t index) const { return {(updating_ ? update_names_ : micro_names_)[index], step_}; }

  absl::Status CheckRegions(const Segment& segment) const;
  void BindSegment(const Segment& segment, KernelCalls& calls, std::vector<std::string>& names);
  std::string StepName(const Segment& segment, const Step& step) const;
  void BindUnits();

  // Lane threads, from here on.
  absl::Status RunStep(const Segment& segment, int32_t index);
  void Compute(const Segment& segment, const Step& step, int32_t index);
  void CheckOutputs(const Segment& segment, const Step& step);
  absl::Status Reduce(const Segment& segment, const Step& step, int32_t index);
  absl::Status ExchangeNorm(int32_t index);
  void Update(const Segment& segment, const Step& step);

  const Graph& graph_;
  const Plan& plan_;
  const Machine machine_;
  const AdamWConstants adamw_;
  const Lanes::RunStep run_step_;
  const LaneSteps micro_steps_, update_steps_;

  KernelCalls micro_calls_, update_calls_;
  std::vector<std::string> micro_names_, update_names_;  // by step
  std::vector<std::vector<ElementSpan>> no_decay_;       // by unit
  std::vector<std::vector<ElementSpan>> gaps_;           // by unit: padding of the flat vector, always zero
  std::vector<NormMessage> norm_messages_;               // by rank
  Residency residency_;

  bool accumulate_ = false, check_finite_ = false, updating_ = false;
  int64_t step_ = 0;
  NormMessage message_;
  UpdateDecision decision_;
  const DecideUpdate* decide_ = nullptr;
  NonFinite non_finite_;
};

absl::Status LaneExecutor::CheckRegions(const Segment& segment) const {
  for (const Region& region : segment.regions) {
    if (region.range.offset < 0) continue;
    const Tier& tier = TierOf(region.range.tier);
    if (region.range.offset + region.range.bytes > tier.bytes()) {
      return absl::InternalError(absl::StrCat("the plan puts ", region.label, " at ", region.range.offset, " of the ",
                                              Name(tier.kind()), " tier, which has ", FormatBytes(tier.bytes())));
    }
  }
  return absl::OkStatus();
}

std::string LaneExecutor::StepName(const Segment& segment, const Step& step) const {
  if (step.kind == StepKind::kCompute) {
    const Op& op = graph_.ops[step.op];
    return absl::StrCat(Name(op.phase), " ", Name(op.kind), " ", graph_.tensors[NamingOutput(op)].name);
  }
  if (step.kind == StepKind::kNorm) return "gradient norm";
  // Activations and micro-batch gradients, which belong to no unit's state.
  if (step.unit == kNone) return absl::StrCat("move ", segment.regions[step.src.region].label);
  return absl::StrCat(Name(step.kind), " ", graph_.units[step.unit].name, " ", Name(step.state_class));
}

void LaneExecutor::BindSegment(const Segment& segment, KernelCalls& calls, std::vector<std::string>& names) {
  for (const Step& step : segment.steps) {
    names.push_back(StepName(segment, step));
    if (step.kind != StepKind::kCompute) {
      calls.push_back(nullptr);
      continue;
    }
    std::vector<void*> operands;
    for (const Place& place : step.operands) operands.push_back(Address(segment, place));
    calls.push_back(BindKernel(graph_, graph_.ops[step.op], operands));
  }
}

void LaneExecutor::BindUnits() {
  const Layout& layout = plan_.layout;
  for (UnitId u = 0; u < static_cast<UnitId>(graph_.units.size()); ++u) {
    std::vector<ElementSpan> no_decay, gaps;
    int64_t end = 0;
    for (int32_t p : graph_.units[u].parameters) {
      const Parameter& parameter = graph_.parameters[p];
      const Tensor& tensor = graph_.tensors[parameter.tensor];
      if (tensor.unit_offset > end) gaps.push_back({end, tensor.unit_offset});
      end = tensor.unit_offset + tensor.shape.elements();
      if (!parameter.weight_decay) no_decay.push_back({tensor.unit_offset, end});
    }
    const int64_t whole = layout.slices[u].slice_elements * layout.world_size;
    if (whole > end) gaps.push_back({end, whole});
    no_decay_.push_back(std::move(no_decay));
    gaps_.push_back(std::move(gaps));
  }
}

absl::Status LaneExecutor::Bind() {
  RETURN_IF_ERROR(CheckRegions(plan_.micro_step));
  RETURN_IF_ERROR(CheckRegions(plan_.update));
  norm_messages_.resize(machine_.communicator->size());
  BindUnits();
  BindSegment(plan_.micro_step, micro_calls_, micro_names_);
  BindSegment(plan_.update, update_calls_, update_names_);
  return absl::OkStatus();
}

absl::Status LaneExecutor::RunStep(const Segment& segment, int32_t index) {
  const Step& step = segment.steps[index];
  if (machine_.publish) machine_.publish(step_, Tag(index).what);
  residency_.Follow(segment, step, updating_);
  switch (step.kind) {
    case StepKind::kCompute:
      Compute(segment, step, index);
      return absl::OkStatus();
    case StepKind::kMove:
      std::memcpy(Address(segment, step.dst), Address(segment, step.src), static_cast<size_t>(step.src.bytes));
      return absl::OkStatus();
    case StepKind::kGather:
      return machine_.communicator->AllGather(Bytes(segment, step.dst), Bytes(segment, step.src), Tag(index));
    case StepKind::kReduce:
      return Reduce(segment, step, index);
    case StepKind::kSquareSum: {
      const SquareSumArgs args{&message_.squares, {Address(segment, step.src)}, step.count};
      machine_.kernels->square_sum(args, {.threads = machine_.threads});
      return absl::OkStatus();
    }
    case StepKind::kNorm:
      return ExchangeNorm(index);
    case StepKind::kUpdate:
      Update(segment, step);
      return absl::OkStatus();
  }
  APTM_CHECK(false);
}

void LaneExecutor::Compute(const Segment& segment, const Step& step, int32_t index) {
  const Op& op = graph_.ops[step.op];
  KernelContext context{.threads = machine_.threads};
  if (step.operands.size() > op.inputs.size() + op.outputs.size()) {
    context.workspace = Address(segment, step.operands.back());
    context.workspace_bytes = step.operands.back().bytes;
  }
  micro_calls_[index]->Run(*machine_.kernels, context);
  if (check_finite_ && non_finite_.op == kNone) CheckOutputs(segment, step);
}

void LaneExecutor::CheckOutputs(const Segment& segment, const Step& step) {
  std::vector<const void*> operands;
  for (const Place& place : step.operands) operands.push_back(Address(segment, place));
  const TensorId tensor = NonFiniteTensor(graph_, graph_.ops[step.op], operands);
  if (tensor != kNone) non_finite_ = {step.op, tensor};
}

absl::Status LaneExecutor::Reduce(const Segment& segment, const Step& step, int32_t index) {
  const std::span<float> gradient = Floats(Bytes(segment, step.src));
  // Padding between and behind parameters belongs to no tensor, so nobody wrote it.
  for (const ElementSpan& gap : gaps_[step.unit]) {
    std::memset(gradient.data() + gap.begin, 0, static_cast<size_t>(gap.end - gap.begin) * 4);
  }
  return machine_.communicator->ReduceScatterOrdered(Floats(Bytes(segment, step.dst)), gradient, accumulate_,
                                                     Bytes(segment, step.scratch), Tag(index));
}

absl::Status LaneExecutor::ExchangeNorm(int32_t index) {
  const std::span<const std::byte> own(reinterpret_cast<const std::byte*>(&message_), sizeof(message_));
  const std::span<std::byte> all(reinterpret_cast<std::byte*>(norm_messages_.data()),
                                 norm_messages_.size() * sizeof(NormMessage));
  RETURN_IF_ERROR(machine_.communicator->AllGather(all, own, Tag(index)));
  StepExchange exchange;
  for (const NormMessage& message : norm_messages_) {
    exchange.squares.Add(message.squares);
    for (int i = 0; i < kStepPayload; ++i) exchange.payload[i] += message.payload[i];
  }
  decision_ = (*decide_)(exchange);
  return absl::OkStatus();
}

void LaneExecutor::Update(const Segment& segment, const Step& step) {
  if (!decision_.apply) return;
  const std::vector<ElementSpan>& no_decay = no_decay_[step.unit];
  machine_.kernels->adamw({.param = {Address(segment, step.operands[0])},
                           .m = {Address(segment, step.operands[1])},
                           .v = {Address(segment, step.operands[2])},
                           .grad = {Address(segment, step.operands[3])},
                           .n = step.count,
                           .unit_offset = step.begin,
                           .no_decay = no_decay.data(),
                           .no_decay_count = static_cast<int64_t>(no_decay.size()),
                           .scalars = &decision_.scalars,
                           .beta1 = adamw_.beta1,
                           .beta2 = adamw_.beta2,
                           .epsilon = adamw_.epsilon,
                           .weight_decay = adamw_.weight_decay},
                          {.threads = machine_.threads});
}

}  // namespace

absl::StatusOr<std::unique_ptr<Executor>> Executor::Create(const Graph& graph, const Plan& plan, const Machine& machine,
                                                           const AdamWConstants& adamw) {
  auto executor = std::make_unique<LaneExecutor>(graph, plan, machine, adamw);
  RETURN_IF_ERROR(executor->Bind());
  return executor;
}

std::vector<StateView> StateViews(const Layout& layout, const Machine& machine) {
  std::vector<StateView> views;
  for (const Home& home : layout.homes) {
    if (home.elements == 0) continue;
    Tier& tier = home.range.tier == TierKind::kDevice ? *machine.device : *machine.host;
    const std::span<float> stored(reinterpret_cast<float*>(tier.data() + home.range.offset),
                                  static_cast<size_t>(home.elements));
    const int64_t slice = layout.slices[home.unit].slice_elements, begin = slice * layout.rank;
    const bool sharded = IsSharded(home.state_class, layout.zero_stage);
    views.push_back({home.unit, home.state_class, begin, stored.subspan(sharded ? 0 : begin, slice), stored});
  }
  return views;
}

}  // namespace angel_ptm
