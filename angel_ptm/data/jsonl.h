// Text in JSON Lines, as datasets are published: an object per line, with the text of a document under "text".
#ifndef ANGEL_PTM_DATA_JSONL_H_
#define ANGEL_PTM_DATA_JSONL_H_

#include <cstdint>
#include <string>
#include <string_view>
#include <vector>

#include "absl/status/statusor.h"

namespace angel_ptm {

inline constexpr std::string_view kJsonlEnding = ".jsonl";

// Returns the texts of the objects in `lines`, one per line; empty lines have none. `line` is the number of the first
// line. Errors name `file` and the line that is not a JSON object with a string "text", and the keys that it has
// instead.
absl::StatusOr<std::vector<std::string>> TextsOfJsonl(std::string_view lines, const std::string& file, int64_t line);

}  // namespace angel_ptm

#endif  // ANGEL_PTM_DATA_JSONL_H_
