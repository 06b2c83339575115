#include "comm/mapped_arenas.h"

#include <functional>
#include <utility>

#include "angel_ptm/base/check.h"

namespace angel_ptm {

void MappedArenas::Add(std::vector<std::shared_ptr<SharedMemory>> by_rank) {
  APTM_CHECK(by_rank.size() == arenas_.size());
  for (size_t r = 0; r < by_rank.size(); ++r) arenas_[r].push_back(std::move(by_rank[r]));
}

OperandPlace MappedArenas::Find(const std::byte* data, int64_t bytes) const {
  const std::vector<std::shared_ptr<SharedMemory>>& own = arenas_[static_cast<size_t>(rank_)];
  const std::less_equal<> not_behind;  // of pointers into different memory
  for (size_t i = 0; i < own.size(); ++i) {
    if (own[i] == nullptr) continue;
    const std::byte* const begin = DataOf(*own[i]);
    if (not_behind(begin, data) && not_behind(data + bytes, begin + own[i]->bytes())) {
      return {static_cast<int32_t>(i), data - begin};
    }
  }
  return {};
}

const std::byte* MappedArenas::AddressOf(int rank, const OperandPlace& place) const {
  return DataOf(*arenas_[static_cast<size_t>(rank)][static_cast<size_t>(place.arena)]) + place.offset;
}

}  // namespace angel_ptm
