// angel-ptm init: writes a configuration to begin with.
#include <cstdio>
#include <string>
#include <vector>

#include "absl/strings/str_cat.h"
#include "angel_ptm/base/file.h"
#include "angel_ptm/checkpoint/huggingface.h"
#include "angel_ptm/config/starter.h"
#include "launch/commands.h"

namespace angel_ptm {

namespace {

// Reads the model in `from` as fields of a configuration.
absl::Status ReadModel(const std::string& from, HunyuanLmConfig* model) {
  ASSIGN_OR_RETURN(const HuggingFaceModel there, ReadHuggingFaceModel(from));
  const HunyuanLmShape& s = there.shape;
  model->set_hidden_size(s.hidden_size);
  model->set_intermediate_size(s.intermediate_size);
  model->set_num_hidden_layers(s.num_hidden_layers);
  model->set_num_attention_heads(s.num_attention_heads);
  model->set_num_key_value_heads(s.num_key_value_heads);
  model->set_head_dim(s.head_dim);
  if (s.is_moe()) {
    model->set_num_experts(s.num_experts);
    model->set_moe_topk(s.moe_topk);
  }
  model->set_rope_theta(s.rope_theta);
  if (s.rope_alpha > 0) model->set_rope_alpha(s.rope_alpha);
  model->set_rms_norm_eps(Decimal(s.rms_norm_eps));
  model->set_tie_word_embeddings(s.tie_word_embeddings);
  model->set_max_position_embeddings(there.max_position_embeddings);
  model->set_vocab_size(s.vocab_size);
  return absl::OkStatus();
}

}  // namespace

absl::Status InitCommand(const std::vector<std::string>& words) {
  ASSIGN_OR_RETURN(const Arguments arguments,
                   Arguments::Parse(words, {.flags = {"input", "from"}, .positional_max = 1, .positional = "NAME"}));
  if (arguments.positional().empty()) return absl::InvalidArgumentError("init: which NAME?");
  const std::string& name = arguments.positional()[0];
  if (name.empty() || name.find('/') != std::string::npos || name[0] == '.') {
    return absl::InvalidArgumentError(
        absl::StrCat("init: wanted a name without '/' that does not begin with '.', got '", name, "'"));
  }
  const std::string path = name + ".textproto";
  Starter starter{.name = name, .input = arguments.Get("input", "text"), .from = arguments.Get("from", "")};
  ASSIGN_OR_RETURN(const bool exists, PathExists(path));
  if (exists) return absl::AlreadyExistsError(absl::StrCat(path, " exists already: remove it or take another name"));
  if (!starter.from.empty()) RETURN_IF_ERROR(ReadModel(starter.from, &starter.model));
  RETURN_IF_ERROR(WriteFile(path, StarterConfig(starter)));
  std::printf("wrote %s, which trains on the text in %s. Next:\n", path.c_str(), starter.input.c_str());
  for (const char* command : {"prepare ", "plan "}) std::printf("  angel-ptm %s%s\n", command, path.c_str());
  if (!starter.from.empty()) {
    std::printf("  angel-ptm import %s --from %s --format huggingface\n", path.c_str(), starter.from.c_str());
  }
  std::printf("  angel-ptm train %s%s\n", path.c_str(), starter.from.empty() ? "" : " --resume");
  std::printf("  angel-ptm generate --checkpoint runs/%s/train --prompt \"...\"\n", name.c_str());
  return absl::OkStatus();
}

}  // namespace angel_ptm
