#include "angel_ptm/config/starter.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include "angel_ptm/config/load.h"
#include "angel_ptm/config/validate.h"

namespace angel_ptm {
namespace {

TEST(StarterConfig, IsValidAndPreparesTheText) {
  const auto config = ParseTrainConfig(StarterConfig("a \"b\"", "x\\y"), "starter");
  ASSERT_TRUE(config.ok()) << config.status();
  const absl::Status status = Validate(*config, {.machine_memory_bytes = int64_t{8} << 30, .cores = 2});
  EXPECT_TRUE(status.ok()) << status;
  EXPECT_TRUE(ValidatePrepare(*config).ok());
  EXPECT_EQ(config->output().directory(), "runs/a \"b\"/train");
  EXPECT_EQ(config->data().prepare().input(0), "x\\y");
}

TEST(StarterConfig, ExplainsEachFieldAboveIt) {
  const std::string text = StarterConfig("story", "text");
  EXPECT_THAT(text, testing::HasSubstr("\n    # Peak learning rate, reached after warm-up. Unit: parameter change per "
                                       "step. Default: 3e-4. Advice: 3e-4\n"));
  EXPECT_THAT(text, testing::HasSubstr("\n    learning_rate: 1e-3\n"));
  EXPECT_THAT(text, testing::EndsWith("\n  log_every_steps: 10\n}\n"));
}

}  // namespace
}  // namespace angel_ptm
