// The search for the tensor that went bad first looks at everything that is data and at nothing else: padded expert
// rows behind the last block in use hold whatever was there before.
#include <gtest/gtest.h>

#include <limits>
#include <string>
#include <utility>

#include "comm/local.h"
#include "tests/exec/tiny_trainer.h"
#include "tests/support/temporary_folder.h"

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

TEST_F(NonFiniteTest, TheFirstTensorIsNamed) {
  const float infinity = std::numeric_limits<float>::infinity();
  // From the back of the model to its front, so that each is the first.
  for (const auto& [parameter, tensor] :
       {std::pair("norm", "final_norm.y"), std::pair("layers.1.mlp.experts.down_proj", "layers.1.mlp.experts.down.c"),
        std::pair("layers.1.mlp.experts.gate_up_proj", "layers.1.mlp.experts.gate_up.c"),
        std::pair("layers.1.mlp.gate", "layers.1.mlp.router.weights"),
        std::pair("layers.0.self_attn.qkv_proj", "layers.0.self_attn.qkv.c"),
        std::pair("embed_tokens", "embedding.y")}) {
    trainer_.FillParameter(parameter, infinity);
    EXPECT_EQ(trainer_.FirstNonFinite(), tensor) << parameter;
  }
}

}  // namespace
}  // namespace angel_ptm
