// Conversion to and from Hugging Face transformers' HunYuanDenseV1 and HunYuanMoEV1 directories, with proof (law 7): an
// export is loaded again and compared with its source before it gets its name.
#ifndef ANGEL_PTM_CHECKPOINT_HUGGINGFACE_H_
#define ANGEL_PTM_CHECKPOINT_HUGGINGFACE_H_

#include <cstdint>
#include <string>
#include <vector>

#include "angel_ptm/base/status.h"
#include "angel_ptm/checkpoint/weights_directory.h"
#include "angel_ptm/model/hunyuan_lm.h"
#include "angel_ptm/model/parameter_table.h"

namespace angel_ptm {

struct HuggingFaceExport {
  HunyuanLmShape model;
  int64_t max_position_embeddings = 0;
  int64_t bos_token_id = kNone, eos_token_id = kNone, pad_token_id = kNone;  // kNone: null in config.json
  // Written as they are, except for tokenizer_config.json (CompleteTokenizerConfig).
  std::vector<HuggingFaceFile> tokenizer_files;
  int64_t file_bytes_max = 5'000'000'000;  // more weights are split over several files
};

// Writes config.json, generation_config.json, model.safetensors and the tokenizer files with ExportWeights. `table` is
// that of the model described by `config`.
absl::Status ExportHuggingFace(const ReadParameters& read, const ParameterTable& table, const HuggingFaceExport& config,
                               const std::string& path);

// What the config.json of such a directory says, as written by transformers 4 or 5 or in Tencent's own form.
struct HuggingFaceModel {
  HunyuanLmShape shape;
  int64_t max_position_embeddings = 0;
};

// Errors: kFailedPrecondition, naming the field, for a model other than the one our graph computes.
absl::StatusOr<HuggingFaceModel> ReadHuggingFaceModel(const std::string& path);

// Opens the weights of such a directory as the parameter vectors of `table`, which is that of `model`. Errors:
// ReadHuggingFaceModel's; kFailedPrecondition, naming the field, if the directory has another shape (initializer_range
// and the router's balance in the loss are not compared, because only training decides them); WeightsReader's.
absl::StatusOr<WeightsReader> OpenHuggingFace(const std::string& path, const ParameterTable& table,
                                              const HunyuanLmShape& model);

// Name and shape of every tensor of the architecture as transformers loads it.
std::vector<ExportedName> HuggingFaceTensors(const HunyuanLmShape& model);

// The double that prints like the float: 1e-05 instead of 9.999999747378752e-06.
double Decimal(float value);

// The text of config.json.
std::string HuggingFaceConfig(const HuggingFaceExport& config);

// Returns the tokenizer_config.json `json` with what it lacks for the model: model_max_length, and model_input_names,
// without which transformers 4 hands the model token_type_ids, which the model refuses. kInvalidArgument if `json` is
// no JSON object.
absl::StatusOr<std::string> CompleteTokenizerConfig(const std::string& json, int64_t max_position_embeddings);

}  // namespace angel_ptm

#endif  // ANGEL_PTM_CHECKPOINT_HUGGINGFACE_H_
