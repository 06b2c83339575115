// A report as one HTML file that needs nothing else: dygraphs, the data and a table for browsers without JavaScript are
// in it.
#ifndef ANGEL_PTM_TRAIN_REPORT_REPORT_PAGE_H_
#define ANGEL_PTM_TRAIN_REPORT_REPORT_PAGE_H_

#include <cstdint>
#include <string>
#include <string_view>
#include <vector>

#include "angel_ptm/train/report/run_report.h"

namespace angel_ptm {

struct PageOptions {
  std::string written;         // when, for people
  int64_t reload_seconds = 0;  // the open page loads itself again after so many; 0: never
};

// `runs` have different names, at least one. Names, samples and all other text from files are escaped.
std::string ReportPage(const std::vector<RunReport>& runs, const PageOptions& options);

// "2026-01-31 12:00:00 UTC"
std::string UtcNow();

// What the run has come to, as a sentence without a full stop.
std::string StateOf(const RunReport& run);

// Text for an element or a quoted attribute. What is not UTF-8 is replaced.
std::string EscapeHtml(std::string_view text);

}  // namespace angel_ptm

#endif  // ANGEL_PTM_TRAIN_REPORT_REPORT_PAGE_H_
