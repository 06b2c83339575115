#include <gtest/gtest.h>

#include "tests/comm/world_under_test.h"
#include "tests/support/mpi_main.h"

namespace angel_ptm {

std::vector<TestWorld> TestWorlds() {
  const int size = TestMpiWorld().size();
  std::vector<TestWorld> worlds = {
      {"direct_reads", size}, {"messages", size}, {"direct_reads_in_pieces", size}, {"messages_in_pieces", size}};
  if (size >= 4) worlds.push_back({"machines_of_2", size});
  return worlds;
}

void MeetOutside() {
  const absl::Status status = TestMpiWorld().Meet("a meeting outside of communicators");
  ASSERT_TRUE(status.ok()) << status;
}

void RunWorld(const TestWorld& world, const std::function<void(Communicator&)>& fn, WaitOptions options) {
  // With pieces this short, the suite's sizes lie on both sides of a piece's end; otherwise only 256 MiB would.
  const bool in_pieces = world.transport.ends_with("_in_pieces");
  // As if every two ranks had a machine of their own.
  const bool on_machines = world.on_machines();
  const MpiTransport transport = on_machines                               ? MpiTransport::kAuto
                                 : world.transport.starts_with("messages") ? MpiTransport::kMessages
                                                                           : MpiTransport::kDirectReads;
  const std::string machine = on_machines ? std::to_string(TestMpiWorld().rank() / 2) : "";
  ASSERT_TRUE(TestMpiWorld().FindMachines(machine).ok());
  EXPECT_TRUE(TestMpiWorld().nodes_are_regular());
  EXPECT_EQ(TestMpiWorld().node_count(), on_machines ? world.size / 2 : 1);
  // Reads in place have no pieces: with direct reads, the short one is the staging buffer.
  const int64_t piece = transport == MpiTransport::kMessages ? 4096 : 8192 * world.size;
  auto comm = TestMpiWorld().Create(std::move(options), transport, in_pieces ? piece : MpiWorld::kTransferBytesMax);
  ASSERT_TRUE(comm.ok()) << comm.status();
  fn(**comm);
  // Ranks leave together, because a test may end in an error on some ranks only.
  const absl::Status status = TestMpiWorld().Meet("the end of a test");
  ASSERT_TRUE(status.ok()) << status;
}

}  // namespace angel_ptm
