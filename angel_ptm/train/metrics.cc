#include "angel_ptm/train/metrics.h"

#include <algorithm>
#include <cmath>

#include "absl/strings/str_cat.h"
#include "absl/strings/str_format.h"
#include "absl/strings/str_join.h"
#include "angel_ptm/base/text.h"

namespace angel_ptm {
namespace {

// JSON has no infinities or NaNs; they become strings.
std::string Number(double value) {
  return std::isfinite(value) ? FormatExact(value) : absl::StrCat("\"", FormatExact(value), "\"");
}

std::string LagJson(const StepMetrics& m) {
  int64_t units = 0, lags = 0, most = 0;
  for (size_t lag = 0; lag < m.units_by_lag.size(); ++lag) {
    units += m.units_by_lag[lag];
    lags += static_cast<int64_t>(lag) * m.units_by_lag[lag];
    if (m.units_by_lag[lag] > 0) most = static_cast<int64_t>(lag);
  }
  if (units == 0) return "";
  return absl::StrCat(", \"units_by_lag\": [", absl::StrJoin(m.units_by_lag, ", "),
                      "], \"lag_mean\": ", Number(static_cast<double>(lags) / static_cast<double>(units)),
                      ", \"lag_max\": ", most, ", \"update_wait_seconds\": ", Number(m.update_wait_seconds),
                      m.fell_back ? ", \"fell_back\": true" : "");
}

}  // namespace

std::string BusyKey(Lane lane) {
  std::string key = absl::StrCat("busy_", Name(lane));
  std::replace(key.begin(), key.end(), '-', '_');
  return key;
}

std::string ToJson(const StepMetrics& m) {
  std::string json = absl::StrCat(
      "{\"step\": ", m.step, ", \"loss\": ", Number(m.loss), ", \"grad_norm\": ", Number(m.grad_norm),
      ", \"learning_rate\": ", Number(m.learning_rate), ", \"tokens_per_second\": ", Number(m.tokens_per_second),
      ", \"peak_fraction\": ", Number(m.peak_fraction), ", \"seconds\": ", Number(m.seconds),
      ", \"tflops\": ", Number(m.tflops));
  for (const TierKind tier : kAllTiers) {
    absl::StrAppend(&json, ", \"", Name(tier), "_bytes\": ", m.tier_bytes[static_cast<int>(tier)]);
  }
  for (int lane = 0; lane < kLaneCount; ++lane) {
    absl::StrAppend(&json, ", \"", BusyKey(static_cast<Lane>(lane)), "\": ", Number(m.busy_seconds[lane]));
  }
  if (m.skipped) absl::StrAppend(&json, ", \"skipped\": true");
  json += LagJson(m);
  for (const TaskNumber& n : m.step_numbers) absl::StrAppend(&json, ", \"", n.name, "\": ", Number(n.value));
  if (m.validation_loss) absl::StrAppend(&json, ", \"validation_loss\": ", Number(*m.validation_loss));
  for (const TaskNumber& n : m.validation_numbers) absl::StrAppend(&json, ", \"", n.name, "\": ", Number(n.value));
  return json + "}";
}

std::string ProgressLine(const StepMetrics& m, const ProgressContext& context) {
  std::string line = absl::StrFormat("step %d/%d  loss %.4f", m.step, context.total_steps, m.loss);
  if (m.validation_loss) {
    absl::StrAppend(&line, absl::StrFormat("  validation %.4f", *m.validation_loss));
    for (const TaskNumber& n : m.validation_numbers) absl::StrAppend(&line, " (", n.text, ")");
  }
  std::string memory = FormatBytes(m.tier_bytes[static_cast<int>(TierKind::kDevice)]);
  for (const TierKind tier : {TierKind::kHost, TierKind::kFile}) {
    const int64_t bytes = m.tier_bytes[static_cast<int>(tier)];
    if (bytes > 0) absl::StrAppend(&memory, " + ", FormatBytes(bytes), " ", Name(tier));
  }
  absl::StrAppendFormat(&line, "  grad_norm %.3f  lr %.2e  memory %s  tps %s  tflops %.3g  mfu %.1f%%", m.grad_norm,
                        m.learning_rate, memory, FormatCount(m.tokens_per_second), m.tflops, 100 * m.peak_fraction);
  for (const TaskNumber& n : m.step_numbers) absl::StrAppend(&line, "  ", n.text);
  for (size_t lag = 0; lag < m.units_by_lag.size(); ++lag) {
    if (lag == 0) line += "  units by lag";
    if (m.units_by_lag[lag] > 0) absl::StrAppend(&line, " ", lag, ":", m.units_by_lag[lag]);
  }
  const double left = static_cast<double>(context.total_steps - 1 - m.step) * context.seconds_per_step;
  absl::StrAppend(&line, "  ETA ", FormatSeconds(left));
  if (m.skipped) absl::StrAppend(&line, "  SKIPPED: non-finite");
  return line;
}

}  // namespace angel_ptm
