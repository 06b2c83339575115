#include "tests/laws/law_worlds.h"
#include "tests/support/memory_directory.h"
#include "tests/support/temporary_folder.h"

namespace angel_ptm {

std::vector<LawWorld> LawWorlds() {
  return {{"local", 1}, {"local", 2}, {"local", 3}, {"local", 4, 2}, {"local", 2, 0, 2}, {"local", 4, 2, 2}};
}

void RunInWorld(const LawWorld& world, const std::function<void(ParityMatrix&)>& check, const PlantFault& plant) {
  const TemporaryFolder folder(testing_support::MemoryDirectory());
  ParityMatrix matrix(
      world.shape(), [&](const TinyRun& run) { return TrainLocally(run, world.size); }, folder.path(),
      /*compares=*/true, plant);
  check(matrix);
}

}  // namespace angel_ptm
