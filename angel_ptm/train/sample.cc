#include "angel_ptm/train/sample.h"

#include <algorithm>
#include <span>
#include <string_view>
#include <utility>

#include "absl/strings/numbers.h"
#include "absl/strings/str_cat.h"
#include "absl/strings/str_format.h"
#include "angel_ptm/base/file.h"

namespace angel_ptm {
namespace {

constexpr std::string_view kStepPrefix = "step-";

std::string FolderOfSteps(const std::string& output) { return output + "/samples"; }

}  // namespace

SampleMaker::SampleMaker(std::vector<Sampler*> samplers, Communicator& control, std::string output)
    : control_(control), output_(std::move(output)) {
  for (Sampler* const sampler : samplers) {
    const int64_t batch = sampler->batch(), of_all = batch * control.size();
    const int64_t elements = (sampler->count() + of_all - 1) / of_all * of_all * sampler->elements();
    buckets_.push_back(
        {sampler, std::vector<int64_t>(static_cast<size_t>(batch)), std::vector<float>(static_cast<size_t>(elements))});
  }
}

absl::Status SampleMaker::MakeAll(Bucket& bucket, int64_t step) {
  Sampler& sampler = *bucket.sampler;
  const int64_t batch = sampler.batch(), last = sampler.count() - 1;
  const auto of_round = static_cast<size_t>(batch * control_.size() * sampler.elements());
  for (size_t at = 0; at < bucket.all.size(); at += of_round) {
    // Rows after the last sample repeat it.
    const int64_t first = static_cast<int64_t>(at) / sampler.elements() + control_.rank() * batch;
    for (int64_t row = 0; row < batch; ++row) bucket.numbers[row] = std::min(first + row, last);
    ASSIGN_OR_RETURN(const std::span<const float> made, sampler.Make(bucket.numbers));
    RETURN_IF_ERROR(control_.AllGather(std::as_writable_bytes(std::span(bucket.all).subspan(at, of_round)),
                                       std::as_bytes(made), {"samples", step}));
  }
  return absl::OkStatus();
}

absl::StatusOr<std::string> SampleMaker::Make(int64_t step) {
  for (Bucket& bucket : buckets_) RETURN_IF_ERROR(MakeAll(bucket, step));
  if (control_.rank() != 0) return std::string();
  const std::string folder = SamplesFolder(output_, step);
  std::string notes;
  for (const Bucket& bucket : buckets_) {
    const absl::StatusOr<std::string> note = bucket.sampler->Write(folder, step, bucket.all);
    if (!note.ok()) {
      return absl::StrCat("warning: no samples of step ", step, ": ", note.status().message(), "; training goes on");
    }
    if (!note->empty()) absl::StrAppend(&notes, "note: ", *note, "\n");
  }
  return absl::StrCat(notes, "samples ", folder);
}

std::string SamplesFolder(const std::string& output, int64_t step) {
  return absl::StrFormat("%s/step-%08d", FolderOfSteps(output), step);
}

absl::StatusOr<std::vector<std::string>> NewerSamples(const std::string& output, int64_t step) {
  std::vector<std::string> newer;
  ASSIGN_OR_RETURN(const bool sampled, PathExists(FolderOfSteps(output)));
  if (!sampled) return newer;
  ASSIGN_OR_RETURN(const std::vector<std::string> names, ListDirectory(FolderOfSteps(output)));
  for (const std::string& name : names) {
    int64_t of_step = 0;
    if (!name.starts_with(kStepPrefix) || !absl::SimpleAtoi(name.substr(kStepPrefix.size()), &of_step)) continue;
    if (of_step <= step) continue;
    newer.push_back(absl::StrCat(FolderOfSteps(output), "/", name));
  }
  return newer;
}

}  // namespace angel_ptm
