// Walks the files of an input folder of a preparation.
#ifndef ANGEL_PTM_DATA_WALK_FILES_H_
#define ANGEL_PTM_DATA_WALK_FILES_H_

#include <sys/stat.h>

#include <string>

#include "absl/functional/function_ref.h"
#include "angel_ptm/base/status.h"

namespace angel_ptm {

// Calls file(path, its stat) for all visible regular files below the folder, following links. Enters a folder only if
// enters(path, its stat) returns true, since links may form cycles. Links are followed last and in order, so what is
// also there directly comes first. Errors: those of the callbacks; a path that cannot be read, such as a link to
// nothing.
absl::Status WalkFiles(const std::string& folder,
                       absl::FunctionRef<absl::StatusOr<bool>(const std::string& path, const struct stat& info)> enters,
                       absl::FunctionRef<absl::Status(const std::string& path, const struct stat& info)> file);

}  // namespace angel_ptm

#endif  // ANGEL_PTM_DATA_WALK_FILES_H_
