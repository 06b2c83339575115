#include "angel_ptm/exec/executor.h"

#include <algorithm>
#include <cstring>
#include <limits>
#include <string>
#include <utility>

#include "absl/strings/str_cat.h"
#include "angel_ptm/base/check.h"
#include "angel_ptm/base/text.h"
#include "angel_ptm/exec/kernel_call.h"
#include "angel_ptm/exec/residency.h"
#include "comm/ordered_reduce_scatter.h"

namespace angel_ptm {
namespace {

// The bytes ranks exchange in kNorm.
struct NormMessage {
  FixedPointSum squares;
  std::array<double, kStepPayload> payload;
};

bool AllFinite(const float* values, int64_t n) {
  // A sum of zeros unless some value is infinite or NaN; vectorises, unlike an early exit.
  float poison[16] = {};
  int64_t i = 0;
  for (; i + 16 <= n; i += 16) {
    for (int l = 0; l < 16; ++l) poison[l] += values[i + l] * 0.0f;
  }
  for (; i < n; ++i) poison[0] += values[i] * 0.0f;
  for (float p : poison) {
    if (p != 0.0f) return false;
  }
  return true;
}

// The input slot of active_blocks of ops whose first output are padded expert rows (model/op_kind.h).
int ActiveBlocksSlot(OpKind kind) {
  switch (kind) {
    case OpKind::kDispatch:
    case OpKind::kSwigluGrad:
      return 2;
    case OpKind::kSwiglu:
      return 1;
    case OpKind::kGroupedMatmul:
      return 3;
    case OpKind::kCombineGrad:
      return 4;
    default:
      return kNone;
  }
}

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
    return Play(micro_steps_);
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
    return Play(update_steps_);
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

  absl::Status Play(const LaneSteps& steps) {
    RETURN_IF_ERROR(machine_.lanes->Play(steps, run_step_));
    if (machine_.publish) machine_.publish(step_, {});
    residency_.ExpectAllHome();
    return absl::OkStatus();
  }
  absl::Status CheckRegions(const Segment& segment) const;
  void BindSegment(const Segment& segment, std::vector<KernelArgs>& calls, std::vector<std::string>& names);
  std::string StepName(const Segment& segment, const Step& step) const;
  void BindUnits();

  // Lane threads, from here on.
  absl::Status RunStep(const Segment& segment, int32_t index);
  void Compute(const Segment& segment, const Step& step, int32_t index);
  void CheckOutputs(const Segment& segment, const Step& step);
  bool OutputIsFinite(const Segment& segment, const Step& step, size_t output) const;
  TensorId NonFiniteParameter(const Segment& segment, const Step& step) const;
  int64_t ElementsInUse(const Segment& segment, const Step& step, size_t output) const;
  absl::Status Reduce(const Segment& segment, const Step& step, int32_t index);
  absl::Status ExchangeNorm(int32_t index);
  void Update(const Segment& segment, const Step& step);

  const Graph& graph_;
  const Plan& plan_;
  const Machine machine_;
  const AdamWConstants adamw_;
  const Lanes::RunStep run_step_;
  const LaneSteps micro_steps_, update_steps_;

  std::vector<KernelArgs> micro_calls_, update_calls_;   // by step
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

void LaneExecutor::BindSegment(const Segment& segment, std::vector<KernelArgs>& calls,
                               std::vector<std::string>& names) {
  for (const Step& step : segment.steps) {
    names.push_back(StepName(segment, step));
    if (step.kind != StepKind::kCompute) {
      calls.emplace_back();
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
  Run(*machine_.kernels, micro_calls_[index], context);
  if (check_finite_ && non_finite_.op == kNone) CheckOutputs(segment, step);
}

void LaneExecutor::CheckOutputs(const Segment& segment, const Step& step) {
  const Op& op = graph_.ops[step.op];
  for (size_t i = 0; i < op.outputs.size(); ++i) {
    const TensorId t = op.outputs[i];
    if (t == kNone || graph_.tensors[t].dtype != DType::kFloat32 || OutputIsFinite(segment, step, i)) continue;
    const TensorId parameter = NonFiniteParameter(segment, step);
    non_finite_ = {step.op, parameter != kNone ? parameter : t};
    return;
  }
}

bool LaneExecutor::OutputIsFinite(const Segment& segment, const Step& step, size_t output) const {
  const Op& op = graph_.ops[step.op];
  const Place& place = step.operands[op.inputs.size() + output];
  const auto* values = reinterpret_cast<const float*>(Address(segment, place));
  if (op.kind != OpKind::kAttentionGrad || output != 2) {
    return AllFinite(values, std::min(place.bytes / 4, ElementsInUse(segment, step, output)));
  }
  // Writes the value columns only, the last ones of a row; the op that writes the others follows.
  const Shape& shape = graph_.tensors[op.outputs[output]].shape;
  const int64_t row = shape.elements() / shape[0], columns = op.attrs.kv_heads * op.attrs.head_dim;
  for (int64_t r = 1; r <= shape[0]; ++r) {
    if (!AllFinite(values + r * row - columns, columns)) return false;
  }
  return true;
}

TensorId LaneExecutor::NonFiniteParameter(const Segment& segment, const Step& step) const {
  const Op& op = graph_.ops[step.op];
  for (size_t i = 0; i < op.inputs.size(); ++i) {
    if (op.inputs[i] == kNone || graph_.tensors[op.inputs[i]].tensor_class != TensorClass::kParameter) continue;
    const std::span<const float> values = Floats(Bytes(segment, step.operands[i]));
    if (!AllFinite(values.data(), static_cast<int64_t>(values.size()))) return op.inputs[i];
  }
  return kNone;
}

// Rows of padded expert buffers behind the last block in use hold no data.
int64_t LaneExecutor::ElementsInUse(const Segment& segment, const Step& step, size_t output) const {
  const Op& op = graph_.ops[step.op];
  const int slot = output == 0 ? ActiveBlocksSlot(op.kind) : kNone;
  if (slot == kNone || op.inputs[slot] == kNone) return std::numeric_limits<int64_t>::max();
  int32_t active_blocks = 0;
  std::memcpy(&active_blocks, Address(segment, step.operands[slot]), sizeof(active_blocks));
  const Shape& rows = graph_.tensors[op.outputs[output]].shape;
  return active_blocks * op.attrs.block_rows * (rows.elements() / rows[0]);
}

absl::Status LaneExecutor::Reduce(const Segment& segment, const Step& step, int32_t index) {
  const std::span<float> gradient = Floats(Bytes(segment, step.src));
  // Padding between and behind parameters belongs to no tensor, so nobody wrote it.
  for (const ElementSpan& gap : gaps_[step.unit]) {
    std::memset(gradient.data() + gap.begin, 0, static_cast<size_t>(gap.end - gap.begin) * 4);
  }
  return OrderedReduceScatter(*machine_.communicator, Floats(Bytes(segment, step.dst)), gradient, accumulate_,
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

std::string Describe(const Graph& graph, const NonFinite& found) {
  const Op& op = graph.ops[found.op];
  const Tensor& tensor = graph.tensors[found.tensor];
  const bool read = tensor.tensor_class == TensorClass::kParameter;
  return absl::StrCat(read ? "parameter " : "", tensor.name, read ? ", read by " : ", written by ", Name(op.phase), " ",
                      Name(op.kind));
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
