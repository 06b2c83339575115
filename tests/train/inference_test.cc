// A forward graph on weights of exported files: its values, whatever type the weights are stored in and wherever they
// rest, and what is refused.
#include "angel_ptm/train/inference.h"

#include <gmock/gmock.h>

#include <algorithm>
#include <bit>
#include <cmath>

#include "absl/strings/str_cat.h"
#include "angel_ptm/base/bfloat16.h"
#include "angel_ptm/base/file.h"
#include "angel_ptm/checkpoint/config_json.h"
#include "angel_ptm/checkpoint/safetensors.h"
#include "angel_ptm/model/graph_builder.h"
#include "tests/support/temporary_folder.h"

namespace angel_ptm {
namespace {

using ::testing::HasSubstr;

constexpr int64_t kRows = 3, kWidth = 96, kLayers = 6;

// Layers x W^T + b, each a unit.
Graph Chain() {
  GraphBuilder builder("chain");
  TensorId x = builder.AddInput("x", {kRows, kWidth}, DType::kFloat32);
  for (int64_t layer = 0; layer < kLayers; ++layer) {
    const std::string name = absl::StrCat("layers.", layer);
    const UnitId unit = builder.AddUnit(name);
    const auto add = [&](const std::string& parameter, Shape shape) {
      return builder.AddParameter(unit, parameter, shape, {}, true, {{parameter, 0, shape}});
    };
    const TensorId weight = add(name + ".weight", {kWidth, kWidth}), bias = add(name + ".bias", {kWidth});
    const TensorId product = builder.Append(OpKind::kMatmul, name, {x, weight}, {.trans_b = true})[0];
    x = builder.Append(OpKind::kAddRows, name, {product, bias})[0];
  }
  builder.graph().tensors[x].tensor_class = TensorClass::kOutput;
  builder.graph().tensors[x].name = "y";
  return builder.BuildForward();
}

// Values with so few bits that all three types hold them exactly.
float ValueAt(int64_t tensor, int64_t i) { return static_cast<float>((tensor * 7 + i * 5) % 17 - 8) / 64; }

// Exact for values that are normal numbers of fp16.
uint16_t ToHalf(float value) {
  const uint32_t bits = std::bit_cast<uint32_t>(value);
  if (value == 0) return 0;
  return static_cast<uint16_t>((bits >> 16 & 0x8000) | (((bits >> 23 & 255) - 112) << 10) | (bits >> 13 & 1023));
}

std::vector<SafetensorsTensor> ChainTensors(DType dtype) {
  std::vector<SafetensorsTensor> tensors;
  const Graph graph = Chain();
  for (const Parameter& p : graph.parameters()) tensors.push_back({p.name, dtype, p.shape});
  return tensors;
}

// Writes tensors [first, last) of the list, with values that follow from their places in it.
void WriteTensors(const std::string& path, const std::vector<SafetensorsTensor>& tensors, size_t first, size_t last) {
  auto writer = SafetensorsWriter::Create(path, {tensors.begin() + first, tensors.begin() + last}, {});
  ASSERT_TRUE(writer.ok()) << writer.status();
  for (size_t t = first; t < last; ++t) {
    std::vector<std::byte> bytes(static_cast<size_t>(tensors[t].bytes()));
    for (int64_t i = 0; i < tensors[t].shape.elements() && tensors[t].dtype != DType::kInt64; ++i) {
      const float value = ValueAt(static_cast<int64_t>(t), i);
      const uint16_t narrow = tensors[t].dtype == DType::kFloat16 ? ToHalf(value) : ToBFloat16(value).bits;
      const void* from = tensors[t].dtype == DType::kFloat32 ? static_cast<const void*>(&value) : &narrow;
      const auto size = static_cast<size_t>(SizeOf(tensors[t].dtype));
      std::copy_n(static_cast<const std::byte*>(from), size, bytes.begin() + i * static_cast<int64_t>(size));
    }
    ASSERT_TRUE(writer->Append(bytes).ok());
  }
  ASSERT_TRUE(writer->Finish().ok());
}

std::vector<float> ChainInput() {
  std::vector<float> x(kRows * kWidth);
  for (size_t i = 0; i < x.size(); ++i) x[i] = std::sin(static_cast<float>(i));
  return x;
}

std::vector<double> ChainReference() {
  const std::vector<float> input = ChainInput();
  std::vector<double> x(input.begin(), input.end());
  for (int64_t layer = 0; layer < kLayers; ++layer) {
    std::vector<double> y(x.size());
    for (int64_t row = 0; row < kRows; ++row) {
      for (int64_t o = 0; o < kWidth; ++o) {
        double sum = ValueAt(2 * layer + 1, o);
        for (int64_t i = 0; i < kWidth; ++i) sum += x[row * kWidth + i] * ValueAt(2 * layer, o * kWidth + i);
        y[row * kWidth + o] = sum;
      }
    }
    x = y;
  }
  return x;
}

absl::StatusOr<std::unique_ptr<Inference>> ChainOf(const std::string& path, const InferenceOptions& options) {
  Graph graph = Chain();
  ASSIGN_OR_RETURN(const WeightsReader weights, WeightsReader::Open(path, "model", *graph.table, {"*.position_ids"}));
  const auto read = [&](UnitId unit, int64_t begin, std::span<float> out) { return weights.Read(unit, begin, out); };
  return Inference::Create(std::move(graph), read, options, "the weights of a chain");
}

std::vector<float> Play(Inference& inference) {
  const Graph& graph = inference.graph();
  std::vector<float> y(kRows * kWidth);
  for (int step = 0; step < 2; ++step) {
    inference.executor().WriteInput(graph.FindTensor("x"), ChainInput().data());
    EXPECT_TRUE(inference.executor().RunMicroStep(step).ok());
    inference.executor().ReadOutput(graph.FindTensor("y"), y.data());
  }
  return y;
}

TEST(InferenceTest, FilesOfEveryTypeAreReadAndPagesAreFetched) {
  const std::vector<double> wanted = ChainReference();
  std::vector<float> first;
  for (const DType dtype : {DType::kFloat32, DType::kBFloat16, DType::kFloat16}) {
    SCOPED_TRACE(Name(dtype));
    const TemporaryFolder dir;
    std::vector<SafetensorsTensor> tensors = ChainTensors(dtype);
    tensors.push_back({"embeddings.position_ids", DType::kInt64, {1, 5}});
    WriteTensors(dir / "model.safetensors", tensors, 0, tensors.size());
    const auto whole = ChainOf(dir.path(), {});
    ASSERT_TRUE(whole.ok()) << whole.status();
    const std::vector<float> y = Play(**whole);
    for (size_t i = 0; i < y.size(); ++i) ASSERT_NEAR(y[i], wanted[i], 1e-4) << i;
    if (first.empty()) first = y;
    EXPECT_EQ(y, first);
    // With room for a third of the weights, the others rest on the host, and nothing else changes.
    const auto fetched = ChainOf(dir.path(), {.device_bytes = kLayers * kWidth * kWidth * 4 / 3});
    ASSERT_TRUE(fetched.ok()) << fetched.status();
    EXPECT_EQ(Play(**fetched), y);
    // Most of the others rest in a file.
    InferenceOptions options{.device_bytes = kLayers * kWidth * kWidth * 4 / 3, .host_bytes = kWidth * kWidth * 4 * 3};
    options.nvme.set_directory(dir.path());
    options.nvme.set_allow_buffered(true);
    const auto filed = ChainOf(dir.path(), options);
    ASSERT_TRUE(filed.ok()) << filed.status();
    EXPECT_EQ(Play(**filed), y);
    EXPECT_LT((*filed)->memory_bytes(), (*fetched)->memory_bytes());
    EXPECT_LE((*filed)->memory_bytes(), options.device_bytes + options.host_bytes);
  }
}

TEST(InferenceTest, SeveralFilesAreReadByTheirIndex) {
  const TemporaryFolder dir;
  const std::vector<SafetensorsTensor> tensors = ChainTensors(DType::kFloat32);
  WriteTensors(dir / "model-1.safetensors", tensors, 0, 5);
  WriteTensors(dir / "model-2.safetensors", tensors, 5, tensors.size());
  std::string map;
  for (size_t t = 0; t < tensors.size(); ++t) {
    absl::StrAppend(&map, t == 0 ? "" : ",", "\"", tensors[t].name, "\":\"model-", t < 5 ? 1 : 2, ".safetensors\"");
  }
  ASSERT_TRUE(WriteFile(dir / "model.safetensors.index.json", "{\"weight_map\":{" + map + "}}").ok());
  const auto chain = ChainOf(dir.path(), {});
  ASSERT_TRUE(chain.ok()) << chain.status();
  const std::vector<double> wanted = ChainReference();
  const std::vector<float> y = Play(**chain);
  for (size_t i = 0; i < y.size(); ++i) ASSERT_NEAR(y[i], wanted[i], 1e-4) << i;
}

TEST(InferenceTest, WhatDoesNotFitIsNamed) {
  const auto error = [](auto change, const InferenceOptions& options = {}) {
    const TemporaryFolder dir;
    std::vector<SafetensorsTensor> tensors = ChainTensors(DType::kFloat32);
    change(tensors);
    WriteTensors(dir / "model.safetensors", tensors, 0, tensors.size());
    const auto chain = ChainOf(dir.path(), options);
    return chain.ok() ? "OK" : std::string(chain.status().message());
  };
  const auto nothing = [](auto&) {};
  EXPECT_EQ(error(nothing), "OK");
  EXPECT_THAT(error([](auto& tensors) { tensors[3].name = "layers.1.biases"; }),
              HasSubstr("has no tensor layers.1.bias (for layers.1.bias)"));
  EXPECT_THAT(error([](auto& tensors) {
                tensors.push_back({"head", DType::kFloat32, {1}});
              }),
              HasSubstr("has a tensor head that the model has not"));
  EXPECT_THAT(error([](auto& tensors) { tensors[3].shape = {kWidth + 1}; }),
              HasSubstr("tensor layers.1.bias is F32 [97], wanted F32, BF16 or F16 [96]"));
  EXPECT_THAT(error([](auto& tensors) { tensors[3].dtype = DType::kInt64; }),
              HasSubstr("tensor layers.1.bias is I64 [96], wanted F32, BF16 or F16 [96]"));
  EXPECT_THAT(error(nothing, {.memory_bytes_max = 1000}), HasSubstr("for the weights of a chain, this machine has"));
  EXPECT_THAT(error(nothing, {.device_bytes = 1000}), HasSubstr("device"));
}

TEST(ConfigJsonTest, WhatDiffersIsNamed) {
  const TemporaryFolder dir;
  ASSERT_TRUE(
      WriteFile(dir / "config.json", R"({"act": "gelu", "layers": 3, "eps": 1e-6, "sizes": [4, 8], "no": 0})").ok());
  const auto config = ConfigJson::Open(dir / "config.json", R"({"act": "relu", "heads": 12})");
  ASSERT_TRUE(config.ok()) << config.status();
  EXPECT_TRUE(config->Require("act", "\"gelu\"").ok());
  EXPECT_TRUE(config->Require("layers", "3.0").ok());
  EXPECT_TRUE(config->RequireOneOf("eps", {"1", "0.000001"}).ok());
  EXPECT_EQ(config->Count("heads").value_or(0), 12);
  EXPECT_EQ(config->Number("eps").value_or(0), 1e-6);
  EXPECT_EQ(config->Counts("sizes").value_or(std::vector<int64_t>{}), (std::vector<int64_t>{4, 8}));
  EXPECT_THAT(std::string(config->Require("act", "\"silu\"").message()),
              HasSubstr("config.json: act: the configuration is of another model, wanted \"silu\", got \"gelu\""));
  EXPECT_THAT(std::string(config->Require("absent", "1").message()),
              HasSubstr("absent: the configuration is of another "
                        "model, wanted 1, got null"));
  EXPECT_THAT(std::string(config->Count("no").status().message()), HasSubstr("wanted a whole number of 1 to "));
  EXPECT_THAT(std::string(config->Counts("layers").status().message()), HasSubstr("wanted whole numbers"));
  ASSERT_TRUE(WriteFile(dir / "list.json", "[1]").ok());
  EXPECT_THAT(std::string(ConfigJson::Open(dir / "list.json", "{}").status().message()),
              HasSubstr("is not a JSON object"));
}

}  // namespace
}  // namespace angel_ptm
