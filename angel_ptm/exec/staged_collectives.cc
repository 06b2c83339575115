#include "angel_ptm/exec/staged_collectives.h"

#include <algorithm>

#include "angel_ptm/base/check.h"

namespace angel_ptm {
namespace {

// The most elements in a piece, of all ranks together. Slices are multiples of kGrain, and so are their pieces.
constexpr int64_t kElementsMax = int64_t{16} << 20, kGrain = 2048;
constexpr int64_t kLeast = 32;  // a cache line of the narrowest type

int64_t PieceElements(int64_t slice_elements, int world_size) {
  return std::min(slice_elements, std::max(kGrain, kElementsMax / world_size / kGrain * kGrain));
}

}  // namespace

int64_t StagingBytes(const Layout& layout) {
  const int world_size = layout.world_size;
  if (world_size == 1) return 0;
  int64_t slice_elements_max = 0;
  for (const UnitSlices& unit : layout.slices) slice_elements_max = std::max(slice_elements_max, unit.slice_elements);
  const int64_t piece = PieceElements(slice_elements_max, world_size), element = SizeOf(DType::kFloat32);
  return (world_size + 1) * piece * element + ReduceScratchBytes(piece, layout.world());
}

// The elements of every rank that go through at a time: as many as a reduction has room for. For groups of the world's
// ranks, whose rows no layout knows, pieces may be larger or smaller than the layout's.
int64_t StagedCollectives::PieceMax(int64_t n) const {
  const int64_t size = communicator_.size(), element = SizeOf(DType::kFloat32);
  const int64_t room = static_cast<int64_t>(staging_.size());
  int64_t piece = PieceElements(n, communicator_.size());
  while (piece > kLeast && (size + 1) * piece * element + ReduceScratchBytes(piece, WorldOf(communicator_)) > room) {
    piece = std::max(kLeast, piece / 2 / kLeast * kLeast);
  }
  return piece;
}

absl::Status StagedCollectives::AllGather(std::span<std::byte> dst, std::span<const std::byte> src, CallTag tag) {
  const int64_t size = communicator_.size(), n = static_cast<int64_t>(src.size());
  const int64_t piece_max = PieceMax(n / SizeOf(DType::kFloat32)) * SizeOf(DType::kFloat32);
  for (int64_t begin = 0, piece = 0; begin < n; begin += piece) {
    piece = std::min(piece_max > 0 ? piece_max : n, n - begin);
    APTM_CHECK(size * piece <= static_cast<int64_t>(staging_.size()), "all-gather of ", n, " bytes a rank");
    const std::span<std::byte> all = staging_.first(static_cast<size_t>(size * piece));
    const std::span<std::byte> own = all.subspan(static_cast<size_t>(communicator_.rank() * piece), piece);
    RETURN_IF_ERROR(stream_.Copy(own.data(), src.data() + begin, piece));
    RETURN_IF_ERROR(stream_.Await());
    RETURN_IF_ERROR(communicator_.AllGather(all, own, tag));
    for (int64_t r = 0; r < size; ++r) {
      RETURN_IF_ERROR(stream_.Copy(dst.data() + r * n + begin, all.data() + r * piece, piece));
    }
  }
  return stream_.Await();
}

absl::Status StagedCollectives::ReduceScatter(const ReducedSlice& dst, const Addends& src, bool accumulate,
                                              std::span<std::byte>, CallTag tag) {
  const int64_t size = communicator_.size(), n = dst.elements(), element = SizeOf(src.type), out = SizeOf(dst.type);
  const int64_t piece_max = PieceMax(n);
  for (int64_t begin = 0, piece = 0; begin < n; begin += piece) {
    piece = std::min(piece_max, n - begin);
    const int64_t sent_bytes = size * piece * element, sum_bytes = piece * out;
    APTM_CHECK(sent_bytes + sum_bytes <= static_cast<int64_t>(staging_.size()), "reduction of ", n, " elements a rank");
    const std::span<std::byte> sent = staging_.first(static_cast<size_t>(sent_bytes));
    const std::span<std::byte> sum = staging_.subspan(static_cast<size_t>(sent_bytes), static_cast<size_t>(sum_bytes));
    const std::span<std::byte> scratch = staging_.subspan(static_cast<size_t>(sent_bytes + sum_bytes));
    for (int64_t r = 0; r < size; ++r) {
      RETURN_IF_ERROR(stream_.Copy(sent.data() + r * piece * element, src.data.data() + (r * n + begin) * element,
                                   piece * element));
    }
    if (accumulate) RETURN_IF_ERROR(stream_.Copy(sum.data(), dst.data.data() + begin * out, sum_bytes));
    RETURN_IF_ERROR(stream_.Await());
    RETURN_IF_ERROR(OrderedReduceScatter(communicator_, {sum, dst.type}, {sent, src.type}, accumulate, scratch, tag));
    RETURN_IF_ERROR(stream_.Copy(dst.data.data() + begin * out, sum.data(), sum_bytes));
  }
  return stream_.Await();
}

}  // namespace angel_ptm
