#include "angel_ptm/train/report/run_report.h"

#include <cerrno>
#include <fstream>
#include <nlohmann/json.hpp>
#include <utility>

#include "absl/functional/function_ref.h"
#include "absl/strings/str_cat.h"
#include "angel_ptm/base/file.h"
#include "angel_ptm/base/json_nesting.h"
#include "angel_ptm/train/output_lock.h"

namespace angel_ptm {
namespace {

using Json = nlohmann::json;

constexpr size_t kSamplesMax = 20;

// Calls `add` with every whole line. What it refuses is a note.
absl::Status ReadLines(const std::string& path, const char* wanted, std::vector<std::string>* notes,
                       absl::FunctionRef<bool(std::string_view line)> add) {
  errno = 0;
  std::ifstream file(path, std::ios::binary);
  if (!file) return FileError("open", path, errno);
  StepList refused;
  std::string line;
  for (int64_t number = 1; std::getline(file, line); ++number) {
    if (file.eof()) break;  // no newline behind it: it is being written, or a killed run's last
    if (!add(line)) refused.Add(number, number);
  }
  if (file.bad()) return FileError("read", path, errno);
  if (refused.count() > 0) {
    notes->push_back(absl::StrCat(path, ": left out what is not ", wanted, " behind the one before: line",
                                  refused.count() > 1 ? "s " : " ", refused.ToString()));
  }
  return absl::OkStatus();
}

// The same, of a file that need not be there and whose errors are notes.
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

bool AddSample(std::string_view line, std::vector<Sample>* samples) {
  const Json object = NestsTooDeep(line) ? Json() : Json::parse(line, nullptr, /*allow_exceptions=*/false);
  const auto is = [&](const char* key, bool (Json::*is_type)() const noexcept) {
    return object.is_object() && object.contains(key) && (object[key].*is_type)();
  };
  if (!is("prompt", &Json::is_string) || !is("text", &Json::is_string) || !is("step", &Json::is_number_integer)) {
    return false;
  }
  samples->push_back(
      {object["prompt"].get<std::string>(), object["text"].get<std::string>(), object["step"].get<int64_t>()});
  if (samples->size() > kSamplesMax) samples->erase(samples->begin());
  return true;
}

}  // namespace

absl::StatusOr<RunReport> ReadRun(const std::string& directory) {
  RunReport run{.name = directory};
  while (run.name.size() > 1 && run.name.back() == '/') run.name.pop_back();
  const std::string metrics = run.name + "/metrics.jsonl";
  ASSIGN_OR_RETURN(const bool exists, PathExists(metrics));
  if (!exists) {
    return absl::NotFoundError(absl::StrCat(run.name, " is no run: wanted an output.directory of angel-ptm train, got ",
                                            "nothing at ", metrics));
  }
  // Asked first: a run that ends meanwhile is then said to be writing, of which its lines are the proof.
  const std::string holder = OutputLock::Holder(run.name);
  if (!holder.empty()) run.now = "still writing: " + holder;
  RETURN_IF_ERROR(ReadLines(metrics, "a step", &run.notes, [&](std::string_view l) { return run.history.AddLine(l); }));
  ReadMore(run.name + "/experts.jsonl", "a step's expert loads", &run,
           [&](std::string_view line) { return run.experts.AddLine(line); });
  ReadMore(run.name + "/samples.jsonl", "a sample", &run,
           [&](std::string_view line) { return AddSample(line, &run.samples); });
  ReadSheet(run.name + "/run.json", &run);
  return run;
}

}  // namespace angel_ptm
