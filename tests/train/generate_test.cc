// Sampling from and evaluating a trained model, compared with the plain logits graph.
#include "angel_ptm/train/generate.h"

#include <gtest/gtest.h>
#include <unistd.h>

#include <algorithm>
#include <array>
#include <cmath>
#include <fstream>
#include <limits>
#include <numbers>
#include <numeric>
#include <vector>

#include "angel_ptm/checkpoint/checkpoint.h"
#include "angel_ptm/data/dataset.h"
#include "angel_ptm/data/loader.h"
#include "angel_ptm/train/task.h"
#include "angel_ptm/train/train_state.h"
#include "comm/local.h"
#include "nlohmann/json.hpp"
#include "tests/laws/trainer_run.h"
#include "tests/support/temporary_folder.h"
#include "tests/support/tiny_text.h"
#include "tests/train/logits_model.h"

namespace angel_ptm {
namespace {

class TrainedModelTest : public testing::TestWithParam<bool> {
 protected:
  // Trains the parameter's kind of model on two ranks, once for all tests.
  static const TrainConfig& Config(bool moe) {
    static const TemporaryFolder folders[2];
    static std::array<TrainConfig, 2> configs;
    TrainConfig& config = configs[moe];
    if (config.has_model()) return config;
    const std::string& folder = folders[moe].path();
    PrepareTinyText(folder);
    config = TrainerConfig(moe, folder, moe ? "moe" : "dense", {"steps=12", "evaluation.sequences=5"});
    const absl::Status status = RunTrainer({.configs = {config}, .world_size = 2}).status();
    EXPECT_TRUE(status.ok()) << status;
    return config;
  }
  static std::string Checkpoint(const TrainConfig& config) {
    return FindLatestCheckpoint(CheckpointDirectory(config)).value().path;
  }
};

// Prompts of different lengths in one batch: each text must follow, token by token, from the logits of its whole row.
TEST_P(TrainedModelTest, GreedyTextFollowsTheLogits) {
  const std::string checkpoint = Checkpoint(Config(GetParam()));
  const auto tokenizer = Tokenizer::LoadFolder(checkpoint).value();
  const GenerateOptions options{.prompts = {"pages move between", "ranks", "they need in order of use then."},
                                .tokens_max = 16,
                                .temperature = 0};
  const auto texts = Generate(checkpoint, options);
  ASSERT_TRUE(texts.ok()) << texts.status();
  for (size_t r = 0; r < texts->size(); ++r) {
    std::vector<int32_t> row = tokenizer->Encode(options.prompts[r]);
    const size_t prompt = row.size();
    row.insert(row.end(), (*texts)[r].tokens.begin(), (*texts)[r].tokens.end());
    ASSERT_GT(row.size(), prompt);
    LogitsModel model(checkpoint, static_cast<int64_t>(row.size()));
    std::vector<int32_t> positions(row.size());
    std::iota(positions.begin(), positions.end(), 0);
    const std::vector<float> logits = model.Logits(row, positions, std::vector<int32_t>(row.size(), 0));
    for (size_t i = prompt; i < row.size(); ++i) {
      const auto begin = logits.begin() + static_cast<int64_t>(i - 1) * model.vocabulary();
      EXPECT_EQ(row[i], std::max_element(begin, begin + model.vocabulary()) - begin) << "prompt " << r << " at " << i;
    }
    EXPECT_EQ((*texts)[r].text, tokenizer->Decode((*texts)[r].tokens));
  }
}

TEST_P(TrainedModelTest, TheSeedDecidesWhatIsSampled) {
  const std::string checkpoint = Checkpoint(Config(GetParam()));
  GenerateOptions options{.prompts = {"pages", "pages"}, .tokens_max = 20, .temperature = 1.5, .top_k = 0};
  const auto first = Generate(checkpoint, options), again = Generate(checkpoint, options);
  options.seed = 2;
  const auto other = Generate(checkpoint, options);
  ASSERT_TRUE(first.ok() && again.ok() && other.ok());
  EXPECT_EQ((*first)[0].tokens, (*again)[0].tokens);
  EXPECT_NE((*first)[0].tokens, (*other)[0].tokens);
  EXPECT_NE((*first)[0].tokens, (*first)[1].tokens);  // rows draw their own numbers
}

// Sampling keeps the likeliest tokens whose probabilities sum to p: at least one, and all for p = 1.
TEST_P(TrainedModelTest, TopPLeavesTheLeastLikelyOut) {
  const std::string checkpoint = Checkpoint(Config(GetParam()));
  const auto tokens = [&](double temperature, double top_p) {
    const auto texts = Generate(
        checkpoint, {.prompts = {"pages"}, .tokens_max = 20, .temperature = temperature, .top_k = 0, .top_p = top_p});
    return texts.ok() ? (*texts)[0].tokens : std::vector<int32_t>();
  };
  const std::vector<int32_t> likeliest = tokens(0, 1), all = tokens(3, 1);
  ASSERT_FALSE(likeliest.empty());
  EXPECT_EQ(tokens(3, 1e-9), likeliest);
  EXPECT_NE(tokens(3, 0.5), all);
  EXPECT_NE(tokens(3, 0.5), likeliest);
}

// Compares the validation numbers of the last metrics line with sums over the logits in double precision.
TEST_P(TrainedModelTest, ValidationIsTheMeanOverTheHeldOutTokens) {
  const TrainConfig& config = Config(GetParam());
  const int64_t length = config.data().sequence_length();
  const TextDataset dataset = OpenTextDataset(config.data().directory(), length).value();
  const Loader loader =
      Loader::Create(dataset.validation.get(), {.evaluation_samples = config.evaluation().sequences()}).value();
  LogitsModel model(Checkpoint(config), length);
  double nats = 0, targets = 0, bytes = 0;
  std::vector<int32_t> tokens(length), target(length), positions(length), starts(length);
  for (int64_t sample = 0; sample < loader.sample_count(); ++sample) {
    ASSERT_TRUE(loader.FillSample(sample, {tokens, target, positions, starts}).ok());
    const std::vector<float> logits = model.Logits(tokens, positions, starts);
    for (int64_t i = 0; i < length; ++i) {
      if (target[i] < 0) continue;
      const float* row = logits.data() + i * model.vocabulary();
      const double largest = *std::max_element(row, row + model.vocabulary());
      double sum = 0;
      for (int64_t v = 0; v < model.vocabulary(); ++v) sum += std::exp(row[v] - largest);
      nats += largest + std::log(sum) - row[target[i]];
      targets += 1;
      bytes += static_cast<double>(dataset.tokenizer->TokenBytes(target[i]).size());
    }
  }
  std::ifstream file(config.output().directory() + "/metrics.jsonl");
  std::string line, last;
  while (std::getline(file, line)) last = line;
  const auto metrics = nlohmann::json::parse(last);
  ASSERT_GT(targets, 100);
  EXPECT_NEAR(metrics["validation_loss"].get<double>(), nats / targets, 1e-5 * nats / targets);
  const double bits_per_byte = nats / std::numbers::ln2 / bytes;
  EXPECT_NEAR(metrics["validation_bits_per_byte"].get<double>(), bits_per_byte, 1e-5 * bits_per_byte);
}

TEST_P(TrainedModelTest, MoreThanTheModelsPositionsIsRefused) {
  const auto texts = Generate(Checkpoint(Config(GetParam())), {.prompts = {"pages"}, .tokens_max = 64});
  EXPECT_NE(texts.status().message().find("wanted at most the model's max_position_embeddings = 64"), std::string::npos)
      << texts.status();
}

// Rows that only pad the table to a size have weights and logits, but no tokens.
TEST(GenerateTest, OnlyTokensOfTheTokenizerAreSampled) {
  const TemporaryFolder folder;
  PrepareTinyText(folder.path());
  const TrainConfig config =
      TrainerConfig(/*moe=*/false, folder.path(), "padded", {"steps=2", "model.hunyuan_lm.vocab_size=1024"});
  const absl::Status trained = RunTrainer({.configs = {config}}).status();
  ASSERT_TRUE(trained.ok()) << trained;
  const std::string checkpoint = FindLatestCheckpoint(CheckpointDirectory(config)).value().path;
  const auto texts =
      Generate(checkpoint, {.prompts = {"pages", "ranks"}, .tokens_max = 40, .temperature = 2, .top_k = 0});
  ASSERT_TRUE(texts.ok()) << texts.status();
  for (const GeneratedText& text : *texts) {
    for (int32_t token : text.tokens) EXPECT_LT(token, kTinyVocabulary);
  }
}

// NaN is neither above nor below another logit, so what would be sampled is any token.
TEST_P(TrainedModelTest, LogitsThatAreNotFiniteAreRefused) {
  const TemporaryFolder folder;
  const TrainConfig config = Config(GetParam());
  const auto trained = CheckpointReader::Open(Checkpoint(config));
  ASSERT_TRUE(trained.ok()) << trained.status();
  CheckpointOptions diverged{.directory = folder.path(), .model_config = trained->manifest().model_config};
  for (const char* name : {"tokenizer.json", "tokenizer_config.json"}) {
    diverged.files.push_back({name, trained->ReadCopiedFile(name).value()});
  }
  const Graph graph = MakeTask(config, kTinyVocabulary)->BuildEvaluation(kParameterState);
  std::vector<StateSlice> slices;
  for (UnitId unit = 0; unit < static_cast<UnitId>(graph.units().size()); ++unit) {
    slices.push_back({.unit = unit, .read = [](int64_t, std::span<float> out) {
                        std::fill(out.begin(), out.end(), std::numeric_limits<float>::quiet_NaN());
                        return absl::OkStatus();
                      }});
  }
  LocalWorld world(1);
  const auto saved = WriteCheckpoint(diverged, graph, slices, {.step = 12, .json = trained->manifest().trainer_state},
                                     *world.Create(0));
  ASSERT_TRUE(saved.ok()) << saved.status();
  for (const double temperature : {0.0, 1.0}) {
    const auto texts = Generate(saved->path, {.prompts = {"pages"}, .tokens_max = 4, .temperature = temperature});
    EXPECT_NE(texts.status().message().find("prompt 1, token 1: wanted finite logits, got NaN or infinity"),
              std::string::npos)
        << texts.status();
  }
}

TEST(GenerateTest, EmptyPromptsAreRefused) {
  EXPECT_EQ(Generate("nowhere", {}).status().message(), "--prompt is missing");
  EXPECT_EQ(Generate("nowhere", {.prompts = {""}}).status().message(),
            "--prompt: wanted at least one character, <|endoftext|> for a new text, got \"\"");
}

INSTANTIATE_TEST_SUITE_P(Models, TrainedModelTest, testing::Bool(),
                         [](const auto& model) { return model.param ? "Moe" : "Dense"; });

}  // namespace
}  // namespace angel_ptm
