#include <algorithm>
#include <cstring>
#include <utility>

#include "angel_ptm/base/check.h"
#include "angel_ptm/exec/device_side.h"
#include "angel_ptm/exec/lane_backend.h"
#include "kernels/ops/add.h"
#include "kernels/ops/cast.h"
#include "kernels/ops/square_sum.h"

namespace angel_ptm {
namespace {

// Places parts in one allocation, each aligned as kernels want their operands.
class Parts {
 public:
  int64_t Add(int64_t bytes) {
    const int64_t begin = bytes_;
    bytes_ = AlignedUp(TierKind::kDevice, bytes_ + bytes);
    return begin;
  }
  int64_t bytes() const { return bytes_; }

 private:
  int64_t bytes_ = 0;
};

// There are three copies of the step's block: the device's, to which its kernels are bound; the host's, to which the
// host's updates are bound; and one in page-locked memory, through which each is told about the other. The comm lane
// writes decisions, so every update finds them, because updates come after the norm.
class DeviceBackend final : public LaneBackend {
 public:
  DeviceBackend(const Plan& plan, const Machine& machine, const NoDecay& no_decay)
      : plan_(plan), machine_(machine), side_(*machine.device_side), no_decay_(no_decay) {}

  absl::Status Reserve(const Graph& graph);

  StepBlock* BlockOf(Lane lane) override { return OnDevice(lane) ? At<StepBlock>(0) : &block_; }
  std::span<const ElementSpan> NoDecayOf(Lane lane, UnitId unit) const override {
    if (!OnDevice(lane)) return no_decay_[unit];
    return {At<ElementSpan>(no_decay_at_[unit]), no_decay_[unit].size()};
  }

  // On the compute lane's stream, so that what this lane adds comes after it, and what the comm lane adds after that.
  absl::Status ClearSums(int64_t step) override {
    return Stream(Lane::kCompute).Clear(&At<StepBlock>(0)->SumsOf(step), sizeof(StepSums));
  }
  // Goes through page-locked memory, where the data stays until the next micro-batch is fed, which happens while the
  // lanes are idle.
  absl::Status WriteInput(TensorId tensor, const void* data) override {
    const MemoryRange& range = plan_.fixed[tensor];
    if (input_at_[tensor] == kNone) return TierOf(machine_, range.tier)->Write(range.offset, data, range.bytes);
    std::byte* const locked = locked_.get() + input_at_[tensor];
    std::memcpy(locked, data, static_cast<size_t>(range.bytes));
    return Stream(Lane::kCompute).Copy(AddressOf(range), locked, range.bytes);
  }
  absl::Status ReadOutput(TensorId tensor, void* data) override {
    const MemoryRange& range = plan_.fixed[tensor];
    RETURN_IF_ERROR(Stream(Lane::kCompute).Copy(data, AddressOf(range), range.bytes));
    return Stream(Lane::kCompute).Await();
  }

  absl::Status ReadSums(int64_t step, StepSums* sums) override {
    StepSums& locked = LockedBlock()->SumsOf(step);
    RETURN_IF_ERROR(Stream(Lane::kComm).Copy(&locked, &At<StepBlock>(0)->SumsOf(step), sizeof(StepSums)));
    RETURN_IF_ERROR(Stream(Lane::kComm).Await());
    RETURN_IF_ERROR(side_.status());
    *sums = locked;
    return absl::OkStatus();
  }
  absl::Status WriteDecision(const UpdateDecision& decision) override {
    block_.decision = LockedBlock()->decision = decision;
    RETURN_IF_ERROR(
        Stream(Lane::kComm).Copy(&At<StepBlock>(0)->decision, &LockedBlock()->decision, sizeof(UpdateDecision)));
    return Stream(Lane::kComm).Await();
  }

  KernelContext ContextOf(Lane lane) override {
    KernelContext context{.threads = machine_.threads};
    if (!OnDevice(lane)) return context;
    context.stream = Stream(lane).handle();
    if (lane == Lane::kComm) {
      context.workspace = At<std::byte>(squares_at_);
      context.workspace_bytes = squares_bytes_;
    }
    return context;
  }
  absl::Status Copy(Lane lane, std::byte* dst, const std::byte* src, int64_t bytes) override {
    return Stream(lane).Copy(dst, src, bytes);
  }
  absl::Status Clear(Lane lane, std::span<std::byte> memory) override {
    return Stream(lane).Clear(memory.data(), static_cast<int64_t>(memory.size()));
  }
  absl::Status AllGather(RankGroup of, std::span<std::byte> dst, std::span<const std::byte> src, CallTag tag) override {
    return side_.collectives(of).AllGather(dst, src, tag);
  }
  absl::Status ReduceScatter(RankGroup of, const ReducedSlice& dst, const Addends& src, bool accumulate,
                             std::span<std::byte> scratch, CallTag tag) override {
    RETURN_IF_ERROR(side_.device().MakeCurrent());
    if (!side_.alone(of)) return side_.collectives(of).ReduceScatter(dst, src, accumulate, scratch, tag);
    return ReduceAlone(dst, src, accumulate);
  }
  absl::Status Finish(Lane lane) override {
    const bool is_stream = lane != Lane::kComm || OnStream();
    return is_stream ? absl::OkStatus() : Stream(lane).Await();
  }
  void BeginStep(const std::string& name) override { side_.device().api().BeginRange(name.c_str()); }
  void EndStep() override { side_.device().api().EndRange(); }
  absl::StatusOr<const void*> Show(const void* operand, int64_t bytes, std::vector<std::byte>& room) override {
    room.resize(static_cast<size_t>(bytes));
    RETURN_IF_ERROR(Stream(Lane::kCompute).Copy(room.data(), operand, bytes));
    RETURN_IF_ERROR(Stream(Lane::kCompute).Await());
    return room.data();
  }

 private:
  // How many elements are widened at a time.
  static constexpr int64_t kWidenedMax = int64_t{4} << 20;

  // The reduction of one rank: dst (+)= src, on the device. Finish waits for it.
  absl::Status ReduceAlone(const ReducedSlice& dst, const Addends& src, bool accumulate);

  // Whether the comm lane's collectives are put on its stream; all groups' are alike.
  bool OnStream() const { return !side_.alone(RankGroup::kWorld) && side_.collectives(RankGroup::kWorld).on_stream(); }
  bool OnDevice(Lane lane) const { return side_.stream(lane) != nullptr; }
  DeviceStream& Stream(Lane lane) const {
    APTM_CHECK(OnDevice(lane), Name(lane), " has no stream");
    return *side_.stream(lane);
  }
  template <typename T>
  T* At(int64_t offset) const {
    return reinterpret_cast<T*>(memory_.get() + offset);
  }
  StepBlock* LockedBlock() const { return reinterpret_cast<StepBlock*>(locked_.get()); }
  std::byte* AddressOf(const MemoryRange& range) const { return TierOf(machine_, range.tier)->data() + range.offset; }

  const Plan& plan_;
  const Machine& machine_;
  const DeviceSide& side_;
  const NoDecay& no_decay_;
  StepBlock block_;
  std::shared_ptr<std::byte> memory_, locked_;  // on the device and page-locked; both begin with a step's block
  std::vector<int64_t> no_decay_at_;            // in memory_, by unit
  int64_t squares_at_ = 0, squares_bytes_ = 0;  // in memory_
  int64_t widened_at_ = 0;                      // in memory_; for bf16 gradients of units of one rank
  std::vector<int64_t> input_at_;               // in locked_, by tensor; kNone: it is no input
};

absl::Status DeviceBackend::Reserve(const Graph& graph) {
  Parts parts, locked;
  parts.Add(sizeof(StepBlock));
  for (const auto& spans : no_decay_) {
    no_decay_at_.push_back(parts.Add(static_cast<int64_t>(spans.size() * sizeof(ElementSpan))));
  }
  for (const UnitSlices& unit : plan_.layout.slices) {
    const SquareSumArgs args{.n = unit.slice_elements};
    squares_bytes_ = std::max(squares_bytes_, machine_.kernels->square_sum.workspace_bytes(args, {machine_.threads}));
  }
  squares_at_ = parts.Add(squares_bytes_);
  if (graph.table->compute_type() == DType::kBFloat16) {
    int64_t elements_max = 0;
    for (const UnitSlices& unit : plan_.layout.slices) {
      if (unit.replicas == 1) elements_max = std::max(elements_max, unit.slice_elements);
    }
    widened_at_ = parts.Add(std::min(elements_max, kWidenedMax) * SizeOf(DType::kFloat32));
  }
  locked.Add(sizeof(StepBlock));
  for (TensorId t = 0; t < static_cast<TensorId>(graph.tensors.size()); ++t) {
    const bool input = graph.tensors[t].tensor_class == TensorClass::kInput;
    input_at_.push_back(input ? locked.Add(plan_.fixed[t].bytes) : kNone);
  }
  ASSIGN_OR_RETURN(memory_, side_.device().Memory(parts.bytes(), "the step's numbers"));
  ASSIGN_OR_RETURN(locked_, side_.device().LockedMemory(locked.bytes(), "inputs"));
  DeviceStream& stream = Stream(Lane::kCompute);
  RETURN_IF_ERROR(stream.Clear(memory_.get(), parts.bytes()));
  for (size_t unit = 0; unit < no_decay_.size(); ++unit) {
    RETURN_IF_ERROR(stream.Copy(At<ElementSpan>(no_decay_at_[unit]), no_decay_[unit].data(),
                                static_cast<int64_t>(no_decay_[unit].size() * sizeof(ElementSpan))));
  }
  return stream.Await();
}

absl::Status DeviceBackend::ReduceAlone(const ReducedSlice& dst, const Addends& src, bool accumulate) {
  const int64_t n = dst.elements();
  float* const sum = reinterpret_cast<float*>(dst.data.data());
  // Copied unchanged if that is the result: the sum of one rank's bf16 is bf16.
  if (src.type == dst.type && !accumulate) {
    return Stream(Lane::kComm).Copy(dst.data.data(), src.data.data(), n * SizeOf(src.type));
  }
  APTM_CHECK(dst.type == DType::kFloat32, "a sum is added to ", Name(dst.type));
  const KernelContext context = ContextOf(Lane::kComm);
  const auto add = [&](float* to, const void* from, int64_t count) {
    machine_.kernels->add(
        AddArgs{.y = {to}, .x = {from}, .rows = 1, .width = count, .column_end = count, .accumulate = true}, context);
  };
  const auto widen = [&](float* to, const std::byte* from, int64_t count) {
    machine_.kernels->cast(CastArgs{.y = {to}, .x = {from, src.type}, .n = count}, context);
  };
  if (src.type == DType::kFloat32) {
    add(sum, src.data.data(), n);
    return absl::OkStatus();
  }
  if (!accumulate) {
    widen(sum, src.data.data(), n);
    return absl::OkStatus();
  }
  float* const widened = At<float>(widened_at_);
  for (int64_t begin = 0; begin < n; begin += kWidenedMax) {
    const int64_t count = std::min(kWidenedMax, n - begin);
    widen(widened, src.data.data() + begin * SizeOf(src.type), count);
    add(sum + begin, widened, count);
  }
  return absl::OkStatus();
}

}  // namespace

absl::StatusOr<std::unique_ptr<LaneBackend>> MakeDeviceBackend(const Graph& graph, const Plan& plan,
                                                               const Machine& machine, const NoDecay& no_decay) {
  auto backend = std::make_unique<DeviceBackend>(plan, machine, no_decay);
  RETURN_IF_ERROR(backend->Reserve(graph));
  return backend;
}

}  // namespace angel_ptm
