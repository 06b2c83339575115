#include "comm/direct_read.h"

#include <algorithm>
#include <chrono>
#include <cstring>
#include <thread>

#include "absl/strings/str_cat.h"
#include "angel_ptm/base/check.h"

namespace angel_ptm {
namespace {

// The piece size with which a staging buffer holds two pieces of each of `blocks` blocks.
int64_t StagedPieceBytes(int64_t staging_bytes, int64_t blocks) {
  constexpr int64_t kLine = 64;
  return staging_bytes / 2 / blocks / kLine * kLine;
}

}  // namespace

DirectReadCommunicator::DirectReadCommunicator(ExchangeBoard board, Group group, WaitOptions options)
    : board_(std::move(board)), group_(std::move(group)), rank_(group_.rank), options_(std::move(options)) {}

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

std::byte* DirectReadCommunicator::StagedBlock(int rank, const Operand& mine, int row, int block, int64_t begin) {
  const std::span<std::byte> staging = Staging(rank);
  const int64_t blocks = mine.blocks_in_all(), piece = StagedPieceBytes(static_cast<int64_t>(staging.size()), blocks);
  return staging.data() + (begin / piece % 2 * blocks + row * mine.count + block) * piece;
}

void DirectReadCommunicator::Stage(const Operand& mine, int64_t begin, int64_t bytes) {
  const int64_t piece = StagedPieceBytes(static_cast<int64_t>(Staging(rank_).size()), mine.blocks_in_all());
  APTM_CHECK(piece > 0, "a staging buffer of ", Staging(rank_).size(), " bytes for ", mine.blocks_in_all(), " blocks");
  for (int row = 0; row < mine.rows; ++row) {
    for (int b = 0; b < mine.count; ++b) {
      std::memcpy(StagedBlock(rank_, mine, row, b, begin), mine.Block(row, b) + begin,
                  static_cast<size_t>(std::min(piece, bytes)));
    }
  }
}

absl::Status DirectReadCommunicator::AwaitAll(CollectiveVerb verb, const CallTag& tag) {
  board_.Arrive(rank_, ++arrivals_);
  for (int i = 1; i < size(); ++i) {
    absl::Status status = board_.AwaitArrival((rank_ + i) % size(), arrivals_, options_);
    if (!status.ok()) return GiveUp(verb, tag, status);
  }
  return absl::OkStatus();
}

absl::Status DirectReadCommunicator::Enter(CollectiveVerb verb, const Operand& mine, int root, const CallTag& tag) {
  if (!failure_.ok()) return failure_;
  ExchangeSlot& slot = board_.slot(rank_);
  slot.place = {OperandPlace::kUnread};
  if (mine.read && mine.bytes > 0 && size() > 1) {
    slot.place = Find(mine.data, mine.extent());
    if (slot.place.arena == OperandPlace::kNoArena) Stage(mine, 0, mine.bytes);
  }
  slot.bytes = mine.blocks_in_all() * mine.bytes;
  slot.verb = verb;
  slot.root = root;
  CallText text{.verb = static_cast<uint8_t>(verb), .valid = 1, .step = tag.step};
  std::memcpy(text.what.data(), tag.what.data(), std::min(tag.what.size(), text.what.size() - 1));
  slot.call.Write(text);
  RETURN_IF_ERROR(AwaitAll(verb, tag));
  absl::Status status = CheckOffers(verb, slot.bytes, root);
  return status.ok() ? status : GiveUp(verb, tag, status);
}

absl::Status DirectReadCommunicator::Exchange(CollectiveVerb verb, const Operand& mine, int root, const CallTag& tag,
                                              Take take) {
  RETURN_IF_ERROR(Enter(verb, mine, root, tag));
  // All ranks see the same offers and so use the same piece size.
  int64_t piece = mine.bytes;
  for (int r = 0; r < size(); ++r) {
    if (board_.slot(r).place.arena != OperandPlace::kNoArena) continue;
    piece = StagedPieceBytes(static_cast<int64_t>(Staging(r).size()), mine.blocks_in_all());
  }
  for (int64_t begin = 0; begin < mine.bytes; begin += piece) {
    if (begin > 0) {
      // Overwrites the half that held the piece before the last one, which all ranks have read: they have arrived
      // since.
      if (board_.slot(rank_).place.arena == OperandPlace::kNoArena) Stage(mine, begin, mine.bytes - begin);
      RETURN_IF_ERROR(AwaitAll(verb, tag));
    }
    take(begin, std::min(piece, mine.bytes - begin));
  }
  // This rank must not write to its operand before all peers have read it.
  return AwaitAll(verb, tag);
}

const std::byte* DirectReadCommunicator::Block(int rank, const Operand& mine, int row, int block, int64_t begin) {
  if (rank == rank_) return mine.Block(row, block) + begin;
  const OperandPlace& place = board_.slot(rank).place;
  if (place.arena == OperandPlace::kNoArena) return StagedBlock(rank, mine, row, block, begin);
  return AddressOf(rank, place) + (mine.Block(row, block) - mine.data) + begin;
}

absl::Status DirectReadCommunicator::GiveUp(CollectiveVerb verb, const CallTag& tag, const absl::Status& reason) {
  failure_ = absl::Status(
      reason.code(), absl::StrCat(group_.Self(), " in ", Describe(verb, tag), ": ", std::string(reason.message())));
  board_.Fail(std::string(failure_.message()));
  board_.End(rank_);
  if (!readers_need_memory()) return failure_;
  // A peer that has not yet seen this rank's end may be reading its memory. That peer soon arrives or gives up, because
  // nothing that it does until then waits without checking for failures.
  const uint32_t posted = arrivals_ % 2 != 0 ? arrivals_ : arrivals_ - 1;
  for (int r = 0; r < size(); ++r) {
    while (r != rank_ && board_.Arrived(r, posted) && !board_.Arrived(r, posted + 1) &&
           board_.slot(r).ended.load() == 0) {
      std::this_thread::sleep_for(std::chrono::microseconds(100));
    }
  }
  return failure_;
}

absl::Status DirectReadCommunicator::AllGatherInPlace(const GatheredBlocks& all, CallTag tag) {
  const Operand mine{
      .data = all.At(rank_), .bytes = all.bytes, .count = 1, .rows = all.rows, .row_stride = all.row_stride};
  return Exchange(CollectiveVerb::kAllGather, mine, 0, tag, [&](int64_t begin, int64_t bytes) {
    for (int i = 1; i < size(); ++i) {
      const int r = (rank_ + i) % size();
      for (int row = 0; row < all.rows; ++row) {
        std::memcpy(all.At(r, row) + begin, Block(r, mine, row, 0, begin), static_cast<size_t>(bytes));
      }
    }
  });
}

absl::Status DirectReadCommunicator::AllToAll(std::span<std::byte> dst, const SendBlocks& src, CallTag tag) {
  const int64_t n = src.bytes;
  APTM_CHECK(static_cast<int64_t>(dst.size()) == n * size(), "all-to-all: dst has ", dst.size(), " bytes, a block ", n);
  APTM_CHECK(src.rows == 1, "an all-to-all of rows");
  return ReadBlocks(
      src, {},
      [&](int, int64_t begin, int64_t bytes, std::span<const std::byte* const> blocks) {
        for (int i = 0; i < size(); ++i) {
          const int r = (rank_ + i) % size();
          std::memcpy(dst.data() + r * n + begin, blocks[static_cast<size_t>(r)], static_cast<size_t>(bytes));
        }
      },
      tag);
}

absl::Status DirectReadCommunicator::ReadBlocks(const SendBlocks& src, std::span<std::byte>, BlockReader read,
                                                CallTag tag) {
  const Operand mine{.data = src.data,
                     .stride = src.stride,
                     .bytes = src.bytes,
                     .count = size(),
                     .rows = src.rows,
                     .row_stride = src.row_stride};
  const std::span<const std::byte*> blocks = BlockPlaces();
  return Exchange(CollectiveVerb::kAllToAll, mine, 0, tag, [&](int64_t begin, int64_t bytes) {
    for (int row = 0; row < src.rows; ++row) {
      for (int r = 0; r < size(); ++r) blocks[static_cast<size_t>(r)] = Block(r, mine, row, rank_, begin);
      read(row, begin, bytes, blocks);
    }
  });
}

absl::Status DirectReadCommunicator::Broadcast(std::span<std::byte> dst, int root, CallTag tag) {
  APTM_CHECK(root >= 0 && root < size(), "broadcast from rank ", root, " of ", size());
  const Operand mine{.data = dst.data(), .bytes = static_cast<int64_t>(dst.size()), .count = 1, .read = rank_ == root};
  return Exchange(CollectiveVerb::kBroadcast, mine, root, tag, [&](int64_t begin, int64_t bytes) {
    if (rank_ != root) std::memcpy(dst.data() + begin, Block(root, mine, 0, 0, begin), static_cast<size_t>(bytes));
  });
}

absl::Status DirectReadCommunicator::Barrier(CallTag tag) {
  return Exchange(CollectiveVerb::kBarrier, {}, 0, tag, [](int64_t, int64_t) {});
}

}  // namespace angel_ptm
