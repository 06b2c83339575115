#include "angel_ptm/train/report/run_report.h"

#include <algorithm>
#include <cerrno>
#include <fstream>
#include <initializer_list>
#include <nlohmann/json.hpp>
#include <utility>

#include "absl/functional/function_ref.h"
#include "absl/strings/str_cat.h"
#include "angel_ptm/base/file.h"
#include "angel_ptm/base/json.h"
#include "angel_ptm/train/output_lock.h"

namespace angel_ptm {
namespace {

using Json = nlohmann::json;

constexpr size_t kSamplesMax = 20;
// A page embeds its images as text, which makes them half as large again.
constexpr size_t kFoldersMax = 8;
constexpr size_t kImagesMax = 256, kImagesBytesMax = size_t{16} << 20;

// Calls `add` with every complete line. Lines that it refuses become a note.
absl::Status ReadLines(const std::string& path, const char* wanted, std::vector<std::string>* notes,
                       absl::FunctionRef<bool(std::string_view line)> add) {
  errno = 0;
  std::ifstream file(path, std::ios::binary);
  if (!file) return FileError("open", path, errno);
  StepList refused;
  std::string line;
  for (int64_t number = 1; std::getline(file, line); ++number) {
    if (file.eof()) break;  // no newline after it: it is being written, or is the last line of a killed run
    if (!add(line)) refused.Add(number, number);
  }
  if (file.bad()) return FileError("read", path, errno);
  if (refused.count() > 0) {
    notes->push_back(absl::StrCat(path, ": ignored what is not ", wanted, " after the previous one: line",
                                  refused.count() > 1 ? "s " : " ", refused.ToString()));
  }
  return absl::OkStatus();
}

// The same for an optional file, whose errors become notes.
void ReadMore(const std::string& path, const char* wanted, RunReport* run,
              absl::FunctionRef<bool(std::string_view line)> add) {
  const absl::StatusOr<bool> exists = PathExists(path);
  const absl::Status read = !exists.ok() ? exists.status()
                            : *exists    ? ReadLines(path, wanted, &run->notes, add)
                                         : absl::OkStatus();
  if (!read.ok()) run->notes.push_back(std::string(read.message()));
}

void ReadSheet(const std::string& path, RunReport* run) {
  const absl::StatusOr<bool> exists = PathExists(path);
  if (exists.ok() && !*exists) return;
  const absl::StatusOr<std::string> json = exists.ok() ? ReadFile(path, int64_t{64} << 20) : exists.status();
  if (!json.ok()) {
    run->notes.push_back(std::string(json.status().message()));
    return;
  }
  absl::StatusOr<RunSheet> sheet = RunSheetFromJson(*json);
  if (sheet.ok()) {
    run->sheet = *std::move(sheet);
  } else {
    run->notes.push_back(absl::StrCat(path, " ", sheet.status().message()));
  }
}

// The object of a line if it has these strings and a step, else null.
Json SampleFrom(std::string_view line, std::initializer_list<const char*> strings) {
  Json object = ParseJson(line);
  if (!object.is_object() || !object.contains("step") || !object["step"].is_number_integer()) return {};
  for (const char* key : strings) {
    if (!object.contains(key) || !object[key].is_string()) return {};
  }
  return object;
}

bool AddSample(std::string_view line, std::vector<Sample>* samples) {
  const Json sample = SampleFrom(line, {"prompt", "text"});
  if (sample.is_null()) return false;
  samples->push_back(
      {sample["prompt"].get<std::string>(), sample["text"].get<std::string>(), sample["step"].get<int64_t>()});
  if (samples->size() > kSamplesMax) samples->erase(samples->begin());
  return true;
}

// Reads the images that folders' samples.jsonl list, the first ones up to the limits of a page.
class ImageReader {
 public:
  explicit ImageReader(RunReport* run) : run_(*run) {}

  void Read(const std::string& folder, std::vector<SampleImage>* images) {
    ReadMore(folder + "/samples.jsonl", "an image's sample", &run_,
             [&](std::string_view line) { return Add(folder, line, images); });
  }
  void NoteLeftOut(const std::string& folder) const {
    if (left_out_ == 0) return;
    run_.notes.push_back(
        absl::StrCat(folder, ": the page has room for ", count_, " of ", count_ + left_out_, " images"));
  }

 private:
  bool Add(const std::string& folder, std::string_view line, std::vector<SampleImage>* images) {
    const Json sample = SampleFrom(line, {"prompt", "image"});
    if (sample.is_null()) return false;
    const std::string file = sample["image"].get<std::string>();
    if (file.find('/') != std::string::npos) return false;  // only from this folder
    absl::StatusOr<std::string> png = ReadFile(folder + "/" + file, kImagesBytesMax);
    if (!png.ok()) {
      run_.notes.push_back(std::string(png.status().message()));
      return true;
    }
    if (!png->starts_with("\x89PNG\r\n\x1a\n")) return false;
    if (count_ == kImagesMax || bytes_ + png->size() > kImagesBytesMax) {
      ++left_out_;
      return true;
    }
    bytes_ += png->size();
    ++count_;
    images->push_back({sample["prompt"].get<std::string>(), *std::move(png), sample["step"].get<int64_t>()});
    return true;
  }

  RunReport& run_;
  size_t count_ = 0, bytes_ = 0, left_out_ = 0;
};

// Selects as many folders step-<N> as a page shows side by side, spread over the run and including the last one.
std::vector<std::string> FoldersToShow(const std::string& samples, RunReport* run) {
  const absl::StatusOr<bool> exists = PathExists(samples);
  if (exists.ok() && !*exists) return {};
  const absl::StatusOr<std::vector<std::string>> names = exists.ok() ? ListDirectory(samples) : exists.status();
  if (!names.ok()) run->notes.push_back(std::string(names.status().message()));
  std::vector<std::string> all, shown;
  for (const std::string& name : names.ok() ? *names : std::vector<std::string>()) {
    if (name.starts_with("step-")) all.push_back(absl::StrCat(samples, "/", name));
  }
  const size_t count = std::min(all.size(), kFoldersMax);
  for (size_t i = 0; i < count; ++i) shown.push_back(all[(i + 1) * all.size() / count - 1]);
  return shown;
}

}  // namespace

void ReadSamples(RunReport* run) {
  RunReport read{.name = run->name};
  ReadMore(run->name + "/samples.jsonl", "a sample", &read,
           [&](std::string_view line) { return AddSample(line, &read.samples); });
  const std::string folder = run->name + "/samples";
  ImageReader reader(&read);
  for (const std::string& of_step : FoldersToShow(folder, &read)) reader.Read(of_step, &read.progress);
  reader.Read(folder, &read.images);
  reader.NoteLeftOut(folder);
  run->samples = std::move(read.samples);
  run->images = std::move(read.images);
  run->progress = std::move(read.progress);
  run->sample_notes = std::move(read.notes);
}

absl::StatusOr<RunReport> ReadRun(const std::string& directory) {
  RunReport run{.name = directory};
  while (run.name.size() > 1 && run.name.back() == '/') run.name.pop_back();
  const std::string metrics = run.name + "/metrics.jsonl";
  ASSIGN_OR_RETURN(const bool exists, PathExists(metrics));
  if (!exists) {
    return absl::NotFoundError(absl::StrCat(run.name, " is no run: wanted an output.directory of angel-ptm train, got ",
                                            "nothing at ", metrics));
  }
  // Checked first: if the run ends while its lines are read, they still show that it was writing.
  const std::string holder = OutputLock::Holder(run.name);
  if (!holder.empty()) run.now = "still writing: " + holder;
  RETURN_IF_ERROR(ReadLines(metrics, "a step", &run.notes, [&](std::string_view l) { return run.history.AddLine(l); }));
  ReadMore(run.name + "/experts.jsonl", "a step's expert loads", &run,
           [&](std::string_view line) { return run.experts.AddLine(line); });
  ReadSamples(&run);
  ReadSheet(run.name + "/run.json", &run);
  return run;
}

}  // namespace angel_ptm
