#include "angel_ptm/exec/nccl_collectives.h"

#include <algorithm>
#include <chrono>
#include <optional>
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
    Marks& marks = made->marks_.emplace_back();
    ASSIGN_OR_RETURN(marks.begin, DeviceEvent::Create(stream.device()));
    ASSIGN_OR_RETURN(marks.end, DeviceEvent::Create(stream.device()));
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
  RETURN_IF_ERROR(BeginCall());
  RETURN_IF_ERROR(communicator_->AllGather(dst, src, stream_.handle(), tag));
  return EndCall();
}

absl::Status NcclCollectives::ReduceScatter(const ReducedSlice& dst, const Addends& src, bool accumulate,
                                            std::span<std::byte> scratch, CallTag tag) {
  const int size = communicator_->size(), rank = communicator_->rank();
  const int64_t n = dst.elements(), element = SizeOf(src.type);
  const int64_t scratch_bytes = ReduceScratchBytes(n, size, src.type);
  APTM_CHECK(static_cast<int64_t>(scratch.size()) >= scratch_bytes, "reduction of ", n,
             " elements a rank: ", scratch.size(), " bytes of scratch");
  const int64_t round = scratch_bytes / size / element;
  RETURN_IF_ERROR(BeginCall());
  for (int64_t begin = 0; begin < n; begin += round) {
    const int64_t count = std::min(round, n - begin), bytes = count * element;
    const SendBlocks blocks = {src.data.data() + begin * element, n * element, bytes};
    OrderedSumArgs sum = {.dst = dst.data.data() + begin * SizeOf(dst.type),
                          .blocks = scratch.data(),
                          .own = blocks.data + rank * blocks.stride,
                          .stride = bytes,
                          .n = count,
                          .ranks = size,
                          .own_rank = rank,
                          .dst_type = dst.type,
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
  return EndCall();
}

absl::Status NcclCollectives::BeginCall() {
  const std::lock_guard<std::mutex> lock(mutex_);
  has_marks_ = put_ - ended_ < kMarks;
  return has_marks_ ? stream_.Record(*marks_[put_ % kMarks].begin) : absl::OkStatus();
}

absl::Status NcclCollectives::EndCall() {
  const std::lock_guard<std::mutex> lock(mutex_);
  if (!has_marks_) return absl::OkStatus();
  RETURN_IF_ERROR(stream_.Record(*marks_[put_ % kMarks].end));
  ++put_;
  return absl::OkStatus();
}

absl::StatusOr<NcclCollectives::Sign> NcclCollectives::LookAtStream() {
  const uint32_t ended_before = ended_;
  for (; ended_ != put_; ++ended_) {
    ASSIGN_OR_RETURN(const bool ended, marks_[ended_ % kMarks].end->Reached());
    if (!ended) break;
  }
  if (ended_ != ended_before) return Sign::kGoesOn;
  if (ended_ == put_) return Sign::kSilent;
  ASSIGN_OR_RETURN(const bool begun, marks_[ended_ % kMarks].begin->Reached());
  return begun ? Sign::kWaits : Sign::kSilent;
}

void NcclCollectives::Watch() {
  absl::Status status = stream_.device().MakeCurrent();
  RunningTime time;
  double waited_seconds = 0;
  std::unique_lock<std::mutex> lock(mutex_);
  while (!stopping_ && status.ok()) {
    wake_.wait_for(lock, std::chrono::duration<double>(WaitOptions::kPollSeconds), [this] { return stopping_; });
    const double gap = time.Look();
    const absl::StatusOr<Sign> sign = LookAtStream();
    lock.unlock();
    status = sign.status();
    if (status.ok()) {
      waited_seconds = *sign == Sign::kWaits ? waited_seconds + gap : 0;
      status = communicator_->Look(*sign == Sign::kSilent ? std::nullopt : std::optional(waited_seconds));
    }
    lock.lock();
  }
  lock.unlock();
  // The GPU itself has failed: peers must not wait for it.
  if (!status.ok()) communicator_->Abort(status);
}

}  // namespace angel_ptm
