// Sampling text from a checkpoint.
#ifndef ANGEL_PTM_TRAIN_GENERATE_H_
#define ANGEL_PTM_TRAIN_GENERATE_H_

#include <cstdint>
#include <cstdio>
#include <optional>
#include <string>
#include <vector>

#include "angel_ptm/base/progress.h"
#include "angel_ptm/base/status.h"
#include "angel_ptm/train/inference.h"

namespace angel_ptm {

struct GenerateOptions {
  std::vector<std::string> prompts;                // decoded side by side
  std::vector<std::optional<uint64_t>> own_seeds;  // seeds of single prompts, by prompt; empty: no prompt has its own
  int64_t tokens_max = 128;  // new tokens per prompt; a text ends earlier at the end-of-text token
  double temperature = 0.8;  // 0: always the likeliest token
  int64_t top_k = 40;        // sample among the k likeliest; 0: all
  double top_p = 1;          // of those, keep the likeliest whose probabilities reach p in sum, at least one; 1: all
  uint64_t seed = 1;
  InferenceOptions inference;
  std::FILE* notes = nullptr;  // receives a note about parts of the checkpoint that were not understood; null: none
  ReportProgress progress;     // receives the number of tokens made, side by side; null: no reports
};

// The continuation of a prompt, without the prompt itself.
struct GeneratedText {
  std::vector<int32_t> tokens;  // without the end-of-text token
  std::string text;
};

// Continues every prompt, on one rank with key-value caches. The same options give the same texts.
absl::StatusOr<std::vector<GeneratedText>> Generate(const std::string& checkpoint_path, const GenerateOptions& options);

}  // namespace angel_ptm

#endif  // ANGEL_PTM_TRAIN_GENERATE_H_
