// What the lanes did in chosen steps, for a trace viewer.
#ifndef ANGEL_PTM_EXEC_TRACE_H_
#define ANGEL_PTM_EXEC_TRACE_H_

#include <array>
#include <atomic>
#include <cstdint>
#include <span>
#include <string>
#include <string_view>
#include <vector>

#include "absl/strings/str_cat.h"
#include "angel_ptm/plan/plan.h"

namespace angel_ptm {

struct TraceSpan {
  int64_t begin_ns = 0, end_ns = 0;  // by the system's clock, so that ranks can be compared
  int64_t step = 0;                  // of training
  int32_t index = 0;                 // of the Plan's step in its segment
  std::string_view segment, name;    // must outlive the trace
};

// Thread safety: each lane adds its own spans; everything else is called while the lanes are idle. The lanes of a
// lock-free update are never waited for: the trace has what they have added so far.
class Trace {
 public:
  // Traces training steps [first_step, first_step + steps), each of `micro_batches` micro-batches of the plan, and
  // sweeps begun in them. Reserves the memory, so that adding allocates nothing.
  Trace(const Plan& plan, int64_t micro_batches, int64_t first_step, int64_t steps);

  bool Wants(int64_t step) const { return step >= first_step_ && step < end_step_; }
  int64_t end_step() const { return end_step_; }
  bool empty() const;
  static int64_t Now();
  void Add(Lane lane, const TraceSpan& span) { rows_[static_cast<int>(lane)].Add(span); }
  // Adds a span of a lane of the lock-free update; span.step is the step in which its job was begun.
  void AddOfSweep(Lane lane, const TraceSpan& span) { rows_[kLaneCount + static_cast<int>(lane)].Add(span); }

  std::span<const TraceSpan> spans(Lane lane) const { return rows_[static_cast<int>(lane)].spans(); }
  std::span<const TraceSpan> spans_of_sweeps(Lane lane) const {
    return rows_[kLaneCount + static_cast<int>(lane)].spans();
  }

  // In Chrome's trace event format (JSON), as chrome://tracing and ui.perfetto.dev read it: a process per rank, a
  // thread per lane, and one more for each lane that sweeps use. Two traces appear in one picture if their events are
  // in one file and their processes differ.
  std::string ToJson(int rank) const { return ToJson(rank, absl::StrCat("rank ", rank)); }
  std::string ToJson(int process, const std::string& name) const;

 private:
  // One thread adds, others may look.
  class Row {
   public:
    void Reserve(int64_t count) { spans_.resize(static_cast<size_t>(count)); }
    void Add(const TraceSpan& span);
    std::span<const TraceSpan> spans() const { return {spans_.data(), used_.load(std::memory_order_acquire)}; }

   private:
    std::vector<TraceSpan> spans_;  // those from used_ on are not there yet
    std::atomic<size_t> used_ = 0;
  };

  const int64_t first_step_, end_step_;
  std::array<Row, 2 * kLaneCount> rows_;  // by lane; then those of sweeps
};

}  // namespace angel_ptm

#endif  // ANGEL_PTM_EXEC_TRACE_H_
