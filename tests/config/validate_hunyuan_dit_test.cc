// What validation refuses of model.hunyuan_dit.
#include <gtest/gtest.h>

#include <string>
#include <utility>
#include <vector>

#include "absl/strings/str_cat.h"
#include "angel_ptm/config/load.h"
#include "angel_ptm/config/validate.h"

namespace angel_ptm {
namespace {

constexpr const char* kHunyuanDitConfig = R"(
model { hunyuan_dit { height: 32 hidden_size: 64 num_hidden_layers: 4 num_attention_heads: 4 } }
data { directory: "latents" }
output { directory: "out" }
)";

std::string HunyuanDitErrorsOf(const std::vector<std::string>& overrides) {
  const auto config = ParseTrainConfig(kHunyuanDitConfig, "validate_hunyuan_dit_test.cc", overrides);
  if (!config.ok()) return std::string(config.status().message());
  const absl::Status status = Validate(*config, {.machine_memory_bytes = int64_t{16} << 30});
  return status.ok() ? "OK" : std::string(status.message());
}

TEST(ValidateHunyuanDit, TheExampleIsValid) {
  EXPECT_EQ(HunyuanDitErrorsOf({}), "OK");
  EXPECT_EQ(HunyuanDitErrorsOf({"model.hunyuan_dit.width=48", "model.hunyuan_dit.prediction=EPSILON"}), "OK");
}

TEST(ValidateHunyuanDit, SamplesOfARun) {
  EXPECT_EQ(HunyuanDitErrorsOf({"sampling.every_steps=5", "sampling.prompt=3"}), "OK");
  EXPECT_EQ(HunyuanDitErrorsOf({"sampling.every_steps=5", "sampling.prompt=3", "model.hunyuan_dit.t5_dropout=0"}),
            "sampling.guidance: the model is trained without dropped conditions, wanted 1, or model.hunyuan_dit's "
            "clip_dropout and t5_dropout above 0, got 4");
}

TEST(ValidateHunyuanDit, EachFieldNamesWhatIsWrong) {
  const std::string dit = "model.hunyuan_dit.";
  const std::vector<std::pair<std::string, std::string>> cases = {
      {"variance_weight=-1", "variance_weight: out of range, wanted a finite number >= 0, got -1"},
      {"noise_offset=-1", "noise_offset: out of range, wanted a finite number >= 0, got -1"},
      {"height=0", "height: not set, wanted 1 to 16384, got 0"},
      {"width=33", "width: unaligned, wanted a multiple of 2, got 33"},
      {"patch_size=3", "patch_size: places of patches are not whole, wanted a divisor of 64, got 3"},
      {"channels=0", "channels: not set, wanted 1 to 65536, got 0"},
      {"num_attention_heads=5",
       "hidden_size: heads are not of a multiple of 4 features, wanted a multiple of 4 * num_attention_heads = 20, got "
       "64"},
      {"hidden_size=40", "hidden_size: unaligned, wanted a multiple of 16, got 40"},
      {"num_hidden_layers=5", "num_hidden_layers: blocks are not paired, wanted an even number, got 5"},
      {"t5_hidden_size=100", "t5_hidden_size: unaligned, wanted a multiple of 16, got 100"},
      {"t5_length=0", "t5_length: not set, wanted 1 to 2147483647, got 0"},
      {"pooled_size=0", "pooled_size: not set, wanted 1 to 1048576, got 0"},
      {"prediction=FLOW",
       "prediction: the model is one of discrete diffusion steps, wanted EPSILON or VELOCITY, got FLOW"},
      {"beta_start=0.5",
       "beta_start: not the start of a schedule, wanted above 0, at most beta_end = 0.018, below 1, got 0.5"},
      {"t5_dropout=1.5", "t5_dropout: out of range, wanted 0 to 1, got 1.5"},
  };
  for (const auto& [override, error] : cases) {
    SCOPED_TRACE(override);
    const std::string got = HunyuanDitErrorsOf({dit + override});
    EXPECT_EQ(got.substr(0, got.find('\n')), dit + error);
  }
}

TEST(ValidateHunyuanDit, ABranchNeedsALongSkip) {
  const std::string dit = "model.hunyuan_dit.";
  EXPECT_EQ(HunyuanDitErrorsOf({dit + "control=true"}), "OK");
  EXPECT_EQ(
      HunyuanDitErrorsOf({dit + "control=true", dit + "num_hidden_layers=2"}),
      dit + "control: there is no long skip to add to, wanted false, or num_hidden_layers of 4 or more, got true");
}

TEST(ValidateHunyuanDit, BucketsAreSizesThatFit) {
  const std::string bucket = "model.hunyuan_dit.bucket";
  EXPECT_EQ(HunyuanDitErrorsOf({bucket + "=16x64", bucket + "=24x40"}), "OK");
  for (const char* size : {"32", "32x", "x32", "32x32x32", "-2x32", "0x32", "32x99999", "32 x 16", "a"}) {
    EXPECT_EQ(HunyuanDitErrorsOf({absl::StrCat(bucket, "=", size)}),
              absl::StrCat(bucket, ": no size, wanted HEIGHTxWIDTH, each 1 to 16384, got \"", size, "\""));
  }
  EXPECT_EQ(HunyuanDitErrorsOf({bucket + "=15x32"}), bucket + ": unaligned, wanted multiples of 2, got \"15x32\"");
  EXPECT_EQ(HunyuanDitErrorsOf({bucket + "=32x34"}),
            bucket + ": larger than height and width make, wanted at most 1024 latent pixels, got \"32x34\"");
  EXPECT_EQ(HunyuanDitErrorsOf({bucket + "=32x32"}), bucket + ": there already, wanted each size once, got \"32x32\"");
  EXPECT_EQ(HunyuanDitErrorsOf({bucket + "=16x32", bucket + "=16x32"}),
            bucket + ": there already, wanted each size once, got \"16x32\"");
  EXPECT_EQ(HunyuanDitErrorsOf({bucket + "=16x32", "output.trace_steps=2"}),
            "output.trace_steps: model.hunyuan_dit.bucket has several plans take turns, of which no one is the run's, "
            "wanted 0, got 2");
  EXPECT_EQ(
      HunyuanDitErrorsOf({bucket + "=16x32", "optimizer.update=LOCK_FREE", "memory.device_bytes=100000000"}),
      "optimizer.update: model.hunyuan_dit.bucket has several graphs take turns, wanted SYNCHRONOUS, got LOCK_FREE");
}

TEST(ValidateHunyuanDit, PromptsNameSizesOfTheRun) {
  const std::vector<std::string> sampled = {"model.hunyuan_dit.bucket=16x64", "sampling.every_steps=5"};
  for (const char* prompt : {"3", "3 32x32", "3 16x64", "3 016x64"}) {
    EXPECT_EQ(HunyuanDitErrorsOf({sampled[0], sampled[1], absl::StrCat("sampling.prompt=", prompt)}), "OK") << prompt;
  }
  for (const char* prompt : {"3 64x16", "3  16x64", "3 16x64 2", "3 a"}) {
    EXPECT_EQ(HunyuanDitErrorsOf({sampled[0], sampled[1], absl::StrCat("sampling.prompt=", prompt)}),
              absl::StrCat("sampling.prompt: the run has no such size, wanted a sample's number, or behind it one of "
                           "32x32, 16x64, got \"",
                           prompt, "\""));
  }
}

TEST(ValidateHunyuanDit, ProductsAreBounded) {
  EXPECT_EQ(HunyuanDitErrorsOf({"model.hunyuan_dit.num_hidden_layers=65536", "model.hunyuan_dit.hidden_size=1048576"})
                .substr(0, std::string("model.hunyuan_dit: too many parameters").size()),
            "model.hunyuan_dit: too many parameters");
  EXPECT_NE(HunyuanDitErrorsOf({"model.hunyuan_dit.height=16384", "batch.micro_batch_sequences=1000000",
                                "batch.global_batch_sequences=1000000"})
                .find("too many tokens in a micro-batch"),
            std::string::npos);
}

}  // namespace
}  // namespace angel_ptm
