// Collectives of device memory on communicators that know host memory alone: through page-locked host memory, piece by
// piece, so that its size is bounded whatever a unit's is. The bits are those of collectives in host memory.
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

// What collectives of a layout's units go through: nothing in a world of one, which has none; at most about 200 MiB in
// worlds of up to 8,192 ranks.
int64_t StagingBytes(const Layout& layout);

class StagedCollectives final : public DeviceCollectives {
 public:
  // staging: StagingBytes of the world that the communicator is of or part of, page-locked. Nothing is owned.
  StagedCollectives(Communicator& communicator, DeviceStream& stream, std::span<std::byte> staging)
      : communicator_(communicator), stream_(stream), staging_(staging) {}

  absl::Status AllGather(std::span<std::byte> dst, std::span<const std::byte> src, CallTag tag) override;
  // The plan's scratch is memory of the device, for transports that reach it.
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
