#include "angel_ptm/train/report/plots.h"

#include <algorithm>
#include <cmath>
#include <limits>

#include "absl/strings/str_cat.h"
#include "angel_ptm/base/text.h"
#include "angel_ptm/plan/plan.h"
#include "angel_ptm/train/metrics.h"

namespace angel_ptm {
namespace {

constexpr double kNan = std::numeric_limits<double>::quiet_NaN();

struct CurveSpec {
  const char* key;
  const char* suffix;  // follows the run's name
  bool dashed;
  bool every_step;  // steps without the key are a gap
  double scale;     // factor on the values drawn
};

struct ComparisonSpec {
  const char* id;
  const char* title;
  const char* y;
  std::vector<CurveSpec> curves;
  const char* why_none;  // follows "<run> has no such data: "
};

const std::vector<ComparisonSpec>& Comparisons() {
  static const std::vector<ComparisonSpec> comparisons = {
      {"loss",
       "Loss",
       "nats per token",
       {{"loss", "", false, true, 1}, {"validation_loss", " (validation)", true, false, 1}},
       "no step has a line yet"},
      {"loss-parts",
       "Parts of the loss",
       "of a micro-batch",
       {{"loss_mse", " (squared error)", false, true, 1}, {"loss_bound", " (variational bound)", true, true, 1}},
       "no variance is learned (variance_weight)"},
      {"validation",
       "Validation",
       "bits per byte",
       {{"validation_bits_per_byte", "", false, false, 1}},
       "no step was evaluated (evaluation.every_steps)"},
      {"throughput",
       "Throughput",
       "tokens/s of all ranks",
       {{"tokens_per_second", "", false, true, 1}},
       "no step has a line yet"},
      {"mfu",
       "Share of the measured matrix peak",
       "percent",
       {{"peak_fraction", "", false, true, 100}},
       "no step has a line yet"},
      {"gradient-norm",
       "Gradient norm",
       "before clipping",
       {{"grad_norm", "", false, true, 1}},
       "no step has a line yet"},
      {"learning-rate", "Learning rate", "", {{"learning_rate", "", false, true, 1}}, "no step has a line yet"},
      {"expert-balance",
       "Expert balance",
       "fullest over mean, worst layer",
       {{"expert_balance", "", false, true, 1}},
       "the model has no routed experts"},
      {"staleness",
       "Staleness of parameters",
       "steps",
       {{"lag_mean", "", false, true, 1}, {"lag_max", " (most)", true, true, 1}},
       "the update is synchronous (optimizer.update)"},
  };
  return comparisons;
}

PlotSeries SeriesOf(const Curve& curve, const CurveSpec& spec, const std::string& name, int run) {
  PlotSeries series{.name = name, .run = run, .dashed = spec.dashed};
  const CurvePoint* before = nullptr;
  for (const CurvePoint& point : curve.points()) {
    if (spec.every_step && before != nullptr && point.first_step > before->last_step + 1) {
      series.points.emplace_back(static_cast<double>(before->last_step + point.first_step) / 2, kNan);
    }
    series.points.emplace_back(static_cast<double>(point.first_step + point.last_step) / 2, spec.scale * point.mean());
    before = &point;
  }
  return series;
}

Plot Compare(const ComparisonSpec& spec, const std::vector<RunReport>& runs) {
  Plot plot{.id = spec.id, .title = spec.title, .x = "step", .y = spec.y};
  for (size_t r = 0; r < runs.size(); ++r) {
    int64_t steps_per_point = 1, drawn = 0;
    for (const CurveSpec& curve_spec : spec.curves) {
      const Curve* curve = runs[r].history.Find(curve_spec.key);
      if (curve == nullptr) continue;
      plot.series.push_back(SeriesOf(*curve, curve_spec, runs[r].name + curve_spec.suffix, static_cast<int>(r)));
      steps_per_point = std::max(steps_per_point, curve->steps_per_point());
      for (const auto& [x, y] : plot.series.back().points) drawn += std::isfinite(y) ? 1 : 0;
    }
    if (drawn == 0) {
      const bool seen = !plot.series.empty() && plot.series.back().run == static_cast<int>(r);
      plot.notes.push_back(absl::StrCat(runs[r].name, " has no such data: ",
                                        seen                           ? "no value is a finite number"
                                        : runs[r].history.lines() == 0 ? "no step has a line yet"
                                                                       : spec.why_none,
                                        "."));
    } else if (steps_per_point > 1) {
      plot.notes.push_back(absl::StrCat(runs[r].name, ": a point is the mean of ", steps_per_point, " steps."));
    }
  }
  return plot;
}

Plot BusyLanes(const RunReport& run, int index) {
  Plot plot{.id = absl::StrCat("lanes-", index),
            .title = "Where step time goes: " + run.name,
            .x = "step",
            .y = "percent of the step's time"};
  const Curve* seconds = run.history.Find("seconds");
  for (int lane = 0; lane < kLaneCount && seconds != nullptr; ++lane) {
    const Curve* busy = run.history.Find(BusyKey(static_cast<Lane>(lane)));
    // Lines of the same program, so both curves have the same steps.
    if (busy == nullptr || busy->points().size() != seconds->points().size()) continue;
    PlotSeries& series = plot.series.emplace_back(PlotSeries{.name = Name(static_cast<Lane>(lane)), .run = lane});
    for (size_t i = 0; i < busy->points().size(); ++i) {
      const CurvePoint& point = seconds->points()[i];
      series.points.emplace_back(static_cast<double>(point.first_step + point.last_step) / 2,
                                 100 * busy->points()[i].mean() / point.mean());
    }
  }
  plot.notes.push_back(
      plot.points() == 0 ? run.history.lines() == 0 ? "No step has a line yet."
                                                    : "metrics.jsonl has no busy seconds: an older program wrote it."
                         : "Time for which rank 0's lanes are busy. They work in parallel, so the sum may exceed 100.");
  return plot;
}

Plot Memory(const RunReport& run, const TierTimeline& tier, int index) {
  Plot plot{.id = absl::StrCat("memory-", tier.tier, "-", index),
            .kind = Plot::Kind::kStacked,
            .title = absl::StrCat("Memory over a step, ", tier.tier, " tier of a rank: ", run.name),
            .x = "step of the plan",
            .y = "MiB"};
  for (size_t c = 0; c < tier.classes.size(); ++c) {
    PlotSeries& series =
        plot.series.emplace_back(PlotSeries{.name = tier.classes[c].first, .run = static_cast<int>(c)});
    for (size_t i = 0; i < tier.steps.size(); ++i) {
      series.points.emplace_back(static_cast<double>(tier.steps[i]),
                                 static_cast<double>(tier.classes[c].second[i]) / (1 << 20));
    }
  }
  plot.notes.push_back(absl::StrCat("As planned, and therefore the same in every step: ", FormatBytes(tier.arena_bytes),
                                    " are reserved. A micro-batch comes first; the update begins at step ",
                                    tier.update_begin, "."));
  return plot;
}

void AddMemory(const RunReport& run, int index, std::vector<Plot>* plots) {
  if (run.sheet && !run.sheet->memory.empty()) {
    for (const TierTimeline& tier : run.sheet->memory) plots->push_back(Memory(run, tier, index));
    return;
  }
  plots->push_back({.id = absl::StrCat("memory-", index),
                    .kind = Plot::Kind::kStacked,
                    .title = "Memory over a step: " + run.name,
                    .notes = {"run.json is missing or cannot be read: an older program wrote the run, or the run has "
                              "not begun its first step."}});
}

std::vector<std::string> Numbered(const char* what, size_t count) {
  std::vector<std::string> names;
  for (size_t i = 0; i < count; ++i) names.push_back(absl::StrCat(what, i));
  return names;
}

Plot ExpertsNow(const RunReport& run, int index) {
  Plot plot{.id = absl::StrCat("experts-", index),
            .kind = Plot::Kind::kHeat,
            .title = "Expert load: " + run.name,
            .x = "expert",
            .y = "layer with experts"};
  if (run.experts.last_step() >= 0) {
    size_t experts = 0;
    for (const auto& layer : run.experts.loads()) experts = std::max(experts, layer.size());
    plot.heat = {.rows = Numbered("", run.experts.loads().size()),
                 .columns = Numbered("", experts),
                 .values = run.experts.loads()};
    plot.notes.push_back(absl::StrCat("Tokens of each expert divided by the mean of its layer, over all ranks in step ",
                                      run.experts.last_step(), "; 1 means an even load."));
  } else if (run.history.Find("expert_balance") == nullptr && run.history.lines() > 0) {
    plot.notes.push_back("The model has no routed experts.");
  } else {
    plot.notes.push_back("experts.jsonl has no lines yet: every step with a progress line writes one.");
  }
  return plot;
}

Plot ExpertsOverSteps(const RunReport& run, int index) {
  Plot plot{.id = absl::StrCat("experts-over-steps-", index),
            .kind = Plot::Kind::kHeat,
            .title = "Fullest expert of each layer over the steps: " + run.name,
            .x = "step",
            .y = "layer with experts"};
  const std::vector<Curve>& fullest = run.experts.fullest();
  plot.heat.rows = Numbered("", fullest.size());
  for (const Curve& curve : fullest) {
    std::vector<double>& row = plot.heat.values.emplace_back();
    for (const CurvePoint& point : curve.points()) row.push_back(point.mean());
  }
  for (const CurvePoint& point : fullest[0].points()) plot.heat.columns.push_back(absl::StrCat(point.first_step));
  plot.notes.push_back("Tokens of the fullest expert divided by the mean of its layer; 1 means an even load.");
  return plot;
}

}  // namespace

int64_t Plot::points() const {
  int64_t count = 0;
  for (const PlotSeries& s : series) {
    for (const auto& point : s.points) count += std::isfinite(point.second) ? 1 : 0;
  }
  for (const std::vector<double>& row : heat.values) {
    for (const double value : row) count += std::isfinite(value) ? 1 : 0;
  }
  return count;
}

std::vector<Plot> MakePlots(const std::vector<RunReport>& runs) {
  std::vector<Plot> plots;
  for (const ComparisonSpec& spec : Comparisons()) plots.push_back(Compare(spec, runs));
  for (size_t r = 0; r < runs.size(); ++r) {
    const int index = static_cast<int>(r);
    plots.push_back(ExpertsNow(runs[r], index));
    if (runs[r].experts.last_step() >= 0) plots.push_back(ExpertsOverSteps(runs[r], index));
    AddMemory(runs[r], index, &plots);
    plots.push_back(BusyLanes(runs[r], index));
  }
  return plots;
}

}  // namespace angel_ptm
