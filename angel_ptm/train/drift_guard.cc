#include "angel_ptm/train/drift_guard.h"

#include <algorithm>
#include <numeric>

#include "absl/strings/str_cat.h"
#include "angel_ptm/base/check.h"

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

void DriftGuard::Watched::Remember(const DriftMemory& memory) {
  APTM_CHECK(memory.last.size() <= kWindow, memory.last.size());
  std::ranges::copy(memory.last, last.begin());
  count = static_cast<int64_t>(memory.last.size());
  least = memory.least;
}

DriftMemory DriftGuard::Watched::memory() const {
  DriftMemory memory{.least = least};
  for (int64_t i = std::max<int64_t>(0, count - kWindow); i < count; ++i) {
    memory.last.push_back(last[static_cast<size_t>(i % kWindow)]);
  }
  return memory;
}

std::string DriftGuard::Add(double loss, double gradient_norm) {
  const std::string of_norm = norm_.Add(gradient_norm), of_loss = loss_.Add(loss);
  return of_loss.empty() ? of_norm : of_loss;
}

}  // namespace angel_ptm
