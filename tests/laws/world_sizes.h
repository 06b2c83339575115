// The same global batch in worlds of any size: what is trained, and how far results may differ. Sums are taken in
// another order, so results agree within rounding, not bit for bit. Where the number of ranks does not divide the
// batch, micro-batches that weigh nothing pad it.
#ifndef ANGEL_PTM_TESTS_LAWS_WORLD_SIZES_H_
#define ANGEL_PTM_TESTS_LAWS_WORLD_SIZES_H_

#include <algorithm>
#include <cmath>
#include <cstdio>
#include <limits>
#include <string>
#include <vector>

#include "tests/laws/tiny_run.h"

namespace angel_ptm {

inline constexpr int kMicroBatches = 8;
inline constexpr int kSteps = 3;

// Measured on AVX-512: the loss of step 0 is a double sum of equal floats, so it is equal. Its gradient norm, from fp32
// gradients summed in another order, differs by up to 4e-9 relative. Three steps of AdamW amplify that to 1.2e-7 (loss)
// and 4.1e-7 (norm). The bounds leave a factor of at least ten.
inline constexpr double kFirstLossTolerance = 1e-12;
inline constexpr double kFirstNormTolerance = 1e-7;
inline constexpr double kLossTolerance = 2e-6;
inline constexpr double kNormTolerance = 1e-5;
inline constexpr double kWeightsTolerance = 1e-4;

// Infinite where a or b is not finite: std::max would lose a NaN.
inline double RelativeDifference(double a, double b) {
  const double difference = std::fabs(a - b) / std::fabs(b);
  return std::isfinite(difference) ? difference : std::numeric_limits<double>::infinity();
}

struct Disagreement {
  double first_loss = 0, first_norm = 0, loss = 0, norm = 0, weights = 0;
  bool Tolerable() const {
    return first_loss <= kFirstLossTolerance && first_norm <= kFirstNormTolerance && loss <= kLossTolerance &&
           norm <= kNormTolerance && weights <= kWeightsTolerance;
  }
  void Print(const std::string& what) const {
    std::printf("  %s: step 0 loss %.1e, norm %.1e; all steps loss %.1e, norm %.1e; weights %.1e\n", what.c_str(),
                first_loss, first_norm, loss, norm, weights);
  }
};

// The distance between the final parameters, relative to their length; infinite if `a` is of a failed run and has none.
inline double WeightsApart(const TinyResult& a, const TinyResult& b) {
  if (a.parameters.size() != b.parameters.size()) return std::numeric_limits<double>::infinity();
  double distance = 0, length = 0;
  for (size_t u = 0; u < b.parameters.size(); ++u) {
    for (size_t i = 0; i < b.parameters[u].size(); ++i) {
      const double x = a.parameters[u][i], y = b.parameters[u][i];
      distance += (x - y) * (x - y);
      length += y * y;
    }
  }
  return std::sqrt(distance / length);
}

inline Disagreement Compare(const TinyResult& a, const TinyResult& b) {
  Disagreement d;
  d.first_loss = RelativeDifference(a.losses[0], b.losses[0]);
  d.first_norm = RelativeDifference(a.norms[0], b.norms[0]);
  for (size_t i = 0; i < b.losses.size(); ++i) {
    d.loss = std::max(d.loss, RelativeDifference(a.losses[i], b.losses[i]));
    d.norm = std::max(d.norm, RelativeDifference(a.norms[i], b.norms[i]));
  }
  d.weights = WeightsApart(a, b);
  return d;
}

inline TinyRun RunOn(bool moe, int world) {
  TinyRun run{.shape = moe ? TinyMoe() : TinyDense(), .zero_stage = world % 4, .steps = kSteps};
  run.shape.num_hidden_layers = 2;
  run.batch.rows = 1;
  run.global_micro_batches = kMicroBatches;
  run.accumulation = (kMicroBatches + world - 1) / world;
  return run;
}

}  // namespace angel_ptm

#endif  // ANGEL_PTM_TESTS_LAWS_WORLD_SIZES_H_
