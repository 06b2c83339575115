// Directories of text encoders as transformers writes them: BertModel, T5EncoderModel and MT5EncoderModel.
#ifndef ANGEL_PTM_CHECKPOINT_TEXT_ENCODERS_H_
#define ANGEL_PTM_CHECKPOINT_TEXT_ENCODERS_H_

#include <string>

#include "angel_ptm/base/status.h"
#include "angel_ptm/checkpoint/weights_directory.h"
#include "angel_ptm/model/bert_encoder.h"
#include "angel_ptm/model/parameter_table.h"
#include "angel_ptm/model/t5_encoder.h"

namespace angel_ptm {

// The sizes that config.json gives. Errors: an architecture or activation other than the graph's; sizes that do not fit
// together.
absl::StatusOr<BertShape> ReadBertShape(const std::string& directory);
absl::StatusOr<T5Shape> ReadT5Shape(const std::string& directory);

// Opens the weights of a graph of that shape. What a directory has besides the encoder (a pooler, a decoder, the head
// of a language model, T5's second name of its embeddings) is ignored.
absl::StatusOr<WeightsReader> OpenBert(const std::string& directory, const ParameterTable& table);
absl::StatusOr<WeightsReader> OpenT5(const std::string& directory, const ParameterTable& table);

}  // namespace angel_ptm

#endif  // ANGEL_PTM_CHECKPOINT_TEXT_ENCODERS_H_
