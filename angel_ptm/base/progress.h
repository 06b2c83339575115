// Reports the progress of long-running work.
#ifndef ANGEL_PTM_BASE_PROGRESS_H_
#define ANGEL_PTM_BASE_PROGRESS_H_

#include <cstdint>
#include <functional>
#include <string_view>

namespace angel_ptm {

// Called from time to time by the thread that does the work: `done` of `all` items of the kind `what`, e.g. "images",
// are done. The first call for each kind has done = 0; kinds come one after another.
using ReportProgress = std::function<void(std::string_view what, int64_t done, int64_t all)>;

// Calls `report`, unless it is null.
inline void TellProgress(const ReportProgress& report, std::string_view what, int64_t done, int64_t all) {
  if (report) report(what, done, all);
}

}  // namespace angel_ptm

#endif  // ANGEL_PTM_BASE_PROGRESS_H_
