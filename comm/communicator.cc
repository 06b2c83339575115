#include "comm/communicator.h"

#include <algorithm>
#include <cstring>

#include "angel_ptm/base/check.h"

namespace angel_ptm {

std::span<const std::byte*> Communicator::BlockPlaces() {
  block_places_.resize(static_cast<size_t>(size()));
  return block_places_;
}

absl::Status Communicator::AllGather(std::span<std::byte> dst, std::span<const std::byte> src, CallTag tag) {
  APTM_CHECK(dst.size() == src.size() * static_cast<size_t>(size()), "all-gather: dst has ", dst.size(), " bytes, src ",
             src.size());
  const GatheredBlocks all = GatheredBlocks::Parts(dst, size());
  std::byte* const own = all.At(rank());
  if (!src.empty() && own != src.data()) std::memcpy(own, src.data(), src.size());
  return AllGatherInPlace(all, tag);
}

absl::Status Communicator::ReadBlocks(const SendBlocks& src, std::span<std::byte> scratch, BlockReader read,
                                      CallTag tag) {
  constexpr int64_t kLine = 64;
  const int64_t piece = static_cast<int64_t>(scratch.size()) / size() / kLine * kLine;
  APTM_CHECK(piece > 0 || src.bytes == 0, "read blocks: ", scratch.size(), " bytes of scratch for ", size(), " ranks");
  const std::span<const std::byte*> blocks = BlockPlaces();
  for (int row = 0; row < src.rows; ++row) {
    for (int64_t begin = 0; begin < src.bytes; begin += piece) {
      const int64_t m = std::min(piece, src.bytes - begin);
      const std::span<std::byte> arrived = scratch.first(static_cast<size_t>(m * size()));
      RETURN_IF_ERROR(AllToAll(arrived, {src.At(0, row) + begin, src.stride, m}, tag));
      for (int r = 0; r < size(); ++r) blocks[static_cast<size_t>(r)] = arrived.data() + r * m;
      read(row, begin, m, blocks);
    }
  }
  return absl::OkStatus();
}

absl::StatusOr<std::shared_ptr<std::byte>> Communicator::MakeArena(int64_t, int, CallTag) { return nullptr; }

}  // namespace angel_ptm
