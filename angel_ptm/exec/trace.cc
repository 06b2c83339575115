#include "angel_ptm/exec/trace.h"

#include <algorithm>
#include <chrono>

#include "absl/strings/str_format.h"
#include "angel_ptm/base/check.h"

namespace angel_ptm {
namespace {

// Names come from the model and the plan: of the characters that JSON wants escaped they hold only quotes and
// backslashes.
std::string Quoted(std::string_view name) {
  std::string text = "\"";
  for (const char c : name) {
    if (c == '"' || c == '\\') text += '\\';
    text += static_cast<unsigned char>(c) < ' ' ? '?' : c;
  }
  return text + "\"";
}

// Nanoseconds in the format's unit, microseconds.
std::string Microseconds(int64_t ns) { return absl::StrFormat("%d.%03d", ns / 1000, ns % 1000); }

}  // namespace

Trace::Trace(const Plan& plan, int64_t micro_batches, int64_t first_step, int64_t steps)
    : first_step_(first_step), end_step_(first_step + steps) {
  // An upper bound: a segment that holds both parts replaces the two separate ones, but may have more moves.
  std::array<int64_t, kLaneCount> in_step = {};
  for (const Segment& segment : plan.segments) {
    for (const Step& step : segment.steps) in_step[static_cast<int>(step.lane)] += segment.updates ? 1 : micro_batches;
  }
  // A unit's jobs in a step: one that the bound on staleness demands, one after it, one more where the step drains.
  constexpr int64_t kJobsMax = 3;
  std::array<int64_t, kLaneCount> in_sweeps = {};
  for (const Segment& sweep : plan.sweeps) {
    for (const Step& step : sweep.steps) in_sweeps[static_cast<int>(step.lane)] += kJobsMax;
  }
  for (int lane = 0; lane < kLaneCount; ++lane) {
    rows_[lane].Reserve(in_step[lane] * steps);
    rows_[kLaneCount + lane].Reserve(in_sweeps[lane] * steps);
  }
}

bool Trace::empty() const {
  return std::all_of(rows_.begin(), rows_.end(), [](const Row& row) { return row.spans().empty(); });
}

int64_t Trace::Now() {
  return std::chrono::duration_cast<std::chrono::nanoseconds>(std::chrono::system_clock::now().time_since_epoch())
      .count();
}

void Trace::Row::Add(const TraceSpan& span) {
  const size_t used = used_.load(std::memory_order_relaxed);
  APTM_CHECK(used < spans_.size(), "more steps than the plan has");
  spans_[used] = span;
  used_.store(used + 1, std::memory_order_release);
}

std::string Trace::ToJson(int process, const std::string& name) const {
  std::string text = "{\"displayTimeUnit\": \"ms\", \"traceEvents\": [\n";
  absl::StrAppendFormat(&text, R"({"ph": "M", "name": "process_name", "pid": %d, "args": {"name": %s}})", process,
                        Quoted(name));
  for (int row = 0; row < static_cast<int>(rows_.size()); ++row) {
    const bool of_sweeps = row >= kLaneCount;
    const std::span<const TraceSpan> spans = rows_[row].spans();
    if (of_sweeps && spans.empty()) continue;
    absl::StrAppendFormat(&text,
                          ",\n"
                          R"({"ph": "M", "name": "thread_name", "pid": %d, "tid": %d, "args": {"name": "%s%s"}})",
                          process, row, of_sweeps ? "lock-free " : "", Name(static_cast<Lane>(row % kLaneCount)));
    for (const TraceSpan& span : spans) {
      absl::StrAppendFormat(
          &text,
          ",\n"
          R"({"ph": "X", "name": %s, "cat": %s, "pid": %d, "tid": %d, "ts": %s, "dur": %s, "args": {"step": %d, "index": %d}})",
          Quoted(span.name), Quoted(span.segment), process, row, Microseconds(span.begin_ns),
          Microseconds(std::max<int64_t>(0, span.end_ns - span.begin_ns)), span.step, span.index);
    }
  }
  return text + "\n]}\n";
}

}  // namespace angel_ptm
