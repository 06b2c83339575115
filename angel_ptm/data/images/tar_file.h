// Tar files as WebDataset writes them: regular files one after the other (POSIX ustar, pax and GNU long names).
#ifndef ANGEL_PTM_DATA_IMAGES_TAR_FILE_H_
#define ANGEL_PTM_DATA_IMAGES_TAR_FILE_H_

#include <cstdint>
#include <string>
#include <vector>

#include "absl/status/statusor.h"
#include "angel_ptm/base/file.h"

namespace angel_ptm {

struct TarMember {
  std::string name;
  int64_t offset = 0;  // of the content in the file
  int64_t bytes = 0;
};

// Lists the regular files in order. Errors name the path: not a tar file, damaged, truncated.
absl::StatusOr<std::vector<TarMember>> ListTar(const FileReader& file);

}  // namespace angel_ptm

#endif  // ANGEL_PTM_DATA_IMAGES_TAR_FILE_H_
