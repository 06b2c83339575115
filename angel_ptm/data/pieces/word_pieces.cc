// WordPiece as in Hugging Face tokenizers: BertNormalizer, BertPreTokenizer, WordPiece.
#include <utf8proc.h>

#include <algorithm>
#include <nlohmann/json.hpp>
#include <tuple>
#include <utility>

#include "absl/container/flat_hash_map.h"
#include "absl/strings/str_cat.h"
#include "angel_ptm/base/checksum.h"
#include "angel_ptm/base/file.h"
#include "angel_ptm/base/hash.h"
#include "angel_ptm/base/json.h"
#include "angel_ptm/data/pieces/text_pieces.h"
#include "angel_ptm/data/unicode_classes.h"
#include "angel_ptm/data/utf8.h"

namespace angel_ptm {
namespace {

constexpr int64_t kWordCharactersMax = 100;  // a longer word is unknown

// The blocks of CJK ideographs, as the library has them. Spaces do not separate words there, so each ideograph is a
// word.
constexpr CodePointRange kIdeographs[] = {{0x4E00, 0x9FFF},   {0x3400, 0x4DBF},   {0x20000, 0x2A6DF},
                                          {0x2A700, 0x2B73F}, {0x2B740, 0x2B81F}, {0x2B920, 0x2CEAF},
                                          {0xF900, 0xFAFF},   {0x2F800, 0x2FA1F}};

bool IsIdeograph(uint32_t c) {
  return std::ranges::any_of(kIdeographs, [c](const CodePointRange& r) { return r.first <= c && c <= r.last; });
}
utf8proc_category_t CategoryOf(uint32_t c) { return utf8proc_category(static_cast<utf8proc_int32_t>(c)); }
// Unicode's White_Space.
bool IsSpace(uint32_t c) {
  const utf8proc_category_t category = CategoryOf(c);
  return (c >= 9 && c <= 13) || c == 0x85 || category == UTF8PROC_CATEGORY_ZS || category == UTF8PROC_CATEGORY_ZL ||
         category == UTF8PROC_CATEGORY_ZP;
}
// Characters that the normaliser removes.
bool IsRemoved(uint32_t c) {
  if (c == '\t' || c == '\n' || c == '\r') return false;
  const utf8proc_category_t category = CategoryOf(c);
  return c == 0 || c == 0xFFFD || category == UTF8PROC_CATEGORY_CC || category == UTF8PROC_CATEGORY_CF ||
         category == UTF8PROC_CATEGORY_CO;
}
bool IsPunctuation(uint32_t c) {
  if (c < 128) return c > 32 && c < 127 && !(c >= '0' && c <= '9') && !((c | 32) >= 'a' && (c | 32) <= 'z');
  const utf8proc_category_t category = CategoryOf(c);
  return category >= UTF8PROC_CATEGORY_PC && category <= UTF8PROC_CATEGORY_PO;
}

struct Options {
  bool lower_case = true, strip_accents = true, split_ideographs = true;
};

// A normalised run of characters between spaces, punctuation or ideographs, and where it begins in the text.
struct Word {
  std::string text;
  size_t begin = 0;
  int64_t characters = 0;
};

class WordSplitter {
 public:
  explicit WordSplitter(const Options& options) : options_(options) {}

  std::vector<Word> Split(std::string_view text) {
    for (size_t at = 0; at < text.size();) {
      const size_t begin = at;
      const uint32_t c = NextCodePoint(text, &at);
      if (IsRemoved(c)) continue;
      if (options_.split_ideographs && IsIdeograph(c)) {
        End();
        Normalised(c, begin);
        End();
      } else {
        Normalised(c, begin);
      }
    }
    End();
    return std::move(words_);
  }

 private:
  // Adds the parts of a character, without the marks above and below it.
  void Normalised(uint32_t c, size_t begin) {
    if (!options_.strip_accents) return Lowered(c, begin);
    utf8proc_int32_t parts[32];
    const utf8proc_ssize_t n =
        utf8proc_decompose_char(static_cast<utf8proc_int32_t>(c), parts, std::size(parts), UTF8PROC_DECOMPOSE, nullptr);
    if (n < 1 || n > static_cast<utf8proc_ssize_t>(std::size(parts))) return Lowered(c, begin);
    for (utf8proc_ssize_t i = 0; i < n; ++i) {
      const auto part = static_cast<uint32_t>(parts[i]);
      if (CategoryOf(part) != UTF8PROC_CATEGORY_MN) Lowered(part, begin);
    }
  }
  void Lowered(uint32_t c, size_t begin) {
    Append(options_.lower_case ? static_cast<uint32_t>(utf8proc_tolower(static_cast<utf8proc_int32_t>(c))) : c, begin);
  }
  void Append(uint32_t c, size_t begin) {
    const bool alone = IsPunctuation(c);
    if (IsSpace(c) || alone) End();
    if (IsSpace(c)) return;
    if (word_.text.empty()) word_.begin = begin;
    AppendUtf8(c, &word_.text);
    ++word_.characters;
    if (alone) End();
  }
  void End() {
    if (!word_.text.empty()) words_.push_back(std::move(word_));
    word_ = {};
  }

  const Options options_;
  Word word_;
  std::vector<Word> words_;
};

class WordPieces final : public TextPieces {
 public:
  struct SpecialIds {
    int32_t unknown = 0, begin = 0, end = 0, pad = 0;
  };
  using Vocabulary = absl::flat_hash_map<std::string, int32_t>;

  WordPieces(Vocabulary vocabulary, int64_t lines, const SpecialIds& special, const Options& options,
             uint64_t file_digest)
      : vocabulary_(std::move(vocabulary)),
        lines_(lines),
        special_(special),
        options_(options),
        digest_(Hasher()
                    .Mix(file_digest)
                    .Mix(options.lower_case)
                    .Mix(options.strip_accents)
                    .Mix(options.split_ideographs)
                    .Digest()) {}

  CaptionPieces Encode(std::string_view caption, int64_t length) const override {
    CaptionPieces encoded;
    encoded.ids.push_back(special_.begin);
    for (const Word& word : WordSplitter(options_).Split(caption)) {
      for (const int32_t id : PiecesOf(word)) {
        if (static_cast<int64_t>(encoded.ids.size()) == length - 1) {
          encoded.dropped = caption.substr(word.begin);
          break;
        }
        encoded.ids.push_back(id);
      }
      if (!encoded.dropped.empty()) break;
    }
    encoded.ids.push_back(special_.end);
    return encoded;
  }
  int32_t pad_id() const override { return special_.pad; }
  int64_t vocabulary_size() const override { return lines_; }
  uint64_t digest() const override { return digest_; }

 private:
  // Takes the longest known prefix, and so on with the rest. If no token begins a rest, the whole word is unknown.
  std::vector<int32_t> PiecesOf(const Word& word) const {
    if (word.characters > kWordCharactersMax) return {special_.unknown};
    std::vector<int32_t> ids;
    for (size_t at = 0; at < word.text.size();) {
      size_t end = word.text.size();
      auto found = vocabulary_.end();
      for (; end > at; --end) {
        if (end < word.text.size() && (static_cast<uint8_t>(word.text[end]) & 0xC0) == 0x80) continue;
        found = vocabulary_.find((at == 0 ? "" : "##") + word.text.substr(at, end - at));
        if (found != vocabulary_.end()) break;
      }
      if (found == vocabulary_.end()) return {special_.unknown};
      ids.push_back(found->second);
      at = end;
    }
    return ids;
  }

  const Vocabulary vocabulary_;
  const int64_t lines_;
  const SpecialIds special_;
  const Options options_;
  const uint64_t digest_;
};

absl::StatusOr<nlohmann::json> ReadConfig(const std::string& path) {
  ASSIGN_OR_RETURN(const bool there, PathExists(path));
  if (!there) return nlohmann::json::object();
  ASSIGN_OR_RETURN(const std::string text, ReadFile(path));
  nlohmann::json config = ParseJson(text);
  if (!config.is_object()) return absl::DataLossError(absl::StrCat(path, " is not a JSON object"));
  return config;
}

bool Flag(const nlohmann::json& config, const char* field, bool otherwise) {
  return config.contains(field) && config[field].is_boolean() ? config[field].get<bool>() : otherwise;
}

// A special token in the configuration: a text, or an object that contains it.
std::string Token(const nlohmann::json& config, const char* field, const char* otherwise) {
  if (!config.contains(field)) return otherwise;
  const nlohmann::json& value = config[field];
  const nlohmann::json& text = value.is_object() && value.contains("content") ? value["content"] : value;
  return text.is_string() ? text.get<std::string>() : otherwise;
}

}  // namespace

absl::StatusOr<std::unique_ptr<const TextPieces>> OpenWordPieces(const std::string& directory) {
  const std::string path = directory + "/vocab.txt";
  ASSIGN_OR_RETURN(const std::string text, ReadFile(path));
  ASSIGN_OR_RETURN(const nlohmann::json config, ReadConfig(directory + "/tokenizer_config.json"));
  WordPieces::Vocabulary vocabulary;
  int32_t lines = 0;
  for (size_t at = 0; at < text.size(); ++lines) {
    const size_t end = std::min(text.find('\n', at), text.size());
    vocabulary[text.substr(at, end - at)] = lines;
    at = end + 1;
  }
  Options options{.lower_case = Flag(config, "do_lower_case", true),
                  .split_ideographs = Flag(config, "tokenize_chinese_chars", true)};
  options.strip_accents = Flag(config, "strip_accents", options.lower_case);
  WordPieces::SpecialIds special;
  for (const auto& [id, field, otherwise] :
       {std::tuple(&special.unknown, "unk_token", "[UNK]"), std::tuple(&special.begin, "cls_token", "[CLS]"),
        std::tuple(&special.end, "sep_token", "[SEP]"), std::tuple(&special.pad, "pad_token", "[PAD]")}) {
    const std::string token = Token(config, field, otherwise);
    const auto found = vocabulary.find(token);
    if (found == vocabulary.end()) {
      return absl::InvalidArgumentError(
          absl::StrCat(path, ": wanted the token ", token, ", got ", lines, " tokens without it"));
    }
    *id = found->second;
  }
  return std::make_unique<const WordPieces>(std::move(vocabulary), lines, special, options, Xxh3(text));
}

}  // namespace angel_ptm
