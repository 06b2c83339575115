#include "angel_ptm/config/compare.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include "angel_ptm/config/load.h"
#include "tests/config/example_config.h"

namespace angel_ptm {
namespace {

using ::testing::ElementsAre;

ModelConfig ModelWith(const std::vector<std::string>& overrides) {
  const auto config = ExampleWith(overrides);
  EXPECT_TRUE(config.ok()) << config.status();
  return config.ok() ? config->model() : ModelConfig();
}

TEST(ModelDifferences, AreNamedWithBothValues) {
  const std::string lm = "model.hunyuan_lm.";
  const ModelConfig a = ModelWith({lm + "num_hidden_layers=2", lm + "rope_theta=10000", lm + "rms_norm_eps=1e-5"});
  EXPECT_THAT(ModelDifferences(a, a), ElementsAre());
  const ModelConfig b =
      ModelWith({lm + "num_hidden_layers=3", lm + "rope_theta=10000.000000000002", lm + "rms_norm_eps=1e-6"});
  EXPECT_THAT(ModelDifferences(a, b), ElementsAre(lm + "num_hidden_layers: wanted 2, got 3",
                                                  lm + "rope_theta: wanted 10000, got 10000.000000000002",
                                                  lm + "rms_norm_eps: wanted 1e-05, got 1e-06"));
}

TEST(ModelDifferences, ValuesThatGiveTheSameModelAreNone) {
  const std::string lm = "model.hunyuan_lm.";
  const ModelConfig a = ModelWith({lm + "num_key_value_heads=0", lm + "vocab_size=0"});
  const ModelConfig b = ModelWith({lm + "num_key_value_heads=4", lm + "vocab_size=300", lm + "initializer_range=0.3",
                                   lm + "max_position_embeddings=4096", lm + "router_aux_loss_coefficient=0.5"});
  EXPECT_THAT(ModelDifferences(a, b), ElementsAre());
}

}  // namespace
}  // namespace angel_ptm
