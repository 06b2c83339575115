#include "comm/mpi_messages.h"

#include <sched.h>

#include <algorithm>
#include <chrono>
#include <cstring>
#include <thread>
#include <utility>

#include "absl/strings/str_cat.h"
#include "absl/strings/str_format.h"
#include "angel_ptm/base/check.h"
#include "comm/mpi_call.h"
#include "comm/ordered_sum.h"
#include "comm/running_time.h"

namespace angel_ptm {
namespace {

using Clock = std::chrono::steady_clock;

// Peers a rank exchanges with at a time.
constexpr int kPeersAtOnce = 16;
// Reductions are worked off in pieces of this size per rank.
constexpr int64_t kPieceFloats = Communicator::kReducePieceBytes / int64_t{sizeof(float)};

// Waiting without stealing the compute lane's core: spin, then yield, then sleep for an eighth of the time waited so
// far, so that a message is noticed at most so much late.
class BackOff {
 public:
  explicit BackOff(int64_t spin_us) : spin_us_(spin_us) {}
  void Reset() { start_ = Clock::now(); }
  double waited_seconds() const { return std::chrono::duration<double>(Clock::now() - start_).count(); }
  // Returns true if it slept.
  bool Pause() {
    const double waited_us = waited_seconds() * 1e6;
    if (waited_us < static_cast<double>(spin_us_)) return false;
    if (waited_us < static_cast<double>(spin_us_ + kYieldUs)) {
      sched_yield();
      return false;
    }
    std::this_thread::sleep_for(std::chrono::microseconds(std::min(static_cast<int64_t>(waited_us) / 8, kSleepMaxUs)));
    return true;
  }

 private:
  static constexpr int64_t kYieldUs = 100, kSleepMaxUs = 1000;

  const int64_t spin_us_;
  Clock::time_point start_ = Clock::now();
};

}  // namespace

MpiMessageCommunicator::MpiMessageCommunicator(int message_tag, WaitOptions options, int64_t transfer_bytes_max)
    : message_tag_(message_tag), options_(std::move(options)), message_bytes_max_(transfer_bytes_max) {
  MPI_Comm_rank(MPI_COMM_WORLD, &rank_);
  MPI_Comm_size(MPI_COMM_WORLD, &size_);
  x_.resize(static_cast<size_t>(size_));
  const size_t messages = 2 * static_cast<size_t>(std::min(size_, kPeersAtOnce));
  requests_.reserve(messages);
  peers_.reserve(messages);
  done_.resize(messages);
}

absl::Status MpiMessageCommunicator::Begin(CollectiveVerb verb, const CallTag& tag) {
  if (!failure_.ok()) return failure_;
  verb_ = verb;
  tag_ = tag;
  return absl::OkStatus();
}

absl::Status MpiMessageCommunicator::End(absl::Status status) {
  if (status.ok()) return status;
  DropMessages();
  failure_ = absl::Status(status.code(), absl::StrCat("rank ", rank_, " of ", size_, " in ", Describe(verb_, tag_),
                                                      ": ", std::string(status.message())));
  return failure_;
}

void MpiMessageCommunicator::DropMessages() {
  for (MPI_Request& request : requests_) {
    MPI_Cancel(&request);
    MPI_Request_free(&request);
  }
  requests_.clear();
  peers_.clear();
}

absl::Status MpiMessageCommunicator::Send(const std::byte* from, int peer, int64_t n) {
  peers_.push_back(peer);
  requests_.push_back(MPI_REQUEST_NULL);
  ANGEL_PTM_MPI_CALL(MPI_Isend, from, static_cast<int>(n), MPI_BYTE, peer, message_tag_, MPI_COMM_WORLD,
                     &requests_.back());
  return absl::OkStatus();
}

absl::Status MpiMessageCommunicator::Receive(std::byte* to, int peer, int64_t n) {
  peers_.push_back(peer);
  requests_.push_back(MPI_REQUEST_NULL);
  ANGEL_PTM_MPI_CALL(MPI_Irecv, to, static_cast<int>(n), MPI_BYTE, peer, message_tag_, MPI_COMM_WORLD,
                     &requests_.back());
  return absl::OkStatus();
}

absl::Status MpiMessageCommunicator::CheckWait(double waited_seconds) const {
  if (options_.poll) {
    if (absl::Status status = options_.poll(waited_seconds); !status.ok())
      return absl::UnavailableError(status.message());
  }
  if (waited_seconds <= options_.timeout_seconds) return absl::OkStatus();
  std::string silent;
  for (size_t i = 0; i < requests_.size(); ++i) {
    if (std::find(peers_.begin(), peers_.begin() + static_cast<int64_t>(i), peers_[i]) !=
        peers_.begin() + static_cast<int64_t>(i)) {
      continue;
    }
    absl::StrAppend(&silent, silent.empty() ? "rank " : ", rank ", peers_[i]);
  }
  return absl::UnavailableError(absl::StrFormat("waited %.1f s for %s", waited_seconds, silent));
}

absl::Status MpiMessageCommunicator::AwaitMessages() {
  BackOff back_off(options_.spin_us);
  Clock::time_point polled = Clock::now();
  RunningTime waited;
  while (!requests_.empty()) {
    int count = 0;
    ANGEL_PTM_MPI_CALL(MPI_Testsome, static_cast<int>(requests_.size()), requests_.data(), &count, done_.data(),
                       MPI_STATUSES_IGNORE);
    if (count > 0) {
      // Keep the pending ones, in order, so that requests_ stays short and peers_ says who is missing.
      size_t kept = 0;
      for (size_t i = 0; i < requests_.size(); ++i) {
        if (requests_[i] == MPI_REQUEST_NULL) continue;
        requests_[kept] = requests_[i];
        peers_[kept++] = peers_[i];
      }
      requests_.resize(kept);
      peers_.resize(kept);
      back_off.Reset();
      waited = RunningTime();
      continue;
    }
    if (back_off.Pause() && Clock::now() - polled > std::chrono::duration<double>(WaitOptions::kPollSeconds)) {
      polled = Clock::now();
      waited.Look();
      RETURN_IF_ERROR(CheckWait(waited.seconds()));
    }
  }
  return absl::OkStatus();
}

absl::Status MpiMessageCommunicator::ExchangeWithPeers(const std::byte* send, int64_t send_stride, std::byte* recv,
                                                       int64_t recv_stride, int64_t n) {
  for (int64_t begin = 0; begin < n; begin += message_bytes_max_) {
    const int64_t m = std::min(message_bytes_max_, n - begin);
    for (int first = 1; first < size_; first += kPeersAtOnce) {
      const int last = std::min(first + kPeersAtOnce, size_);
      // Receives first, and the peer whose turn it is to send here first of all.
      for (int i = first; i < last; ++i) {
        const int from = (rank_ - i + size_) % size_;
        RETURN_IF_ERROR(Receive(recv + from * recv_stride + begin, from, m));
      }
      for (int i = first; i < last; ++i) {
        const int to = (rank_ + i) % size_;
        RETURN_IF_ERROR(Send(send + to * send_stride + begin, to, m));
      }
      RETURN_IF_ERROR(AwaitMessages());
    }
  }
  return absl::OkStatus();
}

absl::Status MpiMessageCommunicator::AllGather(std::span<std::byte> dst, std::span<const std::byte> src, CallTag tag) {
  const int64_t n = static_cast<int64_t>(src.size());
  APTM_CHECK(static_cast<int64_t>(dst.size()) == n * size_, "all-gather: dst has ", dst.size(), " bytes, src ", n);
  RETURN_IF_ERROR(Begin(CollectiveVerb::kAllGather, tag));
  std::byte* mine = dst.data() + rank_ * n;
  if (n > 0 && mine != src.data()) std::memcpy(mine, src.data(), src.size());
  return End(ExchangeWithPeers(src.data(), 0, dst.data(), n, n));
}

absl::Status MpiMessageCommunicator::ReduceScatterOrdered(std::span<float> dst, std::span<float> src, bool accumulate,
                                                          std::span<std::byte> scratch, CallTag tag) {
  const int64_t n = static_cast<int64_t>(dst.size());
  APTM_CHECK(static_cast<int64_t>(src.size()) == n * size_, "reduce-scatter: src has ", src.size(), " floats, dst ", n);
  const int64_t scratch_bytes = Communicator::ReduceScratchBytes(n);
  APTM_CHECK(static_cast<int64_t>(scratch.size()) >= scratch_bytes, "reduce-scatter: ", scratch.size(), " of ",
             scratch_bytes, " bytes of scratch");
  RETURN_IF_ERROR(Begin(CollectiveVerb::kReduceScatter, tag));
  const int64_t slot_bytes = scratch_bytes / size_;
  for (int64_t begin = 0; begin < n; begin += kPieceFloats) {
    const int64_t m = std::min(kPieceFloats, n - begin);
    const std::byte* send = reinterpret_cast<const std::byte*>(src.data() + begin);
    absl::Status status =
        ExchangeWithPeers(send, n * int64_t{sizeof(float)}, scratch.data(), slot_bytes, m * int64_t{sizeof(float)});
    if (!status.ok()) return End(status);
    for (int r = 0; r < size_; ++r) x_[r] = reinterpret_cast<const float*>(scratch.data() + r * slot_bytes);
    x_[rank_] = src.data() + rank_ * n + begin;
    OrderedSum(dst.data() + begin, x_, m, accumulate);
  }
  return absl::OkStatus();
}

absl::Status MpiMessageCommunicator::AllToAll(std::span<std::byte> dst, std::span<const std::byte> src, CallTag tag) {
  APTM_CHECK(dst.size() == src.size() && dst.size() % static_cast<size_t>(size_) == 0, "all-to-all: dst has ",
             dst.size(), " bytes, src ", src.size());
  const int64_t n = static_cast<int64_t>(dst.size()) / size_;
  RETURN_IF_ERROR(Begin(CollectiveVerb::kAllToAll, tag));
  if (n > 0) std::memcpy(dst.data() + rank_ * n, src.data() + rank_ * n, static_cast<size_t>(n));
  return End(ExchangeWithPeers(src.data(), n, dst.data(), n, n));
}

// A binomial tree (in ranks relative to the root, a rank receives from the one with its lowest set bit cleared).
absl::Status MpiMessageCommunicator::Broadcast(std::span<std::byte> dst, int root, CallTag tag) {
  APTM_CHECK(root >= 0 && root < size_, "broadcast from rank ", root, " of ", size_);
  RETURN_IF_ERROR(Begin(CollectiveVerb::kBroadcast, tag));
  const int64_t n = static_cast<int64_t>(dst.size());
  const int relative = (rank_ - root + size_) % size_;
  auto real = [&](int r) { return (r + root) % size_; };
  int low_bit = 1;
  while (low_bit < size_ && (relative & low_bit) == 0) low_bit *= 2;
  for (int64_t begin = 0; begin < n; begin += message_bytes_max_) {
    const int64_t m = std::min(message_bytes_max_, n - begin);
    absl::Status status;
    if (relative != 0) {
      status = Receive(dst.data() + begin, real(relative - low_bit), m);
      if (status.ok()) status = AwaitMessages();
    }
    for (int bit = low_bit / 2; bit >= 1 && status.ok(); bit /= 2) {
      if (relative + bit < size_) status = Send(dst.data() + begin, real(relative + bit), m);
    }
    if (status.ok()) status = AwaitMessages();
    if (!status.ok()) return End(status);
  }
  return absl::OkStatus();
}

// Everyone to everyone, not a tree: a tree would name a rank that itself waits for the silent one.
absl::Status MpiMessageCommunicator::Barrier(CallTag tag) {
  RETURN_IF_ERROR(Begin(CollectiveVerb::kBarrier, tag));
  std::byte sent{1}, received{0};
  return End(ExchangeWithPeers(&sent, 0, &received, 0, 1));
}

}  // namespace angel_ptm
