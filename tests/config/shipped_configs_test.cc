// Every config in launch/configs loads, is valid, and has the number of parameters that its first comment states.
#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <cmath>
#include <filesystem>
#include <regex>
#include <set>

#include "angel_ptm/config/load.h"
#include "angel_ptm/config/validate.h"
#include "tests/support/temporary_folder.h"

namespace angel_ptm {
namespace {

RunFacts OneRank() { return {.machine_memory_bytes = int64_t{16} << 30, .cores = 2}; }

int64_t DitParameterCount(const DitConfig& c) {
  const int64_t h = c.hidden_size(), f = c.intermediate_size(), t = c.text_hidden_size();
  const int64_t features = c.channels() * c.patch_size() * c.patch_size();
  const int64_t head = h / c.num_attention_heads(), text_head = t / c.text_num_attention_heads();
  const int64_t text_layer = 12 * t * t + 2 * text_head + 4 * t;
  const int64_t text =
      (c.text_vocab_size() + 1 + c.text_length()) * t + c.text_num_hidden_layers() * text_layer + 2 * t + h * t;
  const int64_t cross = 2 * h + 2 * h * h + 2 * h * t + 2 * head;
  const int64_t classes = c.class_count() > 0 ? (c.class_count() + 1) * h : 0;
  const int64_t time = 256 * h + h + h * h;
  const int64_t modulation = 6 * h * h + 6 * h, attention = 4 * h * h + 2 * head;
  const int64_t ends = 2 * features * h + h + features + 2 * h * h + 2 * h;
  const int64_t layers = c.num_hidden_layers(), blocks = layers * (modulation + attention + 2 * h * f);
  return (c.text_length() > 0 ? text + layers * cross : classes) + time + blocks + ends;
}

int64_t HunyuanDitParameterCount(const HunyuanDitConfig& c) {
  const int64_t h = c.hidden_size(), f = c.intermediate_size(), t = c.t5_hidden_size(), w = c.clip_hidden_size();
  const int64_t p = c.patch_size() * c.patch_size(), d = h / c.num_attention_heads(), n = c.num_hidden_layers();
  const auto linear = [](int64_t in, int64_t out) { return in * out + out; };
  const int64_t text = linear(t, 4 * t) + linear(4 * t, w) + (c.clip_length() + c.t5_length()) * w;
  const int64_t pooler = (c.t5_length() + 1) * t + 3 * linear(t, t) + linear(t, c.pooled_size());
  const int64_t others = c.size_and_style() ? 6 * 256 + h : 0;
  const int64_t time = linear(256, h) + linear(h, h) + linear(c.pooled_size() + others, 4 * h) + linear(4 * h, h) +
                       (c.size_and_style() ? h : 0);
  const int64_t attention = 6 * linear(h, h) + 2 * linear(w, h) + 8 * d;
  const int64_t block = linear(h, h) + attention + 6 * h + linear(h, f) + linear(f, h);
  const int64_t skip = 4 * h + linear(2 * h, h);
  const int64_t out = c.channels() * (c.learn_sigma() ? 2 : 1) * p;
  return text + pooler + time + n * block + (n / 2 - 1) * skip + linear(c.channels() * p, h) + linear(h, 2 * h) +
         linear(h, out);
}

int64_t ParameterCount(const TrainConfig& config) {
  if (config.model().has_hunyuan_dit()) {
    return HunyuanDitParameterCount(WithDefaults(config.model().hunyuan_dit()));
  }
  if (config.model().has_dit()) return DitParameterCount(WithDefaults(config.model().dit()));
  const HunyuanLmConfig& lm = config.model().hunyuan_lm();
  const int64_t h = lm.hidden_size(), d = HeadDim(lm);
  const int64_t attention = 2 * h * d * (lm.num_attention_heads() + KeyValueHeads(lm)) + 2 * d;
  const int64_t mlp = 3 * h * lm.intermediate_size();
  const int64_t feed_forward = lm.num_experts() == 0 ? mlp : (lm.num_experts() + 1) * mlp + lm.num_experts() * h;
  const int64_t embeddings = (lm.tie_word_embeddings() ? 1 : 2) * lm.vocab_size() * h;
  return lm.num_hidden_layers() * (attention + feed_forward + 2 * h) + embeddings + h;
}

// A number as a person writes it: "22.6 M" is 22.6e6, give or take half a unit of its last digit.
struct Stated {
  double value = 0, tolerance = 0;
};
Stated StatedParameters(const std::string& path) {
  static const std::regex pattern(R"((\d+)(\.\d+)? ([MBT]) parameters)");
  std::smatch match;
  const std::string text = Slurp(path);
  if (!std::regex_search(text, match, pattern)) return {};
  const double unit = match[3] == "M" ? 1e6 : match[3] == "B" ? 1e9 : 1e12;
  const auto decimals = static_cast<int>(match[2].length() == 0 ? 0 : match[2].length() - 1);
  return {std::stod(match[1].str() + match[2].str()) * unit, 0.5 * unit * std::pow(10, -decimals)};
}

TEST(ShippedConfigs, AllAreValidAndHaveTheStatedSize) {
  std::set<std::string> seen;
  for (const auto& entry : std::filesystem::directory_iterator(CONFIGS_DIRECTORY)) {
    if (entry.path().extension() != ".textproto") continue;
    SCOPED_TRACE(entry.path().filename().string());
    const auto config = LoadTrainConfig(entry.path().string());
    ASSERT_TRUE(config.ok()) << config.status();
    const absl::Status status = Validate(*config, OneRank());
    ASSERT_TRUE(status.ok()) << status;
    const Stated stated = StatedParameters(entry.path().string());
    ASSERT_GT(stated.value, 0) << "its comment says no \"... M parameters\"";
    EXPECT_NEAR(static_cast<double>(ParameterCount(*config)), stated.value, stated.tolerance);
    seen.insert(entry.path().stem().string());
  }
  EXPECT_THAT(seen,
              testing::ElementsAre("fashion_mnist", "hunyuan_7b", "hunyuan_dit_g2", "hunyuan_large_a13b", "moe_1t",
                                   "quickstart", "quickstart_diffusion", "tiny_dense", "tiny_dit", "tiny_moe"));
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
