// From captions to the states of text encoders: what model.hunyuan_dit reads from the file, what the cache saves, what
// is refused.
#include "angel_ptm/train/tasks/text_states.h"

#include <gmock/gmock.h>

#include <cmath>
#include <cstdio>
#include <cstdlib>
#include <filesystem>
#include <span>
#include <string>
#include <vector>

#include "angel_ptm/base/bfloat16.h"
#include "angel_ptm/base/file.h"
#include "angel_ptm/checkpoint/safetensors.h"
#include "angel_ptm/train/tasks/latents.h"
#include "kernels/cpu/cpu_isa.h"
#include "tests/support/temporary_folder.h"
#include "tests/support/tiny_text_encoders.h"

namespace angel_ptm {
namespace {

using ::testing::HasSubstr;

constexpr int64_t kClipLength = 6, kT5Length = 9;
class TextStatesTest : public ::testing::Test {
 protected:
  void SetUp() override { WriteTinyTextEncoders(dir_.path(), ANGEL_PTM_SPIECE); }

  absl::StatusOr<EncodedCounts> Encode(const std::vector<std::string>& captions, const std::string& output,
                                       const InferenceOptions& options = {}, DType compute = DType::kFloat32) {
    ASSIGN_OR_RETURN(const auto clip,
                     TextEncoder::Open(TextEncoderKind::kClip, dir_.path(), kClipLength, options, compute));
    ASSIGN_OR_RETURN(const auto t5, TextEncoder::Open(TextEncoderKind::kT5, dir_.path(), kT5Length, options, compute));
    return EncodeCaptions(*clip, *t5, captions, {.cache = dir_ / "cache", .notes = notes_}, dir_ / output);
  }
  std::string Bytes(const std::string& name) const { return ReadFile(dir_ / name).value_or("none"); }

  TemporaryFolder dir_;
  std::FILE* notes_ = nullptr;
};

TEST_F(TextStatesTest, ModelsReadTheFile) {
  const auto counts = Encode({"a red fox", "猫", "a red foxes a red fox"}, "texts.safetensors");
  ASSERT_TRUE(counts.ok()) << counts.status();
  EXPECT_EQ(counts->captions, 3);
  EXPECT_EQ(counts->encoded, 7);  // with the empty one; T5 sees the same pieces in the first and the last caption
  const HunyuanDitShape shape{.height = 2,
                              .width = 2,
                              .hidden_size = 8,
                              .num_attention_heads = 1,
                              .clip_hidden_size = kTinyBertWidth,
                              .clip_length = kClipLength,
                              .t5_hidden_size = kTinyT5Width,
                              .t5_length = kT5Length};
  const auto file = LatentFile::OpenTexts(dir_ / "texts.safetensors", shape);
  ASSERT_TRUE(file.ok()) << file.status();
  HunyuanInputs inputs(shape, /*batch=*/1, (*file)->scratch_elements());
  LatentSample row = inputs.Row(0);
  row.latent = {};
  const auto mask_of = [&](int64_t caption, bool empty) {
    EXPECT_TRUE((*file)->Read(caption, empty, empty, row).ok());
    std::string mask;
    for (const int32_t keep : row.keep) mask += keep == 0 ? '.' : 'x';
    return mask;
  };
  EXPECT_EQ(mask_of(0, false), "xxxxx.xxxxxxxxx");
  EXPECT_EQ(mask_of(1, false), "xxx...xxx......");
  EXPECT_EQ(mask_of(2, false), "xxxxxxxxxxxxxxx");
  const std::vector<float> states(row.t5.begin(), row.t5.end());
  EXPECT_EQ(mask_of(0, true), "xx....x........");
  EXPECT_NE(states, std::vector<float>(row.t5.begin(), row.t5.end()));
}

// A line for each of a million captions would be all that one sees.
TEST_F(TextStatesTest, OfManyCutsSomeAreNamed) {
  char* text = nullptr;
  size_t bytes = 0;
  notes_ = open_memstream(&text, &bytes);
  ASSERT_TRUE(Encode(std::vector<std::string>(23, "fox fox fox fox fox fox fox fox fox fox"), "many").ok());
  std::fclose(notes_);
  const std::string said(text, bytes);
  std::free(text);
  EXPECT_THAT(said, HasSubstr("warning: caption 20 is longer than the 6 tokens of clip, dropped \""));
  EXPECT_THAT(said, testing::Not(HasSubstr("caption 21 ")));
  EXPECT_THAT(said, HasSubstr("warning: 3 captions more, cut to the 6 tokens of clip\n"));
}

TEST_F(TextStatesTest, ASecondRunEncodesNothing) {
  ASSERT_TRUE(Encode({"a red fox", "猫"}, "first").ok());
  auto again = Encode({"猫", "a red fox", "猫"}, "second");
  ASSERT_TRUE(again.ok()) << again.status();
  EXPECT_EQ(again->encoded, 0);
  EXPECT_EQ(Encode({"a red fox", "猫", "fox"}, "third")->encoded, 2);
  // In another batch and with other budgets, the states are the same.
  ASSERT_TRUE(RemoveTree(dir_ / "cache").ok());
  const auto anew = Encode({"a red fox", "猫"}, "fourth", {.device_bytes = 40000});
  ASSERT_TRUE(anew.ok()) << anew.status();
  EXPECT_EQ(anew->encoded, 6);
  EXPECT_EQ(Bytes("first"), Bytes("fourth"));
  // With other weights, nothing is taken from the cache.
  WriteTinyBertWeights(dir_.path(), 5);
  EXPECT_EQ(Encode({"a red fox", "猫"}, "fifth")->encoded, 3);
  EXPECT_NE(Bytes("first"), Bytes("fifth"));
}

// Another instruction level or number of threads gives other last bits, so cached states are not shared with it.
TEST_F(TextStatesTest, StatesAreOfOneArithmetic) {
  ASSERT_TRUE(Encode({"a red fox"}, "first").ok());
  EXPECT_EQ(Encode({"a red fox"}, "second", {.threads = 2})->encoded, 4);
  const KernelTable* const portable = &CpuIsas().front().kernels();
  if (portable == &CpuKernels()) GTEST_SKIP() << "this machine runs one level";
  EXPECT_EQ(Encode({"a red fox"}, "third", {.kernels_for = [&](DType) { return portable; }})->encoded, 4);
}

// States in bf16 equal those in fp32 up to rounding, and are cached separately. (tests/parity compares with
// transformers in bf16; inference_test rests weights in files.)
TEST_F(TextStatesTest, EncodersComputeInBFloat16) {
  const auto states = [&](const char* name, DType compute) {
    const auto counts = Encode({"a red fox", "猫"}, name, {}, compute);
    EXPECT_TRUE(counts.ok() && counts->encoded == 6) << counts.status();
    const auto file = SafetensorsReader::Open(dir_ / name);
    std::vector<float> all;
    for (const char* tensor : {"clip", "t5"}) {
      std::vector<float> values(static_cast<size_t>(file->Find(tensor)->shape.elements()));
      EXPECT_TRUE(file->Read(*file->Find(tensor), 0, std::as_writable_bytes(std::span(values))).ok());
      all.insert(all.end(), values.begin(), values.end());
    }
    return all;
  };
  const std::vector<float> wide = states("fp32", DType::kFloat32), narrow = states("bf16", DType::kBFloat16);
  double error = 0, size = 0;
  for (size_t i = 0; i < wide.size(); ++i) {
    error += std::pow(wide[i] - narrow[i], 2);
    size += std::pow(wide[i], 2);
    ASSERT_EQ(narrow[i], ToFloat(ToBFloat16(narrow[i]))) << i;
  }
  EXPECT_GT(error, 0);
  EXPECT_LT(std::sqrt(error / size), 0.02);
}

TEST_F(TextStatesTest, ADamagedEntryIsMadeAgain) {
  ASSERT_TRUE(Encode({"a red fox"}, "first").ok());
  for (const auto& entry : std::filesystem::directory_iterator(dir_ / "cache")) {
    std::string bytes = ReadFile(entry.path().string()).value_or("");
    bytes.back() = static_cast<char>(bytes.back() ^ 1);
    ASSERT_TRUE(WriteFile(entry.path().string(), bytes).ok());
  }
  const auto again = Encode({"a red fox"}, "second");
  ASSERT_TRUE(again.ok()) << again.status();
  EXPECT_EQ(again->encoded, 4);
  EXPECT_EQ(Bytes("first"), Bytes("second"));
}

TEST_F(TextStatesTest, OtherArchitecturesAreNamed) {
  const auto error = [&](const char* folder, const std::string& config) {
    EXPECT_TRUE(WriteFile(dir_ / folder + "/config.json", config).ok());
    return std::string(Encode({"fox"}, "out").status().message());
  };
  EXPECT_THAT(error("text_encoder", R"({"model_type": "clip_text_model"})"),
              HasSubstr("model_type: the configuration is of another model, wanted \"bert\", got \"clip_text_model\""));
  EXPECT_THAT(error("text_encoder", R"({"model_type": "bert", "hidden_act": "relu"})"), HasSubstr("hidden_act"));
  EXPECT_THAT(error("text_encoder", R"({"model_type": "bert", "hidden_size": 8, "num_attention_heads": 3})"),
              HasSubstr("hidden_size: the configuration is of another model, wanted heads of an even width"));
  EXPECT_THAT(error("text_encoder", R"({"model_type": "bert", "max_position_embeddings": 5})"),
              HasSubstr("wanted texts of at most its 5 positions, got 6"));
  EXPECT_THAT(error("text_encoder", R"({"model_type": "bert", "hidden_size": 8, "intermediate_size": 12,
    "num_attention_heads": 2, "num_hidden_layers": 1, "max_position_embeddings": 10, "vocab_size": 8})"),
              HasSubstr("embeddings.word_embeddings.weight is F32 [9, 8], wanted F32, BF16 or F16 [8, 8]"));
  ASSERT_TRUE(WriteFile(dir_ / "text_encoder/config.json", kTinyBertConfig).ok());
  EXPECT_THAT(
      error("text_encoder_2", R"({"model_type": "t5"})"),
      HasSubstr("feed_forward_proj: the configuration is of another model, wanted \"gated-gelu\", got \"relu\""));
  EXPECT_THAT(error("text_encoder_2", R"({"model_type": "umt5"})"), HasSubstr("wanted \"t5\" or \"mt5\""));
}

}  // namespace
}  // namespace angel_ptm
