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
  int64_t eos_token_id = kNone,
          pad_token_id = kNone;  // kNone: null in config.json, as the begin-of-text token always is
  // Written as they are, but for tokenizer_config.json: CompleteTokenizerConfig.
  std::vector<HuggingFaceFile> tokenizer_files;
  int64_t file_bytes_max = 5'000'000'000;  // more weights are split over several files
};

// ExportWeights of config.json, generation_config.json, model.safetensors and the tokenizer files. `table` is of the
// model described by `config`.
absl::Status ExportHuggingFace(const ReadParameters& read, const ParameterTable& table, const HuggingFaceExport& config,
                               const std::string& path);

// Reads the weights of such a directory into the parameter vectors of `table`. Errors: WeightsReader's, `write`'s.
absl::Status ImportHuggingFace(const std::string& path, const ParameterTable& table, const WriteParameters& write);

// Name and shape of every tensor of the architecture as transformers loads it.
std::vector<ExportedName> HuggingFaceTensors(const HunyuanLmShape& model);

// The text of config.json.
std::string HuggingFaceConfig(const HuggingFaceExport& config);

// A tokenizer_config.json with what it lacks for the model: model_max_length, and model_input_names, without which
// transformers 4 hands the model token_type_ids that it refuses. kInvalidArgument if it is no JSON object.
absl::StatusOr<std::string> CompleteTokenizerConfig(const std::string& json, int64_t max_position_embeddings);

}  // namespace angel_ptm

#endif  // ANGEL_PTM_CHECKPOINT_HUGGINGFACE_H_
