#include "comm/nccl/nccl_communicator.h"

#include <chrono>
#include <thread>
#include <utility>

#include "absl/strings/match.h"
#include "absl/strings/str_cat.h"
#include "absl/strings/str_format.h"
#include "angel_ptm/base/check.h"
#include "comm/running_time.h"

namespace angel_ptm {
namespace {

// What rank 0 tells the others.
struct NcclMeeting {
  NcclId id;
  int32_t code = kNcclSuccess;
};

bool Refused(NcclCode code) { return code != kNcclSuccess && code != kNcclInProgress; }

}  // namespace

void NcclSiblings::Add(NcclCommunicator* communicator) {
  const std::lock_guard<std::mutex> lock(mutex_);
  all_.push_back(communicator);
}
void NcclSiblings::Remove(NcclCommunicator* communicator) {
  const std::lock_guard<std::mutex> lock(mutex_);
  std::erase_if(all_, [=](const NcclCommunicator* other) { return other == communicator; });
}
void NcclSiblings::Abort(const absl::Status& reason) {
  const std::lock_guard<std::mutex> lock(mutex_);
  for (NcclCommunicator* communicator : all_) communicator->AbortAlone(reason);
}

NcclCommunicator::NcclCommunicator(std::shared_ptr<NcclApi> api, Communicator& peers, const WaitOptions& wait,
                                   std::shared_ptr<NcclSiblings> siblings)
    : api_(std::move(api)),
      rank_(peers.rank()),
      size_(peers.size()),
      name_(absl::StrCat("rank ", peers.world_rank(peers.rank()), " (one of ", peers.size(), ")")),
      wait_(wait),
      siblings_(std::move(siblings)) {
  siblings_->Add(this);
}

absl::StatusOr<std::unique_ptr<NcclCommunicator>> NcclCommunicator::Create(std::shared_ptr<NcclApi> api,
                                                                           Communicator& peers, const WaitOptions& wait,
                                                                           std::shared_ptr<NcclSiblings> siblings) {
  std::unique_ptr<NcclCommunicator> made(new NcclCommunicator(std::move(api), peers, wait, std::move(siblings)));
  NcclMeeting meeting;
  if (made->rank_ == 0) meeting.code = made->api_->GetUniqueId(&meeting.id);
  RETURN_IF_ERROR(
      peers.Broadcast(std::as_writable_bytes(std::span(&meeting, 1)), /*root=*/0, {"where NCCL's ranks meet"}));
  if (meeting.code != kNcclSuccess) return made->ErrorOf(meeting.code, "asking rank 0 for a place to meet");
  NcclCode code = kNcclSuccess;
  {
    const std::lock_guard<std::mutex> lock(made->mutex_);
    code = made->api_->CommInit(&made->comm_, made->size_, meeting.id, made->rank_);
  }
  RETURN_IF_ERROR(made->AwaitCall(code, "meeting its peers"));
  return made;
}

NcclCommunicator::~NcclCommunicator() {
  bool is_open = false;
  {
    const std::lock_guard<std::mutex> lock(mutex_);
    is_open = comm_ != nullptr;
  }
  if (is_open) Abort(absl::CancelledError("the communicator has ended"));
  siblings_->Remove(this);
  if (aborting_.joinable()) aborting_.join();
}

absl::Status NcclCommunicator::Close() {
  NcclCode code = kNcclSuccess;
  {
    const std::lock_guard<std::mutex> lock(mutex_);
    if (comm_ == nullptr) return Ended();
    code = api_->CommFinalize(comm_);
  }
  RETURN_IF_ERROR(AwaitCall(code, "parting from its peers"));
  const std::lock_guard<std::mutex> lock(mutex_);
  void* const comm = std::exchange(comm_, nullptr);
  if (comm == nullptr) return Ended();
  if (code = api_->CommDestroy(comm); code != kNcclSuccess) return ErrorOf(code, "ending the communicator");
  return absl::OkStatus();
}

absl::Status NcclCommunicator::AllGather(std::span<std::byte> dst, std::span<const std::byte> src, void* stream,
                                         CallTag tag) {
  APTM_CHECK(dst.size() == src.size() * static_cast<size_t>(size_), "all-gather of ", src.size(), " bytes");
  return Put([&] { return api_->AllGather(src.data(), dst.data(), static_cast<int64_t>(src.size()), comm_, stream); },
             tag);
}

absl::Status NcclCommunicator::Exchange(std::span<std::byte> dst, const SendBlocks& src, void* stream, CallTag tag) {
  APTM_CHECK(static_cast<int64_t>(dst.size()) >= src.rows * src.bytes * size_, "exchange of ", src.rows, " x ",
             src.bytes, " bytes");
  const auto calls = [&] {
    NcclCode code = kNcclSuccess;
    for (int ahead = 1; ahead < size_; ++ahead) {
      const int to = (rank_ + ahead) % size_, from = (rank_ + size_ - ahead) % size_;
      for (int row = 0; row < src.rows; ++row) {
        std::byte* const arrives = dst.data() + (int64_t{row} * size_ + from) * src.bytes;
        if (!Refused(code)) code = api_->Send(src.At(to, row), src.bytes, to, comm_, stream);
        if (!Refused(code)) code = api_->Receive(arrives, src.bytes, from, comm_, stream);
      }
    }
    return code;
  };
  return Put(calls, tag);
}

absl::Status NcclCommunicator::SumBlocks(std::byte* dst, const SendBlocks& src, DType type, void* stream, CallTag tag) {
  const auto calls = [&] {
    NcclCode code = kNcclSuccess;
    for (int root = 0; root < size_; ++root) {
      const std::byte* const block = src.At(root);
      if (!Refused(code)) code = api_->Reduce(block, dst, src.bytes / SizeOf(type), type, root, comm_, stream);
    }
    return code;
  };
  return Put(calls, tag);
}

absl::Status NcclCommunicator::Put(absl::FunctionRef<NcclCode()> calls, CallTag tag) {
  NcclCode code = kNcclSuccess;
  {
    const std::lock_guard<std::mutex> lock(mutex_);
    if (comm_ == nullptr) return Ended();
    code = api_->GroupStart();
    if (code == kNcclSuccess) {
      const NcclCode called = calls(), ended = api_->GroupEnd();
      code = Refused(called) ? called : ended;
    }
  }
  return AwaitCall(code, tag.what);
}

NcclCode NcclCommunicator::AskState() {
  NcclCode state = kNcclSuccess;
  const NcclCode code = api_->AsyncError(comm_, &state);
  return code == kNcclSuccess ? state : code;
}

absl::Status NcclCommunicator::AwaitCall(NcclCode code, std::string_view what) {
  RunningTime time;
  int64_t pauses = 0;
  while (code == kNcclInProgress) {
    // This usually takes microseconds, but first calls connect to peers.
    if (++pauses > 100) std::this_thread::sleep_for(std::chrono::microseconds(50));
    time.Look();
    if (const absl::Status may = MayWait(time.seconds(), what); !may.ok()) return Fail(may);
    const std::lock_guard<std::mutex> lock(mutex_);
    if (comm_ == nullptr) return Ended();
    code = AskState();
  }
  if (code == kNcclSuccess) return absl::OkStatus();
  return Fail(ErrorOf(code, what));
}

absl::Status NcclCommunicator::Look(std::optional<double> waited_seconds) {
  NcclCode state = kNcclSuccess;
  {
    const std::lock_guard<std::mutex> lock(mutex_);
    if (comm_ == nullptr) return status();
    state = AskState();
  }
  absl::Status found;
  if (Refused(state)) {
    found = ErrorOf(state, "a call that was put on its stream");
  } else if (waited_seconds) {
    found = MayWait(*waited_seconds, "a call that was put on its stream");
  }
  return found.ok() ? found : Fail(found);
}

absl::Status NcclCommunicator::MayWait(double waited_seconds, std::string_view what) const {
  if (wait_.poll) {
    if (const absl::Status asked = wait_.poll(waited_seconds); !asked.ok()) {
      return absl::UnavailableError(asked.message());
    }
  }
  if (waited_seconds <= wait_.timeout_seconds) return absl::OkStatus();
  return absl::UnavailableError(absl::StrFormat("%s has waited %.1f s for its peers in NCCL (limit %g s): %s", name_,
                                                waited_seconds, wait_.timeout_seconds, what));
}

absl::Status NcclCommunicator::status() const {
  return failed_.load(std::memory_order_acquire) ? failure_ : absl::OkStatus();
}

absl::Status NcclCommunicator::Fail(const absl::Status& reason) {
  Abort(reason);
  return status().ok() ? reason : status();
}

absl::Status NcclCommunicator::Ended() const {
  return status().ok() ? absl::InternalError(absl::StrCat(name_, " has closed its NCCL communicator")) : status();
}

void NcclCommunicator::Abort(const absl::Status& reason) { siblings_->Abort(reason); }

void NcclCommunicator::AbortAlone(const absl::Status& reason) {
  const std::lock_guard<std::mutex> lock(mutex_);
  if (comm_ == nullptr) return;
  failure_ = reason;
  failed_.store(true, std::memory_order_release);
  aborting_ = std::thread([this, comm = std::exchange(comm_, nullptr)] { api_->CommAbort(comm); });
}

absl::Status NcclCommunicator::ErrorOf(NcclCode code, std::string_view what) {
  std::string said = api_->LastError();
  if (absl::StrContains(said, "Duplicate GPU")) {
    absl::StrAppend(&said, "; NCCL wants a GPU for each rank, set communication.device_transport=STAGED otherwise");
  }
  const std::string sentence = absl::StrCat(name_, ", ", std::string(what), ": NCCL ", api_->Version(), ": ",
                                            api_->ErrorText(code), " (", code, ")", said.empty() ? "" : ": ", said);
  return code == kNcclRemoteError ? absl::UnavailableError(sentence) : absl::InternalError(sentence);
}

}  // namespace angel_ptm
