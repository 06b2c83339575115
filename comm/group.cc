#include "comm/group.h"

#include <cstdint>
#include <numeric>

#include "absl/strings/str_cat.h"

namespace angel_ptm {

Group Group::World(int rank, int size) {
  Group world{.rank = rank, .world_size = size, .world_ranks = std::vector<int>(static_cast<size_t>(size))};
  std::iota(world.world_ranks.begin(), world.world_ranks.end(), 0);
  return world;
}

std::string Group::Self() const {
  const std::string self = absl::StrCat("rank ", world_ranks[static_cast<size_t>(rank)], " of ", world_size);
  return size() == world_size ? self : absl::StrCat(self, " (a group of ", size(), ")");
}

absl::StatusOr<Group> SplitGroup(Communicator& parent, const Group& group, int color, CallTag tag) {
  ASSIGN_OR_RETURN(const std::vector<int32_t> colors, GatherWords(parent, int32_t{color}, tag));
  Group part{.world_size = group.world_size};
  for (size_t r = 0; r < colors.size(); ++r) {
    if (colors[r] != color) continue;
    if (static_cast<int>(r) == group.rank) part.rank = part.size();
    part.world_ranks.push_back(group.world_ranks[r]);
  }
  return part;
}

}  // namespace angel_ptm
