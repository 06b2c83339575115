// Converts text to a complete TrainConfig and back. validate.h checks the values.
#ifndef ANGEL_PTM_CONFIG_LOAD_H_
#define ANGEL_PTM_CONFIG_LOAD_H_

#include <string>
#include <vector>

#include "angel_ptm/base/status.h"
#include "angel_ptm/config/train_config.pb.h"

namespace angel_ptm {

// Reads a config file in protobuf text format and applies `overrides` ("path.to.field=value", override.h) in order.
// Every field of the result is set, to its declared default if it is not mentioned; only an unchosen model family stays
// unset. Errors: kNotFound etc. if `path` cannot be read; kInvalidArgument for syntax errors and unknown fields as
// "path:line:column: message", and for overrides with all wrong ones, one per line.
absl::StatusOr<TrainConfig> LoadTrainConfig(const std::string& path, const std::vector<std::string>& overrides = {});

// The same from text in memory; `name` stands for the path in messages.
absl::StatusOr<TrainConfig> ParseTrainConfig(const std::string& text, const std::string& name,
                                             const std::vector<std::string>& overrides = {});

// The same for text that another version of the program has stored, as in a checkpoint: fields and enum values that
// this program does not know are not refused, but left out and listed in *unknown ("OptimizerConfig.momentum").
absl::StatusOr<TrainConfig> ParseStoredConfig(const std::string& stored, const std::string& name,
                                              std::vector<std::string>* unknown);

// Sets every unset field to its declared default, in all messages except unchosen members of a oneof.
void FillDefaults(TrainConfig* config);

// Canonical text: equal configs give equal text, and ParseTrainConfig(ToText(c)) gives c back bit for bit.
std::string ToText(const TrainConfig& config);

}  // namespace angel_ptm

#endif  // ANGEL_PTM_CONFIG_LOAD_H_
