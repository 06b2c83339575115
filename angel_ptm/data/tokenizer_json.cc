// Writes tokenizer.json and tokenizer_config.json, Hugging Face's file formats, for a byte-level BPE tokenizer.
#include <string>

#include "absl/strings/str_cat.h"
#include "angel_ptm/data/byte_alphabet.h"
#include "angel_ptm/data/tokenizer.h"
#include "nlohmann/json.hpp"

namespace angel_ptm {
namespace {

std::string Quoted(const std::string& text) { return nlohmann::json(text).dump(); }

std::string AddedToken(int32_t id, std::string_view token) {
  return absl::StrCat("    {\"id\": ", id, ", \"content\": ", Quoted(std::string(token)),
                      ", \"single_word\": false, \"lstrip\": false, \"rstrip\": false, \"normalized\": false, "
                      "\"special\": true}");
}

}  // namespace

std::string Tokenizer::ToJson() const {
  if (!json_.empty()) return json_;
  std::string json = absl::StrCat(
      "{\n  \"version\": \"1.0\",\n  \"truncation\": null,\n  \"padding\": null,\n  \"added_tokens\": [\n",
      AddedToken(kEndOfTextId, kEndOfTextToken), ",\n", AddedToken(kPadId, kPadToken),
      "\n  ],\n  \"normalizer\": null,\n"
      "  \"pre_tokenizer\": {\"type\": \"ByteLevel\", \"add_prefix_space\": false, \"trim_offsets\": true, "
      "\"use_regex\": true},\n"
      "  \"post_processor\": null,\n"
      "  \"decoder\": {\"type\": \"ByteLevel\", \"add_prefix_space\": false, \"trim_offsets\": true, "
      "\"use_regex\": true},\n"
      "  \"model\": {\n    \"type\": \"BPE\",\n    \"dropout\": null,\n    \"unk_token\": null,\n"
      "    \"continuing_subword_prefix\": null,\n    \"end_of_word_suffix\": null,\n    \"fuse_unk\": false,\n"
      "    \"byte_fallback\": false,\n    \"ignore_merges\": false,\n    \"vocab\": {\n");
  for (int32_t id = 0; id < vocabulary_size(); ++id) {
    const std::string text = id == kEndOfTextId ? std::string(kEndOfTextToken)
                             : id == kPadId     ? std::string(kPadToken)
                                                : ByteAlphabet::Get().Write(token_bytes_[id]);
    absl::StrAppend(&json, "      ", Quoted(text), ": ", id, id + 1 < vocabulary_size() ? ",\n" : "\n");
  }
  absl::StrAppend(&json, "    },\n    \"merges\": [");
  for (size_t i = 0; i < merge_list_.size(); ++i) {
    const BpeMerge& merge = merge_list_[i];
    absl::StrAppend(&json, i == 0 ? "\n      " : ",\n      ",
                    Quoted(absl::StrCat(ByteAlphabet::Get().Write(token_bytes_[merge.left]), " ",
                                        ByteAlphabet::Get().Write(token_bytes_[merge.right]))));
  }
  absl::StrAppend(&json, "\n    ]\n  }\n}\n");
  return json;
}

std::string Tokenizer::ToConfigJson() const {
  if (!config_json_.empty()) return config_json_;
  const std::string end_of_text = Quoted(std::string(kEndOfTextToken)), pad = Quoted(std::string(kPadToken));
  return absl::StrCat("{\n  \"tokenizer_class\": \"PreTrainedTokenizerFast\",\n  \"eos_token\": ", end_of_text,
                      ",\n  \"pad_token\": ", pad,
                      // Without this, transformers 4 also makes token_type_ids, which the model refuses.
                      ",\n  \"model_input_names\": [\"input_ids\", \"attention_mask\"]"
                      ",\n  \"add_bos_token\": false,\n  \"add_eos_token\": false,\n"
                      "  \"clean_up_tokenization_spaces\": false\n}\n");
}

}  // namespace angel_ptm
