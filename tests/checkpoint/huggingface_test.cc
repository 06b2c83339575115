#include "angel_ptm/checkpoint/huggingface.h"

#include <gmock/gmock.h>

#include <cstring>
#include <map>
#include <nlohmann/json.hpp>
#include <tuple>

#include "angel_ptm/base/file.h"
#include "angel_ptm/checkpoint/safetensors.h"
#include "tests/base/child_process.h"
#include "tests/checkpoint/fixtures.h"

namespace angel_ptm {
namespace {

using ::testing::AllOf;
using ::testing::ElementsAre;
using ::testing::HasSubstr;

HunyuanLmShape Shape(bool moe, bool tied) {
  return {.vocab_size = 97,
          .hidden_size = 32,
          .intermediate_size = 48,
          .num_hidden_layers = 2,
          .num_attention_heads = 4,
          .num_key_value_heads = 2,
          .head_dim = 16,
          .num_experts = moe ? 4 : 0,
          .moe_topk = moe ? 2 : 0,
          .rope_alpha = moe ? 1000.0 : 0.0,
          .tie_word_embeddings = tied};
}

ParameterTable MakeModel(const HunyuanLmShape& shape) { return *HunyuanLmParameters(shape); }

absl::Status ReadTestValues(UnitId unit, int64_t begin, std::span<float> out) {
  for (size_t i = 0; i < out.size(); ++i) {
    out[i] = StateValue(unit, "parameters", begin + static_cast<int64_t>(i), 3);
  }
  return absl::OkStatus();
}

class HuggingFaceTest : public ::testing::TestWithParam<std::tuple<bool, bool>> {};

TEST_P(HuggingFaceTest, ExportsEveryTensorAndImportsItAgain) {
  const auto [moe, tied] = GetParam();
  const TemporaryFolder dir;
  const HuggingFaceExport config{.model = Shape(moe, tied),
                                 .max_position_embeddings = 64,
                                 .eos_token_id = 2,
                                 .tokenizer_files = {{"tokenizer.json", "{}"}}};
  const ParameterTable table = MakeModel(config.model);
  const absl::Status exported = ExportHuggingFace(ReadTestValues, table, config, dir / "out");
  ASSERT_TRUE(exported.ok()) << exported;
  EXPECT_THAT(NamesIn(dir / "out"),
              ElementsAre("config.json", "generation_config.json", "model.safetensors", "tokenizer.json"));
  EXPECT_THAT(NamesIn(dir.path()), ElementsAre("out"));
  EXPECT_EQ(Slurp(dir / "out/tokenizer.json"), "{}");

  const nlohmann::json json = nlohmann::json::parse(Slurp(dir / "out/config.json"));
  EXPECT_EQ(json["architectures"][0], moe ? "HunYuanMoEV1ForCausalLM" : "HunYuanDenseV1ForCausalLM");
  EXPECT_EQ(json["rms_norm_eps"].dump(), "1e-05");
  EXPECT_EQ(json["rope_scaling"].is_null(), !moe);
  EXPECT_TRUE(json["bos_token_id"].is_null());
  EXPECT_EQ(json["eos_token_id"], 2);
  EXPECT_EQ(json["max_position_embeddings"], 64);
  EXPECT_EQ(json["tie_word_embeddings"], tied);
  EXPECT_EQ(json.contains("num_experts"), moe);
  if (moe) {
    EXPECT_EQ(json["num_experts"], 4);
    EXPECT_EQ(json["moe_topk"], 2);
    EXPECT_EQ(json["rope_scaling"], nlohmann::json::parse(R"({"type": "dynamic", "alpha": 1000.0, "factor": 1.0,
        "beta_fast": 32, "beta_slow": 1, "mscale": 1.0, "mscale_all_dim": 1.0})"));
  }
  EXPECT_EQ(Slurp(dir / "out/generation_config.json"), "{\n  \"eos_token_id\": 2\n}\n");

  const auto file = SafetensorsReader::Open(dir / "out/model.safetensors");
  ASSERT_TRUE(file.ok()) << file.status();
  EXPECT_EQ(file->metadata().at("format"), "pt");
  EXPECT_EQ(file->tensors().size(), HuggingFaceTensors(config.model).size());
  EXPECT_EQ(file->Find("lm_head.weight") == nullptr, tied);

  // The import covers every parameter element exactly once, with the source's values.
  std::vector<std::vector<int>> seen;
  for (const Unit& unit : table.units) seen.emplace_back(unit.elements, 0);
  const auto weights = OpenHuggingFace(dir / "out", table, config.model);
  ASSERT_TRUE(weights.ok()) << weights.status();
  const absl::Status imported = weights->ReadAll([&](UnitId unit, int64_t begin, std::span<const float> values) {
    for (size_t i = 0; i < values.size(); ++i) {
      const int64_t at = begin + static_cast<int64_t>(i);
      EXPECT_EQ(values[i], StateValue(unit, "parameters", at, 3));
      ++seen[unit][at];
    }
    return absl::OkStatus();
  });
  ASSERT_TRUE(imported.ok()) << imported;
  for (const Parameter& p : table.parameters) {
    for (int64_t i = 0; i < p.shape.elements(); ++i) ASSERT_EQ(seen[p.unit][p.unit_offset + i], 1) << p.name;
  }
  EXPECT_EQ(ExportHuggingFace(ReadTestValues, table, config, dir / "out").code(), absl::StatusCode::kAlreadyExists);
}

INSTANTIATE_TEST_SUITE_P(Models, HuggingFaceTest, ::testing::Combine(::testing::Bool(), ::testing::Bool()));

TEST(HuggingFaceExportTest, ManyFilesHaveAnIndex) {
  const TemporaryFolder dir;
  const HuggingFaceExport config{.model = Shape(true, false), .max_position_embeddings = 64, .file_bytes_max = 20000};
  const ParameterTable table = MakeModel(config.model);
  ASSERT_TRUE(ExportHuggingFace(ReadTestValues, table, config, dir / "out").ok());
  const nlohmann::json index = nlohmann::json::parse(Slurp(dir / "out/model.safetensors.index.json"));
  EXPECT_EQ(index["weight_map"].size(), HuggingFaceTensors(config.model).size());
  int64_t total = 0;
  std::map<std::string, int64_t> bytes_of;
  for (const ExportedName& t : HuggingFaceTensors(config.model)) {
    total += t.shape.elements() * 4;
    bytes_of[index["weight_map"][t.name].get<std::string>()] += t.shape.elements() * 4;
  }
  EXPECT_EQ(index["metadata"]["total_size"], total);
  EXPECT_GT(bytes_of.size(), 3u);
  for (const auto& [name, bytes] : bytes_of) {
    EXPECT_LE(bytes, 20000) << name;
    EXPECT_TRUE(Exists(dir / ("out/" + name)));
  }
}

TEST(HuggingFaceExportTest, MissingAndDoubleNamesAreErrors) {
  const TemporaryFolder dir;
  const HuggingFaceExport config{.model = Shape(true, false), .max_position_embeddings = 64};
  const auto error_after = [&](auto change) {
    ParameterTable table = MakeModel(config.model);
    for (Parameter& p : table.parameters) {
      if (p.name == "layers.1.mlp.experts.down_proj") change(p.exported);
    }
    const absl::Status status = ExportHuggingFace(ReadTestValues, table, config, dir / "out");
    EXPECT_TRUE(NamesIn(dir.path()).empty());
    return std::string(status.message());
  };
  EXPECT_THAT(error_after([](auto& e) { e.pop_back(); }), HasSubstr("is exported up to element 4608 only"));
  EXPECT_THAT(error_after([](auto& e) { e[2].name = e[1].name; }),
              HasSubstr("experts.1.down_proj.weight is there twice"));
  EXPECT_THAT(error_after([](auto& e) { e[3].name = "model.layers.1.mlp.experts.4.down_proj.weight"; }),
              HasSubstr("does not export tensor model.layers.1.mlp.experts.3.down_proj.weight"));
  EXPECT_THAT(error_after([](auto& e) { e[3].shape = {48, 32}; }), HasSubstr("of shape [48, 32], wanted [32, 48]"));
  EXPECT_THAT(error_after([](auto& e) { e[3].offset -= 1; }), HasSubstr("begins at"));
}

class HuggingFaceTargetTest : public ::testing::Test {
 protected:
  absl::Status Export(const std::string& path) {
    const HuggingFaceExport config{.model = Shape(false, true), .max_position_embeddings = 64};
    return ExportHuggingFace(ReadTestValues, MakeModel(config.model), config, path);
  }
  const TemporaryFolder dir_;
};

TEST_F(HuggingFaceTargetTest, MayEndInSlashesBeEmptyOrALink) {
  for (const std::string name : {"a/", "b//", "c/.", "new/below/d/"}) {
    EXPECT_TRUE(Export(dir_ / name).ok()) << name << ": " << Export(dir_ / name);
    EXPECT_EQ(NamesIn(dir_ / name).size(), 3u) << name;
  }
  std::filesystem::create_directory(dir_ / "empty");
  EXPECT_TRUE(Export(dir_ / "empty/").ok());
  std::filesystem::create_directory(dir_ / "real");
  std::filesystem::create_symlink("real", dir_ / "link");
  EXPECT_TRUE(Export(dir_ / "link").ok());
  EXPECT_EQ(NamesIn(dir_ / "real").size(), 3u);
  EXPECT_THAT(NamesIn(dir_.path()), ElementsAre("a", "b", "c", "empty", "link", "new", "real"));
  EXPECT_EQ(Export(dir_ / "a/").code(), absl::StatusCode::kAlreadyExists);
}

TEST_F(HuggingFaceTargetTest, NothingOfTheUsersIsRemoved) {
  for (const std::string name : {"out.tmp", "out.angel-ptm-export"}) {
    std::filesystem::create_directory(dir_ / name);
    Spill(dir_ / (name + "/mine"), "");
  }
  const absl::Status status = Export(dir_ / "out/");
  EXPECT_EQ(status.code(), absl::StatusCode::kAlreadyExists);
  EXPECT_THAT(std::string(status.message()), HasSubstr("out.angel-ptm-export is in the way"));
  EXPECT_FALSE(Exists(dir_ / "out"));
  EXPECT_TRUE(Exists(dir_ / "out.angel-ptm-export/mine"));
  std::filesystem::remove_all(dir_ / "out.angel-ptm-export");
  EXPECT_TRUE(Export(dir_ / "out/").ok());
  EXPECT_TRUE(Exists(dir_ / "out.tmp/mine"));
  Spill(dir_ / "file", "");
  EXPECT_FALSE(Export(dir_ / "file").ok());
}

// The new name must be synced into its parent, which fails if the parent may be written but not opened.
TEST_F(HuggingFaceTargetTest, TheParentIsSynced) {
  RunUnprivileged(dir_.path(), [&] {
    using std::filesystem::perms;
    std::filesystem::permissions(dir_.path(), perms::owner_write | perms::owner_exec);
    const absl::Status status = Export(dir_ / "out");
    std::filesystem::permissions(dir_.path(), perms::owner_all);
    EXPECT_THAT(std::string(status.message()), HasSubstr("out was written and compared, but might not survive"));
    EXPECT_EQ(NamesIn(dir_ / "out").size(), 3u);
  });
}

TEST(HuggingFaceExportTest, CompletesTheTokenizersConfiguration) {
  const auto complete = CompleteTokenizerConfig(R"({"pad_token": "<|pad|>"})", 64);
  ASSERT_TRUE(complete.ok()) << complete.status();
  const nlohmann::json json = nlohmann::json::parse(*complete);
  EXPECT_EQ(json["pad_token"], "<|pad|>");
  EXPECT_EQ(json["model_max_length"], 64);
  EXPECT_EQ(json["model_input_names"].dump(), R"(["input_ids","attention_mask"])");
  const auto own = CompleteTokenizerConfig(R"({"model_max_length": 7, "model_input_names": ["x"]})", 64);
  EXPECT_EQ(nlohmann::json::parse(*own).dump(), R"({"model_input_names":["x"],"model_max_length":7})");
  for (const std::string& text : {std::string("[]"), std::string("{"), std::string(100000, '[')}) {
    EXPECT_EQ(CompleteTokenizerConfig(text, 64).status().code(), absl::StatusCode::kInvalidArgument);
  }
  const TemporaryFolder dir;
  const HuggingFaceExport config{
      .model = Shape(false, true), .max_position_embeddings = 64, .tokenizer_files = {{"tokenizer_config.json", "{}"}}};
  ASSERT_TRUE(ExportHuggingFace(ReadTestValues, MakeModel(config.model), config, dir / "out").ok());
  EXPECT_EQ(nlohmann::json::parse(Slurp(dir / "out/tokenizer_config.json"))["model_max_length"], 64);
}

TEST(HuggingFaceExportTest, ASourceThatDoesNotReadBackIsAnError) {
  const TemporaryFolder dir;
  const HuggingFaceExport config{.model = Shape(false, true), .max_position_embeddings = 64};
  int calls = 0;
  const auto unstable = [&](UnitId unit, int64_t begin, std::span<float> out) {
    RETURN_IF_ERROR(ReadTestValues(unit, begin, out));
    if (++calls == 40) out[out.size() / 2] += 1.0f;
    return absl::OkStatus();
  };
  const absl::Status status = ExportHuggingFace(unstable, MakeModel(config.model), config, dir / "out");
  EXPECT_THAT(std::string(status.message()), HasSubstr("does not read back as its source"));
  EXPECT_TRUE(NamesIn(dir.path()).empty());
}

TEST(HuggingFaceImportTest, AnotherModelIsAnErrorBeforeAnythingIsWritten) {
  const TemporaryFolder dir;
  const HuggingFaceExport config{.model = Shape(false, true), .max_position_embeddings = 64};
  ASSERT_TRUE(ExportHuggingFace(ReadTestValues, MakeModel(config.model), config, dir / "out").ok());
  const auto import_as = [&](const HunyuanLmShape& shape) {
    const absl::Status opened = OpenHuggingFace(dir / "out", MakeModel(shape), shape).status();
    EXPECT_EQ(opened.code(), absl::StatusCode::kFailedPrecondition);
    EXPECT_THAT(std::string(opened.message()), HasSubstr("out/config.json: "));
    const absl::Status weights = WeightsReader::Open(dir / "out", "model", MakeModel(shape)).status();
    return absl::StrCat(opened.message(), "\n", weights.message());
  };
  EXPECT_THAT(import_as(Shape(false, false)),
              AllOf(HasSubstr("tie_word_embeddings: the configuration is of another model, wanted false, got true"),
                    HasSubstr("has no tensor lm_head.weight")));
  HunyuanLmShape shape = Shape(false, true);
  shape.intermediate_size = 64;
  EXPECT_THAT(import_as(shape), AllOf(HasSubstr("intermediate_size: the configuration is of another model, wanted 64, "
                                                "got 48"),
                                      HasSubstr("is F32 [48, 32], wanted F32, BF16 or F16 [64, 32]")));
  shape = Shape(false, true);
  shape.num_hidden_layers = 1;
  EXPECT_THAT(import_as(shape), AllOf(HasSubstr("num_hidden_layers"), HasSubstr("has a tensor model.layers.1")));
  // Numbers that agree in six digits.
  shape = Shape(false, true);
  shape.rope_theta = 10000.001;
  EXPECT_THAT(import_as(shape), HasSubstr("rope_theta: the configuration is of another model, wanted 10000.001, got "));
}

// The same model in the notations of transformers 5 and of Tencent, and configurations of models that are not ours.
TEST(HuggingFaceImportTest, ReadsWhatConfigurationsSay) {
  const TemporaryFolder dir;
  const auto read = [&](const std::string& json) {
    EXPECT_TRUE(WriteFile(dir / "config.json", json).ok());
    return ReadHuggingFaceModel(dir.path());
  };
  const std::string sizes = R"("vocab_size": 97, "hidden_size": 32, "intermediate_size": 48, "num_hidden_layers": 2,
    "num_attention_heads": 4, "num_key_value_heads": 2, "tie_word_embeddings": true, "max_position_embeddings": 64)";
  const auto dense = read(R"({"model_type": "hunyuan_v1_dense", "head_dim": null, )" + sizes +
                          R"(, "rope_parameters": {"rope_theta": 5e4, "rope_type": "default"}})");
  ASSERT_TRUE(dense.ok()) << dense.status();
  EXPECT_EQ(dense->max_position_embeddings, 64);
  EXPECT_EQ(dense->shape.head_dim, 8);
  EXPECT_EQ(dense->shape.num_experts, 0);
  EXPECT_EQ(dense->shape.rope_theta, 5e4);
  EXPECT_EQ(dense->shape.rms_norm_eps, 1e-5f);
  EXPECT_TRUE(dense->shape.tie_word_embeddings);
  const std::string experts = R"({"model_type": "hunyuan", "head_dim": 16, "num_experts": 4, "moe_topk": [2, 2],
    "num_shared_expert": [1, 1], "moe_intermediate_size": [48, 48], )" +
                              sizes;
  const auto moe = read(experts + R"(, "rope_scaling": {"type": "dynamic", "alpha": 1000.0, "factor": 1.0}})");
  ASSERT_TRUE(moe.ok()) << moe.status();
  EXPECT_EQ(moe->shape.num_experts, 4);
  EXPECT_EQ(moe->shape.moe_topk, 2);
  EXPECT_EQ(moe->shape.rope_alpha, 1000);

  const std::pair<std::string, std::string> cases[] = {
      {R"({"model_type": "llama", )" + sizes + "}", "model_type: the configuration is of another model, wanted"},
      {R"({"model_type": "hunyuan_v1_dense", "attention_bias": true, )" + sizes + "}", "attention_bias"},
      {experts + R"(, "num_shared_expert": 2})", "num_shared_expert: the configuration is of another model, wanted 1"},
      {experts + R"(, "moe_topk": [1, 2]})", "moe_topk: the configuration is of another model, wanted the same number"},
      {experts + R"(, "moe_intermediate_size": 64})", "moe_intermediate_size"},
      {experts + R"(, "rope_scaling": {"type": "yarn"}})", "rope_scaling: type: the configuration is of another model"},
      {experts + R"(, "rope_scaling": {"type": "dynamic"}})", "rope_scaling: alpha: the configuration is of another"},
  };
  for (const auto& [json, message] : cases) {
    EXPECT_THAT(std::string(read(json).status().message()), HasSubstr(message));
  }
}

TEST(HuggingFaceImportTest, WidensBfloat16) {
  const TemporaryFolder dir;
  ParameterTable table = *MakeGraph({{"unit", {{3}}}}).table;
  table.parameters[0].exported = {{"w", 0, {3}}};
  std::filesystem::create_directory(dir / "in");
  auto writer = SafetensorsWriter::Create(dir / "in/model.safetensors",
                                          {{.name = "w", .dtype = DType::kBFloat16, .shape = {3}}}, {});
  ASSERT_TRUE(writer.ok());
  const uint16_t bits[] = {0x3f80, 0xc040, 0x0001};
  ASSERT_TRUE(writer->Append(std::as_bytes(std::span(bits))).ok());
  ASSERT_TRUE(writer->Finish().ok());
  std::vector<float> got;
  const auto weights = WeightsReader::Open(dir / "in", "model", table);
  ASSERT_TRUE(weights.ok()) << weights.status();
  ASSERT_TRUE(weights
                  ->ReadAll([&](UnitId, int64_t, std::span<const float> values) {
                    got.assign(values.begin(), values.end());
                    return absl::OkStatus();
                  })
                  .ok());
  EXPECT_THAT(got, ElementsAre(1.0f, -3.0f, 9.18354961579912115600575419705e-41f));
}

}  // namespace
}  // namespace angel_ptm
