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

SampleMaker::SampleMaker(Sampler& sampler, Communicator& control, std::string output)
    : sampler_(sampler), control_(control), output_(std::move(output)) {
  const int64_t batch = sampler.batch(), of_all = batch * control.size();
  numbers_.resize(static_cast<size_t>(batch));
  all_.resize(static_cast<size_t>((sampler.count() + of_all - 1) / of_all * of_all * sampler.elements()));
}

absl::StatusOr<std::string> SampleMaker::Make(int64_t step) {
  const int64_t batch = sampler_.batch(), last = sampler_.count() - 1;
  const auto of_round = static_cast<size_t>(batch * control_.size() * sampler_.elements());
  for (size_t at = 0; at < all_.size(); at += of_round) {
    // Rows behind the last sample make it again.
    const int64_t first = static_cast<int64_t>(at) / sampler_.elements() + control_.rank() * batch;
    for (int64_t row = 0; row < batch; ++row) numbers_[row] = std::min(first + row, last);
    ASSIGN_OR_RETURN(const std::span<const float> made, sampler_.Make(numbers_));
    RETURN_IF_ERROR(control_.AllGather(std::as_writable_bytes(std::span(all_).subspan(at, of_round)),
                                       std::as_bytes(made), {"samples", step}));
  }
  if (control_.rank() != 0) return std::string();
  const std::string folder = SamplesFolder(output_, step);
  const absl::StatusOr<std::string> note = sampler_.Write(folder, step, all_);
  if (!note.ok()) {
    return absl::StrCat("warning: no samples of step ", step, ": ", note.status().message(), "; training goes on");
  }
  return absl::StrCat(note->empty() ? "" : absl::StrCat("note: ", *note, "\n"), "samples ", folder);
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
