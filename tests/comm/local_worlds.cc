#include "tests/comm/world_under_test.h"
#include "tests/support/ranks.h"

namespace angel_ptm {

std::vector<TestWorld> TestWorlds() { return {{"local", 1}, {"local", 2}, {"local", 3}, {"local", 4}, {"local", 8}}; }

void RunWorld(const TestWorld& world, const std::function<void(Communicator&)>& fn, WaitOptions options) {
  RunRanks(world.size, fn, std::move(options));
}

}  // namespace angel_ptm
