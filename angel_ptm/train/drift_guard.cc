#include "angel_ptm/train/drift_guard.h"

#include <algorithm>
#include <numeric>

#include "absl/strings/str_cat.h"

namespace angel_ptm {

std::string DriftGuard::Watched::Add(double value) {
  last[static_cast<size_t>(count++ % kWindow)] = value;
  if (count < kWindow) return "";
  const double mean = std::accumulate(last.begin(), last.end(), 0.0) / kWindow;
  if (band > 0 && mean > band * least) {
    return absl::StrCat("the mean ", name, " of ", kWindow, " steps, ", mean, ", is more than ", band,
                        " times the least so far, ", least, " (optimizer.lock_free.", field, ")");
  }
  least = std::min(least, mean);
  return "";
}

std::string DriftGuard::Add(double loss, double gradient_norm) {
  const std::string of_norm = norm_.Add(gradient_norm), of_loss = loss_.Add(loss);
  return of_loss.empty() ? of_norm : of_loss;
}

}  // namespace angel_ptm
