#include "angel_ptm/train/tasks/dit_conditions.h"

#include <algorithm>
#include <utility>

#include "absl/strings/numbers.h"
#include "absl/strings/str_cat.h"
#include "angel_ptm/base/check.h"
#include "angel_ptm/data/utf8.h"
#include "angel_ptm/model/patches.h"

namespace angel_ptm {
namespace {

class PromptReader {
 public:
  PromptReader(const DitShape& shape, const Tokenizer& tokenizer, const std::vector<std::string>& classes,
               std::vector<std::string>& notes)
      : shape_(shape), tokenizer_(tokenizer), classes_(classes), notes_(notes) {}

  absl::StatusOr<Condition> Read(const std::string& prompt, const std::string& field) const {
    if (!shape_.reads_captions() && !shape_.reads_classes()) return Condition();
    return shape_.reads_captions() ? ReadCaption(prompt, field) : ReadClass(prompt, field);
  }

 private:
  absl::StatusOr<Condition> ReadCaption(const std::string& prompt, const std::string& field) const;
  absl::StatusOr<Condition> ReadClass(const std::string& prompt, const std::string& field) const;

  const DitShape& shape_;
  const Tokenizer& tokenizer_;
  const std::vector<std::string>& classes_;
  std::vector<std::string>& notes_;
};

absl::StatusOr<Condition> PromptReader::ReadCaption(const std::string& prompt, const std::string& field) const {
  if (ValidUtf8Prefix(prompt) != prompt.size()) {
    return absl::InvalidArgumentError(absl::StrCat(field, ": wanted UTF-8, got another encoding behind \"",
                                                   prompt.substr(0, ValidUtf8Prefix(prompt)), "\""));
  }
  Condition tokens = tokenizer_.Encode(prompt);
  if (tokens.empty()) return Condition{static_cast<int32_t>(shape_.text_vocab_size)};
  const auto most = static_cast<size_t>(shape_.text_length);
  if (tokens.size() > most) {
    const std::vector<int32_t> cut(tokens.begin() + shape_.text_length, tokens.end());
    notes_.push_back(
        absl::StrCat("the model reads ", most, " tokens of a prompt, dropped \"", tokenizer_.Decode(cut), "\""));
    tokens.resize(most);
  }
  return tokens;
}

absl::StatusOr<Condition> PromptReader::ReadClass(const std::string& prompt, const std::string& field) const {
  if (prompt.empty()) return Condition{static_cast<int32_t>(shape_.class_count)};
  const auto named = std::find(classes_.begin(), classes_.end(), prompt);
  if (named != classes_.end()) return Condition{static_cast<int32_t>(named - classes_.begin())};
  int32_t number = 0;
  if (absl::SimpleAtoi(prompt, &number) && number >= 0 && number < shape_.class_count) return Condition{number};
  return absl::InvalidArgumentError(absl::StrCat(field, ": wanted one of the ", shape_.class_count,
                                                 " classes by name or number, got \"", prompt, "\""));
}

}  // namespace

absl::StatusOr<DitPrompts> ReadDitPrompts(const DitShape& shape, const Tokenizer& tokenizer,
                                          const std::vector<std::string>& classes,
                                          const std::vector<std::string>& prompts,
                                          const std::vector<NegativePrompt>& negatives, const std::string& field) {
  APTM_CHECK(negatives.size() == prompts.size(), negatives.size(), " for ", prompts.size());
  const bool conditioned = shape.reads_captions() || shape.reads_classes();
  if (conditioned && prompts.empty()) return absl::InvalidArgumentError(absl::StrCat(field, " is missing"));
  if (!conditioned && !prompts.empty()) {
    return absl::InvalidArgumentError(absl::StrCat(
        field, ": the model was trained without captions or classes, wanted none, got \"", prompts[0], "\""));
  }
  DitPrompts read;
  const PromptReader reader(shape, tokenizer, classes, read.notes);
  for (size_t i = 0; i < prompts.size(); ++i) {
    if (prompts[i].empty()) read.notes.push_back(absl::StrCat("prompt ", i + 1, " is empty: no condition"));
    ASSIGN_OR_RETURN(read.conditions.emplace_back(), reader.Read(prompts[i], field));
    ASSIGN_OR_RETURN(read.negatives.emplace_back(), reader.Read(negatives[i].text, negatives[i].field));
  }
  if (!conditioned) read.conditions = read.negatives = {{}};
  return read;
}

DitConditions::DitConditions(const DitShape& shape, DitPrompts prompts, int64_t samples_per_prompt, int64_t rows)
    : shape_(shape), prompts_(std::move(prompts)), samples_per_prompt_(samples_per_prompt) {
  time_features_.resize(static_cast<size_t>(rows * kTimeFeatures));
  cos_sin_.resize(static_cast<size_t>(shape.tokens() * shape.head_dim()));
  RopeTable2d(shape.grid_height(), shape.grid_width(), shape.head_dim(), shape.rope_theta, cos_sin_);
  tokens_.resize(static_cast<size_t>(rows * shape.text_length), kPadId);
  for (std::vector<int32_t>* buffer : {&token_counts_, &class_ids_}) buffer->resize(static_cast<size_t>(rows));
}

void DitConditions::Set(int64_t row, const Condition& condition) {
  if (shape_.reads_captions()) {
    const auto tokens = tokens_.begin() + row * shape_.text_length;
    std::fill(std::copy(condition.begin(), condition.end(), tokens), tokens + shape_.text_length, kPadId);
  }
  token_counts_[row] = static_cast<int32_t>(condition.size());
  class_ids_[row] = condition.empty() ? 0 : condition[0];
}

absl::Status DitConditions::SetRow(int64_t row, int64_t sample) {
  Set(row, prompts_.conditions[static_cast<size_t>(sample / samples_per_prompt_)]);
  return absl::OkStatus();
}

absl::Status DitConditions::SetAway(int64_t row, int64_t sample) {
  Set(row, prompts_.negatives[static_cast<size_t>(sample / samples_per_prompt_)]);
  return absl::OkStatus();
}

void DitConditions::Write(double time, const Graph& graph, Executor& executor) {
  for (size_t at = 0; at < time_features_.size(); at += kTimeFeatures) {
    TimeFeatures(time, std::span(time_features_).subspan(at, kTimeFeatures));
  }
  executor.WriteInput(graph.FindTensor("time_features"), time_features_.data());
  executor.WriteInput(graph.FindTensor("cos_sin"), cos_sin_.data());
  if (shape_.reads_captions()) {
    executor.WriteInput(graph.FindTensor("tokens"), tokens_.data());
    executor.WriteInput(graph.FindTensor("token_counts"), token_counts_.data());
  } else if (shape_.reads_classes()) {
    executor.WriteInput(graph.FindTensor("class_ids"), class_ids_.data());
  }
}

}  // namespace angel_ptm
