// How many ranks experts can be split over.
#include <gtest/gtest.h>

#include <string>
#include <vector>

#include "angel_ptm/config/validate.h"
#include "tests/config/example_config.h"

namespace angel_ptm {
namespace {

RunFacts RanksUnderMpi(int ranks) {
  return {.world_size = ranks,
          .local_ranks = ranks,
          .machine_memory_bytes = int64_t{8} << 30,
          .cores = 4,
          .mpi_built = true,
          .started_by_mpirun = true};
}

std::string DegreeErrors(const std::vector<std::string>& overrides, const RunFacts& facts) {
  const absl::Status status = Validate(ExampleConfig(overrides), facts);
  return status.ok() ? "OK" : std::string(status.message());
}

TEST(ValidateExpertDegree, WholeExpertsAndSlices) {
  const std::string degree = "sharding.expert_degree";
  const RunFacts four = RanksUnderMpi(4);
  EXPECT_EQ(DegreeErrors({degree + "=1"}, four), "OK");
  EXPECT_EQ(DegreeErrors({degree + "=2", "model.hunyuan_lm.intermediate_size=64"}, RanksUnderMpi(2)), "OK");
  EXPECT_EQ(DegreeErrors({degree + "=0"}, four), degree + ": out of range, wanted 1 to 65536, got 0");
  EXPECT_EQ(DegreeErrors({degree + "=3"}, RanksUnderMpi(3)),
            degree + ": ranks would have different numbers of experts, wanted a divisor of num_experts = 4, got 3");
  EXPECT_EQ(DegreeErrors({degree + "=2"}, RanksUnderMpi(3)),
            degree + ": some experts would have fewer ranks, wanted a divisor of the 3 ranks, got 2");
  EXPECT_EQ(DegreeErrors({degree + "=2", "model.hunyuan_lm.num_experts=0", "model.hunyuan_lm.moe_topk=0"}, four),
            degree + ": the model has no experts to split, wanted 1, got 2");
  EXPECT_EQ(
      DegreeErrors({degree + "=2", "model.hunyuan_lm.intermediate_size=64", "data.sequence_length=36"},
                   RanksUnderMpi(2)),
      degree +
          ": what ranks exchange of a sequence would not be whole cache lines, wanted 1, or data.sequence_length a "
          "multiple of 16, got 2 and 36");
  EXPECT_EQ(DegreeErrors({degree + "=4", "model.hunyuan_lm.intermediate_size=48"}, four),
            degree +
                ": ranks' slices of experts would not be whole, wanted 1, or num_experts * hidden_size * "
                "intermediate_size = 12288 a multiple of 2048 elements for each of the 4 ranks, got 4");
}

}  // namespace
}  // namespace angel_ptm
