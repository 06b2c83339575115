#include "angel_ptm/config/load.h"

#include <gmock/gmock.h>
#include <google/protobuf/descriptor.h>
#include <google/protobuf/message.h>
#include <gtest/gtest.h>

#include "tests/config/example_config.h"
#include "tests/support/temporary_folder.h"

namespace angel_ptm {
namespace {

using testing::HasSubstr;
using testing::StartsWith;

std::string ErrorOf(const std::string& text) {
  const auto config = ParseTrainConfig(text, "c.textproto");
  return config.ok() ? "OK" : std::string(config.status().message());
}

bool AllSet(const google::protobuf::Message& message) {
  for (int i = 0; i < message.GetDescriptor()->field_count(); ++i) {
    const auto* field = message.GetDescriptor()->field(i);
    if (field->is_repeated()) continue;
    if (field->containing_oneof() != nullptr && !message.GetReflection()->HasField(message, field)) continue;
    if (!message.GetReflection()->HasField(message, field)) return false;
    if (field->message_type() != nullptr && !AllSet(message.GetReflection()->GetMessage(message, field))) return false;
  }
  return true;
}

TEST(Load, FillsEveryDefault) {
  const auto config = ExampleWith({});
  ASSERT_TRUE(config.ok()) << config.status();
  EXPECT_TRUE(AllSet(*config));
  EXPECT_EQ(config->model().hunyuan_lm().hidden_size(), 64);
  EXPECT_EQ(config->optimizer().adamw().beta2(), 0.95);
  EXPECT_EQ(config->memory().page_bytes(), 4 << 20);
  EXPECT_EQ(config->memory().recomputation(), MemoryConfig::AUTO);
}

TEST(Load, UnchosenModelFamilyStaysUnset) {
  const auto config = ParseTrainConfig("steps: 3", "c");
  ASSERT_TRUE(config.ok()) << config.status();
  EXPECT_TRUE(config->has_model());
  EXPECT_FALSE(config->model().has_hunyuan_lm());
  EXPECT_EQ(config->steps(), 3);
}

TEST(Load, SyntaxErrorHasLineAndColumn) {
  EXPECT_THAT(ErrorOf("steps: 3\nbatch {\n  global_batch_sequences 8\n}"), StartsWith("c.textproto:3:26: Expected"));
  EXPECT_THAT(ErrorOf("steps: ten"), StartsWith("c.textproto:1:8: "));
  EXPECT_THAT(ErrorOf("batch {\n"), StartsWith("c.textproto:2:1: "));
}

TEST(Load, UnknownFieldIsAnErrorWithTheNearestName) {
  EXPECT_EQ(ErrorOf("optimizer {\n  adamw { learning_rte: 1 }\n}"),
            "c.textproto:2:11: no field 'learning_rte' here; did you mean 'learning_rate'? valid names: learning_rate, "
            "beta1, beta2, epsilon, weight_decay");
  EXPECT_THAT(ErrorOf("\n stepz: 4"), StartsWith("c.textproto:2:2: no field 'stepz' here; did you mean 'steps'?"));
}

TEST(Load, UnknownNamesBehindTabsAndBeforeCommentsAreLocated) {
  EXPECT_THAT(ErrorOf("batch {\n\tstepz  # a comment\n  : 4\n}"), StartsWith("c.textproto:2:9: no field 'stepz'"));
  EXPECT_THAT(ErrorOf("\nstepz"), StartsWith("c.textproto:2:1: "));
}

TEST(Load, UnknownEnumValueIsAnErrorWithTheNearestName) {
  EXPECT_EQ(ErrorOf("communication { transport: MPY }"),
            "c.textproto:1:28: no value 'MPY' for transport; did you mean 'MPI'? valid names: AUTO, LOCAL, MPI");
  EXPECT_THAT(ErrorOf("communication { transport: 7 }"), StartsWith("c.textproto:1:28: no value '7' for transport"));
}

TEST(Load, OtherErrors) {
  EXPECT_THAT(ErrorOf("steps: 1\nsteps: 2"), HasSubstr("c.textproto:2:"));
  EXPECT_THAT(ErrorOf("steps: 99999999999999999999"), HasSubstr("c.textproto:1:8: Integer out of range"));
  EXPECT_THAT(ErrorOf("steps: 1.5"), HasSubstr("c.textproto:1:8: "));
  EXPECT_THAT(ErrorOf("model { hunyuan_lm { tie_word_embeddings: maybe } }"), HasSubstr("c.textproto:1:"));
  EXPECT_THAT(ErrorOf("data { directory: \"unfinished }"), HasSubstr("c.textproto:1:"));
}

TEST(Load, CommentsAndEmptyTextAreFine) {
  EXPECT_EQ(ErrorOf(""), "OK");
  EXPECT_EQ(ErrorOf("# a comment\nsteps: 5  # five\n"), "OK");
}

TEST(Load, ReadsFiles) {
  const TemporaryFolder folder;
  const std::string path = folder / "c.textproto";
  Spill(path, kExampleMoe);
  const auto config = LoadTrainConfig(path, {"steps=7"});
  ASSERT_TRUE(config.ok()) << config.status();
  EXPECT_EQ(config->steps(), 7);
  EXPECT_EQ(config->data().prepare().input(0), "a.txt");
  Spill(path, "steps: x");
  EXPECT_THAT(Message(LoadTrainConfig(path).status()), StartsWith(path + ":1:8: "));
}

TEST(Load, AnEndlessFileIsNotReadToItsEnd) {
  EXPECT_EQ(Message(LoadTrainConfig("/dev/zero").status()),
            "the config file '/dev/zero' is no configuration: wanted at most 16777216 bytes of text, got more");
}

TEST(Load, OtherEncodingsAreRefusedAndTheMarkOfUtf8IsDropped) {
  const auto config = ParseTrainConfig("\xEF\xBB\xBFsteps: 3", "c");
  ASSERT_TRUE(config.ok()) << config.status();
  EXPECT_EQ(config->steps(), 3);
  EXPECT_THAT(ErrorOf("\xEF\xBB\xBFstepz: 3"), StartsWith("c.textproto:1:1: no field 'stepz'"));
  using std::string_literals::operator""s;
  for (const std::string& text : {"\xFF\xFEs\0t\0"s, "\xFE\xFF\0s\0t"s}) {
    EXPECT_EQ(ErrorOf(text),
              "c.textproto: wanted text in UTF-8, got text in UTF-16 (it begins with that encoding's mark)");
  }
  EXPECT_EQ(ErrorOf("s\0t\0"s), "c.textproto: wanted text in UTF-8, got a zero byte at byte 1");
}

TEST(Load, UnreadableFilesAreNamed) {
  const auto missing = LoadTrainConfig("no/such/config.textproto");
  EXPECT_EQ(missing.status().code(), absl::StatusCode::kNotFound);
  EXPECT_THAT(Message(missing.status()), HasSubstr("cannot read the config file 'no/such/config.textproto'"));
  EXPECT_THAT(Message(LoadTrainConfig(testing::TempDir()).status()), HasSubstr("cannot read the config file"));
}

TEST(Load, TextRoundTripIsExact) {
  const auto config =
      ExampleWith({"optimizer.adamw.learning_rate=0.1000000000000000055", "optimizer.adamw.beta1=0.30000000000000004",
                   "seed=18446744073709551615", "data.directory=a \"quoted\" \\ path", "data.prepare.input=ü.txt"});
  ASSERT_TRUE(config.ok()) << config.status();
  const std::string text = ToText(*config);
  const auto again = ParseTrainConfig(text, "again");
  ASSERT_TRUE(again.ok()) << again.status();
  EXPECT_EQ(ToText(*again), text);
  EXPECT_EQ(again->SerializeAsString(), config->SerializeAsString());
  EXPECT_EQ(again->optimizer().adamw().beta1(), 0.30000000000000004);
  EXPECT_EQ(again->seed(), 18446744073709551615u);
  EXPECT_EQ(again->data().directory(), "a \"quoted\" \\ path");
}

TEST(Load, TextIsTheSameHoweverTheConfigWasWritten) {
  const auto a = ParseTrainConfig("steps: 5 seed: 1", "a");
  const auto b = ParseTrainConfig("steps: 9", "b", {"steps=5"});
  ASSERT_TRUE(a.ok() && b.ok());
  EXPECT_EQ(ToText(*a), ToText(*b));
}

}  // namespace
}  // namespace angel_ptm
