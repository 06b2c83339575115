#include "comm/direct_read.h"

#include <unistd.h>

#include <algorithm>
#include <chrono>
#include <cstring>
#include <thread>

#include "absl/strings/str_cat.h"
#include "angel_ptm/base/check.h"

namespace angel_ptm {
namespace {

uint64_t AddressOf(const void* p) { return reinterpret_cast<uint64_t>(p); }

}  // namespace

DirectReadCommunicator::DirectReadCommunicator(ExchangeBoard board, Group group, WaitOptions options)
    : board_(std::move(board)), group_(std::move(group)), rank_(group_.rank), options_(std::move(options)) {
  board_.slot(rank_).process_id = static_cast<int32_t>(getpid());
}

absl::Status DirectReadCommunicator::CheckOffers(CollectiveVerb verb, int64_t bytes, int root) const {
  for (int r = 0; r < size(); ++r) {
    const ExchangeSlot& s = board_.slot(r);
    if (s.ended.load() != 0) {
      return absl::UnavailableError(absl::StrCat("rank ", world_rank(r), " has given up: ", board_.failure_sentence()));
    }
    if (s.verb == verb && s.bytes == bytes && s.root == root) continue;
    return absl::InternalError(absl::StrCat("rank ", world_rank(r), " is in ", board_.LastCall(r), " with ", s.bytes,
                                            " bytes, this rank has ", bytes, " bytes (roots ", s.root, " and ", root,
                                            "): the ranks' collective sequences differ"));
  }
  return absl::OkStatus();
}

absl::Status DirectReadCommunicator::Enter(CollectiveVerb verb, const void* address, int64_t bytes, int root,
                                           const CallTag& tag) {
  if (!failure_.ok()) return failure_;
  ExchangeSlot& mine = board_.slot(rank_);
  mine.address = AddressOf(address);
  mine.bytes = bytes;
  mine.verb = verb;
  mine.root = root;
  CallText text{.verb = static_cast<uint8_t>(verb), .valid = 1, .step = tag.step};
  std::memcpy(text.what.data(), tag.what.data(), std::min(tag.what.size(), text.what.size() - 1));
  mine.call.Write(text);
  board_.Arrive(rank_, ++arrivals_);
  for (int i = 1; i < size(); ++i) {
    absl::Status status = board_.AwaitArrival((rank_ + i) % size(), arrivals_, options_);
    if (!status.ok()) return GiveUp(verb, tag, status);
  }
  absl::Status status = CheckOffers(verb, bytes, root);
  return status.ok() ? status : GiveUp(verb, tag, status);
}

absl::Status DirectReadCommunicator::Leave(CollectiveVerb verb, const CallTag& tag, absl::Status status) {
  if (!status.ok()) return GiveUp(verb, tag, status);
  board_.Arrive(rank_, ++arrivals_);
  for (int i = 1; i < size(); ++i) {
    status = board_.AwaitArrival((rank_ + i) % size(), arrivals_, options_);
    if (!status.ok()) return GiveUp(verb, tag, status);
  }
  return status;
}

absl::Status DirectReadCommunicator::GiveUp(CollectiveVerb verb, const CallTag& tag, const absl::Status& reason) {
  failure_ = absl::Status(
      reason.code(), absl::StrCat(group_.Self(), " in ", Describe(verb, tag), ": ", std::string(reason.message())));
  board_.Fail(std::string(failure_.message()));
  board_.End(rank_);
  if (!readers_need_memory()) return failure_;
  // A peer that has not seen the end of this rank may be reading its memory: it arrives or gives up soon, because
  // nothing in between waits without looking for failures.
  const uint32_t posted = arrivals_ % 2 != 0 ? arrivals_ : arrivals_ - 1;
  for (int r = 0; r < size(); ++r) {
    while (r != rank_ && board_.Arrived(r, posted) && !board_.Arrived(r, posted + 1) &&
           board_.slot(r).ended.load() == 0) {
      std::this_thread::sleep_for(std::chrono::microseconds(100));
    }
  }
  return failure_;
}

absl::Status DirectReadCommunicator::AllGather(std::span<std::byte> dst, std::span<const std::byte> src, CallTag tag) {
  const int64_t n = static_cast<int64_t>(src.size());
  APTM_CHECK(static_cast<int64_t>(dst.size()) == n * size(), "all-gather: dst has ", dst.size(), " bytes, src ", n);
  constexpr CollectiveVerb kVerb = CollectiveVerb::kAllGather;
  RETURN_IF_ERROR(Enter(kVerb, src.data(), n, 0, tag));
  absl::Status status;
  for (int i = 0; i < size() && n > 0 && status.ok(); ++i) {
    const int r = (rank_ + i) % size();
    std::byte* to = dst.data() + r * n;
    if (r != rank_) {
      status = Read(to, r, board_.slot(r).address, n);
    } else if (to != src.data()) {
      std::memcpy(to, src.data(), src.size());
    }
  }
  return Leave(kVerb, tag, status);
}

absl::Status DirectReadCommunicator::AllToAll(std::span<std::byte> dst, const SendBlocks& src, CallTag tag) {
  const int64_t n = src.bytes;
  APTM_CHECK(static_cast<int64_t>(dst.size()) == n * size(), "all-to-all: dst has ", dst.size(), " bytes, a block ", n);
  constexpr CollectiveVerb kVerb = CollectiveVerb::kAllToAll;
  RETURN_IF_ERROR(Enter(kVerb, src.data, n * size(), 0, tag));
  absl::Status status;
  for (int i = 0; i < size() && n > 0 && status.ok(); ++i) {
    const int r = (rank_ + i) % size();
    if (r == rank_) {
      std::memcpy(dst.data() + r * n, src.data + r * src.stride, static_cast<size_t>(n));
    } else {
      status = Read(dst.data() + r * n, r, board_.slot(r).address + static_cast<uint64_t>(rank_ * src.stride), n);
    }
  }
  return Leave(kVerb, tag, status);
}

absl::Status DirectReadCommunicator::Broadcast(std::span<std::byte> dst, int root, CallTag tag) {
  APTM_CHECK(root >= 0 && root < size(), "broadcast from rank ", root, " of ", size());
  const int64_t n = static_cast<int64_t>(dst.size());
  constexpr CollectiveVerb kVerb = CollectiveVerb::kBroadcast;
  RETURN_IF_ERROR(Enter(kVerb, dst.data(), n, root, tag));
  absl::Status status;
  if (rank_ != root && n > 0) status = Read(dst.data(), root, board_.slot(root).address, n);
  return Leave(kVerb, tag, status);
}

absl::Status DirectReadCommunicator::Barrier(CallTag tag) {
  RETURN_IF_ERROR(Enter(CollectiveVerb::kBarrier, nullptr, 0, 0, tag));
  return Leave(CollectiveVerb::kBarrier, tag, absl::OkStatus());
}

}  // namespace angel_ptm
