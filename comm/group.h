// Which ranks of the world a communicator connects.
#ifndef ANGEL_PTM_COMM_GROUP_H_
#define ANGEL_PTM_COMM_GROUP_H_

#include <span>
#include <string>
#include <type_traits>
#include <vector>

#include "angel_ptm/base/status.h"
#include "comm/communicator.h"

namespace angel_ptm {

struct Group {
  static Group World(int rank, int size);

  int size() const { return static_cast<int>(world_ranks.size()); }
  // How error messages begin: with this rank as "rank 5 of 8", in a group smaller than the world as "rank 5 of 8 (a
  // group of 4)".
  std::string Self() const;

  int rank = 0;  // this rank's place in world_ranks
  int world_size = 1;
  std::vector<int> world_ranks;  // by rank of the group, ascending
};

// The part of `group`, the group of `parent`, whose ranks pass the same color as this rank. Collective over parent.
absl::StatusOr<Group> SplitGroup(Communicator& parent, const Group& group, int color, CallTag tag);

// Returns every rank's `mine`, by rank. Collective; for start-up, because it allocates.
template <typename T>
absl::StatusOr<std::vector<T>> GatherWords(Communicator& communicator, const T& mine, CallTag tag) {
  static_assert(std::is_trivially_copyable_v<T>);
  std::vector<T> all(static_cast<size_t>(communicator.size()));
  RETURN_IF_ERROR(
      communicator.AllGather(std::as_writable_bytes(std::span(all)), std::as_bytes(std::span(&mine, 1)), tag));
  return all;
}

}  // namespace angel_ptm

#endif  // ANGEL_PTM_COMM_GROUP_H_
