// Collectives of device memory on communicators that know host memory alone: through page-locked host memory, piece by
// piece, so that its size is bounded whatever a unit's is. The bits are those of collectives in host memory.
#ifndef ANGEL_PTM_EXEC_STAGED_COLLECTIVES_H_
#define ANGEL_PTM_EXEC_STAGED_COLLECTIVES_H_

#include <cstddef>
#include <cstdint>
#include <span>

#include "angel_ptm/base/status.h"
#include "angel_ptm/memory/device.h"
#include "comm/communicator.h"
#include "comm/ordered_reduce_scatter.h"

namespace angel_ptm {

// What collectives of slices of up to so many elements go through: nothing in a world of one, which has none; at most
// about 200 MiB in worlds of up to 8,192 ranks.
int64_t StagingBytes(int64_t slice_elements_max, int world_size);

class StagedCollectives {
 public:
  // staging: StagingBytes of the largest slice, page-locked. Nothing is owned.
  StagedCollectives(Communicator& communicator, DeviceStream& stream, std::span<std::byte> staging)
      : communicator_(communicator), stream_(stream), staging_(staging) {}

  // As Communicator::AllGather and OrderedReduceScatter, on device addresses. What they read was written, what they
  // write is no longer read; they return when it is on the device.
  absl::Status AllGather(std::span<std::byte> dst, std::span<const std::byte> src, CallTag tag);
  absl::Status ReduceScatter(const ReducedSlice& dst, const Addends& src, bool accumulate, CallTag tag);

 private:
  Communicator& communicator_;
  DeviceStream& stream_;
  const std::span<std::byte> staging_;
};

}  // namespace angel_ptm

#endif  // ANGEL_PTM_EXEC_STAGED_COLLECTIVES_H_
