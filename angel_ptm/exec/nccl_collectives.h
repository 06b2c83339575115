// Collectives on device memory by NCCL, on the comm lane's stream. A reduction goes in rounds: ranks exchange blocks
// into the plan's scratch, and a kernel sums these in rank order, so the bits are those of every other transport. In a
// world of nodes each round is one exchange and sum inside a node and one across nodes; in all-gathers NCCL itself
// takes account of nodes. Where the order is given up (SumsBy::kNccl), NCCL sums in each round, and the kernel adds the
// result to the destination.
//
// NCCL lets a rank wait for a lost peer forever, on the device, where nobody sees it. A thread of this rank therefore
// watches the stream. It asks NCCL for errors. It counts two things as signs of life of this rank: that calls have
// ended, and that the stream has come to a call and waits there for peers. When a peer is lost, it has NCCL abort, so
// that the stream, and everything that waits for the stream, go on and the lane can fail.
#ifndef ANGEL_PTM_EXEC_NCCL_COLLECTIVES_H_
#define ANGEL_PTM_EXEC_NCCL_COLLECTIVES_H_

#include <condition_variable>
#include <cstdint>
#include <memory>
#include <mutex>
#include <thread>
#include <vector>

#include "angel_ptm/exec/device_collectives.h"
#include "angel_ptm/memory/device.h"
#include "comm/nccl/nccl_communicator.h"

namespace angel_ptm {

class NcclCollectives final : public DeviceCollectives {
 public:
  // Collective over `peers`, like NcclCommunicator::Create. `stream` must outlive the result. `siblings`: those of all
  // collectives on the stream's device.
  static absl::StatusOr<std::unique_ptr<NcclCollectives>> Create(std::shared_ptr<NcclApi> api,
                                                                 const CollectivesWish& wish, Communicator& peers,
                                                                 DeviceStream& stream,
                                                                 std::shared_ptr<NcclSiblings> siblings);
  ~NcclCollectives() override;

  absl::Status AllGather(std::span<std::byte> dst, std::span<const std::byte> src, CallTag tag) override;
  absl::Status ReduceScatter(const ReducedSlice& dst, const Addends& src, bool accumulate, std::span<std::byte> scratch,
                             CallTag tag) override;
  bool on_stream() const override { return true; }
  absl::Status status() const override;
  absl::Status Close() override;

 private:
  NcclCollectives(WorldShape shape, const CollectivesWish& wish, DeviceStream& stream)
      : shape_(shape), sum_(wish.nccl.sum), sums_(wish.sums), stream_(stream) {}

  // The rounds of a reduction. The first two use the scratch for what arrives, the last also for what a node sends.
  absl::Status SumByNccl(const ReducedSlice& dst, const Addends& src, bool accumulate, std::span<std::byte> scratch,
                         CallTag tag);
  absl::Status SumInOrder(const ReducedSlice& dst, const Addends& src, bool accumulate, std::span<std::byte> scratch,
                          CallTag tag);
  absl::Status SumByNodes(const ReducedSlice& dst, const Addends& src, bool accumulate, std::span<std::byte> scratch,
                          CallTag tag);
  // For every row of blocks, the next blocks.bytes / SizeOf(type) elements of dst (+)= the sum over ranks of their
  // blocks for this rank, in fp32 or rounded.
  absl::Status ExchangeAndSum(NcclCommunicator& communicator, std::byte* dst, DType dst_type, const SendBlocks& blocks,
                              DType type, bool accumulate, std::span<std::byte> arrivals, CallTag tag);

  // Mark the begin and the end of what a call puts on the stream, for the watching thread.
  absl::Status BeginCall();
  absl::Status EndCall();
  void Watch();
  // What the stream has done since the last look: calls have ended, it waits in the same call, or it is in none.
  enum class Sign { kGoesOn, kWaits, kSilent };
  absl::StatusOr<Sign> LookAtStream();  // under mutex_

  const WorldShape shape_;  // decides, as in plans, how much scratch there is
  // The communicator of `peers` and, in a world of nodes where the order counts, those of its levels.
  std::unique_ptr<NcclCommunicator> world_, inside_, across_;
  std::vector<NcclCommunicator*> communicators_;  // all that there are
  const LaunchDeviceSum sum_;
  const SumsBy sums_;
  DeviceStream& stream_;

  std::mutex mutex_;  // guards what is below
  std::condition_variable wake_;
  bool stopping_ = false;
  struct Marks {
    std::unique_ptr<DeviceEvent> begin, end;
  };
  std::vector<Marks> marks_;  // by number; calls put while all are in use share the newest's
  bool has_marks_ = false;    // whether the call that is being put has its own
  uint32_t put_ = 0, ended_ = 0;
  std::thread thread_;  // last: starts last
};

}  // namespace angel_ptm

#endif  // ANGEL_PTM_EXEC_NCCL_COLLECTIVES_H_
