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
  std::string now;   // empty, or what the run is doing: "still writing: process 7 on host h since ..."
  History history;
  ExpertHistory experts;
  std::optional<RunSheet> sheet;          // none: an older program wrote the run
  std::vector<Sample> samples;            // the newest
  std::vector<SampleImage> images;        // of angel-ptm generate
  std::vector<SampleImage> progress;      // what the run made of itself, step after step
  std::vector<std::string> notes;         // sentences about what is wrong with the files
  std::vector<std::string> sample_notes;  // of the samples'
};

// Reads <directory>/metrics.jsonl, and experts.jsonl, run.json, samples.jsonl and, with its images, samples.jsonl of
// samples/ and of some of its folders step-<N>, the last among them, if they are there; what is wrong with these is a
// note. A last line that is not whole is being written. Errors: kNotFound if it is no run's directory, those of
// angel_ptm/base/file.h.
absl::StatusOr<RunReport> ReadRun(const std::string& directory);

// Its part that reads samples, again.
void ReadSamples(RunReport* run);

}  // namespace angel_ptm

#endif  // ANGEL_PTM_TRAIN_REPORT_RUN_REPORT_H_
