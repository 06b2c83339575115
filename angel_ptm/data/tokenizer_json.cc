// tokenizer.json and tokenizer_config.json: Hugging Face's file formats for a byte-level BPE tokenizer.
#include <string>
#include <utility>

#include "absl/strings/str_cat.h"
#include "angel_ptm/base/file.h"
#include "angel_ptm/base/json_nesting.h"
#include "angel_ptm/base/status.h"
#include "angel_ptm/data/tokenizer.h"
#include "angel_ptm/data/utf8.h"
#include "nlohmann/json.hpp"

namespace angel_ptm {
namespace {

using Json = nlohmann::json;

// GPT-2's printable stand-ins for bytes: printable Latin-1 bytes stand for themselves, the others, in order, for the
// code points from U+0100.
struct ByteAlphabet {
  uint32_t code_points[256];
  int32_t bytes[512];  // by code point; -1: none

  ByteAlphabet() {
    for (int32_t& byte : bytes) byte = -1;
    uint32_t next = 256;
    for (int b = 0; b < 256; ++b) {
      const bool printable = (b >= '!' && b <= '~') || (b >= 0xA1 && b <= 0xAC) || b >= 0xAE;
      code_points[b] = printable ? b : next++;
      bytes[code_points[b]] = b;
    }
  }

  std::string Write(std::string_view text) const {
    std::string result;
    for (char c : text) AppendUtf8(code_points[static_cast<unsigned char>(c)], &result);
    return result;
  }

  // False if `text` holds a character that stands for no byte.
  bool Read(std::string_view text, std::string* result) const {
    result->clear();
    for (size_t at = 0; at < text.size();) {
      const uint32_t code_point = NextCodePoint(text, &at);
      if (code_point >= 512 || bytes[code_point] < 0) return false;
      result->push_back(static_cast<char>(bytes[code_point]));
    }
    return true;
  }
};

std::string Quoted(const std::string& text) { return Json(text).dump(); }

// A value for messages: the beginning of a simple one, the kind of a list or object.
std::string Brief(const Json& value) {
  if (value.is_structured()) return value.is_array() ? "a list" : "an object";
  const std::string text = value.dump().substr(0, 100);
  return text.substr(0, ValidUtf8Prefix(text));
}

std::string AddedToken(int32_t id, std::string_view token) {
  return absl::StrCat("    {\"id\": ", id, ", \"content\": ", Quoted(std::string(token)),
                      ", \"single_word\": false, \"lstrip\": false, \"rstrip\": false, \"normalized\": false, "
                      "\"special\": true}");
}

// Reads the pieces of a tokenizer.json; every failure is a sentence that names the file.
class JsonReader {
 public:
  JsonReader(const Json& root, const std::string& name) : root_(root), name_(name) {}

  absl::Status Error(const std::string& what) const {
    return absl::InvalidArgumentError(absl::StrCat(name_, " is not a tokenizer that angel-ptm can use: ", what));
  }

  // The value at a JSON pointer, or null.
  const Json& At(const char* pointer) const {
    static const Json kNull;
    const Json::json_pointer p(pointer);
    return root_.contains(p) ? root_[p] : kNull;
  }

  absl::Status Expect(const char* pointer, const Json& wanted) const {
    const Json& got = At(pointer);
    if (got == wanted) return absl::OkStatus();
    return Error(absl::StrCat(pointer, " should be ", wanted.dump(), ", got ", Brief(got)));
  }

  // Absent, null, false or empty: options of other tokenizers that would change the ids.
  absl::Status ExpectUnset(const char* pointer) const {
    const Json& got = At(pointer);
    const bool empty_text = got.is_string() && got.get_ref<const std::string&>().empty();
    if (got.is_null() || got == Json(false) || empty_text) return absl::OkStatus();
    return Error(absl::StrCat(pointer, " should be unset, got ", Brief(got)));
  }

  absl::Status ExpectKind() const {
    if (!root_.is_object()) return Error("its top level is not an object");
    RETURN_IF_ERROR(Expect("/model/type", "BPE"));
    RETURN_IF_ERROR(Expect("/pre_tokenizer/type", "ByteLevel"));
    RETURN_IF_ERROR(Expect("/pre_tokenizer/add_prefix_space", false));
    RETURN_IF_ERROR(Expect("/pre_tokenizer/use_regex", true));
    for (const char* option : {"/normalizer", "/model/dropout", "/model/unk_token", "/model/continuing_subword_prefix",
                               "/model/end_of_word_suffix", "/model/byte_fallback", "/model/ignore_merges"}) {
      RETURN_IF_ERROR(ExpectUnset(option));
    }
    if (!At("/model/vocab").is_object()) return Error("/model/vocab should be an object");
    if (!At("/model/merges").is_array()) return Error("/model/merges should be a list");
    return ExpectAddedTokens();
  }

 private:
  absl::Status ExpectAddedTokens() const {
    const Json& added = At("/added_tokens");
    if (!added.is_array() || added.size() != 2) return Error("/added_tokens should hold exactly two tokens");
    RETURN_IF_ERROR(Expect("/added_tokens/0/id", kEndOfTextId));
    RETURN_IF_ERROR(Expect("/added_tokens/0/content", std::string(kEndOfTextToken)));
    RETURN_IF_ERROR(Expect("/added_tokens/1/id", kPadId));
    return Expect("/added_tokens/1/content", std::string(kPadToken));
  }

  const Json& root_;
  const std::string& name_;
};

// The two token texts of a merge: ["a", "b"] or "a b" (neither text holds a space).
bool ReadMerge(const Json& merge, std::string* left, std::string* right) {
  if (merge.is_array() && merge.size() == 2 && merge[0].is_string() && merge[1].is_string()) {
    *left = merge[0].get<std::string>();
    *right = merge[1].get<std::string>();
    return true;
  }
  if (!merge.is_string()) return false;
  const std::string& text = merge.get_ref<const std::string&>();
  const size_t space = text.find(' ');
  if (space == std::string::npos) return false;
  *left = text.substr(0, space);
  *right = text.substr(space + 1);
  return true;
}

const ByteAlphabet& Alphabet() {
  static const ByteAlphabet alphabet;
  return alphabet;
}

// token_bytes[id] from /model/vocab, whose ids must be 0 .. size-1, each once.
absl::Status ReadVocabulary(const JsonReader& reader, std::vector<std::string>* token_bytes) {
  const Json& vocabulary = reader.At("/model/vocab");
  token_bytes->assign(vocabulary.size(), std::string());
  std::vector<bool> seen(vocabulary.size());
  for (const auto& [text, value] : vocabulary.items()) {
    const int64_t id = value.is_number_integer() ? value.get<int64_t>() : -1;
    if (id < 0 || id >= static_cast<int64_t>(seen.size()) || seen[id]) {
      return reader.Error(absl::StrCat("the id of token ", Quoted(text), " should be a number from 0 to ",
                                       seen.size() - 1, " of its own, got ", Brief(value)));
    }
    seen[id] = true;
    if (id == kEndOfTextId || id == kPadId) {
      const std::string wanted(id == kPadId ? kPadToken : kEndOfTextToken);
      if (text != wanted) return reader.Error(absl::StrCat("id ", id, " should be ", wanted, ", got ", Quoted(text)));
    } else if (!Alphabet().Read(text, &(*token_bytes)[id]) || text.empty()) {
      return reader.Error(absl::StrCat("token ", Quoted(text), " is not written in the byte-level alphabet"));
    }
  }
  return absl::OkStatus();
}

}  // namespace

absl::StatusOr<std::unique_ptr<Tokenizer>> Tokenizer::FromJson(std::string_view json, const std::string& name) {
  const bool too_deep = NestsTooDeep(json);
  const Json root = too_deep ? Json() : Json::parse(json, nullptr, /*allow_exceptions=*/false);
  const JsonReader reader(root, name);
  if (too_deep) return reader.Error(absl::StrCat("it nests deeper than ", kJsonNestingMax, " levels"));
  if (root.is_discarded()) return reader.Error("it is not valid JSON (truncated?)");
  RETURN_IF_ERROR(reader.ExpectKind());

  auto tokenizer = std::unique_ptr<Tokenizer>(new Tokenizer);
  RETURN_IF_ERROR(ReadVocabulary(reader, &tokenizer->token_bytes_));
  absl::flat_hash_map<std::string, int32_t> ids;
  for (int32_t id = 2; id < tokenizer->vocabulary_size(); ++id) ids[tokenizer->token_bytes_[id]] = id;
  for (int b = 0; b < 256; ++b) {
    const auto it = ids.find(std::string(1, static_cast<char>(b)));
    if (it == ids.end()) return reader.Error(absl::StrCat("its vocabulary lacks byte ", b));
    tokenizer->byte_ids_[b] = it->second;
  }
  std::string text[2], bytes[2];
  for (const Json& merge : reader.At("/model/merges")) {
    int32_t found[3] = {-1, -1, -1};
    if (ReadMerge(merge, &text[0], &text[1]) && Alphabet().Read(text[0], &bytes[0]) &&
        Alphabet().Read(text[1], &bytes[1])) {
      const std::string parts[3] = {bytes[0], bytes[1], bytes[0] + bytes[1]};
      for (int i = 0; i < 3; ++i) {
        if (const auto it = ids.find(parts[i]); it != ids.end()) found[i] = it->second;
      }
    }
    if (found[0] < 0 || found[1] < 0 || found[2] < 0) {
      return reader.Error(absl::StrCat("merge ", tokenizer->merge_list_.size(), ", ", Brief(merge),
                                       ", does not join two tokens of the vocabulary into a third"));
    }
    tokenizer->AddMerge(found[0], found[1], found[2]);
  }
  return tokenizer;
}

absl::StatusOr<std::unique_ptr<Tokenizer>> Tokenizer::Load(const std::string& tokenizer_json_path) {
  ASSIGN_OR_RETURN(const std::string json, ReadFile(tokenizer_json_path));
  return FromJson(json, tokenizer_json_path);
}

std::string Tokenizer::ToJson() const {
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
                                                : Alphabet().Write(token_bytes_[id]);
    absl::StrAppend(&json, "      ", Quoted(text), ": ", id, id + 1 < vocabulary_size() ? ",\n" : "\n");
  }
  absl::StrAppend(&json, "    },\n    \"merges\": [");
  for (size_t i = 0; i < merge_list_.size(); ++i) {
    const BpeMerge& merge = merge_list_[i];
    absl::StrAppend(&json, i == 0 ? "\n      " : ",\n      ",
                    Quoted(absl::StrCat(Alphabet().Write(token_bytes_[merge.left]), " ",
                                        Alphabet().Write(token_bytes_[merge.right]))));
  }
  absl::StrAppend(&json, "\n    ]\n  }\n}\n");
  return json;
}

std::string Tokenizer::ToConfigJson() const {
  const std::string end_of_text = Quoted(std::string(kEndOfTextToken)), pad = Quoted(std::string(kPadToken));
  return absl::StrCat("{\n  \"tokenizer_class\": \"PreTrainedTokenizerFast\",\n  \"eos_token\": ", end_of_text,
                      ",\n  \"pad_token\": ", pad,
                      // Without it transformers 4 also makes token_type_ids, which the model refuses.
                      ",\n  \"model_input_names\": [\"input_ids\", \"attention_mask\"]"
                      ",\n  \"add_bos_token\": false,\n  \"add_eos_token\": false,\n"
                      "  \"clean_up_tokenization_spaces\": false\n}\n");
}

}  // namespace angel_ptm
