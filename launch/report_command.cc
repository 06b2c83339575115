// angel-ptm report: makes one HTML file from output directories of runs.
#include <cstdio>
#include <string>
#include <vector>

#include "absl/strings/str_cat.h"
#include "angel_ptm/base/file.h"
#include "angel_ptm/train/report/report_page.h"
#include "angel_ptm/train/report/run_report.h"
#include "launch/commands.h"

namespace angel_ptm {

absl::Status ReportCommand(const std::vector<std::string>& words) {
  constexpr int kRunsMax = 32;  // nobody can tell more lines apart
  ASSIGN_OR_RETURN(const Arguments arguments,
                   Arguments::Parse(words, {.flags = {"output"}, .positional_max = kRunsMax, .positional = "RUN"}));
  if (arguments.positional().empty()) {
    return absl::InvalidArgumentError("report: which RUN? wanted output directories of angel-ptm train, got none");
  }
  std::vector<RunReport> runs;
  for (const std::string& directory : arguments.positional()) {
    ASSIGN_OR_RETURN(RunReport run, ReadRun(directory));
    for (const RunReport& other : runs) {
      if (other.name != run.name) continue;
      return absl::InvalidArgumentError(absl::StrCat("report: ", run.name, " is given twice"));
    }
    runs.push_back(std::move(run));
  }
  const std::string path =
      arguments.Get("output", runs.size() == 1 ? runs[0].name + "/report.html" : std::string("report.html"));
  RETURN_IF_ERROR(WriteFile(path, ReportPage(runs, {.written = UtcNow()})));
  for (const RunReport& run : runs) std::printf("%s: %s\n", run.name.c_str(), StateOf(run).c_str());
  std::printf("wrote %s\n", path.c_str());
  return absl::OkStatus();
}

}  // namespace angel_ptm
