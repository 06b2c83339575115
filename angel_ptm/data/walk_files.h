// The files of a folder that is an input of a preparation.
#ifndef ANGEL_PTM_DATA_WALK_FILES_H_
#define ANGEL_PTM_DATA_WALK_FILES_H_

#include <sys/stat.h>

#include <string>

#include "absl/functional/function_ref.h"
#include "angel_ptm/base/status.h"

namespace angel_ptm {

// file(path, its stat) for all visible regular files below the folder, through links too; into a folder only if
// enters(path, its stat), as links may lead in circles. Links are followed last and in order, so that what is also
// there by itself comes first. Errors: of the callbacks; a path that cannot be read, as of a link to nothing.
absl::Status WalkFiles(const std::string& folder,
                       absl::FunctionRef<absl::StatusOr<bool>(const std::string& path, const struct stat& info)> enters,
                       absl::FunctionRef<absl::Status(const std::string& path, const struct stat& info)> file);

}  // namespace angel_ptm

#endif  // ANGEL_PTM_DATA_WALK_FILES_H_
