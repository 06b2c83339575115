// The doctor of several machines, with groups of ranks in their place.
#include "launch/doctor.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <cstdlib>
#include <memory>
#include <string>

#include "angel_ptm/config/cluster.h"
#include "comm/nodes.h"
#include "tests/support/ranks.h"

namespace angel_ptm {
namespace {

using testing::AllOf;
using testing::HasSubstr;

struct Examination {
  std::string said;
  std::vector<absl::Status> results;  // by rank
};

Examination Examine(const DoctorRequest& request, int ranks, int ranks_per_node) {
  Examination e;
  char* text = nullptr;
  size_t length = 0;
  std::FILE* const out = open_memstream(&text, &length);
  e.results =
      StatusOfRanks(ranks,
                    [&](Communicator& world) -> absl::Status {
                      ASSIGN_OR_RETURN(const std::unique_ptr<Communicator> node,
                                       world.Split(world.rank() / ranks_per_node, {"ranks of a machine"}));
                      if (ranks % ranks_per_node != 0) return ExamineMachines(request, world, *node, out);
                      ASSIGN_OR_RETURN(const std::unique_ptr<Communicator> nodes, CreateNodes(world, ranks_per_node));
                      return ExamineMachines(request, *nodes, *node, out);
                    },
                    {.timeout_seconds = 120});
  std::fclose(out);
  e.said = std::string(text, length);
  std::free(text);
  return e;
}

TEST(DoctorTest, SeveralMachinesAreOneClusterFile) {
  const std::string path = testing::TempDir() + "/doctor_test.textproto";
  DoctorRequest request{.seconds = 1, .output = path, .cores = 2};
  const Examination e = Examine(request, 4, 2);
  for (const absl::Status& result : e.results) EXPECT_TRUE(result.ok()) << result;
  EXPECT_THAT(e.said, AllOf(HasSubstr("network between 2 ranks of a node: "), HasSubstr("network between 2 nodes: "),
                            HasSubstr("step reduce-scatter"), HasSubstr("wrote " + path)));
  const auto cluster = LoadCluster(path);
  ASSERT_TRUE(cluster.ok()) << cluster.status();
  EXPECT_EQ(cluster->nodes(), 2);
  EXPECT_EQ(cluster->devices_per_node(), 2);
  EXPECT_EQ(cluster->host().cores(), 2);
  EXPECT_GT(cluster->inside_node().bytes_per_second(), 0);
  EXPECT_GT(cluster->between_nodes().bytes_per_second(), 0);
}

TEST(DoctorTest, MachinesWithDifferentNumbersOfRanksAreRefused) {
  const Examination e = Examine({.seconds = 1}, 3, 2);
  for (const absl::Status& result : e.results) {
    EXPECT_THAT(std::string(result.message()),
                testing::ContainsRegex("doctor: .* has 2 ranks, .* has 1: a cluster file is of equal nodes"));
  }
}

TEST(DoctorTest, AFolderThatIsNotThereIsSaidOncePerMachineAndEndsAll) {
  DoctorRequest request{.seconds = 1};
  request.calibration.directory = "/nowhere/at/all";
  const Examination e = Examine(request, 4, 2);
  for (const absl::Status& result : e.results) {
    EXPECT_EQ(std::string(result.message()), "doctor: 2 of these keep runs from starting");
  }
  EXPECT_THAT(e.said, testing::ContainsRegex("bad   files: .*/nowhere/at/all: .*, on "));
}

}  // namespace
}  // namespace angel_ptm
