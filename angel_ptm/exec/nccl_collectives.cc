#include "angel_ptm/exec/nccl_collectives.h"

#include <algorithm>
#include <chrono>
#include <optional>
#include <utility>

#include "angel_ptm/base/check.h"
#include "comm/running_time.h"

namespace angel_ptm {
namespace {

constexpr uint32_t kMarks = 1024;      // calls that have marks at a time: about those of a segment of 300 layers
constexpr int64_t kSumAlignment = 64;  // elements: operands of sums begin at multiples of 64 bytes, whatever their type

}  // namespace

absl::StatusOr<std::unique_ptr<NcclCollectives>> NcclCollectives::Create(std::shared_ptr<NcclApi> api,
                                                                         const CollectivesWish& wish,
                                                                         Communicator& peers, DeviceStream& stream,
                                                                         std::shared_ptr<NcclSiblings> siblings) {
  RETURN_IF_ERROR(stream.device().MakeCurrent());
  std::unique_ptr<NcclCollectives> made(new NcclCollectives(WorldOf(peers), wish, stream));
  const auto connect = [&](std::unique_ptr<NcclCommunicator>& communicator, Communicator& ranks) -> absl::Status {
    ASSIGN_OR_RETURN(communicator, NcclCommunicator::Create(api, ranks, wish.nccl.wait, siblings));
    made->communicators_.push_back(communicator.get());
    return absl::OkStatus();
  };
  RETURN_IF_ERROR(connect(made->world_, peers));
  if (const CommunicatorLevels* const levels = peers.levels(); levels != nullptr && wish.sums == SumsBy::kRankOrder) {
    RETURN_IF_ERROR(connect(made->inside_, *levels->inside));
    RETURN_IF_ERROR(connect(made->across_, *levels->across));
  }
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

absl::Status NcclCollectives::status() const {
  for (const NcclCommunicator* communicator : communicators_) RETURN_IF_ERROR(communicator->status());
  return absl::OkStatus();
}

absl::Status NcclCollectives::Close() {
  for (NcclCommunicator* communicator : communicators_) RETURN_IF_ERROR(communicator->Close());
  return absl::OkStatus();
}

absl::Status NcclCollectives::AllGather(std::span<std::byte> dst, std::span<const std::byte> src, CallTag tag) {
  RETURN_IF_ERROR(BeginCall());
  RETURN_IF_ERROR(world_->AllGather(dst, src, stream_.handle(), tag));
  return EndCall();
}

absl::Status NcclCollectives::ReduceScatter(const ReducedSlice& dst, const Addends& src, bool accumulate,
                                            std::span<std::byte> scratch, CallTag tag) {
  const int64_t scratch_bytes = ReduceScratchBytes(dst.elements(), shape_, src.type);
  APTM_CHECK(static_cast<int64_t>(scratch.size()) >= scratch_bytes, "reduction of ", dst.elements(),
             " elements a rank: ", scratch.size(), " bytes of scratch");
  scratch = scratch.first(static_cast<size_t>(scratch_bytes));
  RETURN_IF_ERROR(BeginCall());
  RETURN_IF_ERROR(sums_ == SumsBy::kNccl ? SumByNccl(dst, src, accumulate, scratch, tag)
                  : shape_.has_nodes()   ? SumByNodes(dst, src, accumulate, scratch, tag)
                                         : SumInOrder(dst, src, accumulate, scratch, tag));
  return EndCall();
}

absl::Status NcclCollectives::SumByNccl(const ReducedSlice& dst, const Addends& src, bool accumulate,
                                        std::span<std::byte> scratch, CallTag tag) {
  const int64_t n = dst.elements(), element = SizeOf(src.type);
  const int64_t round = static_cast<int64_t>(scratch.size()) / world_->size() / element;
  for (int64_t begin = 0; begin < n; begin += round) {
    const int64_t count = std::min(round, n - begin), bytes = count * element;
    const SendBlocks blocks = {src.data.data() + begin * element, n * element, bytes};
    RETURN_IF_ERROR(world_->SumBlocks(scratch.data(), blocks, src.type, stream_.handle(), tag));
    sum_({.dst = dst.data.data() + begin * SizeOf(dst.type),
          .blocks = scratch.data(),
          .own = scratch.data(),
          .stride = bytes,
          .n = count,
          .ranks = 1,
          .own_rank = 0,
          .dst_type = dst.type,
          .type = src.type,
          .accumulate = accumulate},
         stream_.handle());
  }
  return absl::OkStatus();
}

absl::Status NcclCollectives::SumInOrder(const ReducedSlice& dst, const Addends& src, bool accumulate,
                                         std::span<std::byte> scratch, CallTag tag) {
  const int64_t n = dst.elements(), element = SizeOf(src.type);
  const int64_t round = static_cast<int64_t>(scratch.size()) / world_->size() / element;
  for (int64_t begin = 0; begin < n; begin += round) {
    const int64_t count = std::min(round, n - begin);
    const SendBlocks blocks = {src.data.data() + begin * element, n * element, count * element};
    RETURN_IF_ERROR(ExchangeAndSum(*world_, dst.data.data() + begin * SizeOf(dst.type), dst.type, blocks, src.type,
                                   accumulate, scratch, tag));
  }
  return absl::OkStatus();
}

absl::Status NcclCollectives::SumByNodes(const ReducedSlice& dst, const Addends& src, bool accumulate,
                                         std::span<std::byte> scratch, CallTag tag) {
  const int64_t n = dst.elements(), element = SizeOf(src.type), fp32 = SizeOf(DType::kFloat32);
  const int nodes = across_->size(), local = inside_->size();
  const NodeReduction shape(n, shape_, src.type);
  const std::span<std::byte> sums = scratch.first(static_cast<size_t>(shape.sums_bytes));
  const std::span<std::byte> arrivals = scratch.subspan(sums.size(), static_cast<size_t>(shape.arrivals_bytes));
  int64_t piece_max = shape.arrivals_bytes / local / element;
  if (piece_max < shape.round_elements) piece_max = piece_max / kSumAlignment * kSumAlignment;
  for (int64_t begin = 0, count = 0; begin < n; begin += count) {
    count = std::min(shape.round_elements, n - begin);
    // Take as many nodes at a time as there is room for what arrives for them.
    const int64_t at_once = std::max<int64_t>(1, shape.arrivals_bytes / (local * count * element));
    for (int64_t node = 0; node < nodes; node += at_once) {
      for (int64_t at = 0; at < count; at += piece_max) {
        const int64_t piece = std::min(piece_max, count - at);
        const SendBlocks of_ranks = {src.data.data() + (node * local * n + begin + at) * element, n * element,
                                     piece * element, static_cast<int>(std::min(at_once, nodes - node)),
                                     local * n * element};
        RETURN_IF_ERROR(ExchangeAndSum(*inside_, sums.data() + (node * count + at) * fp32, DType::kFloat32, of_ranks,
                                       src.type, false, arrivals, tag));
      }
    }
    const SendBlocks of_nodes = {sums.data(), count * fp32, count * fp32};
    RETURN_IF_ERROR(ExchangeAndSum(*across_, dst.data.data() + begin * SizeOf(dst.type), dst.type, of_nodes,
                                   DType::kFloat32, accumulate, arrivals, tag));
  }
  return absl::OkStatus();
}

absl::Status NcclCollectives::ExchangeAndSum(NcclCommunicator& communicator, std::byte* dst, DType dst_type,
                                             const SendBlocks& blocks, DType type, bool accumulate,
                                             std::span<std::byte> arrivals, CallTag tag) {
  const int size = communicator.size(), rank = communicator.rank();
  const int64_t count = blocks.bytes / SizeOf(type);
  RETURN_IF_ERROR(communicator.Exchange(arrivals, blocks, stream_.handle(), tag));
  for (int row = 0; row < blocks.rows; ++row) {
    sum_({.dst = dst + row * count * SizeOf(dst_type),
          .blocks = arrivals.data() + int64_t{row} * size * blocks.bytes,
          .own = blocks.At(rank, row),
          .stride = blocks.bytes,
          .n = count,
          .ranks = size,
          .own_rank = rank,
          .dst_type = dst_type,
          .type = type,
          .accumulate = accumulate},
         stream_.handle());
  }
  return absl::OkStatus();
}

absl::Status NcclCollectives::BeginCall() {
  const std::lock_guard<std::mutex> lock(mutex_);
  has_marks_ = put_ - ended_ < kMarks;
  return has_marks_ ? stream_.Record(*marks_[put_ % kMarks].begin) : absl::OkStatus();
}

absl::Status NcclCollectives::EndCall() {
  const std::lock_guard<std::mutex> lock(mutex_);
  if (!has_marks_) {
    // The newest mark then ends after this call, too, whether or not it was seen to have ended before, so that a stream
    // that hangs in this call is noticed.
    ended_ -= ended_ == put_ ? 1 : 0;
    return stream_.Record(*marks_[(put_ - 1) % kMarks].end);
  }
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
      const auto waited = *sign == Sign::kSilent ? std::nullopt : std::optional(waited_seconds);
      for (size_t i = 0; i < communicators_.size() && status.ok(); ++i) status = communicators_[i]->Look(waited);
    }
    lock.lock();
  }
  lock.unlock();
  // A communicator or the GPU itself has failed: no peer must be left waiting for this rank in any communicator.
  // Aborting one aborts its siblings.
  if (!status.ok()) communicators_.front()->Abort(status);
}

}  // namespace angel_ptm
