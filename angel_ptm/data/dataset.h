// A prepared dataset folder: tokenizer.json, tokenizer_config.json, train.tokens, validation.tokens and dataset.json. A
// folder without dataset.json is unfinished. FORMAT.md describes the files, dataset_folder.h how they get there.
#ifndef ANGEL_PTM_DATA_DATASET_H_
#define ANGEL_PTM_DATA_DATASET_H_

#include <cstdint>
#include <map>
#include <memory>
#include <string>

#include "absl/status/statusor.h"
#include "angel_ptm/data/packed_dataset.h"
#include "angel_ptm/data/tokenizer.h"

namespace angel_ptm {

inline constexpr int32_t kDatasetVersion = 2;

// Statistics of one split, for one label or for all.
struct SplitStatistics {
  int64_t documents = 0;
  int64_t bytes = 0;   // UTF-8 text, without document separators
  int64_t tokens = 0;  // including one end-of-text token per document

  double bytes_per_token() const { return tokens == 0 ? 0 : static_cast<double>(bytes) / static_cast<double>(tokens); }
  void Add(const SplitStatistics& other) {
    documents += other.documents;
    bytes += other.bytes;
    tokens += other.tokens;
  }
};

struct DatasetManifest {
  int32_t vocabulary_size = 0;
  int32_t version = kDatasetVersion;
  uint64_t tokenizer_xxh64 = 0;         // of tokenizer.json
  uint64_t tokenizer_config_xxh64 = 0;  // of tokenizer_config.json; version 1 has none
  uint64_t train_xxh64 = 0;             // of the header of train.tokens, which holds the checksums of the rest
  uint64_t validation_xxh64 = 0;        // of the header of validation.tokens
  uint64_t seed = 0;
  double validation_fraction = 0;
  SplitStatistics train;
  SplitStatistics validation;
  std::map<std::string, SplitStatistics> train_labels;
  std::map<std::string, SplitStatistics> validation_labels;
  int64_t replaced_sequences = 0;  // ill-formed UTF-8 in the input, read as U+FFFD
  // -sum p ln p over the frequencies p of the validation tokens: the loss, in nats per token, of the best model that
  // ignores context and knows these frequencies.
  double validation_unigram_entropy = 0;

  // The first line holds a checksum of the rest.
  std::string ToJson() const;
  // `name` is the path, used in errors.
  static absl::StatusOr<DatasetManifest> FromJson(const std::string& json, const std::string& name);
};

struct TextDataset {
  DatasetManifest manifest;
  std::unique_ptr<Tokenizer> tokenizer;
  // The text of the files when the dataset was opened. The folder may hold another dataset, or none, before a run ends.
  std::string tokenizer_json;
  std::string tokenizer_config_json;
  std::unique_ptr<PackedDataset> train;
  std::unique_ptr<PackedDataset> validation;  // null if the dataset has no validation text
  std::string note;                           // for the user: what could not be checked; or empty
};

// Opens the dataset and checks that its files belong together and are undamaged (the tokens of large files are checked
// when they are read, token_file.h), and that each split has at least one sample of `sequence_length` tokens.
absl::StatusOr<TextDataset> OpenTextDataset(const std::string& folder, int64_t sequence_length);

}  // namespace angel_ptm

#endif  // ANGEL_PTM_DATA_DATASET_H_
