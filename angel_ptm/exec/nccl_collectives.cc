#include "angel_ptm/exec/nccl_collectives.h"

#include <algorithm>
#include <chrono>
#include <utility>

#include "angel_ptm/base/check.h"
#include "comm/running_time.h"

namespace angel_ptm {
namespace {

constexpr uint32_t kMarks = 64;

}  // namespace

absl::StatusOr<std::unique_ptr<NcclCollectives>> NcclCollectives::Create(std::shared_ptr<NcclApi> api,
                                                                         const CollectivesWish& wish,
                                                                         Communicator& peers, DeviceStream& stream) {
  RETURN_IF_ERROR(stream.device().MakeCurrent());
  ASSIGN_OR_RETURN(std::unique_ptr<NcclCommunicator> communicator,
                   NcclCommunicator::Create(std::move(api), peers, wish.nccl.wait));
  std::unique_ptr<NcclCollectives> made(new NcclCollectives(std::move(communicator), wish, stream));
  for (uint32_t i = 0; i < kMarks; ++i) {
    ASSIGN_OR_RETURN(std::unique_ptr<DeviceEvent> mark, DeviceEvent::Create(stream.device()));
    made->marks_.push_back(std::move(mark));
  }
  made->thread_ = std::thread([collectives = made.get()] { collectives->Watch(); });
  return made;
}

NcclCollectives::~NcclCollectives() {
  {
    const std::lock_guard<std::mutex> lock(mutex_);
    stopping_ = true;
  }
  wake_.notify_all();
  if (thread_.joinable()) thread_.join();
}

absl::Status NcclCollectives::AllGather(std::span<std::byte> dst, std::span<const std::byte> src, CallTag tag) {
  RETURN_IF_ERROR(communicator_->AllGather(dst, src, stream_.handle(), tag));
  return Mark();
}

absl::Status NcclCollectives::ReduceScatter(std::span<float> dst, const Addends& src, bool accumulate,
                                            std::span<std::byte> scratch, CallTag tag) {
  const int size = communicator_->size(), rank = communicator_->rank();
  const int64_t n = static_cast<int64_t>(dst.size()), element = SizeOf(src.type);
  const int64_t scratch_bytes = ReduceScratchBytes(n, size, src.type);
  APTM_CHECK(static_cast<int64_t>(scratch.size()) >= scratch_bytes, "reduction of ", n,
             " elements a rank: ", scratch.size(), " bytes of scratch");
  const int64_t round = scratch_bytes / size / element;
  for (int64_t begin = 0; begin < n; begin += round) {
    const int64_t count = std::min(round, n - begin), bytes = count * element;
    const SendBlocks blocks = {src.data.data() + begin * element, n * element, bytes};
    OrderedSumArgs sum = {.dst = dst.data() + begin,
                          .blocks = scratch.data(),
                          .own = blocks.data + rank * blocks.stride,
                          .stride = bytes,
                          .n = count,
                          .ranks = size,
                          .own_rank = rank,
                          .type = src.type,
                          .accumulate = accumulate};
    if (sums_ == SumsBy::kNccl) {
      RETURN_IF_ERROR(communicator_->SumBlocks(scratch.data(), blocks, src.type, stream_.handle(), tag));
      sum.ranks = 1, sum.own_rank = 0, sum.own = scratch.data();
    } else {
      RETURN_IF_ERROR(
          communicator_->Exchange(scratch.first(static_cast<size_t>(bytes * size)), blocks, stream_.handle(), tag));
    }
    sum_(sum, stream_.handle());
  }
  return Mark();
}

absl::Status NcclCollectives::Mark() {
  const std::lock_guard<std::mutex> lock(mutex_);
  if (marked_ - reached_ == kMarks) return absl::OkStatus();
  RETURN_IF_ERROR(stream_.Record(*marks_[marked_ % kMarks]));
  ++marked_;
  return absl::OkStatus();
}

absl::StatusOr<bool> NcclCollectives::TakeReached() {
  bool any = false;
  for (; reached_ != marked_; ++reached_) {
    ASSIGN_OR_RETURN(const bool reached, marks_[reached_ % kMarks]->Reached());
    if (!reached) break;
    any = true;
  }
  return any;
}

void NcclCollectives::Watch() {
  absl::Status status = stream_.device().MakeCurrent();
  RunningTime time;
  double waited_seconds = 0;
  std::unique_lock<std::mutex> lock(mutex_);
  while (!stopping_ && status.ok()) {
    wake_.wait_for(lock, std::chrono::duration<double>(WaitOptions::kPollSeconds), [this] { return stopping_; });
    const double gap = time.Look();
    const absl::StatusOr<bool> reached = TakeReached();
    waited_seconds = !reached.ok() || *reached || reached_ == marked_ ? 0 : waited_seconds + gap;
    lock.unlock();
    status = reached.ok() ? communicator_->Look(waited_seconds) : reached.status();
    lock.lock();
  }
  // The GPU itself has failed: peers must not wait for it.
  lock.unlock();
  if (!status.ok()) communicator_->Abort(status);
}

}  // namespace angel_ptm
