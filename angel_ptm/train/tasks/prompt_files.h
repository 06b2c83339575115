// Captions and prompts from users' files, one per line.
#ifndef ANGEL_PTM_TRAIN_TASKS_PROMPT_FILES_H_
#define ANGEL_PTM_TRAIN_TASKS_PROMPT_FILES_H_

#include <cstdint>
#include <optional>
#include <string>
#include <vector>

#include "angel_ptm/base/status.h"

namespace angel_ptm {

// Reads captions: one per line of a .txt file, or "text" or "caption" of the object in each line of a .jsonl file.
// Errors name the line: an empty caption; one that is not UTF-8; an object without a caption.
absl::StatusOr<std::vector<std::string>> ReadCaptions(const std::string& path);

// What one line asks for. Unset fields take the value that is common to all prompts.
struct Prompt {
  std::string text;
  std::optional<std::string> negative;
  std::optional<uint64_t> seed;
  std::optional<std::string> size;
};

// What guidance leads a prompt away from (empty: no condition), and the name of its source for messages.
struct NegativePrompt {
  std::string text, field;
};

// Reads prompts: one per line of a .txt file, or "prompt" of the object in each line of a .jsonl file, which may also
// have "negative", "seed" and "size". Errors name the line: those of ReadCaptions, and an object with other fields.
absl::StatusOr<std::vector<Prompt>> ReadPrompts(const std::string& path);

}  // namespace angel_ptm

#endif  // ANGEL_PTM_TRAIN_TASKS_PROMPT_FILES_H_
