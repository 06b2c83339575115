#include <gtest/gtest.h>

#include <filesystem>
#include <string>

#include "tests/laws/law_worlds.h"
#include "tests/support/memory_directory.h"
#include "tests/support/mpi_main.h"

namespace angel_ptm {

std::vector<LawWorld> LawWorlds() {
  const int size = TestMpiWorld().size();
  std::vector<LawWorld> worlds = {{"direct_reads", size}, {"messages", size}};
  if (size == 4) worlds.insert(worlds.end(), {{"machines", size, 2}, {"machines", size, 2, 2}});
  return worlds;
}

void RunInWorld(const LawWorld& world, const std::function<void(ParityMatrix&)>& check, const PlantFault& plant) {
  MpiWorld& mpi = TestMpiWorld();
  // As if nodes were machines: messages between nodes, direct reads inside.
  const bool on_machines = world.transport == "machines";
  const MpiTransport transport = on_machines                     ? MpiTransport::kAuto
                                 : world.transport == "messages" ? MpiTransport::kMessages
                                                                 : MpiTransport::kDirectReads;
  const std::string machine = on_machines ? std::to_string(mpi.rank() / world.ranks_per_node) : "";
  ASSERT_TRUE(mpi.FindMachines(machine).ok());
  // The other ranks wait in the next case's first collective while rank 0 computes a reference.
  const auto communicator = mpi.Create({.timeout_seconds = 300.0}, transport);
  ASSERT_TRUE(communicator.ok()) << communicator.status();
  const std::filesystem::path folder = NewSharedFolder(testing_support::MemoryDirectory());
  ParityMatrix matrix(
      world.shape(), [&](const TinyRun& run) { return Train(run, **communicator); }, folder,
      /*compares=*/mpi.rank() == 0, plant);
  check(matrix);
  const absl::Status status = (*communicator)->Barrier({"end of the test"});
  if (mpi.rank() == 0) std::filesystem::remove_all(folder);
  ASSERT_TRUE(status.ok()) << status;
}

}  // namespace angel_ptm
