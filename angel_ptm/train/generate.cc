#include "angel_ptm/train/generate.h"

#include <algorithm>
#include <cmath>
#include <memory>
#include <numeric>
#include <utility>

#include "absl/strings/str_cat.h"
#include "angel_ptm/base/check.h"
#include "angel_ptm/base/random.h"
#include "angel_ptm/checkpoint/checkpoint.h"
#include "angel_ptm/config/validate.h"
#include "angel_ptm/data/tokenizer.h"
#include "angel_ptm/exec/executor.h"
#include "angel_ptm/train/task.h"
#include "angel_ptm/train/train_state.h"

namespace angel_ptm {
namespace {

// Draws a token from softmax(logits / temperature), restricted to the top k and, of those, to the likeliest that reach
// probability top p in sum (Holtzman et al. 2020, section 3.1). Ties: lower id first.
int32_t SampleToken(std::span<const float> logits, const GenerateOptions& options, size_t row, int64_t position,
                    std::vector<int32_t>& order) {
  order.resize(logits.size());
  std::iota(order.begin(), order.end(), 0);
  const int64_t k = options.temperature == 0 ? 1
                    : options.top_k == 0     ? static_cast<int64_t>(logits.size())
                                             : std::min<int64_t>(options.top_k, static_cast<int64_t>(logits.size()));
  std::partial_sort(order.begin(), order.begin() + k, order.end(),
                    [&](int32_t a, int32_t b) { return logits[a] != logits[b] ? logits[a] > logits[b] : a < b; });
  if (k == 1) return order[0];
  std::vector<double> cumulative;
  double total = 0;
  for (int64_t i = 0; i < k; ++i) {
    total += std::exp((logits[order[i]] - logits[order[0]]) / options.temperature);
    cumulative.push_back(total);
  }
  const auto enough = std::lower_bound(cumulative.begin(), cumulative.end(), options.top_p * total);
  if (enough != cumulative.end()) cumulative.erase(enough + 1, cumulative.end());
  // The text of a prompt with its own seed does not depend on the prompt's place.
  const bool own = !options.own_seeds.empty() && options.own_seeds[row].has_value();
  const auto words = RandomWords(own ? *options.own_seeds[row] : options.seed, RandomPurpose::kSampling,
                                 own ? 0 : static_cast<uint32_t>(row), static_cast<uint64_t>(position));
  const double at = ToUniform(words[0]) * cumulative.back();
  const auto it = std::upper_bound(cumulative.begin(), cumulative.end(), at);
  return order[std::min<size_t>(static_cast<size_t>(it - cumulative.begin()), cumulative.size() - 1)];
}

class Generator {
 public:
  explicit Generator(const GenerateOptions& options) : options_(options) {}

  absl::Status Load(const std::string& checkpoint_path);
  absl::StatusOr<std::vector<GeneratedText>> Run();

 private:
  const GenerateOptions& options_;
  std::unique_ptr<Tokenizer> tokenizer_;
  std::vector<std::vector<int32_t>> prompts_;
  int64_t length_ = 0;  // capacity of the caches in positions
  std::unique_ptr<Inference> inference_;
};

absl::Status Generator::Load(const std::string& checkpoint_path) {
  ASSIGN_OR_RETURN(CheckpointReader checkpoint, CheckpointReader::Open(checkpoint_path));
  std::string note;
  ASSIGN_OR_RETURN(TrainConfig config, StoredConfig(checkpoint, &note));
  config.mutable_sharding()->set_expert_degree(1);  // one rank has all experts
  if (!note.empty() && options_.notes != nullptr) std::fprintf(options_.notes, "note: %s\n", note.c_str());
  ASSIGN_OR_RETURN(const std::string json, checkpoint.ReadCopiedFile("tokenizer.json"));
  ASSIGN_OR_RETURN(const std::string config_json, checkpoint.ReadCopiedFile("tokenizer_config.json"));
  ASSIGN_OR_RETURN(tokenizer_, Tokenizer::FromJson(json, checkpoint_path + "/tokenizer.json", config_json));
  // No token of another document, such as end-of-text, precedes the prompt: in training the first token of a document
  // attends only to itself.
  for (const std::string& prompt : options_.prompts) {
    std::vector<int32_t> ids(tokenizer_->begin_ids().begin(), tokenizer_->begin_ids().end());
    const std::vector<int32_t> own = tokenizer_->Encode(prompt);
    ids.insert(ids.end(), own.begin(), own.end());
    prompts_.push_back(std::move(ids));
    length_ = std::max<int64_t>(length_, static_cast<int64_t>(prompts_.back().size()) + options_.tokens_max);
  }
  const std::unique_ptr<Task> task =
      MakeTask(config, tokenizer_->vocabulary_size(), {ParameterState(ComputeType(config))});
  ASSIGN_OR_RETURN(Graph graph, task->BuildDecoding(static_cast<int64_t>(prompts_.size()), length_));
  ASSIGN_OR_RETURN(inference_, Inference::Create(std::move(graph), checkpoint, options_.inference,
                                                 absl::StrCat("weights and key-value caches of ", prompts_.size(),
                                                              " prompts of up to ", length_, " tokens")));
  return absl::OkStatus();
}

absl::StatusOr<std::vector<GeneratedText>> Generator::Run() {
  const size_t rows = prompts_.size();
  const Graph& graph = inference_->graph();
  Executor& executor = inference_->executor();
  const TensorId tokens = graph.FindTensor("tokens"), positions = graph.FindTensor("positions");
  const TensorId position = graph.FindTensor("position"), logits_c = graph.FindTensor("logits.c");
  std::vector<GeneratedText> texts(rows);
  std::vector<bool> ended(rows, false);
  std::vector<int32_t> input(rows), where(rows), order;
  const int64_t columns = graph.tensor(logits_c).shape.elements() / static_cast<int64_t>(rows);
  std::vector<float> logits(rows * static_cast<size_t>(columns));
  for (size_t r = 0; r < rows; ++r) input[r] = prompts_[r][0];
  for (int32_t at = 0; at + 1 < length_ && !std::all_of(ended.begin(), ended.end(), [](bool e) { return e; }); ++at) {
    TellProgress(options_.progress, "tokens of each prompt and its text", at, length_ - 1);
    std::fill(where.begin(), where.end(), at);
    executor.WriteInput(tokens, input.data());
    executor.WriteInput(positions, where.data());
    executor.WriteInput(position, &at);
    RETURN_IF_ERROR(executor.RunMicroStep(at));
    executor.ReadOutput(logits_c, logits.data());
    for (size_t r = 0; r < rows; ++r) {
      if (at + 1 < static_cast<int32_t>(prompts_[r].size())) {
        input[r] = prompts_[r][at + 1];
        continue;
      }
      // The table may have more rows than the tokenizer has tokens. The extra rows mean nothing.
      const std::span<const float> row(logits.data() + static_cast<int64_t>(r) * columns,
                                       static_cast<size_t>(std::min<int64_t>(columns, tokenizer_->vocabulary_size())));
      if (!std::all_of(row.begin(), row.end(), [](float logit) { return std::isfinite(logit); })) {
        return absl::FailedPreconditionError(absl::StrCat(
            "prompt ", r + 1, ", token ", texts[r].tokens.size() + 1, ": wanted finite logits, got NaN or ",
            "infinity: the checkpoint's training diverged, or its weights overflow"));
      }
      input[r] = SampleToken(row, options_, r, at, order);
      ended[r] = ended[r] || input[r] == tokenizer_->end_of_text_id() ||
                 static_cast<int64_t>(texts[r].tokens.size()) == options_.tokens_max;
      if (!ended[r]) texts[r].tokens.push_back(input[r]);
    }
  }
  for (GeneratedText& text : texts) text.text = tokenizer_->Decode(text.tokens);
  return texts;
}

}  // namespace

absl::StatusOr<std::vector<GeneratedText>> Generate(const std::string& checkpoint_path,
                                                    const GenerateOptions& options) {
  if (options.prompts.empty()) return absl::InvalidArgumentError("--prompt is missing");
  APTM_CHECK(options.own_seeds.empty() || options.own_seeds.size() == options.prompts.size(), options.own_seeds.size());
  for (const std::string& prompt : options.prompts) {
    if (!prompt.empty()) continue;
    return absl::InvalidArgumentError(absl::StrCat("--prompt: wanted at least one character, ",
                                                   std::string(kEndOfTextToken), " for a new text, got \"\""));
  }
  Generator generator(options);
  RETURN_IF_ERROR(generator.Load(checkpoint_path));
  return generator.Run();
}

}  // namespace angel_ptm
