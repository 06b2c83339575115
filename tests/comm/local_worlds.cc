#include <barrier>

#include "tests/comm/world_under_test.h"
#include "tests/support/ranks.h"

namespace angel_ptm {

std::vector<TestWorld> TestWorlds() { return {{"local", 1}, {"local", 2}, {"local", 3}, {"local", 4}, {"local", 8}}; }

namespace {
thread_local std::barrier<>* outside = nullptr;
}  // namespace

void MeetOutside() { outside->arrive_and_wait(); }

void RunWorld(const TestWorld& world, const std::function<void(Communicator&)>& fn, WaitOptions options) {
  std::barrier<> meeting(world.size);
  RunRanks(
      world.size,
      [&](Communicator& comm) {
        outside = &meeting;
        fn(comm);
      },
      std::move(options));
}

}  // namespace angel_ptm
