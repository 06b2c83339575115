// The arenas (Communicator::MakeArena) of the ranks of one machine as each of them has mapped all: what lies in a
// rank's arena has a place there that its peers find in their own address space.
#ifndef ANGEL_PTM_COMM_MAPPED_ARENAS_H_
#define ANGEL_PTM_COMM_MAPPED_ARENAS_H_

#include <cstddef>
#include <cstdint>
#include <memory>
#include <vector>

#include "comm/shared_memory.h"

namespace angel_ptm {

// Of an operand, as peers are told it.
struct OperandPlace {
  static constexpr int32_t kNoArena = -1, kUnread = -2;

  int32_t arena = kNoArena;  // its place among its owner's
  int64_t offset = 0;
};

// Add and Remove while nobody else uses it; after that any threads may look. Ranks that add and remove the same have
// the same places.
class MappedArenas {
 public:
  using Bits = std::vector<uint64_t>;  // place i is bit i % 64 of word i / 64

  MappedArenas(int rank, int size) : rank_(rank), arenas_(static_cast<size_t>(size)) {}

  // One more arena, by rank, at the first place that is free; null where a rank's has no bytes.
  void Add(std::vector<std::shared_ptr<SharedMemory>> by_rank);
  // The places whose memory of this rank nobody holds but this object, or where there is none.
  Bits Dropped() const;
  // Unmaps all ranks' arenas at these places, which are free then.
  void Remove(const Bits& places);

  // Where this rank's `bytes` bytes at `data` lie; kNoArena unless all of them lie in one arena.
  OperandPlace Find(const std::byte* data, int64_t bytes) const;
  const std::byte* AddressOf(int rank, const OperandPlace& place) const;

 private:
  static const std::byte* DataOf(const SharedMemory& memory) { return static_cast<const std::byte*>(memory.data()); }

  const int rank_;
  std::vector<std::vector<std::shared_ptr<SharedMemory>>> arenas_;  // by rank, then by place
};

}  // namespace angel_ptm

#endif  // ANGEL_PTM_COMM_MAPPED_ARENAS_H_
