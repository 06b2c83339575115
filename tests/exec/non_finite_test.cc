// The search for the first tensor that became non-finite looks at all valid data and at nothing else: padded expert
// rows behind the last block in use hold leftovers.
#include <gtest/gtest.h>

#include <limits>
#include <set>
#include <string>
#include <utility>

#include "absl/strings/str_cat.h"
#include "comm/local.h"
#include "tests/exec/tiny_trainer.h"
#include "tests/support/temporary_folder.h"
#include "tests/support/tiny_text.h"

namespace angel_ptm {
namespace {

class NonFiniteTest : public testing::Test {
 protected:
  static void SetUpTestSuite() {
    folder_ = new TemporaryFolder;
    data_ = PrepareTinyText(folder_->path());
  }
  static void TearDownTestSuite() { delete folder_; }
  NonFiniteTest()
      : world_(1),
        communicator_(world_.Create(0)),
        trainer_(TinyConfig(data_, "memory { page_bytes: 4096 device_bytes: 700000 }"), *communicator_) {}

  static TemporaryFolder* folder_;
  static std::string data_;
  LocalWorld world_;
  const std::unique_ptr<Communicator> communicator_;
  TinyTrainer trainer_;
};
TemporaryFolder* NonFiniteTest::folder_ = nullptr;
std::string NonFiniteTest::data_;

TEST_F(NonFiniteTest, AHealthyStepHasNone) {
  for (int step = 0; step < 3; ++step) {
    EXPECT_EQ(trainer_.FirstNonFinite(), "");
    trainer_.Step();
  }
  trainer_.RouteAllTokensToTheSameExperts();
  EXPECT_EQ(trainer_.FirstNonFinite(), "");
}

TEST_F(NonFiniteTest, AParameterIsNamedWithItsFirstReader) {
  const float infinity = std::numeric_limits<float>::infinity();
  // From the back of the model to its front, so that each infinite parameter is the first one met.
  for (const auto& [parameter, reader] :
       {std::pair("norm", "AddRmsNorm"), std::pair("layers.1.mlp.experts.down_proj", "GroupedMatmul"),
        std::pair("layers.1.mlp.experts.gate_up_proj", "GroupedMatmul"), std::pair("layers.1.mlp.gate", "Router"),
        std::pair("layers.0.self_attn.qkv_proj", "Matmul"), std::pair("embed_tokens", "Embedding")}) {
    trainer_.FillParameter(parameter, infinity);
    EXPECT_EQ(trainer_.FirstNonFinite(), absl::StrCat("parameter ", parameter, ", read by forward ", reader));
  }
}

TEST_F(NonFiniteTest, WhatFiniteParametersMadeIsNamed) {
  // Attention sees zeros, so only its gradient is large. The smaller the factor, the further back the gradient gets
  // before the first overflow. In the gradient of qkv.c, attention writes the value columns, and only they overflow.
  trainer_.FillParameter("layers.1.self_attn.qkv_proj", 0);
  std::set<std::string> found;
  for (float factor = 1e38f; factor > 1e35f; factor /= 1.1f) {
    trainer_.FillParameter("layers.1.self_attn.o_proj", factor);
    found.insert(trainer_.FirstNonFinite());
  }
  EXPECT_EQ(found, std::set<std::string>({"", "d layers.1.self_attn.attention.o, written by backward Matmul",
                                          "d layers.1.self_attn.qkv.c, written by backward AttentionGrad",
                                          "d layers.1.self_attn.qkv_proj, written by backward Matmul"}));
}

}  // namespace
}  // namespace angel_ptm
