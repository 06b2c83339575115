#include "angel_ptm/config/starter.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include "angel_ptm/config/load.h"
#include "angel_ptm/config/validate.h"

namespace angel_ptm {
namespace {

TEST(StarterConfig, IsValidAndPreparesTheText) {
  const auto config = ParseTrainConfig(StarterConfig({.name = "a \"b\"", .input = "x\\y"}), "starter");
  ASSERT_TRUE(config.ok()) << config.status();
  const absl::Status status = Validate(*config, {.machine_memory_bytes = int64_t{8} << 30, .cores = 2});
  EXPECT_TRUE(status.ok()) << status;
  EXPECT_TRUE(ValidatePrepare(*config).ok());
  EXPECT_EQ(config->output().directory(), "runs/a \"b\"/train");
  EXPECT_EQ(config->data().prepare().input(0), "x\\y");
}

TEST(StarterConfig, ExplainsEachFieldAboveIt) {
  const std::string text = StarterConfig({.name = "story", .input = "text"});
  EXPECT_THAT(text, testing::HasSubstr("\n    # Peak learning rate, reached after warm-up. Unit: parameter change per "
                                       "step. Default: 3e-4. Advice: 3e-4\n"));
  EXPECT_THAT(text, testing::HasSubstr("\n    learning_rate: 1e-3\n"));
  EXPECT_THAT(text, testing::EndsWith("\n  log_every_steps: 10\n}\n"));
}

TEST(StarterConfig, GoesOnWithAReleasedModel) {
  Starter starter{.name = "tuned", .input = "text", .from = "model/dir"};
  starter.model.set_hidden_size(64);
  starter.model.set_intermediate_size(96);
  starter.model.set_num_hidden_layers(2);
  starter.model.set_num_attention_heads(4);
  starter.model.set_rms_norm_eps(1e-5);
  starter.model.set_tie_word_embeddings(true);
  starter.model.set_max_position_embeddings(4096);
  starter.model.set_vocab_size(500);
  const auto config = ParseTrainConfig(StarterConfig(starter), "starter");
  ASSERT_TRUE(config.ok()) << config.status();
  HunyuanLmConfig both = config->model().hunyuan_lm();
  both.MergeFrom(starter.model);
  EXPECT_EQ(both.DebugString(), config->model().hunyuan_lm().DebugString());
  EXPECT_EQ(config->data().prepare().tokenizer(), "model/dir");
  const absl::Status status = Validate(*config, {.machine_memory_bytes = int64_t{8} << 30, .cores = 2});
  EXPECT_TRUE(status.ok()) << status;
  EXPECT_TRUE(ValidatePrepare(*config).ok());
  EXPECT_EQ(config->data().sequence_length(), 512);
  starter.model.set_max_position_embeddings(64);
  EXPECT_EQ(ParseTrainConfig(StarterConfig(starter), "starter")->data().sequence_length(), 64);
}

}  // namespace
}  // namespace angel_ptm
