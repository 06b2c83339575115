// Checks that a Plan's programs are whole steps.
#include <algorithm>

#include "angel_ptm/plan/verify_internal.h"

namespace angel_ptm::verify {
namespace {

class ProgramCheck {
 public:
  ProgramCheck(const Graph& graph, const Plan& plan) : graph_(graph), plan_(plan) {}

  absl::Status Run() const {
    RETURN_IF_ERROR(CheckSegments());
    for (const Program& program : plan_.programs) {
      // With one micro-batch the first is also the last; of three, one is neither.
      for (const int micro_batches : {1, 3}) RETURN_IF_ERROR(CheckProgram(program, micro_batches));
      if (program.begins_next && plan_.FindProgram(/*begun=*/true, /*begins_next=*/false) == nullptr) {
        return Error("program ", program.name, " begins a step that no program ends");
      }
    }
    if (plan_.FindProgram(/*begun=*/false, /*begins_next=*/false) == nullptr)
      return Error("no program is a whole step");
    return absl::OkStatus();
  }

 private:
  template <typename... Parts>
  absl::Status Error(const Parts&... parts) const {
    return absl::InternalError(absl::StrCat("plan of graph ", graph_.name, ": ", parts...));
  }
  bool trained() const { return graph_.update_begin < static_cast<OpId>(graph_.ops.size()); }

  absl::Status CheckSegments() const {
    const size_t count = plan_.segments.size();
    if (trained() ? count != 2 && count != 3 : count != 1) return Error(count, " segments");
    for (size_t i = 0; i < count; ++i) {
      const Segment& segment = plan_.segments[i];
      if (segment.computes == (i != kUpdateSegment) && segment.updates == (i != kMicroStepSegment)) continue;
      return Error("segment ", i, " (", segment.name, ") holds other parts of the graph than its place says");
    }
    return absl::OkStatus();
  }

  absl::Status CheckProgram(const Program& program, int micro_batches) const {
    int played = program.begun ? 1 : 0, updates = 0;
    bool begins_next = false;
    for (const Play& play : program.plays) {
      if (play.segment < 0 || play.segment >= static_cast<int32_t>(plan_.segments.size())) {
        return Error("program ", program.name, " plays segment ", play.segment, " of ", plan_.segments.size());
      }
      const Segment& segment = plan_.segments[play.segment];
      if (updates > 0) return Error("program ", program.name, " plays ", segment.name, " behind the update");
      if (segment.updates != (play.times == Play::Times::kOnce)) {
        return Error("program ", program.name, " plays ", segment.name, " so many times");
      }
      updates += segment.updates ? 1 : 0;
      begins_next |= segment.updates && segment.computes;
      if (!segment.updates) played += micro_batches - (play.times == Play::Times::kEachButFirst ? 1 : 0);
    }
    if (played != micro_batches) {
      return Error("program ", program.name, " plays ", played, " of ", micro_batches, " micro-batches");
    }
    const int wanted = trained() ? 1 : 0;
    if (updates != wanted) return Error("program ", program.name, " has ", updates, " updates, wanted ", wanted);
    if (begins_next != program.begins_next) {
      return Error("program ", program.name, begins_next ? " begins" : " does not begin", " the next step");
    }
    return absl::OkStatus();
  }

  const Graph& graph_;
  const Plan& plan_;
};

}  // namespace

absl::Status CheckPrograms(const Graph& graph, const Plan& plan) { return ProgramCheck(graph, plan).Run(); }

}  // namespace angel_ptm::verify
