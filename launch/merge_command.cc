// angel-ptm merge: makes a checkpoint whose weights are the mean of others.
#include <cstdio>
#include <string>
#include <vector>

#include "absl/strings/numbers.h"
#include "absl/strings/str_cat.h"
#include "angel_ptm/base/text.h"
#include "angel_ptm/train/merge.h"
#include "launch/commands.h"

namespace angel_ptm {

absl::Status MergeCommand(const std::vector<std::string>& words) {
  ASSIGN_OR_RETURN(const Arguments arguments,
                   Arguments::Parse(words, {.flags = {"checkpoint", "share", "weights", "output"}}));
  const std::vector<std::string> given = arguments.All("checkpoint"), shares = arguments.All("share");
  if (given.size() < 2) {
    return absl::InvalidArgumentError(
        absl::StrCat("merge: wanted --checkpoint DIR at least twice, got it ", given.size(), " times"));
  }
  if (!shares.empty() && shares.size() != given.size()) {
    return absl::InvalidArgumentError(absl::StrCat("merge: wanted --share for each of ", given.size(),
                                                   " checkpoints or for none, got ", shares.size()));
  }
  MergeOptions options{.weights = arguments.Get("weights", "last")};
  ASSIGN_OR_RETURN(options.output, arguments.Require("output"));
  for (size_t i = 0; i < given.size(); ++i) {
    MergeInput& input = options.inputs.emplace_back();
    ASSIGN_OR_RETURN(input.path, ResolveCheckpoint(given[i]));
    if (!shares.empty() && !absl::SimpleAtod(shares[i], &input.share)) {
      return absl::InvalidArgumentError(absl::StrCat("--share: wanted a number, got ", shares[i]));
    }
  }
  ASSIGN_OR_RETURN(const SavedCheckpoint saved, MergeCheckpoints(options));
  if (!saved.warning.empty()) std::fprintf(stderr, "warning: %s\n", saved.warning.c_str());
  std::printf("merged %zu checkpoints into %s (%s)\n", given.size(), saved.path.c_str(),
              FormatBytes(saved.bytes).c_str());
  return absl::OkStatus();
}

}  // namespace angel_ptm
