// Reads tokenizer.json and tokenizer_config.json, Hugging Face's file formats. Every error is a sentence that names the
// file. Ignores truncation and padding, which data.sequence_length determines.
#include <optional>
#include <string>
#include <utility>

#include "absl/container/flat_hash_map.h"
#include "absl/strings/str_cat.h"
#include "angel_ptm/base/file.h"
#include "angel_ptm/base/json.h"
#include "angel_ptm/data/byte_alphabet.h"
#include "angel_ptm/data/patterns/normal_form.h"
#include "angel_ptm/data/tokenizer.h"
#include "nlohmann/json.hpp"

namespace angel_ptm {
namespace {

using Json = nlohmann::json;

constexpr char kFile[] = "tokenizer.json", kConfigFile[] = "tokenizer_config.json";

const Json& Null() {
  static const Json null;
  return null;
}

std::string Quoted(const std::string& text) { return Json(text).dump(); }

// A value for messages: the beginning of a simple value, or the kind of a structured one.
std::string Brief(const Json& value) {
  if (value.is_structured()) return value.is_array() ? "a list" : "an object";
  const std::string text = value.dump().substr(0, 100);
  return text.substr(0, ValidUtf8Prefix(text));
}

// The member of an object, or null if there is none.
const Json& Member(const Json& object, const char* key) {
  return object.is_object() && object.contains(key) ? object[key] : Null();
}

bool IsType(const Json& part, const char* type) { return Member(part, "type") == Json(type); }

// The parts of a "Sequence", or the value itself if it is not one; none if it is null.
std::vector<const Json*> PartsOf(const Json& value, const char* list) {
  if (value.is_null()) return {};
  std::vector<const Json*> parts;
  if (!IsType(value, "Sequence")) return {&value};
  for (const Json& part : Member(value, list)) parts.push_back(&part);
  return parts;
}

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

}  // namespace

class Tokenizer::Reader {
 public:
  Reader(const Json& root, const std::string& name) : root_(root), name_(name) {}

  absl::Status Error(const std::string& what) const {
    return absl::InvalidArgumentError(absl::StrCat(name_, " is not a tokenizer that angel-ptm can use: ", what));
  }

  absl::Status ReadInto(Tokenizer& tokenizer) {
    RETURN_IF_ERROR(CheckModel());
    RETURN_IF_ERROR(ReadTokens(tokenizer));
    RETURN_IF_ERROR(ReadMerges(tokenizer));
    RETURN_IF_ERROR(ReadNormalizer(tokenizer));
    RETURN_IF_ERROR(AddTokens(tokenizer));
    RETURN_IF_ERROR(ReadWords(tokenizer));
    return ReadBeginning(tokenizer);
  }

  // The id of an added token.
  std::optional<int32_t> FindAdded(const std::string& text) const {
    const auto it = added_ids_.find(text);
    return it == added_ids_.end() ? std::nullopt : std::optional(it->second);
  }

 private:
  // The value at a JSON pointer, or null.
  const Json& At(const char* pointer) const {
    const Json::json_pointer p(pointer);
    return root_.contains(p) ? root_[p] : Null();
  }

  absl::Status Wrong(const std::string& where, const absl::string_view wanted, const Json& got) const {
    return Error(absl::StrCat(where, " should be ", wanted, ", got ", Brief(got)));
  }

  // Requires an option that would change the ids to be absent, null, false or empty.
  absl::Status ExpectUnset(const std::string& where, const Json& got) const {
    const bool empty_text = got.is_string() && got.get_ref<const std::string&>().empty();
    if (got.is_null() || got == Json(false) || empty_text) return absl::OkStatus();
    return Wrong(where, "unset", got);
  }

  // An unknown token may be named: reading the bytes shows that no token is unknown.
  absl::Status CheckModel() const {
    if (!root_.is_object()) return Error("its top level is not an object");
    if (At("/model/type") != Json("BPE")) return Wrong("/model/type", "\"BPE\"", At("/model/type"));
    for (const char* option :
         {"/model/dropout", "/model/continuing_subword_prefix", "/model/end_of_word_suffix", "/model/byte_fallback"}) {
      RETURN_IF_ERROR(ExpectUnset(option, At(option)));
    }
    if (!At("/model/vocab").is_object()) return Error("/model/vocab should be an object");
    if (!At("/model/merges").is_array()) return Error("/model/merges should be a list");
    if (!At("/added_tokens").is_array()) return Error("/added_tokens should be a list");
    return absl::OkStatus();
  }

  // Sets added_ids_, the vocabulary size, and the bytes of each token.
  absl::Status ReadTokens(Tokenizer& tokenizer) {
    const Json& vocabulary = At("/model/vocab");
    const int64_t ids_max = static_cast<int64_t>(vocabulary.size() + At("/added_tokens").size());
    std::vector<std::string>& token_bytes = tokenizer.token_bytes_;
    std::vector<bool> seen(static_cast<size_t>(ids_max)), is_added(static_cast<size_t>(ids_max));
    const auto read_id = [&](const std::string& text, const Json& value, int32_t* id) -> absl::Status {
      const int64_t got = value.is_number_integer() ? value.get<int64_t>() : -1;
      if (got < 0 || got >= ids_max) {
        return Error(absl::StrCat("the id of token ", Quoted(text), " should be a number from 0 to ", ids_max - 1,
                                  " of its own, got ", Brief(value)));
      }
      *id = static_cast<int32_t>(got);
      if (got >= static_cast<int64_t>(token_bytes.size())) token_bytes.resize(static_cast<size_t>(got) + 1);
      return absl::OkStatus();
    };
    for (const Json& added : At("/added_tokens")) {
      const Json& content = Member(added, "content");
      if (!content.is_string() || content.get_ref<const std::string&>().empty()) {
        return Error("each of /added_tokens should have a content, a text");
      }
      const std::string& text = content.get_ref<const std::string&>();
      for (const char* option : {"lstrip", "rstrip", "single_word"}) {
        RETURN_IF_ERROR(ExpectUnset(absl::StrCat(option, " of token ", Quoted(text)), Member(added, option)));
      }
      int32_t id = -1;
      RETURN_IF_ERROR(read_id(text, Member(added, "id"), &id));
      if (!added_ids_.try_emplace(text, id).second || is_added[id]) {
        return Error(absl::StrCat("token ", Quoted(text), " or its id is added twice"));
      }
      is_added[id] = true;
      if (Member(added, "special") != Json(true)) token_bytes[id] = text;
    }
    std::string bytes;
    for (const auto& [text, value] : vocabulary.items()) {
      int32_t id = -1;
      RETURN_IF_ERROR(read_id(text, value, &id));
      const std::optional<int32_t> added = FindAdded(text);
      if (seen[id] || (is_added[id] && added != id) || (added.has_value() && added != id)) {
        return Error(absl::StrCat("the id of token ", Quoted(text), " should be of its own, got ", id));
      }
      seen[id] = true;
      if (is_added[id]) continue;
      if (text.empty() || !ByteAlphabet::Get().Read(text, &bytes)) {
        return Error(absl::StrCat("token ", Quoted(text), " is not written in the byte-level alphabet"));
      }
      token_bytes[id] = bytes;
      ids_.emplace(bytes, id);
    }
    for (int b = 0; b < 256; ++b) {
      const auto it = ids_.find(std::string(1, static_cast<char>(b)));
      if (it == ids_.end()) return Error(absl::StrCat("its vocabulary lacks byte ", b));
      tokenizer.byte_ids_[b] = it->second;
    }
    return absl::OkStatus();
  }

  absl::Status ReadMerges(Tokenizer& tokenizer) const {
    std::string text[2], bytes[2];
    const ByteAlphabet& alphabet = ByteAlphabet::Get();
    for (const Json& merge : At("/model/merges")) {
      int32_t found[3] = {-1, -1, -1};
      if (ReadMerge(merge, &text[0], &text[1]) && alphabet.Read(text[0], &bytes[0]) &&
          alphabet.Read(text[1], &bytes[1])) {
        const std::string parts[3] = {bytes[0], bytes[1], bytes[0] + bytes[1]};
        for (int i = 0; i < 3; ++i) {
          if (const auto it = ids_.find(parts[i]); it != ids_.end()) found[i] = it->second;
        }
      }
      if (found[0] < 0 || found[1] < 0 || found[2] < 0) {
        return Error(absl::StrCat("merge ", tokenizer.merge_list_.size(), ", ", Brief(merge),
                                  ", does not join two tokens of the vocabulary into a third"));
      }
      tokenizer.AddMerge(found[0], found[1], found[2]);
    }
    if (At("/model/ignore_merges") == Json(true)) tokenizer.whole_words_.insert(ids_.begin(), ids_.end());
    return absl::OkStatus();
  }

  absl::Status ReadNormalizer(Tokenizer& tokenizer) const {
    for (const Json* part : PartsOf(At("/normalizer"), "normalizers")) {
      if (!IsType(*part, "NFC")) {
        return Wrong("the type of /normalizer", "\"NFC\", or it unset", Member(*part, "type"));
      }
      if (!HasPatternLibraries()) return Error("/normalizer is NFC, which this build has no utf8proc for");
      tokenizer.composes_ = true;
    }
    return absl::OkStatus();
  }

  absl::Status AddTokens(Tokenizer& tokenizer) const {
    for (const Json& added : At("/added_tokens")) {
      const std::string& text = Member(added, "content").get_ref<const std::string&>();
      const int32_t id = *FindAdded(text);
      if (Member(added, "normalized") != Json(true)) {
        tokenizer.added_.Add(text, id);
      } else {
        tokenizer.normal_added_.Add(tokenizer.composes_ ? NormalFormC(text) : text, id);
      }
    }
    return absl::OkStatus();
  }

  // Reads the parts of /pre_tokenizer, the last of which maps bytes to the alphabet.
  absl::Status ReadWords(Tokenizer& tokenizer) const {
    const std::vector<const Json*> parts = PartsOf(At("/pre_tokenizer"), "pretokenizers");
    if (parts.empty() || !IsType(*parts.back(), "ByteLevel")) {
      return Error(absl::StrCat("/pre_tokenizer should be \"ByteLevel\" or end in it, got ",
                                parts.empty() ? "none" : Brief(Member(*parts.back(), "type"))));
    }
    const Json& last = *parts.back();
    RETURN_IF_ERROR(ExpectUnset("/pre_tokenizer/add_prefix_space", Member(last, "add_prefix_space")));
    tokenizer.word_rules_.gpt2 = Member(last, "use_regex") != Json(false);
    for (size_t i = 0; i + 1 < parts.size(); ++i) {
      ASSIGN_OR_RETURN(WordRules::Rule rule, ReadRule(*parts[i]));
      tokenizer.word_rules_.rules.push_back(std::move(rule));
    }
    return absl::OkStatus();
  }

  absl::StatusOr<WordRules::Rule> ReadRule(const Json& part) const {
    WordRules::Rule rule;
    std::string pattern;
    bool literal = false;
    if (IsType(part, "Digits")) {
      pattern = Member(part, "individual_digits") == Json(true) ? "\\p{N}" : "\\p{N}+";
    } else if (IsType(part, "Split")) {
      const Json &regex = Member(Member(part, "pattern"), "Regex"), &text = Member(Member(part, "pattern"), "String");
      literal = text.is_string();
      if (!literal && !regex.is_string())
        return Error("a Split of /pre_tokenizer should have a pattern, Regex or String");
      pattern = (literal ? text : regex).get<std::string>();
      const Json& behavior = Member(part, "behavior");
      const bool inverted = Member(part, "invert") == Json(true);
      if (behavior == Json("Removed")) {
        (inverted ? rule.keeps_rest : rule.keeps_matches) = false;
      } else if (behavior != Json("Isolated")) {
        return Wrong("the behavior of a Split of /pre_tokenizer", "\"Isolated\" or \"Removed\"", behavior);
      }
    } else {
      return Wrong("a part of /pre_tokenizer before \"ByteLevel\"", "\"Split\" or \"Digits\"", Member(part, "type"));
    }
    absl::StatusOr<std::unique_ptr<const Regex>> compiled = Regex::Compile(pattern, literal);
    if (!compiled.ok()) {
      return Error(absl::StrCat("the pattern ", Quoted(pattern), " of /pre_tokenizer: ", compiled.status().message()));
    }
    rule.pattern = *std::move(compiled);
    return rule;
  }

  // Reads what /post_processor puts before a text. Ignores what it puts after it, since the end-of-text token goes
  // there anyway.
  absl::Status ReadBeginning(Tokenizer& tokenizer) const {
    for (const Json* part : PartsOf(At("/post_processor"), "processors")) {
      if (IsType(*part, "ByteLevel")) continue;  // only affects offsets
      if (!IsType(*part, "TemplateProcessing")) {
        return Wrong("a part of /post_processor", "\"ByteLevel\" or \"TemplateProcessing\"", Member(*part, "type"));
      }
      bool behind = false;
      for (const Json& piece : Member(*part, "single")) {
        if (!Member(piece, "Sequence").is_null()) behind = true;
        const Json& special = Member(Member(piece, "SpecialToken"), "id");
        if (behind || special.is_null()) continue;
        const std::optional<int32_t> id =
            special.is_string() ? FindAdded(special.get_ref<const std::string&>()) : std::nullopt;
        if (!id.has_value()) return Wrong("a SpecialToken of /post_processor", "one of /added_tokens", special);
        tokenizer.begin_ids_.push_back(*id);
      }
    }
    return absl::OkStatus();
  }

  const Json& root_;
  const std::string& name_;
  absl::flat_hash_map<std::string, int32_t> added_ids_;  // by text
  absl::flat_hash_map<std::string, int32_t> ids_;        // of all other tokens, by bytes
};

namespace {

// The text of a token in tokenizer_config.json, which is a text or an object that contains it.
const Json& TokenText(const Json& config, const char* key) {
  const Json& value = Member(config, key);
  return value.is_object() ? Member(value, "content") : value;
}

}  // namespace

absl::StatusOr<std::unique_ptr<Tokenizer>> Tokenizer::FromJson(std::string_view json, const std::string& name,
                                                               std::string_view config_json) {
  const bool too_deep = NestsTooDeep(json) || NestsTooDeep(config_json);
  const Json root = ParseJson(json);
  Reader reader(root, name);
  if (too_deep) return reader.Error(absl::StrCat("it nests deeper than ", kJsonNestingMax, " levels"));
  if (root.is_discarded()) return reader.Error("it is not valid JSON (truncated?)");
  auto tokenizer = std::unique_ptr<Tokenizer>(new Tokenizer);
  RETURN_IF_ERROR(reader.ReadInto(*tokenizer));

  Json config = {{"eos_token", std::string(kEndOfTextToken)}, {"pad_token", std::string(kPadToken)}};
  if (!config_json.empty()) {
    config = ParseJson(config_json);
    if (!config.is_object()) return reader.Error(absl::StrCat(kConfigFile, " beside it is not a JSON object"));
  }
  const auto find = [&](const char* key) -> std::optional<int32_t> {
    const Json& text = TokenText(config, key);
    return text.is_string() ? reader.FindAdded(text.get_ref<const std::string&>()) : std::nullopt;
  };
  const std::optional<int32_t> end = find("eos_token");
  if (!end.has_value()) {
    return reader.Error(absl::StrCat("the eos_token of ", kConfigFile, ", which ends every document, should be one of ",
                                     "/added_tokens, got ", Brief(TokenText(config, "eos_token"))));
  }
  tokenizer->end_of_text_id_ = *end;
  tokenizer->pad_id_ = find("pad_token").value_or(*end);
  tokenizer->json_ = std::string(json);
  tokenizer->config_json_ = std::string(config_json);
  return tokenizer;
}

absl::StatusOr<std::unique_ptr<Tokenizer>> Tokenizer::LoadFolder(const std::string& folder) {
  const std::string path = absl::StrCat(folder, "/", kFile);
  ASSIGN_OR_RETURN(const std::string json, ReadFile(path));
  ASSIGN_OR_RETURN(const std::string config_json, ReadFile(absl::StrCat(folder, "/", kConfigFile)));
  return FromJson(json, path, config_json);
}

}  // namespace angel_ptm
