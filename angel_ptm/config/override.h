// Command-line overrides of single config fields: `--set path.to.field=value`.
#ifndef ANGEL_PTM_CONFIG_OVERRIDE_H_
#define ANGEL_PTM_CONFIG_OVERRIDE_H_

#include <string>

#include "angel_ptm/base/status.h"
#include "angel_ptm/config/train_config.pb.h"

namespace angel_ptm {

// Applies "path.to.field=value". The path goes through message fields, those of a oneof included
// ("model.hunyuan_lm.num_experts=8"). Values: numbers (3e-4 where the field is a double, 1.5GiB where it counts bytes),
// true and false, enum values by name, strings as they are or in double quotes. A repeated field takes "=value" to
// append one value and "=[a, b]" to replace the list. kInvalidArgument names the override, what is wrong and the valid
// names; *config may then be partly changed.
absl::Status ApplyOverride(const std::string& assignment, TrainConfig* config);

}  // namespace angel_ptm

#endif  // ANGEL_PTM_CONFIG_OVERRIDE_H_
