#include <gtest/gtest.h>

#include "tests/comm/world_under_test.h"
#include "tests/support/mpi_main.h"

namespace angel_ptm {

std::vector<TestWorld> TestWorlds() {
  const int size = TestMpiWorld().size();
  return {{"direct_reads", size}, {"messages", size}};
}

void RunWorld(const TestWorld& world, const std::function<void(Communicator&)>& fn, WaitOptions options) {
  const MpiTransport transport = world.transport == "messages" ? MpiTransport::kMessages : MpiTransport::kDirectReads;
  auto comm = TestMpiWorld().Create(std::move(options), transport);
  ASSERT_TRUE(comm.ok()) << comm.status();
  fn(**comm);
  // Ranks leave together: a test may end in an error on some and not on others.
  const absl::Status status = TestMpiWorld().Meet();
  ASSERT_TRUE(status.ok()) << status;
}

}  // namespace angel_ptm
