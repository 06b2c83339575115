#include "comm/mapped_arenas.h"

#include <algorithm>
#include <functional>
#include <utility>

#include "angel_ptm/base/check.h"

namespace angel_ptm {

void MappedArenas::Add(std::vector<std::shared_ptr<SharedMemory>> by_rank) {
  APTM_CHECK(by_rank.size() == arenas_.size());
  const auto is_free = [&](size_t place) {
    return std::all_of(arenas_.begin(), arenas_.end(), [&](const auto& of_rank) { return of_rank[place] == nullptr; });
  };
  size_t place = 0;
  while (place < arenas_[0].size() && !is_free(place)) ++place;
  for (size_t r = 0; r < by_rank.size(); ++r) {
    if (place == arenas_[r].size()) arenas_[r].emplace_back();
    arenas_[r][place] = std::move(by_rank[r]);
  }
}

MappedArenas::Bits MappedArenas::Dropped() const {
  const std::vector<std::shared_ptr<SharedMemory>>& own = arenas_[static_cast<size_t>(rank_)];
  Bits places((own.size() + 63) / 64);
  for (size_t i = 0; i < own.size(); ++i) {
    if (own[i].use_count() <= 1) places[i / 64] |= uint64_t{1} << i % 64;
  }
  return places;
}

void MappedArenas::Remove(const Bits& places) {
  for (std::vector<std::shared_ptr<SharedMemory>>& of_rank : arenas_) {
    for (size_t i = 0; i < of_rank.size(); ++i) {
      if (places[i / 64] >> i % 64 & 1) of_rank[i] = nullptr;
    }
  }
}

OperandPlace MappedArenas::Find(const std::byte* data, int64_t bytes) const {
  const std::vector<std::shared_ptr<SharedMemory>>& own = arenas_[static_cast<size_t>(rank_)];
  const std::less_equal<> not_behind;  // ordered even for pointers into different memory
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
