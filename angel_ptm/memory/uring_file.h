// A scratch file accessed by io_uring.
#ifndef ANGEL_PTM_MEMORY_URING_FILE_H_
#define ANGEL_PTM_MEMORY_URING_FILE_H_

#include <memory>

#include "angel_ptm/memory/block_file.h"
#include "angel_ptm/memory/scratch_file.h"

namespace angel_ptm {

// One ring per direction. Takes over `file` only on success. kUnavailable gives the reason: "io_uring: Operation not
// permitted", a kernel before 5.11, a build without liburing.
absl::StatusOr<std::unique_ptr<BlockFile>> MakeUringFile(ScratchFile& file, int queue_depth);

}  // namespace angel_ptm

#endif  // ANGEL_PTM_MEMORY_URING_FILE_H_
