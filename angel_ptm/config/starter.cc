#include "angel_ptm/config/starter.h"

#include <google/protobuf/descriptor.h>
#include <google/protobuf/text_format.h>

#include <algorithm>
#include <utility>
#include <vector>

#include "absl/strings/escaping.h"
#include "absl/strings/str_cat.h"
#include "absl/strings/str_split.h"
#include "angel_ptm/base/check.h"
#include "angel_ptm/config/describe.h"

namespace angel_ptm {
namespace {

constexpr size_t kLineWidth = 110;

using Values = std::vector<std::pair<std::string, std::string>>;

std::string Quoted(const std::string& text) { return absl::StrCat("\"", absl::CEscape(text), "\""); }

Values ModelValues(const Starter& starter) {
  const std::string lm = "model.hunyuan_lm.";
  if (starter.from.empty()) {
    return {{lm + "hidden_size", "256"},          {lm + "intermediate_size", "768"},
            {lm + "num_hidden_layers", "4"},      {lm + "num_attention_heads", "4"},
            {lm + "num_key_value_heads", "2"},    {lm + "num_experts", "0"},
            {lm + "tie_word_embeddings", "true"}, {lm + "max_position_embeddings", "1024"}};
  }
  Values values;
  const google::protobuf::Descriptor& descriptor = *HunyuanLmConfig::descriptor();
  for (int i = 0; i < descriptor.field_count(); ++i) {
    const google::protobuf::FieldDescriptor& field = *descriptor.field(i);
    if (!starter.model.GetReflection()->HasField(starter.model, &field)) continue;
    std::string text;
    google::protobuf::TextFormat::PrintFieldValueToString(starter.model, &field, -1, &text);
    values.push_back({lm + field.name(), text});
  }
  return values;
}

// In the order of the .proto, so that the fields of a message stand together.
Values AllValues(const Starter& starter) {
  const bool own = starter.from.empty();
  const std::string run = "runs/" + starter.name;
  Values values = ModelValues(starter);
  values.insert(values.end(),
                {{"data.directory", Quoted(run + "/data")},
                 {"data.sequence_length",
                  own ? "256" : absl::StrCat(std::min<int64_t>(512, starter.model.max_position_embeddings()))},
                 {"data.prepare.input", Quoted(starter.input)}});
  if (own) values.push_back({"data.prepare.vocabulary_size", "4096"});
  values.push_back({"data.prepare.validation_fraction", "0.02"});
  if (!own) values.push_back({"data.prepare.tokenizer", Quoted(starter.from)});
  values.insert(values.end(), {{"optimizer.adamw.learning_rate", own ? "1e-3" : "1e-5"},
                               {"optimizer.adamw.weight_decay", own ? "0.1" : "0"},
                               {"optimizer.gradient_clip_norm", "1"},
                               {"optimizer.schedule.kind", "COSINE"},
                               {"optimizer.schedule.warmup_steps", "20"},
                               {"batch.global_batch_sequences", "16"},
                               {"batch.micro_batch_sequences", own ? "4" : "1"},
                               {"steps", "500"},
                               {"seed", "1"},
                               {"evaluation.every_steps", "50"},
                               {"evaluation.sequences", "32"},
                               {"sharding.zero_stage", "3"},
                               {"memory.device_bytes", "0"},
                               {"numerics.threads_per_rank", "0"},
                               {"communication.local_ranks", "1"},
                               {"checkpoint.every_steps", "100"},
                               {"checkpoint.keep_last", "2"},
                               {"output.directory", Quoted(run + "/train")},
                               {"output.log_every_steps", "10"}});
  return values;
}

void AppendComment(const std::string& text, const std::string& indent, std::string* out) {
  std::string line = indent + "#";
  for (const absl::string_view word : absl::StrSplit(text, ' ', absl::SkipWhitespace())) {
    if (line.size() + 1 + word.size() > kLineWidth) {
      absl::StrAppend(out, line, "\n");
      line = indent + "#";
    }
    absl::StrAppend(&line, " ", word);
  }
  absl::StrAppend(out, line, "\n");
}

// Closes the messages in `open` that do not contain `path` and opens those that do; the last name in `path` is the
// field.
void EnterMessages(const std::vector<std::string>& path, std::vector<std::string>* open, std::string* out) {
  size_t common = 0;
  while (common < open->size() && common + 1 < path.size() && (*open)[common] == path[common]) ++common;
  while (open->size() > common) {
    open->pop_back();
    absl::StrAppend(out, std::string(2 * open->size(), ' '), "}\n");
  }
  while (open->size() + 1 < path.size()) {
    absl::StrAppend(out, std::string(2 * open->size(), ' '), path[open->size()], " {\n");
    open->push_back(path[open->size()]);
  }
}

}  // namespace

std::string StarterConfig(const Starter& starter) {
  const std::vector<FieldDescription> fields = ListFields();
  std::string text;
  AppendComment(
      absl::StrCat(starter.from.empty() ? "A small language model" : "A released language model, trained further",
                   "; written by angel-ptm init ", absl::CEscape(starter.name),
                   ". Every field has a default except those marked \"must be set\"; angel-ptm help fields lists "
                   "every field."),
      "", &text);
  std::vector<std::string> open;
  for (const auto& [path, value] : AllValues(starter)) {
    const auto field = std::find_if(fields.begin(), fields.end(),
                                    [&path = path](const FieldDescription& f) { return f.path == path; });
    APTM_CHECK(field != fields.end(), path, " is no field");
    const std::vector<std::string> names = absl::StrSplit(path, '.');
    EnterMessages(names, &open, &text);
    const std::string indent(2 * open.size(), ' ');
    AppendComment(absl::StrCat(field->meaning, field->unit == "none" ? "" : absl::StrCat(" Unit: ", field->unit, "."),
                               " Default: ", field->default_value, ". Advice: ", field->advice),
                  indent, &text);
    absl::StrAppend(&text, indent, names.back(), ": ", value, "\n");
  }
  EnterMessages({""}, &open, &text);
  return text;
}

}  // namespace angel_ptm
