// Captions and prompts that users keep in files, one a line.
#ifndef ANGEL_PTM_TRAIN_TASKS_PROMPT_FILES_H_
#define ANGEL_PTM_TRAIN_TASKS_PROMPT_FILES_H_

#include <cstdint>
#include <optional>
#include <string>
#include <vector>

#include "angel_ptm/base/status.h"

namespace angel_ptm {

// Captions of a file: one a line of .txt, "text" or "caption" of each line's object of .jsonl. Errors name the line: an
// empty caption, one that is not UTF-8, an object without any.
absl::StatusOr<std::vector<std::string>> ReadCaptions(const std::string& path);

// What is asked for in one line. What it does not say is said for all.
struct Prompt {
  std::string text;
  std::optional<std::string> negative;
  std::optional<uint64_t> seed;
  std::optional<std::string> size;
};

// What a prompt is led away from, empty: no condition; and who says so, for messages.
struct NegativePrompt {
  std::string text, field;
};

// Prompts of a file: one a line of .txt; "prompt" of each line's object of .jsonl, which may have "negative", "seed"
// and "size", too. Errors name the line: as ReadCaptions', and an object with other fields.
absl::StatusOr<std::vector<Prompt>> ReadPrompts(const std::string& path);

}  // namespace angel_ptm

#endif  // ANGEL_PTM_TRAIN_TASKS_PROMPT_FILES_H_
