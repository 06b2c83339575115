// The arenas (Communicator::MakeArena) of the ranks of one machine, all of which each rank has mapped. What lies in a
// rank's arena has a place there that peers can translate to their own address space.
#ifndef ANGEL_PTM_COMM_MAPPED_ARENAS_H_
#define ANGEL_PTM_COMM_MAPPED_ARENAS_H_

#include <cstddef>
#include <cstdint>
#include <memory>
#include <vector>

#include "comm/shared_memory.h"

namespace angel_ptm {

// The place of an operand, in the form that peers are told.
struct OperandPlace {
  static constexpr int32_t kNoArena = -1, kUnread = -2;

  int32_t arena = kNoArena;  // its place among its owner's arenas
  int64_t offset = 0;
};

// Call Add and Remove only while no other thread uses the object; at other times any thread may look things up. Ranks
// that add and remove the same arenas have them at the same places.
class MappedArenas {
 public:
  using Bits = std::vector<uint64_t>;  // place i is bit i % 64 of word i / 64

  MappedArenas(int rank, int size) : rank_(rank), arenas_(static_cast<size_t>(size)) {}

  // Adds an arena, given by rank, at the first free place. An entry is null where the rank's arena has no bytes or is
  // on another machine.
  void Add(std::vector<std::shared_ptr<SharedMemory>> by_rank);
  // The places where only this object still holds this rank's memory, or where this rank has none.
  Bits Dropped() const;
  // Unmaps all ranks' arenas at these places and so frees the places.
  void Remove(const Bits& places);

  // The place of this rank's `bytes` bytes at `data`; kNoArena unless all of them lie in one arena.
  OperandPlace Find(const std::byte* data, int64_t bytes) const;
  const std::byte* AddressOf(int rank, const OperandPlace& place) const;

 private:
  static const std::byte* DataOf(const SharedMemory& memory) { return static_cast<const std::byte*>(memory.data()); }

  const int rank_;
  std::vector<std::vector<std::shared_ptr<SharedMemory>>> arenas_;  // by rank, then by place
};

}  // namespace angel_ptm

#endif  // ANGEL_PTM_COMM_MAPPED_ARENAS_H_
