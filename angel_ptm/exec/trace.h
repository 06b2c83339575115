// What the lanes did in chosen steps, for a trace viewer.
#ifndef ANGEL_PTM_EXEC_TRACE_H_
#define ANGEL_PTM_EXEC_TRACE_H_

#include <array>
#include <cstdint>
#include <string>
#include <string_view>
#include <vector>

#include "absl/strings/str_cat.h"
#include "angel_ptm/plan/plan.h"

namespace angel_ptm {

struct TraceSpan {
  int64_t begin_ns = 0, end_ns = 0;  // of the system's clock, so that ranks lie side by side
  int64_t step = 0;                  // of training
  int32_t index = 0;                 // of the Plan's step in its segment
  std::string_view segment, name;    // must outlive the trace
};

// Thread safety: each lane adds its own spans; everything else while the lanes are idle.
class Trace {
 public:
  // Of training steps [first_step, first_step + steps), each of so many micro-batches of the plan: reserves the memory,
  // so that adding allocates nothing.
  Trace(const Plan& plan, int64_t micro_batches, int64_t first_step, int64_t steps);

  bool Wants(int64_t step) const { return step >= first_step_ && step < end_step_; }
  int64_t end_step() const { return end_step_; }
  bool empty() const;
  static int64_t Now();
  void Add(Lane lane, const TraceSpan& span);

  const std::vector<TraceSpan>& spans(Lane lane) const { return spans_[static_cast<int>(lane)]; }

  // In Chrome's trace event format (JSON), as chrome://tracing and ui.perfetto.dev read it: a process per rank, a
  // thread per lane. Two traces lie in one picture if their events are in one file and their processes differ.
  std::string ToJson(int rank) const { return ToJson(rank, absl::StrCat("rank ", rank)); }
  std::string ToJson(int process, const std::string& name) const;

 private:
  const int64_t first_step_, end_step_;
  std::array<std::vector<TraceSpan>, kLaneCount> spans_;
};

}  // namespace angel_ptm

#endif  // ANGEL_PTM_EXEC_TRACE_H_
