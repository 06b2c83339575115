// From text to a tokenizer and packed token files: what `angel-ptm prepare` does.
#ifndef ANGEL_PTM_DATA_PREPARE_H_
#define ANGEL_PTM_DATA_PREPARE_H_

#include <cstdint>
#include <string>
#include <utility>
#include <vector>

#include "absl/status/statusor.h"
#include "angel_ptm/base/progress.h"
#include "angel_ptm/data/corpus.h"
#include "angel_ptm/data/dataset.h"

namespace angel_ptm {

struct PrepareOptions {
  std::vector<std::string> inputs;  // files, or folders of them (corpus.h)
  std::string output;               // folder, created if missing; replaces an earlier dataset in it
  // Folder with the tokenizer.json and tokenizer_config.json to use. Empty: trains a tokenizer, to which the settings
  // of the vocabulary below apply.
  std::string tokenizer;
  int32_t vocabulary_size = 16384;  // including special tokens; at least kVocabularySizeMin
  // If true, a text that supports fewer tokens is an error, because something relies on that size; else the report says
  // so.
  bool vocabulary_is_exact = false;
  double validation_fraction = 0.02;     // 0 to 0.5 of each file's bytes is held out; 0: validation.tokens is empty
  int64_t document_bytes_max = 1 << 18;  // longer documents are divided
  // The tokenizer is trained on the training documents, or on a sample chosen by `seed` if they are larger than this.
  int64_t tokenizer_text_bytes_max = 256 << 20;
  uint64_t seed = 0;
  int threads = 0;  // 0: all cores. The result does not depend on it
  // Memory bound of this process; 0: none. If it would be exceeded, fewer threads are used, or else the preparation
  // fails before the memory is exhausted.
  int64_t memory_bytes_max = 0;
  ReportProgress progress;  // bytes of text, read for the tokenizer, then encoded; null: to nobody
};

struct PrepareReport {
  DatasetManifest manifest;
  std::string output;
  int64_t files = 0;
  int32_t vocabulary_asked = 0;
  std::vector<std::pair<std::string, int64_t>> worst_files;  // files with the most ill-formed sequences
  double tokenizer_seconds = 0;                              // counting and merging
  double encoding_seconds = 0;

  // A table by label and split with bytes per token, and the unigram entropy. Ends with a newline.
  std::string ToString() const;
};

// An earlier dataset in `output` stays until the new one is complete, even if the process is killed or the disk is full
// (dataset_folder.h). Errors: missing or empty input; an output inside an input; a tokenizer that cannot be used
// (Tokenizer::FromJson); a vocabulary that the text cannot support; an empty validation split; a full disk.
absl::StatusOr<PrepareReport> Prepare(const PrepareOptions& options);

// -sum p ln p for p = counts[i] / sum(counts), in nats; 0 if there are no counts.
double UnigramEntropy(const std::vector<int64_t>& counts);

}  // namespace angel_ptm

#endif  // ANGEL_PTM_DATA_PREPARE_H_
