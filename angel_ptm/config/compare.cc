#include "angel_ptm/config/compare.h"

#include <google/protobuf/descriptor.h>
#include <google/protobuf/text_format.h>

#include <algorithm>
#include <array>
#include <string_view>

#include "absl/strings/str_cat.h"

namespace angel_ptm {
namespace {

constexpr std::array<std::string_view, 6> kLeftOut = {
    "initializer_range", "router_aux_loss_coefficient", "max_position_embeddings", "num_key_value_heads", "head_dim",
    "vocab_size"};

}  // namespace

std::vector<std::string> ModelDifferences(const ModelConfig& wanted, const ModelConfig& got) {
  const google::protobuf::Descriptor* type = HunyuanLmConfig::descriptor();
  std::vector<std::string> differences;
  for (int i = 0; i < type->field_count(); ++i) {
    const google::protobuf::FieldDescriptor* field = type->field(i);
    const std::string name(field->name());
    if (std::find(kLeftOut.begin(), kLeftOut.end(), name) != kLeftOut.end()) continue;
    // As text, which has as many digits as it takes to give the number back.
    std::string a, b;
    google::protobuf::TextFormat::PrintFieldValueToString(wanted.hunyuan_lm(), field, -1, &a);
    google::protobuf::TextFormat::PrintFieldValueToString(got.hunyuan_lm(), field, -1, &b);
    if (a == b) continue;
    differences.push_back(absl::StrCat("model.hunyuan_lm.", name, ": wanted ", a, ", got ", b));
  }
  return differences;
}

}  // namespace angel_ptm
