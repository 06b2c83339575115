// Whether two configurations mean the same model.
#ifndef ANGEL_PTM_CONFIG_COMPARE_H_
#define ANGEL_PTM_CONFIG_COMPARE_H_

#include <string>
#include <vector>

#include "angel_ptm/config/train_config.pb.h"

namespace angel_ptm {

// The fields in which `got` computes something else than `wanted`, each as "model.hunyuan_lm.moe_topk: wanted 2, got
// 1", in the order of the .proto. Both have all fields set (load.h). Left out are fields that matter only before the
// first step (initializer_range), to the optimizer, as a learning rate does (router_aux_loss_coefficient), or to
// readers of an exported model (max_position_embeddings), and sizes whose 0 stands for a value found elsewhere
// (num_key_value_heads, head_dim, vocab_size): the shapes of the parameters tell them.
std::vector<std::string> ModelDifferences(const ModelConfig& wanted, const ModelConfig& got);

}  // namespace angel_ptm

#endif  // ANGEL_PTM_CONFIG_COMPARE_H_
