// Directories of weights as Hugging Face's libraries have them: safetensors files, with or without an index, and text
// files. They are written with proof (law 7): an export is loaded again and compared with its source before it gets its
// name.
#ifndef ANGEL_PTM_CHECKPOINT_WEIGHTS_DIRECTORY_H_
#define ANGEL_PTM_CHECKPOINT_WEIGHTS_DIRECTORY_H_

#include <cstdint>
#include <functional>
#include <memory>
#include <span>
#include <string>
#include <vector>

#include "angel_ptm/base/status.h"
#include "angel_ptm/model/parameter_table.h"

namespace angel_ptm {

// Fills `out` with elements [begin, begin + out.size()) of a unit's parameter vector; e.g. CheckpointReader::ReadRange.
using ReadParameters = std::function<absl::Status(UnitId unit, int64_t begin, std::span<float> out)>;
// Takes elements [begin, begin + values.size()) of a unit's parameter vector.
using WriteParameters = std::function<absl::Status(UnitId unit, int64_t begin, std::span<const float> values)>;

// A text file of the export.
struct HuggingFaceFile {
  std::string name;
  std::string text;
};

struct WeightsExport {
  std::string stem;                   // of the weights' files: <stem>.safetensors
  std::vector<ExportedName> tensors;  // what the library expects
  std::vector<HuggingFaceFile> texts;
  int64_t file_bytes_max = 5'000'000'000;  // more weights are split over several files
};

// Writes the texts and the weights in fp32 (one file, or several and their index) to the new directory `path`, through
// <path>.angel-ptm-export beside it, which must not exist: the call removes nothing that it did not make. The table's
// Parameter::exported must be exactly `what.tensors`, each once and of the right shape, which is checked first. Errors:
// `path` exists and is not empty; a name is missing, unknown or twice; the reader fails; disk full; what was written
// does not read back as the source. On error nothing is left at `path`, unless only the last sync failed, which the
// error says.
absl::Status ExportWeights(const ReadParameters& read, const ParameterTable& table, const WeightsExport& what,
                           const std::string& path);

// An opened directory of weights, F32, BF16 or F16, seen as the parameter vectors of a table. Thread-safe.
class WeightsReader {
 public:
  // Checks all names and shapes. `ignored`: patterns (base/text.h, MatchesPattern) of tensors that may be there though
  // the table does not have them. Errors: a missing, unknown or misshapen tensor, a damaged file.
  static absl::StatusOr<WeightsReader> Open(const std::string& path, const std::string& stem,
                                            const ParameterTable& table, const std::vector<std::string>& ignored = {});
  WeightsReader(WeightsReader&&) noexcept;
  ~WeightsReader();

  // Elements [begin, begin + out.size()) of a unit's vector, zeros between parameters.
  absl::Status Read(UnitId unit, int64_t begin, std::span<float> out) const;
  // Reads all parameters and hands them to `write` piece by piece; gaps between parameters are not written.
  absl::Status ReadAll(const WriteParameters& write) const;

 private:
  struct Source;
  explicit WeightsReader(std::unique_ptr<Source> source);
  std::unique_ptr<Source> source_;
};

}  // namespace angel_ptm

#endif  // ANGEL_PTM_CHECKPOINT_WEIGHTS_DIRECTORY_H_
