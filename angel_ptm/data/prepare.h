// Text to tokenizer to packed token files: what `angel-ptm prepare` does.
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
  std::string output;               // folder, made if missing; an earlier dataset in it is replaced
  // A folder with the tokenizer.json and tokenizer_config.json to use. Empty: one is trained, and what is said of
  // vocabularies below is of that one.
  std::string tokenizer;
  int32_t vocabulary_size = 16384;  // special tokens included; at least kVocabularySizeMin
  // Something relies on that size: a text that supports fewer tokens is an error. Else it is said in the report.
  bool vocabulary_is_exact = false;
  double validation_fraction = 0.02;     // 0 to 0.5 of each file's bytes, held out; 0: no validation.tokens content
  int64_t document_bytes_max = 1 << 18;  // longer documents are divided
  // The tokenizer is trained on the training documents; of more text than this, on a sample chosen by `seed`.
  int64_t tokenizer_text_bytes_max = 256 << 20;
  uint64_t seed = 0;
  int threads = 0;  // 0: all cores. The result does not depend on it.
  // Of this process: fewer threads are used where that is enough, else it is an error before the memory is gone. 0: no
  // bound.
  int64_t memory_bytes_max = 0;
  ReportProgress progress;  // bytes of text, read for the tokenizer, then encoded; null: to nobody
};

struct PrepareReport {
  DatasetManifest manifest;
  std::string output;
  int64_t files = 0;
  int32_t vocabulary_asked = 0;
  std::vector<std::pair<std::string, int64_t>> worst_files;  // those with the most ill-formed sequences
  double tokenizer_seconds = 0;                              // counting and merging
  double encoding_seconds = 0;

  // A table by label and split, bytes per token and the unigram entropy; ends with a newline.
  std::string ToString() const;
};

// An earlier dataset in `output` stays until the new one is whole, whenever the process is killed or the disk is full
// (dataset_folder.h). Errors: missing or empty input, an
// output inside an input, a tokenizer that cannot be used (Tokenizer::FromJson), a vocabulary the text cannot support,
// an empty validation split, a full disk.
absl::StatusOr<PrepareReport> Prepare(const PrepareOptions& options);

// -sum p ln p of the distribution counts[i] / sum(counts), in nats; 0 for no counts.
double UnigramEntropy(const std::vector<int64_t>& counts);

}  // namespace angel_ptm

#endif  // ANGEL_PTM_DATA_PREPARE_H_
