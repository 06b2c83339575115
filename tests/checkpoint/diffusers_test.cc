#include "angel_ptm/checkpoint/diffusers.h"

#include <gmock/gmock.h>

#include <algorithm>
#include <filesystem>
#include <nlohmann/json.hpp>

#include "angel_ptm/base/file.h"
#include "angel_ptm/checkpoint/safetensors.h"
#include "tests/checkpoint/fixtures.h"

namespace angel_ptm {
namespace {

using ::testing::ElementsAre;
using ::testing::HasSubstr;

HunyuanDitShape SmallHunyuan(bool version1) {
  return {.height = 8,
          .width = 8,
          .hidden_size = 32,
          .intermediate_size = 44,
          .num_hidden_layers = 4,
          .num_attention_heads = 2,
          .clip_hidden_size = 6,
          .clip_length = 3,
          .t5_hidden_size = 16,
          .t5_length = 2,
          .pooled_size = 5,
          .size_and_style = version1};
}

absl::Status ReadSmallValues(UnitId unit, int64_t begin, std::span<float> out) {
  for (size_t i = 0; i < out.size(); ++i) {
    out[i] = StateValue(unit, "parameters", begin + static_cast<int64_t>(i), 3);
  }
  return absl::OkStatus();
}

class DiffusersTest : public ::testing::TestWithParam<bool> {};

TEST_P(DiffusersTest, ExportsEveryTensorAndImportsItAgain) {
  const TemporaryFolder dir;
  const HunyuanDitShape model = SmallHunyuan(GetParam());
  const ParameterTable table = *HunyuanDitParameters(model);
  const absl::Status exported =
      ExportDiffusers(ReadSmallValues, table, model, DiffusersPart::kModel, dir / "pipeline/transformer");
  ASSERT_TRUE(exported.ok()) << exported;
  EXPECT_THAT(NamesIn(dir / "pipeline/transformer"), ElementsAre("config.json", "diffusion_pytorch_model.safetensors"));
  const nlohmann::json json = nlohmann::json::parse(Slurp(dir / "pipeline/transformer/config.json"));
  EXPECT_EQ(json["_class_name"], "HunyuanDiT2DModel");
  EXPECT_EQ(json["use_style_cond_and_image_meta_size"], GetParam());
  EXPECT_EQ(static_cast<int>(32 * json["mlp_ratio"].get<double>()), 44);

  // Imports from the pipeline's folder and from the model's own.
  for (const char* from : {"pipeline", "pipeline/transformer"}) {
    int64_t elements = 0;
    const auto weights = OpenDiffusers(dir / from, table, model, DiffusersPart::kModel);
    ASSERT_TRUE(weights.ok()) << weights.status();
    const absl::Status read = weights->ReadAll([&](UnitId unit, int64_t begin, std::span<const float> values) {
      for (size_t i = 0; i < values.size(); ++i) {
        EXPECT_EQ(values[i], StateValue(unit, "parameters", begin + static_cast<int64_t>(i), 3));
      }
      elements += static_cast<int64_t>(values.size());
      return absl::OkStatus();
    });
    ASSERT_TRUE(read.ok()) << read;
    // Any range of a unit can be read, also across parameters.
    const Unit& block = table.units[4];
    std::vector<float> stretch(static_cast<size_t>(block.elements) - 8);
    ASSERT_TRUE(weights->Read(4, 5, stretch).ok());
    for (const ParameterId p : block.parameters) {
      for (int64_t i = 0; i < table.parameters[p].shape.elements(); ++i) {
        const int64_t at = table.parameters[p].unit_offset + i;
        if (at < 5 || at >= block.elements - 3) continue;
        ASSERT_EQ(stretch[static_cast<size_t>(at - 5)], StateValue(4, "parameters", at, 3)) << at;
      }
    }
    EXPECT_EQ(elements, table.ParameterCount());
  }
}

INSTANTIATE_TEST_SUITE_P(Versions, DiffusersTest, ::testing::Bool());

// A model with a branch exports and imports both parts, and a new branch begins as a copy of the model.
TEST_P(DiffusersTest, AControlNetIsAPartOfItsOwn) {
  const TemporaryFolder dir;
  HunyuanDitShape model = SmallHunyuan(GetParam());
  model.control = true;
  const ParameterTable table = *HunyuanDitParameters(model);
  const auto exported = [&](DiffusersPart part, const std::string& to) {
    return ExportDiffusers(ReadSmallValues, table, model, part, dir / to);
  };
  ASSERT_TRUE(exported(DiffusersPart::kModel, "pipeline/transformer").ok());
  ASSERT_TRUE(exported(DiffusersPart::kControlNet, "pipeline/controlnet").ok());
  const nlohmann::json json = nlohmann::json::parse(Slurp(dir / "pipeline/controlnet/config.json"));
  EXPECT_EQ(json["_class_name"], "HunyuanDiT2DControlNetModel");
  EXPECT_EQ(json["transformer_num_layers"], 4);
  EXPECT_FALSE(json.contains("num_layers") || json.contains("learn_sigma"));
  // The model's tensors are the same as without a branch.
  HunyuanDitShape alone = model;
  alone.control = false;
  EXPECT_TRUE(OpenDiffusers(dir / "pipeline", *HunyuanDitParameters(alone), alone, DiffusersPart::kModel).ok());
  EXPECT_THAT(
      std::string(OpenDiffusers(dir / "pipeline/controlnet", table, model, DiffusersPart::kModel).status().message()),
      HasSubstr("_class_name: the configuration is of another model, wanted \"HunyuanDiT2DModel\", got "
                "\"HunyuanDiT2DControlNetModel\""));

  const auto open = [&](DiffusersPart part) {
    absl::StatusOr<WeightsReader> reader = OpenDiffusers(dir / "pipeline", table, model, part);
    EXPECT_TRUE(reader.ok()) << reader.status();
    return *std::move(reader);
  };
  const ReadParameters both = ReadDiffusers(table, open(DiffusersPart::kModel), open(DiffusersPart::kControlNet));
  const ReadParameters copied = ReadDiffusers(table, open(DiffusersPart::kModel), std::nullopt);
  int zeros = 0;
  for (const Parameter& parameter : table.parameters) {
    std::vector<float> got(static_cast<size_t>(parameter.shape.elements())), want(got.size()), copy(got.size());
    ASSERT_TRUE(both(parameter.unit, parameter.unit_offset, got).ok());
    ASSERT_TRUE(ReadSmallValues(parameter.unit, parameter.unit_offset, want).ok());
    EXPECT_EQ(got, want) << parameter.name;
    ASSERT_TRUE(copied(parameter.unit, parameter.unit_offset, copy).ok());
    const bool branch = IsOfControl(table.units[parameter.unit]);
    const UnitId source = branch ? HunyuanControlSource(table, parameter.unit) : parameter.unit;
    std::ranges::fill(want, 0.0f);
    if (source != kNone) {
      ASSERT_TRUE(ReadSmallValues(source, parameter.unit_offset, want).ok());
    }
    EXPECT_EQ(copy, want) << parameter.name;
    zeros += source == kNone ? 1 : 0;
  }
  EXPECT_EQ(zeros, 4);  // weights and biases of the condition's input layer and of a projection
}

TEST(DiffusersImportTest, AnotherModelIsNamed) {
  const TemporaryFolder dir;
  const HunyuanDitShape model = SmallHunyuan(false);
  const ParameterTable table = *HunyuanDitParameters(model);
  ASSERT_TRUE(ExportDiffusers(ReadSmallValues, table, model, DiffusersPart::kModel, dir / "out").ok());
  const auto import = [&](const HunyuanDitShape& wanted) {
    return OpenDiffusers(dir / "out", *HunyuanDitParameters(wanted), wanted, DiffusersPart::kModel).status();
  };
  HunyuanDitShape other = model;
  other.height = other.width = 16;  // no weight depends on it
  EXPECT_TRUE(import(other).ok());
  other.num_hidden_layers = 2;
  EXPECT_THAT(std::string(import(other).message()),
              HasSubstr("num_layers: the configuration is of another model, wanted 2, got 4"));
  other = model;
  other.intermediate_size = 45;
  EXPECT_THAT(std::string(import(other).message()), HasSubstr("mlp_ratio"));
  other = model;
  other.size_and_style = true;
  EXPECT_THAT(std::string(import(other).message()), HasSubstr("use_style_cond_and_image_meta_size"));
  // A missing field has the default value of its class.
  std::filesystem::remove(dir / "out/config.json");
  ASSERT_TRUE(WriteFile(dir / "out/config.json", "{\"_class_name\": \"HunyuanDiT2DModel\"}").ok());
  EXPECT_THAT(std::string(import(model).message()),
              HasSubstr("attention_head_dim: the configuration is of another model, wanted 16, got 88"));
  EXPECT_EQ(OpenDiffusers(dir / "absent", table, model, DiffusersPart::kModel).status().code(),
            absl::StatusCode::kNotFound);
}

}  // namespace
}  // namespace angel_ptm
