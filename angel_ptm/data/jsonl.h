// Text in JSON Lines, as data sets are published: an object a line, the text of a document under "text".
#ifndef ANGEL_PTM_DATA_JSONL_H_
#define ANGEL_PTM_DATA_JSONL_H_

#include <cstdint>
#include <string>
#include <string_view>
#include <vector>

#include "absl/status/statusor.h"

namespace angel_ptm {

inline constexpr std::string_view kJsonlEnding = ".jsonl";

// The texts of the objects in `lines`, one a line; empty lines have none. `file` and `line`, the number of the first
// line, are for errors: a line that is no JSON object with a string "text", whose keys are named.
absl::StatusOr<std::vector<std::string>> TextsOfJsonl(std::string_view lines, const std::string& file, int64_t line);

}  // namespace angel_ptm

#endif  // ANGEL_PTM_DATA_JSONL_H_
