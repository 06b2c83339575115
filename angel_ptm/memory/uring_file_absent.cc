// Replaces uring_file.cc in a build without liburing.
#include "angel_ptm/memory/uring_file.h"

namespace angel_ptm {

absl::StatusOr<std::unique_ptr<BlockFile>> MakeUringFile(ScratchFile&, int) {
  return absl::UnavailableError("built without io_uring");
}

}  // namespace angel_ptm
