// A scratch file by pread and pwrite, where the kernel grants no io_uring.
#ifndef ANGEL_PTM_MEMORY_CALLS_FILE_H_
#define ANGEL_PTM_MEMORY_CALLS_FILE_H_

#include <memory>
#include <string>

#include "angel_ptm/memory/block_file.h"
#include "angel_ptm/memory/scratch_file.h"

namespace angel_ptm {

// A few threads per direction keep transfers in flight. Registering a buffer does nothing, as there is nothing to save.
// `why`: what is told in the description besides. If a transfer never returns, neither does its thread: it is left
// behind when the file goes.
std::unique_ptr<BlockFile> MakeCallsFile(ScratchFile file, int queue_depth, const std::string& why = "");

}  // namespace angel_ptm

#endif  // ANGEL_PTM_MEMORY_CALLS_FILE_H_
