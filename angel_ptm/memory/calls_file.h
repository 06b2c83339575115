// A scratch file accessed by pread and pwrite, where the kernel grants no io_uring.
#ifndef ANGEL_PTM_MEMORY_CALLS_FILE_H_
#define ANGEL_PTM_MEMORY_CALLS_FILE_H_

#include <memory>
#include <string>

#include "angel_ptm/memory/block_file.h"
#include "angel_ptm/memory/scratch_file.h"

namespace angel_ptm {

// A few threads per direction keep transfers in flight. RegisterBuffer does nothing, because there is nothing to save.
// `why` is added to the description. If a transfer never returns, neither does its thread, which is left behind when
// the file is destroyed.
std::unique_ptr<BlockFile> MakeCallsFile(ScratchFile file, int queue_depth, const std::string& why = "");

}  // namespace angel_ptm

#endif  // ANGEL_PTM_MEMORY_CALLS_FILE_H_
