#include "angel_ptm/train/agreement.h"

#include <algorithm>
#include <array>
#include <vector>

#include "absl/strings/match.h"
#include "absl/strings/str_cat.h"
#include "angel_ptm/base/checksum.h"
#include "angel_ptm/base/hash.h"
#include "comm/group.h"

namespace angel_ptm {
namespace {

// A status as plain bytes for the Communicator.
struct SharedStatus {
  int32_t code = 0;
  char message[2044] = {};

  static SharedStatus Of(const absl::Status& status) {
    SharedStatus shared{.code = static_cast<int32_t>(status.code())};
    shared.message[status.message().copy(shared.message, sizeof(shared.message) - 1)] = '\0';
    return shared;
  }
};

// Calls visit(bytes) for everything that the view keeps, piece by piece.
template <typename Visit>
absl::Status ForEachPiece(const StateView& view, Visit&& visit) {
  if (view.data != nullptr) {
    visit(view.bytes());
    return absl::OkStatus();
  }
  constexpr int64_t kPieceElements = int64_t{1} << 20;
  std::vector<std::byte> piece;
  for (int64_t at = 0; at < view.stored_elements; at += kPieceElements) {
    piece.resize(static_cast<size_t>(std::min(kPieceElements, view.stored_elements - at) * SizeOf(view.dtype)));
    RETURN_IF_ERROR(view.ReadBytes(at, piece));
    visit(piece);
  }
  return absl::OkStatus();
}

}  // namespace

absl::Status ShareStatus(const absl::Status& own, CallTag tag, Communicator& communicator) {
  const SharedStatus mine = SharedStatus::Of(own);
  std::vector<SharedStatus> all(static_cast<size_t>(communicator.size()));
  RETURN_IF_ERROR(
      communicator.AllGather(std::as_writable_bytes(std::span(all)), std::as_bytes(std::span(&mine, 1)), tag));
  for (size_t rank = 0; rank < all.size(); ++rank) {
    if (all[rank].code == 0) continue;
    const bool named = rank == 0 || absl::StartsWith(all[rank].message, "rank ");
    return absl::Status(static_cast<absl::StatusCode>(all[rank].code),
                        absl::StrCat(named ? "" : absl::StrCat("rank ", rank, ": "), all[rank].message));
  }
  return absl::OkStatus();
}

absl::StatusOr<std::string> ShareFromRankZero(const absl::StatusOr<std::string>& own, CallTag tag,
                                              Communicator& communicator) {
  struct Head {
    int64_t code = 0, bytes = 0;
  };
  std::string text = own.ok() ? *own : std::string(own.status().message());
  Head head{static_cast<int64_t>(own.status().code()), static_cast<int64_t>(text.size())};
  RETURN_IF_ERROR(communicator.Broadcast(std::as_writable_bytes(std::span(&head, 1)), /*root=*/0, tag));
  text.resize(static_cast<size_t>(head.bytes));
  if (head.bytes > 0) RETURN_IF_ERROR(communicator.Broadcast(std::as_writable_bytes(std::span(text)), /*root=*/0, tag));
  if (head.code == 0) return text;
  return absl::Status(static_cast<absl::StatusCode>(head.code), text);
}

absl::Status RankSums::Sum(std::span<int64_t> values, CallTag tag, Communicator& communicator) {
  const auto ranks = static_cast<size_t>(communicator.size());
  if (ranks == 1 || values.empty()) return absl::OkStatus();
  part_.assign((values.size() + ranks - 1) / ranks, 0);
  sent_.assign(part_.size() * ranks, 0);
  received_.resize(sent_.size());
  std::ranges::copy(values, sent_.begin());
  RETURN_IF_ERROR(communicator.AllToAll(std::as_writable_bytes(std::span(received_)),
                                        SendBlocks::Parts(std::as_bytes(std::span(sent_)), communicator.size()), tag));
  for (size_t i = 0; i < received_.size(); ++i) part_[i % part_.size()] += received_[i];
  RETURN_IF_ERROR(
      communicator.AllGather(std::as_writable_bytes(std::span(sent_)), std::as_bytes(std::span(part_)), tag));
  std::copy_n(sent_.begin(), values.size(), values.begin());
  return absl::OkStatus();
}

namespace {

absl::Status UnlikeReplicas(int64_t step, size_t rank, uint64_t digest, size_t other, uint64_t other_digest) {
  return absl::DataLossError(absl::StrCat(
      "at step ", step, " rank ", rank, " holds other bits of the state that both keep whole than rank ", other,
      " (digests ", absl::Hex(digest, absl::kZeroPad16), " and ", absl::Hex(other_digest, absl::kZeroPad16),
      "): unlike processors or libraries, or a memory error; nothing was saved"));
}

}  // namespace

absl::Status CheckReplicas(std::span<const StateView> views, int64_t step, Communicator& communicator) {
  if (communicator.size() == 1) return absl::OkStatus();
  // Hashes of what all ranks keep whole, and of the part of split experts that only some ranks share, which is
  // identified by where it begins.
  Hasher of_all, of_part, part;
  for (const StateView& view : views) {
    if (view.state == kGradientState || view.stored_elements == view.slice_elements) continue;
    const bool whole = view.stored_elements == view.slice_elements * communicator.size();
    if (!whole) part.Mix(static_cast<uint64_t>(view.stored_begin));
    Hasher& hasher = whole ? of_all : of_part;
    RETURN_IF_ERROR(ForEachPiece(view, [&](std::span<const std::byte> piece) { hasher.Mix(Xxh3(piece)); }));
  }
  const std::array<uint64_t, 3> mine = {of_all.Digest(), of_part.Digest(), part.Digest()};
  ASSIGN_OR_RETURN(const auto all, GatherWords(communicator, mine, {"digest of replicated state", step}));
  for (size_t rank = 0; rank < all.size(); ++rank) {
    const auto has_same_part = [&](const auto& other) { return other[2] == all[rank][2]; };
    const size_t first = std::find_if(all.begin(), all.end(), has_same_part) - all.begin();
    if (all[rank][0] != all[0][0]) return UnlikeReplicas(step, rank, all[rank][0], 0, all[0][0]);
    if (all[rank][1] != all[first][1]) return UnlikeReplicas(step, rank, all[rank][1], first, all[first][1]);
  }
  return absl::OkStatus();
}

}  // namespace angel_ptm
