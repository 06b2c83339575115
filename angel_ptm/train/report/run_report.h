// A run's output directory, read for a report.
#ifndef ANGEL_PTM_TRAIN_REPORT_RUN_REPORT_H_
#define ANGEL_PTM_TRAIN_REPORT_RUN_REPORT_H_

#include <optional>
#include <string>
#include <vector>

#include "angel_ptm/base/status.h"
#include "angel_ptm/train/report/history.h"
#include "angel_ptm/train/report/run_sheet.h"

namespace angel_ptm {

struct Sample {
  std::string prompt, text;
  int64_t step = 0;
};

struct SampleImage {
  std::string prompt;
  std::string png;  // the file's bytes
  int64_t step = 0;
};

struct RunReport {
  std::string name;  // for people: the path
  std::string now;   // empty, or what the run is doing now: "still writing: process 7 on host h since ..."
  History history;
  ExpertHistory experts;
  std::optional<RunSheet> sheet;          // none: the run was written by an older program
  std::vector<Sample> samples;            // the newest samples
  std::vector<SampleImage> images;        // made by angel-ptm generate
  std::vector<SampleImage> progress;      // the run's own samples, step after step
  std::vector<std::string> notes;         // sentences about problems with the files
  std::vector<std::string> sample_notes;  // the same for the sample files
};

// Reads <directory>/metrics.jsonl and, if they exist, experts.jsonl, run.json, samples.jsonl, and samples.jsonl with
// its images of samples/ and of some of its folders step-<N>, including the last one. Problems with the optional files
// become notes. An incomplete last line is taken as still being written. Errors: kNotFound if this is not a run's
// directory; those of angel_ptm/base/file.h.
absl::StatusOr<RunReport> ReadRun(const std::string& directory);

// The part of ReadRun that reads samples, to be called again when they change.
void ReadSamples(RunReport* run);

}  // namespace angel_ptm

#endif  // ANGEL_PTM_TRAIN_REPORT_RUN_REPORT_H_
