// Opens the NCCL library that the machine has.
#ifndef ANGEL_PTM_COMM_NCCL_NCCL_LIBRARY_H_
#define ANGEL_PTM_COMM_NCCL_NCCL_LIBRARY_H_

#include <memory>

#include "angel_ptm/base/status.h"
#include "comm/nccl/nccl_api.h"

namespace angel_ptm {

// Opens libnccl.so.2, which stays open to the end of the process, so the program starts on machines without it. Returns
// kFailedPrecondition, in one sentence, for a build without NCCL and for a library that is missing, too old or lacks a
// call.
absl::StatusOr<std::shared_ptr<NcclApi>> LoadNccl();
// The same for another file.
absl::StatusOr<std::shared_ptr<NcclApi>> LoadNcclFrom(const char* file);

}  // namespace angel_ptm

#endif  // ANGEL_PTM_COMM_NCCL_NCCL_LIBRARY_H_
