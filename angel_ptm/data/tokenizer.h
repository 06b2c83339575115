// Byte-level byte-pair encoding (Radford et al. 2019). Every text has an encoding, and decoding restores it byte for
// byte (with tokenizers from elsewhere: in the normal form that they ask for). Ids are those that Hugging Face
// `tokenizers` gives for the tokenizer.json that is read or written here.
#ifndef ANGEL_PTM_DATA_TOKENIZER_H_
#define ANGEL_PTM_DATA_TOKENIZER_H_

#include <array>
#include <cstdint>
#include <memory>
#include <span>
#include <string>
#include <string_view>
#include <vector>

#include "absl/container/flat_hash_map.h"
#include "angel_ptm/base/status.h"
#include "angel_ptm/data/added_tokens.h"
#include "angel_ptm/data/bpe_trainer.h"
#include "angel_ptm/data/word_rules.h"

namespace angel_ptm {

// The special tokens of tokenizers made here: kEndOfText ends every document (no token begins one); kPad fills rows.
inline constexpr int32_t kEndOfTextId = 0;
inline constexpr int32_t kPadId = 1;
inline constexpr std::string_view kEndOfTextToken = "<|endoftext|>";
inline constexpr std::string_view kPadToken = "<|pad|>";
// The smallest vocabulary: the special tokens and 256 bytes.
inline constexpr int32_t kVocabularySizeMin = 258;

// Immutable and thread-safe; each thread encodes with its own Encoder.
class Tokenizer {
 public:
  // Ids: 0 and 1 are special, 2 + b is byte b, 258 + i is merge i.
  static std::unique_ptr<Tokenizer> FromMerges(std::span<const BpeMerge> merges);

  // Reads a tokenizer.json of byte-level BPE. It may have any special tokens, cut words by GPT-2's pattern or by
  // regular expressions, ask for normal form C or none, and begin each text with tokens. `config_json`, the
  // tokenizer_config.json beside it, names the tokens that end texts and fill rows; without it they are those above.
  // Errors name `name` (the path) and what was expected: not JSON, another kind of model or of words, missing bytes,
  // merges of unknown tokens.
  static absl::StatusOr<std::unique_ptr<Tokenizer>> FromJson(std::string_view json, const std::string& name,
                                                             std::string_view config_json = {});
  // Reads tokenizer.json and tokenizer_config.json of a folder.
  static absl::StatusOr<std::unique_ptr<Tokenizer>> LoadFolder(const std::string& folder);

  // The content of tokenizer.json and tokenizer_config.json (for transformers' PreTrainedTokenizerFast). If the
  // tokenizer was read from files, their text.
  std::string ToJson() const;
  std::string ToConfigJson() const;

  int32_t vocabulary_size() const { return static_cast<int32_t>(token_bytes_.size()); }
  int32_t end_of_text_id() const { return end_of_text_id_; }
  int32_t pad_id() const { return pad_id_; }
  // Tokens that precede every text, documents and prompts alike. Encode does not add them; its caller must.
  std::span<const int32_t> begin_ids() const { return begin_ids_; }

  // For occasional use (prompts); loops should use an Encoder.
  std::vector<int32_t> Encode(std::string_view text) const;
  // The exact bytes. Special tokens and ids outside the vocabulary (a model's padding rows) give nothing.
  std::string Decode(std::span<const int32_t> ids) const;

  // The bytes a token stands for; empty for the special tokens and for ids outside the vocabulary.
  std::string_view TokenBytes(int32_t id) const;
  // Byte length by token id [vocabulary_size]: bits per byte = nats / ln 2 / sum of the target tokens' lengths.
  std::vector<int32_t> TokenByteLengths() const;

  // A thread's encoder. Remembers the ids of words that it has seen.
  class Encoder {
   public:
    explicit Encoder(const Tokenizer& tokenizer);

    // Appends the ids of `text`. Texts of special tokens become their ids, as in Hugging Face; ill-formed UTF-8 is read
    // as U+FFFD (ReplaceInvalidUtf8).
    void Encode(std::string_view text, std::vector<int32_t>* ids);

   private:
    struct Span {
      int32_t first;
      int32_t size;
    };
    // An entry in the queue of a long word's possible merges: lowest rank first, then leftmost.
    struct Step {
      int32_t rank;
      int32_t node;
      int32_t merged;
      int32_t left_size;  // sizes of the two symbols when the step was queued; outdated steps are skipped
      int32_t right_size;
    };

    void EncodeValid(std::string_view text, std::vector<int32_t>* ids);
    void EncodeNormal(std::string_view text, std::vector<int32_t>* ids);
    void EncodeWords(std::string_view text, std::vector<int32_t>* ids);
    void EncodeWord(std::string_view word, std::vector<int32_t>* ids);
    void MergeShortWord(std::string_view word, std::vector<int32_t>* ids);
    void MergeLongWord(std::string_view word, std::vector<int32_t>* ids);
    void QueueStep(int32_t node);
    static bool Later(const Step& a, const Step& b);

    struct Symbol {
      int32_t id;    // -1: merged into its left neighbour
      int32_t size;  // in bytes; the next symbol is at this one's index + size
      int32_t previous;
    };

    const Tokenizer& tokenizer_;
    WordWalk words_;
    absl::flat_hash_map<std::string, Span> known_words_;
    std::vector<int32_t> known_ids_;
    std::vector<Symbol> nodes_;  // scratch of MergeLongWord
    std::vector<Step> steps_;
  };

 private:
  struct Merged {
    int32_t rank;
    int32_t id;
  };
  class Reader;  // of tokenizer.json
  Tokenizer() = default;
  void AddMerge(int32_t left, int32_t right, int32_t merged);
  // The merge of two adjacent tokens, or null.
  const Merged* FindMerge(int32_t left, int32_t right) const {
    const auto it = merges_.find(static_cast<uint64_t>(left) << 32 | static_cast<uint32_t>(right));
    return it == merges_.end() ? nullptr : &it->second;
  }

  std::vector<std::string> token_bytes_;  // by id; empty for special tokens
  int32_t end_of_text_id_ = kEndOfTextId, pad_id_ = kPadId;
  std::vector<int32_t> begin_ids_;
  AddedTokens added_;         // matched in the original text
  AddedTokens normal_added_;  // matched in its normal form, between the others
  bool composes_ = false;     // to normal form C
  WordRules word_rules_;
  // Words that are tokens as a whole, whatever their merges would give.
  absl::flat_hash_map<std::string, int32_t> whole_words_;
  std::string json_, config_json_;  // texts of the files; empty if there were none
  std::array<int32_t, 256> byte_ids_{};
  std::vector<BpeMerge> merge_list_;  // of token ids, by rank
  absl::flat_hash_map<uint64_t, Merged> merges_;
};

}  // namespace angel_ptm

#endif  // ANGEL_PTM_DATA_TOKENIZER_H_
