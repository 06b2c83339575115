// Every config in launch/configs loads, is valid, and has the number of parameters its first comment states.
#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <filesystem>
#include <map>
#include <set>

#include "angel_ptm/config/load.h"
#include "angel_ptm/config/validate.h"

namespace angel_ptm {
namespace {

RunFacts OneRank() { return {.machine_memory_bytes = int64_t{16} << 30, .cores = 2}; }

int64_t ParameterCount(const TrainConfig& config) {
  const HunyuanLmConfig& lm = config.model().hunyuan_lm();
  const int64_t h = lm.hidden_size(), d = HeadDim(lm);
  const int64_t attention = 2 * h * d * (lm.num_attention_heads() + KeyValueHeads(lm)) + 2 * d;
  const int64_t mlp = 3 * h * lm.intermediate_size();
  const int64_t feed_forward = lm.num_experts() == 0 ? mlp : (lm.num_experts() + 1) * mlp + lm.num_experts() * h;
  const int64_t embeddings = (lm.tie_word_embeddings() ? 1 : 2) * lm.vocab_size() * h;
  return lm.num_hidden_layers() * (attention + feed_forward + 2 * h) + embeddings + h;
}

TEST(ShippedConfigs, AllAreValidAndHaveTheStatedSize) {
  const std::map<std::string, double> parameters = {
      {"hunyuan_7b", 7.50e9},   {"hunyuan_large_a13b", 80.39e9}, {"quickstart", 22.6e6},
      {"tiny_dense", 0.1315e6}, {"tiny_moe", 0.2139e6},
  };
  std::set<std::string> seen;
  for (const auto& entry : std::filesystem::directory_iterator(CONFIGS_DIRECTORY)) {
    if (entry.path().extension() != ".textproto") continue;
    SCOPED_TRACE(entry.path().filename().string());
    const auto config = LoadTrainConfig(entry.path().string());
    ASSERT_TRUE(config.ok()) << config.status();
    const absl::Status status = Validate(*config, OneRank());
    ASSERT_TRUE(status.ok()) << status;
    const std::string name = entry.path().stem().string();
    seen.insert(name);
    ASSERT_EQ(parameters.count(name), 1u) << "state the new config's number of parameters in this test";
    EXPECT_NEAR(static_cast<double>(ParameterCount(*config)) / parameters.at(name), 1, 2e-3)
        << ParameterCount(*config) << " parameters";
  }
  EXPECT_EQ(seen.size(), parameters.size());
}

TEST(ShippedConfigs, QuickStartRunsOnTwoRanks) {
  const auto config = LoadTrainConfig(CONFIGS_DIRECTORY "/quickstart.textproto");
  ASSERT_TRUE(config.ok()) << config.status();
  EXPECT_TRUE(ValidatePrepare(*config).ok());
  RunFacts facts = OneRank();
  facts.world_size = facts.local_ranks = 2;
  facts.mpi_built = facts.started_by_mpirun = true;
  const absl::Status status = Validate(*config, facts);
  EXPECT_TRUE(status.ok()) << status;
  EXPECT_GE(ParameterCount(*config), 20'000'000);
  EXPECT_EQ(Derive(*config, facts).micro_batches % facts.world_size, 0);  // no rank computes padding
}

}  // namespace
}  // namespace angel_ptm
