#include <algorithm>
#include <cstring>

#include "angel_ptm/base/check.h"
#include "angel_ptm/exec/lane_backend.h"

namespace angel_ptm {
namespace {

class HostBackend final : public LaneBackend {
 public:
  HostBackend(const Plan& plan, const Machine& machine, const NoDecay& no_decay)
      : plan_(plan), machine_(machine), no_decay_(no_decay) {}

  StepBlock* BlockOf(Lane) override { return &block_; }
  std::span<const ElementSpan> NoDecayOf(Lane, UnitId unit) const override { return no_decay_[unit]; }

  absl::Status ClearSums(int64_t step) override {
    block_.SumsOf(step) = {};
    return absl::OkStatus();
  }
  absl::Status WriteInput(TensorId tensor, const void* data) override {
    const MemoryRange& range = plan_.fixed[tensor];
    return TierOf(machine_, range.tier)->Write(range.offset, data, range.bytes);
  }
  absl::Status ReadOutput(TensorId tensor, void* data) override {
    const MemoryRange& range = plan_.fixed[tensor];
    return TierOf(machine_, range.tier)->Read(range.offset, data, range.bytes);
  }

  absl::Status ReadSums(int64_t step, StepSums* sums) override {
    *sums = block_.SumsOf(step);
    return absl::OkStatus();
  }
  absl::Status WriteDecision(const UpdateDecision& decision) override {
    block_.decision = decision;
    return absl::OkStatus();
  }

  void BeginStep(const std::string&) override {}
  void EndStep() override {}

  // Where the compute lane runs on the host, its cores are taken: a second OpenMP team would make both teams sleep at
  // every barrier (measured: a fifth of the step).
  KernelContext ContextOf(Lane lane) override {
    const bool beside = lane == Lane::kHostCompute && machine_.host_kernels == nullptr;
    return {.threads = lane == Lane::kComm || beside ? 1 : machine_.threads};
  }
  absl::Status Copy(Lane, std::byte* dst, const std::byte* src, int64_t bytes) override {
    std::memcpy(dst, src, static_cast<size_t>(bytes));
    return absl::OkStatus();
  }
  absl::Status Clear(Lane, std::span<std::byte> memory) override {
    std::ranges::fill(memory, std::byte{0});
    return absl::OkStatus();
  }
  absl::Status AllGather(RankGroup of, std::span<std::byte> dst, std::span<const std::byte> src, CallTag tag) override {
    return CommunicatorOf(of).AllGather(dst, src, tag);
  }
  absl::Status ReduceScatter(RankGroup of, const ReducedSlice& dst, const Addends& src, bool accumulate,
                             std::span<std::byte> scratch, CallTag tag) override {
    return OrderedReduceScatter(CommunicatorOf(of), dst, src, accumulate, scratch, tag);
  }
  absl::Status Finish(Lane) override { return absl::OkStatus(); }
  absl::StatusOr<const void*> Show(const void* operand, int64_t, std::vector<std::byte>&) override { return operand; }

 private:
  Communicator& CommunicatorOf(RankGroup group) const {
    return group == RankGroup::kWorld ? *machine_.communicator : machine_.groups->Of(group);
  }

  const Plan& plan_;
  const Machine& machine_;
  const NoDecay& no_decay_;
  StepBlock block_;
};

}  // namespace

std::unique_ptr<LaneBackend> MakeHostBackend(const Plan& plan, const Machine& machine, const NoDecay& no_decay) {
  return std::make_unique<HostBackend>(plan, machine, no_decay);
}

}  // namespace angel_ptm
