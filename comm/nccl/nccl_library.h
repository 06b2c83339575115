// NCCL as the machine has it.
#ifndef ANGEL_PTM_COMM_NCCL_NCCL_LIBRARY_H_
#define ANGEL_PTM_COMM_NCCL_NCCL_LIBRARY_H_

#include <memory>

#include "angel_ptm/base/status.h"
#include "comm/nccl/nccl_api.h"

namespace angel_ptm {

// Opens libnccl.so.2, which stays open to the end of the process, so the program starts on machines without it.
// kFailedPrecondition in one sentence: a build without NCCL, no library, one that is too old or lacks a call.
absl::StatusOr<std::shared_ptr<NcclApi>> LoadNccl();
// The same of another file.
absl::StatusOr<std::shared_ptr<NcclApi>> LoadNcclFrom(const char* file);

}  // namespace angel_ptm

#endif  // ANGEL_PTM_COMM_NCCL_NCCL_LIBRARY_H_
