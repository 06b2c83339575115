#include "angel_ptm/config/override.h"

#include <gmock/gmock.h>
#include <google/protobuf/descriptor.h>
#include <google/protobuf/message.h>
#include <google/protobuf/text_format.h>
#include <gtest/gtest.h>

#include "absl/strings/str_cat.h"
#include "tests/config/example_config.h"

namespace angel_ptm {
namespace {

using testing::ElementsAre;
using testing::HasSubstr;

std::string ErrorOf(const std::string& override) {
  const auto config = ExampleWith({override});
  return config.ok() ? "OK" : std::string(config.status().message());
}

TEST(Override, EachTypeOfValue) {
  const TrainConfig config = ExampleConfig({"optimizer.adamw.learning_rate=3e-4", "steps=12", "sharding.zero_stage=1",
                                            "seed=18446744073709551615", "optimizer.schedule.kind=LINEAR",
                                            "model.hunyuan_lm.tie_word_embeddings=true", "output.directory=runs/a=b"});
  EXPECT_EQ(config.optimizer().adamw().learning_rate(), 3e-4);
  EXPECT_EQ(config.steps(), 12);
  EXPECT_EQ(config.sharding().zero_stage(), 1);
  EXPECT_EQ(config.seed(), 18446744073709551615u);
  EXPECT_EQ(config.optimizer().schedule().kind(), ScheduleConfig::LINEAR);
  EXPECT_TRUE(config.model().hunyuan_lm().tie_word_embeddings());
  EXPECT_EQ(config.output().directory(), "runs/a=b");
}

TEST(Override, BytesMayHaveAUnit) {
  const TrainConfig config =
      ExampleConfig({"memory.device_bytes=1.5GiB", "memory.nvme.bytes=80GB", "memory.host_bytes=7"});
  EXPECT_EQ(config.memory().device_bytes(), int64_t{1536} << 20);
  EXPECT_EQ(config.memory().nvme().bytes(), 80000000000);
  EXPECT_EQ(config.memory().host_bytes(), 7);
  EXPECT_EQ(ErrorOf("memory.device_bytes=2G"),
            "--set memory.device_bytes=2G: wanted bytes as an integer or with a unit (512MiB, 1.5GiB, 80GB), got '2G'");
  EXPECT_THAT(ErrorOf("steps=1GiB"), HasSubstr("wanted an integer, got '1GiB'"));
}

TEST(Override, LaterOnesWinAndSpacesAndQuotesAreStripped) {
  EXPECT_EQ(ExampleConfig({"steps=1", " steps = 2 "}).steps(), 2);
  EXPECT_EQ(ExampleConfig({"output.directory=\"two words \""}).output().directory(), "two words ");
  EXPECT_EQ(ExampleConfig({"output.directory="}).output().directory(), "");
}

TEST(Override, ChoosesAModelFamily) {
  const auto config = ParseTrainConfig("", "empty", {"model.hunyuan_lm.num_experts=8"});
  ASSERT_TRUE(config.ok()) << config.status();
  EXPECT_TRUE(config->model().has_hunyuan_lm());
  EXPECT_EQ(config->model().hunyuan_lm().num_experts(), 8);
  EXPECT_EQ(config->model().hunyuan_lm().rope_theta(), 10000);
}

// Choosing another family would discard what the file says of its own.
TEST(Override, DoesNotChooseAnotherModelFamily) {
  EXPECT_EQ(ErrorOf("model.dit.height=32"),
            "--set model.dit.height=32: the config has model.hunyuan_lm, wanted a field of it, got one of model.dit");
}

TEST(Override, RepeatedFieldsAppendOrReplace) {
  EXPECT_THAT(ExampleConfig({"data.prepare.input=b,c.txt"}).data().prepare().input(), ElementsAre("a.txt", "b,c.txt"));
  EXPECT_THAT(ExampleConfig({"data.prepare.input=[x, \"y z\"]"}).data().prepare().input(), ElementsAre("x", "y z"));
  // An escaped backslash does not escape the quote behind it.
  EXPECT_THAT(ExampleConfig({"data.prepare.input=[\"y\\\\\", \"z, \\\"\"]"}).data().prepare().input(),
              ElementsAre("y\\", "z, \""));
  EXPECT_THAT(ExampleConfig({"data.prepare.input=[\"x, y\",\"z\", a b]"}).data().prepare().input(),
              ElementsAre("x, y", "z", "a b"));
  EXPECT_THAT(ExampleConfig({"data.prepare.input=[]", "data.prepare.input=d"}).data().prepare().input(),
              ElementsAre("d"));
}

TEST(Override, WrongNamesGetTheNearest) {
  EXPECT_EQ(ErrorOf("optimizer.adamw.learning_rte=1"),
            "--set optimizer.adamw.learning_rte=1: 'optimizer.adamw' has no field 'learning_rte'; did you mean "
            "'learning_rate'? valid names: learning_rate, beta1, beta2, epsilon, weight_decay");
  EXPECT_THAT(ErrorOf("optimiser.adamw.beta1=0"), HasSubstr("did you mean 'optimizer.adamw.beta1'?"));
  EXPECT_THAT(ErrorOf("learning_rate=1"),
              HasSubstr("the config has no field 'learning_rate'; did you mean 'optimizer.adamw.learning_rate'?"));
  EXPECT_THAT(
      ErrorOf("every_steps=1"),
      HasSubstr("did you mean 'evaluation.every_steps' or 'checkpoint.every_steps' or 'sampling.every_steps'?"));
  EXPECT_THAT(ErrorOf("model.hunyuan_lm..x=1"), HasSubstr("'model.hunyuan_lm' has no field ''"));
}

TEST(Override, WrongShapes) {
  EXPECT_EQ(ErrorOf("steps"), "--set steps: wanted path.to.field=value");
  EXPECT_EQ(ErrorOf("=3"), "--set =3: wanted path.to.field=value");
  EXPECT_EQ(ErrorOf("batch=3"),
            "--set batch=3: 'batch' is a group of fields, wanted one of them: global_batch_sequences, "
            "micro_batch_sequences");
  EXPECT_EQ(ErrorOf("steps.x=3"), "--set steps.x=3: 'steps' is a value and has no field 'x'");
}

TEST(Override, WrongValues) {
  EXPECT_EQ(ErrorOf("data.prepare.input=[x, \"y, z]"),
            "--set data.prepare.input=[x, \"y, z]: wanted a quote that ends, got '\"y, z'");
  EXPECT_EQ(ErrorOf("steps=3e4"), "--set steps=3e4: wanted an integer, got '3e4'");
  EXPECT_EQ(ErrorOf("steps="), "--set steps=: wanted an integer, got ''");
  EXPECT_THAT(ErrorOf("sharding.zero_stage=3000000000"), HasSubstr("wanted an integer of 32 bits, got '3000000000'"));
  EXPECT_THAT(ErrorOf("seed=-1"), HasSubstr("wanted an integer of at least 0, got '-1'"));
  EXPECT_THAT(ErrorOf("optimizer.adamw.learning_rate=fast"), HasSubstr("wanted a number, got 'fast'"));
  EXPECT_THAT(ErrorOf("model.hunyuan_lm.tie_word_embeddings=1"), HasSubstr("wanted true or false, got '1'"));
  EXPECT_THAT(ErrorOf("communication.transport=mpi"),
              HasSubstr("no value 'mpi'; did you mean 'MPI'? valid names: AUTO, LOCAL, MPI"));
}

TEST(Override, AllWrongOnesAreReported) {
  const auto config = ExampleWith({"steps=x", "seed=2", "stepz=1"});
  ASSERT_FALSE(config.ok());
  EXPECT_EQ(config.status().code(), absl::StatusCode::kInvalidArgument);
  EXPECT_THAT(Message(config.status()), HasSubstr("--set steps=x: wanted an integer, got 'x'\n--set stepz=1: "));
}

// Overrides every field below `source` in an empty config with its printed value.
void OverrideAll(const google::protobuf::Message& source, const std::string& prefix, TrainConfig* target) {
  const auto& reflection = *source.GetReflection();
  for (int i = 0; i < source.GetDescriptor()->field_count(); ++i) {
    const auto* field = source.GetDescriptor()->field(i);
    const std::string path = prefix + field->name();
    if (field->containing_oneof() != nullptr && !reflection.HasField(source, field)) continue;
    if (field->message_type() != nullptr) {
      OverrideAll(reflection.GetMessage(source, field), path + ".", target);
      continue;
    }
    for (int j = 0; j < (field->is_repeated() ? reflection.FieldSize(source, field) : 1); ++j) {
      std::string value;
      google::protobuf::TextFormat::PrintFieldValueToString(source, field, field->is_repeated() ? j : -1, &value);
      const absl::Status status = ApplyOverride(absl::StrCat(path, "=", value), target);
      EXPECT_TRUE(status.ok()) << status;
    }
  }
}

TEST(Override, EveryFieldCanBeOverridden) {
  const TrainConfig source = ExampleConfig({"data.prepare.input=b.txt", "optimizer.adamw.epsilon=1e-7"});
  TrainConfig target;
  OverrideAll(source, "", &target);
  EXPECT_EQ(ToText(target), ToText(source));
}

}  // namespace
}  // namespace angel_ptm
