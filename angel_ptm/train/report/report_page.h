// A report as one self-contained HTML file: it includes dygraphs, the data, and a table for browsers without
// JavaScript.
#ifndef ANGEL_PTM_TRAIN_REPORT_REPORT_PAGE_H_
#define ANGEL_PTM_TRAIN_REPORT_REPORT_PAGE_H_

#include <cstdint>
#include <string>
#include <string_view>
#include <vector>

#include "angel_ptm/train/report/run_report.h"

namespace angel_ptm {

struct PageOptions {
  std::string written;         // time of writing, as text
  int64_t reload_seconds = 0;  // the open page reloads itself after this many; 0: never
};

// `runs`: at least one, with distinct names. Names, samples and all other text from files are escaped.
std::string ReportPage(const std::vector<RunReport>& runs, const PageOptions& options);

// "2026-01-31 12:00:00 UTC"
std::string UtcNow();

// The state of the run, as a sentence without a full stop.
std::string StateOf(const RunReport& run);

// Escapes text for an element or a quoted attribute. Replaces what is not UTF-8.
std::string EscapeHtml(std::string_view text);

}  // namespace angel_ptm

#endif  // ANGEL_PTM_TRAIN_REPORT_REPORT_PAGE_H_
