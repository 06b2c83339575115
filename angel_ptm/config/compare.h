// In what two configurations differ, field by field.
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
  std::string before, after;  // values as text, with as many digits as give them back
};

// The fields whose values differ, in the order of the .proto. Both have all fields set (load.h). A chosen oneof member
// that is not the same is one difference with the members' names as values: "model.family", "hunyuan_lm", "none".
std::vector<FieldDifference> ConfigDifferences(const TrainConfig& before, const TrainConfig& after);

// Whether `path` is one of `fields` or lies below one of them.
bool IsBelow(std::string_view path, std::span<const std::string_view> fields);

// The fields of model{} in which `got` is another model than `wanted`, each as "model.hunyuan_lm.moe_topk: wanted 2,
// got 1". Left out are `may_differ`, paths that the model's family knows to mean no other model.
std::vector<std::string> ModelDifferences(const TrainConfig& wanted, const TrainConfig& got,
                                          std::span<const std::string_view> may_differ);

}  // namespace angel_ptm

#endif  // ANGEL_PTM_CONFIG_COMPARE_H_
