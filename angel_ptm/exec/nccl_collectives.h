// Collectives of device memory by NCCL, on the comm lane's stream. A reduction is an exchange of blocks into the plan's
// scratch and a sum of them in rank order, a kernel, round after round: the bits are those of every transport. In a
// world of nodes each round is one inside a node and one across; NCCL knows nodes itself when it gathers. Or, where the
// order is given up, NCCL sums, round after round, and the kernel adds what it has made.
//
// NCCL lets a rank wait for a lost peer for ever, on the device where nobody sees it. A thread of this rank watches
// while something is on the stream: it asks NCCL for errors; counts as this rank's signs of life that calls have ended,
// and that the stream, which has come to one, waits there for peers; and has NCCL abort when a peer is lost, so that
// the stream, and all that wait for it, go on and the lane can fail.
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
  // Collective over `peers`, as NcclCommunicator::Create. `stream` must outlive it. `siblings`: of all collectives on
  // the stream's device.
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

  // Rounds of a reduction. The scratch of the first two is what arrives, of the last also what a node sends.
  absl::Status SumByNccl(const ReducedSlice& dst, const Addends& src, bool accumulate, std::span<std::byte> scratch,
                         CallTag tag);
  absl::Status SumInOrder(const ReducedSlice& dst, const Addends& src, bool accumulate, std::span<std::byte> scratch,
                          CallTag tag);
  absl::Status SumByNodes(const ReducedSlice& dst, const Addends& src, bool accumulate, std::span<std::byte> scratch,
                          CallTag tag);
  // Row by row of blocks: dst[row * blocks.bytes ..] (+)= the sum over ranks of their block for this rank, in fp32 or
  // rounded.
  absl::Status ExchangeAndSum(NcclCommunicator& communicator, std::byte* dst, DType dst_type, const SendBlocks& blocks,
                              DType type, bool accumulate, std::span<std::byte> arrivals, CallTag tag);

  // Around what a call puts on the stream, for the watching thread.
  absl::Status BeginCall();
  absl::Status EndCall();
  void Watch();
  // What the stream does since this was asked last: calls have ended, it is in the same one, or in none.
  enum class Sign { kGoesOn, kWaits, kSilent };
  absl::StatusOr<Sign> LookAtStream();  // under mutex_

  const WorldShape shape_;  // decides, as in plans, how much scratch there is
  // The world's, and in a world of nodes, where the order counts, its levels'.
  std::unique_ptr<NcclCommunicator> world_, inside_, across_;
  std::vector<NcclCommunicator*> communicators_;  // all there are
  const LaunchDeviceSum sum_;
  const SumsBy sums_;
  DeviceStream& stream_;

  std::mutex mutex_;  // guards what is below
  std::condition_variable wake_;
  bool stopping_ = false;
  struct Marks {
    std::unique_ptr<DeviceEvent> begin, end;
  };
  std::vector<Marks> marks_;  // by number; calls put while all are in use are in the newest's
  bool has_marks_ = false;    // the call that is being put
  uint32_t put_ = 0, ended_ = 0;
  std::thread thread_;  // last: starts last
};

}  // namespace angel_ptm

#endif  // ANGEL_PTM_EXEC_NCCL_COLLECTIVES_H_
