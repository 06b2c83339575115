#include "tests/support/tiny_text_encoders.h"

#include <filesystem>
#include <random>
#include <span>
#include <vector>

#include "absl/strings/str_cat.h"
#include "angel_ptm/base/file.h"
#include "angel_ptm/checkpoint/safetensors.h"
#include "angel_ptm/checkpoint/text_encoders.h"
#include "tests/support/or_die.h"

namespace angel_ptm {

const char* const kTinyBertConfig = R"({"model_type": "bert", "hidden_size": 8, "intermediate_size": 12,
    "num_attention_heads": 2, "num_hidden_layers": 1, "max_position_embeddings": 10, "vocab_size": 9})";

namespace {

constexpr char kT5Config[] = R"({"model_type": "mt5", "d_model": 16, "d_kv": 4, "d_ff": 12, "num_heads": 2,
    "num_layers": 1, "vocab_size": 60})";

// Writes random weights for the graph's parameters under their exported names.
void WriteWeights(const std::string& path, const Graph& graph, uint32_t seed) {
  std::vector<SafetensorsTensor> tensors;
  for (const Parameter& parameter : graph.parameters()) {
    for (const ExportedName& e : parameter.exported) tensors.push_back({e.name, DType::kFloat32, e.shape});
  }
  std::mt19937 random(seed);
  std::normal_distribution<float> normal(0, 0.3f);
  OrDie(WriteSafetensors(path, tensors, {}, [&](SafetensorsWriter& writer) -> absl::Status {
    for (const SafetensorsTensor& tensor : tensors) {
      std::vector<float> values(static_cast<size_t>(tensor.shape.elements()));
      for (float& value : values) value = normal(random);
      RETURN_IF_ERROR(writer.Append(std::as_bytes(std::span(values))));
    }
    return absl::OkStatus();
  }));
}

}  // namespace

void WriteTinyBertWeights(const std::string& folder, uint32_t seed) {
  const std::string bert = folder + "/text_encoder";
  WriteWeights(bert + "/model.safetensors", BuildBertEncoder(OrDie(ReadBertShape(bert)), 1, 2), seed);
}

void WriteTinyTextEncoders(const std::string& folder, const std::string& spiece) {
  const auto in = [&](const char* name) { return absl::StrCat(folder, "/", name); };
  for (const char* part : {"text_encoder", "tokenizer", "text_encoder_2", "tokenizer_2"}) {
    OrDie(MakeDirectories(in(part)));
  }
  OrDie(WriteFile(in("text_encoder/config.json"), kTinyBertConfig));
  OrDie(WriteFile(in("text_encoder_2/config.json"), kT5Config));
  OrDie(WriteFile(in("tokenizer/vocab.txt"), "[PAD]\n[UNK]\n[CLS]\n[SEP]\na\nred\nfox\n猫\n##es\n"));
  std::filesystem::copy_file(spiece, in("tokenizer_2/spiece.model"));
  WriteTinyBertWeights(folder, 3);
  WriteWeights(in("text_encoder_2/model.safetensors"), BuildT5Encoder(OrDie(ReadT5Shape(in("text_encoder_2"))), 1, 2),
               4);
}

}  // namespace angel_ptm
