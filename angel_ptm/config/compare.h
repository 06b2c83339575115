// The differences between two configurations, field by field.
#ifndef ANGEL_PTM_CONFIG_COMPARE_H_
#define ANGEL_PTM_CONFIG_COMPARE_H_

#include <span>
#include <string>
#include <string_view>
#include <vector>

#include "angel_ptm/config/train_config.pb.h"

namespace angel_ptm {

struct FieldDifference {
  std::string path;           // "optimizer.adamw.beta1"
  std::string before, after;  // values as text, with enough digits to restore them
};

// Returns the fields whose values differ, in the order of the .proto. Both configs have all fields set (load.h). If
// they choose different members of a oneof, that is one difference with the members' names as values: "model.family",
// "hunyuan_lm", "none".
std::vector<FieldDifference> ConfigDifferences(const TrainConfig& before, const TrainConfig& after);

// Whether `path` is one of `fields` or lies below one of them.
bool IsBelow(std::string_view path, std::span<const std::string_view> fields);

// Returns the fields of model{} that make `got` a different model from `wanted`, each as "model.hunyuan_lm.moe_topk:
// wanted 2, got 1". Paths in `may_differ`, which the model's family knows not to change the model, are left out.
std::vector<std::string> ModelDifferences(const TrainConfig& wanted, const TrainConfig& got,
                                          std::span<const std::string_view> may_differ);

}  // namespace angel_ptm

#endif  // ANGEL_PTM_CONFIG_COMPARE_H_
