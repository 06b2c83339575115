// angel-ptm report: makes one HTML file from output directories of runs.
#include <cstdio>
#include <string>
#include <vector>

#include "absl/strings/str_cat.h"
#include "angel_ptm/base/file.h"
#include "angel_ptm/base/text.h"
#include "angel_ptm/checkpoint/diffusers_autoencoder.h"
#include "angel_ptm/data/images/codecs.h"
#include "angel_ptm/train/report/report_page.h"
#include "angel_ptm/train/report/run_report.h"
#include "angel_ptm/train/sample.h"
#include "angel_ptm/train/tasks/encode_images.h"
#include "launch/commands.h"

namespace angel_ptm {
namespace {

// Latents that the runs have sampled become images, if there is an autoencoder for them.
absl::Status DecodeSamplesOf(const Arguments& arguments) {
  if (!arguments.Has("autoencoder")) {
    for (const char* flag : {"device-bytes", "host-bytes", "nvme-directory", "isa"}) {
      if (!arguments.Has(flag)) continue;
      return absl::InvalidArgumentError(absl::StrCat("--", flag, ": wanted --autoencoder, for which it is"));
    }
    return absl::OkStatus();
  }
  if (!HasImageLibraries()) {
    return absl::UnimplementedError("--autoencoder: this build has no libpng and FreeType to write images with");
  }
  ASSIGN_OR_RETURN(InferenceOptions inference, InferenceHere(arguments));
  RETURN_IF_ERROR(TakeBudgets(arguments, inference));
  ASSIGN_OR_RETURN(const AutoencoderKlDirectory autoencoder, OpenAutoencoderKl(arguments.Get("autoencoder", "")));
  for (const std::string& run : arguments.positional()) {
    ASSIGN_OR_RETURN(const std::vector<std::string> folders, NewerSamples(run, /*step=*/-1));
    int64_t decoded = 0;
    for (const std::string& folder : folders) {
      ASSIGN_OR_RETURN(const bool had_latents, DecodeSamples(folder, autoencoder, inference));
      decoded += had_latents;
    }
    std::printf("%s: decoded the samples of %s\n", run.c_str(), Counted(decoded, "step").c_str());
  }
  return absl::OkStatus();
}

}  // namespace

absl::Status ReportCommand(const std::vector<std::string>& words) {
  constexpr int kRunsMax = 32;  // nobody can tell more lines apart
  ASSIGN_OR_RETURN(const Arguments arguments,
                   Arguments::Parse(words, {.flags = {"output", "autoencoder", "device-bytes", "host-bytes",
                                                      "nvme-directory", "isa"},
                                            .positional_max = kRunsMax,
                                            .positional = "RUN"}));
  if (arguments.positional().empty()) {
    return absl::InvalidArgumentError("report: which RUN? wanted output directories of angel-ptm train, got none");
  }
  RETURN_IF_ERROR(DecodeSamplesOf(arguments));
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
