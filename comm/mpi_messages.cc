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
#include "comm/mpi_node.h"
#include "comm/ring_batches.h"
#include "comm/running_time.h"

namespace angel_ptm {
namespace {

using Clock = std::chrono::steady_clock;

// Waiting without stealing the compute lane's core: spin, then yield, then sleep for an eighth of the time waited so
// far, which bounds how late a message is noticed.
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

MpiMessageCommunicator::MpiMessageCommunicator(Group group, int message_tag, std::shared_ptr<int> next_group_tag,
                                               std::shared_ptr<MpiArenas> arenas, WaitOptions options,
                                               int64_t transfer_bytes_max)
    : group_(std::move(group)),
      rank_(group_.rank),
      size_(group_.size()),
      message_tag_(message_tag),
      next_group_tag_(std::move(next_group_tag)),
      arenas_(std::move(arenas)),
      options_(std::move(options)),
      message_bytes_max_(transfer_bytes_max) {
  const size_t messages = 4 * static_cast<size_t>(std::min(size_, RingBatches::kPeersAtOnce));
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
  failure_ = absl::Status(
      status.code(), absl::StrCat(group_.Self(), " in ", Describe(verb_, tag_), ": ", std::string(status.message())));
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

void MpiMessageCommunicator::Post(int peer) {
  APTM_CHECK(requests_.size() < done_.size(), "too many messages in flight");
  peers_.push_back(world_rank(peer));
  requests_.push_back(MPI_REQUEST_NULL);
}

absl::Status MpiMessageCommunicator::Send(const std::byte* from, int peer, int64_t n) {
  Post(peer);
  ANGEL_PTM_MPI_CALL(MPI_Isend, from, static_cast<int>(n), MPI_BYTE, peers_.back(), message_tag_, MPI_COMM_WORLD,
                     &requests_.back());
  return absl::OkStatus();
}

absl::Status MpiMessageCommunicator::Receive(std::byte* to, int peer, int64_t n) {
  Post(peer);
  ANGEL_PTM_MPI_CALL(MPI_Irecv, to, static_cast<int>(n), MPI_BYTE, peers_.back(), message_tag_, MPI_COMM_WORLD,
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
  const RingBatches batches(rank_, size_);
  for (int64_t begin = 0; begin < n; begin += message_bytes_max_) {
    const int64_t m = std::min(message_bytes_max_, n - begin);
    for (int batch = 0; batch < batches.count(); ++batch) {
      // Receives first, beginning with the peer whose turn it is to send to this rank.
      RETURN_IF_ERROR(
          batches.EachSource(batch, [&](int from) { return Receive(recv + from * recv_stride + begin, from, m); }));
      RETURN_IF_ERROR(
          batches.EachDestination(batch, [&](int to) { return Send(send + to * send_stride + begin, to, m); }));
      RETURN_IF_ERROR(AwaitMessages());
    }
  }
  return absl::OkStatus();
}

absl::Status MpiMessageCommunicator::GatherInRounds(std::byte* dst, int64_t n) {
  // The blocks of the `count` ranks that end with `last`: two ranges where they wrap around the end of the ring.
  const auto each_range = [&](int last, int count, const auto& move) -> absl::Status {
    const int first = (last - count + 1 + size_) % size_;
    const int before_end = std::min(count, size_ - first);
    RETURN_IF_ERROR(move(dst + first * n, before_end * n));
    return before_end < count ? move(dst, (count - before_end) * n) : absl::OkStatus();
  };
  for (int m = 1; m < size_; m *= 2) {
    const int count = std::min(m, size_ - m), from = (rank_ - m + size_) % size_, to = (rank_ + m) % size_;
    for (int64_t begin = 0; begin < count * n; begin += message_bytes_max_) {
      const auto piece = [&](int64_t bytes) { return std::clamp<int64_t>(bytes - begin, 0, message_bytes_max_); };
      RETURN_IF_ERROR(each_range(from, count, [&](std::byte* p, int64_t bytes) {
        return piece(bytes) == 0 ? absl::OkStatus() : Receive(p + begin, from, piece(bytes));
      }));
      RETURN_IF_ERROR(each_range(rank_, count, [&](std::byte* p, int64_t bytes) {
        return piece(bytes) == 0 ? absl::OkStatus() : Send(p + begin, to, piece(bytes));
      }));
      RETURN_IF_ERROR(AwaitMessages());
    }
  }
  return absl::OkStatus();
}

absl::Status MpiMessageCommunicator::AllGatherInPlace(const GatheredBlocks& all, CallTag tag) {
  RETURN_IF_ERROR(Begin(CollectiveVerb::kAllGather, tag));
  const int64_t n = all.bytes;
  const bool in_rounds = n > 0 && all.stride == n && GathersInRounds(n, size_);
  for (int row = 0; row < all.rows; ++row) {
    std::byte* const to = all.At(0, row);
    absl::Status status =
        in_rounds ? GatherInRounds(to, n) : ExchangeWithPeers(all.At(rank_, row), 0, to, all.stride, n);
    if (!status.ok()) return End(std::move(status));
  }
  return absl::OkStatus();
}

absl::Status MpiMessageCommunicator::AllToAll(std::span<std::byte> dst, const SendBlocks& src, CallTag tag) {
  const int64_t n = src.bytes;
  APTM_CHECK(static_cast<int64_t>(dst.size()) == n * size_, "all-to-all: dst has ", dst.size(), " bytes, a block ", n);
  APTM_CHECK(src.rows == 1, "an all-to-all of rows");
  RETURN_IF_ERROR(Begin(CollectiveVerb::kAllToAll, tag));
  if (n > 0) std::memcpy(dst.data() + rank_ * n, src.data + rank_ * src.stride, static_cast<size_t>(n));
  return End(ExchangeWithPeers(src.data, src.stride, dst.data(), n, n));
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

// A dissemination barrier: a rank has heard of all ranks once it has heard from the ranks 1, 2, 4, ... places before
// it, each of which had completed the earlier rounds itself.
absl::Status MpiMessageCommunicator::Barrier(CallTag tag) {
  RETURN_IF_ERROR(Begin(CollectiveVerb::kBarrier, tag));
  std::byte sent{1}, received{0};
  absl::Status status;
  for (int m = 1; m < size_ && status.ok(); m *= 2) {
    status = Receive(&received, (rank_ - m + size_) % size_, 1);
    if (status.ok()) status = Send(&sent, (rank_ + m) % size_, 1);
    if (status.ok()) status = AwaitMessages();
  }
  return End(status);
}

absl::StatusOr<std::unique_ptr<Communicator>> MpiMessageCommunicator::Split(int color, CallTag tag) {
  ASSIGN_OR_RETURN(Group part, SplitGroup(*this, group_, color, tag));
  ASSIGN_OR_RETURN(std::unique_ptr<Communicator> inside, SplitInsideMachine(part, tag));
  // The groups of one split have no rank in common, so one tag serves all of them.
  ASSIGN_OR_RETURN(const std::vector<int> next, GatherWords(*this, *next_group_tag_, tag));
  const int message_tag = *std::max_element(next.begin(), next.end());
  APTM_CHECK(message_tag <= kLastTag, "too many groups");
  *next_group_tag_ = message_tag + 1;
  if (inside != nullptr) return inside;
  return std::unique_ptr<Communicator>(std::make_unique<MpiMessageCommunicator>(
      std::move(part), message_tag, next_group_tag_, arenas_, options_, message_bytes_max_));
}

absl::StatusOr<std::unique_ptr<Communicator>> MpiMessageCommunicator::SplitInsideMachine(const Group& part,
                                                                                         const CallTag& tag) {
  if (arenas_ == nullptr) return nullptr;
  struct Member {
    int machine, first;  // of its part
  };
  const Member mine = {arenas_->machine(), part.world_ranks[0]};
  ASSIGN_OR_RETURN(const std::vector<Member> members, GatherWords(*this, mine, tag));
  const auto is_elsewhere = [&](const Member& m) { return m.first == mine.first && m.machine != mine.machine; };
  const bool is_inside = part.size() > 1 && std::ranges::none_of(members, is_elsewhere);
  return CreateMpiNodeGroup(*this, group_, is_inside ? &part : nullptr, arenas_, options_,
                            std::min(message_bytes_max_, kStagingBytes), tag);
}

absl::StatusOr<std::shared_ptr<std::byte>> MpiMessageCommunicator::MakeArena(int64_t bytes, int threads, CallTag tag) {
  APTM_CHECK(size_ == group_.world_size, "an arena is all ranks', not a group's");
  if (arenas_ == nullptr) return nullptr;
  return arenas_->Make(*this, bytes, threads, tag);
}

}  // namespace angel_ptm
