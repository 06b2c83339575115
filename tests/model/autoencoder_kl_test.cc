// The graphs of an AutoencoderKL: which parameters they have, and under which names.
#include "angel_ptm/model/autoencoder_kl.h"

#include <gtest/gtest.h>

#include <set>
#include <string>

namespace angel_ptm {
namespace {

AutoencoderKlShape StableDiffusion() {
  return {.block_out_channels = {128, 256, 512, 512}, .layers_per_block = 2, .norm_num_groups = 32};
}

// The counts are those of diffusers.
TEST(AutoencoderKlTest, HasStableDiffusionsParameters) {
  const Graph encoder = BuildAutoencoderKlEncoder(StableDiffusion(), 512, 512);
  const Graph decoder = BuildAutoencoderKlDecoder(StableDiffusion(), 64, 64);
  EXPECT_EQ(encoder.table->ParameterCount() + decoder.table->ParameterCount(), 83653863);
  EXPECT_EQ(encoder.tensor(encoder.FindTensor("moments")).shape, (Shape{64 * 64, 8}));
  EXPECT_EQ(decoder.tensor(decoder.FindTensor("image")).shape, (Shape{512 * 512, 3}));
}

TEST(AutoencoderKlTest, AttentionHasItsOldNames) {
  AutoencoderKlShape shape{.block_out_channels = {4, 8}, .norm_num_groups = 2};
  const auto names = [&](bool old) {
    shape.has_query_names = old;
    std::set<std::string> exported;
    const Graph graph = BuildAutoencoderKlEncoder(shape, 4, 2);
    for (const Parameter& p : graph.parameters()) exported.insert(p.exported[0].name);
    return exported;
  };
  EXPECT_TRUE(names(false).contains("encoder.mid_block.attentions.0.to_out.0.weight"));
  EXPECT_TRUE(names(true).contains("encoder.mid_block.attentions.0.proj_attn.weight"));
  EXPECT_FALSE(names(true).contains("encoder.mid_block.attentions.0.to_q.weight"));
}

}  // namespace
}  // namespace angel_ptm
