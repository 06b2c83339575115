// What validation refuses of model.dit.
#include <gtest/gtest.h>

#include <string>
#include <vector>

#include "absl/strings/str_join.h"
#include "angel_ptm/config/load.h"
#include "angel_ptm/config/validate.h"

namespace angel_ptm {
namespace {

constexpr const char* kDitConfig = R"(
model {
  dit { height: 32 patch_size: 4 hidden_size: 64 num_hidden_layers: 2 num_attention_heads: 4 text_length: 16 }
}
data { directory: "images" }
output { directory: "out" }
)";

TrainConfig DitExample(const std::vector<std::string>& overrides) {
  const auto config = ParseTrainConfig(kDitConfig, "validate_dit_test.cc", overrides);
  EXPECT_TRUE(config.ok()) << config.status();
  return config.ok() ? *config : TrainConfig();
}

std::string DitErrorsOf(const std::vector<std::string>& overrides) {
  const absl::Status status = Validate(DitExample(overrides), {.machine_memory_bytes = int64_t{16} << 30});
  return status.ok() ? "OK" : std::string(status.message());
}

TEST(ValidateDit, TheExampleIsValid) {
  EXPECT_EQ(DitErrorsOf({}), "OK");
  EXPECT_EQ(DitErrorsOf({"model.dit.text_length=0", "model.dit.class_count=10"}), "OK");
  EXPECT_EQ(DitErrorsOf({"model.dit.text_length=0", "model.dit.width=64", "model.dit.prediction=VELOCITY"}), "OK");
  // The fields of a text do not apply here.
  EXPECT_EQ(DitErrorsOf({"data.sequence_length=2147483647"}), "OK");
}

TEST(ValidateDit, EachFieldNamesWhatIsWrong) {
  const std::string dit = "model.dit.";
  const std::vector<std::pair<std::vector<std::string>, std::string>> cases = {
      {{dit + "height=0"}, "height: not set, wanted 1 to 16384, got 0"},
      {{dit + "height=30"}, "height: unaligned, wanted a multiple of 4, got 30"},
      {{dit + "width=33"}, "width: unaligned, wanted a multiple of 4, got 33"},
      {{dit + "channels=0"}, "channels: out of range, wanted 1 to 65536, got 0"},
      {{dit + "hidden_size=0"}, "hidden_size: not set, wanted 1 to 1048576, got 0"},
      {{dit + "num_attention_heads=5", dit + "text_num_attention_heads=4"},
       "hidden_size: heads are not of a multiple of 4 features, wanted a multiple of 4 * num_attention_heads = 20, got "
       "64"},
      {{dit + "text_hidden_size=24"}, "text_hidden_size: unaligned, wanted a multiple of 16, got 24"},
      {{dit + "intermediate_size=40"}, "intermediate_size: unaligned, wanted a multiple of 16, got 40"},
      {{dit + "num_hidden_layers=0"}, "num_hidden_layers: not set, wanted 1 to 65536, got 0"},
      {{dit + "class_count=3"},
       "text_length: images are conditioned on classes already, wanted 0, or class_count = 0, got 16"},
      {{dit + "text_vocab_size=100"},
       "text_vocab_size: out of range, wanted 0 (the tokenizer's size) or 258 to 16777215, got 100"},
      {{dit + "beta_start=0.5"},
       "beta_start: not the start of a schedule, wanted above 0, at most beta_end = 0.02, below 1, got 0.5"},
      {{dit + "condition_dropout=1.5"}, "condition_dropout: out of range, wanted 0 to 1, got 1.5"},
      {{dit + "flow_time_deviation=0"}, "flow_time_deviation: out of range, wanted a finite number > 0, got 0"},
      {{dit + "noise_offset=0.1"},
       "noise_offset: flows end at noise of no mean, wanted 0, or prediction EPSILON or VELOCITY, got 0.1"},
      {{dit + "variance_weight=1"},
       "variance_weight: flows have no variance to learn, wanted 0, or prediction EPSILON or VELOCITY, got 1"},
      {{dit + "min_snr_gamma=-1"}, "min_snr_gamma: out of range, wanted a finite number >= 0, got -1"},
  };
  for (const auto& [overrides, error] : cases) {
    SCOPED_TRACE(absl::StrJoin(overrides, " "));
    const std::string got = DitErrorsOf(overrides);
    EXPECT_EQ(got.substr(0, got.find('\n')), dit + error);
  }
}

TEST(ValidateDit, SamplesOfARun) {
  const std::string every = "sampling.every_steps=5", one = "sampling.prompt=a cat";
  EXPECT_EQ(DitErrorsOf({every, one}), "OK");
  EXPECT_EQ(DitErrorsOf({every, "model.dit.text_length=0", "sampling.guidance=1"}), "OK");
  EXPECT_EQ(DitErrorsOf({"sampling.guidance=-1"}), "OK");  // there are no samples to guide
  const std::vector<std::pair<std::vector<std::string>, std::string>> cases = {
      {{"sampling.every_steps=-1"}, "every_steps: out of range, wanted 0 to 1099511627776, got -1"},
      {{every}, "prompt: nothing to sample, or too much, wanted 1 to 65536 prompts, got 0"},
      {{every, one, "model.dit.text_length=0", "sampling.guidance=1"},
       "prompt: the model has no condition, wanted none, got 1"},
      {{every, one, "sampling.guidance=-1"}, "guidance: out of range, wanted 0 to 1000, got -1"},
      {{every, one, "model.dit.condition_dropout=0"},
       "guidance: the model is trained without dropped conditions, wanted 1, or model.dit.condition_dropout above 0, "
       "got "
       "4"},
      {{every, "model.dit.text_length=0"},
       "guidance: the model is trained without dropped conditions, wanted 1, got 4"},
  };
  for (const auto& [overrides, error] : cases) {
    SCOPED_TRACE(absl::StrJoin(overrides, " "));
    EXPECT_EQ(DitErrorsOf(overrides), "sampling." + error);
  }
}

TEST(ValidateDit, ProductsAreBounded) {
  EXPECT_EQ(DitErrorsOf({"model.dit.num_hidden_layers=65536", "model.dit.hidden_size=1048576"})
                .substr(0, std::string("model.dit: too many parameters").size()),
            "model.dit: too many parameters");
  EXPECT_NE(DitErrorsOf({"model.dit.height=16384", "batch.micro_batch_sequences=1000000",
                         "batch.global_batch_sequences=1000000"})
                .find("too many tokens in a micro-batch"),
            std::string::npos);
}

TEST(ValidateDit, WhatFollows) {
  EXPECT_EQ(SequenceTokens(DitExample({})), 64);
  EXPECT_EQ(SequenceTokens(DitExample({"model.dit.width=16"})), 32);
  const DitConfig dit = WithDefaults(DitExample({"model.dit.text_hidden_size=32"}).model().dit());
  EXPECT_EQ(dit.width(), 32);
  EXPECT_EQ(dit.intermediate_size(), 256);
  EXPECT_EQ(dit.text_hidden_size(), 32);
  EXPECT_EQ(dit.text_num_attention_heads(), 4);
}

}  // namespace
}  // namespace angel_ptm
