// How far long work is, for whoever tells people.
#ifndef ANGEL_PTM_BASE_PROGRESS_H_
#define ANGEL_PTM_BASE_PROGRESS_H_

#include <cstdint>
#include <functional>
#include <string_view>

namespace angel_ptm {

// Called now and then by the one thread that works: `done` of `all` "images" are; with 0 when they begin. One kind
// comes after another.
using ReportProgress = std::function<void(std::string_view what, int64_t done, int64_t all)>;

// What is told to nobody if there is nobody.
inline void TellProgress(const ReportProgress& report, std::string_view what, int64_t done, int64_t all) {
  if (report) report(what, done, all);
}

}  // namespace angel_ptm

#endif  // ANGEL_PTM_BASE_PROGRESS_H_
