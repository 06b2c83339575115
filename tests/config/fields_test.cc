// The configuration's fields: how many there are, and that their comments are true.
#include <gmock/gmock.h>
#include <google/protobuf/descriptor.h>
#include <gtest/gtest.h>

#include <cstdlib>
#include <string>
#include <vector>

#include "absl/strings/numbers.h"
#include "absl/strings/str_split.h"
#include "angel_ptm/config/describe.h"
#include "angel_ptm/config/train_config.pb.h"

namespace angel_ptm {
namespace {

using google::protobuf::Descriptor;
using google::protobuf::FieldDescriptor;

void AppendLeaves(const Descriptor& message, const std::string& prefix, std::vector<std::string>* leaves) {
  for (int i = 0; i < message.field_count(); ++i) {
    const FieldDescriptor& field = *message.field(i);
    if (field.message_type() != nullptr) {
      AppendLeaves(*field.message_type(), prefix + field.name() + ".", leaves);
    } else {
      leaves->push_back(prefix + field.name());
    }
  }
}

const FieldDescriptor* FindField(const std::string& path) {
  const Descriptor* message = TrainConfig::descriptor();
  const FieldDescriptor* field = nullptr;
  for (const std::string& name : std::vector<std::string>(absl::StrSplit(path, '.'))) {
    field = message->FindFieldByName(name);
    if (field == nullptr) return nullptr;
    message = field->message_type();
  }
  return field;
}

// Whether `documented` (the comment's default up to the first space) is the declared default.
bool IsDefault(const FieldDescriptor& field, const std::string& documented) {
  if (field.is_repeated()) return documented == "empty";
  double number = 0;
  const bool is_number = absl::SimpleAtod(documented, &number);
  switch (field.cpp_type()) {
    case FieldDescriptor::CPPTYPE_INT32:
      return is_number && number == field.default_value_int32();
    case FieldDescriptor::CPPTYPE_INT64:
      return is_number && number == static_cast<double>(field.default_value_int64());
    case FieldDescriptor::CPPTYPE_UINT64:
      return is_number && number == static_cast<double>(field.default_value_uint64());
    case FieldDescriptor::CPPTYPE_DOUBLE:
      return is_number && number == field.default_value_double();
    case FieldDescriptor::CPPTYPE_BOOL:
      return documented == (field.default_value_bool() ? "true" : "false");
    case FieldDescriptor::CPPTYPE_ENUM:
      return documented == field.default_value_enum()->name();
    case FieldDescriptor::CPPTYPE_STRING:
      return documented == "\"" + field.default_value_string() + "\"";
    default:
      return false;
  }
}

TEST(Fields, OutsideModelAndDataAreTheDecidedOnes) {
  std::vector<std::string> leaves;
  AppendLeaves(*TrainConfig::descriptor(), "", &leaves);
  std::vector<std::string> knobs;
  for (const std::string& path : leaves) {
    if (path.rfind("model.", 0) != 0 && path.rfind("data.", 0) != 0) knobs.push_back(path);
  }
  // Each field is one more thing a person may have to understand. Add a line only with a reason; 57 is the limit.
  const std::vector<std::string> decided = {
      "optimizer.adamw.learning_rate",
      "optimizer.adamw.beta1",
      "optimizer.adamw.beta2",
      "optimizer.adamw.epsilon",
      "optimizer.adamw.weight_decay",
      "optimizer.gradient_clip_norm",
      "optimizer.schedule.kind",
      "optimizer.schedule.warmup_steps",
      "optimizer.schedule.final_learning_rate_ratio",
      "optimizer.skipped_steps_max",
      "optimizer.ema_decay",
      "optimizer.update",
      "optimizer.lock_free.max_staleness",
      "optimizer.lock_free.loss_band",
      "optimizer.lock_free.gradient_norm_band",
      "batch.global_batch_sequences",
      "batch.micro_batch_sequences",
      "steps",
      "seed",
      "evaluation.every_steps",
      "evaluation.sequences",
      "evaluation.weights",
      "sharding.zero_stage",
      "sharding.expert_degree",
      "memory.device_bytes",
      "memory.host_bytes",
      "memory.page_bytes",
      "memory.prefetch_steps",
      "memory.recomputation",
      "memory.nvme.directory",
      "memory.nvme.bytes",
      "memory.nvme.allow_buffered",
      "memory.device_reserve_bytes",
      "numerics.threads_per_rank",
      "numerics.lm_head_chunk_tokens",
      "numerics.expert_block_rows",
      "numerics.compute",
      "numerics.gradients",
      "numerics.sums",
      "communication.transport",
      "communication.local_ranks",
      "communication.timeout_seconds",
      "communication.device_transport",
      "communication.ranks_per_node",
      "checkpoint.every_steps",
      "checkpoint.keep_last",
      "output.directory",
      "output.log_every_steps",
      "output.trace_steps",
      "output.trace_first_step",
      "output.report_every_steps",
      "output.tensorboard",
      "output.mllog",
      "device",
      "sampling.every_steps",
      "sampling.prompt",
      "sampling.guidance",
  };
  EXPECT_THAT(knobs, testing::ElementsAreArray(decided));
  EXPECT_LE(knobs.size(), 57u);
}

TEST(Fields, DescriptionsCoverEveryField) {
  std::vector<std::string> leaves;
  AppendLeaves(*TrainConfig::descriptor(), "", &leaves);
  std::vector<std::string> described;
  for (const FieldDescription& field : ListFields()) described.push_back(field.path);
  EXPECT_EQ(described, leaves);
}

TEST(Fields, CommentsHaveAllPartsAndTheDeclaredDefault) {
  for (const FieldDescription& field : ListFields()) {
    SCOPED_TRACE(field.path);
    EXPECT_FALSE(field.meaning.empty());
    EXPECT_EQ(field.meaning.back(), '.');
    EXPECT_FALSE(field.unit.empty());
    EXPECT_GT(field.advice.size(), 3u);
    EXPECT_EQ(field.advice.back(), '.');
    const std::string documented = field.default_value.substr(0, field.default_value.find(' '));
    const FieldDescriptor* declared = FindField(field.path);
    ASSERT_NE(declared, nullptr);
    EXPECT_TRUE(IsDefault(*declared, documented)) << "documented default " << documented;
  }
}

TEST(Fields, TheDefaultCheckSeesAWrongDefault) {
  EXPECT_TRUE(IsDefault(*FindField("optimizer.adamw.learning_rate"), "3e-4"));
  EXPECT_FALSE(IsDefault(*FindField("optimizer.adamw.learning_rate"), "3e-3"));
  EXPECT_FALSE(IsDefault(*FindField("steps"), "many"));
  EXPECT_FALSE(IsDefault(*FindField("optimizer.schedule.kind"), "LINEAR"));
  EXPECT_FALSE(IsDefault(*FindField("model.hunyuan_lm.tie_word_embeddings"), "true"));
}

TEST(Fields, DescriptionHasPathTypeDefaultUnitAndSentence) {
  const std::string text = DescribeFields();
  EXPECT_THAT(text, testing::HasSubstr("optimizer.adamw.learning_rate  (double; default 3e-4; in parameter change per "
                                       "step)\n    Peak learning rate, reached after warm-up.\n"));
  EXPECT_THAT(text, testing::HasSubstr("optimizer.schedule.kind  (COSINE|LINEAR|CONSTANT; default COSINE)\n"));
  EXPECT_THAT(text, testing::HasSubstr("data.prepare.input  (string, repeated; default empty"));
}

}  // namespace
}  // namespace angel_ptm
