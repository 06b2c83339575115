// Collectives on device memory over communicators that know only host memory. Data goes through page-locked host memory
// piece by piece, so that the size of this memory is bounded, however large a unit is. The bits are those of
// collectives in host memory.
#ifndef ANGEL_PTM_EXEC_STAGED_COLLECTIVES_H_
#define ANGEL_PTM_EXEC_STAGED_COLLECTIVES_H_

#include <cstddef>
#include <cstdint>
#include <span>

#include "angel_ptm/base/status.h"
#include "angel_ptm/exec/device_collectives.h"
#include "angel_ptm/memory/device.h"
#include "angel_ptm/plan/plan.h"

namespace angel_ptm {

// The memory that collectives of a layout's units go through: none in a world of one, which has no collectives; at most
// about 200 MiB in worlds of up to 8,192 ranks.
int64_t StagingBytes(const Layout& layout);

class StagedCollectives final : public DeviceCollectives {
 public:
  // staging: page-locked, of StagingBytes for the world that the communicator connects all or part of. Nothing is
  // owned.
  StagedCollectives(Communicator& communicator, DeviceStream& stream, std::span<std::byte> staging)
      : communicator_(communicator), stream_(stream), staging_(staging) {}

  absl::Status AllGather(std::span<std::byte> dst, std::span<const std::byte> src, CallTag tag) override;
  // Does not use the plan's scratch, which is device memory for transports that can reach it.
  absl::Status ReduceScatter(const ReducedSlice& dst, const Addends& src, bool accumulate, std::span<std::byte> scratch,
                             CallTag tag) override;
  bool on_stream() const override { return false; }
  absl::Status status() const override { return absl::OkStatus(); }
  absl::Status Close() override { return absl::OkStatus(); }

 private:
  int64_t PieceMax(int64_t n) const;

  Communicator& communicator_;
  DeviceStream& stream_;
  const std::span<std::byte> staging_;
};

}  // namespace angel_ptm

#endif  // ANGEL_PTM_EXEC_STAGED_COLLECTIVES_H_
